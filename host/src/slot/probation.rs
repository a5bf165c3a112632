//! The trial of a new revision: its first requests decide whether it stays. A pure
//! count with a clock that is handed in; who is told the verdict acts on it.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::config::Probation as Settings;

/// What one more request says of a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing new: the trial goes on, or it ended before.
    Nothing,
    /// The trial has just ended well.
    Passed,
    /// The trial has just ended badly, after this many failures in this many requests.
    Failed { failures: u32, requests: u32 },
}

/// One revision's trial. Each verdict but [`Verdict::Nothing`] is given once.
#[derive(Debug)]
pub(super) struct Probation {
    settings: Settings,
    began: Instant,
    count: Mutex<Count>,
}

#[derive(Debug, Default)]
struct Count {
    requests: u32,
    failures: u32,
    over: bool,
}

impl Probation {
    pub(super) fn new(settings: Settings, now: Instant) -> Probation {
        Probation {
            settings,
            began: now,
            count: Mutex::default(),
        }
    }

    /// Counts one request. What fails after the trial is no longer its matter.
    pub(super) fn note(&self, failed: bool, now: Instant) -> Verdict {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        if count.over {
            return Verdict::Nothing;
        }
        count.requests += 1;
        count.failures += u32::from(failed);
        let enough = count.requests >= self.settings.requests
            && now.duration_since(self.began) >= self.settings.time;
        if count.failures >= self.settings.failures {
            count.over = true;
            Verdict::Failed {
                failures: count.failures,
                requests: count.requests,
            }
        } else if enough {
            count.over = true;
            Verdict::Passed
        } else {
            Verdict::Nothing
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn settings() -> Settings {
        Settings {
            requests: 4,
            time: Duration::from_secs(10),
            failures: 2,
        }
    }

    #[test]
    fn enough_failures_end_it_once() {
        let now = Instant::now();
        let trial = Probation::new(settings(), now);
        assert_eq!(trial.note(true, now), Verdict::Nothing);
        assert_eq!(trial.note(false, now), Verdict::Nothing);
        let failed = Verdict::Failed {
            failures: 2,
            requests: 3,
        };
        assert_eq!(trial.note(true, now), failed);
        assert_eq!(trial.note(true, now), Verdict::Nothing);
    }

    #[test]
    fn it_takes_both_the_requests_and_the_time() {
        let began = Instant::now();
        let later = began + Duration::from_secs(10);
        let trial = Probation::new(settings(), began);
        for _ in 0..10 {
            assert_eq!(trial.note(false, began), Verdict::Nothing);
        }
        assert_eq!(trial.note(false, later), Verdict::Passed);
        assert_eq!(trial.note(true, later), Verdict::Nothing);
        assert_eq!(trial.note(true, later), Verdict::Nothing);
        let quiet = Probation::new(settings(), began);
        assert_eq!(quiet.note(false, later), Verdict::Nothing);
    }
}
