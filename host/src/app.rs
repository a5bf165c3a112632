//! A straight line from settings to a serving host and to its end: everything is
//! built here once, in order, and the ports are bound only when it is there.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::{self, Admin, Token, Tokens};
use crate::caller::Judge;
use crate::config::{Config, Contract, ServiceConfig};
use crate::engine::Engine;
use crate::http::Service;
use crate::imports::Scope;
use crate::recorder::Recorder;
use crate::revision::Cache;
use crate::server;
use crate::signature::PublicKey;
use crate::slot::{Loader, Slot};
use crate::state::State;
use crate::telemetry::Telemetry;
use crate::websocket::Hub;
use crate::{logging, watch};

/// Every call allocates on both sides of its component; docs/performance.md compares.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Connections that wait to be accepted on one port.
const BACKLOG: u32 = 1024;

/// What other tasks may take beyond the drain.
const GRACE: Duration = Duration::from_millis(500);

/// Histogram samples are gathered this often.
const UPKEEP: Duration = Duration::from_secs(1);

/// Upper bounds of the latency histogram, seconds.
const BUCKETS: [f64; 13] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0,
];

/// Serves until SIGTERM or SIGINT, then drains. Call it outside any runtime.
///
/// # Errors
/// The set-up does not work: a port is taken, a folder cannot be made.
pub fn serve(config: Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("lockgate")
        .enable_all()
        .build()
        .context("cannot start the threads")?;
    let collector = config.telemetry.as_ref();
    let telemetry =
        collector.map(|collector| Telemetry::start(collector, runtime.handle().clone()));
    let telemetry = telemetry.transpose()?;
    logging::start(config.log, telemetry.as_ref().map(Telemetry::layer));
    let served = runtime.block_on(run(config));
    if let Some(telemetry) = telemetry {
        telemetry.stop();
    }
    // What still runs after the drain time has had its chance.
    runtime.shutdown_timeout(Duration::from_millis(200));
    served
}

async fn run(mut config: Config) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let metrics = record_metrics()?;
    // A port of 0 is chosen now, because peers and plugins are told the port.
    let reserved = reserve(&mut config)?;
    let config = Arc::new(config);
    let engines = Engine::for_services(&config.services, config.stack)?;
    let public_key = public_key(&config)?;
    if public_key.is_some() {
        tracing::info!("plugin files must be signed");
    }
    let state = State::open(config.clone()).await?;
    let settings = crate::slot::Settings {
        probation: config.probation,
        quarantine: config.quarantine,
    };
    let cache = open_cache(&config);
    let loader = |engine| Loader::new(engine, cache.clone(), settings, public_key.clone());
    let loaders = engines
        .into_iter()
        .map(|(contract, engine)| (contract, Arc::new(loader(engine))));
    let slots = slots(&config, &state, &loaders.collect())?;
    let stop = CancellationToken::new();
    let places = tokio::select! {
        places = watch::first_load(&config.plugins_dir, &slots) => places,
        () = signals.next() => return Ok(()),
    };

    let mut listeners = Vec::new();
    for (service, reserved) in config.services.iter().zip(reserved) {
        let listener = match reserved {
            Some(listener) => listener,
            None => bind(SocketAddr::new(config.bind, service.port), &service.name)?,
        };
        listeners.push(listener);
    }
    let admin = bind(config.admin, "the admin listener")?;
    state.spawn(stop.clone());
    let tasks = TaskTracker::new();
    let reload = config.reload.clone();
    tasks.spawn(watch::run(
        config.plugins_dir.clone(),
        places,
        reload,
        stop.clone(),
    ));
    tasks.spawn(keep_up(metrics.clone(), stop.clone()));
    serve_all(
        &tasks, &config, &state, slots, listeners, admin, metrics, &stop,
    )?;

    signals.next().await;
    tracing::info!(seconds = config.server.drain.as_secs_f64(), "draining");
    stop.cancel();
    tasks.close();
    tokio::select! {
        () = tasks.wait() => tracing::info!("drained"),
        () = tokio::time::sleep(config.server.drain + GRACE) => {
            tracing::warn!("not drained in time");
        }
        () = signals.next() => tracing::warn!("stopped by a second signal"),
    }
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "one straight line cut in two")]
fn serve_all(
    tasks: &TaskTracker,
    config: &Config,
    state: &Arc<State>,
    slots: Vec<Arc<Slot>>,
    listeners: Vec<TcpListener>,
    admin_listener: TcpListener,
    metrics: PrometheusHandle,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let judge = Arc::new(Judge::new(config));
    let mut services = Vec::new();
    for (slot, listener) in slots.into_iter().zip(listeners) {
        let address = listener
            .local_addr()
            .context("cannot tell a listener's address")?;
        tracing::info!(service = slot.service().name, %address, ready = slot.is_ready(), "listening");
        let sockets = Hub::new(&slot, state, config, tasks.clone(), stop.clone());
        let service = Service::new(slot.clone(), state.clone(), judge.clone(), config, sockets);
        services.push((slot, address));
        let serving = server::serve(
            listener,
            Arc::new(service),
            config.server.clone(),
            stop.clone(),
        );
        tasks.spawn(serving);
    }
    let address = admin_listener
        .local_addr()
        .context("cannot tell the admin listener's address")?;
    tracing::info!(%address, "admin listening");
    let answers = admin::answers(Admin {
        tokens: admin_tokens(config)?,
        services,
        state: state.clone(),
        plugins_dir: config.plugins_dir.clone(),
        metrics,
        address,
    });
    tasks.spawn(server::serve(
        admin_listener,
        answers,
        config.server.clone(),
        stop.clone(),
    ));
    Ok(())
}

