//! The one file that this process keeps: a `redb` database. It owns opening,
//! setting a damaged file aside, and durable writes; not what is in the tables.
//!
//! All writes go through one thread that commits what has queued up in one
//! transaction, so that many writers share one flush to the disk. A write is
//! answered only after its commit. Where the disk takes no writes any more, what is there
//! can still be read.

mod frozen;

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use redb::{
    Database, DatabaseError, ReadTransaction, ReadableDatabase, StorageError, WriteTransaction,
};
use tokio::sync::{mpsc, oneshot};

/// Writes that one transaction may hold.
const BATCH: usize = 128;
/// Writes that may wait; more wait for a place.
const QUEUE: usize = 1024;
/// A disk that takes no writes is tried again this seldom.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// Who can do without the disk waits no longer for it.
pub const PATIENCE: Duration = Duration::from_millis(100);
/// Memory that the database may use for its cache, bytes.
const CACHE: usize = 32 * 1024 * 1024;

/// Why the file could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{0} is in use by another process; give each process its own FALLBACK_STORE_PATH")]
    InUse(PathBuf),
    /// The system refused.
    #[error("cannot open {path}: {reason}")]
    Refused {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
}

/// A read or a write failed; a failed write has changed nothing.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the embedded file failed: {0}")]
pub struct FileError(String);

type Work = Box<dyn FnOnce(&WriteTransaction) -> Result<Answer, redb::Error> + Send>;
/// Called after the commit, with its outcome.
type Answer = Box<dyn FnOnce(Result<(), FileError>) + Send>;

/// The file, open.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    database: Arc<RwLock<Option<Database>>>,
    jobs: mpsc::Sender<Work>,
    healthy: Arc<AtomicBool>,
}

impl File {
    /// Opens or makes the file. A damaged one is renamed to `<name>.damaged-<unix s>`
    /// and a new one takes its place.
    ///
    /// # Errors
    /// [`OpenError`] if the file is in use or the system refuses.
    pub fn open(path: &Path, now: u64) -> Result<File, OpenError> {
        let database = open_or_set_aside(path, now)?;
        let database = Arc::new(RwLock::new(Some(database)));
        let healthy = Arc::new(AtomicBool::new(true));
        let (jobs, queue) = mpsc::channel(QUEUE);
        let writer = Writer {
            path: path.to_owned(),
            database: Arc::clone(&database),
            healthy: Arc::clone(&healthy),
            frozen: None,
        };
        std::thread::Builder::new()
            .name("embedded-file".into())
            .spawn(move || writer.run(queue))
            .map_err(|error| OpenError::Refused {
                path: path.into(),
                reason: error.to_string(),
            })?;
        Ok(File {
            path: path.to_owned(),
            database,
            jobs,
            healthy,
        })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// False after a write failed, until one succeeds.
    pub fn healthy(&self) -> bool {
        self.healthy.load(Ordering::SeqCst)
    }

    /// Reads what was committed last.
    ///
    /// # Errors
    /// [`FileError`] if the file cannot be read.
    pub fn read<T>(
        &self,
        work: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, FileError> {
        let guard = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = guard
            .as_ref()
            .ok_or_else(|| FileError("it is closed".into()))?;
        let read = AssertUnwindSafe(|| {
            let transaction = database.begin_read()?;
            work(&transaction)
        });
        // A damaged page can make the database panic.
        let read = std::panic::catch_unwind(read);
        let read = read.map_err(|_| FileError("the database panicked".into()))?;
        read.map_err(|error: redb::Error| FileError(error.to_string()))
    }

    /// Runs `work` in a transaction and returns when it is on the disk.
    ///
    /// # Errors
    /// [`FileError`] if it could not be committed; nothing has changed then.
    pub async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, FileError> {
        let stopped = || FileError("its writer has stopped".into());
        let place = self.place().await.ok_or_else(stopped)?;
        place
            .write(work)
            .await
            .map_err(|_| FileError("the transaction failed".into()))?
    }

    /// A place in the queue of writes, when there is one. None: the writer has stopped.
    pub async fn place(&self) -> Option<Place<'_>> {
        self.jobs.reserve().await.ok().map(Place)
    }
}

/// What becomes of a write that is on its way.
pub type Written<T = ()> = oneshot::Receiver<Result<T, FileError>>;

/// A place in the queue of writes.
#[derive(Debug)]
pub struct Place<'a>(mpsc::Permit<'a, Work>);

