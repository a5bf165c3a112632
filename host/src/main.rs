//! The binary: arguments in, exit code out.

use std::process::ExitCode;

use lockgate::cli::Cli;

fn main() -> ExitCode {
    Cli::from_process().run()
}
