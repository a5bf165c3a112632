//! The plugin folder: notices when `<service>.wasm`, or the signature beside it, has
//! other contents and brings them to the service's slot. Events make it quick, polling makes it sure: events do
//! not cross every container mount. It judges no content and never waits for a file.

mod read;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecursiveMode, Watcher as _};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::config::Reload;
use crate::revision::{self, Artifact};
use crate::slot::Slot;
use read::{Contents, Stamp};

/// Loads what lies in the folder now, all services at once, and waits for it. Where a
/// file is missing or does not load, that is reported and the last good revision of an
/// earlier process serves, if one was kept.
pub async fn first_load(folder: &Path, slots: &[Arc<Slot>]) -> Vec<Place> {
    let mut loading = tokio::task::JoinSet::new();
    for (index, slot) in slots.iter().enumerate() {
        let mut place = Place::new(folder, slot.clone());
        loading.spawn(async move {
            place.load_now().await;
            if !place.slot.is_ready() {
                place.slot.load_last_good().await;
            }
            (index, place)
        });
    }
    let mut places = loading.join_all().await;
    places.sort_by_key(|(index, _)| *index);
    places.into_iter().map(|(_, place)| place).collect()
}

/// Watches until `stop`.
pub async fn run(folder: PathBuf, mut places: Vec<Place>, reload: Reload, stop: CancellationToken) {
    let changed = Arc::new(Notify::new());
    let mut events = None;
    loop {
        if events.is_none() {
            events = watcher(&folder, &changed);
        }
        // The folder itself may have been replaced: then the events are of the old one.
        if !folder.is_dir() {
            events = None;
        }
        let mut unsettled = false;
        for place in &mut places {
            unsettled |= place.look(reload.settle).await;
        }
        let pause = if unsettled {
            reload.settle
        } else {
            reload.poll
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause.max(Duration::from_millis(10))) => {}
            () = changed.notified(), if !unsettled => {}
        }
    }
}

/// Reading a file is an event too: our own reading must not call for more of it.
fn may_be_new(event: &notify::Result<Event>) -> bool {
    match event {
        Ok(event) => match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
            EventKind::Access(_) => false,
            _ => true,
        },
        Err(_) => true,
    }
}

fn watcher(folder: &Path, changed: &Arc<Notify>) -> Option<notify::RecommendedWatcher> {
    let changed = changed.clone();
    let made = notify::recommended_watcher(move |event| {
        if may_be_new(&event) {
            changed.notify_one();
        }
    });
    let watching = made.and_then(|mut watcher| {
        watcher.watch(folder, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    watching
        .inspect_err(|error| tracing::debug!(%error, "no file events: polling only"))
        .ok()
}

/// Of the component, and of its signature if there is one.
type Stamps = (Stamp, Option<Stamp>);

/// Digest of a component, and the signature that lay beside it.
type Tried = (String, Option<Bytes>);

/// What is known of one service's file.
pub struct Place {
    path: PathBuf,
    /// Where its signature lies, if there must be one.
    signature: Option<PathBuf>,
    slot: Arc<Slot>,
    /// How the file and its signature looked last, and since when.
    seen: Option<(Stamps, Instant)>,
    /// What was brought to the slot last.
    tried: Option<Tried>,
    /// The last trouble with the file itself, so that it is reported once.
    trouble: Option<String>,
}

impl Place {
    fn new(folder: &Path, slot: Arc<Slot>) -> Place {
        let path = folder.join(format!("{}.wasm", slot.service().name));
        let signature = path.with_added_extension("sig");
        Place {
            path,
            signature: slot.wants_signatures().then_some(signature),
            slot,
            seen: None,
            tried: None,
            trouble: None,
        }
    }

    /// Looks at the file; true if it changed so lately that it must be looked at again.
    async fn look(&mut self, settle: Duration) -> bool {
        let stamps = match self.stamps().await {
            Ok(stamps) => stamps,
            Err(problem) => {
                self.seen = None;
                self.report(&problem);
                return false;
            }
        };
        let now = Instant::now();
        match &self.seen {
            Some((seen, since)) if *seen == stamps => {
                if now.duration_since(*since) < settle {
                    return true;
                }
            }
            _ => {
                self.seen = Some((stamps, now));
                return true;
            }
        }
        if self.slot.wants_another_look() {
            self.tried = None;
        }
        self.load_now().await;
        false
    }

    async fn stamps(&self) -> Result<Stamps, String> {
        let component = read::stamp(&self.path).await?;
        let signature = match &self.signature {
            Some(path) => read::stamp(path).await.ok(),
            None => None,
        };
        Ok((component, signature))
    }

    /// Reads the files; new contents go to the slot.
    async fn load_now(&mut self) {
        let file = match self.read().await {
            Ok(Some(file)) => file,
            // Somebody is writing: the next look finds another stamp.
            Ok(None) => return,
            Err(problem) => return self.report(&problem),
        };
        let was_in_trouble = self.trouble.take().is_some();
        let digest = revision::digest(&file.component);
        let serving = self.slot.revision();
        let unchanged = serving
            .as_ref()
            .is_some_and(|revision| revision.digest() == digest);
        let now: Tried = (digest.clone(), file.signature.clone());
        if self.tried.as_ref() == Some(&now) && (unchanged || !was_in_trouble) {
            if was_in_trouble {
                self.slot.note_unchanged();
            }
            return;
        }
        self.tried = Some(now);
        let outcome = if unchanged {
            // It serves already, but its signature may be another one.
            let checked = self.slot.check_signature(&digest, &file);
            checked
                .map(|_| self.slot.note_unchanged())
                .map_err(Into::into)
        } else {
            self.slot.load(file).await
        };
        if let Err(error) = outcome {
            self.slot.note_failure(Some(&digest), &error.to_string());
        }
    }

    /// The component and its signature; none while somebody writes one of them.
    async fn read(&self) -> Result<Option<Artifact>, String> {
        let Contents::Whole(component) = read::contents(&self.path).await? else {
            return Ok(None);
        };
        let signature = match &self.signature {
            None => None,
            // One that cannot be read is none: the slot says so.
            Some(path) => match read::contents(path).await {
                Ok(Contents::Whole(signature)) => Some(signature),
                Ok(Contents::Changing) => return Ok(None),
                Err(_) => None,
            },
        };
        Ok(Some(Artifact {
            component,
            signature,
        }))
    }

    fn report(&mut self, problem: &str) {
        if self.trouble.as_deref() != Some(problem) {
            self.trouble = Some(problem.to_owned());
            self.slot.note_failure(None, problem);
        }
    }
}

#[cfg(test)]
mod tests {
    use notify::event::{CreateKind, ModifyKind, RenameMode};

    use super::*;

    #[test]
    fn reading_is_no_reason_to_read_again() {
        let may = |kind| may_be_new(&Ok(Event::new(kind)));
        assert!(!may(EventKind::Access(AccessKind::Open(AccessMode::Any))));
        assert!(!may(EventKind::Access(AccessKind::Close(AccessMode::Read))));
        assert!(may(EventKind::Access(AccessKind::Close(AccessMode::Write))));
        assert!(may(EventKind::Create(CreateKind::File)));
        assert!(may(EventKind::Modify(ModifyKind::Name(RenameMode::To))));
    }
}
