//! The host as plugins see it: one thin method for each function of `wit/`, and the
//! little of WASI that plugins need. It decides nothing.
//!
//! What each function does, its limits and its errors are documented in `wit/`.

use std::time::Duration;

use crate::wit::{
    breakers, events, fallback, jwt, limiter, peers, redis, revocations, sockets, users,
};

/// What came of a revocation.
pub type Revocation = Result<revocations::Done, revocations::Error>;

/// The functions of the host.
///
/// Use it as a type parameter, never as `dyn Host`: a component must import only what
/// its code can reach.
pub trait Host {
    /// Unix seconds.
    fn now(&self) -> u64;
    /// Time since some fixed moment, for measuring.
    fn uptime(&self) -> Duration;
    /// One setting of the service; an empty one counts as missing.
    fn setting(&self, name: &str) -> Option<String>;
    /// Fills the bytes with random ones, fit for secrets. False: there is no source.
    fn random(&self, bytes: &mut [u8]) -> bool;
    /// One line for the host's log. Never a token.
    fn log(&self, line: &str);

    /// `jwt.verify`
    fn jwt_verify(&self, token: &str, usage: jwt::Usage) -> Result<jwt::Claims, jwt::Error>;
    /// `jwt.reissue`
    fn jwt_reissue(&self, token: &str) -> Result<jwt::Tokens, jwt::ReissueError>;
    /// `jwt.ready`
    fn jwt_ready(&self) -> bool;

    /// `revocations.check`
    fn revocation_check(&self, subject: &revocations::Subject) -> revocations::Verdict;
    /// `revocations.revoke-token`
    fn revoke_token(&self, sha256: &str, expires_at: Option<u64>) -> Revocation;
    /// `revocations.revoke-session`
    fn revoke_session(&self, user_id: u32, session_id: &str) -> Revocation;
    /// `revocations.revoke-user`
    fn revoke_user(&self, user_id: u32, cut_off: u64) -> Revocation;

    /// `users.lookup`
    fn user_lookup(&self, user_id: u32, token: &str, quiet: bool) -> users::Answer;

