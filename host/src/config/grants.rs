//! What each service's component may import, and how far. By default that is the
//! least that its endpoints need; what the file says instead counts as a whole.

use std::time::Duration;

use super::services::{SERVICES, between};
use super::{ConfigError, Grants, file};

/// The interfaces that can be granted.
const INTERFACES: [&str; 12] = [
    "breakers",
    "counters",
    "csrf",
    "events",
    "fallback",
    "jwt",
    "limiter",
    "peers",
    "redis",
    "revocations",
    "sockets",
    "users",
];

/// What tokens can be verified for, as in `wit/jwt.wit`.
const USAGES: [&str; 3] = ["access", "strict-access", "refresh"];
/// What can be done with sockets.
const SOCKET_RIGHTS: [&str; 3] = ["close", "list", "serve"];
/// Lives of the tokens that are signed, by default and at most, seconds.
const ACCESS_LIFE: u64 = 3600;
const REFRESH_LIFE: u64 = 604_800;

/// Checks the grants of the file; what is not named is not granted.
pub(super) fn checked(key: &str, raw: file::Grants) -> Result<Grants, ConfigError> {
    let key = |field: &str| format!("{key}.grants.{field}");
    let known = |field: &str, what: &str, given: Vec<String>, names: &[&str]| match given
        .iter()
        .find(|name| !names.contains(&name.as_str()))
    {
        Some(unknown) => Err(ConfigError::value(
            key(field),
            format!("{unknown:?} is not {what}; they are {}", names.join(", ")),
        )),
        None => Ok(given.into_iter().collect()),
    };
    let life = |field: &str, given: Option<u64>, most: u64| {
        between(&key(field), given, most, 1, most).map(Duration::from_secs)
    };
    let services = SERVICES.map(|(name, _)| name);
    Ok(Grants {
        interfaces: known("interfaces", "an interface", raw.interfaces, &INTERFACES)?,
        verify: known("verify", "a use of tokens", raw.verify, &USAGES)?,
        reissue: raw.reissue,
        access_life: life("access_seconds", raw.access_seconds, ACCESS_LIFE)?,
        refresh_life: life("refresh_seconds", raw.refresh_seconds, REFRESH_LIFE)?,
        revoke: raw.revoke,
        redis_read: raw.redis_read,
        redis_write: raw.redis_write,
        peers: known("peers", "a service", raw.peers, &services)?,
        sockets: known("sockets", "a right", raw.sockets, &SOCKET_RIGHTS)?,
        database: raw.database,
    })
}

impl Grants {
    /// Everything: for a component whose calls are answered by a recording, or else by a
    /// host of which nothing is kept.
    pub fn of_a_replay() -> Grants {
        let all = || vec!["*".to_owned()];
        Grants {
            interfaces: INTERFACES.map(str::to_owned).into(),
            verify: USAGES.map(str::to_owned).into(),
            revoke: true,
            redis_read: all(),
            redis_write: all(),
            sockets: SOCKET_RIGHTS.map(str::to_owned).into(),
            ..Grants::default()
        }
    }
}

/// The grants of a service by default.
pub(super) fn of(name: &str) -> Grants {
    let (interfaces, peers): (&[&str], &[&str]) = match name {
        "jwt-token-adapter" => (
            &[
                "counters",
                "csrf",
                "events",
                "jwt",
                "peers",
                "revocations",
                "sockets",
                "users",
            ],
            &[],
        ),
        "session-validation-normalizer" => (
            &["fallback", "jwt", "peers", "redis", "revocations", "users"],
            &[],
        ),
        "fallback-session-provider" => (
            &[
                "csrf",
                "fallback",
                "jwt",
                "limiter",
                "peers",
                "revocations",
                "users",
            ],
            &["session-validation-normalizer"],
        ),
        "websocket-auth-gateway" => (
            &[
                "counters",
                "jwt",
                "peers",
                "redis",
                "revocations",
                "sockets",
                "users",
            ],
            &[],
        ),
        "service-boundary-coordinator" => (
            &[
                "breakers",
                "counters",
                "csrf",
                "events",
                "fallback",
                "jwt",
                "peers",
                "redis",
                "revocations",
                "sockets",
                "users",
            ],
            &[
                "jwt-token-adapter",
                "session-validation-normalizer",
                "fallback-session-provider",
                "websocket-auth-gateway",
            ],
        ),
        _ => (&[], &[]),
    };
    let (read, write): (&[&str], &[&str]) = match name {
        "session-validation-normalizer" => (
            &["session:*", "user_sessions:*"],
            &["session:*", "user_sessions:*"],
        ),
        "websocket-auth-gateway" => (
            &["user_sessions:*", "lockgate:ws-ticket:*"],
            &["lockgate:ws-ticket:*"],
        ),
        // The last three are caches of the main API: deleted on revocation.
        "service-boundary-coordinator" => (
            &["session:*", "user_sessions:*"],
            &[
                "session:*",
                "user_sessions:*",
                "session_validation:*",
                "token_validation:*",
                "user_auth:*",
            ],
        ),
        _ => (&[], &[]),
    };
    let verify: &[&str] = match name {
        "jwt-token-adapter" | "service-boundary-coordinator" => &["access", "refresh"],
        "fallback-session-provider" => &["access", "strict-access"],
        "session-validation-normalizer" | "websocket-auth-gateway" => &["access"],
        _ => &[],
    };
    let sockets: &[&str] = match name {
        "jwt-token-adapter" | "service-boundary-coordinator" => &["close"],
        "websocket-auth-gateway" => &["list", "serve"],
        _ => &[],
    };
    let owned = |names: &[&str]| {
        names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<Vec<_>>()
    };
    Grants {
        interfaces: owned(interfaces).into_iter().collect(),
        verify: owned(verify).into_iter().collect(),
        reissue: name == "jwt-token-adapter",
        access_life: Duration::from_secs(ACCESS_LIFE),
        refresh_life: Duration::from_secs(REFRESH_LIFE),
        revoke: matches!(name, "jwt-token-adapter" | "service-boundary-coordinator"),
        redis_read: owned(read),
        redis_write: owned(write),
        peers: owned(peers).into_iter().collect(),
        sockets: owned(sockets).into_iter().collect(),
        database: name == "session-validation-normalizer",
    }
}
