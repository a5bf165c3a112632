//! The bearer tokens of the admin listener: one for everything, read from its file or made
//! at the first start, and perhaps one that only reads. They are compared in constant time
//! and never shown.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use http::header::{AUTHORIZATION, HeaderMap};
use rand::RngExt as _;
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;

/// Fewest bytes of a token that counts.
const LEAST: usize = 16;

/// Whom the listener obeys.
#[derive(Debug, Clone)]
pub struct Tokens {
    /// Reads and changes.
    pub all: Token,
    /// Reads.
    pub read: Option<Token>,
}

impl Tokens {
    /// True if the one for reading is the other one as well: whoever reads could change.
    pub fn are_one(&self) -> bool {
        let all = self.all.0.expose_secret();
        let read = self.read.as_ref();
        read.is_some_and(|read| read.0.expose_secret() == all)
    }

    /// True if the headers carry a token that is good for it: to read, or to change.
    pub(super) fn allow(&self, headers: &HeaderMap, reads: bool) -> bool {
        let read = self.read.as_ref().filter(|_| reads);
        self.all.is_in(headers) || read.is_some_and(|read| read.is_in(headers))
    }
}

/// One of them.
#[derive(Debug, Clone)]
pub struct Token(SecretString);

impl Token {
    /// Reads the file; one that is missing is made, readable by this user only, with
    /// 32 random bytes in hex.
    ///
    /// # Errors
    /// It can be neither read nor made, or holds less than 16 bytes.
    pub fn open_or_make(path: &Path) -> std::io::Result<Token> {
        match std::fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Token::of(&make(path)?),
            other => Token::of(&other?),
        }
    }

    /// Reads the file.
    ///
    /// # Errors
    /// It cannot be read, or holds less than 16 bytes.
    pub fn open(path: &Path) -> std::io::Result<Token> {
        Token::of(&std::fs::read_to_string(path)?)
    }

    fn of(text: &str) -> std::io::Result<Token> {
        let token = text.trim();
        if token.len() < LEAST {
            let problem = format!("it holds less than {LEAST} bytes");
            return Err(std::io::Error::other(problem));
        }
        Ok(Token(token.into()))
    }

    /// True if the headers carry it (RFC 6750 section 2.1).
    pub(super) fn is_in(&self, headers: &HeaderMap) -> bool {
        let given = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let Some((scheme, token)) = given.and_then(|given| given.split_once(' ')) else {
            return false;
        };
        let same = self
            .0
            .expose_secret()
            .as_bytes()
            .ct_eq(token.trim().as_bytes());
        scheme.eq_ignore_ascii_case("bearer") && same.into()
    }
}

fn make(path: &Path) -> std::io::Result<String> {
    let token = hex::encode(rand::rng().random::<[u8; 32]>());
    let mut file = std::fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(token.as_bytes())?;
    file.sync_all()?;
    Ok(token)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use http::header::HeaderValue;

    use super::*;

    #[test]
    fn it_is_made_once_and_for_this_user_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let first = Token::open_or_make(&path).unwrap();
        let second = Token::open_or_make(&path).unwrap();
        assert_eq!(first.0.expose_secret(), second.0.expose_secret());
        assert_eq!(first.0.expose_secret().len(), 64);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        std::fs::write(&path, " short \n").unwrap();
        assert!(Token::open_or_make(&path).is_err());
        assert!(Token::open_or_make(&folder.path().join("none/token")).is_err());
        assert!(Token::open(&folder.path().join("none")).is_err());
    }

    #[test]
    fn only_the_whole_token_counts() {
        let token = Token("0123456789abcdef".into());
        let said = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::from_static(value));
            token.is_in(&headers)
        };
        for right in ["Bearer 0123456789abcdef", "bearer  0123456789abcdef "] {
            assert!(said(right), "{right:?}");
        }
        for wrong in [
            "",
            "Bearer",
            "Bearer ",
            "0123456789abcdef",
            "Basic 0123456789abcdef",
            "Bearer 0123456789abcde",
            "Bearer 0123456789abcdeff",
        ] {
            assert!(!said(wrong), "{wrong:?}");
        }
        assert!(!token.is_in(&HeaderMap::new()));
    }

    #[test]
    fn the_token_for_reading_changes_nothing() {
        let tokens = Tokens {
            all: Token("all-all-all-all-".into()),
            read: Some(Token("read-read-read-r".into())),
        };
        let allowed = |token: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::from_static(token));
            (tokens.allow(&headers, true), tokens.allow(&headers, false))
        };
        assert_eq!(allowed("Bearer all-all-all-all-"), (true, true));
        assert_eq!(allowed("Bearer read-read-read-r"), (true, false));
        assert_eq!(allowed("Bearer neither-neither-"), (false, false));
        assert!(!tokens.are_one());
        let read = Some(tokens.all.clone());
        assert!(Tokens { read, ..tokens }.are_one());
    }
}
