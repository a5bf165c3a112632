//! Sockets of websocket-auth-gateway over real connections: who is let in, what is
//! said, and that a swap closes none.

use std::time::Duration;

use lockgate_tests::socket::Came;
use lockgate_tests::{Chat, Host, Service, User, component, place};
use serde_json::{Value, json};

const NO_TOKEN: &str = "Authentication token required - no bypass allowed";
const BAD_TOKEN: &str = "Invalid authentication token format";
const REVOKED: &str = "Session validation failed";
const WRONG_USER: &str = "User authentication failed";

fn refused(code: u16, reason: &str) -> (u16, String) {
    (code, reason.to_owned())
}

async fn chat_of(host: &Host) -> Chat {
    let verify = format!("http://127.0.0.1:{}", host.port(Service::Jwt));
    Chat::start(host.spare_port(1), &verify).await
}

#[tokio::test(flavor = "multi_thread")]
async fn open_chat_and_close() {
    let host = Host::start().await;
    let chat = chat_of(&host).await;
    let user = User::new(42);
    let token = host.tokens.access(&user);
    let (mut socket, confirmed) = host.chat_socket(&token).confirmed().await;
    assert_eq!(confirmed["session_id"], json!(user.session_id));
    assert_eq!(confirmed["user_id"], 42);
    assert_eq!(confirmed["degraded"], false);
    assert!(confirmed["message"].is_string());

    let answer = socket.chat("Hi").await;
    assert_eq!(
        answer,
        json!({
            "type": "chat_response", "content": "echo: Hi", "session_id": user.session_id,
            "metadata": {"message_id": "m1", "model": "small", "status": "ok"},
        })
    );
    let seen = chat.seen();
    assert_eq!(seen.connections, [(token.clone(), user.session_id.clone())]);
    assert_eq!(seen.messages, [json!({"type": "chat", "message": "Hi"})]);

    assert_eq!(socket.close().await, Came::Closed(1000, "done".to_owned()));
    let log = host.log();
    assert!(log.contains("socket opened") && log.contains("socket closed"));
    assert!(!log.contains(&token), "the log holds a token");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_frame_table() {
    let host = Host::start().await;
    let user = User::new(42);
    let token = host.tokens.access(&user);
    for path in ["/ws/chat", "/api/v1/chat/ws"] {
        let (mut socket, _) = host
            .socket_at(path, &format!("token={token}"))
            .confirmed()
            .await;
        let ready = json!({
            "type": "ready", "session_id": "x", "user_id": 7, "auth_method": "x",
            "integration_layer": true,
        });
        let id = &user.session_id;
        for (said, answer) in [
            (ready, json!({"type": "ready_confirmed", "session_id": id})),
            (json!({"type": "ping"}), json!({"type": "pong"})),
            (
                json!({"type": "heartbeat"}),
                json!({"type": "heartbeat_ack"}),
            ),
            (
                json!({"type": "session_restoration", "session_id": "x"}),
                json!({"type": "session_restoration", "session_id": id}),
            ),
        ] {
            assert_eq!(socket.ask(&said).await, answer);
        }
        for broken in ["{", "[]", "", "\"ping\""] {
            socket.text(broken).await;
            let answer = socket.said().await;
            assert_eq!(answer["type"], "error", "{broken}");
            assert!(answer["message"].is_string());
        }
        // An unknown type has no answer: the next one is that of the ping.
        socket.say(&json!({"type": "typing"})).await;
        assert_eq!(
            socket.ask(&json!({"type": "ping"})).await,
            json!({"type": "pong"})
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_refused_is_accepted_first_and_closed_then() {
    let host = Host::start().await;
    let user = User::new(42);
    let (good, other) = (
        host.tokens.access(&user),
        host.tokens.access(&User::new(43)),
    );
    assert_eq!(host.socket("").refused().await, refused(1008, NO_TOKEN));
    for bad in [
        host.tokens.expired(&user),
        host.tokens.service(),
        host.tokens.marked_refresh(&user),
        "x".to_owned(),
    ] {
        assert_eq!(
            host.chat_socket(&bad).refused().await,
            refused(1008, BAD_TOKEN)
        );
    }
    let two = host
        .chat_socket(&good)
        .header("authorization", format!("Bearer {other}"));
    assert_eq!(two.refused().await, refused(1008, WRONG_USER));
    let ticket = host.socket("ticket=unknown");
    assert_eq!(ticket.refused().await, refused(1008, BAD_TOKEN));

    let logout = host.post(Service::Coordinator, "/api/v1/auth/logout");
    logout.bearer(&good).send().await.expect(204);
    assert_eq!(
        host.chat_socket(&good).refused().await,
        refused(1008, REVOKED)
    );
    let info = host
        .get(Service::Gateway, "/api/v1/ws-auth/health")
        .send()
        .await;
    let stats = &info.json()["stats"];
    assert_eq!(stats["total_connections"], 8);
    assert_eq!(stats["authenticated_connections"], 0);
    assert_eq!(stats["failed_authentications"], 8);
    assert_eq!(stats["bypass_attempts"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_source_of_credentials() {
    let host = Host::start().await;
    let token = host.tokens.access(&User::new(42));
    let bare = || host.socket("");
    let cookie = format!("access_token={token}");
    let own = format!("http://127.0.0.1:{}", host.port(Service::Gateway));
    for opening in [
        host.socket(&format!("token=%22Bearer%20{token}%22")),
        bare().header("sec-websocket-protocol", format!("Bearer.{token}")),
        bare().header("authorization", format!("bearer {token}")),
        bare().header("x-auth-token", &token),
        bare().header("x-access-token", &token),
        bare().header("x-jwt-token", &token),
        bare().header("cookie", &cookie),
        bare().header("cookie", format!("auth_token={token}")),
        bare().header("cookie", &cookie).header("origin", own),
        // A stale header hides no good cookie.
        bare()
            .header("cookie", &cookie)
            .header("authorization", "Bearer x"),
        // The token in the query is no cookie.
        host.chat_socket(&token)
            .header("origin", "https://elsewhere.example"),
    ] {
        let (_, confirmed) = opening.confirmed().await;
        assert_eq!(confirmed["user_id"], 42);
    }
    for foreign in [
        ("origin", "https://elsewhere.example"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
    ] {
        let opening = bare()
            .header("cookie", &cookie)
            .header(foreign.0, foreign.1);
        assert_eq!(opening.refused().await, refused(1008, NO_TOKEN));
    }
    // A subprotocol is answered only if one was offered.
    let (socket, _) = host.chat_socket(&token).confirmed().await;
    let name = "sec-websocket-protocol";
    assert!(!socket.answer.headers().contains_key(name));
    let offered = host.chat_socket(&token).header(name, "chat.v1");
    let (socket, _) = offered.confirmed().await;
    assert_eq!(socket.answer.headers()[name], "chat.v1");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_handshake_is_answered_in_http() {
    let host = Host::start().await;
    let get = || host.get(Service::Gateway, "/ws/chat");
    let answer = get().send().await;
    let body = answer.expect_error(426, "invalid_request");
    assert!(body["detail"].is_string());
    let post = host.post(Service::Gateway, "/ws/chat").send().await;
    post.expect_error(405, "invalid_request");
    host.get(Service::Gateway, "/ws/other")
        .send()
        .await
        .expect_error(404, "invalid_request");
    host.get(Service::Jwt, "/ws/chat")
        .send()
        .await
        .expect_error(404, "invalid_request");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_keeps_the_socket_and_its_memory() {
    let host = Host::start().await;
    let _chat = chat_of(&host).await;
    let user = User::new(42);
    let (mut socket, _) = host
        .chat_socket(&host.tokens.access(&user))
        .confirmed()
        .await;
    let built = component::built(Service::Gateway);
    for round in 0..3_u32 {
        assert_eq!(
            socket.chat(&format!("before {round}")).await["content"],
            json!(format!("echo: before {round}"))
        );
        // A question is on its way while the code changes.
        socket
            .say(&json!({"type": "chat_message", "message": "slow"}))
            .await;
        assert_eq!(socket.said().await["type"], "message_received");
        let another = component::with_note(&built, &round.to_string());
        host.swap(Service::Gateway, &another).await;
        assert_eq!(socket.said().await["content"], "echo: slow");
        let answer = socket.ask(&json!({"type": "ready"})).await;
        assert_eq!(
            answer,
            json!({"type": "ready_confirmed", "session_id": user.session_id})
        );
        host.install(Service::Gateway, b"not a component");
        host.wait_refused(Service::Gateway, &["this is text"]).await;
        assert_eq!(
            socket.ask(&json!({"type": "ping"})).await,
            json!({"type": "pong"})
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_closes_the_sockets_of_its_session() {
    let host = Host::start().await;
    let (user, other) = (User::new(42), User::new(42).session("s-other"));
    let token = host.tokens.access(&user);
    let (mut first, _) = host.chat_socket(&token).confirmed().await;
    let (mut second, _) = host
        .chat_socket(&host.tokens.access(&other))
        .confirmed()
        .await;
    let info = host.get(Service::Gateway, "/api/v1/ws-auth/connection-info");
    let info = info.bearer(&token).send().await.expect(200).json();
    assert_eq!(info["active_connections"], 2, "{info}");
    let sync = json!({
        "user_id": 42, "email": user.email, "event_type": "logout", "source": "api",
        "session_id": user.session_id,
    });
    let answer = host
        .post(Service::Coordinator, "/api/v1/coordinator/sync-auth")
        .bearer(&token)
        .json(&sync)
        .send()
        .await
        .expect(200)
        .json();
    assert_eq!(answer["propagated"]["websocket"], 1, "{answer}");
    assert_eq!(first.closed().await.0, 4001);
    let quiet = second.came_within(Duration::from_millis(300)).await;
    assert_eq!(quiet, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_ends_with_its_token() {
    let host = Host::start().await;
    let user = User::new(42);
    // Past `exp`, two seconds before the end of the leeway.
    let mut claims = lockgate_tests::Tokens::unified_claims(&user, -58);
    lockgate_tests::tokens::set(&mut claims, "iat", json!(lockgate_tests::now() - 600));
    let (mut socket, _) = host
        .chat_socket(&host.tokens.sign(&claims))
        .confirmed()
        .await;
    let told = socket.said().await;
    assert_eq!(told["type"], "token_refresh_request", "{told}");
    let (code, reason) = socket.closed().await;
    assert_eq!((code, reason.as_str()), (4001, "Token expired"));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_token_of_the_user_takes_over() {
    let host = Host::start().await;
    let user = User::new(42);
    let mut claims = lockgate_tests::Tokens::unified_claims(&user, -56);
    lockgate_tests::tokens::set(&mut claims, "iat", json!(lockgate_tests::now() - 600));
    let (mut socket, _) = host
        .chat_socket(&host.tokens.sign(&claims))
        .confirmed()
        .await;
    assert_eq!(socket.said().await["type"], "token_refresh_request");
    let refresh = |token: String| json!({"type": "token_refresh_response", "token": token});
    let stranger = refresh(host.tokens.access(&User::new(43)));
    assert_eq!(socket.ask(&stranger).await["type"], "error");
    let own = refresh(host.tokens.access(&user));
    assert_eq!(socket.ask(&own).await["type"], "token_refresh_confirmed");
    let later = socket.came_within(Duration::from_secs(6)).await;
    assert_eq!(later, None, "the first token has ended, the second has not");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_opens_one_socket_at_its_path() {
    let host = Host::start().await;
    let chat = chat_of(&host).await;
    let user = User::new(42);
    let token = host.tokens.access(&user);
    let ticket = async |path: &str| -> Value {
        host.post(Service::Gateway, "/api/v1/ws-auth/authorize")
            .json(&json!({"token": token, "path": path}))
            .send()
            .await
            .expect(200)
            .json()
    };
    let given = ticket("/ws/chat").await;
    let query = format!("ticket={}", given["ticket"].as_str().expect("a ticket"));
    let (mut socket, confirmed) = host.socket(&query).confirmed().await;
    assert_eq!(confirmed["user_id"], 42);
    assert_eq!(
        host.socket(&query).refused().await,
        refused(1008, BAD_TOKEN)
    );
    assert_eq!(socket.chat("Hi").await["content"], "echo: Hi");
    let made = chat.seen().connections[0].0.clone();
    assert_ne!(made, token);
    let claims = lockgate_tests::tokens::claims(&made);
    let life = claims["exp"].as_i64().expect("exp") - claims["iat"].as_i64().expect("iat");
    assert_eq!((life, &claims["token_use"]), (60, &json!("access")));
    let info = host.get(Service::Gateway, "/api/v1/ws-auth/connection-info");
    let info = info.bearer(&token).send().await.expect(200).json();
    assert_eq!(
        info["connections"][0]["connection_id"],
        given["connection_id"]
    );

    let elsewhere = ticket("/api/v1/chat/ws").await;
    let query = format!("ticket={}", elsewhere["ticket"].as_str().expect("a ticket"));
    assert_eq!(
        host.socket(&query).refused().await,
        refused(1008, BAD_TOKEN)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn any_service_serves_sockets_at_its_paths() {
    let host = component::echo_host(65_536).await;
    let (here, path) = (component::ECHO, component::ECHO_PATH);
    let mut socket = host.socket_of(here, path, "a=b").open().await;
    for said in [
        json!({"anything": ["at", "all"]}),
        json!("\u{e9}\u{1f600}"),
        json!(null),
    ] {
        assert_eq!(socket.ask(&said).await, said);
    }
    host.get(here, path).send().await.expect(426);
    // Paths count as a whole; the others are the plugin's.
    for (service, path) in [
        (here, "/ws/"),
        (here, "/WS"),
        (here, "/ws/chat"),
        (Service::Jwt, path),
    ] {
        let opened = host.socket_of(service, path, "").try_open().await;
        assert!(opened.is_err(), "{path}");
    }
    host.swap(here, &component::Probe::version(2).bytes()).await;
    let said = json!("after the swap");
    assert_eq!(socket.ask(&said).await, said);
    assert!(matches!(socket.close().await, Came::Closed(1000, _)));
}

/// What `lockgate check` prints; it must take the file.
fn check(file: &std::path::Path, service: Service) -> String {
    let output = std::process::Command::new(place::binary())
        .args([
            "check",
            &file.display().to_string(),
            "--service",
            service.name(),
        ])
        .output()
        .expect("run the binary");
    let text = String::from_utf8([output.stdout, output.stderr].concat()).expect("text");
    assert!(output.status.success(), "{text}");
    text
}

#[test]
fn check_says_whether_sockets_would_work() {
    let said = check(&place::plugin(Service::Gateway.name()), Service::Gateway);
    assert!(said.contains("exports `websocket`"), "{said}");
    assert!(!said.contains("Warning"), "{said}");
    let folder = component::folder();
    let file = folder.path().join("small.wasm");
    std::fs::write(&file, component::constant(1)).expect("write a component");
    let said = check(&file, Service::Gateway);
    assert!(said.contains("exports no `websocket`"), "{said}");
    assert!(
        said.contains("Warning: ") && said.contains("/ws/chat"),
        "{said}"
    );
    let said = check(&file, Service::Jwt);
    assert!(!said.contains("Warning"), "{said}");
    // The other way round: what it exports is of no use there.
    let said = check(&place::probe(), Service::Coordinator);
    assert!(
        said.contains("Note: ") && said.contains("socket_paths"),
        "{said}"
    );
}
