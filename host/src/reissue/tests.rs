//! Rotation as its callers see it: once, again within the grace, too late.

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use serde_json::{Value, json};

use super::*;
use crate::clock::Clock;
use crate::config;
use crate::directory::Sources;
use crate::store::away::Away;
use crate::store::embedded::Embedded;
use crate::store::file::File;

const NOW: u64 = 1_900_000_000;

/// One host; several may share a store.
struct Host {
    _folder: tempfile::TempDir,
    clock: Clock,
    keys: Keys,
    journal: Journal,
    revocations: Revocations,
    directory: Directory,
}

fn keys() -> Keys {
    let jwt = config::Jwt {
        secret_files: Vec::new(),
        secret: Some(SecretString::from("a-secret-that-is-long-enough-for-tests")),
        previous_file: None,
        overlap: Duration::ZERO,
        allow_missing_exp: false,
        access_max: Duration::from_secs(86_400),
        refresh_grace: Duration::from_secs(60),
        accept_unmarked: true,
        verified_bytes: 1 << 20,
    };
    Keys::load(&jwt, NOW)
}

async fn host(clock: &Clock) -> Host {
    let folder = tempfile::tempdir().unwrap();
    let file = Arc::new(File::open(&folder.path().join("f"), NOW).unwrap());
    let journal = Journal::open(file).await.unwrap();
    Host {
        clock: clock.clone(),
        keys: keys(),
        revocations: Revocations::new(journal.clone(), clock.clone()),
        directory: Directory::new(journal.clone(), clock.clone(), Sources::default()),
        journal,
        _folder: folder,
    }
}

async fn shared(clock: &Clock) -> (tempfile::TempDir, Embedded) {
    let folder = tempfile::tempdir().unwrap();
    let file = Arc::new(File::open(&folder.path().join("s"), NOW).unwrap());
    (folder, Embedded::open(file, clock.clone()).await.unwrap())
}

impl Host {
    async fn reissue(&self, token: &str, store: &dyn Store) -> Result<Tokens, Refusal> {
        let reissue = Reissue {
            keys: &self.keys,
            revocations: &self.revocations,
            journal: &self.journal,
            directory: &self.directory,
            store,
            shared: true,
            lives: Lives {
                access: 3600,
                refresh: 604_800,
            },
            grace: 60,
            now: self.clock.now(),
            request_id: "r-1",
        };
        reissue.reissue(token).await
    }
}

fn login() -> Value {
    json!({"sub": "42", "email": "ada@example.org", "id": 42, "role": "user",
           "session_id": "s-7", "device_id": "d-1", "tfa_verified": true,
           "iat": NOW - 10, "exp": NOW + 604_790})
}

fn token(claims: &Value) -> String {
    keys().sign(claims).unwrap()
}

fn theft() -> Result<Tokens, Refusal> {
    Err(Refusal::Reused {
        user_id: 42,
        session_id: "s-7".into(),
    })
}

#[tokio::test]
async fn successors_keep_what_belongs_to_the_login() {
    let clock = Clock::fixed(NOW);
    let (host, (_folder, store)) = (host(&clock).await, shared(&clock).await);
    let tokens = host.reissue(&token(&login()), &store).await.unwrap();
    assert_eq!(tokens.access_expires_at, NOW + 3600);
    assert!(!tokens.degraded);
    let access = host
        .keys
        .verify(&tokens.access, Usage::Access, NOW)
        .unwrap();
    let refresh = tokens.refresh.unwrap();
    let refresh = host.keys.verify(&refresh, Usage::Refresh, NOW).unwrap();
    for claims in [&access, &refresh] {
        assert_eq!(claims.session_id.as_deref(), Some("s-7"));
        assert_eq!(claims.device_id.as_deref(), Some("d-1"));
        assert_eq!(claims.tfa_verified, Some(true));
        assert_eq!(claims.auth_time, Some(NOW - 10));
        assert_eq!(claims.identity().unwrap().user_id, 42);
    }
    assert_eq!(refresh.expires_at, Some(NOW + 604_800));
    assert_ne!(access.jti, refresh.jti);
    assert!(
        host.keys
            .verify(&tokens.access, Usage::Refresh, NOW)
            .is_err()
    );
}

