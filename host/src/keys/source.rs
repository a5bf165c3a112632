//! Where secrets are read from. It trims white space at both ends and changes
//! nothing else: an inner newline is part of the key.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretSlice, SecretString};
use zeroize::Zeroize;

/// Shorter secrets are none, bytes (RFC 7518 section 3.2: at least the hash's size).
pub const MIN_SECRET: usize = 32;
/// Longest file that is read, bytes.
const MAX_FILE: u64 = 64 * 1024;

/// The source that was chosen at the start.
#[derive(Debug)]
pub(super) enum Source {
    /// A file, which may change.
    File(PathBuf),
    /// The environment, which does not.
    Variable,
}

impl Source {
    /// The file, if it is one.
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Source::File(path) => Some(path),
            Source::Variable => None,
        }
    }

    /// Unix seconds of the file's last change: of its content, or of the file that
    /// stands under the name.
    pub(super) fn changed(&self) -> Option<u64> {
        let metadata = std::fs::metadata(self.path()?).ok()?;
        u64::try_from(metadata.mtime().max(metadata.ctime())).ok()
    }
}

/// The first readable and non-empty source. One that is too short is still the
/// chosen one, and gives no key: falling through to another would hide the fault.
pub(super) fn choose(
    files: &[PathBuf],
    variable: Option<&SecretString>,
) -> Option<(Source, Option<SecretSlice<u8>>)> {
    for path in files {
        let Some(content) = content(path) else {
            continue;
        };
        let source = Source::File(path.clone());
        if content.expose_secret().len() < MIN_SECRET {
            tracing::error!(path = %path.display(), "the JWT secret is too short");
            return Some((source, None));
        }
        tracing::info!(path = %path.display(), "the JWT secret comes from a file");
        return Some((source, Some(content)));
    }
    let secret = trimmed(variable?.expose_secret().as_bytes().to_vec());
    if secret.expose_secret().len() < MIN_SECRET {
        if !secret.expose_secret().is_empty() {
            tracing::error!("the JWT secret in JWT_SECRET_KEY is too short");
        }
        return None;
    }
    tracing::info!("the JWT secret comes from JWT_SECRET_KEY");
    Some((Source::Variable, Some(secret)))
}

/// A secret from a file, trimmed at both ends; none if it cannot be read or has
/// fewer than [`MIN_SECRET`] bytes, which is reported.
pub fn secret_file(path: &Path) -> Option<SecretSlice<u8>> {
    read(path)
        .inspect_err(|fault| {
            tracing::error!(path = %path.display(), fault, "a secret's file cannot be used");
        })
        .ok()
}

/// The secret in the file now, or what is wrong with the file.
pub(super) fn read(path: &Path) -> Result<SecretSlice<u8>, &'static str> {
    let Some(secret) = content(path) else {
        return Err("unreadable or empty");
    };
    if secret.expose_secret().len() < MIN_SECRET {
        return Err("too short");
    }
    Ok(secret)
}

/// None if unreadable, over long or empty.
fn content(path: &Path) -> Option<SecretSlice<u8>> {
    let metadata = std::fs::metadata(path).ok()?;
    if !metadata.is_file() || metadata.len() > MAX_FILE {
        return None;
    }
    let secret = trimmed(std::fs::read(path).ok()?);
    (!secret.expose_secret().is_empty()).then_some(secret)
}

fn trimmed(mut bytes: Vec<u8>) -> SecretSlice<u8> {
    let secret = SecretSlice::from(bytes.trim_ascii().to_vec());
    bytes.zeroize();
    secret
}
