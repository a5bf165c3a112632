//! What a restart must know of a service: its last good revisions, as files, the
//! digests that failed their trial, and the one that an operator pinned. A folder that
//! only Lockgate writes. A disk that fails costs the next start its memory, never a
//! request.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::revision::{self, Artifact};

/// Good revisions kept.
const GOOD: usize = 3;

/// Revisions kept that were good until they failed, so that an operator may still
/// choose one.
const SPOILT: usize = 2;

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
    /// Digests of the files that are kept, the newest first. They have answered; those
    /// that are also in `failed` are loaded only by an operator's word.
    good: Vec<String>,
    /// Digests, the newest last.
    failed: Vec<Failed>,
    /// Digest of the only revision that may serve.
    pinned: Option<String>,
    /// The highest sequence number of a signed file that has served.
    sequence: u64,
}

impl Known {
    fn has_failed(&self, digest: &str) -> bool {
        self.failed.iter().any(|failed| failed.digest == digest)
    }

    fn is_pinned(&self, digest: &str) -> bool {
        self.pinned.as_deref() == Some(digest)
    }

    /// Forgets the oldest files.
    fn prune(&mut self) {
        let (mut good, mut spoilt) = (0, 0);
        let all = std::mem::take(&mut self.good);
        for digest in all {
            let (count, most) = if self.has_failed(&digest) {
                (&mut spoilt, SPOILT)
            } else {
                (&mut good, GOOD)
            };
            *count += 1;
            if *count <= most || self.is_pinned(&digest) {
                self.good.push(digest);
            }
        }
    }
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
        known.failed.retain(|failed| failed.digest != digest);
        known.failed.push(Failed {
            digest: digest.to_owned(),
            why: why.to_owned(),
        });
        let over = known.failed.len().saturating_sub(FAILED);
        known.failed.drain(..over);
        known.prune();
    }

    /// An operator wants the digest to serve, whether it failed or not.
    pub(super) fn choose(&self, digest: &str) {
        let mut known = self.known();
        known.failed.retain(|failed| failed.digest != digest);
        let place = known.good.iter().position(|good| good == digest);
        if let Some(before) = place.and_then(|place| known.good.get_mut(..=place)) {
            before.rotate_right(1);
        }
    }

    /// The only digest that may serve, if an operator said so.
    pub(super) fn pinned(&self) -> Option<String> {
        self.known().pinned.clone()
    }

    /// Only this digest may serve from now on; none: any. [`Shelf::save`] makes it last.
    pub(super) fn pin(&self, digest: Option<String>) {
        self.known().pinned = digest;
    }

    /// The digests of the files that are kept, the newest first.
    pub(super) fn kept(&self) -> Vec<String> {
        self.known().good.clone()
    }

    /// The highest sequence number of a signed file that has served; 0: none yet.
    pub(super) fn sequence(&self) -> u64 {
        self.known().sequence
    }

    /// A signed file with this sequence number serves; true if none had a higher or the
    /// same one before. [`Shelf::save`] makes it last.
    pub(super) fn note_sequence(&self, sequence: u64) -> bool {
        let mut known = self.known();
        let higher = sequence > known.sequence;
        known.sequence = known.sequence.max(sequence);
        higher
    }

    /// The file with this digest if it is kept and intact. Blocks on the disk.
    pub(super) fn read(&self, digest: &str) -> Option<Artifact> {
        let bytes = fs::read(self.file(digest)).ok()?;
        (revision::digest(&bytes) == digest).then(|| Artifact {
            component: bytes.into(),
            signature: fs::read(self.signature(digest)).ok().map(Bytes::from),
        })
    }

    /// Keeps a revision that has answered, in place of the oldest. Blocks on the disk.
    pub(super) fn keep(&self, digest: &str, file: &Artifact) {
        // Not before the files are named, or another one's saving would remove them.
        let _one_at_a_time = self.one_at_a_time();
        let written = self.make().and_then(|()| {
            if let Some(signature) = &file.signature {
                self.write(&self.signature(digest), signature)?;
            }
            self.write(&self.file(digest), &file.component)
        });
        if let Err(error) = written {
            return self.complain(&error);
        }
        {
            let mut known = self.known();
            known.good.retain(|good| good != digest);
            known.good.insert(0, digest.to_owned());
            known.prune();
        }
        self.write_known();
    }

    /// Writes what is known, and removes the files of revisions that are not kept any
    /// more. Blocks on the disk.
    pub(super) fn save(&self) {
        let _one_at_a_time = self.one_at_a_time();
        self.write_known();
    }

    fn one_at_a_time(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_known(&self) {
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
            let of_revision = |kind: &OsStr| kind == "wasm" || kind == "sig";
            let kept =
                |digest: &String| path == self.file(digest) || path == self.signature(digest);
            if path.extension().is_some_and(of_revision) && !known.good.iter().any(kept) {
                let _ = fs::remove_file(path);
            }
        }
    }

    /// What to start with: the pinned revision, then the good ones, the newest first;
    /// of each the file, if it is intact. Blocks on the disk.
    pub(super) fn good(&self) -> Vec<Artifact> {
        let known = self.known().clone();
        let pinned = known.pinned.iter();
        let others = known
            .good
            .iter()
            .filter(|digest| !known.has_failed(digest) && !known.is_pinned(digest));
        pinned
            .chain(others)
            .filter_map(|digest| self.read(digest))
            .collect()
    }

    fn file(&self, digest: &str) -> PathBuf {
        self.folder.join(format!("{digest}.wasm"))
    }

    fn signature(&self, digest: &str) -> PathBuf {
        self.folder.join(format!("{digest}.wasm.sig"))
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
        let good = shelf.good().into_iter();
        good.map(|file| file.component).collect()
    }

    fn file(bytes: &'static [u8], signature: Option<&'static [u8]>) -> Artifact {
        Artifact {
            component: Bytes::from_static(bytes),
            signature: signature.map(Bytes::from_static),
        }
    }

    fn keep(shelf: &Shelf, bytes: &'static [u8]) {
        shelf.keep(&revision::digest(bytes), &file(bytes, None));
    }

    #[test]
    fn what_is_kept_while_another_one_is_saved_stays() {
        for _ in 0..50 {
            let folder = tempfile::tempdir().unwrap();
            let shelf = Shelf::open(folder.path().to_owned());
            std::thread::scope(|scope| {
                for bytes in [&b"1"[..], b"2", b"3"] {
                    let shelf = &shelf;
                    scope.spawn(move || keep(shelf, bytes));
                }
                scope.spawn(|| shelf.save());
            });
            assert_eq!(kept(&shelf).len(), 3);
        }
    }

    #[test]
    fn signatures_are_kept_and_go_with_their_files() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(folder.path().to_owned());
        shelf.keep(&revision::digest(b"1"), &file(b"1", Some(b"signed")));
        let signature = |shelf: &Shelf| shelf.read(&revision::digest(b"1"))?.signature;
        assert_eq!(signature(&shelf).as_deref(), Some(&b"signed"[..]));
        for bytes in [&b"2"[..], b"3", b"4"] {
            keep(&shelf, bytes);
        }
        assert_eq!(signature(&shelf), None);
        assert!(!shelf.signature(&revision::digest(b"1")).exists());
    }

    #[test]
    fn the_highest_sequence_number_outlives_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(folder.path().to_owned());
        assert!(shelf.note_sequence(7));
        assert!(!shelf.note_sequence(7) && !shelf.note_sequence(3));
        shelf.save();
        assert_eq!(Shelf::open(folder.path().to_owned()).sequence(), 7);
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
    fn what_failed_is_remembered_and_not_started_with() {
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
        assert_eq!(shelf.read(&digest).unwrap().component, &b"2"[..]);
        shelf.choose(&digest);
        assert_eq!(kept(&shelf), ["2", "1"]);
        shelf.choose(&revision::digest(b"1"));
        assert_eq!(kept(&shelf), ["1", "2"]);
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

    #[test]
    fn the_pinned_one_is_kept_and_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(folder.path().to_owned());
        keep(&shelf, b"1");
        shelf.pin(Some(revision::digest(b"1")));
        for bytes in [&b"2"[..], b"3", b"4", b"5"] {
            keep(&shelf, bytes);
        }
        let shelf = Shelf::open(folder.path().to_owned());
        assert_eq!(kept(&shelf), ["1", "5", "4", "3"]);
        shelf.pin(None);
        keep(&shelf, b"6");
        assert_eq!(kept(&shelf), ["6", "5", "4"]);
    }
}
