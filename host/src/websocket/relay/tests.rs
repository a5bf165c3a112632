//! The relay against upstreams that answer, refuse, fall silent and go away.

use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::*;
use crate::chat::Target;

type Peer = tokio_tungstenite::WebSocketStream<tokio::net::TcpStream>;

async fn relay(patience: Duration) -> (Relay, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/ws/chat", listener.local_addr().unwrap());
    let target = Arc::new(Target::new(&url, None).unwrap());
    let mut relay = Relay::new(Arc::new(Settings::new(target, patience)));
    relay.renew(Credential::Token("a.b.c".to_owned().into()), "s 1".into());
    (relay, listener)
}

async fn accept(listener: &TcpListener) -> Peer {
    let (stream, _) = listener.accept().await.unwrap();
    tokio_tungstenite::accept_async(stream).await.unwrap()
}

async fn heard(peer: &mut Peer) -> String {
    let message = peer.next().await.unwrap().unwrap();
    message.into_text().unwrap().as_str().to_owned()
}

/// Runs the relay beside its upstream; gives what the relay tells next.
async fn beside(relay: &mut Relay, upstream: impl Future<Output = ()>) -> Told {
    let (told, ()) = tokio::join!(relay.next(), upstream);
    told
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn one_question_at_a_time_in_order() {
    let (mut relay, listener) = relay(LONG).await;
    assert!(relay.ask("one".into()) && relay.ask("two".into()));
    assert!(!relay.answered(), "nothing was asked yet");
    let peer = tokio::spawn(async move {
        let mut peer = accept(&listener).await;
        for question in ["one", "two"] {
            assert_eq!(heard(&mut peer).await, question);
            peer.send(Message::text("welcome")).await.unwrap();
            peer.send(Message::text(format!("answer {question}")))
                .await
                .unwrap();
        }
        peer
    });
    for question in ["one", "two"] {
        assert_eq!(relay.next().await, Told::Text("welcome".into()));
        assert_eq!(relay.next().await, Told::Text(format!("answer {question}")));
        assert!(relay.answered());
        assert!(!relay.answered(), "an answer counts once");
    }
    assert_eq!(relay.waiting(), 0);
    drop(peer.await.unwrap());
}

#[tokio::test]
async fn a_refusal_ends_each_question_at_once_until_it_is_time_again() {
    let (mut relay, listener) = relay(LONG).await;
    relay.ask("one".into());
    let told = beside(&mut relay, async {
        let mut peer = accept(&listener).await;
        let frame = CloseFrame {
            code: REFUSED.into(),
            reason: "no".into(),
        };
        peer.close(Some(frame)).await.unwrap();
    });
    assert_eq!(told.await, Told::Unanswered(Failure::Refused));
    relay.ask("two".into());
    assert_eq!(relay.next().await, Told::Unanswered(Failure::Refused));
    // Another credential is tried at once.
    relay.renew(Credential::Token("d.e.f".to_owned().into()), "s".into());
    relay.ask("three".into());
    let told = beside(&mut relay, async {
        let mut peer = accept(&listener).await;
        assert_eq!(heard(&mut peer).await, "three");
        peer.send(Message::text("answer")).await.unwrap();
    });
    assert_eq!(told.await, Told::Text("answer".into()));
}

#[tokio::test]
async fn nobody_there_and_a_loss_are_told_once_each() {
    let (mut relay, listener) = relay(LONG).await;
    relay.ask("one".into());
    relay.ask("two".into());
    let told = beside(&mut relay, async {
        let mut peer = accept(&listener).await;
        assert_eq!(heard(&mut peer).await, "one");
        peer.send(Message::text("welcome")).await.unwrap();
        drop(peer);
    });
    assert_eq!(told.await, Told::Text("welcome".into()));
    assert_eq!(relay.next().await, Told::Unanswered(Failure::Lost));
    drop(listener);
    assert_eq!(relay.next().await, Told::Unanswered(Failure::Unreachable));
    assert_eq!(relay.waiting(), 0);
}

#[tokio::test]
async fn a_late_answer_is_not_taken_for_that_of_the_next_question() {
    let (mut relay, listener) = relay(Duration::from_millis(200)).await;
    relay.ask("one".into());
    let mut first = None;
    let told = beside(&mut relay, async {
        let mut peer = accept(&listener).await;
        assert_eq!(heard(&mut peer).await, "one");
        first = Some(peer);
    });
    assert_eq!(told.await, Told::Unanswered(Failure::Late));
    relay.ask("two".into());
    let told = beside(&mut relay, async {
        let _ = first.take().unwrap().send(Message::text("late")).await;
        let mut peer = accept(&listener).await;
        assert_eq!(heard(&mut peer).await, "two");
        peer.send(Message::text("in time")).await.unwrap();
    });
    assert_eq!(told.await, Told::Text("in time".into()));
}

#[tokio::test]
async fn one_that_accepts_and_says_nothing_is_not_asked_at_once_again() {
    let (mut relay, listener) = relay(LONG).await;
    relay.ask("one".into());
    relay.ask("two".into());
    let told = beside(&mut relay, async { drop(accept(&listener).await) });
    assert_eq!(told.await, Told::Unanswered(Failure::Lost));
    // Without another connection, which nobody would accept.
    assert_eq!(relay.next().await, Told::Unanswered(Failure::Lost));
    assert_eq!(relay.waiting(), 0);
}

#[tokio::test]
async fn a_second_answer_is_read_before_the_next_question_is_sent() {
    let (mut relay, listener) = relay(LONG).await;
    relay.ask("one".into());
    let mut peer = None;
    let told = beside(&mut relay, async {
        let mut upstream = accept(&listener).await;
        assert_eq!(heard(&mut upstream).await, "one");
        for _ in 0..2 {
            upstream.send(Message::text("answer")).await.unwrap();
        }
        peer = Some(upstream);
    });
    assert_eq!(told.await, Told::Text("answer".into()));
    assert!(relay.answered());
    tokio::time::sleep(Duration::from_millis(50)).await;
    relay.ask("two".into());
    assert_eq!(relay.next().await, Told::Text("answer".into()));
    assert!(!relay.answered(), "nothing was asked since");
}

#[tokio::test]
async fn questions_are_bounded() {
    let (mut long, _listener) = relay(LONG).await;
    assert!(long.ask("x".repeat(MOST_BYTES + 1)), "one may be longer");
    assert!(!long.ask("y".into()));
    let (mut relay, _listener) = relay(LONG).await;
    for number in 0..MOST {
        assert!(relay.ask(number.to_string()));
    }
    assert!(!relay.ask("one too many".into()));
    assert_eq!(relay.waiting(), MOST);
}

#[test]
fn the_target_holds_both_parameters_encoded() {
    assert_eq!(
        with_pass("ws://chat:8007/ws", "a.b-c", "s 1&x"),
        "ws://chat:8007/ws?token=a%2Eb%2Dc&session_id=s%201%26x"
    );
    assert_eq!(
        with_pass("ws://chat/ws?v=1", "t", "s"),
        "ws://chat/ws?v=1&token=t&session_id=s"
    );
}
