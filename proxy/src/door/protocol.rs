//! A question and its answer, as they go over the socket: one line of JSON each.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

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

/// The program that runs, and asks itself.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// Its name.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Which protocol it speaks. A question of another one is refused with both programs' versions.
    pub protocol: u32,
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// That of the program that asks.
    pub protocol: u32,
    /// That of the program that asks.
    pub version: String,
    /// What is asked. Kept as it came until it is known that both speak the same.
    pub ask: Value,
    /// How the answer is to look.
    pub output: Output,
}

/// What comes back: what was asked for, or one sentence.
pub type Answer<T = String> = Result<T, String>;

impl Program {
    /// This question of the program.
    pub fn request(&self, ask: &impl Serialize, output: Output) -> Request {
        let ask = serde_json::to_value(ask).expect("a question has no maps with other keys than strings");
        Request { protocol: self.protocol, version: self.version.to_owned(), ask, output }
    }

    /// What a line asks.
    ///
    /// # Errors
    /// A sentence that says why it cannot be understood.
    pub fn read<A: DeserializeOwned>(&self, line: &str) -> Result<(A, Output), String> {
        let not_one = |error| format!("not a question: {error}");
        let request: Request = serde_json::from_str(line).map_err(not_one)?;
        if request.protocol != self.protocol {
            let (Self { name, version, .. }, theirs) = (self, request.version);
            return Err(format!(
                "the {name} that runs is version {version}, the one that asks is {theirs}: ask with the same version"
            ));
        }
        Ok((serde_json::from_value(request.ask).map_err(not_one)?, request.output))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROGRAM: Program = Program { name: "heddle-any", version: "1.2.3", protocol: 1 };

    #[test]
    fn a_question_arrives_as_it_was_asked() {
        let ask = ("any".to_owned(), vec![1, 2]);
        let line = serde_json::to_string(&PROGRAM.request(&ask, Output::Json)).unwrap();
        assert!(!line.contains('\n'));
        assert_eq!(PROGRAM.read(&line), Ok((ask, Output::Json)));
    }

    #[test]
    fn a_question_of_another_protocol_is_refused_with_both_versions() {
        let line = r#"{"protocol":99,"version":"9.0.0","ask":{"Fly":1},"output":"Text"}"#;
        let refused = PROGRAM.read::<String>(line).unwrap_err();
        assert!(
            refused.contains("heddle-any that runs is version 1.2.3") && refused.contains("9.0.0"),
            "{refused}"
        );
        assert!(PROGRAM.read::<String>("GET / HTTP/1.1").unwrap_err().contains("not a question"));
    }
}
