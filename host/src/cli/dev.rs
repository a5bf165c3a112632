//! `lockgate dev`: at every save it builds a plugin, checks it, drops it into a running host
//! and says how the answers differ. It is a client of that host; the host decides.

mod ask;
mod drop;
mod requests;
mod sources;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};

use super::check;
use super::remote::Remote;
use crate::config::Config;
use crate::revision;
use ask::Answer;
use drop::Served;
use requests::Ask;

const EXAMPLES: &str = "\
Examples:
  lockgate dev greeter
  lockgate dev greeter --service my-greeter
  lockgate dev greeter --plugins /srv/lockgate/plugins --admin 127.0.0.1:8024

DIR is a folder as `lockgate new` makes it: its build.sh makes one dist/NAME.wasm. After each
swap the requests of the steps in DIR/tests/*.toml (GET /health if there are none) have been
sent to the old revision and to the new one, for real: use a host that is yours to play with.
Ctrl-C ends it.";

/// Arguments of `lockgate dev`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The plugin's folder.
    dir: PathBuf,
    /// The service that it is dropped in for. Default: the name of the file in DIR/dist.
    #[arg(long)]
    service: Option<String>,
    /// The host's plugin folder. Default: as configured (LOCKGATE_PLUGINS_DIR).
    #[arg(long, value_name = "DIR")]
    plugins: Option<PathBuf>,
    #[command(flatten)]
    remote: Remote,
}

/// Builds at once and then at every save, until the process is ended.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let dir = &args.dir;
    let shown = dir.display();
    if !dir.join("build.sh").is_file() {
        bail!("there is no build.sh in {shown}");
    }
    let config = Config::load()?;
    let plugins = args.plugins.as_ref().unwrap_or(&config.plugins_dir);
    if !plugins.is_dir() {
        bail!("the plugin folder {} is not there", plugins.display());
    }
    // Nothing is built for a host that cannot be asked.
    drop::ask(&args.remote)?;
    let sources = sources::watch(dir)?;
    println!("{shown} is built at every save, for {}", plugins.display());
    loop {
        if let Err(error) = round(args, &config, plugins) {
            println!("{error:#}");
        }
        println!("waiting for a change in {shown}");
        sources.changed()?;
    }
}

/// One build and what comes of it.
fn round(args: &Args, config: &Config, plugins: &Path) -> anyhow::Result<()> {
    build(&args.dir)?;
    let file = built(&args.dir)?;
    let stem = file.file_stem().and_then(|stem| stem.to_str());
    let service = args.service.as_deref().or(stem).unwrap_or_default();
    let before = drop::served(&args.remote, service)?;
    let bytes = std::fs::read(&file)?;
    let digest = revision::digest(&bytes);
    if before.digest.as_deref() == Some(&*digest) {
        println!("{service} serves this very file already");
        return Ok(());
    }
    if config.service(service).is_none() {
        println!("not checked here: the configuration names no service {service:?}");
    } else if !check::passes(config, &file, service)? {
        return Ok(());
    }
    let requests = requests::of(&args.dir)?;
    let old = answers(&before, &requests)?;
    drop::put(plugins, service, &bytes)?;
    let after = drop::wait(&args.remote, &before, &digest)?;
    let new = answers(&after, &requests)?;
    println!(
        "{service} serves {}{}",
        short(&digest),
        match &before.digest {
            Some(old) => format!(", before it {}", short(old)),
            None => String::new(),
        }
    );
    for ((request, old), new) in requests.iter().zip(&old).zip(&new) {
        println!("  {request}: {}", ask::compared(old, new));
    }
    Ok(())
}

fn build(dir: &Path) -> anyhow::Result<()> {
    let script = dir.join("build.sh").canonicalize()?;
    let status = Command::new(&script).current_dir(dir).status();
    let status = status.with_context(|| format!("cannot run {}", script.display()))?;
    if !status.success() {
        bail!("the build failed ({status}); what served serves on");
    }
    Ok(())
}

/// The one component that the build has left.
fn built(dir: &Path) -> anyhow::Result<PathBuf> {
    let folder = dir.join("dist");
    let shown = folder.display();
    let entries =
        std::fs::read_dir(&folder).with_context(|| format!("no {shown} after the build"))?;
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "wasm")
        })
        .collect();
    match (files.pop(), files.pop()) {
        (Some(file), None) => Ok(file),
        (None, _) => bail!("no component in {shown} after the build"),
        (Some(_), Some(_)) => bail!("more than one component in {shown}"),
    }
}

/// What a revision answers; nothing if there is none yet.
fn answers(served: &Served, requests: &[Ask]) -> anyhow::Result<Vec<Option<Answer>>> {
    if served.digest.is_none() {
        return Ok(requests.iter().map(|_| None).collect());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(async {
        let mut answers = Vec::new();
        for request in requests {
            answers.push(Some(ask::ask(served.address, request).await));
        }
        answers
    }))
}

fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_leaves_one_component() {
        let folder = tempfile::tempdir().unwrap();
        assert!(built(folder.path()).is_err());
        let dist = folder.path().join("dist");
        std::fs::create_dir(&dist).unwrap();
        std::fs::write(dist.join("notes.txt"), "").unwrap();
        let error = built(folder.path()).unwrap_err().to_string();
        assert!(error.contains("no component"), "{error}");
        std::fs::write(dist.join("a.wasm"), "").unwrap();
        assert_eq!(built(folder.path()).unwrap(), dist.join("a.wasm"));
        std::fs::write(dist.join("b.wasm"), "").unwrap();
        assert!(built(folder.path()).is_err());
    }
}
