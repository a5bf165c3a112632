//! The instances of one revision that wait for a request. An instance that served
//! long enough is replaced in the background; one that failed is never put back.
//!
//! What a processor has used lies in its caches. So each has idle instances of its own,
//! and one that is replaced is so in one go, in the same place of wasmtime's pool.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use crate::engine::Engine;
use crate::imports::Scope;
use crate::instance::{Fault, Instance, patient_meter};
use crate::lane::Share;
use crate::revision::Revision;
use crate::sandbox::Meter;
use crate::tape::Tape;

/// Instances of one revision.
pub struct Pool {
    engine: Arc<Engine>,
    revision: Arc<Revision>,
    scope: Arc<Scope>,
    lane: Share,
    /// One shelf for each processor.
    idle: Box<[Mutex<Vec<Instance>>]>,
    /// Idle, busy and starting ones.
    alive: AtomicUsize,
    retired: AtomicBool,
}

impl Pool {
    /// An empty pool; [`Pool::warm_up`] fills it.
    pub fn new(
        engine: Arc<Engine>,
        revision: Arc<Revision>,
        scope: Arc<Scope>,
        lane: Share,
    ) -> Arc<Pool> {
        let shelves = std::thread::available_parallelism().map_or(1, usize::from);
        Arc::new(Pool {
            engine,
            revision,
            scope,
            lane,
            idle: (0..shelves).map(|_| Mutex::default()).collect(),
            alive: AtomicUsize::new(0),
            retired: AtomicBool::new(false),
        })
    }

    /// The revision that the instances are of.
    pub fn revision(&self) -> &Arc<Revision> {
        &self.revision
    }

    /// Starts instances until `warm` of them are there.
    ///
    /// # Errors
    /// The fault of the first that does not start.
    pub async fn warm_up(&self) -> Result<(), Fault> {
        while self.reserve() {
            match self.begin(patient_meter(&self.revision), None).await {
                Ok(instance) => self.put(instance),
                Err(fault) => {
                    self.alive.fetch_sub(1, Ordering::Relaxed);
                    return Err(fault);
                }
            }
        }
        Ok(())
    }

    /// An idle instance, or a fresh one.
    ///
    /// # Errors
    /// The fault of an instance that does not start.
    pub async fn take(&self, meter: Arc<Meter>) -> Result<Instance, Fault> {
        match self.pop() {
            Some(instance) => Ok(instance),
            None => self.start(meter, None).await,
        }
    }

    /// The idle instance that was used last on this processor, or else any.
    fn pop(&self) -> Option<Instance> {
        let own = self.own();
        let found = lock(self.idle.get(own)?).pop();
        found.or_else(|| {
            let mut others = self.idle.iter().enumerate().filter(|(at, _)| *at != own);
            others.find_map(|(_, shelf)| match shelf.try_lock() {
                Ok(mut shelf) => shelf.pop(),
                Err(TryLockError::Poisoned(shelf)) => shelf.into_inner().pop(),
                Err(TryLockError::WouldBlock) => None,
            })
        })
    }

    /// A fresh instance, whatever is idle, perhaps on a tape.
    ///
    /// # Errors
    /// The fault of an instance that does not start.
    pub async fn start(
        &self,
        meter: Arc<Meter>,
        tape: Option<Arc<Tape>>,
    ) -> Result<Instance, Fault> {
        let instance = self.begin(meter, tape).await?;
        self.alive.fetch_add(1, Ordering::Relaxed);
        Ok(instance)
    }

    async fn begin(&self, meter: Arc<Meter>, tape: Option<Arc<Tape>>) -> Result<Instance, Fault> {
        let (engine, revision) = (&self.engine, self.revision.clone());
        Instance::start(engine, revision, self.scope.clone(), meter, tape).await
    }

    /// Takes an instance back after a call that ended well.
    pub fn give_back(self: &Arc<Self>, instance: Instance) {
        if instance.is_worn() {
            self.discard(instance);
        } else {
            self.put(instance);
        }
    }

    /// Throws an instance away and starts another if too few are left.
    pub fn discard(self: &Arc<Self>, instance: Instance) {
        self.alive.fetch_sub(1, Ordering::Relaxed);
        self.refill(Some(instance));
    }

    /// Starts one instance in the background if too few are there, in the place of `old`.
    /// False: there are enough.
    fn refill(self: &Arc<Self>, old: Option<Instance>) -> bool {
        if !self.reserve() {
            return false;
        }
        let pool = self.clone();
        // It runs when whoever has called is done, most likely on the same processor.
        tokio::spawn(async move {
            drop(old);
            let meter = patient_meter(&pool.revision);
            let (starting, on_lane) = (pool.clone(), meter.clone());
            let call = async move { starting.begin(meter, None).await };
            let begun = pool.lane.run(on_lane, call).await;
            if let Some(Ok(instance)) = begun {
                return pool.put(instance);
            }
            pool.alive.fetch_sub(1, Ordering::Relaxed);
            if let Some(Err(fault)) = begun {
                tracing::warn!(service = pool.revision.service().name, %fault, "no instance ahead");
            }
        });
        true
    }

    /// Frees the idle instances and keeps none from now on; a call still gets one.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        self.clear();
    }

    /// Takes back [`Pool::retire`]: instances are kept again.
    pub fn revive(self: &Arc<Self>) {
        self.retired.store(false, Ordering::Release);
        while self.refill(None) {}
    }

    fn clear(&self) {
        for shelf in &self.idle {
            let idle = std::mem::take(&mut *lock(shelf));
            self.alive.fetch_sub(idle.len(), Ordering::Relaxed);
        }
    }

    fn put(&self, instance: Instance) {
        if let Some(shelf) = self.idle.get(self.own()) {
            lock(shelf).push(instance);
        }
        if self.retired.load(Ordering::Acquire) {
            self.clear();
        }
    }

    /// Counts one more instance if too few are there.
    fn reserve(&self) -> bool {
        let warm = self.revision.service().limits.warm;
        let more = |alive| (alive < warm).then_some(alive + 1);
        let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
        !self.retired.load(Ordering::Acquire) && self.alive.fetch_update(set, fetch, more).is_ok()
    }

    /// The shelf of the processor that this runs on.
    fn own(&self) -> usize {
        // SAFETY: it takes no argument; a system that cannot tell gives -1.
        #[allow(
            unsafe_code,
            reason = "the standard library does not tell the processor"
        )]
        let processor = unsafe { libc::sched_getcpu() };
        usize::try_from(processor).unwrap_or(0) % self.idle.len()
    }
}

fn lock(shelf: &Mutex<Vec<Instance>>) -> MutexGuard<'_, Vec<Instance>> {
    shelf.lock().unwrap_or_else(PoisonError::into_inner)
}
