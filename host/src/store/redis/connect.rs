//! The connection for commands: made when it is first wanted, made anew when it is lost.
//! Nobody waits for it longer than for a command; it is made in the background. It does
//! not judge what the commands give.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::redis::aio::{ConnectionLike, MultiplexedConnection};
use ::redis::cluster::{ClusterClient, ClusterClientBuilder};
use ::redis::cluster_async::ClusterConnection;
use ::redis::{
    AsyncConnectionConfig, Cmd, ConnectionInfo, ErrorKind, Pipeline, RedisError, RedisFuture,
    RedisResult, Value,
};
use tokio::sync::watch;

use super::address::{Address, Target, at, listening};

/// Making a connection may take this long: a cluster and a sentinel need several steps.
const MAKING: Duration = Duration::from_secs(2);
/// A cluster's answers that send a command elsewhere are followed this often.
const REDIRECTS: u32 = 3;
/// A cluster's client waits this long before it tries again, milliseconds.
const REDIRECT_WAIT: (u64, u64) = (5, 40);

/// A live connection; clones share it.
#[derive(Clone)]
pub(super) enum Live {
    /// To one server.
    Node(MultiplexedConnection),
    /// To all nodes of a cluster.
    Cluster(ClusterConnection),
}

impl ConnectionLike for Live {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Live::Node(node) => node.req_packed_command(command),
            Live::Cluster(cluster) => cluster.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        commands: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Live::Node(node) => node.req_packed_commands(commands, offset, count),
            Live::Cluster(cluster) => cluster.req_packed_commands(commands, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Live::Node(node) => node.get_db(),
            Live::Cluster(cluster) => cluster.get_db(),
        }
    }
}

type Outcome = RedisResult<Live>;

enum Stage {
    None,
    Making(watch::Receiver<Option<Outcome>>),
    Ready(Live),
}

struct Slot {
    /// Counts the connections, so that the loss of an old one hits no new one.
    number: u64,
    stage: Stage,
}

/// Makes connections to one target.
pub(super) struct Connector {
    address: Address,
    timeout: Duration,
    slot: Mutex<Slot>,
}

impl Connector {
    /// Connects to nothing yet. `timeout`: how long one answer may take.
    pub(super) fn new(address: Address, timeout: Duration) -> Arc<Connector> {
        Arc::new(Connector {
            address,
            timeout,
            slot: Mutex::new(Slot {
                number: 0,
                stage: Stage::None,
            }),
        })
    }

