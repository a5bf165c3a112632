//! What the probes, the breakers and this service's own state add up to: one
//! status for each of the five services. It decides; it asks nobody and knows
//! nothing of HTTP.

use lockgate_sdk::clock::Time;
use lockgate_sdk::wit::breakers::{Breaker, State};
use lockgate_sdk::wit::peers::{Peer, Reachability, Status as Probed};
use serde::{Serialize, Serializer};

/// This service's name in answers.
pub(crate) const OWN_NAME: &str = "service_boundary_coordinator";

/// The five services in the order of their ports, and whether the login of
/// every user depends on them.
pub(crate) const SERVICES: [(&str, bool); 5] = [
    ("jwt_token_adapter", true),
    ("session_validation_normalizer", true),
    ("fallback_session_provider", false),
    ("websocket_auth_gateway", false),
    (OWN_NAME, false),
];

/// A probe result older than this says nothing any more, in seconds.
const FRESH: u64 = 30;

/// Everything that the answers are made of, as the host gave it.
pub(crate) struct Facts {
    /// The four other services.
    pub(crate) peers: Vec<Peer>,
    /// One for each service and one for Redis.
    pub(crate) breakers: Vec<Breaker>,
    /// Whether the shared store answers.
    pub(crate) redis: Reachability,
    /// A usable JWT secret is loaded.
    pub(crate) ready: bool,
    /// This service's own port.
    pub(crate) port: u16,
    /// Unix seconds.
    pub(crate) now: u64,
}

/// The words that the front end understands; any other would hide a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    /// Serves everything.
    Healthy,
    /// Serves, with less.
    Degraded,
    /// Does not serve.
    Error,
    /// Not asked, because it failed too often.
    CircuitOpen,
    /// Never asked, or too long ago.
    Unknown,
}

impl Status {
    /// True if the front end has to say so.
    pub(crate) fn is_fault(self) -> bool {
        matches!(self, Self::Degraded | Self::Error | Self::CircuitOpen)
    }

    /// True if the service does not serve.
    pub(crate) fn is_failed(self) -> bool {
        matches!(self, Self::Error | Self::CircuitOpen)
    }
}

/// How the shared store does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RedisConnection {
    /// It answers; also with the embedded store alone.
    Ok,
    /// It was asked and failed.
    Error,
    /// It is not asked: its breaker is open.
    Unavailable,
}

/// One service.
pub(crate) struct Entry {
    /// With underscores.
    pub(crate) name: &'static str,
    /// The login of every user depends on it.
    pub(crate) critical: bool,
    /// Without credentials.
    pub(crate) url: String,
    /// Where it listens.
    pub(crate) port: u16,
    /// What the front end is told.
    pub(crate) status: Status,
    /// How it was found.
    pub(crate) check: Check,
}

/// The last look at a service.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Check {
    /// Of the last probe; none for this service itself.
    pub(crate) response_time_ms: Option<f64>,
    /// Failures in a row.
    pub(crate) error_count: u32,
    /// RFC 3339.
    pub(crate) last_check: Option<Time>,
    /// What the last probe failed with.
    pub(crate) error_message: Option<String>,
}

/// One entry of `services` in the answers.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ServiceReport {
    status: Status,
    #[serde(flatten)]
    check: Check,
}

/// One entry of `circuit_breakers` in the answers.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct BreakerReport {
    state: &'static str,
    failures: u32,
    opened_at: Option<Time>,
    retry_at: Option<Time>,
}

/// Values by name, in order; written as one JSON object.
pub(crate) struct Named<'a, T>(Vec<(&'a str, T)>);

impl<'a, T> FromIterator<(&'a str, T)> for Named<'a, T> {
    fn from_iter<I: IntoIterator<Item = (&'a str, T)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
    }
}

impl<T: Serialize> Serialize for Named<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// The five services, and Redis, as one picture.
pub(crate) struct Picture {
    /// In the order of [`SERVICES`].
    pub(crate) entries: Vec<Entry>,
    /// The shared store.
    pub(crate) redis: RedisConnection,
    breakers: Vec<Breaker>,
}

impl Picture {
    /// Puts the facts together.
    pub(crate) fn of(facts: Facts) -> Self {
        let redis = redis_connection(&facts);
        let entries = SERVICES
            .iter()
            .map(|&(name, critical)| {
                if name == OWN_NAME {
                    own_entry(&facts, redis, critical)
                } else {
                    peer_entry(&facts, name, critical)
                }
            })
            .collect();
        Self {
            entries,
            redis,
            breakers: facts.breakers,
        }
    }

    /// True if the front end has to switch to degraded mode.
    pub(crate) fn degraded(&self) -> bool {
        self.redis != RedisConnection::Ok
            || self.entries.iter().any(|entry| entry.status.is_fault())
    }

