//! The CNI plugin: gives a pod its address and connects it to the node's bridge.
//!
//! ```text
//! stdin + env ──▶ Request ──▶ Steps ──▶ kernel ──▶ Result on stdout
//!     spec          ipam       plan      apply
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | [`spec`] | what the runtime says: environment and configuration → a [`spec::Request`] |
//! | [`version`] | the versions of the specification |
//! | [`json`] | keys in Go's spelling, and nulls |
//! | [`args`] | what the runtime tells beside the configuration |
//! | [`config`] | the keys of the configuration, checked |
//! | [`route`] | routes, as configurations and results write them |
//! | [`dns`] | name servers that a result reports |
//! | [`ranges`] | which addresses there are to hand out; pure |
//! | [`ipam`] | who holds which address; pure |
//! | [`store`] | the same on disk, locked and safe against a crash at any instruction |
//! | [`import`] | the leases of host-local, taken over |
//! | [`delegate`] | another plugin that gives out addresses |
//! | [`lease`] | the addresses of one attachment |
//! | [`names`] | names and Ethernet addresses that follow from the attachment alone |
//! | [`alias`] | what a link says about whose it is |
//! | [`plan`] | a request and its addresses → [`plan::Step`]s, each with its undo; pure |
//! | [`apply`] | steps → kernel, undone in reverse when one fails |
//! | [`node`] | the node's side of the kernel: bridge and uplink |
//! | `setting` | kernel settings |
//! | [`hostports`] | ports of the node that lead to pods |
//! | [`limits`] | how much a pod may send and receive |
//! | [`namespace`] | the pod's network namespace, entered and left |
//! | [`look`] | what the kernel has of an attachment |
//! | [`verbs`] | the commands: the order of the above |
//! | [`result`] | what the runtime hears on success, in the words of each version |
//! | `log` | what was asked and what came of it, for people |
//! | [`install`] | the program and a configuration, put where a runtime finds them |
//! | [`cli`] | what people start the program for |
//! | [`leftovers`] | what attachments left on the node, for GC and for the node's agent |
//! | [`failure`] | what it hears otherwise, and the table of error codes |
//!
//! It is a program that starts, works a millisecond and ends: no threads, no async, no other program (but the IPAM plugin that a configuration may name). What it knows
//! from one start to the next is in the kernel and in the lease table. Invariant: whatever happens, one JSON document
//! goes to stdout (none for a command that succeeds and has nothing to say), and at every instruction at which it may be killed, a DEL of the same
//! attachment finds all that was made.

pub mod alias;
pub mod apply;
pub mod args;
pub mod cli;
pub mod config;
pub mod delegate;
pub mod dns;
pub mod failure;
pub mod hostports;
pub mod import;
pub mod install;
pub mod ipam;
pub mod json;
pub mod lease;
pub mod leftovers;
pub mod limits;
mod log;
pub mod look;
pub mod names;
pub mod namespace;
pub mod node;
pub mod plan;
pub mod ranges;
pub mod result;
pub mod route;
mod setting;
pub mod spec;
pub mod store;
pub mod verbs;
pub mod version;

use failure::Failure;
use spec::{Environment, Request};
use std::time::Instant;

/// What the program ends with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The one document for stdout, with its line end; empty for a command that succeeded and has nothing to say.
    pub stdout: String,
    /// Whether the exit code is zero.
    pub success: bool,
}

/// What people hear who start it by hand.
pub const ABOUT: &str = concat!(
    "heddle-cni ",
    env!("CARGO_PKG_VERSION"),
    ": a CNI plugin, started by a container runtime with CNI_COMMAND in its environment and a network configuration on \
     its standard input.\nCNI versions: 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0\n"
);

/// Does what the runtime asks.
pub fn run(environment: &Environment, stdin: &[u8]) -> Output {
    let document = spec::decode(stdin);
    let asked = document.as_ref().ok().and_then(spec::asked_version).map(str::to_owned);
    let (begun, kept) = (Instant::now(), document.as_ref().ok().cloned());
    let output = match answer(environment, document) {
        Ok(stdout) => Output { stdout, success: true },
        Err(failure) => Output { stdout: failure.to_json(asked.as_deref()), success: false },
    };
    if let Some(document) = kept {
        log::append(environment, &document, &output, begun.elapsed());
    }
    output
}

