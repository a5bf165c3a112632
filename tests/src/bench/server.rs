//! The servers that are compared. Each is started with the same key and a Redis of its
//! own, so that what one has written is not there for the next, and is stopped when it is
//! dropped.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use reqwest::Client;

use super::python::Python;
use super::work::Work;
use crate::host::{Host, HostBuilder, Secret, Service};
use crate::redis::RedisServer;
use crate::tokens::Tokens;
use crate::{http, place};

/// How long a server may take until its answer is right.
const GUARD: Duration = Duration::from_secs(60);

/// How often an instance of a component is used by default.
pub(super) const REUSE: u32 = 128;

/// A server that is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Lockgate as it is by default.
    Reused,
    /// Lockgate with a new instance for every request.
    Fresh,
    /// The native twin.
    Native,
    /// The FastAPI twin in one process.
    OneWorker,
    /// The FastAPI twin in as many processes as there are cores.
    AllWorkers,
}

impl Kind {
    /// All of them.
    pub(super) const ALL: [Self; 5] = [
        Self::Reused,
        Self::Fresh,
        Self::Native,
        Self::OneWorker,
        Self::AllWorkers,
    ];

    /// As the tables name it.
    pub(super) fn name(self) -> String {
        match self {
            Self::Reused => format!("Lockgate, reuse {REUSE}"),
            Self::Fresh => "Lockgate, reuse 1".to_owned(),
            Self::Native => "native twin".to_owned(),
            Self::OneWorker => "FastAPI, 1 worker".to_owned(),
            Self::AllWorkers => format!("FastAPI, {} workers", cores()),
        }
    }

    /// It is written in Rust.
    pub(super) fn is_rust(self) -> bool {
        matches!(self, Self::Reused | Self::Fresh | Self::Native)
    }
}

/// Cores of this machine.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// A running server.
#[derive(Debug)]
pub(super) struct Server {
    /// As the tables name it.
    pub(super) name: String,
    program: Program,
    client: Client,
    /// Ends after the program.
    _redis: RedisServer,
}

#[derive(Debug)]
enum Program {
    Host(Box<Host>),
    Python(Python),
}

impl Server {
    /// Starts one and waits until it gives the right answers.
    pub(super) async fn start(kind: Kind, tokens: &Tokens) -> Self {
        let redis = RedisServer::start().await;
        let program = match kind {
            Kind::Reused => Program::Host(Box::new(host(REUSE, &redis, tokens).start().await)),
            Kind::Fresh => Program::Host(Box::new(host(1, &redis, tokens).start().await)),
            Kind::Native => {
                let twin = host(REUSE, &redis, tokens).program(native());
                Program::Host(Box::new(twin.start_unready().await))
            }
            Kind::OneWorker => Program::Python(Python::start(1, &redis, tokens.key())),
            Kind::AllWorkers => Program::Python(Python::start(cores(), &redis, tokens.key())),
        };
        Self::settled(kind.name(), program, redis).await
    }

    /// Starts a host that is prepared for this Redis, see [`quiet`].
    pub(super) async fn of(name: &str, mut host: Host, redis: RedisServer) -> Self {
        host.start_again().await;
        Self::settled(name.to_owned(), Program::Host(Box::new(host)), redis).await
    }

    async fn settled(name: String, program: Program, redis: RedisServer) -> Self {
        let server = Self {
            name,
            program,
            client: http::client(),
            _redis: redis,
        };
        server.settle().await;
        server
    }

    /// Waits until it is there and knows that Redis is.
    async fn settle(&self) {
        let begun = Instant::now();
        let url = format!("http://127.0.0.1:{}/health", self.port(Service::Jwt));
        loop {
            let call = http::Call::new(self.client.clone(), reqwest::Method::GET, url.clone());
            let answer = call.try_send().await;
            if answer.is_ok_and(|answer| Work::Health.wrong(&answer).is_none()) {
                return;
            }
            let name = &self.name;
            assert!(
                begun.elapsed() < GUARD,
                "{name} was not there: {}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Where a service is.
    pub(super) fn port(&self, service: Service) -> u16 {
        match &self.program {
            Program::Host(host) => host.port(service),
            Program::Python(python) => python.port(),
        }
    }

    /// The host, if it is one.
    pub(super) fn host(&self) -> Option<&Host> {
        match &self.program {
            Program::Host(host) => Some(host),
            Program::Python(_) => None,
        }
    }

    /// A client to ask it with.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// What it takes, with the processes that it has started.
    pub(super) fn usage(&self) -> Usage {
        Usage::of(match &self.program {
            Program::Host(host) => host.pid(),
            Program::Python(python) => python.pid(),
        })
    }

    /// All that it has written so far.
    pub(super) fn log(&self) -> String {
        match &self.program {
            Program::Host(host) => host.log(),
            Program::Python(python) => python.log(),
        }
    }
}

/// A host whose instances are used so often.
fn host(reuse: u32, redis: &RedisServer, tokens: &Tokens) -> HostBuilder {
    let lines = format!("reuse = {reuse}\n");
    quiet(redis, tokens).config(limits(&Service::ALL, &lines))
}

/// Lockgate as it is by default, but it logs no request, as the servers in Python do not.
pub(super) fn quiet(redis: &RedisServer, tokens: &Tokens) -> HostBuilder {
    Host::builder()
        .secret(Secret::Bytes(tokens.key().to_owned()))
        .redis(redis)
        .env("LOG_LEVEL", "WARNING")
}

/// These lines as the limits of some services, for the configuration.
pub(super) fn limits(services: &[Service], lines: &str) -> String {
    let table = |service: &Service| format!("[services.{}.limits]\n{lines}", service.name());
    services.iter().map(table).collect()
}

/// The native twin: `LOCKGATE_NATIVE_TWIN`, else the release build.
fn native() -> PathBuf {
    let path = match std::env::var_os("LOCKGATE_NATIVE_TWIN") {
        Some(path) => PathBuf::from(path),
        None => place::target().join("release/lockgate-native-twin"),
    };
    assert!(
        path.is_file(),
        "no native twin at {}: run `cargo build --release -p lockgate-native-twin`",
        path.display()
    );
    path
}

/// What a server takes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usage {
    /// Time on all processors so far, seconds.
    pub(super) cpu: f64,
    /// Resident memory, kB.
    pub(super) rss: u64,
}

impl Usage {
    /// Of a process and of those that it has started and that still run.
    pub(super) fn of(pid: u32) -> Self {
        use crate::measure::observe::Process;
        let Process { cpu, rss, .. } = Process::now(pid);
        let list = format!("/proc/{pid}/task/{pid}/children");
        let children = std::fs::read_to_string(list).unwrap_or_default();
        let children = children
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok());
        children
            .map(Self::of)
            .fold(Self { cpu, rss }, |all, one| Self {
                cpu: all.cpu + one.cpu,
                rss: all.rss + one.rss,
            })
    }
}
