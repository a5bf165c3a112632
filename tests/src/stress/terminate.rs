//! SIGTERM under load: whether a request that the host has read is still answered, and
//! how long the host takes to leave.

use std::time::{Duration, Instant};

use super::Settings;
use super::crash::times;
use crate::bad_files::PROBED;
use crate::component::{self, Probe, version_text};
use crate::host::Host;
use crate::measure::link::{Link, Loss, Shot};
use crate::measure::load::Load;
use crate::measure::observe::finished_ids;
use crate::measure::tally::{Lost, Window};
use crate::measure::{Report, mix};

/// Requests a second.
const RATE: u32 = 1_000;

/// Requests that are under way for sure when the signal comes.
const SLEEPERS: usize = 10;

/// Older than this at the signal, a request has been read.
const SURELY_READ: Duration = Duration::from_millis(200);

/// What came of one SIGTERM.
struct End {
    milliseconds: f64,
    success: bool,
    sleepers: usize,
    cut: Vec<String>,
    unread: u64,
    refused: u64,
    answered: u64,
}

pub(super) async fn run(settings: &Settings, report: &mut Report) {
    let rounds = settings.pick(10, 2);
    report.part("terminate", &format!("{rounds} times SIGTERM under load"));
    let folder = component::folder();
    let mut host = Host::builder()
        .plugin(PROBED, Probe::version(1).file(folder.path()))
        .start()
        .await;
    let mut ends = Vec::new();
    for round in 0..rounds {
        if round > 0 {
            host.start_again().await;
        }
        ends.push(end(&mut host).await);
    }
    print(report, &ends);
}

async fn end(host: &mut Host) -> End {
    let from = host.log().len();
    let load = Load::start(RATE, mix::with_probe(host, PROBED));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = load.window();
    let mut sleepers = tokio::task::JoinSet::new();
    for _ in 0..SLEEPERS {
        let port = host.port(PROBED);
        sleepers.spawn(async move {
            let shot = Shot::get("/sleep?ms=1000").holds(&version_text(1));
            Link::new(port).send(&shot, "sleeper").await
        });
    }
    tokio::time::sleep(2 * SURELY_READ).await;
    let begun = Instant::now();
    host.signal("TERM");
    tokio::time::sleep(Duration::from_millis(100)).await;
    let during = load.stop();
    let status = host.wait_exit().await;
    let milliseconds = begun.elapsed().as_secs_f64() * 1e3;
    let slept = sleepers.join_all().await;
    let log = host.log();
    let log = &log[from..];
    let mut cut: Vec<String> = before.lost.iter().map(|lost| format!("{lost:?}")).collect();
    cut.extend(cut_off(&during, log, begun));
    for line in log.lines().filter(|line| line.contains("cut off")) {
        cut.push(line.to_owned());
    }
    let unread = count(&during, |loss| matches!(loss, Loss::Closed(_)));
    let refused = count(&during, |loss| matches!(loss, Loss::Refused(_)));
    End {
        milliseconds,
        success: status.success(),
        sleepers: slept.iter().filter(|answer| answer.is_ok()).count(),
        cut,
        unread,
        refused,
        answered: before.sent() + during.sent() - during.losses(),
    }
}

fn count(window: &Window, of: impl Fn(&Loss) -> bool) -> u64 {
    window.lost.iter().filter(|lost| of(&lost.loss)).count() as u64
}

/// Requests that the host had taken and that got no right answer all the same. One that
/// met a closing connection counts only if the host finished it, by its log, or if it
/// failed before the signal.
fn cut_off(window: &Window, log: &str, signal: Instant) -> Vec<String> {
    let finished = finished_ids(log);
    let taken = |lost: &&Lost| match lost.loss {
        Loss::Refused(_) => lost.at < signal,
        Loss::Closed(_) => lost.at < signal || finished.contains(lost.id.as_str()),
        _ => true,
    };
    let cut = window.lost.iter().filter(taken);
    cut.map(|lost| format!("{lost:?}")).collect()
}

fn print(report: &mut Report, ends: &[End]) {
    report.figure("requests a second, five ports", RATE);
    let taken: Vec<f64> = ends.iter().map(|end| end.milliseconds).collect();
    report.figure("from the signal to the exit", times(&taken));
    let sum = |of: fn(&End) -> u64| ends.iter().map(of).sum::<u64>();
    report.figure("requests answered", sum(|end| end.answered));
    report.figure(
        "met a connection that was just closed",
        sum(|end| end.unread),
    );
    report.figure("found the port closed", sum(|end| end.refused));
    let slept: usize = ends.iter().map(|end| end.sleepers).sum();
    let wanted = ends.len() * SLEEPERS;
    report.claim(
        "requests that took 1 s when the signal came are answered",
        slept == wanted,
        format!("{slept} of {wanted}"),
    );
    let cut: Vec<&String> = ends.iter().flat_map(|end| &end.cut).collect();
    let first = cut.first().map(|cut| cut.as_str()).unwrap_or_default();
    report.none("requests cut off", cut.len() as u64, first);
    let well = ends.iter().filter(|end| end.success).count();
    let seen = format!("{well} of {}", ends.len());
    report.claim("the exit code is 0", well == ends.len(), seen);
}