#[tokio::test]
async fn what_the_old_token_lacks_is_filled_in() {
    let clock = Clock::fixed(NOW);
    let (host, (_folder, store)) = (host(&clock).await, shared(&clock).await);
    let claims = json!({"sub": "42", "email": "ada@example.org", "id": 42, "role": "user",
                        "exp": NOW + 604_800});
    let old = token(&claims);
    let tokens = host.reissue(&old, &store).await.unwrap();
    let hash = sha256_hex(old.as_bytes());
    assert_eq!(tokens.session_id, format!("jwt-{}", &hash[..32]));
    let access = host
        .keys
        .verify(&tokens.access, Usage::Access, NOW)
        .unwrap();
    assert_eq!(access.session(), tokens.session_id);
    assert!(access.device_id.is_some_and(|id| !id.is_empty()));
    assert_eq!(access.tfa_verified, Some(false));
    assert_eq!(access.auth_time, Some(NOW));
}

#[tokio::test]
async fn every_use_in_the_grace_gets_the_same_successor_on_any_host() {
    let clock = Clock::fixed(NOW);
    let (one, two) = (host(&clock).await, host(&clock).await);
    let (_folder, store) = shared(&clock).await;
    let old = token(&login());
    let calls = (0..20).map(|at| if at % 2 == 0 { &one } else { &two });
    let mut answers = Vec::new();
    let all: Vec<_> = calls.map(|host| host.reissue(&old, &store)).collect();
    for answer in futures_join(all).await {
        answers.push(answer.unwrap());
    }
    clock.set(NOW + 60);
    answers.push(one.reissue(&old, &store).await.unwrap());
    answers.push(
        two.reissue(&old, &Away)
            .await
            .map(|t| Tokens {
                degraded: false,
                ..t
            })
            .unwrap(),
    );
    for answer in &answers {
        assert_eq!(answer, &answers[0]);
    }
    clock.set(NOW + 61);
    assert_eq!(one.reissue(&old, &store).await, theft());
    assert_eq!(two.reissue(&old, &store).await, theft());
    assert_eq!(
        two.reissue(&old, &Away).await,
        theft(),
        "the journal knows it too"
    );
}

/// Polls all together, so that they interleave at every wait.
async fn futures_join<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut waiting: Vec<_> = futures.into_iter().map(Box::pin).collect();
    let mut done: Vec<Option<F::Output>> = waiting.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, slot) in waiting.iter_mut().zip(&mut done) {
            if slot.is_none()
                && let std::task::Poll::Ready(output) = future.as_mut().poll(context)
            {
                *slot = Some(output);
            }
        }
        if done.iter().all(Option::is_some) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    done.into_iter().flatten().collect()
}

#[tokio::test]
async fn the_grace_is_for_the_direct_parent_only() {
    let clock = Clock::fixed(NOW);
    let (host, (_folder, store)) = (host(&clock).await, shared(&clock).await);
    let old = token(&login());
    let child = host.reissue(&old, &store).await.unwrap().refresh.unwrap();
    assert!(host.reissue(&old, &store).await.is_ok());
    let grandchild = host.reissue(&child, &store).await.unwrap().refresh.unwrap();
    assert_ne!(child, grandchild);
    assert_eq!(host.reissue(&old, &store).await, theft());
    assert!(host.reissue(&child, &store).await.is_ok());
}

#[tokio::test]
async fn an_evicted_record_still_counts() {
    let clock = Clock::fixed(NOW);
    let (host, (_folder, store)) = (host(&clock).await, shared(&clock).await);
    let old = token(&login());
    let first = host.reissue(&old, &store).await.unwrap();
    let key = record_key(&sha256_hex(old.as_bytes()));
    assert_eq!(store.delete(&[key]).await, Ok(1));
    assert_eq!(host.reissue(&old, &store).await, Ok(first));
    clock.set(NOW + 61);
    assert_eq!(host.reissue(&old, &store).await, theft());
}

#[tokio::test]
async fn while_the_store_is_away_only_access_tokens_are_given() {
    let clock = Clock::fixed(NOW);
    let (host, (_folder, store)) = (host(&clock).await, shared(&clock).await);
    let old = token(&login());
    let tokens = host.reissue(&old, &Away).await.unwrap();
    assert!(tokens.degraded && tokens.refresh.is_none());
    clock.set(NOW + 1000);
    let tokens = host.reissue(&old, &store).await.unwrap();
    assert!(tokens.refresh.is_some(), "the old token stayed good");
}

