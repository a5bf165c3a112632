//! The known traps of the callers, one test each: what has gone wrong before, or
//! would, if an answer were a little different.

use lockgate_tests::host::Secret;
use lockgate_tests::shape::S;
use lockgate_tests::tokens::{claims, derived_session, part, set, without};
use lockgate_tests::{Call, Host, RedisServer, Service, Tokens, User, now};
use redis::AsyncCommands as _;
use reqwest::Method;
use serde_json::{Value, json};

const VALIDATE: &str = "/api/v1/session/validate";
const WORDS: [&str; 5] = ["healthy", "degraded", "circuit_open", "error", "unknown"];

fn validate(host: &Host) -> Call {
    host.get(Service::Session, VALIDATE)
}

async fn is_valid(host: &Host, token: &str) -> Value {
    validate(host)
        .bearer(token)
        .send()
        .await
        .expect_shape(200, S)
}

#[tokio::test]
async fn trap_1_get_works_and_so_does_a_post_of_zero_bytes_of_json() {
    let host = Host::start().await;
    let token = host.tokens.access(&User::new(14));
    for method in [Method::GET, Method::POST, Method::HEAD] {
        for kind in [
            "application/json",
            "text/plain",
            "application/x-www-form-urlencoded",
            "",
        ] {
            let call = host.call(method.clone(), Service::Session, VALIDATE);
            let mut call = call
                .cookie("access_token", &token)
                .header("cache-control", "no-cache");
            if !kind.is_empty() {
                call = call.header("content-type", kind);
            }
            let answer = call.send().await.expect(200);
            if method == Method::HEAD {
                assert!(answer.body.is_empty());
            } else {
                assert_eq!(answer.json()["valid"], true, "{method} {kind}");
            }
        }
    }
    for broken in ["{", "null", "[]", "\"text\"", "{\"token\":5}", "\u{0}"] {
        let call = host
            .post(Service::Session, VALIDATE)
            .cookie("access_token", &token);
        let call = call.header("content-type", "application/json").body(broken);
        assert_eq!(
            call.send().await.expect(200).json()["valid"],
            true,
            "{broken}"
        );
    }
}

#[tokio::test]
async fn trap_2_integration_health_is_flat_and_of_five_words() {
    let host = Host::start().await;
    let call = host.get(Service::Coordinator, "/api/v1/health/integration");
    let body = call
        .header("cache-control", "no-cache")
        .send()
        .await
        .expect(200)
        .conventional();
    for service in Service::ALL {
        let word = body[service.key()]
            .as_str()
            .unwrap_or_else(|| panic!("a plain string: {body}"));
        assert!(WORDS.contains(&word), "{word}");
    }
    assert!(
        matches!(body["status"].as_str(), Some("ok" | "degraded")),
        "{body}"
    );
    assert_eq!(body["degraded"], body["status"] == "degraded");
}

#[tokio::test]
async fn trap_3_a_lost_redis_logs_nobody_out_and_blocks_no_start() {
    let mut redis = RedisServer::start().await;
    redis.kill();
    let host = Host::builder().redis(&redis).start().await;
    for service in Service::ALL {
        let body = host.get(service, "/health").send().await.expect(200).json();
        assert!(
            matches!(body["status"].as_str(), Some("degraded" | "healthy")),
            "{body}"
        );
    }
    let body = is_valid(&host, &host.tokens.access(&User::new(14))).await;
    assert_eq!(body["degraded"], true);
}

#[tokio::test]
async fn trap_3_no_session_in_redis_is_needed() {
    let redis = RedisServer::start().await;
    let host = Host::builder().redis(&redis).start().await;
    assert_eq!(redis.get("session:s-14Qx").await, None);
    let body = is_valid(&host, &host.tokens.access(&User::new(14))).await;
    assert_eq!(body["degraded"], false);
    assert!(
        redis.get("session:s-14Qx").await.is_some(),
        "the missing record is created"
    );
}

