//! What pods hold, and whether they still live. Pure.

use super::check::{Check, list};
use super::facts::{Facts, Read};
use std::path::PathBuf;
use std::time::Duration;

/// What was found of our networks.
#[derive(Clone, Debug)]
pub struct Leases {
    /// How many leases there are. An error is one that an ADD would meet, too.
    pub held: Read<usize>,
    /// Leases and host ports whose links are gone, in words.
    pub dead: Read<Vec<String>>,
    /// The file that the agent touches, if a configuration names one.
    pub touched: Read<Option<Touched>>,
}

/// When a file was touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touched {
    /// The file.
    pub file: PathBuf,
    /// For how long a touch counts.
    pub counts: Duration,
    /// How long ago the last one was; none when there is no such file.
    pub ago: Option<Duration>,
}

/// Judges them.
pub(super) fn judge(facts: &Facts) -> Vec<Check> {
    if facts.cni.networks().is_empty() {
        let why = "no configuration of ours says where leases are";
        return ["leases", "dead leases", "heartbeat"].map(|name| Check::not_applicable(name, why)).to_vec();
    }
    let Leases { held, dead, touched: heartbeat } = &facts.leases;
    vec![readable(held), dead_ones(dead), touched(heartbeat)]
}

fn readable(held: &Read<usize>) -> Check {
    const NAME: &str = "leases";
    match held {
        Ok(count) => Check::ok(NAME, format!("{count} pods hold addresses")),
        Err(why) => Check::failed(
            NAME,
            format!("the lease table cannot be read ({why}): a new pod may be refused."),
            "Look at the rights and the disk of its folder; heddle-cni sets a damaged table aside with the next pod.",
        ),
    }
}

fn dead_ones(dead: &Read<Vec<String>>) -> Check {
    const NAME: &str = "dead leases";
    match dead {
        Ok(dead) if dead.is_empty() => Check::ok(NAME, "every lease and host port has its link"),
        Ok(dead) => Check::warning(
            NAME,
            format!(
                "no link is left of {} that are held: {}. Nobody else gets them.",
                dead.len(),
                list(dead)
            ),
            "A pod that is being made looks so for a moment: ask again. Otherwise heddle-node gives them back after a while; \
             look whether it runs.",
        ),
        Err(why) => Check::unread(NAME, why),
    }
}

fn touched(touched: &Read<Option<Touched>>) -> Check {
    const NAME: &str = "heartbeat";
    let stale = |found: String| {
        Check::failed(
            NAME,
            format!("{found}: the plugin's STATUS says that this node is not ready, and it gets no pods."),
            "Start heddle-node, or look in its log why it does not work.",
        )
    };
    match touched {
        Err(why) => Check::unread(NAME, why),
        Ok(None) => Check::not_applicable(NAME, "our configuration names no file that the agent touches"),
        Ok(Some(Touched { file, ago: None, .. })) => stale(format!("{} is not there", file.display())),
        Ok(Some(Touched { file, counts, ago: Some(ago) })) if ago > counts => stale(format!(
            "{} was touched {} s ago, and {} s count",
            file.display(),
            ago.as_secs(),
            counts.as_secs()
        )),
        Ok(Some(Touched { file, .. })) => Check::ok(NAME, format!("{} is fresh", file.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::tests::{healthy, outcome};
    use super::*;
    use crate::doctor::check::Outcome;

    fn after(change: impl Fn(&mut Facts), name: &str) -> Outcome {
        let mut facts = healthy();
        change(&mut facts);
        outcome(&judge(&facts), name)
    }

    #[test]
    fn a_table_that_cannot_be_read_is_a_fault_and_dead_leases_are_a_warning() {
        assert_eq!(after(|facts| facts.leases.held = Err("damaged".to_owned()), "leases"), Outcome::Failed);
        let dead = |facts: &mut Facts| facts.leases.dead = Ok(vec!["addresses 10.244.1.7".to_owned()]);
        assert_eq!(after(dead, "dead leases"), Outcome::Warning);
        assert_eq!(
            after(|facts| facts.leases.dead = Err("no right".to_owned()), "dead leases"),
            Outcome::NotApplicable
        );
        assert_eq!(after(|facts| facts.cni.files = Ok(Vec::new()), "leases"), Outcome::NotApplicable);
    }

    #[test]
    fn a_heartbeat_that_is_missing_or_old_is_a_fault() {
        let ago = |ago: Option<u64>| {
            move |facts: &mut Facts| {
                let (file, ago) = ("/run/x".into(), ago.map(Duration::from_secs));
                facts.leases.touched = Ok(Some(Touched { file, counts: Duration::from_secs(60), ago }));
            }
        };
        assert_eq!(after(ago(None), "heartbeat"), Outcome::Failed);
        assert_eq!(after(ago(Some(61)), "heartbeat"), Outcome::Failed);
        assert_eq!(after(ago(Some(60)), "heartbeat"), Outcome::Ok);
        assert_eq!(after(|_| (), "heartbeat"), Outcome::NotApplicable);
    }
}
