//! Starts with something missing or broken: what answers all the same, and after how
//! long.

use std::path::Path;
use std::time::{Duration, Instant};

use super::Settings;
use crate::component::built;
use crate::host::{Host, HostBuilder, Service};
use crate::measure::link::{Loss, Shot, first_right};
use crate::measure::{Report, mix};
use crate::ports::Ports;

/// How long an answer may take before it counts as missing.
const GUARD: Duration = Duration::from_secs(60);

/// The service whose plugin is broken.
const BROKEN: Service = Service::Gateway;

pub(super) async fn run(_settings: &Settings, report: &mut Report) {
    report.part("start", "starts with something missing or broken");
    let mut rows = Vec::new();
    for case in Case::ALL {
        rows.push(case.row(report).await);
    }
    let mut head = vec!["milliseconds to the first answer"];
    let short = |service: Service| service.name().split('-').next().unwrap_or_default();
    head.extend(Service::ALL.map(short));
    report.table(&head, &rows);
    drop_in(report).await;
}

/// Starts a host whose files lie ready; what came of the first requests to each service,
/// in the order of the ports, and how long after the start.
pub(crate) async fn first_answers(
    host: &mut Host,
    wanted: impl Fn(&Host, Service) -> Shot,
) -> Vec<(Service, Result<(), Loss>, Duration)> {
    let begun = Instant::now();
    host.launch();
    let mut asking = tokio::task::JoinSet::new();
    for service in Service::ALL {
        let (shot, port) = (wanted(host, service), host.port(service));
        asking.spawn(async move {
            let answer = first_right(port, &shot, GUARD).await;
            (service, answer, begun.elapsed())
        });
    }
    let mut answers = asking.join_all().await;
    answers.sort_by_key(|(service, ..)| *service);
    answers
}

/// A way to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    Usual,
    NoCache,
    DamagedCache,
    NoRedis,
    BrokenPlugin,
    NoPlugin,
}

impl Case {
    const ALL: [Self; 6] = [
        Self::Usual,
        Self::NoCache,
        Self::DamagedCache,
        Self::NoRedis,
        Self::BrokenPlugin,
        Self::NoPlugin,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Usual => "nothing is wrong",
            Self::NoCache => "no compiled code",
            Self::DamagedCache => "damaged compiled code",
            Self::NoRedis => "Redis down",
            Self::BrokenPlugin => "one broken plugin",
            Self::NoPlugin => "no plugin",
        }
    }

    /// What a service must answer.
    fn wanted(self, host: &Host, service: Service) -> Shot {
        let broken = self == Self::BrokenPlugin && service == BROKEN;
        if broken || self == Self::NoPlugin {
            return Shot::get("/health")
                .status(503)
                .holds("\"status\":\"error\"");
        }
        let shot = mix::first(&host.tokens, service);
        match (self, service) {
            (Self::NoRedis, Service::Session) => shot.holds("\"degraded\":true"),
            _ => shot,
        }
    }

    /// Starts so and asks every service; gives the row of the table.
    async fn row(self, report: &mut Report) -> Vec<String> {
        let redis = Ports::take();
        let folder = crate::component::folder();
        let mut host = self.prepared(folder.path(), redis.at(0));
        if self == Self::DamagedCache {
            let files = damage(&host.data_dir().join("cache"));
            report.figure("files of compiled code damaged", files);
        }
        let answers = first_answers(&mut host, |host, service| self.wanted(host, service)).await;
        let wrong: Vec<_> = answers
            .iter()
            .filter_map(|(service, answer, _)| Some((service.name(), answer.as_ref().err()?)))
            .collect();
        let what = format!("{}: each port answers as it should", self.name());
        let seen = format!("{} of {}", answers.len() - wrong.len(), answers.len());
        let seen = match wrong.first() {
            Some(first) => format!("{seen}; {first:?}"),
            None => seen,
        };
        report.claim(&what, wrong.is_empty(), seen);
        let runs = host.is_running();
        let what = format!("{}: the host stays up", self.name());
        report.claim(&what, runs, "");
        let times = answers.iter().map(|(.., after)| after.as_millis());
        let times = times.map(|time| time.to_string());
        [self.name().to_owned()].into_iter().chain(times).collect()
    }

    /// A host whose files lie ready.
    fn prepared(self, folder: &Path, closed_port: u16) -> Host {
        let mut builder = Host::builder();
        match self {
            Self::Usual | Self::DamagedCache => {}
            Self::NoCache => builder = builder.cold(),
            Self::NoRedis => {
                let url = format!("redis://127.0.0.1:{closed_port}");
                builder = builder.env("REDIS_URL", url);
            }
            Self::BrokenPlugin => {
                let bytes = built(BROKEN);
                let file = folder.join("broken.wasm");
                std::fs::write(&file, &bytes[..bytes.len() / 2]).expect("write half a plugin");
                builder = builder.plugin(BROKEN, file);
            }
            Self::NoPlugin => builder = without_plugins(),
        }
        builder.prepare()
    }
}

fn without_plugins() -> HostBuilder {
    Service::ALL
        .into_iter()
        .fold(Host::builder(), HostBuilder::without_plugin)
}

/// Flips a byte in every kilobyte of every file below a folder; gives their number.
fn damage(folder: &Path) -> usize {
    let mut damaged = 0;
    for entry in std::fs::read_dir(folder).expect("the folder of compiled code") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            damaged += damage(&path);
            continue;
        }
        let mut bytes = std::fs::read(&path).expect("read compiled code");
        bytes
            .iter_mut()
            .step_by(1_024)
            .for_each(|byte| *byte ^= 0x55);
        std::fs::write(&path, bytes).expect("damage compiled code");
        damaged += 1;
    }
    damaged
}

/// A host that began without plugins takes them as they come.
async fn drop_in(report: &mut Report) {
    let host = without_plugins().start_unready().await;
    let api = Shot::get("/api/v1/session/validate").status(503);
    let api = api.holds("\"service_unavailable\"");
    let port = host.port(Service::Session);
    let refused = first_right(port, &api, GUARD).await;
    let seen = refused.as_ref().err().map(|loss| format!("{loss:?}"));
    let what = "without a plugin an endpoint answers 503";
    report.claim(what, refused.is_ok(), seen.unwrap_or_default());
    let mut right = 0;
    for service in Service::ALL {
        host.install(service, &built(service));
    }
    for service in Service::ALL {
        let shot = mix::first(&host.tokens, service);
        let answer = first_right(host.port(service), &shot, GUARD).await;
        right += usize::from(answer.is_ok());
    }
    let what = "plugins that are dropped in then serve without a restart";
    report.claim(what, right == Service::ALL.len(), format!("{right} of 5"));
}
