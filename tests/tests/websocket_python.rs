//! The gateway's sockets as a client sees them that shares no code with Lockgate: the
//! Python package `websockets`, driven by `tests/python/websocket_client.py`.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;

use lockgate_tests::tokens::set;
use lockgate_tests::{Chat, Host, Service, Tokens, User, now, python};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

/// What the script must have tried: a case that is lost is no case that passed.
const CASES: [&str; 30] = [
    "a_token_that_ends_while_open",
    "opens_with_a_token_in_the_query",
    "decodes_the_token_and_takes_quotes_and_bearer_off",
    "ready_then_a_message_and_its_answer",
    "an_error_of_the_chat_service_keeps_the_socket",
    "the_second_path",
    "no_token",
    "an_expired_token",
    "a_revoked_token",
    "garbage_for_a_token",
    "tokens_of_two_users",
    "a_token_in_authorization",
    "a_cookie_from_its_own_origin_only",
    "a_token_as_subprotocol_is_echoed",
    "another_subprotocol_goes_first",
    "nothing_is_chosen_that_was_not_offered",
    "an_offer_of_compression_is_declined",
    "a_ticket_opens_one_socket",
    "two_sockets_at_once",
    "a_ping_frame_has_its_pong",
    "a_message_in_fragments",
    "a_ping_between_fragments",
    "the_largest_message",
    "a_message_that_is_too_large",
    "fragments_that_are_too_large_together",
    "a_binary_message",
    "a_text_that_is_not_utf_8",
    "broken_json_is_an_error_and_an_unknown_type_nothing",
    "the_closing_handshake",
    "a_logout_while_open",
];

/// Runs the script; its exit code and what it printed.
async fn run_client(interpreter: &Path, given: &Value) -> (Option<i32>, String) {
    let mut child = tokio::process::Command::new(interpreter)
        .arg(python::scripts().join("websocket_client.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("start the script");
    let mut input = child.stdin.take().expect("its input");
    let text = given.to_string();
    input.write_all(text.as_bytes()).await.expect("its input");
    drop(input);
    let output = child.wait_with_output().await.expect("its end");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).expect("text");
    (output.status.code(), text)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_independent_client() {
    let interpreter = python::interpreter();
    let host = Host::start().await;
    let verify = format!("http://127.0.0.1:{}", host.port(Service::Jwt));
    let _chat = Chat::start(host.spare_port(1), &verify).await;
    let address = |service| format!("127.0.0.1:{}", host.port(service));
    let user = User::new(42);
    let token = |session: &str| host.tokens.access(&user.clone().session(session));
    let revoked = token("s-revoked");
    let logout = host.post(Service::Coordinator, "/api/v1/auth/logout");
    logout.bearer(&revoked).send().await.expect(204);
    // Fifteen seconds are left of its leeway; the script opens it first.
    let mut ending = Tokens::unified_claims(&user.clone().session("s-ending"), -45);
    set(&mut ending, "iat", json!(now() - 600));
    let given = json!({
        "gateway": address(Service::Gateway),
        "coordinator": address(Service::Coordinator),
        "user": {"id": user.id, "session_id": user.session_id},
        "tokens": {
            "good": host.tokens.access(&user),
            "other": host.tokens.access(&User::new(43)),
            "expired": host.tokens.expired(&user),
            "revoked": revoked,
            "leaving": token("s-leaving"),
            "ending": host.tokens.sign(&ending),
        },
    });
    let (code, printed) = run_client(&interpreter, &given).await;
    println!("{printed}");
    let passed = printed.lines().filter_map(|line| line.strip_prefix("ok "));
    let missing: BTreeSet<&str> = &BTreeSet::from(CASES) - &passed.collect();
    assert!(missing.is_empty(), "not passed: {missing:?}; {printed}");
    let all = format!("{} passed, 0 failed", CASES.len());
    assert_eq!(printed.lines().last(), Some(all.as_str()));
    assert_eq!(code, Some(0));
}

/// The script does not call good what it could not try.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_gateway_every_case_fails() {
    let ports = lockgate_tests::ports::Ports::take();
    let nobody = format!("127.0.0.1:{}", ports.at(0));
    let names = ["good", "other", "expired", "revoked", "leaving", "ending"];
    let tokens: Value = names.iter().map(|name| (*name, json!("x"))).collect();
    let given = json!({
        "gateway": nobody, "coordinator": nobody, "tokens": tokens,
        "user": {"id": 42, "session_id": "s"},
    });
    let (code, printed) = run_client(&python::interpreter(), &given).await;
    let none = format!("0 passed, {} failed", CASES.len());
    assert_eq!(printed.lines().last(), Some(none.as_str()), "{printed}");
    assert_eq!(code, Some(1));
}

#[test]
fn what_is_missing_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let requirements = folder.path().join("requirements.txt");
    let make = |python: &str, requirements: &Path| {
        python::environment(python, requirements, &folder.path().join("made")).unwrap_err()
    };
    let fault = make("python3", &requirements);
    assert!(fault.starts_with("no requirements at "), "{fault}");
    std::fs::write(&requirements, "./no_such_package-1.0-py3-none-any.whl\n").unwrap();
    let fault = make("no-such-python", &requirements);
    assert!(fault.contains("python3-venv"), "{fault}");
    // Each time anew: what has failed once is not taken for made.
    for _ in 0..2 {
        let fault = make("python3", &requirements);
        assert!(fault.contains("no_such_package"), "{fault}");
        assert!(fault.contains("cannot be installed"), "{fault}");
    }
}
