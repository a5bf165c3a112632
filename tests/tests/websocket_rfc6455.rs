//! RFC 6455, section by section, against a plugin that gives every text back: what is sent
//! byte by byte, and exactly which frames come. The cases follow those of the Autobahn
//! test suite (`websocket_autobahn` runs the suite itself) and go on where that stops: the
//! handshake, masks, lengths, limits.
//!
//! A case is a row of a table. After each the connection has ended as it should, and a
//! fresh one works.

use std::collections::BTreeSet;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lockgate_tests::component::{ECHO, ECHO_PATH, echo_host};
use lockgate_tests::frames::{
    ACCEPT, BINARY, CLOSE, CONTINUATION, Came, Client, Frame, KEY, Length, PING, PONG, TEXT,
    handshake,
};

/// The longest message that the host takes, bytes: more than two bytes can say.
const MOST: usize = 100_000;

/// What is sent on an open socket, and what comes back.
struct Case {
    section: &'static str,
    name: String,
    /// Each is sent at once.
    writes: Vec<Vec<u8>>,
    /// If a close frame is the last, the end must follow; else the socket must still
    /// be open, and is closed by the client.
    expected: Vec<Came>,
    /// The client closes; else a close frame of the host is answered.
    closes: bool,
    /// What RFC 6455 says, where the host does otherwise.
    deviation: Option<&'static str>,
}

fn case(
    section: &'static str,
    name: impl Into<String>,
    frames: &[Frame],
    expected: Vec<Came>,
) -> Case {
    assert!(!frames.is_empty() || !expected.is_empty());
    Case {
        section,
        name: name.into(),
        writes: vec![frames.iter().flat_map(Frame::bytes).collect()],
        expected,
        closes: frames.iter().any(|frame| frame.opcode() == CLOSE),
        deviation: None,
    }
}

impl Case {
    /// The same in pieces of so many bytes.
    fn chopped(mut self, bytes: usize) -> Self {
        let all = self.writes.concat();
        self.writes = all.chunks(bytes).map(<[u8]>::to_vec).collect();
        self.name = format!("{}, in pieces of {bytes}", self.name);
        self
    }

    fn deviates(mut self, rule: &'static str) -> Self {
        self.deviation = Some(rule);
        self
    }

    async fn run(&self, port: u16) -> Result<(), String> {
        let mut client = Client::open(port, ECHO_PATH).await?;
        for bytes in &self.writes {
            client.write(bytes).await;
        }
        for wanted in &self.expected {
            let came = client.came().await?;
            if came != *wanted {
                return Err(format!("{came:?} instead of {wanted:?}"));
            }
        }
        if !self.expected.last().is_some_and(Came::is_close) {
            return client.close().await;
        }
        if !self.closes {
            // The other half of the closing handshake.
            client.send(&[Frame::close(1000, "")]).await;
        }
        match client.came().await? {
            Came::End => Ok(()),
            came => Err(format!("{came:?} after the close frame")),
        }
    }
}

/// A fresh socket works, whatever happened on others.
async fn fresh(port: u16) -> Result<(), String> {
    let mut client = Client::open(port, ECHO_PATH).await?;
    client.send(&[Frame::text("still here")]).await;
    match client.came().await? {
        came if came == Came::text("still here") => client.close().await,
        came => Err(format!("{came:?} on a fresh socket")),
    }
}

fn protocol_error() -> Came {
    Came::close(1002, "Protocol error")
}

fn bad_code() -> Came {
    Came::close(1002, "Protocol violation")
}

fn not_utf8() -> Came {
    Came::close(1007, "Text is not UTF-8")
}

fn too_large() -> Came {
    Came::close(1009, "Message too large")
}

fn text_only() -> Came {
    Came::close(1003, "Text messages only")
}

/// A text of so many bytes in which no two places near each other are alike.
fn filled(length: usize) -> Vec<u8> {
    (0..length).map(|at| b'!' + (at % 89) as u8).collect()
}

/// The parts of one text message.
fn parts(parts: &[&[u8]]) -> Vec<Frame> {
    let last = parts.len() - 1;
    let frame = |(at, part): (usize, &&[u8])| {
        let frame = Frame::new(if at == 0 { TEXT } else { CONTINUATION }, part);
        if at == last {
            frame
        } else {
            frame.unfinished()
        }
    };
    parts.iter().enumerate().map(frame).collect()
}

/// One frame for each byte.
fn octets(text: &[u8]) -> Vec<Frame> {
    parts(&text.chunks(1).collect::<Vec<_>>())
}

/// Lengths of payloads in every form, and chopped writes.
fn lengths() -> Vec<Case> {
    let mut cases = Vec::new();
    let sizes = [
        0,
        1,
        2,
        124,
        125,
        126,
        127,
        128,
        255,
        256,
        4_095,
        4_096,
        4_097,
        65_534,
        65_535,
        65_536,
        65_537,
        MOST - 1,
        MOST,
    ];
    for size in sizes {
        let whole = || {
            let text = filled(size);
            let name = format!("text of {size} bytes");
            case("5.2", name, &[Frame::text(&text)], vec![Came::text(text)])
        };
        cases.push(whole());
        cases.push(whole().chopped(997));
        if size < 300 {
            cases.push(whole().chopped(1));
        }
    }
    let sender = "5.2: the minimal number of bytes MUST be used (by the sender)";
    for size in [0, 1, 125] {
        let text = filled(size);
        let frame = Frame::text(&text).length(Length::Two);
        let name = format!("{size} bytes, the length in two");
        cases.push(case("5.2", name, &[frame], vec![Came::text(text)]).deviates(sender));
    }
    for size in [0, 1, 125, 126, 65_535] {
        let text = filled(size);
        let frame = Frame::text(&text).length(Length::Eight);
        let name = format!("{size} bytes, the length in eight");
        cases.push(case("5.2", name, &[frame], vec![Came::text(text)]).deviates(sender));
    }
    let ping = Frame::new(PING, "a").length(Length::Two);
    let name = "ping, the length in two";
    cases.push(case("5.2", name, &[ping], vec![Came::pong("a")]).deviates(sender));
    let many: Vec<Vec<u8>> = (0..50).map(filled).collect();
    let frames: Vec<Frame> = many.iter().map(Frame::text).collect();
    let echoes: Vec<Came> = many.iter().map(Came::text).collect();
    cases.push(case("5.1", "50 texts at once", &frames, echoes.clone()));
    cases.push(case("5.1", "50 texts", &frames, echoes).chopped(3));
    cases
}

