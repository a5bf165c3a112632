//! What the pieces of a call cost: an instance, a call, each host function, loading and
//! swapping. `cargo bench -p lockgate`, after `scripts/build-plugins`.

#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::panic,
    reason = "a failure has to stop the measurement with its message"
)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use tokio::runtime::Runtime;

use lockgate::bindings::lockgate::plugin as wit;
use lockgate::bindings::lockgate::plugin::types::{Caller, Origin, Request};
use lockgate::config::{Config, ServiceConfig};
use lockgate::engine::Engine;
use lockgate::imports::{Context, Purpose, Scope};
use lockgate::instance::{Instance, Job};
use lockgate::lane::SlowLane;
use lockgate::revision::{Artifact, Cache, Revision};
use lockgate::sandbox::Meter;
use lockgate::slot::{Loader, Settings, Slot};
use lockgate::state::State;

const JWT: &str = "jwt-token-adapter";
const SESSION: &str = "session-validation-normalizer";
const FALLBACK: &str = "fallback-session-provider";
const GATEWAY: &str = "websocket-auth-gateway";
const COORDINATOR: &str = "service-boundary-coordinator";
const SERVICES: [&str; 5] = [JWT, SESSION, FALLBACK, GATEWAY, COORDINATOR];

/// A host without its listeners, in a folder of its own, with the embedded store.
struct Bench {
    runtime: Runtime,
    folder: tempfile::TempDir,
    config: Arc<Config>,
    state: Arc<State>,
    engine: Arc<Engine>,
    token: String,
}

impl Bench {
    fn new() -> Bench {
        Bench::with("")
    }

    /// With these settings.
    fn with(settings: &str) -> Bench {
        let folder = tempfile::tempdir().expect("a folder");
        let key = "k".repeat(64);
        let data = folder.path().to_string_lossy().into_owned();
        let config = Config::from_parts(Some(settings), |name| match name {
            "LOCKGATE_DATA_DIR" => Some(data.clone()),
            "JWT_SECRET_KEY" => Some(key.clone()),
            _ => None,
        });
        let config = Arc::new(config.expect("a configuration"));
        let runtime = Runtime::new().expect("a runtime");
        let state = State::open(config.clone());
        let state = runtime.block_on(state).expect("the state");
        let limits = config.services.iter().map(|service| &service.limits);
        let engine = Engine::new(limits, config.stack).expect("an engine");
        let now = state.clock().now();
        Bench {
            token: token(&key, now),
            runtime,
            folder,
            config,
            state,
            engine,
        }
    }

    fn service(&self, name: &str) -> Arc<ServiceConfig> {
        Arc::new(self.config.service(name).expect("a service").clone())
    }

    fn scope(&self, name: &str) -> Arc<Scope> {
        Arc::new(Scope::new(&self.service(name), self.state.clone()))
    }

    fn revision(&self, service: &str, bytes: &[u8]) -> Arc<Revision> {
        let loaded = Revision::load(&self.engine, self.service(service), bytes, None, None);
        Arc::new(loaded.expect("a component"))
    }

    async fn start(&self, revision: &Arc<Revision>) -> Instance {
        let scope = self.scope(&revision.service().name);
        let started = Instance::start(&self.engine, revision.clone(), scope, meter(), None);
        started.await.expect("an instance")
    }
}

fn token(key: &str, now: u64) -> String {
    let claims = serde_json::json!({
        "sub": "ada@example.org", "id": 42, "email": "ada@example.org", "role": "user",
        "session_id": "s-7Qx", "iat": now, "exp": now + 3600,
    });
    let key = jsonwebtoken::EncodingKey::from_secret(key.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).expect("a token")
}

/// A shipped plugin as it was built.
fn plugin(name: &str) -> Vec<u8> {
    let folder = std::env::var_os("LOCKGATE_TEST_PLUGINS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/plugins"),
        PathBuf::from,
    );
    let path = folder.join(format!("{name}.wasm"));
    std::fs::read(&path).unwrap_or_else(|error| {
        panic!(
            "{}: {error}; run scripts/build-plugins first",
            path.display()
        )
    })
}

/// A component that answers every request with four bytes.
fn constant(number: u32) -> Vec<u8> {
    let core = format!(
        "(func (export \"handle\") (param i32) (result i32) (call $answer (i32.const {number})))"
    );
    let text = include_str!("../../tests/wat/handler.wat")
        .replace("{pages}", "1")
        .replace("{core}", &core)
        .replace("{more}", "");
    let (_, text) = text.split_once("(component").expect("a component");
    wat::parse_str(format!("(component{text}")).expect("valid text")
}

