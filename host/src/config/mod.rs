//! The raw file and the environment become checked settings here, and every
//! default lives here. It reads no secret: it only names the files they are in.
//! The rest of the host never looks at the environment itself.

mod contract;
mod defaults;
mod environment;
mod file;
mod grants;
mod recording;
mod reference;
mod services;
mod telemetry;

pub use contract::Contract;
pub use recording::{RecordWhen, Recording};
pub use reference::{reference, schema};
pub use services::SERVICES;
pub use telemetry::Telemetry;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Everything that the process is told from outside.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address that the service listeners bind to.
    pub bind: IpAddr,
    /// Address of the admin listener.
    pub admin: SocketAddr,
    /// Bearer token of the admin listener; made at the first start if it is missing.
    pub admin_token_file: PathBuf,
    /// A token that reads and changes nothing; its file must be there.
    pub admin_read_token_file: Option<PathBuf>,
    /// Folder that is watched for `<service>.wasm`.
    pub plugins_dir: PathBuf,
    /// Ed25519 public key in PEM; with it `<service>.wasm` needs a `<service>.wasm.sig`.
    pub plugins_public_key_file: Option<PathBuf>,
    /// Folder for what must outlive the process.
    pub data_dir: PathBuf,
    /// What is logged, and how.
    pub log: Log,
    /// Where traces go; none: nothing is traced.
    pub telemetry: Option<Telemetry>,
    /// The services that this process serves, in the order of their ports.
    pub services: Vec<ServiceConfig>,
    /// Every known service, served here or not, in the order of the ports.
    pub peers: Vec<PeerConfig>,
    /// Limits on connections and requests before they reach a plugin.
    pub server: Server,
    /// Stack of every guest, bytes.
    pub stack: usize,
    /// How the plugin folder is watched.
    pub reload: Reload,
    /// The trial of a new revision.
    pub probation: Probation,
    /// The rest of a revision whose calls run past their time.
    pub quarantine: Quarantine,
    /// The shared store; none means the embedded one.
    pub redis: Option<Redis>,
    /// Where keys come from and what tokens may be.
    pub jwt: Jwt,
    /// Key of the main API's CSRF cookies; without it the JWT secret signs.
    pub csrf_secret_file: Option<PathBuf>,
    /// Secret for service-to-service calls; without it the header is ignored.
    pub service_secret_file: Option<PathBuf>,
    /// Browser origins besides a request's own host: `scheme://host[:port]`.
    pub allowed_origins: BTreeSet<String>,
    /// Peers whose forwarding headers are believed.
    pub trusted_proxies: Vec<ipnet::IpNet>,
    /// The emergency sessions.
    pub fallback: Fallback,
    /// The users table; none: `DATABASE_URL` is not set.
    pub database: Option<Database>,
    /// Where the chat service is, `ws://` or `wss://`; probed for the gateway's health.
    pub chat_upstream_url: String,
    /// The CA that has signed the certificate of a `wss://` chat service; none: those of
    /// the system.
    pub chat_ca_file: Option<PathBuf>,
    /// How long a chat message waits for its answer.
    pub chat_reply_timeout: Duration,
    /// Limits on sockets.
    pub sockets: Sockets,
}

/// Why the settings cannot be used. Each is one sentence for the operator.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file that `LOCKGATE_CONFIG` names, or `lockgate.toml`, cannot be read.
    #[error("cannot read the configuration file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not TOML, an unknown key, or a value of the wrong type.
    #[error("the configuration file is not usable: {0}")]
    Syntax(String),
    /// A value that cannot be used.
    #[error("{name}: {problem}")]
    Value {
        /// The variable or the key, as the operator wrote it.
        name: String,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
}

impl ConfigError {
    fn value(name: impl Into<String>, problem: impl Into<String>) -> ConfigError {
        ConfigError::Value {
            name: name.into(),
            problem: problem.into(),
        }
    }
}

impl Config {
    /// Reads the file (`LOCKGATE_CONFIG`, else `./lockgate.toml` if it exists) and
    /// the environment, which beats the file.
    ///
    /// # Errors
    /// [`ConfigError`], in one sentence.
    pub fn load() -> Result<Config, ConfigError> {
        let variable = |name: &str| std::env::var(name).ok();
        let text = match variable("LOCKGATE_CONFIG").filter(|path| !path.is_empty()) {
            Some(path) => Some(read(Path::new(&path))?),
            None if Path::new("lockgate.toml").exists() => Some(read(Path::new("lockgate.toml"))?),
            None => None,
        };
        Config::from_parts(text.as_deref(), variable)
    }

