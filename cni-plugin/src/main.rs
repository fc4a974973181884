//! `heddle-cni`: environment and stdin in, JSON and exit code out. Everything else is in the library.

use heddle_cni::failure::Failure;
use heddle_cni::spec::Environment;
use heddle_cni::{Output, run};
use std::io::{Read, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut stdin = Vec::new();
    let output = match std::io::stdin().lock().read_to_end(&mut stdin) {
        Ok(_) => run(&environment(), &stdin),
        Err(e) => Output { stdout: Failure::stdin(&e).to_json(None), success: false },
    };
    // A runtime that got half a document has got a failure: it is written at once, and checked.
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(output.stdout.as_bytes()).and_then(|()| stdout.flush());
    if output.success && written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The variables that the CNI specification defines, as text; a variable that is not UTF-8 is read with replacement
/// characters and then refused for what it says.
fn environment() -> Environment {
    #[expect(
        clippy::disallowed_methods,
        reason = "CNI passes its arguments in the environment; here is the one place"
    )]
    let read = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    Environment {
        command: read("CNI_COMMAND"),
        container: read("CNI_CONTAINERID"),
        namespace: read("CNI_NETNS"),
        ifname: read("CNI_IFNAME"),
        args: read("CNI_ARGS"),
        path: read("CNI_PATH"),
        namespace_override: read("CNI_NETNS_OVERRIDE"),
    }
}