#[tokio::test]
async fn trap_4_valid_is_a_boolean_on_every_port() {
    let host = Host::start().await;
    let good = host.tokens.access(&User::new(14));
    let posts = [
        (Service::Jwt, "/api/v1/jwt/validate"),
        (Service::Session, VALIDATE),
        (Service::Fallback, "/api/v1/fallback/validate"),
        (Service::Gateway, "/api/v1/ws-auth/validate"),
    ];
    for (service, path) in posts {
        for (token, wanted) in [(good.as_str(), true), ("bad", false), ("", false)] {
            let body = host
                .post(service, path)
                .bearer(token)
                .send()
                .await
                .expect(200)
                .json();
            assert_eq!(body["valid"], Value::Bool(wanted), "{path}");
            assert!(
                body.get("user").is_none(),
                "user fields are not nested: {body}"
            );
        }
    }
}

#[tokio::test]
async fn trap_5_the_very_first_answers_are_good() {
    let mut host = Host::start().await;
    let token = host.tokens.access(&User::new(14));
    host.stop().await;
    host.start_again_unready().await;
    let health = host.get(Service::Coordinator, "/api/v1/health/integration");
    let (health, session) = tokio::join!(health.send(), validate(&host).bearer(&token).send());
    let body = health.expect(200).json();
    assert!(
        WORDS.contains(&body["jwt_token_adapter"].as_str().unwrap()),
        "{body}"
    );
    assert_eq!(session.expect(200).json()["valid"], true);
}

#[tokio::test]
async fn trap_6_a_revoked_token_is_no_200() {
    let host = Host::start().await;
    let token = host.tokens.access(&User::new(14));
    let logout = host.post(Service::Coordinator, "/api/v1/auth/logout");
    logout
        .cookie("access_token", &token)
        .send()
        .await
        .expect(204);
    let body = validate(&host)
        .cookie("access_token", &token)
        .send()
        .await
        .expect(401)
        .json();
    assert_eq!(
        (&body["valid"], &body["error"]),
        (&json!(false), &json!("token_revoked"))
    );
}

#[tokio::test]
async fn trap_7_payloads_never_hold_a_dash_or_underscore() {
    let host = Host::start().await;
    for (id, name) in (20_u32..).zip(["ü", "?>~", "日本", "\u{7f}", "a~b?c>d", "ÿÿÿ", "🦀"])
    {
        for pad in ["", "a", "ab"] {
            let mut user = User::new(id);
            user.email = format!("{pad}{name}{pad}@example.org");
            let old = host.tokens.marked_refresh(&user);
            let call = host.post(Service::Jwt, "/api/v1/jwt/refresh");
            let call = call.json(&json!({"refresh_token": old}));
            let body = call.send().await.expect(200).json();
            for field in ["access_token", "refresh_token"] {
                let token = body[field].as_str().unwrap();
                let payload = token.split('.').nth(1).unwrap();
                assert!(
                    !payload.contains(['-', '_']),
                    "{field} of {name}{pad}: {payload}"
                );
                assert_eq!(claims(token)["email"], user.email);
            }
        }
    }
}

#[tokio::test]
async fn trap_8_a_stale_header_hides_no_good_cookie_and_users_are_never_mixed() {
    let host = Host::start().await;
    let user = User::new(14);
    let good = host.tokens.access(&user);
    for stale in [
        host.tokens.expired(&user),
        "broken".to_owned(),
        host.tokens.refresh(&user),
    ] {
        for cookie in ["access_token", "auth_token"] {
            let answer = validate(&host)
                .bearer(&stale)
                .cookie(cookie, &good)
                .send()
                .await;
            assert_eq!(answer.expect(200).json()["valid"], true, "{cookie}");
        }
    }
    let other = host.tokens.access(&User::new(15));
    let mixed = validate(&host)
        .bearer(&good)
        .cookie("access_token", &other)
        .send()
        .await;
    mixed.expect_invalid("consistency_mismatch");
    let answer = validate(&host)
        .bearer("broken")
        .cookie("access_token", "broken too")
        .send()
        .await;
    answer.expect_invalid("invalid_token");
}

