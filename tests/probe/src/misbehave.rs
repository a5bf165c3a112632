//! What the probe can do wrong, a path each. Parameters stand in the query as
//! `name=value`; a missing one has a default. It keeps state between requests
//! only to show that it can.

use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::bindings::exports::lockgate::plugin::handler::{Request, Response};
use crate::bindings::lockgate::plugin::{counters, csrf, jwt, redis};
use crate::{account, lanes, mark, remains, values};

/// Requests that this instance has answered.
static ANSWERED: AtomicU32 = AtomicU32::new(0);

/// The last token that it was given, kept as a curious guest would keep it.
static KEPT: Mutex<String> = Mutex::new(String::new());

/// Does what the path asks for.
pub(crate) fn answer(request: &Request) -> Response {
    let count = ANSWERED.fetch_add(1, Ordering::Relaxed) + 1;
    match request.path.as_str() {
        "/static" => fixed(),
        "/count" => text(200, &count.to_string()),
        "/echo" => echo(request),
        "/trap" => trap(),
        "/panic" => fail(),
        "/loop" => spin(),
        "/recurse" => text(200, &deeper(count).to_string()),
        "/allocate" => allocate(),
        "/grow" => grow(),
        "/log" => log(number(request, "lines", 1), number(request, "bytes", 10)),
        "/host-calls" => host_calls(number(request, "n", 1)),
        "/body" => body(number(request, "bytes", 0)),
        "/headers" => headers(number(request, "n", 0)),
        "/header-bytes" => header_bytes(number(request, "bytes", 0)),
        "/bad-header" => bad_header(request),
        "/status" => text(saturating(number(request, "code", 200)), "status"),
        "/sleep" => sleep(request),
        "/write-then-trap" => {
            write(request);
            trap()
        }
        "/read-then-trap" => {
            read(request);
            trap()
        }
        "/redis" => redis_round(request),
        "/verify" => verify(request),
        "/environment" => environment(),
        "/files" => files(),
        "/work" => lanes::work(number(request, "ms", 1)),
        "/account" => account::account(request),
        "/who" => remains::who(count),
        "/plant" => remains::plant(request),
        "/scan" => remains::scan(request),
        "/memory" => remains::memory(number(request, "from", 0), number(request, "length", 65536)),
        "/set" => values::set(request),
        "/compare-and-set" => values::compare_and_set(request),
        "/many" => values::many(number(request, "n", 1)),
        _ => version(),
    }
}

/// What the `wasi:http` component of the tests answers there too.
fn fixed() -> Response {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    Response {
        status: 200,
        headers: vec![
            pair("content-type", "application/json"),
            pair("x-component", "plugin"),
        ],
        body: br#"{"status":"ok","service":"static","items":[1,2,3],"text":"the same each time"}"#
            .to_vec(),
    }
}

/// An answer of plain text.
pub(crate) fn text(status: u16, body: &str) -> Response {
    Response {
        status,
        headers: vec![("content-type".to_owned(), "text/plain".to_owned())],
        body: body.as_bytes().to_vec(),
    }
}

/// A WebAssembly trap with nothing written before it.
pub(crate) fn trap() -> ! {
    #[cfg(target_arch = "wasm32")]
    core::arch::wasm32::unreachable();
    #[cfg(not(target_arch = "wasm32"))]
    std::process::abort()
}

/// Never comes back and calls nothing.
pub(crate) fn spin() -> ! {
    let mut turns = 0_u64;
    loop {
        turns = std::hint::black_box(turns.wrapping_add(1));
    }
}

/// Writes to the shared store: the key of the query, or one of its own.
pub(crate) fn write(request: &Request) {
    let key = parameter(request, "key").unwrap_or("session:probe");
    let written = redis::set(key, b"{\"probe\":true}", 60, redis::Condition::Always);
    let _ = std::hint::black_box(written);
}

/// Reads from the shared store.
pub(crate) fn read(request: &Request) {
    let key = parameter(request, "key").unwrap_or("session:probe");
    let _ = std::hint::black_box(redis::get(key));
}

fn version() -> Response {
    text(200, &mark::field("version="))
}

/// Says what the host told about the request, a line each.
fn echo(request: &Request) -> Response {
    let mut lines = vec![
        format!("method {}", request.method),
        format!("path {}", request.path),
        format!("address {}", request.caller.address),
        format!("service {}", request.caller.service),
    ];
    lines.extend(
        request
            .headers
            .iter()
            .map(|(name, value)| format!("header {name}: {value}")),
    );
    lines.extend(
        request
            .extensions
            .iter()
            .map(|(name, value)| format!("extension {name}: {value}")),
    );
    lines.push(format!("body {}", String::from_utf8_lossy(&request.body)));
    text(200, &lines.join("\n"))
}

#[allow(clippy::panic, reason = "to panic is what it is asked for")]
fn fail() -> Response {
    panic!("the probe was asked to panic")
}

/// Recursion without end that no compiler turns into a loop.
#[allow(
    unconditional_recursion,
    reason = "to overflow the stack is what it is asked for"
)]
fn deeper(depth: u32) -> u32 {
    let frame = std::hint::black_box([depth; 16]);
    let below = deeper(
        frame
            .iter()
            .fold(0, |sum, part| sum ^ part)
            .wrapping_add(depth + 1),
    );
    std::hint::black_box(below).wrapping_add(frame.iter().sum())
}

