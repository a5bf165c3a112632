//! The endpoints of session-validation-normalizer: what each answers, what it
//! writes to Redis and what it makes of the records of others.

use std::time::Duration;

use lockgate_tests::shape::{self, parse_time};
use lockgate_tests::tokens::{derived_session, sha256};
use lockgate_tests::{Answer, Call, Host, RedisServer, Service, Tokens, User, now};
use reqwest::Method;
use serde_json::{Value, json};

const VALIDATE: &str = "/api/v1/session/validate";
const INFO: &str = "/api/v1/session/info";
const NORMALIZE: &str = "/api/v1/session/normalize";
const INFO_SHAPE: &str = "user_id:int email:str role:role is_active:bool session_id:str \
    session_created:time last_activity:time expires_at:time|null degraded:bool source:source";
const NORMALIZED: &str = "valid:bool user_id:int email:str role:role session_id:str|null \
    expires_at:time|null expires_in_minutes:int|null metadata:obj";

fn get(host: &Host, path: &str) -> Call {
    host.get(Service::Session, path)
}

/// Asserts the three headers of every answer of `session/validate`.
#[track_caller]
fn marked(answer: &Answer, format: &str, valid: &str, degraded: &str) {
    assert_eq!(
        answer.header("x-session-format"),
        format,
        "{}",
        answer.label()
    );
    assert_eq!(
        answer.header("x-session-valid"),
        valid,
        "{}",
        answer.label()
    );
    assert_eq!(
        answer.header("x-degraded-mode"),
        degraded,
        "{}",
        answer.label()
    );
}

/// Both verbs, as the front end sends them, with the embedded store alone.
#[tokio::test(flavor = "multi_thread")]
async fn validate_success() {
    let host = Host::start().await;
    let user = User::new(42);
    let token = host.tokens.access(&user);
    let began = now();
    for method in [Method::GET, Method::POST] {
        let call = host
            .call(method, Service::Session, VALIDATE)
            .header("content-type", "application/json")
            .header("cache-control", "no-cache")
            .header("x-integration-layer", "true")
            .header("x-webgl-isolated", "true")
            .cookie("theme", "dark")
            .cookie("access_token", &token);
        let answer = call.send().await;
        let body = answer.expect_shape(200, shape::S);
        assert_eq!((&body["user_id"], &body["id"]), (&json!(42), &json!(42)));
        assert_eq!(body["email"], user.email);
        assert_eq!(body["role"], "user");
        assert_eq!(body["session_id"], user.session_id);
        assert_eq!(body["message"], "Session is valid");
        assert_eq!(
            (&body["is_active"], &body["degraded"]),
            (&json!(true), &json!(false))
        );
        assert_eq!(body["format_type"], "enhanced");
        let minutes = body["expires_in_minutes"].as_i64().unwrap();
        assert!((58..=60).contains(&minutes), "{minutes}");
        let time = |name: &str| parse_time(body[name].as_str().unwrap()).unwrap();
        assert!(time("expires_at") >= began + 3_590);
        assert!(time("last_activity") >= began - 60);
        assert!(body["response_time_ms"].as_f64().unwrap() >= 0.0);
        marked(&answer, "enhanced", "true", "false");
        assert_eq!(answer.header("x-integration-layer"), "true");
    }
    // The same body and status without the header, and no header in the answer.
    let answer = get(&host, VALIDATE)
        .cookie("access_token", &token)
        .send()
        .await;
    answer.expect_shape(200, shape::S);
    assert!(!answer.headers.contains_key("x-integration-layer"));

    // Under one minute left is still one minute; the other formats; other places.
    let late = host.tokens.sign(&Tokens::unified_claims(&user, -30));
    let body = get(&host, VALIDATE)
        .bearer(&late)
        .send()
        .await
        .expect_shape(200, shape::S);
    assert_eq!(body["expires_in_minutes"], 1);
    let legacy = host.tokens.legacy(&user);
    let answer = get(&host, VALIDATE)
        .cookie("auth_token", &legacy)
        .send()
        .await;
    let body = answer.expect_shape(200, shape::S);
    assert_eq!(body["session_id"], derived_session(&legacy));
    marked(&answer, "legacy", "true", "false");
}