#[tokio::test]
async fn trap_9_claims_of_every_kind_in_circulation() {
    let host = Host::start().await;
    let user = User::new(14);
    let base = || Tokens::unified_claims(&user, 3_600);
    let with = |name: &str, value: Value| {
        let mut claims = base();
        set(&mut claims, name, value);
        host.tokens.sign(&claims)
    };
    for token in [
        with("sub", json!(14)),
        with("exp", json!(now() as f64 + 600.5)),
        with("aud", json!(["api", "web"])),
        with("nbf", json!(now() + 3_600)),
        with("iat", json!(now() as f64 + 0.5)),
        host.tokens.sign(&without(base(), "iat")),
        host.tokens.scoped(&user),
    ] {
        let body = is_valid(&host, &token).await;
        assert_eq!(
            (&body["user_id"], &body["format_type"]),
            (&json!(14), &json!("enhanced"))
        );
    }
    for session in [
        json!(null),
        json!(""),
        json!("12345"),
        json!("a/b"),
        json!("x".repeat(129)),
    ] {
        let token = with("session_id", session);
        assert_eq!(
            is_valid(&host, &token).await["session_id"],
            derived_session(&token)
        );
    }
    let legacy = is_valid(&host, &host.tokens.legacy(&user)).await;
    assert_eq!(
        (&legacy["email"], &legacy["format_type"]),
        (&json!(user.email), &json!("legacy"))
    );
    let cookie = host.tokens.cookie_variant(&user);
    let body = validate(&host)
        .cookie("auth_token", &cookie)
        .send()
        .await
        .expect_shape(200, S);
    assert_eq!(body["user_id"], 14);
}

#[tokio::test]
async fn trap_10_the_secret_is_trimmed_at_its_ends_only() {
    let inner = b"first-line-of-the-secret-0123456789\nsecond-line-of-the-secret".to_vec();
    let around = [b" \t\r\n".as_slice(), &inner, b"\n \r\n"].concat();
    let host = Host::builder()
        .secret(Secret::Bytes(around.clone()))
        .start()
        .await;
    let user = User::new(14);
    is_valid(&host, &Tokens::new(&inner).access(&user)).await;
    let joined: Vec<u8> = inner
        .iter()
        .copied()
        .filter(|byte| *byte != b'\n')
        .collect();
    let first = inner.split(|byte| *byte == b'\n').next().unwrap().to_vec();
    for wrong in [around, joined, first] {
        let answer = validate(&host)
            .bearer(&Tokens::new(&wrong).access(&user))
            .send()
            .await;
        answer.expect_invalid("invalid_signature");
    }
}

#[tokio::test]
async fn trap_10_the_secret_is_not_decoded_and_has_a_second_source() {
    use base64::Engine as _;
    let decoded = b"bytes that base64 would give, long enough for a key";
    let text = base64::engine::general_purpose::STANDARD.encode(decoded);
    let host = Host::builder()
        .secret(Secret::Missing)
        .env("JWT_SECRET_KEY", format!("  {text}\n"))
        .start()
        .await;
    let user = User::new(14);
    is_valid(&host, &Tokens::new(text.as_bytes()).access(&user)).await;
    let answer = validate(&host)
        .bearer(&Tokens::new(decoded).access(&user))
        .send()
        .await;
    answer.expect_invalid("invalid_signature");
}

#[tokio::test]
async fn trap_10_less_than_32_bytes_are_no_secret() {
    for secret in [
        Secret::Missing,
        Secret::Bytes(vec![b'k'; 31]),
        Secret::Bytes(Vec::new()),
    ] {
        let host = Host::builder().secret(secret).start_unready().await;
        for service in Service::ALL {
            let call = host.get(service, "/health");
            let body = lockgate_tests::wait::eventually("the host answers", async || {
                let answer = call.clone().send().await;
                if answer.text().contains("status") {
                    Ok(answer)
                } else {
                    Err(answer.text())
                }
            })
            .await;
            assert_eq!(body.status, 503, "{}", body.text());
            assert_eq!(body.json()["status"], "error");
        }
        let token = host.tokens.access(&User::new(14));
        validate(&host)
            .bearer(&token)
            .send()
            .await
            .expect_error(503, "service_unavailable");
        let call = host
            .get(Service::Jwt, "/api/v1/jwt/health")
            .send()
            .await
            .expect(503);
        assert_eq!(call.json()["secret_key_loaded"], false);
    }
}

