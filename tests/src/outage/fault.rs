//! What happens to Redis: each kind of fault, how it begins and how it ends. It measures
//! nothing.

use std::time::Duration;

use tokio::task::JoinHandle;

use crate::measure::Length;
use crate::proxy::Proxy;
use crate::redis::{PASSWORD, RedisServer};

/// Every reply is so late in a slow outage.
const LATE: Duration = Duration::from_millis(80);
/// Pause between two bytes of a reply that dribbles.
const BETWEEN: Duration = Duration::from_millis(2);
/// Redis holds so much in the part in which it is full, bytes.
const ROOM: u32 = 4 << 20;
/// Length of a value that fills it, bytes.
const JUNK: usize = 16 << 10;

/// One kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The process is gone; connections are refused.
    Killed,
    /// The process is stopped; connections stay open.
    Hung,
    /// Each reply comes late, but within the limit of a command.
    Slow,
    /// Each reply comes byte by byte.
    Dribble,
    /// Too little memory: keys are evicted, those of revocations too.
    Full,
    /// Too little memory, and nothing is evicted: whatever writes is refused.
    Oom,
    /// It has become a replica: whatever writes is refused.
    ReadOnly,
    /// All keys are gone; then the process, which comes back without any.
    Empty,
    /// It is started again with another password.
    Password,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Killed,
        Self::Hung,
        Self::Slow,
        Self::Dribble,
        Self::Full,
        Self::Oom,
        Self::ReadOnly,
        Self::Empty,
        Self::Password,
    ];

    /// On the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::Hung => "hung",
            Self::Slow => "slow",
            Self::Dribble => "dribble",
            Self::Full => "full",
            Self::Oom => "oom",
            Self::ReadOnly => "readonly",
            Self::Empty => "empty",
            Self::Password => "password",
        }
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Killed => "Redis is killed",
            Self::Hung => "Redis is stopped and keeps its connections",
            Self::Slow => "every reply of Redis comes 80 ms late",
            Self::Dribble => "every reply of Redis comes byte by byte, 2 ms apart",
            Self::Full => "Redis is full and evicts what was used least",
            Self::Oom => "Redis is full and refuses to write",
            Self::ReadOnly => "Redis has become a replica and refuses to write",
            Self::Empty => "Redis loses all keys, then its process, and comes back empty",
            Self::Password => "Redis is started again with another password",
        }
    }

    /// How long it lasts.
    pub(super) fn lasts(self, length: Length) -> Duration {
        let seconds = match self {
            Self::Killed => length.pick(6, 60, 600),
            _ => length.pick(2, 30, 120),
        };
        Duration::from_secs(seconds)
    }

    /// Redis cannot be used at all while it lasts.
    pub(super) fn is_outage(self) -> bool {
        matches!(
            self,
            Self::Killed | Self::Hung | Self::Empty | Self::Password
        )
    }

    /// What is made while it lasts is made after so much of it: before, Redis would lose it
    /// with the rest.
    pub(super) fn makes_after(self, lasts: Duration) -> Duration {
        match self {
            Self::Empty => lasts / 2,
            _ => Duration::ZERO,
        }
    }

    /// Revocations are gone from Redis, and the journal has to set them again.
    pub(super) fn forgets(self) -> bool {
        matches!(self, Self::Full | Self::Empty)
    }

    fn configuration(self) -> String {
        match self {
            Self::Full => format!("maxmemory {ROOM}\nmaxmemory-policy allkeys-lru"),
            _ => String::new(),
        }
    }
}

/// A Redis and what stands between it and the host.
#[derive(Debug)]
pub(super) struct Rig {
    kind: Kind,
    pub(super) redis: RedisServer,
    proxy: Proxy,
    filling: Option<JoinHandle<()>>,
}

impl Rig {
    pub(super) async fn new(kind: Kind) -> Self {
        let redis = RedisServer::start_with(&kind.configuration()).await;
        let proxy = Proxy::to(redis.port()).await;
        Self {
            kind,
            redis,
            proxy,
            filling: None,
        }
    }

    /// What the host is told.
    pub(super) fn url(&self) -> String {
        match self.kind {
            Kind::Slow | Kind::Dribble => self.redis.url_at(self.proxy.port()),
            _ => self.redis.url(),
        }
    }

    /// The fault begins.
    pub(super) async fn begin(&mut self) {
        match self.kind {
            Kind::Killed => self.redis.kill(),
            Kind::Hung => self.redis.pause(),
            Kind::Slow => self.proxy.late(LATE),
            Kind::Dribble => self.proxy.dribble(BETWEEN),
            Kind::Full => self.fill().await,
            Kind::Oom => self.redis.run(&["CONFIG", "SET", "maxmemory", "1"]).await,
            // Of a server that is not there: it goes on with what it has.
            Kind::ReadOnly => {
                let nobody = self.redis.spare_port().to_string();
                self.redis.run(&["REPLICAOF", "127.0.0.1", &nobody]).await
            }
            Kind::Empty => self.redis.run(&["FLUSHALL"]).await,
            Kind::Password => {
                self.redis.kill();
                self.redis.set_password("another-password");
                self.redis.start_again().await;
            }
        }
    }

    /// It is half over.
    pub(super) fn half(&mut self) {
        if self.kind == Kind::Empty {
            self.redis.kill();
        }
    }

    /// It ends.
    pub(super) async fn end(&mut self) {
        match self.kind {
            Kind::Killed => self.redis.start_again().await,
            Kind::Hung => self.redis.resume(),
            Kind::Slow | Kind::Dribble => self.proxy.heal(),
            Kind::Full => {
                if let Some(filling) = self.filling.take() {
                    filling.abort();
                }
                self.redis.run(&["CONFIG", "SET", "maxmemory", "0"]).await
            }
            Kind::Oom => self.redis.run(&["CONFIG", "SET", "maxmemory", "0"]).await,
            Kind::ReadOnly => self.redis.run(&["REPLICAOF", "NO", "ONE"]).await,
            Kind::Empty => self.redis.start_empty().await,
            Kind::Password => {
                self.redis.kill();
                self.redis.set_password(PASSWORD);
                self.redis.start_again().await;
            }
        }
    }

    /// Writes three times as much as there is room for at once, then goes on.
    async fn fill(&mut self) {
        let mut link = self.redis.connect().await;
        let value = vec![b'x'; JUNK];
        let mut number = 0_u32;
        let mut next = async move || {
            let key = format!("junk:{number}");
            number += 1;
            let mut command = redis::cmd("SET");
            command.arg(key).arg(&value).arg("EX").arg(3_600);
            let _ = command.query_async::<()>(&mut link).await;
        };
        for _ in 0..3 * ROOM as usize / JUNK {
            next().await;
        }
        self.filling = Some(tokio::spawn(async move {
            loop {
                next().await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }));
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(filling) = &self.filling {
            filling.abort();
        }
    }
}
