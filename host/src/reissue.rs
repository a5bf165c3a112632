//! Replacing a refresh token: one caller is first, and every use within the grace
//! period gets the same successor, byte for byte, on every host. It decides what is
//! signed; a plugin only hands the old token in.

use serde::{Deserialize, Serialize};

use crate::directory::{Directory, Known, Reach};
use crate::inquiry::Question;
use crate::journal::Journal;
use crate::keys::{Claims, Issued, Keys, Rejection, Usage, sha256_hex};
use crate::revocation::{Revocations, Subject};
use crate::store::{Condition, Store};

mod record;

pub use record::{absorb, is_record_key};

use record::{parse, record_key, unsettled_key};

/// How long after the login refreshing ends, seconds.
const LOGIN_LIFE: u64 = 30 * 86_400;
/// Life of the token that the session normalizer is asked with, seconds.
const QUESTION_LIFE: u64 = 60;
/// A rotation record outlives its token by the leeway, seconds.
const LEEWAY: u64 = 60;

/// How long what is signed lives. Hosts that share a store must agree on it.
#[derive(Debug, Clone, Copy)]
pub struct Lives {
    /// Of an access token, seconds.
    pub access: u64,
    /// Of a refresh token, seconds.
    pub refresh: u64,
}

/// New tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// The access token.
    pub access: String,
    /// Its `exp`, unix seconds.
    pub access_expires_at: u64,
    /// None: nothing was rotated, the old refresh token stays good.
    pub refresh: Option<String>,
    /// Whose they are.
    pub user_id: u32,
    /// E-mail.
    pub email: String,
    /// `admin` or `user`.
    pub role: String,
    /// Session.
    pub session_id: String,
    /// A configured dependency could not be asked.
    pub degraded: bool,
}

/// Why there are none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The token is not good for a refresh.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// Its claims hold no usable identity.
    #[error("the claims hold no usable identity")]
    Unsupported,
    /// The token, its session or its user is revoked.
    #[error("the token is revoked")]
    Revoked,
    /// It was used before, longer ago than the grace period: theft.
    #[error("the token was used before")]
    Reused {
        /// Whose it is.
        user_id: u32,
        /// The session to revoke.
        session_id: String,
    },
    /// The user is disabled.
    #[error("the user is disabled")]
    Disabled,
    /// The users table has no such user.
    #[error("there is no such user")]
    Missing,
    /// The e-mail of the users table differs from the token's.
    #[error("the e-mail differs from the user's")]
    Mismatch,
    /// The record of the rotation could not be kept.
    #[error("the rotation could not be recorded")]
    Unavailable,
}

/// What the successors are made of. With the same key it gives the same tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Rotation {
    jti: String,
    access_jti: String,
    iat: u64,
    user_id: u32,
    email: String,
    role: String,
    session_id: String,
    device_id: String,
    tfa_verified: bool,
    auth_time: u64,
    rotated_at: u64,
    /// Name of the key that signed them, so that they stay the same tokens when the
    /// key changes within the grace.
    #[serde(default)]
    signer: String,
}

/// What a reissue works with, for one request.
#[derive(Debug, Clone, Copy)]
pub struct Reissue<'a> {
    /// Checks the old token and signs the new ones.
    pub keys: &'a Keys,
    /// Asked first.
    pub revocations: &'a Revocations,
    /// Rotation records are kept here as well.
    pub journal: &'a Journal,
    /// Role and e-mail where known.
    pub directory: &'a Directory,
    /// Where rotation records are shared.
    pub store: &'a dyn Store,
    /// The store is shared with other hosts: while it is away nothing is rotated.
    pub shared: bool,
    /// Of the new tokens.
    pub lives: Lives,
    /// Seconds in which a rotated token gives its successor.
    pub grace: u64,
    /// Unix seconds.
    pub now: u64,
    /// Of the request that wants it.
    pub request_id: &'a str,
}

fn random_id() -> String {
    hex::encode(rand::random::<[u8; 16]>())
}

