//! Redis servers that belong together: a cluster, a master with its replica and three
//! sentinels, and a server that speaks TLS only. The host's ACL user is the same as
//! elsewhere; the default user is open, for the servers among themselves.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::certificates;
use crate::ports::Ports;
use crate::redis::{acl_user, credentials};
use crate::wait::eventually;

/// One server. Dropping it kills the process.
#[derive(Debug)]
pub struct Node {
    child: Option<Child>,
    conf: PathBuf,
    sentinel: bool,
    /// Its port.
    pub port: u16,
}

impl Node {
    fn start(folder: &Path, port: u16, sentinel: bool, lines: &str) -> Self {
        let own = folder.join(port.to_string());
        std::fs::create_dir(&own).expect("make the folder of a server");
        let dir = own.display();
        let user = if sentinel { String::new() } else { acl_user() };
        let text =
            format!("port {port}\nbind 127.0.0.1\ndir {dir}\nprotected-mode no\n{user}{lines}\n");
        let conf = own.join("redis.conf");
        std::fs::write(&conf, text).expect("write a server's configuration");
        let mut node = Self {
            child: None,
            conf,
            sentinel,
            port,
        };
        node.start_again();
        node
    }

    /// Starts it (again).
    pub fn start_again(&mut self) {
        assert!(self.child.is_none(), "kill it first");
        let log = std::fs::File::create(self.conf.with_extension("log")).expect("a log file");
        let mut command = Command::new("redis-server");
        command.arg(&self.conf);
        if self.sentinel {
            command.arg("--sentinel");
        }
        let command = command
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::null());
        self.child = Some(command.spawn().expect("start redis-server"));
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// What a command answers, as `redis-cli` prints it.
    pub fn cli(&self, words: &[&str]) -> String {
        cli(&[&["-p", &self.port.to_string()], words].concat())
    }

