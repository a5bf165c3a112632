//! The store in Redis: one server, a master that sentinels know, or a cluster, with a
//! breaker in front. It must not know what the keys mean, and it never shows the URL or
//! the password.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ::redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use ::redis::{Arg, Cmd, FromRedisValue, RedisResult, from_redis_value};
use async_trait::async_trait;
use tracing::Span;

use super::{Condition, Result, Store};
use crate::breaker::Breaker;
use crate::{config, telemetry};

mod address;
mod connect;
mod health;
mod history;
mod link;
pub mod scripts;

pub use address::SetupError;
pub use history::{Cursor, Held, Place};
pub use link::Link;

use address::Address;
use connect::{Connector, Live};
use health::Health;
use scripts::{COMPARE_AND_SET, INCREMENT, SET_ADD};

/// The stream keeps about this many events.
const STREAM_LENGTH: usize = 100_000;
/// A connection that has failed so many signs of life in a row is made anew.
const MISSED_PINGS: u32 = 3;
/// Written to see whether the server takes writes again; it ends by itself, seconds.
const TRIAL: (&str, u32) = ("lockgate:write-trial", 5);

/// Redis, reached lazily: nothing here waits for a server that is away.
pub struct Redis {
    connector: Arc<Connector>,
    command_timeout: Duration,
    health: Health,
    /// Signs of life that were not given, in a row.
    missed: AtomicU32,
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
    /// Prepares a connection; its methods must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`SetupError`] if the settings are wrong; never because the server is away.
    pub fn open(config: &config::Redis) -> std::result::Result<Redis, SetupError> {
        let address = Address::read(config)?;
        Ok(Redis {
            connector: Connector::new(address, config.command_timeout),
            command_timeout: config.command_timeout,
            health: Health::new(),
            missed: AtomicU32::new(0),
        })
    }

    /// True if the last attempt succeeded, the breaker is closed and writes are taken.
    pub fn connected(&self) -> bool {
        self.health.connected()
    }

    /// The breaker as it is now.
    pub fn breaker(&self) -> Breaker {
        self.health.server.breaker()
    }

    /// Asks the server for a sign of life, and, if it has refused to write, whether it
    /// does again; run once a second. True: all is well.
    pub async fn ping(&self) -> bool {
        if !self.health.server.may_probe() {
            return false;
        }
        let answered = self.send::<::redis::Value>(&::redis::cmd("PING")).await;
        if answered.is_ok() {
            self.missed.store(0, Ordering::Relaxed);
        } else if self.missed.fetch_add(1, Ordering::Relaxed) + 1 >= MISSED_PINGS {
            self.missed.store(0, Ordering::Relaxed);
            self.connector.lose();
        }
        if answered.is_ok() && self.health.refuses_writes() {
            let (key, ttl) = TRIAL;
            let written = self.set(key, b"1", ttl, Condition::Always).await;
            if written != Err(super::Error::Unavailable) {
                self.health.takes_writes();
            }
        }
        answered.is_ok() && self.connected()
    }

    /// What the server does when its memory is full, if it says so. Any policy but
    /// `noeviction` may drop revocations, which then live in the journal only.
    pub async fn eviction_policy(&self) -> Option<String> {
        // The nodes of a cluster may differ, and answer together.
        if self.connector.is_cluster() {
            return None;
        }
        let info: String = self.query(::redis::cmd("INFO").arg("memory")).await.ok()?;
        let line = info
            .lines()
            .find_map(|line| line.strip_prefix("maxmemory_policy:"))?;
        Some(line.trim().to_owned())
    }

    /// One command, if the breaker is closed.
    async fn query<T: FromRedisValue + Send>(&self, command: &Cmd) -> Result<T> {
        if !self.health.server.usable() {
            return Err(super::Error::Unavailable);
        }
        self.send(command).await
    }

    /// Several commands, in one round trip where they go to one server. In a cluster the
    /// first that fails is the last that is sent.
    async fn query_all<T: FromRedisValue + Send>(&self, commands: Vec<Cmd>) -> Result<Vec<T>> {
        if self.connector.is_cluster() {
            let mut values = Vec::with_capacity(commands.len());
            for command in &commands {
                values.push(self.query(command).await?);
            }
            return Ok(values);
        }
        if !self.health.server.usable() {
            return Err(super::Error::Unavailable);
        }
        let mut pipeline = ::redis::Pipeline::with_capacity(commands.len());
        for command in commands {
            pipeline.add_command(command);
        }
        let span = telemetry::redis("PIPELINE", pipeline.len());
        self.run(span, async |mut live: Live| {
            pipeline.query_async(&mut live).await
        })
        .await
    }

    /// One command to one node of a cluster.
    async fn query_at<T: FromRedisValue + Send>(
        &self,
        command: Cmd,
        node: SingleNodeRoutingInfo,
    ) -> Result<T> {
        if !self.health.server.usable() {
            return Err(super::Error::Unavailable);
        }
        self.run(
            telemetry::redis(name(&command), 1),
            async |live: Live| match live {
                Live::Cluster(mut cluster) => {
                    let routing = RoutingInfo::SingleNode(node);
                    Ok(from_redis_value(
                        cluster.route_command(command, routing).await?,
                    )?)
                }
                Live::Node(mut server) => command.query_async(&mut server).await,
            },
        )
        .await
    }

    /// One command, whatever the breaker says.
    async fn send<T: FromRedisValue + Send>(&self, command: &Cmd) -> Result<T> {
        let span = telemetry::redis(name(command), 1);
        self.run(span, async |mut live: Live| {
            command.query_async(&mut live).await
        })
        .await
    }

    /// Runs commands within the limit of one and judges how they end.
    async fn run<T>(
        &self,
        span: Span,
        commands: impl AsyncFnOnce(Live) -> RedisResult<T>,
    ) -> Result<T> {
        let attempt = async {
            let (number, live) = self.connector.live().await?;
            let outcome = commands(live).await;
            if outcome.as_ref().is_err_and(connect::is_lost) {
                self.connector.lost(number);
            }
            outcome
        };
        let judged = async {
            let outcome = tokio::time::timeout(self.command_timeout, attempt).await;
            self.health.judge(outcome.ok())
        };
        telemetry::within(span, judged, |error| error.kind()).await
    }
}

/// Its first word, without what it is about.
fn name(command: &Cmd) -> &str {
    match command.args_iter().next() {
        Some(Arg::Simple(word)) => std::str::from_utf8(word).unwrap_or_default(),
        _ => "",
    }
}

/// A script on one key. The scripts are short, so sending them whole costs less
/// than asking for them by digest and having to send them again after a restart.
fn eval(script: &str, key: &str) -> ::redis::Cmd {
    let mut command = ::redis::cmd("EVAL");
    command.arg(script).arg(1).arg(key);
    command
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
        let mut add = ::redis::cmd("XADD");
        add.arg(stream).arg("MAXLEN").arg("~").arg(STREAM_LENGTH);
        add.arg("*").arg("event").arg(payload);
        let mut publish = ::redis::cmd("PUBLISH");
        publish.arg(channel).arg(payload);
        self.query_all::<::redis::Value>(vec![add, publish])
            .await
            .map(drop)
    }
}