impl Place<'_> {
    /// Takes it, at once: writes are made in the order in which this is called.
    pub fn write<T: Send + 'static>(
        self,
        work: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error> + Send + 'static,
    ) -> Written<T> {
        let (sender, receiver) = oneshot::channel();
        self.0.send(Box::new(move |transaction| {
            let value = work(transaction)?;
            let answer: Answer = Box::new(move |outcome| {
                // The caller may have gone; its write counts all the same.
                let _ = sender.send(outcome.map(|()| value));
            });
            Ok(answer)
        }));
        receiver
    }
}

struct Writer {
    path: PathBuf,
    database: Arc<RwLock<Option<Database>>>,
    healthy: Arc<AtomicBool>,
    /// The disk takes no writes; when it was tried last.
    frozen: Option<Instant>,
}

impl Writer {
    fn run(mut self, mut queue: mpsc::Receiver<Work>) {
        while let Some(first) = queue.blocking_recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH {
                let Ok(next) = queue.try_recv() else { break };
                batch.push(next);
            }
            if let Some(tried) = self.frozen
                && (tried.elapsed() < TRY_AGAIN || !self.reopen())
            {
                // Dropped, they fail.
                continue;
            }
            let done = std::panic::catch_unwind(AssertUnwindSafe(|| self.commit(batch)));
            let failure = match done {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error),
                // A damaged page can make the database panic; that ends this batch,
                // not the host.
                Err(_) => Some(FileError("the database panicked".into())),
            };
            self.healthy.store(failure.is_none(), Ordering::SeqCst);
            if let Some(error) = &failure {
                tracing::error!(%error, path = %self.path.display(), "cannot write the embedded file");
                self.freeze();
                self.reopen();
            }
        }
    }

    /// Dropping a job without an answer tells its caller that it failed.
    fn commit(&self, batch: Vec<Work>) -> Result<(), FileError> {
        let fault = |error: redb::Error| FileError(error.to_string());
        let mut answers = Vec::with_capacity(batch.len());
        let outcome = (|| {
            let guard = self.database.read().unwrap_or_else(PoisonError::into_inner);
            let database = guard
                .as_ref()
                .ok_or_else(|| FileError("it is closed".into()))?;
            let transaction = database
                .begin_write()
                .map_err(|error| fault(error.into()))?;
            for job in batch {
                answers.push(job(&transaction).map_err(fault)?);
            }
            transaction.commit().map_err(|error| fault(error.into()))
        })();
        for answer in answers {
            answer(outcome.clone());
        }
        outcome
    }

    /// After an I/O error the database refuses everything until it is opened anew, which
    /// may take as long as the disk likes. Until then it can be read only.
    fn freeze(&mut self) {
        let frozen = catch(|| frozen::open(&self.path, CACHE));
        if let Err(error) = &frozen {
            tracing::error!(%error, "the embedded file cannot be read either");
        }
        self.replace(frozen.ok());
    }

    /// Tries to open it for writing. True: it can be written again.
    fn reopen(&mut self) -> bool {
        let opened = catch(|| settings(false).open(&self.path));
        match opened {
            Ok(database) => {
                self.replace(Some(database));
                self.frozen = None;
                true
            }
            Err(error) => {
                if self.frozen.replace(Instant::now()).is_none() {
                    tracing::error!(%error, "the embedded file can be read only for now");
                }
                false
            }
        }
    }

    /// Who reads waits for the exchange only.
    fn replace(&self, database: Option<Database>) {
        let mut guard = self
            .database
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *guard, database);
        drop(guard);
        if std::panic::catch_unwind(AssertUnwindSafe(|| drop(old))).is_err() {
            tracing::error!("the database panicked when it was closed");
        }
    }
}

/// `check`: every page is looked at when it is opened, which takes long and finds what the
/// disk has damaged.
fn settings(check: bool) -> redb::Builder {
    let mut builder = Database::builder();
    builder
        .set_cache_size(CACHE)
        .set_check_integrity_on_open(check);
    builder
}

fn open(path: &Path) -> Result<Database, DatabaseError> {
    let opened = catch(|| settings(true).create(path));
    if opened.is_ok() {
        keep_private(path);
    }
    opened
}

/// It holds sessions and who is revoked: nobody else on the machine may read it.
fn keep_private(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let private = std::fs::Permissions::from_mode(0o600);
    if let Err(error) = std::fs::set_permissions(path, private) {
        tracing::warn!(%error, path = %path.display(), "others may read the embedded file");
    }
}

/// A damaged page can make the database panic.
fn catch(
    open: impl FnOnce() -> Result<Database, DatabaseError>,
) -> Result<Database, DatabaseError> {
    std::panic::catch_unwind(AssertUnwindSafe(open)).unwrap_or_else(|_| {
        Err(DatabaseError::Storage(StorageError::Corrupted(
            "the check panicked".into(),
        )))
    })
}

