//! Compiled code between two starts. Wasmtime trusts what it deserialises, so this
//! folder is written by Lockgate only, readable by its user only, and every file is
//! checked against its own checksum first. A file that does not fit counts as absent.
//! Each service has a folder of its own, so that one that is swapped often does not
//! push out the code of the others.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use wasmtime::component::Component;

const MAGIC: &[u8; 16] = b"lockgate-code-1\n";
const HEADER: usize = 16 + 32;
/// Files kept for one service; the one that was used the longest ago goes first.
const KEEP: usize = 16;

/// A folder of compiled components.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// Uses `folder`, which is made for this user only.
    ///
    /// # Errors
    /// It cannot be made, it is another user's, or others may write to it.
    pub fn open(folder: PathBuf) -> std::io::Result<Cache> {
        own(&folder)?;
        Ok(Cache { folder })
    }

    /// The code of the component with this digest, if it fits this engine.
    pub(super) fn get(
        &self,
        engine: &wasmtime::Engine,
        service: &str,
        digest: &str,
    ) -> Option<Component> {
        let path = self.path(engine, service, digest);
        let bytes = read(&path).ok()?;
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
    pub(super) fn put(
        &self,
        engine: &wasmtime::Engine,
        service: &str,
        digest: &str,
        component: &Component,
    ) {
        let path = self.path(engine, service, digest);
        let written = component
            .serialize()
            .map_err(std::io::Error::other)
            .and_then(|code| self.write(&path, digest, &code));
        if let Err(error) = written {
            tracing::warn!(path = %path.display(), %error, "cannot keep compiled code");
        }
        self.trim(service);
    }

    fn path(&self, engine: &wasmtime::Engine, service: &str, digest: &str) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        self.folder
            .join(service)
            .join(format!("{digest}-{:016x}.code", hasher.finish()))
    }

    /// Under a name of its own first, so that nobody ever reads half a file.
    fn write(&self, path: &Path, digest: &str, code: &[u8]) -> std::io::Result<()> {
        path.parent().map_or(Ok(()), own)?;
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

    fn trim(&self, service: &str) {
        let Ok(entries) = fs::read_dir(self.folder.join(service)) else {
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

/// Makes the folder for this user only, or finds it so.
fn own(folder: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let about = fs::symlink_metadata(folder)?;
    // SAFETY: `geteuid` takes no pointer and cannot fail.
    #[allow(
        unsafe_code,
        reason = "the standard library does not tell the user's id"
    )]
    let user = unsafe { libc::geteuid() };
    if !about.is_dir() || about.uid() != user || about.mode() & 0o022 != 0 {
        return Err(std::io::Error::other("others may write to it"));
    }
    Ok(())
}

/// The contents of a file, which counts as used from now.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = fs::File::open(path)?;
    // Only the order of pruning depends on it.
    let _ = file.set_modified(std::time::SystemTime::now());
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
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
        fs::write(folder.path().join("file"), "").unwrap();
        assert!(Cache::open(folder.path().join("file")).is_err());
    }

    #[test]
    fn what_was_used_lately_stays_and_services_do_not_push_each_other_out() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path().join("cache")).unwrap();
        let engine = wasmtime::Engine::default();
        let component = Component::from_binary(&engine, b"\0asm\x0d\0\x01\0").unwrap();
        let has = |service: &str, name: &str| cache.get(&engine, service, name).is_some();
        cache.put(&engine, "quiet", "0", &component);
        for number in 0..2 * KEEP {
            assert!(number == 0 || has("busy", "0"), "used before every other");
            cache.put(&engine, "busy", &number.to_string(), &component);
        }
        assert!(has("quiet", "0") && has("busy", "0") && !has("busy", "1"));
        let kept = fs::read_dir(folder.path().join("cache/busy")).unwrap();
        assert_eq!(kept.count(), KEEP);
    }
}
