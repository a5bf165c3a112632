//! Logout, sync-auth and disabled users: what is revoked is refused on every port,
//! and nothing else is.

use lockgate_tests::shape::N;
use lockgate_tests::tokens::sha256;
use lockgate_tests::wait::eventually;
use lockgate_tests::{Answer, Call, Host, RedisServer, Service, Tokens, User, now};
use serde_json::{Value, json};

/// Every endpoint that judges a token, with what it answers to a revoked one.
async fn refused_everywhere(host: &Host, token: &str, error: &str) {
    for path in ["/api/v1/session/validate"] {
        for call in [
            host.get(Service::Session, path),
            host.post(Service::Session, path),
        ] {
            let body = call
                .bearer(token)
                .send()
                .await
                .expect_shape(401, &format!("{N} detail:str"));
            assert_eq!(
                (&body["error"], &body["code"]),
                (&json!(error), &json!("AUTH_002"))
            );
        }
    }
    let n = |service, path| host.post(service, path).bearer(token).send();
    n(Service::Jwt, "/api/v1/jwt/validate")
        .await
        .expect_invalid(error);
    n(Service::Gateway, "/api/v1/ws-auth/validate")
        .await
        .expect_invalid(error);
    let fallback = n(Service::Fallback, "/api/v1/fallback/validate").await;
    fallback.expect_invalid_with(error, "fallback:true");
    let gets = [
        (Service::Jwt, "/api/v1/auth/verify-token"),
        (Service::Session, "/api/v1/session/info"),
        (Service::Gateway, "/api/v1/ws-auth/connection-info"),
    ];
    for (service, path) in gets {
        host.get(service, path)
            .bearer(token)
            .send()
            .await
            .expect_error(401, error);
    }
    let posts = [
        (Service::Session, "/api/v1/session/normalize"),
        (Service::Fallback, "/api/v1/fallback/create"),
        (Service::Fallback, "/api/v1/fallback/emergency-auth"),
    ];
    for (service, path) in posts {
        host.post(service, path)
            .bearer(token)
            .send()
            .await
            .expect_error(401, error);
    }
    let authorize = n(Service::Gateway, "/api/v1/ws-auth/authorize").await;
    let more = "authorized:false close_code:=1008 reason:str";
    authorize.expect_error_with(401, error, more);
    let sync = host
        .post(Service::Coordinator, "/api/v1/coordinator/sync-auth")
        .bearer(token);
    let event = event(14, "login", Some("s-14Qx"));
    sync.json(&event).send().await.expect_error(401, error);
}

async fn good_everywhere(host: &Host, token: &str) {
    let validates = [
        (Service::Session, "/api/v1/session/validate"),
        (Service::Jwt, "/api/v1/jwt/validate"),
        (Service::Gateway, "/api/v1/ws-auth/validate"),
        (Service::Fallback, "/api/v1/fallback/validate"),
    ];
    for (service, path) in validates {
        let body = host
            .post(service, path)
            .bearer(token)
            .send()
            .await
            .expect(200)
            .json();
        assert_eq!(body["valid"], true, "{path}: {body}");
    }
    host.get(Service::Jwt, "/api/v1/auth/verify-token")
        .bearer(token)
        .send()
        .await
        .expect(200);
}

fn event(user: u32, event_type: &str, session: Option<&str>) -> Value {
    let mut body = json!({
        "user_id": user, "email": format!("ada{user}@example.org"),
        "event_type": event_type, "source": "api",
    });
    if let Some(session) = session {
        body["session_id"] = json!(session);
    }
    body
}

fn sync(host: &Host) -> Call {
    host.post(Service::Coordinator, "/api/v1/coordinator/sync-auth")
}

async fn logout(host: &Host, token: &str) -> Answer {
    let call = host.post(Service::Coordinator, "/api/v1/auth/logout");
    call.cookie("access_token", token).send().await
}

async fn both_stores(test: impl AsyncFn(&Host, Option<&RedisServer>)) {
    let host = Host::start().await;
    test(&host, None).await;
    let redis = RedisServer::start().await;
    let host = Host::builder().redis(&redis).start().await;
    test(&host, Some(&redis)).await;
}

