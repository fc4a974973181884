//! What heddle-proxy can be asked over its socket.

use super::dump::Part;
use super::words::Words;
use crate::door::Program;
use serde::{Deserialize, Serialize};

/// This program's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// This program.
pub const PROXY: Program = Program { name: "heddle-proxy", version: VERSION, protocol: 1 };

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::door::Output;

    #[test]
    fn every_question_arrives_as_it_was_asked() {
        let words = Words { source: "pod".into(), destination: "node:80".into(), in_interface: None };
        for ask in [Ask::Status, Ask::Trace(words), Ask::Dump(vec![Part::Kernel])] {
            let line = serde_json::to_string(&PROXY.request(&ask, Output::Json)).unwrap();
            assert_eq!(PROXY.read(&line), Ok((ask, Output::Json)));
        }
    }
}
