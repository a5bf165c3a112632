//! The sockets program: real sockets of real hosts while the gateway is swapped, the chat
//! service is killed, logins end and tokens expire. A part measures, prints its figures
//! and checks its claims; a claim is about correctness and never about time.

mod ends;
mod flock;
mod idle;
mod round_trip;
mod swaps;
mod upstream;

use std::time::Duration;

use crate::chat::Chat;
use crate::host::{Host, HostBuilder, Service};
use crate::measure::{self, Length, Report};

/// The parts of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The gateway is swapped under sockets with traffic.
    Swaps,
    /// Memory of sockets that say nothing.
    Idle,
    /// Logins that end on another host.
    Revoked,
    /// Tokens that expire.
    Expired,
    /// A message through the gateway, and straight to the chat service.
    RoundTrip,
    /// The chat service is killed under traffic.
    Upstream,
}

impl Part {
    /// Those that run when none is named, in their order.
    pub const USUAL: [Self; 6] = [
        Self::Swaps,
        Self::Upstream,
        Self::Revoked,
        Self::Expired,
        Self::RoundTrip,
        Self::Idle,
    ];

    /// The part of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::USUAL.into_iter().find(|part| part.name() == name)
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Swaps => "swaps",
            Self::Idle => "idle",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::RoundTrip => "round-trip",
            Self::Upstream => "upstream",
        }
    }

    async fn measure(self, length: Length, report: &mut Report) {
        match self {
            Self::Swaps => swaps::run(length, report).await,
            Self::Idle => idle::run(length, report).await,
            Self::Revoked => ends::revoked(length, report).await,
            Self::Expired => ends::expired(length, report).await,
            Self::RoundTrip => round_trip::run(length, report).await,
            Self::Upstream => upstream::run(length, report).await,
        }
    }
}

/// What the figures were measured on and with.
pub fn headline() -> String {
    measure::headline("Lockgate's sockets")
}

/// Runs one part to its end.
pub fn run(part: Part, length: Length, report: &mut Report) {
    let guard = Duration::from_secs(60 * length.pick(10, 30, 90));
    measure::run(part.name(), guard, report, async |report| {
        part.measure(length, report).await;
    });
}

/// A host that logs little.
fn quiet() -> HostBuilder {
    Host::builder().env("LOG_LEVEL", "WARNING")
}

/// The base URL at which the chat service has tokens verified.
fn verifier(host: &Host) -> String {
    format!("http://127.0.0.1:{}", host.port(Service::Jwt))
}

/// The chat service where a host expects it.
async fn chat_of(host: &Host) -> Chat {
    Chat::start(host.spare_port(1), &verifier(host)).await
}