#[tokio::test]
async fn after_logout_the_token_is_refused_on_every_port() {
    both_stores(async |host, redis| {
        let user = User::new(14);
        let token = host.tokens.access(&user);
        good_everywhere(host, &token).await;
        let answer = logout(host, &token).await.expect(204);
        assert!(answer.body.is_empty());
        refused_everywhere(host, &token, "token_revoked").await;
        // So is any other token of the session, and no other session's.
        let mut sibling = Tokens::unified_claims(&user, 3_000);
        sibling["jti"] = json!("a sibling");
        refused_everywhere(host, &host.tokens.sign(&sibling), "token_revoked").await;
        good_everywhere(host, &host.tokens.access(&user.session("s-other"))).await;
        good_everywhere(host, &host.tokens.access(&User::new(15))).await;
        if let Some(redis) = redis {
            let keys = redis.keys().await;
            let token_key = format!("lockgate:revoked:token:{}", sha256(&token));
            assert!(keys.contains(&token_key), "{keys:?}");
            assert!(
                keys.contains(&"lockgate:revoked:session:14:s-14Qx".to_owned()),
                "{keys:?}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn logout_deletes_the_cookies_with_and_without_a_token() {
    let host = Host::start().await;
    let good = host.tokens.access(&User::new(14));
    for answer in [
        logout(&host, &good).await,
        logout(&host, "not a token").await,
        host.post(Service::Coordinator, "/api/v1/auth/logout")
            .send()
            .await,
    ] {
        let answer = answer.expect(204);
        let lines = answer.all("set-cookie");
        for name in ["access_token", "refresh_token", "auth_token", "csrf_token"] {
            let line = lines
                .iter()
                .find(|line| line.starts_with(&format!("{name}=;")));
            let line = line.unwrap_or_else(|| panic!("{name} is not deleted: {lines:?}"));
            assert!(
                line.contains("Max-Age=0") && line.contains("Path=/"),
                "{line}"
            );
        }
    }
}

#[tokio::test]
async fn in_production_logout_deletes_both_kinds_of_cookies() {
    let host = Host::builder()
        .env("ENVIRONMENT", "production")
        .env("DOMAIN", "example.org")
        .start()
        .await;
    let lines = logout(&host, "none").await.expect(204).all("set-cookie");
    for name in ["access_token", "refresh_token", "auth_token", "csrf_token"] {
        let of_name: Vec<_> = lines
            .iter()
            .filter(|line| line.starts_with(&format!("{name}=;")))
            .collect();
        assert!(
            of_name
                .iter()
                .any(|line| line.contains("Domain=.example.org")),
            "{lines:?}"
        );
        assert!(
            of_name.iter().any(|line| !line.contains("Domain")),
            "{lines:?}"
        );
    }
}

#[tokio::test]
async fn logout_revokes_every_good_token_that_is_presented() {
    let host = Host::start().await;
    let user = User::new(14);
    let [bearer, access, auth] =
        ["s-1", "s-2", "s-3"].map(|session| host.tokens.access(&user.clone().session(session)));
    let refresh = host.tokens.marked_refresh(&user.clone().session("s-4"));
    let call = host
        .post(Service::Coordinator, "/api/v1/auth/logout")
        .bearer(&bearer);
    let call = call
        .cookie("access_token", &access)
        .cookie("auth_token", &auth);
    call.cookie("refresh_token", &refresh)
        .send()
        .await
        .expect(204);
    for token in [bearer, access, auth] {
        let call = host
            .get(Service::Jwt, "/api/v1/auth/verify-token")
            .bearer(&token);
        call.send().await.expect_error(401, "token_revoked");
    }
    let call = host.post(Service::Jwt, "/api/v1/jwt/refresh");
    let answer = call.json(&json!({"refresh_token": refresh})).send().await;
    answer.expect_error(401, "token_revoked");
}

#[tokio::test]
async fn a_foreign_origin_logs_nobody_out() {
    let host = Host::start().await;
    let token = host.tokens.access(&User::new(14));
    for (name, value) in [
        ("origin", "https://evil.example"),
        ("sec-fetch-site", "cross-site"),
    ] {
        let call = host.post(Service::Coordinator, "/api/v1/auth/logout");
        let call = call.cookie("access_token", &token).header(name, value);
        let answer = call.send().await;
        answer.expect_error(403, "origin_refused");
        assert!(answer.all("set-cookie").is_empty());
    }
    good_everywhere(&host, &token).await;
}

#[tokio::test]
async fn a_logout_event_without_a_session_ends_all_of_the_user() {
    both_stores(async |host, redis| {
        let user = User::new(14);
        let tokens =
            ["s-1", "s-2"].map(|session| host.tokens.access(&user.clone().session(session)));
        let answer = sync(host)
            .bearer(&tokens[0])
            .json(&event(14, "logout", None))
            .send()
            .await;
        assert_eq!(answer.expect(200).json()["success"], true);
        for token in &tokens {
            refused_everywhere(host, token, "token_revoked").await;
        }
        // Issued after the cut-off: a new login.
        let mut later = Tokens::unified_claims(&user, 3_600);
        later["iat"] = json!(now() + 10);
        good_everywhere(host, &host.tokens.sign(&later)).await;
        // No `iat`, or one far ahead, does not escape a cut-off (strict emergency
        // mode refuses such tokens anyway).
        let mut ahead = Tokens::unified_claims(&user, 3_600);
        ahead["iat"] = json!(now() + 3_000);
        refused_in_short(host, &host.tokens.sign(&ahead)).await;
        ahead.as_object_mut().unwrap().remove("iat");
        refused_in_short(host, &host.tokens.sign(&ahead)).await;
        good_everywhere(host, &host.tokens.access(&User::new(15))).await;
        if let Some(redis) = redis {
            let cut_off = redis
                .get("lockgate:revoked:user:14")
                .await
                .expect("the cut-off");
            let cut_off: i64 = cut_off.parse().expect("unix seconds");
            assert!((cut_off - now()).abs() < 60, "{cut_off}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_logout_event_of_a_session_leaves_the_others() {
    both_stores(async |host, _| {
        let user = User::new(14);
        let [one, two] =
            ["s-1", "s-2"].map(|session| host.tokens.access(&user.clone().session(session)));
        let body = event(14, "logout", Some("s-1"));
        let answer = sync(host)
            .bearer(&one)
            .json(&body)
            .send()
            .await
            .expect(200)
            .json();
        assert_eq!(answer["event_type"], "logout");
        refused_everywhere(host, &one, "token_revoked").await;
        good_everywhere(host, &two).await;
    })
    .await;
}

#[tokio::test]
async fn a_derived_session_is_logged_out_too() {
    let host = Host::start().await;
    let token = host.tokens.enhanced(&User::new(14));
    good_everywhere(&host, &token).await;
    logout(&host, &token).await.expect(204);
    refused_everywhere(&host, &token, "token_revoked").await;
}

#[tokio::test]
async fn revocations_outlive_kill_and_restart() {
    let mut host = Host::start().await;
    let [one, two] = [14, 15].map(|id| host.tokens.access(&User::new(id)));
    logout(&host, &one).await.expect(204);
    sync(&host)
        .bearer(&two)
        .json(&event(15, "logout", None))
        .send()
        .await
        .expect(200);
    host.kill().await;
    host.start_again().await;
    for token in [one, two] {
        refused_everywhere(&host, &token, "token_revoked").await;
    }
}

#[tokio::test]
async fn an_evicted_revocation_holds_and_comes_back() {
    let redis = RedisServer::start().await;
    let host = Host::builder().redis(&redis).start().await;
    let token = host.tokens.access(&User::new(14));
    logout(&host, &token).await.expect(204);
    redis.run::<()>(&["FLUSHDB"]).await;
    refused_everywhere(&host, &token, "token_revoked").await;
    let key = format!("lockgate:revoked:token:{}", sha256(&token));
    eventually("the key is set again", async || {
        redis.get(&key).await.map(|_| ()).ok_or(redis.keys().await)
    })
    .await;
}

#[tokio::test]
async fn a_revocation_on_one_replica_is_seen_by_the_other() {
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
    let token = one.tokens.access(&User::new(14));
    good_everywhere(&two, &token).await;
    logout(&one, &token).await.expect(204);
    // A cache may answer for at most a second.
    tokio::time::sleep(std::time::Duration::from_millis(1_200)).await;
    refused_everywhere(&two, &token, "token_revoked").await;
}

#[tokio::test]
async fn a_session_record_that_is_invalidated_is_revoked_and_no_other_state_is() {
    let redis = RedisServer::start().await;
    let host = Host::builder().redis(&redis).start().await;
    let token = host.tokens.access(&User::new(14));
    for (status, good) in [
        ("active", true),
        ("expired", true),
        ("pending_refresh", true),
        ("invalidated", false),
    ] {
        let record = json!({
            "session_id": "s-14Qx", "user_id": 14, "email": "ada14@example.org", "role": "user",
            "status": status, "created_at": "2031-01-01T00:00:00",
            "last_activity": "2031-01-01T00:00:00", "expires_at": "2031-01-02T00:00:00",
            "metadata": {},
        });
        let record = record.to_string();
        redis
            .run::<()>(&["SET", "session:s-14Qx", &record, "EX", "600"])
            .await;
        tokio::time::sleep(std::time::Duration::from_millis(1_200)).await;
        if good {
            good_everywhere(&host, &token).await;
        } else {
            refused_everywhere(&host, &token, "token_revoked").await;
        }
    }
}

#[tokio::test]
async fn a_disabled_user_is_refused_on_every_port() {
    let redis = RedisServer::start().await;
    let host = Host::builder().redis(&redis).start().await;
    let token = host.tokens.access(&User::new(14));
    good_everywhere(&host, &token).await;
    let record = json!({
        "is_active": false, "email": "ada14@example.org", "role": "user", "checked_at": now(),
    });
    redis
        .run::<()>(&["SET", "lockgate:user:14", &record.to_string(), "EX", "600"])
        .await;
    eventually("the users cache is read again", async || {
        let call = host
            .get(Service::Jwt, "/api/v1/auth/verify-token")
            .bearer(&token);
        let answer = call.send().await;
        if answer.status == 401 {
            Ok(())
        } else {
            Err(answer.text())
        }
    })
    .await;
    refused_everywhere(&host, &token, "user_disabled").await;
    good_everywhere(&host, &host.tokens.access(&User::new(15))).await;
}

#[tokio::test]
async fn a_good_cookie_beside_a_revoked_header_wins() {
    let host = Host::start().await;
    let user = User::new(14);
    let [stale, fresh] =
        ["s-1", "s-2"].map(|session| host.tokens.access(&user.clone().session(session)));
    logout(&host, &stale).await.expect(204);
    let call = host.get(Service::Session, "/api/v1/session/validate");
    let body = call
        .bearer(&stale)
        .cookie("access_token", &fresh)
        .send()
        .await
        .expect(200)
        .json();
    assert_eq!(
        (&body["valid"], &body["session_id"]),
        (&json!(true), &json!("s-2"))
    );
    // If none is good, the revocation is reported rather than what is wrong with the other.
    let call = host.get(Service::Session, "/api/v1/session/validate");
    let call = call.bearer("not.a.token").cookie("access_token", &stale);
    assert_eq!(
        call.send().await.expect(401).json()["error"],
        "token_revoked"
    );
}

#[tokio::test]
async fn nobody_logs_another_user_out() {
    let host = Host::start().await;
    let mine = host.tokens.access(&User::new(14));
    let theirs = host.tokens.access(&User::new(15));
    for body in [
        event(15, "logout", None),
        event(15, "logout", Some("s-15Qx")),
        event(14, "logout", Some("s-15Qx")),
        json!({"user_id": 14, "email": "x@example.org", "event_type": "logout", "source": "api"}),
    ] {
        let answer = sync(&host).bearer(&mine).json(&body).send().await;
        assert_eq!(answer.status, 403, "{body}: {}", answer.text());
    }
    // An admin's rights are granted only where the user is known to be active.
    let admin = host.tokens.access(&User::admin(1));
    let answer = sync(&host)
        .bearer(&admin)
        .json(&event(15, "logout", None))
        .send()
        .await;
    answer.expect_error(403, "access_forbidden");
    good_everywhere(&host, &mine).await;
    good_everywhere(&host, &theirs).await;
}

#[tokio::test]
async fn a_known_admin_and_the_service_secret_may_log_others_out() {
    let redis = RedisServer::start().await;
    let folder = lockgate_tests::component::folder();
    let secret = folder.path().join("service_secret");
    std::fs::write(&secret, "service-secret-of-more-than-32-bytes\n").unwrap();
    let host = Host::builder()
        .redis(&redis)
        .env("SERVICE_SECRET_FILE", secret.display().to_string())
        .start()
        .await;
    let record = json!({
        "is_active": true, "email": "ada1@example.org", "role": "admin", "checked_at": now(),
    });
    redis
        .run::<()>(&["SET", "lockgate:user:1", &record.to_string(), "EX", "600"])
        .await;
    let admin = host.tokens.access(&User::admin(1));
    let theirs = host.tokens.access(&User::new(15));
    sync(&host)
        .bearer(&admin)
        .json(&event(15, "logout", None))
        .send()
        .await
        .expect(200);
    refused_in_short(&host, &theirs).await;
    let theirs = host.tokens.access(&User::new(16));
    let wrong = sync(&host)
        .header("x-service-secret", "wrong")
        .json(&event(16, "logout", None));
    wrong.send().await.expect_error(401, "token_missing");
    good_everywhere(&host, &theirs).await;
    let right = sync(&host).header("x-service-secret", "service-secret-of-more-than-32-bytes");
    right
        .json(&event(16, "logout", None))
        .send()
        .await
        .expect(200);
    refused_in_short(&host, &theirs).await;
}

async fn refused_in_short(host: &Host, token: &str) {
    let call = host
        .get(Service::Session, "/api/v1/session/validate")
        .bearer(token);
    assert_eq!(
        call.send().await.expect(401).json()["error"],
        "token_revoked"
    );
    let call = host
        .get(Service::Jwt, "/api/v1/auth/verify-token")
        .bearer(token);
    call.send().await.expect_error(401, "token_revoked");
}
