//! The bodies of valid and invalid sessions, which several services answer with. It
//! decides nothing: the caller knows the session.

use std::time::Duration;

use serde::Serialize;

use crate::answer::{Answer, Fault};
use crate::authenticate::Login;
use crate::clock::Time;

/// Where the times of a session come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The session record in the shared store.
    Redis,
    /// The token alone.
    Jwt,
    /// The emergency store.
    Fallback,
    /// The users table.
    Database,
}

/// A valid session; flatten it into a larger answer.
#[derive(Debug, Clone, Serialize)]
pub struct Valid {
    valid: bool,
    authenticated: bool,
    /// 1 to 2147483647.
    pub user_id: u32,
    /// As `user_id`.
    pub id: u32,
    /// The user's e-mail.
    pub email: String,
    /// `admin` or `user`.
    pub role: String,
    /// Never empty.
    pub session_id: String,
    /// Whole minutes left, at least 1.
    pub expires_in_minutes: u64,
    /// The end, if there is one.
    pub expires_at: Option<Time>,
    /// Start of the session.
    pub session_created: Time,
    /// Last time it was seen.
    pub last_activity: Time,
    message: &'static str,
    is_active: bool,
    /// A configured dependency could not be asked.
    pub degraded: bool,
    /// Where the times come from.
    pub source: Source,
    /// `enhanced`, `legacy` or `mixed`.
    pub format_type: String,
    /// Time spent, milliseconds.
    pub response_time_ms: f64,
}

/// What a session body is made of where no token says it.
#[derive(Debug, Clone)]
pub struct Facts {
    /// 1 to 2147483647.
    pub user_id: u32,
    /// The user's e-mail.
    pub email: String,
    /// `admin` or `user`.
    pub role: String,
    /// Never empty.
    pub session_id: String,
    /// `enhanced`, `legacy` or `mixed`.
    pub format_type: String,
    /// Unix seconds.
    pub expires_at: Option<u64>,
    /// Unix seconds.
    pub created: u64,
    /// Unix seconds.
    pub last_activity: u64,
    /// Where the times come from.
    pub source: Source,
    /// A configured dependency could not be asked.
    pub degraded: bool,
}

impl Facts {
    /// What the token alone says: both times are `iat`, else now.
    #[must_use]
    pub fn of_login(login: &Login, now: u64) -> Self {
        let issued = login.issued_at.unwrap_or(now);
        Self {
            user_id: login.user_id,
            email: login.email.clone(),
            role: login.role.as_str().to_owned(),
            session_id: login.session_id.clone(),
            format_type: login.format.as_str().to_owned(),
            expires_at: login.expires_at,
            created: issued,
            last_activity: issued,
            source: Source::Jwt,
            degraded: login.degraded,
        }
    }
}

impl Valid {
    /// The body for these facts, at this time, after this long.
    #[must_use]
    pub fn new(facts: Facts, now: u64, spent: Duration) -> Self {
        Self {
            valid: true,
            authenticated: true,
            user_id: facts.user_id,
            id: facts.user_id,
            email: facts.email,
            role: facts.role,
            session_id: facts.session_id,
            expires_in_minutes: minutes_left(facts.expires_at, now),
            expires_at: facts.expires_at.map(Time),
            session_created: Time(facts.created),
            last_activity: Time(facts.last_activity),
            message: "Session is valid",
            is_active: true,
            degraded: facts.degraded,
            source: facts.source,
            format_type: facts.format_type,
            response_time_ms: milliseconds(spent),
        }
    }
}

/// Whole minutes left, at least 1; 60 without an end.
#[must_use]
pub fn minutes_left(expires_at: Option<u64>, now: u64) -> u64 {
    expires_at.map_or(60, |end| (end.saturating_sub(now) / 60).max(1))
}

/// Milliseconds with two decimals.
#[must_use]
pub fn milliseconds(spent: Duration) -> f64 {
    (spent.as_secs_f64() * 100_000.0).round() / 100.0
}

/// A session that is not valid; flatten it into a larger answer.
#[derive(Debug, Clone, Serialize)]
pub struct Invalid {
    valid: bool,
    authenticated: bool,
    user_id: Option<u32>,
    email: Option<&'static str>,
    role: Option<&'static str>,
    session_id: Option<&'static str>,
    expires_at: Option<Time>,
    expires_in_minutes: Option<u64>,
    error: &'static str,
    code: &'static str,
    message: &'static str,
    degraded: bool,
}

impl Invalid {
    /// The body for a fault.
    #[must_use]
    pub fn new(fault: Fault, degraded: bool) -> Self {
        Self {
            valid: false,
            authenticated: false,
            user_id: None,
            email: None,
            role: None,
            session_id: None,
            expires_at: None,
            expires_in_minutes: None,
            error: fault.error(),
            code: fault.code(),
            message: fault.message(),
            degraded,
        }
    }
}

/// 200 with the body of an invalid session. Without a secret it is 503 with the error
/// object.
#[must_use]
pub fn invalid(fault: Fault, degraded: bool) -> Answer {
    match fault {
        Fault::ServiceUnavailable => Answer::fault(fault, degraded),
        _ => Answer::json(200, &Invalid::new(fault, degraded)),
    }
}

/// The body of a validated token, as the token adapter and the socket gateway answer.
#[derive(Debug, Clone, Serialize)]
pub struct Token<'a> {
    valid: bool,
    user_id: u32,
    email: &'a str,
    role: &'static str,
    format_type: &'static str,
    session_id: &'a str,
    expires_at: Option<Time>,
    issued_at: Option<Time>,
    expires_in: Option<u64>,
    degraded: bool,
    normalized: Normalised<'a>,
}

#[derive(Debug, Clone, Serialize)]
struct Normalised<'a> {
    sub: String,
    email: &'a str,
    id: u32,
    role: &'static str,
    session_id: &'a str,
}

impl<'a> Token<'a> {
    /// The body for a login.
    #[must_use]
    pub fn new(login: &'a Login, now: u64) -> Self {
        let role = login.role.as_str();
        Self {
            valid: true,
            user_id: login.user_id,
            email: &login.email,
            role,
            format_type: login.format.as_str(),
            session_id: &login.session_id,
            expires_at: login.expires_at.map(Time),
            issued_at: login.issued_at.map(Time),
            expires_in: login.expires_in(now),
            degraded: login.degraded,
            normalized: Normalised {
                sub: login.user_id.to_string(),
                email: &login.email,
                id: login.user_id,
                role,
                session_id: &login.session_id,
            },
        }
    }
}
