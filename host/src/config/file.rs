//! The shape of `lockgate.toml`: every key that it may hold, all optional. Unknown
//! keys are errors. It knows no defaults and reads no variable. What is said of a key here
//! stands in `docs/configuration.md` and in the schema.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ConfigError;

/// Parses the text of the file.
pub(super) fn parse(text: &str) -> Result<File, ConfigError> {
    toml::from_str(text).map_err(|error| ConfigError::Syntax(sentence(&error, text)))
}

/// One line: where, and what. The parser's own text shows the line that is wrong,
/// which may hold a password.
fn sentence(error: &toml::de::Error, text: &str) -> String {
    let line = error
        .span()
        .and_then(|span| text.get(..span.start))
        .map_or(1, |before| before.matches('\n').count() + 1);
    format!("line {line}: {}", error.message().replace('\n', " "))
}

#[derive(Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    /// Address that the service listeners bind to.
    pub(super) bind: Option<IpAddr>,
    /// Address of the admin listener.
    pub(super) admin: Option<SocketAddr>,
    /// Bearer token that changes on the admin listener need, and off loopback reads too; made at
    /// the first start. Default: in the data folder.
    pub(super) admin_token_file: Option<PathBuf>,
    /// A second token, for reading only: Prometheus needs no more. Its file must be there.
    pub(super) admin_read_token_file: Option<PathBuf>,
    /// Folder that is watched for `<service>.wasm`.
    pub(super) plugins_dir: Option<PathBuf>,
    /// Ed25519 public key in PEM: with it each file needs a `<service>.wasm.sig`.
    pub(super) plugins_public_key_file: Option<PathBuf>,
    /// Folder for what must outlive the process.
    pub(super) data_dir: Option<PathBuf>,
    /// Serve this service only.
    pub(super) service: Option<String>,
    /// `production` makes cookies `Secure` and gives them a `Domain`.
    pub(super) environment: Option<String>,
    /// The domain of these cookies.
    pub(super) domain: Option<String>,
    /// Key of the main API's CSRF cookies; without it the JWT secret signs.
    pub(super) csrf_secret_file: Option<PathBuf>,
    /// Secret for service-to-service calls, 32 bytes or more; without it their header is ignored.
    pub(super) service_secret_file: Option<PathBuf>,
    /// Browser origins besides a request's own host, such as `https://app.example.org`.
    pub(super) allowed_origins: Option<Vec<String>>,
    /// Peers whose forwarding headers are believed: addresses or CIDRs.
    pub(super) trusted_proxies: Option<Vec<String>>,
    /// What is logged, and how.
    pub(super) log: Log,
    /// Traces of requests, for an OpenTelemetry collector.
    pub(super) telemetry: Telemetry,
    /// Limits on connections and requests before they reach a plugin.
    pub(super) server: Server,
    /// What all guests share.
    pub(super) engine: Engine,
    /// How the plugin folder is watched.
    pub(super) reload: Reload,
    /// The trial of a new revision.
    pub(super) probation: Probation,
    /// The rest of a revision whose calls run past their time.
    pub(super) quarantine: Quarantine,
    /// The shared store; without a URL the embedded one is used, alone.
    pub(super) redis: Redis,
    /// The users table in Postgres; without a URL nobody's state is known.
    pub(super) database: Database,
    /// Where keys come from, and what tokens may be.
    pub(super) jwt: Jwt,
    /// The emergency sessions.
    pub(super) fallback: Fallback,
    /// The chat service behind the gateway.
    pub(super) chat: Chat,
    /// Limits on sockets.
    pub(super) sockets: Sockets,
    /// A table for each service; one that is not among the five needs a port and grants.
    pub(super) services: BTreeMap<String, Service>,
}

#[derive(Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Log {
    /// Least severe level that is written: `DEBUG`, `INFO`, `WARNING`, `ERROR`.
    pub(super) level: Option<String>,
    /// One JSON object a line instead of text.
    pub(super) json: Option<bool>,
}

#[derive(Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Telemetry {
    /// Base URL of a receiver of OTLP over HTTP, such as `http://collector:4318`; without it no
    /// request is traced.
    pub(super) endpoint: Option<String>,
    /// The whole URL for traces, in place of `endpoint` and `/v1/traces`.
    pub(super) traces_endpoint: Option<String>,
    /// Only `http/protobuf`.
    pub(super) protocol: Option<String>,
    /// PEM file of the CA that has signed its certificate; without it the usual ones.
    pub(super) ca_file: Option<PathBuf>,
    /// One try to send a batch; a batch takes at most twice that.
    pub(super) timeout_ms: Option<u64>,
    /// A batch that is not full is sent after so long.
    pub(super) delay_ms: Option<u64>,
    /// Which requests are traced: `always_on`, `always_off`, `traceidratio`, or one of these after
    /// `parentbased_`, which leaves it to the caller where that has decided.
    pub(super) sampler: Option<String>,
    /// Of `traceidratio`: the share of requests, 0 to 1.
    pub(super) sampler_arg: Option<f64>,
    /// Spans that wait for it; those beyond are dropped and counted.
    pub(super) queue: Option<usize>,
    /// The name of this host in the traces. Default: `service.name` of
    /// `OTEL_RESOURCE_ATTRIBUTES`, else `lockgate`.
    pub(super) service_name: Option<String>,
    /// `otlp`, or `none`: trace nothing.
    pub(super) exporter: Option<String>,
    /// Trace nothing, whatever else is set.
    pub(super) disabled: Option<bool>,
}

