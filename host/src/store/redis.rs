//! The store in Redis, with a breaker in front. It owns the connection and what
//! is known of its health; it must not know what the keys mean, and it never shows
//! the URL or the password.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::redis::aio::{ConnectionManager, ConnectionManagerConfig};
use ::redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use ::redis::{Client, FromRedisValue, IntoConnectionInfo, RedisError};
use async_trait::async_trait;
use secrecy::ExposeSecret;
use tokio::time::Instant;

use super::{Condition, Error, Result, Store};
use crate::breaker::{Breaker, Policy, Position};
use crate::{config, password};

/// Idle time after which the connection is probed; the server drops idle ones
/// after 300 s.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// A peer that acknowledges nothing for this long is gone: the next command connects
/// anew, perhaps to another address.
#[cfg(target_os = "linux")]
const SILENCE: Duration = Duration::from_secs(5);
/// The stream keeps about this many events.
const STREAM_LENGTH: usize = 100_000;

const COMPARE_AND_SET: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then \
     redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3]) return 1 else return 0 end";
const INCREMENT: &str = "local value = redis.call('INCRBY', KEYS[1], ARGV[1]) \
     if redis.call('TTL', KEYS[1]) < 0 then redis.call('EXPIRE', KEYS[1], ARGV[2]) end \
     return value";
const SET_ADD: &str = "local added = redis.call('SADD', KEYS[1], ARGV[1]) \
     redis.call('EXPIRE', KEYS[1], ARGV[2]) return added";

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The URL is wrong; it is not shown, because it may hold a password.
    #[error("REDIS_URL cannot be used: {0}")]
    Url(String),
    /// The password file is there but cannot be read.
    #[error("cannot read REDIS_PASSWORD_FILE {path}: {reason}")]
    Password {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        reason: String,
    },
}

/// Redis, reached lazily: nothing here waits for a server that is away.
pub struct Redis {
    manager: ConnectionManager,
    command_timeout: Duration,
    health: Mutex<Health>,
}

#[derive(Debug)]
struct Health {
    breaker: Breaker,
    /// The last command or PING succeeded.
    connected: bool,
    /// The fault that was logged last, so that one outage is one line.
    logged: Option<String>,
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Redis")
            .field("health", &self.health)
            .finish_non_exhaustive()
    }
}

