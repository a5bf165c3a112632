//! Carries one event to where logins are kept: the shared store, the emergency
//! sessions, the sockets, the revocations. It does not decide whether it may happen.

use lockgate_sdk::Host;
use lockgate_sdk::authenticate::Login;
use lockgate_sdk::identity::{Role, usable_session_id};
use lockgate_sdk::wit::fallback::{Draft, Session};
use lockgate_sdk::wit::redis::{Condition, Error};
use lockgate_sdk::wit::revocations::{self, Done};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::event::{Kind, is_derived};
use crate::records::{self, Held, LOGIN_TTL, LoginRecord, SESSION_TTL, SessionRecord};

/// Close code of a socket whose session has ended.
const SESSION_ENDED: u16 = 4001;

/// Life of an emergency session, seconds; the host cuts it to the token's end.
const FALLBACK_TTL: u32 = 3_600;

/// Most keys in one command of the shared store.
const BATCH: usize = 64;

/// What happens to whom.
pub(crate) struct Change<'a> {
    /// What.
    pub(crate) kind: Kind,
    /// The user.
    pub(crate) user_id: u32,
    /// Of the user.
    pub(crate) email: &'a str,
    /// Of the user.
    pub(crate) role: Role,
    /// The only session that is meant, if one is named.
    pub(crate) session_id: Option<&'a str>,
    /// The user's own token, if it was presented.
    pub(crate) token: Option<&'a Login>,
    /// Unix seconds.
    pub(crate) now: u64,
}

/// What was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Propagated {
    /// Everything in the shared store.
    pub(crate) redis: bool,
    /// The emergency session.
    pub(crate) fallback: bool,
    /// Sockets closed on this host.
    pub(crate) websocket: u32,
}

/// Makes the change.
///
/// # Errors
/// A revocation could not be kept; nothing has changed then.
pub(crate) fn propagate<H: Host>(
    host: &H,
    change: &Change<'_>,
) -> Result<Propagated, revocations::Error> {
    match change.kind {
        Kind::Login => Ok(Propagated {
            redis: login(host, change),
            fallback: keep(host, change),
            websocket: 0,
        }),
        Kind::TokenRefresh => Ok(Propagated {
            redis: refresh(host, change).is_ok(),
            fallback: note(host, change),
            websocket: 0,
        }),
        Kind::Logout | Kind::SessionExpired => {
            let revoked = revoke(host, change)?;
            let websocket = host.sockets_close(
                change.user_id,
                change.session_id,
                SESSION_ENDED,
                reason(change.kind),
            );
            let redis = end(host, change).is_ok() && revoked.shared;
            let fallback = host.fallback_remove(change.user_id, change.session_id) == Ok(true);
            Ok(Propagated {
                redis,
                fallback,
                websocket: revoked.closed + websocket.unwrap_or(0),
            })
        }
    }
}

fn reason(kind: Kind) -> &'static str {
    match kind {
        Kind::SessionExpired => "Session expired",
        _ => "Logged out",
    }
}

/// Writes both records of a login. True only if both are there: what another program
/// keeps under the keys is left alone.
fn login<H: Host>(host: &H, change: &Change<'_>) -> bool {
    let new = records::Login {
        user_id: change.user_id,
        email: change.email,
        role: change.role.as_str(),
        token_format: format(change),
        now: change.now,
    };
    let user = write_login(host, &new);
    let Some(session_id) = session_of(change) else {
        return user == Ok(true);
    };
    let session = write_session(host, &new, session_id);
    user == Ok(true) && session == Ok(true)
}

fn write_login<H: Host>(host: &H, new: &records::Login<'_>) -> Result<bool, Error> {
    let key = records::login_key(new.user_id);
    let held = held(host, &key)?;
    let record = match Held::<LoginRecord>::read(held.as_deref(), new.user_id) {
        Held::Absent | Held::Own(_) => new.login_record(),
        Held::OfAnotherUser | Held::Foreign => return Ok(false),
    };
    replace(host, &key, held.as_deref(), &record, LOGIN_TTL)
}

