//! The host functions of one request, as calls of the host's own state. What guards a
//! component is left out: grants, the count of calls, the refusal of writes in a
//! self-test. What no measured request reaches answers the error that `wit/` has for a
//! service without the right, or says that there is nothing.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use lockgate::directory::Reach;
use lockgate::inquiry::Question;
use lockgate::keys::Usage;
use lockgate::reissue::Lives;
use lockgate::store::{self, Budget, Budgeted, Store};
use lockgate_sdk::Host;
use lockgate_sdk::host::Revocation;
use lockgate_sdk::wit::{
    breakers, events, fallback, jwt, peers, redis, revocations, sockets, users,
};

use crate::backend::Scope;
use crate::convert;

/// What plugins call the host by, for one request.
pub(crate) struct Call {
    scope: Arc<Scope>,
    budget: Budget,
    request_id: String,
}

type Stored<T> = Result<T, redis::Error>;

impl Call {
    /// One for each request.
    pub(crate) fn new(scope: Arc<Scope>, request_id: &str) -> Self {
        let budget = Budget::new(scope.state.request_budget());
        Self {
            scope,
            budget,
            request_id: request_id.to_owned(),
        }
    }

    fn store(&self) -> Budgeted<'_> {
        self.budget.guard(self.scope.state.store())
    }

    fn stored<T>(&self, command: impl Future<Output = store::Result<T>>) -> Stored<T> {
        wait(command).map_err(convert::store_error)
    }
}

/// The outcome of a host function. Most of them have it at once; one that waits, for
/// Redis or the disk, holds this thread, and the runtime goes on with another.
fn wait<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    match future.as_mut().poll(&mut context) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => {
            let runtime = tokio::runtime::Handle::current();
            tokio::task::block_in_place(|| runtime.block_on(future))
        }
    }
}

impl Host for Call {
    fn now(&self) -> u64 {
        self.scope.state.clock().now()
    }

    fn uptime(&self) -> Duration {
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed()
    }

    fn setting(&self, name: &str) -> Option<String> {
        let mut settings = self.scope.service.env.iter();
        let (_, value) = settings.find(|(known, _)| known == name)?;
        Some(value.clone()).filter(|value| !value.is_empty())
    }

    fn random(&self, bytes: &mut [u8]) -> bool {
        getrandom::fill(bytes).is_ok()
    }

    fn log(&self, line: &str) {
        tracing::info!(service = self.scope.service.name, line, "plugin");
    }

    fn jwt_verify(&self, token: &str, usage: jwt::Usage) -> Result<jwt::Claims, jwt::Error> {
        let usage = match usage {
            jwt::Usage::Access => Usage::Access,
            jwt::Usage::StrictAccess => Usage::StrictAccess,
            jwt::Usage::Refresh => Usage::Refresh,
        };
        let verified = self.scope.state.keys().verify(token, usage, self.now());
        verified.map(convert::claims).map_err(convert::rejection)
    }

    fn jwt_reissue(&self, token: &str) -> Result<jwt::Tokens, jwt::ReissueError> {
        let grants = &self.scope.service.grants;
        let lives = Lives {
            access: grants.access_life.as_secs(),
            refresh: grants.refresh_life.as_secs(),
        };
        let store = self.store();
        let state = &self.scope.state;
        let reissued = wait(state.reissue(token, lives, &store, &self.request_id));
        reissued.map(convert::tokens).map_err(convert::refusal)
    }

    fn jwt_ready(&self) -> bool {
        self.scope.state.keys().ready()
    }

    fn revocation_check(&self, subject: &revocations::Subject) -> revocations::Verdict {
        let (subject, store) = (convert::subject(subject), self.store());
        let verdict = wait(self.scope.state.revocations().check(&subject, &store));
        revocations::Verdict {
            revoked: verdict.revoked,
            asked: verdict.asked,
        }
    }

    fn revoke_token(&self, _sha256: &str, _expires_at: Option<u64>) -> Revocation {
        Err(revocations::Error::Denied)
    }

    fn revoke_session(&self, _user_id: u32, _session_id: &str) -> Revocation {
        Err(revocations::Error::Denied)
    }

    fn revoke_user(&self, _user_id: u32, _cut_off: u64) -> Revocation {
        Err(revocations::Error::Denied)
    }

    fn user_lookup(&self, user_id: u32, token: &str, quiet: bool) -> users::Answer {
        let reach = if self.scope.service.grants.database {
            Reach::Table { quiet }
        } else if quiet {
            Reach::Cache
        } else {
            Reach::Normalizer(Question {
                token,
                request_id: &self.request_id,
            })
        };
        let (directory, store) = (self.scope.state.directory(), self.store());
        convert::user(wait(directory.lookup(&store, user_id, reach)))
    }

    fn redis_get(&self, key: &str) -> Stored<Option<Vec<u8>>> {
        self.stored(self.store().get(key))
    }

    fn redis_get_many(&self, keys: &[String]) -> Stored<Vec<Option<Vec<u8>>>> {
        self.stored(self.store().get_many(keys))
    }

    fn redis_take(&self, key: &str) -> Stored<Option<Vec<u8>>> {
        self.stored(self.store().take(key))
    }

