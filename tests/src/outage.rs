//! The outage program: real hosts whose Redis dies, hangs, slows down, forgets or changes
//! its password, and hosts that die or are cut off from one another. A part measures,
//! prints its figures and checks its claims; a claim is about correctness and never about
//! time.

mod barred;
mod bounds;
pub(crate) mod cluster;
mod commands;
mod conflicts;
mod course;
mod crash;
mod fault;
mod guesses;
mod made;
mod nodes;
mod refresh;
mod replicas;
mod watch;

use std::time::Duration;

use crate::measure::{self, Length, Report};

/// The parts of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Something happens to Redis under load.
    Fault(fault::Kind),
    /// A host and Redis that know different things.
    Conflicts,
    /// Tokens guessed at the emergency login.
    Guesses,
    /// SIGKILL while emergency sessions are made.
    Crash,
    /// Logins ended on one of three hosts.
    Replicas,
    /// One refresh token used many times at once.
    Refresh,
    /// Memory over very many distinct users, addresses and tokens.
    Bounds,
    /// Commands of Redis in a check.
    Commands,
    /// Logins ended on one of three hosts while something happens to Redis's nodes.
    Nodes(nodes::Kind),
}

impl Part {
    /// Those that run when none is named, in their order.
    pub fn usual() -> Vec<Self> {
        let faults = fault::Kind::ALL.into_iter().map(Self::Fault);
        let others = [
            Self::Conflicts,
            Self::Guesses,
            Self::Crash,
            Self::Replicas,
            Self::Refresh,
            Self::Bounds,
            Self::Commands,
        ];
        let nodes = nodes::Kind::ALL.into_iter().map(Self::Nodes);
        faults.chain(others).chain(nodes).collect()
    }

    /// The part of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::usual().into_iter().find(|part| part.name() == name)
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fault(kind) => kind.name(),
            Self::Conflicts => "conflicts",
            Self::Guesses => "guesses",
            Self::Crash => "crash",
            Self::Replicas => "replicas",
            Self::Refresh => "refresh",
            Self::Bounds => "bounds",
            Self::Commands => "commands",
            Self::Nodes(kind) => kind.name(),
        }
    }

    async fn measure(self, length: Length, report: &mut Report) {
        match self {
            Self::Fault(kind) => course::run(kind, length, report).await,
            Self::Conflicts => conflicts::run(report).await,
            Self::Guesses => guesses::run(length, report).await,
            Self::Crash => crash::run(length, report).await,
            Self::Replicas => replicas::run(length, report).await,
            Self::Refresh => refresh::run(length, report).await,
            Self::Bounds => bounds::run(length, report).await,
            Self::Commands => commands::run(length, report).await,
            Self::Nodes(kind) => nodes::run(kind, length, report).await,
        }
    }
}

/// What the figures were measured on and with.
pub fn headline() -> String {
    measure::headline("Lockgate in an outage")
}

/// Runs one part to its end.
pub fn run(part: Part, length: Length, report: &mut Report) {
    let minutes = length.pick(10, 45, 180);
    let guard = Duration::from_secs(60 * minutes);
    measure::run(part.name(), guard, report, async |report| {
        part.measure(length, report).await;
    });
}
