//! The store without Redis: keys with times to live in the process's own file.
//! It must not know what the keys mean.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use redb::{ReadableTable, Table, TableDefinition};

use super::file::{File, FileError};
use super::{Condition, Error, Result, Store};
use crate::clock::Clock;

/// Key -> (end in unix milliseconds, kind, value).
const KEYS: TableDefinition<'static, &str, (u64, u8, &[u8])> = TableDefinition::new("keys");
/// The value is the bytes themselves.
const BYTES: u8 = 0;
/// The value is a JSON array of strings.
const SET: u8 = 1;
/// A set may grow to this many bytes; a write costs as much as the set is long.
const MAX_SET: usize = 256 * 1024;
/// Ended keys that one transaction deletes.
const CLEAN_BATCH: usize = 1000;

/// The embedded store.
#[derive(Debug, Clone)]
pub struct Embedded {
    file: Arc<File>,
    clock: Clock,
}

type Keys<'t> = Table<'t, &'static str, (u64, u8, &'static [u8])>;
/// A live entry.
struct Entry {
    ends: u64,
    kind: u8,
    value: Vec<u8>,
}

impl From<FileError> for Error {
    fn from(_: FileError) -> Error {
        // The file reports its own faults in the log.
        Error::Unavailable
    }
}

impl Embedded {
    /// A store in `file`.
    ///
    /// # Errors
    /// [`FileError`] if the table cannot be made.
    pub async fn open(file: Arc<File>, clock: Clock) -> std::result::Result<Embedded, FileError> {
        file.write(|transaction| transaction.open_table(KEYS).map(drop).map_err(Into::into))
            .await?;
        Ok(Embedded { file, clock })
    }

    /// Deletes what has ended; returns how many.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the file cannot be used.
    pub async fn clean(&self) -> Result<usize> {
        let now = self.clock.millis();
        let mut total = 0;
        loop {
            let ended = self.file.read(|transaction| {
                let table = transaction.open_table(KEYS)?;
                let mut ended = Vec::new();
                for entry in table.iter()? {
                    let (key, value) = entry?;
                    if value.value().0 <= now {
                        ended.push(key.value().to_owned());
                        if ended.len() == CLEAN_BATCH {
                            break;
                        }
                    }
                }
                Ok(ended)
            })?;
            if ended.is_empty() {
                return Ok(total);
            }
            total += self
                .file
                .write(move |transaction| {
                    let mut table = transaction.open_table(KEYS)?;
                    let mut deleted = 0;
                    for key in &ended {
                        // It may have been written again since it was seen.
                        if table
                            .get(key.as_str())?
                            .is_some_and(|found| found.value().0 <= now)
                        {
                            table.remove(key.as_str())?;
                            deleted += 1;
                        }
                    }
                    Ok(deleted)
                })
                .await?;
        }
    }

    fn look(&self, key: &str) -> Result<Option<Entry>> {
        let now = self.clock.millis();
        Ok(self
            .file
            .read(|transaction| live(&transaction.open_table(KEYS)?, key, now))?)
    }

    /// Runs `change` on the table and the live entry of the key.
    async fn change<T: Send + 'static>(
        &self,
        key: &str,
        change: impl FnOnce(&mut Keys<'_>, &str, Option<Entry>, u64) -> Outcome<T> + Send + 'static,
    ) -> Result<T> {
        let now = self.clock.millis();
        let key = key.to_owned();
        self.file
            .write(move |transaction| {
                let mut table = transaction.open_table(KEYS)?;
                let entry = live(&table, &key, now)?;
                change(&mut table, &key, entry, now)
            })
            .await?
    }
}

/// The outer error aborts the transaction, the inner one is the caller's.
type Outcome<T> = std::result::Result<Result<T>, redb::Error>;

fn live(
    table: &impl ReadableTable<&'static str, (u64, u8, &'static [u8])>,
    key: &str,
    now: u64,
) -> std::result::Result<Option<Entry>, redb::Error> {
    Ok(table.get(key)?.and_then(|found| {
        let (ends, kind, value) = found.value();
        (ends > now).then(|| Entry {
            ends,
            kind,
            value: value.to_vec(),
        })
    }))
}

fn end(now: u64, ttl: u32) -> u64 {
    now.saturating_add(u64::from(ttl).saturating_mul(1000))
}

fn members(entry: Option<Entry>) -> Result<BTreeSet<String>> {
    match entry {
        None => Ok(BTreeSet::new()),
        Some(entry) if entry.kind == SET => {
            serde_json::from_slice(&entry.value).map_err(|_| Error::Unavailable)
        }
        Some(_) => Err(Error::WrongType),
    }
}

fn bytes(entry: Option<Entry>) -> Result<Option<Vec<u8>>> {
    match entry {
        Some(entry) if entry.kind != BYTES => Err(Error::WrongType),
        other => Ok(other.map(|entry| entry.value)),
    }
}

/// The sum, in the text form that Redis uses.
fn sum(value: Option<&[u8]>, by: i64) -> Result<i64> {
    let start = match value {
        None => 0,
        Some(value) => std::str::from_utf8(value)
            .ok()
            .and_then(|text| text.parse::<i64>().ok())
            .ok_or(Error::WrongType)?,
    };
    start.checked_add(by).ok_or(Error::WrongType)
}

