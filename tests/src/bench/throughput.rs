//! All servers by turns, in every round: as much as they can do, half of that, and one
//! rate for all that are written in Rust. The rates are found once, before the rounds.

use std::collections::BTreeMap;

use super::Settings;
use super::driver::Driver;
use super::figures::{Figures, Load as At};
use super::load::Pace;
use super::server::{Kind, Server};
use super::work::Work;
use crate::measure::Report;

/// The common rate, as a part of what the slowest server in Rust can do.
const COMMON: f64 = 0.5;

/// What each server can do of each work, roughly.
type Best = BTreeMap<(Work, Kind), f64>;

pub(super) async fn run(settings: &Settings, report: &mut Report) {
    report.part("throughput", "all servers by turns, under the same load");
    let mut driver = Driver::new(settings.pick(2_500, 700), settings);
    driver.print(report);
    report.figure("rounds", settings.rounds);
    let mut best = Best::new();
    for kind in Kind::ALL {
        calibrate(kind, &mut best, &mut driver).await;
    }
    let mut figures = Figures::default();
    for round in 0..settings.rounds {
        // Each server comes first in its turn, so that none always follows another.
        for step in 0..Kind::ALL.len() {
            let kind = Kind::ALL[(round + step) % Kind::ALL.len()];
            turn(kind, &best, &mut figures, &mut driver).await;
        }
    }
    figures.print(report);
    driver.claims(report);
}

async fn calibrate(kind: Kind, best: &mut Best, driver: &mut Driver) {
    let server = Server::start(kind, driver.tokens()).await;
    for work in Work::ALL {
        let turn = driver.load(&server, work, Pace::Closed).await;
        best.insert((work, kind), turn.outcome.rate);
    }
}

/// One turn of a server, with all work and all loads.
async fn turn(kind: Kind, best: &Best, figures: &mut Figures, driver: &mut Driver) {
    let server = Server::start(kind, driver.tokens()).await;
    for work in Work::ALL {
        let rate = |kind| best.get(&(work, kind)).copied().unwrap_or(0.0);
        let turn = driver.load(&server, work, Pace::Closed).await;
        figures.add(work, kind, At::Full, turn);
        let half = Pace::Open(rate(kind) / 2.0);
        let turn = driver.load(&server, work, half).await;
        figures.add(work, kind, At::Half, turn);
        if kind.is_rust() {
            let rust = Kind::ALL.into_iter().filter(|kind| kind.is_rust());
            let slowest = rust.map(rate).fold(f64::INFINITY, f64::min);
            let pace = Pace::Open(slowest * COMMON);
            let turn = driver.load(&server, work, pace).await;
            figures.add(work, kind, At::Common, turn);
        }
    }
}
