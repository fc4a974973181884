//! `heddle-cni`: environment and stdin in, JSON and exit code out. Everything else is in the library.

use heddle_cni::failure::Failure;
use heddle_cni::spec::{Environment, asked_version, decode};
use heddle_cni::{Output, cli, run};
use std::io::{self, Read, Write};
use std::panic;
use std::path::Path;
use std::process::{ExitCode, exit};

fn main() -> ExitCode {
    let environment = environment();
    if environment.command.is_none() {
        return say(&cli::run(&std::env::args().skip(1).collect::<Vec<_>>()));
    }
    let mut stdin = Vec::new();
    let output = match io::stdin().lock().read_to_end(&mut stdin) {
        Ok(_) => {
            tell_panics(&stdin);
            run(&environment, &stdin)
        }
        Err(e) => Output { stdout: Failure::stdin(&e).to_json(None), success: false },
    };
    // A runtime that got half a document has got a failure: it is written at once, and checked.
    match write(&output.stdout) {
        Ok(()) if output.success => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        Err(_) => {
            take_back(&environment, &stdin, &output);
            ExitCode::FAILURE
        }
    }
}

fn say(said: &cli::Said) -> ExitCode {
    let told = io::stderr().write_all(said.stderr.as_bytes()).and_then(|()| write(&said.stdout));
    if told.is_ok() && said.success { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
}

/// An attachment that nobody has heard of has failed, and leaves nothing.
fn take_back(environment: &Environment, stdin: &[u8], output: &Output) {
    if output.success && environment.command.as_deref() == Some("ADD") {
        run(&Environment { command: Some("DEL".to_owned()), ..environment.clone() }, stdin);
    }
}

/// A runtime reads one document, whatever happens.
fn tell_panics(stdin: &[u8]) {
    let asked = decode(stdin).ok().as_ref().and_then(asked_version).map(str::to_owned);
    panic::set_hook(Box::new(move |panic| {
        let _ = write(&Failure::panicked(panic).to_json(asked.as_deref()));
        exit(1);
    }));
}

fn program_name() -> Option<String> {
    let path = std::env::args_os().next()?;
    Some(Path::new(&path).file_name()?.to_string_lossy().into_owned())
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
        program: program_name(),
    }
}