/// The limit on a message, by one frame and by many, sent and only announced.
fn limits() -> Vec<Case> {
    let long = filled(MOST + 1);
    let (most, one) = long.split_at(MOST);
    let (near, two) = long.split_at(MOST - 1);
    let sum = |name: &str, pieces: &[&[u8]], came| case("7.4.1", name, &parts(pieces), vec![came]);
    let mut cases = vec![
        case(
            "7.4.1",
            "one byte too many",
            &[Frame::text(&long)],
            vec![too_large()],
        ),
        case(
            "7.4.1",
            "twice too many",
            &[Frame::text(long.repeat(2))],
            vec![too_large()],
        ),
        case(
            "7.4.1",
            "too many bytes of binary",
            &[Frame::new(BINARY, &long)],
            vec![too_large()],
        ),
        sum(
            "one byte too many in a second frame",
            &[most, one],
            too_large(),
        ),
        sum(
            "two bytes in a second frame, one too many",
            &[near, two],
            too_large(),
        ),
        sum(
            "as many as may be in two frames",
            &[near, &two[..1]],
            Came::text(most),
        ),
        sum(
            "as many as may be, then nothing",
            &[most, b""],
            Came::text(most),
        ),
        case(
            "7.4.1",
            "as many as may be in 1,000 frames",
            &parts(&most.chunks(100).collect::<Vec<_>>()),
            vec![Came::text(most)],
        ),
    ];
    for announced in [MOST as u64 + 1, 1 << 20, 1 << 32, (1 << 63) - 1] {
        let frame = Frame::text("").length(Length::Announced(announced));
        let name = format!("{announced} bytes announced");
        cases.push(case("7.4.1", name, &[frame], vec![too_large()]));
    }
    for announced in [1 << 63, u64::MAX] {
        let frame = Frame::text("").length(Length::Announced(announced));
        let name = format!("the first bit of the length is not 0: {announced}");
        cases.push(case("5.2", name, &[frame], vec![too_large()]));
    }
    cases
}

/// Masks of the client, and none.
fn masks() -> Vec<Case> {
    let mut cases = Vec::new();
    for mask in [
        [0; 4],
        [0xff; 4],
        [1, 2, 3, 4],
        *b"Hell",
        [0x80, 0, 0, 0x80],
    ] {
        for size in 0..8 {
            let text = filled(size);
            let frame = Frame::text(&text).mask(Some(mask));
            let name = format!("mask {mask:02x?} on {size} bytes");
            cases.push(case("5.3", name, &[frame], vec![Came::text(text)]));
        }
    }
    for (name, frame) in [
        ("text", Frame::text("Hello")),
        ("empty text", Frame::text("")),
        ("long text", Frame::text(filled(70_000))),
        ("part of a text", Frame::text("Hel").unfinished()),
        ("ping", Frame::new(PING, "a")),
        ("pong", Frame::new(PONG, "a")),
        ("close", Frame::close(1000, "")),
        ("empty close", Frame::new(CLOSE, "")),
    ] {
        let bare = [frame.mask(None)];
        let name = format!("{name} without a mask");
        cases.push(case("5.1", name, &bare, vec![protocol_error()]));
    }
    let second = [
        Frame::text("Hel").unfinished(),
        Frame::new(CONTINUATION, "lo").mask(None),
    ];
    let name = "a continuation without a mask";
    cases.push(case("5.1", name, &second, vec![protocol_error()]));
    let after = [Frame::text("a"), Frame::text("b").mask(None)];
    let expected = vec![Came::text("a"), protocol_error()];
    cases.push(case(
        "5.1",
        "a good text, then one without a mask",
        &after,
        expected,
    ));
    cases
}

/// Reserved bits without an extension, and reserved opcodes.
fn reserved() -> Vec<Case> {
    let mut cases = Vec::new();
    for bits in 1..8 {
        for (name, frame) in [
            ("text", Frame::text("a")),
            ("empty text", Frame::text("")),
            ("part of a text", Frame::text("a").unfinished()),
            ("binary", Frame::new(BINARY, "a")),
            ("ping", Frame::new(PING, "a")),
            ("pong", Frame::new(PONG, "")),
            ("close", Frame::close(1000, "")),
        ] {
            let name = format!("reserved bits {bits:03b} in a {name}");
            let frame = frame.reserved(bits);
            cases.push(case("5.2", name, &[frame], vec![protocol_error()]));
        }
        let frames = [
            Frame::text("a"),
            Frame::text("b").reserved(bits),
            Frame::new(PING, ""),
        ];
        let expected = || vec![Came::text("a"), protocol_error()];
        let name = format!("a good text, then reserved bits {bits:03b}, then a ping");
        cases.push(case("5.2", name.clone(), &frames, expected()));
        cases.push(case("5.2", name, &frames, expected()).chopped(1));
        let frames = [
            Frame::text("a").unfinished(),
            Frame::new(CONTINUATION, "b").reserved(bits),
        ];
        let name = format!("reserved bits {bits:03b} in a continuation");
        cases.push(case("5.2", name, &frames, vec![protocol_error()]));
    }
    for opcode in (3..8).chain(11..16) {
        let name = |how: &str| format!("reserved opcode {opcode} {how}");
        let one = |frame: Frame, how| case("5.2", name(how), &[frame], vec![protocol_error()]);
        cases.push(one(Frame::new(opcode, ""), "without a payload"));
        cases.push(one(Frame::new(opcode, "a payload"), "with a payload"));
        cases.push(one(Frame::new(opcode, "a").unfinished(), "without FIN"));
        let after = [
            Frame::text("a"),
            Frame::new(opcode, "b"),
            Frame::new(PING, ""),
        ];
        let expected = || vec![Came::text("a"), protocol_error()];
        cases.push(case("5.2", name("after a text"), &after, expected()));
        cases.push(case("5.2", name("after a text"), &after, expected()).chopped(1));
        let within = [Frame::text("a").unfinished(), Frame::new(opcode, "b")];
        cases.push(case(
            "5.2",
            name("within a text"),
            &within,
            vec![protocol_error()],
        ));
    }
    cases
}