    /// As [`Config::load`], from a file's text and a lookup of variables.
    ///
    /// # Errors
    /// [`ConfigError`], in one sentence.
    pub fn from_parts(
        text: Option<&str>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Config, ConfigError> {
        let mut file = file::parse(text.unwrap_or_default())?;
        environment::apply(&mut file, &variable)?;
        defaults::complete(file)
    }

    /// The service of this name, if this process serves it.
    pub fn service(&self, name: &str) -> Option<&ServiceConfig> {
        self.services.iter().find(|service| service.name == name)
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })
}

/// Log settings.
#[derive(Debug, Clone, Copy)]
pub struct Log {
    /// Least severe level that is written.
    pub level: tracing::Level,
    /// One JSON object a line instead of text.
    pub json: bool,
}

/// One service: a name, a port, a component and what that may do.
#[derive(Debug, Clone)]
pub struct ServiceConfig {
    /// With hyphens, without `-service`. Also the file name without `.wasm`.
    pub name: String,
    /// What the service calls itself in answers (`SERVICE_NAME`, else `<name>-service`).
    pub reported_name: String,
    /// Port on [`Config::bind`]; 0 takes a free one.
    pub port: u16,
    /// The one contract that its component must be of.
    pub contract: Contract,
    /// What its component may import, and how far.
    pub grants: Grants,
    /// What its component may use up.
    pub limits: Limits,
    /// What its `/health` lists: `redis`, `database`, `chat_service`.
    pub dependencies: Vec<String>,
    /// Paths at which it serves sockets (RFC 6455), each compared as a whole with that of
    /// a request; only with the right `serve` among [`Grants::sockets`]. None: it serves
    /// none.
    pub socket_paths: Vec<String>,
    /// The component's WASI environment: its settings.
    pub env: Vec<(String, String)>,
    /// Which of its calls are recorded; none: no call.
    pub recording: Option<Recording>,
}

/// What one service's component may import. Least privilege by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// Interfaces of `lockgate:plugin`, e.g. `jwt`. What is not named is not linked.
    pub interfaces: BTreeSet<String>,
    /// For which uses it may have tokens verified: `access`, `strict-access`, `refresh`.
    pub verify: BTreeSet<String>,
    /// May call `jwt.reissue`, that is, have login tokens signed.
    pub reissue: bool,
    /// Life of an access token that it has signed.
    pub access_life: Duration,
    /// Life of a refresh token that it has signed.
    pub refresh_life: Duration,
    /// May change `revocations`.
    pub revoke: bool,
    /// Key prefixes it may read (`*` as the last character matches the rest).
    pub redis_read: Vec<String>,
    /// Key prefixes it may write.
    pub redis_write: Vec<String>,
    /// Peers whose probe results it sees, by name with hyphens.
    pub peers: BTreeSet<String>,
    /// What it may do with the sockets of this host: `list`, `close`,
    /// and `serve`, without which no socket is accepted.
    pub sockets: BTreeSet<String>,
    /// Its `users` reads the users table itself; others ask the session normalizer.
    pub database: bool,
}

/// What one service's component may use up; going over ends the call, never the host.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Limits {
    /// Linear memory of an instance, bytes.
    pub memory: usize,
    /// Elements of each of its tables.
    pub table_elements: usize,
    /// CPU time of one call.
    pub cpu: Duration,
    /// Time of one call, host calls included.
    pub wall: Duration,
    /// Host calls in one request.
    pub host_calls: u32,
    /// Body of one request, bytes.
    pub request_body: usize,
    /// Body of one response, bytes.
    pub response_body: usize,
    /// Headers of one response.
    pub response_headers: usize,
    /// A value in `redis`, bytes.
    pub value: usize,
    /// Log lines of one request.
    pub log_lines: u32,
    /// Log bytes of one request.
    pub log_bytes: usize,
    /// Calls that compute on the slow lane at once.
    pub slow_calls: usize,
    /// Requests being answered at once.
    pub in_flight: usize,
    /// Requests that wait for a place.
    pub queue: usize,
    /// Requests that an instance serves before it is thrown away; 1 = fresh state each.
    pub reuse: u32,
    /// Instances kept ready.
    pub warm: usize,
}

