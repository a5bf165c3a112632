//! The `csrf_token` cookie: makes values and checks them. It owns the CSRF secret
//! and never shows it. Whether a request needs a token is decided elsewhere.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::Rng as _;
use secrecy::{ExposeSecret as _, SecretSlice};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::keys::hmac_sha256;

/// How long a value is good, seconds.
const MAX_AGE: u64 = 604_800;
/// How far the clocks of two makers may differ, seconds.
const SKEW: u64 = 60;
/// Random bytes in a nonce.
const NONCE: usize = 32;
/// Characters of a nonce.
const NONCE_TEXT: usize = 43;
/// Longest value that is looked at, bytes.
const MAX_VALUE: usize = 256;

/// The CSRF secret is configured but cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use CSRF_SECRET_FILE {path}: {reason}")]
pub struct SecretError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// Makes and checks values.
pub struct Csrf {
    /// None: the JWT secret signs, and signatures are not checked.
    secret: Option<SecretSlice<u8>>,
}

impl std::fmt::Debug for Csrf {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Csrf").finish_non_exhaustive()
    }
}

impl Csrf {
    /// Reads the secret, if a file is named; white space around it is no part of it.
    ///
    /// # Errors
    /// [`SecretError`] if the file cannot be read or holds nothing.
    pub fn open(file: Option<&Path>) -> Result<Csrf, SecretError> {
        let Some(path) = file else {
            return Ok(Csrf { secret: None });
        };
        let refused = |reason: String| SecretError {
            path: path.to_owned(),
            reason,
        };
        let bytes =
            Zeroizing::new(std::fs::read(path).map_err(|error| refused(error.to_string()))?);
        let secret = bytes.trim_ascii();
        if secret.is_empty() {
            return Err(refused("it is empty".into()));
        }
        Ok(Csrf {
            secret: Some(SecretSlice::from(secret.to_vec())),
        })
    }

    /// A new cookie value at `now` (unix seconds). `authenticate` makes the
    /// HMAC-SHA256 under the JWT secret and is used if there is no CSRF secret. None:
    /// neither is there.
    pub fn issue(
        &self,
        authenticate: impl FnOnce(&[u8]) -> Option<Vec<u8>>,
        now: u64,
    ) -> Option<String> {
        let mut nonce = [0; NONCE];
        rand::rng().fill_bytes(&mut nonce);
        let signed = format!("{now}:{}", URL_SAFE_NO_PAD.encode(nonce));
        let tag = match &self.secret {
            Some(secret) => hmac_sha256(secret.expose_secret(), signed.as_bytes()),
            None => authenticate(signed.as_bytes()),
        };
        Some(format!("{signed}:{}", hex::encode(tag?)))
    }

    /// True if `header` equals one of the cookie values, in constant time. Signature
    /// and age are checked too if there is a CSRF secret.
    pub fn check(&self, header: &str, cookies: &[String], now: u64) -> bool {
        if header.is_empty() || header.len() > MAX_VALUE {
            return false;
        }
        // Every cookie is compared, so that the time does not tell which one matched.
        let equal = cookies.iter().fold(subtle::Choice::from(0), |any, cookie| {
            any | cookie.as_bytes().ct_eq(header.as_bytes())
        });
        bool::from(equal)
            && self
                .secret
                .as_ref()
                .is_none_or(|secret| genuine(secret.expose_secret(), header, now).is_some())
    }
}

