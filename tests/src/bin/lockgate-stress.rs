//! The command line of the stress program: which parts run, how long, and where the
//! figures go. All that is measured stands in the library.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use lockgate_tests::measure::Report;
use lockgate_tests::stress::{self, Part, Settings};

/// Puts a real host under stress and prints what came of it.
///
/// Starts hosts of its own on free ports with the built plugins, and sends load to
/// 127.0.0.1 only. The exit code is 1 if a claim about correctness does not hold: a
/// lost request, an answer from a refused file, a wrong status, state that is gone.
/// Times are printed and judge nothing.
#[derive(Debug, Parser)]
#[command(
    name = "scripts/stress",
    after_help = "\
Parts:
  swaps    good, bad and trapping files dropped in under load
  latency  from the file in the folder to the new answer
  memory   resident memory and revisions alive over many swaps
  hostile  a component that misbehaves beside four that must not notice
  crash    SIGKILL and SIGTERM under load
  slow     clients that send or read slowly
  start    starts with something missing or broken
All of them run if none is named."
)]
struct Arguments {
    /// Parts to run
    #[arg(value_name = "PART", value_parser = part)]
    parts: Vec<Part>,
    /// A short version of every part
    #[arg(long)]
    quick: bool,
    /// Requests a second while components are swapped
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Only load, swaps and Redis outages, for so many minutes
    #[arg(long, value_name = "MINUTES", num_args = 0..=1, default_missing_value = "20", conflicts_with_all = ["parts", "quick"], value_parser = clap::value_parser!(u64).range(1..=1_200))]
    soak: Option<u64>,
    /// Writes the samples of the soak to a file
    #[arg(long, value_name = "FILE", requires = "soak")]
    csv: Option<PathBuf>,
    /// Writes all figures to a file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn part(name: &str) -> Result<Part, String> {
    Part::named(name)
        .filter(|part| *part != Part::Soak)
        .ok_or_else(|| "no such part".to_owned())
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let settings = Settings {
        quick: arguments.quick,
        rate: arguments.rate,
        minutes: arguments.soak.unwrap_or(0),
        csv: arguments.csv,
    };
    let parts = match arguments.soak {
        Some(_) => vec![Part::Soak],
        None if arguments.parts.is_empty() => Part::USUAL.to_vec(),
        None => arguments.parts,
    };
    println!("{}", stress::headline());
    let mut report = Report::default();
    for part in parts {
        stress::run(part, &settings, &mut report);
    }
    report.finish(arguments.json.as_deref())
}
