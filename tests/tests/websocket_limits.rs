//! What a socket may not do, and how it ends: frames, sizes, numbers, slow readers,
//! swaps to a plugin without sockets, the drain, revocations of another host.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use lockgate_tests::frames::{
    BINARY, CLOSE, CONTINUATION, Came, Client, Frame, Length, PING, TEXT,
};
use lockgate_tests::memory;
use lockgate_tests::metrics::{self, Metrics};
use lockgate_tests::proxy::Proxy;
use lockgate_tests::socket::Came as Heard;
use lockgate_tests::{Host, RedisServer, Service, User, component};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Error, Message};

/// A client that writes what it likes, after its `connection_confirmed`.
async fn raw_socket(host: &Host, token: &str) -> Client {
    let target = format!("/ws/chat?token={token}");
    let opened = Client::open(host.port(Service::Gateway), &target).await;
    let mut client = opened.expect("an open socket");
    let Ok(Came::Frame(TEXT, said)) = client.came().await else {
        panic!("no text came first");
    };
    let said: Value = serde_json::from_slice(&said).expect("JSON");
    assert_eq!(said["type"], "connection_confirmed", "{said}");
    client
}

/// The rules of RFC 6455 itself are in `websocket_rfc6455`.
#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_the_protocol_ends_the_connection() {
    let host = Host::start().await;
    let token = host.tokens.access(&User::new(42));
    let announced = Frame::text("").length(Length::Announced((1 << 63) - 1));
    let cases = [
        (Frame::text("{}").mask(None), 1002),
        (Frame::text("{}").reserved(4), 1002),
        (Frame::new(3, "{}"), 1002),
        (Frame::text([0xff, 0xfe]), 1007),
        // Breaks nothing, but the client does not answer the close frame.
        (Frame::new(BINARY, "{}"), 1003),
        (Frame::text(vec![b' '; 65_537]), 1009),
        (announced, 1009),
    ];
    let mut held = Vec::new();
    for (frame, code) in cases {
        let mut client = raw_socket(&host, &token).await;
        client.send(&[frame]).await;
        match client.came().await {
            Ok(Came::Frame(CLOSE, reason)) => assert_eq!(reason[..2], u16::to_be_bytes(code)),
            other => panic!("{other:?} instead of {code}"),
        }
        assert_eq!(client.came().await, Ok(Came::End), "{code}");
        held.push(client);
    }
    // The clients keep their ends open, and one goes on sending: the host lets go of all.
    let (mut busy, more) = (held.pop().expect("a client"), Frame::text("{}").bytes());
    let writing = tokio::spawn(async move {
        loop {
            busy.write(&more).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    metrics::reaches(&host, "lockgate_sockets_open", |open| open == 0.0).await;
    assert!(!writing.is_finished());
    writing.abort();
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn fragments_pings_and_the_closing_handshake() {
    let host = Host::start().await;
    let token = host.tokens.access(&User::new(42));
    let mut client = raw_socket(&host, &token).await;
    let pieces = [
        Frame::text(r#"{"type":"#).unfinished(),
        Frame::new(PING, "alive?"),
        Frame::new(CONTINUATION, "").unfinished(),
        Frame::new(CONTINUATION, r#""ping"}"#),
    ];
    // Byte by byte: no frame comes whole.
    for byte in pieces.iter().flat_map(Frame::bytes) {
        client.write(&[byte]).await;
    }
    assert_eq!(client.came().await, Ok(Came::pong("alive?")));
    let pong = Ok(Came::text(r#"{"type":"pong"}"#));
    assert_eq!(client.came().await, pong);
    // As large as a message may be.
    let mut padded = br#"{"type":"ping"}"#.to_vec();
    padded.resize(65_536, b' ');
    client.send(&[Frame::text(padded)]).await;
    assert_eq!(client.came().await, pong);
    assert_eq!(client.close().await, Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_user_and_one_host_have_so_many_sockets() {
    let host = Host::builder()
        .config("[sockets]\nmost = 5\nmost_per_user = 3\n")
        .start()
        .await;
    let token = host.tokens.access(&User::new(42));
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(host.chat_socket(&token).confirmed().await.0);
    }
    assert_eq!(host.chat_socket(&token).refused().await.0, 1013);
    for id in [1, 2] {
        let token = host.tokens.access(&User::new(id));
        open.push(host.chat_socket(&token).confirmed().await.0);
    }
    // The host has no place left: that is said before the switch of protocols.
    let late = host.tokens.access(&User::new(3));
    match host.chat_socket(&late).try_open().await {
        Err(Error::Http(answer)) => {
            assert_eq!(answer.status(), 503);
            assert!(answer.headers().contains_key("retry-after"));
        }
        other => panic!("{other:?}"),
    }
    for socket in open.drain(..2) {
        socket.close().await;
    }
    lockgate_tests::wait::eventually("a place is free again", async || {
        match host.chat_socket(&token).try_open().await {
            Ok(mut socket) => match socket.came().await {
                Heard::Said(_) => Ok(()),
                other => Err(format!("{other:?}")),
            },
            Err(error) => Err(error.to_string()),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_is_not_read_and_costs_no_memory() {
    // Each is small and has an answer, by the plugin or by the host; nobody reads it.
    nobody_reads(&Frame::text(r#"{"type":"session_restoration"}"#).bytes()).await;
    nobody_reads(&Frame::new(PING, [b'p'; 125]).bytes()).await;
}

async fn nobody_reads(message: &[u8]) {
    let host = Host::start().await;
    let token = host.tokens.access(&User::new(42));
    let before = memory::resident(host.pid());
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.push(raw_socket(&host, &token).await);
    }
    let said = message.repeat(1_000);
    let writing = streams.iter_mut().map(async |stream| {
        let mut written = 0_usize;
        let end = Instant::now() + Duration::from_secs(4);
        while Instant::now() < end {
            let write = stream.write(&said);
            match tokio::time::timeout(Duration::from_millis(500), write).await {
                Ok(()) => written += said.len(),
                Err(_) => break,
            }
        }
        written
    });
    let written = join_all(writing).await;
    let grown = memory::resident(host.pid()).saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more after {written:?}");
    // Others do not notice.
    let other = host.tokens.access(&User::new(43));
    let (mut socket, _) = host.chat_socket(&other).confirmed().await;
    let pong = socket.ask(&json!({"type": "ping"})).await;
    assert_eq!(pong, json!({"type": "pong"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_without_sockets_ends_them_at_their_next_event() {
    let host = Host::start().await;
    let token = host.tokens.access(&User::new(42));
    let (mut socket, _) = host.chat_socket(&token).confirmed().await;
    host.swap(Service::Gateway, &component::constant(1)).await;
    let quiet = socket.came_within(Duration::from_millis(300)).await;
    assert_eq!(quiet, None, "the swap itself closes nothing");
    let fault = (1011, "Authentication system error".to_owned());
    assert_eq!(host.chat_socket(&token).refused().await, fault);
    socket.say(&json!({"type": "ping"})).await;
    assert_eq!(socket.closed().await, fault);
    host.swap(Service::Gateway, &component::built(Service::Gateway))
        .await;
    host.chat_socket(&token).confirmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_stops_says_so_to_each_socket_and_not_at_once() {
    let mut host = Host::start().await;
    let mut sockets = Vec::new();
    for id in 1..=40 {
        let token = host.tokens.access(&User::new(id));
        sockets.push(host.chat_socket(&token).confirmed().await.0);
    }
    let began = Instant::now();
    host.signal("TERM");
    let ends = sockets.into_iter().map(async |mut socket| {
        let (code, _) = socket.closed().await;
        let at = began.elapsed();
        while socket.came().await != Heard::Gone {}
        (code, at)
    });
    let ends: Vec<(u16, Duration)> = join_all(ends).await;
    let status = host.wait_exit().await;
    let took = began.elapsed();
    assert!(
        status.success() && took < Duration::from_secs(6),
        "{took:?}"
    );
    assert!(ends.iter().all(|(code, _)| *code == 1001), "{ends:?}");
    let last = ends.iter().map(|(_, at)| *at).max().unwrap_or_default();
    let early = ends.iter().filter(|(_, at)| *at < last / 2).count();
    assert!((8..=32).contains(&early), "{early} of 40 in the first half");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_on_another_host_closes_the_socket() {
    let redis = RedisServer::start().await;
    let one = Host::builder().redis(&redis).start().await;
    let key = one.tokens.key().to_vec();
    let builder = Host::builder().redis(&redis);
    let secret = lockgate_tests::host::Secret::Bytes(key);
    let two = builder.secret(secret).start().await;
    let user = User::new(42);
    let token = one.tokens.access(&user);
    let (mut socket, _) = one.chat_socket(&token).confirmed().await;
    let began = Instant::now();
    let logout = two.post(Service::Coordinator, "/api/v1/auth/logout");
    logout.bearer(&token).send().await.expect(204);
    let (code, _) = socket.closed().await;
    assert_eq!(code, 4001);
    assert!(began.elapsed() < Duration::from_secs(5));
    // A token that is only shown beside another one is revoked too.
    let (shown, beside) = (User::new(7).session("s-1"), User::new(7).session("s-2"));
    let (shown, beside) = (one.tokens.access(&shown), one.tokens.access(&beside));
    let (mut here, _) = one.chat_socket(&beside).confirmed().await;
    let (mut there, _) = two.chat_socket(&beside).confirmed().await;
    let logout = two.post(Service::Coordinator, "/api/v1/auth/logout");
    let logout = logout.bearer(&shown).cookie("access_token", &beside);
    logout.send().await.expect(204);
    assert_eq!(
        (here.closed().await.0, there.closed().await.0),
        (4001, 4001)
    );
    let refused = two.chat_socket(&token).refused().await;
    assert_eq!(refused, (1008, "Session validation failed".to_owned()));
}

/// The coordinator's event for a user, without a session.
async fn end_all(host: &Host, user: &User, event: &str) -> Value {
    let event = json!({
        "user_id": user.id, "email": user.email, "event_type": event, "source": "api",
    });
    let call = host.post(Service::Coordinator, "/api/v1/coordinator/sync-auth");
    let call = call.bearer(&host.tokens.access(user)).json(&event);
    call.send().await.expect(200).json()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_all_logins_of_a_user_closes_sockets_on_every_host() {
    let redis = RedisServer::start().await;
    let one = Host::builder().redis(&redis).start().await;
    let key = lockgate_tests::host::Secret::Bytes(one.tokens.key().to_vec());
    let two = Host::builder().redis(&redis).secret(key).start().await;
    for (id, event) in [(1, "logout"), (2, "session_expired")] {
        let (user, other) = (User::new(id), User::new(id).session("s-other"));
        let (token, other) = (one.tokens.access(&user), one.tokens.access(&other));
        let (mut here, _) = one.chat_socket(&token).confirmed().await;
        let (mut beside, _) = one.chat_socket(&other).confirmed().await;
        let (mut there, _) = two.chat_socket(&token).confirmed().await;
        let (mut bystander, _) = two
            .chat_socket(&two.tokens.access(&User::new(9)))
            .confirmed()
            .await;
        let said = end_all(&one, &user, event).await;
        assert_eq!(said["propagated"]["websocket"], 2, "{event}: {said}");
        for socket in [&mut here, &mut beside, &mut there] {
            assert_eq!(socket.closed().await.0, 4001, "{event}");
        }
        assert_eq!(
            bystander.ask(&json!({"type": "ping"})).await["type"],
            "pong"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_off_that_comes_late_closes_what_was_opened_meanwhile() {
    let redis = RedisServer::start().await;
    let proxy = Proxy::to(redis.port()).await;
    let one = Host::builder().redis(&redis).start().await;
    let key = lockgate_tests::host::Secret::Bytes(one.tokens.key().to_vec());
    let two = Host::builder()
        .env("REDIS_URL", redis.url_at(proxy.port()))
        .secret(key)
        .start()
        .await;
    let user = User::new(42);
    let token = one.tokens.access(&user);
    proxy.cut();
    // The clock of sockets counts seconds: this one is opened after the cut-off.
    end_all(&one, &user, "logout").await;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let (mut socket, _) = two.chat_socket(&token).confirmed().await;
    proxy.heal();
    assert_eq!(socket.closed().await.0, 4001);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_sockets_open_degraded() {
    let mut redis = RedisServer::start().await;
    let host = Host::builder().redis(&redis).start().await;
    redis.kill();
    let token = host.tokens.access(&User::new(42));
    let (mut socket, confirmed) = host.chat_socket(&token).confirmed().await;
    assert_eq!(confirmed["degraded"], true);
    let pong = socket.ask(&json!({"type": "ping"})).await;
    assert_eq!(pong, json!({"type": "pong"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_counted_and_logged() {
    let host = Host::start().await;
    let token = host.tokens.access(&User::new(42));
    let (mut socket, _) = host.chat_socket(&token).confirmed().await;
    let ticket: Value = host
        .post(Service::Gateway, "/api/v1/ws-auth/authorize")
        .bearer(&token)
        .send()
        .await
        .expect(200)
        .json();
    let ticket = ticket["ticket"].as_str().expect("a ticket").to_owned();
    let (other, _) = host.socket(&format!("ticket={ticket}")).confirmed().await;
    let metrics = Metrics::of(&host).await;
    assert_eq!(metrics.sum("lockgate_sockets_open", &[]), 2.0);
    assert_eq!(metrics.sum("lockgate_sockets_opened_total", &[]), 2.0);
    other.close().await;
    socket
        .send(Message::binary(vec![1]))
        .await
        .expect("send a binary message");
    assert_eq!(socket.closed().await.0, 1003);
    for code in ["1000", "1003"] {
        lockgate_tests::wait::eventually("the close is counted", async || {
            let metrics = Metrics::of(&host).await;
            let closes = metrics.sum("lockgate_socket_closes_total", &[("code", code)]);
            if closes == 1.0 { Ok(()) } else { Err(closes) }
        })
        .await;
    }
    let log = host.log();
    assert!(!log.contains(&token) && !log.contains(&ticket));
}
