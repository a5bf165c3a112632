//! Loads on servers that are warm, and whether what they answered was right: what all
//! parts that send load have in common. It compares nothing.

use std::time::Duration;

use super::Settings;
use super::answers::mint;
use super::figures::Turn;
use super::load::{Load, Outcome, Pace, Until};
use super::server::Server;
use super::work::Work;
use crate::measure::Report;
use crate::tokens::Tokens;

/// Connections of a load.
const CONNECTIONS: usize = 32;

/// Connections of one that is to find every instance busy.
const MANY: usize = 64;

/// Bytes by which the mean size of the answers may differ from that of the right one:
/// a number in it may get a digit more.
const SIZE: f64 = 6.0;

/// Sends loads, and remembers what was wrong with the answers.
#[derive(Debug)]
pub(super) struct Driver {
    tokens: Tokens,
    warm_up: Duration,
    time: Duration,
    /// How many bodies are made where each request needs one of its own.
    bodies: usize,
    found: Found,
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

impl Driver {
    /// Whose loads take so many milliseconds.
    pub(super) fn new(milliseconds: u64, settings: &Settings) -> Self {
        Self {
            tokens: mint(),
            warm_up: Duration::from_millis(settings.pick(500, 200)),
            time: Duration::from_millis(milliseconds),
            bodies: settings.pick(50_000, 5_000),
            found: Found::default(),
        }
    }

    /// Tells what the loads are.
    pub(super) fn print(&self, report: &mut Report) {
        report.figure("connections", CONNECTIONS);
        report.figure("length of a load", format!("{:?}", self.time));
    }

    /// The key that all servers need.
    pub(super) fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// A load on a server that is warm, with a look at its answers before and after.
    pub(super) async fn load(&mut self, server: &Server, work: Work, pace: Pace) -> Turn {
        let load = |time| self.of(server, work, pace, Until::Time(time));
        let (warm_up, measured) = (load(self.warm_up), load(self.time));
        let size = self.look(server, work).await;
        warm_up.send().await;
        let before = server.usage();
        let outcome = measured.send().await;
        let after = server.usage();
        self.look(server, work).await;
        self.found.judge(server, work, &outcome, size);
        Turn {
            cpu: (after.cpu - before.cpu) * 1e6 / (outcome.count.max(1) as f64),
            rss: after.rss,
            outcome,
        }
    }

    /// So many requests over many connections, for what they leave behind.
    pub(super) async fn fill(&mut self, server: &Server, work: Work, requests: u32) {
        let load = self.of(server, work, Pace::Closed, Until::Count(requests));
        let load = Load {
            connections: MANY,
            ..load
        };
        let size = self.look(server, work).await;
        let outcome = load.send().await;
        self.found.judge(server, work, &outcome, size);
    }

    fn of(&self, server: &Server, work: Work, pace: Pace, until: Until) -> Load {
        let port = server.port(work.service());
        Load {
            url: format!("http://127.0.0.1:{port}{}", work.path()),
            body: work.bodies(&self.tokens, self.bodies),
            connections: CONNECTIONS,
            until,
            pace,
        }
    }

    /// Looks at one answer; gives the length of its body.
    async fn look(&mut self, server: &Server, work: Work) -> usize {
        let body = work.one(&self.tokens);
        let answer = work.ask(server, body.as_deref()).await;
        self.found.looks += 1;
        if let Some(wrong) = work.wrong(&answer) {
            let whose = whose(server, work);
            self.found.wrong.push(format!("{whose}: {wrong}"));
        }
        answer.body.len()
    }

    /// The claims about all answers so far.
    pub(super) fn claims(&self, report: &mut Report) {
        let found = &self.found;
        let answers = format!("{} answers", found.answers);
        let looks = found.looks.to_string();
        let claims = [
            ("every answer under load was 200", &found.failures, answers),
            (
                "every answer that was looked at, before and after a load, was right",
                &found.wrong,
                looks,
            ),
            (
                "the answers under load had the size of the right one",
                &found.sizes,
                String::new(),
            ),
        ];
        for (what, wrong, good) in claims {
            report.claim(what, wrong.is_empty(), words(wrong, &good));
        }
    }
}

impl Found {
    fn judge(&mut self, server: &Server, work: Work, outcome: &Outcome, size: usize) {
        let whose = whose(server, work);
        self.answers += outcome.count;
        let failures = outcome.failures.iter();
        self.failures
            .extend(failures.map(|what| format!("{whose}: {what}")));
        if (outcome.size - size as f64).abs() > SIZE {
            let seen = format!("{whose}: {:.1} bytes instead of {size}", outcome.size);
            self.sizes.push(seen);
        }
    }
}

fn whose(server: &Server, work: Work) -> String {
    format!("{}, {}", server.name, work.name())
}

/// The first of them, or that there are none.
fn words(wrong: &[String], good: &str) -> String {
    match wrong {
        [] => good.to_owned(),
        _ => format!("{} times, first: {}", wrong.len(), wrong[0]),
    }
}