#[tokio::test]
async fn trap_11_a_seven_day_token_works_nowhere() {
    let host = Host::start().await;
    let user = User::new(14);
    let mut marked = Tokens::unified_claims(&user, 3_600);
    set(&mut marked, "token_use", json!("refresh"));
    for token in [
        host.tokens.refresh(&user),
        host.tokens.enhanced_refresh(&user),
        host.tokens.marked_refresh(&user),
        host.tokens.sign(&marked),
    ] {
        validate(&host)
            .bearer(&token)
            .send()
            .await
            .expect_invalid("invalid_token");
        for (service, path) in [
            (Service::Jwt, "/api/v1/jwt/validate"),
            (Service::Gateway, "/api/v1/ws-auth/validate"),
        ] {
            let answer = host.post(service, path).bearer(&token).send().await;
            answer.expect_invalid("invalid_token");
        }
        let fallback = host
            .post(Service::Fallback, "/api/v1/fallback/validate")
            .bearer(&token);
        fallback
            .send()
            .await
            .expect_invalid_with("invalid_token", "fallback:true");
        let chat = host
            .get(Service::Jwt, "/api/v1/auth/verify-token")
            .bearer(&token);
        chat.send().await.expect_error(401, "invalid_token");
    }
    is_valid(
        &host,
        &host.tokens.sign(&Tokens::unified_claims(&user, 86_400)),
    )
    .await;
}

#[tokio::test]
async fn trap_12_values_that_are_not_json_are_absent_and_stay() {
    let redis = RedisServer::start().await;
    let host = Host::builder().redis(&redis).start().await;
    let pickled: &[u8] =
        b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x07user_id\x94K\x0es.";
    let mut link = redis.connect().await;
    let () = link.set("session:s-14Qx", pickled).await.unwrap();
    let () = link.set("lockgate:user:14", pickled).await.unwrap();
    is_valid(&host, &host.tokens.access(&User::new(14))).await;
    let kept: Vec<u8> = link.get("session:s-14Qx").await.unwrap();
    assert_eq!(kept, pickled, "it is not overwritten");
    // Nor does a value of another type do harm.
    let _: i64 = link.sadd("session:s-15Qx", "member").await.unwrap();
    is_valid(&host, &host.tokens.access(&User::new(15))).await;
    let kind: String = redis.run(&["TYPE", "session:s-15Qx"]).await;
    assert_eq!(kind, "set");
}

#[tokio::test]
async fn trap_12_the_record_has_nine_keys_and_naive_times() {
    let redis = RedisServer::start().await;
    let host = Host::builder().redis(&redis).start().await;
    is_valid(&host, &host.tokens.access(&User::new(14))).await;
    let record = redis.get("session:s-14Qx").await.expect("the record");
    let value: Value = serde_json::from_str(&record).expect("JSON");
    lockgate_tests::shape::exact(
        &value,
        "session_id:=s-14Qx user_id:=14 email:str role:role status:=active created_at:str \
         last_activity:str expires_at:str metadata:obj",
    );
    for name in ["created_at", "last_activity", "expires_at"] {
        let text = value[name].as_str().unwrap();
        let time = text
            .split('T')
            .nth(1)
            .unwrap_or_else(|| panic!("{name}: {text}"));
        assert!(
            !time.contains(['Z', 'z', '+', '-', ' ']),
            "{name} is not naive: {text}"
        );
    }
    let left: i64 = redis.run(&["TTL", "session:s-14Qx"]).await;
    assert!((86_000..=86_400).contains(&left), "{left}");
    let members: Vec<String> = redis.run(&["SMEMBERS", "user_sessions:14"]).await;
    assert_eq!(members, ["s-14Qx"]);
}

