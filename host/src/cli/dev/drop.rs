//! Puts a component into a host's plugin folder and waits for what the host makes of it.

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use http::Method;
use serde::Deserialize;

use crate::cli::remote::Remote;

/// A large component takes its time to be compiled.
const PATIENCE: Duration = Duration::from_secs(120);
const EVERY: Duration = Duration::from_millis(50);

/// What the admin listener says of a service.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Served {
    service: String,
    /// Where it listens.
    pub(super) address: SocketAddr,
    /// Of the revision that serves; none if there is none.
    pub(super) digest: Option<String>,
    last_error: Option<String>,
    last_error_at: Option<String>,
}

#[derive(Deserialize)]
struct Plugins {
    plugins: Vec<Served>,
}

/// All services.
///
/// # Errors
/// The host cannot be asked.
pub(super) fn ask(remote: &Remote) -> anyhow::Result<Vec<Served>> {
    let answer = remote.call(Method::GET, "/plugins")?;
    let plugins: Plugins = serde_json::from_value(answer)
        .context("the admin listener speaks of its plugins in another form")?;
    Ok(plugins.plugins)
}

/// One service.
///
/// # Errors
/// The host cannot be asked, or has no such service.
pub(super) fn served(remote: &Remote, service: &str) -> anyhow::Result<Served> {
    let all = ask(remote)?;
    let known: Vec<String> = all.iter().map(|one| one.service.clone()).collect();
    let Some(one) = all.into_iter().find(|one| one.service == service) else {
        bail!(
            "the host has no service {service:?}: give it a port and grants in its lockgate.toml, \
             or name one with --service: {}",
            known.join(", ")
        );
    };
    Ok(one)
}

/// Writes the file beside its place and renames it, so that no half of it is seen.
///
/// # Errors
/// The folder cannot be written to.
pub(super) fn put(plugins: &Path, service: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let place = plugins.join(format!("{service}.wasm"));
    let written = || -> std::io::Result<()> {
        let mut part = tempfile::Builder::new()
            .prefix(".lockgate-dev-")
            .tempfile_in(plugins)?;
        part.write_all(bytes)?;
        // The host may run as another user.
        let readable = std::fs::Permissions::from_mode(0o644);
        part.as_file().set_permissions(readable)?;
        part.persist(&place)?;
        Ok(())
    };
    written().with_context(|| format!("cannot write {}", place.display()))
}

/// Waits until this revision serves.
///
/// # Errors
/// The host refuses it, in the host's words, or does nothing for two minutes.
pub(super) fn wait(remote: &Remote, before: &Served, digest: &str) -> anyhow::Result<Served> {
    let begin = Instant::now();
    loop {
        let now = served(remote, &before.service)?;
        if now.digest.as_deref() == Some(digest) {
            return Ok(now);
        }
        if let Some(words) = refusal(before, &now) {
            bail!("{} refuses it: {words}", before.service);
        }
        if begin.elapsed() > PATIENCE {
            bail!(
                "the host has not taken it after {} s: is it the host of this plugin folder?",
                PATIENCE.as_secs()
            );
        }
        std::thread::sleep(EVERY);
    }
}

/// What was refused since `before`. A file that is dropped again after a refusal is refused
/// with the same words at another time.
fn refusal(before: &Served, now: &Served) -> Option<String> {
    let new = (&now.last_error, &now.last_error_at) != (&before.last_error, &before.last_error_at);
    now.last_error.clone().filter(|_| new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(error: Option<&str>, at: Option<&str>) -> Served {
        Served {
            service: "a".to_owned(),
            address: "127.0.0.1:1".parse().unwrap(),
            digest: None,
            last_error: error.map(str::to_owned),
            last_error_at: at.map(str::to_owned),
        }
    }

    #[test]
    fn only_a_new_refusal_counts() {
        let none = said(None, None);
        let first = said(Some("bad"), Some("09:00"));
        let second = said(Some("bad"), Some("09:01"));
        assert_eq!(refusal(&none, &none), None);
        assert_eq!(refusal(&none, &first), Some("bad".to_owned()));
        assert_eq!(refusal(&first, &first), None);
        assert_eq!(refusal(&first, &second), Some("bad".to_owned()));
        assert_eq!(refusal(&first, &none), None);
    }

    #[test]
    fn a_file_is_put_in_place_whole() {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), "a", b"one").unwrap();
        put(folder.path(), "a", b"two").unwrap();
        assert_eq!(std::fs::read(folder.path().join("a.wasm")).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(put(&folder.path().join("none"), "a", b"").is_err());
    }
}
