//! What must hold although Redis is away or has evicted it: revocations, cut-offs,
//! disabled users, rotation records. On the disk before the answer, dropped only
//! when it ends, never for lack of room. It does not know what its keys mean.

use std::sync::Arc;

use redb::{ReadableTable, TableDefinition};

use crate::store::file::{File, FileError};

/// Key -> (end in unix seconds, value).
const JOURNAL: TableDefinition<'static, &str, (u64, &[u8])> = TableDefinition::new("journal");
/// Ended entries that one transaction deletes.
const CLEAN_BATCH: usize = 1000;

/// The journal in the process's own file.
#[derive(Debug, Clone)]
pub struct Journal {
    file: Arc<File>,
}

/// One live entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key, as in Redis.
    pub key: String,
    /// Unix seconds.
    pub ends: u64,
    /// The value, as in Redis.
    pub value: Vec<u8>,
}

impl Journal {
    /// The journal in `file`.
    ///
    /// # Errors
    /// [`FileError`] if the table cannot be made.
    pub async fn open(file: Arc<File>) -> Result<Journal, FileError> {
        file.write(|transaction| {
            transaction
                .open_table(JOURNAL)
                .map(drop)
                .map_err(Into::into)
        })
        .await?;
        Ok(Journal { file })
    }

    /// The live values, in the order of the keys.
    ///
    /// # Errors
    /// [`FileError`] if the file cannot be read.
    pub fn get_many(&self, keys: &[String], now: u64) -> Result<Vec<Option<Vec<u8>>>, FileError> {
        self.file.read(|transaction| {
            let table = transaction.open_table(JOURNAL)?;
            let mut values = Vec::with_capacity(keys.len());
            for key in keys {
                values.push(table.get(key.as_str())?.and_then(|found| {
                    let (ends, value) = found.value();
                    (ends > now).then(|| value.to_vec())
                }));
            }
            Ok(values)
        })
    }

    /// One live value.
    ///
    /// # Errors
    /// [`FileError`] if the file cannot be read.
    pub fn get(&self, key: &str, now: u64) -> Result<Option<Vec<u8>>, FileError> {
        Ok(self.get_many(&[key.to_owned()], now)?.pop().flatten())
    }

    /// Keeps a value until `ends`; on the disk when this returns. What is there and
    /// ends later keeps its end.
    ///
    /// # Errors
    /// [`FileError`] if it could not be written; nothing has changed then.
    pub async fn put(&self, key: String, value: Vec<u8>, ends: u64) -> Result<(), FileError> {
        self.merge(key, ends, move |_| Some(value)).await
    }

    /// Replaces the value by what `merge` makes of the one that is there; none
    /// leaves it.
    ///
    /// # Errors
    /// As [`Journal::put`].
    pub async fn merge(
        &self,
        key: String,
        ends: u64,
        merge: impl FnOnce(Option<&[u8]>) -> Option<Vec<u8>> + Send + 'static,
    ) -> Result<(), FileError> {
        self.file
            .write(move |transaction| {
                let mut table = transaction.open_table(JOURNAL)?;
                let (before, value) = match table.get(key.as_str())? {
                    Some(found) => {
                        let (ends, value) = found.value();
                        (ends, merge(Some(value)))
                    }
                    None => (0, merge(None)),
                };
                if let Some(value) = value {
                    table.insert(key.as_str(), (ends.max(before), value.as_slice()))?;
                }
                Ok(())
            })
            .await
    }