fn meter() -> Arc<Meter> {
    Arc::new(Meter::new(Duration::from_secs(1), Duration::from_secs(2)))
}

fn request(method: &str, path: &str, body: Vec<u8>) -> Arc<Job> {
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    Arc::new(Job::Request(Request {
        method: method.to_owned(),
        path: path.to_owned(),
        query: None,
        headers: vec![
            header("host", "127.0.0.1:8025"),
            header("content-type", "application/json"),
            header("content-length", "300"),
            header("accept", "*/*"),
        ],
        body,
        caller: Caller {
            address: "192.0.2.1".to_owned(),
            origin: Origin::Absent,
            service: false,
        },
        extensions: vec![header("request-id", "0123456789abcdef")],
    }))
}

fn instances(c: &mut Criterion) {
    let bench = Bench::new();
    let mut group = c.benchmark_group("instantiate");
    let small = bench.revision(JWT, &constant(1));
    let jwt = bench.revision(JWT, &plugin(JWT));
    for (name, revision) in [("no-op component", &small), (JWT, &jwt)] {
        group.bench_function(name, |b| {
            b.to_async(&bench.runtime).iter(|| bench.start(revision));
        });
    }
    group.finish();

    let validate = serde_json::json!({"token": bench.token}).to_string();
    let health = request("GET", "/health", Vec::new());
    let validate = request("POST", "/api/v1/jwt/validate", validate.into_bytes());
    let rows = [
        ("no-op component", &small, &health),
        ("GET /health", &jwt, &health),
        ("POST jwt/validate", &jwt, &validate),
    ];
    let mut group = c.benchmark_group("call, used instance");
    for (name, revision, job) in rows {
        group.bench_function(name, |b| {
            let mut instance = bench.runtime.block_on(bench.start(revision));
            b.iter(|| {
                let call = instance.call(meter(), "0123456789abcdef", job);
                bench.runtime.block_on(call).expect("an answer")
            });
        });
    }
    group.finish();
    let mut group = c.benchmark_group("call, fresh instance");
    for (name, revision, job) in rows {
        group.bench_function(name, |b| {
            b.to_async(&bench.runtime).iter(async || {
                let mut instance = bench.start(revision).await;
                instance
                    .call(meter(), "0123456789abcdef", job)
                    .await
                    .expect("an answer")
            });
        });
    }
    group.finish();
}

fn lane(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let lane = SlowLane::new().expect("a lane");
    let share = lane.share(4);
    c.bench_function("lane, a call that is done at once", |b| {
        b.to_async(&runtime).iter(|| share.run(meter(), async {}));
    });
}

