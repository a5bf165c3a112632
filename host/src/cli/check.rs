//! `lockgate check`: takes a component file through the steps of a swap that need no
//! running host, and says the outcome in words. It swaps nothing and runs no code of
//! the component; the self-test runs when the file is dropped in.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};

use crate::app;
use crate::config::{Config, Contract, ServiceConfig};
use crate::engine::Engine;
use crate::revision::{self, LoadError, Revision};

const EXAMPLES: &str = "\
Examples:
  lockgate check target/plugins/jwt-token-adapter.wasm
  lockgate check /tmp/new.wasm --service jwt-token-adapter

Exit code 0: the service would take the file, even if a warning says that sockets
would not work. 1: it would not, and why is printed.";

/// Arguments of `lockgate check`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The component.
    file: PathBuf,
    /// The service whose grants it must keep to. Default: the name of the file without .wasm.
    #[arg(long)]
    service: Option<String>,
}

/// Prints the verdict.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = Config::load()?;
    let service = service(&config, args)?;
    Ok(match verdict(&config, &service, &args.file)? {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// True if the service would take the file; prints the verdict. For commands that go on
/// with such a file.
pub(super) fn passes(config: &Config, file: &Path, service: &str) -> anyhow::Result<bool> {
    let known = config.service(service).cloned();
    let service = known.with_context(|| format!("{service:?} is not a service"))?;
    verdict(config, &Arc::new(service), file)
}

fn verdict(config: &Config, service: &Arc<ServiceConfig>, file: &Path) -> anyhow::Result<bool> {
    let shown = file.display();
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {shown}"))?;
    let signed = check_signature(config, service, file, &bytes)?;
    let engine = Engine::for_service(service, config.stack)?;
    let load = || Revision::load(&engine, Arc::clone(service), &bytes, None, None);
    Ok(match signed.and_then(|()| load()) {
        Ok(revision) if service.contract == Contract::WasiHttp => {
            println!(
                "{shown} would serve as {}: {} bytes, digest {}; it is a component of wasi:http.",
                service.name,
                revision.size(),
                revision.short_digest(),
            );
            true
        }
        Ok(revision) => {
            let sockets = revision.sockets().is_some();
            println!(
                "{shown} would serve as {}: {} bytes, digest {}; it {} self-test and exports {}.",
                service.name,
                revision.size(),
                revision.short_digest(),
                if revision.self_test().is_some() {
                    "has"
                } else {
                    "has no"
                },
                if sockets {
                    "`websocket`"
                } else {
                    "no `websocket`"
                },
            );
            let contract = revision::about_contract(revision.imports(), revision::CONTRACT);
            for remark in [about_sockets(service, sockets), contract] {
                remark.iter().for_each(|remark| println!("{remark}"));
            }
            true
        }
        Err(error) => {
            println!("{shown} would be refused for {}: {error}.", service.name);
            false
        }
    })
}

/// What does not fit between a service's settings and a component that exports
/// `websocket` or does not.
fn about_sockets(service: &ServiceConfig, exported: bool) -> Option<String> {
    let name = &service.name;
    match (service.socket_paths.as_slice(), exported) {
        (paths @ [_, ..], false) => Some(format!(
            "Warning: {name} serves sockets at {}, and without `websocket` each would be \
             closed with 1011.",
            paths.join(", ")
        )),
        ([], true) => Some(format!(
            "Note: {name} serves no sockets: services.{name}.socket_paths names no path."
        )),
        _ => None,
    }
}

/// Where drops must be signed: is the file? Which sequence number a host has accepted
/// is not known here.
fn check_signature(
    config: &Config,
    service: &ServiceConfig,
    file: &Path,
    bytes: &[u8],
) -> anyhow::Result<Result<(), LoadError>> {
    let Some(key) = app::public_key(config)? else {
        return Ok(Ok(()));
    };
    let signature = std::fs::read(file.with_added_extension("sig")).ok();
    let checked = key.check(
        &service.name,
        &revision::digest(bytes),
        signature.as_deref(),
    );
    Ok(checked.map(|_| ()).map_err(LoadError::from))
}

fn service(config: &Config, args: &Args) -> anyhow::Result<Arc<ServiceConfig>> {
    let name = args
        .service
        .as_deref()
        .or_else(|| stem(&args.file))
        .unwrap_or_default();
    let name = name.strip_suffix("-service").unwrap_or(name);
    if let Some(service) = config.service(name) {
        return Ok(Arc::new(service.clone()));
    }
    let known = config.services.iter().map(|service| service.name.as_str());
    let known = known.collect::<Vec<_>>().join(", ");
    bail!("{name:?} is not a service; name one with --service: {known}")
}

fn stem(file: &Path) -> Option<&str> {
    file.file_stem()?.to_str()
}

#[cfg(test)]
mod tests {

    use super::*;

    fn named(file: &str, service: Option<&str>) -> anyhow::Result<String> {
        let config = Config::from_parts(None, |_| None).unwrap();
        let args = Args {
            file: file.into(),
            service: service.map(str::to_owned),
        };
        super::service(&config, &args).map(|service| service.name.clone())
    }

    #[test]
    fn the_service_is_named_or_is_the_name_of_the_file() {
        for (file, service) in [
            ("a/jwt-token-adapter.wasm", None),
            ("a/jwt-token-adapter-service.wasm", None),
            ("new.wasm", Some("jwt-token-adapter")),
            (
                "websocket-auth-gateway.wasm",
                Some("jwt-token-adapter-service"),
            ),
        ] {
            assert_eq!(named(file, service).unwrap(), "jwt-token-adapter", "{file}");
        }
    }

    #[test]
    fn what_does_not_fit_the_paths_of_sockets_is_said() {
        let config = Config::from_parts(None, |_| None).unwrap();
        let said = |name: &str, exported| {
            about_sockets(config.service(name).unwrap(), exported).unwrap_or_default()
        };
        let warning = said("websocket-auth-gateway", false);
        assert!(warning.starts_with("Warning: "), "{warning}");
        assert!(
            warning.contains("at /ws/chat, /api/v1/chat/ws"),
            "{warning}"
        );
        let note = said("jwt-token-adapter", true);
        assert!(
            note.contains("services.jwt-token-adapter.socket_paths"),
            "{note}"
        );
        assert_eq!(said("websocket-auth-gateway", true), "");
        assert_eq!(said("jwt-token-adapter", false), "");
    }

    #[test]
    fn an_unknown_service_is_answered_with_the_known_ones() {
        for (file, service) in [("new.wasm", None), ("..", None), ("new.wasm", Some("jwt"))] {
            let error = named(file, service).unwrap_err().to_string();
            assert!(error.contains("--service") && error.contains("fallback-session-provider"));
        }
    }
}
