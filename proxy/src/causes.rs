//! An error and what caused it, in one line.
//!
//! Pure. Libraries wrap a cause several times, each wrapping with the text of what is below, or with none of its own; what is
//! said is said once.

use std::error::Error;
use std::io;

/// The error, its cause, the cause of that, and so on.
pub fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| {
        // What the kernel's kind of error wraps is not its source.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        inner.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source())
    })
}

/// The error and what caused it, from the outside in, without what only repeats a part of the line. Of a text of several lines
/// the first counts: a parser of YAML shows the place below it.
pub fn line(error: &(dyn Error + 'static)) -> String {
    let mut told: Vec<String> = Vec::new();
    for text in chain(error).map(|cause| cause.to_string().lines().next().unwrap_or_default().to_owned()) {
        if !told.iter().any(|before| before.contains(&text)) {
            told.retain(|before| !text.contains(before.as_str()));
            told.push(text);
        }
    }
    told.join(": ")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use thiserror::Error;

    /// An error as libraries make them around that of the kernel.
    #[derive(Debug, Error)]
    #[error("{text}")]
    pub(crate) struct Wrapping {
        pub(crate) text: &'static str,
        pub(crate) source: io::Error,
    }

    #[test]
    fn a_cause_is_said_once() {
        let error = Wrapping { text: "tcp connect error", source: io::Error::from_raw_os_error(111) };
        assert_eq!(line(&error), "tcp connect error: Connection refused (os error 111)");
        let repeated = Wrapping { text: "a: b", source: io::Error::other("b") };
        assert_eq!(line(&repeated), "a: b");
        let bare = Wrapping { text: "b", source: io::Error::other("b: c") };
        assert_eq!(line(&bare), "b: c");
    }

    #[test]
    fn the_place_that_a_parser_shows_is_left_out() {
        let error =
            Wrapping { text: "read", source: io::Error::other("line 1: no list\n --> 1:11\n  | a: 7") };
        assert_eq!(line(&error), "read: line 1: no list");
    }

    #[test]
    fn what_an_error_of_the_kernels_kind_wraps_is_a_cause() {
        let inner = Wrapping { text: "wrapped", source: io::Error::from_raw_os_error(2) };
        let error = io::Error::other(inner);
        assert_eq!(chain(&error).count(), 3);
        assert_eq!(line(&error), "wrapped: No such file or directory (os error 2)");
    }
}