    async fn answers(&self, what: &[&str], wanted: &str) {
        eventually(&format!("port {} says {wanted}", self.port), async || {
            let answer = self.cli(what);
            answer.contains(wanted).then_some(()).ok_or(answer)
        })
        .await;
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

fn cli(arguments: &[&str]) -> String {
    let output = Command::new("redis-cli")
        .args(arguments)
        .output()
        .expect("run redis-cli: is the package redis-tools installed?");
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

fn folder() -> TempDir {
    let prefix = "lockgate-test-redis-";
    let made = tempfile::Builder::new().prefix(prefix).tempdir();
    made.expect("make the folder of servers")
}

/// Three masters, and a replica of the first.
#[derive(Debug)]
pub struct RedisCluster {
    /// The masters and, last, the replica.
    pub nodes: Vec<Node>,
    _ports: Ports,
    _folder: TempDir,
}

impl RedisCluster {
    /// Starts the servers and joins them.
    pub async fn start() -> Self {
        let (folder, ports) = (folder(), Ports::take());
        let node = |index: u16| {
            let bus = ports.at(4 + index);
            let lines = format!(
                "cluster-enabled yes\ncluster-port {bus}\ncluster-node-timeout 1500\n\
                 cluster-replica-validity-factor 0\nappendonly no\nsave \"\""
            );
            Node::start(folder.path(), ports.at(index), false, &lines)
        };
        let nodes: Vec<Node> = (0..4).map(node).collect();
        for node in &nodes {
            node.answers(&["PING"], "PONG").await;
        }
        let at = |node: &Node| format!("127.0.0.1:{}", node.port);
        let masters: Vec<String> = nodes[..3].iter().map(at).collect();
        let mut create = vec!["--cluster", "create"];
        create.extend(masters.iter().map(String::as_str));
        create.extend(["--cluster-replicas", "0", "--cluster-yes"]);
        let created = cli(&create);
        assert!(created.contains("All 16384 slots covered"), "{created}");
        for node in &nodes[..3] {
            node.answers(&["CLUSTER", "INFO"], "cluster_state:ok").await;
        }
        let first = nodes[0].cli(&["CLUSTER", "MYID"]);
        let (fresh, known) = (at(&nodes[3]), &masters[0]);
        let joined = cli(&[
            "--cluster",
            "add-node",
            &fresh,
            known,
            "--cluster-slave",
            "--cluster-master-id",
            first.trim(),
        ]);
        assert!(joined.contains("New node added correctly"), "{joined}");
        nodes[3]
            .answers(&["INFO", "replication"], "master_link_status:up")
            .await;
        for node in &nodes {
            node.answers(&["CLUSTER", "INFO"], "cluster_known_nodes:4")
                .await;
        }
        Self {
            nodes,
            _ports: ports,
            _folder: folder,
        }
    }

    /// The URL of the second and third master: the others are to be found.
    pub fn url(&self) -> String {
        let [_, two, three, _] = self.nodes.as_slice() else {
            unreachable!("four nodes");
        };
        format!(
            "redis+cluster://{}@127.0.0.1:{},127.0.0.1:{}",
            credentials(),
            two.port,
            three.port
        )
    }

    /// All keys of the masters.
    pub fn keys(&self) -> Vec<String> {
        let masters = self.nodes.iter().take(3);
        let keys = masters.flat_map(|node| {
            let text = node.cli(&["KEYS", "*"]);
            text.lines().map(str::to_owned).collect::<Vec<_>>()
        });
        keys.filter(|key| !key.is_empty()).collect()
    }
}

/// A master, a replica, and three sentinels that watch them.
#[derive(Debug)]
pub struct RedisSentinels {
    /// The master and the replica, as they began.
    pub servers: [Node; 2],
    /// The sentinels.
    pub sentinels: Vec<Node>,
    _ports: Ports,
    _folder: TempDir,
}

impl RedisSentinels {
    /// Starts all five and waits until they know each other.
    pub async fn start() -> Self {
        let (folder, ports) = (folder(), Ports::take());
        let server = |index: u16, lines: &str| {
            let lines = format!("appendonly no\nsave \"\"\nrepl-diskless-sync-delay 0\n{lines}");
            Node::start(folder.path(), ports.at(index), false, &lines)
        };
        let first = ports.at(0);
        let servers = [
            server(0, ""),
            server(1, &format!("replicaof 127.0.0.1 {first}")),
        ];
        servers[1]
            .answers(&["INFO", "replication"], "master_link_status:up")
            .await;
        let watch = format!(
            "sentinel monitor main 127.0.0.1 {first} 2\n\
             sentinel down-after-milliseconds main 1000\n\
             sentinel failover-timeout main 5000"
        );
        let sentinels: Vec<Node> = (2..5)
            .map(|index| Node::start(folder.path(), ports.at(index), true, &watch))
            .collect();
        for sentinel in &sentinels {
            let ask = ["SENTINEL", "CKQUORUM", "main"];
            sentinel.answers(&ask, "OK 3 usable Sentinels").await;
            let ask = ["SENTINEL", "REPLICAS", "main"];
            sentinel.answers(&ask, &servers[1].port.to_string()).await;
        }
        Self {
            servers,
            sentinels,
            _ports: ports,
            _folder: folder,
        }
    }

    /// The URL of the sentinels; the first of them is not there.
    pub fn url(&self) -> String {
        let at = |node: &Node| format!("127.0.0.1:{}", node.port);
        let known: Vec<String> = self.sentinels.iter().map(at).collect();
        format!(
            "redis+sentinel://{}@127.0.0.1:1,{}/main/0",
            credentials(),
            known.join(",")
        )
    }
}

/// A server with a certificate of a CA of its own.
#[derive(Debug)]
pub struct TlsRedis {
    /// The server.
    pub node: Node,
    _ports: Ports,
    folder: TempDir,
}

impl TlsRedis {
    /// Makes the certificates and starts the server.
    pub async fn start() -> Self {
        let (folder, ports) = (folder(), Ports::take());
        certificates::make(folder.path());
        let port = ports.at(0);
        let file = |name: &str| folder.path().join(name).display().to_string();
        let lines = format!(
            "tls-port {port}\ntls-cert-file {}\ntls-key-file {}\ntls-ca-cert-file {}\n\
             tls-auth-clients no\nappendonly no\nsave \"\"",
            file("server.pem"),
            file("server.key"),
            file("ca.pem")
        );
        // A later `port` line counts: no plain port.
        let node = Node::start(folder.path(), port, false, &format!("port 0\n{lines}"));
        let tls = Self {
            node,
            _ports: ports,
            folder,
        };
        eventually("the server speaks TLS", async || {
            let answer = tls.cli(&["PING"]);
            answer.contains("PONG").then_some(()).ok_or(answer)
        })
        .await;
        tls
    }

    /// The certificate of the CA.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// The URL by the name that is in the certificate.
    pub fn url(&self) -> String {
        format!("rediss://{}@localhost:{}/0", credentials(), self.node.port)
    }

    /// What a command answers.
    pub fn cli(&self, words: &[&str]) -> String {
        let ca = self.ca_file().display().to_string();
        let port = self.node.port.to_string();
        cli(&[&["--tls", "--cacert", &ca, "-p", &port][..], words].concat())
    }
}
