//! The program that measures what a component costs: Lockgate, the same code without
//! WebAssembly, and the same service in Python, by turns under the same load. A part
//! measures and prints; its claims are about right answers and never about time.

mod answers;
mod contracts;
mod curve;
mod driver;
mod figures;
mod goals;
mod growth;
mod load;
mod publish;
mod python;
mod record;
mod resident;
mod server;
mod start;
mod swaps;
mod throughput;
mod work;

use std::time::Duration;

use crate::measure::{self, Report};

pub use publish::{ready, write};

/// What the program was asked for.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Short, for its claims and not for its figures.
    pub quick: bool,
    /// How often all servers have their turn.
    pub rounds: usize,
}

impl Settings {
    /// One of two numbers.
    fn pick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }
}

/// The parts of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The same answers from all servers.
    Answers,
    /// Requests a second, latencies, processor time and memory of all servers.
    Throughput,
    /// Latency against load of all servers.
    Curve,
    /// One service in a host of one and in a host of many.
    Growth,
    /// Starts, swaps, sizes and memory of Lockgate.
    Start,
    /// The same small answer by each contract.
    Contracts,
}

impl Part {
    /// All of them, in their order.
    pub const ALL: [Self; 6] = [
        Self::Answers,
        Self::Throughput,
        Self::Curve,
        Self::Growth,
        Self::Start,
        Self::Contracts,
    ];

    /// The part of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.name() == name)
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Answers => "answers",
            Self::Throughput => "throughput",
            Self::Curve => "curve",
            Self::Growth => "growth",
            Self::Start => "start",
            Self::Contracts => "contracts",
        }
    }

    async fn measure(self, settings: &Settings, report: &mut Report) {
        match self {
            Self::Answers => answers::run(report).await,
            Self::Throughput => throughput::run(settings, report).await,
            Self::Curve => curve::run(settings, report).await,
            Self::Growth => growth::run(settings, report).await,
            Self::Start => start::run(settings, report).await,
            Self::Contracts => contracts::run(settings, report).await,
        }
    }
}

/// What the figures were measured on and with.
pub fn headline() -> String {
    let versions = [load::version(), python::version()].join(", ");
    format!(
        "{}\nwith: {versions}",
        measure::headline("Lockgate, the native twin and the FastAPI twin")
    )
}

/// Runs one part to its end.
pub fn run(part: Part, settings: &Settings, report: &mut Report) {
    let rounds = u64::try_from(settings.rounds).unwrap_or(u64::MAX);
    let guard = Duration::from_secs(600 + rounds.saturating_mul(900));
    measure::run(part.name(), guard, report, async |report| {
        part.measure(settings, report).await;
    });
}