/// Answers reads, and writes without saying so.
#[derive(Debug)]
struct Mute(Embedded);

#[async_trait::async_trait]
impl Store for Mute {
    async fn get(&self, key: &str) -> crate::store::Result<Option<Vec<u8>>> {
        self.0.get(key).await
    }
    async fn get_many(&self, keys: &[String]) -> crate::store::Result<Vec<Option<Vec<u8>>>> {
        self.0.get_many(keys).await
    }
    async fn take(&self, key: &str) -> crate::store::Result<Option<Vec<u8>>> {
        Away.take(key).await
    }
    async fn set(
        &self,
        key: &str,
        value: &[u8],
        ttl: u32,
        condition: Condition,
    ) -> crate::store::Result<bool> {
        self.0.set(key, value, ttl, condition).await?;
        Err(crate::store::Error::Unavailable)
    }
    async fn compare_and_set(
        &self,
        _: &str,
        _: &[u8],
        _: &[u8],
        _: u32,
    ) -> crate::store::Result<bool> {
        Err(crate::store::Error::Unavailable)
    }
    async fn delete(&self, keys: &[String]) -> crate::store::Result<u32> {
        Away.delete(keys).await
    }
    async fn expire(&self, key: &str, ttl: u32) -> crate::store::Result<bool> {
        Away.expire(key, ttl).await
    }
    async fn increment(&self, key: &str, by: i64, ttl: u32) -> crate::store::Result<i64> {
        Away.increment(key, by, ttl).await
    }
    async fn set_add(&self, key: &str, member: &str, ttl: u32) -> crate::store::Result<bool> {
        Away.set_add(key, member, ttl).await
    }
    async fn set_remove(&self, key: &str, member: &str) -> crate::store::Result<bool> {
        Away.set_remove(key, member).await
    }
    async fn set_contains(&self, key: &str, member: &str) -> crate::store::Result<bool> {
        Away.set_contains(key, member).await
    }
    async fn set_members(&self, key: &str) -> crate::store::Result<Vec<String>> {
        Away.set_members(key).await
    }
    async fn announce(&self, _: &str, _: &str, _: &str) -> crate::store::Result<()> {
        Err(crate::store::Error::Unavailable)
    }
}

#[tokio::test]
async fn a_write_that_timed_out_but_happened_is_no_theft() {
    let clock = Clock::fixed(NOW);
    let (host, (_folder, store)) = (host(&clock).await, shared(&clock).await);
    let old = token(&login());
    let tokens = host.reissue(&old, &Mute(store.clone())).await.unwrap();
    assert!(tokens.refresh.is_none());
    clock.set(NOW + 1000);
    let first = host.reissue(&old, &store).await.unwrap();
    assert_eq!(first.access_expires_at, NOW + 4600);
    assert_eq!(host.reissue(&old, &store).await, Ok(first));
    clock.set(NOW + 1061);
    assert_eq!(host.reissue(&old, &store).await, theft());
}

#[tokio::test]
async fn logins_end_after_thirty_days() {
    let clock = Clock::fixed(NOW);
    let (host, (_folder, store)) = (host(&clock).await, shared(&clock).await);
    for (age, good) in [(30 * 86_400, true), (30 * 86_400 + 1, false)] {
        let mut claims = login();
        claims["auth_time"] = json!(NOW - age);
        let result = host.reissue(&token(&claims), &store).await;
        if good {
            assert!(result.is_ok());
        } else {
            assert_eq!(result, Err(Refusal::Rejected(Rejection::Expired)));
        }
    }
}

#[tokio::test]
async fn the_revoked_and_the_disabled_get_nothing() {
    let clock = Clock::fixed(NOW);
    let (host, (_folder, store)) = (host(&clock).await, shared(&clock).await);
    let user = |active: bool, email: &str, role: &str| {
        json!({"is_active": active, "email": email, "role": role, "checked_at": NOW})
            .to_string()
            .into_bytes()
    };
    let key = "lockgate:user:42";
    let cases = [
        (user(false, "ada@example.org", "user"), Refusal::Disabled),
        (user(true, "eve@example.org", "user"), Refusal::Mismatch),
    ];
    // The mismatch second: a disabled user stays known until someone newer says so.
    for (value, refusal) in cases.into_iter().rev() {
        store.set(key, &value, 60, Condition::Always).await.unwrap();
        assert_eq!(host.reissue(&token(&login()), &store).await, Err(refusal));
    }
    clock.set(NOW + 1);
    let value = json!({"is_active": true, "email": "ADA@example.org", "role": "admin",
                       "checked_at": NOW + 1});
    store
        .set(key, value.to_string().as_bytes(), 60, Condition::Always)
        .await
        .unwrap();
    let tokens = host.reissue(&token(&login()), &store).await.unwrap();
    assert_eq!(
        (tokens.role.as_str(), tokens.email.as_str()),
        ("admin", "ADA@example.org")
    );

    host.revocations
        .revoke_session(42, "s-7", &store)
        .await
        .unwrap();
    assert_eq!(
        host.reissue(&token(&login()), &store).await,
        Err(Refusal::Revoked)
    );
    assert_eq!(
        host.reissue(&token(&login()), &Away).await,
        Err(Refusal::Revoked)
    );
}

