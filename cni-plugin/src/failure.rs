//! What the runtime hears when something failed: the CNI error document, and the table of codes.
//!
//! | code | meaning | from |
//! |---|---|---|
//! | 1 | the configuration's `cniVersion` is not one of ours | CNI |
//! | 2 | a configuration key asks for something that is not supported, by us or by the kernel; the message has key and value | CNI |
//! | 4 | a variable of the environment is missing or unusable; the message has its name | CNI |
//! | 5 | reading stdin, the lease file or a kernel setting failed | CNI |
//! | 6 | stdin is not the JSON that it should be | CNI |
//! | 7 | the configuration contradicts itself or lacks something | CNI |
//! | 8 | `CNI_NETNS` is no usable network namespace, or the plugin's own | libcni |
//! | 11 | the IPAM plugin is being replaced, or the node's rules change all the time; the runtime should try again | CNI |
//! | 50 | STATUS: an ADD would fail now | CNI |
//! | 51 | STATUS: containers that are attached have lost their network | CNI |
//! | 100 | no address is left in a range | heddle |
//! | 101 | an address that was asked for is held by someone else, or is not one to hand out | heddle |
//! | 102 | the bridge has another address and `forceAddress` is not set | heddle |
//! | 103 | a link of the wanted name exists already | heddle |
//! | 104 | the kernel refused a link, address, route or rule; the details have its own words | heddle |
//! | 105 | the link named by `bridge` is no bridge | heddle |
//! | 106 | the IPAM plugin that `ipam.type` names is not there or cannot be started | heddle |
//! | 107 | the IPAM plugin failed without a code, or its result is not one | heddle |
//! | 108 | CHECK: the container is not attached as the result says; the details have all differences | heddle |
//! | 109 | GC: something could not be removed; the details have all of it | heddle |
//! | 110 | an error in this program | heddle |
//! | 111 | another pod has the host port; the message names it | heddle |
//!
//! An IPAM plugin's own codes are handed on. Codes are never reused. Code 3 (container unknown) is never given: it lets a runtime skip the DEL of an attachment
//! that may hold an address.

use crate::version::Version;
use crate::{apply, hostports, ipam, namespace, spec, store};
use serde::Serialize;
use std::error::Error;
use std::fmt;

/// A failure in the form of the CNI specification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure, from the table above.
    pub code: u32,
    /// What failed, in one line.
    pub msg: String,
    /// Why, and what can be done; may be empty.
    pub details: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    cni_version: &'a str,
    code: u32,
    msg: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    details: &'a str,
}

impl Failure {
    /// Stdin could not be read.
    pub fn stdin(error: &std::io::Error) -> Self {
        Self { code: 5, msg: "read the configuration from stdin".to_owned(), details: error.to_string() }
    }

    /// The program contradicts itself. What it had begun is left to a DEL.
    pub fn panicked(what: &dyn fmt::Display) -> Self {
        let details = what.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        Self { code: 110, msg: "internal error: please report it".to_owned(), details }
    }

    /// The document for stdout, labelled with the version that the runtime asked for, if that is known.
    pub fn to_json(&self, asked: Option<&str>) -> String {
        let cni_version = asked.unwrap_or(Version::LATEST.as_str());
        let document = Document { cni_version, code: self.code, msg: &self.msg, details: &self.details };
        let mut text = serde_json::to_string(&document).expect("strings and a number are always JSON");
        text.push('\n');
        text
    }

    /// Adds a line to the details.
    #[must_use]
    pub fn and(mut self, more: &str) -> Self {
        if !self.details.is_empty() {
            self.details.push_str("; ");
        }
        self.details.push_str(more);
        self
    }

    /// Success when there are no troubles; else all of them together.
    ///
    /// # Errors
    /// With the troubles as its details.
    pub fn collected(code: u32, msg: &str, troubles: &[String]) -> Result<(), Self> {
        if troubles.is_empty() {
            return Ok(());
        }
        Err(Self { code, msg: msg.to_owned(), details: troubles.join("; ") })
    }

    /// Message and details in one line.
    pub fn to_line(&self) -> String {
        if self.details.is_empty() { self.msg.clone() } else { format!("{}: {}", self.msg, self.details) }
    }

    /// The error as the message, its chain of causes as the details.
    fn new(code: u32, error: &(dyn Error + 'static)) -> Self {
        let causes = std::iter::successors(error.source(), |&e| e.source()).map(ToString::to_string);
        Self { code, msg: error.to_string(), details: causes.collect::<Vec<_>>().join(": ") }
    }
}

impl From<spec::Error> for Failure {
    fn from(error: spec::Error) -> Self {
        use spec::Error as E;
        match &error {
            E::Version { .. } => {
                Self::new(1, &error).and(&format!("supported versions: {}", Version::listed()))
            }
            E::TooOld { .. } => Self::new(1, &error),
            E::Unsupported { hint, .. } => Self::new(2, &error).and(hint),
            E::Missing { .. } | E::Variable { .. } => Self::new(4, &error),
            E::Decode(_) => Self::new(6, &error),
            E::Invalid { .. } | E::Ranges(_) => Self::new(7, &error),
        }
    }
}

impl From<ipam::Error> for Failure {
    fn from(error: ipam::Error) -> Self {
        let code = match error {
            ipam::Error::Exhausted { .. } => 100,
            ipam::Error::Taken { .. } | ipam::Error::NotOurs { .. } => 101,
        };
        Self::new(code, &error)
    }
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Refused(error) => error.into(),
            error => Self::new(5, &error),
        }
    }
}

impl From<namespace::Error> for Failure {
    fn from(error: namespace::Error) -> Self {
        Self::new(8, &error)
    }
}

impl From<apply::Error> for Failure {
    fn from(error: apply::Error) -> Self {
        use apply::Error as E;
        let code = match error {
            E::Setting { .. } => 5,
            E::Namespace(_) => 8,
            E::BridgeAddress { .. } => 102,
            E::Exists { .. } => 103,
            E::Kernel { .. } | E::Gone { .. } => 104,
            E::NotABridge { .. } => 105,
        };
        Self::new(code, &error)
    }
}

impl From<hostports::Error> for Failure {
    fn from(error: hostports::Error) -> Self {
        use hostports::Error as E;
        let code = match error {
            E::Node(error) => return error.into(),
            E::Loopback { .. } => 2,
            E::Twice { .. } | E::Family { .. } => 7,
            E::Overtaken { .. } => 11,
            E::Kernel { .. } | E::Make(_) => 104,
            E::Conflict { .. } => 111,
        };
        Self::new(code, &error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_the_four_keys_of_the_specification() {
        let failure = Failure { code: 100, msg: "a".to_owned(), details: "b".to_owned() };
        assert_eq!(
            failure.to_json(Some("1.0.0")),
            "{\"cniVersion\":\"1.0.0\",\"code\":100,\"msg\":\"a\",\"details\":\"b\"}\n"
        );
    }

    #[test]
    fn a_panic_is_a_document_in_one_line() {
        let text = Failure::panicked(&"panicked at x.rs:1:2:\nan \"invariant\"").to_json(Some("0.4.0"));
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((document["code"].as_u64(), document["cniVersion"].as_str()), (Some(110), Some("0.4.0")));
        assert_eq!(
            (text.lines().count(), document["details"].as_str()),
            (1, Some("panicked at x.rs:1:2: an \"invariant\""))
        );
    }

    #[test]
    fn details_are_joined() {
        let failure = Failure { code: 5, msg: "a".to_owned(), details: String::new() };
        assert_eq!(failure.and("b").and("c").details, "b; c");
    }
}