impl Redis {
    /// Prepares a connection; must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`SetupError`] if the settings are wrong; never because the server is away.
    pub fn open(config: &config::Redis) -> std::result::Result<Redis, SetupError> {
        let refused = |error: RedisError| SetupError::Url(error.category().to_owned());
        let info = config
            .url
            .expose_secret()
            .into_connection_info()
            .map_err(refused)?;
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE);
        let tcp = TcpSettings::default()
            .set_nodelay(true)
            .set_keepalive(keepalive);
        #[cfg(target_os = "linux")]
        let tcp = tcp.set_user_timeout(SILENCE);
        let mut settings = info.redis_settings().clone();
        let unreadable = |reason| SetupError::Password {
            path: config.password_file.clone(),
            reason,
        };
        if settings.password().is_none()
            && let Some(password) = password::read(&config.password_file).map_err(unreadable)?
        {
            if settings.username().is_none() {
                settings = settings.set_username(&config.username);
            }
            settings = settings.set_password(password.expose_secret());
        }
        let info = info.set_tcp_settings(tcp).set_redis_settings(settings);
        let client = Client::open(info).map_err(refused)?;
        let timing = ConnectionManagerConfig::new()
            .set_number_of_retries(0)
            .set_connection_timeout(Some(config.command_timeout))
            .set_response_timeout(Some(config.command_timeout));
        let manager = ConnectionManager::new_lazy_with_config(client, timing).map_err(refused)?;
        Ok(Redis {
            manager,
            command_timeout: config.command_timeout,
            health: Mutex::new(Health {
                breaker: Breaker::new(Policy::REDIS),
                connected: false,
                logged: None,
            }),
        })
    }

    /// True if the last attempt succeeded and the breaker is closed.
    pub fn connected(&self) -> bool {
        let health = self.health();
        health.connected && health.breaker.position() == Position::Closed
    }

    /// The breaker as it is now.
    pub fn breaker(&self) -> Breaker {
        self.health().breaker.clone()
    }

    /// Asks the server for a sign of life; run once a second. True: it answered.
    pub async fn ping(&self) -> bool {
        if !self.health().breaker.permit(Instant::now()) {
            return false;
        }
        let mut manager = self.manager.clone();
        let ping = async move {
            ::redis::cmd("PING")
                .query_async::<String>(&mut manager)
                .await
        };
        self.judge(tokio::time::timeout(self.command_timeout, ping).await.ok())
            .is_ok()
    }

    /// What the server does when its memory is full, if it says so. Any policy but
    /// `noeviction` may drop revocations, which then live in the journal only.
    pub async fn eviction_policy(&self) -> Option<String> {
        let mut manager = self.manager.clone();
        let command = self.run(async move {
            ::redis::cmd("INFO")
                .arg("memory")
                .query_async::<String>(&mut manager)
                .await
        });
        let info = command.await.ok()?;
        let line = info
            .lines()
            .find_map(|line| line.strip_prefix("maxmemory_policy:"))?;
        Some(line.trim().to_owned())
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn query<T: FromRedisValue + Send>(&self, command: &::redis::Cmd) -> Result<T> {
        let mut manager = self.manager.clone();
        self.run(async move { command.query_async(&mut manager).await })
            .await
    }

    /// One command, if the breaker is closed, within the limit.
    async fn run<T>(
        &self,
        command: impl Future<Output = std::result::Result<T, RedisError>>,
    ) -> Result<T> {
        if self.health().breaker.position() != Position::Closed {
            return Err(Error::Unavailable);
        }
        self.judge(
            tokio::time::timeout(self.command_timeout, command)
                .await
                .ok(),
        )
    }

    /// Counts the outcome; `None` is a timeout.
    fn judge<T>(&self, outcome: Option<std::result::Result<T, RedisError>>) -> Result<T> {
        let fault = match outcome {
            Some(Ok(value)) => {
                self.succeeded();
                return Ok(value);
            }
            Some(Err(error)) => {
                // The server is there and well; it is the command that it refused.
                match error.code() {
                    Some("WRONGTYPE") => {
                        self.succeeded();
                        return Err(Error::WrongType);
                    }
                    Some("ERR") if not_an_integer(&error) => {
                        self.succeeded();
                        return Err(Error::WrongType);
                    }
                    Some("NOPERM") => {
                        self.succeeded();
                        tracing::warn!("redis: the ACL user may not run a command: NOPERM");
                        return Err(Error::Unavailable);
                    }
                    _ => describe(&error),
                }
            }
            None => "no answer in time".to_owned(),
        };
        self.failed(fault);
        Err(Error::Unavailable)
    }

    fn succeeded(&self) {
        let mut health = self.health();
        let before = health.breaker.position();
        health.breaker.success();
        if before == Position::Open {
            return;
        }
        health.connected = true;
        if health.logged.take().is_some() {
            tracing::info!("redis: reachable again");
        }
    }

    fn failed(&self, fault: String) {
        let mut health = self.health();
        health.breaker.failure(Instant::now());
        health.connected = false;
        if health.logged.as_deref() != Some(fault.as_str()) {
            tracing::warn!(fault, "redis: not usable, running degraded");
            health.logged = Some(fault);
        }
    }
}

/// A script on one key. The scripts are short, so sending them whole costs less
/// than asking for them by digest and having to send them again after a restart.
fn eval(script: &str, key: &str) -> ::redis::Cmd {
    let mut command = ::redis::cmd("EVAL");
    command.arg(script).arg(1).arg(key);
    command
}

