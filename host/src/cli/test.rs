//! `lockgate test`: runs a plugin's own tests through the code of the host. Scenarios are
//! files, so they serve a plugin in any language; docs/testing-plugins.md explains them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::engine::Engine;

mod expect;
mod file;
mod peers;
mod redis;
mod run;
mod stage;
mod words;

use file::{File, Scenario};

pub(super) use file::Token;
use stage::Setup;

const EXAMPLES: &str = "\
Examples:
  lockgate test plugins/jwt-token-adapter --component target/plugins/jwt-token-adapter.wasm
  lockgate test hello
  lockgate test hello --filter expired

Every scenario in DIR/tests/*.toml runs on a host of its own in this process: real limits, grants,
keys and instances, a clock that stands until it is moved, and a Redis that is up, down or slow
as the scenario says. Grants and limits are the service's defaults, or those of
DIR/lockgate.toml.

Exit code 0: all passed. 1: one failed, or a file is not understood.";

/// Arguments of `lockgate test`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The plugin's folder.
    dir: PathBuf,
    /// The component. Default: the newest .wasm in DIR, DIR/dist and below DIR/target.
    #[arg(long, value_name = "FILE")]
    component: Option<PathBuf>,
    /// The service that it is. Default: the name of the folder.
    #[arg(long)]
    service: Option<String>,
    /// Only scenarios with this in their name or their file's.
    #[arg(long, value_name = "WORDS")]
    filter: Option<String>,
}

/// Runs all, prints a line for each, and what went wrong.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let files = files(&args.dir.join("tests"))?;
    let setup = setup(args)?;
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let setup = Setup {
        cache: folder.path().to_owned(),
        ..setup
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let config = setup.config(&plain(), None, folder.path())?;
    let service = config.services.first().context("there is no service")?;
    let engine = Engine::for_service(service, config.stack)?;
    let (mut passed, mut failed) = (0_u32, 0_u32);
    for (path, file) in &files {
        let group = path.file_stem().unwrap_or_default().to_string_lossy();
        for scenario in &file.scenario {
            let name = format!("{group}: {}", scenario.name);
            let wanted = args.filter.as_ref();
            if wanted.is_some_and(|words| !name.contains(words.as_str())) {
                continue;
            }
            match runtime.block_on(one(&setup, &engine, file, scenario, &args.dir)) {
                Ok(()) => {
                    passed += 1;
                    println!("ok      {name}");
                }
                Err(error) => {
                    failed += 1;
                    println!("FAILED  {name}\n        {error:#}");
                }
            }
        }
    }
    runtime.shutdown_timeout(Duration::from_millis(200));
    println!("{passed} passed, {failed} failed");
    if passed + failed == 0 {
        bail!("no scenario has that in its name");
    }
    Ok(match failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

async fn one(
    setup: &Setup,
    engine: &Arc<Engine>,
    file: &File,
    scenario: &Scenario,
    dir: &Path,
) -> anyhow::Result<()> {
    let mut whole = scenario.clone();
    for (name, value) in &file.settings {
        whole
            .settings
            .entry(name.clone())
            .or_insert_with(|| value.clone());
    }
    for (name, token) in &file.tokens {
        whole
            .tokens
            .entry(name.clone())
            .or_insert_with(|| token.clone());
    }
    for (key, value) in &file.store {
        whole
            .store
            .entry(key.clone())
            .or_insert_with(|| value.clone());
    }
    let now = seconds(&file.clock)?;
    run::scenario(setup, engine, &whole, now, &dir.join("tests")).await
}

/// A scenario without anything of its own, for what all have.
fn plain() -> Scenario {
    Scenario {
        name: String::new(),
        settings: std::collections::BTreeMap::new(),
        tokens: std::collections::BTreeMap::new(),
        store: std::collections::BTreeMap::new(),
        redis: true,
        secret: true,
        peers: std::collections::BTreeMap::new(),
        user: None,
        step: Vec::new(),
    }
}

/// Unix seconds of a time in RFC 3339.
fn seconds(text: &str) -> anyhow::Result<u64> {
    let time = OffsetDateTime::parse(text, &Rfc3339);
    let time = time.with_context(|| format!("{text:?} is no time as 2031-05-04T09:00:00Z"))?;
    u64::try_from(time.unix_timestamp()).context("a time before 1970")
}

fn files(folder: &Path) -> anyhow::Result<Vec<(PathBuf, File)>> {
    let shown = folder.display();
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {shown}"))?;
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry?.path());
    }
    paths.retain(|path| path.extension().is_some_and(|end| end == "toml"));
    paths.sort();
    if paths.is_empty() {
        bail!("there is no test in {shown}: a test is a .toml file");
    }
    paths
        .into_iter()
        .map(|path| Ok((path.clone(), file::read(&path)?)))
        .collect()
}

fn setup(args: &Args) -> anyhow::Result<Setup> {
    let dir = std::fs::canonicalize(&args.dir)
        .with_context(|| format!("cannot read {}", args.dir.display()))?;
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let path = match &args.component {
        Some(path) => path.clone(),
        None => newest(&dir)?,
    };
    let shown = path.display();
    let component = std::fs::read(&path).with_context(|| format!("cannot read {shown}"))?;
    println!("testing {shown}");
    let config = dir.join("lockgate.toml");
    let config = config.exists().then(|| std::fs::read_to_string(&config));
    Ok(Setup {
        service: args.service.clone().unwrap_or_else(|| name.into_owned()),
        config: config.transpose().context("cannot read lockgate.toml")?,
        cache: PathBuf::new(),
        component: Bytes::from(component),
    })
}

/// The newest component in the usual places of a build.
fn newest(dir: &Path) -> anyhow::Result<PathBuf> {
    let places = [
        "",
        "dist",
        "target",
        "target/plugin",
        "target/wasm32-wasip2/release",
        "target/wasm32-wasip2/plugin",
    ];
    let mut found: Option<(std::time::SystemTime, PathBuf)> = None;
    for place in places {
        let Ok(entries) = std::fs::read_dir(dir.join(place)) else {
            continue;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            let made = entry.metadata().and_then(|file| file.modified());
            let is_component = path.extension().is_some_and(|end| end == "wasm");
            if let (true, Ok(made)) = (is_component, made)
                && found.as_ref().is_none_or(|(newest, _)| made > *newest)
            {
                found = Some((made, path));
            }
        }
    }
    let found = found.map(|(_, path)| path);
    found.with_context(|| {
        format!(
            "there is no component below {}: build it, or name it with --component",
            dir.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        assert_eq!(seconds("1970-01-01T00:00:10Z").unwrap(), 10);
        for bad in ["", "1969-01-01T00:00:00Z", "2031-05-04", "yesterday"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_newest_component_is_found() {
        let folder = tempfile::tempdir().unwrap();
        assert!(newest(folder.path()).is_err());
        let below = folder.path().join("target/wasm32-wasip2/release");
        std::fs::create_dir_all(&below).unwrap();
        std::fs::write(below.join("a.wasm"), "").unwrap();
        std::fs::write(below.join("b.txt"), "").unwrap();
        assert_eq!(newest(folder.path()).unwrap(), below.join("a.wasm"));
    }
}
