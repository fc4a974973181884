//! What the metrics port of a node answers.

use heddle_tests::lab::Node;
use heddle_tests::patience::{PATIENCE, eventually};
use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Where the port is unless somebody says otherwise.
pub(crate) const ADDRESS: &str = "127.0.0.1:10249";

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    /// Its first line and its headers.
    pub(crate) head: String,
    /// The rest.
    pub(crate) body: String,
}

impl Reply {
    /// Whether it has this header.
    pub(crate) fn has(&self, header: &str) -> bool {
        self.head.lines().skip(1).any(|line| line.eq_ignore_ascii_case(header))
    }

    /// Its code.
    pub(crate) fn code(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    /// The value of a series, as it is written.
    pub(crate) fn value(&self, series: &str) -> Option<f64> {
        self.body.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }
}

/// One request on the node itself, with what belongs between its first line and its end.
pub(crate) fn ask(node: &Node, line: &str, rest: &str) -> Result<Reply, Box<dyn Error + Send + Sync>> {
    ask_at(node, ADDRESS, line, rest)
}

/// The same at another port.
pub(crate) fn ask_at(
    node: &Node,
    address: &str,
    line: &str,
    rest: &str,
) -> Result<Reply, Box<dyn Error + Send + Sync>> {
    let request = format!("{line} HTTP/1.1\r\nHost: node\r\n{rest}\r\n");
    node.namespace().enter(|| {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("no end of the headers")?;
        Ok(Reply { head: head.to_owned(), body: body.to_owned() })
    })?
}

/// A page of the metrics port.
pub(crate) fn get(node: &Node, path: &str) -> Result<Reply, Box<dyn Error + Send + Sync>> {
    ask(node, &format!("GET {path}"), "")
}

/// Waits until a series has this value.
pub(crate) fn counts(node: &Node, series: &str, value: f64) -> Result<(), Box<dyn Error>> {
    eventually(&format!("{series} {value}"), PATIENCE, || {
        let reply = get(node, "/metrics").map_err(|error| error.to_string())?;
        if reply.value(series) == Some(value) { Ok(()) } else { Err(reply.body) }
    })?;
    Ok(())
}
