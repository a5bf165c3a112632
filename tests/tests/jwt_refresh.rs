//! `POST /api/v1/jwt/refresh`: which tokens it takes, what the successors hold, the
//! cookies, and what a second use does.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use lockgate_tests::shape;
use lockgate_tests::tokens::{claims, derived_session, set, sha256, without};
use lockgate_tests::{Answer, Host, RedisServer, Service, Tokens, User, now};
use serde_json::{Value, json};

const REFRESH: &str = "/api/v1/jwt/refresh";
const GIVEN: &str = "access_token:str token:str token_type:=bearer expires_in:=3600 \
    expires_at:time user_id:int email:str role:role session_id:str degraded:bool message:str";

async fn by_body(host: &Host, token: &str) -> Answer {
    host.post(Service::Jwt, REFRESH)
        .json(&json!({"refresh_token": token}))
        .send()
        .await
}

async fn by_cookie(host: &Host, token: &str) -> Answer {
    host.post(Service::Jwt, REFRESH)
        .cookie("refresh_token", token)
        .send()
        .await
}

#[track_caller]
fn refused(answer: &Answer, error: &str, detail: &str) {
    let body = answer.expect_error(401, error);
    assert_eq!(body["detail"], detail, "{}", answer.label());
}

/// The successors: their claims, their lives and how they are written.
#[tokio::test(flavor = "multi_thread")]
async fn successors() {
    let host = Host::start().await;
    let user = User {
        email: "ädä~?>\u{7f}@example.org".to_owned(),
        ..User::admin(42)
    };
    let mut old = Tokens::unified_claims(&user, 604_800);
    set(&mut old, "iat", json!(now() - 1_000));
    set(&mut old, "exp", json!(now() + 600_000));
    let token = host.tokens.sign(&old);
    let body = by_body(&host, &token)
        .await
        .expect_shape(200, &format!("{GIVEN} refresh_token:str"));
    assert_eq!(body["access_token"], body["token"]);
    assert_eq!(
        (&body["user_id"], &body["email"]),
        (&json!(42), &json!(user.email))
    );
    assert_eq!(
        (&body["role"], &body["session_id"]),
        (&json!("admin"), &json!(user.session_id))
    );
    assert_eq!(body["message"], "Token refreshed successfully");
    assert_eq!(body["degraded"], false);

    for (name, token_use, life) in [
        ("access_token", "access", 3_600),
        ("refresh_token", "refresh", 604_800),
    ] {
        let token = body[name].as_str().unwrap();
        let payload = token.split('.').nth(1).unwrap();
        assert!(
            !payload.contains(['-', '_']),
            "{name}: browsers cannot decode {payload}"
        );
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
        assert!(
            text.is_ascii() && !text.contains([' ', '\n', '>', '?', '~', '\u{7f}']),
            "{text}"
        );
        let new = claims(token);
        shape::exact(
            &new,
            "sub:=42 email:str id:=42 role:=admin session_id:str device_id:=device-1 \
             tfa_verified:true exp:int iat:int nbf:int token_use:str jti:str auth_time:int",
        );
        assert_eq!(new["email"], user.email);
        assert_eq!(new["token_use"], token_use);
        assert_eq!(new["session_id"], user.session_id);
        assert_eq!(new["auth_time"], old["iat"]);
        assert_eq!(
            new["exp"].as_i64().unwrap() - new["iat"].as_i64().unwrap(),
            life
        );
        assert!((now() - new["iat"].as_i64().unwrap()).abs() <= 60);
    }
    let (access, refresh) = (
        &body["access_token"],
        body["refresh_token"].as_str().unwrap(),
    );
    assert_ne!(
        claims(access.as_str().unwrap())["jti"],
        claims(refresh)["jti"]
    );
    let valid = host
        .post(Service::Jwt, "/api/v1/jwt/validate")
        .json(&json!({"token": access}));
    assert_eq!(valid.send().await.json()["valid"], true);

    // The successor is good for a refresh; the first time of login stays.
    let next = by_body(&host, refresh).await.expect(200).json();
    assert_ne!(next["refresh_token"], body["refresh_token"]);
    assert_eq!(
        claims(next["refresh_token"].as_str().unwrap())["auth_time"],
        old["iat"]
    );
    // Bearer works like a body.
    let answer = host
        .post(Service::Jwt, REFRESH)
        .bearer(next["refresh_token"].as_str().unwrap());
    answer
        .send()
        .await
        .expect_shape(200, &format!("{GIVEN} refresh_token:str"));
}