/// The host's side of each interface, without the way into the host and back.
fn host_functions(c: &mut Criterion) {
    let bench = Bench::new();
    let mut group = c.benchmark_group("host function");
    /// One function of one service's grants.
    macro_rules! measure {
        ($name:literal, $service:expr, |$context:ident| $call:expr) => {
            let scope = bench.scope($service);
            group.bench_function($name, |b| {
                let mut context = Context::new(scope.clone());
                b.iter(|| {
                    context.begin(Purpose::Request, "0123456789abcdef");
                    let $context = &mut context;
                    bench.runtime.block_on(async { $call.expect("no trap") })
                });
            });
        };
    }
    let token = bench.token.clone();
    let key = || "session:user:42".to_owned();
    let subject = || wit::revocations::Subject {
        user_id: 42,
        session_id: "s-7Qx".to_owned(),
        token_sha256: "0a".repeat(32),
        issued_at: Some(1),
    };
    let draft = || wit::fallback::Draft {
        user_id: 42,
        email: "ada@example.org".to_owned(),
        role: "user".to_owned(),
        session_id: "s-7Qx".to_owned(),
        session_data: "{}".to_owned(),
        token_format: "unified".to_owned(),
        ttl: 3600,
        source_sha256: "0a".repeat(32),
        source_issued_at: None,
        source_expires_at: None,
    };
    measure!("jwt.verify", JWT, |on| wit::jwt::Host::verify(
        on,
        token.clone(),
        wit::jwt::Usage::Access
    ));
    let forgetful = Bench::with("[jwt]\nverified_bytes = 0");
    let scope = forgetful.scope(JWT);
    group.bench_function("jwt.verify, none remembered", |b| {
        let mut context = Context::new(scope.clone());
        b.iter(|| {
            context.begin(Purpose::Request, "0123456789abcdef");
            let token = forgetful.token.clone();
            wit::jwt::Host::verify(&mut context, token, wit::jwt::Usage::Access).expect("no trap")
        });
    });
    measure!("jwt.ready", JWT, |on| wit::jwt::Host::ready(on));
    measure!("revocations.check", JWT, |on| {
        wit::revocations::Host::check(on, subject()).await
    });
    measure!("users.lookup", JWT, |on| wit::users::Host::lookup(
        on,
        42,
        token.clone(),
        true
    )
    .await);
    measure!("counters.add", JWT, |on| wit::counters::Host::add(
        on,
        "validated".to_owned(),
        1
    ));
    measure!("counters.read", JWT, |on| wit::counters::Host::read(on));
    measure!("peers.dependency", JWT, |on| wit::peers::Host::dependency(
        on,
        "redis".to_owned()
    ));
    measure!("peers.snapshot", COORDINATOR, |on| {
        wit::peers::Host::snapshot(on)
    });
    measure!("limiter.take", JWT, |on| wit::limiter::Host::take(
        on,
        "bench".to_owned(),
        "192.0.2.1".to_owned(),
        1_000_000_000
    ));
    measure!("breakers.snapshot", COORDINATOR, |on| {
        wit::breakers::Host::snapshot(on)
    });
    measure!("sockets.active", GATEWAY, |on| wit::sockets::Host::active(
        on
    ));
    measure!("redis.get", SESSION, |on| wit::redis::Host::get(on, key())
        .await);
    measure!("redis.get-many", SESSION, |on| wit::redis::Host::get_many(
        on,
        vec![key()]
    )
    .await);
    measure!("redis.set", SESSION, |on| wit::redis::Host::set(
        on,
        key(),
        b"{}".to_vec(),
        60,
        wit::redis::Condition::Always
    )
    .await);
    measure!("redis.set-add", SESSION, |on| wit::redis::Host::set_add(
        on,
        "user:sessions:42".to_owned(),
        "s-7Qx".to_owned(),
        60
    )
    .await);
    measure!("fallback.copy", SESSION, |on| wit::fallback::Host::copy(
        on,
        draft()
    ));
    measure!("fallback.find", FALLBACK, |on| wit::fallback::Host::find(
        on, 42
    )
    .await);
    measure!("fallback.report", FALLBACK, |on| {
        wit::fallback::Host::report(on)
    });
    measure!("csrf.issue", COORDINATOR, |on| wit::csrf::Host::issue(on));
    group.sample_size(20);
    // These are on the disk before they return.
    measure!("fallback.create (disk)", FALLBACK, |on| {
        wit::fallback::Host::create(on, draft()).await
    });
    measure!("revocations.revoke-token (disk)", COORDINATOR, |on| {
        wit::revocations::Host::revoke_token(on, "0a".repeat(32), None).await
    });
    group.finish();
}

fn loading(c: &mut Criterion) {
    let bench = Bench::new();
    let cache = Cache::open(bench.folder.path().join("code")).expect("a cache");
    let mut group = c.benchmark_group("load");
    group.sample_size(10);
    for name in SERVICES {
        let bytes = plugin(name);
        let load = |cache: Option<&Cache>| {
            Revision::load(&bench.engine, bench.service(name), &bytes, cache, None)
                .expect("a component")
        };
        group.bench_function(BenchmarkId::new("compiling", name), |b| {
            b.iter_with_large_drop(|| load(None));
        });
        drop(load(Some(&cache)));
        group.bench_function(BenchmarkId::new("from the cache", name), |b| {
            b.iter_with_large_drop(|| load(Some(&cache)));
        });
    }
    group.finish();

    let settings = Settings {
        probation: bench.config.probation,
        quarantine: bench.config.quarantine,
    };
    let loader = Arc::new(Loader::new(
        bench.engine.clone(),
        Some(cache),
        settings,
        None,
    ));
    let folder = bench.folder.path().join("revisions");
    let slot = Slot::new(bench.service(JWT), bench.scope(JWT), loader, folder, None);
    let noted = |mut bytes: Vec<u8>, note: u8| {
        // A custom section makes it another file.
        bytes.extend([0, 3, 1, b'n', note]);
        Bytes::from(bytes)
    };
    let files = [noted(plugin(JWT), 1), noted(plugin(JWT), 2)];
    let swap = async |turn: usize| {
        let component = files.get(turn % 2).expect("two files").clone();
        let signature = None;
        let file = Artifact {
            component,
            signature,
        };
        slot.load(file).await.expect("it swaps");
    };
    bench.runtime.block_on(async {
        swap(0).await;
        swap(1).await;
    });
    let mut turn = 0;
    let mut group = c.benchmark_group("swap");
    group.sample_size(20);
    group.bench_function("a shipped plugin, compiled before", |b| {
        b.iter_batched(
            || {
                turn += 1;
                turn
            },
            |turn| bench.runtime.block_on(swap(turn)),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, instances, lane, host_functions, loading);
criterion_main!(benches);