#[async_trait]
impl Store for Embedded {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        bytes(self.look(key)?)
    }

    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>> {
        let now = self.clock.millis();
        Ok(self.file.read(|transaction| {
            let table = transaction.open_table(KEYS)?;
            let mut values = Vec::with_capacity(keys.len());
            for key in keys {
                values.push(bytes(live(&table, key, now)?).unwrap_or(None));
            }
            Ok(values)
        })?)
    }

    async fn take(&self, key: &str) -> Result<Option<Vec<u8>>> {
        if self.look(key)?.is_none() {
            return Ok(None);
        }
        self.change(key, |table, key, entry, _| {
            let value = bytes(entry);
            if let Ok(Some(_)) = value {
                table.remove(key)?;
            }
            Ok(value)
        })
        .await
    }

    async fn set(&self, key: &str, value: &[u8], ttl: u32, condition: Condition) -> Result<bool> {
        let value = value.to_vec();
        self.change(key, move |table, key, entry, now| {
            if condition == Condition::IfAbsent && entry.is_some() {
                return Ok(Ok(false));
            }
            table.insert(key, (end(now, ttl), BYTES, value.as_slice()))?;
            Ok(Ok(true))
        })
        .await
    }

    async fn compare_and_set(
        &self,
        key: &str,
        expected: &[u8],
        value: &[u8],
        ttl: u32,
    ) -> Result<bool> {
        let (expected, value) = (expected.to_vec(), value.to_vec());
        self.change(key, move |table, key, entry, now| match bytes(entry) {
            Ok(Some(found)) if found == expected => {
                table.insert(key, (end(now, ttl), BYTES, value.as_slice()))?;
                Ok(Ok(true))
            }
            Ok(_) => Ok(Ok(false)),
            Err(error) => Ok(Err(error)),
        })
        .await
    }

    async fn delete(&self, keys: &[String]) -> Result<u32> {
        let now = self.clock.millis();
        let any = self.file.read(|transaction| {
            let table = transaction.open_table(KEYS)?;
            for key in keys {
                if table.get(key.as_str())?.is_some() {
                    return Ok(true);
                }
            }
            Ok(false)
        })?;
        if !any {
            return Ok(0);
        }
        let keys = keys.to_vec();
        Ok(self
            .file
            .write(move |transaction| {
                let mut table = transaction.open_table(KEYS)?;
                let mut deleted = 0;
                for key in &keys {
                    let removed = table.remove(key.as_str())?;
                    deleted += u32::from(removed.is_some_and(|found| found.value().0 > now));
                }
                Ok(deleted)
            })
            .await?)
    }

    async fn expire(&self, key: &str, ttl: u32) -> Result<bool> {
        self.change(key, move |table, key, entry, now| {
            let Some(entry) = entry else {
                return Ok(Ok(false));
            };
            table.insert(key, (end(now, ttl), entry.kind, entry.value.as_slice()))?;
            Ok(Ok(true))
        })
        .await
    }

    async fn increment(&self, key: &str, by: i64, ttl: u32) -> Result<i64> {
        self.change(key, move |table, key, entry, now| {
            let ends = entry
                .as_ref()
                .map_or_else(|| end(now, ttl), |entry| entry.ends);
            let value = bytes(entry).and_then(|value| sum(value.as_deref(), by));
            if let Ok(value) = value {
                table.insert(key, (ends, BYTES, value.to_string().as_bytes()))?;
            }
            Ok(value)
        })
        .await
    }

    async fn set_add(&self, key: &str, member: &str, ttl: u32) -> Result<bool> {
        let member = member.to_owned();
        self.change(key, move |table, key, entry, now| {
            let mut set = match members(entry) {
                Ok(set) => set,
                Err(error) => return Ok(Err(error)),
            };
            let added = set.insert(member);
            let value = serde_json::to_vec(&set).unwrap_or_default();
            if value.len() > MAX_SET {
                return Ok(Err(Error::TooLarge));
            }
            table.insert(key, (end(now, ttl), SET, value.as_slice()))?;
            Ok(Ok(added))
        })
        .await
    }

    async fn set_remove(&self, key: &str, member: &str) -> Result<bool> {
        if !self.set_contains(key, member).await? {
            return Ok(false);
        }
        let member = member.to_owned();
        self.change(key, move |table, key, entry, _| {
            let Some(entry) = entry else {
                return Ok(Ok(false));
            };
            let ends = entry.ends;
            let mut set = match members(Some(entry)) {
                Ok(set) => set,
                Err(error) => return Ok(Err(error)),
            };
            let removed = set.remove(&member);
            if set.is_empty() {
                table.remove(key)?;
            } else {
                let value = serde_json::to_vec(&set).unwrap_or_default();
                table.insert(key, (ends, SET, value.as_slice()))?;
            }
            Ok(Ok(removed))
        })
        .await
    }

    async fn set_contains(&self, key: &str, member: &str) -> Result<bool> {
        Ok(members(self.look(key)?)?.contains(member))
    }

    async fn set_members(&self, key: &str) -> Result<Vec<String>> {
        Ok(members(self.look(key)?)?.into_iter().collect())
    }

    async fn announce(&self, _channel: &str, _stream: &str, _payload: &str) -> Result<()> {
        Ok(())
    }
}
