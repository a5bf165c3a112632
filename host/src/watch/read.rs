//! Reads a file that anybody may have put there: never a pipe, a device or a folder,
//! never more than a component may have, never a file that changes meanwhile.

use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::{fs, io};

use bytes::Bytes;

use crate::revision::MAX_SIZE;

/// What tells a file from the one that was there before, without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

pub(super) enum Contents {
    Whole(Bytes),
    /// The file changed while it was read.
    Changing,
}

/// Looks at the file. Links are followed: mounted folders are full of them.
pub(super) async fn stamp(path: &Path) -> Result<Stamp, String> {
    off_thread(path, |path| {
        let about = fs::metadata(path).map_err(|error| words(&error))?;
        check(&about)?;
        Ok(stamp_of(&about))
    })
    .await
}

/// Reads the file.
pub(super) async fn contents(path: &Path) -> Result<Contents, String> {
    off_thread(path, read).await
}

async fn off_thread<T: Send + 'static>(
    path: &Path,
    work: fn(&Path) -> Result<T, String>,
) -> Result<T, String> {
    let path: PathBuf = path.to_owned();
    tokio::task::spawn_blocking(move || work(&path))
        .await
        .map_err(|error| error.to_string())?
}

fn read(path: &Path) -> Result<Contents, String> {
    // Without this flag opening a pipe that took the file's place would wait for ever.
    let open = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path);
    let file = open.map_err(|error| words(&error))?;
    let before = file.metadata().map_err(|error| words(&error))?;
    check(&before)?;
    let mut bytes = Vec::with_capacity(usize::try_from(before.len()).unwrap_or(0));
    let mut limited = (&file).take(MAX_SIZE as u64 + 1);
    limited
        .read_to_end(&mut bytes)
        .map_err(|error| words(&error))?;
    let after = file.metadata().map_err(|error| words(&error))?;
    let whole = stamp_of(&before) == stamp_of(&after) && bytes.len() as u64 == after.len();
    Ok(if whole {
        Contents::Whole(bytes.into())
    } else {
        Contents::Changing
    })
}

fn check(about: &fs::Metadata) -> Result<(), String> {
    if !about.is_file() {
        return Err("what lies there is not a regular file".to_owned());
    }
    if about.len() > MAX_SIZE as u64 {
        return Err(format!(
            "the file has {} bytes, more than the {MAX_SIZE} that a component may have",
            about.len()
        ));
    }
    Ok(())
}

fn stamp_of(about: &fs::Metadata) -> Stamp {
    Stamp {
        device: about.dev(),
        inode: about.ino(),
        size: about.size(),
        modified: (about.mtime(), about.mtime_nsec()),
        changed: (about.ctime(), about.ctime_nsec()),
    }
}

fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file in the plugin folder".to_owned(),
        _ => format!("the file cannot be read: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn problem(path: &Path) -> String {
        let stamped = stamp(path).await.err().unwrap();
        assert_eq!(contents(path).await.err().unwrap(), stamped);
        stamped
    }

    #[tokio::test]
    async fn only_a_regular_file_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.wasm");
        assert!(problem(&path).await.contains("no such file"));
        fs::create_dir(&path).unwrap();
        assert!(problem(&path).await.contains("not a regular file"));
        fs::remove_dir(&path).unwrap();
        let made = std::process::Command::new("mkfifo")
            .arg(&path)
            .status()
            .unwrap();
        assert!(made.success());
        assert!(problem(&path).await.contains("not a regular file"));
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("nowhere", &path).unwrap();
        assert!(problem(&path).await.contains("no such file"));
        fs::remove_file(&path).unwrap();
        fs::write(&path, b"abc").unwrap();
        assert!(matches!(contents(&path).await, Ok(Contents::Whole(bytes)) if bytes == "abc"[..]));
    }

    #[tokio::test]
    async fn a_huge_file_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.wasm");
        fs::File::create(&path)
            .unwrap()
            .set_len(MAX_SIZE as u64 + 1)
            .unwrap();
        assert!(problem(&path).await.contains("more than the"));
    }
}
