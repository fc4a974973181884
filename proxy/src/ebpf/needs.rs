//! What serving sockets takes, said where it is not there: rights, and a kernel.
//!
//! Nothing is checked before it is tried: a kernel may have more than its version says. What is decided is pure.

use super::error::Unable;
use crate::causes;
use rustix::system::uname;
use rustix::thread::{CapabilitySet, capabilities};
use std::error::Error;
use std::io;
use std::path::Path;

/// The rights, with their names.
const RIGHTS: [(CapabilitySet, &str); 3] = [
    (CapabilitySet::BPF, "CAP_BPF"),
    (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
    (CapabilitySet::PERFMON, "CAP_PERFMON"),
];
/// Where the kernel tells its types.
const BTF: &str = "/sys/kernel/btf/vmlinux";
/// The oldest kernel: it has the helpers and the kinds of maps.
const OLDEST: (u32, u32) = (5, 18);

/// What the kernel refused, in its own words alone, and what is missing for it.
pub(super) fn unmet(what: impl Into<String>, error: &(dyn Error + 'static)) -> Unable {
    // Libraries say which map was tried first: that is another one each time.
    let code = causes::chain(error).find_map(|cause| cause.downcast_ref::<io::Error>()?.raw_os_error());
    let words =
        code.map_or_else(|| causes::line(error), |code| io::Error::from_raw_os_error(code).to_string());
    let has = capabilities(None).map_or(CapabilitySet::all(), |sets| sets.effective);
    let release = uname().release().to_string_lossy().into_owned();
    match remedy(has, &release, Path::new(BTF).exists()) {
        Some(remedy) => Unable::new(what, format!("{words}: {remedy}")),
        None => Unable::new(what, words),
    }
}

/// What is to be done for a process with these rights, on a kernel of this release that tells its types or does not.
fn remedy(has: CapabilitySet, release: &str, has_types: bool) -> Option<String> {
    let all =
        if has.contains(CapabilitySet::SYS_ADMIN) { CapabilitySet::NET_ADMIN } else { CapabilitySet::all() };
    let lacks = |(right, name): &(CapabilitySet, &'static str)| {
        (all.contains(*right) && !has.contains(*right)).then_some(*name)
    };
    let missing: Vec<&str> = RIGHTS.iter().filter_map(lacks).collect();
    if !missing.is_empty() {
        return Some(format!("give heddle-proxy {}, or run it as root", missing.join(" and ")));
    }
    let number = |text: Option<&str>| text?.parse::<u32>().ok();
    if !has_types {
        return Some(format!("the kernel has no {BTF}: take one that is built with CONFIG_DEBUG_INFO_BTF"));
    }
    let mut numbers = release.split(['.', '-', '+']);
    let version = (number(numbers.next())?, number(numbers.next())?);
    (version < OLDEST).then(|| format!("the kernel is {release}, and Linux 5.18 or later is needed"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::causes::tests::Wrapping;

    #[test]
    fn what_is_missing_is_named_and_nothing_else() {
        let rights = CapabilitySet::BPF | CapabilitySet::NET_ADMIN | CapabilitySet::PERFMON;
        for (has, release, expected) in [
            (rights, "6.12.1-amd64", None),
            (CapabilitySet::all(), "5.18.0", None),
            (CapabilitySet::SYS_ADMIN | CapabilitySet::NET_ADMIN, "6.1.0", None),
            (
                rights,
                "5.15.0-100-generic",
                Some("the kernel is 5.15.0-100-generic, and Linux 5.18 or later is needed"),
            ),
            (
                CapabilitySet::NET_ADMIN,
                "6.1.0",
                Some("give heddle-proxy CAP_BPF and CAP_PERFMON, or run it as root"),
            ),
            (CapabilitySet::SYS_ADMIN, "6.1.0", Some("give heddle-proxy CAP_NET_ADMIN, or run it as root")),
            (rights, "unknown", None),
        ] {
            assert_eq!(remedy(has, release, true).as_deref(), expected, "{has:?} on {release}");
        }
        assert!(
            remedy(rights, "6.1.0", false).is_some_and(|remedy| remedy.contains("CONFIG_DEBUG_INFO_BTF"))
        );
    }

    #[test]
    fn the_kernels_words_are_the_same_whatever_was_tried_first() {
        let of = |text| {
            let error = Wrapping { text, source: io::Error::from_raw_os_error(1) };
            causes::line(&unmet("load the maps", &error))
        };
        assert_eq!(of("create one"), of("create another"));
        assert!(of("create one").starts_with("load the maps: Operation not permitted (os error 1)"));
    }
}
