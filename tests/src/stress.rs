//! The stress program: a real host under load while it is swapped, attacked, killed and
//! starved. A part measures, prints its figures and checks its claims; a claim is about
//! correctness and never about time. The parts share a load ([`load`]) and what can be
//! seen from outside ([`observe`]).

mod bad_files;
mod behaviours;
mod crash;
mod hostile;
mod latency;
mod link;
mod load;
mod memory;
mod mix;
mod observe;
mod report;
mod slow;
mod soak;
mod start;
mod swaps;
mod tally;
mod terminate;

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub use report::Report;

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
    let binary = crate::place::binary();
    let made = std::fs::read(&binary).expect("read the host");
    let digest = crate::component::digest(&made);
    let now = time::OffsetDateTime::now_utc();
    let date = now
        .format(&time::format_description::well_known::Rfc3339)
        .expect("a date");
    format!(
        "Lockgate under stress, {date}\nmachine: {}\nhost: {} bytes, SHA-256 {}",
        observe::machine(),
        made.len(),
        &digest[..16],
    )
}

/// Runs one part to its end. That it ends, without a panic and within its guard, is a
/// claim too.
pub fn run(part: Part, settings: &Settings, report: &mut Report) {
    let begun = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("start a runtime");
    let guard = part.guard(settings);
    let ended = std::panic::catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            tokio::time::timeout(guard, part.measure(settings, report))
                .await
                .is_ok()
        })
    }));
    let seconds = begun.elapsed().as_secs();
    let what = format!("the part {} ran to its end", part.name());
    match ended {
        Ok(true) => report.claim(&what, true, format!("{seconds} s")),
        Ok(false) => report.claim(&what, false, format!("not in {guard:?}")),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            let first = text.unwrap_or("a panic").lines().next().unwrap_or_default();
            report.claim(&what, false, first);
        }
    }
}
