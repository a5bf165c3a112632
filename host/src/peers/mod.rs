//! What is known of the other services: background probes, one breaker for each
//! service, and the connection test of the chat service. Readers get what was
//! found last and never wait. It must not decide what a status means to a caller.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::breaker::{Breaker, Policy, Position};
use crate::chat;
use crate::clock::Clock;
use crate::config::Config;

mod probe;

use probe::{Finding, Outcome, Prober, Target};

/// Time between two probes of a peer.
const PERIOD: Duration = Duration::from_secs(10);
/// Time between two tries while services are starting.
const RETRY: Duration = Duration::from_secs(1);
/// How long after the start a peer counts as starting.
const STARTING: Duration = Duration::from_secs(10);
/// The service whose health includes the chat service.
const GATEWAY: &str = "websocket-auth-gateway";

/// How a service fares, as far as is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It says so.
    Healthy,
    /// It says so, or its breaker is half open.
    Degraded,
    /// It could not be reached or gave another answer.
    Error,
    /// Its breaker is open: it is not asked.
    CircuitOpen,
    /// Never probed.
    Unknown,
}

/// What is known of one peer.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// With underscores.
    pub name: String,
    /// Without credentials; empty if the configured one cannot be used.
    pub url: String,
    /// The URL's port, or its scheme's.
    pub port: u16,
    /// Of the last probe and the breaker.
    pub status: Status,
    /// How long the last answer took, milliseconds.
    pub response_time_ms: Option<f64>,
    /// Failed probes in a row, those while it was starting left out.
    pub error_count: u32,
    /// When it was probed last, unix seconds.
    pub last_check: Option<u64>,
    /// Why the last probe failed, in a few words.
    pub error_message: Option<String>,
}

/// All other services, and the chat service.
#[derive(Debug)]
pub struct Peers {
    clock: Clock,
    peers: Vec<Peer>,
    probes: AtomicU64,
    chat: Option<Chat>,
}

#[derive(Debug)]
struct Peer {
    /// With hyphens.
    name: String,
    target: Target,
    /// A service of this process may see it.
    wanted: bool,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    breaker: Breaker,
    last: Option<Last>,
    error_count: u32,
}

#[derive(Debug, Clone)]
struct Last {
    outcome: Outcome,
    at: u64,
}

#[derive(Debug)]
struct Chat {
    target: Arc<chat::Target>,
    connected: AtomicBool,
    /// What the log was told last.
    logged: Mutex<String>,
}

/// A try while everything is starting, which no breaker counts, or a regular probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Starting,
    Regular,
}

impl Peers {
    /// Nothing is probed before [`Peers::spawn`]. The chat service is, if this process
    /// serves the gateway.
    pub fn new(config: &Config, clock: Clock, chat: Option<&Arc<chat::Target>>) -> Peers {
        let wanted = |name: &str| {
            config
                .services
                .iter()
                .any(|service| service.name != name && service.grants.peers.contains(name))
        };
        let peers = config
            .peers
            .iter()
            .map(|peer| Peer {
                name: peer.name.clone(),
                target: Target::new(peer),
                wanted: wanted(&peer.name),
                known: Mutex::new(Known::new()),
            })
            .collect();
        let gateway = config
            .services
            .iter()
            .any(|service| service.name == GATEWAY);
        Peers {
            clock,
            peers,
            probes: AtomicU64::new(0),
            chat: chat.filter(|_| gateway).cloned().map(Chat::new),
        }
    }

    /// Starts the probes; they end with `stop`.
    pub fn spawn(self: &Arc<Self>, stop: &CancellationToken) {
        let prober = Prober::new();
        for index in 0..self.peers.len() {
            let (peers, prober, stop) = (Arc::clone(self), prober.clone(), stop.clone());
            tokio::spawn(async move {
                let Some(peer) = peers.peers.get(index).filter(|peer| peer.wanted) else {
                    return;
                };
                let probing = peers.probe(peer, || prober.ask(&peer.target));
                stop.run_until_cancelled(probing).await;
            });
        }
        let (peers, stop) = (Arc::clone(self), stop.clone());
        tokio::spawn(async move {
            if let Some(chat) = &peers.chat {
                stop.run_until_cancelled(repeat(|_| chat.look())).await;
            }
        });
    }

    /// The services other than `service`, in the order of their ports. Those that are
    /// not in `granted` stay unknown.
    pub fn snapshot(&self, service: &str, granted: &BTreeSet<String>) -> Vec<View> {
        self.peers
            .iter()
            .filter(|peer| peer.name != service)
            .map(|peer| peer.view(granted.contains(&peer.name)))
            .collect()
    }

    /// Each service's breaker, by its name with underscores.
    pub fn breakers(&self) -> Vec<(String, Breaker)> {
        self.peers
            .iter()
            .map(|peer| (underscored(&peer.name), peer.known().breaker.clone()))
            .collect()
    }

    /// Probes made since the start.
    pub fn probes(&self) -> u64 {
        self.probes.load(Ordering::Relaxed)
    }

