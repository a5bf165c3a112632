//! Signing of login tokens. The payload is written such that old browsers' readers,
//! which do not know base64url, can read it.

use std::io::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

use super::{Key, Keys};

/// The claims of a token that this host issues, in the order in which they are
/// written. Times are unix seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Issued {
    /// The user's id as text.
    pub sub: String,
    /// E-mail.
    pub email: String,
    /// The user's id.
    pub id: u32,
    /// `admin` or `user`.
    pub role: String,
    /// Session.
    pub session_id: String,
    /// Device.
    pub device_id: String,
    /// A second factor was given.
    pub tfa_verified: bool,
    /// End.
    pub exp: u64,
    /// Issue.
    pub iat: u64,
    /// Begin.
    pub nbf: u64,
    /// `access` or `refresh`.
    pub token_use: &'static str,
    /// Random.
    pub jti: String,
    /// When the user logged in.
    pub auth_time: u64,
}

impl Keys {
    /// The name of the key that signs now; it says nothing about the key.
    pub fn signer(&self) -> Option<String> {
        self.ring().current.as_ref().map(|key| key.id.clone())
    }

    /// Signs; none if no usable secret is loaded. The same claims give the same
    /// token, byte for byte.
    pub fn sign(&self, claims: &impl Serialize) -> Option<String> {
        let ring = self.ring();
        seal(claims, ring.current.as_ref()?)
    }

    /// Signs anew what the key of that name has signed before, as long as it is kept;
    /// afterwards, and for an unknown name, the current key signs.
    pub fn sign_again(&self, claims: &impl Serialize, signer: &str) -> Option<String> {
        let ring = self.ring();
        let replaced = ring.previous.iter().map(|previous| &previous.key);
        let key = replaced.chain(&ring.current).find(|key| key.id == signer);
        seal(claims, key.or(ring.current.as_ref())?)
    }
}

fn seal(claims: &impl Serialize, key: &Key) -> Option<String> {
    let header = URL_SAFE_NO_PAD.encode(br#"{"alg":"HS256","typ":"JWT"}"#);
    let payload = URL_SAFE_NO_PAD.encode(payload(claims)?);
    let message = format!("{header}.{payload}");
    let signature = key.sign(message.as_bytes())?;
    Some(format!("{message}.{signature}"))
}

/// Compact ASCII JSON in which `>`, `?`, `~`, DEL and everything above are escaped.
/// Six bits of it are then never 62 or 63, so the base64url text has no `-` or `_`.
fn payload(claims: &impl Serialize) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(512);
    claims
        .serialize(&mut Serializer::with_formatter(&mut bytes, Escaped))
        .ok()?;
    Some(bytes)
}

struct Escaped;

impl Formatter for Escaped {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        for character in fragment.chars() {
            match character {
                '>' | '?' | '~' | '\u{7f}'.. => {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        write!(writer, "\\u{unit:04x}")?;
                    }
                }
                _ => write!(writer, "{character}")?,
            }
        }
        Ok(())
    }
}
