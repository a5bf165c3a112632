//! Load from `oha`, a program of its own, and what it says came of it. It knows neither
//! servers nor what is asked of them.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;

use crate::place;

/// How a load arrives.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Pace {
    /// Each connection sends when it has its answer: as much as the server can do.
    Closed,
    /// So many requests a second, whether those before are answered or not; a latency
    /// counts from when the request was due.
    Open(f64),
}

/// When a load ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// After this time.
    Time(Duration),
    /// After so many requests.
    Count(u32),
}

/// The bodies of the requests.
#[derive(Debug)]
pub(super) enum Body {
    /// GET requests, without any.
    None,
    /// POST requests of this JSON.
    One(String),
    /// POST requests of JSON, each of any line of a file.
    Lines(tempfile::NamedTempFile),
}

/// A load.
#[derive(Debug)]
pub(super) struct Load {
    /// Whole address.
    pub(super) url: String,
    /// Its bodies.
    pub(super) body: Body,
    /// Connections that are kept alive.
    pub(super) connections: usize,
    /// How long.
    pub(super) until: Until,
    /// How it arrives.
    pub(super) pace: Pace,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Outcome {
    /// Answers.
    pub(super) count: u64,
    /// Answers a second.
    pub(super) rate: f64,
    /// Median latency, milliseconds.
    pub(super) p50: f64,
    /// 99 of 100, milliseconds.
    pub(super) p99: f64,
    /// 999 of 1000, milliseconds.
    pub(super) p999: f64,
    /// Mean size of the bodies, bytes.
    pub(super) size: f64,
    /// What was no answer of 200, in words.
    pub(super) failures: Vec<String>,
}

impl Load {
    /// Sends it and waits for its end.
    pub(super) async fn send(&self) -> Outcome {
        let mut command = Command::new(program());
        command
            .args(["--no-tui", "--output-format", "json", "--redirect", "0"])
            .args([
                "--disable-compression",
                "--wait-ongoing-requests-after-deadline",
            ])
            .args(["-c", &self.connections.to_string()]);
        match self.until {
            Until::Time(time) => command.args(["-z", &format!("{}ms", time.as_millis())]),
            Until::Count(count) => command.args(["-n", &count.to_string()]),
        };
        if let Pace::Open(rate) = self.pace {
            let rate = format!("{:.0}", rate.max(1.0));
            command.args(["-q", &rate, "--latency-correction"]);
        }
        if !matches!(self.body, Body::None) {
            command.args(["-m", "POST", "-T", "application/json"]);
        }
        match &self.body {
            Body::None => {}
            Body::One(text) => drop(command.args(["-d", text])),
            Body::Lines(file) => drop(command.arg("-Z").arg(file.path())),
        }
        let output = command
            .arg(&self.url)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .expect("run oha");
        let text = String::from_utf8_lossy(&output.stdout);
        match serde_json::from_str(&text) {
            Ok(found) => outcome(&found),
            Err(error) => panic!(
                "oha ended with {} and said no JSON ({error}): {text}{}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            ),
        }
    }
}

fn outcome(found: &Value) -> Outcome {
    let number = |value: &Value| value.as_f64().unwrap_or(0.0);
    let latency = |name: &str| number(&found["latencyPercentiles"][name]) * 1e3;
    let counts = |name: &str| {
        let counts = found[name].as_object().cloned().unwrap_or_default();
        counts
            .into_iter()
            .map(|(what, count)| (what, count.as_u64().unwrap_or(0)))
            .collect::<Vec<_>>()
    };
    let (good, bad): (Vec<_>, Vec<_>) = counts("statusCodeDistribution")
        .into_iter()
        .partition(|(status, _)| status == "200");
    let bad = bad.into_iter().chain(counts("errorDistribution"));
    let mut failures: Vec<String> = bad.map(|(what, n)| format!("{n} of {what}")).collect();
    let count = good.iter().map(|(_, count)| count).sum();
    if count == 0 {
        failures.push("no answer at all".to_owned());
    }
    Outcome {
        count,
        rate: number(&found["summary"]["requestsPerSec"]),
        p50: latency("p50"),
        p99: latency("p99"),
        p999: latency("p99.9"),
        size: number(&found["summary"]["sizePerRequest"]),
        failures,
    }
}

/// The load generator: `LOCKGATE_BENCH_OHA`, else what `scripts/bench` has installed.
fn program() -> PathBuf {
    let path = match std::env::var_os("LOCKGATE_BENCH_OHA") {
        Some(path) => PathBuf::from(path),
        None => place::repository().join("target/tools/bin/oha"),
    };
    assert!(
        path.is_file(),
        "no oha at {}: run `scripts/bench`, or set LOCKGATE_BENCH_OHA",
        path.display()
    );
    path
}

/// Its version.
pub(super) fn version() -> String {
    let output = std::process::Command::new(program())
        .arg("--version")
        .output();
    let output = output.expect("run oha");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_oha_says() {
        let found = json!({
            "summary": {"requestsPerSec": 1000.5, "sizePerRequest": 12},
            "latencyPercentiles": {"p50": 0.001, "p99": 0.002, "p99.9": 0.0035},
            "statusCodeDistribution": {"200": 7, "503": 2},
            "errorDistribution": {"connection closed": 1},
        });
        let outcome = outcome(&found);
        assert_eq!((outcome.count, outcome.rate), (7, 1000.5));
        assert_eq!((outcome.p50, outcome.p99, outcome.p999), (1.0, 2.0, 3.5));
        assert_eq!(outcome.failures, ["2 of 503", "1 of connection closed"]);
        let nothing = super::outcome(&json!({}));
        assert_eq!(nothing.failures, ["no answer at all"]);
    }
}
