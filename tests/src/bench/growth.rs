//! What other services in the same host cost: jwt-token-adapter alone in a host, and as
//! one of fifty. Only it gets load; the others are the shipped ones and copies of it.

use super::Settings;
use super::driver::Driver;
use super::figures::{Of, Turn, median, ratios, spread, values};
use super::load::Pace;
use super::server::{Server, quiet};
use super::work::Work;
use crate::host::{Host, HostBuilder, Secret, Service};
use crate::measure::Report;
use crate::measure::link::first_right;
use crate::measure::mix;
use crate::place;
use crate::ports::Ports;
use crate::redis::RedisServer;
use crate::tokens::Tokens;
use crate::wait::GUARD;

/// What is asked for.
const WORK: Work = Work::Validate;

/// Services of the larger host.
const MANY: usize = 50;

/// What a copy of jwt-token-adapter is granted: what that one is by default.
const GRANTS: &str = "interfaces = [\"counters\", \"csrf\", \"events\", \"jwt\", \"peers\", \
    \"revocations\", \"sockets\", \"users\"]\n\
    verify = [\"access\", \"refresh\"]\nreissue = true\nrevoke = true\nsockets = [\"close\"]\n";

/// Names the table, and the column of the throughput.
pub(super) const TABLE: &str = "services";
pub(super) const THROUGHPUT: &str = "requests/s";

/// Names the row of the ratios.
pub(super) fn against() -> String {
    format!("{MANY} against 1")
}

/// What each figure is of a turn at full load and of one at half load.
const FIGURES: [(&str, At, Of, usize); 4] = [
    (THROUGHPUT, At::Full, |turn| turn.outcome.rate, 0),
    ("CPU us", At::Full, |turn| turn.cpu, 1),
    ("p99 ms at half", At::Half, |turn| turn.outcome.p99, 2),
    ("RSS MB", At::Half, |turn| turn.rss as f64 / 1e3, 1),
];

#[derive(Debug, Clone, Copy)]
enum At {
    Full,
    Half,
}

/// The turns of a host, in the order of the rounds.
#[derive(Debug, Default)]
struct Turns {
    full: Vec<Turn>,
    half: Vec<Turn>,
}

impl Turns {
    fn values(&self, at: At, of: Of) -> Vec<f64> {
        match at {
            At::Full => values(&self.full, of),
            At::Half => values(&self.half, of),
        }
    }
}

pub(super) async fn run(settings: &Settings, report: &mut Report) {
    let what = format!("{} in a host of one service and of {MANY}", WORK.name());
    report.part("growth", &what);
    let mut driver = Driver::new(settings.pick(2_500, 700), settings);
    driver.print(report);
    report.figure("rounds", settings.rounds);
    let copies = Copies::of(MANY - Service::ALL.len());
    let normalizer = normalizer(driver.tokens()).await;
    let server = alone(&normalizer, driver.tokens()).await;
    let best = driver.load(&server, WORK, Pace::Closed).await.outcome.rate;
    drop(server);
    let (mut one, mut many) = (Turns::default(), Turns::default());
    let mut silent = Vec::new();
    for round in 0..settings.rounds {
        for step in 0..2 {
            // Each comes first in its turn.
            if (round + step) % 2 == 0 {
                let server = alone(&normalizer, driver.tokens()).await;
                turn(&server, best, &mut one, &mut driver).await;
            } else {
                let server = copies.host(driver.tokens()).await;
                silent.extend(copies.silent(&server, driver.tokens()).await);
                turn(&server, best, &mut many, &mut driver).await;
            }
        }
    }
    print(&one, &many, report);
    driver.claims(report);
    let what = format!("each of {MANY} services answers");
    let seen = silent.first().cloned().unwrap_or_default();
    report.claim(&what, silent.is_empty(), seen);
}

/// All that the server can do, then half of what the host with one service can.
async fn turn(server: &Server, best: f64, turns: &mut Turns, driver: &mut Driver) {
    let full = driver.load(server, WORK, Pace::Closed).await;
    turns.full.push(full);
    let half = Pace::Open(best / 2.0);
    let half = driver.load(server, WORK, half).await;
    turns.half.push(half);
}

