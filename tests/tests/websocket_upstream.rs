//! The way to the chat service: each message has exactly one answer, whatever the chat
//! service does.

use std::time::Duration;

use lockgate_tests::chat::Manner;
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
    eventually("the chat service is tried again", async || {
        let answer = socket.chat("Hi").await;
        if answer["type"] == "chat_response" {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        Err(answer)
    })
    .await;
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
            eventually("the chat service is found again", async || {
                let answer = socket.chat("again").await;
                if answer["content"] == "echo: again" {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
                Err(answer)
            })
            .await;
        }
    }
    for mut socket in sockets {
        nothing_else(&mut socket).await;
        assert!(matches!(socket.close().await, Came::Closed(1000, _)));
    }
}
