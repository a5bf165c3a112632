//! The JWT secret: where it comes from, and what a change of it means.

use std::time::Duration;

use lockgate_tests::host::Secret;
use lockgate_tests::{Host, Service, Tokens, User};

const OLD: &[u8] = b"the old key, line one 0123456789\nline two";
const NEW: &[u8] = b"the new key, line one 0123456789\nline two";

async fn valid(host: &Host, token: &str) -> bool {
    let call = host
        .post(Service::Jwt, "/api/v1/jwt/validate")
        .bearer(token);
    call.send().await.expect(200).json()["valid"] == true
}

/// Waits until the host has taken a changed key.
async fn taken(host: &Host, mint: &Tokens) {
    for _ in 0..600 {
        if valid(host, &mint.access(&User::new(1))).await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the new key was never taken");
}

/// The variable is the last source; a file that is there wins.
#[tokio::test(flavor = "multi_thread")]
async fn from_the_environment() {
    let text = String::from_utf8(OLD.to_vec()).unwrap();
    let host = Host::builder()
        .secret(Secret::Missing)
        .env("JWT_SECRET_KEY", format!(" \n{text}\n"))
        .start()
        .await;
    assert!(valid(&host, &Tokens::new(OLD).access(&User::new(1))).await);
    let host = Host::builder()
        .secret(Secret::Bytes(NEW.to_vec()))
        .env("JWT_SECRET_KEY", text)
        .start()
        .await;
    assert!(valid(&host, &Tokens::new(NEW).access(&User::new(1))).await);
    assert!(!valid(&host, &Tokens::new(OLD).access(&User::new(1))).await);
}

/// Without an overlap the old key is compromised: refused at once.
#[tokio::test(flavor = "multi_thread")]
async fn no_overlap() {
    let host = Host::builder()
        .secret(Secret::Bytes(OLD.to_vec()))
        .env("JWT_KEY_OVERLAP_SECONDS", "0")
        .start()
        .await;
    let before = Tokens::new(OLD).access(&User::new(1));
    let refresh = Tokens::new(OLD).marked_refresh(&User::new(1));
    assert!(valid(&host, &before).await);
    std::fs::write(host.secret_file(), NEW).unwrap();
    taken(&host, &Tokens::new(NEW)).await;
    assert!(!valid(&host, &before).await);
    let body = serde_json::json!({"refresh_token": refresh});
    let call = host.post(Service::Jwt, "/api/v1/jwt/refresh").json(&body);
    call.send().await.expect_error(401, "invalid_signature");
}

/// The key before, named across a restart: it verifies, the new one signs.
#[tokio::test(flavor = "multi_thread")]
async fn the_key_before() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("previous");
    std::fs::write(&file, [OLD, b"\n"].concat()).unwrap();
    // The key before counts for what it signed until the start.
    let (old, new) = (Tokens::new(OLD), Tokens::new(NEW));
    let (access, refresh) = (old.access(&User::new(1)), old.marked_refresh(&User::new(1)));
    let host = Host::builder()
        .secret(Secret::Bytes(NEW.to_vec()))
        .env("JWT_SECRET_PREVIOUS_FILE", file.display().to_string())
        .start()
        .await;
    assert!(valid(&host, &access).await);
    assert!(valid(&host, &new.access(&User::new(1))).await);
    let body = serde_json::json!({"refresh_token": refresh});
    let call = host.post(Service::Jwt, "/api/v1/jwt/refresh").json(&body);
    let answer = call.send().await.expect(200).json();
    let successor = answer["access_token"].as_str().unwrap();
    let (message, _) = successor.rsplit_once('.').unwrap();
    assert_eq!(successor, new.seal(message), "the new key signs");
}

/// Neither the key nor any token is written down.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_secret_is_logged() {
    let host = Host::builder()
        .secret(Secret::Bytes(OLD.to_vec()))
        .env("LOG_LEVEL", "DEBUG")
        .start()
        .await;
    let user = User::new(1);
    let good = Tokens::new(OLD).access(&user);
    let bad = Tokens::new(NEW).access(&user);
    for token in [&good, &bad] {
        assert_eq!(valid(&host, token).await, *token == good);
        let query = format!("/api/v1/session/validate?token={token}");
        host.get(Service::Session, &query)
            .cookie("access_token", token)
            .send()
            .await
            .expect(200);
    }
    let log = host.log();
    assert!(!log.contains("the old key"), "the key is in the log");
    for token in [&good, &bad] {
        let signature = token.rsplit('.').next().unwrap();
        assert!(!log.contains(signature), "a token is in the log");
    }
}