/// Pings and pongs.
fn pings() -> Vec<Case> {
    let mut cases = Vec::new();
    for size in 0..126 {
        let said = filled(size);
        let ping = [Frame::new(PING, &said)];
        cases.push(case(
            "5.5.2",
            format!("ping of {size} bytes"),
            &ping,
            vec![Came::pong(said)],
        ));
    }
    for size in [126, 127, 1_000, 65_535, 65_536] {
        for (name, opcode) in [("ping", PING), ("pong", PONG), ("close", CLOSE)] {
            let frame = Frame::new(opcode, filled(size));
            let name = format!("{name} of {size} bytes");
            cases.push(case("5.5", name, &[frame], vec![protocol_error()]));
        }
    }
    let bytes = [0x00, 0xff, 0xfe, 0xfd, 0xfc, 0xfb, 0x00, 0xff];
    let binary = [Frame::new(PING, bytes)];
    cases.push(case(
        "5.5.2",
        "ping that is no text",
        &binary,
        vec![Came::pong(bytes)],
    ));
    let longest = [Frame::new(PING, [0xfe; 125])];
    let pong = || vec![Came::pong([0xfe; 125])];
    cases.push(case("5.5.2", "ping of 125 bytes", &longest, pong()).chopped(1));
    let ten: Vec<Frame> = (0..10).map(|n| Frame::new(PING, filled(n))).collect();
    let pongs: Vec<Came> = (0..10).map(|n| Came::pong(filled(n))).collect();
    cases.push(case("5.5.2", "ten pings at once", &ten, pongs.clone()));
    cases.push(case("5.5.2", "ten pings", &ten, pongs).chopped(1));
    for size in [0, 1, 125] {
        let pong = Frame::new(PONG, filled(size));
        let name = format!("a pong of {size} bytes that nobody asked for");
        cases.push(case(
            "5.5.3",
            name.clone(),
            std::slice::from_ref(&pong),
            vec![],
        ));
        let then = [pong, Frame::new(PING, "a"), Frame::text("b")];
        let expected = vec![Came::pong("a"), Came::text("b")];
        cases.push(case(
            "5.5.3",
            format!("{name}, then a ping"),
            &then,
            expected,
        ));
    }
    let between = [Frame::text("a"), Frame::new(PING, "p"), Frame::text("b")];
    let expected = vec![Came::text("a"), Came::pong("p"), Came::text("b")];
    cases.push(case(
        "5.5.2",
        "a ping between two texts",
        &between,
        expected,
    ));
    cases
}

/// Messages in several frames, whole and broken.
fn fragments() -> Vec<Case> {
    let go_on = |payload: &str| Frame::new(CONTINUATION, payload);
    let begin = |payload: &str| Frame::text(payload).unfinished();
    let ping = |payload: &str| Frame::new(PING, payload);
    let whole = || Came::text("Hello");
    let mut cases = Vec::new();
    let mut good = |name: &str, frames: &[Frame], expected: Vec<Came>| {
        cases.push(case("5.4", name, frames, expected.clone()));
        cases.push(case("5.4", name, frames, expected).chopped(1));
    };
    good("two fragments", &parts(&[b"Hel", b"lo"]), vec![whole()]);
    good("one byte each", &octets(b"Hello"), vec![whole()]);
    good(
        "an empty first fragment",
        &parts(&[b"", b"Hello"]),
        vec![whole()],
    );
    good(
        "an empty last fragment",
        &parts(&[b"Hello", b""]),
        vec![whole()],
    );
    good(
        "empty fragments between",
        &parts(&[b"", b"Hel", b"", b"", b"lo", b""]),
        vec![whole()],
    );
    good(
        "empty fragments only",
        &parts(&[b"", b"", b""]),
        vec![Came::text("")],
    );
    good(
        "two messages in fragments",
        &[parts(&[b"Hel", b"lo"]), parts(&[b"wor", b"ld"])].concat(),
        vec![whole(), Came::text("world")],
    );
    good(
        "a ping between fragments",
        &[begin("Hel"), ping("p"), go_on("lo")],
        vec![Came::pong("p"), whole()],
    );
    good(
        "pings and pongs around each fragment",
        &[
            ping("1"),
            begin("Hel"),
            ping("2"),
            Frame::new(PONG, "x"),
            go_on("l").unfinished(),
            ping(""),
            go_on("o"),
            ping("3"),
        ],
        vec![
            Came::pong("1"),
            Came::pong("2"),
            Came::pong(""),
            whole(),
            Came::pong("3"),
        ],
    );
    let thousand = filled(2_000);
    good(
        "2,000 fragments",
        &octets(&thousand),
        vec![Came::text(&thousand)],
    );
    let mut broken = |name: &str, frames: &[Frame], mut before: Vec<Came>| {
        before.push(protocol_error());
        cases.push(case("5.4", name, frames, before.clone()));
        cases.push(case("5.4", name, frames, before).chopped(1));
    };
    for (name, opcode) in [("ping", PING), ("pong", PONG), ("close", CLOSE)] {
        for payload in ["", "ab"] {
            let frame = Frame::new(opcode, payload).unfinished();
            let name = format!("a {name} in fragments, {} bytes first", payload.len());
            broken(&name, std::slice::from_ref(&frame), vec![]);
            broken(
                &format!("{name}, with the rest"),
                &[frame, go_on("c")],
                vec![],
            );
        }
    }
    for payload in ["", "Hello"] {
        let name = |what: &str| format!("{what} of {} bytes, nothing begun", payload.len());
        broken(&name("a continuation"), &[go_on(payload)], vec![]);
        let more = [go_on(payload).unfinished(), Frame::text("a")];
        broken(&name("a continuation without FIN"), &more, vec![]);
    }
    broken(
        "a continuation after a whole message",
        &[Frame::text("Hello"), go_on("more")],
        vec![whole()],
    );
    broken(
        "a continuation after a message in fragments",
        &[begin("Hel"), go_on("lo"), go_on("more"), Frame::text("a")],
        vec![whole()],
    );
    broken(
        "a text within a text",
        &[begin("Hel"), Frame::text("lo")],
        vec![],
    );
    broken(
        "a text begun within a text",
        &[begin("Hel"), begin("lo"), go_on("")],
        vec![],
    );
    broken(
        "a binary within a text",
        &[begin("Hel"), Frame::new(BINARY, "lo")],
        vec![],
    );
    broken(
        "a text within a binary",
        &[Frame::new(BINARY, "Hel").unfinished(), Frame::text("lo")],
        vec![],
    );
    broken(
        "a ping, then a text within a text",
        &[begin("Hel"), ping("p"), Frame::text("lo")],
        vec![Came::pong("p")],
    );
    let closing = [begin("Hel"), Frame::close(1000, "bye"), go_on("lo")];
    let name = "a close frame within a text";
    cases.push(case("5.4", name, &closing, vec![Came::close(1000, "bye")]));
    cases
}

