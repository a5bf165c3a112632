//! The command line of the sockets program: which parts run, how long, and where the
//! figures go. All that is measured stands in the library.

use std::process::ExitCode;

use clap::Parser;
use lockgate_tests::measure::{Options, Report};
use lockgate_tests::sockets::{self, Part};

/// Opens many sockets of real hosts and prints what came of them.
///
/// Starts hosts, Redis servers and chat services of its own on free ports, and sends load
/// to 127.0.0.1 only. The exit code is 1 if a claim about correctness does not hold: a
/// socket that a swap closed, a message that was lost or answered twice, a socket that
/// outlived its login. Times are printed and judge nothing.
#[derive(Debug, Parser)]
#[command(
    name = "scripts/sockets",
    after_help = "\
Parts:
  swaps       the gateway is swapped under sockets that chat, bad files among the good
  upstream    the chat service is killed and started again under sockets that chat
  revoked     logins end on another host
  expired     tokens end while their sockets are open
  round-trip  a message through the gateway and straight to the chat service
  idle        memory of sockets that say nothing
All of them run if none is named."
)]
struct Arguments {
    /// Parts to run
    #[arg(value_name = "PART", value_parser = part)]
    parts: Vec<Part>,
    #[command(flatten)]
    options: Options,
}

fn part(name: &str) -> Result<Part, String> {
    Part::named(name).ok_or_else(|| "no such part".to_owned())
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let length = arguments.options.length();
    let parts = match arguments.parts.is_empty() {
        true => Part::USUAL.to_vec(),
        false => arguments.parts,
    };
    println!("{}", sockets::headline());
    let mut report = Report::default();
    for part in parts {
        sockets::run(part, length, &mut report);
    }
    arguments.options.finish(&report)
}
