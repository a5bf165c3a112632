//! Compiled code between two starts. Wasmtime trusts what it deserialises, so this
//! folder is written by Lockgate only, readable by its user only, and every file is
//! checked against its own checksum first. A file that does not fit counts as absent.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use wasmtime::component::Component;

const MAGIC: &[u8; 16] = b"lockgate-code-1\n";
const HEADER: usize = 16 + 32;
/// Files kept; the oldest go first.
const KEEP: usize = 64;

/// A folder of compiled components.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// Uses `folder`, which is made for this user only.
    ///
    /// # Errors
    /// It cannot be made, or others may write to it.
    pub fn open(folder: PathBuf) -> std::io::Result<Cache> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)?;
        if fs::metadata(&folder)?.mode() & 0o022 != 0 {
            return Err(std::io::Error::other("others may write to it"));
        }
        Ok(Cache { folder })
    }

    /// The code of the component with this digest, if it fits this engine.
    pub(super) fn get(&self, engine: &wasmtime::Engine, digest: &str) -> Option<Component> {
        let path = self.path(engine, digest);
        let bytes = fs::read(&path).ok()?;
        let Some(code) = checked(&bytes, digest) else {
            tracing::warn!(path = %path.display(), "compiled code is damaged: compiling again");
            return None;
        };
        // SAFETY: the bytes are what `put` wrote for this very component and engine:
        // the folder is this user's alone, and the checksum has just been verified.
        #[allow(
            unsafe_code,
            reason = "compiled code is trusted once it is known to be ours"
        )]
        let component = unsafe { Component::deserialize(engine, code) };
        match component {
            Ok(component) => Some(component),
            Err(error) => {
                tracing::debug!(%error, "compiled code does not fit: compiling again");
                None
            }
        }
    }

    /// Keeps the code; a failure costs only time at the next start.
    pub(super) fn put(&self, engine: &wasmtime::Engine, digest: &str, component: &Component) {
        let path = self.path(engine, digest);
        let written = component
            .serialize()
            .map_err(std::io::Error::other)
            .and_then(|code| self.write(&path, digest, &code));
        if let Err(error) = written {
            tracing::warn!(path = %path.display(), %error, "cannot keep compiled code");
        }
        self.trim();
    }

    fn path(&self, engine: &wasmtime::Engine, digest: &str) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        self.folder
            .join(format!("{digest}-{:016x}.code", hasher.finish()))
    }

    /// Under a name of its own first, so that nobody ever reads half a file.
    fn write(&self, path: &Path, digest: &str, code: &[u8]) -> std::io::Result<()> {
        let part = path.with_extension(format!("{}.part", std::process::id()));
        let mut file = fs::OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&part)?;
        file.write_all(MAGIC)?;
        file.write_all(&checksum(code, digest))?;
        file.write_all(code)?;
        drop(file);
        fs::rename(&part, path)
    }

    fn trim(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return;
        };
        let mut files: Vec<_> = entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                Some((entry.metadata().ok()?.modified().ok()?, entry.path()))
            })
            .collect();
        files.sort();
        for (_, path) in files.iter().rev().skip(KEEP) {
            let _ = fs::remove_file(path);
        }
    }
}

/// Over the component's digest too, so that a renamed file does not pass for another.
fn checksum(code: &[u8], digest: &str) -> [u8; 32] {
    Sha256::new()
        .chain_update(digest)
        .chain_update(code)
        .finalize()
        .into()
}

fn checked<'a>(bytes: &'a [u8], digest: &str) -> Option<&'a [u8]> {
    let (header, code) = bytes.split_at_checked(HEADER)?;
    let expected = checksum(code, digest);
    (header.starts_with(MAGIC) && header.ends_with(&expected)).then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_intact_file_of_the_same_component_counts() {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(checksum(b"code", "aa"));
        bytes.extend(b"code");
        assert_eq!(checked(&bytes, "aa"), Some(&b"code"[..]));
        assert_eq!(checked(&bytes, "bb"), None);
        assert_eq!(checked(&bytes[..20], "aa"), None);
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        assert_eq!(checked(&bytes, "aa"), None);
    }

    #[test]
    fn a_folder_that_others_may_write_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Cache::open(folder.path().to_owned()).is_err());
        assert!(Cache::open(folder.path().join("own")).is_ok());
    }
}
