//! Refresh: what counts as a refresh token, rotation, grace, theft, races and
//! cookies, over real sockets on the embedded store and on Redis.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lockgate_tests::tokens::{claims, derived_session, set, sha256, without};
use lockgate_tests::{Answer, Host, RedisServer, Service, Tokens, User, now};
use serde_json::{Value, json};

const PATH: &str = "/api/v1/jwt/refresh";
const SHAPE: &str = "access_token:str token:str token_type:=bearer expires_in:=3600 \
    expires_at:time user_id:int email:str role:role session_id:str degraded:bool message:str";

async fn by_body(host: &Host, token: &str) -> Answer {
    host.post(Service::Jwt, PATH)
        .json(&json!({"refresh_token": token}))
        .send()
        .await
}

async fn by_cookie(host: &Host, token: &str) -> Answer {
    host.post(Service::Jwt, PATH)
        .cookie("refresh_token", token)
        .send()
        .await
}

/// A refresh that must work by body; gives the answer's JSON.
async fn good(host: &Host, token: &str) -> Value {
    by_body(host, token)
        .await
        .expect_shape(200, &format!("{SHAPE} refresh_token:str"))
}

fn refused(answer: &Answer, error: &str, detail: &str) {
    let body = answer.expect_error(401, error);
    assert_eq!(body["detail"], detail);
    assert_eq!(answer.header("www-authenticate"), "Bearer");
    assert_eq!(answer.header("cache-control"), "no-store");
}

async fn validates(host: &Host, token: &str) -> bool {
    let call = host
        .post(Service::Jwt, "/api/v1/jwt/validate")
        .bearer(token);
    call.send().await.expect(200).json()["valid"] == true
}

async fn grace(seconds: u32) -> Host {
    Host::builder()
        .env("REFRESH_GRACE_SECONDS", seconds.to_string())
        .start()
        .await
}

#[tokio::test]
async fn the_new_tokens_are_of_the_same_login() {
    let host = Host::start().await;
    let user = User::new(14);
    let old = host.tokens.marked_refresh(&user);
    let body = good(&host, &old).await;
    assert_eq!(body["access_token"], body["token"]);
    assert_eq!(
        (&body["user_id"], &body["email"]),
        (&json!(14), &json!(user.email))
    );
    assert_eq!(
        (&body["role"], &body["session_id"]),
        (&json!("user"), &json!(user.session_id))
    );
    assert_eq!(body["degraded"], false);
    let (old, began) = (claims(&old), now());
    for (name, mark, life) in [
        ("access_token", "access", 3_600),
        ("refresh_token", "refresh", 604_800),
    ] {
        let new = claims(body[name].as_str().unwrap());
        for kept in [
            "sub",
            "email",
            "id",
            "role",
            "session_id",
            "device_id",
            "tfa_verified",
        ] {
            assert_eq!(new[kept], old[kept], "{name}: {kept}");
        }
        assert_eq!(new["token_use"], mark);
        assert_eq!(
            new["auth_time"], old["iat"],
            "{name}: the first token's iat"
        );
        let issued = new["iat"].as_i64().expect("iat is an integer");
        assert!(
            (began - 60..=began + 60).contains(&issued),
            "{name}: {issued}"
        );
        assert_eq!(new["exp"].as_i64().unwrap() - issued, life, "{name}");
        assert!(
            new["jti"].as_str().is_some_and(|jti| jti.len() >= 16),
            "{name}: {new}"
        );
    }
    assert!(validates(&host, body["access_token"].as_str().unwrap()).await);
    assert!(!validates(&host, body["refresh_token"].as_str().unwrap()).await);
}

#[tokio::test]
async fn a_chain_of_refreshes_keeps_its_session_and_first_login() {
    let host = Host::start().await;
    let first = host.tokens.marked_refresh(&User::new(14));
    let (mut token, mut seen) = (first.clone(), BTreeSet::new());
    for _ in 0..5 {
        let body = good(&host, &token).await;
        assert_eq!(body["session_id"], "s-14Qx");
        token = body["refresh_token"].as_str().unwrap().to_owned();
        assert!(seen.insert(token.clone()), "each successor is a new token");
        assert_eq!(claims(&token)["auth_time"], claims(&first)["iat"]);
    }
}

