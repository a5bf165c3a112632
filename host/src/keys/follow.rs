//! Follows the chosen file of the secret while the host runs. Events make it quick,
//! polling makes it sure: events do not cross every mount, and a file may be replaced
//! by a rename or by another symlink. It must not show what is in the file.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use notify::event::ModifyKind;
use notify::{Event, EventKind, RecursiveMode, Watcher as _};
use secrecy::{ExposeSecret, SecretSlice};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{Keys, source};
use crate::clock::Clock;

/// The file is compared with the loaded key this often even without an event.
const POLL: Duration = Duration::from_secs(1);
/// What is read must be the same after this time: somebody may still be writing.
const SETTLE: Duration = Duration::from_millis(100);

/// What was found in the file.
type Found = Result<SecretSlice<u8>, &'static str>;

impl Keys {
    /// Takes every new key until `stop`. A file that becomes unusable changes nothing
    /// and is reported once. Returns at once if the secret comes from no file.
    pub async fn follow(&self, clock: Clock, stop: CancellationToken) {
        let Some(path) = self.source.as_ref().and_then(source::Source::path) else {
            return;
        };
        let changed = Arc::new(Notify::new());
        let _watcher = watch(path, &changed);
        let mut fault = None;
        loop {
            let mut pause = SETTLE;
            if let Some(found) = settled(path).await {
                self.take(path, found, &mut fault, clock.now());
                pause = POLL;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                () = changed.notified() => {}
            }
        }
    }

    /// Judges what was found; `fault` is what was reported last.
    pub(super) fn take(
        &self,
        path: &Path,
        found: Found,
        fault: &mut Option<&'static str>,
        now: u64,
    ) {
        let path = path.display();
        match found {
            Ok(secret) => {
                if fault.take().is_some() {
                    tracing::info!(%path, "the JWT secret's file can be used again");
                }
                if self.replace(secret, now) {
                    let overlap_seconds = self.overlap;
                    tracing::info!(%path, overlap_seconds, "the JWT secret has changed");
                    metrics::counter!("lockgate_key_changes_total").increment(1);
                }
            }
            Err(problem) if *fault != Some(problem) => {
                tracing::error!(
                    %path, fault = problem,
                    "the JWT secret's file cannot be used; the loaded secret stays"
                );
                metrics::counter!("lockgate_key_faults_total").increment(1);
                *fault = Some(problem);
            }
            Err(_) => {}
        }
        let usable = if fault.is_none() { 1.0 } else { 0.0 };
        metrics::gauge!("lockgate_key_file_usable").set(usable);
    }
}

/// The content, if it stays the same for a moment; none while it changes.
async fn settled(path: &Path) -> Option<Found> {
    let first = look(path).await?;
    tokio::time::sleep(SETTLE).await;
    let second = look(path).await?;
    let same = match (&first, &second) {
        (Ok(first), Ok(second)) => first.expose_secret() == second.expose_secret(),
        (Err(first), Err(second)) => first == second,
        _ => false,
    };
    same.then_some(second)
}

/// Off the I/O threads: the file may lie on a slow mount.
async fn look(path: &Path) -> Option<Found> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || source::read(&path))
        .await
        .ok()
}

/// Watches the folder, because a file that is replaced takes its watch with it.
fn watch(path: &Path, changed: &Arc<Notify>) -> Option<notify::RecommendedWatcher> {
    let changed = Arc::clone(changed);
    let name = path.file_name().map(ToOwned::to_owned);
    let made = notify::recommended_watcher(move |event: notify::Result<Event>| {
        if event.is_ok_and(|event| concerns(&event, name.as_deref())) {
            changed.notify_one();
        }
    });
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let watching = made.and_then(|mut watcher| {
        watcher.watch(
            folder.unwrap_or(Path::new(".")),
            RecursiveMode::NonRecursive,
        )?;
        Ok(watcher)
    });
    watching
        .inspect_err(
            |error| tracing::debug!(%error, "no events of the secret's file: polling only"),
        )
        .ok()
}

/// False for our own reading, and for what is written into other files of the folder.
/// Under another name a symlink on the way may be replaced.
fn concerns(event: &Event, name: Option<&OsStr>) -> bool {
    match event.kind {
        EventKind::Access(_) => false,
        EventKind::Modify(ModifyKind::Data(_)) => {
            event.paths.iter().any(|path| path.file_name() == name)
        }
        _ => true,
    }
}
