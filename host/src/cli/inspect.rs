//! `lockgate inspect`: what a file is, also one that no service would take. It needs no
//! configuration and runs no code of the component.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use serde::Serialize;

use crate::config::{Config, Grants, ServiceConfig};
use crate::engine::Engine;
use crate::revision::{self, Item, LoadError, MAX_SIZE, Revision, Survey};

const EXAMPLES: &str = "\
Examples:
  lockgate inspect target/plugins/jwt-token-adapter.wasm
  lockgate inspect new.wasm --json | jq -r '.grants[]'

The line with the grants can be pasted into lockgate.toml. Exit code 0, also for a file
that would be refused, which it says; 1 if the file cannot be read.";

/// Arguments of `lockgate inspect`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The file.
    file: PathBuf,
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

/// All that is known of a file.
#[derive(Debug, Serialize)]
struct Report {
    /// The name that the service would have.
    service: String,
    /// Bytes.
    size: u64,
    sha256: String,
    /// `lockgate:plugin`, `wasi:http`, or none.
    contract: Option<&'static str>,
    /// It checks itself before a swap.
    self_test: bool,
    /// It serves sockets.
    websocket: bool,
    exports: Vec<Item>,
    imports: Vec<Item>,
    /// What its service has to be granted.
    grants: Vec<String>,
    /// Why an import is linked for no service.
    not_linked: Vec<String>,
    producers: BTreeMap<String, BTreeMap<String, String>>,
    /// Why a service with these grants would refuse it.
    refused: Option<String>,
}

/// Prints what the file is.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let report = report(&args.file)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", shown(&args.file, &report));
    }
    Ok(ExitCode::SUCCESS)
}

fn report(file: &Path) -> anyhow::Result<Report> {
    let shown = file.display();
    let known = std::fs::metadata(file).with_context(|| format!("cannot read {shown}"))?;
    if !known.is_file() {
        bail!("{shown} is not a file");
    }
    if known.len() > MAX_SIZE as u64 {
        bail!("{shown}: {}", LoadError::TooLarge(known.len()));
    }
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {shown}"))?;
    let name = file.file_stem().and_then(|stem| stem.to_str());
    let name = name.unwrap_or("NAME").to_owned();
    let survey = Survey::of(&bytes);
    let exports = |prefix: &str| survey.exports.iter().any(|e| e.name.starts_with(prefix));
    let contract = if exports("lockgate:plugin/handler@") {
        Some("lockgate:plugin")
    } else if exports("wasi:http/") {
        Some("wasi:http")
    } else {
        None
    };
    Ok(Report {
        size: known.len(),
        sha256: revision::digest(&bytes),
        contract,
        self_test: exports("lockgate:plugin/self-test@"),
        websocket: exports("lockgate:plugin/websocket@"),
        grants: survey.needs().into_iter().map(str::to_owned).collect(),
        not_linked: survey
            .not_linked(revision::contract(&bytes))
            .iter()
            .map(LoadError::to_string)
            .collect(),
        refused: refusal(&name, &bytes)?.map(|error| error.to_string()),
        service: name,
        exports: survey.exports,
        imports: survey.imports,
        producers: survey.producers,
    })
}

/// Loads it as a service would that is granted everything and has the default limits.
fn refusal(name: &str, bytes: &[u8]) -> anyhow::Result<Option<LoadError>> {
    let config = Config::from_parts(None, |_| None)?;
    let first = config.services.first().context("there is no service")?;
    let service = ServiceConfig {
        name: name.to_owned(),
        grants: Grants::of_a_replay(),
        contract: revision::contract(bytes).unwrap_or(first.contract),
        ..first.clone()
    };
    let engine = Engine::for_service(&service, config.stack)?;
    Ok(Revision::load(&engine, Arc::new(service), bytes, None, None).err())
}

