//! A circuit breaker as a small state machine. Closed: traffic flows. Open: calls
//! are refused. It does no I/O, holds no lock and reads no clock.

use std::time::Duration;

use tokio::time::Instant;

/// When a breaker opens and closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Failures in a row that open it.
    pub failures: u32,
    /// How long it stays open before a trial call may pass.
    pub rest: Duration,
    /// Good trial calls in a row that close it.
    pub trials: u32,
}

impl Policy {
    /// In front of a peer service.
    pub const PEER: Policy = Policy {
        failures: 5,
        rest: Duration::from_secs(60),
        trials: 3,
    };

    /// In front of Redis: the first good answer of the PING that is sent each second
    /// closes it. The rest is a little shorter than that second, so that no PING is
    /// skipped for having come early.
    pub const REDIS: Policy = Policy {
        failures: 5,
        rest: Duration::from_millis(900),
        trials: 1,
    };

    /// In front of the users table and of the session normalizer's word on users, with
    /// a probe each second as for Redis. A silent one costs a request a whole second,
    /// so it opens sooner.
    pub const TABLE: Policy = Policy {
        failures: 3,
        ..Policy::REDIS
    };
}

/// What a breaker does with calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// Traffic flows.
    Closed,
    /// Calls are refused.
    Open,
    /// Trial calls pass.
    HalfOpen,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Closed,
    Open { since: Instant },
    HalfOpen { since: Instant, good: u32 },
}

/// One breaker.
#[derive(Debug, Clone)]
pub struct Breaker {
    policy: Policy,
    state: State,
    failures: u32,
    activations: u64,
}

impl Breaker {
    /// A closed breaker.
    pub fn new(policy: Policy) -> Breaker {
        Breaker {
            policy,
            state: State::Closed,
            failures: 0,
            activations: 0,
        }
    }

    /// True if a call may be made now. An open breaker that has rested becomes
    /// half open and lets it through as a trial.
    pub fn permit(&mut self, now: Instant) -> bool {
        if let State::Open { since } = self.state {
            if now.saturating_duration_since(since) < self.policy.rest {
                return false;
            }
            self.state = State::HalfOpen { since, good: 0 };
        }
        true
    }

    /// A call succeeded. The late answer of a call that was begun before the breaker
    /// opened is no trial and does not close it.
    pub fn success(&mut self) {
        match self.state {
            State::Closed => self.failures = 0,
            State::Open { .. } => {}
            State::HalfOpen { since, good } => {
                if good + 1 >= self.policy.trials {
                    self.state = State::Closed;
                    self.failures = 0;
                } else {
                    self.state = State::HalfOpen {
                        since,
                        good: good + 1,
                    };
                }
            }
        }
    }

    /// A call failed.
    pub fn failure(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        let trip = match self.state {
            State::Closed => self.failures >= self.policy.failures,
            State::Open { .. } => false,
            State::HalfOpen { .. } => true,
        };
        if trip {
            self.state = State::Open { since: now };
            self.activations += 1;
        }
    }

    /// What it does with calls; it does not change by being looked at.
    pub fn position(&self) -> Position {
        match self.state {
            State::Closed => Position::Closed,
            State::Open { .. } => Position::Open,
            State::HalfOpen { .. } => Position::HalfOpen,
        }
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// How often it has opened.
    pub fn activations(&self) -> u64 {
        self.activations
    }

    /// How long ago it opened, unless it is closed.
    pub fn opened(&self, now: Instant) -> Option<Duration> {
        match self.state {
            State::Closed => None,
            State::Open { since } | State::HalfOpen { since, .. } => {
                Some(now.saturating_duration_since(since))
            }
        }
    }

    /// How long until an open breaker lets a trial call through.
    pub fn retry(&self, now: Instant) -> Option<Duration> {
        match self.state {
            State::Open { since } => Some(
                self.policy
                    .rest
                    .saturating_sub(now.saturating_duration_since(since)),
            ),
            State::Closed | State::HalfOpen { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn opened() -> (Breaker, Instant) {
        let start = Instant::now();
        let mut breaker = Breaker::new(Policy::PEER);
        for _ in 0..5 {
            assert!(breaker.permit(start));
            breaker.failure(start);
        }
        (breaker, start)
    }

    #[test]
    fn five_failures_in_a_row_open_it() {
        let (breaker, now) = opened();
        assert_eq!(breaker.position(), Position::Open);
        assert_eq!(breaker.activations(), 1);
        assert_eq!(breaker.retry(now), Some(Duration::from_secs(60)));
    }

    #[test]
    fn a_success_between_starts_the_count_again() {
        let mut breaker = Breaker::new(Policy::PEER);
        for _ in 0..4 {
            breaker.failure(Instant::now());
        }
        breaker.success();
        for _ in 0..4 {
            breaker.failure(Instant::now());
        }
        assert_eq!(breaker.position(), Position::Closed);
    }

    #[test]
    fn it_rests_sixty_seconds_and_three_trials_close_it() {
        let (mut breaker, start) = opened();
        assert!(!breaker.permit(start + Duration::from_millis(59_999)));
        let now = start + Duration::from_secs(60);
        for trial in 0..3 {
            assert!(breaker.permit(now));
            assert_eq!(
                breaker.position(),
                Position::HalfOpen,
                "before trial {trial}"
            );
            breaker.success();
        }
        assert_eq!(breaker.position(), Position::Closed);
        assert_eq!(breaker.failures(), 0);
    }

    #[test]
    fn one_bad_trial_opens_it_again() {
        let (mut breaker, start) = opened();
        let now = start + Duration::from_secs(60);
        assert!(breaker.permit(now));
        breaker.success();
        breaker.failure(now);
        assert_eq!(breaker.position(), Position::Open);
        assert_eq!(breaker.activations(), 2);
        assert!(!breaker.permit(now));
    }

    #[test]
    fn a_late_success_does_not_close_an_open_one() {
        let (mut breaker, _) = opened();
        breaker.success();
        assert_eq!(breaker.position(), Position::Open);
    }

    proptest! {
        /// Whatever happens: open means at least five failures since the last good
        /// call, and a refused call never changes anything.
        #[test]
        fn invariants(steps in proptest::collection::vec((0u8..3, 0u64..40), 1..200)) {
            let start = Instant::now();
            let mut now = start;
            let mut breaker = Breaker::new(Policy::PEER);
            for (step, seconds) in steps {
                now += Duration::from_secs(seconds);
                let permitted = breaker.permit(now);
                prop_assert_eq!(permitted, breaker.position() != Position::Open);
                match step {
                    0 if permitted => breaker.success(),
                    1 if permitted => breaker.failure(now),
                    _ => {}
                }
                match breaker.position() {
                    Position::Closed => prop_assert!(breaker.failures() < 5),
                    Position::Open => {
                        prop_assert!(breaker.failures() >= 5);
                        prop_assert!(breaker.retry(now).is_some());
                    }
                    Position::HalfOpen => prop_assert!(breaker.opened(now).is_some()),
                }
            }
        }
    }
}
