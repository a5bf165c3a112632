//! Rest for a revision whose calls run past their time again and again: it is left
//! alone for a while, then one request at a time tries it. A pure count with a clock
//! that is handed in; it starts no call and gives no answer.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::config::Quarantine as Settings;

/// May a request go to the revision?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// Yes.
    Open,
    /// Yes, as the one that finds out whether it works again. [`Quarantine::tried`]
    /// must follow.
    Probe,
    /// Not before this time has passed.
    Resting(Duration),
}

/// What has just changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Nothing,
    Began,
    Ended,
}

#[derive(Debug)]
pub(super) struct Quarantine {
    settings: Settings,
    /// Without it every request would take the lock.
    closed: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The latest ones, the oldest first.
    timeouts: VecDeque<Instant>,
    state: State,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    Resting {
        until: Instant,
    },
    Probing,
}

impl Quarantine {
    pub(super) fn new(settings: Settings) -> Quarantine {
        Quarantine {
            settings,
            closed: AtomicBool::new(false),
            inner: Mutex::default(),
        }
    }

    /// True from the timeout that was too many until a request shows that it works.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    pub(super) fn admit(&self, now: Instant) -> Entry {
        if !self.is_closed() {
            return Entry::Open;
        }
        let mut inner = self.inner();
        match inner.state {
            State::Open => Entry::Open,
            State::Resting { until } if now >= until => {
                inner.state = State::Probing;
                Entry::Probe
            }
            State::Resting { until } => Entry::Resting(until.duration_since(now)),
            // It takes no longer than a call may.
            State::Probing => Entry::Resting(Duration::from_secs(1)),
        }
    }

    /// A call ran past its time.
    pub(super) fn timed_out(&self, now: Instant) -> Change {
        let mut inner = self.inner();
        if inner.state != State::Open {
            return Change::Nothing;
        }
        let window = self.settings.window;
        inner
            .timeouts
            .retain(|at| now.saturating_duration_since(*at) < window);
        inner.timeouts.push_back(now);
        if inner.timeouts.len() < self.settings.timeouts {
            return Change::Nothing;
        }
        self.rest(&mut inner, now);
        Change::Began
    }

    /// The end of a probe. None: nobody knows what came of it.
    pub(super) fn tried(&self, timed_out: Option<bool>, now: Instant) -> Change {
        let mut inner = self.inner();
        match timed_out {
            Some(true) => self.rest(&mut inner, now),
            Some(false) => {
                *inner = Inner::default();
                self.closed.store(false, Ordering::Relaxed);
                return Change::Ended;
            }
            None => inner.state = State::Resting { until: now },
        }
        Change::Nothing
    }

    fn rest(&self, inner: &mut Inner, now: Instant) {
        inner.timeouts.clear();
        inner.state = State::Resting {
            until: now + self.settings.rest,
        };
        self.closed.store(true, Ordering::Relaxed);
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn quarantine() -> Quarantine {
        Quarantine::new(Settings {
            timeouts: 3,
            window: 10 * SECOND,
            rest: 5 * SECOND,
        })
    }

    #[test]
    fn so_many_timeouts_in_the_window_begin_it() {
        let (began, quarantine) = (Instant::now(), quarantine());
        for second in [0, 6, 12] {
            let now = began + second * SECOND;
            assert_eq!(quarantine.timed_out(now), Change::Nothing);
            assert_eq!(quarantine.admit(now), Entry::Open);
        }
        let now = began + 13 * SECOND;
        assert_eq!(quarantine.timed_out(now), Change::Began);
        assert_eq!(quarantine.admit(now), Entry::Resting(5 * SECOND));
        // Calls that had begun before end now.
        assert_eq!(quarantine.timed_out(now + SECOND), Change::Nothing);
        assert_eq!(
            quarantine.admit(now + SECOND),
            Entry::Resting(4 * SECOND),
            "they make it no longer"
        );
    }

    #[test]
    fn after_the_rest_one_at_a_time_tries() {
        let quarantine = quarantine();
        let mut now = Instant::now();
        for _ in 0..3 {
            quarantine.timed_out(now);
        }
        for outcome in [Some(true), Some(true), None] {
            now += 5 * SECOND;
            assert_eq!(quarantine.admit(now), Entry::Probe);
            assert_eq!(quarantine.admit(now), Entry::Resting(SECOND));
            assert_eq!(quarantine.tried(outcome, now), Change::Nothing);
            assert!(quarantine.is_closed());
        }
        assert_eq!(quarantine.admit(now), Entry::Probe, "nobody knew");
        assert_eq!(quarantine.tried(Some(false), now), Change::Ended);
        assert_eq!(quarantine.admit(now), Entry::Open);
        assert_eq!(quarantine.timed_out(now), Change::Nothing, "it starts anew");
    }
}