/// UTF-8 as Autobahn tests it (its cases 6), after Markus Kuhn's stress test.
fn utf8() -> Vec<Case> {
    let greek = "κόσμε".as_bytes();
    let mut cases = Vec::new();
    let mut valid: Vec<Vec<u8>> = [
        &b""[..],
        b"\0",
        b"\x7f",
        b"hello\x24world",
        b"hello\xc2\xa2world",
        b"hello\xe2\x82\xacworld",
        b"hello\xf0\xa4\xad\xa2world",
        greek,
        b"\xc2\x80",
        b"\xe0\xa0\x80",
        b"\xf0\x90\x80\x80",
        b"\xdf\xbf",
        b"\xef\xbf\xbf",
        b"\xed\x9f\xbf",
        b"\xee\x80\x80",
        // Specials, the mark of byte order and the replacement character among them.
        b"\xef\xbf\xb9",
        b"\xef\xbf\xba",
        b"\xef\xbf\xbb",
        b"\xef\xbf\xbc",
        b"\xef\xbf\xbd",
        b"\xef\xbf\xbe",
        b"\xef\xbb\xbfa",
        "Hello-µ@ßöäüàá-UTF-8!!".as_bytes(),
    ]
    .map(<[u8]>::to_vec)
    .into();
    // The last two of each plane are no characters, but may be sent.
    for plane in 1..=16_u32 {
        for last in [0xfffe, 0xffff] {
            let point = char::from_u32((plane << 16) + last).expect("a code point");
            valid.push(point.to_string().into_bytes());
        }
    }
    for text in &valid {
        let name = format!("valid: {}", hex::encode(text));
        let expected = || vec![Came::text(text)];
        cases.push(case("8.1", name.clone(), &[Frame::text(text)], expected()));
        let name = format!("{name}, in one fragment a byte");
        let pieces = if text.is_empty() {
            parts(&[b"", b""])
        } else {
            octets(text)
        };
        cases.push(case("8.1", name, &pieces, expected()));
    }
    for text in invalid_utf8(greek) {
        let shown = hex::encode(&text[..text.len().min(16)]);
        let name = format!("invalid: {shown}, {} bytes", text.len());
        cases.push(case(
            "8.1",
            name.clone(),
            &[Frame::text(&text)],
            vec![not_utf8()],
        ));
        let name = format!("{name}, in one fragment a byte");
        cases.push(case("8.1", name, &octets(&text), vec![not_utf8()]));
    }
    let (broken, rest) = (
        b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80",
        b"edited",
    );
    // What is broken is told before the rest has come: the last frame is never sent.
    let first = [
        Frame::text(broken).unfinished(),
        Frame::new(CONTINUATION, rest).unfinished(),
    ];
    let name = "invalid in a part of a message that goes on";
    cases.push(case("8.1", name, &first, vec![not_utf8()]));
    cases
}

