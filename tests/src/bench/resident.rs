//! Resident memory of a host that does nothing: of one that has done nothing so far, and
//! of one whose instances have all served.

use std::time::Duration;

use super::Settings;
use super::driver::Driver;
use super::figures::median;
use super::server::{Server, limits, quiet};
use super::work::Work;
use crate::host::{Host, Service};
use crate::measure::Report;
use crate::measure::observe::Process;
use crate::redis::RedisServer;

/// Warm instances of a service by default, and the same with many more.
const WARM: [u64; 2] = [2, 18];

/// After this time nothing of a start or of a load is left to be done, and the allocator,
/// which keeps what was freed for 10 s, has given it back.
const IDLE: Duration = Duration::from_secs(13);

/// Work that waits for Redis, so that as many instances as there may be are busy at once.
const WAITS: [Work; 2] = [Work::Cold, Work::Refresh];

/// Names the figure of further instances that have served.
pub(super) const FURTHER: &str = "for each further instance that has served, kB";

pub(super) async fn run(settings: &Settings, report: &mut Report) {
    idle(report).await;
    used(settings, report).await;
}

/// Names the figure of a host that has done nothing, with the default settings.
pub(super) fn idle_by_default() -> String {
    idle_with(WARM[0])
}

fn idle_with(warm: u64) -> String {
    format!("idle with {warm} warm instances of each service, MB")
}

/// A host that does nothing, with few warm instances and with many.
async fn idle(report: &mut Report) {
    let mut resident = Vec::new();
    for warm in WARM {
        let config = limits(&Service::ALL, &format!("warm = {warm}\n"));
        let host = Host::builder().config(config).start().await;
        tokio::time::sleep(IDLE).await;
        let rss = Process::now(host.pid()).rss;
        report.figure(&idle_with(warm), format!("{:.1}", rss as f64 / 1e3));
        resident.push(rss as f64);
    }
    let [few, many] = WARM;
    let more = (many - few) * Service::ALL.len() as u64;
    let grown = resident[1] - resident[0];
    report.figure(
        "for each further instance that has not, kB",
        format!("{:.0}", grown / more as f64),
    );
}

/// What a host holds after a load.
#[derive(Debug, Default)]
struct Held {
    instances: Vec<f64>,
    /// kB
    rss: Vec<f64>,
}

/// Hosts that have answered the same requests with few instances and with many.
async fn used(settings: &Settings, report: &mut Report) {
    let mut driver = Driver::new(0, settings);
    let requests = settings.pick(8_000, 3_000);
    let mut all = [Held::default(), Held::default()];
    for _ in 0..settings.pick(3, 1) {
        for (warm, held) in WARM.into_iter().zip(&mut all) {
            let (instances, rss) = after_load(warm, requests, &mut driver).await;
            held.instances.push(instances);
            held.rss.push(rss);
        }
    }
    let row = |(warm, held): (u64, &Held)| {
        vec![
            format!("{warm} of each"),
            format!("{:.0}", median(&held.instances)),
            format!("{:.1}", median(&held.rss) / 1e3),
        ]
    };
    let head = ["served, then idle", "instances", "RSS MB"];
    let rows: Vec<_> = WARM.into_iter().zip(&all).map(row).collect();
    report.table(&head, &rows);
    let [few, many] = &all;
    let more = |of: fn(&Held) -> &[f64]| median(of(many)) - median(of(few));
    let each = more(|held| &held.rss) / more(|held| &held.instances);
    report.figure(FURTHER, format!("{each:.0}"));
    driver.claims(report);
}

/// Instances of the services that have work, and the host's resident memory, kB.
async fn after_load(warm: u64, requests: u32, driver: &mut Driver) -> (f64, f64) {
    let services = WAITS.map(Work::service);
    let redis = RedisServer::start().await;
    // As many at once as are warm: then each is used, and there are no others.
    let lines = format!("warm = {warm}\nin_flight = {warm}\n");
    let host = quiet(&redis, driver.tokens()).config(limits(&services, &lines));
    let name = format!("{warm} instances");
    let server = Server::of(&name, host.prepare(), redis).await;
    for work in WAITS {
        driver.fill(&server, work, requests).await;
    }
    tokio::time::sleep(IDLE).await;
    let host = server.host().expect("it is a host");
    let mut instances = 0.0;
    for service in services {
        instances += host.metric(service, "lockgate_instances").await;
    }
    (instances, server.usage().rss as f64)
}
