//! The folder of a container runtime's plugins: whether those are there that our configurations name. Pure.

use super::check::Check;
use super::cni::Cni;
use heddle_cni::LOOPBACK;
use heddle_cni::install::programs::PROGRAM;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Judges them, given the types that our configurations name.
pub(super) fn judge(cni: &Cni, wanted: &BTreeSet<&str>) -> Vec<Check> {
    const NAME: &str = "cni programs";
    let folder = cni.programs.display();
    let plugins = match &cni.plugins {
        Ok(plugins) => plugins,
        Err(why) => return vec![Check::unread(NAME, why), Check::unread(LOOPBACK, why)],
    };
    if wanted.is_empty() && !plugins.contains_key(PROGRAM) {
        let why = "no configuration is ours, and heddle-cni is not installed";
        return vec![Check::not_applicable(NAME, why), Check::not_applicable(LOOPBACK, why)];
    }
    let how = |name: &str| match name {
        PROGRAM => "heddle-node puts it there once it runs; by hand, `heddle-cni install`.".to_owned(),
        other => format!(
            "Install {other} (the package of CNI's own plugins has it), or take it out of the configuration."
        ),
    };
    let fault = |name: &&str| match plugins.get(*name) {
        None => Some(Check::failed(
            NAME,
            format!("{folder} has no {name}, which our configuration names: pods are refused."),
            how(name),
        )),
        Some(false) => Some(Check::failed(
            NAME,
            format!("{folder}/{name} may not be executed: pods are refused."),
            format!("`chmod 755 {folder}/{name}`."),
        )),
        Some(true) => None,
    };
    let mut faults: Vec<_> = wanted.iter().filter_map(fault).collect();
    faults.extend(version(cni));
    let mut checks = Check::or_ok(faults, NAME, format!("all that our configurations name are in {folder}"));
    checks.push(loopback(&cni.programs, plugins));
    checks
}

fn version(cni: &Cni) -> Option<Check> {
    const OWN: &str = env!("CARGO_PKG_VERSION");
    let version = cni.version.as_deref().filter(|version| *version != OWN)?;
    Some(Check::warning(
        "cni programs",
        format!("heddle-cni is of version {version} and this program of {OWN}: one of them was not updated."),
        "Let heddle-node of the newer version start, which replaces the program.",
    ))
}

fn loopback(folder: &Path, plugins: &BTreeMap<String, bool>) -> Check {
    if plugins.get(LOOPBACK) == Some(&true) {
        return Check::ok(LOOPBACK, "it is there");
    }
    Check::failed(
        LOOPBACK,
        format!(
            "{} has no {LOOPBACK} that may be executed: containerd starts no pod without.",
            folder.display()
        ),
        "`heddle-cni install` puts it there, under this name too.",
    )
}

#[cfg(test)]
mod tests {
    use super::super::cni::judge;
    use super::super::cni::tests::{FLANNEL, healthy, with};
    use super::super::facts::tests::outcome;
    use super::*;
    use crate::doctor::check::Outcome;

    #[test]
    fn programs_that_our_configuration_names_must_be_there_and_executable() {
        let of = |plugins: &[(&str, bool)], name| {
            let plugins = plugins.iter().map(|(name, may)| ((*name).to_owned(), *may)).collect();
            outcome(&judge(&Cni { plugins: Ok(plugins), ..healthy() }), name)
        };
        assert_eq!(of(&[(LOOPBACK, true)], "cni programs"), Outcome::Failed);
        assert_eq!(of(&[(PROGRAM, false)], "cni programs"), Outcome::Failed);
        assert_eq!(of(&[(PROGRAM, true)], "cni programs"), Outcome::Ok);
        assert_eq!(of(&[(PROGRAM, true)], LOOPBACK), Outcome::Failed);
        let other = Cni { plugins: Ok(BTreeMap::new()), ..with(&[("10-flannel.conflist", FLANNEL)]) };
        assert_eq!(outcome(&judge(&other), "cni programs"), Outcome::NotApplicable);
    }

    #[test]
    fn another_version_of_the_plugin_is_a_warning() {
        let old = Cni { version: Some("0.0.1".to_owned()), ..healthy() };
        assert_eq!(outcome(&judge(&old), "cni programs"), Outcome::Warning);
    }
}
