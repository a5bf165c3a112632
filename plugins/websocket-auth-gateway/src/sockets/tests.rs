//! The events of sockets against a scripted host.

use lockgate_sdk::double::{Call, Double, NOW, sha};
use lockgate_sdk::http::Origin;
use lockgate_sdk::socket::Failure;
use lockgate_sdk::wit::{jwt, users};
use serde_json::{Value, json};

use super::*;
use crate::routes;

fn host() -> Double {
    let host = Double::new("websocket-auth-gateway-service");
    host.good("good", |_| {});
    host.good("newer", |claims| claims.expires_at = Some(NOW + 7200));
    host.good("other", |claims| {
        claims.sub = Some(jwt::Scalar::Text("43".into()));
        claims.id = None;
    });
    host.bad("expired", jwt::Error::Expired);
    host
}

fn connection(state: &[u8]) -> Connection {
    Connection {
        id: "ws-1".into(),
        opened_at: NOW,
        expires_at: Some(NOW + 200),
        state: state.to_vec(),
        waiting: 0,
    }
}

fn opened(host: &Double, call: Call) -> Vec<Action> {
    open(host, &connection(b""), &call.request())
}

fn chat(query: &str) -> Call {
    Call::get("/ws/chat").query(query)
}

fn known() -> Connection {
    connection(br#"{"user_id":42,"session_id":"s-7Qx"}"#)
}

fn on(host: &Double, event: Event) -> Vec<Action> {
    message(host, &known(), event)
}

/// The only thing that is sent, as JSON.
fn sent(actions: &[Action]) -> Value {
    match actions {
        [Action::Send(text) | Action::Answer(text)] => serde_json::from_str(text).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn says(host: &Double, said: &Value) -> Vec<Action> {
    on(host, Event::Text(said.to_string()))
}

fn closed_with(actions: &[Action]) -> (u16, &str) {
    match actions {
        [Action::Close(ending)] => (ending.code, &ending.reason),
        other => panic!("{other:?}"),
    }
}

fn counts(host: &Double) -> Vec<(String, u64)> {
    host.counters()
}

#[test]
fn a_good_token_is_admitted_and_confirmed() {
    let host = host();
    let actions = opened(&host, chat("token=good"));
    let [expire, admitted, remembered, linked, confirmed] = &actions[..] else {
        panic!("{actions:?}");
    };
    assert_eq!(*expire, Action::Expire(Some(NOW + 3600)));
    let admission = Admission {
        connection_id: None,
        user_id: 42,
        email: "ada@example.org".into(),
        role: "user".into(),
        format_type: "enhanced".into(),
        session_id: "s-7Qx".into(),
        token_session_id: None,
        token_sha256: sha("good"),
        issued_at: Some(NOW),
    };
    assert_eq!(*admitted, Action::Admit(admission));
    assert_eq!(*remembered, Action::Remember(known().state));
    let link = Link {
        credential: Credential::Token("good".into()),
        session_id: "s-7Qx".into(),
    };
    assert_eq!(*linked, Action::Link(link));
    let confirmed = sent(std::slice::from_ref(confirmed));
    assert_eq!(
        confirmed,
        json!({
            "type": "connection_confirmed", "session_id": "s-7Qx", "user_id": 42,
            "message": "Connection authenticated", "degraded": false,
        })
    );
    assert_eq!(
        counts(&host),
        [
            ("authenticated_connections".to_owned(), 1),
            ("total_connections".to_owned(), 1)
        ]
    );
}

#[test]
fn without_redis_the_socket_is_degraded() {
    let host = host();
    host.redis_down();
    let actions = opened(&host, chat("token=good"));
    let confirmed = sent(&actions[4..]);
    assert_eq!(confirmed["degraded"], true);
}

#[test]
fn each_refusal_has_its_close_frame() {
    let no_token = "Authentication token required - no bypass allowed";
    let bad = "Invalid authentication token format";
    let host = host();
    for (call, code, reason) in [
        (chat(""), 1008, no_token),
        (chat("token=unknown"), 1008, bad),
        (chat("token=expired"), 1008, bad),
        (
            chat("token=good&token=other"),
            1008,
            "User authentication failed",
        ),
        (
            chat("")
                .cookie("access_token", "good")
                .origin(Origin::Foreign),
            1008,
            no_token,
        ),
        (chat("ticket=unknown"), 1008, bad),
    ] {
        assert_eq!(closed_with(&opened(&host, call)), (code, reason));
    }
    host.users.borrow_mut().insert(42, users::State::Disabled);
    let actions = opened(&host, chat("token=good"));
    assert_eq!(closed_with(&actions), (1008, "User authentication failed"));
    host.revoked.borrow_mut().insert("session:42:s-7Qx".into());
    let actions = opened(&host, chat("token=good"));
    assert_eq!(closed_with(&actions), (1008, "Session validation failed"));
    host.ready.set(false);
    let actions = opened(&host, chat("token=good"));
    assert_eq!(closed_with(&actions), (1011, "Authentication system error"));
    assert!(counts(&host).contains(&("bypass_attempts".to_owned(), 2)));
}

#[test]
fn the_frame_table() {
    let host = host();
    for (said, answer) in [
        (
            json!({"type": "ready", "user_id": 1}),
            json!({"type": "ready_confirmed", "session_id": "s-7Qx"}),
        ),
        (json!({"type": "ping"}), json!({"type": "pong"})),
        (
            json!({"type": "heartbeat"}),
            json!({"type": "heartbeat_ack"}),
        ),
        (
            json!({"type": "session_restoration"}),
            json!({"type": "session_restoration", "session_id": "s-7Qx"}),
        ),
    ] {
        assert_eq!(sent(&says(&host, &said)), answer);
    }
    assert_eq!(says(&host, &json!({"type": "typing"})), []);
    assert_eq!(says(&host, &json!({})), []);
    for broken in ["", "{", "1", "[{}]"] {
        assert_eq!(
            sent(&on(&host, Event::Text(broken.into())))["type"],
            "error"
        );
    }
    for empty in [
        json!({"type": "message"}),
        json!({"type": "chat_message", "message": " "}),
    ] {
        assert_eq!(sent(&says(&host, &empty))["type"], "error");
    }
}

#[test]
fn a_chat_message_is_received_and_asked() {
    let host = host();
    for kind in ["chat_message", "message"] {
        let actions = says(&host, &json!({"type": kind, "message": "Hi", "mode": "x"}));
        let received = json!({"session_id": "s-7Qx", "type": "message_received"});
        let [first, Action::Ask(question)] = &actions[..] else {
            panic!("{actions:?}");
        };
        assert_eq!(sent(std::slice::from_ref(first)), received);
        let question: Value = serde_json::from_str(question).unwrap();
        assert_eq!(question, json!({"type": "chat", "message": "Hi"}));
    }
    host.set("DEFAULT_CHAT_MODEL", "small");
    let actions = says(&host, &json!({"type": "message", "message": "Hi"}));
    let Some(Action::Ask(question)) = actions.last() else {
        panic!("{actions:?}");
    };
    assert!(question.contains(r#""chat_model":"small""#), "{question}");
}

#[test]
fn what_the_chat_service_says_is_translated() {
    let host = host();
    let upstream = |said: &str| on(&host, Event::Upstream(said.into()));
    let response = json!({
        "type": "response", "response": "Hello Ada", "message_id": "m1", "model": "small",
        "status": "ok", "more": 1,
    });
    let actions = upstream(&response.to_string());
    let [Action::Remember(state), answer] = &actions[..] else {
        panic!("{actions:?}");
    };
    assert_eq!(
        sent(std::slice::from_ref(answer)),
        json!({
            "type": "chat_response", "content": "Hello Ada", "session_id": "s-7Qx",
            "metadata": {"message_id": "m1", "model": "small", "status": "ok"},
        })
    );
    // The same once more answers nothing; another one does.
    let again = |said: &Value| {
        let event = Event::Upstream(said.to_string());
        message(&host, &connection(state), event)
    };
    assert_eq!(again(&response), []);
    let mut other = response;
    other["message_id"] = json!("m2");
    assert_eq!(again(&other).len(), 2);
    other["message_id"] = Value::Null;
    assert_eq!(again(&other).len(), 1);
    let error = json!({"type": "error", "message": "no model"});
    assert_eq!(sent(&upstream(&error.to_string())), error);
    for empty in [
        r#"{"type":"response","response":""}"#,
        r#"{"type":"response"}"#,
        r#"{"type":"response","response":7}"#,
        r#"{"type":"error"}"#,
    ] {
        let actions = upstream(empty);
        assert!(matches!(actions[..], [Action::Answer(_)]), "{actions:?}");
        assert_eq!(sent(&actions)["type"], "error", "{empty}");
    }
    for dropped in [
        r#"{"type":"welcome"}"#,
        r#"{"type":"history","messages":[]}"#,
        r#"{"type":"pong"}"#,
        "not JSON",
        "[]",
    ] {
        assert_eq!(upstream(dropped), [], "{dropped}");
    }
}

#[test]
fn a_question_without_an_answer_is_an_error() {
    let host = host();
    for failure in [
        Failure::Refused,
        Failure::Unreachable,
        Failure::Lost,
        Failure::Late,
        Failure::Crowded,
    ] {
        let actions = on(&host, Event::Unanswered(failure));
        assert_eq!(sent(&actions)["type"], "error");
        assert!(!sent(&actions)["message"].as_str().unwrap().is_empty());
    }
}

#[test]
fn the_end_is_announced_and_another_token_moves_it() {
    let host = host();
    let wanted = sent(&on(&host, Event::Expiring));
    assert_eq!(wanted["type"], "token_refresh_request");
    assert_eq!(wanted["expires_at"], "2031-05-04T09:03:20Z");
    let actions = says(
        &host,
        &json!({"type": "token_refresh_response", "token": "newer"}),
    );
    assert_eq!(actions[0], Action::Expire(Some(NOW + 7200)));
    let confirmed = sent(&actions[4..]);
    assert_eq!(confirmed["type"], "token_refresh_confirmed");
    for token in [json!("other"), json!("expired"), json!(null), json!("")] {
        let said = json!({"type": "token_refresh_response", "token": token});
        assert_eq!(sent(&says(&host, &said))["type"], "error");
    }
}

#[test]
fn a_socket_that_nobody_remembers_is_closed() {
    let actions = message(&host(), &connection(b"x"), Event::Expiring);
    assert_eq!(closed_with(&actions).0, 1011);
}

fn ticket(host: &Double) -> String {
    let reply = Call::post("/api/v1/ws-auth/authorize")
        .body(json!({"token": "good"}).to_string())
        .send(host, &routes());
    reply.json()["ticket"]
        .as_str()
        .expect("a ticket")
        .to_owned()
}

#[test]
fn a_ticket_admits_once_and_has_the_host_make_the_token() {
    let host = host();
    let query = format!("ticket={}", ticket(&host));
    let actions = opened(&host, chat(&query));
    assert_eq!(actions[0], Action::Expire(Some(NOW + 3600)));
    let Action::Admit(admission) = &actions[1] else {
        panic!("{actions:?}");
    };
    assert_eq!(
        admission.connection_id.as_deref(),
        Some("ws-0707070707070707")
    );
    assert_eq!(admission.token_sha256, sha("good"));
    assert!(matches!(
        &actions[3],
        Action::Link(Link {
            credential: Credential::Made,
            ..
        })
    ));
    assert_eq!(closed_with(&opened(&host, chat(&query))).0, 1008);
}

#[test]
fn a_ticket_is_judged_again_when_it_is_used() {
    let revoke = |host: &Double, what: &str| {
        host.revoked.borrow_mut().insert(what.into());
    };
    let by_token = format!("token:{}", sha("good"));
    for what in [by_token.as_str(), "session:42:s-7Qx", "user:42"] {
        let host = host();
        let query = format!("ticket={}", ticket(&host));
        revoke(&host, what);
        let actions = opened(&host, chat(&query));
        assert_eq!(closed_with(&actions), (1008, "Session validation failed"));
    }
    let disabled = host();
    let query = format!("ticket={}", ticket(&disabled));
    disabled
        .users
        .borrow_mut()
        .insert(42, users::State::Disabled);
    let actions = opened(&disabled, chat(&query));
    assert_eq!(closed_with(&actions), (1008, "User authentication failed"));
    let late = host();
    let query = format!("ticket={}", ticket(&late));
    late.now.set(NOW + 3660);
    assert_eq!(closed_with(&opened(&late, chat(&query))).0, 1008);
}

#[test]
fn a_ticket_and_the_tokens_beside_it() {
    let host = host();
    let with_other = format!("ticket={}&token=other", ticket(&host));
    let actions = opened(&host, chat(&with_other));
    assert_eq!(closed_with(&actions), (1008, "User authentication failed"));
    let actions = opened(&host, chat("ticket=unknown&token=good"));
    assert!(matches!(actions[1], Action::Admit(_)), "{actions:?}");
    let elsewhere = Call::get("/api/v1/chat/ws").query(&format!("ticket={}", ticket(&host)));
    assert_eq!(closed_with(&opened(&host, elsewhere)).0, 1008);
    host.redis_down();
    let actions = opened(&host, chat("ticket=unknown"));
    assert_eq!(closed_with(&actions).0, 1011);
}