/// Takes memory until the allocator gives up, and touches all of it.
fn allocate() -> Response {
    let mut taken: Vec<Vec<u8>> = Vec::new();
    loop {
        taken.push(vec![1_u8; 1 << 20]);
        std::hint::black_box(&taken);
    }
}

/// Grows the memory until the host refuses, and answers with its size in bytes.
fn grow() -> Response {
    #[cfg(target_arch = "wasm32")]
    {
        while core::arch::wasm32::memory_grow(0, 16) != usize::MAX {}
        let pages = core::arch::wasm32::memory_size(0);
        text(200, &(pages as u64 * 65536).to_string())
    }
    #[cfg(not(target_arch = "wasm32"))]
    text(200, "0")
}

fn log(lines: u64, bytes: u64) -> Response {
    let line = "x".repeat(clamp(bytes));
    let mut stderr = std::io::stderr();
    for number in 0..lines {
        let _ = writeln!(stderr, "probe {number} {line}");
    }
    text(200, "logged")
}

fn host_calls(calls: u64) -> Response {
    for _ in 0..calls {
        counters::add("probe_calls", 1);
    }
    text(200, "called")
}

fn body(bytes: u64) -> Response {
    Response {
        status: 200,
        headers: vec![(
            "content-type".to_owned(),
            "application/octet-stream".to_owned(),
        )],
        body: vec![b'b'; clamp(bytes)],
    }
}

fn headers(number: u64) -> Response {
    let mut response = text(200, "headers");
    response
        .headers
        .extend((0..number).map(|number| (format!("x-probe-{number}"), "1".to_owned())));
    response
}

/// One header more, with a value of so many bytes.
fn header_bytes(bytes: u64) -> Response {
    let mut response = text(200, "headers");
    let value = "v".repeat(clamp(bytes));
    response.headers.push(("x-probe".to_owned(), value));
    response
}

/// One header that no HTTP message may hold.
fn bad_header(request: &Request) -> Response {
    let (name, value) = match parameter(request, "kind") {
        Some("newline") => ("x-probe", "a\r\nset-cookie: stolen=1"),
        Some("nul") => ("x-probe", "a\0b"),
        Some("empty-name") => ("", "a"),
        Some("space-name") => ("x probe", "a"),
        Some("newline-name") => ("x-probe\r\nset-cookie", "a"),
        Some("length") => ("content-length", "3"),
        Some("chunked") => ("transfer-encoding", "chunked"),
        Some("connection") => ("connection", "close"),
        _ => ("x-probe", "fine"),
    };
    let mut response = text(200, "bad header");
    response.headers.push((name.to_owned(), value.to_owned()));
    response
}

/// Says a word in the log if it is given one, waits in a host call, then says which
/// revision did.
fn sleep(request: &Request) -> Response {
    if let Some(word) = parameter(request, "say") {
        let _ = writeln!(std::io::stderr(), "probe says {word}");
    }
    let milliseconds = number(request, "ms", 0);
    std::thread::sleep(Duration::from_millis(milliseconds));
    version()
}

/// Sets and gets the key of the query; says what came of each.
fn redis_round(request: &Request) -> Response {
    let key = parameter(request, "key").unwrap_or("session:probe");
    let set = redis::set(key, b"probe", 60, redis::Condition::Always);
    let get = redis::get(key);
    text(200, &format!("set {set:?}\nget {get:?}"))
}

/// Has the Bearer verified and a CSRF cookie issued, so that the host has worked
/// with its keys on behalf of this instance.
fn verify(request: &Request) -> Response {
    let token = request
        .headers
        .iter()
        .find(|(name, _)| name == "authorization")
        .and_then(|(_, value)| value.strip_prefix("Bearer "))
        .unwrap_or_default();
    if let Ok(mut kept) = KEPT.lock() {
        token.clone_into(&mut kept);
    }
    let verdict = match jwt::verify(token, jwt::Usage::Access) {
        Ok(claims) => format!("good {}", claims.token_sha256),
        Err(error) => format!("bad {error:?}"),
    };
    let issued = csrf::issue().is_ok();
    text(
        200,
        &format!("{verdict}\ncsrf {issued}\nready {}", jwt::ready()),
    )
}

fn environment() -> Response {
    let lines: Vec<String> = std::env::vars()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    text(200, &lines.join("\n"))
}

/// What it can reach of the file system and the network: nothing, it is hoped.
fn files() -> Response {
    let read = std::fs::read_dir("/").map(Iterator::count);
    let passwd = std::fs::read("/etc/passwd").map(|bytes| bytes.len());
    let arguments = std::env::args().count();
    text(
        200,
        &format!(
            "root {}\npasswd {}\narguments {arguments}",
            read.is_ok(),
            passwd.is_ok()
        ),
    )
}

pub(crate) fn parameter<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    request
        .query
        .as_deref()?
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find_map(|(given, value)| (given == name).then_some(value))
}

pub(crate) fn number(request: &Request, name: &str, default: u64) -> u64 {
    parameter(request, name)
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

pub(crate) fn clamp(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn saturating(number: u64) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}
