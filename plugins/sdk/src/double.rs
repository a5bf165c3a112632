//! A scripted host for native unit tests: memory instead of Redis, a table instead of
//! signatures. It must not decide what a plugin is to decide.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "for tests only"
)]

mod call;
mod emergency;
mod host;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use crate::wit::{breakers, events, fallback, jwt, peers, redis, revocations, sockets, users};

pub use call::{Call, Reply};

/// 2031-05-04T09:00:00Z, the time of every double.
pub const NOW: u64 = 1_935_651_600;

type Refused = Result<(jwt::Claims, bool), jwt::Error>;

/// A host in memory. All fields may be scripted before and read after a call.
#[derive(Debug)]
pub struct Double {
    /// Unix seconds; [`NOW`] at first.
    pub now: Cell<u64>,
    /// A usable secret is loaded.
    pub ready: Cell<bool>,
    /// What is known of Redis. `Disconnected` makes all its functions fail.
    pub redis: Cell<peers::Reachability>,
    /// What is known of other dependencies.
    pub dependencies: RefCell<BTreeMap<String, peers::Reachability>>,
    /// The service's settings.
    pub settings: RefCell<BTreeMap<String, String>>,
    /// By token: its claims and whether it is a refresh token, or why it is refused.
    pub tokens: RefCell<BTreeMap<String, Refused>>,
    /// What `reissue` answers.
    pub reissue: RefCell<Option<Result<jwt::Tokens, jwt::ReissueError>>>,
    /// Revoked: `token:<sha256>`, `session:<user>:<session>`, `user:<user>`.
    pub revoked: RefCell<BTreeSet<String>>,
    /// By user id; others are unknown.
    pub users: RefCell<BTreeMap<u32, users::State>>,
    /// The users table is configured but away.
    pub users_away: Cell<bool>,
    /// Keys and values.
    pub values: RefCell<BTreeMap<String, Vec<u8>>>,
    /// Sets.
    pub sets: RefCell<BTreeMap<String, BTreeSet<String>>>,
    /// Emergency sessions by user, with their token.
    pub fallback: RefCell<BTreeMap<u32, (fallback::Session, String)>>,
    /// What the emergency store fails with.
    pub fallback_error: Cell<Option<fallback::Error>>,
    /// Seconds to wait, by `bucket:key`.
    pub limited: RefCell<BTreeMap<String, u32>>,
    /// The service's counters.
    pub counts: RefCell<BTreeMap<String, u64>>,
    /// Breakers.
    pub breakers: RefCell<Vec<breakers::Breaker>>,
    /// Peers.
    pub peers: RefCell<Vec<peers::Peer>>,
    /// Sockets; closing removes them.
    pub sockets: RefCell<Vec<sockets::Connection>>,
    /// Published events.
    pub events: RefCell<Vec<events::Event>>,
    /// Every call that writes, in order, as `function argument`.
    pub writes: RefCell<Vec<String>>,
    /// Users that were looked up, with `quiet`.
    pub lookups: RefCell<Vec<(u32, bool)>>,
    /// Log lines.
    pub lines: RefCell<Vec<String>>,
}

impl Default for Double {
    fn default() -> Self {
        Self {
            now: Cell::new(NOW),
            ready: Cell::new(true),
            redis: Cell::new(peers::Reachability::Connected),
            dependencies: RefCell::default(),
            settings: RefCell::default(),
            tokens: RefCell::default(),
            reissue: RefCell::default(),
            revoked: RefCell::default(),
            users: RefCell::default(),
            users_away: Cell::new(false),
            values: RefCell::default(),
            sets: RefCell::default(),
            fallback: RefCell::default(),
            fallback_error: Cell::new(None),
            limited: RefCell::default(),
            counts: RefCell::default(),
            breakers: RefCell::default(),
            peers: RefCell::default(),
            sockets: RefCell::default(),
            events: RefCell::default(),
            writes: RefCell::default(),
            lookups: RefCell::default(),
            lines: RefCell::default(),
        }
    }
}