/// Every use within the grace period gives the same successor.
#[tokio::test(flavor = "multi_thread")]
async fn grace_and_theft() {
    let host = Host::start().await;
    let first = host.tokens.marked_refresh(&User::new(42));
    let one = by_body(&host, &first).await.expect(200).json();
    let two = by_body(&host, &first).await.expect(200).json();
    for name in ["access_token", "refresh_token", "expires_at"] {
        assert_eq!(one[name], two[name], "{name}");
    }
    // The cookie form gives the same tokens.
    let three = by_cookie(&host, &first).await.expect(200);
    assert_eq!(
        three.set_cookie("refresh_token").as_deref(),
        one["refresh_token"].as_str()
    );

    let host = Host::builder()
        .env("REFRESH_GRACE_SECONDS", "1")
        .start()
        .await;
    let user = User::new(42);
    let first = host.tokens.marked_refresh(&user);
    let one = by_body(&host, &first).await.expect(200).json();
    tokio::time::sleep(Duration::from_millis(3_100)).await;
    let reused = by_cookie(&host, &first).await;
    refused(&reused, "token_revoked", "Token revoked");
    for name in ["access_token", "refresh_token"] {
        assert_eq!(
            reused.set_cookie(name).as_deref(),
            Some(""),
            "{name} should be deleted"
        );
    }
    // The whole session is gone: the thief's successor as well.
    let successor = one["refresh_token"].as_str().unwrap();
    refused(
        &by_body(&host, successor).await,
        "token_revoked",
        "Token revoked",
    );
    let access = one["access_token"].as_str().unwrap();
    let session = host
        .get(Service::Session, "/api/v1/session/validate")
        .bearer(access);
    assert_eq!(session.send().await.status, 401);
    let counters = host
        .get(Service::Jwt, "/api/v1/jwt/status")
        .send()
        .await
        .json();
    assert!(
        counters["counters"]["reuse_detected"].as_i64().unwrap() >= 1,
        "{counters}"
    );
}

