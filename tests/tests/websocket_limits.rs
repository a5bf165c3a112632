//! What a socket may not do, and how it ends: frames, sizes, numbers, slow readers,
//! swaps to a plugin without sockets, the drain, revocations of another host.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use lockgate_tests::memory;
use lockgate_tests::metrics::Metrics;
use lockgate_tests::proxy::Proxy;
use lockgate_tests::socket::Came;
use lockgate_tests::{Host, RedisServer, Service, User, component, raw};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Error, Message};

/// A client that writes frames byte by byte, after its `connection_confirmed`.
async fn raw_socket(host: &Host, token: &str) -> TcpStream {
    let mut stream = raw::connect(host.port(Service::Gateway)).await;
    let head = format!(
        "GET /ws/chat?token={token} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("write");
    let mut answer = Vec::new();
    while answer.last() != Some(&b'}') {
        answer.push(stream.read_u8().await.expect("the handshake's answer"));
    }
    let text = String::from_utf8_lossy(&answer);
    assert!(text.starts_with("HTTP/1.1 101 "), "{text}");
    assert!(text.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{text}");
    stream
}

/// A masked frame; the mask is zero, so the payload stands as it is.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        short @ 0..126 => bytes.push(0x80 | short as u8),
        middle @ 126..65_536 => {
            bytes.push(0x80 | 126);
            bytes.extend((middle as u16).to_be_bytes());
        }
        long => {
            bytes.push(0x80 | 127);
            bytes.extend((long as u64).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

/// The next frame of the host: first byte and payload.
async fn read_frame(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let reading = async {
        let first = stream.read_u8().await.expect("a frame");
        let length = match stream.read_u8().await.expect("a length") {
            126 => u64::from(stream.read_u16().await.expect("a length")),
            127 => stream.read_u64().await.expect("a length"),
            short => u64::from(short),
        };
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).await.expect("a payload");
        (first, payload)
    };
    let read = tokio::time::timeout(lockgate_tests::wait::GUARD, reading);
    read.await.expect("a frame in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_break_the_protocol() {
    let host = Host::start().await;
    let token = host.tokens.access(&User::new(42));
    let mut unmasked = frame(0x81, b"{}");
    unmasked[1] &= 0x7f;
    unmasked.drain(2..6);
    let large = frame(0x81, &vec![b' '; 65_537]);
    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        ("unmasked", unmasked, 1002),
        ("reserved bit", frame(0xc1, b"{}"), 1002),
        ("reserved opcode", frame(0x83, b"{}"), 1002),
        ("reserved control", frame(0x8b, b""), 1002),
        ("continuation of nothing", frame(0x80, b"{}"), 1002),
        ("fragmented ping", frame(0x09, b""), 1002),
        ("long ping", frame(0x89, &[b'x'; 126]), 1002),
        (
            "text within a text",
            [frame(0x01, b"{"), frame(0x81, b"}")].concat(),
            1002,
        ),
        ("not UTF-8", frame(0x81, &[0xff, 0xfe]), 1007),
        ("binary", frame(0x82, b"{}"), 1003),
        ("too large", large, 1009),
        (
            "too large in pieces",
            [frame(0x01, &vec![b' '; 65_536]), frame(0x80, b" ")].concat(),
            1009,
        ),
        // A header that announces more than anyone would send.
        (
            "announced",
            vec![
                0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0,
            ],
            1009,
        ),
    ];
    for (name, bytes, code) in cases {
        let mut stream = raw_socket(&host, &token).await;
        stream.write_all(&bytes).await.expect("write");
        let (first, payload) = read_frame(&mut stream).await;
        let found = u16::from_be_bytes([payload[0], payload[1]]);
        assert_eq!((first, found), (0x88, code), "{name}");
        let rest = raw::read_to_close(&mut stream, Duration::from_secs(20)).await;
        assert_eq!(rest, b"", "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fragments_pings_and_the_closing_handshake() {
    let host = Host::start().await;
    let token = host.tokens.access(&User::new(42));
    let mut stream = raw_socket(&host, &token).await;
    let pieces = [
        frame(0x01, br#"{"type":"#),
        frame(0x89, b"alive?"),
        frame(0x00, b""),
        frame(0x80, br#""ping"}"#),
    ];
    // Byte by byte: no frame comes whole.
    for byte in pieces.concat() {
        stream.write_u8(byte).await.expect("write");
    }
    assert_eq!(read_frame(&mut stream).await, (0x8a, b"alive?".to_vec()));
    let pong = read_frame(&mut stream).await;
    assert_eq!(pong, (0x81, br#"{"type":"pong"}"#.to_vec()));
    // As large as a message may be.
    let mut padded = br#"{"type":"ping"}"#.to_vec();
    padded.resize(65_536, b' ');
    let largest = frame(0x81, &padded);
    stream.write_all(&largest).await.expect("write");
    assert_eq!(read_frame(&mut stream).await, pong);
    let closing = [&[0x03, 0xe8][..], b"bye"].concat();
    stream
        .write_all(&frame(0x88, &closing))
        .await
        .expect("write");
    assert_eq!(read_frame(&mut stream).await, (0x88, closing));
    let rest = raw::read_to_close(&mut stream, Duration::from_secs(20)).await;
    assert_eq!(rest, b"");
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
                Came::Said(_) => Ok(()),
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
    nobody_reads(&frame(0x81, br#"{"type":"session_restoration"}"#)).await;
    nobody_reads(&frame(0x89, &[b'p'; 125])).await;
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
            let write = stream.write_all(&said);
            match tokio::time::timeout(Duration::from_millis(500), write).await {
                Ok(Ok(())) => written += said.len(),
                _ => break,
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
        while socket.came().await != Came::Gone {}
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
