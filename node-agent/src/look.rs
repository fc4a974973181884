//! Looking inside: `heddle-node status` asks the running agent how it does.
//!
//! Not on the way of a change: what is answered is the newest [`View`], and the agent is not asked. So there is an answer
//! while the agent waits, fails or hangs.
//!
//! | module | what it is |
//! |---|---|
//! | [`command`] | the subcommand |
//! | [`status`] | how the agent does, as a table or as JSON |
//! | [`peers`] | the other nodes, and the way to each of their pod ranges |
//! | [`links`] | the links that the ways leave by |

pub mod command;
pub mod links;
pub mod peers;
pub mod status;

use crate::board::Board;
use crate::pulse::Pulse;
use crate::view::View;
use heddle_proxy::door::shown::pretty;
use heddle_proxy::door::{Answer, Output, Program, listen};
use jiff::Timestamp;
use links::Links;
use serde::{Deserialize, Serialize};
use status::{Process, Status};
use std::path::Path;
use tokio::task::spawn_blocking;

/// Where the socket is unless somebody says otherwise.
pub const DEFAULT: &str = "/run/heddle/node.sock";
/// This program.
pub const AGENT: Program = Program { name: "heddle-node", version: env!("CARGO_PKG_VERSION"), protocol: 1 };

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// How the agent does.
    Status {
        /// With every node and problem, however many.
        all: bool,
    },
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// What to print.
    pub text: String,
    /// Why the node is not as it should be; none when it is.
    pub amiss: Option<String>,
}

/// Whom is asked.
#[derive(Debug)]
pub struct Door {
    /// What the process is.
    pub process: Process,
    /// What the agent believes.
    pub views: Board<View>,
    /// Whether it goes on.
    pub pulse: Pulse,
}

impl Door {
    /// Answers for ever; without a path, nobody.
    pub async fn serve(&self, path: Option<&Path>) {
        let Some(path) = path else { return std::future::pending().await };
        listen::serve(path, AGENT, async |ask, output| self.answer(ask, output).await).await;
    }

    async fn answer(&self, Ask::Status { all }: Ask, output: Output) -> Answer<Told> {
        let view = self.views.now().value;
        let asked = view.clone();
        let links = spawn_blocking(move || Links::of(&asked)).await.map_err(|error| error.to_string())?;
        let (process, busy) = (&self.process, self.pulse.busy());
        let status = Status { process, view: &view, links: &links, busy, now: Timestamp::now() };
        let text = match output {
            Output::Text => status.text(all),
            Output::Json => pretty(&status.json()),
        };
        Ok(Told { text, amiss: status.amiss() })
    }
}