#[derive(Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Server {
    /// From the first byte of a request to the end of its headers.
    pub(super) header_read_ms: Option<u64>,
    /// From the end of the headers to the end of the body.
    pub(super) body_read_ms: Option<u64>,
    /// Headers of one request.
    pub(super) max_headers: Option<usize>,
    /// All headers of one request.
    pub(super) max_header_bytes: Option<usize>,
    /// Connections on one listener.
    pub(super) max_connections: Option<usize>,
    /// Open requests may end for so long after SIGTERM.
    pub(super) drain_ms: Option<u64>,
}

#[derive(Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Engine {
    /// Stack of every guest.
    pub(super) stack_bytes: Option<usize>,
}

#[derive(Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Reload {
    /// Contents are compared this often even if no event came.
    pub(super) poll_ms: Option<u64>,
    /// A file must not have changed for this long.
    pub(super) settle_ms: Option<u64>,
}

#[derive(Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Probation {
    /// Requests that it must have had.
    pub(super) requests: Option<u32>,
    /// Time that must have passed.
    pub(super) seconds: Option<u64>,
    /// Traps, overruns and 5xx answers that bring the previous revision back.
    pub(super) failures: Option<u32>,
}

#[derive(Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Quarantine {
    /// Calls past their time within the window that are too many.
    pub(super) timeouts: Option<usize>,
    /// How far back they count.
    pub(super) window_seconds: Option<u64>,
    /// How long it is left alone before one request tries it again.
    pub(super) rest_seconds: Option<u64>,
}

#[derive(Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Redis {
    /// `redis://`, `redis+cluster://` or `redis+sentinel://`, or with `rediss` the same over TLS.
    pub(super) url: Option<String>,
    /// PEM file of the CA that has signed the servers' certificates; without it the usual ones.
    pub(super) ca_file: Option<PathBuf>,
    /// User if the URL has no password.
    pub(super) username: Option<String>,
    /// File of the password if the URL has none.
    pub(super) password_file: Option<PathBuf>,
    /// One command, connecting included.
    pub(super) command_timeout_ms: Option<u64>,
    /// All commands of one request.
    pub(super) request_budget_ms: Option<u64>,
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redis").finish_non_exhaustive()
    }
}

#[derive(Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Database {
    /// `postgresql://user:password@host:port/database`, perhaps with `sslmode` and `sslrootcert`.
    pub(super) url: Option<String>,
    /// File of the password if the URL has none, or still the placeholder `${POSTGRES_PASSWORD}`.
    pub(super) password_file: Option<PathBuf>,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").finish_non_exhaustive()
    }
}

#[derive(Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Jwt {
    /// Tried first; then `/run/secrets/jwt_secret`, `/run/secrets/JWT_SECRET_KEY` and the variable
    /// `JWT_SECRET_KEY`. At least 32 bytes; an inner newline is part of the key.
    pub(super) secret_file: Option<PathBuf>,
    /// The key before the last change.
    pub(super) previous_secret_file: Option<PathBuf>,
    /// How long a replaced key still verifies; 0: not at all.
    pub(super) overlap_seconds: Option<u64>,
    /// Tokens without `exp` are accepted as access tokens.
    pub(super) allow_missing_exp: Option<bool>,
    /// Longest life of an access token.
    pub(super) access_max_seconds: Option<u64>,
    /// How long a used refresh token gives the same successor.
    pub(super) refresh_grace_seconds: Option<u64>,
    /// Refresh tokens without `token_use` are judged by their shape.
    pub(super) accept_unmarked: Option<bool>,
    /// Memory for tokens that were verified lately; 0: each is verified each time.
    pub(super) verified_bytes: Option<u64>,
    /// `JWT_SECRET_KEY`; never in the file.
    #[serde(skip)]
    pub(super) secret: Option<String>,
}

impl std::fmt::Debug for Jwt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jwt").finish_non_exhaustive()
    }
}

#[derive(Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Fallback {
    /// Emergency logins are given.
    pub(super) enabled: Option<bool>,
    /// `strict` or `standard`: how an emergency login's token is judged.
    pub(super) security_level: Option<String>,
    /// Failures a minute and address, and successes a minute and user.
    pub(super) rate_limit: Option<u32>,
    /// Only while the session normalizer is not healthy.
    pub(super) only_on_outage: Option<bool>,
    /// File of the embedded store. Default: in the data folder.
    pub(super) path: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Chat {
    /// `ws://` or `wss://` URL of the chat service.
    pub(super) upstream_url: Option<String>,
    /// PEM file of the CA that has signed the certificate of a `wss://` chat service; without it
    /// those of the system.
    pub(super) ca_file: Option<PathBuf>,
    /// Model that is named to the chat service.
    pub(super) default_model: Option<String>,
    /// How long a message waits for its answer; then it is answered with an error.
    pub(super) reply_timeout_seconds: Option<u64>,
}

