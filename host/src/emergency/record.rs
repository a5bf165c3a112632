//! One emergency session: its fields, their limits, its life. No I/O.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Longest life, seconds, counted from the creation.
pub const MAX_LIFE: u64 = 3600;
/// A record may outlive its source token by the leeway, seconds.
const LEEWAY: u64 = 60;
/// Longest `session_data`, bytes of JSON.
const MAX_DATA: usize = 16 * 1024;
/// Longest e-mail, bytes (RFC 5321 allows 254; some servers more).
const MAX_EMAIL: usize = 512;

/// What is known when a record is made.
#[derive(Debug, Clone)]
pub struct Draft {
    /// User.
    pub user_id: u32,
    /// E-mail.
    pub email: String,
    /// `admin` or `user`.
    pub role: String,
    /// Session.
    pub session_id: String,
    /// A JSON object, at most 16 KiB.
    pub session_data: String,
    /// `enhanced`, `legacy` or `mixed`.
    pub token_format: String,
    /// Wanted life, seconds.
    pub ttl: u32,
    /// The token it is made from: its SHA-256, 64 lower-case hex digits.
    pub source_sha256: String,
    /// Its `iat`.
    pub source_issued_at: Option<u64>,
    /// Its `exp`.
    pub source_expires_at: Option<u64>,
}

/// One record, as it is stored. Times are unix seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// User.
    pub user_id: u32,
    /// E-mail.
    pub email: String,
    /// `admin` or `user`.
    pub role: String,
    /// Session.
    pub session_id: String,
    /// When it was made; its life counts from here.
    pub created_at: u64,
    /// Last use.
    pub last_accessed: u64,
    /// End.
    pub expires_at: u64,
    /// Further facts.
    pub session_data: Map<String, Value>,
    /// `enhanced`, `legacy` or `mixed`.
    pub token_format: String,
    /// SHA-256 of the fallback token.
    pub token_sha256: String,
    /// SHA-256 of the source token.
    pub source_sha256: String,
    /// `iat` of the source token.
    pub source_issued_at: Option<u64>,
    /// `exp` of the source token.
    pub source_expires_at: Option<u64>,
    /// Unix milliseconds of the last change; of two records the later one wins.
    pub changed_at: u64,
}

/// A field is over its limit, of a wrong form, or the life would be over already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a field of the record is not valid")]
pub struct InvalidDraft;

impl Draft {
    /// Checks the fields and makes the record.
    ///
    /// # Errors
    /// [`InvalidDraft`].
    pub fn record(self, token_sha256: String, millis: u64) -> Result<Record, InvalidDraft> {
        let now = millis / 1000;
        let session_data = object(&self.session_data)?;
        let life = u64::from(self.ttl).clamp(1, MAX_LIFE);
        let mut expires_at = now.saturating_add(life);
        if let Some(source) = self.source_expires_at {
            expires_at = expires_at.min(source.saturating_add(LEEWAY));
        }
        let good = self.user_id > 0
            && !self.email.is_empty()
            && self.email.len() <= MAX_EMAIL
            && matches!(self.role.as_str(), "admin" | "user")
            && lockgate_identity::usable_session_id(&self.session_id)
            && format(&self.token_format)
            && source(&self.source_sha256)
            && expires_at > now;
        if !good {
            return Err(InvalidDraft);
        }
        Ok(Record {
            user_id: self.user_id,
            email: self.email,
            role: self.role,
            session_id: self.session_id,
            created_at: now,
            last_accessed: now,
            expires_at,
            session_data,
            token_format: self.token_format,
            token_sha256,
            source_sha256: self.source_sha256,
            source_issued_at: self.source_issued_at,
            source_expires_at: self.source_expires_at,
            changed_at: millis,
        })
    }
}

/// A JSON object within the limit.
///
/// # Errors
/// [`InvalidDraft`].
pub(super) fn object(text: &str) -> Result<Map<String, Value>, InvalidDraft> {
    if text.len() > MAX_DATA {
        return Err(InvalidDraft);
    }
    serde_json::from_str(text).map_err(|_| InvalidDraft)
}

/// True for a SHA-256 in lower-case hex, and for none: another service reported the login.
fn source(sha256: &str) -> bool {
    let hex = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    sha256.is_empty() || (sha256.len() == 64 && sha256.bytes().all(hex))
}

/// True for a known name of a format.
pub(super) fn format(name: &str) -> bool {
    matches!(name, "enhanced" | "legacy" | "mixed")
}

impl Record {
    /// True until its end.
    pub fn live(&self, now: u64) -> bool {
        self.expires_at > now
    }

    /// Believes a record from outside only as far as its own rules go.
    pub(super) fn plausible(&self, user_id: u32, millis: u64) -> bool {
        let ahead = (millis / 1_000).saturating_add(LEEWAY);
        self.user_id == user_id
            && self.created_at <= ahead
            && self.changed_at <= millis.saturating_add(LEEWAY * 1_000)
            && self.expires_at <= self.created_at.saturating_add(MAX_LIFE)
            && self.email.len() <= MAX_EMAIL
            && matches!(self.role.as_str(), "admin" | "user")
            && format(&self.token_format)
            && lockgate_identity::usable_session_id(&self.session_id)
    }
}