/// Everything short of a revocation is 200 with N, and a broken body counts as none.
#[tokio::test(flavor = "multi_thread")]
async fn validate_failures() {
    let host = Host::start().await;
    let user = User::new(43);
    let mint = &host.tokens;
    let answer = get(&host, VALIDATE).send().await;
    answer.expect_invalid("token_missing");
    marked(&answer, "none", "false", "false");
    let answer = host.post(Service::Session, VALIDATE).send().await;
    answer.expect_invalid("token_missing");

    let stranger = Tokens::new(b"another key that is long enough to be one");
    for (token, error) in [
        (mint.expired(&user), "token_expired"),
        ("garbage".to_owned(), "invalid_token"),
        (stranger.access(&user), "invalid_signature"),
        (mint.service(), "unsupported_format"),
        (mint.refresh(&user), "invalid_token"),
        (mint.marked_refresh(&user), "invalid_token"),
    ] {
        for method in [Method::GET, Method::POST] {
            let call = host.call(method, Service::Session, VALIDATE);
            let answer = call.cookie("access_token", &token).send().await;
            answer.expect_invalid(error);
            marked(&answer, "none", "false", "false");
        }
    }

    let good = mint.access(&user);
    let bodies: [&[u8]; 8] = [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\"x\"",
        b"{\"token\":5}",
        b"\xff\xfe",
        b"a=b",
    ];
    for body in bodies {
        for kind in [
            "application/json",
            "text/plain",
            "application/x-www-form-urlencoded",
            "?",
        ] {
            let call = host
                .post(Service::Session, VALIDATE)
                .header("content-type", kind);
            let answer = call.cookie("access_token", &good).body(body).send().await;
            answer.expect_shape(200, shape::S);
        }
    }
    let body = json!({"token": good});
    let answer = host
        .post(Service::Session, VALIDATE)
        .json(&body)
        .send()
        .await;
    answer.expect_shape(200, shape::S);
}