fn shown(file: &Path, report: &Report) -> String {
    let mut lines = vec![format!(
        "{}: {} bytes, SHA-256 {}",
        file.display(),
        report.size,
        report.sha256
    )];
    lines.push(match report.contract {
        Some(contract) => format!("contract:     {contract}"),
        None => "contract:     none that Lockgate knows".to_owned(),
    });
    let mut list = |title: &str, items: Vec<String>| {
        for (index, item) in items.into_iter().enumerate() {
            let title = if index == 0 { title } else { "" };
            lines.push(format!("{title:<14}{item}"));
        }
    };
    let items = |items: &[Item], ours: bool| -> Vec<String> {
        items
            .iter()
            .filter(|item| item.name.starts_with("wasi:") != ours)
            .map(|item| match item.functions.as_slice() {
                functions if ours && !functions.is_empty() => {
                    format!("{} ({})", item.name, functions.join(", "))
                }
                _ => item.name.clone(),
            })
            .collect()
    };
    list("exports:", items(&report.exports, true));
    list("", items(&report.exports, false));
    list("imports:", items(&report.imports, true));
    list("WASI:", items(&report.imports, false));
    if report.contract == Some("lockgate:plugin") {
        let names: Vec<String> = report.grants.iter().map(|g| format!("\"{g}\"")).collect();
        let names = names.join(", ");
        list(
            "grants:",
            vec![format!(
                "services.{}.grants.interfaces = [{names}]",
                report.service
            )],
        );
    }
    for (field, values) in &report.producers {
        // Of a version the number; what follows it says how that was built.
        let values = values.iter().map(|(name, version)| {
            let number = version.split(' ').next().unwrap_or_default();
            format!("{name} {number}").trim_end().to_owned()
        });
        let values = values.collect::<Vec<_>>().join(", ");
        list(&format!("{field}:"), vec![values]);
    }
    list("not linked:", report.not_linked.clone());
    list(
        "verdict:",
        vec![match &report.refused {
            Some(words) => format!("every service would refuse it: {words}"),
            None => "a service with these grants would take it".to_owned(),
        }],
    );
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(contents: &[u8]) -> Report {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("greeter.wasm");
        std::fs::write(&file, contents).unwrap();
        report(&file).unwrap()
    }

    #[tokio::test]
    async fn what_no_service_takes_is_told_too() {
        let report = of(b"");
        assert_eq!(report.refused.unwrap(), LoadError::Empty.to_string());
        let report = of(b"\0asm\x01\0\0\0");
        assert_eq!(report.refused.unwrap(), LoadError::CoreModule.to_string());
        let http = r#"(component
            (import "wasi:http/types@0.2.4" (instance))
            (import "wasi:sockets/tcp@0.2.4" (instance))
            (instance $none) (export "wasi:http/incoming-handler@0.2.4" (instance $none)))"#;
        let report = of(&wat::parse_str(http).unwrap());
        assert_eq!(report.contract, Some("wasi:http"));
        assert!(report.grants.is_empty(), "it asks no functions of the host");
        assert_eq!(report.not_linked.len(), 1);
        assert!(report.refused.as_deref().unwrap().contains("wasi:sockets"));
        let text = shown(Path::new("x.wasm"), &report);
        for line in [
            "contract:     wasi:http\n",
            "wasi:sockets/tcp@0.2.4\n",
            "verdict:      every service would refuse it: the component imports",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }

    #[tokio::test]
    async fn the_grants_can_be_pasted() {
        let plugin = r#"(component
            (import "lockgate:plugin/redis@0.1.0" (instance))
            (import "lockgate:plugin/jwt@0.1.0" (instance))
            (instance $none) (export "lockgate:plugin/handler@0.1.0" (instance $none)))"#;
        let text = shown(Path::new("x"), &of(&wat::parse_str(plugin).unwrap()));
        let line = "services.greeter.grants.interfaces = [\"jwt\", \"redis\"]";
        assert!(text.contains(line), "{text}");
        let pasted: toml::Table = line.parse().unwrap();
        assert!(pasted.contains_key("services"));
    }

    #[test]
    fn what_is_no_file_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(report(folder.path()).is_err());
        assert!(report(&folder.path().join("none.wasm")).is_err());
    }
}