/// Something if the value is well-formed, was signed with the secret and is not too old.
fn genuine(secret: &[u8], value: &str, now: u64) -> Option<()> {
    let (signed, tag) = value.rsplit_once(':')?;
    let (time, nonce) = signed.split_once(':')?;
    let tag = hex::decode(tag).ok()?;
    let expected = hmac_sha256(secret, signed.as_bytes())?;
    if !bool::from(expected.ct_eq(&tag)) {
        return None;
    }
    // Signed, so its bits need not be canonical; other makers only promise the alphabet.
    let url_safe = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if nonce.len() != NONCE_TEXT || !nonce.bytes().all(url_safe) {
        return None;
    }
    let time: u64 = time.parse().ok()?;
    let good = time <= now.saturating_add(SKEW) && now.saturating_sub(time) <= MAX_AGE;
    good.then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_900_000_000;
    const SECRET: &[u8] = b"csrf secret of the main api, long enough";

    fn no_key(_: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn with_secret() -> (Csrf, tempfile::NamedTempFile) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [b" \n", SECRET, b"\n"].concat()).unwrap();
        (Csrf::open(Some(file.path())).unwrap(), file)
    }

    fn check(csrf: &Csrf, header: &str, cookies: &[&str], now: u64) -> bool {
        let cookies: Vec<String> = cookies.iter().map(ToString::to_string).collect();
        csrf.check(header, &cookies, now)
    }

    /// Made with Python: `hmac.new(SECRET, b"1900000000:" + nonce, "sha256")`.
    #[test]
    fn a_value_of_another_maker_is_good() {
        let (csrf, _file) = with_secret();
        let value = "1900000000:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA:050f05a281c4e2cddcf571883eae2a377e71c5ee1533dc0f3e37a30cde95f125";
        assert!(check(&csrf, value, &[value], NOW + 5));
    }

    #[test]
    fn an_issued_value_has_the_form_and_is_good_for_a_week() {
        let (csrf, _file) = with_secret();
        let value = csrf.issue(no_key, NOW).unwrap();
        let parts: Vec<&str> = value.split(':').collect();
        assert_eq!(parts[0], NOW.to_string());
        assert_eq!((parts[1].len(), parts[2].len(), parts.len()), (43, 64, 3));
        assert_ne!(csrf.issue(no_key, NOW).unwrap(), value);
        assert!(check(&csrf, &value, &["another", &value], NOW));
        assert!(check(&csrf, &value, &[&value], NOW + 604_800));
        assert!(!check(&csrf, &value, &[&value], NOW + 604_801));
        assert!(check(&csrf, &value, &[&value], NOW - 60));
        assert!(!check(&csrf, &value, &[&value], NOW - 61));
    }

    #[test]
    fn the_header_must_equal_a_cookie() {
        let (csrf, _file) = with_secret();
        let value = csrf.issue(no_key, NOW).unwrap();
        let other = csrf.issue(no_key, NOW).unwrap();
        assert!(!check(&csrf, &value, &[], NOW));
        assert!(!check(&csrf, &value, &[&other], NOW));
        assert!(!check(&csrf, "", &[""], NOW));
        assert!(!check(&csrf, "", &[&value], NOW));
    }

    #[test]
    fn with_a_secret_forged_and_broken_values_are_refused() {
        let (csrf, _file) = with_secret();
        let foreign = Csrf { secret: None }
            .issue(|message| hmac_sha256(b"another key", message), NOW)
            .unwrap();
        let good = csrf.issue(no_key, NOW).unwrap();
        let newer = good.replacen("1900000000", "1900000001", 1);
        let long = "a".repeat(MAX_VALUE + 1);
        for value in [
            foreign.as_str(),
            newer.as_str(),
            "x",
            ":::",
            "1900000000::",
            "::é",
            &long,
        ] {
            assert!(!check(&csrf, value, &[value], NOW), "{value:?}");
        }
    }

    #[test]
    fn without_a_secret_the_jwt_secret_signs_and_equality_is_enough() {
        let csrf = Csrf::open(None).unwrap();
        assert_eq!(csrf.issue(no_key, NOW), None);
        let value = csrf
            .issue(|message| hmac_sha256(SECRET, message), NOW)
            .unwrap();
        let (same_key, _file) = with_secret();
        assert!(check(&same_key, &value, &[&value], NOW));
        assert!(check(&csrf, "anything", &["anything"], NOW));
        assert!(!check(&csrf, "anything", &["else"], NOW));
    }

    #[test]
    fn a_file_that_cannot_be_used_is_reported() {
        let missing = Csrf::open(Some(Path::new("/nonexistent/csrf"))).unwrap_err();
        assert!(missing.to_string().contains("/nonexistent/csrf"));
        let empty = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(empty.path(), " \n").unwrap();
        assert!(
            Csrf::open(Some(empty.path()))
                .unwrap_err()
                .reason
                .contains("empty")
        );
    }

    proptest::proptest! {
        #[test]
        fn without_a_secret_only_equal_values_count(
            header in "[a-c:]{0,3}",
            cookies in proptest::collection::vec("[a-c:]{0,3}", 0..4),
        ) {
            let csrf = Csrf { secret: None };
            let equal = !header.is_empty() && cookies.contains(&header);
            proptest::prop_assert_eq!(csrf.check(&header, &cookies, NOW), equal);
        }

        #[test]
        fn with_a_secret_nothing_made_up_counts(value in "[0-9]{0,11}:[A-Za-z0-9_-]{43}:[0-9a-f]{0,64}|.{0,80}") {
            let csrf = Csrf { secret: Some(SecretSlice::from(SECRET.to_vec())) };
            proptest::prop_assert!(!csrf.check(&value, std::slice::from_ref(&value), NOW));
        }

        #[test]
        fn a_value_with_one_byte_changed_counts_no_more(at in 0_usize..119, byte in "[0-9A-Za-z:_-]") {
            let csrf = Csrf { secret: Some(SecretSlice::from(SECRET.to_vec())) };
            let good = csrf.issue(no_key, NOW).unwrap();
            proptest::prop_assert!(csrf.check(&good, std::slice::from_ref(&good), NOW));
            let mut bad = good.clone();
            bad.replace_range(at..=at, &byte);
            // Hexadecimal digits have two cases.
            proptest::prop_assume!(!bad.eq_ignore_ascii_case(&good));
            proptest::prop_assert!(!csrf.check(&bad, &[bad.clone()], NOW), "{}", bad);
        }
    }
}
