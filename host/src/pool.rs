//! The instances of one revision that wait for a request. An instance that served
//! long enough is replaced in the background; one that failed is never put back.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::engine::Engine;
use crate::imports::Scope;
use crate::instance::{Fault, Instance, patient_meter};
use crate::lane::Share;
use crate::revision::Revision;
use crate::sandbox::Meter;

/// Instances of one revision.
pub struct Pool {
    engine: Arc<Engine>,
    revision: Arc<Revision>,
    scope: Arc<Scope>,
    lane: Share,
    idle: Mutex<Vec<Instance>>,
    /// Idle and busy ones.
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
        Arc::new(Pool {
            engine,
            revision,
            scope,
            lane,
            idle: Mutex::new(Vec::new()),
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
        while self.wants_more() {
            let instance = self.start(patient_meter(&self.revision)).await?;
            self.put(instance);
        }
        Ok(())
    }

    /// An idle instance, or a fresh one.
    ///
    /// # Errors
    /// The fault of an instance that does not start.
    pub async fn take(&self, meter: Arc<Meter>) -> Result<Instance, Fault> {
        let idle = self.idle().pop();
        match idle {
            Some(instance) => Ok(instance),
            None => self.start(meter).await,
        }
    }

    /// A fresh instance, whatever is idle.
    ///
    /// # Errors
    /// The fault of an instance that does not start.
    pub async fn start(&self, meter: Arc<Meter>) -> Result<Instance, Fault> {
        let (engine, revision) = (&self.engine, self.revision.clone());
        let instance = Instance::start(engine, revision, self.scope.clone(), meter).await?;
        self.alive.fetch_add(1, Ordering::Relaxed);
        Ok(instance)
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
        drop(instance);
        self.alive.fetch_sub(1, Ordering::Relaxed);
        self.refill();
    }

    /// Starts one instance in the background if too few are there.
    fn refill(self: &Arc<Self>) {
        if !self.wants_more() {
            return;
        }
        let pool = self.clone();
        tokio::spawn(async move {
            let meter = patient_meter(&pool.revision);
            let (starting, on_lane) = (pool.clone(), meter.clone());
            let call = async move { starting.start(meter).await };
            match pool.lane.run(on_lane, call).await {
                Some(Ok(instance)) => pool.put(instance),
                Some(Err(fault)) => {
                    tracing::warn!(service = pool.revision.service().name, %fault, "no instance ahead");
                }
                None => {}
            }
        });
    }

    /// Frees the idle instances and keeps none from now on; a call still gets one.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        self.clear();
    }

    /// Takes back [`Pool::retire`]: instances are kept again.
    pub fn revive(self: &Arc<Self>) {
        self.retired.store(false, Ordering::Release);
        self.refill();
    }

    fn clear(&self) {
        let idle = std::mem::take(&mut *self.idle());
        self.alive.fetch_sub(idle.len(), Ordering::Relaxed);
    }

    fn put(&self, instance: Instance) {
        self.idle().push(instance);
        if self.retired.load(Ordering::Acquire) {
            self.clear();
        }
    }

    fn wants_more(&self) -> bool {
        let warm = self.revision.service().limits.warm;
        !self.retired.load(Ordering::Acquire) && self.alive.load(Ordering::Relaxed) < warm
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Instance>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
