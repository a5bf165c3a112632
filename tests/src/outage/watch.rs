//! Looks at a host again and again, and notes when its answers begin and cease to say
//! that they are degraded, and when the breaker before Redis moves.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::host::{Host, Service};
use crate::measure::link::{Link, Shot};
use crate::tokens::User;

/// Services that are looked at, in the order of their ports.
pub(super) const LOOKED_AT: [Service; 3] = [Service::Jwt, Service::Session, Service::Fallback];

/// Pause between two looks at a service.
const PAUSE: Duration = Duration::from_millis(5);

/// Pause between two looks at the breaker.
const BREAKER_PAUSE: Duration = Duration::from_millis(10);

/// What the breaker's gauge says when it is open.
const OPEN: &str = "2";

#[derive(Debug, Default)]
struct Seen {
    /// When answers of a service changed to or from degraded.
    turns: Vec<(Service, Instant, bool)>,
    /// When the breaker moved, and its new position.
    moves: Vec<(Instant, String)>,
}

/// What was seen so far. Dropping it ends the looking.
#[derive(Debug)]
pub(super) struct Watch {
    seen: Arc<Mutex<Seen>>,
    _looking: JoinSet<()>,
}

impl Watch {
    /// Begins to look.
    pub(super) fn start(host: &Host) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let mut looking = JoinSet::new();
        let token = host.tokens.access(&User::new(6_999));
        for service in LOOKED_AT {
            let shot = match service {
                Service::Jwt => Shot::get("/api/v1/auth/verify-token").bearer(&token),
                Service::Session => Shot::get("/api/v1/session/validate").bearer(&token),
                // Its sessions say degraded at all times.
                _ => Shot::get("/health"),
            };
            let link = Link::new(host.port(service));
            looking.spawn(look(service, shot, link, Arc::clone(&seen)));
        }
        let link = Link::new(host.admin_port());
        looking.spawn(look_at_breaker(link, Arc::clone(&seen)));
        Self {
            seen,
            _looking: looking,
        }
    }

    /// How long after a time the first degraded answer of each service came.
    pub(super) fn degraded_after(&self, since: Instant) -> Vec<(Service, Option<Duration>)> {
        let seen = lock(&self.seen);
        let first = |service: Service| {
            let mut turns = seen.turns.iter();
            let turn = turns.find(|turn| turn.0 == service && turn.1 >= since && turn.2);
            (service, turn.map(|turn| turn.1 - since))
        };
        LOOKED_AT.into_iter().map(first).collect()
    }

    /// How long after a time each service ceased for good to be degraded; none if it is
    /// degraded now.
    pub(super) fn well_after(&self, since: Instant) -> Vec<(Service, Option<Duration>)> {
        let seen = lock(&self.seen);
        let last = |service: Service| {
            let turn = seen.turns.iter().rev().find(|turn| turn.0 == service);
            let well = turn.filter(|turn| !turn.2);
            (
                service,
                well.map(|turn| turn.1.saturating_duration_since(since)),
            )
        };
        LOOKED_AT.into_iter().map(last).collect()
    }

    /// Every service says that nothing is amiss.
    pub(super) fn is_well(&self) -> bool {
        let services = self.well_after(Instant::now());
        services.iter().all(|(_, well)| well.is_some())
    }

    /// How often the answers of the services changed after a time.
    pub(super) fn turns(&self, since: Instant) -> usize {
        let seen = lock(&self.seen);
        seen.turns.iter().filter(|turn| turn.1 >= since).count()
    }

    /// When the breaker was first seen open after a time.
    pub(super) fn opened_after(&self, since: Instant) -> Option<Duration> {
        let seen = lock(&self.seen);
        let mut moves = seen.moves.iter();
        let opened = moves.find(|(at, position)| *at >= since && position == OPEN);
        opened.map(|(at, _)| *at - since)
    }

    /// How often the breaker moved after a time, as far as it was seen.
    pub(super) fn moves(&self, since: Instant) -> usize {
        let seen = lock(&self.seen);
        seen.moves.iter().filter(|(at, _)| *at >= since).count()
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn look(service: Service, shot: Shot, mut link: Link, seen: Arc<Mutex<Seen>>) {
    let mut before = None;
    loop {
        // Wrong answers are counted by the load.
        if let Ok(answer) = link.exchange(&shot, "watch").await {
            let degraded = answer.text().contains("\"degraded\":true");
            if before != Some(degraded) {
                lock(&seen).turns.push((service, Instant::now(), degraded));
                before = Some(degraded);
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn look_at_breaker(mut link: Link, seen: Arc<Mutex<Seen>>) {
    let shot = Shot::get("/metrics");
    let mut before = None;
    loop {
        if let Ok(answer) = link.exchange(&shot, "watch").await
            && let Some(position) = position(&answer.text())
            && before.as_deref() != Some(position)
        {
            if before.is_some() {
                lock(&seen)
                    .moves
                    .push((Instant::now(), position.to_owned()));
            }
            before = Some(position.to_owned());
        }
        tokio::time::sleep(BREAKER_PAUSE).await;
    }
}

/// Where the breaker before Redis stands, by the metrics.
fn position(metrics: &str) -> Option<&str> {
    let name = "lockgate_breaker_state{name=\"redis\"} ";
    metrics.lines().find_map(|line| line.strip_prefix(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_breaker_of_redis_is_found() {
        let metrics = "lockgate_breaker_state{name=\"peer\"} 2\n\
                       lockgate_breaker_state{name=\"redis\"} 1\n";
        assert_eq!(position(metrics), Some("1"));
        assert_eq!(position("other 1\n"), None);
    }
}
