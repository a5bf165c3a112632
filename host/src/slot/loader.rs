//! From a file's bytes to a pool of instances that may serve: the steps of a swap that
//! change nothing yet. Shared by all slots; it knows none of them.

use std::sync::Arc;

use bytes::Bytes;

use crate::config::{self, ServiceConfig};
use crate::engine::Engine;
use crate::imports::Scope;
use crate::instance::{self, patient_meter};
use crate::lane::{self, Share};
use crate::pool::Pool;
use crate::revision::{Artifact, Cache, LoadError, Revision};
use crate::signature::{PublicKey, Unsigned};

/// What turns bytes into revisions; shared by all slots.
pub struct Loader {
    engine: Arc<Engine>,
    cache: Option<Cache>,
    compiling: tokio::sync::Semaphore,
    settings: Settings,
    public_key: Option<PublicKey>,
}

/// How new revisions are watched.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The trial of a new revision.
    pub probation: config::Probation,
    /// The rest of one whose calls run past their time.
    pub quarantine: config::Quarantine,
}

impl Loader {
    /// Without a cache every start compiles everything; without a public key files
    /// need no signature.
    pub fn new(
        engine: Arc<Engine>,
        cache: Option<Cache>,
        settings: Settings,
        public_key: Option<PublicKey>,
    ) -> Loader {
        Loader {
            engine,
            cache,
            compiling: tokio::sync::Semaphore::new(2),
            settings,
            public_key,
        }
    }

    /// Where instances live and calls run.
    pub(super) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// How new revisions are watched.
    pub(super) fn settings(&self) -> Settings {
        self.settings
    }

    /// What signatures are checked with, if files must have one.
    pub(super) fn public_key(&self) -> Option<&PublicKey> {
        self.public_key.as_ref()
    }

    /// Checks that a file is signed for the service, where it must be; gives its
    /// sequence number.
    ///
    /// # Errors
    /// [`Unsigned`]: it is not.
    pub(super) fn check_signature(
        &self,
        service: &ServiceConfig,
        digest: &str,
        file: &Artifact,
    ) -> Result<Option<u64>, Unsigned> {
        let check = |key: &PublicKey| key.check(&service.name, digest, file.signature.as_deref());
        self.public_key.as_ref().map(check).transpose()
    }

    /// From a file to a revision that passed its self-test and has instances ready.
    pub(super) async fn prepare(
        self: &Arc<Self>,
        service: &Arc<ServiceConfig>,
        scope: &Arc<Scope>,
        lane: &Share,
        component: Bytes,
        running: Option<Arc<Revision>>,
    ) -> Result<Arc<Pool>, LoadError> {
        let gone = || LoadError::Start("the compiler gave up or the host is stopping".to_owned());
        let permit = self.compiling.acquire().await.map_err(|_| gone())?;
        let (loader, service) = (self.clone(), service.clone());
        let loading = lane::compute(move || {
            let (engine, cache) = (&loader.engine, loader.cache.as_ref());
            Revision::load(engine, service, &component, cache, running.as_deref())
        });
        let revision = Arc::new(loading.await.ok_or_else(gone)??);
        drop(permit);
        self.self_test(&revision, scope, lane).await?;
        let engine = self.engine.clone();
        let pool = Pool::new(engine, revision, scope.clone(), lane.clone());
        let warming = pool.clone();
        let meter = patient_meter(pool.revision());
        let warm = lane
            .run(meter, async move { warming.warm_up().await })
            .await;
        warm.unwrap_or(Ok(()))
            .map_err(|fault| LoadError::Start(fault.to_string()))?;
        Ok(pool)
    }

    async fn self_test(
        &self,
        revision: &Arc<Revision>,
        scope: &Arc<Scope>,
        lane: &Share,
    ) -> Result<(), LoadError> {
        let meter = patient_meter(revision);
        let (engine, revision, scope) = (self.engine.clone(), revision.clone(), scope.clone());
        let on_lane = meter.clone();
        let call = async move { instance::self_test(&engine, revision, scope, meter).await };
        match lane.run(on_lane, call).await {
            Some(Ok(findings)) if findings.is_empty() => Ok(()),
            Some(Ok(findings)) => Err(LoadError::SelfTest(shown(&findings))),
            Some(Err(fault)) => Err(LoadError::Start(format!("in its self-test {fault}"))),
            None => Err(LoadError::Start("the host is stopping".to_owned())),
        }
    }
}

fn shown(findings: &[String]) -> String {
    let all = findings
        .iter()
        .take(5)
        .map(|f| f.chars().take(200).collect::<String>());
    all.collect::<Vec<_>>()
        .join("; ")
        .replace(|c: char| c.is_control(), " ")
}
