//! The two records of a login in the shared store, as the main API reads them.
//! Both keys begin with `session:`, so an id of digits only must never become
//! the second one. Nothing here reads or writes the store.

use lockgate_sdk::clock::Time;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Life of a session's record, seconds; every use starts it again.
pub(crate) const SESSION_TTL: u32 = 86_400;

/// Life of a user's login record, seconds.
pub(crate) const LOGIN_TTL: u32 = 3_600;

/// The record of one session; these nine keys, and times without an offset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SessionRecord {
    session_id: String,
    user_id: u32,
    email: String,
    role: String,
    status: String,
    created_at: String,
    last_activity: String,
    expires_at: String,
    metadata: Map<String, Value>,
}

/// The record of a user's last login.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LoginRecord {
    user_id: u32,
    email: String,
    role: String,
    login_time: String,
    token_format: String,
}

/// What a key of the shared store holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Held<R> {
    /// Nothing.
    Absent,
    /// A record of this user.
    Own(R),
    /// A record of another user.
    OfAnotherUser,
    /// Not such a record, e.g. a pickled object of another program: it counts as
    /// absent, but is not ours to replace.
    Foreign,
}

/// Whose record it is.
pub(crate) trait Owned {
    /// The user's id.
    fn owner(&self) -> u32;
}

impl Owned for SessionRecord {
    fn owner(&self) -> u32 {
        self.user_id
    }
}

impl Owned for LoginRecord {
    fn owner(&self) -> u32 {
        self.user_id
    }
}

impl<R: Owned + serde::de::DeserializeOwned> Held<R> {
    /// Reads what a key of `user_id` holds.
    pub(crate) fn read(value: Option<&[u8]>, user_id: u32) -> Self {
        let Some(value) = value else {
            return Self::Absent;
        };
        match serde_json::from_slice::<R>(value) {
            Ok(record) if record.owner() == user_id => Self::Own(record),
            Ok(_) => Self::OfAnotherUser,
            Err(_) => Self::Foreign,
        }
    }
}

/// Who logged in.
pub(crate) struct Login<'a> {
    /// The user.
    pub(crate) user_id: u32,
    /// Of the user.
    pub(crate) email: &'a str,
    /// `admin` or `user`.
    pub(crate) role: &'a str,
    /// Of the token, e.g. `enhanced`.
    pub(crate) token_format: &'a str,
    /// Unix seconds.
    pub(crate) now: u64,
}

/// Key of a session's record, none for an id that could be a user's.
pub(crate) fn session_key(session_id: &str) -> Option<String> {
    let digits = session_id.bytes().all(|byte| byte.is_ascii_digit());
    (!digits).then(|| format!("session:{session_id}"))
}

/// Key of a user's login record.
pub(crate) fn login_key(user_id: u32) -> String {
    format!("session:{user_id}")
}

/// Key of the set of a user's sessions.
pub(crate) fn sessions_key(user_id: u32) -> String {
    format!("user_sessions:{user_id}")
}

/// Keys in which the main API keeps what it believed about a user and a token.
pub(crate) fn cache_keys(user_id: u32, token_sha256: Option<&str>) -> Vec<String> {
    let mut keys = vec![format!("user_auth:{user_id}")];
    if let Some(half) = token_sha256.and_then(|hash| hash.get(..32)) {
        keys.push(format!("session_validation:{half}"));
        keys.push(format!("token_validation:{half}"));
    }
    keys
}

impl Login<'_> {
    /// The user's login record.
    pub(crate) fn login_record(&self) -> LoginRecord {
        LoginRecord {
            user_id: self.user_id,
            email: self.email.to_owned(),
            role: self.role.to_owned(),
            login_time: Time(self.now).naive(),
            token_format: self.token_format.to_owned(),
        }
    }

    /// The session's record. An older one keeps its creation and metadata; one that
    /// is marked `invalidated` is not brought back.
    pub(crate) fn session_record(
        &self,
        session_id: &str,
        older: Option<SessionRecord>,
    ) -> Option<SessionRecord> {
        let (created_at, metadata) = match older {
            Some(older) if older.status == "invalidated" => return None,
            Some(older) => (older.created_at, older.metadata),
            None => (Time(self.now).naive(), Map::new()),
        };
        Some(SessionRecord {
            session_id: session_id.to_owned(),
            user_id: self.user_id,
            email: self.email.to_owned(),
            role: self.role.to_owned(),
            status: "active".to_owned(),
            created_at,
            last_activity: Time(self.now).naive(),
            expires_at: Time(self.now.saturating_add(u64::from(SESSION_TTL))).naive(),
            metadata,
        })
    }
}

impl SessionRecord {
    /// The same record with its last activity now.
    pub(crate) fn touched(mut self, now: u64) -> Self {
        self.last_activity = Time(now).naive();
        self.expires_at = Time(now.saturating_add(u64::from(SESSION_TTL))).naive();
        self
    }
}
