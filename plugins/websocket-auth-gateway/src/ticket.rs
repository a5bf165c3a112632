//! The one-use ticket for a socket: what is kept for it, and under which key. The
//! ticket itself is never stored, only its SHA-256, so that a reader of the
//! shared store cannot open a socket.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use sha2::{Digest, Sha256};

/// Life of a ticket, seconds.
pub(crate) const TTL: u32 = 60;

/// What the ticket stands for; read and deleted when the socket opens.
#[derive(Debug, Serialize)]
pub(crate) struct Kept<'a> {
    /// The user.
    pub(crate) user_id: u32,
    /// Of the user.
    pub(crate) email: &'a str,
    /// `admin` or `user`.
    pub(crate) role: &'a str,
    /// The session that the socket belongs to.
    pub(crate) session_id: &'a str,
    /// Name of the connection to come.
    pub(crate) connection_id: &'a str,
    /// The only path that it opens.
    pub(crate) path: &'a str,
    /// The source token, to ask the revocation lists again.
    pub(crate) token_sha256: &'a str,
    /// Unix seconds.
    pub(crate) token_iat: Option<u64>,
    /// Unix seconds; the socket ends with it.
    pub(crate) token_exp: Option<u64>,
}

/// A new ticket and the key that its meaning is kept under.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    /// Shown once: 43 characters of `A-Za-z0-9_-`.
    pub(crate) value: String,
    /// `lockgate:ws-ticket:` and the SHA-256 of the value.
    pub(crate) key: String,
}

impl Ticket {
    /// Makes a ticket of 32 random bytes.
    pub(crate) fn of(random: &[u8; 32]) -> Self {
        let value = URL_SAFE_NO_PAD.encode(random);
        let key = format!(
            "lockgate:ws-ticket:{}",
            hex::encode(Sha256::digest(value.as_bytes()))
        );
        Self { value, key }
    }
}

/// Names a connection: `ws-` and 16 hex digits.
pub(crate) fn connection_id(random: &[u8; 8]) -> String {
    format!("ws-{}", hex::encode(random))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_the_hash_of_the_value() {
        let ticket = Ticket::of(&[0xff; 32]);
        assert_eq!(ticket.value, "__________________________________________8");
        assert_eq!(
            ticket.key,
            format!(
                "lockgate:ws-ticket:{}",
                hex::encode(Sha256::digest(
                    "__________________________________________8"
                ))
            )
        );
        assert!(!ticket.key.contains(&ticket.value));
    }

    #[test]
    fn connections_are_named() {
        assert_eq!(
            connection_id(&[0, 1, 2, 3, 4, 5, 6, 0xff]),
            "ws-00010203040506ff"
        );
    }
}