fn open_or_set_aside(path: &Path, now: u64) -> Result<Database, OpenError> {
    let refused = |reason: String| OpenError::Refused {
        path: path.into(),
        reason,
    };
    let error = match open(path) {
        Ok(database) => return Ok(database),
        Err(error) => error,
    };
    if matches!(error, DatabaseError::DatabaseAlreadyOpen) {
        return Err(OpenError::InUse(path.into()));
    }
    if !damaged(&error) {
        return Err(refused(error.to_string()));
    }
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".damaged-{now}"));
    let aside = PathBuf::from(aside);
    std::fs::rename(path, &aside).map_err(|error| refused(error.to_string()))?;
    tracing::error!(
        %error, path = %path.display(), aside = %aside.display(),
        "the embedded file is damaged: set aside, starting with an empty one"
    );
    open(path).map_err(|error| refused(error.to_string()))
}

/// True if the content is at fault, not the access to it.
fn damaged(error: &DatabaseError) -> bool {
    match error {
        DatabaseError::Storage(StorageError::Io(io)) => matches!(
            io.kind(),
            std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof
        ),
        DatabaseError::Storage(StorageError::Corrupted(_))
        | DatabaseError::UpgradeRequired(_)
        | DatabaseError::RepairAborted => true,
        _ => false,
    }
}

#[cfg(test)]
impl File {
    /// Opens a file that the writer of its last handle may still be closing.
    pub async fn open_again(path: &Path, now: u64) -> File {
        loop {
            match File::open(path, now) {
                Err(OpenError::InUse(_)) => tokio::task::yield_now().await,
                opened => return opened.unwrap(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redb::{ReadableTable, TableDefinition};

    const TABLE: TableDefinition<'static, &str, u64> = TableDefinition::new("test");

    async fn put(file: &File, key: &'static str, value: u64) {
        file.write(move |transaction| {
            transaction.open_table(TABLE)?.insert(key, value)?;
            Ok(())
        })
        .await
        .unwrap();
    }

    fn value(file: &File, key: &str) -> Option<u64> {
        file.read(|transaction| {
            Ok(transaction
                .open_table(TABLE)?
                .get(key)?
                .map(|value| value.value()))
        })
        .unwrap()
    }

    #[tokio::test]
    async fn what_was_answered_is_there_after_opening_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.redb");
        let file = File::open(&path, 1).unwrap();
        put(&file, "k", 7).await;
        assert!(matches!(File::open(&path, 1), Err(OpenError::InUse(_))));
        drop(file);
        let file = File::open_again(&path, 1).await;
        assert_eq!(value(&file, "k"), Some(7));
    }

    #[tokio::test]
    async fn damaged_files_are_set_aside() {
        for damage in [
            b"not a database at all".to_vec(),
            vec![0u8; 64 * 1024],
            b"redb".to_vec(),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("a.redb");
            std::fs::write(&path, &damage).unwrap();
            let file = File::open(&path, 77).unwrap();
            put(&file, "k", 1).await;
            let aside = folder.path().join("a.redb.damaged-77");
            assert_eq!(std::fs::read(aside).unwrap(), damage);
        }
    }

    #[tokio::test]
    async fn a_flipped_byte_never_panics() {
        let folder = tempfile::tempdir().unwrap();
        let good = folder.path().join("good.redb");
        let file = File::open(&good, 1).unwrap();
        for key in ["a", "b", "c", "d"] {
            put(&file, key, 9).await;
        }
        drop(file);
        let bytes = std::fs::read(&good).unwrap();
        let step = (bytes.len() / 12).max(1);
        for at in (0..bytes.len()).step_by(step) {
            let path = folder.path().join(format!("{at}.redb"));
            let mut flipped = bytes.clone();
            flipped[at] ^= 0xff;
            std::fs::write(&path, flipped).unwrap();
            let file = File::open(&path, 1).unwrap();
            put(&file, "z", 1).await;
        }
    }

    #[tokio::test]
    async fn a_folder_in_its_place_is_an_error_in_words() {
        let folder = tempfile::tempdir().unwrap();
        let error = File::open(folder.path(), 1).unwrap_err();
        assert!(error.to_string().starts_with("cannot open "), "{error}");
    }

    #[tokio::test]
    async fn many_writers_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = Arc::new(File::open(&folder.path().join("a.redb"), 1).unwrap());
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..200 {
            let file = Arc::clone(&file);
            tasks.spawn(async move {
                file.write(|transaction| {
                    let mut table = transaction.open_table(TABLE)?;
                    let count = table.get("n")?.map_or(0, |value| value.value());
                    table.insert("n", count + 1)?;
                    Ok(())
                })
                .await
                .unwrap();
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        assert_eq!(value(&file, "n"), Some(200));
    }
}