#[derive(Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Sockets {
    /// Sockets of this host.
    pub(super) most: Option<usize>,
    /// Sockets of one user.
    pub(super) most_per_user: Option<usize>,
    /// One message of a client; a longer one closes the socket with 1009.
    pub(super) message_bytes: Option<usize>,
    /// A client is asked this often if it is still there; three pings without any sign of life and
    /// it is gone.
    pub(super) ping_seconds: Option<u64>,
}

#[derive(Debug, Default, Clone, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Service {
    /// Port on the address `bind`; 0 takes a free one.
    pub(super) port: Option<u16>,
    /// Where its peers find it.
    pub(super) url: Option<String>,
    /// The contract that its component must be of.
    pub(super) contract: super::Contract,
    /// What its component may import, and how far. Replaces the default grants as a whole: what is
    /// not named is not granted.
    pub(super) grants: Option<Grants>,
    /// Paths at which it serves sockets, each compared as a whole; needs the grant to `serve` them.
    pub(super) socket_paths: Option<Vec<String>>,
    /// What its component may use up; going over ends the call, never the host.
    pub(super) limits: Limits,
    /// Settings that the component sees as its environment.
    pub(super) env: BTreeMap<String, String>,
    /// Which of its calls are written down; without it none.
    pub(super) recording: Option<Recording>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recording {
    /// Which of the calls that were watched are kept.
    pub(super) when: super::RecordWhen,
    /// How many of the calls are watched, 0 to 1; all if unset. Each runs in an instance of its
    /// own.
    pub(super) share: Option<f64>,
    /// Key that traces are encrypted with, secrets and all; without it secrets are replaced.
    pub(super) key_file: Option<PathBuf>,
    /// Traces that are kept, 100 if unset; the oldest go first.
    pub(super) keep: Option<usize>,
}

/// Replaces the default grants as a whole: what is not named is not granted.
#[derive(Debug, Default, Clone, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Grants {
    /// Interfaces of `lockgate:plugin`; what is not named is not linked.
    pub(super) interfaces: Vec<String>,
    /// For which uses it may have tokens verified: `access`, `strict-access`, `refresh`.
    pub(super) verify: Vec<String>,
    /// May have login tokens signed.
    pub(super) reissue: bool,
    /// Life of an access token that it has signed: 3600 if unset, and at most.
    pub(super) access_seconds: Option<u64>,
    /// Life of a refresh token that it has signed: 604800 if unset, and at most.
    pub(super) refresh_seconds: Option<u64>,
    /// May write revocations, not only ask.
    pub(super) revoke: bool,
    /// Keys that it may read; `*` as the last character matches the rest.
    pub(super) redis_read: Vec<String>,
    /// Keys that it may write.
    pub(super) redis_write: Vec<String>,
    /// Services whose health it sees.
    pub(super) peers: Vec<String>,
    /// May `list`, `close` or `serve` sockets.
    pub(super) sockets: Vec<String>,
    /// Its `users` reads the users table itself; others ask the session normalizer.
    pub(super) database: bool,
}

#[derive(Debug, Default, Clone, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Limits {
    /// Linear memory of an instance.
    pub(super) memory_bytes: Option<usize>,
    /// Elements of each of its tables.
    pub(super) table_elements: Option<usize>,
    /// CPU time of one call.
    pub(super) cpu_ms: Option<u64>,
    /// Time of one call, host calls included.
    pub(super) wall_ms: Option<u64>,
    /// Host calls in one request.
    pub(super) host_calls: Option<u32>,
    /// Body of one request.
    pub(super) request_body_bytes: Option<usize>,
    /// Body of one response.
    pub(super) response_body_bytes: Option<usize>,
    /// Headers of one response.
    pub(super) response_headers: Option<usize>,
    /// A value in the store.
    pub(super) value_bytes: Option<usize>,
    /// Log lines of one request.
    pub(super) log_lines: Option<u32>,
    /// Log of one request.
    pub(super) log_bytes: Option<usize>,
    /// Calls that compute for long, at once; more wait.
    pub(super) slow_calls: Option<usize>,
    /// Requests being answered at once.
    pub(super) in_flight: Option<usize>,
    /// Requests that wait for a place.
    pub(super) queue: Option<usize>,
    /// Requests that an instance serves before it is thrown away; 1: fresh state each, and the
    /// default of `wasi-http`.
    pub(super) reuse: Option<u32>,
    /// Instances kept ready.
    pub(super) warm: Option<usize>,
}