/// What is no refresh token, and how unmarked ones are judged.
#[tokio::test(flavor = "multi_thread")]
async fn which_tokens() {
    let host = Host::start().await;
    let mint = &host.tokens;
    let user = User::new(42);
    let answer = host.post(Service::Jwt, REFRESH).send().await;
    refused(&answer, "token_missing", "Refresh token not found");
    let answer = host
        .post(Service::Jwt, REFRESH)
        .cookie("access_token", &mint.refresh(&user));
    refused(
        &answer.send().await,
        "token_missing",
        "Refresh token not found",
    );

    let base = || Tokens::unified_claims(&user, 604_800);
    let marked = |name: &str, value: Value| {
        let mut claims = base();
        set(&mut claims, "token_use", json!("refresh"));
        set(&mut claims, name, value);
        claims
    };
    let stranger = Tokens::new(b"another key that is long enough to be one");
    let mut expired = marked("exp", json!(now() - 61));
    set(&mut expired, "iat", json!(now() - 604_861));
    for (name, token, error, detail) in [
        (
            "access",
            mint.access(&user),
            "invalid_token",
            "Invalid token",
        ),
        (
            "marked access",
            mint.sign(&marked("token_use", json!("access"))),
            "invalid_token",
            "Invalid token",
        ),
        (
            "garbage",
            "garbage".to_owned(),
            "invalid_token",
            "Invalid token",
        ),
        (
            "no exp",
            mint.sign(&without(base(), "exp")),
            "invalid_token",
            "Invalid token",
        ),
        (
            "marked, no exp",
            mint.sign(&without(marked("x", json!(1)), "exp")),
            "invalid_token",
            "Invalid token",
        ),
        (
            "expired",
            mint.sign(&expired),
            "token_expired",
            "Token expired",
        ),
        (
            "other key",
            stranger.marked_refresh(&user),
            "invalid_signature",
            "Invalid token",
        ),
        ("service", mint.service(), "invalid_token", "Invalid token"),
        (
            "no iat but user_id: an access token",
            mint.sign(
                &json!({"sub": "42", "email": user.email, "role": "user", "user_id": 42,
                "exp": now() + 604_800}),
            ),
            "invalid_token",
            "Invalid token",
        ),
        (
            "role unknown",
            mint.sign(&marked("role", json!("root"))),
            "unsupported_format",
            "Invalid token",
        ),
    ] {
        let answer = by_body(&host, &token).await;
        let body = answer.expect_error(401, error);
        assert_eq!(body["detail"], detail, "{name}: {body}");
    }

    let older = mint.enhanced_refresh(&user);
    for (name, token, session) in [
        (
            "unified, by its life",
            mint.refresh(&user),
            user.session_id.clone(),
        ),
        ("older, without iat", older.clone(), derived_session(&older)),
        (
            "marked",
            mint.marked_refresh(&user),
            user.session_id.clone(),
        ),
        (
            "marked, short life",
            mint.sign(&marked("exp", json!(now() + 100))),
            user.session_id.clone(),
        ),
    ] {
        let body = by_body(&host, &token).await.expect(200).json();
        assert_eq!(body["session_id"], session, "{name}");
        let new = claims(body["refresh_token"].as_str().unwrap());
        assert_eq!(new["session_id"], session, "{name}");
        assert!(
            new["device_id"].as_str().is_some_and(|id| !id.is_empty()),
            "{name}: {new}"
        );
        if name.starts_with("older") {
            assert_eq!(new["tfa_verified"], false);
            assert!(
                (now() - new["auth_time"].as_i64().unwrap()).abs() < 60,
                "{new}"
            );
        }
    }

    // 30 days after the login the chain ends.
    let old = marked("auth_time", json!(now() - 30 * 86_400 - 61));
    assert_eq!(by_body(&host, &mint.sign(&old)).await.status, 401);
    let young = marked("auth_time", json!(now() - 29 * 86_400));
    by_body(&host, &mint.sign(&young)).await.expect(200);

    // The first that is present is used: cookie, body, Bearer.
    let good = mint.marked_refresh(&user);
    let call = || host.post(Service::Jwt, REFRESH);
    let answer = call()
        .cookie("refresh_token", "bad")
        .json(&json!({"refresh_token": good}));
    refused(&answer.send().await, "invalid_token", "Invalid token");
    let answer = call().bearer(&good).json(&json!({"refresh_token": "bad"}));
    refused(&answer.send().await, "invalid_token", "Invalid token");
    let answer = call()
        .bearer("bad")
        .cookie("refresh_token", &good)
        .send()
        .await;
    answer.expect_shape(200, GIVEN);
    for body in [
        json!({"refresh_token": 5}),
        json!({"refresh_token": ["x"]}),
        json!([]),
    ] {
        call()
            .json(&body)
            .send()
            .await
            .expect_error(422, "invalid_request");
    }
    call()
        .body("{\"refresh_token\"")
        .send()
        .await
        .expect_error(400, "invalid_request");
}

#[tokio::test(flavor = "multi_thread")]
async fn unmarked_by_setting() {
    let host = Host::builder()
        .env("REFRESH_ACCEPT_UNMARKED", "false")
        .start()
        .await;
    let user = User::new(42);
    for token in [
        host.tokens.refresh(&user),
        host.tokens.enhanced_refresh(&user),
    ] {
        refused(
            &by_body(&host, &token).await,
            "invalid_token",
            "Invalid token",
        );
    }
    by_body(&host, &host.tokens.marked_refresh(&user))
        .await
        .expect(200);
}

/// Revoked and disabled.
#[tokio::test(flavor = "multi_thread")]
async fn revoked_and_disabled() {
    let redis = RedisServer::start().await;
    let host = Host::builder().redis(&redis).start().await;
    let token = host.tokens.marked_refresh(&User::new(42));
    let key = format!("lockgate:revoked:token:{}", sha256(&token));
    let _: String = redis.run(&["SET", &key, "1", "EX", "3600"]).await;
    refused(
        &by_body(&host, &token).await,
        "token_revoked",
        "Token revoked",
    );
    let user = User::new(43);
    let record = json!({"is_active": false, "email": user.email, "role": "user",
        "checked_at": now()});
    let _: String = redis
        .run(&["SET", "lockgate:user:43", &record.to_string()])
        .await;
    let answer = by_body(&host, &host.tokens.marked_refresh(&user)).await;
    refused(&answer, "user_disabled", "User disabled");

    // The rotation is one record that ends with the token.
    let token = host.tokens.marked_refresh(&User::new(44));
    let body = by_body(&host, &token).await.expect(200).json();
    let key = format!("lockgate:rotated:{}", sha256(&token));
    let record = redis.get(&key).await.expect("a rotation record");
    assert!(
        serde_json::from_str::<Value>(&record).unwrap()["rotated_at"].is_number()
            || serde_json::from_str::<Value>(&record).unwrap()["rotated_at"].is_string()
    );
    let new = body["refresh_token"].as_str().unwrap();
    assert!(
        !record.contains(new) && !record.contains(&token),
        "no token is stored"
    );
    let ttl: i64 = redis.run(&["TTL", &key]).await;
    assert!((604_700..=604_860).contains(&ttl), "{ttl}");
}

