//! What the host's end of a pair says about itself: whose it is, for people and for GC.
//!
//! The link's name is a hash, from which nobody can tell the attachment; the alias holds it, and the pod's name behind
//! it. So GC needs no record of its own to find what is left of a network, and no lost file can hide a link.

use crate::names;
use crate::spec::Attachment;
use heddle_netlink::link::{ALIAS_MAX, Link};

/// `network/container/interface namespace/pod`, cut where the kernel takes no more.
pub fn write(attachment: &Attachment, pod: Option<&str>) -> String {
    let Attachment { network, container, ifname } = attachment;
    let whole = match pod {
        Some(pod) => format!("{network}/{container}/{ifname} {pod}"),
        None => format!("{network}/{container}/{ifname}"),
    };
    let end = (0..=ALIAS_MAX.min(whole.len())).rev().find(|end| whole.is_char_boundary(*end));
    whole[..end.unwrap_or(0)].to_owned()
}

/// Whose link this is; none when it is not one of ours, or was cut inside the attachment.
pub fn read(link: &Link) -> Option<Attachment> {
    let mut parts = link.alias.as_deref()?.split(' ').next()?.split('/').map(str::to_owned);
    let (network, container, ifname) = (parts.next()?, parts.next()?, parts.next()?);
    let attachment = Attachment { network, container, ifname };
    // The name proves it: an alias can be anybody's.
    (names::host_link(&attachment) == link.name).then_some(attachment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use heddle_netlink::link::LinkIndex;

    fn link(name: &str, alias: &str) -> Link {
        let (index, name, alias) = (LinkIndex(7), name.to_owned(), Some(alias.to_owned()));
        let (mac, kind, master, netfilter, port, peer) = (None, None, None, None, None, None);
        Link {
            index,
            name,
            alias,
            mac,
            mtu: 1500,
            up: true,
            loopback: false,
            promiscuous: false,
            kind,
            master,
            netfilter,
            port,
            peer,
            vlans: None,
            vxlan: None,
        }
    }

    fn attachment(container: &str) -> Attachment {
        Attachment { network: "pods".to_owned(), container: container.to_owned(), ifname: "eth0".to_owned() }
    }

    #[test]
    fn an_attachment_is_read_from_its_link() {
        for pod in [Some("default/web"), None] {
            let attachment = attachment("c1");
            let read = read(&link(&names::host_link(&attachment), &write(&attachment, pod)));
            assert_eq!(read, Some(attachment));
        }
    }

    #[test]
    fn only_a_link_whose_name_fits_is_ours() {
        let name = names::host_link(&attachment("c1"));
        for alias in ["", "uplink", "pods/c2/eth0 default/web", "pods/c1", "default/web"] {
            assert_eq!(read(&link(&name, alias)), None, "{alias:?}");
        }
        assert_eq!(read(&link("eth0", &write(&attachment("c1"), None))), None);
    }

    #[test]
    fn an_alias_fits_into_what_the_kernel_takes() {
        let long = write(&attachment("c1"), Some(&"ä".repeat(200)));
        assert!(long.len() <= ALIAS_MAX && long.starts_with("pods/c1/eth0 ä"));
        let whole = attachment(&"a".repeat(300));
        assert_eq!(read(&link(&names::host_link(&whole), &write(&whole, None))), None);
    }
}
