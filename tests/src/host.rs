//! Starts the real host as a process of its own, with its own ports, data, plugin
//! folder and secret, and stops it when it is dropped.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use reqwest::Method;

use crate::http::Call;
use crate::ports::Ports;
use crate::redis::RedisServer;
use crate::tokens::Tokens;
use crate::{http, place};

/// How long a host may take from its start to readiness; compiling five
/// components on a loaded machine is slow.
const START_GUARD: Duration = Duration::from_secs(180);
/// How long a host may take to leave after SIGTERM.
const STOP_GUARD: Duration = Duration::from_secs(60);
const ADMIN: u16 = 5;

/// The five services, in the order of their default ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// jwt-token-adapter, 8025.
    Jwt,
    /// session-validation-normalizer, 8026.
    Session,
    /// fallback-session-provider, 8027.
    Fallback,
    /// websocket-auth-gateway, 8028.
    Gateway,
    /// service-boundary-coordinator, 8029.
    Coordinator,
}

impl Service {
    /// All five, in the order of their ports.
    pub const ALL: [Self; 5] = [
        Self::Jwt,
        Self::Session,
        Self::Fallback,
        Self::Gateway,
        Self::Coordinator,
    ];

    /// With hyphens; also the name of the component's file without `.wasm`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jwt => "jwt-token-adapter",
            Self::Session => "session-validation-normalizer",
            Self::Fallback => "fallback-session-provider",
            Self::Gateway => "websocket-auth-gateway",
            Self::Coordinator => "service-boundary-coordinator",
        }
    }

    /// With underscores, as in the answers of the coordinator.
    pub fn key(self) -> String {
        self.name().replace('-', "_")
    }
}

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

    /// Compiles the components anew instead of taking the shared compiled code.
    pub fn cold(mut self) -> Self {
        self.shared_cache = false;
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
        host.spawn();
        host.wait_listening().await;
        host
    }

    /// Makes the folders and files, but starts nothing.
    fn prepare(self) -> Host {
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

/// A running host. Dropping it kills the process and removes its folder.
#[derive(Debug)]
pub struct Host {
    child: Option<Child>,
    env: BTreeMap<String, String>,
    ports: Ports,
    root: PathBuf,
    folder: Option<tempfile::TempDir>,
    /// Mints tokens with the key of this host.
    pub tokens: Tokens,
    client: reqwest::Client,
}

impl Host {
    /// A host with the embedded store and defaults.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// Settings to change before the start.
    pub fn builder() -> HostBuilder {
        HostBuilder::default()
    }

    /// Port of a service.
    pub fn port(&self, service: Service) -> u16 {
        let index = Service::ALL
            .iter()
            .position(|s| *s == service)
            .expect("a known service");
        self.ports.at(index as u16)
    }

    /// Port of the admin listener.
    pub fn admin_port(&self) -> u16 {
        self.ports.at(ADMIN)
    }

    /// A port of this host's block on which nothing listens (index 0 or 1); a test
    /// may start a server of its own there. Index 1 is where the chat service is
    /// expected.
    pub fn spare_port(&self, index: u16) -> u16 {
        self.ports.at(ADMIN + 1 + index)
    }

    /// The folder with `plugins`, `data`, `jwt_secret` and `host.log`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The watched plugin folder.
    pub fn plugins_dir(&self) -> PathBuf {
        self.root.join("plugins")
    }

    /// The data folder.
    pub fn data_dir(&self) -> PathBuf {
        self.root.join("data")
    }

    /// The key file.
    pub fn secret_file(&self) -> PathBuf {
        self.root.join("jwt_secret")
    }

    /// All that the host has written to its standard output and error so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.root.join("host.log")).unwrap_or_default())
            .into_owned()
    }

    /// Changes an environment variable for the next [`Host::start_again`].
    pub fn set_env(&mut self, name: &str, value: impl Into<String>) {
        self.env.insert(name.to_owned(), value.into());
    }

    /// A request to a service.
    pub fn call(&self, method: Method, service: Service, path: &str) -> Call {
        let url = format!("http://127.0.0.1:{}{path}", self.port(service));
        Call::new(self.client.clone(), method, url)
    }

    /// A GET request to a service.
    pub fn get(&self, service: Service, path: &str) -> Call {
        self.call(Method::GET, service, path)
    }

    /// A POST request to a service; without a body unless one is given.
    pub fn post(&self, service: Service, path: &str) -> Call {
        self.call(Method::POST, service, path)
    }

    /// A GET request to the admin listener.
    pub fn admin(&self, path: &str) -> Call {
        let url = format!("http://127.0.0.1:{}{path}", self.admin_port());
        Call::new(self.client.clone(), Method::GET, url)
    }

    /// Process id of the running host.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the host runs").id()
    }

    /// Sends a signal by its name, e.g. `TERM` or `HUP`.
    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// True while the process runs.
    pub fn is_running(&mut self) -> bool {
        self.child
            .as_mut()
            .is_some_and(|c| matches!(c.try_wait(), Ok(None)))
    }

    /// Ends the host with SIGTERM and waits for it.
    pub async fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait_exit().await
    }

    /// Ends the host with SIGKILL: nothing is flushed.
    pub async fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("kill the host");
            child.wait().expect("wait for the host");
        }
    }

    /// Waits until the process has left by itself.
    pub async fn wait_exit(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the host runs");
        let begin = Instant::now();
        loop {
            if let Some(status) = child.try_wait().expect("ask for the host's end") {
                return status;
            }
            if begin.elapsed() > STOP_GUARD {
                let _ = child.kill();
                let _ = child.wait();
                panic!(
                    "the host did not leave in {STOP_GUARD:?}; its log:\n{}",
                    self.log()
                );
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Starts a stopped host again: same ports, data, plugins and key.
    pub async fn start_again(&mut self) {
        assert!(self.child.is_none(), "stop the host first");
        self.spawn();
        self.wait_ready().await;
    }

    /// As [`Host::start_again`], but waits only until every listener accepts connections.
    pub async fn start_again_unready(&mut self) {
        assert!(self.child.is_none(), "stop the host first");
        self.spawn();
        self.wait_listening().await;
    }

    fn spawn(&mut self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.root.join("host.log"))
            .expect("open the host's log");
        let child = Command::new(place::binary())
            .arg("serve")
            .current_dir(&self.root)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(&self.env)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("share the host's log"))
            .stderr(log)
            .spawn()
            .expect("start the host");
        self.child = Some(child);
    }

    async fn wait_ready(&mut self) {
        let begin = Instant::now();
        loop {
            self.check_alive();
            if let Ok(answer) = self.admin("/readyz").try_send().await {
                if answer.status == 200 {
                    return;
                }
            }
            self.guard(begin, "ready");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn wait_listening(&mut self) {
        let begin = Instant::now();
        let only = self
            .env
            .get("SERVICE_NAME")
            .map(|n| n.trim_end_matches("-service").to_owned());
        for service in Service::ALL {
            if only.as_ref().is_some_and(|name| name != service.name()) {
                continue;
            }
            while tokio::net::TcpStream::connect(("127.0.0.1", self.port(service)))
                .await
                .is_err()
            {
                self.check_alive();
                self.guard(begin, "listening");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }

    fn check_alive(&mut self) {
        let child = self.child.as_mut().expect("the host was started");
        if let Some(status) = child.try_wait().expect("ask for the host's state") {
            panic!(
                "the host left at its start ({status}); its log:\n{}",
                self.log()
            );
        }
    }

    fn guard(&self, begin: Instant, what: &str) {
        if begin.elapsed() > START_GUARD {
            panic!(
                "the host was not {what} after {START_GUARD:?}; its log:\n{}",
                self.log()
            );
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let from = log.char_indices().rev().nth(6_000).map_or(0, |(at, _)| at);
            eprintln!("--- end of the host's log ---\n{}", &log[from..]);
            if std::env::var_os("LOCKGATE_TEST_KEEP").is_some() {
                let kept = self.folder.take().map(tempfile::TempDir::keep);
                eprintln!("kept: {kept:?}");
            }
        }
    }
}

/// Sends a signal by its name to a process that the tests started.
pub(crate) fn signal(pid: u32, name: &str) {
    let done = Command::new("sh")
        .args(["-c", "kill -s \"$1\" \"$2\"", "sh", name, &pid.to_string()])
        .status()
        .expect("run sh");
    assert!(done.success(), "no signal {name} to {pid}");
}

/// The compiled code of the built plugins, made once and copied to every host.
mod cache {
    use std::fs::File;
    use std::path::{Path, PathBuf};

    use sha2::{Digest as _, Sha256};

    use super::{Host, HostBuilder, Service};
    use crate::place;

    /// Copies the cache into a data folder; makes it first if nobody has.
    pub(super) fn seed(data: &Path) {
        let store = place::scratch().join(identity());
        let lock = File::create(place::scratch().join("lock")).expect("make the cache's lock");
        lock.lock().expect("wait for the cache");
        if !store.is_dir() {
            fill(&store);
        }
        drop(lock);
        place::copy_folder(&store, &data.join("cache")).expect("copy the compiled code");
    }

    /// Changes with the binary and with every plugin.
    fn identity() -> String {
        let mut hash = Sha256::new();
        for service in Service::ALL {
            hash.update(std::fs::read(place::plugin(service.name())).expect("read a plugin"));
        }
        let binary = std::fs::metadata(place::binary()).expect("look at the host");
        hash.update(format!("{:?} {}", binary.modified().ok(), binary.len()));
        hex::encode(&hash.finalize()[..12])
    }

    /// Runs one host until it is ready, and keeps what it compiled.
    fn fill(store: &Path) {
        let made: PathBuf = std::thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("start a runtime");
            runtime.block_on(async {
                let mut host: Host = HostBuilder::default().cold().start().await;
                host.stop().await;
                let folder = host
                    .folder
                    .take()
                    .expect("the folder is still there")
                    .keep();
                folder.join("data/cache")
            })
        })
        .join()
        .expect("compile the plugins once");
        let part = store.with_extension("part");
        let _ = std::fs::remove_dir_all(&part);
        place::copy_folder(&made, &part).expect("keep the compiled code");
        std::fs::rename(&part, store).expect("keep the compiled code");
        let root = made
            .parent()
            .and_then(Path::parent)
            .expect("a folder in a host's folder");
        let _ = std::fs::remove_dir_all(root);
    }
}