fn write_session<H: Host>(
    host: &H,
    new: &records::Login<'_>,
    session_id: &str,
) -> Result<bool, Error> {
    let Some(key) = records::session_key(session_id) else {
        return Ok(false);
    };
    let held = held(host, &key)?;
    let older = match Held::<SessionRecord>::read(held.as_deref(), new.user_id) {
        Held::Absent => None,
        Held::Own(older) => Some(older),
        Held::OfAnotherUser | Held::Foreign => return Ok(false),
    };
    let Some(record) = new.session_record(session_id, older) else {
        return Ok(false);
    };
    let written = replace(host, &key, held.as_deref(), &record, SESSION_TTL);
    if written == Ok(false) {
        return written;
    }
    host.redis_set_add(&records::sessions_key(new.user_id), session_id, SESSION_TTL)?;
    written
}

/// What is under the key. Where nobody can be asked it counts as nothing: the write
/// then fails too, and the host makes it later, if there is nothing by then.
fn held<H: Host>(host: &H, key: &str) -> Result<Option<Vec<u8>>, Error> {
    match host.redis_get(key) {
        Err(Error::Unavailable) => Ok(None),
        other => other,
    }
}

/// Writes a record where nothing else was written since it was read.
fn replace<H: Host, R: Serialize>(
    host: &H,
    key: &str,
    held: Option<&[u8]>,
    record: &R,
    ttl: u32,
) -> Result<bool, Error> {
    let Ok(value) = serde_json::to_vec(record) else {
        return Ok(false);
    };
    match held {
        None => host.redis_set(key, &value, ttl, Condition::IfAbsent),
        Some(held) => host.redis_compare_and_set(key, held, &value, ttl),
    }
}

/// Notes the activity in the records that are there.
fn refresh<H: Host>(host: &H, change: &Change<'_>) -> Result<(), Error> {
    let login = records::login_key(change.user_id);
    let session = session_of(change).and_then(|id| Some((id, records::session_key(id)?)));
    let keys: Vec<String> = [login.clone()]
        .into_iter()
        .chain(session.clone().map(|(_, key)| key))
        .collect();
    let values = host.redis_get_many(&keys)?;
    let value = |index: usize| values.get(index).and_then(Option::as_deref);
    if let Held::Own(_) = Held::<LoginRecord>::read(value(0), change.user_id) {
        host.redis_expire(&login, LOGIN_TTL)?;
    }
    if let Some((id, key)) = session
        && let Held::Own(record) = Held::<SessionRecord>::read(value(1), change.user_id)
    {
        replace(
            host,
            &key,
            value(1),
            &record.touched(change.now),
            SESSION_TTL,
        )?;
        host.redis_set_add(&records::sessions_key(change.user_id), id, SESSION_TTL)?;
    }
    Ok(())
}

/// Deletes the records of the session, or of all of the user's, and what the main API
/// remembers of them. It goes on after a failure: what the shared store misses of it
/// the host makes later.
fn end<H: Host>(host: &H, change: &Change<'_>) -> Result<(), Error> {
    let set = records::sessions_key(change.user_id);
    let mut missed = None;
    let sessions = match change.session_id {
        Some(id) => vec![id.to_owned()],
        None => all_sessions(host, change, &set).unwrap_or_else(|error| {
            missed = Some(error);
            session_of(change).map(str::to_owned).into_iter().collect()
        }),
    };
    let hash = change.token.map(|token| token.token_sha256.as_str());
    let mut keys = vec![records::login_key(change.user_id)];
    keys.extend(records::cache_keys(change.user_id, hash));
    keys.extend(
        own_keys(host, change.user_id, &sessions).unwrap_or_else(|error| {
            missed = Some(error);
            let named = sessions.iter();
            named.filter_map(|id| records::session_key(id)).collect()
        }),
    );
    if change.session_id.is_none() {
        keys.push(set.clone());
    }
    for batch in keys.chunks(BATCH) {
        if let Err(error) = host.redis_delete(batch) {
            missed = Some(error);
        }
    }
    match change.session_id.map(|id| host.redis_set_remove(&set, id)) {
        // What is not a set holds no session.
        None | Some(Ok(_) | Err(Error::WrongType)) => {}
        Some(Err(error)) => missed = Some(error),
    }
    missed.map_or(Ok(()), Err)
}

/// The user's sessions, as far as anybody knows, and that of the user's token.
fn all_sessions<H: Host>(host: &H, change: &Change<'_>, set: &str) -> Result<Vec<String>, Error> {
    let mut sessions = match host.redis_set_members(set) {
        Ok(members) => members,
        Err(Error::WrongType) => Vec::new(),
        Err(error) => return Err(error),
    };
    sessions.extend(session_of(change).map(str::to_owned));
    sessions.retain(|id| usable_session_id(id));
    Ok(sessions)
}

