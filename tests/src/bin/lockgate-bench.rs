//! The command line of the program that measures what a component costs: which parts
//! run, how often, and where the figures go. All that is measured stands in the library.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use lockgate_tests::bench::{self, Part, Settings};
use lockgate_tests::measure::Report;

/// Measures Lockgate beside the same code without WebAssembly and the same service in
/// Python, and prints what came of it.
///
/// Starts servers of its own on free ports and sends load to 127.0.0.1 only. The exit
/// code is 1 if a server gives a wrong answer. Times are printed and judge nothing.
#[derive(Debug, Parser)]
#[command(
    name = "scripts/bench",
    after_help = "\
Parts:
  answers     the same requests to all servers: the same answers?
  throughput  requests a second, latencies, processor time, memory
  curve       latency against load
  growth      one service in a host of one and in a host of fifty
  start       Lockgate's starts, swaps, sizes and memory
  contracts   the same small answer by the plugins' contract and by wasi:http
All of them run if none is named."
)]
struct Arguments {
    /// Parts to run
    #[arg(value_name = "PART", value_parser = part)]
    parts: Vec<Part>,
    /// About three minutes, for the claims and not for the figures
    #[arg(long)]
    quick: bool,
    /// How often all servers have their turn; by default 5, or 1 of the quick version
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=100))]
    rounds: Option<u8>,
    /// Writes all figures to a file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes the tables into README.md and docs/performance.md
    #[arg(long)]
    write: bool,
}

fn part(name: &str) -> Result<Part, String> {
    Part::named(name).ok_or_else(|| "no such part".to_owned())
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let usual = if arguments.quick { 1 } else { 5 };
    let settings = Settings {
        quick: arguments.quick,
        rounds: arguments.rounds.unwrap_or(usual).into(),
    };
    let parts = match arguments.parts.is_empty() {
        true => Part::ALL.to_vec(),
        false => arguments.parts,
    };
    if arguments.write
        && let Err(error) = bench::ready(&parts)
    {
        eprintln!("{error}");
        return ExitCode::from(2);
    }
    let mut report = Report::default();
    report.headline(&bench::headline());
    for part in parts {
        bench::run(part, &settings, &mut report);
    }
    let code = report.finish(arguments.json.as_deref());
    if arguments.write
        && let Err(error) = bench::write(&report)
    {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    code
}
