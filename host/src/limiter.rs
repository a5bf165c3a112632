//! Rate limits by key, per service. They outlive a swap. Keys are kept as hashes
//! only, and memory is bounded whatever a plugin or a crowd of clients does.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};

/// Kinds of buckets that one service may have.
const MAX_KINDS: usize = 32;
/// Keys of one kind that have a bucket of their own.
const MAX_KEYS: usize = 16_384;
/// Shared buckets for the keys of one kind when it holds [`MAX_KEYS`].
const SHARED: u64 = 256;
/// Longest name of a bucket, bytes.
const MAX_NAME: usize = 64;
/// What is told to a caller who can never have one.
pub const NEVER: u32 = 60;

type Keyed<C> = RateLimiter<u64, DashMapStateStore<u64>, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// One kind of bucket: whose, its name, its size.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Kind {
    service: String,
    bucket: String,
    per_minute: NonZeroU32,
}

/// All buckets of this process. A bucket holds as many as may pass in a minute and
/// fills evenly.
#[derive(Debug)]
pub struct Limiter<C: Clock = DefaultClock> {
    clock: C,
    hasher: RandomState,
    kinds: Mutex<HashMap<Kind, Arc<Keyed<C>>>>,
}

impl Default for Limiter {
    fn default() -> Limiter {
        Limiter::new(DefaultClock::default())
    }
}

impl<C: Clock + Clone> Limiter<C> {
    /// Empty, on this clock.
    pub fn new(clock: C) -> Limiter<C> {
        Limiter {
            clock,
            hasher: RandomState::new(),
            kinds: Mutex::default(),
        }
    }

    /// Takes one from the bucket of `key`.
    ///
    /// # Errors
    /// The whole seconds until one is there again, at least 1. With `per_minute` 0, a
    /// name over 64 bytes, or more kinds of buckets than a service may have, nothing
    /// is ever there ([`NEVER`]).
    pub fn take(&self, service: &str, bucket: &str, key: &str, per_minute: u32) -> Result<(), u32> {
        let Some(per_minute) = NonZeroU32::new(per_minute) else {
            return Err(NEVER);
        };
        if bucket.len() > MAX_NAME {
            return Err(NEVER);
        }
        let Some(limiter) = self.kind(service, bucket, per_minute) else {
            tracing::warn!(
                service,
                "a rate limit was refused: the service has {MAX_KINDS} kinds of buckets already"
            );
            return Err(NEVER);
        };
        let key = self.place(&limiter, key);
        limiter.check_key(&key).map_err(|refused| {
            let wait = refused.wait_time_from(self.clock.now());
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            u32::try_from(seconds).unwrap_or(u32::MAX).max(1)
        })
    }

    /// Forgets the keys whose buckets are full again; run once a minute.
    pub fn prune(&self) {
        let kinds: Vec<_> = self.lock().values().map(Arc::clone).collect();
        for limiter in kinds {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
    }

    fn kind(&self, service: &str, bucket: &str, per_minute: NonZeroU32) -> Option<Arc<Keyed<C>>> {
        let kind = Kind {
            service: service.to_owned(),
            bucket: bucket.to_owned(),
            per_minute,
        };
        let mut kinds = self.lock();
        if let Some(limiter) = kinds.get(&kind) {
            return Some(Arc::clone(limiter));
        }
        let taken = kinds.keys().filter(|known| known.service == service);
        if taken.count() >= MAX_KINDS {
            return None;
        }
        let limiter = Arc::new(RateLimiter::new(
            Quota::per_minute(per_minute),
            DashMapStateStore::default(),
            self.clock.clone(),
        ));
        kinds.insert(kind, Arc::clone(&limiter));
        Some(limiter)
    }

    /// The bucket of the key. When there are too many keys, they share buckets
    /// rather than all pass or all be refused, until the next pruning.
    fn place(&self, limiter: &Keyed<C>, key: &str) -> u64 {
        let hash = self.hasher.hash_one(key);
        // The own buckets lie above the shared ones.
        if limiter.len() < MAX_KEYS {
            hash.saturating_add(SHARED)
        } else {
            hash % SHARED
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Kind, Arc<Keyed<C>>>> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use governor::clock::FakeRelativeClock;
    use std::time::Duration;

    fn limiter() -> (Limiter<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        (Limiter::new(clock.clone()), clock)
    }

    #[test]
    fn a_bucket_holds_a_minutes_worth_and_fills_evenly() {
        let (limiter, clock) = limiter();
        for _ in 0..10 {
            assert_eq!(limiter.take("s", "b", "k", 10), Ok(()));
        }
        assert_eq!(limiter.take("s", "b", "k", 10), Err(6));
        clock.advance(Duration::from_millis(5_500));
        assert_eq!(limiter.take("s", "b", "k", 10), Err(1));
        clock.advance(Duration::from_millis(500));
        assert_eq!(limiter.take("s", "b", "k", 10), Ok(()));
        assert_eq!(limiter.take("s", "b", "k", 10), Err(6));
    }

    #[test]
    fn keys_buckets_sizes_and_services_are_apart() {
        let (limiter, _) = limiter();
        assert_eq!(limiter.take("s", "b", "k", 1), Ok(()));
        assert_eq!(limiter.take("s", "b", "k", 1), Err(60));
        for (service, bucket, key, size) in [
            ("s", "b", "other", 1),
            ("s", "other", "k", 1),
            ("other", "b", "k", 1),
            ("s", "b", "k", 2),
        ] {
            assert_eq!(limiter.take(service, bucket, key, size), Ok(()));
        }
    }

    #[test]
    fn nothing_a_minute_is_always_refused() {
        let (limiter, clock) = limiter();
        assert_eq!(limiter.take("s", "b", "k", 0), Err(60));
        clock.advance(Duration::from_secs(3600));
        assert_eq!(limiter.take("s", "b", "k", 0), Err(60));
    }

    #[test]
    fn the_largest_bucket_works() {
        let (limiter, _) = limiter();
        assert_eq!(limiter.take("s", "b", "k", u32::MAX), Ok(()));
    }

    #[test]
    fn a_service_with_too_many_kinds_is_refused_and_others_are_not() {
        let (limiter, _) = limiter();
        for number in 0..MAX_KINDS {
            assert_eq!(limiter.take("s", &format!("b{number}"), "k", 5), Ok(()));
        }
        assert_eq!(limiter.take("s", "one more", "k", 5), Err(NEVER));
        assert_eq!(limiter.take("s", "b0", "k", 5), Ok(()));
        let long = "b".repeat(MAX_NAME + 1);
        assert_eq!(limiter.take("other", &long, "k", 5), Err(NEVER));
        assert_eq!(limiter.take("other", "one more", "k", 5), Ok(()));
    }

    #[test]
    fn a_crowd_of_keys_shares_buckets_until_the_pruning() {
        let (limiter, clock) = limiter();
        for number in 0..MAX_KEYS {
            assert_eq!(limiter.take("s", "b", &number.to_string(), 1), Ok(()));
        }
        let limiters: Vec<_> = limiter.lock().values().map(Arc::clone).collect();
        let passed = (0..2 * MAX_KEYS)
            .filter(|number| limiter.take("s", "b", &format!("x{number}"), 1).is_ok())
            .count();
        let shared = usize::try_from(SHARED).unwrap();
        assert!((1..=shared).contains(&passed), "{passed} passed");
        assert!(limiters.iter().all(|kind| kind.len() <= MAX_KEYS + shared));
        clock.advance(Duration::from_secs(121));
        limiter.prune();
        assert!(limiters.iter().all(|kind| kind.is_empty()));
    }
}