fn print(one: &Turns, many: &Turns, report: &mut Report) {
    let row = |name: String, cell: &dyn Fn(At, Of, usize) -> String| {
        let cells = FIGURES.map(|(_, at, of, digits)| cell(at, of, digits));
        [name].into_iter().chain(cells).collect::<Vec<_>>()
    };
    let medians = |turns: &Turns, services: usize| {
        row(services.to_string(), &|at, of, digits| {
            format!("{:.digits$}", median(&turns.values(at, of)))
        })
    };
    let ratios = row(against(), &|at, of, _| {
        spread(&ratios(&many.values(at, of), &one.values(at, of)))
    });
    let head: Vec<_> = [TABLE]
        .into_iter()
        .chain(FIGURES.map(|(name, ..)| name))
        .collect();
    report.table(&head, &[medians(one, 1), medians(many, MANY), ratios]);
}

/// Who tells a host without a session normalizer of its own that there is no users table:
/// it is asked once a minute. It is there in all turns.
async fn normalizer(tokens: &Tokens) -> Host {
    let key = Secret::Bytes(tokens.key().to_owned());
    let host = only(Host::builder().secret(key), Service::Session);
    host.start().await
}

/// A host that serves jwt-token-adapter only.
async fn alone(normalizer: &Host, tokens: &Tokens) -> Server {
    let port = normalizer.port(Service::Session);
    let url = format!("http://127.0.0.1:{port}");
    let redis = RedisServer::start().await;
    let host = only(quiet(&redis, tokens), WORK.service());
    let host = host.env("SESSION_VALIDATION_NORMALIZER_URL", url).prepare();
    Server::of("1 service", host, redis).await
}

fn only(host: HostBuilder, service: Service) -> HostBuilder {
    host.env("SERVICE_NAME", format!("{}-service", service.name()))
}

/// Copies of jwt-token-adapter, each a service with a port of its own.
#[derive(Debug)]
struct Copies {
    count: usize,
    ports: Vec<Ports>,
}

impl Copies {
    fn of(count: usize) -> Self {
        let blocks = count.div_ceil(Ports::COUNT.into());
        let ports = (0..blocks).map(|_| Ports::take()).collect();
        Self { count, ports }
    }

    /// Names and ports.
    fn all(&self) -> impl Iterator<Item = (String, u16)> {
        let all = self.ports.iter().flat_map(Ports::all);
        let named = (1..=self.count).zip(all);
        named.map(|(number, port)| (format!("copy-{number}"), port))
    }

    /// A host that serves them besides the shipped five.
    async fn host(&self, tokens: &Tokens) -> Server {
        let table = |(name, port)| {
            format!("[services.{name}]\nport = {port}\n[services.{name}.grants]\n{GRANTS}")
        };
        let config: String = self.all().map(table).collect();
        let name = Service::Jwt.name();
        let file = place::plugin(name);
        let redis = RedisServer::start().await;
        let host = quiet(&redis, tokens).config(config);
        let add = |host: HostBuilder, (copy, _): (String, _)| host.further_plugin(&copy, &file);
        let host = self.all().fold(host, add).prepare();
        // Their code is that of the original: nothing has to be compiled.
        let cache = host.data_dir().join("cache");
        for (copy, _) in self.all() {
            let copied = place::copy_folder(&cache.join(name), &cache.join(copy));
            copied.expect("copy the compiled code");
        }
        Server::of(&format!("{MANY} services"), host, redis).await
    }

    /// Those services of the host that give no right answer, and what they give.
    async fn silent(&self, server: &Server, tokens: &Tokens) -> Vec<String> {
        let shipped = Service::ALL.map(|service| (service, server.port(service)));
        let copies = self.all().map(|(_, port)| (Service::Jwt, port));
        let mut silent = Vec::new();
        for (service, port) in shipped.into_iter().chain(copies) {
            let shot = mix::first(tokens, service);
            if let Err(loss) = first_right(port, &shot, GUARD).await {
                silent.push(format!("{} at {port}: {loss:?}", service.name()));
            }
        }
        silent
    }
}
