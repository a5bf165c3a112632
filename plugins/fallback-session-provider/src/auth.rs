//! Decisions about emergency sessions. Pure: it asks nobody and writes nothing.

use lockgate_sdk::Fault;
use lockgate_sdk::authenticate::{Login, Refusal, same_email};
use lockgate_sdk::wit::fallback::{Draft, Session};
use lockgate_sdk::wit::peers::Status;

use crate::settings::Settings;

/// Longest life of an emergency session, seconds.
pub(crate) const LONGEST_LIFE: u32 = 3_600;

/// Largest `additional_data`, bytes of JSON; the host keeps no more.
const LARGEST_DATA: usize = 16 * 1024;

/// What a caller says about the session it means. It only narrows the match: all of
/// it can be guessed.
#[derive(Debug, Default)]
pub(crate) struct Narrowed<'a> {
    /// The storage key.
    pub(crate) session_key: Option<&'a str>,
    /// The user's id.
    pub(crate) user_id: Option<i64>,
    /// The user's e-mail, compared without case.
    pub(crate) email: Option<&'a str>,
}

impl Narrowed<'_> {
    /// True if the session of this user is the one that was meant.
    pub(crate) fn matches(&self, user_id: u32, email: &str) -> bool {
        self.session_key
            .is_none_or(|key| key == session_key(user_id))
            && self.user_id.is_none_or(|id| id == i64::from(user_id))
            && self.email.is_none_or(|given| same_email(given, email))
    }
}

/// The storage key of a user's emergency session. Not a credential.
pub(crate) fn session_key(user_id: u32) -> String {
    format!("fallback_session:{user_id}")
}

/// Whether emergency logins are open: switched on, and, where the operator wants it
/// so, only while the session normalizer is not healthy.
pub(crate) fn open(settings: Settings, normalizer: Option<Status>) -> Result<(), Fault> {
    let outage = normalizer != Some(Status::Healthy);
    if settings.enabled && (outage || !settings.only_on_outage) {
        Ok(())
    } else {
        Err(Fault::AccessForbidden)
    }
}

/// The life that was asked for, seconds.
pub(crate) fn life(asked: Option<i64>) -> Result<u32, Fault> {
    let Some(asked) = asked else {
        return Ok(LONGEST_LIFE);
    };
    match u32::try_from(asked) {
        Ok(life @ 1..=LONGEST_LIFE) => Ok(life),
        _ => Err(Fault::Unprocessable),
    }
}

/// The record that a token's emergency session is kept in.
pub(crate) fn draft(login: &Login, ttl: u32, session_data: String) -> Result<Draft, Fault> {
    if session_data.len() > LARGEST_DATA {
        return Err(Fault::Unprocessable);
    }
    Ok(Draft {
        user_id: login.user_id,
        email: login.email.clone(),
        role: login.role.as_str().to_owned(),
        session_id: login.session_id.clone(),
        session_data,
        token_format: login.format.as_str().to_owned(),
        ttl,
        source_sha256: login.token_sha256.clone(),
        source_issued_at: login.issued_at,
        source_expires_at: login.expires_at,
    })
}

/// Whose session a request proves.
#[derive(Debug)]
pub(crate) enum Proved {
    /// A good token's.
    Token(Login),
    /// A live emergency session's.
    Record(Session),
}

/// Weighs a token's finding against that of a fallback token; `None` for the one that
/// was not sent. A good one is not hidden by a bad one, but two users are never mixed.
pub(crate) fn weigh(
    token: Option<Result<Login, Refusal>>,
    record: Option<Result<Session, Refusal>>,
) -> Result<Proved, Refusal> {
    let mismatch = |degraded| Refusal {
        fault: Fault::ConsistencyMismatch,
        degraded,
    };
    match (token, record) {
        (Some(Ok(login)), Some(Ok(session))) if login.user_id != session.user_id => {
            Err(mismatch(login.degraded))
        }
        (Some(Ok(login)), _) => Ok(Proved::Token(login)),
        (Some(Err(refusal)), Some(Ok(_))) if refusal.fault == Fault::ConsistencyMismatch => {
            Err(refusal)
        }
        (_, Some(Ok(session))) => Ok(Proved::Record(session)),
        (Some(Err(token)), Some(Err(record))) => Err(if graver(record.fault, token.fault) {
            record
        } else {
            token
        }),
        (Some(Err(refusal)), None) | (None, Some(Err(refusal))) => Err(refusal),
        (None, None) => Err(Refusal {
            fault: Fault::TokenMissing,
            degraded: false,
        }),
    }
}

/// True if one finding must be reported before the other: a revoked or disabled one
/// before all, and that nobody could look before that nothing was found.
fn graver(one: Fault, other: Fault) -> bool {
    let weight = |fault| match fault {
        Fault::TokenRevoked | Fault::UserDisabled => 2,
        Fault::ServiceUnavailable => 1,
        _ => 0,
    };
    weight(one) > weight(other)
}
