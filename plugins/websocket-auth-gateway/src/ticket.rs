//! The one-use ticket for a socket: what is kept for it, and under which key. The
//! ticket itself is never stored, only its SHA-256, so that a reader of the
//! shared store cannot open a socket.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lockgate_sdk::authenticate::{Refusal, judge};
use lockgate_sdk::health::redis_away;
use lockgate_sdk::wit::revocations::Subject;
use lockgate_sdk::{Fault, Host};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Life of a ticket, seconds.
pub(crate) const TTL: u32 = 60;
/// A token counts this long after its `exp`, seconds.
const LEEWAY: u64 = 60;

/// What the ticket stands for; read and deleted when the socket opens.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// The user.
    pub(crate) user_id: u32,
    /// Of the user.
    pub(crate) email: String,
    /// `admin` or `user`.
    pub(crate) role: String,
    /// The session that the socket belongs to.
    pub(crate) session_id: String,
    /// Name of the connection to come.
    pub(crate) connection_id: String,
    /// The only path that it opens.
    pub(crate) path: String,
    /// The source token, to ask the revocation lists again.
    pub(crate) token_sha256: String,
    /// The session that the source token names, if it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token_session_id: Option<String>,
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
        let key = key(&value);
        Self { value, key }
    }
}

fn key(value: &str) -> String {
    format!(
        "lockgate:ws-ticket:{}",
        hex::encode(Sha256::digest(value.as_bytes()))
    )
}

/// A ticket that was used and found good.
#[derive(Debug)]
pub(crate) struct Redeemed {
    /// What it stands for.
    pub(crate) kept: Kept,
    /// A configured dependency could not be asked.
    pub(crate) degraded: bool,
}

/// Uses a ticket up, and judges what it stands for as if its token were shown now.
///
/// # Errors
/// It is unknown, used, for another path, or its token, session or user is not good any
/// more; [`Fault::ServiceUnavailable`] if the shared store cannot be asked.
pub(crate) fn redeem<H: Host>(host: &H, value: &str, path: &str) -> Result<Redeemed, Refusal> {
    let bytes = host
        .redis_take(&key(value))
        .map_err(|_| Fault::ServiceUnavailable)?;
    let kept = bytes.and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok());
    let mut kept = kept
        .filter(|kept| kept.path == path)
        .ok_or(Fault::InvalidToken)?;
    let ended = |end: u64| end.saturating_add(LEEWAY) <= host.now();
    if kept.token_exp.is_some_and(ended) {
        return Err(Fault::TokenExpired.into());
    }
    let mut degraded = redis_away(host);
    for session_id in [Some(&kept.session_id), kept.token_session_id.as_ref()] {
        let verdict = session_id.map(|session_id| {
            host.revocation_check(&Subject {
                user_id: kept.user_id,
                session_id: session_id.clone(),
                token_sha256: kept.token_sha256.clone(),
                issued_at: kept.token_iat,
            })
        });
        if verdict.is_some_and(|verdict| verdict.revoked) {
            return Err(Fault::TokenRevoked.into());
        }
        degraded |= verdict.is_some_and(|verdict| !verdict.asked);
    }
    // There is no token here to ask another service with.
    let user = host.user_lookup(kept.user_id, "", true);
    degraded |= user.degraded;
    if let Some(listed) = judge(&kept.email, user.state)? {
        kept.email = listed.email;
        kept.role = listed.role.as_str().to_owned();
    }
    Ok(Redeemed { kept, degraded })
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
