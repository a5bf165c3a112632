//! The shape of `lockgate.toml`: every key that it may hold, all optional. Unknown
//! keys are errors. It knows no defaults and reads no variable.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;

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

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) bind: Option<IpAddr>,
    pub(super) admin: Option<SocketAddr>,
    pub(super) admin_token_file: Option<PathBuf>,
    pub(super) plugins_dir: Option<PathBuf>,
    pub(super) plugins_public_key_file: Option<PathBuf>,
    pub(super) data_dir: Option<PathBuf>,
    /// Serve this one only. In the file it is the name; `SERVICE_NAME` sets it too.
    pub(super) service: Option<String>,
    pub(super) environment: Option<String>,
    pub(super) domain: Option<String>,
    pub(super) csrf_secret_file: Option<PathBuf>,
    pub(super) service_secret_file: Option<PathBuf>,
    pub(super) allowed_origins: Option<Vec<String>>,
    pub(super) trusted_proxies: Option<Vec<String>>,
    pub(super) log: Log,
    pub(super) server: Server,
    pub(super) engine: Engine,
    pub(super) reload: Reload,
    pub(super) probation: Probation,
    pub(super) quarantine: Quarantine,
    pub(super) redis: Redis,
    pub(super) database: Database,
    pub(super) jwt: Jwt,
    pub(super) fallback: Fallback,
    pub(super) chat: Chat,
    pub(super) sockets: Sockets,
    pub(super) services: BTreeMap<String, Service>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Log {
    pub(super) level: Option<String>,
    pub(super) json: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Server {
    pub(super) header_read_ms: Option<u64>,
    pub(super) body_read_ms: Option<u64>,
    pub(super) max_headers: Option<usize>,
    pub(super) max_header_bytes: Option<usize>,
    pub(super) max_connections: Option<usize>,
    pub(super) drain_ms: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Engine {
    pub(super) stack_bytes: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Reload {
    pub(super) poll_ms: Option<u64>,
    pub(super) settle_ms: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Probation {
    pub(super) requests: Option<u32>,
    pub(super) seconds: Option<u64>,
    pub(super) failures: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Quarantine {
    pub(super) timeouts: Option<usize>,
    pub(super) window_seconds: Option<u64>,
    pub(super) rest_seconds: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Redis {
    pub(super) url: Option<String>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) username: Option<String>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) command_timeout_ms: Option<u64>,
    pub(super) request_budget_ms: Option<u64>,
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redis").finish_non_exhaustive()
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Database {
    pub(super) url: Option<String>,
    pub(super) password_file: Option<PathBuf>,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").finish_non_exhaustive()
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Jwt {
    pub(super) secret_file: Option<PathBuf>,
    pub(super) previous_secret_file: Option<PathBuf>,
    pub(super) overlap_seconds: Option<u64>,
    pub(super) allow_missing_exp: Option<bool>,
    pub(super) access_max_seconds: Option<u64>,
    pub(super) refresh_grace_seconds: Option<u64>,
    pub(super) accept_unmarked: Option<bool>,
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

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Fallback {
    pub(super) enabled: Option<bool>,
    pub(super) security_level: Option<String>,
    pub(super) rate_limit: Option<u32>,
    pub(super) only_on_outage: Option<bool>,
    pub(super) path: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Chat {
    pub(super) upstream_url: Option<String>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) default_model: Option<String>,
    pub(super) reply_timeout_seconds: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Sockets {
    pub(super) most: Option<usize>,
    pub(super) most_per_user: Option<usize>,
    pub(super) message_bytes: Option<usize>,
    pub(super) ping_seconds: Option<u64>,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Service {
    pub(super) port: Option<u16>,
    pub(super) url: Option<String>,
    pub(super) contract: super::Contract,
    pub(super) grants: Option<Grants>,
    pub(super) socket_paths: Option<Vec<String>>,
    pub(super) limits: Limits,
    pub(super) env: BTreeMap<String, String>,
    pub(super) recording: Option<Recording>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recording {
    pub(super) when: super::RecordWhen,
    pub(super) share: Option<f64>,
    pub(super) key_file: Option<PathBuf>,
    pub(super) keep: Option<usize>,
}

/// Replaces the default grants as a whole: what is not named is not granted.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Grants {
    pub(super) interfaces: Vec<String>,
    pub(super) verify: Vec<String>,
    pub(super) reissue: bool,
    pub(super) access_seconds: Option<u64>,
    pub(super) refresh_seconds: Option<u64>,
    pub(super) revoke: bool,
    pub(super) redis_read: Vec<String>,
    pub(super) redis_write: Vec<String>,
    pub(super) peers: Vec<String>,
    pub(super) sockets: Vec<String>,
    pub(super) database: bool,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Limits {
    pub(super) memory_bytes: Option<usize>,
    pub(super) table_elements: Option<usize>,
    pub(super) cpu_ms: Option<u64>,
    pub(super) wall_ms: Option<u64>,
    pub(super) host_calls: Option<u32>,
    pub(super) request_body_bytes: Option<usize>,
    pub(super) response_body_bytes: Option<usize>,
    pub(super) response_headers: Option<usize>,
    pub(super) value_bytes: Option<usize>,
    pub(super) log_lines: Option<u32>,
    pub(super) log_bytes: Option<usize>,
    pub(super) slow_calls: Option<usize>,
    pub(super) in_flight: Option<usize>,
    pub(super) queue: Option<usize>,
    pub(super) reuse: Option<u32>,
    pub(super) warm: Option<usize>,
}
