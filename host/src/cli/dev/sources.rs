//! When a plugin's sources change: file events, without those of what a build itself makes.

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::Context;
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

/// Editors save in several steps.
const SETTLE: Duration = Duration::from_millis(150);

/// What builds make, besides what is hidden.
const MADE: [&str; 7] = [
    "target",
    "dist",
    "node_modules",
    "bindings",
    "__pycache__",
    "Cargo.lock",
    "package-lock.json",
];

/// A watched folder.
pub(super) struct Sources {
    events: Receiver<()>,
    _watcher: RecommendedWatcher,
}

/// Watches a plugin's folder.
///
/// # Errors
/// The system gives no events for it.
pub(super) fn watch(dir: &Path) -> anyhow::Result<Sources> {
    let dir = dir.canonicalize()?;
    let root = dir.clone();
    let (sender, events) = channel();
    let told = move |event: notify::Result<Event>| {
        if event.is_ok_and(|event| is_of_a_source(&root, &event)) {
            // Nobody listens any more when the process ends.
            let _ = sender.send(());
        }
    };
    let mut watcher = notify::recommended_watcher(told).context("no file events here")?;
    let watched = |error| anyhow::anyhow!("cannot watch {}: {error}", dir.display());
    watcher
        .watch(&dir, RecursiveMode::NonRecursive)
        .map_err(watched)?;
    // Not the whole tree at once: what builds make may have very many folders.
    for entry in std::fs::read_dir(&dir)?.flatten() {
        let path = entry.path();
        if path.is_dir() && !is_made(&path) {
            watcher
                .watch(&path, RecursiveMode::Recursive)
                .map_err(watched)?;
        }
    }
    Ok(Sources {
        events,
        _watcher: watcher,
    })
}

impl Sources {
    /// Waits for a change, and until there are no more of them for a moment.
    ///
    /// # Errors
    /// No events can come any more.
    pub(super) fn changed(&self) -> anyhow::Result<()> {
        self.events.recv().context("no more file events")?;
        loop {
            match self.events.recv_timeout(SETTLE) {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn is_of_a_source(root: &Path, event: &Event) -> bool {
    let changes = matches!(
        event.kind,
        EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_)
    );
    let source = |path: &Path| {
        let below = path.strip_prefix(root).unwrap_or(path);
        below != Path::new("") && !below.iter().any(|part| is_made(Path::new(part)))
    };
    changes && event.paths.iter().any(|path| source(path))
}

fn is_made(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with('.') || name.ends_with('~') || MADE.contains(&&*name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_build_makes_is_no_source() {
        let root = Path::new("/home/.x/greeter");
        let kind = EventKind::Modify(notify::event::ModifyKind::Any);
        let told = |path: &str| is_of_a_source(root, &Event::new(kind).add_path(root.join(path)));
        for source in ["src/lib.rs", "build.sh", "Cargo.toml", "wit/plugin.wit"] {
            assert!(told(source), "{source}");
        }
        for made in [
            "",
            "target/release/x",
            "dist/greeter.wasm",
            "node_modules/a/b.js",
            ".git/index",
            "src/.lib.rs.swp",
            "src/lib.rs~",
            "Cargo.lock",
        ] {
            assert!(!told(made), "{made}");
        }
        let read = EventKind::Access(notify::event::AccessKind::Read);
        let event = Event::new(read).add_path(root.join("src/lib.rs"));
        assert!(!is_of_a_source(root, &event));
    }

    #[test]
    fn a_save_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("src")).unwrap();
        let sources = watch(folder.path()).unwrap();
        std::fs::write(folder.path().join("src/lib.rs"), "x").unwrap();
        sources.changed().unwrap();
    }
}
