//! The login event that a caller reports: what is read from the body, and what
//! it must look like. Who may report it is not decided here.

use lockgate_sdk::identity::usable_session_id;
use serde::Deserialize;
use serde_json::{Map, Value};

/// Longest e-mail address, bytes (RFC 5321 section 4.5.3.1 with the `@`).
const LONGEST_EMAIL: usize = 320;

/// Longest `source`, bytes.
const LONGEST_SOURCE: usize = 64;

/// Largest `details`, bytes of JSON; the host takes no more.
const LARGEST_DETAILS: usize = 16 * 1024;

/// The body of a report, as sent.
#[derive(Debug, Deserialize)]
pub(crate) struct Body {
    user_id: u32,
    email: String,
    event_type: String,
    source: String,
    session_id: Option<String>,
    details: Option<Map<String, Value>>,
}

/// What happened to a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A session began.
    Login,
    /// Its token was replaced.
    TokenRefresh,
    /// The user ended it, or all of them.
    Logout,
    /// It ended by itself.
    SessionExpired,
}

impl Kind {
    /// The name in requests and events.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::TokenRefresh => "token_refresh",
            Self::Logout => "logout",
            Self::SessionExpired => "session_expired",
        }
    }

    /// The kind with this name.
    fn named(name: &str) -> Option<Self> {
        [
            Self::Login,
            Self::TokenRefresh,
            Self::Logout,
            Self::SessionExpired,
        ]
        .into_iter()
        .find(|kind| kind.name() == name)
    }
}

/// A well-formed report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// 1..=2147483647.
    pub(crate) user_id: u32,
    /// Holds an `@`.
    pub(crate) email: String,
    /// What happened.
    pub(crate) kind: Kind,
    /// Who noticed, e.g. `frontend`.
    pub(crate) source: String,
    /// Never all digits: it becomes part of a key.
    pub(crate) session_id: Option<String>,
    /// A JSON object.
    pub(crate) details: String,
}

impl Event {
    /// Checks the fields of a body. The error says what is wrong, for people.
    pub(crate) fn checked(body: Body) -> Result<Self, &'static str> {
        if body.user_id == 0 || body.user_id > i32::MAX.unsigned_abs() {
            return Err("user_id is out of range");
        }
        if !body.email.contains('@') || body.email.len() > LONGEST_EMAIL {
            return Err("email is not an e-mail address");
        }
        let Some(kind) = Kind::named(&body.event_type) else {
            return Err("event_type is not one of login, token_refresh, logout, session_expired");
        };
        if body.source.is_empty() || body.source.len() > LONGEST_SOURCE {
            return Err("source is empty or too long");
        }
        if body
            .session_id
            .as_deref()
            .is_some_and(|id| !usable_session_id(id))
        {
            return Err("session_id is not a session id");
        }
        let details = Value::Object(body.details.unwrap_or_default()).to_string();
        if details.len() > LARGEST_DETAILS {
            return Err("details is too large");
        }
        Ok(Self {
            user_id: body.user_id,
            email: body.email,
            kind,
            source: body.source,
            session_id: body.session_id,
            details,
        })
    }
}

/// True if the id was derived from a token that names no session: `jwt-` and 32
/// hex digits.
pub(crate) fn is_derived(session_id: &str) -> bool {
    session_id.strip_prefix("jwt-").is_some_and(|hex| {
        hex.len() == 32
            && hex
                .bytes()
                .all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'))
    })
}