impl Reissue<'_> {
    /// Replaces a refresh token.
    ///
    /// # Errors
    /// [`Refusal`], the first reason in the order token, identity, age of the login,
    /// revocations, user, earlier use.
    pub async fn reissue(&self, token: &str) -> Result<Tokens, Refusal> {
        let claims = self.keys.verify(token, Usage::Refresh, self.now)?;
        let identity = claims.identity().map_err(|_| Refusal::Unsupported)?;
        let session_id = claims.session();
        let logged_in = claims
            .auth_time
            .or(claims.issued_at)
            .unwrap_or(self.now)
            .min(self.now);
        if self.now > logged_in.saturating_add(LOGIN_LIFE) {
            return Err(Refusal::Rejected(Rejection::Expired));
        }
        let subject = Subject {
            user_id: identity.user_id,
            session_id: session_id.clone(),
            token_sha256: claims.token_sha256.clone(),
            issued_at: claims.issued_at,
        };
        let verdict = self.revocations.check(&subject, self.store).await;
        if verdict.revoked {
            return Err(Refusal::Revoked);
        }
        let candidate = Rotation {
            jti: random_id(),
            access_jti: random_id(),
            iat: self.now,
            user_id: identity.user_id,
            email: identity.email,
            role: identity.role.as_str().to_owned(),
            session_id,
            device_id: claims
                .device_id
                .clone()
                .filter(|id| !id.is_empty())
                .unwrap_or_else(random_id),
            tfa_verified: claims.tfa_verified.unwrap_or(false),
            auth_time: logged_in,
            rotated_at: self.now,
            signer: self.keys.signer().unwrap_or_default(),
        };
        let (candidate, degraded) = self.of_user(candidate).await?;
        let tokens = self.rotate(&claims, candidate, verdict.asked).await?;
        Ok(Tokens {
            degraded: tokens.degraded || degraded,
            ..tokens
        })
    }

    /// With the role and the e-mail of the users table, where known. The session
    /// normalizer takes access tokens only, so it is asked with one that nobody else
    /// sees.
    async fn of_user(&self, candidate: Rotation) -> Result<(Rotation, bool), Refusal> {
        let claims = candidate.claims("access", &random_id(), QUESTION_LIFE);
        let token = self.keys.sign(&claims).unwrap_or_default();
        let reach = Reach::Normalizer(Question {
            token: &token,
            request_id: self.request_id,
        });
        let user_id = candidate.user_id;
        let answer = self.directory.lookup(self.store, user_id, reach).await;
        let candidate = match answer.known {
            Known::Active { email, role }
                if email.to_lowercase() == candidate.email.to_lowercase() =>
            {
                Rotation {
                    email,
                    role,
                    ..candidate
                }
            }
            Known::Active { .. } | Known::OtherEmail => return Err(Refusal::Mismatch),
            Known::Disabled => return Err(Refusal::Disabled),
            Known::Missing => return Err(Refusal::Missing),
            Known::Unknown => candidate,
        };
        Ok((candidate, answer.degraded))
    }

    /// Makes the candidate the successor, unless there is one already.
    async fn rotate(
        &self,
        claims: &Claims,
        candidate: Rotation,
        asked: bool,
    ) -> Result<Tokens, Refusal> {
        let key = record_key(&claims.token_sha256);
        if let Some(record) = self.kept(&key)? {
            return self.successor(&record, claims, &candidate, !asked).await;
        }
        if !asked {
            return self.without_rotation(&candidate);
        }
        let ends = claims
            .expires_at
            .unwrap_or(self.now)
            .saturating_add(LEEWAY)
            .max(self.now + 1);
        let ttl = u32::try_from(ends - self.now).unwrap_or(u32::MAX);
        let value = serde_json::to_vec(&candidate).map_err(|_| Refusal::Unavailable)?;
        match self.store.set(&key, &value, ttl, Condition::IfAbsent).await {
            Ok(true) => {
                self.keep(key, value, ends).await?;
                self.sign(&candidate, true, false)
            }
            Ok(false) => {
                let value = self.store.get(&key).await.ok().flatten();
                let value = value.ok_or(Refusal::Unavailable)?;
                let record = parse(&value).ok_or(Refusal::Unavailable)?;
                self.keep(key, value, ends).await?;
                self.successor(&record, claims, &candidate, false).await
            }
            Err(_) => {
                // Perhaps it was written all the same. Without this note a later use
                // of the token would look like theft.
                let unsettled = unsettled_key(&claims.token_sha256);
                self.keep(unsettled, candidate.jti.clone().into_bytes(), ends)
                    .await?;
                self.without_rotation(&candidate)
            }
        }
    }

    /// The successor that was recorded, while the grace holds.
    async fn successor(
        &self,
        record: &Rotation,
        claims: &Claims,
        candidate: &Rotation,
        degraded: bool,
    ) -> Result<Tokens, Refusal> {
        if !record.plausible(claims, candidate, self.now) {
            return Err(Refusal::Unavailable);
        }
        let theft = || Refusal::Reused {
            user_id: record.user_id,
            session_id: record.session_id.clone(),
        };
        if self.now > record.rotated_at.saturating_add(self.grace) {
            return match self.settle(record, claims, candidate).await {
                Some(tokens) => tokens,
                None => Err(theft()),
            };
        }
        let tokens = self.sign(record, true, degraded)?;
        // The grace is for the direct parent only: once the successor was used, its
        // parent is of no use to anybody honest.
        if self.used(&tokens).await? {
            return Err(theft());
        }
        // From now on somebody has these tokens.
        let unsettled = unsettled_key(&claims.token_sha256);
        if let Ok(Some(_)) = self.journal.get(&unsettled, self.now) {
            self.journal
                .remove(unsettled)
                .await
                .map_err(|_| Refusal::Unavailable)?;
        }
        Ok(tokens)
    }

    /// True if the refresh token among these was replaced itself.
    async fn used(&self, tokens: &Tokens) -> Result<bool, Refusal> {
        let Some(refresh) = &tokens.refresh else {
            return Ok(false);
        };
        let key = record_key(&sha256_hex(refresh.as_bytes()));
        if self.kept(&key)?.is_some() {
            return Ok(true);
        }
        Ok(matches!(self.store.get(&key).await, Ok(Some(_))))
    }

    /// If the record is one of ours whose writing was never confirmed, nobody was
    /// given its tokens here: the use is a first one. None: it is not.
    async fn settle(
        &self,
        record: &Rotation,
        claims: &Claims,
        candidate: &Rotation,
    ) -> Option<Result<Tokens, Refusal>> {
        let unsettled = unsettled_key(&claims.token_sha256);
        let noted = self.journal.get(&unsettled, self.now).ok().flatten()?;
        if noted != record.jti.as_bytes() {
            return None;
        }
        // Another host may have given them to somebody who went on with them.
        let given = self.sign(record, true, false).ok()?;
        if self.used(&given).await.ok()? {
            return None;
        }
        let key = record_key(&claims.token_sha256);
        let ends = claims.expires_at?.saturating_add(LEEWAY).max(self.now + 1);
        let ttl = u32::try_from(ends - self.now).unwrap_or(u32::MAX);
        let (before, after) = (
            serde_json::to_vec(record).ok()?,
            serde_json::to_vec(candidate).ok()?,
        );
        let won = self.store.compare_and_set(&key, &before, &after, ttl).await;
        if won != Ok(true) {
            return Some(Err(Refusal::Unavailable));
        }
        if let Err(refusal) = self.keep(key, after, ends).await {
            return Some(Err(refusal));
        }
        // If this fails the note ends with the token and names an id that is gone.
        let _ = self.journal.remove(unsettled).await;
        Some(self.sign(candidate, true, false))
    }

    /// Only an access token: the shared store cannot say who is first.
    fn without_rotation(&self, candidate: &Rotation) -> Result<Tokens, Refusal> {
        if !self.shared {
            return Err(Refusal::Unavailable);
        }
        self.sign(candidate, false, true)
    }

    fn kept(&self, key: &str) -> Result<Option<Rotation>, Refusal> {
        let value = self
            .journal
            .get(key, self.now)
            .map_err(|_| Refusal::Unavailable)?;
        Ok(value.and_then(|value| parse(&value)))
    }

    async fn keep(&self, key: String, value: Vec<u8>, ends: u64) -> Result<(), Refusal> {
        self.journal
            .put(key, value, ends)
            .await
            .map_err(|_| Refusal::Unavailable)
    }

    fn sign(&self, record: &Rotation, rotated: bool, degraded: bool) -> Result<Tokens, Refusal> {
        let access = record.claims("access", &record.access_jti, self.lives.access);
        let refresh = record.claims("refresh", &record.jti, self.lives.refresh);
        let sign = |claims: &Issued| {
            self.keys
                .sign_again(claims, &record.signer)
                .ok_or(Refusal::Rejected(Rejection::NoSecret))
        };
        Ok(Tokens {
            access: sign(&access)?,
            access_expires_at: access.exp,
            refresh: if rotated { Some(sign(&refresh)?) } else { None },
            user_id: record.user_id,
            email: record.email.clone(),
            role: record.role.clone(),
            session_id: record.session_id.clone(),
            degraded,
        })
    }
}

#[cfg(test)]
mod tests;
