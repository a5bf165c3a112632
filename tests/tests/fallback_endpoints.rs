//! The endpoints of fallback-session-provider.

use lockgate_tests::shape::{self, H, parse_time};
use lockgate_tests::tokens::{set, without};
use lockgate_tests::{Answer, Host, Service, Tokens, User, now};
use serde_json::{Value, json};

const CREATE: &str = "/api/v1/fallback/create";
const VALIDATE: &str = "/api/v1/fallback/validate";
const EMERGENCY: &str = "/api/v1/fallback/emergency-auth";
const HEALTH: &str = "/api/v1/fallback/health";
const CREATED: &str = "session_key:str fallback_token:str session_id:str user_id:int email:str \
    role:role session_created:time expires_at:time format_type:format fallback:true degraded:true";

fn valid() -> String {
    format!("{} fallback:true", shape::S)
}

async fn create(host: &Host, token: &str, body: Value) -> Answer {
    host.post(Service::Fallback, CREATE)
        .bearer(token)
        .json(&body)
        .send()
        .await
}

async fn validate(host: &Host, body: Value) -> Answer {
    host.post(Service::Fallback, VALIDATE)
        .json(&body)
        .send()
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn create_and_validate() {
    let host = Host::start().await;
    let user = User::new(42);
    let token = host.tokens.access(&user);
    let began = now();
    let answer = create(
        &host,
        &token,
        json!({"ttl_seconds": 1800, "additional_data": {"a": 1}}),
    );
    let made = answer.await.expect_shape(201, CREATED);
    assert_eq!(made["session_key"], "fallback_session:42");
    assert_eq!(
        (&made["user_id"], &made["session_id"]),
        (&json!(42), &json!(user.session_id))
    );
    assert_eq!(
        (&made["email"], &made["role"]),
        (&json!(user.email), &json!("user"))
    );
    assert_eq!(made["format_type"], "enhanced");
    let time = |body: &Value, name: &str| parse_time(body[name].as_str().unwrap()).unwrap();
    assert_eq!(
        time(&made, "expires_at") - time(&made, "session_created"),
        1800
    );
    assert!((time(&made, "session_created") - began).abs() < 60);
    let secret = made["fallback_token"].as_str().unwrap().to_owned();
    assert!(
        secret.len() >= 43
            && secret
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
    );

    // By the fallback token; the other fields only narrow.
    for body in [
        json!({"fallback_token": secret}),
        json!({"fallback_token": secret, "session_key": "fallback_session:42"}),
        json!({"fallback_token": secret, "user_id": 42, "email": "ADA42@EXAMPLE.org"}),
    ] {
        let body = validate(&host, body).await.expect_shape(200, &valid());
        assert_eq!(
            (&body["source"], &body["degraded"]),
            (&json!("fallback"), &json!(true))
        );
        assert_eq!(
            (&body["user_id"], &body["email"]),
            (&json!(42), &json!(user.email))
        );
        assert_eq!(body["session_id"], user.session_id);
        assert_eq!(body["session_created"], made["session_created"]);
        assert_eq!(
            body["expires_at"], made["expires_at"],
            "access does not extend it"
        );
        assert!((28..=30).contains(&body["expires_in_minutes"].as_i64().unwrap()));
    }
    for body in [
        json!({"fallback_token": secret, "session_key": "fallback_session:43"}),
        json!({"fallback_token": secret, "user_id": 43}),
        json!({"fallback_token": secret, "email": "eve@example.org"}),
        json!({"fallback_token": format!("{secret}x")}),
        json!({"fallback_token": ""}),
        json!({"session_key": "fallback_session:42"}),
        json!({"session_key": "fallback_session:42", "user_id": 42, "email": user.email}),
        json!({"user_id": 42}),
        json!({}),
    ] {
        let answer = validate(&host, body.clone()).await;
        let n = answer.expect_shape(200, &format!("{} fallback:true", shape::N));
        assert_eq!(n["valid"], false, "{body}");
    }
    validate(&host, json!({"session_key": "fallback_session:42"}))
        .await
        .expect_invalid_with("token_missing", "fallback:true");

    // By a JWT, with and without a record.
    for id in [42, 99] {
        let body = json!({"token": host.tokens.access(&User::new(id))});
        let body = validate(&host, body).await.expect_shape(200, &valid());
        assert_eq!(
            (&body["user_id"], &body["source"]),
            (&json!(id), &json!("fallback"))
        );
    }
    for (token, error) in [
        (host.tokens.expired(&user), "token_expired"),
        ("garbage".to_owned(), "invalid_token"),
        (host.tokens.service(), "unsupported_format"),
    ] {
        let answer = validate(&host, json!({"token": token})).await;
        answer.expect_invalid_with(error, "fallback:true");
    }
    for body in [
        json!({"fallback_token": 5}),
        json!({"token": 5}),
        json!({"fallback_token": secret, "user_id": "42"}),
        json!({"fallback_token": secret, "email": 5}),
        json!({"fallback_token": secret, "session_key": []}),
        json!([secret]),
    ] {
        validate(&host, body)
            .await
            .expect_error(422, "invalid_request");
    }

    // A second record replaces the first, and its token.
    let again = create(&host, &token, json!({}))
        .await
        .expect_shape(200, CREATED);
    assert_eq!(
        time(&again, "expires_at") - time(&again, "session_created"),
        3600
    );
    let answer = validate(&host, json!({"fallback_token": secret})).await;
    assert_eq!(
        answer.json()["valid"],
        false,
        "the replaced record's token is dead"
    );
    let body = validate(&host, json!({"fallback_token": again["fallback_token"]})).await;
    assert_eq!(body.json()["valid"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn create_failures_and_limits() {
    let host = Host::start().await;
    let user = User::new(42);
    let token = host.tokens.access(&user);
    for body in [
        json!({"ttl_seconds": 0}),
        json!({"ttl_seconds": 3601}),
        json!({"ttl_seconds": -1}),
        json!({"ttl_seconds": "60"}),
        json!({"ttl_seconds": 60.5}),
        json!({"ttl_seconds": true}),
        json!({"additional_data": "x"}),
        json!({"additional_data": [1]}),
        json!({"token": 5}),
        json!("x"),
    ] {
        create(&host, &token, body)
            .await
            .expect_error(422, "invalid_request");
    }
    let call = host
        .post(Service::Fallback, CREATE)
        .bearer(&token)
        .body("{\"ttl");
    call.send().await.expect_error(400, "invalid_request");
    host.post(Service::Fallback, CREATE)
        .send()
        .await
        .expect_error(401, "token_missing");
    for (token, error) in [
        (host.tokens.expired(&user), "token_expired"),
        (host.tokens.service(), "unsupported_format"),
        (host.tokens.marked_refresh(&user), "invalid_token"),
    ] {
        create(&host, &token, json!({}))
            .await
            .expect_error(401, error);
    }
    // Not beyond the source token's end and the leeway.
    let short = host.tokens.sign(&Tokens::unified_claims(&user, 100));
    let made = create(&host, &short, json!({"ttl_seconds": 3600}))
        .await
        .expect(201)
        .json();
    let end = parse_time(made["expires_at"].as_str().unwrap()).unwrap();
    assert!(end <= now() + 160, "{made}");
    for ttl in [1, 3600] {
        let token = host.tokens.access(&User::new(ttl));
        create(&host, &token, json!({"ttl_seconds": ttl}))
            .await
            .expect(201);
    }
    // An empty body counts as {}.
    let call = host
        .post(Service::Fallback, CREATE)
        .bearer(&host.tokens.access(&User::new(4)));
    call.header("content-type", "application/json")
        .send()
        .await
        .expect_shape(201, CREATED);
}

#[tokio::test(flavor = "multi_thread")]
async fn health() {
    let host = Host::start().await;
    let get = async || {
        let answer = host.get(Service::Fallback, HEALTH).send().await.expect(200);
        let body = answer.conventional();
        shape::exact(
            &body,
            &format!(
                "{H} active_sessions:int expired_sessions_pending_cleanup:int \
                 redis_connected:bool pending_resync:int storage_location:str \
                 max_sessions:=1000 session_ttl:=3600 persistence_enabled:true stats:obj"
            ),
        );
        shape::exact(
            &body["stats"],
            "sessions_created:int sessions_retrieved:int sessions_expired:int \
             fallback_activations:int redis_recoveries:int",
        );
        assert_eq!(
            (&body["status"], &body["degraded"]),
            (&json!("healthy"), &json!(false))
        );
        assert_eq!(body["service"], "fallback-session-provider-service");
        assert_eq!(body["dependencies"], json!({"redis": "not_configured"}));
        body
    };
    let before = get().await;
    assert_eq!(before["active_sessions"], 0);
    for id in [1, 2, 2] {
        let answer = create(&host, &host.tokens.access(&User::new(id)), json!({})).await;
        assert!(answer.status < 300);
    }
    let after = get().await;
    assert_eq!(after["active_sessions"], 2, "one record a user");
    assert!(
        after["stats"]["sessions_created"].as_i64() > before["stats"]["sessions_created"].as_i64()
    );
}

/// Records are durable before the answer: they outlive SIGKILL.
#[tokio::test(flavor = "multi_thread")]
async fn records_outlive_a_kill() {
    let mut host = Host::start().await;
    let made = create(&host, &host.tokens.access(&User::new(42)), json!({}))
        .await
        .expect(201);
    host.kill().await;
    host.start_again().await;
    let body = validate(
        &host,
        json!({"fallback_token": made.json()["fallback_token"]}),
    )
    .await;
    assert_eq!(body.expect_shape(200, &valid())["user_id"], 42);

    // An unreadable file is set aside and reported; the host starts.
    host.kill().await;
    let file = host.data_dir().join("fallback.redb");
    std::fs::write(&file, b"this is no database").unwrap();
    host.start_again().await;
    let answer = create(&host, &host.tokens.access(&User::new(42)), json!({})).await;
    answer.expect_shape(201, CREATED);
    let kept = std::fs::read_dir(host.data_dir()).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        path.is_file() && std::fs::read(path).unwrap() == b"this is no database"
    });
    assert!(kept, "the unreadable file is kept under another name");
}

const EMERGENCY_MORE: &str =
    "mode:=fallback security_level:=degraded fallback:true fallback_token:str";

async fn emergency(host: &Host, token: &str) -> Answer {
    host.post(Service::Fallback, EMERGENCY)
        .json(&json!({"token": token}))
        .send()
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn emergency_strict() {
    let host = Host::builder()
        .env("FALLBACK_RATE_LIMIT", "1000")
        .start()
        .await;
    let user = User::new(42);
    let body = emergency(&host, &host.tokens.access(&user)).await;
    let body = body.expect_shape(200, &format!("{} {EMERGENCY_MORE}", shape::S));
    assert_eq!(
        (&body["source"], &body["degraded"]),
        (&json!("fallback"), &json!(true))
    );
    assert_eq!(body["user_id"], 42);
    let again = validate(&host, json!({"fallback_token": body["fallback_token"]})).await;
    assert_eq!(again.json()["valid"], true, "it made a session");
    // Nothing but a token counts.
    let call = host.post(Service::Fallback, EMERGENCY);
    let guess =
        json!({"user_id": 42, "email": user.email, "fallback_token": body["fallback_token"]});
    call.json(&guess)
        .send()
        .await
        .expect_error(401, "token_missing");

    let base = || Tokens::unified_claims(&user, 3_600);
    let with = |name: &str, value: i64| {
        let mut claims = base();
        set(&mut claims, name, json!(value));
        host.tokens.sign(&claims)
    };
    for (name, token, error) in [
        (
            "no iat",
            host.tokens.sign(&without(base(), "iat")),
            "invalid_token",
        ),
        (
            "no exp",
            host.tokens.sign(&without(base(), "exp")),
            "invalid_token",
        ),
        ("nbf ahead", with("nbf", now() + 60), "invalid_token"),
        ("iat ahead", with("iat", now() + 60), "invalid_token"),
        (
            "outside the short leeway",
            with("exp", now() - 15),
            "token_expired",
        ),
        ("expired", host.tokens.expired(&user), "token_expired"),
        ("garbage", "garbage".to_owned(), "invalid_token"),
    ] {
        let answer = emergency(&host, &token).await;
        let body = answer.expect_error(401, error);
        assert_eq!(body["error"], error, "{name}");
    }
    for (name, token) in [
        ("inside the short leeway", with("exp", now() - 2)),
        ("nbf a little ahead", with("nbf", now() + 5)),
    ] {
        assert_eq!(emergency(&host, &token).await.status, 200, "{name}");
    }
    let call = host.post(Service::Fallback, EMERGENCY);
    call.json(&json!({"token": 5}))
        .send()
        .await
        .expect_error(422, "invalid_request");
    let call = host.post(Service::Fallback, EMERGENCY).body("{");
    call.send().await.expect_error(400, "invalid_request");
}

#[tokio::test(flavor = "multi_thread")]
async fn emergency_standard_and_switched_off() {
    let host = Host::builder()
        .env("FALLBACK_SECURITY_LEVEL", "standard")
        .start()
        .await;
    let mut claims = without(Tokens::unified_claims(&User::new(42), -30), "iat");
    set(&mut claims, "nbf", json!(now() + 600));
    emergency(&host, &host.tokens.sign(&claims))
        .await
        .expect(200);
    emergency(&host, &host.tokens.expired(&User::new(42)))
        .await
        .expect_error(401, "token_expired");

    let host = Host::builder()
        .env("FALLBACK_AUTH_ENABLED", "false")
        .start()
        .await;
    let token = host.tokens.access(&User::new(42));
    emergency(&host, &token)
        .await
        .expect_error(403, "access_forbidden");
    create(&host, &token, json!({})).await.expect(201);

    let host = Host::builder()
        .env("FALLBACK_ONLY_ON_OUTAGE", "true")
        .start()
        .await;
    let token = host.tokens.access(&User::new(42));
    // Until 8026 was probed its health is not known.
    let mut answer = emergency(&host, &token).await;
    for _ in 0..300 {
        if answer.status == 403 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        answer = emergency(&host, &token).await;
    }
    answer.expect_error(403, "access_forbidden");
}

/// Failures count by address, successes by user: strangers lock nobody out.
#[tokio::test(flavor = "multi_thread")]
async fn emergency_limits() {
    let host = Host::builder()
        .env("FALLBACK_RATE_LIMIT", "3")
        .env("TRUSTED_PROXIES", "127.0.0.0/8")
        .start()
        .await;
    let from = async |address: &str, token: &str| {
        let call = host
            .post(Service::Fallback, EMERGENCY)
            .header("x-forwarded-for", address);
        call.json(&json!({"token": token})).send().await
    };
    for _ in 0..3 {
        from("192.0.2.1", "garbage")
            .await
            .expect_error(401, "invalid_token");
    }
    let limited = from("192.0.2.1", "garbage").await;
    limited.expect_error(429, "rate_limited");
    let wait: u32 = limited
        .header("retry-after")
        .parse()
        .expect("whole seconds");
    assert!((1..=60).contains(&wait), "{wait}");
    // The last entry is the client; others are what the client claims.
    from("192.0.2.9, 192.0.2.1", "garbage")
        .await
        .expect_error(429, "rate_limited");
    from("192.0.2.1, 192.0.2.2", "garbage")
        .await
        .expect_error(401, "invalid_token");
    // An IPv6 address counts by its /64.
    for end in 1..=3 {
        from(&format!("2001:db8:1:1::{end}"), "garbage")
            .await
            .expect_error(401, "invalid_token");
    }
    from("2001:db8:1:1:ffff::9", "garbage")
        .await
        .expect_error(429, "rate_limited");
    from("2001:db8:1:2::1", "garbage")
        .await
        .expect_error(401, "invalid_token");

    // A good token behind the limited address, up to the user's own limit.
    let token = host.tokens.access(&User::new(42));
    for _ in 0..3 {
        from("192.0.2.1", &token).await.expect(200);
    }
    from("192.0.2.77", &token)
        .await
        .expect_error(429, "rate_limited");
    from("192.0.2.1", &host.tokens.access(&User::new(43)))
        .await
        .expect(200);

    // Without a trusted proxy the header is nobody's word.
    let host = Host::builder()
        .env("FALLBACK_RATE_LIMIT", "3")
        .start()
        .await;
    let mut statuses = Vec::new();
    for end in 1..=4 {
        let call = host.post(Service::Fallback, EMERGENCY);
        let call = call.header("x-forwarded-for", &format!("192.0.2.{end}"));
        statuses.push(call.json(&json!({"token": "garbage"})).send().await.status);
    }
    assert_eq!(statuses, [401, 401, 401, 429]);
}

/// At most 1000 records: the least recently used one makes room, and is counted.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_records() {
    let host = Host::start().await;
    let mut many = tokio::task::JoinSet::new();
    let first = create(&host, &host.tokens.access(&User::new(1)), json!({}))
        .await
        .expect(201);
    let calls: Vec<_> = (2..=1_003_u32)
        .map(|id| {
            let token = host.tokens.access(&User::new(id));
            host.post(Service::Fallback, CREATE).bearer(&token)
        })
        .collect();
    for batch in calls.chunks(16) {
        for call in batch.iter().cloned() {
            many.spawn(call.send());
        }
        while let Some(answer) = many.join_next().await {
            answer.unwrap().expect(201);
        }
    }
    let health = host
        .get(Service::Fallback, HEALTH)
        .send()
        .await
        .expect(200)
        .json();
    assert_eq!(health["active_sessions"], 1_000, "{health}");
    let oldest = json!({"fallback_token": first.json()["fallback_token"]});
    assert_eq!(validate(&host, oldest).await.json()["valid"], false);
    let metrics = host.admin("/metrics").send().await.expect(200).text();
    let counted = metrics
        .lines()
        .find(|line| line.starts_with("lockgate_fallback_evicted_total"));
    assert_eq!(
        counted,
        Some("lockgate_fallback_evicted_total 3"),
        "evictions are counted"
    );
}