    /// Whether the chat service accepted a connection at the last try; none if this
    /// process does not serve the gateway.
    pub fn chat_connected(&self) -> Option<bool> {
        let chat = self.chat.as_ref()?;
        Some(chat.connected.load(Ordering::Relaxed))
    }

    async fn probe<F: Future<Output = Outcome>>(&self, peer: &Peer, ask: impl Fn() -> F) {
        let ask = &ask;
        repeat(|phase| async move {
            if phase == Phase::Regular && !peer.known().breaker.permit(Instant::now()) {
                return false;
            }
            let outcome = ask().await;
            self.probes.fetch_add(1, Ordering::Relaxed);
            let good = outcome.good();
            peer.note(outcome, phase, self.clock.now());
            good
        })
        .await;
    }
}

/// Runs `step` at once, each second until it first succeeds but at most 10 s long,
/// then every 10 s for ever. Peers are started together, so their first answers
/// come at very different times.
async fn repeat<F: Future<Output = bool>>(mut step: impl FnMut(Phase) -> F) {
    let begin = Instant::now();
    while !step(Phase::Starting).await {
        if begin.elapsed() >= STARTING {
            break;
        }
        sleep(RETRY).await;
    }
    let mut ticks = interval_at(Instant::now() + PERIOD, PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        step(Phase::Regular).await;
    }
}

fn underscored(name: &str) -> String {
    name.replace('-', "_")
}

impl Outcome {
    fn good(&self) -> bool {
        matches!(self.finding, Finding::Healthy | Finding::Degraded)
    }

    fn status(&self) -> Status {
        match self.finding {
            Finding::Healthy => Status::Healthy,
            Finding::Degraded => Status::Degraded,
            Finding::Odd(_) | Finding::Failed(_) => Status::Error,
        }
    }

    fn reason(&self) -> Option<&str> {
        match &self.finding {
            Finding::Healthy | Finding::Degraded => None,
            Finding::Odd(reason) | Finding::Failed(reason) => Some(reason),
        }
    }
}

impl Known {
    fn new() -> Known {
        Known {
            breaker: Breaker::new(Policy::PEER),
            last: None,
            error_count: 0,
        }
    }

    fn status(&self) -> Status {
        match (self.breaker.position(), &self.last) {
            (Position::Open, _) => Status::CircuitOpen,
            (_, None) => Status::Unknown,
            (Position::HalfOpen, Some(_)) => Status::Degraded,
            (Position::Closed, Some(last)) => last.outcome.status(),
        }
    }

    /// Counts the outcome of a regular probe.
    fn count(&mut self, outcome: &Outcome, now: Instant) {
        match outcome.finding {
            Finding::Failed(_) => self.breaker.failure(now),
            _ => self.breaker.success(),
        }
        self.error_count = if outcome.good() {
            0
        } else {
            self.error_count.saturating_add(1)
        };
    }
}

impl Peer {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, outcome: Outcome, phase: Phase, at: u64) {
        let reason = outcome.reason().map(str::to_owned);
        let (before, after) = {
            let mut known = self.known();
            let before = known.status();
            if phase == Phase::Regular {
                known.count(&outcome, Instant::now());
            }
            known.last = Some(Last { outcome, at });
            (before, known.status())
        };
        let peer = self.name.as_str();
        match (before == after, after) {
            (true, _) => {}
            (false, Status::Healthy) => tracing::info!(peer, "peer: healthy"),
            (false, status) => tracing::warn!(peer, ?status, reason, "peer: not healthy"),
        }
    }

    fn view(&self, granted: bool) -> View {
        let mut view = View {
            name: underscored(&self.name),
            url: self.target.url.clone(),
            port: self.target.port,
            status: Status::Unknown,
            response_time_ms: None,
            error_count: 0,
            last_check: None,
            error_message: None,
        };
        if !granted {
            return view;
        }
        let known = self.known();
        view.status = known.status();
        view.error_count = known.error_count;
        if let Some(last) = &known.last {
            view.response_time_ms = last.outcome.took.map(|took| took.as_secs_f64() * 1000.0);
            view.last_check = Some(last.at);
            view.error_message = last.outcome.reason().map(str::to_owned);
        }
        view
    }
}

impl Chat {
    fn new(target: Arc<chat::Target>) -> Chat {
        Chat {
            target,
            connected: AtomicBool::new(false),
            logged: Mutex::default(),
        }
    }

    /// True if the chat service takes a connection, with a good certificate where it has
    /// to have one.
    async fn look(&self) -> bool {
        let looked = async {
            let mut stream = self.target.connect().await?;
            stream.shutdown().await
        };
        let found = match timeout(probe::LIMIT, looked).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no answer in time".to_owned()),
        };
        self.connected.store(found.is_ok(), Ordering::Relaxed);
        let reason = found.as_ref().err().map_or("", String::as_str);
        let said = format!("{} {reason}", found.is_ok());
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if *logged != said {
            tracing::info!(
                connected = found.is_ok(),
                reason,
                "the chat service's state changed"
            );
            *logged = said;
        }
        found.is_ok()
    }
}

#[cfg(test)]
mod tests;
