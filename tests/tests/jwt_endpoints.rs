//! The endpoints of jwt-token-adapter other than what a token's content decides:
//! validate, health, status, verify-token.

use lockgate_tests::shape::{self, H};
use lockgate_tests::{Host, RedisServer, Service, Tokens, User, now};
use serde_json::json;

const VALIDATE: &str = "/api/v1/jwt/validate";
const VERIFY: &str = "/api/v1/auth/verify-token";

#[tokio::test(flavor = "multi_thread")]
async fn validate_expectations() {
    let host = Host::start().await;
    let user = User::new(42);
    let token = host.tokens.access(&user);
    let ask = async |body: serde_json::Value| {
        host.post(Service::Jwt, VALIDATE)
            .bearer(&token)
            .json(&body)
            .send()
            .await
    };
    for body in [
        json!({}),
        json!({"expected_user_id": 42}),
        json!({"expected_email": "ADA42@Example.ORG"}),
        json!({"expected_user_id": 42, "expected_email": user.email, "unknown": [1]}),
    ] {
        assert_eq!(
            ask(body.clone()).await.expect(200).json()["valid"],
            true,
            "{body}"
        );
    }
    for body in [
        json!({"expected_user_id": 43}),
        json!({"expected_user_id": -42}),
        json!({"expected_user_id": 4_294_967_338_u64}),
        json!({"expected_email": "eve@example.org"}),
        json!({"expected_email": ""}),
        json!({"expected_user_id": 42, "expected_email": "eve@example.org"}),
    ] {
        ask(body).await.expect_invalid("consistency_mismatch");
    }
    for body in [
        json!({"token": 5}),
        json!({"token": ["x"]}),
        json!({"token": {"a": 1}}),
        json!({"token": true}),
        json!({"expected_user_id": "42"}),
        json!({"expected_user_id": 42.5}),
        json!({"expected_user_id": true}),
        json!({"expected_email": 42}),
        json!({"expected_email": [user.email]}),
        json!([]),
        json!("text"),
        json!(5),
    ] {
        ask(body).await.expect_error(422, "invalid_request");
    }
    for body in [
        "{",
        "{\"token\":}",
        "{'token':'x'}",
        "nonsense",
        "{} {}",
        "\u{feff}{}x",
    ] {
        let call = host.post(Service::Jwt, VALIDATE).bearer(&token).body(body);
        call.send().await.expect_error(400, "invalid_request");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_status() {
    let redis = RedisServer::start().await;
    let host = Host::builder().redis(&redis).start().await;
    let answer = host
        .get(Service::Jwt, "/api/v1/jwt/health")
        .send()
        .await
        .expect(200);
    let body = answer.conventional();
    shape::exact(
        &body,
        &format!("{H} secret_key_loaded:true algorithm:=HS256"),
    );
    assert_eq!(body["status"], "healthy");
    assert_eq!(body["service"], "jwt-token-adapter-service");
    assert_eq!(body["dependencies"], json!({"redis": "connected"}));

    let status = async || {
        let answer = host
            .get(Service::Jwt, "/api/v1/jwt/status")
            .send()
            .await
            .expect(200);
        let body = answer.conventional();
        shape::exact(
            &body,
            "status:=healthy algorithm:=HS256 leeway_seconds:=60 supported_formats:arr \
             access_token_expire_minutes:=60 refresh_token_expire_days:=7 counters:obj \
             degraded:false",
        );
        assert_eq!(
            body["supported_formats"],
            json!(["enhanced", "legacy", "mixed"])
        );
        let counters = body["counters"].clone();
        shape::exact(
            &counters,
            "validated:int rejected:int refreshed:int reuse_detected:int",
        );
        counters
    };
    let before = status().await;
    let user = User::new(5);
    let call = || host.post(Service::Jwt, VALIDATE);
    call()
        .bearer(&host.tokens.access(&user))
        .send()
        .await
        .expect(200);
    call()
        .bearer(&host.tokens.expired(&user))
        .send()
        .await
        .expect(200);
    call().bearer("garbage").send().await.expect(200);
    let refresh = json!({"refresh_token": host.tokens.marked_refresh(&user)});
    host.post(Service::Jwt, "/api/v1/jwt/refresh")
        .json(&refresh)
        .send()
        .await
        .expect(200);
    let after = status().await;
    let grown = |name: &str| after[name].as_i64().unwrap() - before[name].as_i64().unwrap();
    assert_eq!(
        (grown("validated"), grown("rejected")),
        (1, 2),
        "{before} {after}"
    );
    assert_eq!(
        (grown("refreshed"), grown("reuse_detected")),
        (1, 0),
        "{before} {after}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_token() {
    let host = Host::start().await;
    let user = User::admin(42);
    let token = host.tokens.access(&user);
    let shape = "valid:true user_id:int email:str role:role session_id:str degraded:bool";
    for call in [
        host.get(Service::Jwt, VERIFY).bearer(&token),
        host.get(Service::Jwt, VERIFY)
            .cookie("access_token", &token),
        host.get(Service::Jwt, VERIFY).cookie("auth_token", &token),
    ] {
        let body = call.send().await.expect_shape(200, shape);
        assert_eq!(
            body,
            json!({"valid": true, "user_id": 42, "email": user.email, "role": "admin",
                "session_id": user.session_id, "degraded": false})
        );
    }
    let stranger = Tokens::new(b"another key that is long enough to be one");
    host.get(Service::Jwt, VERIFY)
        .send()
        .await
        .expect_error(401, "token_missing");
    for (token, error) in [
        (host.tokens.expired(&user), "token_expired"),
        ("garbage".to_owned(), "invalid_token"),
        (stranger.access(&user), "invalid_signature"),
        (host.tokens.service(), "unsupported_format"),
        (host.tokens.marked_refresh(&user), "invalid_token"),
    ] {
        let answer = host.get(Service::Jwt, VERIFY).bearer(&token).send().await;
        answer.expect_error(401, error);
    }

    let host = Host::builder()
        .env("DEFAULT_CHAT_MODEL", "smart-router")
        .start()
        .await;
    let answer = host
        .get(Service::Jwt, VERIFY)
        .bearer(&host.tokens.access(&user))
        .send()
        .await;
    let body = answer.expect_shape(200, &format!("{shape} chat_model:=smart-router"));
    assert_eq!(body["user_id"], 42);
}

/// The key file: both ends trimmed, the inner line end kept, short keys refused,
/// and a change while the host runs.
#[tokio::test(flavor = "multi_thread")]
async fn the_key_file() {
    use lockgate_tests::host::Secret;
    let spaced = b" \r\n\tfirst line of the key 0123456789\nsecond line 0123456789\n\n ".to_vec();
    let host = Host::builder()
        .secret(Secret::Bytes(spaced))
        .env("JWT_KEY_OVERLAP_SECONDS", "604800")
        .start()
        .await;
    let old = Tokens::new(b"first line of the key 0123456789\nsecond line 0123456789");
    let valid = async |token: &str| {
        let answer = host.post(Service::Jwt, VALIDATE).bearer(token).send().await;
        answer.json()["valid"].as_bool().unwrap()
    };
    let user = User::new(3);
    let before = old.access(&user);
    assert!(valid(&before).await);

    // A bad new file changes nothing.
    for bad in [&b""[..], b"  \n", b"short"] {
        std::fs::write(host.secret_file(), bad).unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        assert!(valid(&before).await);
    }
    let new = Tokens::new(b"quite another key, of more than 32 bytes");
    std::fs::write(host.secret_file(), new.key()).unwrap();
    let mut taken = false;
    for _ in 0..600 {
        taken = valid(&new.access(&user)).await;
        if taken {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert!(taken, "the new key was never taken");
    assert!(
        valid(&before).await,
        "the old key verifies what it signed before"
    );
    let mut claims = Tokens::unified_claims(&user, 3_600);
    claims["iat"] = json!(now() + 50);
    assert!(
        !valid(&old.sign(&claims)).await,
        "the old key signs nothing new"
    );
}