#[tokio::test]
async fn trap_12_a_session_id_of_digits_never_becomes_a_key() {
    let redis = RedisServer::start().await;
    let host = Host::builder().redis(&redis).start().await;
    let theirs = json!({
        "user_id": 99, "email": "victim@example.org", "role": "admin", "login_time": "x",
        "token_format": "enhanced",
    });
    redis
        .run::<()>(&["SET", "session:99", &theirs.to_string()])
        .await;
    let token = host.tokens.access(&User::new(14).session("99"));
    let body = is_valid(&host, &token).await;
    assert_eq!(
        (&body["user_id"], &body["session_id"]),
        (&json!(14), &json!(derived_session(&token)))
    );
    assert_eq!(body["role"], "user");
    let logout = host.post(Service::Coordinator, "/api/v1/auth/logout");
    logout
        .cookie("access_token", &token)
        .send()
        .await
        .expect(204);
    assert_eq!(
        redis.get("session:99").await,
        Some(theirs.to_string()),
        "left alone"
    );
}

#[tokio::test]
async fn trap_12_the_record_of_another_user_is_a_mismatch() {
    let redis = RedisServer::start().await;
    let host = Host::builder().redis(&redis).start().await;
    let shared = User::new(14).session("s-shared");
    is_valid(&host, &host.tokens.access(&shared)).await;
    let other = host.tokens.access(&User::new(15).session("s-shared"));
    validate(&host)
        .bearer(&other)
        .send()
        .await
        .expect_invalid("consistency_mismatch");
}

#[tokio::test]
async fn trap_12_keys_of_others_are_left_alone() {
    let redis = RedisServer::start().await;
    let host = Host::builder().redis(&redis).start().await;
    let foreign = [
        "websocket:1",
        "chat_history:1",
        "jwt:rotation:1",
        "auth_cache:1",
        "auth:token:1",
        "device:1",
    ];
    for key in foreign {
        redis.run::<()>(&["SET", key, "theirs"]).await;
    }
    redis
        .run::<()>(&["SET", "user_auth:14", "{\"user_id\":99,\"role\":\"admin\"}"])
        .await;
    let token = host.tokens.access(&User::new(14));
    let body = is_valid(&host, &token).await;
    assert_eq!(
        (&body["user_id"], &body["role"]),
        (&json!(14), &json!("user")),
        "never trusted"
    );
    let logout = host.post(Service::Coordinator, "/api/v1/auth/logout");
    logout
        .cookie("access_token", &token)
        .send()
        .await
        .expect(204);
    for key in foreign {
        assert_eq!(redis.get(key).await.as_deref(), Some("theirs"), "{key}");
    }
    assert_eq!(
        redis.get("user_auth:14").await,
        None,
        "deleted on revocation"
    );
    let chat: i64 = {
        let mut link = redis.connect().await;
        let () = redis::cmd("SELECT")
            .arg(5)
            .query_async(&mut link)
            .await
            .unwrap();
        redis::cmd("DBSIZE").query_async(&mut link).await.unwrap()
    };
    assert_eq!(chat, 0, "the chat's database is not ours");
}

#[tokio::test]
async fn trap_13_no_answer_is_kept_for_another_caller() {
    let host = Host::start().await;
    for id in [14, 15, 14, 16] {
        let token = host.tokens.access(&User::new(id));
        let call = validate(&host)
            .header("user-agent", "the same")
            .cookie("access_token", &token);
        let answer = call.send().await;
        assert_eq!(answer.expect_shape(200, S)["user_id"], id);
        assert_eq!(answer.header("x-session-valid"), "true");
    }
    let call = validate(&host).header("user-agent", "the same");
    call.send().await.expect_invalid("token_missing");
}