    fn redis_set(
        &self,
        key: &str,
        value: &[u8],
        ttl: u32,
        condition: redis::Condition,
    ) -> Stored<bool> {
        let condition = match condition {
            redis::Condition::Always => store::Condition::Always,
            redis::Condition::IfAbsent => store::Condition::IfAbsent,
        };
        self.stored(self.store().set(key, value, ttl.max(1), condition))
    }

    fn redis_compare_and_set(
        &self,
        key: &str,
        expected: &[u8],
        value: &[u8],
        ttl: u32,
    ) -> Stored<bool> {
        let store = self.store();
        self.stored(store.compare_and_set(key, expected, value, ttl.max(1)))
    }

    fn redis_delete(&self, keys: &[String]) -> Stored<u32> {
        self.stored(self.store().delete(keys))
    }

    fn redis_expire(&self, key: &str, ttl: u32) -> Stored<bool> {
        self.stored(self.store().expire(key, ttl.max(1)))
    }

    fn redis_increment(&self, key: &str, by: i64, ttl: u32) -> Stored<i64> {
        self.stored(self.store().increment(key, by, ttl.max(1)))
    }

    fn redis_set_add(&self, key: &str, member: &str, ttl: u32) -> Stored<bool> {
        self.stored(self.store().set_add(key, member, ttl.max(1)))
    }

    fn redis_set_remove(&self, key: &str, member: &str) -> Stored<bool> {
        self.stored(self.store().set_remove(key, member))
    }

    fn redis_set_contains(&self, key: &str, member: &str) -> Stored<bool> {
        self.stored(self.store().set_contains(key, member))
    }

    fn redis_set_members(&self, key: &str) -> Stored<Vec<String>> {
        self.stored(self.store().set_members(key))
    }

    fn fallback_create(
        &self,
        _draft: &fallback::Draft,
    ) -> Result<fallback::Created, fallback::Error> {
        Err(fallback::Error::Denied)
    }

    fn fallback_copy(&self, draft: &fallback::Draft) -> Result<(), fallback::Error> {
        let state = &self.scope.state;
        let copied = state
            .emergency()
            .copy(convert::draft(draft), state.shared_store());
        copied.map_err(|_| fallback::Error::Invalid)
    }

    fn fallback_find(&self, _user_id: u32) -> Result<Option<fallback::Session>, fallback::Error> {
        Err(fallback::Error::Denied)
    }

    fn fallback_find_by_token(
        &self,
        _token: &str,
    ) -> Result<Option<fallback::Session>, fallback::Error> {
        Err(fallback::Error::Denied)
    }

    fn fallback_update(
        &self,
        _user_id: u32,
        _session_data: &str,
        _token_format: &str,
    ) -> Result<bool, fallback::Error> {
        Err(fallback::Error::Denied)
    }

    fn fallback_remove(
        &self,
        _user_id: u32,
        _session_id: Option<&str>,
    ) -> Result<bool, fallback::Error> {
        Err(fallback::Error::Denied)
    }

    fn fallback_report(&self) -> fallback::Statistics {
        let report = self.scope.state.emergency().report();
        let counts = report.counts.into_iter();
        fallback::Statistics {
            active: report.active,
            expired_pending_cleanup: report.expired,
            pending_resync: report.pending,
            max_sessions: 0,
            session_ttl: 0,
            storage_location: self.scope.state.storage_location(),
            persistent: report.persistent,
            counts: counts.map(|(name, n)| (name.to_owned(), n)).collect(),
        }
    }

    fn csrf_issue(&self) -> Option<String> {
        let keys = self.scope.state.keys();
        let csrf = self.scope.state.csrf();
        csrf.issue(|message| keys.authenticate(message), self.now())
    }

    fn csrf_check(&self, header: &str, cookies: &[String]) -> bool {
        self.scope.state.csrf().check(header, cookies, self.now())
    }

    fn limiter_take(&self, bucket: &str, key: &str, per_minute: u32) -> Result<(), u32> {
        let limiter = self.scope.state.limiter();
        limiter.take(&self.scope.service.name, bucket, key, per_minute)
    }

    fn counter_add(&self, name: &str, by: u64) {
        let counters = self.scope.state.counters();
        counters.add(&self.scope.service.name, name, by);
    }

    fn counters(&self) -> Vec<(String, u64)> {
        self.scope.state.counters().read(&self.scope.service.name)
    }

    fn breakers(&self) -> Vec<breakers::Breaker> {
        Vec::new()
    }

    fn peers(&self) -> Vec<peers::Peer> {
        Vec::new()
    }

    fn peer_probes(&self) -> u64 {
        self.scope.state.peers().probes()
    }

    fn dependency(&self, name: &str) -> peers::Reachability {
        convert::reachability(self.scope.state.dependency(name))
    }

    fn socket_connections(
        &self,
        _user_id: Option<u32>,
    ) -> Result<Vec<sockets::Connection>, sockets::Error> {
        Err(sockets::Error::Denied)
    }

    fn sockets_active(&self) -> u32 {
        0
    }

    fn sockets_close(
        &self,
        _user_id: u32,
        _session_id: Option<&str>,
        _code: u16,
        _reason: &str,
    ) -> Result<u32, sockets::Error> {
        Err(sockets::Error::Denied)
    }

    fn event_publish(&self, _event: &events::Event) -> Result<events::Published, events::Error> {
        Err(events::Error::Denied)
    }
}