fn answer(
    environment: &Environment,
    document: Result<spec::Document, spec::Error>,
) -> Result<String, Failure> {
    let request = Request::read(environment, document)?;
    if environment.program.as_deref() == Some(LOOPBACK) {
        return answer_as_loopback(request);
    }
    match request {
        Request::Version { asked } => Ok(result::versions(asked.as_deref())),
        Request::Add(request) => verbs::add(&request),
        Request::Del(request) => verbs::del(&request).map(silent),
        Request::Check(request) => verbs::check(&request).map(silent),
        Request::Gc(request) => verbs::gc(&request).map(silent),
        Request::Status(request) => verbs::status(&request).map(silent),
    }
}

/// The name by which a runtime starts the program for a container's loopback link.
pub const LOOPBACK: &str = "loopback";

fn answer_as_loopback(request: Request) -> Result<String, Failure> {
    match request {
        Request::Version { asked } => Ok(result::versions(asked.as_deref())),
        Request::Add(request) => verbs::loopback::add(&request),
        Request::Check(request) => verbs::loopback::check(&request).map(silent),
        Request::Del(_) | Request::Gc(_) | Request::Status(_) => Ok(String::new()),
    }
}

/// Only ADD and VERSION have something to say when they succeed.
fn silent((): ()) -> String {
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    const CONFIG: &str = r#"{"cniVersion":"1.1.0","name":"pods","mtu":1400,"isGateway":true,"args":{"cni":{"ips":[]}},
        "ipam":{"type":"heddle","dataDir":"/x","ranges":[[{"subnet":"10.0.0.0/24"}]],"routes":[{"dst":"0.0.0.0/0"}]}}"#;

    /// Nothing in it can be done: there is no such namespace, and no list of attachments. STATUS is not among the
    /// commands, since it would look at the links of the machine.
    const CHAINED: &str = r#"{"cniVersion":"1.1.0","name":"nobody","prevResult":{"interfaces":[{"name":"eth0","sandbox":"/x"}],
        "ips":[{"interface":0,"address":"10.0.0.2/24","gateway":"10.0.0.1"}],"routes":[{"dst":"0.0.0.0/0"}],"dns":{}},
        "cni.dev/valid-attachments":"?","sysctl":{"net.core.somaxconn":5},"runtimeConfig":{"Bandwidth":{},
        "PortMappings":[{"HostPort":0}],"Dns":{"Servers":[]}},"ipam":{"type":"heddle","dataDir":"/proc/x","subnet":"10.0.0.0/8"}}"#;

    fn add() -> Environment {
        let some = |text: &str| Some(text.to_owned());
        Environment {
            command: some("ADD"),
            container: some("c1"),
            namespace: some("/no/such/namespace"),
            ifname: some("eth0"),
            ..Environment::default()
        }
    }

    fn is_one_error_document(output: &Output) -> bool {
        let document: Value = serde_json::from_str(&output.stdout).unwrap();
        !output.success
            && document["code"].is_u64()
            && document["cniVersion"].is_string()
            && output.stdout.ends_with('\n')
    }

    #[test]
    fn a_good_request_fails_at_its_namespace_only() {
        assert!(run(&add(), CONFIG.as_bytes()).stdout.contains("\"code\":8,"));
    }

    proptest! {
        /// cni:O4: whatever comes in, one document goes out.
        #[test]
        fn a_damaged_configuration_gives_one_error_document(at in 0..CONFIG.len(), byte in any::<u8>(), cut in any::<bool>()) {
            let mut stdin = CONFIG.as_bytes().to_vec();
            stdin[at] = byte;
            stdin.truncate(if cut { at } else { stdin.len() });
            prop_assert!(is_one_error_document(&run(&add(), &stdin)));
        }

        /// cni:O4, cni:1.6: the same for what only some commands read, and for keys in any case.
        #[test]
        fn a_damaged_request_of_any_command_gives_one_document(
            command in 0..3_usize, at in 0..CHAINED.len(), byte in any::<u8>(), shout in any::<bool>(),
        ) {
            let command = ["ADD", "CHECK", "GC"][command];
            let mut stdin = if shout { CHAINED.to_ascii_uppercase() } else { CHAINED.to_owned() }.into_bytes();
            stdin[at] = byte;
            let output = run(&Environment { command: Some(command.to_owned()), ..add() }, &stdin);
            prop_assert!((output.success && output.stdout.is_empty()) || is_one_error_document(&output));
        }

        #[test]
        fn strange_variables_give_one_error_document(text in ".*", which in 0..4) {
            let mut environment = add();
            let strange = Some(text.clone());
            match which {
                0 => environment.container = strange,
                1 => environment.ifname = strange,
                2 => environment.args = strange,
                _ => environment.command = Some(format!("X{text}")),
            }
            prop_assert!(is_one_error_document(&run(&environment, CONFIG.as_bytes())));
        }
    }
}