#[tokio::test]
async fn trap_13_every_answer_says_no_store() {
    let host = Host::start().await;
    let token = host.tokens.access(&User::new(14));
    let gets = [
        (Service::Session, VALIDATE),
        (Service::Session, "/api/v1/session/info"),
        (Service::Jwt, "/api/v1/auth/verify-token"),
        (Service::Gateway, "/api/v1/ws-auth/connection-info"),
    ];
    for (service, path) in gets {
        for token in [token.as_str(), "bad"] {
            let answer = host.get(service, path).bearer(token).send().await;
            assert_eq!(answer.header("cache-control"), "no-store", "{path}");
            assert_eq!(
                answer.header("vary").to_lowercase(),
                "cookie, authorization",
                "{path}"
            );
        }
    }
}

#[tokio::test]
async fn trap_15_the_chat_service_finds_what_it_reads() {
    let host = Host::builder()
        .env("DEFAULT_CHAT_MODEL", "small-model")
        .start()
        .await;
    let token = host.tokens.access(&User::new(14));
    let call = host.get(Service::Jwt, "/api/v1/auth/verify-token");
    let body = call.bearer(&token).send().await.expect(200).json();
    assert_eq!(
        (&body["user_id"], &body["chat_model"]),
        (&json!(14), &json!("small-model"))
    );
    let host = Host::start().await;
    let token = host.tokens.access(&User::new(14));
    let call = host.get(Service::Jwt, "/api/v1/auth/verify-token");
    let body = call
        .cookie("access_token", &token)
        .send()
        .await
        .expect(200)
        .json();
    assert!(body.get("chat_model").is_none(), "{body}");
}

#[tokio::test]
async fn trap_16_the_coordinator_alone_says_unknown_or_error_and_never_hangs() {
    let host = Host::builder()
        .env("SERVICE_NAME", "service-boundary-coordinator-service")
        .start()
        .await;
    let body = host
        .get(Service::Coordinator, "/health")
        .send()
        .await
        .expect(200)
        .json();
    assert_eq!(body["service"], "service-boundary-coordinator-service");
    assert_eq!(
        body["degraded"], false,
        "absent peers do not make it degraded: {body}"
    );
    let call = host.get(Service::Coordinator, "/api/v1/health/integration");
    let body = call.send().await.expect(200).json();
    for service in [
        Service::Jwt,
        Service::Session,
        Service::Fallback,
        Service::Gateway,
    ] {
        let word = body[service.key()].as_str().unwrap();
        assert!(
            matches!(word, "unknown" | "error" | "circuit_open"),
            "{word}"
        );
    }
    assert_eq!(body["service_boundary_coordinator"], "healthy", "{body}");
}

#[tokio::test]
async fn trap_17_session_validate_needs_no_csrf_token() {
    let host = Host::start().await;
    let token = host.tokens.access(&User::new(14));
    for (name, value) in [
        ("origin", "https://evil.example"),
        ("sec-fetch-site", "cross-site"),
    ] {
        let call = host
            .post(Service::Session, VALIDATE)
            .cookie("access_token", &token);
        assert_eq!(
            call.header(name, value).send().await.expect(200).json()["valid"],
            true
        );
    }
}