/// The record in Redis: created as the main API writes it, read back, and never
/// believed for role, user or status `expired`.
#[tokio::test(flavor = "multi_thread")]
async fn validate_and_the_redis_record() {
    let redis = RedisServer::start().await;
    let host = Host::builder().redis(&redis).start().await;
    let user = User::new(50);
    let token = host.tokens.access(&user);
    let ask = async |token: &str| {
        get(&host, VALIDATE)
            .cookie("access_token", token)
            .send()
            .await
    };

    ask(&token).await.expect_shape(200, shape::S);
    let key = format!("session:{}", user.session_id);
    let record: Value = serde_json::from_str(&wait_for(&redis, &key).await).unwrap();
    let naive = "session_id:str user_id:int email:str role:role status:=active created_at:str \
        last_activity:str expires_at:str metadata:obj";
    shape::exact(&record, naive);
    assert_eq!(
        (&record["user_id"], &record["email"]),
        (&json!(50), &json!(user.email))
    );
    for name in ["created_at", "last_activity", "expires_at"] {
        let time = record[name].as_str().unwrap();
        assert!(
            parse_time(time).is_none(),
            "{name} must have no offset: {time}"
        );
        assert!(
            parse_time(&format!("{time}Z")).is_some(),
            "{name} must be ISO 8601: {time}"
        );
    }
    let ttl: i64 = redis.run(&["TTL", &key]).await;
    assert!((86_300..=86_400).contains(&ttl), "{ttl}");
    let members: Vec<String> = redis.run(&["SMEMBERS", "user_sessions:50"]).await;
    assert_eq!(members, std::slice::from_ref(&user.session_id));
    assert!((86_300..=86_400).contains(&redis.run::<i64>(&["TTL", "user_sessions:50"]).await));
    let body = ask(&token).await.expect_shape(200, shape::S);
    assert_eq!(
        (&body["source"], &body["degraded"]),
        (&json!("redis"), &json!(false))
    );
    wait_for(&redis, "lockgate:fallback:50").await;

    // A record of the main API, with its own times; role from the token.
    let old = User::new(51);
    let mut record = nine_keys(&old, "active");
    record["role"] = json!("admin");
    store(&redis, &old, &record).await;
    let token = host.tokens.access(&old);
    let body = ask(&token).await.expect_shape(200, shape::S);
    assert_eq!(
        (&body["role"], &body["source"]),
        (&json!("user"), &json!("redis"))
    );
    assert_eq!(body["session_created"], "2026-01-02T03:04:05Z");

    for status in ["expired", "pending_refresh"] {
        let user = User::new(52).session(&format!("s-{status}"));
        store(&redis, &user, &nine_keys(&user, status)).await;
        ask(&host.tokens.access(&user))
            .await
            .expect_shape(200, shape::S);
    }

    let stolen = User::new(54);
    store(
        &redis,
        &stolen,
        &nine_keys(&User::new(55).session(&stolen.session_id), "active"),
    )
    .await;
    ask(&host.tokens.access(&stolen))
        .await
        .expect_invalid("consistency_mismatch");
    let record: Value = serde_json::from_str(
        &redis
            .get(&format!("session:{}", stolen.session_id))
            .await
            .unwrap(),
    )
    .unwrap();
    assert_eq!(record["user_id"], 55, "the record of the other user stays");

    // What others wrote in their own way counts as absent and stays.
    let pickled = User::new(56);
    let key = format!("session:{}", pickled.session_id);
    let bytes: &[u8] = b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00}\x94";
    let mut link = redis.connect().await;
    let _: String = redis::cmd("SET")
        .arg(&key)
        .arg(bytes)
        .query_async(&mut link)
        .await
        .unwrap();
    ask(&host.tokens.access(&pickled))
        .await
        .expect_shape(200, shape::S);
    let kept: Vec<u8> = redis::cmd("GET")
        .arg(&key)
        .query_async(&mut link)
        .await
        .unwrap();
    assert_eq!(kept, bytes);
    let listed = User::new(57);
    let key = format!("session:{}", listed.session_id);
    let _: i64 = redis.run(&["RPUSH", &key, "a list"]).await;
    ask(&host.tokens.access(&listed))
        .await
        .expect_shape(200, shape::S);
    assert_eq!(redis.run::<String>(&["TYPE", &key]).await, "list");

    // An all-digit session id never becomes a key.
    let digits = User::new(58).session("1935651600000");
    let token = host.tokens.access(&digits);
    let body = ask(&token).await.expect_shape(200, shape::S);
    assert_eq!(body["session_id"], derived_session(&token));
    assert_eq!(redis.get("session:1935651600000").await, None);
}