    /// What the whole is called: a fault outweighs what is not known.
    pub(crate) fn overall(&self) -> &'static str {
        if self.degraded() {
            "degraded"
        } else if self.count(|status| status == Status::Unknown) > 0 {
            "unknown"
        } else {
            "healthy"
        }
    }

    /// How many services have such a status.
    pub(crate) fn count(&self, wanted: impl Fn(Status) -> bool) -> usize {
        self.entries
            .iter()
            .filter(|entry| wanted(entry.status))
            .count()
    }

    /// The status of one service.
    pub(crate) fn status_of(&self, name: &str) -> Status {
        self.entries
            .iter()
            .find(|entry| entry.name == name)
            .map_or(Status::Unknown, |entry| entry.status)
    }

    /// `services` of the answers, by name.
    pub(crate) fn services(&self) -> Named<'static, ServiceReport> {
        let report = |entry: &Entry| ServiceReport {
            status: entry.status,
            check: entry.check.clone(),
        };
        self.entries
            .iter()
            .map(|entry| (entry.name, report(entry)))
            .collect()
    }

    /// `circuit_breakers` of the answers, by name.
    pub(crate) fn circuit_breakers(&self) -> Named<'_, BreakerReport> {
        let report = |breaker: &Breaker| BreakerReport {
            state: word(breaker.state),
            failures: breaker.failures,
            opened_at: breaker.opened_at.map(Time),
            retry_at: breaker.retry_at.map(Time),
        };
        self.breakers
            .iter()
            .map(|breaker| (breaker.name.as_str(), report(breaker)))
            .collect()
    }

    /// The state of each breaker in one word, by name.
    pub(crate) fn breaker_states(&self) -> Named<'_, &'static str> {
        self.breakers
            .iter()
            .map(|breaker| (breaker.name.as_str(), word(breaker.state)))
            .collect()
    }

    /// How often a breaker has opened since the host started.
    pub(crate) fn activations(&self) -> u64 {
        self.breakers
            .iter()
            .fold(0, |sum, breaker| sum.saturating_add(breaker.activations))
    }
}

fn word(state: State) -> &'static str {
    match state {
        State::Closed => "closed",
        State::Open => "open",
        State::HalfOpen => "half_open",
    }
}

fn breaker_state(facts: &Facts, name: &str) -> State {
    facts
        .breakers
        .iter()
        .find(|breaker| breaker.name == name)
        .map_or(State::Closed, |breaker| breaker.state)
}

fn redis_connection(facts: &Facts) -> RedisConnection {
    match facts.redis {
        Reachability::Connected | Reachability::NotConfigured => RedisConnection::Ok,
        Reachability::Disconnected if breaker_state(facts, "redis") == State::Open => {
            RedisConnection::Unavailable
        }
        Reachability::Disconnected => RedisConnection::Error,
    }
}

fn own_entry(facts: &Facts, redis: RedisConnection, critical: bool) -> Entry {
    let (status, error_message) = if !facts.ready {
        (Status::Error, Some("no usable JWT secret is loaded"))
    } else if redis != RedisConnection::Ok {
        (Status::Degraded, Some("Redis cannot be reached"))
    } else {
        (Status::Healthy, None)
    };
    Entry {
        name: OWN_NAME,
        critical,
        url: format!("http://127.0.0.1:{}", facts.port),
        port: facts.port,
        status,
        check: Check {
            response_time_ms: None,
            error_count: 0,
            last_check: Some(Time(facts.now)),
            error_message: error_message.map(str::to_owned),
        },
    }
}

fn peer_entry(facts: &Facts, name: &'static str, critical: bool) -> Entry {
    let Some(peer) = facts.peers.iter().find(|peer| peer.name == name) else {
        let check = Check {
            response_time_ms: None,
            error_count: 0,
            last_check: None,
            error_message: None,
        };
        return Entry {
            name,
            critical,
            url: String::new(),
            port: 0,
            status: Status::Unknown,
            check,
        };
    };
    Entry {
        name,
        critical,
        url: peer.url.clone(),
        port: peer.port,
        status: peer_status(peer, breaker_state(facts, name), facts.now),
        check: Check {
            response_time_ms: peer.response_time_ms.map(two_decimals),
            error_count: peer.error_count,
            last_check: peer.last_check.map(Time),
            error_message: peer.error_message.clone(),
        },
    }
}

fn two_decimals(milliseconds: f64) -> f64 {
    (milliseconds * 100.0).round() / 100.0
}

/// An open breaker outweighs an old result, and an old result outweighs nothing.
fn peer_status(peer: &Peer, breaker: State, now: u64) -> Status {
    match (breaker, peer.status) {
        (State::Open, _) | (State::Closed, Probed::CircuitOpen) => Status::CircuitOpen,
        (State::HalfOpen, _) => Status::Degraded,
        _ if peer
            .last_check
            .is_none_or(|checked| checked.saturating_add(FRESH) < now) =>
        {
            Status::Unknown
        }
        (State::Closed, Probed::Healthy) => Status::Healthy,
        (State::Closed, Probed::Degraded) => Status::Degraded,
        (State::Closed, Probed::Error) => Status::Error,
        (State::Closed, Probed::Unknown) => Status::Unknown,
    }
}
