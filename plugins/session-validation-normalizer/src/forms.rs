//! Reads session objects of every form in circulation: both records of the shared
//! store, the emergency record, answers of services flat or nested, claims, rows of
//! the users table. Pure, and believes nothing.

use lockgate_sdk::clock::{self, Time};
use lockgate_sdk::identity::{self, Format, Role, Scalar, usable_id, usable_session_id};
use lockgate_sdk::session::minutes_left;
use serde_json::{Map, Value};

use crate::normalize::{Normalised, Origin};

type Object = Map<String, Value>;

/// An object in the one form.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Read {
    /// The session.
    pub(crate) session: Normalised,
    /// Where its form shows that it comes from.
    pub(crate) origin: Origin,
    /// Enhanced: a flat `user_id`. Legacy: nested, or `id` only. Mixed: other.
    pub(crate) format: Format,
}

/// None if the object names no usable user.
pub(crate) fn read(session: &Object, now: u64) -> Option<Read> {
    let nested = session.get("user").and_then(Value::as_object);
    let (user_id, format) = match nested {
        Some(user) => (user_of(user)?.0, Format::Legacy),
        None => user_of(session)?,
    };
    let user = nested.unwrap_or(session);
    let role = user
        .get("role")
        .and_then(Value::as_str)
        .and_then(Role::parse)?;
    let expiry = expiry(session);
    let expires_at = expiry.ok().flatten();
    let live = expiry.is_ok() && expires_at.is_none_or(|end| end > now);
    let valid = live && usable(session) && nested.is_none_or(usable);
    let session_id = text(session, "session_id").filter(|id| usable_session_id(id));
    let session_read = Normalised {
        valid,
        user_id,
        email: email(user)?.to_owned(),
        role: role.as_str(),
        session_id: session_id.map(str::to_owned),
        expires_at: expires_at.map(Time),
        expires_in_minutes: expires_at.map(|end| {
            if end > now {
                minutes_left(Some(end), now)
            } else {
                0
            }
        }),
        metadata: metadata(session),
    };
    Some(Read {
        session: session_read,
        origin: origin(session, nested.is_some()),
        format,
    })
}

/// The user's id and where it stands. As in tokens `sub` wins; `user_id` and `id`
/// must not name two users.
fn user_of(object: &Object) -> Option<(u32, Format)> {
    let id_in = |name: &str| object.get(name).map(scalar).and_then(usable_id);
    let (user_id, id) = (id_in("user_id"), id_in("id"));
    let flat = object.get("user_id").is_some_and(|value| !value.is_null());
    let format = |other| if flat { Format::Enhanced } else { other };
    if let Some(sub) = id_in("sub") {
        return Some((sub, format(Format::Mixed)));
    }
    match (user_id, id) {
        (Some(a), Some(b)) if a != b => None,
        (Some(found), _) => Some((found, Format::Enhanced)),
        (None, Some(found)) => Some((found, format(Format::Legacy))),
        (None, None) => None,
    }
}

fn email(object: &Object) -> Option<&str> {
    ["email", "sub", "username"]
        .into_iter()
        .find_map(|name| text(object, name).filter(|value| value.contains('@')))
}

/// False if the object itself says that the session or the user is not good.
fn usable(object: &Object) -> bool {
    let flags = ["valid", "authenticated", "is_active"];
    let denied = |name: &&str| {
        object
            .get(*name)
            .is_some_and(|flag| *flag != Value::Bool(true))
    };
    let status_good = match object.get("status") {
        None | Some(Value::Null) => true,
        Some(status) => matches!(status.as_str(), Some("active" | "pending_refresh")),
    };
    status_good && !flags.iter().any(denied)
}

/// The end in unix seconds, if there is one. The error: there is something else.
fn expiry(session: &Object) -> Result<Option<u64>, ()> {
    let found = ["expires_at", "exp"]
        .into_iter()
        .filter_map(|name| session.get(name));
    match found.into_iter().find(|value| !value.is_null()) {
        None => Ok(None),
        Some(Value::String(text)) => clock::parse(text).map(Some).ok_or(()),
        Some(Value::Number(number)) => seconds(number).map(Some).ok_or(()),
        Some(_) => Err(()),
    }
}

/// A NumericDate (RFC 7519 section 2), cut to whole seconds.
fn seconds(number: &serde_json::Number) -> Option<u64> {
    let whole = number.as_u64().or_else(|| {
        let float = number
            .as_f64()
            .filter(|float| (0.0..=253_402_300_799.0).contains(float))?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "cut to whole seconds; the range was checked"
        )]
        Some(float as u64)
    })?;
    (whole <= clock::MAX).then_some(whole)
}

fn metadata(session: &Object) -> Object {
    let found = ["metadata", "session_data"]
        .into_iter()
        .find_map(|name| session.get(name)?.as_object());
    found.cloned().unwrap_or_default()
}

fn origin(session: &Object, nested: bool) -> Origin {
    let has = |name: &str| session.contains_key(name);
    if nested || has("valid") || has("authenticated") {
        Origin::Api
    } else if has("session_data") || has("last_accessed") {
        Origin::Fallback
    } else if has("metadata") || has("login_time") || has("last_activity") {
        Origin::Redis
    } else if has("sub") || has("exp") {
        Origin::Jwt
    } else if has("id") {
        Origin::Database
    } else {
        Origin::Api
    }
}

fn text<'a>(object: &'a Object, name: &str) -> Option<&'a str> {
    object.get(name).and_then(Value::as_str)
}

fn scalar(value: &Value) -> Scalar<'_> {
    match value {
        Value::String(text) => Scalar::Text(text),
        Value::Bool(flag) => Scalar::Boolean(*flag),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => Scalar::Integer(integer),
            (None, Some(float)) => identity::Scalar::Number(float),
            (None, None) => Scalar::Other,
        },
        Value::Null | Value::Array(_) | Value::Object(_) => Scalar::Other,
    }
}

#[cfg(test)]
mod tests;