/// Revoked and disabled are the only 401.
#[tokio::test(flavor = "multi_thread")]
async fn validate_revoked_and_disabled() {
    let redis = RedisServer::start().await;
    let host = Host::builder().redis(&redis).start().await;
    let n_and_detail = format!("{} detail:str", shape::N);
    let refused = async |token: &str, error: &str| {
        for method in [Method::GET, Method::POST] {
            let call = host.call(method, Service::Session, VALIDATE);
            let answer = call.cookie("access_token", token).send().await;
            let body = answer.expect_shape(401, &n_and_detail);
            assert_eq!(
                (&body["error"], &body["code"]),
                (&json!(error), &json!("AUTH_002"))
            );
            marked(&answer, "none", "false", "false");
        }
        let jwt = host
            .post(Service::Jwt, "/api/v1/jwt/validate")
            .bearer(token)
            .send()
            .await;
        jwt.expect_invalid(error);
        let verify = host
            .get(Service::Jwt, "/api/v1/auth/verify-token")
            .bearer(token);
        verify.send().await.expect_error(401, error);
        let socket = host
            .post(Service::Gateway, "/api/v1/ws-auth/validate")
            .bearer(token);
        socket.send().await.expect_invalid(error);
        let fallback = host
            .post(Service::Fallback, "/api/v1/fallback/validate")
            .bearer(token);
        fallback
            .send()
            .await
            .expect_invalid_with(error, "fallback:true");
    };
    let set = async |key: String, value: String| {
        let _: String = redis.run(&["SET", &key, &value, "EX", "3600"]).await;
    };

    let token = host.tokens.access(&User::new(60));
    set(
        format!("lockgate:revoked:token:{}", sha256(&token)),
        "1".into(),
    )
    .await;
    refused(&token, "token_revoked").await;

    let user = User::new(61);
    set(
        format!("lockgate:revoked:session:61:{}", user.session_id),
        "1".into(),
    )
    .await;
    refused(&host.tokens.access(&user), "token_revoked").await;
    // The pair counts, not the session id alone.
    let other = host.tokens.access(&User::new(62).session(&user.session_id));
    get(&host, VALIDATE)
        .bearer(&other)
        .send()
        .await
        .expect_shape(200, shape::S);

    set("lockgate:revoked:user:63".into(), (now() - 100).to_string()).await;
    let mut claims = Tokens::unified_claims(&User::new(63), 3_600);
    let good = host.tokens.sign(&claims);
    get(&host, VALIDATE)
        .bearer(&good)
        .send()
        .await
        .expect_shape(200, shape::S);
    for iat in [
        json!(now() - 100),
        json!(now() - 1_000),
        json!(now() + 600),
        json!(null),
    ] {
        claims["iat"] = iat;
        refused(&host.tokens.sign(&claims), "token_revoked").await;
    }

    let user = User::new(64);
    store(&redis, &user, &nine_keys(&user, "invalidated")).await;
    refused(&host.tokens.access(&user), "token_revoked").await;

    let user = User::new(65);
    set("lockgate:user:65".into(), disabled(&user)).await;
    refused(&host.tokens.access(&user), "user_disabled").await;
}

/// `session/info`: the token's session, or another one of the same user.
#[tokio::test(flavor = "multi_thread")]
async fn info() {
    let redis = RedisServer::start().await;
    let host = Host::builder().redis(&redis).start().await;
    let user = User::new(70);
    let token = host.tokens.access(&user);
    let call = || get(&host, INFO).cookie("access_token", &token);
    let body = call().send().await.expect_shape(200, INFO_SHAPE);
    assert_eq!(
        (&body["user_id"], &body["email"]),
        (&json!(70), &json!(user.email))
    );
    assert_eq!(
        (&body["session_id"], &body["role"]),
        (&json!(user.session_id), &json!("user"))
    );
    assert_eq!(
        (&body["is_active"], &body["degraded"]),
        (&json!(true), &json!(false))
    );

    let second = User::new(70).session("s-second");
    store(&redis, &second, &nine_keys(&second, "active")).await;
    let picked = call()
        .header("x-session-id", "s-second")
        .header("x-integration-layer", "true");
    let answer = picked.send().await;
    let body = answer.expect_shape(200, INFO_SHAPE);
    assert_eq!(
        (&body["session_id"], &body["source"]),
        (&json!("s-second"), &json!("redis"))
    );
    assert_eq!(body["session_created"], "2026-01-02T03:04:05Z");
    assert_eq!(answer.header("x-integration-layer"), "true");
    let body = call().cookie("session_id", "s-second").send().await.json();
    assert_eq!(body["session_id"], "s-second");

    let other = User::new(71).session("s-other");
    store(&redis, &other, &nine_keys(&other, "active")).await;
    for id in ["s-other", "s-nobody", "70", "a:b", "../x", ""] {
        let body = call()
            .header("x-session-id", id)
            .send()
            .await
            .expect_shape(200, INFO_SHAPE);
        assert_eq!(body["session_id"], user.session_id, "{id}");
    }

    for (token, error) in [
        (None, "token_missing"),
        (Some(host.tokens.expired(&user)), "token_expired"),
        (Some("garbage".to_owned()), "invalid_token"),
    ] {
        let mut call = get(&host, INFO);
        if let Some(token) = token {
            call = call.bearer(&token);
        }
        let body = call.send().await.expect_error(401, error);
        assert_eq!(body["detail"], "Could not validate credentials");
    }
    let _: String = redis
        .run(&["SET", "lockgate:revoked:user:72", &now().to_string()])
        .await;
    let revoked = get(&host, INFO)
        .bearer(&host.tokens.access(&User::new(72)))
        .send()
        .await;
    revoked.expect_error(401, "token_revoked");
}

