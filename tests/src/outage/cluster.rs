//! Several hosts with one key on one Redis, as replicas of one deployment. One of them can
//! be cut off from Redis.

use crate::host::{Host, HostBuilder, Secret};
use crate::proxy::Proxy;
use crate::redis::RedisServer;
use crate::wait::eventually;

/// Hosts.
const HOSTS: usize = 3;

/// The key of all of them.
const KEY: &[u8] = b"0123456789abcdef0123456789abcdef0123456789abcdef";

/// The hosts and their Redis. The last host reaches it through the proxy.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) redis: RedisServer,
    pub(crate) proxy: Proxy,
    pub(crate) hosts: Vec<Host>,
}

impl Cluster {
    /// Starts all of them; `settings` are those of every host.
    pub(crate) async fn start(settings: impl Fn(HostBuilder) -> HostBuilder) -> Self {
        let redis = RedisServer::start().await;
        let proxy = Proxy::to(redis.port()).await;
        let mut hosts = Vec::new();
        for number in 0..HOSTS {
            let url = match number {
                last if last == HOSTS - 1 => redis.url_at(proxy.port()),
                _ => redis.url(),
            };
            hosts.push(settings(replica(url)).start().await);
        }
        let cluster = Self {
            redis,
            proxy,
            hosts,
        };
        for host in &cluster.hosts {
            connected(host, "connected").await;
        }
        cluster
    }

    /// The host that can be cut off.
    pub(crate) fn last(&self) -> &Host {
        self.hosts.last().expect("there are hosts")
    }

    /// Cuts the last host off, and waits until it knows.
    pub(crate) async fn cut(&self) {
        self.proxy.cut();
        connected(self.last(), "disconnected").await;
    }

    /// Lets it reach Redis again, and waits until it knows.
    pub(crate) async fn heal(&self) {
        self.proxy.heal();
        connected(self.last(), "connected").await;
    }
}

/// As many hosts on other servers.
pub(crate) async fn hosts_on(url: &str) -> Vec<Host> {
    let mut hosts = Vec::new();
    for _ in 0..HOSTS {
        let host = replica(url.to_owned()).start().await;
        connected(&host, "connected").await;
        hosts.push(host);
    }
    hosts
}

fn replica(url: String) -> HostBuilder {
    Host::builder()
        .secret(Secret::Bytes(KEY.to_vec()))
        .env("REDIS_URL", url)
        .env("LOG_LEVEL", "WARNING")
}

/// Waits until a host says that Redis is connected, or that it is not.
pub(crate) async fn connected(host: &Host, wanted: &str) {
    eventually(&format!("Redis is {wanted}"), async || {
        let call = host.get(crate::host::Service::Session, "/health");
        let body = call.send().await.expect(200).json();
        match body["dependencies"]["redis"] == wanted {
            true => Ok(()),
            false => Err(body),
        }
    })
    .await;
}