fn invalid_utf8(greek: &[u8]) -> Vec<Vec<u8>> {
    let incomplete: [&[u8]; 10] = [
        b"\xc0",
        b"\xe0\x80",
        b"\xf0\x80\x80",
        b"\xf8\x80\x80\x80",
        b"\xfc\x80\x80\x80\x80",
        b"\xdf",
        b"\xef\xbf",
        b"\xf7\xbf\xbf",
        b"\xfb\xbf\xbf\xbf",
        b"\xfd\xbf\xbf\xbf\xbf",
    ];
    let mut invalid: Vec<Vec<u8>> = [
        &b"\xf8\x88\x80\x80\x80"[..],
        b"\xfc\x84\x80\x80\x80\x80",
        b"\xf7\xbf\xbf\xbf",
        b"\xfb\xbf\xbf\xbf\xbf",
        b"\xfd\xbf\xbf\xbf\xbf\xbf",
        b"\xf4\x90\x80\x80",
        b"\x80",
        b"\xbf",
        b"\x80\xbf",
        b"\x80\xbf\x80",
        b"\x80\xbf\x80\xbf",
        b"\x80\xbf\x80\xbf\x80",
        b"\x80\xbf\x80\xbf\x80\xbf",
        b"\xfe",
        b"\xff",
        b"\xfe\xfe\xff\xff",
        // Longer than need be.
        b"\xc0\xaf",
        b"\xe0\x80\xaf",
        b"\xf0\x80\x80\xaf",
        b"\xf8\x80\x80\x80\xaf",
        b"\xfc\x80\x80\x80\x80\xaf",
        b"\xc1\xbf",
        b"\xe0\x9f\xbf",
        b"\xf0\x8f\xbf\xbf",
        b"\xf8\x87\xbf\xbf\xbf",
        b"\xfc\x83\xbf\xbf\xbf\xbf",
        b"\xc0\x80",
        b"\xe0\x80\x80",
        b"\xf0\x80\x80\x80",
        b"\xf8\x80\x80\x80\x80",
        b"\xfc\x80\x80\x80\x80\x80",
        // Surrogates of UTF-16, alone and in pairs.
        b"\xed\xa0\x80",
        b"\xed\xad\xbf",
        b"\xed\xae\x80",
        b"\xed\xaf\xbf",
        b"\xed\xb0\x80",
        b"\xed\xbe\x80",
        b"\xed\xbf\xbf",
        b"\xed\xa0\x80\xed\xb0\x80",
        b"\xed\xa0\x80\xed\xbf\xbf",
        b"\xed\xad\xbf\xed\xb0\x80",
        b"\xed\xad\xbf\xed\xbf\xbf",
        b"\xed\xae\x80\xed\xb0\x80",
        b"\xed\xae\x80\xed\xbf\xbf",
        b"\xed\xaf\xbf\xed\xb0\x80",
        b"\xed\xaf\xbf\xed\xbf\xbf",
        // Autobahn 6.3 and 6.4.
        b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80\x65\x64\x69\x74\x65\x64",
        b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80\x65\x64\x69\x74\x65\x64",
    ]
    .map(<[u8]>::to_vec)
    .into();
    invalid.extend(incomplete.map(<[u8]>::to_vec));
    invalid.push(incomplete.concat());
    invalid.push((0x80..0xbf).collect());
    for (first, last) in [
        (0xc0, 0xdf),
        (0xe0, 0xef),
        (0xf0, 0xf7),
        (0xf8, 0xfb),
        (0xfc, 0xfd),
    ] {
        invalid.push((first..=last).flat_map(|start| [start, b' ']).collect());
    }
    // What is left of a text that was cut within a character.
    let cut = (1..greek.len()).map(|end| greek[..end].to_vec());
    invalid.extend(cut.filter(|text| std::str::from_utf8(text).is_err()));
    invalid
}

/// The closing handshake.
fn closes() -> Vec<Case> {
    let mut cases = Vec::new();
    let empty = || Came::Frame(CLOSE, Vec::new());
    let bare = || Frame::new(CLOSE, "");
    cases.push(case("5.5.1", "without a code", &[bare()], vec![empty()]));
    for code in (1000..=1003)
        .chain(1007..=1011)
        .chain([3000, 3999, 4000, 4001, 4999])
    {
        let name = format!("code {code}");
        let frame = [Frame::close(code, "")];
        cases.push(case("7.4", name, &frame, vec![Came::close(code, "")]));
    }
    for code in [1012, 1013] {
        let name = format!("code {code}, registered since");
        let frame = [Frame::close(code, "")];
        cases.push(case("7.4.2", name, &frame, vec![Came::close(code, "")]));
    }
    let never = [
        0, 1, 999, 1004, 1005, 1006, 1014, 1015, 1016, 1100, 2000, 2999, 5000, 9999, 32_768, 65_535,
    ];
    for code in never {
        let name = format!("code {code}, which must not be sent");
        let frame = [Frame::close(code, "why not")];
        cases.push(case("7.4.2", name, &frame, vec![bad_code()]));
    }
    for byte in [0x00, 0x03, 0xff] {
        let frame = [Frame::new(CLOSE, [byte])];
        let name = format!("half a code: {byte:#04x}");
        cases.push(case("5.5.1", name, &frame, vec![protocol_error()]));
    }
    for reason in ["a", "bye", "κόσμε", &"x".repeat(122), &"x".repeat(123)] {
        let frame = [Frame::close(1000, reason)];
        let name = format!("a reason of {} bytes", reason.len());
        let expected = || vec![Came::close(1000, reason)];
        cases.push(case("5.5.1", name.clone(), &frame, expected()));
        cases.push(case("5.5.1", name, &frame, expected()).chopped(1));
    }
    for size in [124, 125, 1_000] {
        let frame = [Frame::close(1000, filled(size))];
        let name = format!("a reason of {size} bytes");
        cases.push(case("5.5", name, &frame, vec![protocol_error()]));
    }
    for reason in [
        &b"\xff"[..],
        b"bye \xce",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
    ] {
        let frame = [Frame::close(1000, reason)];
        let name = format!("a reason that is not UTF-8: {}", hex::encode(reason));
        cases.push(case("5.5.1", name, &frame, vec![not_utf8()]));
    }
    let first = || Frame::close(1000, "first");
    let answer = || Came::close(1000, "first");
    let mut after = |name: &str, frames: &[Frame], expected: Vec<Came>| {
        cases.push(case("5.5.1", name, frames, expected));
    };
    after(
        "a text before it",
        &[Frame::text("a"), first()],
        vec![Came::text("a"), answer()],
    );
    after(
        "a ping before it",
        &[Frame::new(PING, "a"), first()],
        vec![Came::pong("a"), answer()],
    );
    after(
        "a text after it",
        &[first(), Frame::text("a")],
        vec![answer()],
    );
    after(
        "a ping after it",
        &[first(), Frame::new(PING, "a")],
        vec![answer()],
    );
    after(
        "another after it",
        &[first(), Frame::close(1001, "second")],
        vec![answer()],
    );
    after(
        "a broken frame after it",
        &[first(), Frame::new(3, "a")],
        vec![answer()],
    );
    after(
        "no frame after it",
        &[first(), Frame::text("").mask(None)],
        vec![answer()],
    );
    after(
        "90 kB after it",
        &[first(), Frame::text(filled(90_000))],
        vec![answer()],
    );
    let more = vec![Frame::text(filled(90_000)); 8];
    after(
        "720 kB after it",
        &[vec![first()], more].concat(),
        vec![answer()],
    );
    after(
        "a text that ends too early before it",
        &[Frame::text("a").unfinished(), first()],
        vec![answer()],
    );
    cases
}

