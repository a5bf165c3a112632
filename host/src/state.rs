//! Everything that outlives a swap, built once before the first bind. It wires the
//! parts together and decides nothing itself; it knows neither plugins nor HTTP.

use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretSlice};
use subtle::ConstantTimeEq;

use crate::chat;
use crate::clock::Clock;
use crate::config::Config;
use crate::counters::Counters;
use crate::csrf::{Csrf, SecretError};
use crate::deferred::{self, Deferred};
use crate::directory::{Directory, Sources};
use crate::emergency::Emergency;
use crate::events::Events;
use crate::inquiry::Inquiry;
use crate::journal::Journal;
use crate::keys::{Keys, secret_file};
use crate::limiter::Limiter;
use crate::peers::Peers;
use crate::reissue::{Lives, Refusal, Reissue, Tokens};
use crate::replicas;
use crate::revocation::Revocations;
use crate::shared::{Rules, SharedStore};
use crate::sockets::Sockets;
use crate::store::Store;
use crate::store::embedded::Embedded;
use crate::store::file::{File, FileError, OpenError};
use crate::store::redis::{Redis, SetupError};
use crate::table::{self, Table};

mod background;

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
    /// The settings for the users table are wrong.
    #[error(transparent)]
    Table(#[from] table::SetupError),
    /// The settings for the chat service are wrong.
    #[error(transparent)]
    Chat(#[from] chat::SetupError),
    /// The CSRF secret is configured but cannot be used.
    #[error(transparent)]
    Csrf(#[from] SecretError),
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

impl Reachability {
    /// The contract's word: `connected`, `disconnected` or `not_configured`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
            Self::NotConfigured => "not_configured",
        }
    }
}

/// The shared parts of one host process.
#[derive(Debug)]
pub struct State {
    config: Arc<Config>,
    clock: Clock,
    keys: Keys,
    journal: Journal,
    revocations: Revocations,
    emergency: Arc<Emergency>,
    service_secret: Option<SecretSlice<u8>>,
    back: Back,
    peers: Arc<Peers>,
    chat: Option<Arc<chat::Target>>,
    events: Arc<Events>,
    deferred: Deferred,
    directory: Directory,
    csrf: Csrf,
    limiter: Limiter,
    counters: Counters,
    sockets: Arc<Sockets>,
}

/// The store that hosts share, or the embedded one alone.
#[derive(Debug)]
enum Back {
    Shared(Arc<SharedStore>),
    Embedded(Embedded),
}

/// The service that other processes ask about users.
const NORMALIZER: &str = "session-validation-normalizer";

/// Whom this process asks about users. If it is the session normalizer itself and has
/// no users table, there is none: nobody is asked, and nobody can be away.
fn sources(config: &Config) -> Result<Sources, table::SetupError> {
    let reads = config
        .services
        .iter()
        .any(|service| service.grants.database);
    let settings = config.database.as_ref().filter(|_| reads);
    let table = settings.map(Table::open).transpose()?;
    let asks = table.is_some() || config.service(NORMALIZER).is_none();
    let peer = config.peers.iter().find(|peer| peer.name == NORMALIZER);
    let normalizer = peer.filter(|_| asks).map(Inquiry::new);
    Ok(Sources { table, normalizer })
}

/// The way to the chat service, if this process serves any sockets.
fn chat_target(config: &Config) -> Result<Option<Arc<chat::Target>>, chat::SetupError> {
    let mut services = config.services.iter();
    if services.all(|service| service.socket_paths.is_empty()) {
        return Ok(None);
    }
    let ca_file = config.chat_ca_file.as_deref();
    let target = chat::Target::new(&config.chat_upstream_url, ca_file)?;
    Ok(Some(Arc::new(target)))
}

impl State {
    /// Builds all parts. A missing secret or an unreachable Redis is no error: the
    /// host then runs degraded and says so.
    ///
    /// # Errors
    /// [`StateError`] if the data folder or the embedded store cannot be used.
    pub async fn open(config: Arc<Config>) -> Result<Arc<State>, StateError> {
        State::open_at(config, Clock::system()).await
    }

    /// As [`State::open`], by another clock.
    ///
    /// # Errors
    /// As for [`State::open`].
    pub async fn open_at(config: Arc<Config>, clock: Clock) -> Result<Arc<State>, StateError> {
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
        let events = Arc::new(Events::open(Arc::clone(&file), clock.clone()).await?);
        let back = match &config.redis {
            Some(settings) => {
                let redis = Redis::open(settings)?;
                // So that the first answers know whether it is there: one attempt,
                // no longer than a command may take.
                let _ = redis.ping().await;
                let (redis, events) = (Arc::new(redis), Arc::clone(&events));
                let rules = Rules {
                    matters: replicas::matters,
                    cached: replicas::cached,
                };
                Back::Shared(Arc::new(SharedStore::new(redis, events, rules)))
            }
            None => Back::Embedded(Embedded::open(Arc::clone(&file), clock.clone()).await?),
        };
        let journal = Journal::open(Arc::clone(&file)).await?;
        let revocations = Revocations::new(journal.clone(), clock.clone());
        let emergency = Emergency::open(Arc::clone(&file), journal.clone(), clock.clone()).await?;
        let service_secret = config.service_secret_file.as_deref().and_then(secret_file);
        let keys = Keys::load(&config.jwt, clock.now());
        let names = config.services.iter().map(|service| service.name.as_str());
        let chat = chat_target(&config)?;
        let directory = Directory::new(journal.clone(), clock.clone(), sources(&config)?);
        // As for Redis: one attempt, no longer than a look may take.
        directory.probe_table().await;
        Ok(Arc::new(State {
            peers: Arc::new(Peers::new(&config, clock.clone(), chat.as_ref())),
            chat,
            events,
            deferred: Deferred::open(file, clock.clone()).await?,
            directory,
            csrf: Csrf::open(config.csrf_secret_file.as_deref())?,
            limiter: Limiter::default(),
            counters: Counters::new(names),
            sockets: Arc::default(),
            config,
            clock,
            keys,
            journal,
            revocations,
            emergency: Arc::new(emergency),
            service_secret,
            back,
        }))
    }

    /// What one request may spend on the shared store.
    pub fn request_budget(&self) -> Duration {
        // A file on a slow disk is slow, not away, so it gets more time than Redis. But it
        // must be less than any call may take: a session check that runs past its time
        // is a 503, which logs its user out, and one without the store is only degraded.
        const EMBEDDED: Duration = Duration::from_millis(1_000);
        self.config
            .redis
            .as_ref()
            .map_or(EMBEDDED, |redis| redis.request_budget)
    }

    /// The shared store: Redis, or the embedded one where none is configured.
    pub fn store(&self) -> &dyn Store {
        match &self.back {
            Back::Shared(shared) => shared.as_ref(),
            Back::Embedded(embedded) => embedded,
        }
    }

    /// The shared store, for work that outlives a request.
    pub fn shared_store(&self) -> Arc<dyn Store> {
        match &self.back {
            Back::Shared(shared) => Arc::clone(shared) as Arc<dyn Store>,
            Back::Embedded(embedded) => Arc::new(embedded.clone()),
        }
    }

    /// What the probes know of the other services.
    pub fn peers(&self) -> &Peers {
        &self.peers
    }

    /// The way to the chat service; none: this process serves no sockets.
    pub fn chat(&self) -> Option<&Arc<chat::Target>> {
        self.chat.as_ref()
    }

    /// The sender of login events.
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// True while changes of logins wait for Redis: later ones have to wait behind them.
    pub fn defers(&self) -> bool {
        self.redis().is_some() && !self.deferred.is_empty()
    }

    /// Keeps a change of a login that Redis has just missed, to be made when it is
    /// back; on the disk when this returns, if it ends something. Without Redis there is
    /// nothing that could be back.
    pub async fn defer(&self, change: deferred::Change) {
        if self.redis().is_some() {
            self.deferred.keep(change).await;
        }
    }

    /// What is known of users.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The maker and judge of `csrf_token` values.
    pub fn csrf(&self) -> &Csrf {
        &self.csrf
    }

    /// The rate limits.
    pub fn limiter(&self) -> &Limiter {
        &self.limiter
    }

    /// What the plugins count.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The sockets of this process.
    pub fn sockets(&self) -> &Arc<Sockets> {
        &self.sockets
    }

    /// True if a usable JWT secret is loaded.
    pub fn secret_loaded(&self) -> bool {
        self.keys.ready()
    }

    /// The clock that judges tokens and times to live.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The revoked tokens, sessions and users.
    pub fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// The emergency sessions.
    pub fn emergency(&self) -> &Arc<Emergency> {
        &self.emergency
    }

    /// Where the emergency sessions are, for operators.
    pub fn storage_location(&self) -> String {
        self.config.fallback.path.display().to_string()
    }

    /// Replaces a refresh token.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn reissue(
        &self,
        token: &str,
        lives: Lives,
        store: &dyn Store,
        request_id: &str,
    ) -> Result<Tokens, Refusal> {
        let reissue = Reissue {
            keys: &self.keys,
            revocations: &self.revocations,
            journal: &self.journal,
            directory: &self.directory,
            store,
            shared: self.redis().is_some(),
            lives,
            grace: self.config.jwt.refresh_grace.as_secs(),
            now: self.clock.now(),
            request_id,
        };
        reissue.reissue(token).await
    }

    /// The signing keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The store in Redis, if one is configured.
    pub fn redis(&self) -> Option<&Redis> {
        match &self.back {
            Back::Shared(shared) => Some(shared.redis()),
            Back::Embedded(_) => None,
        }
    }

    /// What is known of `redis`, `database` or `chat_service`; an unknown name is
    /// not configured.
    pub fn dependency(&self, name: &str) -> Reachability {
        let reached = match name {
            "redis" => self.redis().map(Redis::connected),
            "database" => self.directory.table_connected(),
            "chat_service" => self.peers.chat_connected(),
            _ => None,
        };
        match reached {
            Some(true) => Reachability::Connected,
            Some(false) => Reachability::Disconnected,
            None => Reachability::NotConfigured,
        }
    }

    /// Compares a service secret in constant time; `None` if none is configured.
    pub fn service_secret_matches(&self, given: &[u8]) -> Option<bool> {
        let secret = self.service_secret.as_ref()?;
        Some(secret.expose_secret().ct_eq(given).into())
    }
}
