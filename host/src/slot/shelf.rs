//! What a restart must know of a service: its last good revisions, as files, and the
//! digests that failed their trial. A folder that only Lockgate writes. A disk that
//! fails costs the next start its memory, never a request.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::revision;

/// Good revisions kept.
const GOOD: usize = 3;

/// Failed digests remembered; the oldest go first.
const FAILED: usize = 64;

/// The folder of one service, and what it says.
#[derive(Debug)]
pub(super) struct Shelf {
    folder: PathBuf,
    known: Mutex<Known>,
    writing: Mutex<()>,
}

/// `known.json`.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(default)]
struct Known {
    /// Digests, the newest first.
    good: Vec<String>,
    /// Digests, the newest last.
    failed: Vec<Failed>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Failed {
    digest: String,
    why: String,
}

impl Shelf {
    /// Reads what the folder says; a damaged or missing one says nothing.
    pub(super) fn open(folder: PathBuf) -> Shelf {
        let known = fs::read(folder.join("known.json")).ok().map(|text| {
            serde_json::from_slice(&text).unwrap_or_else(|error| {
                tracing::warn!(folder = %folder.display(), %error, "the kept revisions are not readable");
                Known::default()
            })
        });
        Shelf {
            folder,
            known: Mutex::new(known.unwrap_or_default()),
            writing: Mutex::default(),
        }
    }

    /// Why the file with this digest is not tried again.
    pub(super) fn why_failed(&self, digest: &str) -> Option<String> {
        let known = self.known();
        let failed = known.failed.iter().find(|failed| failed.digest == digest);
        failed.map(|failed| failed.why.clone())
    }

    /// The digest failed its trial. [`Shelf::save`] makes it last.
    pub(super) fn note_failed(&self, digest: &str, why: &str) {
        let mut known = self.known();
        known.good.retain(|good| good != digest);
        known.failed.retain(|failed| failed.digest != digest);
        known.failed.push(Failed {
            digest: digest.to_owned(),
            why: why.to_owned(),
        });
        let over = known.failed.len().saturating_sub(FAILED);
        known.failed.drain(..over);
    }

    /// Keeps a revision that has answered, in place of the oldest. Blocks on the disk.
    pub(super) fn keep(&self, digest: &str, bytes: &[u8]) {
        let written = self
            .make()
            .and_then(|()| self.write(&self.file(digest), bytes));
        if let Err(error) = written {
            return self.complain(&error);
        }
        {
            let mut known = self.known();
            // Meanwhile it may have failed its trial.
            if !known.failed.iter().any(|failed| failed.digest == digest) {
                known.good.retain(|good| good != digest);
                known.good.insert(0, digest.to_owned());
                known.good.truncate(GOOD);
            }
        }
        self.save();
    }

    /// Writes what is known, and removes the files of revisions that are not kept any
    /// more. Blocks on the disk.
    pub(super) fn save(&self) {
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.known().clone();
        let written = self.make().and_then(|()| {
            let text = serde_json::to_vec_pretty(&known)?;
            self.write(&self.folder.join("known.json"), &text)
        });
        if let Err(error) = written {
            return self.complain(&error);
        }
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_component = path.extension().is_some_and(|kind| kind == "wasm");
            if is_component && !known.good.iter().any(|digest| path == self.file(digest)) {
                let _ = fs::remove_file(path);
            }
        }
    }

    /// The kept revisions whose files are intact, the newest first. Blocks on the disk.
    pub(super) fn good(&self) -> Vec<Bytes> {
        let digests = self.known().good.clone();
        let intact = digests.iter().filter_map(|digest| {
            let bytes = fs::read(self.file(digest)).ok()?;
            (revision::digest(&bytes) == *digest).then(|| bytes.into())
        });
        intact.collect()
    }

    fn file(&self, digest: &str) -> PathBuf {
        self.folder.join(format!("{digest}.wasm"))
    }

    fn make(&self) -> std::io::Result<()> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
    }

    /// Under another name first, so that a crash leaves the old contents or the new.
    fn write(&self, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
        let part = path.with_extension("part");
        let mut file = fs::OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&part, path)
    }

    fn complain(&self, error: &std::io::Error) {
        tracing::warn!(folder = %self.folder.display(), %error, "cannot keep the last good revisions");
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(shelf: &Shelf) -> Vec<Bytes> {
        shelf.good()
    }

    fn keep(shelf: &Shelf, bytes: &'static [u8]) {
        shelf.keep(&revision::digest(bytes), bytes);
    }

    #[test]
    fn the_newest_good_ones_outlive_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(folder.path().join("a"));
        for bytes in [&b"1"[..], b"2", b"3", b"4", b"2"] {
            keep(&shelf, bytes);
        }
        let shelf = Shelf::open(folder.path().join("a"));
        assert_eq!(kept(&shelf), ["2", "4", "3"]);
        assert_eq!(fs::read_dir(folder.path().join("a")).unwrap().count(), 4);
    }

    #[test]
    fn what_failed_is_remembered_and_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(folder.path().to_owned());
        keep(&shelf, b"1");
        keep(&shelf, b"2");
        let digest = revision::digest(b"2");
        shelf.note_failed(&digest, "it trapped");
        shelf.save();
        keep(&shelf, b"2");
        let shelf = Shelf::open(folder.path().to_owned());
        assert_eq!(kept(&shelf), ["1"]);
        assert_eq!(shelf.why_failed(&digest).as_deref(), Some("it trapped"));
        for number in 0..2 * FAILED {
            shelf.note_failed(&number.to_string(), "it trapped");
        }
        assert_eq!(shelf.known().failed.len(), FAILED);
        assert_eq!(shelf.why_failed(&digest), None);
    }

    #[test]
    fn damage_counts_as_absent() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(folder.path().to_owned());
        keep(&shelf, b"1");
        keep(&shelf, b"2");
        fs::write(shelf.file(&revision::digest(b"2")), b"x").unwrap();
        assert_eq!(kept(&shelf), ["1"]);
        fs::write(folder.path().join("known.json"), b"{").unwrap();
        assert!(kept(&Shelf::open(folder.path().to_owned())).is_empty());
    }
}
