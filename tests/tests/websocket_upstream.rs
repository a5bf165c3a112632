//! The way to the chat service: each message has exactly one answer, whatever the chat
//! service does.

use std::path::Path;
use std::time::Duration;

use lockgate_tests::chat::Manner;
use lockgate_tests::place;
use lockgate_tests::ports::Ports;
use lockgate_tests::socket::{Came, Socket};
use lockgate_tests::wait::eventually;
use lockgate_tests::{Chat, Host, Service, User};
use serde_json::{Value, json};

async fn host() -> Host {
    Host::builder()
        .env("CHAT_REPLY_TIMEOUT_SECONDS", "2")
        .start()
        .await
}

fn verify(host: &Host) -> String {
    format!("http://127.0.0.1:{}", host.port(Service::Jwt))
}

async fn chat_of(host: &Host) -> Chat {
    Chat::start(host.spare_port(1), &verify(host)).await
}

async fn socket(host: &Host) -> Socket {
    let token = host.tokens.access(&User::new(42));
    host.chat_socket(&token).confirmed().await.0
}

fn is_error(answer: &Value) -> bool {
    answer["type"] == "error"
        && answer["message"]
            .as_str()
            .is_some_and(|text| !text.is_empty())
}

/// Nothing more comes: the next message is the answer to a ping.
async fn nothing_else(socket: &mut Socket) {
    let pong = socket.ask(&json!({"type": "ping"})).await;
    assert_eq!(pong, json!({"type": "pong"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_it_answers_is_one_answer() {
    let host = host().await;
    let _chat = chat_of(&host).await;
    let mut socket = socket(&host).await;
    for message in ["fail", "empty", "silent", "drop", "late"] {
        let answer = socket.chat(message).await;
        assert!(is_error(&answer), "{message}: {answer}");
        nothing_else(&mut socket).await;
        // The next one has its own answer.
        let next = format!("after {message}");
        assert_eq!(
            socket.chat(&next).await["content"],
            json!(format!("echo: {next}"))
        );
    }
    assert_eq!(socket.chat("twice").await["content"], "echo: twice");
    let again = socket.came_within(Duration::from_millis(500)).await;
    assert_eq!(again, None, "a second answer is nobody's");
    let answer = socket.chat("fail").await;
    assert_eq!(
        answer,
        json!({"type": "error", "message": "The model is away"})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_twice_is_not_that_of_the_next_message() {
    let host = host().await;
    let _chat = chat_of(&host).await;
    let mut socket = socket(&host).await;
    let sent = ["twice", "next", "twice", "last"];
    for message in sent {
        socket
            .say(&json!({"type": "chat_message", "message": message}))
            .await;
    }
    let mut answers = Vec::new();
    while answers.len() < sent.len() {
        let said = socket.said().await;
        if said["type"] != "message_received" {
            answers.push(said["content"].clone());
        }
    }
    assert_eq!(
        answers,
        sent.map(|message| json!(format!("echo: {message}")))
    );
    nothing_else(&mut socket).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_sent_at_once_are_answered_in_order() {
    let host = host().await;
    let chat = chat_of(&host).await;
    let mut socket = socket(&host).await;
    let numbers = 0..12;
    for number in numbers.clone() {
        let said = json!({"type": "chat_message", "message": number.to_string()});
        socket.say(&said).await;
    }
    let mut answers = Vec::new();
    let mut received = 0;
    while answers.len() < numbers.len() {
        let said = socket.said().await;
        match said["type"].as_str() {
            Some("message_received") => received += 1,
            Some("chat_response") => answers.push(said["content"].clone()),
            _ => panic!("{said}"),
        }
    }
    let expected: Vec<Value> = numbers
        .map(|number| json!(format!("echo: {number}")))
        .collect();
    assert_eq!((answers, received), (expected, 12));
    assert_eq!(chat.seen().connections.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_at_once_are_refused_one_by_one() {
    let host = host().await;
    let _chat = chat_of(&host).await;
    let mut socket = socket(&host).await;
    for _ in 0..30 {
        socket
            .say(&json!({"type": "chat_message", "message": "slow"}))
            .await;
    }
    let (mut received, mut answered) = (0, 0);
    while answered < 30 {
        let said = socket.said().await;
        match said["type"].as_str() {
            Some("message_received") => received += 1,
            Some("chat_response" | "error") => answered += 1,
            _ => panic!("{said}"),
        }
    }
    assert_eq!(received, 30);
    nothing_else(&mut socket).await;
}

/// The chat service is tried again, sooner or later.
async fn chats_again(socket: &mut Socket) {
    eventually("the chat service answers again", async || {
        let answer = socket.chat("again").await;
        if answer["content"] == "echo: again" {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        Err(answer)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_keep_the_socket_and_end_with_their_cause() {
    let host = host().await;
    // Nobody listens.
    let mut socket = socket(&host).await;
    for _ in 0..2 {
        assert!(is_error(&socket.chat("Hi").await));
        nothing_else(&mut socket).await;
    }
    let chat = chat_of(&host).await;
    for manner in [Manner::Forbid, Manner::CloseAtOnce] {
        chat.greet(manner);
        for _ in 0..3 {
            assert!(is_error(&socket.chat("Hi").await), "{manner:?}");
            nothing_else(&mut socket).await;
        }
    }
    chat.greet(Manner::Verify);
    chats_again(&mut socket).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_chat_service_closes_no_socket() {
    let host = host().await;
    let mut chat = chat_of(&host).await;
    let mut sockets = Vec::new();
    for id in 1..=10 {
        let token = host.tokens.access(&User::new(id));
        sockets.push(host.chat_socket(&token).confirmed().await.0);
    }
    for _ in 0..2 {
        for socket in &mut sockets {
            assert_eq!(socket.chat("Hi").await["content"], "echo: Hi");
            socket
                .say(&json!({"type": "chat_message", "message": "slow"}))
                .await;
        }
        chat.kill().await;
        for socket in &mut sockets {
            assert_eq!(socket.said().await["type"], "message_received");
            assert!(is_error(&socket.said().await));
        }
        chat.start_again(&verify(&host)).await;
        for socket in &mut sockets {
            chats_again(socket).await;
        }
    }
    for mut socket in sockets {
        nothing_else(&mut socket).await;
        assert!(matches!(socket.close().await, Came::Closed(1000, _)));
    }
}

/// What the gateway says of the chat service.
async fn chat_service(host: &Host, wanted: &str) {
    eventually(&format!("the chat service is {wanted}"), async || {
        let health = host.get(Service::Gateway, "/api/v1/ws-auth/health");
        let health = health.send().await.expect(200).json();
        let found = health["dependencies"]["chat_service"].clone();
        if found == wanted { Ok(()) } else { Err(found) }
    })
    .await;
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("make a folder")
}

/// A host whose chat service has TLS and may be at any port.
async fn host_of(url: &str, ca: Option<&Path>) -> Host {
    let mut builder = Host::builder()
        .env("CHAT_REPLY_TIMEOUT_SECONDS", "5")
        .env("CHAT_UPSTREAM_URL", url);
    if let Some(ca) = ca {
        builder = builder.env("CHAT_CA_FILE", ca.display().to_string());
    }
    builder.start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_with_a_good_certificate() {
    let (ports, folder) = (Ports::take(), folder());
    let url = format!("wss://localhost:{}/ws/chat", ports.at(0));
    let ca = folder.path().join("ca.pem");
    // Made before the host starts, which reads it.
    let mut chat = Chat::start_tls(ports.at(0), "http://127.0.0.1:1", folder.path()).await;
    chat.kill().await;
    let host = host_of(&url, Some(&ca)).await;
    chat.start_again(&verify(&host)).await;
    chat_service(&host, "connected").await;
    let mut socket = socket(&host).await;
    for _ in 0..2 {
        assert_eq!(socket.chat("Hi").await["content"], "echo: Hi");
        let long = "x".repeat(50_000);
        let answer = socket.chat(&long).await;
        assert_eq!(answer["content"], json!(format!("echo: {long}")));
        chat.kill().await;
        chat.start_again(&verify(&host)).await;
        chats_again(&mut socket).await;
    }
    let mut seen = chat.seen();
    let (token, _) = seen.connections.pop().expect("a connection");
    assert!(seen.handshakes >= 3 && !host.log().contains(&token));
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_without_trust_no_message_gets_through() {
    let (ports, folder, other) = (Ports::take(), folder(), folder());
    let (secure, plain) = (ports.at(0), ports.at(1));
    let nobody = "http://127.0.0.1:1";
    let chat = Chat::start_tls(secure, nobody, folder.path()).await;
    let clear = Chat::start(plain, nobody).await;
    let foreign = Chat::start_tls(ports.at(2), nobody, other.path()).await;
    let own = folder.path().join("ca.pem");
    let theirs = other.path().join("ca.pem");
    let named = format!("wss://localhost:{secure}/ws/chat");
    for (what, url, ca) in [
        ("another CA", named, theirs),
        (
            "another name",
            format!("wss://127.0.0.1:{secure}/ws/chat"),
            own.clone(),
        ),
        (
            "no TLS there",
            format!("wss://localhost:{plain}/ws/chat"),
            own.clone(),
        ),
        (
            "no TLS here",
            format!("ws://localhost:{secure}/ws/chat"),
            own,
        ),
    ] {
        let host = host_of(&url, Some(&ca)).await;
        let mut socket = socket(&host).await;
        for _ in 0..3 {
            assert!(is_error(&socket.chat("Hi").await), "{what}");
            nothing_else(&mut socket).await;
        }
        // Without TLS a port is all that the look can see.
        if what != "no TLS here" {
            chat_service(&host, "disconnected").await;
            let said = "the chat service's state changed connected=false reason=";
            eventually("the reason is in the log", async || {
                let log = host.log();
                if log.contains(said) { Ok(()) } else { Err(log) }
            })
            .await;
        }
        assert!(
            matches!(socket.close().await, Came::Closed(1000, _)),
            "{what}"
        );
    }
    for chat in [chat, clear, foreign] {
        assert_eq!(chat.seen().handshakes, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_file_of_the_chat_service_that_cannot_be_used_is_named() {
    let folder = folder();
    let file = folder.path().join("ca.pem");
    for content in [None, Some("no certificate")] {
        if let Some(content) = content {
            std::fs::write(&file, content).expect("write");
        }
        let output = std::process::Command::new(place::binary())
            .arg("serve")
            .env_clear()
            .env("LOCKGATE_DATA_DIR", folder.path())
            .env("LOCKGATE_ADMIN", "127.0.0.1:0")
            .env("CHAT_UPSTREAM_URL", "wss://user:hidden-word@localhost:1/ws")
            .env("CHAT_CA_FILE", &file)
            .output()
            .expect("run the binary");
        let text = String::from_utf8([output.stdout, output.stderr].concat()).expect("text");
        assert!(
            !output.status.success() && text.contains("CHAT_CA_FILE"),
            "{text}"
        );
        assert!(!text.contains("hidden-word"), "{text}");
    }
}
