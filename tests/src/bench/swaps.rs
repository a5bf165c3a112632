//! From the file in the plugin folder to the new code that serves: of a small component
//! until its first answer, of a shipped plugin until the admin listener names its digest.

use std::time::{Duration, Instant};

use super::Settings;
use crate::component::{built, digest, with_note};
use crate::host::{Host, Service};
use crate::measure::Report;
use crate::measure::report::{median, worst};
use crate::stress::latency;
use crate::wait::GUARD;

/// Settle times of the plugin folder, milliseconds: the default, and a short one.
const SETTLE: [Option<u32>; 2] = [None, Some(20)];

/// Whose plugin is the shipped one.
const SHIPPED: Service = Service::Jwt;

/// Names the table of the shipped plugin.
pub(super) const TABLE: &str = "file of a shipped plugin to its digest at /plugins";
/// Rows of the tables: files that the host has seen before, and others.
pub(super) const COMPILED: &str = "compiled before";
pub(super) const NEW: &str = "new code";
/// The settle time of a row where nothing is configured.
pub(super) const DEFAULT: &str = "default";

pub(super) async fn run(settings: &Settings, report: &mut Report) {
    let counts = settings.pick((20, 10), (4, 2));
    let (mut small_ones, mut shipped_ones) = (Vec::new(), Vec::new());
    for settle in SETTLE {
        let (before, fresh) = latency::swaps(settle, counts).await;
        small_ones.extend(rows(settle, &before, &fresh));
        shipped_ones.extend(shipped(settle, counts).await);
    }
    let head = |name| [name, "settle ms", "swaps", "median ms", "worst ms"];
    report.table(
        &head("file of a small component to its answer"),
        &small_ones,
    );
    report.table(&head(TABLE), &shipped_ones);
}

/// Swaps of the shipped plugin, which differs in a custom section only: that is new
/// code to the host. So many to what was compiled before, and so many to new code.
async fn shipped(settle: Option<u32>, (compiled, new): (u32, u32)) -> [Vec<String>; 2] {
    let config = latency::reload(settle);
    let host = Host::builder().config(config).start().await;
    let plugin = built(SHIPPED);
    let version = |number: u32| with_note(&plugin, &number.to_string());
    let mut fresh = Vec::new();
    for number in 0..new {
        fresh.push(after(&host, &version(number)).await);
    }
    let mut before = Vec::new();
    for round in 0..compiled {
        before.push(after(&host, &version(round % 2)).await);
    }
    rows(settle, &before, &fresh)
}

/// Drops a plugin and asks what serves until it does; gives the milliseconds.
async fn after(host: &Host, file: &[u8]) -> f64 {
    let wanted = digest(file);
    let begun = Instant::now();
    host.install(SHIPPED, file);
    while !host.plugin_report(SHIPPED).await.is_of(&wanted) {
        assert!(begun.elapsed() < GUARD, "{wanted} never served");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    begun.elapsed().as_secs_f64() * 1e3
}

fn rows(settle: Option<u32>, before: &[f64], fresh: &[f64]) -> [Vec<String>; 2] {
    [row(COMPILED, settle, before), row(NEW, settle, fresh)]
}

fn row(name: &str, settle: Option<u32>, times: &[f64]) -> Vec<String> {
    vec![
        name.to_owned(),
        settle.map_or_else(|| DEFAULT.to_owned(), |settle| settle.to_string()),
        times.len().to_string(),
        format!("{:.0}", median(times)),
        format!("{:.0}", worst(times)),
    ]
}
