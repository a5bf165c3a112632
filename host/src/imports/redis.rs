//! `wit/redis.wit`: the shared store, as far as the service's grants reach. It
//! checks keys, sizes and rights; it does not know what the keys mean.

use super::Context;
use crate::bindings::lockgate::plugin::redis::{Condition, Error, Host};
use crate::deferred::Change;
use crate::store::{self, Store};

/// Longest key, bytes.
const MAX_KEY: usize = 512;
/// Most keys in one call.
const MAX_KEYS: usize = 64;

type Answer<T> = wasmtime::Result<Result<T, Error>>;

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Error {
        match error {
            store::Error::Unavailable | store::Error::Denied => Error::Unavailable,
            store::Error::WrongType => Error::WrongType,
            store::Error::TooLarge => Error::TooLarge,
        }
    }
}

/// True if one of the patterns covers the key: the key itself, or its beginning if
/// the pattern ends in `*`.
fn covers(patterns: &[String], key: &str) -> bool {
    patterns
        .iter()
        .any(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) => key.starts_with(prefix),
            None => key == pattern,
        })
}

impl Context {
    fn readable(&mut self, key: &str) -> Result<(), Error> {
        if key.len() > MAX_KEY {
            return Err(Error::TooLarge);
        }
        if !covers(&self.grants().redis_read, key) {
            self.denied("redis: reading this key");
            return Err(Error::Denied);
        }
        Ok(())
    }

    fn writable(&mut self, key: &str) -> Result<(), Error> {
        if key.len() > MAX_KEY {
            return Err(Error::TooLarge);
        }
        if !covers(&self.grants().redis_write, key) {
            self.denied("redis: writing this key");
            return Err(Error::Denied);
        }
        if !self.may_write() {
            return Err(Error::Denied);
        }
        Ok(())
    }

    /// Makes a change of the store. A service that ends logins must not leave half of one
    /// behind: what Redis misses of its changes is made when Redis is back, and while
    /// earlier ones wait, which would undo a later one, that waits behind them.
    async fn now_or_later<T>(
        &self,
        now: impl Future<Output = store::Result<T>>,
        change: impl FnOnce() -> Change,
    ) -> Result<T, Error> {
        let keeps = self.grants().revoke && self.overlay.is_none();
        let outcome = if keeps && self.state().defers() {
            Err(store::Error::Unavailable)
        } else {
            now.await
        };
        if keeps && matches!(outcome, Err(store::Error::Unavailable)) {
            self.state().defer(change()).await;
        }
        outcome.map_err(Error::from)
    }

    fn fits(&self, value: &[u8]) -> Result<(), Error> {
        if value.len() > self.service().limits.value {
            return Err(Error::TooLarge);
        }
        Ok(())
    }
}

/// Leaves the host function with the guest's error.
macro_rules! allow {
    ($check:expr) => {
        if let Err(error) = $check {
            return Ok(Err(error));
        }
    };
}

impl Host for Context {
    async fn get(&mut self, key: String) -> Answer<Option<Vec<u8>>> {
        self.enter()?;
        allow!(self.readable(&key));
        Ok(self.store().get(&key).await.map_err(Error::from))
    }

    async fn get_many(&mut self, keys: Vec<String>) -> Answer<Vec<Option<Vec<u8>>>> {
        self.enter()?;
        if keys.len() > MAX_KEYS {
            return Ok(Err(Error::TooLarge));
        }
        for key in &keys {
            allow!(self.readable(key));
        }
        Ok(self.store().get_many(&keys).await.map_err(Error::from))
    }

    async fn take(&mut self, key: String) -> Answer<Option<Vec<u8>>> {
        self.enter()?;
        allow!(self.readable(&key));
        allow!(self.writable(&key));
        Ok(self.store().take(&key).await.map_err(Error::from))
    }

