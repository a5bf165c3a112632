//! Metrics that are states and not events: they are looked at when somebody asks, so
//! that no request pays for them.

use crate::breaker::{Breaker, Position};
use crate::slot::Slot;
use crate::state::State;

/// Brings the gauges up to date.
pub(super) fn refresh<'a>(slots: impl Iterator<Item = &'a Slot>, state: &State) {
    for slot in slots {
        let (service, load) = (slot.service().name.clone(), slot.load_report());
        let gauge = |name, value: usize| {
            metrics::gauge!(name, "service" => service.clone())
                .set(u32::try_from(value).unwrap_or(u32::MAX));
        };
        gauge("lockgate_requests_in_flight", load.in_flight);
        gauge("lockgate_requests_waiting", load.waiting);
        gauge("lockgate_slow_calls", load.slow);
    }
    let redis = state.redis().map(|redis| redis.breaker());
    let redis = redis.map(|breaker| ("redis".to_owned(), breaker));
    for (name, breaker) in state.peers().breakers().into_iter().chain(redis) {
        metrics::gauge!("lockgate_breaker_state", "name" => name).set(position(&breaker));
    }
}

/// 0 closed, 1 half open, 2 open.
fn position(breaker: &Breaker) -> f64 {
    match breaker.position() {
        Position::Closed => 0.0,
        Position::HalfOpen => 1.0,
        Position::Open => 2.0,
    }
}
