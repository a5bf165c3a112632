//! Logins that are ended on one of three hosts while a replica takes its master's place, or
//! while slots of a cluster move: each must be refused on the other two in the end.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::cluster::hosts_on;
use super::replicas::{Course, end, valid_on};
use super::watch::LOOKED_AT;
use crate::host::{Host, Service};
use crate::measure::Length;
use crate::measure::load::Load;
use crate::measure::{Report, mix};
use crate::redis_nodes::{RedisCluster, RedisSentinels};
use crate::tokens::User;

/// Pause between two logins that are ended.
const BETWEEN: Duration = Duration::from_millis(25);
/// Pause between two questions: many wait at the same time.
const PAUSE: Duration = Duration::from_millis(10);
/// Requests a second to the first host, over three ports.
const RATE: u32 = 150;
/// Slots that move at once.
const SLOTS: &str = "500";

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The master is killed; the sentinels choose its replica.
    Failover,
    /// Slots move from one node of a cluster to another.
    Slots,
}

/// The servers.
enum Nodes {
    Sentinels(RedisSentinels),
    Cluster(RedisCluster),
}

impl Kind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Failover, Self::Slots];

    /// On the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Failover => "failover",
            Self::Slots => "slots",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Failover => "the master is killed, its replica takes its place",
            Self::Slots => "slots of a cluster move to another node",
        }
    }

    async fn start(self) -> Nodes {
        match self {
            Self::Failover => Nodes::Sentinels(RedisSentinels::start().await),
            Self::Slots => Nodes::Cluster(RedisCluster::start().await),
        }
    }
}

impl Nodes {
    fn url(&self) -> String {
        match self {
            Self::Sentinels(sentinels) => sentinels.url(),
            Self::Cluster(cluster) => cluster.url(),
        }
    }

    /// It happens; what it does goes on by itself.
    fn shake(&mut self) {
        match self {
            Self::Sentinels(sentinels) => sentinels.servers[0].kill(),
            Self::Cluster(cluster) => {
                let id = |node: usize| cluster.nodes[node].cli(&["CLUSTER", "MYID"]);
                let (from, to) = (id(0), id(1));
                let at = format!("127.0.0.1:{}", cluster.nodes[0].port);
                let moving = std::process::Command::new("redis-cli")
                    .args(["--cluster", "reshard", &at, "--cluster-yes"])
                    .args(["--cluster-from", from.trim(), "--cluster-to", to.trim()])
                    .args(["--cluster-slots", SLOTS])
                    .stdout(std::process::Stdio::null())
                    .spawn();
                let mut moving = moving.expect("run redis-cli");
                std::thread::spawn(move || moving.wait());
            }
        }
    }

    /// What the servers say of what happened.
    fn outcome(&self) -> String {
        match self {
            Self::Sentinels(sentinels) => {
                let answer = sentinels.servers[1].cli(&["ROLE"]);
                let role = answer.lines().next().unwrap_or_default();
                format!("the replica is {role}")
            }
            Self::Cluster(cluster) => {
                let answer = cluster.nodes[1].cli(&["CLUSTER", "NODES"]);
                let own = answer.lines().find(|line| line.contains("myself"));
                let slots = own.map(|line| line.split(' ').skip(8).collect::<Vec<_>>());
                format!(
                    "the second node has {}",
                    slots.unwrap_or_default().join(" ")
                )
            }
        }
    }
}

pub(super) async fn run(kind: Kind, length: Length, report: &mut Report) {
    let count = length.pick(200, 1_000, 4_000);
    let title = format!("{}, {count} logins ended meanwhile", kind.title());
    report.part(kind.name(), &title);
    let mut nodes = kind.start().await;
    let all = hosts_on(&nodes.url()).await;
    let hosts: Vec<&Host> = all.iter().collect();
    let load = Load::start(RATE, mix::of(hosts[0], &LOOKED_AT));
    let mut tokens = Vec::new();
    for number in 0..count {
        let user = User::new(400_000 + number);
        tokens.push((valid_on(&hosts, &user).await, user));
    }
    load.window();
    let begun = Instant::now();
    let mut waiting = JoinSet::new();
    for (number, (token, user)) in (0_u32..).zip(&tokens) {
        if number == count / 4 {
            nodes.shake();
        }
        let first = number as usize % hosts.len();
        end(hosts[first], user, token, number).await;
        let ended = Instant::now();
        for (at, host) in hosts.iter().enumerate() {
            if at != first {
                let (port, token) = (host.port(Service::Jwt), token.clone());
                waiting.spawn(async move {
                    let mut course = Course::default();
                    course.wait_for(port, &token, ended, PAUSE).await;
                    course
                });
            }
        }
        tokio::time::sleep(BETWEEN).await;
    }
    let mut course = Course::default();
    for other in waiting.join_all().await {
        course.add(other);
    }
    let window = load.stop();
    report.figure("from the first to the last, s", begun.elapsed().as_secs());
    report.figure("in the end", nodes.outcome());
    course.print(report, "by the others");
    let mut after = Course::default();
    for (token, _) in &tokens {
        after.wait(&hosts, token, Instant::now()).await;
    }
    after.print(report, "by all in the end");
    report.figure("load on the first host beside it", window.all());
    report.none("wrong answers", window.losses(), window.why());
}
