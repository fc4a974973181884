//! Looking inside: what the process believes, what the kernel has, and what would become of a connection.
//!
//! Not on the way of a change: a question waits until the agent has nothing to write, and copies no more than its answer.
//! Invariant: what a trace says is what the plan's own tables do to the packet; nothing is decided a second time.
//!
//! | module | what it is |
//! |---|---|
//! | [`words`] | who and where, as people write it, into a packet |
//! | [`trace`](mod@trace) | what would become of a packet, and why |
//! | [`dump`] | model, frontends, plan and kernel as text or JSON |
//! | [`protocol`] | what can be asked over the socket |
//! | [`socket`] | what the running process answers |
//! | [`status`] | how the process does |
//! | [`offline`] | the same answers from a folder of manifests, without a process |
//! | [`command`] | the subcommands |

pub mod command;
pub mod dump;
pub mod offline;
pub mod protocol;
pub mod socket;
pub mod status;
pub mod trace;
pub mod words;

use crate::ebpf::View;
use crate::frontends::Frontends;
use crate::history::History;
use crate::model::Model;
use heddle_netlink::nft::Table;
use std::fmt;

/// All that is known between two changes.
#[derive(Clone, Debug)]
pub struct Inside<'a> {
    /// What the cluster says.
    pub model: &'a Model,
    /// What that means.
    pub frontends: &'a Frontends,
    /// The tables that the kernel is to have.
    pub wanted: Vec<&'a Table>,
    /// What was done and heard.
    pub history: &'a History,
    /// Sockets, where they are to be served.
    pub sockets: Option<View<'a>>,
}

/// Something to be found out from what the agent holds. It is asked on the agent's thread, so it must be quick.
pub struct Question(Box<dyn FnOnce(&Inside<'_>) + Send>);

impl Question {
    /// Asks this.
    pub fn new(ask: impl FnOnce(&Inside<'_>) + Send + 'static) -> Self {
        Self(Box::new(ask))
    }

    /// Answers it.
    pub fn answer(self, inside: &Inside<'_>) {
        (self.0)(inside);
    }
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Question")
    }
}