/// Binary messages, which this host serves to no plugin, and closes of its own.
fn binaries() -> Vec<Case> {
    let mut cases = Vec::new();
    for size in [0, 1, 125, 126, 127, 128, 65_535, 65_536] {
        let frame = [Frame::new(BINARY, filled(size))];
        let name = format!("a binary message of {size} bytes");
        cases.push(case("7.4.1", name, &frame, vec![text_only()]));
    }
    let pieces = [
        Frame::new(BINARY, "Hel").unfinished(),
        Frame::new(PING, "p"),
        Frame::new(CONTINUATION, "lo"),
    ];
    let expected = || vec![Came::pong("p"), text_only()];
    cases.push(case(
        "7.4.1",
        "a binary message in fragments",
        &pieces,
        expected(),
    ));
    cases.push(
        case(
            "7.4.1",
            "a binary message in fragments",
            &pieces,
            expected(),
        )
        .chopped(1),
    );
    for (name, later) in [
        ("a text", Frame::text("a")),
        ("a ping", Frame::new(PING, "a")),
        ("a broken frame", Frame::new(3, "a")),
        ("90 kB", Frame::text(filled(90_000))),
    ] {
        let frames = [Frame::new(BINARY, "a"), later];
        let name = format!("{name} after what closes the socket");
        cases.push(case("7.1.7", name, &frames, vec![text_only()]));
    }
    let broken = [Frame::new(3, ""), Frame::text("a"), Frame::close(1000, "")];
    let name = "a text and a close frame after what breaks the protocol";
    cases.push(case("7.1.7", name, &broken, vec![protocol_error()]));
    cases
}

/// Connections that end without a close frame.
fn cuts() -> Vec<(&'static str, Vec<u8>)> {
    let text = Frame::text("Hello").bytes();
    vec![
        ("nothing was sent", Vec::new()),
        ("half a head", text[..1].to_vec()),
        ("half a mask", text[..4].to_vec()),
        ("half a payload", text[..8].to_vec()),
        ("half a message", Frame::text("Hel").unfinished().bytes()),
    ]
}

async fn run_cut(port: u16, sent: &[u8]) -> Result<(), String> {
    let mut client = Client::open(port, ECHO_PATH).await?;
    client.write(sent).await;
    client.finish().await;
    match client.came().await? {
        Came::End => Ok(()),
        came => Err(format!("{came:?} to a client that has gone")),
    }
}

/// An opening handshake, and how it is answered.
struct Opening {
    section: &'static str,
    name: String,
    writes: Vec<Vec<u8>>,
    status: u16,
    /// Headers with their values.
    has: Vec<(&'static str, String)>,
    /// Headers that must not be there.
    lacks: Vec<&'static str>,
    /// What is sent on the socket that is open, and what comes.
    then: (Vec<Frame>, Vec<Came>),
}

fn opening(
    section: &'static str,
    name: impl Into<String>,
    request: String,
    status: u16,
) -> Opening {
    let mut opening = Opening {
        section,
        name: name.into(),
        writes: vec![request.into_bytes()],
        status,
        has: Vec::new(),
        lacks: vec!["sec-websocket-extensions"],
        then: (vec![Frame::text("Hello")], vec![Came::text("Hello")]),
    };
    let has = |opening: &mut Opening, name, value: &str| opening.has.push((name, value.to_owned()));
    match status {
        101 => {
            has(&mut opening, "upgrade", "websocket");
            has(&mut opening, "connection", "upgrade");
            has(&mut opening, "sec-websocket-accept", ACCEPT);
            // RFC 9112 section 6.
            opening
                .lacks
                .extend(["content-length", "transfer-encoding"]);
        }
        426 => {
            has(&mut opening, "upgrade", "websocket");
            has(&mut opening, "connection", "upgrade");
            has(&mut opening, "sec-websocket-version", "13");
        }
        405 => has(&mut opening, "allow", "GET"),
        _ => {}
    }
    if status != 101 {
        opening.lacks.push("sec-websocket-accept");
    }
    opening
}

impl Opening {
    fn has(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.has.retain(|(known, _)| *known != name);
        self.has.push((name, value.into()));
        self
    }

    fn lacks(mut self, name: &'static str) -> Self {
        self.lacks.push(name);
        self
    }

    fn then(mut self, frames: Vec<Frame>, came: Vec<Came>) -> Self {
        self.then = (frames, came);
        self
    }

    async fn run(&self, port: u16) -> Result<(), String> {
        let mut client = Client::connect(port).await;
        for bytes in &self.writes {
            client.write(bytes).await;
        }
        let head = client.head().await?;
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap_or_default();
        // HTTP/1.0 is answered in kind.
        let codes = [1, 0].map(|minor| format!("HTTP/1.{minor} {} ", self.status));
        if !codes.iter().any(|code| status.starts_with(code)) {
            return Err(format!("{status:?} instead of {}", self.status));
        }
        let headers: Vec<(String, &str)> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value))
            .collect();
        for (name, value) in &self.has {
            let found: Vec<&str> = headers
                .iter()
                .filter(|(known, _)| known == name)
                .map(|(_, value)| *value)
                .collect();
            // Where the connection ends, that is said too.
            if found != [value] && (*name, &found[..]) != ("connection", &["upgrade, close"]) {
                return Err(format!("{name}: {found:?} instead of {value:?}"));
            }
        }
        if let Some(name) = self
            .lacks
            .iter()
            .find(|name| headers.iter().any(|(known, _)| known == *name))
        {
            return Err(format!("there is a header {name}"));
        }
        if self.status != 101 {
            return Ok(());
        }
        client.send(&self.then.0).await;
        for wanted in &self.then.1 {
            let came = client.came().await?;
            if came != *wanted {
                return Err(format!("{came:?} instead of {wanted:?}"));
            }
        }
        if !self.then.1.last().is_some_and(Came::is_close) {
            return client.close().await;
        }
        match client.came().await? {
            Came::End => Ok(()),
            came => Err(format!("{came:?} after the close frame")),
        }
    }
}

