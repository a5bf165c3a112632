//! What an operator does to a slot by hand: go back to an earlier revision, keep one
//! whatever lies in the folder. Each is on the disk before it is answered.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Loaded, Slot};
use crate::revision::LoadError;

/// Fewest characters of a digest that name a revision.
pub(super) const SHORTEST: usize = 8;

const ASKED: &str = "an operator asked for it";

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ByHand {
    /// No component was ever loaded.
    #[error("no component serves")]
    Empty,
    /// There is no revision to go back to.
    #[error("there is no earlier revision to go back to")]
    NoPrevious,
    /// The service is pinned.
    #[error("the service is pinned: unpin it first")]
    Pinned,
    /// No kept revision, or more than one, has a digest that begins so.
    #[error("no single kept revision has a digest that begins with these characters")]
    Unknown,
    /// The kept revision does not load any more.
    #[error("the kept revision does not load: {0}")]
    Load(#[from] LoadError),
}

impl Slot {
    /// Goes back to the kept revision whose digest begins with `digest`, or to the one
    /// before the one that serves. The digest that served until now then counts as
    /// failed: its file is not loaded again by itself.
    ///
    /// # Errors
    /// [`ByHand`]: nothing has changed.
    pub async fn roll_back_to(&self, digest: Option<&str>) -> Result<(), ByHand> {
        let _one_at_a_time = self.loading.lock().await;
        if self.shelf.pinned().is_some() {
            return Err(ByHand::Pinned);
        }
        let serving = self.current.load_full().ok_or(ByHand::Empty)?;
        let wanted = match digest {
            Some(start) => self.kept(start)?,
            None => match self.before(&serving) {
                Some(digest) => digest,
                None => return Err(ByHand::NoPrevious),
            },
        };
        if wanted == serving.revision().digest() {
            return Ok(());
        }
        if !(self.is_previous(&wanted) && self.roll_back(&serving, ASKED)) {
            let old = self.go_to(&wanted).await?;
            self.blame(old.as_deref());
        }
        self.shelf.choose(&wanted);
        self.save().await;
        Ok(())
    }

    /// Keeps the serving revision, or goes to the kept one whose digest begins with
    /// `digest` and keeps that: until [`Slot::unpin`] no file in the folder and no failed
    /// trial replaces it, over a restart too.
    ///
    /// # Errors
    /// [`ByHand`]: nothing has changed.
    pub async fn pin(&self, digest: Option<&str>) -> Result<(), ByHand> {
        let _one_at_a_time = self.loading.lock().await;
        let serving = self.current.load_full().ok_or(ByHand::Empty)?;
        let wanted = match digest {
            Some(start) if !serving.revision().digest().starts_with(start) => self.kept(start)?,
            _ => serving.revision().digest().to_owned(),
        };
        if wanted != serving.revision().digest() {
            self.go_to(&wanted).await?;
        } else if let Some(keeping) = self.keep(&serving) {
            let _ = keeping.await;
        }
        self.shelf.choose(&wanted);
        self.shelf.pin(Some(wanted));
        self.save().await;
        Ok(())
    }

    /// Takes [`Slot::pin`] back; the file in the folder is tried again.
    pub async fn unpin(&self) {
        let _one_at_a_time = self.loading.lock().await;
        self.shelf.pin(None);
        self.save().await;
        self.look_again.store(true, Ordering::Release);
    }

    /// True once after [`Slot::unpin`]: the file in the folder is to be tried although
    /// it was tried before.
    pub fn wants_another_look(&self) -> bool {
        self.look_again.swap(false, Ordering::Acquire)
    }

    async fn go_to(&self, digest: &str) -> Result<Option<Arc<Loaded>>, ByHand> {
        let (shelf, wanted) = (self.shelf.clone(), digest.to_owned());
        let read = tokio::task::spawn_blocking(move || shelf.read(&wanted)).await;
        let file = read.ok().flatten().ok_or(ByHand::Unknown)?;
        let new = self.prepare_kept(file).await?;
        Ok(self.replace(new))
    }

    fn blame(&self, old: Option<&Loaded>) {
        let Some(old) = old else { return };
        let digest = old.revision().digest();
        self.shelf.note_failed(digest, ASKED);
        let message = format!("revision {} was rolled back: {ASKED}", old.number);
        self.note_failure(Some(digest), &message);
    }

    /// The digest to go back to from the revision that serves.
    fn before(&self, serving: &Loaded) -> Option<String> {
        if let Some(previous) = self.previous.load_full() {
            return Some(previous.revision().digest().to_owned());
        }
        let serving = serving.revision().digest();
        let usable = |digest: &String| digest != serving && self.shelf.why_failed(digest).is_none();
        self.shelf.kept().into_iter().find(usable)
    }

    fn is_previous(&self, digest: &str) -> bool {
        let previous = self.previous.load_full();
        previous.is_some_and(|previous| previous.revision().digest() == digest)
    }

    /// The one kept or earlier revision whose digest begins so.
    fn kept(&self, start: &str) -> Result<String, ByHand> {
        let mut known = self.shelf.kept();
        let loaded = [self.current.load_full(), self.previous.load_full()];
        known.extend(
            loaded
                .into_iter()
                .flatten()
                .map(|loaded| loaded.revision().digest().to_owned()),
        );
        known.sort_unstable();
        known.dedup();
        known.retain(|digest| start.len() >= SHORTEST && digest.starts_with(start));
        match known.pop() {
            Some(only) if known.is_empty() => Ok(only),
            _ => Err(ByHand::Unknown),
        }
    }

    pub(super) async fn save(&self) {
        let shelf = self.shelf.clone();
        let _ = tokio::task::spawn_blocking(move || shelf.save()).await;
    }
}