/// A service somewhere, perhaps here.
#[derive(Debug, Clone)]
pub struct PeerConfig {
    /// With hyphens.
    pub name: String,
    /// Base URL; may hold credentials, which are never shown.
    pub url: String,
}

/// Limits on connections and requests before they reach a plugin.
#[derive(Debug, Clone)]
pub struct Server {
    /// From the first byte of a request to the end of its headers.
    pub header_read: Duration,
    /// From the end of the headers to the end of the body.
    pub body_read: Duration,
    /// Headers of one request.
    pub max_headers: usize,
    /// Bytes of all headers of one request.
    pub max_header_bytes: usize,
    /// Connections on one listener.
    pub max_connections: usize,
    /// From the signal to the exit.
    pub drain: Duration,
}

/// Limits on sockets.
#[derive(Debug, Clone, Copy)]
pub struct Sockets {
    /// Sockets of this host.
    pub most: usize,
    /// Sockets of one user.
    pub most_per_user: usize,
    /// One message of a client, bytes.
    pub message: usize,
    /// A client is asked this often if it is still there.
    pub ping: Duration,
}

/// How the plugin folder is watched.
#[derive(Debug, Clone)]
pub struct Reload {
    /// Contents are compared this often even if no event came.
    pub poll: Duration,
    /// A file must not have changed for this long.
    pub settle: Duration,
}

/// How long a new revision is on trial, and what ends the trial badly.
#[derive(Debug, Clone, Copy)]
pub struct Probation {
    /// Requests that it must have had.
    pub requests: u32,
    /// Time that must have passed.
    pub time: Duration,
    /// Traps, overruns and 5xx answers that bring the previous revision back.
    pub failures: u32,
}

/// When a revision is left alone, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Quarantine {
    /// Calls past their time within the window that are too many.
    pub timeouts: usize,
    /// How far back they count.
    pub window: Duration,
    /// How long it is left alone before one request tries it again.
    pub rest: Duration,
}

/// The shared store.
#[derive(Debug, Clone)]
pub struct Redis {
    /// One server, a cluster or sentinels, perhaps with user, password and db number.
    pub url: secrecy::SecretString,
    /// The CA that has signed the servers' certificates; none: the usual ones.
    pub ca_file: Option<PathBuf>,
    /// User if the URL has no password.
    pub username: String,
    /// File of the password if the URL has none.
    pub password_file: PathBuf,
    /// One command, connecting included.
    pub command_timeout: Duration,
    /// All commands of one request.
    pub request_budget: Duration,
}

/// The users table.
#[derive(Debug, Clone)]
pub struct Database {
    /// `postgresql://`, perhaps with user, password, `sslmode` and `sslrootcert`.
    pub url: secrecy::SecretString,
    /// File of the password if the URL has none, or a placeholder for it.
    pub password_file: PathBuf,
}

/// Where keys come from and what tokens may be.
#[derive(Debug, Clone)]
pub struct Jwt {
    /// Files in the order in which they are tried.
    pub secret_files: Vec<PathBuf>,
    /// Tried last: the value of `JWT_SECRET_KEY`.
    pub secret: Option<secrecy::SecretString>,
    /// The key before the last change.
    pub previous_file: Option<PathBuf>,
    /// How long the key before still verifies; zero: not at all.
    pub overlap: Duration,
    /// Tokens without `exp` are accepted as access tokens.
    pub allow_missing_exp: bool,
    /// Longest life of an access token.
    pub access_max: Duration,
    /// How long a rotated refresh token gives the same successor.
    pub refresh_grace: Duration,
    /// Refresh tokens without `token_use` are judged by their shape.
    pub accept_unmarked: bool,
    /// Memory for tokens that were verified lately, bytes; 0: each is verified each time.
    pub verified_bytes: u64,
}

/// The emergency sessions.
#[derive(Debug, Clone)]
pub struct Fallback {
    /// File of the embedded store.
    pub path: PathBuf,
}

#[cfg(test)]
mod tests;
