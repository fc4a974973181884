//! A question and its answer, as they go over the socket: one line of JSON each.

use super::dump::Part;
use super::words::Words;
use serde::{Deserialize, Serialize};

/// Which protocol this program speaks. A question of another one is refused with both programs' versions.
pub const PROTOCOL: u32 = 1;
/// This program's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// A question has at most so many bytes.
pub const LONGEST: u64 = 64 * 1024;

/// How an answer looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// How the process does.
    Status,
    /// What would become of a packet.
    Trace(Words),
    /// What is believed, and what the kernel has.
    Dump(Vec<Part>),
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// [`PROTOCOL`] of the program that asks.
    pub protocol: u32,
    /// [`VERSION`] of the program that asks.
    pub version: String,
    /// What is asked. Kept as it came until it is known that both speak the same.
    pub ask: serde_json::Value,
    /// How the answer is to look.
    pub output: Output,
}

impl Request {
    /// This question.
    pub fn new(ask: &Ask, output: Output) -> Self {
        let ask = serde_json::to_value(ask).expect("a question has no maps with other keys than strings");
        Self { protocol: PROTOCOL, version: VERSION.to_owned(), ask, output }
    }

    /// What a line asks.
    ///
    /// # Errors
    /// A sentence that says why it cannot be understood.
    pub fn read(line: &str) -> Result<(Ask, Output), String> {
        let request: Self = serde_json::from_str(line).map_err(|error| format!("not a question: {error}"))?;
        if request.protocol != PROTOCOL {
            let theirs = request.version;
            return Err(format!(
                "the heddle-proxy that runs is version {VERSION}, the one that asks is {theirs}: ask with the same version"
            ));
        }
        let ask = serde_json::from_value(request.ask).map_err(|error| format!("not a question: {error}"))?;
        Ok((ask, request.output))
    }
}

/// What comes back: the text to print, or one sentence.
pub type Answer = Result<String, String>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_arrives_as_it_was_asked() {
        let words = Words { source: "pod".into(), destination: "node:80".into(), in_interface: None };
        for ask in [Ask::Status, Ask::Trace(words), Ask::Dump(vec![Part::Kernel])] {
            let line = serde_json::to_string(&Request::new(&ask, Output::Json)).unwrap();
            assert!(!line.contains('\n'));
            assert_eq!(Request::read(&line).unwrap(), (ask, Output::Json));
        }
    }

    #[test]
    fn a_question_of_another_protocol_is_refused_with_both_versions() {
        let line = r#"{"protocol":99,"version":"9.0.0","ask":{"Fly":1},"output":"Text"}"#;
        let refused = Request::read(line).unwrap_err();
        assert!(refused.contains("9.0.0") && refused.contains(VERSION), "{refused}");
        assert!(Request::read("GET / HTTP/1.1").unwrap_err().contains("not a question"));
    }
}