#[tokio::test]
async fn a_second_use_in_the_grace_period_gets_the_same_bytes() {
    let host = Host::start().await;
    let old = host.tokens.marked_refresh(&User::new(14));
    let first = good(&host, &old).await;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let second = good(&host, &old).await;
    assert_eq!(first["refresh_token"], second["refresh_token"]);
    assert_eq!(first["access_token"], second["access_token"]);
    assert_eq!(first["expires_at"], second["expires_at"]);
}

#[tokio::test]
async fn the_same_bytes_come_after_a_restart_too() {
    let mut host = Host::start().await;
    let old = host.tokens.marked_refresh(&User::new(14));
    let first = good(&host, &old).await;
    host.kill().await;
    host.start_again().await;
    let second = good(&host, &old).await;
    assert_eq!(first["refresh_token"], second["refresh_token"]);
    assert_eq!(first["access_token"], second["access_token"]);
}

#[tokio::test]
async fn replicas_on_one_redis_give_the_same_bytes() {
    use lockgate_tests::host::Secret;
    let redis = RedisServer::start().await;
    let key = b"0123456789abcdef0123456789abcdef0123456789abcdef".to_vec();
    let one = Host::builder()
        .redis(&redis)
        .secret(Secret::Bytes(key.clone()))
        .start()
        .await;
    let two = Host::builder()
        .redis(&redis)
        .secret(Secret::Bytes(key))
        .start()
        .await;
    let old = one.tokens.marked_refresh(&User::new(14));
    let (first, second) = (good(&one, &old).await, good(&two, &old).await);
    assert_eq!(first["refresh_token"], second["refresh_token"]);
    assert_eq!(first["access_token"], second["access_token"]);
}