/// In words, without addresses or credentials.
fn describe(error: &RedisError) -> String {
    match error.code() {
        Some("NOAUTH") => {
            "NOAUTH: the server wants a password; put it into REDIS_URL or REDIS_PASSWORD_FILE"
                .to_owned()
        }
        Some("WRONGPASS") => "WRONGPASS: the server refuses the user or the password".to_owned(),
        Some(code) => format!("the server answered {code}"),
        None if error.is_timeout() => "no answer in time".to_owned(),
        None if error.kind() == ::redis::ErrorKind::AuthenticationFailed => {
            "the server refuses the user or the password".to_owned()
        }
        None => error.category().to_owned(),
    }
}

fn not_an_integer(error: &RedisError) -> bool {
    error.detail().is_some_and(|detail| {
        detail.contains("not an integer") || detail.contains("would overflow")
    })
}

#[async_trait]
impl Store for Redis {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.query(::redis::cmd("GET").arg(key)).await
    }

    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        self.query(::redis::cmd("MGET").arg(keys)).await
    }

    async fn take(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.query(::redis::cmd("GETDEL").arg(key)).await
    }

    async fn set(&self, key: &str, value: &[u8], ttl: u32, condition: Condition) -> Result<bool> {
        let mut command = ::redis::cmd("SET");
        command.arg(key).arg(value).arg("EX").arg(ttl);
        if condition == Condition::IfAbsent {
            command.arg("NX");
        }
        let done: Option<String> = self.query(&command).await?;
        Ok(done.is_some())
    }

    async fn compare_and_set(
        &self,
        key: &str,
        expected: &[u8],
        value: &[u8],
        ttl: u32,
    ) -> Result<bool> {
        let mut script = eval(COMPARE_AND_SET, key);
        self.query(script.arg(expected).arg(value).arg(ttl)).await
    }

    async fn delete(&self, keys: &[String]) -> Result<u32> {
        if keys.is_empty() {
            return Ok(0);
        }
        self.query(::redis::cmd("DEL").arg(keys)).await
    }

    async fn expire(&self, key: &str, ttl: u32) -> Result<bool> {
        self.query(::redis::cmd("EXPIRE").arg(key).arg(ttl)).await
    }

    async fn increment(&self, key: &str, by: i64, ttl: u32) -> Result<i64> {
        self.query(eval(INCREMENT, key).arg(by).arg(ttl)).await
    }

    async fn set_add(&self, key: &str, member: &str, ttl: u32) -> Result<bool> {
        self.query(eval(SET_ADD, key).arg(member).arg(ttl)).await
    }

    async fn set_remove(&self, key: &str, member: &str) -> Result<bool> {
        self.query(::redis::cmd("SREM").arg(key).arg(member)).await
    }

    async fn set_contains(&self, key: &str, member: &str) -> Result<bool> {
        self.query(::redis::cmd("SISMEMBER").arg(key).arg(member))
            .await
    }

    async fn set_members(&self, key: &str) -> Result<Vec<String>> {
        let members: Vec<Vec<u8>> = self.query(::redis::cmd("SMEMBERS").arg(key)).await?;
        Ok(members
            .into_iter()
            .filter_map(|member| String::from_utf8(member).ok())
            .collect())
    }

    async fn announce(&self, channel: &str, stream: &str, payload: &str) -> Result<()> {
        let mut both = ::redis::pipe();
        both.cmd("XADD")
            .arg(stream)
            .arg("MAXLEN")
            .arg("~")
            .arg(STREAM_LENGTH)
            .arg("*");
        both.arg("event").arg(payload).ignore();
        both.cmd("PUBLISH").arg(channel).arg(payload).ignore();
        let mut manager = self.manager.clone();
        self.run(async move { both.query_async::<()>(&mut manager).await })
            .await
    }
}
