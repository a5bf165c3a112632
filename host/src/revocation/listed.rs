//! The entries of the lists: their keys, whom they mean, and whose sockets end with them.
//! It reads and writes no list.

use super::LEEWAY;
use crate::sockets::{Close, Sockets};

const PREFIX: &str = "lockgate:revoked:";
const TOKEN_PREFIX: &str = "lockgate:revoked:token:";
const SESSION_PREFIX: &str = "lockgate:revoked:session:";
pub(super) const USER_PREFIX: &str = "lockgate:revoked:user:";

/// The key under which a token is revoked.
pub(super) fn token_key(token_sha256: &str) -> String {
    format!("{TOKEN_PREFIX}{token_sha256}")
}

/// The key under which a session is revoked.
pub fn session_key(user_id: u32, session_id: &str) -> String {
    format!("{SESSION_PREFIX}{user_id}:{session_id}")
}

/// The key of the user's cut-off.
pub fn user_key(user_id: u32) -> String {
    format!("{USER_PREFIX}{user_id}")
}

/// Who is meant by a key of the lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revoked {
    /// One token, by its SHA-256.
    Token(String),
    /// The sessions of this id of a user.
    Session {
        /// The user.
        user_id: u32,
        /// The session.
        session_id: String,
    },
    /// All that was issued to the user before.
    User {
        /// The user.
        user_id: u32,
        /// Unix seconds.
        cut_off: u64,
    },
}

impl Revoked {
    /// Tells the sockets of this host that rest on it to close. The number of those
    /// that were told and still there.
    pub fn close(&self, sockets: &Sockets, now: u64) -> usize {
        let close = Close::session_ended();
        match self {
            Revoked::Token(sha256) => sockets.close_token(sha256, &close),
            Revoked::Session {
                user_id,
                session_id,
            } => sockets.close(*user_id, Some(session_id), &close),
            Revoked::User { user_id, cut_off } => {
                let covers = |issued_at| cut(issued_at, *cut_off, now);
                sockets.close_issued(*user_id, covers, &close)
            }
        }
    }

    /// True for a key of the lists.
    pub fn covers(key: &str) -> bool {
        key.starts_with(PREFIX)
    }

    /// None for what is not an entry of the lists.
    pub fn read(key: &str, value: &[u8]) -> Option<Revoked> {
        if let Some(hash) = key.strip_prefix(TOKEN_PREFIX) {
            let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            let right = hash.len() == 64 && hash.bytes().all(hex);
            return right.then(|| Revoked::Token(hash.to_owned()));
        }
        if let Some(rest) = key.strip_prefix(SESSION_PREFIX) {
            let (user_id, session_id) = rest.split_once(':')?;
            return Some(Revoked::Session {
                user_id: user_id.parse().ok()?,
                session_id: session_id.to_owned(),
            });
        }
        Some(Revoked::User {
            user_id: key.strip_prefix(USER_PREFIX)?.parse().ok()?,
            cut_off: cut_off(value)?,
        })
    }
}

pub(super) fn cut_off(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.trim().parse().ok()
}

/// True if a cut-off covers a token: issued at it or before, at an unknown time, or
/// at a time that lies too far ahead to be believed.
pub(super) fn cut(issued_at: Option<u64>, cut_off: u64, now: u64) -> bool {
    issued_at.is_none_or(|iat| iat <= cut_off || iat > now.saturating_add(LEEWAY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_say_who_is_meant() {
        let session = Revoked::Session {
            user_id: 4,
            session_id: "a:b".into(),
        };
        let user = Revoked::User {
            user_id: 4,
            cut_off: 9,
        };
        for (key, value, meant) in [
            (
                token_key(&"ab".repeat(32)),
                "1",
                Some(Revoked::Token("ab".repeat(32))),
            ),
            (token_key("ab"), "1", None),
            (token_key(&"AB".repeat(32)), "1", None),
            (session_key(4, "a:b"), "1", Some(session)),
            (format!("{SESSION_PREFIX}x:s"), "1", None),
            (format!("{SESSION_PREFIX}4"), "1", None),
            (user_key(4), "9", Some(user)),
            (user_key(4), "soon", None),
            ("session:s-1".to_owned(), "1", None),
        ] {
            assert_eq!(Revoked::read(&key, value.as_bytes()), meant, "{key}");
        }
    }
}
