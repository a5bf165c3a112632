//! One suite for both back ends: the embedded store, and a real server with an ACL
//! user.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use sha2::Digest;

use super::embedded::Embedded;
use super::file::File;
use super::redis::Redis;
use super::*;
use crate::clock::Clock;
use crate::config;

const PASSWORD: &str = "p/+= w%rd";

/// A server on a free port; it ends with the value.
struct Server {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Server {
    fn start() -> Server {
        let folder = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let acl = folder.path().join("users.acl");
        let hash = hex::encode(sha2::Sha256::digest(PASSWORD));
        let users = format!("user default off\nuser lwe-app on #{hash} ~* &* +@all\n");
        std::fs::write(&acl, users).unwrap();
        Server {
            child: run(port, &acl, folder.path()),
            port,
            folder,
        }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn start_again(&mut self) {
        self.child = run(
            self.port,
            &self.folder.path().join("users.acl"),
            self.folder.path(),
        );
    }

    fn with_url(&self, url: &str) -> Redis {
        let settings = config::Redis {
            url: SecretString::from(url.to_owned()),
            ca_file: None,
            username: "lwe-app".into(),
            password_file: self.folder.path().join("password"),
            command_timeout: Duration::from_secs(5),
            request_budget: Duration::from_secs(5),
        };
        Redis::open(&settings).unwrap()
    }

    async fn client(&self) -> Redis {
        let url = format!(
            "redis://lwe-app:p%2F%2B%3D%20w%25rd@127.0.0.1:{}/0",
            self.port
        );
        let redis = self.with_url(&url);
        reached(&redis).await;
        redis
    }
}

/// Waits until the server answers; the test's own time limit is the guard.
async fn reached(redis: &Redis) {
    for _ in 0..600 {
        if redis.ping().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the server does not answer");
}

fn run(port: u16, acl: &Path, folder: &Path) -> Child {
    Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .arg("--port")
        .arg(port.to_string())
        .arg("--aclfile")
        .arg(acl)
        .arg("--dir")
        .arg(folder)
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is needed for this test")
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn embedded(folder: &Path) -> Embedded {
    let file = Arc::new(File::open(&folder.join("f"), 1).unwrap());
    Embedded::open(file, Clock::system()).await.unwrap()
}

async fn conforms(store: &dyn Store) {
    values(store).await;
    conditions(store).await;
    sets(store).await;
    wrong_types(store).await;
    binary(store).await;
    one_winner(store).await;
    ends(store).await;
    store.announce("channel", "stream", "{}").await.unwrap();
}

fn names(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

async fn values(store: &dyn Store) {
    assert_eq!(store.get("v").await, Ok(None));
    assert_eq!(store.set("v", b"1", 60, Condition::Always).await, Ok(true));
    assert_eq!(store.set("v", b"2", 60, Condition::Always).await, Ok(true));
    assert_eq!(store.get("v").await, Ok(Some(b"2".to_vec())));
    let many = store.get_many(&names(&["w", "v", "v"])).await;
    assert_eq!(
        many,
        Ok(vec![None, Some(b"2".to_vec()), Some(b"2".to_vec())])
    );
    assert_eq!(store.get_many(&[]).await, Ok(vec![]));
    assert_eq!(store.take("v").await, Ok(Some(b"2".to_vec())));
    assert_eq!(store.take("v").await, Ok(None));
    assert_eq!(store.expire("v", 60).await, Ok(false));
    assert_eq!(store.increment("n", 5, 60).await, Ok(5));
    assert_eq!(store.increment("n", -7, 60).await, Ok(-2));
    assert_eq!(store.get("n").await, Ok(Some(b"-2".to_vec())));
    assert_eq!(store.delete(&names(&["n", "none"])).await, Ok(1));
    assert_eq!(store.delete(&[]).await, Ok(0));
}

async fn conditions(store: &dyn Store) {
    assert_eq!(
        store.set("c", b"1", 60, Condition::IfAbsent).await,
        Ok(true)
    );
    assert_eq!(
        store.set("c", b"2", 60, Condition::IfAbsent).await,
        Ok(false)
    );
    assert_eq!(store.compare_and_set("c", b"2", b"3", 60).await, Ok(false));
    assert_eq!(store.get("c").await, Ok(Some(b"1".to_vec())));
    assert_eq!(store.compare_and_set("c", b"1", b"3", 60).await, Ok(true));
    assert_eq!(store.get("c").await, Ok(Some(b"3".to_vec())));
    assert_eq!(
        store.compare_and_set("missing", b"", b"3", 60).await,
        Ok(false)
    );
    assert_eq!(store.get("missing").await, Ok(None));
}

async fn sets(store: &dyn Store) {
    assert_eq!(store.set_members("s").await, Ok(vec![]));
    assert_eq!(store.set_remove("s", "a").await, Ok(false));
    assert_eq!(store.set_add("s", "a", 60).await, Ok(true));
    assert_eq!(store.set_add("s", "a", 60).await, Ok(false));
    assert_eq!(store.set_add("s", "b", 60).await, Ok(true));
    assert_eq!(store.set_contains("s", "a").await, Ok(true));
    assert_eq!(store.set_contains("s", "c").await, Ok(false));
    let mut members = store.set_members("s").await.unwrap();
    members.sort();
    assert_eq!(members, ["a", "b"]);
    assert_eq!(store.set_remove("s", "a").await, Ok(true));
    assert_eq!(store.set_remove("s", "b").await, Ok(true));
    assert_eq!(
        store.expire("s", 60).await,
        Ok(false),
        "an empty set is gone"
    );
}

async fn wrong_types(store: &dyn Store) {
    store.set_add("set", "a", 60).await.unwrap();
    store
        .set("text", b"x", 60, Condition::Always)
        .await
        .unwrap();
    assert_eq!(store.get("set").await, Err(Error::WrongType));
    assert_eq!(store.take("set").await, Err(Error::WrongType));
    assert_eq!(
        store.get_many(&names(&["set", "text"])).await,
        Ok(vec![None, Some(b"x".to_vec())])
    );
    assert_eq!(
        store.compare_and_set("set", b"a", b"b", 60).await,
        Err(Error::WrongType)
    );
    assert_eq!(store.increment("set", 1, 60).await, Err(Error::WrongType));
    assert_eq!(store.increment("text", 1, 60).await, Err(Error::WrongType));
    store
        .set(
            "max",
            i64::MAX.to_string().as_bytes(),
            60,
            Condition::Always,
        )
        .await
        .unwrap();
    assert_eq!(store.increment("max", 1, 60).await, Err(Error::WrongType));
    assert_eq!(store.set_add("text", "a", 60).await, Err(Error::WrongType));
    assert_eq!(store.set_remove("text", "a").await, Err(Error::WrongType));
    assert_eq!(store.set_contains("text", "a").await, Err(Error::WrongType));
    assert_eq!(store.set_members("text").await, Err(Error::WrongType));
    assert_eq!(
        store.set_contains("set", "a").await,
        Ok(true),
        "nothing was changed"
    );
    assert_eq!(
        store.set("set", b"x", 60, Condition::IfAbsent).await,
        Ok(false)
    );
    assert_eq!(store.delete(&names(&["set", "text", "max"])).await, Ok(3));
}

async fn binary(store: &dyn Store) {
    let bytes: Vec<u8> = (0..=255).chain([0, 0, 13, 10]).collect();
    store
        .set("bin", &bytes, 60, Condition::Always)
        .await
        .unwrap();
    assert_eq!(store.get("bin").await, Ok(Some(bytes.clone())));
    assert_eq!(
        store.compare_and_set("bin", &bytes, b"", 60).await,
        Ok(true)
    );
    assert_eq!(store.get("bin").await, Ok(Some(Vec::new())));
    let large = vec![7; 256 * 1024];
    store
        .set("large", &large, 60, Condition::Always)
        .await
        .unwrap();
    assert_eq!(store.get("large").await, Ok(Some(large)));
    let key = "k\u{1}é \n:*";
    store.set(key, b"odd", 60, Condition::Always).await.unwrap();
    assert_eq!(store.get(key).await, Ok(Some(b"odd".to_vec())));
}

async fn one_winner(store: &dyn Store) {
    let values: Vec<String> = (0..16).map(|number| number.to_string()).collect();
    let mut calls: Vec<_> = values
        .iter()
        .map(|value| store.set("race", value.as_bytes(), 60, Condition::IfAbsent))
        .map(|call| Some(Box::pin(call)))
        .collect();
    let mut winners = 0;
    std::future::poll_fn(|context| {
        let mut pending = false;
        for slot in &mut calls {
            if let Some(call) = slot {
                match call.as_mut().poll(context) {
                    std::task::Poll::Ready(won) => {
                        winners += usize::from(won.unwrap());
                        *slot = None;
                    }
                    std::task::Poll::Pending => pending = true,
                }
            }
        }
        if pending {
            std::task::Poll::Pending
        } else {
            std::task::Poll::Ready(())
        }
    })
    .await;
    assert_eq!(winners, 1);
}

async fn ends(store: &dyn Store) {
    store
        .set("short", b"x", 1, Condition::Always)
        .await
        .unwrap();
    store.increment("counted", 1, 1).await.unwrap();
    store.increment("counted", 1, 100).await.unwrap();
    store.set_add("short-set", "a", 1).await.unwrap();
    store
        .set("longer", b"x", 1, Condition::Always)
        .await
        .unwrap();
    assert_eq!(store.expire("longer", 100).await, Ok(true));
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(store.get("short").await, Ok(None));
    assert_eq!(
        store.get("counted").await,
        Ok(None),
        "later increments do not extend it"
    );
    assert_eq!(store.set_contains("short-set", "a").await, Ok(false));
    assert_eq!(store.get("longer").await, Ok(Some(b"x".to_vec())));
    assert_eq!(
        store.set("short", b"y", 60, Condition::IfAbsent).await,
        Ok(true)
    );
}

#[tokio::test]
async fn the_embedded_store_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let store = embedded(folder.path()).await;
    conforms(&store).await;
    assert!(store.clean().await.unwrap() > 0);
    assert_eq!(store.get("longer").await, Ok(Some(b"x".to_vec())));
}

/// Times to live are not kept there: the call that it is for is over first.
#[tokio::test]
async fn an_overlay_conforms_and_leaves_what_is_below_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let below = embedded(folder.path()).await;
    below.set("x", b"1", 60, Condition::Always).await.unwrap();
    below.set_add("y", "a", 60).await.unwrap();
    let overlay = super::overlay::Overlay::new(Arc::new(below.clone()));
    values(&overlay).await;
    conditions(&overlay).await;
    sets(&overlay).await;
    wrong_types(&overlay).await;
    binary(&overlay).await;
    one_winner(&overlay).await;
    assert_eq!(overlay.take("x").await, Ok(Some(b"1".to_vec())));
    assert_eq!(overlay.get("x").await, Ok(None));
    assert_eq!(overlay.set_add("y", "b", 60).await, Ok(true));
    assert_eq!(overlay.set_members("y").await.unwrap(), ["a", "b"]);
    assert_eq!(below.get("x").await, Ok(Some(b"1".to_vec())));
    assert_eq!(below.set_members("y").await.unwrap(), ["a"]);
    assert_eq!(below.get("v").await, Ok(None));
}

#[tokio::test]
async fn redis_conforms() {
    let server = Server::start();
    let redis = server.client().await;
    conforms(&redis).await;
    assert_eq!(redis.eviction_policy().await.as_deref(), Some("noeviction"));
}

#[tokio::test]
async fn the_password_may_come_from_a_file() {
    let server = Server::start();
    drop(server.client().await);
    std::fs::write(
        server.folder.path().join("password"),
        format!(" {PASSWORD}\n"),
    )
    .unwrap();
    let redis = server.with_url(&format!("redis://127.0.0.1:{}", server.port));
    reached(&redis).await;
    assert_eq!(redis.set("k", b"v", 60, Condition::Always).await, Ok(true));
}

#[tokio::test]
async fn without_the_right_password_it_is_unavailable_and_no_more() {
    let server = Server::start();
    drop(server.client().await);
    for url in [
        format!("redis://127.0.0.1:{}", server.port),
        format!("redis://lwe-app:wrong@127.0.0.1:{}", server.port),
    ] {
        let redis = server.with_url(&url);
        assert!(!redis.ping().await);
        assert_eq!(redis.get("k").await, Err(Error::Unavailable));
        assert!(!redis.connected());
    }
}

#[tokio::test]
async fn it_survives_the_death_of_the_server() {
    let mut server = Server::start();
    let redis = server.client().await;
    redis.set("k", b"v", 60, Condition::Always).await.unwrap();
    assert!(redis.connected());
    server.kill();
    for _ in 0..8 {
        assert_eq!(redis.get("k").await, Err(Error::Unavailable));
    }
    assert!(!redis.connected());
    assert_eq!(redis.breaker().position(), crate::breaker::Position::Open);
    server.start_again();
    reached(&redis).await;
    assert!(redis.connected());
    assert_eq!(redis.get("k").await, Ok(None));
    assert_eq!(redis.breaker().position(), crate::breaker::Position::Closed);
}

#[tokio::test]
async fn a_wrong_url_is_an_error_without_the_url() {
    let server = Server::start();
    let settings = config::Redis {
        url: SecretString::from("redis://user:hush@[oops"),
        ca_file: None,
        username: String::new(),
        password_file: server.folder.path().join("none"),
        command_timeout: Duration::from_millis(150),
        request_budget: Duration::from_millis(400),
    };
    let error = Redis::open(&settings).unwrap_err().to_string();
    assert!(!error.contains("hush"), "{error}");
}

#[tokio::test]
async fn a_spent_budget_fails_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = embedded(folder.path()).await;
    let budget = Budget::new(Duration::ZERO);
    assert_eq!(budget.guard(&store).get("k").await, Err(Error::Unavailable));
    budget.reset(Duration::from_secs(60));
    assert_eq!(budget.guard(&store).get("k").await, Ok(None));
    assert!(budget.left() < Duration::from_secs(60));
}
