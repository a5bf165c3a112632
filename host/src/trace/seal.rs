//! Traces that keep their secrets: AES-256-GCM (NIST SP 800-38D) with a random nonce, under
//! a key of the operator's.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};

/// What an encrypted trace begins with; it is authenticated too.
const MAGIC: &[u8] = b"lockgate-trace-1\n";

/// Why there is no key, or it cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Not 32 bytes in hex.
    #[error("a key for traces is 64 hex digits, as of `openssl rand -hex 32`")]
    Form,
    /// The library refused.
    #[error("the trace could not be encrypted")]
    Seal,
}

/// A key for traces.
pub struct Key(RandomizedNonceKey);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").finish_non_exhaustive()
    }
}

impl Key {
    /// From the text of a key file: 64 hex digits.
    ///
    /// # Errors
    /// [`KeyError::Form`].
    pub fn from_text(text: &str) -> Result<Key, KeyError> {
        let bytes = zeroize::Zeroizing::new(hex::decode(text.trim()).map_err(|_| KeyError::Form)?);
        let key = RandomizedNonceKey::new(&AES_256_GCM, &bytes);
        key.map(Key).map_err(|_| KeyError::Form)
    }

    /// Magic, nonce, ciphertext, tag.
    pub(super) fn seal(&self, mut text: Vec<u8>) -> Result<Vec<u8>, KeyError> {
        let nonce = self.0.seal_in_place_append_tag(Aad::from(MAGIC), &mut text);
        let nonce = nonce.map_err(|_| KeyError::Seal)?;
        Ok([MAGIC, nonce.as_ref().as_slice(), &text].concat())
    }

    /// The text; none: another key, or it was changed.
    pub(super) fn open(&self, file: Vec<u8>) -> Option<Vec<u8>> {
        let rest = file.strip_prefix(MAGIC)?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let mut text = sealed.to_vec();
        let nonce = Nonce::from(nonce);
        let length = self
            .0
            .open_in_place(nonce, Aad::from(MAGIC), &mut text)
            .ok()?
            .len();
        text.truncate(length);
        Some(text)
    }
}

/// True for what [`Key::seal`] made.
pub(super) fn is_sealed(file: &[u8]) -> bool {
    file.starts_with(MAGIC)
}