    async fn set(
        &mut self,
        key: String,
        value: Vec<u8>,
        ttl: u32,
        condition: Condition,
    ) -> Answer<bool> {
        self.enter()?;
        allow!(self.writable(&key));
        allow!(self.fits(&value));
        let ttl = ttl.max(1);
        let stored = match condition {
            Condition::Always => store::Condition::Always,
            Condition::IfAbsent => store::Condition::IfAbsent,
        };
        let store = self.store();
        let now = store.set(&key, &value, ttl, stored);
        Ok(match condition {
            // Later it could replace something newer.
            Condition::Always => now.await.map_err(Error::from),
            Condition::IfAbsent => {
                let change = || Change::Create {
                    key: key.clone(),
                    value: value.clone(),
                    ttl,
                };
                self.now_or_later(now, change).await
            }
        })
    }

    async fn compare_and_set(
        &mut self,
        key: String,
        expected: Vec<u8>,
        value: Vec<u8>,
        ttl: u32,
    ) -> Answer<bool> {
        self.enter()?;
        allow!(self.writable(&key));
        allow!(self.fits(&expected));
        allow!(self.fits(&value));
        let done = self
            .store()
            .compare_and_set(&key, &expected, &value, ttl.max(1))
            .await;
        Ok(done.map_err(Error::from))
    }

    async fn delete(&mut self, keys: Vec<String>) -> Answer<u32> {
        self.enter()?;
        if keys.len() > MAX_KEYS {
            return Ok(Err(Error::TooLarge));
        }
        for key in &keys {
            allow!(self.writable(key));
        }
        let store = self.store();
        let change = || Change::Delete(keys.clone());
        Ok(self.now_or_later(store.delete(&keys), change).await)
    }

    async fn expire(&mut self, key: String, ttl: u32) -> Answer<bool> {
        self.enter()?;
        allow!(self.writable(&key));
        Ok(self
            .store()
            .expire(&key, ttl.max(1))
            .await
            .map_err(Error::from))
    }

    async fn increment(&mut self, key: String, by: i64, ttl: u32) -> Answer<i64> {
        self.enter()?;
        allow!(self.writable(&key));
        Ok(self
            .store()
            .increment(&key, by, ttl.max(1))
            .await
            .map_err(Error::from))
    }

    async fn set_add(&mut self, key: String, member: String, ttl: u32) -> Answer<bool> {
        self.enter()?;
        allow!(self.writable(&key));
        allow!(self.fits(member.as_bytes()));
        let ttl = ttl.max(1);
        let change = || Change::Add {
            key: key.clone(),
            member: member.clone(),
            ttl,
        };
        let store = self.store();
        let now = store.set_add(&key, &member, ttl);
        Ok(self.now_or_later(now, change).await)
    }

    async fn set_remove(&mut self, key: String, member: String) -> Answer<bool> {
        self.enter()?;
        allow!(self.writable(&key));
        let change = || Change::Remove {
            key: key.clone(),
            member: member.clone(),
        };
        let store = self.store();
        let now = store.set_remove(&key, &member);
        Ok(self.now_or_later(now, change).await)
    }

    async fn set_contains(&mut self, key: String, member: String) -> Answer<bool> {
        self.enter()?;
        allow!(self.readable(&key));
        Ok(self
            .store()
            .set_contains(&key, &member)
            .await
            .map_err(Error::from))
    }

    async fn set_members(&mut self, key: String) -> Answer<Vec<String>> {
        self.enter()?;
        allow!(self.readable(&key));
        Ok(self.store().set_members(&key).await.map_err(Error::from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_covers_what_begins_with_it_and_nothing_else() {
        let patterns = ["session:*".to_owned(), "exact".to_owned()];
        for key in ["session:a", "session:", "exact"] {
            assert!(covers(&patterns, key), "{key}");
        }
        for key in ["session", "sessions:a", "exactly", "", "*"] {
            assert!(!covers(&patterns, key), "{key}");
        }
    }
}
