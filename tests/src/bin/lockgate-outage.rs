//! The command line of the outage program: which parts run, how long, and where the
//! figures go. All that is measured stands in the library.

use std::process::ExitCode;

use clap::Parser;
use lockgate_tests::measure::{Options, Report};
use lockgate_tests::outage::{self, Part};

/// Takes Redis and hosts away from real hosts under load and prints what came of it.
///
/// Starts hosts and Redis servers of its own on free ports, and sends load to 127.0.0.1
/// only. The exit code is 1 if a claim about correctness does not hold: a wrong answer, a
/// revoked token that is accepted, a session that is lost. Times are printed and judge
/// nothing.
#[derive(Debug, Parser)]
#[command(
    name = "scripts/outage",
    after_help = "\
Parts:
  killed     Redis is killed and comes back
  hung       Redis is stopped and keeps its connections
  slow       every reply of Redis comes late
  dribble    every reply of Redis comes byte by byte
  full       Redis evicts keys, those of revocations too
  oom        Redis is full and refuses to write
  readonly   Redis has become a replica and refuses to write
  empty      Redis loses all keys, then comes back without any
  password   Redis is started again with another password
  conflicts  a host and Redis that know different things
  guesses    tokens guessed at the emergency login
  crash      SIGKILL while emergency sessions are made
  replicas   logins ended on one of three hosts, one of them cut off
  refresh    one refresh token used many times at once on three hosts
  bounds     memory over very many distinct users, addresses and tokens
  commands   commands of Redis in a check
  failover   the master is killed and the sentinels choose its replica
  slots      slots of a cluster move from one node to another
All of them run if none is named. One more runs only alone:
  attacks    counts what the tests of attacks try"
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
        true => Part::usual(),
        false => arguments.parts,
    };
    println!("{}", outage::headline());
    let mut report = Report::default();
    for part in parts {
        outage::run(part, length, &mut report);
    }
    arguments.options.finish(&report)
}