/// The attributes of one `Set-Cookie` line, in lower case, without the pair.
fn attributes(answer: &Answer, name: &str) -> Vec<String> {
    let prefix = format!("{name}=");
    let lines = answer.all("set-cookie");
    let line = lines
        .iter()
        .find(|l| l.starts_with(&prefix))
        .expect("the cookie is set");
    let mut parts: Vec<_> = line
        .split(';')
        .skip(1)
        .map(|p| p.trim().to_lowercase())
        .collect();
    parts.sort();
    parts
}

/// The cookies, in development and in production.
#[tokio::test(flavor = "multi_thread")]
async fn cookies() {
    for production in [false, true] {
        let mut builder = Host::builder();
        if production {
            builder = builder
                .env("ENVIRONMENT", "production")
                .env("DOMAIN", "example.org");
        }
        let host = builder.start().await;
        let answer = by_cookie(&host, &host.tokens.marked_refresh(&User::new(42))).await;
        let body = answer.expect_shape(200, GIVEN);
        assert_eq!(
            answer.all("set-cookie").len(),
            3,
            "{:?}",
            answer.all("set-cookie")
        );
        assert_eq!(
            answer.set_cookie("access_token").as_deref(),
            body["access_token"].as_str()
        );
        let refresh = answer.set_cookie("refresh_token").unwrap();
        assert_eq!(claims(&refresh)["token_use"], "refresh");

        let more: &[&str] = if production {
            &["domain=.example.org", "secure"]
        } else {
            &[]
        };
        for (name, age, http_only) in [
            ("access_token", "max-age=3600", true),
            ("refresh_token", "max-age=604800", true),
            ("csrf_token", "max-age=604800", false),
        ] {
            let mut want = vec![age, "path=/", "samesite=lax"];
            want.extend(more);
            if http_only {
                want.push("httponly");
            }
            want.sort_unstable();
            assert_eq!(attributes(&answer, name), want, "{name}");
        }
        check_csrf(&answer.set_cookie("csrf_token").unwrap(), host.tokens.key());

        // A token by body or Bearer sets no cookie.
        let token = host.tokens.marked_refresh(&User::new(43));
        assert_eq!(
            by_body(&host, &token)
                .await
                .expect(200)
                .all("set-cookie")
                .len(),
            0
        );
    }

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("csrf");
    std::fs::write(&file, "a csrf secret of its own, long enough\n").unwrap();
    let host = Host::builder()
        .env("CSRF_SECRET_FILE", file.display().to_string())
        .start()
        .await;
    let answer = by_cookie(&host, &host.tokens.marked_refresh(&User::new(42)))
        .await
        .expect(200);
    let cookie = answer.set_cookie("csrf_token").unwrap();
    check_csrf(&cookie, b"a csrf secret of its own, long enough");
}

/// `<unix s>:<43-char nonce>:<hex HMAC-SHA256>`
fn check_csrf(cookie: &str, key: &[u8]) {
    let parts: Vec<_> = cookie.split(':').collect();
    let [time, nonce, mac] = parts[..] else {
        panic!("three parts: {cookie}")
    };
    assert!(
        (now() - time.parse::<i64>().unwrap()).abs() < 60,
        "{cookie}"
    );
    assert_eq!(nonce.len(), 43, "{cookie}");
    assert!(URL_SAFE_NO_PAD.decode(nonce).is_ok(), "{cookie}");
    let key = EncodingKey::from_secret(key);
    let message = format!("{time}:{nonce}");
    let sign = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    assert_eq!(mac, hex::encode(URL_SAFE_NO_PAD.decode(sign).unwrap()));
}
