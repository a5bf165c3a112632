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
use crate::tokens::Tokens;

mod builder;
mod cache;

pub use builder::{HostBuilder, Secret};

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

/// A running host. Dropping it kills the process and removes its folder.
#[derive(Debug)]
pub struct Host {
    child: Option<Child>,
    env: BTreeMap<String, String>,
    ports: Ports,
    root: PathBuf,
    program: PathBuf,
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

    /// A POST request to the admin listener, with its token.
    pub fn order(&self, path: &str) -> Call {
        let url = format!("http://127.0.0.1:{}{path}", self.admin_port());
        let file = self.data_dir().join("admin_token");
        let token = std::fs::read_to_string(file).expect("the admin token was made");
        Call::new(self.client.clone(), Method::POST, url).bearer(&token)
    }

    /// Runs a command of the binary that speaks to this host's admin listener; gives
    /// what it printed, after checking the exit code.
    pub fn command(&self, arguments: &[&str], success: bool) -> String {
        let admin = format!("127.0.0.1:{}", self.admin_port());
        let output = std::process::Command::new(crate::place::binary())
            .args(arguments)
            .args(["--admin", &admin, "--token-file"])
            .arg(self.data_dir().join("admin_token"))
            .output()
            .expect("run the binary");
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(text).expect("text");
        assert_eq!(output.status.success(), success, "{arguments:?}: {text}");
        text
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
        self.launch();
        self.wait_ready().await;
    }

    /// As [`Host::start_again`], but waits only until every listener accepts connections.
    pub async fn start_again_unready(&mut self) {
        self.launch();
        self.wait_listening().await;
    }

    /// Starts the process and waits for nothing, for those who time the start.
    pub fn launch(&mut self) {
        assert!(self.child.is_none(), "stop the host first");
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.root.join("host.log"))
            .expect("open the host's log");
        let child = Command::new(&self.program)
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
            if let Ok(answer) = self.admin("/readyz").try_send().await
                && answer.status == 200
            {
                return;
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
    assert!(try_signal(pid, name), "no signal {name} to {pid}");
}

/// The same to one that may have ended by itself. False: it has.
pub(crate) fn try_signal(pid: u32, name: &str) -> bool {
    let done = Command::new("sh")
        .args(["-c", "kill -s \"$1\" \"$2\"", "sh", name, &pid.to_string()])
        .stderr(Stdio::null())
        .status()
        .expect("run sh");
    done.success()
}
