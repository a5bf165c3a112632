//! The session record of the shared store: nine keys, naive times, read by other
//! programs too. It never overwrites what it does not understand.

use lockgate_sdk::clock::{self, Time};
use lockgate_sdk::session::Source;
use lockgate_sdk::wit::redis::{self, Condition};
use lockgate_sdk::{Fault, Host, Login};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Life of a record and of the set of a user's sessions, seconds since the last activity.
const TTL: u32 = 86_400;

/// Activity is noted at most this often, seconds.
const INTERVAL: u64 = 60;

/// Exactly what is stored under `session:{session_id}`. Times are naive and in UTC.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
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

impl Record {
    fn new(login: &Login, now: u64) -> Self {
        let end = login
            .expires_at
            .unwrap_or_else(|| now.saturating_add(u64::from(TTL)));
        let mut metadata = Map::new();
        metadata.insert(
            "token_format".to_owned(),
            Value::from(login.format.as_str()),
        );
        Self {
            session_id: login.session_id.clone(),
            user_id: login.user_id,
            email: login.email.clone(),
            role: login.role.as_str().to_owned(),
            status: "active".to_owned(),
            created_at: Time(login.issued_at.unwrap_or(now)).naive(),
            last_activity: Time(now).naive(),
            expires_at: Time(end).naive(),
            metadata,
        }
    }

    /// Unix seconds of start, last activity and end.
    fn times(&self) -> Option<(u64, u64, u64)> {
        let end = clock::parse(&self.expires_at)?;
        Some((
            clock::parse(&self.created_at)?,
            clock::parse(&self.last_activity)?,
            end,
        ))
    }

    /// The record with activity now; none if the last is less than [`INTERVAL`] ago.
    fn touched(&self, seen: Seen, token_end: Option<u64>, now: u64) -> Option<Self> {
        if now.saturating_sub(seen.last_activity) < INTERVAL {
            return None;
        }
        let end = token_end.map_or(seen.expires_at, |end| end.max(seen.expires_at));
        let last_activity = Time(now).naive();
        Some(Self {
            last_activity,
            expires_at: Time(end).naive(),
            ..self.clone()
        })
    }

    fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// The times of a record, unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Start of the session.
    pub(crate) created: u64,
    /// Last time it was seen.
    pub(crate) last_activity: u64,
    /// Its end.
    pub(crate) expires_at: u64,
}

/// What stands under a session's key.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Found {
    /// Nothing.
    Absent,
    /// A value that others have written in a form of their own.
    Foreign,
    /// A record of another user.
    Another,
    /// A record that ends the session.
    Invalidated,
    /// The user's record.
    Own(Box<Record>, Seen),
}

/// Reads a value without trusting it.
pub(crate) fn judge(value: Option<&[u8]>, session_id: &str, user_id: u32) -> Found {
    let Some(value) = value else {
        return Found::Absent;
    };
    let Ok(record) = serde_json::from_slice::<Record>(value) else {
        return Found::Foreign;
    };
    let Some((created, last_activity, expires_at)) = record.times() else {
        return Found::Foreign;
    };
    if record.session_id != session_id {
        return Found::Foreign;
    }
    if record.user_id != user_id {
        return Found::Another;
    }
    match record.status.as_str() {
        "active" | "expired" | "pending_refresh" => Found::Own(
            Box::new(record),
            Seen {
                created,
                last_activity,
                expires_at,
            },
        ),
        "invalidated" => Found::Invalidated,
        _ => Found::Foreign,
    }
}

/// Key of a session's record.
pub(crate) fn key(session_id: &str) -> String {
    format!("session:{session_id}")
}

/// What is known of a session besides its token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known {
    /// Start of the session, unix seconds.
    pub(crate) created: u64,
    /// Last activity, unix seconds.
    pub(crate) last_activity: u64,
    /// Where both come from.
    pub(crate) source: Source,
    /// The shared store could not be asked.
    pub(crate) degraded: bool,
}

impl Known {
    fn by_token(login: &Login, now: u64) -> Self {
        let issued = login.issued_at.unwrap_or(now);
        Self {
            created: issued,
            last_activity: issued,
            source: Source::Jwt,
            degraded: false,
        }
    }

