//! All servers by turns, in every round: as much as they can do, half of that, and one
//! rate for all that are written in Rust. The rates are found once, before the rounds.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Settings;
use super::answers::mint;
use super::figures::{Figures, Load as At, Turn};
use super::load::{Load, Outcome, Pace};
use super::server::{Kind, Server};
use super::work::Work;
use crate::RedisServer;
use crate::measure::Report;
use crate::tokens::Tokens;

/// Connections of a load.
const CONNECTIONS: usize = 32;

/// The common rate, as a part of what the slowest server in Rust can do.
const COMMON: f64 = 0.5;

/// Bytes by which the mean size of the answers may differ from that of the right one:
/// a number in it may get a digit more.
const SIZE: f64 = 6.0;

pub(super) async fn run(settings: &Settings, report: &mut Report) {
    report.part("throughput", "all servers by turns, under the same load");
    let bench = Bench {
        tokens: mint(),
        warm_up: Duration::from_millis(500),
        time: Duration::from_millis(settings.pick(2_500, 700)),
        bodies: settings.pick(50_000, 5_000),
    };
    report.figure("connections", CONNECTIONS);
    report.figure("rounds", settings.rounds);
    report.figure("length of a load", format!("{:?}", bench.time));
    let mut found = Found::default();
    let mut best = BTreeMap::new();
    for kind in Kind::ALL {
        for (work, outcome) in bench.calibrate(kind, &mut found).await {
            best.insert((work, kind), outcome.rate);
        }
    }
    let mut figures = Figures::default();
    for round in 0..settings.rounds {
        // Each server comes first in its turn, so that none always follows another.
        for step in 0..Kind::ALL.len() {
            let kind = Kind::ALL[(round + step) % Kind::ALL.len()];
            bench.turn(kind, &best, &mut figures, &mut found).await;
        }
    }
    figures.print(report);
    let seen = format!("{} answers", found.answers);
    let what = "every answer under load was 200";
    report.claim(
        what,
        found.failures.is_empty(),
        words(&found.failures, &seen),
    );
    let what = "every answer that was looked at, before and after a load, was right";
    report.claim(
        what,
        found.wrong.is_empty(),
        words(&found.wrong, &found.looks.to_string()),
    );
    let what = "the answers under load had the size of the right one";
    report.claim(what, found.sizes.is_empty(), words(&found.sizes, ""));
}

/// The first few, or that there are none.
fn words(wrong: &[String], good: &str) -> String {
    match wrong {
        [] => good.to_owned(),
        _ => format!("{} times, first: {}", wrong.len(), wrong[0]),
    }
}

/// What the claims rest on.
#[derive(Debug, Default)]
struct Found {
    answers: u64,
    looks: u64,
    failures: Vec<String>,
    wrong: Vec<String>,
    sizes: Vec<String>,
}

struct Bench {
    tokens: Tokens,
    warm_up: Duration,
    time: Duration,
    /// How many bodies are made where each request needs one of its own.
    bodies: usize,
}

impl Bench {
    /// What a server can do of each work, roughly.
    async fn calibrate(&self, kind: Kind, found: &mut Found) -> Vec<(Work, Outcome)> {
        let redis = RedisServer::start().await;
        let server = Server::start(kind, &redis, &self.tokens).await;
        let mut outcomes = Vec::new();
        for work in Work::ALL {
            let turn = self.load(&server, work, Pace::Closed, found).await;
            outcomes.push((work, turn.outcome));
        }
        outcomes
    }

    /// One turn of a server, with all work and all loads.
    async fn turn(
        &self,
        kind: Kind,
        best: &BTreeMap<(Work, Kind), f64>,
        figures: &mut Figures,
        found: &mut Found,
    ) {
        let redis = RedisServer::start().await;
        let server = Server::start(kind, &redis, &self.tokens).await;
        for work in Work::ALL {
            let rate = |kind| best.get(&(work, kind)).copied().unwrap_or(0.0);
            let turn = self.load(&server, work, Pace::Closed, found).await;
            figures.add(work, kind, At::Full, turn);
            let half = Pace::Open(rate(kind) / 2.0);
            let turn = self.load(&server, work, half, found).await;
            figures.add(work, kind, At::Half, turn);
            if kind.is_rust() {
                let rust = Kind::ALL.into_iter().filter(|kind| kind.is_rust());
                let slowest = rust.map(rate).fold(f64::INFINITY, f64::min);
                let pace = Pace::Open(slowest * COMMON);
                let turn = self.load(&server, work, pace, found).await;
                figures.add(work, kind, At::Common, turn);
            }
        }
    }

    /// A load on a server that is warm, with a look at its answers before and after.
    async fn load(&self, server: &Server, work: Work, pace: Pace, found: &mut Found) -> Turn {
        let load = |time| Load {
            url: format!(
                "http://127.0.0.1:{}{}",
                server.port(work.service()),
                work.path()
            ),
            body: work.bodies(&self.tokens, self.bodies),
            connections: CONNECTIONS,
            time,
            pace,
        };
        let size = self.look(server, work, found).await;
        load(self.warm_up).send().await;
        let measured = load(self.time);
        let before = server.usage();
        let outcome = measured.send().await;
        let after = server.usage();
        self.look(server, work, found).await;
        let whose = format!("{}, {}", server.kind.name(), work.name());
        found.answers += outcome.count;
        let failures = outcome.failures.iter();
        found
            .failures
            .extend(failures.map(|what| format!("{whose}: {what}")));
        if (outcome.size - size as f64).abs() > SIZE {
            let seen = format!("{whose}: {:.1} bytes instead of {size}", outcome.size);
            found.sizes.push(seen);
        }
        Turn {
            cpu: (after.cpu - before.cpu) * 1e6 / (outcome.count.max(1) as f64),
            rss: after.rss,
            outcome,
        }
    }

    /// Looks at one answer; gives the length of its body.
    async fn look(&self, server: &Server, work: Work, found: &mut Found) -> usize {
        let body = work.one(&self.tokens);
        let answer = work.ask(server, body.as_deref()).await;
        found.looks += 1;
        if let Some(wrong) = work.wrong(&answer) {
            let whose = format!("{}, {}", server.kind.name(), work.name());
            found.wrong.push(format!("{whose}: {wrong}"));
        }
        answer.body.len()
    }
}
