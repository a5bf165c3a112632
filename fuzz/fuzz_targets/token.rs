//! Header, claims and whole tokens, rightly signed or not: what is accepted must be
//! what another reader takes for the same token, and nothing unsigned is accepted.

#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use arbitrary::Arbitrary;
use lockgate::config;
use lockgate::keys::{Keys, Usage, hmac_sha256};
use serde_json::Value;

const NOW: u64 = 1_900_000_000;
const SECRET: &str = "a key of the fuzz target, of 32 bytes and more";

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let config = config::Jwt {
        secret_files: Vec::new(),
        secret: Some(SECRET.into()),
        previous_file: None,
        overlap: Duration::ZERO,
        allow_missing_exp: true,
        access_max: Duration::from_secs(86_400),
        refresh_grace: Duration::from_secs(60),
        accept_unmarked: true,
    };
    Keys::load(&config, NOW)
});

#[derive(Debug, Arbitrary)]
enum Given<'a> {
    Text(&'a str),
    Signed(&'a [u8], &'a [u8]),
    Claims(&'a [u8]),
}

libfuzzer_sys::fuzz_target!(|given: Given<'_>| {
    let verify = |token: &str| {
        [Usage::Access, Usage::StrictAccess, Usage::Refresh]
            .map(|usage| KEYS.verify(token, usage, NOW).is_ok())
    };
    let (header, claims) = match given {
        Given::Text(text) => {
            assert_eq!(verify(text), [false; 3], "nobody signed it");
            return;
        }
        Given::Signed(header, claims) => (header, claims),
        Given::Claims(claims) => (&br#"{"alg":"HS256"}"#[..], claims),
    };
    let message = format!("{}.{}", base64url(header), base64url(claims));
    let signature = hmac_sha256(SECRET.as_bytes(), message.as_bytes()).unwrap();
    let token = format!("{message}.{}", base64url(&signature));
    if verify(&token).contains(&true) {
        let header: Value = serde_json::from_slice(header).unwrap();
        assert_eq!(header["alg"], "HS256");
        for name in ["crit", "zip", "b64"] {
            assert!(header.get(name).is_none());
        }
        let claims: Value = serde_json::from_slice(claims).unwrap();
        assert!(claims.is_object());
    }
});

/// Without padding (RFC 7515 section 2).
fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for part in bytes.chunks(3) {
        let group = part
            .iter()
            .fold(0_u32, |group, byte| group << 8 | u32::from(*byte));
        let group = group << (8 * (3 - part.len()));
        for at in 0..=part.len() {
            text.push(char::from(ALPHABET[(group >> (18 - 6 * at) & 63) as usize]));
        }
    }
    text
}