/// `session/normalize`: every known form comes out as one.
#[tokio::test(flavor = "multi_thread")]
async fn normalize() {
    let host = Host::start().await;
    let shape = "normalized:obj source:source|=api format_type:format verified:bool degraded:bool";
    let user = User::new(42);
    let far = "2091-05-04T10:00:00";
    let cases = [
        (
            "nine keys",
            {
                let mut record = nine_keys(&user, "active");
                record["expires_at"] = json!(far);
                record
            },
            Some("enhanced"),
            Some("s-42Qx"),
            Some(far),
        ),
        (
            "login record",
            json!({"user_id": 42, "email": user.email, "role": "user",
            "login_time": "2026-05-04T09:00:00", "token_format": "enhanced"}),
            Some("enhanced"),
            None,
            None,
        ),
        (
            "fallback record",
            json!({"user_id": 42, "email": user.email, "role": "user",
            "session_id": "s-42Qx", "created_at": "2026-05-04T09:00:00Z",
            "last_accessed": "2026-05-04T09:00:00Z", "expires_at": "2091-05-04T10:00:00Z",
            "session_data": {}, "token_format": "enhanced"}),
            Some("enhanced"),
            Some("s-42Qx"),
            Some(far),
        ),
        (
            "flat answer",
            json!({"valid": true, "authenticated": true, "user_id": 42, "id": 42,
            "email": user.email, "role": "user", "session_id": "s-42Qx",
            "expires_at": "2091-05-04T10:00:00Z", "expires_in_minutes": 48}),
            Some("enhanced"),
            Some("s-42Qx"),
            Some(far),
        ),
        (
            "nested answer",
            json!({"valid": true,
            "user": {"id": 42, "email": user.email, "role": "user"}}),
            Some("legacy"),
            None,
            None,
        ),
        (
            "claims",
            json!({"sub": "42", "email": user.email, "role": "user",
            "exp": parse_time("2091-05-04T10:00:00Z").unwrap(), "session_id": "s-42Qx"}),
            Some("mixed"),
            Some("s-42Qx"),
            Some(far),
        ),
        (
            "users row",
            json!({"id": 42, "email": user.email, "role": "user", "is_active": true}),
            Some("legacy"),
            None,
            None,
        ),
        (
            "id in text",
            json!({"user_id": "42", "email": user.email, "role": "user"}),
            Some("enhanced"),
            None,
            None,
        ),
    ];
    for (name, session, format, id, expires) in cases {
        let call = host.post(Service::Session, NORMALIZE);
        let body = call
            .json(&json!({"session": session, "source": "api"}))
            .send()
            .await;
        let body = body.expect_shape(200, shape);
        let normal = &body["normalized"];
        shape::exact(normal, NORMALIZED);
        assert_eq!(normal["valid"], true, "{name}: {body}");
        assert_eq!(
            (&normal["user_id"], &normal["role"]),
            (&json!(42), &json!("user")),
            "{name}"
        );
        assert_eq!(normal["email"], user.email, "{name}");
        assert_eq!(normal["session_id"], json!(id), "{name}");
        let expires = expires.map(|time| format!("{time}Z"));
        assert_eq!(normal["expires_at"], json!(expires), "{name}");
        assert_eq!(
            normal["expires_in_minutes"].is_null(),
            expires.is_none(),
            "{name}"
        );
        if let Some(format) = format {
            assert_eq!(body["format_type"], format, "{name}");
        }
        assert_eq!(
            (&body["source"], &body["verified"]),
            (&json!("api"), &json!(false)),
            "{name}"
        );
        assert_eq!(body["degraded"], false, "{name}");
    }
    // No `source`: still one of the known words.
    let bare = json!({"session": {"user_id": 42, "email": user.email, "role": "user"}});
    let call = host.post(Service::Session, NORMALIZE).json(&bare);
    call.send().await.expect_shape(200, shape);

    let mut past = nine_keys(&user, "active");
    past["expires_at"] = json!("2020-05-04T10:00:00");
    let call = host
        .post(Service::Session, NORMALIZE)
        .json(&json!({"session": past}));
    assert_eq!(
        call.send().await.expect(200).json()["normalized"]["valid"],
        false
    );

    // A token is checked, so its result is verified.
    let token = host.tokens.access(&user);
    for call in [
        host.post(Service::Session, NORMALIZE)
            .json(&json!({"token": token})),
        host.post(Service::Session, NORMALIZE).bearer(&token),
        host.post(Service::Session, NORMALIZE)
            .cookie("access_token", &token),
    ] {
        let body = call.send().await.expect_shape(200, shape);
        shape::exact(&body["normalized"], NORMALIZED);
        assert_eq!(
            (&body["verified"], &body["format_type"]),
            (&json!(true), &json!("enhanced"))
        );
        assert_eq!(body["normalized"]["session_id"], user.session_id);
        assert_eq!(body["normalized"]["valid"], true);
    }
}

