//! A real `redis-server` as deployments have it: the default user is off, the ACL
//! user `lwe-app` has a password that must be percent-encoded, and it may not
//! run administrative commands. It can be stopped, paused, killed and started again.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;

use crate::host::signal;
use crate::ports::Ports;

/// ACL user of the host.
pub const USER: &str = "lwe-app";
/// Its password.
pub const PASSWORD: &str = "pw/with+chars=and%41:@#?";
const TESTER: &str = "tester";
const TESTER_PASSWORD: &str = "tester-password";
const GUARD: Duration = Duration::from_secs(30);

/// The line of a server's configuration that makes the host's user.
pub(crate) fn acl_user() -> String {
    format!("user {USER} on >{PASSWORD} ~* &* +@all -@admin -@dangerous\n")
}

/// User and password of the host for a URL.
pub(crate) fn credentials() -> String {
    let password = utf8_percent_encode(PASSWORD, NON_ALPHANUMERIC);
    format!("{USER}:{password}")
}

/// A Redis server on a free port. Dropping it kills the process.
#[derive(Debug)]
pub struct RedisServer {
    child: Option<Child>,
    ports: Ports,
    folder: tempfile::TempDir,
}

impl RedisServer {
    /// Starts one with the default memory policy.
    pub async fn start() -> Self {
        Self::start_with("").await
    }

    /// Starts one with further lines of configuration, e.g. `maxmemory-policy allkeys-lru`.
    pub async fn start_with(lines: &str) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("lockgate-test-redis-")
            .tempdir()
            .expect("make the folder of Redis");
        let ports = Ports::take();
        let dir = folder.path().display();
        let port = ports.at(0);
        // Append-only: what was written is there again after a start.
        let text = format!(
            "bind 127.0.0.1\nport {port}\ndir {dir}\nsave \"\"\nappendonly yes\n\
             appendfsync no\nprotected-mode no\ntimeout 300\n\
             user default off\n\
             {}\
             user {TESTER} on >{TESTER_PASSWORD} ~* &* +@all\n{lines}\n",
            acl_user()
        );
        std::fs::write(folder.path().join("redis.conf"), text).expect("write redis.conf");
        std::fs::write(folder.path().join("password"), format!("{PASSWORD}\n"))
            .expect("write the password file");
        let mut server = Self {
            child: None,
            ports,
            folder,
        };
        server.start_again().await;
        server
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.ports.at(0)
    }

    /// A port on which nothing listens.
    pub fn spare_port(&self) -> u16 {
        self.ports.at(1)
    }

    /// URL with percent-encoded credentials.
    pub fn url(&self) -> String {
        self.url_at(self.port())
    }

    /// The same at another port, e.g. of a proxy.
    pub fn url_at(&self, port: u16) -> String {
        format!("redis://{}@127.0.0.1:{port}/0", credentials())
    }

    /// URL without credentials, as the compose file gives it.
    pub fn bare_url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port())
    }

    /// A file with the password and a line end.
    pub fn password_file(&self) -> PathBuf {
        self.folder.path().join("password")
    }

    /// Starts it (again) with the data that it had, and waits until it answers.
    pub async fn start_again(&mut self) {
        assert!(self.child.is_none(), "stop Redis first");
        let log = std::fs::File::create(self.folder.path().join("redis.log")).expect("a log file");
        let child = Command::new("redis-server")
            .arg(self.folder.path().join("redis.conf"))
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::null())
            .spawn()
            .expect("start redis-server: is the package redis-server installed?");
        self.child = Some(child);
        let begin = Instant::now();
        loop {
            if let Ok(mut link) = self.try_connect().await {
                let pong: redis::RedisResult<String> =
                    redis::cmd("PING").query_async(&mut link).await;
                if pong.is_ok() {
                    return;
                }
            }
            if begin.elapsed() > GUARD {
                let log = std::fs::read_to_string(self.folder.path().join("redis.log"));
                panic!("Redis did not start: {}", log.unwrap_or_default());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Starts it again without any data.
    pub async fn start_empty(&mut self) {
        assert!(self.child.is_none(), "stop Redis first");
        let _ = std::fs::remove_dir_all(self.folder.path().join("appendonlydir"));
        self.start_again().await;
    }

    /// The password of the host's user from the next start on.
    pub fn set_password(&self, password: &str) {
        let file = self.folder.path().join("redis.conf");
        let text = std::fs::read_to_string(&file).expect("read redis.conf");
        let user = format!("user {USER} on >");
        let line = |line: &str| match line.starts_with(&user) {
            true => format!("{user}{password} ~* &* +@all -@admin -@dangerous\n"),
            false => format!("{line}\n"),
        };
        let text: String = text.lines().map(line).collect();
        std::fs::write(&file, text).expect("write redis.conf");
    }

    /// Ends it at once; later connections are refused.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGSTOP: connections stay open, nothing is answered.
    pub fn pause(&self) {
        signal(self.child.as_ref().expect("Redis runs").id(), "STOP");
    }

    /// Ends [`RedisServer::pause`].
    pub fn resume(&self) {
        signal(self.child.as_ref().expect("Redis runs").id(), "CONT");
    }

    /// A connection as an administrator, for looking and preparing.
    pub async fn connect(&self) -> MultiplexedConnection {
        self.try_connect().await.expect("connect to Redis")
    }

    async fn try_connect(&self) -> redis::RedisResult<MultiplexedConnection> {
        let url = format!(
            "redis://{TESTER}:{TESTER_PASSWORD}@127.0.0.1:{}/0",
            self.port()
        );
        // The default of half a second is too short on a loaded machine.
        let patient = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(GUARD))
            .set_response_timeout(Some(GUARD));
        redis::Client::open(url)?
            .get_multiplexed_async_connection_with_config(&patient)
            .await
    }

    /// Runs one command as the administrator.
    pub async fn run<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(*word);
        }
        let mut link = self.connect().await;
        command
            .query_async(&mut link)
            .await
            .unwrap_or_else(|e| panic!("Redis {words:?}: {e}"))
    }

    /// A string value, if the key is there.
    pub async fn get(&self, key: &str) -> Option<String> {
        self.run(&["GET", key]).await
    }

    /// How many of these keys are there.
    pub async fn count(&self, keys: &[String]) -> usize {
        if keys.is_empty() {
            return 0;
        }
        let words: Vec<&str> = keys.iter().map(String::as_str).collect();
        self.run(&[&["EXISTS"], &words[..]].concat()).await
    }

    /// All keys, sorted.
    pub async fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.run(&["KEYS", "*"]).await;
        keys.sort();
        keys
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}
