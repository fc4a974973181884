//! The versions of the CNI specification, and what each of them has.
//!
//! A version is matched by its exact text, as the reference library does: "1.0" is none. Invariant: the order of the
//! variants is the order of the versions.

use std::fmt;

/// A version of the specification that we speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 0.1.0, and every configuration that does not say which.
    V0_1_0,
    /// 0.2.0: VERSION.
    V0_2_0,
    /// 0.3.0: lists of addresses, interfaces and plugins; `prevResult`.
    V0_3_0,
    /// 0.3.1: a correction of 0.3.0's text.
    V0_3_1,
    /// 0.4.0: CHECK.
    V0_4_0,
    /// 1.0.0: addresses no longer say their family.
    V1_0_0,
    /// 1.1.0: GC and STATUS; more about interfaces and routes.
    V1_1_0,
}

impl Version {
    /// The newest, with which answers are labelled when the runtime did not say which it wants.
    pub const LATEST: Self = Self::V1_1_0;

    /// All, from the oldest on.
    pub const ALL: [Self; 7] =
        [Self::V0_1_0, Self::V0_2_0, Self::V0_3_0, Self::V0_3_1, Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];

    /// The version of this text.
    pub fn find(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.as_str() == text)
    }

    /// As configurations and results write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V0_1_0 => "0.1.0",
            Self::V0_2_0 => "0.2.0",
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// All of them, for people.
    pub fn listed() -> String {
        Self::ALL.map(Self::as_str).join(", ")
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// cni:1.3: the match is by exact text.
    #[test]
    fn a_version_is_its_exact_text() {
        for version in Version::ALL {
            assert_eq!(Version::find(version.as_str()), Some(version));
        }
        for none in ["", "1.0", "1.0.0 ", "v1.0.0", "1.2.0", "0.5.0"] {
            assert_eq!(Version::find(none), None, "{none:?}");
        }
        assert!(Version::ALL.is_sorted());
    }
}
