//! The door of a running process: a Unix socket that only root may open.
//!
//! It knows no question and no answer: each program has its own. heddle-node is built on the same. Invariant: a question is
//! answered only where both sides are of the same protocol.
//!
//! | module | what it is |
//! |---|---|
//! | [`protocol`] | a question and its answer, as they go over the socket |
//! | [`listen`] | the process that answers |
//! | [`ask`] | the command that asks |
//! | [`shown`] | what is alike in all answers |

pub mod ask;
pub mod listen;
pub mod protocol;
pub mod shown;

pub use self::protocol::{Answer, Output, Program};
