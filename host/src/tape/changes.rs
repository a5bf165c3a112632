//! Which calls change something, and what one gets for them that must change nothing.

use serde_json::Value;

/// Functions by name that change something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// Called by the shadow alone, or with other arguments.
    pub more: Vec<String>,
    /// Called by the other component alone, or with other arguments.
    pub fewer: Vec<String>,
}

/// A call that changes something, and what a shadow gets for it. Those of `redis` are not
/// here: they go to an overlay.
const CHANGES: [(&str, &str); 12] = [
    ("counters.add", "null"),
    ("events.publish", r#"{"Err":"Denied"}"#),
    ("fallback.copy", r#"{"Ok":null}"#),
    ("fallback.create", r#"{"Err":"Unavailable"}"#),
    ("fallback.remove", r#"{"Err":"Unavailable"}"#),
    ("fallback.update", r#"{"Err":"Unavailable"}"#),
    ("jwt.reissue", r#"{"Err":"Unavailable"}"#),
    ("limiter.take", r#"{"Ok":null}"#),
    ("revocations.revoke-session", r#"{"Err":"Unavailable"}"#),
    ("revocations.revoke-token", r#"{"Err":"Unavailable"}"#),
    ("revocations.revoke-user", r#"{"Err":"Unavailable"}"#),
    ("sockets.close", r#"{"Ok":0}"#),
];

const NOBODY_ASKED: (&str, &str) = ("users.lookup", r#"{"state":"Unknown","degraded":true}"#);

/// What a replay gets for what would leave this process.
pub(super) const OUTSIDE: [(&str, &str); 1] = [NOBODY_ASKED];

/// What a shadow gets for calls that note that they were made, or ask others. The other
/// component may do without them.
const NOTED: [(&str, &str); 3] = [
    ("fallback.find", r#"{"Err":"Unavailable"}"#),
    ("fallback.find-by-token", r#"{"Err":"Unavailable"}"#),
    NOBODY_ASKED,
];

/// The functions of `redis` that change something.
const STORE_CHANGES: [&str; 8] = [
    "redis.take",
    "redis.set",
    "redis.compare-and-set",
    "redis.delete",
    "redis.expire",
    "redis.increment",
    "redis.set-add",
    "redis.set-remove",
];

/// The result that stands in for a call of one of these functions.
pub(super) fn stand_in(known: &[(&str, &str)], name: &str) -> Option<Value> {
    let found = known.iter().find(|(function, _)| *function == name);
    found.map(|(_, result)| serde_json::from_str(result).unwrap_or_default())
}

/// What a shadow gets for a call; none: the host is to be asked.
pub(super) fn for_shadow(name: &str) -> Option<Value> {
    stand_in(&CHANGES, name).or_else(|| stand_in(&NOTED, name))
}

/// True for a function that changes something.
pub(super) fn is_change(name: &str) -> bool {
    CHANGES.iter().any(|(function, _)| *function == name) || STORE_CHANGES.contains(&name)
}
