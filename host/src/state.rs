//! Everything that outlives a swap, built once before the first bind. It wires the
//! parts together and decides nothing itself; it knows neither plugins nor HTTP.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::config::Config;

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
    #[expect(dead_code, reason = "read by the parts that are built on it next")]
    config: Arc<Config>,
}

impl State {
    /// Builds all parts. A missing secret or an unreachable Redis is no error: the
    /// host then runs degraded and says so.
    ///
    /// # Errors
    /// [`StateError`] if the data folder or the embedded store cannot be used.
    pub async fn open(config: Arc<Config>) -> Result<Arc<State>, StateError> {
        Ok(Arc::new(State { config }))
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
