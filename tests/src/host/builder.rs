//! What a host is started with: its folder, files, environment and plugins. It
//! starts no process itself.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::{ADMIN, Host, Service, cache};
use crate::ports::Ports;
use crate::redis::RedisServer;
use crate::tokens::Tokens;
use crate::{http, place};

/// What the key file of a host holds.
#[derive(Debug, Clone)]
pub enum Secret {
    /// A new random key on two lines.
    Random,
    /// These bytes.
    Bytes(Vec<u8>),
    /// There is no key file.
    Missing,
}

/// Settings of a host that is not started yet.
#[derive(Debug)]
pub struct HostBuilder {
    env: BTreeMap<String, String>,
    plugins: BTreeMap<String, PathBuf>,
    secret: Secret,
    config: Option<String>,
    shared_cache: bool,
    program: Option<PathBuf>,
}

impl Default for HostBuilder {
    fn default() -> Self {
        let plugins = Service::ALL
            .map(|s| (s.name().to_owned(), PathBuf::new()))
            .into();
        Self {
            env: BTreeMap::new(),
            plugins,
            secret: Secret::Random,
            config: None,
            shared_cache: true,
            program: None,
        }
    }
}

impl HostBuilder {
    /// Sets an environment variable. The host inherits none but `PATH`.
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.insert(name.to_owned(), value.into());
        self
    }

    /// Uses a Redis through its ACL user, by a URL with percent-encoded credentials.
    pub fn redis(self, server: &RedisServer) -> Self {
        let url = server.url();
        self.env("REDIS_URL", url)
    }

    /// What the key file holds.
    pub fn secret(mut self, secret: Secret) -> Self {
        self.secret = secret;
        self
    }

    /// The text of `lockgate.toml`.
    pub fn config(mut self, toml: impl Into<String>) -> Self {
        self.config = Some(toml.into());
        self
    }

    /// Starts without the component of a service.
    pub fn without_plugin(mut self, service: Service) -> Self {
        self.plugins.remove(service.name());
        self
    }

    /// Starts a service with another component than the built one.
    pub fn plugin(mut self, service: Service, file: impl Into<PathBuf>) -> Self {
        self.plugins.insert(service.name().to_owned(), file.into());
        self
    }

    /// Lays a component into the folder for a service that is not one of the five: the
    /// configuration has to name it, with a port and grants.
    pub fn further_plugin(mut self, name: &str, file: impl Into<PathBuf>) -> Self {
        self.plugins.insert(name.to_owned(), file.into());
        self
    }

    /// Compiles the components anew instead of taking the shared compiled code.
    pub fn cold(mut self) -> Self {
        self.shared_cache = false;
        self
    }

    /// Runs another program, which takes the settings of a host, in its place.
    pub fn program(mut self, path: PathBuf) -> Self {
        self.program = Some(path);
        self
    }

    /// Starts and waits until `GET /readyz` of the admin listener says 200.
    pub async fn start(self) -> Host {
        let mut host = self.start_unready().await;
        host.wait_ready().await;
        host
    }

    /// Starts and waits only until every listener accepts connections: for hosts
    /// that cannot become ready, e.g. without a key.
    pub async fn start_unready(self) -> Host {
        let mut host = self.prepare();
        host.launch();
        host.wait_listening().await;
        host
    }

    /// Makes the folders and files, but starts nothing; [`Host::launch`] does.
    pub fn prepare(self) -> Host {
        let folder = tempfile::Builder::new()
            .prefix("lockgate-test-")
            .tempdir()
            .expect("make the folder of a host");
        let root = folder.path().to_owned();
        let plugins = root.join("plugins");
        std::fs::create_dir(&plugins).expect("make the plugin folder");
        for (name, file) in &self.plugins {
            let file = if file.as_os_str().is_empty() {
                place::plugin(name)
            } else {
                file.clone()
            };
            std::fs::copy(&file, plugins.join(format!("{name}.wasm")))
                .unwrap_or_else(|e| panic!("copy {}: {e}", file.display()));
        }
        std::fs::create_dir(root.join("data")).expect("make the data folder");
        if self.shared_cache {
            cache::seed(&root.join("data"));
        }
        let key = match self.secret {
            Secret::Random => Some(random_key()),
            Secret::Bytes(bytes) => Some(bytes),
            Secret::Missing => None,
        };
        if let Some(key) = &key {
            std::fs::write(root.join("jwt_secret"), key).expect("write the key file");
        }
        if let Some(text) = &self.config {
            std::fs::write(root.join("lockgate.toml"), text).expect("write the configuration");
        }
        let ports = Ports::take();
        let mut env = base_env(&root, &ports);
        env.extend(self.env);
        let tokens = Tokens::new(key.unwrap_or_else(random_key).trim_ascii());
        Host {
            child: None,
            env,
            ports,
            root,
            program: self.program.unwrap_or_else(place::binary),
            folder: Some(folder),
            tokens,
            client: http::client(),
        }
    }
}

/// The environment that gives a host its own ports, folders and files.
fn base_env(root: &Path, ports: &Ports) -> BTreeMap<String, String> {
    let path = |name: &str| root.join(name).display().to_string();
    let mut env = BTreeMap::from([
        ("LOCKGATE_BIND".to_owned(), "127.0.0.1".to_owned()),
        (
            "LOCKGATE_ADMIN".to_owned(),
            format!("127.0.0.1:{}", ports.at(ADMIN)),
        ),
        ("LOCKGATE_PLUGINS_DIR".to_owned(), path("plugins")),
        ("LOCKGATE_DATA_DIR".to_owned(), path("data")),
        ("JWT_SECRET_FILE".to_owned(), path("jwt_secret")),
        // Nothing listens there: no chat service unless a test starts one.
        (
            "CHAT_UPSTREAM_URL".to_owned(),
            format!("ws://127.0.0.1:{}/ws/chat", ports.at(7)),
        ),
    ]);
    for (service, index) in Service::ALL.into_iter().zip(0..) {
        let name = format!("{}_PORT", service.key().to_uppercase());
        env.insert(name, ports.at(index).to_string());
    }
    env
}

/// A key as deployments have it: two lines of base64, 88 characters in all.
fn random_key() -> Vec<u8> {
    use base64::Engine as _;
    use std::io::Read as _;
    let mut bytes = [0_u8; 66];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .expect("read random bytes");
    let text = base64::engine::general_purpose::STANDARD.encode(bytes);
    let (first, second) = text.split_at(64);
    format!("{first}\n{second}\n").into_bytes()
}