#[tokio::test]
async fn trap_17_a_foreign_page_changes_nothing_by_cookie() {
    let host = Host::start().await;
    let user = User::new(14);
    let token = host.tokens.access(&user);
    let refresh = host.tokens.marked_refresh(&user);
    let posts = [
        (Service::Jwt, "/api/v1/jwt/refresh"),
        (Service::Coordinator, "/api/v1/auth/logout"),
        (Service::Fallback, "/api/v1/fallback/create"),
        (Service::Fallback, "/api/v1/fallback/emergency-auth"),
        (Service::Gateway, "/api/v1/ws-auth/authorize"),
        (Service::Coordinator, "/api/v1/coordinator/sync-auth"),
    ];
    let event = json!({
        "user_id": 14, "email": user.email, "event_type": "logout", "source": "api",
    });
    for (service, path) in posts {
        for (name, value) in [
            ("origin", "https://evil.example"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            let call = host.post(service, path).cookie("access_token", &token);
            let call = call
                .cookie("refresh_token", &refresh)
                .cookie("csrf_token", "x");
            let call = call
                .header("x-csrf-token", "x")
                .header(name, value)
                .json(&event);
            let answer = call.send().await;
            assert_eq!(answer.status, 403, "{path} {name}: {}", answer.text());
            let body = answer.json();
            assert_eq!(
                (&body["error"], &body["code"]),
                (&json!("origin_refused"), &json!("AUTH_002"))
            );
        }
    }
    is_valid(&host, &token).await;
}

#[tokio::test]
async fn trap_17_cookie_driven_changes_need_the_csrf_token() {
    let host = Host::start().await;
    let user = User::new(14);
    let token = host.tokens.access(&user);
    let event = json!({
        "user_id": 14, "email": user.email, "event_type": "token_refresh", "source": "frontend",
    });
    for (service, path) in [
        (Service::Fallback, "/api/v1/fallback/create"),
        (Service::Coordinator, "/api/v1/coordinator/sync-auth"),
    ] {
        let call = || {
            host.post(service, path)
                .cookie("access_token", &token)
                .json(&event)
        };
        call().send().await.expect_error(403, "csrf_failed");
        let one = call().header("x-csrf-token", "1:abc:def");
        one.clone().send().await.expect_error(403, "csrf_failed");
        one.clone()
            .cookie("csrf_token", "1:abc:other")
            .send()
            .await
            .expect_error(403, "csrf_failed");
        call()
            .cookie("csrf_token", "")
            .header("x-csrf-token", "")
            .send()
            .await
            .expect_error(403, "csrf_failed");
        // Two such cookies may arrive; one that matches is enough.
        let both = one
            .cookie("csrf_token", "1:abc:other")
            .cookie("csrf_token", "1:abc:def");
        let answer = both.send().await;
        assert!(
            matches!(answer.status, 200 | 201),
            "{path}: {}",
            answer.text()
        );
        let bearer = host
            .post(service, path)
            .bearer(&token)
            .json(&event)
            .send()
            .await;
        assert!(
            matches!(bearer.status, 200 | 201),
            "{path}: {}",
            bearer.text()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trap_18_many_users_behind_one_address_are_not_limited() {
    let host = std::sync::Arc::new(Host::start().await);
    let mut calls = tokio::task::JoinSet::new();
    for worker in 0..8_u32 {
        let host = std::sync::Arc::clone(&host);
        calls.spawn(async move {
            for number in 0..100 {
                let token = host.tokens.access(&User::new(1 + worker * 100 + number));
                assert_eq!(is_valid(&host, &token).await["valid"], true);
                validate(&host)
                    .bearer("bad")
                    .send()
                    .await
                    .expect_invalid("invalid_token");
            }
        });
    }
    calls.join_all().await;
}

#[tokio::test]
async fn trap_19_admin_rights_are_not_guessed() {
    let host = Host::start().await;
    let admin = host.tokens.access(&User::admin(1));
    let event = json!({
        "user_id": 14, "email": "ada14@example.org", "event_type": "logout", "source": "api",
    });
    let call = host
        .post(Service::Coordinator, "/api/v1/coordinator/sync-auth")
        .bearer(&admin);
    call.json(&event)
        .send()
        .await
        .expect_error(403, "access_forbidden");
    is_valid(&host, &host.tokens.access(&User::new(14))).await;
}

#[tokio::test]
async fn a_token_in_url_or_path_is_no_credential() {
    let host = Host::start().await;
    let token = host.tokens.access(&User::new(14));
    let path = format!("{VALIDATE}?token={token}&access_token={token}");
    host.get(Service::Session, &path)
        .send()
        .await
        .expect_invalid("token_missing");
    let unsigned = format!("{}.{}.", part(r#"{"alg":"none"}"#), part(r#"{"sub":"14"}"#));
    validate(&host)
        .bearer(&unsigned)
        .send()
        .await
        .expect_invalid("invalid_token");
}
