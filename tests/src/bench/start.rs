//! What Lockgate takes besides requests: its start, the swap of a component, memory and
//! the sizes of the plugins.

use super::{Settings, resident, swaps};
use crate::component::built;
use crate::host::{Host, Service};
use crate::measure::report::{median, worst};
use crate::measure::{Report, mix};
use crate::stress::start;

/// Names the table of the starts.
pub(super) const TABLE: &str = "start to five answers";

pub(super) async fn run(settings: &Settings, report: &mut Report) {
    report.part("start", "starts, swaps, memory and sizes of Lockgate");
    starts(settings.pick(20, 4), report).await;
    swaps::run(settings, report).await;
    resident::run(settings, report).await;
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
    let row = vec![
        "compiled code in the cache".to_owned(),
        times.to_string(),
        format!("{:.0}", median(&slowest)),
        format!("{:.0}", worst(&slowest)),
    ];
    let head = [TABLE, "starts", "median ms", "worst ms"];
    report.table(&head, &[row]);
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
