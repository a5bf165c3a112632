//! The records on the disk: file first, then memory, and never more than there is
//! room for.

use std::sync::atomic::Ordering;

use super::{Emergency, MAX_RECORDS, RECORDS, Record};
use crate::store::file::FileError;

impl Emergency {
    /// File first, then memory; makes room before. The caller holds `changes`.
    pub(super) async fn write(&self, record: Record) -> Result<(), FileError> {
        let leave = self.room_for(record.user_id);
        self.put(vec![record.clone()], leave.clone()).await?;
        let mut shelf = self.shelf();
        for user_id in leave {
            shelf.records.remove(&user_id);
            shelf.pending.remove(&user_id);
        }
        // Until the shared store has it, nobody may take its absence there for a removal.
        shelf.pending.insert(record.user_id);
        shelf.records.insert(record.user_id, record);
        Ok(())
    }

    /// Keeps records of other hosts while there is room: none of this host's goes for
    /// them. The caller holds `changes`.
    pub(super) async fn take_over(&self, records: Vec<Record>) -> Result<(), FileError> {
        let mut kept = Vec::new();
        {
            let shelf = self.shelf();
            let mut room = MAX_RECORDS.saturating_sub(shelf.records.len());
            for record in records {
                let known = shelf.records.contains_key(&record.user_id);
                if known || room > 0 {
                    room -= usize::from(!known);
                    kept.push(record);
                }
            }
        }
        if kept.is_empty() {
            return Ok(());
        }
        self.put(kept.clone(), Vec::new()).await?;
        let mut shelf = self.shelf();
        for record in kept {
            shelf.pending.remove(&record.user_id);
            shelf.records.insert(record.user_id, record);
        }
        Ok(())
    }

    /// Who has to go: the ended, then the least recently used.
    fn room_for(&self, user_id: u32) -> Vec<u32> {
        let now = self.clock.now();
        let shelf = self.shelf();
        if shelf.records.len() < MAX_RECORDS || shelf.records.contains_key(&user_id) {
            return Vec::new();
        }
        let ended = shelf.ended(now);
        if !ended.is_empty() {
            self.counts
                .expired
                .fetch_add(ended.len() as u64, Ordering::Relaxed);
            return ended;
        }
        self.counts.evicted.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("lockgate_fallback_evicted_total").increment(1);
        let oldest = shelf
            .records
            .values()
            .min_by_key(|record| record.last_accessed);
        oldest.map(|record| record.user_id).into_iter().collect()
    }

    pub(super) async fn put(&self, records: Vec<Record>, leave: Vec<u32>) -> Result<(), FileError> {
        self.file
            .write(move |transaction| {
                let mut table = transaction.open_table(RECORDS)?;
                for user_id in leave {
                    table.remove(user_id)?;
                }
                for record in records {
                    let value = serde_json::to_vec(&record).unwrap_or_default();
                    table.insert(record.user_id, value.as_slice())?;
                }
                Ok(())
            })
            .await
    }

    pub(super) async fn drop_records(&self, users: Vec<u32>) -> Result<(), FileError> {
        if users.is_empty() {
            return Ok(());
        }
        self.put(Vec::new(), users.clone()).await?;
        let mut shelf = self.shelf();
        for user_id in users {
            shelf.records.remove(&user_id);
            shelf.pending.remove(&user_id);
            shelf.touched.remove(&user_id);
            shelf.copied.remove(&user_id);
        }
        Ok(())
    }

    /// Drops ended records and writes the last uses to the file.
    ///
    /// # Errors
    /// [`FileError`].
    pub async fn clean(&self) -> Result<(), FileError> {
        let now = self.clock.now();
        let guard = self.changes.lock().await;
        let (ended, touched) = {
            let mut shelf = self.shelf();
            let ended = shelf.ended(now);
            let touched = std::mem::take(&mut shelf.touched);
            let touched: Vec<Record> = touched
                .iter()
                .filter_map(|id| shelf.records.get(id))
                .cloned()
                .collect();
            (ended, touched)
        };
        self.counts
            .expired
            .fetch_add(ended.len() as u64, Ordering::Relaxed);
        if !touched.is_empty() {
            self.put(touched, Vec::new()).await?;
        }
        if !ended.is_empty() {
            self.drop_records(ended).await?;
        }
        drop(guard);
        Ok(())
    }
}
