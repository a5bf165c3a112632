//! `lockgate replay`: makes a recorded call again with a component file, answers all that it
//! asks of the host from the recording, and says whether it comes out the same. It needs no
//! configuration, no running host, no Redis and no key but that of the trace.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};

use crate::config::{Config, Contract, Grants, ServiceConfig};
use crate::engine::Engine;
use crate::imports::Scope;
use crate::pool::Pool;
use crate::recorder;
use crate::revision::{self, Revision};
use crate::state::State;
use crate::tape::Tape;
use crate::trace::{MAX_SIZE, Outcome, Trace};

const EXAMPLES: &str = "\
Examples:
  lockgate replay data/traces/hello/2026-03-01T101500Z-9f2c.json --plugin hello.wasm
  lockgate replay 2026-03-01T101500Z-9f2c.trace --key-file traces.key --plugin hello.wasm

What the component asks and the recording does not hold is answered by an empty host of which
nothing is kept: no keys, no users, an empty store.

Exit code 0: the same host calls and the same answer, byte for byte. 1: not so, and the first
difference is printed.";

/// Arguments of `lockgate replay`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The recorded call.
    trace: PathBuf,
    /// The component to run: the one that was recorded, or a mended one.
    #[arg(long, value_name = "FILE")]
    plugin: PathBuf,
    /// File with the key of an encrypted trace: 64 hex digits.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

/// Prints whether it comes out the same.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let trace = read(args)?;
    let plugin = args.plugin.display();
    let component = std::fs::read(&args.plugin).with_context(|| format!("cannot read {plugin}"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let tape = Tape::replaying(trace.calls.clone()).with_environment(trace.environment());
    let tape = Arc::new(tape);
    let (outcome, digest) = runtime.block_on(again(&trace, tape.clone(), &component))?;
    println!(
        "recorded: {} of revision {}, service {}, {}, request {}{}",
        trace.outcome.shown(),
        short(&trace.digest),
        trace.service,
        trace.recorded_at,
        trace.request_id,
        if trace.redacted {
            ", secrets replaced"
        } else {
            ""
        },
    );
    println!(
        "now:      {} of revision {}",
        outcome.shown(),
        short(&digest)
    );
    let calls = tape.difference();
    let answer = trace.outcome.difference(&outcome);
    if calls.is_none() && answer.is_none() {
        println!(
            "equal: {} host calls and the outcome, byte for byte",
            trace.calls.len()
        );
        return Ok(ExitCode::SUCCESS);
    }
    match calls {
        Some(difference) => println!("different: {difference}"),
        None => println!("the {} host calls are equal", trace.calls.len()),
    }
    match answer {
        Some(difference) => println!("different: {difference}"),
        None => println!("the outcome is equal, byte for byte"),
    }
    Ok(ExitCode::FAILURE)
}

fn read(args: &Args) -> anyhow::Result<Trace> {
    let shown = args.trace.display();
    let length = std::fs::metadata(&args.trace).map(|file| file.len());
    let length = length.with_context(|| format!("cannot read {shown}"))?;
    if length > MAX_SIZE as u64 {
        bail!("{shown} has {length} bytes, more than a trace may");
    }
    let file = std::fs::read(&args.trace).with_context(|| format!("cannot read {shown}"))?;
    let key = args.key_file.as_deref().map(recorder::read_key);
    let trace = Trace::from_file(file, key.transpose()?.as_ref());
    trace.with_context(|| format!("cannot use {shown}"))
}

async fn again(
    trace: &Trace,
    tape: Arc<Tape>,
    component: &[u8],
) -> anyhow::Result<(Outcome, String)> {
    // What was not recorded is asked of this state, which is gone afterwards.
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let mut config = Config::from_parts(None, |_| None)?;
    config.data_dir = folder.path().to_owned();
    config.fallback.path = folder.path().join("embedded.redb");
    let service = Arc::new(service(
        trace,
        revision::contract(component).unwrap_or_default(),
    ));
    config.services = vec![service.as_ref().clone()];
    config.peers = Vec::new();
    config.jwt.secret_files = Vec::new();
    config.jwt.secret = None;
    config.jwt.previous_file = None;
    let engine = Engine::for_service(&service, config.stack)?;
    let state = State::open(Arc::new(config)).await?;
    let revision = Revision::load(&engine, service.clone(), component, None, None)?;
    let digest = revision.digest().to_owned();
    let scope = Arc::new(Scope::new(&service, state));
    let lane = engine.lane().share(1);
    let pool = Pool::new(engine, Arc::new(revision), scope, lane.clone());
    let request = trace.request()?;
    let outcome = recorder::run(&pool, &lane, tape, &trace.request_id, request).await;
    Ok((outcome, digest))
}

/// The service as it was, without an instance ahead.
fn service(trace: &Trace, contract: Contract) -> ServiceConfig {
    let mut limits = trace.limits.clone();
    limits.warm = 0;
    ServiceConfig {
        name: trace.service.clone(),
        reported_name: trace.service.clone(),
        port: 0,
        contract,
        grants: Grants::of_a_replay(),
        limits,
        dependencies: Vec::new(),
        socket_paths: Vec::new(),
        env: trace.environment(),
        recording: None,
    }
}

fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}
