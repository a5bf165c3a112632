//! Resident memory and revisions alive over many swaps between components that were
//! compiled before: what a swap leaves behind.

use super::{Settings, swaps};
use crate::component::{built, with_note};
use crate::host::{Host, Service};
use crate::measure::load::Load;
use crate::measure::observe::Process;
use crate::measure::{Report, mix};

/// Short, so that many swaps fit into minutes.
const SETTLE_MS: u32 = 1;

/// Requests a second meanwhile: every revision must have something to answer.
const RATE: u32 = 250;

pub(super) async fn run(settings: &Settings, report: &mut Report) {
    let count = settings.pick(1_000, 60);
    report.part(
        "memory",
        &format!("{count} swaps between compiled components"),
    );
    let host = Host::builder()
        .config(format!("[reload]\nsettle_ms = {SETTLE_MS}"))
        .env("LOG_LEVEL", "WARNING")
        .start()
        .await;
    let files = pairs(&host).await;
    let load = Load::start(RATE, mix::shipped(&host));
    let samples = alternate(&host, &files, count).await;
    let window = load.stop();
    report.figure("reload.settle_ms", SETTLE_MS);
    report.figure("requests a second meanwhile", RATE);
    let row = |(swaps, rss): &(usize, u64)| vec![swaps.to_string(), rss.to_string()];
    let rows: Vec<_> = samples.iter().map(row).collect();
    report.table(&["after swaps", "resident kB"], &rows);
    let tenth = samples.iter().find(|sample| sample.0 == count / 10);
    if let (Some(early), Some(late)) = (tenth, samples.last()) {
        let more = late.1 as f64 - early.1 as f64;
        let swaps = late.0 - early.0;
        let name = format!("growth from swap {} to {}", early.0, late.0);
        let each = more / swaps as f64;
        report.figure(&name, format!("{more} kB, {each:.2} kB a swap"));
    }
    report.figure("peak resident kB", Process::now(host.pid()).peak);
    report.none("requests lost", window.losses(), window.why());
    swaps::print_revisions(report, &host).await;
}

/// Two components for each service, both compiled by the host now.
pub(super) async fn pairs(host: &Host) -> Vec<(Service, [Vec<u8>; 2])> {
    let mut files = Vec::new();
    for service in Service::ALL {
        let file = |note: &str| with_note(&built(service), note);
        let pair = ["one", "other"].map(file);
        for file in &pair {
            host.swap(service, file).await;
        }
        files.push((service, pair));
    }
    files
}

/// Swaps the services in turn; gives the resident memory after each tenth.
async fn alternate(
    host: &Host,
    files: &[(Service, [Vec<u8>; 2])],
    count: usize,
) -> Vec<(usize, u64)> {
    let mut samples = vec![(0, Process::now(host.pid()).rss)];
    for number in 0..count {
        next(host, files, number).await;
        let done = number + 1;
        if done % (count / 10) == 0 {
            samples.push((done, Process::now(host.pid()).rss));
        }
    }
    samples
}

/// One more swap of the series in which services and components alternate.
pub(super) async fn next(host: &Host, files: &[(Service, [Vec<u8>; 2])], number: usize) {
    let (service, pair) = &files[number % files.len()];
    host.swap(*service, &pair[number / files.len() % 2]).await;
}