#[tokio::test]
async fn other_tokens_are_rejected() {
    let clock = Clock::fixed(NOW);
    let (host, (_folder, store)) = (host(&clock).await, shared(&clock).await);
    let mut access = login();
    access["exp"] = json!(NOW + 3600);
    let mut nobody = login();
    nobody["role"] = json!("superuser");
    for (claims, refusal) in [
        (access, Refusal::Rejected(Rejection::Invalid)),
        (nobody, Refusal::Unsupported),
    ] {
        assert_eq!(host.reissue(&token(&claims), &store).await, Err(refusal));
    }
}

#[tokio::test]
async fn someone_elses_value_is_never_a_record() {
    let clock = Clock::fixed(NOW);
    let (host, (_folder, store)) = (host(&clock).await, shared(&clock).await);
    let old = token(&login());
    let key = record_key(&sha256_hex(old.as_bytes()));
    store
        .set(&key, b"\x80\x04pickle", 60, Condition::Always)
        .await
        .unwrap();
    assert_eq!(host.reissue(&old, &store).await, Err(Refusal::Unavailable));
}

/// Whoever can write to Redis and has one good token gets no token of another's, and ends
/// nobody else's session.
#[tokio::test]
async fn a_record_that_is_none_of_this_token_is_not_signed() {
    let clock = Clock::fixed(NOW);
    let good = json!({"jti": "1", "access_jti": "2", "iat": NOW, "user_id": 42,
        "email": "ada@example.org", "role": "user", "session_id": "s-7", "device_id": "d-1",
        "tfa_verified": true, "auth_time": NOW - 10, "rotated_at": NOW});
    let with = |name: &str, value: Value| {
        let mut record = good.clone();
        record[name] = value;
        record
    };
    let mut late = with("iat", json!(NOW + 1_000_000));
    late["rotated_at"] = json!(NOW + 1_000_000);
    let mut old = with("user_id", json!(1));
    old["iat"] = json!(NOW - 1_000);
    old["rotated_at"] = json!(NOW - 1_000);
    for (record, right) in [
        (good.clone(), true),
        (with("user_id", json!(1)), false),
        (with("session_id", json!("s-8")), false),
        (with("email", json!("eve@example.org")), false),
        (with("auth_time", json!(NOW)), false),
        (with("iat", json!(NOW + 5)), false),
        (late, false),
        (old, false),
    ] {
        let (host, (_folder, store)) = (host(&clock).await, shared(&clock).await);
        let old = token(&login());
        let key = record_key(&sha256_hex(old.as_bytes()));
        let value = record.to_string();
        let set = store.set(&key, value.as_bytes(), 60, Condition::Always);
        set.await.unwrap();
        let outcome = host.reissue(&old, &store).await;
        match right {
            true => assert_eq!(outcome.unwrap().user_id, 42),
            false => assert_eq!(outcome, Err(Refusal::Unavailable), "{record}"),
        }
    }
}

/// A write that happened without an answer, and a retry that was given its tokens: from
/// then on a late use is theft.
#[tokio::test]
async fn what_was_given_after_all_is_settled() {
    let clock = Clock::fixed(NOW);
    let (host, (_folder, store)) = (host(&clock).await, shared(&clock).await);
    let old = token(&login());
    host.reissue(&old, &Mute(store.clone())).await.unwrap();
    let given = host.reissue(&old, &store).await.unwrap();
    assert!(given.refresh.is_some());
    clock.set(NOW + 1000);
    assert_eq!(host.reissue(&old, &store).await, theft());
}