async fn race(host: Host) {
    let host = Arc::new(host);
    for round in 0..3 {
        let old = host.tokens.marked_refresh(&User::new(100 + round));
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..60 {
            let (host, old) = (Arc::clone(&host), old.clone());
            calls.spawn(async move { by_body(&host, &old).await });
        }
        let mut pairs = BTreeSet::new();
        for answer in calls.join_all().await {
            let body = answer.expect(200).json();
            let text = |name: &str| body[name].as_str().expect("a token").to_owned();
            pairs.insert((text("access_token"), text("refresh_token")));
        }
        assert_eq!(pairs.len(), 1, "one successor, whoever asks");
        let (access, next) = pairs.pop_first().unwrap();
        assert!(validates(&host, &access).await);
        good(&host, &next).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_at_once_get_one_successor_on_the_embedded_store() {
    race(Host::start().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_at_once_get_one_successor_on_redis() {
    let redis = RedisServer::start().await;
    race(Host::builder().redis(&redis).start().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_at_once_get_one_successor_from_two_replicas() {
    use lockgate_tests::host::Secret;
    let redis = RedisServer::start().await;
    let key = b"0123456789abcdef0123456789abcdef0123456789abcdef".to_vec();
    let one = Host::builder()
        .redis(&redis)
        .secret(Secret::Bytes(key.clone()))
        .start()
        .await;
    let two = Host::builder()
        .redis(&redis)
        .secret(Secret::Bytes(key))
        .start()
        .await;
    let hosts = [Arc::new(one), Arc::new(two)];
    let old = hosts[0].tokens.marked_refresh(&User::new(14));
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..60 {
        let (host, old) = (Arc::clone(&hosts[number % 2]), old.clone());
        calls.spawn(async move { by_body(&host, &old).await.expect(200).json() });
    }
    let bodies = calls.join_all().await;
    let tokens: BTreeSet<_> = bodies
        .iter()
        .map(|body| body["refresh_token"].as_str().expect("a token"))
        .collect();
    assert_eq!(tokens.len(), 1, "one successor over both replicas");
}

/// Uses a token again after its grace period; everything of its session ends.
async fn theft(host: Host) {
    let user = User::new(14);
    let old = host.tokens.marked_refresh(&user);
    let body = good(&host, &old).await;
    let (access, next) = (
        body["access_token"].as_str().unwrap(),
        &body["refresh_token"],
    );
    let other = host.tokens.access(&user.clone().session("s-other"));
    assert!(validates(&host, access).await);
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let answer = by_cookie(&host, &old).await;
    refused(&answer, "token_revoked", "Token revoked");
    for name in ["access_token", "refresh_token"] {
        let lines = answer.all("set-cookie");
        let line = lines
            .iter()
            .find(|line| line.starts_with(&format!("{name}=;")));
        assert!(
            line.is_some_and(|line| line.contains("Max-Age=0")),
            "{name} is deleted: {lines:?}"
        );
    }
    refused(
        &by_body(&host, next.as_str().unwrap()).await,
        "token_revoked",
        "Token revoked",
    );
    assert!(
        !validates(&host, access).await,
        "the session's access token ends too"
    );
    assert!(
        validates(&host, &other).await,
        "another session of the user goes on"
    );
    let status = host
        .get(Service::Jwt, "/api/v1/jwt/status")
        .send()
        .await
        .expect(200)
        .json();
    assert!(
        status["counters"]["reuse_detected"].as_u64() >= Some(1),
        "{status}"
    );
}

#[tokio::test]
async fn a_use_after_the_grace_period_is_theft_on_the_embedded_store() {
    theft(grace(1).await).await;
}

#[tokio::test]
async fn a_use_after_the_grace_period_is_theft_on_redis() {
    let redis = RedisServer::start().await;
    theft(
        Host::builder()
            .redis(&redis)
            .env("REFRESH_GRACE_SECONDS", "1")
            .start()
            .await,
    )
    .await;
    let keys = redis.keys().await;
    assert!(
        keys.contains(&"lockgate:revoked:session:14:s-14Qx".to_owned()),
        "{keys:?}"
    );
}

#[tokio::test]
async fn the_grace_holds_for_the_direct_parent_only() {
    let host = Host::start().await;
    let grandparent = host.tokens.marked_refresh(&User::new(14));
    let parent = good(&host, &grandparent).await["refresh_token"]
        .as_str()
        .unwrap()
        .to_owned();
    let child = good(&host, &parent).await["refresh_token"]
        .as_str()
        .unwrap()
        .to_owned();
    refused(
        &by_body(&host, &grandparent).await,
        "token_revoked",
        "Token revoked",
    );
    refused(
        &by_body(&host, &child).await,
        "token_revoked",
        "Token revoked",
    );
}

#[tokio::test]
async fn theft_outlives_a_restart() {
    let mut host = grace(1).await;
    let old = host.tokens.marked_refresh(&User::new(14));
    let next = good(&host, &old).await["refresh_token"]
        .as_str()
        .unwrap()
        .to_owned();
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    host.kill().await;
    host.start_again().await;
    refused(
        &by_body(&host, &old).await,
        "token_revoked",
        "Token revoked",
    );
    refused(
        &by_body(&host, &next).await,
        "token_revoked",
        "Token revoked",
    );
}

#[tokio::test]
async fn the_rotation_record_lies_in_redis_without_any_token() {
    let redis = RedisServer::start().await;
    let host = Host::builder().redis(&redis).start().await;
    let old = host.tokens.marked_refresh(&User::new(14));
    let body = good(&host, &old).await;
    let key = format!("lockgate:rotated:{}", sha256(&old));
    let record = redis.get(&key).await.expect("the rotation record");
    let value: Value = serde_json::from_str(&record).expect("JSON");
    assert!(
        value["rotated_at"].is_number() || value["rotated_at"].is_string(),
        "{value}"
    );
    let signature = |token: &Value| {
        token
            .as_str()
            .unwrap()
            .rsplit('.')
            .next()
            .unwrap()
            .to_owned()
    };
    for name in ["access_token", "refresh_token"] {
        assert!(
            !record.contains(&signature(&body[name])),
            "{name} stands in {record}"
        );
    }
    let left: i64 = redis.run(&["TTL", &key]).await;
    let wanted = claims(&old)["exp"].as_i64().unwrap() + 60 - now();
    assert!(
        (left - wanted).abs() < 30,
        "to exp + 60: {left} against {wanted}"
    );
}

#[tokio::test]
async fn an_access_token_is_no_refresh_token() {
    let host = Host::start().await;
    let user = User::new(14);
    let mut marked = Tokens::unified_claims(&user, 604_800);
    set(&mut marked, "token_use", json!("access"));
    let other = {
        let mut claims = Tokens::unified_claims(&user, 604_800);
        set(&mut claims, "token_use", json!("anything"));
        claims
    };
    for token in [
        host.tokens.access(&user),
        host.tokens.legacy(&user),
        host.tokens.scoped(&user),
        host.tokens.sign(&marked),
        host.tokens.sign(&other),
        // Without `iat`, one with `user_id` is an access token.
        host.tokens.sign(&without(cookie_claims(&user), "iat")),
    ] {
        refused(
            &by_body(&host, &token).await,
            "invalid_token",
            "Invalid token",
        );
    }
}

fn cookie_claims(user: &User) -> Value {
    json!({
        "sub": user.id.to_string(), "email": user.email, "role": user.role,
        "user_id": user.id, "iat": now(), "exp": now() + 604_800,
    })
}

#[tokio::test]
async fn unmarked_tokens_are_judged_by_their_shape() {
    let host = Host::start().await;
    for token in [
        host.tokens.refresh(&User::new(14)),
        host.tokens.enhanced_refresh(&User::new(15)),
        host.tokens
            .sign(&without(Tokens::unified_claims(&User::new(16), 600), "iat")),
        host.tokens
            .sign(&Tokens::unified_claims(&User::new(17), 86_401)),
    ] {
        good(&host, &token).await;
    }
    let day = host
        .tokens
        .sign(&Tokens::unified_claims(&User::new(18), 86_400));
    refused(
        &by_body(&host, &day).await,
        "invalid_token",
        "Invalid token",
    );
}

#[tokio::test]
async fn unmarked_tokens_can_be_switched_off() {
    let host = Host::builder()
        .env("REFRESH_ACCEPT_UNMARKED", "false")
        .start()
        .await;
    let user = User::new(14);
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
    good(&host, &host.tokens.marked_refresh(&user)).await;
}

#[tokio::test]
async fn what_an_old_token_lacks_is_filled_in() {
    let host = Host::start().await;
    let old = host.tokens.enhanced_refresh(&User::new(14));
    let body = good(&host, &old).await;
    assert_eq!(body["session_id"], derived_session(&old));
    let new = claims(body["refresh_token"].as_str().unwrap());
    assert_eq!(new["session_id"], derived_session(&old));
    assert_eq!(new["tfa_verified"], false);
    assert!(
        new["device_id"].as_str().is_some_and(|id| !id.is_empty()),
        "{new}"
    );
    assert!((new["auth_time"].as_i64().expect("auth_time") - now()).abs() < 60);
}

#[tokio::test]
async fn thirty_days_after_the_login_it_ends() {
    let host = Host::start().await;
    let began = |days: i64| {
        let mut claims = Tokens::unified_claims(&User::new(14), 604_800);
        set(&mut claims, "token_use", json!("refresh"));
        set(&mut claims, "auth_time", json!(now() - days * 86_400));
        host.tokens.sign(&claims)
    };
    let young = began(29);
    let body = good(&host, &young).await;
    let kept = claims(body["refresh_token"].as_str().unwrap());
    assert_eq!(kept["auth_time"], claims(&young)["auth_time"]);
    assert_eq!(by_body(&host, &began(31)).await.status, 401);
}

#[tokio::test]
async fn bad_tokens_have_their_own_words() {
    let host = Host::start().await;
    let user = User::new(14);
    let missing = host.post(Service::Jwt, PATH).send().await;
    refused(&missing, "token_missing", "Refresh token not found");
    refused(
        &by_body(&host, "no.token.atall").await,
        "invalid_token",
        "Invalid token",
    );
    let mut claims = Tokens::unified_claims(&user, -120);
    set(&mut claims, "iat", json!(now() - 604_920));
    set(&mut claims, "token_use", json!("refresh"));
    refused(
        &by_body(&host, &host.tokens.sign(&claims)).await,
        "token_expired",
        "Token expired",
    );
    let foreign = Tokens::new(b"another key of at least thirty-two bytes").marked_refresh(&user);
    refused(
        &by_body(&host, &foreign).await,
        "invalid_signature",
        "Invalid token",
    );
    let mut endless = Tokens::unified_claims(&user, 604_800);
    set(&mut endless, "token_use", json!("refresh"));
    let endless = host.tokens.sign(&without(endless, "exp"));
    refused(
        &by_body(&host, &endless).await,
        "invalid_token",
        "Invalid token",
    );
    let wrong = host
        .post(Service::Jwt, PATH)
        .json(&json!({"refresh_token": 5}))
        .send()
        .await;
    wrong.expect_error(422, "invalid_request");
    let broken = host.post(Service::Jwt, PATH).body("{").send().await;
    broken.expect_error(400, "invalid_request");
}

#[tokio::test]
async fn a_missing_exp_is_refused_even_where_access_tokens_may_lack_it() {
    let host = Host::builder()
        .env("JWT_ALLOW_MISSING_EXP", "true")
        .start()
        .await;
    let mut endless = Tokens::unified_claims(&User::new(14), 604_800);
    set(&mut endless, "token_use", json!("refresh"));
    let endless = host.tokens.sign(&without(endless, "exp"));
    refused(
        &by_body(&host, &endless).await,
        "invalid_token",
        "Invalid token",
    );
}

#[tokio::test]
async fn cookie_before_body_before_bearer() {
    let host = Host::start().await;
    let [cookie, body, bearer] = [1, 2, 3].map(|id| host.tokens.marked_refresh(&User::new(id)));
    let call = || host.post(Service::Jwt, PATH);
    let all = call()
        .cookie("refresh_token", &cookie)
        .json(&json!({"refresh_token": body}))
        .bearer(&bearer);
    assert_eq!(all.send().await.expect(200).json()["user_id"], 1);
    let two = call().json(&json!({"refresh_token": body})).bearer(&bearer);
    assert_eq!(two.send().await.expect(200).json()["user_id"], 2);
    assert_eq!(
        call().bearer(&bearer).send().await.expect(200).json()["user_id"],
        3
    );
    // The first present is used, good or not.
    let bad = call()
        .cookie("refresh_token", "bad")
        .json(&json!({"refresh_token": body}));
    refused(&bad.send().await, "invalid_token", "Invalid token");
}

#[tokio::test]
async fn cookies_are_set_only_for_cookies() {
    let host = Host::start().await;
    let user = User::new(14);
    for answer in [
        by_body(&host, &host.tokens.marked_refresh(&user)).await,
        host.post(Service::Jwt, PATH)
            .bearer(&host.tokens.marked_refresh(&user))
            .send()
            .await,
    ] {
        let body = answer.expect(200);
        assert_eq!(body.all("set-cookie"), Vec::<String>::new());
        assert!(body.json()["refresh_token"].is_string());
    }
    let answer = by_cookie(&host, &host.tokens.marked_refresh(&user)).await;
    let body = answer.expect_shape(200, SHAPE);
    assert_eq!(
        answer.set_cookie("access_token").as_deref(),
        body["access_token"].as_str()
    );
    let refresh = answer
        .set_cookie("refresh_token")
        .expect("a refresh cookie");
    assert_eq!(claims(&refresh)["token_use"], "refresh");
    let csrf = answer.set_cookie("csrf_token").expect("a CSRF cookie");
    let parts: Vec<&str> = csrf.split(':').collect();
    assert!(
        (parts[0].parse::<i64>().unwrap() - now()).abs() < 60,
        "{csrf}"
    );
    assert_eq!(
        (parts[1].len(), parts[2].len(), parts.len()),
        (43, 64, 3),
        "{csrf}"
    );
    for line in answer.all("set-cookie") {
        assert!(
            line.contains("Path=/") && line.contains("SameSite=Lax"),
            "{line}"
        );
        assert_eq!(
            line.contains("HttpOnly"),
            !line.starts_with("csrf_token="),
            "{line}"
        );
        assert!(
            !line.contains("Secure") && !line.contains("Domain"),
            "{line}"
        );
        let age = if line.starts_with("access_token=") {
            "Max-Age=3600"
        } else {
            "Max-Age=604800"
        };
        assert!(line.contains(age), "{line}");
    }
}

#[tokio::test]
async fn in_production_cookies_are_secure_and_of_the_domain() {
    let host = Host::builder()
        .env("ENVIRONMENT", "production")
        .env("DOMAIN", "example.org")
        .start()
        .await;
    let answer = by_cookie(&host, &host.tokens.marked_refresh(&User::new(14)))
        .await
        .expect(200);
    let lines = answer.all("set-cookie");
    assert_eq!(lines.len(), 3, "{lines:?}");
    for line in lines {
        assert!(
            line.contains("Secure") && line.contains("Domain=.example.org"),
            "{line}"
        );
    }
}

#[tokio::test]
async fn a_foreign_origin_is_refused_and_rotates_nothing() {
    let host = Host::start().await;
    let token = host.tokens.marked_refresh(&User::new(14));
    for (name, value) in [
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        let call = host
            .post(Service::Jwt, PATH)
            .cookie("refresh_token", &token);
        call.header(name, value)
            .send()
            .await
            .expect_error(403, "origin_refused");
    }
    let own = format!("http://127.0.0.1:{}", host.port(Service::Jwt));
    let call = host
        .post(Service::Jwt, PATH)
        .cookie("refresh_token", &token);
    call.header("origin", &own).send().await.expect(200);
}

#[tokio::test]
async fn a_revoked_session_gets_no_new_tokens() {
    let host = Host::start().await;
    let user = User::new(14);
    let logout = host.post(Service::Coordinator, "/api/v1/auth/logout");
    logout
        .bearer(&host.tokens.access(&user))
        .send()
        .await
        .expect(204);
    let token = host.tokens.marked_refresh(&user);
    refused(
        &by_body(&host, &token).await,
        "token_revoked",
        "Token revoked",
    );
}

#[tokio::test]
async fn a_disabled_user_gets_no_new_tokens() {
    let redis = RedisServer::start().await;
    let host = Host::builder().redis(&redis).start().await;
    let record = json!({
        "is_active": false, "email": "ada14@example.org", "role": "user", "checked_at": now(),
    });
    redis
        .run::<()>(&["SET", "lockgate:user:14", &record.to_string(), "EX", "600"])
        .await;
    let token = host.tokens.marked_refresh(&User::new(14));
    refused(
        &by_body(&host, &token).await,
        "user_disabled",
        "User disabled",
    );
}

#[tokio::test]
async fn role_and_email_come_from_the_users_record() {
    let redis = RedisServer::start().await;
    let host = Host::builder().redis(&redis).start().await;
    let record = json!({
        "is_active": true, "email": "ada14@example.org", "role": "user", "checked_at": now(),
    });
    redis
        .run::<()>(&["SET", "lockgate:user:14", &record.to_string(), "EX", "600"])
        .await;
    let body = good(&host, &host.tokens.marked_refresh(&User::admin(14))).await;
    assert_eq!(body["role"], "user", "an admin that is no more");
    assert_eq!(
        claims(body["access_token"].as_str().unwrap())["role"],
        "user"
    );
}

#[tokio::test]
async fn while_redis_is_away_nothing_is_rotated() {
    let mut redis = RedisServer::start().await;
    let host = Host::builder().redis(&redis).start().await;
    let token = host.tokens.marked_refresh(&User::new(14));
    redis.kill();
    let answer = by_cookie(&host, &token).await;
    let body = answer.expect_shape(200, SHAPE);
    assert_eq!(body["degraded"], true);
    assert!(validates(&host, body["access_token"].as_str().unwrap()).await);
    assert!(answer.set_cookie("access_token").is_some());
    assert_eq!(
        answer.set_cookie("refresh_token"),
        None,
        "the refresh cookie stays"
    );
    let answer = by_body(&host, &token).await.expect(200);
    assert_eq!(
        answer.json().get("refresh_token").and_then(Value::as_str),
        None
    );
    redis.start_again().await;
    lockgate_tests::wait::eventually("it rotates again", async || {
        let body = by_body(&host, &token).await.expect(200).json();
        if body["refresh_token"].is_string() {
            Ok(())
        } else {
            Err(body)
        }
    })
    .await;
}
