//! The signing keys and what is checked and signed with them. Keys never leave
//! this module: not into a log, not into an error, not to a plugin.

use std::sync::{Arc, PoisonError, RwLock};

use hex::ToHex;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use secrecy::{ExposeSecret, SecretSlice};
use sha2::{Digest, Sha256};

use crate::config;

mod claims;
mod follow;
mod json;
mod sign;
mod source;
mod verified;
mod verify;

pub use claims::{Claims, Scalar};
pub use sign::Issued;
pub use source::{MIN_SECRET, secret_file};
pub use verify::{Rejection, Usage};

/// Replaced keys that are kept within their overlap; then the oldest is forgotten.
const MAX_PREVIOUS: usize = 16;
/// What is signed to tell keys apart.
const NAMING: &[u8] = b"lockgate key id";

/// The keys of this process and the rules for tokens.
#[derive(Debug)]
pub struct Keys {
    rules: verify::Rules,
    overlap: u64,
    source: Option<source::Source>,
    ring: RwLock<Arc<Ring>>,
    verified: verified::VerifiedTokens,
}

/// The keys at one moment.
#[derive(Debug, Default)]
struct Ring {
    current: Option<Arc<Key>>,
    /// The replaced keys, the newest first.
    previous: Vec<Previous>,
    /// Another number for each set of keys.
    generation: u64,
}

/// A key that was replaced.
#[derive(Debug, Clone)]
struct Previous {
    key: Arc<Key>,
    /// Unix seconds; it verifies no token issued after this.
    changed: u64,
}

impl Previous {
    /// False once the overlap (seconds) is over.
    fn counts(&self, overlap: u64, now: u64) -> bool {
        now <= self.ends(overlap)
    }

    /// The last unix second in which it counts.
    fn ends(&self, overlap: u64) -> u64 {
        self.changed.saturating_add(overlap)
    }
}

/// One HMAC key.
struct Key {
    /// Tells it from other keys and says nothing about it: part of an HMAC.
    id: String,
    secret: SecretSlice<u8>,
    encoding: EncodingKey,
    decoding: DecodingKey,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Key")
    }
}

impl Key {
    fn new(secret: SecretSlice<u8>) -> Key {
        let encoding = EncodingKey::from_secret(secret.expose_secret());
        let decoding = DecodingKey::from_secret(secret.expose_secret());
        let mut key = Key {
            id: String::new(),
            secret,
            encoding,
            decoding,
        };
        key.id = key.sign(NAMING).unwrap_or_default();
        key.id.truncate(16);
        key
    }

    fn same(&self, other: &Key) -> bool {
        self.secret.expose_secret() == other.secret.expose_secret()
    }

    /// The HMAC-SHA256 of `message`, base64url without padding (RFC 7515 section 3).
    fn sign(&self, message: &[u8]) -> Option<String> {
        jsonwebtoken::crypto::sign(message, &self.encoding, Algorithm::HS256).ok()
    }

    /// Compares in constant time.
    fn verify(&self, signature: &str, message: &[u8]) -> bool {
        jsonwebtoken::crypto::verify(signature, message, &self.decoding, Algorithm::HS256)
            .unwrap_or(false)
    }
}

impl Keys {
    /// Chooses the source, reads the keys and proves that they sign and verify.
    /// Without a usable secret the host runs all the same and answers so.
    pub fn load(config: &config::Jwt, now: u64) -> Keys {
        let chosen = source::choose(&config.secret_files, config.secret.as_ref());
        let (source, secret) = match chosen {
            Some((source, secret)) => (Some(source), secret),
            None => (None, None),
        };
        let current = secret.map(Key::new).filter(works);
        if current.is_none() {
            tracing::error!("no usable JWT secret: tokens can be neither checked nor signed");
        }
        let changed = source
            .as_ref()
            .and_then(source::Source::changed)
            .map_or(now, |changed| changed.min(now));
        let previous = config
            .previous_file
            .as_deref()
            .filter(|_| !config.overlap.is_zero())
            .and_then(secret_file)
            .map(|secret| Previous {
                key: Arc::new(Key::new(secret)),
                changed,
            });
        Keys {
            rules: verify::Rules::new(config),
            overlap: config.overlap.as_secs(),
            source,
            ring: RwLock::new(Arc::new(Ring {
                current: current.map(Arc::new),
                previous: previous.into_iter().collect(),
                generation: 0,
            })),
            verified: verified::VerifiedTokens::new(config.verified_bytes),
        }
    }

    /// True if a usable secret is loaded.
    pub fn ready(&self) -> bool {
        self.ring().current.is_some()
    }

    /// Takes a key that was found in the chosen file. True: it is another one, which
    /// signs from now on; the old one verifies until the overlap is over.
    fn replace(&self, fresh: SecretSlice<u8>, now: u64) -> bool {
        let fresh = Arc::new(Key::new(fresh));
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        let same = ring.current.as_ref().is_some_and(|key| key.same(&fresh));
        if same || !works(&fresh) {
            return false;
        }
        let mut previous = Vec::new();
        if self.overlap > 0 {
            let replaced = ring.current.iter().map(|key| Previous {
                key: Arc::clone(key),
                changed: now,
            });
            // A key that has come back is no previous one.
            let older = ring.previous.iter().filter(|old| !old.key.same(&fresh));
            previous = replaced.chain(older.cloned()).collect();
            previous.retain(|old| old.counts(self.overlap, now));
            previous.truncate(MAX_PREVIOUS);
        }
        *ring = Arc::new(Ring {
            current: Some(fresh),
            previous,
            generation: ring.generation + 1,
        });
        true
    }

    /// The HMAC-SHA256 of `message` under the signing key.
    pub fn authenticate(&self, message: &[u8]) -> Option<Vec<u8>> {
        use base64::Engine;
        let signature = self.ring().current.as_ref()?.sign(message)?;
        base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode(signature)
            .ok()
    }

    fn ring(&self) -> Arc<Ring> {
        Arc::clone(&self.ring.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The HMAC-SHA256 of `message` under any key; for secrets other than the JWT one.
pub fn hmac_sha256(key: &[u8], message: &[u8]) -> Option<Vec<u8>> {
    use base64::Engine;
    let signature = Key::new(SecretSlice::from(key.to_vec())).sign(message)?;
    base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(signature)
        .ok()
}

/// SHA-256 in 64 lower-case hex digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).encode_hex()
}

/// `jsonwebtoken` built with the wrong features fails at its first use; better at
/// the start than at the first request.
fn works(key: &Key) -> bool {
    let message = b"lockgate";
    let good = key.sign(message).is_some_and(|signature| {
        key.verify(&signature, message) && !key.verify(&signature, b"Lockgate")
    });
    if !good {
        tracing::error!("the JWT library cannot sign and verify");
    }
    good
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
