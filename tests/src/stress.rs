//! The stress program: a real host under load while it is swapped, attacked, killed and
//! starved. A part measures, prints its figures and checks its claims; a claim is about
//! correctness and never about time.

mod behaviours;
mod crash;
mod hostile;
pub(crate) mod latency;
mod memory;
mod slow;
mod soak;
pub(crate) mod start;
mod swaps;
mod terminate;

use std::path::PathBuf;
use std::time::Duration;

use crate::measure::{self, Report};

/// What the program was asked for.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The short version of every part.
    pub quick: bool,
    /// Requests a second while components are swapped.
    pub rate: u32,
    /// Length of the soak, minutes.
    pub minutes: u64,
    /// Where the samples of the soak go.
    pub csv: Option<PathBuf>,
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
    /// Good, bad and trapping files dropped in under load.
    Swaps,
    /// From the file in the folder to the new answer.
    Latency,
    /// Resident memory and revisions alive over many swaps.
    Memory,
    /// A component that misbehaves beside four that must not notice.
    Hostile,
    /// SIGKILL and SIGTERM under load.
    Crash,
    /// Clients that send or read slowly.
    Slow,
    /// Starts with something missing or broken.
    Start,
    /// Load, swaps and Redis outages for a long time.
    Soak,
}

impl Part {
    /// Those that run when none is named.
    pub const USUAL: [Self; 7] = [
        Self::Swaps,
        Self::Latency,
        Self::Memory,
        Self::Hostile,
        Self::Crash,
        Self::Slow,
        Self::Start,
    ];

    /// The part of a name.
    pub fn named(name: &str) -> Option<Self> {
        let mut all = Self::USUAL.into_iter().chain([Self::Soak]);
        all.find(|part| part.name() == name)
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Swaps => "swaps",
            Self::Latency => "latency",
            Self::Memory => "memory",
            Self::Hostile => "hostile",
            Self::Crash => "crash",
            Self::Slow => "slow",
            Self::Start => "start",
            Self::Soak => "soak",
        }
    }

    /// What it may take before it counts as hanging.
    fn guard(self, settings: &Settings) -> Duration {
        let minutes = match self {
            Self::Soak => settings.minutes + 10,
            _ => settings.pick(45, 10),
        };
        Duration::from_secs(60 * minutes)
    }

    async fn measure(self, settings: &Settings, report: &mut Report) {
        match self {
            Self::Swaps => swaps::run(settings, report).await,
            Self::Latency => latency::run(settings, report).await,
            Self::Memory => memory::run(settings, report).await,
            Self::Hostile => hostile::run(settings, report).await,
            Self::Crash => {
                crash::run(settings, report).await;
                terminate::run(settings, report).await;
            }
            Self::Slow => slow::run(settings, report).await,
            Self::Start => start::run(settings, report).await,
            Self::Soak => soak::run(settings, report).await,
        }
    }
}

/// What the figures were measured on and with.
pub fn headline() -> String {
    measure::headline("Lockgate under stress")
}

/// Runs one part to its end.
pub fn run(part: Part, settings: &Settings, report: &mut Report) {
    let guard = part.guard(settings);
    measure::run(part.name(), guard, report, async |report| {
        part.measure(settings, report).await;
    });
}