fn admin_tokens(config: &Config) -> anyhow::Result<Tokens> {
    let cannot = |file: &Path| format!("cannot use the admin token file {}", file.display());
    let file = &config.admin_token_file;
    let all = Token::open_or_make(file).with_context(|| cannot(file))?;
    let read = config.admin_read_token_file.as_deref();
    let read = read.map(|file| Token::open(file).with_context(|| cannot(file)));
    let tokens = Tokens {
        all,
        read: read.transpose()?,
    };
    anyhow::ensure!(
        !tokens.are_one(),
        "the admin's token and the one for reading are the same"
    );
    Ok(tokens)
}

fn slots(
    config: &Config,
    state: &Arc<State>,
    loaders: &BTreeMap<Contract, Arc<Loader>>,
) -> anyhow::Result<Vec<Arc<Slot>>> {
    let traces = config.data_dir.join("traces");
    let slot = |service: &ServiceConfig| {
        let scope = Arc::new(Scope::new(service, state.clone()));
        let folder = config.data_dir.join("revisions").join(&service.name);
        let service = Arc::new(service.clone());
        let recorder = Recorder::open(&traces, &service)?;
        let loader = loaders.get(&service.contract).context("no engine")?.clone();
        let slot = Slot::new(service, scope, loader, folder, recorder);
        Ok(Arc::new(slot))
    };
    config.services.iter().map(slot).collect()
}

/// What dropped files must be signed with, if a key is configured. One that cannot be
/// read is an error: whoever names it wants no unsigned file.
///
/// # Errors
/// It cannot be read, or is no Ed25519 key.
pub fn public_key(config: &Config) -> anyhow::Result<Option<PublicKey>> {
    let Some(file) = &config.plugins_public_key_file else {
        return Ok(None);
    };
    let cannot = || format!("cannot use the plugins' public key {}", file.display());
    let text = std::fs::read(file).with_context(cannot)?;
    PublicKey::from_pem(&text).with_context(cannot).map(Some)
}

/// Without the cache every start compiles, which is slower but not wrong.
fn open_cache(config: &Config) -> Option<Cache> {
    let folder = config.data_dir.join("cache");
    let opened = Cache::open(folder.clone());
    opened
        .inspect_err(|error| {
            tracing::warn!(folder = %folder.display(), %error, "no cache of compiled code");
        })
        .ok()
}

/// Binds every port that is 0 and writes the chosen one into the settings.
fn reserve(config: &mut Config) -> anyhow::Result<Vec<Option<TcpListener>>> {
    let mut reserved = Vec::new();
    for service in &mut config.services {
        if service.port != 0 {
            reserved.push(None);
            continue;
        }
        let listener = bind(SocketAddr::new(config.bind, 0), &service.name)?;
        service.port = listener.local_addr()?.port();
        for (_, value) in service
            .env
            .iter_mut()
            .filter(|(name, _)| name == "SERVICE_PORT")
        {
            *value = service.port.to_string();
        }
        for peer in config
            .peers
            .iter_mut()
            .filter(|peer| peer.name == service.name)
        {
            if let Some(base) = peer.url.strip_suffix(":0") {
                peer.url = format!("{base}:{}", service.port);
            }
        }
        reserved.push(Some(listener));
    }
    Ok(reserved)
}

/// Listens on an address for what is called `name`.
///
/// # Errors
/// The address is taken or not ours.
pub fn bind(address: SocketAddr, name: &str) -> anyhow::Result<TcpListener> {
    let bound = || -> std::io::Result<TcpListener> {
        let socket = if address.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        // A restart must not wait for old connections to be forgotten.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bound().with_context(|| format!("cannot listen on {address} for {name}"))
}

/// Records the metrics of this process; once.
///
/// # Errors
/// They are recorded already.
pub fn record_metrics() -> anyhow::Result<PrometheusHandle> {
    let seconds = Matcher::Suffix("_seconds".to_owned());
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(seconds, &BUCKETS)
        .context("the histogram's buckets")?
        .build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).context("metrics are recorded already")?;
    Ok(handle)
}

/// Gathers the samples of the metrics now and then, until `stop`.
pub async fn keep_up(metrics: PrometheusHandle, stop: CancellationToken) {
    let mut every = tokio::time::interval(UPKEEP);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = every.tick() => metrics.run_upkeep(),
        }
    }
}

/// SIGTERM and SIGINT.
struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Signals> {
        Ok(Signals {
            term: signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?,
            int: signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_chosen_port_is_told_to_peers_and_plugin() {
        let variable = |name: &str| (name == "JWT_TOKEN_ADAPTER_PORT").then(|| "0".to_owned());
        let mut config = Config::from_parts(None, variable).unwrap();
        let reserved = reserve(&mut config).unwrap();
        let port = reserved[0].as_ref().unwrap().local_addr().unwrap().port();
        assert!(reserved[1..].iter().all(Option::is_none));
        assert_eq!(config.services[0].port, port);
        assert_eq!(config.peers[0].url, format!("http://127.0.0.1:{port}"));
        assert!(
            config.services[0]
                .env
                .contains(&("SERVICE_PORT".to_owned(), port.to_string()))
        );
    }

    #[tokio::test]
    async fn a_taken_port_is_named() {
        let taken = bind("127.0.0.1:0".parse().unwrap(), "first").unwrap();
        let address = taken.local_addr().unwrap();
        let error = bind(address, "second").unwrap_err().to_string();
        assert_eq!(error, format!("cannot listen on {address} for second"));
    }
}
