//! Kernel settings: files under `/proc/sys`, of the network namespace that the thread is in.

use crate::apply::Error;
use crate::plan::Setting;
use std::fs;
use std::io::{self, ErrorKind};

/// What a setting says; `None` when this kernel has none of that name.
pub(crate) fn read(key: &str) -> io::Result<Option<String>> {
    match fs::read_to_string(format!("/proc/sys/{key}")) {
        Ok(value) => Ok(Some(value.trim().to_owned())),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Makes a setting say what it must. It is read first: some settings take the kernel's big lock when they are written,
/// also with what they say already.
pub(crate) fn set(setting: &Setting) -> Result<(), Error> {
    let Setting { key, value, required } = setting;
    let done = match read(key) {
        Ok(Some(says)) if is_same(&says, value) => Ok(()),
        Ok(None) if !required => Ok(()),
        Ok(_) => fs::write(format!("/proc/sys/{key}"), value),
        Err(e) => Err(e),
    };
    done.map_err(|source| Error::Setting { key: key.clone(), value: value.clone(), source })
}

/// Makes all settings say what they must, or none.
pub(crate) fn set_all(settings: &[Setting]) -> Result<(), Error> {
    let before: Vec<_> = settings.iter().map(|setting| read(&setting.key).ok().flatten()).collect();
    settings.iter().try_for_each(set).inspect_err(|_| {
        let said = settings.iter().zip(before).filter_map(|(setting, value)| Some((setting, value?)));
        for (setting, value) in said {
            // The error that is reported is the one that began it.
            let _ = set(&Setting { value, ..setting.clone() });
        }
    })
}

/// Settings of several words are read with tabs between, however they were written.
pub(crate) fn is_same(one: &str, other: &str) -> bool {
    one.split_whitespace().eq(other.split_whitespace())
}