/// The claims of a unified token of user 42 for an hour from [`NOW`], session `s-7Qx`.
#[must_use]
pub fn claims(token: &str) -> jwt::Claims {
    jwt::Claims {
        token_sha256: sha(token),
        sub: Some(jwt::Scalar::Text("42".into())),
        id: Some(jwt::Scalar::Integer(42)),
        user_id: None,
        email: Some("ada@example.org".into()),
        username: None,
        role: Some("user".into()),
        session_id: Some("s-7Qx".into()),
        token_use: None,
        token_type: None,
        expires_at: Some(NOW + 3600),
        issued_at: Some(NOW),
        extensions: Vec::new(),
    }
}

/// What stands for the SHA-256 of a token: 64 hex digits that differ for tokens that differ.
#[must_use]
pub fn sha(token: &str) -> String {
    let mut hex: String = token.bytes().map(|byte| format!("{byte:02x}")).collect();
    hex.truncate(64);
    format!("{hex:0<64}")
}

impl Double {
    /// A healthy host that knows the service by this name.
    #[must_use]
    pub fn new(service: &str) -> Self {
        let double = Self::default();
        double.set("SERVICE_NAME", service);
        double
    }

    /// Adds a setting.
    pub fn set(&self, name: &str, value: &str) {
        self.settings.borrow_mut().insert(name.into(), value.into());
    }

    /// Makes a token good, as an access token, with these changes to [`claims`].
    pub fn good(&self, token: &str, change: impl FnOnce(&mut jwt::Claims)) {
        let mut claims = claims(token);
        change(&mut claims);
        self.tokens
            .borrow_mut()
            .insert(token.into(), Ok((claims, false)));
    }

    /// Makes a token bad.
    pub fn bad(&self, token: &str, error: jwt::Error) {
        self.tokens.borrow_mut().insert(token.into(), Err(error));
    }

    /// Takes Redis away: known, and all its functions fail.
    pub fn redis_down(&self) {
        self.redis.set(peers::Reachability::Disconnected);
    }

    /// The JSON that is stored under a key.
    #[must_use]
    pub fn json(&self, key: &str) -> Option<serde_json::Value> {
        self.values
            .borrow()
            .get(key)
            .and_then(|bytes| serde_json::from_slice(bytes).ok())
    }

    /// True if a write starting so was made.
    #[must_use]
    pub fn wrote(&self, start: &str) -> bool {
        self.writes
            .borrow()
            .iter()
            .any(|write| write.starts_with(start))
    }

    fn note(&self, function: &str, argument: &str) {
        self.writes
            .borrow_mut()
            .push(format!("{function} {argument}"));
    }

    fn done(&self, closed: u32) -> revocations::Done {
        revocations::Done {
            shared: self.up().is_ok(),
            closed,
        }
    }

    /// Takes the sockets of a user, or of one session, out of the list; their number.
    fn end_sockets(&self, user_id: u32, session_id: Option<&str>) -> u32 {
        let mut sockets = self.sockets.borrow_mut();
        let before = sockets.len();
        sockets.retain(|s| s.user_id != user_id || session_id.is_some_and(|id| id != s.session_id));
        u32::try_from(before - sockets.len()).unwrap()
    }

    fn up(&self) -> Result<(), redis::Error> {
        match self.redis.get() {
            peers::Reachability::Disconnected => Err(redis::Error::Unavailable),
            _ => Ok(()),
        }
    }

    fn set_up(&self, key: &str) -> Result<(), redis::Error> {
        self.up()?;
        if self.values.borrow().contains_key(key) {
            return Err(redis::Error::WrongType);
        }
        Ok(())
    }

    fn record(&self, draft: &fallback::Draft) -> fallback::Session {
        let now = self.now.get();
        fallback::Session {
            user_id: draft.user_id,
            email: draft.email.clone(),
            role: draft.role.clone(),
            session_id: draft.session_id.clone(),
            created_at: now,
            last_accessed: now,
            expires_at: now + u64::from(draft.ttl),
            session_data: draft.session_data.clone(),
            token_format: draft.token_format.clone(),
            source_sha256: draft.source_sha256.clone(),
            source_issued_at: draft.source_issued_at,
            source_expires_at: draft.source_expires_at,
        }
    }

    fn emergency(&self) -> Result<(), fallback::Error> {
        self.fallback_error.get().map_or(Ok(()), Err)
    }
}