    /// `redis.get`
    fn redis_get(&self, key: &str) -> Result<Option<Vec<u8>>, redis::Error>;
    /// `redis.get-many`
    fn redis_get_many(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, redis::Error>;
    /// `redis.take`
    fn redis_take(&self, key: &str) -> Result<Option<Vec<u8>>, redis::Error>;
    /// `redis.set`
    fn redis_set(
        &self,
        key: &str,
        value: &[u8],
        ttl: u32,
        condition: redis::Condition,
    ) -> Result<bool, redis::Error>;
    /// `redis.compare-and-set`
    fn redis_compare_and_set(
        &self,
        key: &str,
        expected: &[u8],
        value: &[u8],
        ttl: u32,
    ) -> Result<bool, redis::Error>;
    /// `redis.delete`
    fn redis_delete(&self, keys: &[String]) -> Result<u32, redis::Error>;
    /// `redis.expire`
    fn redis_expire(&self, key: &str, ttl: u32) -> Result<bool, redis::Error>;
    /// `redis.increment`
    fn redis_increment(&self, key: &str, by: i64, ttl: u32) -> Result<i64, redis::Error>;
    /// `redis.set-add`
    fn redis_set_add(&self, key: &str, member: &str, ttl: u32) -> Result<bool, redis::Error>;
    /// `redis.set-remove`
    fn redis_set_remove(&self, key: &str, member: &str) -> Result<bool, redis::Error>;
    /// `redis.set-contains`
    fn redis_set_contains(&self, key: &str, member: &str) -> Result<bool, redis::Error>;
    /// `redis.set-members`
    fn redis_set_members(&self, key: &str) -> Result<Vec<String>, redis::Error>;

    /// `fallback.create`
    fn fallback_create(
        &self,
        draft: &fallback::Draft,
    ) -> Result<fallback::Created, fallback::Error>;
    /// `fallback.copy`
    fn fallback_copy(&self, draft: &fallback::Draft) -> Result<(), fallback::Error>;
    /// `fallback.find`
    fn fallback_find(&self, user_id: u32) -> Result<Option<fallback::Session>, fallback::Error>;
    /// `fallback.find-by-token`
    fn fallback_find_by_token(
        &self,
        token: &str,
    ) -> Result<Option<fallback::Session>, fallback::Error>;
    /// `fallback.update`
    fn fallback_update(
        &self,
        user_id: u32,
        session_data: &str,
        token_format: &str,
    ) -> Result<bool, fallback::Error>;
    /// `fallback.remove`
    fn fallback_remove(
        &self,
        user_id: u32,
        session_id: Option<&str>,
    ) -> Result<bool, fallback::Error>;
    /// `fallback.report`
    fn fallback_report(&self) -> fallback::Statistics;

    /// `csrf.issue`
    fn csrf_issue(&self) -> Option<String>;
    /// `csrf.check`
    fn csrf_check(&self, header: &str, cookies: &[String]) -> bool;

    /// `limiter.take`; the error is the seconds to wait.
    fn limiter_take(&self, bucket: &str, key: &str, per_minute: u32) -> Result<(), u32>;

    /// `counters.add`
    fn counter_add(&self, name: &str, by: u64);
    /// `counters.read`
    fn counters(&self) -> Vec<(String, u64)>;

    /// `breakers.snapshot`
    fn breakers(&self) -> Vec<breakers::Breaker>;

    /// `peers.snapshot`
    fn peers(&self) -> Vec<peers::Peer>;
    /// `peers.probes`
    fn peer_probes(&self) -> u64;
    /// `peers.dependency`
    fn dependency(&self, name: &str) -> peers::Reachability;

    /// `sockets.connections`
    fn socket_connections(
        &self,
        user_id: Option<u32>,
    ) -> Result<Vec<sockets::Connection>, sockets::Error>;
    /// `sockets.active`
    fn sockets_active(&self) -> u32;
    /// `sockets.close`
    fn sockets_close(
        &self,
        user_id: u32,
        session_id: Option<&str>,
        code: u16,
        reason: &str,
    ) -> Result<u32, sockets::Error>;

    /// `events.publish`
    fn event_publish(&self, event: &events::Event) -> Result<events::Published, events::Error>;
}

/// The real host, seen from inside a component. In native builds it can be named but
/// not called.
#[derive(Debug, Clone, Copy)]
pub struct Wasm;

impl Host for Wasm {
    fn now(&self) -> u64 {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(0, |time| time.as_secs())
    }

    fn uptime(&self) -> Duration {
        static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        START.get_or_init(std::time::Instant::now).elapsed()
    }

    fn setting(&self, name: &str) -> Option<String> {
        std::env::var(name).ok().filter(|value| !value.is_empty())
    }

    fn random(&self, bytes: &mut [u8]) -> bool {
        getrandom::fill(bytes).is_ok()
    }

    fn log(&self, line: &str) {
        eprintln!("{line}");
    }

    fn jwt_verify(&self, token: &str, usage: jwt::Usage) -> Result<jwt::Claims, jwt::Error> {
        jwt::verify(token, usage)
    }

    fn jwt_reissue(&self, token: &str) -> Result<jwt::Tokens, jwt::ReissueError> {
        jwt::reissue(token)
    }

    fn jwt_ready(&self) -> bool {
        jwt::ready()
    }

    fn revocation_check(&self, subject: &revocations::Subject) -> revocations::Verdict {
        revocations::check(subject)
    }

    fn revoke_token(&self, sha256: &str, expires_at: Option<u64>) -> Revocation {
        revocations::revoke_token(sha256, expires_at)
    }

    fn revoke_session(&self, user_id: u32, session_id: &str) -> Revocation {
        revocations::revoke_session(user_id, session_id)
    }

    fn revoke_user(&self, user_id: u32, cut_off: u64) -> Revocation {
        revocations::revoke_user(user_id, cut_off)
    }

    fn user_lookup(&self, user_id: u32, token: &str, quiet: bool) -> users::Answer {
        users::lookup(user_id, token, quiet)
    }

    fn redis_get(&self, key: &str) -> Result<Option<Vec<u8>>, redis::Error> {
        redis::get(key)
    }

