//! `wit/breakers.wit`: the breakers of this host, as they are now.

use std::time::Duration;

use tokio::time::Instant;

use super::Context;
use crate::bindings::lockgate::plugin::breakers::{Breaker, Host, State};
use crate::breaker::{self, Policy, Position};

impl Host for Context {
    fn snapshot(&mut self) -> wasmtime::Result<Vec<Breaker>> {
        self.enter()?;
        let state = self.state();
        // The embedded store has no breaker: it reads as one that never opens.
        let redis = state.redis().map_or_else(
            || breaker::Breaker::new(Policy::REDIS),
            |redis| redis.breaker(),
        );
        let mut breakers = state.peers().breakers();
        breakers.push(("redis".to_owned(), redis));
        breakers.sort_by(|(left, _), (right, _)| left.cmp(right));
        let millis = state.clock().millis();
        let now = Instant::now();
        Ok(breakers
            .into_iter()
            .map(|(name, breaker)| view(name, &breaker, now, millis))
            .collect())
    }
}

/// `now` and `millis` (unix) are the same moment.
fn view(name: String, breaker: &breaker::Breaker, now: Instant, millis: u64) -> Breaker {
    let length = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let before = |time| millis.saturating_sub(length(time)) / 1000;
    let after = |time| millis.saturating_add(length(time)) / 1000;
    Breaker {
        name,
        state: match breaker.position() {
            Position::Closed => State::Closed,
            Position::Open => State::Open,
            Position::HalfOpen => State::HalfOpen,
        },
        failures: breaker.failures(),
        opened_at: breaker.opened(now).map(before),
        retry_at: breaker.retry(now).map(after),
        activations: breaker.activations(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn times_are_told_by_the_wall_clock() {
        let mut breaker = breaker::Breaker::new(Policy::PEER);
        let closed = view("redis".into(), &breaker, Instant::now(), 1_000_000);
        assert_eq!((closed.state, closed.failures), (State::Closed, 0));
        assert_eq!((closed.opened_at, closed.retry_at), (None, None));
        for _ in 0..5 {
            breaker.failure(Instant::now());
        }
        tokio::time::advance(Duration::from_secs(20)).await;
        let open = view("redis".into(), &breaker, Instant::now(), 1_020_000);
        assert_eq!(
            (open.state, open.failures, open.activations),
            (State::Open, 5, 1)
        );
        assert_eq!((open.opened_at, open.retry_at), (Some(1_000), Some(1_060)));
        tokio::time::advance(Duration::from_secs(40)).await;
        assert!(breaker.permit(Instant::now()));
        let trial = view("redis".into(), &breaker, Instant::now(), 1_060_000);
        assert_eq!(trial.state, State::HalfOpen);
        assert_eq!((trial.opened_at, trial.retry_at), (Some(1_000), None));
    }
}
