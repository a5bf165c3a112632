//! What is known of something that this host asks: a breaker before it, whether the
//! last attempt succeeded, and one log line for each outage. It asks nothing itself.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::breaker::{Breaker, Policy, Position};

/// The state of one dependency.
#[derive(Debug)]
pub struct Dependency {
    /// As the log calls it.
    name: &'static str,
    health: Mutex<Health>,
}

#[derive(Debug)]
struct Health {
    breaker: Breaker,
    /// The last attempt succeeded.
    connected: bool,
    /// The fault that was logged last, so that one outage is one line.
    logged: Option<String>,
}

impl Dependency {
    /// Nothing is known of it yet.
    pub fn new(name: &'static str, policy: Policy) -> Dependency {
        Dependency {
            name,
            health: Mutex::new(Health {
                breaker: Breaker::new(policy),
                connected: false,
                logged: None,
            }),
        }
    }

    /// True if a request may ask it now: the breaker is closed.
    pub fn usable(&self) -> bool {
        self.health().breaker.position() == Position::Closed
    }

    /// True if the background probe may ask it now; only that tries an open breaker.
    pub fn may_probe(&self) -> bool {
        self.health().breaker.permit(Instant::now())
    }

    /// True if the last attempt succeeded and the breaker is closed.
    pub fn connected(&self) -> bool {
        let health = self.health();
        health.connected && health.breaker.position() == Position::Closed
    }

    /// The breaker as it is now.
    pub fn breaker(&self) -> Breaker {
        self.health().breaker.clone()
    }

    /// It answered.
    pub fn succeeded(&self) {
        if self.note_success() {
            tracing::info!(dependency = self.name, "reachable again");
        }
    }

    /// It did not, for this reason: words without addresses or credentials.
    pub fn failed(&self, fault: &str) {
        if self.note_failure(fault) {
            tracing::warn!(
                dependency = self.name,
                fault,
                "not usable, running degraded"
            );
        }
    }

    /// [`Dependency::succeeded`] for those who log in their own words. True: say so.
    pub fn note_success(&self) -> bool {
        let mut health = self.health();
        let before = health.breaker.position();
        health.breaker.success();
        if before == Position::Open {
            return false;
        }
        health.connected = true;
        health.logged.take().is_some()
    }

    /// [`Dependency::failed`] for those who log in their own words. True: say so.
    pub fn note_failure(&self, fault: &str) -> bool {
        let mut health = self.health();
        health.breaker.failure(Instant::now());
        health.connected = false;
        let new = health.logged.as_deref() != Some(fault);
        if new {
            health.logged = Some(fault.to_owned());
        }
        new
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_the_probe_tries_what_is_away() {
        let table = Dependency::new("table", Policy::TABLE);
        assert!(table.usable() && !table.connected());
        table.succeeded();
        assert!(table.connected());
        table.failed("no connection");
        assert!(table.usable() && !table.connected());
        for _ in 1..Policy::TABLE.failures {
            table.failed("no connection");
        }
        assert!(!table.usable() && !table.may_probe());
        tokio::time::advance(Policy::TABLE.rest).await;
        assert!(table.may_probe() && !table.usable());
        table.failed("no connection");
        assert!(!table.may_probe());
        tokio::time::advance(Policy::TABLE.rest).await;
        assert!(table.may_probe());
        table.succeeded();
        assert!(table.usable() && table.connected());
    }
}
