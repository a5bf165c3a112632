//! Rotation records where hosts share them and in the journal: their keys, and taking
//! over those of other hosts. It decides nothing about tokens.

use super::Rotation;
use crate::journal::{Entry, Journal};
use crate::revocation::LOCAL_PREFIX;
use crate::store::file::FileError;

const PREFIX: &str = "lockgate:rotated:";

pub(super) fn record_key(token_sha256: &str) -> String {
    format!("{PREFIX}{token_sha256}")
}

/// True for the key of a rotation record.
pub fn is_record_key(key: &str) -> bool {
    key.starts_with(PREFIX)
}

/// Keeps the rotation records that the shared store holds: which of two is the right one
/// was decided there. The number of entries that were new.
///
/// # Errors
/// [`FileError`]: none was kept.
pub async fn absorb(journal: &Journal, mut entries: Vec<Entry>) -> Result<usize, FileError> {
    entries.retain(|entry| is_record_key(&entry.key) && parse(&entry.value).is_some());
    journal.absorb(entries, |_, _, _| true).await
}

/// Marks a rotation of which it is not known whether it happened.
pub(super) fn unsettled_key(token_sha256: &str) -> String {
    format!("{LOCAL_PREFIX}unsettled:{token_sha256}")
}

pub(super) fn parse(value: &[u8]) -> Option<Rotation> {
    serde_json::from_slice(value).ok()
}
