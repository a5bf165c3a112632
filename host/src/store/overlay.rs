//! Writes that stay in memory: what is read comes from another store until it is changed
//! here, and nothing is ever written there. For one call, so nothing is bounded here but by
//! the call's own limits. Times to live are not kept: the call is over before they end.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Mutex;

use super::{Condition, Error, Result, Store};

/// What a key holds, as far as this store knows better than the one below.
#[derive(Debug, Clone)]
enum Kept {
    Nothing,
    Bytes(Vec<u8>),
    Set(BTreeSet<String>),
}

/// A store over another one.
pub struct Overlay {
    below: Arc<dyn Store>,
    changed: Mutex<BTreeMap<String, Kept>>,
}

impl fmt::Debug for Overlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Overlay").finish_non_exhaustive()
    }
}

impl Overlay {
    /// Nothing is changed yet.
    pub fn new(below: Arc<dyn Store>) -> Overlay {
        Overlay {
            below,
            changed: Mutex::default(),
        }
    }

    /// What the key holds now.
    async fn look(&self, changed: &BTreeMap<String, Kept>, key: &str) -> Result<Kept> {
        if let Some(kept) = changed.get(key) {
            return Ok(kept.clone());
        }
        match self.below.get(key).await {
            Ok(None) => Ok(Kept::Nothing),
            Ok(Some(value)) => Ok(Kept::Bytes(value)),
            Err(Error::WrongType) => {
                let members = self.below.set_members(key).await?;
                Ok(Kept::Set(members.into_iter().collect()))
            }
            Err(error) => Err(error),
        }
    }

    /// Changes one key as `change` says, which gets what it holds.
    async fn change<T>(
        &self,
        key: &str,
        change: impl FnOnce(Kept) -> Result<(T, Option<Kept>)> + Send,
    ) -> Result<T> {
        let mut changed = self.changed.lock().await;
        let (answer, new) = change(self.look(&changed, key).await?)?;
        if let Some(new) = new {
            changed.insert(key.to_owned(), new);
        }
        Ok(answer)
    }

    async fn read<T>(&self, key: &str, read: impl FnOnce(Kept) -> Result<T> + Send) -> Result<T> {
        let changed = self.changed.lock().await;
        read(self.look(&changed, key).await?)
    }
}

impl Kept {
    fn bytes(self) -> Result<Option<Vec<u8>>> {
        match self {
            Kept::Nothing => Ok(None),
            Kept::Bytes(value) => Ok(Some(value)),
            Kept::Set(_) => Err(Error::WrongType),
        }
    }

    fn set(self) -> Result<BTreeSet<String>> {
        match self {
            Kept::Nothing => Ok(BTreeSet::new()),
            Kept::Bytes(_) => Err(Error::WrongType),
            Kept::Set(members) => Ok(members),
        }
    }

    fn is_there(&self) -> bool {
        !matches!(self, Kept::Nothing)
    }
}

#[async_trait]
impl Store for Overlay {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.read(key, Kept::bytes).await
    }

    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>> {
        let changed = self.changed.lock().await;
        let mut values = self.below.get_many(keys).await?;
        for (value, key) in values.iter_mut().zip(keys) {
            if let Some(kept) = changed.get(key) {
                *value = kept.clone().bytes().unwrap_or_default();
            }
        }
        Ok(values)
    }

    async fn take(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.change(key, |kept| Ok((kept.bytes()?, Some(Kept::Nothing))))
            .await
    }

    async fn set(&self, key: &str, value: &[u8], _: u32, condition: Condition) -> Result<bool> {
        let new = Kept::Bytes(value.to_vec());
        self.change(key, |kept| {
            let writes = condition == Condition::Always || !kept.is_there();
            Ok((writes, writes.then_some(new)))
        })
        .await
    }

    async fn compare_and_set(
        &self,
        key: &str,
        expected: &[u8],
        value: &[u8],
        _: u32,
    ) -> Result<bool> {
        let new = Kept::Bytes(value.to_vec());
        self.change(key, |kept| {
            let holds = kept.bytes()?.is_some_and(|found| found == expected);
            Ok((holds, holds.then_some(new)))
        })
        .await
    }

    async fn delete(&self, keys: &[String]) -> Result<u32> {
        let mut deleted = 0;
        for key in keys {
            let change = |kept: Kept| Ok((u32::from(kept.is_there()), Some(Kept::Nothing)));
            deleted += self.change(key, change).await?;
        }
        Ok(deleted)
    }

    async fn expire(&self, key: &str, _: u32) -> Result<bool> {
        self.read(key, |kept| Ok(kept.is_there())).await
    }

    async fn increment(&self, key: &str, by: i64, _: u32) -> Result<i64> {
        self.change(key, |kept| {
            let value = kept.bytes()?.unwrap_or_else(|| b"0".to_vec());
            let number = std::str::from_utf8(&value).ok();
            let number = number.and_then(|text| text.parse::<i64>().ok());
            let sum = number.and_then(|number| number.checked_add(by));
            let sum = sum.ok_or(Error::WrongType)?;
            Ok((sum, Some(Kept::Bytes(sum.to_string().into_bytes()))))
        })
        .await
    }

    async fn set_add(&self, key: &str, member: &str, _: u32) -> Result<bool> {
        self.change(key, |kept| {
            let mut members = kept.set()?;
            Ok((members.insert(member.to_owned()), Some(Kept::Set(members))))
        })
        .await
    }

    async fn set_remove(&self, key: &str, member: &str) -> Result<bool> {
        self.change(key, |kept| {
            let mut members = kept.set()?;
            let removed = members.remove(member);
            let left = match members.is_empty() {
                true => Kept::Nothing,
                false => Kept::Set(members),
            };
            Ok((removed, Some(left)))
        })
        .await
    }

    async fn set_contains(&self, key: &str, member: &str) -> Result<bool> {
        match self.changed.lock().await.get(key) {
            Some(kept) => Ok(kept.clone().set()?.contains(member)),
            None => self.below.set_contains(key, member).await,
        }
    }

    async fn set_members(&self, key: &str) -> Result<Vec<String>> {
        self.read(key, |kept| Ok(kept.set()?.into_iter().collect()))
            .await
    }

    async fn announce(&self, _: &str, _: &str, _: &str) -> Result<()> {
        Ok(())
    }
}