    /// Keeps what the shared store holds, in one transaction, and none if nothing is
    /// new. A value that is here stays unless `newer` (key, here, there) says that the
    /// other one counts. The number of entries that were written.
    ///
    /// # Errors
    /// As [`Journal::put`].
    pub async fn absorb(
        &self,
        mut entries: Vec<Entry>,
        newer: fn(&str, &[u8], &[u8]) -> bool,
    ) -> Result<usize, FileError> {
        entries = self.file.read(|transaction| {
            let table = transaction.open_table(JOURNAL)?;
            let mut fresh = Vec::new();
            for entry in entries {
                if merged(&table, &entry, newer)?.is_some() {
                    fresh.push(entry);
                }
            }
            Ok(fresh)
        })?;
        if entries.is_empty() {
            return Ok(0);
        }
        self.file
            .write(move |transaction| {
                let mut table = transaction.open_table(JOURNAL)?;
                let mut written = 0;
                for entry in entries {
                    if let Some((ends, value)) = merged(&table, &entry, newer)? {
                        table.insert(entry.key.as_str(), (ends, value.as_slice()))?;
                        written += 1;
                    }
                }
                Ok(written)
            })
            .await
    }

    /// Forgets a key.
    ///
    /// # Errors
    /// As [`Journal::put`].
    pub async fn remove(&self, key: String) -> Result<(), FileError> {
        self.file
            .write(move |transaction| {
                transaction.open_table(JOURNAL)?.remove(key.as_str())?;
                Ok(())
            })
            .await
    }

    /// The next live entries after the key `after`, in order; fewer than `limit`
    /// means that these are the last.
    ///
    /// # Errors
    /// [`FileError`] if the file cannot be read.
    pub fn page(&self, after: &str, limit: usize, now: u64) -> Result<Vec<Entry>, FileError> {
        use std::ops::Bound::{Excluded, Unbounded};
        self.file.read(|transaction| {
            let table = transaction.open_table(JOURNAL)?;
            let mut entries = Vec::with_capacity(limit);
            for entry in table.range::<&str>((Excluded(after), Unbounded))? {
                let (key, found) = entry?;
                let (ends, value) = found.value();
                if ends <= now {
                    continue;
                }
                let key = key.value().to_owned();
                entries.push(Entry {
                    key,
                    ends,
                    value: value.to_vec(),
                });
                if entries.len() == limit {
                    break;
                }
            }
            Ok(entries)
        })
    }

    /// Deletes what has ended.
    ///
    /// # Errors
    /// [`FileError`] if the file cannot be used.
    pub async fn clean(&self, now: u64) -> Result<(), FileError> {
        loop {
            let ended = self.file.read(|transaction| {
                let table = transaction.open_table(JOURNAL)?;
                let mut ended = Vec::new();
                for entry in table.iter()? {
                    let (key, found) = entry?;
                    if found.value().0 <= now {
                        ended.push(key.value().to_owned());
                        if ended.len() == CLEAN_BATCH {
                            break;
                        }
                    }
                }
                Ok(ended)
            })?;
            if ended.is_empty() {
                return Ok(());
            }
            self.file
                .write(move |transaction| {
                    let mut table = transaction.open_table(JOURNAL)?;
                    for key in &ended {
                        // It may have been written again since it was seen.
                        if table
                            .get(key.as_str())?
                            .is_some_and(|found| found.value().0 <= now)
                        {
                            table.remove(key.as_str())?;
                        }
                    }
                    Ok(())
                })
                .await?;
        }
    }
}

/// Ends that differ by less than this are the same: times to live are rounded.
const ROUNDING: u64 = 2;

/// What is to be kept of an entry of the shared store, or none if it says nothing new.
fn merged(
    table: &impl ReadableTable<&'static str, (u64, &'static [u8])>,
    entry: &Entry,
    newer: fn(&str, &[u8], &[u8]) -> bool,
) -> Result<Option<(u64, Vec<u8>)>, redb::Error> {
    let Some(found) = table.get(entry.key.as_str())? else {
        return Ok(Some((entry.ends, entry.value.clone())));
    };
    let (ends, value) = found.value();
    let replaces = value != entry.value && newer(&entry.key, value, &entry.value);
    let longer = entry.ends > ends.saturating_add(ROUNDING);
    if !replaces && !longer {
        return Ok(None);
    }
    let value = if replaces { &entry.value } else { value };
    Ok(Some((ends.max(entry.ends), value.to_vec())))
}