/// The sample handshake with one line replaced by others (each with its CRLF).
fn with(line: &str, lines: &str) -> String {
    let sample = handshake(ECHO_PATH, "");
    let found = sample
        .split_inclusive("\r\n")
        .find(|known| known.starts_with(&format!("{line}:")));
    sample.replace(found.expect("a line of the sample"), lines)
}

fn accept_of(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(digest::digest(
        &digest::SHA1_FOR_LEGACY_USE_ONLY,
        text.as_bytes(),
    ))
}

fn requests() -> Vec<Opening> {
    let sample = || handshake(ECHO_PATH, "");
    let mut all = vec![
        opening("4.2.2", "the sample of section 1.3", sample(), 101)
            .lacks("sec-websocket-protocol"),
        opening("4.2.1", "with a query", handshake("/ws?a=b&c=%20", ""), 101),
        opening(
            "4.1",
            "a target with a scheme",
            handshake("http://lockgate.example.org/ws", ""),
            101,
        ),
        opening(
            "4.2.1",
            "names of headers in other cases",
            sample().replace("Sec-WebSocket-", "sEC-wEBsOCKET-"),
            101,
        ),
        opening(
            "4.2.1",
            "HTTP/1.0",
            sample().replace("HTTP/1.1", "HTTP/1.0"),
            426,
        ),
        opening("4.2.1", "no Host", with("Host", ""), 400),
        opening(
            "4.2.1",
            "two Hosts",
            with("Host", "Host: a\r\nHost: b\r\n"),
            400,
        ),
        opening("4.2.1", "no HTTP", "HELLO\r\n\r\n".to_owned(), 400),
    ];
    for method in [
        "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE", "get",
    ] {
        let request = sample().replacen("GET", method, 1);
        all.push(opening("4.2.1", format!("method {method}"), request, 405));
    }
    for (lines, status) in [
        ("Connection: upgrade\r\n", 101),
        ("Connection: UPGRADE\r\n", 101),
        ("Connection: keep-alive, Upgrade\r\n", 101),
        ("Connection: Upgrade,keep-alive\r\n", 101),
        ("Connection: keep-alive ,\tupgrade , x\r\n", 101),
        ("Connection: keep-alive\r\nConnection: Upgrade\r\n", 101),
        ("", 426),
        ("Connection: keep-alive\r\n", 426),
        ("Connection: close\r\n", 426),
        ("Connection: upgraded\r\n", 426),
        ("Connection: \"upgrade\"\r\n", 426),
        ("Connection:\r\n", 426),
    ] {
        all.push(opening(
            "4.2.1",
            format!("connection {lines:?}"),
            with("Connection", lines),
            status,
        ));
    }
    for (lines, status) in [
        ("Upgrade: WebSocket\r\n", 101),
        ("Upgrade: WEBSOCKET\r\n", 101),
        ("Upgrade: h2c, websocket\r\n", 101),
        ("Upgrade: h2c\r\nUpgrade: websocket\r\n", 101),
        ("", 426),
        ("Upgrade: h2c\r\n", 426),
        ("Upgrade: websockets\r\n", 426),
        ("Upgrade: web socket\r\n", 426),
        ("Upgrade: websocket/13\r\n", 426),
        ("Upgrade:\r\n", 426),
    ] {
        all.push(opening(
            "4.2.1",
            format!("upgrade {lines:?}"),
            with("Upgrade", lines),
            status,
        ));
    }
    let version = "Sec-WebSocket-Version";
    for (value, status) in [
        ("13", 101),
        ("  13\t", 101),
        ("0", 426),
        ("7", 426),
        ("8", 426),
        ("12", 426),
        ("14", 426),
        ("255", 426),
        ("013", 426),
        ("+13", 426),
        ("13.0", 426),
        ("13, 8", 426),
        ("thirteen", 426),
        ("", 426),
    ] {
        let lines = format!("{version}: {value}\r\n");
        all.push(opening(
            "4.4",
            format!("version {value:?}"),
            with(version, &lines),
            status,
        ));
    }
    all.push(opening("4.4", "no version", with(version, ""), 426));
    for (one, two) in [("13", "13"), ("13", "8"), ("8", "13")] {
        let lines = format!("{version}: {one}\r\n{version}: {two}\r\n");
        let name = format!("versions {one} and {two} on two lines");
        all.push(opening("11.3.5", name, with(version, &lines), 400));
    }
    all.extend(keys());
    all.extend(offers());
    all.extend(bodies());
    let mut slow = opening("4.2.1", "byte by byte", sample(), 101);
    slow.writes = sample().bytes().map(|byte| vec![byte]).collect();
    all.push(slow);
    let mut eager = opening("4.1", "a text in the same write", sample(), 101);
    eager.writes = vec![[sample().into_bytes(), Frame::text("eager").bytes()].concat()];
    all.push(eager.then(
        vec![Frame::text("later")],
        vec![Came::text("eager"), Came::text("later")],
    ));
    all
}

