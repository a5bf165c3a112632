//! Between the guest and the host functions: where a call has a tape, each function is
//! written on it, or answered from it. Without one nothing happens here. What a function
//! does is not known here, only its name and its types.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use wasmtime::Result as Trapped;

use super::{Context, wit};
use crate::tape::{Step, Tape};

/// The host functions of one instance, perhaps on a tape.
#[derive(Debug)]
pub struct Tap {
    /// What the functions themselves remember.
    pub context: Context,
    tape: Option<Arc<Tape>>,
}

impl Tap {
    /// One for each instance.
    pub fn new(mut context: Context, tape: Option<Arc<Tape>>) -> Tap {
        if tape.as_ref().is_some_and(|tape| tape.is_shadow()) {
            context.write_nothing();
        }
        Tap { context, tape }
    }

    /// The result that the tape has; none: the host is to be asked.
    fn played<T: DeserializeOwned>(
        &mut self,
        function: &str,
        arguments: impl Serialize,
    ) -> Trapped<Option<T>> {
        let Some(tape) = &self.tape else {
            return Ok(None);
        };
        // The function itself ends the call; that is on no tape.
        if self.context.is_spent() {
            return Ok(None);
        }
        Ok(match tape.next(function, arguments)? {
            Step::Ask => None,
            Step::Result(result) => {
                // It counts as the call that it stands for.
                self.context.enter()?;
                Some(result)
            }
        })
    }

    fn noted<T: Serialize>(&self, result: Trapped<T>) -> Trapped<T> {
        if let (Some(tape), Ok(result)) = (&self.tape, &result) {
            tape.note(result);
        }
        result
    }
}

/// Every function of an interface, as in `wit/`. Those that wait are `async`, as
/// `bindings` says.
macro_rules! tap {
    ($module:ident: $($rest:tt)*) => {
        impl wit::$module::Host for Tap { tap!(@ $module; $($rest)*); }
    };
    (@ $module:ident; async $call:ident $name:literal ($($argument:ident: $type:ty),*) -> $answer:ty; $($rest:tt)*) => {
        async fn $call(&mut self, $($argument: $type),*) -> Trapped<$answer> {
            if let Some(result) = self.played($name, ($(&$argument,)*))? {
                return Ok(result);
            }
            let result = wit::$module::Host::$call(&mut self.context, $($argument),*).await;
            self.noted(result)
        }
        tap!(@ $module; $($rest)*);
    };
    (@ $module:ident; $call:ident $name:literal ($($argument:ident: $type:ty),*) -> $answer:ty; $($rest:tt)*) => {
        fn $call(&mut self, $($argument: $type),*) -> Trapped<$answer> {
            if let Some(result) = self.played($name, ($(&$argument,)*))? {
                return Ok(result);
            }
            let result = wit::$module::Host::$call(&mut self.context, $($argument),*);
            self.noted(result)
        }
        tap!(@ $module; $($rest)*);
    };
    (@ $module:ident;) => {};
}

type Redis<T> = Result<T, wit::redis::Error>;
type Fallback<T> = Result<T, wit::fallback::Error>;
type Revoked = Result<wit::revocations::Done, wit::revocations::Error>;
type Bytes = Vec<u8>;

tap!(breakers:
    snapshot "breakers.snapshot"() -> Vec<wit::breakers::Breaker>;
);

tap!(counters:
    add "counters.add"(name: String, by: u64) -> ();
    read "counters.read"() -> Vec<(String, u64)>;
);

tap!(csrf:
    issue "csrf.issue"() -> Result<String, wit::csrf::Error>;
    check "csrf.check"(header: String, cookies: Vec<String>) -> bool;
);

tap!(events:
    async publish "events.publish"(event: wit::events::Event)
        -> Result<wit::events::Published, wit::events::Error>;
);

tap!(fallback:
    async create "fallback.create"(draft: wit::fallback::Draft) -> Fallback<wit::fallback::Created>;
    copy "fallback.copy"(draft: wit::fallback::Draft) -> Fallback<()>;
    async find "fallback.find"(user_id: u32) -> Fallback<Option<wit::fallback::Session>>;
    find_by_token "fallback.find-by-token"(token: String)
        -> Fallback<Option<wit::fallback::Session>>;
    async update "fallback.update"(user_id: u32, session_data: String, token_format: String)
        -> Fallback<bool>;
    async remove "fallback.remove"(user_id: u32, session_id: Option<String>) -> Fallback<bool>;
    report "fallback.report"() -> wit::fallback::Statistics;
);

tap!(jwt:
    verify "jwt.verify"(token: String, usage: wit::jwt::Usage)
        -> Result<wit::jwt::Claims, wit::jwt::Error>;
    async reissue "jwt.reissue"(token: String) -> Result<wit::jwt::Tokens, wit::jwt::ReissueError>;
    ready "jwt.ready"() -> bool;
);

tap!(limiter:
    take "limiter.take"(bucket: String, key: String, per_minute: u32) -> Result<(), u32>;
);

tap!(peers:
    snapshot "peers.snapshot"() -> Vec<wit::peers::Peer>;
    probes "peers.probes"() -> u64;
    dependency "peers.dependency"(name: String) -> wit::peers::Reachability;
);

tap!(redis:
    async get "redis.get"(key: String) -> Redis<Option<Bytes>>;
    async get_many "redis.get-many"(keys: Vec<String>) -> Redis<Vec<Option<Bytes>>>;
    async take "redis.take"(key: String) -> Redis<Option<Bytes>>;
    async set "redis.set"(
        key: String, value: Bytes, ttl: u32, condition: wit::redis::Condition
    ) -> Redis<bool>;
    async compare_and_set "redis.compare-and-set"(
        key: String, expected: Bytes, value: Bytes, ttl: u32
    ) -> Redis<bool>;
    async delete "redis.delete"(keys: Vec<String>) -> Redis<u32>;
    async expire "redis.expire"(key: String, ttl: u32) -> Redis<bool>;
    async increment "redis.increment"(key: String, by: i64, ttl: u32) -> Redis<i64>;
    async set_add "redis.set-add"(key: String, member: String, ttl: u32) -> Redis<bool>;
    async set_remove "redis.set-remove"(key: String, member: String) -> Redis<bool>;
    async set_contains "redis.set-contains"(key: String, member: String) -> Redis<bool>;
    async set_members "redis.set-members"(key: String) -> Redis<Vec<String>>;
);

tap!(revocations:
    async check "revocations.check"(subject: wit::revocations::Subject) -> wit::revocations::Verdict;
    async revoke_token "revocations.revoke-token"(token_sha256: String, expires_at: Option<u64>)
        -> Revoked;
    async revoke_session "revocations.revoke-session"(user_id: u32, session_id: String) -> Revoked;
    async revoke_user "revocations.revoke-user"(user_id: u32, cut_off: u64) -> Revoked;
);

tap!(sockets:
    connections "sockets.connections"(user_id: Option<u32>)
        -> Result<Vec<wit::sockets::Connection>, wit::sockets::Error>;
    active "sockets.active"() -> u32;
    close "sockets.close"(user_id: u32, session_id: Option<String>, code: u16, reason: String)
        -> Result<u32, wit::sockets::Error>;
);

tap!(users:
    async lookup "users.lookup"(user_id: u32, token: String, quiet: bool) -> wit::users::Answer;
);
