//! Events as they are heard. Whoever can write to Redis can say anything, so an event
//! is a hint at most: what it names is bounded here and read again by others.

use lockgate_identity::usable_session_id;
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Kind, MAX_KEYS};

/// Longest event that is looked at, bytes: `details` and some more.
const MAX_EVENT: usize = 64 * 1024;
/// Longest name of a host, bytes.
const MAX_HOST: usize = 64;
/// Longest key, bytes.
const MAX_KEY: usize = 512;

/// One event and who says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// The random name of the process.
    pub host: String,
    /// Its running number.
    pub seq: u64,
    /// What it says.
    pub said: Said,
}

/// What an event says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// Something happened to a login.
    Login {
        /// What.
        kind: Kind,
        /// To whom.
        user_id: u32,
        /// The session, if one is named.
        session_id: Option<String>,
        /// When, unix seconds, if it says so.
        at: Option<u64>,
    },
    /// These keys should be read again.
    Keys(Vec<String>),
    /// All should be read again.
    Everything,
}

#[derive(Deserialize)]
struct Wire {
    host: String,
    seq: u64,
    event_type: String,
    user_id: Option<u32>,
    session_id: Option<String>,
    timestamp: Option<String>,
    #[serde(default)]
    keys: Vec<String>,
}

impl Heard {
    /// None for what is not an event, or not one that a host must know.
    pub fn parse(payload: &[u8]) -> Option<Heard> {
        if payload.len() > MAX_EVENT {
            return None;
        }
        let mut wire: Wire = serde_json::from_slice(payload).ok()?;
        if wire.host.len() > MAX_HOST {
            return None;
        }
        let said = match wire.event_type.as_str() {
            "all_changed" => Said::Everything,
            "keys_changed" => {
                wire.keys.truncate(MAX_KEYS);
                wire.keys.retain(|key| key.len() <= MAX_KEY);
                Said::Keys(wire.keys)
            }
            word => Said::Login {
                kind: Kind::parse(word)?,
                user_id: wire.user_id?,
                session_id: wire.session_id.filter(|id| usable_session_id(id)),
                at: wire.timestamp.as_deref().and_then(unix),
            },
        };
        Some(Heard {
            host: wire.host,
            seq: wire.seq,
            said,
        })
    }
}

/// Unix seconds of a time as events write it (RFC 3339).
fn unix(time: &str) -> Option<u64> {
    let time = OffsetDateTime::parse(time, &Rfc3339).ok()?;
    u64::try_from(time.unix_timestamp()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(event: &str) -> Option<Said> {
        Heard::parse(event.as_bytes()).map(|heard| heard.said)
    }

    #[test]
    fn logins_keep_what_can_be_used() {
        let login = |session: Option<&str>| {
            Some(Said::Login {
                kind: Kind::Logout,
                user_id: 42,
                session_id: session.map(str::to_owned),
                at: Some(1_000),
            })
        };
        let event = |session: &str| {
            format!(
                r#"{{"host":"a","seq":1,"event_type":"logout","user_id":42,"session_id":{session},
                    "timestamp":"1970-01-01T00:16:40Z"}}"#
            )
        };
        assert_eq!(parse(&event(r#""s-1""#)), login(Some("s-1")));
        for unusable in ["null", r#""123""#, r#""a b""#, r#""""#] {
            assert_eq!(parse(&event(unusable)), login(None), "{unusable}");
        }
    }

    #[test]
    fn what_is_no_event_is_none() {
        for bad in [
            "",
            "{",
            "[]",
            "null",
            r#"{"host":"a","seq":1}"#,
            r#"{"host":"a","seq":1,"event_type":"other"}"#,
            r#"{"host":"a","seq":1,"event_type":"logout"}"#,
            r#"{"host":"a","seq":1,"event_type":"logout","user_id":-1}"#,
            r#"{"host":"a","seq":-1,"event_type":"all_changed"}"#,
            r#"{"seq":1,"event_type":"all_changed"}"#,
            &format!(
                r#"{{"host":"{}","seq":1,"event_type":"all_changed"}}"#,
                "x".repeat(65)
            ),
            &format!(
                r#"{{"host":"a","seq":1,"event_type":"all_changed","x":"{}"}}"#,
                "x".repeat(MAX_EVENT)
            ),
        ] {
            assert_eq!(parse(bad), None, "{:.80}", bad);
        }
    }

    #[test]
    fn keys_are_bounded() {
        let keys = |keys: &[String]| {
            serde_json::json!({"host": "a", "seq": 1, "event_type": "keys_changed", "keys": keys})
                .to_string()
        };
        let many = vec!["k".to_owned(); MAX_KEYS + 1];
        assert_eq!(parse(&keys(&many)), Some(Said::Keys(many[1..].to_vec())));
        let long = ["k".repeat(MAX_KEY + 1), "k".repeat(MAX_KEY)];
        assert_eq!(parse(&keys(&long)), Some(Said::Keys(long[1..].to_vec())));
        assert_eq!(
            parse(r#"{"host":"a","seq":1,"event_type":"keys_changed"}"#),
            Some(Said::Keys(vec![]))
        );
    }
}
