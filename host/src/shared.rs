//! The store that hosts share, as each host uses it: what is asked again and again is
//! answered from memory for a second, and what every host must know is announced after
//! it was written. It decides neither what these are nor what they mean.

use std::sync::Arc;

use async_trait::async_trait;

use crate::events::Events;
use crate::store::redis::Redis;
use crate::store::{Condition, Error, Result, Store};

mod cache;

pub use cache::Cache;

use cache::Known;

/// Which keys are treated in which way.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// True for a key and its new value (none: deleted) that every host must know.
    pub matters: fn(&str, Option<&[u8]>) -> bool,
    /// True for a key that may be answered from memory.
    pub cached: fn(&str) -> bool,
}

/// Redis, what it said lately, and whom to tell.
#[derive(Debug)]
pub struct SharedStore {
    redis: Arc<Redis>,
    events: Arc<Events>,
    cache: Arc<Cache>,
    rules: Rules,
}

impl SharedStore {
    /// Announces through `events`.
    pub fn new(redis: Arc<Redis>, events: Arc<Events>, rules: Rules) -> SharedStore {
        SharedStore {
            redis,
            events,
            cache: Arc::default(),
            rules,
        }
    }

    /// What Redis said lately; whoever hears of changes tells it.
    pub fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }

    /// Redis itself: it is always asked, and nothing that is written is announced.
    pub fn redis(&self) -> &Redis {
        &self.redis
    }

    /// Asks Redis for one key and keeps the answer.
    async fn ask(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let question = self.cache.ask(key);
        let value = self.redis.get(key).await?;
        if let Some(question) = question {
            self.cache.keep(key, value.as_deref(), true, question);
        }
        Ok(value)
    }

    /// Asks Redis for several keys in one round trip and keeps the answers.
    async fn ask_many(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>> {
        let questions = keys.iter().map(|key| {
            let cached = (self.rules.cached)(key);
            cached.then(|| self.cache.ask(key)).flatten()
        });
        let questions: Vec<_> = questions.collect();
        let values = self.redis.get_many(keys).await?;
        for ((key, value), question) in keys.iter().zip(&values).zip(questions) {
            if let Some(question) = question {
                self.cache.keep(key, value.as_deref(), false, question);
            }
        }
        Ok(values)
    }

    /// Comes before a write of `value` (none: a deletion).
    fn write<'a>(&'a self, key: &'a str, value: Option<&[u8]>) -> Write<'a> {
        Write {
            shared: self,
            key,
            matters: (self.rules.matters)(key, value),
        }
    }
}

/// A write under way. However it ends, also when nobody waits for it any more, what is
/// remembered of the key is forgotten, and what others must know is announced or owed.
struct Write<'a> {
    shared: &'a SharedStore,
    key: &'a str,
    matters: bool,
}

impl Write<'_> {
    /// The outcome is `written`. Where it is not known, all that others can do is to
    /// read everything again later.
    async fn done(mut self, written: &Result<bool>) {
        self.shared.cache.forget(self.key.as_bytes());
        if self.matters && *written == Ok(true) {
            let keys = [self.key.to_owned()];
            let redis = self.shared.redis.as_ref();
            self.shared.events.changed(redis, &keys).await;
        }
        self.matters &= *written == Err(Error::Unavailable);
    }
}

impl Drop for Write<'_> {
    fn drop(&mut self) {
        self.shared.cache.forget(self.key.as_bytes());
        if self.matters {
            self.shared.events.owe();
        }
    }
}

#[async_trait]
impl Store for SharedStore {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        if !(self.rules.cached)(key) {
            return self.redis.get(key).await;
        }
        match self.cache.look(key, true) {
            Known::Value(value) => Ok(value),
            Known::Nothing => self.ask(key).await,
        }
    }

    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>> {
        let mut values = Vec::with_capacity(keys.len());
        let (mut missing, mut places) = (Vec::new(), Vec::new());
        for (place, key) in keys.iter().enumerate() {
            let known = match (self.rules.cached)(key) {
                true => self.cache.look(key, false),
                false => Known::Nothing,
            };
            values.push(match known {
                Known::Value(value) => value,
                Known::Nothing => {
                    missing.push(key.clone());
                    places.push(place);
                    None
                }
            });
        }
        if missing.is_empty() {
            return Ok(values);
        }
        for (place, answer) in places.into_iter().zip(self.ask_many(&missing).await?) {
            if let Some(value) = values.get_mut(place) {
                *value = answer;
            }
        }
        Ok(values)
    }

    async fn take(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let write = self.write(key, None);
        let taken = self.redis.take(key).await;
        let outcome = taken.as_ref().map(Option::is_some).map_err(|error| *error);
        write.done(&outcome).await;
        taken
    }

    async fn set(&self, key: &str, value: &[u8], ttl: u32, condition: Condition) -> Result<bool> {
        let write = self.write(key, Some(value));
        let written = self.redis.set(key, value, ttl, condition).await;
        write.done(&written).await;
        written
    }

    async fn compare_and_set(
        &self,
        key: &str,
        expected: &[u8],
        value: &[u8],
        ttl: u32,
    ) -> Result<bool> {
        let write = self.write(key, Some(value));
        let written = self.redis.compare_and_set(key, expected, value, ttl).await;
        write.done(&written).await;
        written
    }

    async fn delete(&self, keys: &[String]) -> Result<u32> {
        let writes: Vec<_> = keys.iter().map(|key| self.write(key, None)).collect();
        let deleted = self.redis.delete(keys).await;
        let outcome = deleted.map(|_| true);
        for write in writes {
            write.done(&outcome).await;
        }
        deleted
    }

    async fn expire(&self, key: &str, ttl: u32) -> Result<bool> {
        self.redis.expire(key, ttl).await
    }

    async fn increment(&self, key: &str, by: i64, ttl: u32) -> Result<i64> {
        let write = self.write(key, None);
        let value = self.redis.increment(key, by, ttl).await;
        write.done(&value.map(|_| true)).await;
        value
    }

    async fn set_add(&self, key: &str, member: &str, ttl: u32) -> Result<bool> {
        self.redis.set_add(key, member, ttl).await
    }

    async fn set_remove(&self, key: &str, member: &str) -> Result<bool> {
        self.redis.set_remove(key, member).await
    }

    async fn set_contains(&self, key: &str, member: &str) -> Result<bool> {
        self.redis.set_contains(key, member).await
    }

    async fn set_members(&self, key: &str) -> Result<Vec<String>> {
        self.redis.set_members(key).await
    }

    async fn announce(&self, channel: &str, stream: &str, payload: &str) -> Result<()> {
        self.redis.announce(channel, stream, payload).await
    }
}