    fn by_record(seen: Seen) -> Self {
        let Seen {
            created,
            last_activity,
            ..
        } = seen;
        Self {
            created,
            last_activity,
            source: Source::Redis,
            degraded: false,
        }
    }
}

/// Whether looking at a session also notes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Write nothing, not even that an emergency record was looked at.
    Silent,
    /// Change nothing.
    Read,
    /// Create a missing record and note the activity.
    Note,
}

/// Looks at the session's own record, and notes the activity if that is asked for.
/// Without the shared store the emergency store is asked, then the token counts.
///
/// # Errors
/// [`Fault::ConsistencyMismatch`] if the record is another user's,
/// [`Fault::TokenRevoked`] if it is marked so.
pub(crate) fn consult<H: Host>(host: &H, login: &Login, access: Access) -> Result<Known, Fault> {
    let now = host.now();
    let key = key(&login.session_id);
    let value = match host.redis_get(&key) {
        Ok(value) => value,
        Err(redis::Error::Unavailable) => return Ok(without_store(host, login, access, now)),
        // Another type of value is not a record; what is not granted is not looked at.
        Err(_) => return Ok(Known::by_token(login, now)),
    };
    match judge(value.as_deref(), &login.session_id, login.user_id) {
        Found::Another => Err(Fault::ConsistencyMismatch),
        Found::Invalidated => Err(Fault::TokenRevoked),
        Found::Foreign => Ok(Known::by_token(login, now)),
        Found::Absent if access == Access::Note => create(host, login, &key, now),
        Found::Absent => Ok(Known::by_token(login, now)),
        Found::Own(record, seen) => {
            let known = Known::by_record(seen);
            let touched = record.touched(seen, login.expires_at, now);
            match touched.filter(|_| access == Access::Note) {
                Some(touched) => {
                    let expected = value.unwrap_or_default();
                    Ok(note(host, login, &key, &expected, &touched, known, now))
                }
                None => Ok(known),
            }
        }
    }
}

fn create<H: Host>(host: &H, login: &Login, key: &str, now: u64) -> Result<Known, Fault> {
    let record = Record::new(login, now);
    match host.redis_set(key, &record.bytes(), TTL, Condition::IfAbsent) {
        Ok(true) => {
            let listed = list(host, login);
            let created = login.issued_at.unwrap_or(now);
            let known = Known {
                created,
                last_activity: now,
                source: Source::Redis,
                degraded: false,
            };
            Ok(Known {
                degraded: !listed,
                ..known
            })
        }
        // Somebody else was first: perhaps another user.
        Ok(false) => consult(host, login, Access::Read),
        Err(error) => {
            let degraded = matches!(error, redis::Error::Unavailable);
            Ok(Known {
                degraded,
                ..Known::by_token(login, now)
            })
        }
    }
}

/// Replaces the record unless it has changed meanwhile.
fn note<H: Host>(
    host: &H,
    login: &Login,
    key: &str,
    expected: &[u8],
    touched: &Record,
    known: Known,
    now: u64,
) -> Known {
    match host.redis_compare_and_set(key, expected, &touched.bytes(), TTL) {
        Ok(true) => Known {
            last_activity: now,
            degraded: !list(host, login),
            ..known
        },
        Ok(false) => known,
        Err(error) => Known {
            degraded: matches!(error, redis::Error::Unavailable),
            ..known
        },
    }
}

/// Adds the session to the set of the user's sessions. False: the store is away.
fn list<H: Host>(host: &H, login: &Login) -> bool {
    let key = format!("user_sessions:{}", login.user_id);
    !matches!(
        host.redis_set_add(&key, &login.session_id, TTL),
        Err(redis::Error::Unavailable)
    )
}

fn without_store<H: Host>(host: &H, login: &Login, access: Access, now: u64) -> Known {
    let found = match access {
        Access::Silent => None,
        Access::Read | Access::Note => host.fallback_find(login.user_id).ok().flatten(),
    };
    let own = found.filter(|session| session.session_id == login.session_id);
    let known = own.map_or_else(
        || Known::by_token(login, now),
        |session| Known {
            created: session.created_at,
            last_activity: session.last_accessed,
            source: Source::Fallback,
            degraded: true,
        },
    );
    Known {
        degraded: true,
        ..known
    }
}

#[cfg(test)]
mod tests;
