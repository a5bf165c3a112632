//! The wall clock, handed to whatever judges times, so that tests can fix it. It
//! must not be used to measure durations.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Tells the time in UTC. Clones of a fixed clock share their hands.
#[derive(Debug, Clone, Default)]
pub struct Clock(Option<Arc<AtomicU64>>);

impl Clock {
    /// The system's clock.
    pub fn system() -> Clock {
        Clock(None)
    }

    /// A clock that stands at `seconds` until it is set.
    pub fn fixed(seconds: u64) -> Clock {
        Clock(Some(Arc::new(AtomicU64::new(seconds.saturating_mul(1000)))))
    }

    /// Sets a fixed clock to `seconds`; the system's clock stays as it is.
    pub fn set(&self, seconds: u64) {
        if let Some(hands) = &self.0 {
            hands.store(seconds.saturating_mul(1000), Ordering::SeqCst);
        }
    }

    /// True if it stands until it is set.
    pub fn is_fixed(&self) -> bool {
        self.0.is_some()
    }

    /// Unix seconds.
    pub fn now(&self) -> u64 {
        self.millis() / 1000
    }

    /// Unix milliseconds.
    pub fn millis(&self) -> u64 {
        u64::try_from(self.since_1970().as_millis()).unwrap_or(u64::MAX)
    }

    /// Time since 1970, as finely as the system tells it.
    pub fn since_1970(&self) -> Duration {
        match &self.0 {
            Some(hands) => Duration::from_millis(hands.load(Ordering::SeqCst)),
            // A clock before 1970 is a broken machine; 0 makes every token young
            // rather than the host fall over.
            None => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
        }
    }
}

/// RFC 3339 in UTC, whole seconds, ending in `Z`.
pub fn timestamp(at: OffsetDateTime) -> String {
    at.replace_nanosecond(0)
        .unwrap_or(at)
        .format(&Rfc3339)
        .unwrap_or_default()
}