/// `Sec-WebSocket-Key`: once, sixteen bytes in base64.
fn keys() -> Vec<Opening> {
    let name = "Sec-WebSocket-Key";
    let mut all = Vec::new();
    for key in [
        KEY,
        "AAAAAAAAAAAAAAAAAAAAAA==",
        "/////////////////////w==",
        "+/+/+/+/+/+/+/+/+/+/+w==",
    ] {
        let lines = format!("{name}: {key}\r\n");
        let opening = opening("4.2.2", format!("key {key}"), with(name, &lines), 101);
        all.push(opening.has("sec-websocket-accept", accept_of(key)));
    }
    for key in [
        "",
        "dGhlIHNhbXBsZSBub25j",
        "dGhlIHNhbXBsZSBub25jZWQ=",
        "dGhlIHNhbXBsZSBub25jZQ",
        "dGhlIHNhbXBsZSBub25jZQ=",
        "_____________________w==",
        "dGhlIHNhbXBs ZSBub25jZQ==",
        "*************************",
        "dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ==",
    ] {
        let lines = format!("{name}: {key}\r\n");
        all.push(opening(
            "4.2.1",
            format!("key {key:?}"),
            with(name, &lines),
            400,
        ));
    }
    all.push(opening("4.2.1", "no key", with(name, ""), 400));
    let twice = format!("{name}: {KEY}\r\n").repeat(2);
    all.push(opening("11.3.1", "the key twice", with(name, &twice), 400));
    all
}

/// Extensions and subprotocols that the client offers.
fn offers() -> Vec<Opening> {
    let mut all = Vec::new();
    let compressed = Frame::text([0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]).reserved(4);
    for offered in [
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits; server_no_context_takeover",
        "permessage-deflate; server_max_window_bits=10, permessage-deflate",
        "x-webkit-deflate-frame",
        "permessage-bzip2, mux; max-channels=4",
        "no-such-extension",
        "; =, \"",
    ] {
        let more = format!("Sec-WebSocket-Extensions: {offered}\r\n");
        let name = |how: &str| format!("extensions {offered:?}{how}");
        let request = || handshake(ECHO_PATH, &more);
        all.push(opening("9.1", name(""), request(), 101));
        all.push(
            opening("9.1", name(", and RSV1 then"), request(), 101)
                .then(vec![compressed.clone()], vec![protocol_error()]),
        );
    }
    for (offered, chosen) in [
        ("chat", Some("chat")),
        ("chat, superchat", Some("chat")),
        ("superchat,chat", Some("superchat")),
        ("v1.chat, chat, v2.chat", Some("v1.chat")),
        ("Bearer.a.b.c", Some("Bearer.a.b.c")),
        ("Bearer.a.b.c, chat", Some("chat")),
        (" , chat", Some("chat")),
        ("no token, chat", Some("chat")),
        ("no token", None),
        ("a/b, \"c\"", None),
        ("", None),
        (", ,", None),
    ] {
        let more = format!("Sec-WebSocket-Protocol: {offered}\r\n");
        let name = format!("subprotocols {offered:?}");
        let opening = opening("4.2.2", name, handshake(ECHO_PATH, &more), 101);
        all.push(match chosen {
            Some(chosen) => opening.has("sec-websocket-protocol", chosen),
            None => opening.lacks("sec-websocket-protocol"),
        });
    }
    let two = "Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: b\r\n";
    let two = opening(
        "11.3.4",
        "subprotocols on two lines",
        handshake(ECHO_PATH, two),
        101,
    );
    all.push(two.has("sec-websocket-protocol", "a"));
    all
}

/// A body in a GET request is read, and is no frame.
fn bodies() -> Vec<Opening> {
    let length = format!("{}Hello", handshake(ECHO_PATH, "Content-Length: 5\r\n"));
    let chunked = handshake(ECHO_PATH, "Transfer-Encoding: chunked\r\n");
    vec![
        opening(
            "4.1",
            "no body, and said so",
            handshake(ECHO_PATH, "Content-Length: 0\r\n"),
            101,
        ),
        opening("4.1", "a body", length, 101),
        opening(
            "4.1",
            "a body in chunks",
            format!("{chunked}5\r\nHello\r\n0\r\n\r\n"),
            101,
        ),
        opening(
            "4.1",
            "a body over the limit",
            handshake(ECHO_PATH, "Content-Length: 70000\r\n"),
            413,
        ),
        opening(
            "4.1",
            "a body that is no number of bytes",
            handshake(ECHO_PATH, "Content-Length: x\r\n"),
            400,
        ),
    ]
}

/// All of it, one case after the other. Each ends with a fresh socket that works.
#[tokio::test(flavor = "multi_thread")]
async fn every_case() {
    let host = echo_host(MOST).await;
    let port = host.port(ECHO);
    let mut names = BTreeSet::new();
    let mut failures = Vec::new();
    let mut deviations = BTreeSet::new();
    let mut note = |section: &str, name: &str, result: Result<(), String>| {
        let name = format!("{section} {name}");
        if let Err(error) = result {
            failures.push(format!("{name}: {error}"));
        }
        assert!(names.insert(name.clone()), "two cases are called {name}");
    };
    let tables = [
        lengths(),
        limits(),
        masks(),
        reserved(),
        pings(),
        fragments(),
        utf8(),
        closes(),
        binaries(),
    ];
    for case in tables.into_iter().flatten() {
        let mut result = case.run(port).await;
        if result.is_ok() {
            result = fresh(port).await;
        }
        note(case.section, &case.name, result);
        deviations.extend(case.deviation.map(|rule| (rule, case.section)));
    }
    for (name, sent) in cuts() {
        let mut result = run_cut(port, &sent).await;
        if result.is_ok() {
            result = fresh(port).await;
        }
        note("7.1.5", &format!("the connection is cut: {name}"), result);
    }
    for opening in requests() {
        let mut result = opening.run(port).await;
        if result.is_ok() {
            result = fresh(port).await;
        }
        note(opening.section, &opening.name, result);
    }
    let all = names.len();
    assert!(
        failures.is_empty(),
        "{} of {all} cases of RFC 6455 failed:\n{}",
        failures.len(),
        failures.join("\n")
    );
    for (rule, _) in &deviations {
        println!("known deviation: {rule}");
    }
    println!("{all} cases of RFC 6455 passed");
}