    /// True if the keys are spread over several servers.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.address.target, Target::Cluster(_))
    }

    /// The connection and its number; begins to make one if there is none.
    pub(super) async fn live(self: &Arc<Self>) -> RedisResult<(u64, Live)> {
        let (number, mut made) = {
            let mut slot = self.slot();
            match &slot.stage {
                Stage::Ready(live) => return Ok((slot.number, live.clone())),
                Stage::Making(made) => (slot.number, made.clone()),
                Stage::None => {
                    let made = self.begin(&mut slot);
                    (slot.number, made)
                }
            }
        };
        let outcome = made.wait_for(Option::is_some).await;
        match outcome.ok().and_then(|outcome| outcome.clone()) {
            Some(outcome) => Ok((number, outcome?)),
            None => Err(gone("the connection was not made")),
        }
    }

    fn begin(self: &Arc<Self>, slot: &mut Slot) -> watch::Receiver<Option<Outcome>> {
        let (sender, made) = watch::channel(None);
        slot.number += 1;
        slot.stage = Stage::Making(made.clone());
        let this = Arc::clone(self);
        tokio::spawn(async move {
            let outcome = tokio::time::timeout(MAKING, this.make())
                .await
                .unwrap_or_else(|_| Err(gone("no connection in time")));
            this.slot().stage = match &outcome {
                Ok(live) => Stage::Ready(live.clone()),
                Err(_) => Stage::None,
            };
            sender.send_replace(Some(outcome));
        });
        made
    }

    /// The connection of this number is of no more use.
    pub(super) fn lost(&self, number: u64) {
        let mut slot = self.slot();
        if slot.number == number && matches!(slot.stage, Stage::Ready(_)) {
            slot.stage = Stage::None;
        }
    }

    /// Whatever connection there is, it is of no more use.
    pub(super) fn lose(&self) {
        let number = self.slot().number;
        self.lost(number);
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn make(&self) -> Outcome {
        match &self.address.target {
            Target::Single(info) => self.node(info, &self.plain()).await.map(Live::Node),
            Target::Cluster(nodes) => {
                let client = self.cluster(nodes)?;
                client.get_async_connection().await.map(Live::Cluster)
            }
            Target::Sentinel {
                sentinels,
                master,
                node,
            } => self
                .master(sentinels, master, node, &self.plain())
                .await
                .map(Live::Node),
        }
    }

    /// A connection of its own that hands what the server tells by itself to the sender
    /// in `config`.
    pub(super) async fn listen(
        &self,
        config: AsyncConnectionConfig,
    ) -> RedisResult<MultiplexedConnection> {
        let config = self.timed(config);
        match &self.address.target {
            Target::Single(info) => self.node(&listening(info), &config).await,
            // Each node of a cluster tells all that is published on any.
            Target::Cluster(nodes) => {
                let mut last = gone("no node");
                for info in nodes {
                    match self.node(&listening(info), &config).await {
                        Ok(connection) => return Ok(connection),
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
            Target::Sentinel {
                sentinels,
                master,
                node,
            } => {
                self.master(sentinels, master, &listening(node), &config)
                    .await
            }
        }
    }

    fn plain(&self) -> AsyncConnectionConfig {
        self.timed(AsyncConnectionConfig::new())
    }

    fn timed(&self, config: AsyncConnectionConfig) -> AsyncConnectionConfig {
        config
            .set_connection_timeout(Some(MAKING))
            .set_response_timeout(Some(self.timeout))
    }

    async fn node(
        &self,
        info: &ConnectionInfo,
        config: &AsyncConnectionConfig,
    ) -> RedisResult<MultiplexedConnection> {
        let client = self.address.client(info)?;
        client
            .get_multiplexed_async_connection_with_config(config)
            .await
    }

    fn cluster(&self, nodes: &[ConnectionInfo]) -> RedisResult<ClusterClient> {
        let (shortest, longest) = REDIRECT_WAIT;
        let mut builder = ClusterClientBuilder::new(nodes.iter().cloned())
            .connection_timeout(MAKING)
            .response_timeout(self.timeout)
            .retries(REDIRECTS)
            .min_retry_wait(shortest)
            .max_retry_wait(longest);
        if let Some(certificates) = &self.address.certificates {
            builder = builder.certs(certificates.clone());
        }
        if let Some(node) = nodes.first() {
            builder = builder.tcp_settings(node.tcp_settings().clone());
        }
        builder.build()
    }

    /// Asks the sentinels in turn who the master is, and connects to the first that is
    /// one. The crate's own sentinel client asks servers for their role in ways that an
    /// ordinary ACL user may not.
    async fn master(
        &self,
        sentinels: &[ConnectionInfo],
        master: &str,
        node: &ConnectionInfo,
        config: &AsyncConnectionConfig,
    ) -> RedisResult<MultiplexedConnection> {
        let mut last = gone("no sentinel");
        let quick = self.plain().set_connection_timeout(Some(self.timeout));
        for sentinel in sentinels {
            let found = async {
                let (host, port) = self.ask(sentinel, master, &quick).await?;
                let connection = self.node(&at(node, host, port), config).await?;
                check_role(connection).await
            };
            match found.await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn ask(
        &self,
        sentinel: &ConnectionInfo,
        master: &str,
        config: &AsyncConnectionConfig,
    ) -> RedisResult<(String, u16)> {
        let mut connection = self.node(sentinel, config).await?;
        let known: Option<(String, u16)> = ::redis::cmd("SENTINEL")
            .arg("GET-MASTER-ADDR-BY-NAME")
            .arg(master)
            .query_async(&mut connection)
            .await?;
        known.ok_or_else(|| gone("the sentinels know no such master"))
    }
}

/// A sentinel may be late: a server that says that it is no master is none. One that does
/// not say is believed; a replica refuses the first write.
async fn check_role(mut connection: MultiplexedConnection) -> RedisResult<MultiplexedConnection> {
    let role: RedisResult<Vec<Value>> = ::redis::cmd("ROLE").query_async(&mut connection).await;
    match role {
        Ok(role) => {
            let name = role.into_iter().next();
            if matches!(name, Some(Value::BulkString(name)) if name == b"master") {
                return Ok(connection);
            }
            Err(gone("the server is not the master"))
        }
        Err(error) if error.code() == Some("NOPERM") => Ok(connection),
        Err(error) => Err(error),
    }
}

/// True if the connection is of no use after this error. A master that has become a
/// replica is, because another one is the master then.
pub(super) fn is_lost(error: &RedisError) -> bool {
    error.is_unrecoverable_error()
        || error.is_connection_dropped()
        || error.code() == Some("READONLY")
}

fn gone(reason: &'static str) -> RedisError {
    RedisError::from((ErrorKind::Io, reason))
}
