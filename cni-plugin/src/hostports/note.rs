//! Whose an element is: its comment, for people, for DEL and for GC. Pure.
//!
//! `hdl0123456789ab network/container/interface namespace/pod`. The first word is the name of the host's end of the
//! pod's pair, which follows from the attachment alone: so a DEL knows its elements however long the rest is, and whether the
//! pod still lives can be asked of the kernel. It begins with `ext` where another plugin made the interface.

use crate::alias;
use crate::names::{self, HOST_PREFIX};
use crate::spec::Attachment;

/// The longest comment that nft 1.0.6 loads again.
const MOST: usize = 127;
const FOREIGN: &str = "ext";

/// Who made the interface that the ports lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface {
    /// We did, so its host's end is there as long as it is.
    Ours,
    /// Another plugin of the list.
    Foreign,
}

/// Writes the note of an attachment's elements.
pub fn write(attachment: &Attachment, interface: Interface, pod: Option<&str>) -> String {
    let id = names::host_link(attachment);
    let digits = id.strip_prefix(HOST_PREFIX).unwrap_or(&id);
    let prefix = if interface == Interface::Ours { HOST_PREFIX } else { FOREIGN };
    of_link(&format!("{prefix}{digits}"), &alias::write(attachment, pod))
}

/// The note of the elements that lead to the pod behind a link, from what the link says of itself.
pub fn of_link(link: &str, alias: &str) -> String {
    let whole = format!("{link} {alias}");
    let end = (0..=MOST.min(whole.len())).rev().find(|end| whole.is_char_boundary(*end));
    whole[..end.unwrap_or(0)].to_owned()
}

/// What a note says.
#[derive(Clone, Copy, Debug)]
pub struct Note<'a> {
    whole: &'a str,
}

impl<'a> Note<'a> {
    /// Reads a note; one that is not ours belongs to nobody.
    pub fn of(whole: &'a str) -> Self {
        Self { whole }
    }

    fn digits(self) -> Option<&'a str> {
        let id = self.whole.split(' ').next()?;
        id.strip_prefix(HOST_PREFIX).or_else(|| id.strip_prefix(FOREIGN))
    }

    /// Whether it is this attachment's.
    pub fn is_of(self, attachment: &Attachment) -> bool {
        let id = names::host_link(attachment);
        self.digits().is_some() && self.digits() == id.strip_prefix(HOST_PREFIX)
    }

    /// Whether both are of one attachment.
    pub fn is_same(self, other: Note<'_>) -> bool {
        self.digits().is_some() && self.digits() == other.digits()
    }

    /// Whether it is of an attachment to this network.
    pub fn is_in(self, network: &str) -> bool {
        let owner = self.digits().and_then(|_| self.whole.split_once(' '));
        owner.and_then(|(_, owner)| owner.split_once('/')).is_some_and(|(found, _)| found == network)
    }

    /// The link that is there as long as the pod is; none when another plugin made it.
    pub fn link(self) -> Option<&'a str> {
        self.whole.split(' ').next().filter(|id| id.starts_with(HOST_PREFIX))
    }

    /// For people.
    pub fn owner(self) -> &'a str {
        match self.whole.split_once(' ') {
            Some((_, owner)) if self.digits().is_some() => owner,
            _ if self.whole.is_empty() => "nobody that heddle-cni knows",
            _ => self.whole,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment(network: &str, container: &str) -> Attachment {
        Attachment { network: network.to_owned(), container: container.to_owned(), ifname: "eth0".to_owned() }
    }

    #[test]
    fn a_note_says_whose_it_is() {
        let mine = attachment("pods", "c1");
        for (interface, link) in
            [(Interface::Ours, Some(names::host_link(&mine))), (Interface::Foreign, None)]
        {
            let written = write(&mine, interface, Some("default/web"));
            let note = Note::of(&written);
            assert!(note.is_of(&mine) && note.is_in("pods"));
            assert!(!note.is_of(&attachment("pods", "c2")) && !note.is_in("pod"));
            assert_eq!((note.owner(), note.link()), ("pods/c1/eth0 default/web", link.as_deref()));
        }
    }

    #[test]
    fn a_note_that_was_cut_still_says_whose_it_is() {
        let long = attachment("pods", &"c".repeat(200));
        let written = write(&long, Interface::Ours, Some("default/web"));
        assert_eq!(written.len(), MOST);
        assert!(Note::of(&written).is_of(&long) && Note::of(&written).is_in("pods"));
    }

    #[test]
    fn a_note_of_somebody_else_is_nobodys() {
        for text in ["", "mine", "hand made pods/c1/eth0"] {
            let note = Note::of(text);
            assert!(!note.is_of(&attachment("pods", "c1")) && !note.is_in("pods") && note.link().is_none());
            assert!(!note.owner().is_empty());
        }
    }
}
