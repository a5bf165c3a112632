//! The same small answer by the plugins' contract and by `wasi:http`, by turns in every
//! round, each with instances that are used again and with one for each request; and what
//! `lockgate new` makes in Rust, Python and JavaScript, which all answer the same.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use super::Settings;
use super::figures::{Of, Turn, median, ratios, spread, values};
use super::load::{Body, Load, Pace, Until};
use super::server::{REUSE, Usage};
use crate::host::{Host, Service};
use crate::measure::Report;
use crate::place;
use crate::project::Project;

/// The service that is the measured component.
const HERE: Service = Service::Coordinator;

/// Connections of a load.
const CONNECTIONS: usize = 32;

/// What both contracts answer there.
const PATH: &str = "/static";
const ANSWER: &str =
    r#"{"status":"ok","service":"static","items":[1,2,3],"text":"the same each time"}"#;

/// What every new plugin answers, whatever its language.
const HELLO: &str = "/hello";
const HELLO_ANSWER: &str = r#"{"hello":"world"}"#;

/// A component, and how it is run.
#[derive(Debug)]
struct Subject {
    name: String,
    file: PathBuf,
    contract: &'static str,
    reuse: u32,
    path: &'static str,
    answer: &'static str,
    turns: Vec<Turn>,
}

pub(super) async fn run(settings: &Settings, report: &mut Report) {
    report.part("contracts", "the same small answer by each contract");
    let time = Duration::from_millis(settings.pick(2_500, 700));
    report.figure("connections", CONNECTIONS);
    report.figure("length of a load", format!("{time:?}"));
    report.figure("rounds", settings.rounds);
    let mut subjects = subjects();
    let mut wrong = Vec::new();
    for round in 0..settings.rounds {
        let count = subjects.len();
        for step in 0..count {
            // Each comes first in its turn.
            let subject = &mut subjects[(round + step) % count];
            match turn(subject, time).await {
                Ok(turn) => subject.turns.push(turn),
                Err(why) => wrong.push(format!("{}: {why}", subject.name)),
            }
        }
    }
    print(&subjects, report);
    let seen = wrong.first().cloned().unwrap_or_default();
    report.claim("every answer was right", wrong.is_empty(), seen);
}

fn subjects() -> Vec<Subject> {
    let mut subjects = Vec::new();
    let mut add = |what: &str, contract, file: &Path, (path, answer)| {
        for reuse in [REUSE, 1] {
            let mode = match reuse {
                1 => "an instance for each request".to_owned(),
                _ => format!("an instance for {reuse}"),
            };
            subjects.push(Subject {
                name: format!("{what}, {mode}"),
                file: file.to_owned(),
                contract,
                reuse,
                path,
                answer,
                turns: Vec::new(),
            });
        }
    };
    add("plugin", "plugin", &place::probe(), (PATH, ANSWER));
    add(
        "wasi-http",
        "wasi-http",
        &place::wasi_http_guest(),
        (PATH, ANSWER),
    );
    for (language, name, folder) in [
        ("Rust", "rust", "new-rust"),
        ("Python", "python", "python-example"),
        ("JavaScript", "js", "js-example"),
    ] {
        let file = Project::make_kept(folder, name).build(&[]);
        let what = format!("{language}, a new plugin");
        add(&what, "plugin", &file, (HELLO, HELLO_ANSWER));
    }
    subjects
}

/// A host that runs the component, and a load on it.
async fn turn(subject: &Subject, time: Duration) -> Result<Turn, String> {
    let name = HERE.name();
    let config = format!(
        "[services.{name}]\ncontract = \"{}\"\n[services.{name}.limits]\n\
         reuse = {}\nmemory_bytes = 134217728\n",
        subject.contract, subject.reuse
    );
    let host = Host::builder()
        .plugin(HERE, &subject.file)
        .env("SERVICE_NAME", name)
        // As the other parts: no request is logged.
        .env("LOG_LEVEL", "WARNING")
        .config(config);
    let host = host.start().await;
    let path = subject.path;
    let answer = host.call(Method::GET, HERE, path).send().await;
    let wanted: Value = serde_json::from_str(subject.answer).unwrap_or_default();
    if answer.status != 200 || serde_json::from_str(&answer.text()).ok() != Some(wanted) {
        return Err(format!("{} {}", answer.status, answer.text()));
    }
    let load = |time| Load {
        url: format!("http://127.0.0.1:{}{path}", host.port(HERE)),
        body: Body::None,
        connections: CONNECTIONS,
        until: Until::Time(time),
        pace: Pace::Closed,
    };
    load(time / 5).send().await;
    let before = Usage::of(host.pid());
    let outcome = load(time).send().await;
    let after = Usage::of(host.pid());
    if let Some(failure) = outcome.failures.first() {
        return Err(failure.clone());
    }
    Ok(Turn {
        cpu: (after.cpu - before.cpu) * 1e6 / (outcome.count.max(1) as f64),
        rss: after.rss,
        outcome,
    })
}

/// Medians, and each against the first in the same round.
fn print(subjects: &[Subject], report: &mut Report) {
    let columns: [(&str, Of, usize); 5] = [
        ("requests/s", |turn| turn.outcome.rate, 0),
        ("p50 ms", |turn| turn.outcome.p50, 2),
        ("p99 ms", |turn| turn.outcome.p99, 2),
        ("CPU us", |turn| turn.cpu, 1),
        ("RSS MB", |turn| turn.rss as f64 / 1e3, 1),
    ];
    let head: Vec<&str> = ["component"]
        .into_iter()
        .chain(columns.map(|(name, ..)| name))
        .collect();
    let medians = |subject: &Subject| {
        let cells = columns
            .map(|(_, of, digits)| format!("{:.digits$}", median(&values(&subject.turns, of))));
        [subject.name.clone()].into_iter().chain(cells).collect()
    };
    let rows: Vec<Vec<String>> = subjects.iter().map(medians).collect();
    report.table(&head, &rows);
    let Some((base, others)) = subjects.split_first() else {
        return;
    };
    let against = |subject: &Subject| {
        let ratio = |of: Of| {
            spread(&ratios(
                &values(&subject.turns, of),
                &values(&base.turns, of),
            ))
        };
        vec![
            subject.name.clone(),
            ratio(|turn| turn.outcome.rate),
            ratio(|turn| turn.cpu),
        ]
    };
    let rows: Vec<Vec<String>> = others.iter().map(against).collect();
    let title = format!("against {}", base.name);
    report.table(&[&title, "throughput", "CPU"], &rows);
}
