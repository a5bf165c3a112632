//! Tokens that were found good lately, by their SHA-256, so that the same token is not
//! taken apart for every request. Only what depends on nothing but token, keys and time
//! is remembered: revocations and users are asked about each time. It verifies nothing.

use std::sync::Arc;

use moka::sync::Cache;

use super::claims::Claims;
use super::verify::Usage;

/// What an entry costs besides the token's claims, bytes.
const ENTRY: usize = 512;

/// One good token.
#[derive(Debug, Clone)]
pub(super) struct Verified {
    /// As they were verified.
    pub(super) claims: Arc<Claims>,
    /// The generation of the keys that it was verified with.
    pub(super) keys: u64,
    /// Unix seconds from which the verification holds.
    pub(super) from: u64,
    /// Unix seconds from which it holds no more.
    pub(super) until: u64,
    /// Bytes of the token.
    pub(super) size: usize,
}

/// SHA-256 of the token, and what it is to be used for.
type Key = ([u8; 32], Usage);

/// The tokens; the least used go first.
#[derive(Debug)]
pub(super) struct VerifiedTokens(Option<Cache<Key, Verified>>);

impl VerifiedTokens {
    /// Keeps tokens of about so many bytes; none if 0.
    pub(super) fn new(bytes: u64) -> VerifiedTokens {
        let weight =
            |_: &Key, verified: &Verified| u32::try_from(ENTRY + verified.size).unwrap_or(u32::MAX);
        let cache = Cache::builder().max_capacity(bytes).weigher(weight);
        VerifiedTokens((bytes > 0).then(|| cache.build()))
    }

    /// The claims of a token that is still good with the same keys.
    pub(super) fn get(
        &self,
        digest: [u8; 32],
        usage: Usage,
        keys: u64,
        now: u64,
    ) -> Option<Arc<Claims>> {
        let found = self.0.as_ref()?.get(&(digest, usage))?;
        let good = found.keys == keys && (found.from..found.until).contains(&now);
        good.then_some(found.claims)
    }

    /// Keeps a token that was found good, if any is kept.
    pub(super) fn keep(&self, digest: [u8; 32], usage: Usage, verified: impl FnOnce() -> Verified) {
        if let Some(cache) = &self.0 {
            cache.insert((digest, usage), verified());
        }
    }
}
