//! What Lockgate takes besides requests: its start, the swap of a component, idle memory
//! and the sizes of the plugins.

use std::time::Duration;

use super::Settings;
use crate::component::built;
use crate::host::{Host, Service};
use crate::measure::observe::Process;
use crate::measure::report::{median, worst};
use crate::measure::{Report, mix};
use crate::stress::{latency, start};

/// Warm instances of each service by default, and the same with many more.
const WARM: [u64; 2] = [2, 18];

/// After this time nothing of the start is left to be done.
const IDLE: Duration = Duration::from_secs(3);

/// Settle times of the plugin folder, milliseconds: the default, and a short one.
const SETTLE: [u32; 2] = [250, 20];

pub(super) async fn run(settings: &Settings, report: &mut Report) {
    report.part("start", "starts, swaps, memory and sizes of Lockgate");
    starts(settings.pick(20, 4), report).await;
    swaps(settings.pick((20, 10), (4, 2)), report).await;
    memory(report).await;
    for service in Service::ALL {
        let bytes = built(service).len();
        report.figure(&format!("{}.wasm, bytes", service.name()), bytes);
    }
}

/// From the start of the process to the right answers of all five services.
async fn starts(times: usize, report: &mut Report) {
    let (mut slowest, mut wrong) = (Vec::new(), Vec::new());
    for _ in 0..times {
        let mut host = Host::builder().prepare();
        let wanted = |host: &Host, service| mix::first(&host.tokens, service);
        let answers = start::first_answers(&mut host, wanted).await;
        let after = answers.iter().map(|(.., after)| after.as_secs_f64() * 1e3);
        slowest.push(after.fold(0.0, f64::max));
        let lost = answers.into_iter().filter_map(|(service, answer, _)| {
            Some(format!("{}: {:?}", service.name(), answer.err()?))
        });
        wrong.extend(lost);
        host.stop().await;
    }
    let shown = format!(
        "median {:.0}, worst {:.0}",
        median(&slowest),
        worst(&slowest)
    );
    report.figure("start with compiled code, ms to five answers", shown);
    let seen = wrong
        .first()
        .cloned()
        .unwrap_or_else(|| format!("{times} starts"));
    report.claim(
        "each service answers after each start",
        wrong.is_empty(),
        seen,
    );
}

/// From the file in the folder to the first answer of the new component.
async fn swaps((compiled, new): (u32, u32), report: &mut Report) {
    let mut rows = Vec::new();
    for settle in SETTLE {
        let host = latency::host(settle).await;
        // Both are compiled once.
        latency::after(&host, 2).await;
        latency::after(&host, 1).await;
        let mut times = Vec::new();
        for round in 0..compiled {
            times.push(latency::after(&host, 2 - round % 2).await);
        }
        rows.push(row("compiled before", settle, &times));
        let mut times = Vec::new();
        for version in 0..new {
            times.push(latency::after(&host, 100 + version).await);
        }
        rows.push(row("new code", settle, &times));
    }
    let head = [
        "file to new answer",
        "settle ms",
        "swaps",
        "median ms",
        "worst ms",
    ];
    report.table(&head, &rows);
}

fn row(name: &str, settle: u32, times: &[f64]) -> Vec<String> {
    vec![
        name.to_owned(),
        settle.to_string(),
        times.len().to_string(),
        format!("{:.0}", median(times)),
        format!("{:.0}", worst(times)),
    ]
}

/// A host that does nothing, with few warm instances and with many.
async fn memory(report: &mut Report) {
    let mut resident = Vec::new();
    for warm in WARM {
        let limits = |service: Service| {
            let name = service.name();
            format!("[services.{name}.limits]\nwarm = {warm}\n")
        };
        let config = Service::ALL.map(limits).concat();
        let host = Host::builder().config(config).start().await;
        tokio::time::sleep(IDLE).await;
        let rss = Process::now(host.pid()).rss;
        let what = format!("idle with {warm} warm instances of each service, MB");
        report.figure(&what, format!("{:.1}", rss as f64 / 1e3));
        resident.push(rss as f64);
    }
    let [few, many] = WARM;
    let more = (many - few) * Service::ALL.len() as u64;
    let grown = resident[1] - resident[0];
    report.figure(
        "for each warm instance more, kB",
        format!("{:.0}", grown / more as f64),
    );
}