    fn redis_get_many(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, redis::Error> {
        redis::get_many(keys)
    }

    fn redis_take(&self, key: &str) -> Result<Option<Vec<u8>>, redis::Error> {
        redis::take(key)
    }

    fn redis_set(
        &self,
        key: &str,
        value: &[u8],
        ttl: u32,
        condition: redis::Condition,
    ) -> Result<bool, redis::Error> {
        redis::set(key, value, ttl, condition)
    }

    fn redis_compare_and_set(
        &self,
        key: &str,
        expected: &[u8],
        value: &[u8],
        ttl: u32,
    ) -> Result<bool, redis::Error> {
        redis::compare_and_set(key, expected, value, ttl)
    }

    fn redis_delete(&self, keys: &[String]) -> Result<u32, redis::Error> {
        redis::delete(keys)
    }

    fn redis_expire(&self, key: &str, ttl: u32) -> Result<bool, redis::Error> {
        redis::expire(key, ttl)
    }

    fn redis_increment(&self, key: &str, by: i64, ttl: u32) -> Result<i64, redis::Error> {
        redis::increment(key, by, ttl)
    }

    fn redis_set_add(&self, key: &str, member: &str, ttl: u32) -> Result<bool, redis::Error> {
        redis::set_add(key, member, ttl)
    }

    fn redis_set_remove(&self, key: &str, member: &str) -> Result<bool, redis::Error> {
        redis::set_remove(key, member)
    }

    fn redis_set_contains(&self, key: &str, member: &str) -> Result<bool, redis::Error> {
        redis::set_contains(key, member)
    }

    fn redis_set_members(&self, key: &str) -> Result<Vec<String>, redis::Error> {
        redis::set_members(key)
    }

    fn fallback_create(
        &self,
        draft: &fallback::Draft,
    ) -> Result<fallback::Created, fallback::Error> {
        fallback::create(draft)
    }

    fn fallback_copy(&self, draft: &fallback::Draft) -> Result<(), fallback::Error> {
        fallback::copy(draft)
    }

    fn fallback_find(&self, user_id: u32) -> Result<Option<fallback::Session>, fallback::Error> {
        fallback::find(user_id)
    }

    fn fallback_find_by_token(
        &self,
        token: &str,
    ) -> Result<Option<fallback::Session>, fallback::Error> {
        fallback::find_by_token(token)
    }

    fn fallback_update(
        &self,
        user_id: u32,
        session_data: &str,
        token_format: &str,
    ) -> Result<bool, fallback::Error> {
        fallback::update(user_id, session_data, token_format)
    }

    fn fallback_remove(
        &self,
        user_id: u32,
        session_id: Option<&str>,
    ) -> Result<bool, fallback::Error> {
        fallback::remove(user_id, session_id)
    }

    fn fallback_report(&self) -> fallback::Statistics {
        fallback::report()
    }

    fn csrf_issue(&self) -> Option<String> {
        crate::wit::csrf::issue().ok()
    }

    fn csrf_check(&self, header: &str, cookies: &[String]) -> bool {
        crate::wit::csrf::check(header, cookies)
    }

    fn limiter_take(&self, bucket: &str, key: &str, per_minute: u32) -> Result<(), u32> {
        limiter::take(bucket, key, per_minute)
    }

    fn counter_add(&self, name: &str, by: u64) {
        crate::wit::counters::add(name, by);
    }

    fn counters(&self) -> Vec<(String, u64)> {
        crate::wit::counters::read()
    }

    fn breakers(&self) -> Vec<breakers::Breaker> {
        breakers::snapshot()
    }

    fn peers(&self) -> Vec<peers::Peer> {
        peers::snapshot()
    }

    fn peer_probes(&self) -> u64 {
        peers::probes()
    }

    fn dependency(&self, name: &str) -> peers::Reachability {
        peers::dependency(name)
    }

    fn socket_connections(
        &self,
        user_id: Option<u32>,
    ) -> Result<Vec<sockets::Connection>, sockets::Error> {
        sockets::connections(user_id)
    }

    fn sockets_active(&self) -> u32 {
        sockets::active()
    }

    fn sockets_close(
        &self,
        user_id: u32,
        session_id: Option<&str>,
        code: u16,
        reason: &str,
    ) -> Result<u32, sockets::Error> {
        sockets::close(user_id, session_id, code, reason)
    }

    fn event_publish(&self, event: &events::Event) -> Result<events::Published, events::Error> {
        events::publish(event)
    }
}
