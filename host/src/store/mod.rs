//! The shared key-value store: one trait, two real back ends. It knows keys,
//! bytes and times to live; what they mean is decided above.

use std::fmt;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use metrics::Histogram;
use tokio::time::Instant;

#[cfg(test)]
pub(crate) mod away;
pub mod embedded;
pub mod file;
pub mod overlay;
pub mod redis;

/// Why a command did nothing, or why it is not known whether it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not reachable, too slow, or in no state to serve. A write may have happened.
    #[error("the store cannot be reached")]
    Unavailable,
    /// The server is there and does not let this user do it.
    #[error("the store does not permit it")]
    Denied,
    /// The key holds another type of value.
    #[error("the key holds another type of value")]
    WrongType,
    /// The value grew over the store's limit.
    #[error("the value is too large")]
    TooLarge,
}

impl Error {
    /// One word for traces.
    pub fn kind(self) -> &'static str {
        match self {
            Error::Unavailable => "unavailable",
            Error::Denied => "denied",
            Error::WrongType => "wrong_type",
            Error::TooLarge => "too_large",
        }
    }
}

/// When [`Store::set`] writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// In any case.
    Always,
    /// Only if the key is missing; exactly one of many callers succeeds.
    IfAbsent,
}

/// Short for what every command returns.
pub type Result<T> = std::result::Result<T, Error>;

/// A key-value store with times to live, in seconds, of at least 1. Every command
/// is atomic.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
    /// The value, or none if the key is missing or has ended.
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>>;

    /// Several values in one round trip, in the order of the keys. A key of another
    /// type counts as missing.
    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>>;

    /// Reads and deletes.
    async fn take(&self, key: &str) -> Result<Option<Vec<u8>>>;

    /// Writes. False: the condition kept it from writing.
    async fn set(&self, key: &str, value: &[u8], ttl: u32, condition: Condition) -> Result<bool>;

    /// Writes only if the key holds `expected`. False: it does not.
    async fn compare_and_set(
        &self,
        key: &str,
        expected: &[u8],
        value: &[u8],
        ttl: u32,
    ) -> Result<bool>;

    /// Deletes keys of any type. The number deleted.
    async fn delete(&self, keys: &[String]) -> Result<u32>;

    /// Sets the time to live. False: the key is missing.
    async fn expire(&self, key: &str, ttl: u32) -> Result<bool>;

    /// Adds to an integer, from 0 if missing; only the first one sets the time to
    /// live. A value that is no integer, or an overflow, is [`Error::WrongType`].
    async fn increment(&self, key: &str, by: i64, ttl: u32) -> Result<i64>;

    /// Adds a member and restarts the time to live of the set. False: it was there.
    async fn set_add(&self, key: &str, member: &str, ttl: u32) -> Result<bool>;

    /// Removes a member. False: it was not there.
    async fn set_remove(&self, key: &str, member: &str) -> Result<bool>;

    /// True if the set has the member.
    async fn set_contains(&self, key: &str, member: &str) -> Result<bool>;

    /// All members that are UTF-8, in no order.
    async fn set_members(&self, key: &str) -> Result<Vec<String>>;

    /// Tells all hosts: publishes on `channel` and appends to `stream`. With a store
    /// that no other host shares there is nobody to tell, and it succeeds.
    async fn announce(&self, channel: &str, stream: &str, payload: &str) -> Result<()>;
}

/// A store whose commands may together take a limited time: what one request may
/// spend on it. When it is spent, every command fails at once.
#[derive(Debug)]
pub struct Budgeted<'a> {
    store: &'a dyn Store,
    left: &'a Budget,
}

/// The time that is left.
#[derive(Debug)]
pub struct Budget(Mutex<Duration>);

impl Budget {
    /// A full budget.
    pub fn new(total: Duration) -> Budget {
        Budget(Mutex::new(total))
    }

    /// Fills it again.
    pub fn reset(&self, total: Duration) {
        *self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = total;
    }

    fn left(&self) -> Duration {
        *self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn spend(&self, time: Duration) {
        let mut left = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        *left = left.saturating_sub(time);
    }

    /// The store, seen through this budget.
    pub fn guard<'a>(&'a self, store: &'a dyn Store) -> Budgeted<'a> {
        Budgeted { store, left: self }
    }
}

/// Where the times of one operation are kept.
macro_rules! seconds {
    ($operation:literal) => {{
        static SECONDS: LazyLock<Histogram> = LazyLock::new(
        || metrics::histogram!("lockgate_store_seconds", "operation" => $operation),
        );
        &SECONDS
    }};
}

impl Budgeted<'_> {
    async fn within<T>(
        &self,
        seconds: &Histogram,
        command: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let left = self.left.left();
        if left.is_zero() {
            return Err(Error::Unavailable);
        }
        let start = Instant::now();
        let result = tokio::time::timeout(left, command)
            .await
            .unwrap_or(Err(Error::Unavailable));
        let took = start.elapsed();
        self.left.spend(took);
        seconds.record(took.as_secs_f64());
        result
    }
}

#[async_trait]
impl Store for Budgeted<'_> {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.within(seconds!("get"), self.store.get(key)).await
    }

    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>> {
        self.within(seconds!("get_many"), self.store.get_many(keys))
            .await
    }

    async fn take(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.within(seconds!("take"), self.store.take(key)).await
    }

    async fn set(&self, key: &str, value: &[u8], ttl: u32, condition: Condition) -> Result<bool> {
        self.within(seconds!("set"), self.store.set(key, value, ttl, condition))
            .await
    }

    async fn compare_and_set(
        &self,
        key: &str,
        expected: &[u8],
        value: &[u8],
        ttl: u32,
    ) -> Result<bool> {
        self.within(
            seconds!("compare_and_set"),
            self.store.compare_and_set(key, expected, value, ttl),
        )
        .await
    }

    async fn delete(&self, keys: &[String]) -> Result<u32> {
        self.within(seconds!("delete"), self.store.delete(keys))
            .await
    }

    async fn expire(&self, key: &str, ttl: u32) -> Result<bool> {
        self.within(seconds!("expire"), self.store.expire(key, ttl))
            .await
    }

    async fn increment(&self, key: &str, by: i64, ttl: u32) -> Result<i64> {
        self.within(seconds!("increment"), self.store.increment(key, by, ttl))
            .await
    }

    async fn set_add(&self, key: &str, member: &str, ttl: u32) -> Result<bool> {
        self.within(seconds!("set_add"), self.store.set_add(key, member, ttl))
            .await
    }

    async fn set_remove(&self, key: &str, member: &str) -> Result<bool> {
        self.within(seconds!("set_remove"), self.store.set_remove(key, member))
            .await
    }

    async fn set_contains(&self, key: &str, member: &str) -> Result<bool> {
        self.within(
            seconds!("set_contains"),
            self.store.set_contains(key, member),
        )
        .await
    }

    async fn set_members(&self, key: &str) -> Result<Vec<String>> {
        self.within(seconds!("set_members"), self.store.set_members(key))
            .await
    }

    async fn announce(&self, channel: &str, stream: &str, payload: &str) -> Result<()> {
        self.within(
            seconds!("announce"),
            self.store.announce(channel, stream, payload),
        )
        .await
    }
}

#[cfg(test)]
mod tests;
