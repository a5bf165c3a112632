//! Rotation records where hosts share them and in the journal: their keys, and taking
//! over those of other hosts, and what is signed of one. It decides nothing about tokens.

use super::{LEEWAY, Rotation};
use crate::journal::{Entry, Journal};
use crate::keys::{Claims, Issued};
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

impl Rotation {
    /// Whoever can write to the shared store must not have tokens of his choice signed:
    /// the record is one of the successor of this token, made at its rotation.
    pub(super) fn plausible(&self, claims: &Claims, candidate: &Rotation, now: u64) -> bool {
        let dated = claims.auth_time.is_some() || claims.issued_at.is_some();
        let ahead = now.saturating_add(LEEWAY);
        self.user_id == candidate.user_id
            && self.session_id == candidate.session_id
            && self.email.to_lowercase() == candidate.email.to_lowercase()
            && self.iat == self.rotated_at
            && self.iat <= ahead
            && self.auth_time <= ahead
            && (!dated || self.auth_time == candidate.auth_time)
    }

    pub(super) fn claims(&self, token_use: &'static str, jti: &str, life: u64) -> Issued {
        Issued {
            sub: self.user_id.to_string(),
            email: self.email.clone(),
            id: self.user_id,
            role: self.role.clone(),
            session_id: self.session_id.clone(),
            device_id: self.device_id.clone(),
            tfa_verified: self.tfa_verified,
            exp: self.iat.saturating_add(life),
            iat: self.iat,
            nbf: self.iat,
            token_use,
            jti: jti.to_owned(),
            auth_time: self.auth_time,
        }
    }
}
