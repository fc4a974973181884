//! The process that answers.
//!
//! Questions come one after the other. A stale file of a process that was killed is replaced, in one step; the file of one
//! that lives is left to it, and looked at again later. Invariant: nobody but root, or the process's own user, is answered.

use super::protocol::{Answer, LONGEST, Output, Program};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

/// How soon a door that could not be opened is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// For how long one conversation may hold up the next.
const PATIENCE: Duration = Duration::from_secs(20);

/// Answers for ever.
pub async fn serve<A, T>(path: &Path, program: Program, answer: impl AsyncFn(A, Output) -> Answer<T>)
where
    A: DeserializeOwned,
    T: Serialize,
{
    let listener = open_at_last(path, program).await;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => match timeout(PATIENCE, converse(stream, program, &answer)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => debug!("a question was not answered: {error}"),
                Err(_) => debug!("a question was not answered in time"),
            },
            Err(error) => {
                warn!("accept on the status socket: {error}");
                sleep(AGAIN).await;
            }
        }
    }
}

async fn open_at_last(path: &Path, program: Program) -> UnixListener {
    let mut said = false;
    let listener = loop {
        match open(path, program) {
            Ok(listener) => break listener,
            Err(error) if said => debug!(?path, "the status socket is still not open: {error}"),
            Err(error) => warn!(?path, "no status socket, it is tried again: {error}"),
        }
        said = true;
        sleep(AGAIN).await;
    };
    if said {
        info!(?path, "the status socket is open");
    }
    listener
}

/// Binds beside the path and moves there, so that the socket is never seen with other rights than its own.
fn open(path: &Path, program: Program) -> io::Result<UnixListener> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        let other = format!("another {} answers there", program.name);
        return Err(io::Error::new(io::ErrorKind::AddrInUse, other));
    }
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&new)?;
    fs::set_permissions(&new, Permissions::from_mode(0o600))?;
    fs::rename(&new, path)?;
    Ok(listener)
}

async fn converse<A, T>(
    stream: UnixStream,
    program: Program,
    answer: &impl AsyncFn(A, Output) -> Answer<T>,
) -> io::Result<()>
where
    A: DeserializeOwned,
    T: Serialize,
{
    let peer = stream.peer_cred()?.uid();
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    BufReader::new(read.take(LONGEST)).read_line(&mut line).await?;
    let told = if peer == 0 || peer == rustix::process::geteuid().as_raw() {
        match program.read(&line) {
            Ok((ask, output)) => answer(ask, output).await,
            Err(refusal) => Err(refusal),
        }
    } else {
        Err("only root may ask".to_owned())
    };
    let mut told = serde_json::to_vec(&told)?;
    told.push(b'\n');
    write.write_all(&told).await?;
    write.shutdown().await
}
