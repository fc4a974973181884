//! The socket on which questions are answered, connected.

use crate::agent::Event;
use crate::config::Config;
use crate::ebpf::Sockets;
use crate::health::Pulse;
use crate::look::socket::{self, Door};
use crate::look::status::Process;
use crate::status::Reports;
use jiff::Timestamp;
use std::sync::mpsc::Sender;

/// Who answers what.
pub(super) fn door(
    config: &Config,
    agent: Sender<Event>,
    reports: Reports,
    (pulse, sockets): (Pulse, &Sockets),
) -> Door {
    let mode = config.mode().to_owned();
    let process = Process { node: config.node.clone(), mode, started: Timestamp::now() };
    let sockets = config.serves_sockets.then(|| sockets.clone());
    Door { agent, reports, settings: config.settings.clone(), process, pulse, sockets }
}

/// Answers questions, unless nobody may ask.
pub(super) async fn serve(config: &Config, door: &Door) {
    match &config.status_socket {
        Some(path) => socket::serve(path, door).await,
        None => std::future::pending().await,
    }
}
