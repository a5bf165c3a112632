//! What waits for the shared store to come back, in order, on the disk and in memory, so
//! that neither an outage nor a crash in it loses any of it. It does not know what its
//! entries mean.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redb::{ReadableTable, TableDefinition};

use crate::store::file::{File, FileError, Place, Written};

/// Number -> value.
type Table = TableDefinition<'static, u64, &'static [u8]>;

/// A list in the process's own file. What cannot be written there waits in memory all
/// the same; the file reports its own faults.
#[derive(Debug)]
pub struct Backlog {
    file: Arc<File>,
    name: &'static str,
    room: usize,
    list: Mutex<List>,
}

#[derive(Debug, Default)]
struct List {
    next: u64,
    waiting: BTreeMap<u64, Arc<[u8]>>,
}

impl Backlog {
    /// The list that is kept in the table `name`, with what waits there. `room`: entries
    /// that may wait.
    ///
    /// # Errors
    /// [`FileError`] if the table cannot be made or read.
    pub async fn open(
        file: Arc<File>,
        name: &'static str,
        room: usize,
    ) -> Result<Backlog, FileError> {
        let table = Table::new(name);
        file.write(move |transaction| transaction.open_table(table).map(drop).map_err(Into::into))
            .await?;
        let waiting = file.read(|transaction| {
            let mut waiting = BTreeMap::new();
            for entry in transaction.open_table(table)?.iter()? {
                let (number, value) = entry?;
                waiting.insert(number.value(), Arc::from(value.value()));
            }
            Ok(waiting)
        })?;
        let next = waiting.keys().next_back().map_or(0, |last| last + 1);
        let list = Mutex::new(List { next, waiting });
        Ok(Backlog {
            file,
            name,
            room,
            list,
        })
    }

    /// Adds to the end; on the disk when this returns, or, once `patience` is over, in
    /// memory and perhaps on its way to the disk. False: the oldest had to go.
    pub async fn push(&self, value: Vec<u8>, patience: Option<Duration>) -> bool {
        let patience = patience.unwrap_or(Duration::MAX);
        let begun = Instant::now();
        let place = tokio::time::timeout(patience, self.file.place()).await;
        let (written, dropped) = self.add(value.into(), place.ok().flatten());
        let kept = async {
            if let Some(written) = written {
                let _ = written.await;
            }
            if let Some(number) = dropped {
                self.erase(vec![number]).await;
            }
        };
        let _ = tokio::time::timeout(patience.saturating_sub(begun.elapsed()), kept).await;
        dropped.is_none()
    }

    /// Into the list and on its way to the disk, both in the order of the numbers: what
    /// was taken from the list must not come back.
    fn add(&self, value: Arc<[u8]>, place: Option<Place<'_>>) -> (Option<Written>, Option<u64>) {
        let mut list = self.list();
        let number = list.next;
        list.next += 1;
        list.waiting.insert(number, Arc::clone(&value));
        let table = Table::new(self.name);
        let written = place.map(|place| {
            place.write(move |transaction| {
                transaction.open_table(table)?.insert(number, &*value)?;
                Ok(())
            })
        });
        let full = list.waiting.len() > self.room;
        let oldest = full.then(|| list.waiting.pop_first()).flatten();
        (written, oldest.map(|(number, _)| number))
    }

    /// The first entry after `number`, or of all.
    pub fn after(&self, number: Option<u64>) -> Option<(u64, Arc<[u8]>)> {
        let list = self.list();
        let from = number.map_or(0, |number| number.saturating_add(1));
        let (number, value) = list.waiting.range(from..).next()?;
        Some((*number, Arc::clone(value)))
    }

    /// Takes entries that are done off the list.
    pub async fn remove(&self, numbers: Vec<u64>) {
        if numbers.is_empty() {
            return;
        }
        {
            let mut list = self.list();
            for number in &numbers {
                list.waiting.remove(number);
            }
        }
        self.erase(numbers).await;
    }

    /// Number of entries that wait.
    pub fn len(&self) -> usize {
        self.list().waiting.len()
    }

    /// True if nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    async fn erase(&self, numbers: Vec<u64>) {
        let table = Table::new(self.name);
        let _ = self
            .file
            .write(move |transaction| {
                let mut table = transaction.open_table(table)?;
                for number in numbers {
                    table.remove(number)?;
                }
                Ok(())
            })
            .await;
    }

    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place {
        folder: tempfile::TempDir,
    }

    impl Place {
        fn new() -> Place {
            let folder = tempfile::tempdir().unwrap();
            Place { folder }
        }

        async fn open(&self, name: &'static str, room: usize) -> Backlog {
            let file = File::open_again(&self.folder.path().join("x.redb"), 1_000).await;
            Backlog::open(Arc::new(file), name, room).await.unwrap()
        }
    }

    fn all(backlog: &Backlog) -> Vec<Vec<u8>> {
        let (mut values, mut last) = (Vec::new(), None);
        while let Some((number, value)) = backlog.after(last) {
            values.push(value.to_vec());
            last = Some(number);
        }
        values
    }

    #[tokio::test]
    async fn it_keeps_the_order_and_outlives_the_process() {
        let place = Place::new();
        let backlog = place.open("list", 10).await;
        for value in ["a", "b", "c"] {
            assert!(backlog.push(value.into(), None).await);
        }
        let (first, value) = backlog.after(None).unwrap();
        assert_eq!(&*value, b"a");
        backlog.remove(vec![first]).await;
        assert_eq!(all(&backlog), [b"b", b"c"]);
        drop(backlog);
        let backlog = place.open("list", 10).await;
        assert_eq!(all(&backlog), [b"b", b"c"]);
        // New ones come behind those of the last time.
        assert!(backlog.push("d".into(), None).await);
        assert_eq!(all(&backlog), [b"b", b"c", b"d"]);
        assert_eq!(backlog.len(), 3);
    }

    #[tokio::test]
    async fn the_oldest_goes_for_lack_of_room_and_does_not_come_back() {
        let place = Place::new();
        let backlog = place.open("list", 2).await;
        assert!(backlog.push("a".into(), None).await);
        assert!(backlog.push("b".into(), None).await);
        assert!(!backlog.push("c".into(), None).await);
        assert_eq!(all(&backlog), [b"b", b"c"]);
        drop(backlog);
        assert_eq!(all(&place.open("list", 2).await), [b"b", b"c"]);
        assert!(place.open("other", 2).await.is_empty());
    }
}