/// `session/normalize` with nothing usable.
#[tokio::test(flavor = "multi_thread")]
async fn normalize_failures() {
    let host = Host::start().await;
    let user = User::new(42);
    for body in [
        json!({}),
        json!({"session": {}}),
        json!({"session": []}),
        json!({"session": "x"}),
        json!({"session": 5}),
        json!({"session": {"user_id": 0, "email": "a@b.c", "role": "user"}}),
        json!({"session": {"user_id": true, "email": "a@b.c", "role": "user"}}),
        json!({"session": {"user_id": 1.5, "email": "a@b.c", "role": "user"}}),
        json!({"session": {"user_id": 42, "email": "no address", "role": "user"}}),
        json!({"session": {"user_id": 42, "email": "a@b.c", "role": "root"}}),
        json!({"session": {"user_id": 42, "email": "a@b.c"}}),
        json!({"session": {"user": [42]}}),
        json!({"source": "api"}),
        json!({"token": 5}),
    ] {
        let call = host.post(Service::Session, NORMALIZE).json(&body);
        call.send().await.expect_error(422, "invalid_request");
    }
    let call = host.post(Service::Session, NORMALIZE).body("{\"session\":");
    call.send().await.expect_error(400, "invalid_request");
    for (token, error) in [
        (host.tokens.expired(&user), "token_expired"),
        ("x.y.z".to_owned(), "invalid_token"),
    ] {
        let call = host
            .post(Service::Session, NORMALIZE)
            .json(&json!({"token": token}));
        call.send().await.expect_error(401, error);
    }
}

fn nine_keys(user: &User, status: &str) -> Value {
    json!({
        "session_id": user.session_id, "user_id": user.id, "email": user.email,
        "role": user.role, "status": status, "created_at": "2026-01-02T03:04:05.678901",
        "last_activity": "2026-01-02T03:05:05", "expires_at": "2091-01-02T03:04:05",
        "metadata": {"device": "x"},
    })
}

fn disabled(user: &User) -> String {
    json!({"is_active": false, "email": user.email, "role": user.role, "checked_at": now()})
        .to_string()
}

async fn store(redis: &RedisServer, user: &User, record: &Value) {
    let key = format!("session:{}", user.session_id);
    let _: String = redis
        .run(&["SET", &key, &record.to_string(), "EX", "86400"])
        .await;
    let set = format!("user_sessions:{}", user.id);
    let _: i64 = redis.run(&["SADD", &set, &user.session_id]).await;
}

/// The value of a key that is written without the answer waiting for it.
async fn wait_for(redis: &RedisServer, key: &str) -> String {
    for _ in 0..500 {
        if let Some(value) = redis.get(key).await {
            return value;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!(
        "{key} was never written; there are {:?}",
        redis.keys().await
    );
}
