//! Latency against load: each server from a tenth of what it can do up to all of it. What
//! it can do is found first, with connections that send as soon as they have their answer.

use super::Settings;
use super::driver::Driver;
use super::load::{Outcome, Pace};
use super::server::{Kind, Server};
use super::work::Work;
use crate::measure::Report;
use crate::measure::report::ms;

/// What is asked for.
const WORK: Work = Work::Validate;

/// Offered loads, percent of what the server can do.
const SHARES: [u32; 8] = [10, 25, 40, 55, 70, 80, 90, 100];

/// Columns of the table, which `bench/plot.py` draws.
const HEAD: [&str; 6] = [
    "server",
    "offered/s",
    "requests/s",
    "p50 ms",
    "p99 ms",
    "p99.9 ms",
];

pub(super) async fn run(settings: &Settings, report: &mut Report) {
    let what = format!("{} from little load to all that is possible", WORK.name());
    report.part("curve", &what);
    let mut driver = Driver::new(settings.pick(3_000, 400), settings);
    driver.print(report);
    let mut rows = Vec::new();
    for kind in Kind::ALL {
        let server = Server::start(kind, driver.tokens()).await;
        let turn = driver.load(&server, WORK, Pace::Closed).await;
        let best = turn.outcome.rate;
        for share in SHARES {
            let offered = best * f64::from(share) / 100.0;
            let turn = driver.load(&server, WORK, Pace::Open(offered)).await;
            rows.push(row(&server.name, offered, &turn.outcome));
        }
    }
    report.table(&HEAD, &rows);
    driver.claims(report);
}

fn row(server: &str, offered: f64, outcome: &Outcome) -> Vec<String> {
    vec![
        server.to_owned(),
        format!("{offered:.0}"),
        format!("{:.0}", outcome.rate),
        ms(outcome.p50),
        ms(outcome.p99),
        ms(outcome.p999),
    ]
}