/// The keys of these sessions, but for those that hold another user's record.
fn own_keys<H: Host>(host: &H, user_id: u32, sessions: &[String]) -> Result<Vec<String>, Error> {
    let keys: Vec<String> = sessions
        .iter()
        .filter_map(|id| records::session_key(id))
        .collect();
    let mut own = Vec::with_capacity(keys.len());
    for batch in keys.chunks(BATCH) {
        let values = host.redis_get_many(batch)?;
        own.extend(batch.iter().zip(values).filter_map(|(key, value)| {
            let held = Held::<SessionRecord>::read(value.as_deref(), user_id);
            (held != Held::OfAnotherUser).then(|| key.clone())
        }));
    }
    Ok(own)
}

/// Revokes what has ended.
fn revoke<H: Host>(host: &H, change: &Change<'_>) -> Result<Done, revocations::Error> {
    let nothing = Done {
        shared: true,
        closed: 0,
    };
    let logout = change.kind == Kind::Logout;
    let Some(session_id) = change.session_id else {
        return if logout {
            host.revoke_user(change.user_id, change.now)
        } else {
            Ok(nothing)
        };
    };
    let session = host.revoke_session(change.user_id, session_id)?;
    if !is_derived(session_id) {
        return Ok(session);
    }
    // Other tokens of the same login name no session, or a differently derived one.
    let more = match change.token.filter(|token| token.session_id == session_id) {
        Some(token) => host.revoke_token(&token.token_sha256, token.expires_at)?,
        None if logout => host.revoke_user(change.user_id, change.now)?,
        None => nothing,
    };
    Ok(Done {
        shared: session.shared && more.shared,
        closed: session.closed + more.closed,
    })
}

/// Keeps an emergency session for the login.
fn keep<H: Host>(host: &H, change: &Change<'_>) -> bool {
    let session_id = match session_of(change) {
        Some(id) => id.to_owned(),
        None => format!("login-{}-{}", change.user_id, change.now),
    };
    let token = change.token;
    let draft = Draft {
        user_id: change.user_id,
        email: change.email.to_owned(),
        role: change.role.as_str().to_owned(),
        session_id,
        session_data: "{}".to_owned(),
        token_format: format(change).to_owned(),
        ttl: FALLBACK_TTL,
        source_sha256: token
            .map(|token| token.token_sha256.clone())
            .unwrap_or_default(),
        // Without a token it is the report that counts against a later cut-off.
        source_issued_at: token.map_or(Some(change.now), |token| token.issued_at),
        source_expires_at: token.and_then(|token| token.expires_at),
    };
    host.fallback_create(&draft).is_ok()
}

/// Notes a refreshed token in the emergency session, if there is one.
fn note<H: Host>(host: &H, change: &Change<'_>) -> bool {
    let session = match host.fallback_find(change.user_id) {
        Ok(Some(session)) => session,
        Ok(None) => return true,
        Err(_) => return false,
    };
    if session_of(change).is_some_and(|id| id != session.session_id) {
        return true;
    }
    let format = change
        .token
        .map_or(session.token_format.as_str(), |token| token.format.as_str());
    host.fallback_update(change.user_id, &noted(&session, change.now, format), format)
        .is_ok()
}

/// The session's data with the time and format of its last refresh.
fn noted(session: &Session, now: u64, format: &str) -> String {
    let mut data: Map<String, Value> =
        serde_json::from_str(&session.session_data).unwrap_or_default();
    data.insert(
        "token_refreshed_at".to_owned(),
        lockgate_sdk::clock::Time(now).text().into(),
    );
    data.insert("token_format".to_owned(), format.into());
    Value::Object(data).to_string()
}

/// The session that is meant: the one named, else that of the user's own token.
fn session_of<'a>(change: &Change<'a>) -> Option<&'a str> {
    change
        .session_id
        .or(change.token.map(|token| token.session_id.as_str()))
}

/// Without a token its format is today's.
fn format(change: &Change<'_>) -> &'static str {
    change
        .token
        .map_or("enhanced", |token| token.format.as_str())
}
