//! The head of every health answer. What else a service reports, it adds itself.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::answer::Answer;
use crate::clock::Time;
use crate::host::Host;
use crate::wit::peers::Reachability;

/// The head of a health answer; flatten it into a larger one.
#[derive(Debug, Clone, Serialize)]
pub struct Head {
    /// `healthy`, `degraded` or `error`.
    pub status: &'static str,
    /// What the service calls itself.
    pub service: String,
    /// Now.
    pub timestamp: Time,
    /// By name: `connected`, `disconnected` or `not_configured`.
    #[serde(serialize_with = "as_map")]
    pub dependencies: Vec<(String, &'static str)>,
    /// A configured dependency is away.
    pub degraded: bool,
}

impl Head {
    /// 503 if the service cannot serve at all, else 200.
    #[must_use]
    pub fn http_status(&self) -> u16 {
        if self.status == "error" { 503 } else { 200 }
    }
}

/// What is known of these dependencies; it waits for none of them. Without a usable
/// secret the status is `error`.
pub fn head<H: Host>(host: &H, dependencies: &[&str]) -> Head {
    let known: Vec<(String, Reachability)> = dependencies
        .iter()
        .map(|name| ((*name).to_owned(), host.dependency(name)))
        .collect();
    let degraded = known
        .iter()
        .any(|(_, state)| *state == Reachability::Disconnected);
    let status = match (host.jwt_ready(), degraded) {
        (false, _) => "error",
        (true, true) => "degraded",
        (true, false) => "healthy",
    };
    Head {
        status,
        service: host.setting("SERVICE_NAME").unwrap_or_default(),
        timestamp: Time(host.now()),
        dependencies: known
            .into_iter()
            .map(|(name, state)| (name, word(state)))
            .collect(),
        degraded,
    }
}

/// `GET /health`: the head alone.
#[must_use]
pub fn answer(head: &Head) -> Answer {
    Answer::json(head.http_status(), head)
}

/// True if Redis is configured and known to be away.
pub fn redis_away<H: Host>(host: &H) -> bool {
    host.dependency("redis") == Reachability::Disconnected
}

/// `connected`, `disconnected` or `not_configured`.
#[must_use]
pub fn word(state: Reachability) -> &'static str {
    match state {
        Reachability::Connected => "connected",
        Reachability::Disconnected => "disconnected",
        Reachability::NotConfigured => "not_configured",
    }
}

fn as_map<S: Serializer>(
    pairs: &[(String, &'static str)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(pairs.len()))?;
    for (name, state) in pairs {
        map.serialize_entry(name, state)?;
    }
    map.end()
}
