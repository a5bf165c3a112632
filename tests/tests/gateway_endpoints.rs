//! The HTTP endpoints of websocket-auth-gateway.

use lockgate_tests::shape::{self, H};
use lockgate_tests::tokens::sha256;
use lockgate_tests::{Answer, Host, RedisServer, Service, User, now};
use serde_json::{Value, json};

const VALIDATE: &str = "/api/v1/ws-auth/validate";
const CONNECTIONS: &str = "/api/v1/ws-auth/connection-info";
const AUTHORIZE: &str = "/api/v1/ws-auth/authorize";
const HEALTH: &str = "/api/v1/ws-auth/health";
const VALID: &str = "valid:true user_id:int email:str role:role format_type:format session_id:str \
    expires_at:time|null issued_at:time|null expires_in:int|null degraded:bool normalized:obj";
const STATS: &str = "total_connections:int authenticated_connections:int \
    failed_authentications:int bypass_attempts:int";
const AUTHORIZED: &str = "authorized:true connection_id:str user_id:int email:str role:role \
    session_id:str expires_at:time|null degraded:bool ticket:str|null";
const REFUSED: &str = "authorized:false close_code:=1008 reason:str";

#[tokio::test(flavor = "multi_thread")]
async fn validate() {
    let host = Host::start().await;
    let user = User::new(42);
    let token = host.tokens.access(&user);
    let post = || host.post(Service::Gateway, VALIDATE);
    for call in [
        post().json(&json!({"token": token})),
        post().bearer(&token),
        post().cookie("access_token", &token),
        post().cookie("auth_token", &token),
    ] {
        let body = call.send().await.expect_shape(200, VALID);
        assert_eq!(
            (&body["user_id"], &body["session_id"]),
            (&json!(42), &json!(user.session_id))
        );
        shape::exact(
            &body["normalized"],
            "sub:=42 email:str id:=42 role:role session_id:str",
        );
    }
    post().send().await.expect_invalid("token_missing");
    for (token, error) in [
        (host.tokens.expired(&user), "token_expired"),
        (host.tokens.service(), "unsupported_format"),
        ("x".to_owned(), "invalid_token"),
    ] {
        post()
            .json(&json!({"token": token}))
            .send()
            .await
            .expect_invalid(error);
    }
    post()
        .json(&json!({"token": 5}))
        .send()
        .await
        .expect_error(422, "invalid_request");
    post()
        .body("[")
        .send()
        .await
        .expect_error(400, "invalid_request");
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_info() {
    let host = Host::start().await;
    let shape = "active_connections:int connections:arr stats:obj degraded:bool";
    let get = || host.get(Service::Gateway, CONNECTIONS);
    for user in [User::new(42), User::admin(43)] {
        let body = get()
            .bearer(&host.tokens.access(&user))
            .send()
            .await
            .expect_shape(200, shape);
        assert_eq!(body["connections"], json!([]));
        shape::exact(&body["stats"], STATS);
        assert_eq!(body["degraded"], false);
    }
    get().send().await.expect_error(401, "token_missing");
    let expired = host.tokens.expired(&User::new(42));
    get()
        .bearer(&expired)
        .send()
        .await
        .expect_error(401, "token_expired");
}

/// Asserts a refusal of `authorize`.
#[track_caller]
fn refused(answer: &Answer, status: u16, error: &str) {
    answer.expect_error_with(status, error, REFUSED);
}

#[tokio::test(flavor = "multi_thread")]
async fn authorize() {
    let host = Host::start().await;
    let user = User::new(42);
    let token = host.tokens.access(&user);
    let post = || host.post(Service::Gateway, AUTHORIZE);
    let mut seen = std::collections::BTreeSet::new();
    for body in [
        json!({"token": token}),
        json!({"token": token, "path": "/ws/chat"}),
        json!({"token": token, "path": "/ws/any/thing"}),
        json!({"token": token, "path": "/api/v1/chat/ws"}),
        json!({"token": token, "path": "/api/v1/ws/room", "client_ip": "192.0.2.1"}),
        json!({"token": token, "session_id": user.session_id}),
        json!({"token": token, "session_id": "s-of-somebody-else"}),
    ] {
        let body = post()
            .json(&body)
            .send()
            .await
            .expect_shape(200, AUTHORIZED);
        assert_eq!(
            (&body["user_id"], &body["session_id"]),
            (&json!(42), &json!(user.session_id))
        );
        assert_eq!(
            (&body["email"], &body["degraded"]),
            (&json!(user.email), &json!(false))
        );
        let ticket = body["ticket"].as_str().expect("a ticket").to_owned();
        assert!(ticket.len() >= 32, "{ticket}");
        assert!(seen.insert(ticket), "tickets are used once");
        assert!(
            seen.insert(body["connection_id"].to_string()),
            "connections have own ids"
        );
    }
    post()
        .bearer(&token)
        .send()
        .await
        .expect_shape(200, AUTHORIZED);
    post()
        .cookie("access_token", &token)
        .send()
        .await
        .expect_shape(200, AUTHORIZED);

    refused(&post().send().await, 401, "token_missing");
    refused(
        &post().bearer(&host.tokens.expired(&user)).send().await,
        401,
        "token_expired",
    );
    refused(&post().bearer("garbage").send().await, 401, "invalid_token");
    for path in [
        "/",
        "/api/v1/users",
        "/api/v1/chat/wsx",
        "/wsx/chat",
        "ws/chat",
        "http://x/ws/a",
    ] {
        let call = post().json(&json!({"token": token, "path": path}));
        refused(&call.send().await, 403, "access_forbidden");
    }
    let call = post()
        .cookie("access_token", &token)
        .header("origin", "https://evil.example");
    refused(&call.send().await, 403, "origin_refused");
    for body in [
        json!({"token": 5}),
        json!({"token": token, "path": 5}),
        json!({"token": token, "session_id": 5}),
        json!({"token": token, "client_ip": ["x"]}),
    ] {
        let answer = post().json(&body).send().await;
        assert_eq!(answer.status, 422, "{}", answer.text());
        assert_eq!(answer.conventional()["error"], "invalid_request");
    }
}

/// What a ticket leaves in Redis: its hash, and nothing that opens a socket.
#[tokio::test(flavor = "multi_thread")]
async fn tickets_in_redis() {
    let redis = RedisServer::start().await;
    let host = Host::builder().redis(&redis).start().await;
    let user = User::new(42);
    let token = host.tokens.access(&user);
    let call = host.post(Service::Gateway, AUTHORIZE).bearer(&token);
    let body = call.send().await.expect_shape(200, AUTHORIZED);
    let ticket = body["ticket"].as_str().expect("a ticket");
    let key = format!("lockgate:ws-ticket:{}", sha256(ticket));
    let text = redis
        .get(&key)
        .await
        .expect("a record under the ticket's hash");
    let record: Value = serde_json::from_str(&text).unwrap();
    shape::exact(
        &record,
        "user_id:=42 email:str role:role session_id:str connection_id:str path:=/ws/chat \
         token_sha256:str token_iat:int|null token_exp:int|null",
    );
    assert_eq!(record["token_sha256"], sha256(&token));
    assert_eq!(record["connection_id"], body["connection_id"]);
    assert!((1..=60).contains(&redis.run::<i64>(&["TTL", &key]).await));

    // The session of a body counts only if it is the user's.
    let _: i64 = redis.run(&["SADD", "user_sessions:42", "s-tablet"]).await;
    let record = json!({
        "session_id": "s-tablet", "user_id": 42, "email": user.email, "role": "user",
        "status": "active", "created_at": "2026-01-02T03:04:05",
        "last_activity": "2026-01-02T03:04:05", "expires_at": "2091-01-02T03:04:05",
        "metadata": {},
    });
    let _: String = redis
        .run(&["SET", "session:s-tablet", &record.to_string()])
        .await;
    let call = host.post(Service::Gateway, AUTHORIZE).bearer(&token);
    let body = call
        .json(&json!({"session_id": "s-tablet"}))
        .send()
        .await
        .expect(200)
        .json();
    assert_eq!(body["session_id"], "s-tablet");
    let _: String = redis
        .run(&["SET", "lockgate:revoked:user:42", &(now() + 10).to_string()])
        .await;
    let later = host
        .post(Service::Gateway, AUTHORIZE)
        .bearer(&host.tokens.access(&user));
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    refused(&later.send().await, 401, "token_revoked");
}

#[tokio::test(flavor = "multi_thread")]
async fn health() {
    let host = Host::start().await;
    // Nothing listens where the chat service should be.
    let shape = format!(
        "{H} active_connections:=0 stats:obj bypass_disabled:true authentication_required:true"
    );
    let chat = async |want: &str| {
        for _ in 0..300 {
            let answer = host.get(Service::Gateway, HEALTH).send().await.expect(200);
            let body = answer.conventional();
            shape::exact(&body, &shape);
            shape::exact(&body["stats"], STATS);
            let away = want == "disconnected";
            if body["dependencies"] == json!({"redis": "not_configured", "chat_service": want}) {
                assert_eq!(body["status"], if away { "degraded" } else { "healthy" });
                assert_eq!(body["degraded"], away);
                assert_eq!(body["service"], "websocket-auth-gateway-service");
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        panic!("the chat service was never {want}");
    };
    chat("disconnected").await;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", host.spare_port(1)))
        .await
        .unwrap();
    let accept = tokio::spawn(async move {
        loop {
            let _ = listener.accept().await;
        }
    });
    chat("connected").await;
    accept.abort();
    let _ = accept.await;
    chat("disconnected").await;
}
