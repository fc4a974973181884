//! The plugin's configuration in the runtime's folder, among those of others.
//!
//! What it says is [`conflist`](super::conflist)'s. Invariant: it is written only once pods have a network, and from then on it
//! stays: a node whose ranges are not known any more goes on with those that it had.

use super::conflist::{Facts, TEMPLATE, render};
use super::flags::List as Settings;
use super::heartbeat::MAX_AGE;
use crate::problem::Problem;
use crate::view::View;
use heddle_cni::install::configurations::{list_configurations, put_configuration, set_others_aside};
use heddle_cni::install::place::Put;
use heddle_netlink::nft::TableFamily;
use heddle_proxy::causes;
use std::fs;
use std::path::Path;
use tracing::{info, warn};

/// The configuration and its place.
#[derive(Debug)]
pub(super) struct List {
    settings: Settings,
    /// What the node knew last.
    facts: Option<Facts>,
    /// What was put in place.
    text: Option<String>,
}

impl List {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, facts: None, text: None }
    }

    /// Takes in what the agent believes. Before the kernel had all that was planned, pods would have no network.
    pub(super) fn see(&mut self, view: &View) {
        let Some(own) = view.own.as_ref().filter(|_| view.whole.is_some()) else { return };
        let known =
            |range: &ipnetwork::IpNetwork| self.settings.families.contains(&TableFamily::of(range.ip()));
        let ranges: Vec<_> = own.ranges.iter().copied().filter(known).collect();
        if !ranges.is_empty() {
            self.facts = Some(Facts {
                ranges,
                mtu: view.mtu,
                heartbeat: Some((self.settings.heartbeat.clone(), MAX_AGE)),
            });
        }
    }

    /// What it is to say; nothing before that is known.
    pub(super) fn text(&self) -> Result<Option<String>, String> {
        let Some(facts) = &self.facts else { return Ok(None) };
        let template = self.template()?;
        let unusable = |e| format!("the template {}: {}", self.name_of_template(), causes::line(&e));
        render(&template, facts).map(Some).map_err(unusable)
    }

    /// What is in its place, whoever put it there.
    pub(super) fn present(&self) -> Option<String> {
        fs::read_to_string(self.settings.place()).ok()
    }

    /// Makes its place say this. Returns whether somebody had taken or edited it, or the reason why it is not as it should.
    pub(super) fn put(&mut self, text: String) -> Result<bool, String> {
        let place = self.settings.place();
        let put = put_configuration(&place, text.as_bytes()).map_err(|failure| failure.to_line())?;
        let is_edited = put != Put::Unchanged && self.text.as_ref() == Some(&text);
        if put != Put::Unchanged {
            self.say(&place, put);
        }
        self.text = Some(text);
        if self.settings.exclusive {
            let aside = set_others_aside(&place).map_err(|failure| failure.to_line())?;
            aside.iter().for_each(|path| warn!("{} is set aside", path.display()));
        }
        Ok(is_edited)
    }

    fn say(&self, place: &Path, put: Put) {
        let Some(facts) = &self.facts else { return };
        let ranges: Vec<_> = facts.ranges.iter().map(ToString::to_string).collect();
        info!(ranges = ranges.join(","), mtu = facts.mtu, "{} {}", place.display(), super::word(put));
    }

    /// The configuration that a runtime takes in place of ours. Before there is ours, none does.
    pub(super) fn other(&self) -> Option<Problem> {
        let (_, ours) = (self.text.as_ref()?, self.settings.place());
        let first = list_configurations(&self.settings.folder).ok()?.into_iter().next();
        first.filter(|first| *first < ours).map(|file| Problem::OtherConfiguration { file })
    }

    fn template(&self) -> Result<String, String> {
        let Some(file) = &self.settings.template else { return Ok(TEMPLATE.to_owned()) };
        fs::read_to_string(file).map_err(|e| format!("read the template {}: {e}", file.display()))
    }

    fn name_of_template(&self) -> String {
        self.settings.template.as_ref().map_or("of our own".to_owned(), |file| file.display().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::Own;

    fn settings(folder: &Path) -> Settings {
        let families = vec![TableFamily::Ip];
        Settings {
            folder: folder.join("net.d"),
            template: None,
            exclusive: false,
            heartbeat: "/x".into(),
            families,
        }
    }

    fn view(ranges: &[&str]) -> View {
        let ranges = ranges.iter().map(|range| range.parse().unwrap()).collect();
        let own = Some(Own { ranges, addresses: Vec::new() });
        View { own, whole: Some(jiff::Timestamp::UNIX_EPOCH), ..View::default() }
    }

    fn put(list: &mut List) -> Result<bool, String> {
        list.text()?.map_or(Ok(false), |text| list.put(text))
    }

    #[test]
    fn it_waits_for_the_ranges_and_for_the_network_and_then_stays() {
        let root = tempfile::tempdir().unwrap();
        let mut list = List::new(settings(root.path()));
        for early in
            [View::default(), view(&[]), view(&["fd00::/64"]), View { whole: None, ..view(&["10.1.0.0/24"]) }]
        {
            list.see(&early);
            assert_eq!((put(&mut list), list.present()), (Ok(false), None), "{early:?}");
        }
        list.see(&View { mtu: Some(1450), ..view(&["10.1.0.0/24", "fd00::/64"]) });
        assert_eq!(put(&mut list), Ok(false));
        let text = list.present().unwrap();
        assert!(text.contains("10.1.0.0/24") && text.contains("1450"));
        assert!(!text.contains("fd00::"), "the kernel has no IPv6");
        list.see(&view(&[]));
        list.see(&View::default());
        assert_eq!((put(&mut list), list.present()), (Ok(false), Some(text.clone())));

        fs::write(list.settings.place(), "{}").unwrap();
        assert_eq!((put(&mut list), list.present()), (Ok(true), Some(text.clone())), "an edit is put back");
        fs::remove_dir_all(root.path().join("net.d")).unwrap();
        assert_eq!((put(&mut list), list.present()), (Ok(true), Some(text)), "with its folder");
        list.see(&view(&["10.2.0.0/24"]));
        assert_eq!(put(&mut list), Ok(false), "another range is no edit");
        assert!(list.present().unwrap().contains("10.2.0.0/24"));
    }

    #[test]
    fn who_comes_before_ours_is_named_or_set_aside() {
        let root = tempfile::tempdir().unwrap();
        let mut list = List::new(settings(root.path()));
        let before = list.settings.folder.join("05-other.conflist");
        fs::create_dir_all(&list.settings.folder).unwrap();
        fs::write(&before, "{}").unwrap();
        assert_eq!(list.other(), None, "as long as ours is not there, the other one is right");
        list.see(&view(&["10.1.0.0/24"]));
        put(&mut list).unwrap();
        fs::write(list.settings.folder.join("87-later.conflist"), "{}").unwrap();
        assert_eq!(list.other(), Some(Problem::OtherConfiguration { file: before.clone() }));
        list.settings.exclusive = true;
        put(&mut list).unwrap();
        assert_eq!((list.other(), before.exists()), (None, false));
        let files = list_configurations(&list.settings.folder).unwrap();
        assert_eq!(files, [list.settings.place()]);
    }

    #[test]
    fn a_template_that_cannot_be_used_is_told_and_ours_stays() {
        let root = tempfile::tempdir().unwrap();
        let template = root.path().join("template");
        let mut list = List::new(Settings { template: Some(template.clone()), ..settings(root.path()) });
        list.see(&view(&["10.1.0.0/24"]));
        assert!(put(&mut list).unwrap_err().contains("read the template"));
        fs::write(&template, TEMPLATE).unwrap();
        put(&mut list).unwrap();
        let text = list.present();
        fs::write(&template, "{").unwrap();
        assert!(put(&mut list).unwrap_err().contains("it is no JSON"));
        assert_eq!(list.present(), text);
    }
}
