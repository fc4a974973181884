//! The command that asks the running process, and prints what it says.

use super::protocol::{Answer, Output, Program, Request};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// For how long an answer is awaited.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks the program that answers at this path.
///
/// # Errors
/// A sentence that says why there is no answer, or that the process answered in its place.
pub fn ask<T: DeserializeOwned>(
    program: Program,
    path: &Path,
    ask: &impl Serialize,
    output: Output,
) -> Answer<T> {
    let stream = UnixStream::connect(path).map_err(|error| unreachable(program, path, &error))?;
    let broken =
        |error: io::Error| format!("the {} at {} does not answer: {error}", program.name, path.display());
    converse(&stream, &program.request(ask, output)).map_err(broken)?
}

fn converse<T: DeserializeOwned>(mut stream: &UnixStream, request: &Request) -> io::Result<Answer<T>> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    Ok(serde_json::from_str(&answer)?)
}

fn unreachable(Program { name, .. }: Program, path: &Path, error: &io::Error) -> String {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            format!("no {name} answers at {path}: is it running, and with this --status-socket?")
        }
        io::ErrorKind::PermissionDenied => format!("{path} may be opened by root alone"),
        _ => format!("{path}: {error}"),
    }
}

/// Prints an answer, and the sentence, where there is one, that makes the command fail.
pub fn print(text: &str, amiss: Option<&str>) -> ExitCode {
    // Whoever reads our output, as `head` does, may have read enough.
    let _ = io::stdout().write_all(text.as_bytes());
    let Some(sentence) = amiss else { return ExitCode::SUCCESS };
    let _ = writeln!(io::stderr(), "error: {sentence}");
    ExitCode::FAILURE
}
