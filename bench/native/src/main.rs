//! The native twin: the host's own server, state and settings, and the plugins' own
//! code, called directly. What a component costs is what Lockgate takes more than this.
//! It serves requests only: no sockets, no admin listener, no swaps.

mod backend;
mod call;
mod convert;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use lockgate::app;
use lockgate::caller::Judge;
use lockgate::config::Config;
use lockgate::http::Service;
use lockgate::state::State;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use backend::Native;

/// Takes the environment and `lockgate.toml` as the host does, and no argument.
fn main() -> anyhow::Result<()> {
    let config = Config::load()?;
    lockgate::logging::start(config.log, None);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("native-twin")
        .enable_all()
        .build()
        .context("cannot start the threads")?;
    runtime.block_on(run(config))
}

async fn run(config: Config) -> anyhow::Result<()> {
    let mut end = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let metrics = app::record_metrics()?;
    let config = Arc::new(config);
    let state = State::open(Arc::clone(&config)).await?;
    let stop = CancellationToken::new();
    state.spawn(stop.clone());
    let tasks = TaskTracker::new();
    tasks.spawn(app::keep_up(metrics, stop.clone()));
    let judge = Arc::new(Judge::new(&config));
    for settings in &config.services {
        let native = Native::new(settings, &state)?;
        let address = SocketAddr::new(config.bind, settings.port);
        let listener = app::bind(address, &settings.name)?;
        let service = Service::new(
            Arc::new(native),
            Arc::clone(&state),
            Arc::clone(&judge),
            &config,
            None,
        );
        tasks.spawn(lockgate::server::serve(
            listener,
            Arc::new(service),
            config.server.clone(),
            stop.clone(),
        ));
    }
    end.recv().await;
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    Ok(())
}
