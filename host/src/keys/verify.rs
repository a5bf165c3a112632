//! Strict verification of tokens: form, signature, times, use, in this order. The
//! form is checked here and not by the `jsonwebtoken` crate, which accepts unknown
//! `crit`, `zip`, `b64` and duplicate names; the crate does the HMAC only.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hex::ToHex;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::claims::{Claims, seconds};
use super::verified::Verified;
use super::{Keys, Ring, json};
use crate::config;

/// Longest token, bytes.
const MAX_TOKEN: usize = 16 * 1024;
/// Seconds by which clocks may differ.
pub(super) const LEEWAY: u64 = 60;
/// The same in strict use.
const STRICT_LEEWAY: u64 = 10;

/// What a token is to be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Usage {
    /// As an access token.
    Access,
    /// As an access token of which more is asked.
    StrictAccess,
    /// As a refresh token.
    Refresh,
}

/// Why a token was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Not well formed, a claim of a wrong type, or a token for another use.
    #[error("the token is not valid")]
    Invalid,
    /// Not signed with a key of ours.
    #[error("the signature is not valid")]
    Signature,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// There is no key to check it with.
    #[error("no usable secret is loaded")]
    NoSecret,
}

/// The settings that decide what tokens may be.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    allow_missing_exp: bool,
    access_max: u64,
    accept_unmarked: bool,
}

impl Rules {
    pub(super) fn new(config: &config::Jwt) -> Rules {
        Rules {
            allow_missing_exp: config.allow_missing_exp,
            access_max: config.access_max.as_secs(),
            accept_unmarked: config.accept_unmarked,
        }
    }
}

/// A token taken apart, nothing of it proved.
struct Parts<'a> {
    /// Header and claims as they were signed.
    message: &'a str,
    signature: &'a str,
    claims: Map<String, Value>,
}

impl Keys {
    /// Checks a token at the time `now`.
    ///
    /// # Errors
    /// [`Rejection`], the first reason in the order form, signature, times, use.
    pub fn verify(&self, token: &str, usage: Usage, now: u64) -> Result<Claims, Rejection> {
        let ring = self.ring();
        if ring.current.is_none() {
            return Err(Rejection::NoSecret);
        }
        if token.len() > MAX_TOKEN {
            return Err(Rejection::Invalid);
        }
        let digest = <[u8; 32]>::from(Sha256::digest(token));
        if let Some(claims) = self.verified.get(digest, usage, ring.generation, now) {
            return Ok(Claims::clone(&claims));
        }
        let parts = take_apart(token).ok_or(Rejection::Invalid)?;
        let signed = self.signed(&ring, &parts, now);
        let signed_until = signed.ok_or(Rejection::Signature)?;
        let object = parts.claims;
        check_times(&object, &self.rules, usage, now)?;
        let claims = Claims::read(&object, digest.encode_hex());
        check_use(&claims, &self.rules, usage, now)?;
        let ends = claims
            .expires_at
            .map(|exp| exp.saturating_add(leeway(usage)));
        let verified = || Verified {
            claims: Arc::new(claims.clone()),
            keys: ring.generation,
            from: now,
            until: ends.unwrap_or(u64::MAX).min(signed_until),
            size: token.len(),
        };
        self.verified.keep(digest, usage, verified);
        Ok(claims)
    }

    /// From which time on the signature counts no more; none if it does not now. The
    /// current key's counts for ever, a replaced one's for a while and for what was
    /// issued up to its change.
    fn signed(&self, ring: &Ring, parts: &Parts<'_>, now: u64) -> Option<u64> {
        let good = |key: &super::Key| key.verify(parts.signature, parts.message.as_bytes());
        if ring.current.as_deref().is_some_and(good) {
            return Some(u64::MAX);
        }
        let issued = parts.claims.get("iat").and_then(seconds);
        let mut previous = ring.previous.iter();
        let signer = previous.find(|previous| {
            previous.counts(self.overlap, now)
                && issued.is_some_and(|iat| iat <= previous.changed)
                && good(&previous.key)
        });
        signer.map(|previous| previous.ends(self.overlap).saturating_add(1))
    }
}

/// Seconds by which clocks may differ.
fn leeway(usage: Usage) -> u64 {
    match usage {
        Usage::StrictAccess => STRICT_LEEWAY,
        Usage::Access | Usage::Refresh => LEEWAY,
    }
}

/// Three parts of canonical base64url without padding (RFC 7515 sections 2 and
/// 7.1), the first an object with `alg` HS256 and without extensions that would
/// change how the token is to be read.
fn take_apart(token: &str) -> Option<Parts<'_>> {
    let (message, signature) = token.rsplit_once('.')?;
    let (header, claims) = message.split_once('.')?;
    let header = URL_SAFE_NO_PAD.decode(header).ok()?;
    let claims = json::object(&URL_SAFE_NO_PAD.decode(claims).ok()?)?;
    URL_SAFE_NO_PAD.decode(signature).ok()?;
    let header = json::object(&header)?;
    if header.get("alg").and_then(Value::as_str) != Some("HS256") {
        return None;
    }
    if ["crit", "zip", "b64"]
        .iter()
        .any(|name| header.contains_key(*name))
    {
        return None;
    }
    Some(Parts {
        message,
        signature,
        claims,
    })
}

fn check_times(
    object: &Map<String, Value>,
    rules: &Rules,
    usage: Usage,
    now: u64,
) -> Result<(), Rejection> {
    for name in ["exp", "iat", "nbf"] {
        let out_of_range = |value: &Value| value.is_number() && seconds(value).is_none();
        if object.get(name).is_some_and(out_of_range) {
            return Err(Rejection::Invalid);
        }
    }
    let strict = usage == Usage::StrictAccess;
    let may_lack_exp = usage == Usage::Access && rules.allow_missing_exp;
    match object.get("exp") {
        None if may_lack_exp => {}
        None => return Err(Rejection::Invalid),
        Some(value) => {
            let exp = seconds(value).ok_or(Rejection::Invalid)?;
            if exp.saturating_add(leeway(usage)) <= now {
                return Err(Rejection::Expired);
            }
        }
    }
    if strict {
        let ahead = |name: &str| {
            object
                .get(name)
                .and_then(seconds)
                .is_some_and(|time| time > now + STRICT_LEEWAY)
        };
        let issued = object.get("iat").and_then(seconds);
        if issued.is_none() || ahead("iat") || ahead("nbf") {
            return Err(Rejection::Invalid);
        }
    }
    Ok(())
}

fn check_use(claims: &Claims, rules: &Rules, usage: Usage, now: u64) -> Result<(), Rejection> {
    let good = match usage {
        Usage::Access | Usage::StrictAccess => {
            let life = claims
                .expires_at
                .map(|exp| exp.saturating_sub(claims.issued_at.unwrap_or(now)));
            claims.token_use.as_deref() != Some("refresh")
                && life.is_none_or(|life| life <= rules.access_max)
        }
        Usage::Refresh => match claims.token_use.as_deref() {
            Some(marked) => marked == "refresh",
            None => rules.accept_unmarked && shaped_as_refresh(claims, rules),
        },
    };
    if good {
        Ok(())
    } else {
        Err(Rejection::Invalid)
    }
}

/// Old servers gave refresh tokens no mark; their life, or what they lack, tells.
fn shaped_as_refresh(claims: &Claims, rules: &Rules) -> bool {
    match (claims.expires_at, claims.issued_at) {
        (Some(exp), Some(iat)) => exp.saturating_sub(iat) > rules.access_max,
        _ => claims.user_id.is_none(),
    }
}
