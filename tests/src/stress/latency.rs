//! How long it takes from the file in the folder to the first new answer, with code
//! that was compiled before and with new code.

use std::time::{Duration, Instant};

use super::Settings;
use crate::bad_files::PROBED;
use crate::component::{self, Probe, version_text};
use crate::host::Host;
use crate::measure::Report;
use crate::measure::link::{Link, Shot};
use crate::measure::report::{median, worst};
use crate::wait::GUARD;

pub(super) async fn run(settings: &Settings, report: &mut Report) {
    report.part("latency", "from the file in the folder to the new answer");
    let counts = settings.pick((50, 15), (6, 2));
    let mut rows = Vec::new();
    let mut done = 0;
    for settle in [100, 20] {
        let (before, fresh) = swaps(Some(settle), counts).await;
        rows.push(row(
            &format!("compiled before, settle {settle} ms"),
            &before,
        ));
        rows.push(row(&format!("new code, settle {settle} ms"), &fresh));
        done += before.len() + fresh.len();
    }
    let head = ["swap", "swaps", "median ms", "worst ms"];
    report.table(&head, &rows);
    let wanted = 2 * (counts.0 + counts.1) as usize;
    report.claim(
        "every new file answers",
        done == wanted,
        format!("{done} of {wanted}"),
    );
}

/// So many swaps of the probe to what was compiled before, and so many to new code, with
/// the default settle time if none is given; the milliseconds of each.
pub(crate) async fn swaps(
    settle: Option<u32>,
    (compiled, new): (u32, u32),
) -> (Vec<f64>, Vec<f64>) {
    let host = host(settle).await;
    // Both are compiled once.
    after(&host, 2).await;
    after(&host, 1).await;
    let mut before = Vec::new();
    for round in 0..compiled {
        before.push(after(&host, 2 - round % 2).await);
    }
    let mut fresh = Vec::new();
    for version in 0..new {
        fresh.push(after(&host, 100 + version).await);
    }
    (before, fresh)
}

/// A host that runs version 1 of the probe.
async fn host(settle: Option<u32>) -> Host {
    let folder = component::folder();
    Host::builder()
        .plugin(PROBED, Probe::version(1).file(folder.path()))
        .config(reload(settle))
        .start()
        .await
}

/// A settle time for the configuration; none: nothing is set.
pub(crate) fn reload(settle: Option<u32>) -> String {
    settle.map_or_else(String::new, |settle| {
        format!("[reload]\nsettle_ms = {settle}\n")
    })
}

/// Drops a version of the probe and asks until it answers; gives the milliseconds.
async fn after(host: &Host, version: u32) -> f64 {
    let mut link = Link::new(host.port(PROBED));
    let (shot, wanted) = (Shot::get("/version"), version_text(version));
    let file = Probe::version(version).bytes();
    let begun = Instant::now();
    host.install(PROBED, &file);
    loop {
        let answer = link.exchange(&shot, "latency").await;
        let answer = answer.expect("the service answers throughout");
        if answer.text() == wanted {
            return begun.elapsed().as_secs_f64() * 1e3;
        }
        assert!(begun.elapsed() < GUARD, "version {version} never answered");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn row(name: &str, times: &[f64]) -> Vec<String> {
    vec![
        name.to_owned(),
        times.len().to_string(),
        format!("{:.0}", median(times)),
        format!("{:.0}", worst(times)),
    ]
}
