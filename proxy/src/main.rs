//! heddle-proxy's process.

use std::process::ExitCode;

fn main() -> ExitCode {
    heddle_proxy::program::main()
}
