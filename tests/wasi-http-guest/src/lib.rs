//! A `wasi:http` component as it is written for `wasmtime serve` or Spin, without a word of
//! Lockgate: good answers and every bad conduct, chosen by the path. It must not be used for
//! anything but tests and figures.

use std::sync::atomic::{AtomicU32, Ordering};

use wasip2::cli::environment::get_environment;
use wasip2::clocks::{monotonic_clock, wall_clock};
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingRequest, Method, OutgoingBody, OutgoingRequest, OutgoingResponse,
    ResponseOutparam, Scheme,
};
use wasip2::io::streams::{OutputStream, StreamError};
use wasip2::random::random::get_random_u64;

/// Tests overwrite the number.
static MARK: &str = "lockgate-wasi-http-mark;version=00000001;";

/// Requests of this instance.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// Bytes of a chunk of `/stream`.
const CHUNK: usize = 10_000;

/// The component.
pub struct Component;

impl Guest for Component {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let path = target.split('?').next().unwrap_or_default();
        match path {
            "/hello" => text(out, 200, &hello(&request)),
            "/version" => text(out, 200, &version()),
            "/count" => {
                let count = COUNT.fetch_add(1, Ordering::Relaxed) + 1;
                text(out, 200, &count.to_string());
            }
            "/static" => answer(out, 200, "application/json", STATIC.as_bytes()),
            "/body" => answer(out, 200, "application/octet-stream", &body(&request)),
            "/stream" => stream(out, 100),
            "/large" => stream(out, 1_000),
            "/teapot" => text(out, 418, "short and stout"),
            "/environment" => {
                let pairs = get_environment();
                let lines = pairs
                    .iter()
                    .map(|(name, value)| format!("{name}={value}\n"));
                text(out, 200, &lines.collect::<String>());
            }
            "/folders" => {
                let folders = wasip2::filesystem::preopens::get_directories();
                text(out, 200, &folders.len().to_string());
            }
            "/now" => {
                let now = wall_clock::now();
                let (seconds, nanoseconds) = (now.seconds, now.nanoseconds);
                let since = monotonic_clock::now();
                let random = get_random_u64();
                text(
                    out,
                    200,
                    &format!("{seconds}.{nanoseconds} {since} {random}"),
                );
            }
            "/log" => {
                eprintln!("warning: said by a wasi:http component");
                text(out, 200, "logged");
            }
            "/outgoing" => text(out, 200, &outgoing()),
            "/keeps" => {
                std::mem::forget(Fields::new());
                text(out, 200, "kept");
            }
            other => misbehave(other, out),
        }
    }
}

/// Small, and the same each time.
const STATIC: &str =
    r#"{"status":"ok","service":"static","items":[1,2,3],"text":"the same each time"}"#;

fn misbehave(path: &str, out: ResponseOutparam) {
    match path {
        "/trap" => trap(),
        "/nothing" => {}
        "/loop" => spin(),
        "/sleep" => monotonic_clock::subscribe_duration(3_600_000_000_000).block(),
        "/error" => ResponseOutparam::set(out, Err(ErrorCode::ConfigurationError)),
        "/status" => text(out, 999, "no such status"),
        "/trap-after-head" => {
            begin(out, 200, "text/plain", None);
            trap();
        }
        "/trap-after-all" => {
            text(out, 200, "all was sent");
            trap();
        }
        "/loop-after-all" => {
            text(out, 200, "all was sent");
            spin();
        }
        "/twice" => {
            // SAFETY: it is not: the handle is used twice, which the host has to notice.
            let again = unsafe { ResponseOutparam::from_handle(out.handle()) };
            text(out, 200, "first");
            text(again, 200, "second");
        }
        "/dropped" => {
            let body = begin(out, 200, "text/plain", None);
            write(&body, b"half of it");
        }
        "/open" => {
            let body = begin(out, 200, "text/plain", None);
            write(&body, b"half of it");
            std::mem::forget(body);
        }
        "/short" => {
            let body = begin(out, 200, "text/plain", Some("100"));
            write(&body, b"half of it");
            let _ = OutgoingBody::finish(body, None);
        }
        _ => text(out, 404, "there is nothing here"),
    }
}

/// The request as it came, a line each.
fn hello(request: &IncomingRequest) -> String {
    let method = match request.method() {
        Method::Get => "GET".to_owned(),
        Method::Head => "HEAD".to_owned(),
        Method::Post => "POST".to_owned(),
        Method::Put => "PUT".to_owned(),
        Method::Delete => "DELETE".to_owned(),
        Method::Patch => "PATCH".to_owned(),
        Method::Options => "OPTIONS".to_owned(),
        Method::Other(name) => name,
        _ => "another".to_owned(),
    };
    let path = request.path_with_query().unwrap_or_default();
    let scheme = match request.scheme() {
        Some(Scheme::Http) => "http",
        _ => "another",
    };
    let authority = request.authority().unwrap_or_default();
    let mut text = format!("{method} {path}\n{scheme}://{authority}\n");
    for (name, value) in request.headers().entries() {
        text.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(&value)));
    }
    text
}

fn version() -> String {
    let mark = std::hint::black_box(MARK);
    let (_, rest) = mark.split_once("version=").unwrap_or_default();
    rest.trim_end_matches(';').to_owned()
}

/// The whole body of a request.
fn body(request: &IncomingRequest) -> Vec<u8> {
    let mut bytes = Vec::new();
    let Ok(body) = request.consume() else {
        return bytes;
    };
    if let Ok(stream) = body.stream() {
        while let Ok(more) = stream.blocking_read(64 << 10) {
            bytes.extend(more);
        }
    }
    bytes
}

fn outgoing() -> String {
    let request = OutgoingRequest::new(Fields::new());
    let _ = request.set_scheme(Some(&Scheme::Http));
    let _ = request.set_authority(Some("127.0.0.1:1"));
    let _ = request.set_path_with_query(Some("/"));
    match outgoing_handler::handle(request, None) {
        Err(error) => format!("refused: {error:?}"),
        Ok(future) => {
            future.subscribe().block();
            match future.get() {
                Some(Ok(Ok(response))) => format!("answered: {}", response.status()),
                Some(Ok(Err(error))) => format!("failed: {error:?}"),
                _ => "nothing".to_owned(),
            }
        }
    }
}

fn stream(out: ResponseOutparam, chunks: usize) {
    let body = begin(out, 200, "text/plain", None);
    if let Ok(stream) = body.write() {
        for number in 0..chunks {
            let letter = b'a' + (number % 26) as u8;
            if send(&stream, &[letter; CHUNK]).is_err() {
                break;
            }
        }
    }
    let _ = OutgoingBody::finish(body, None);
}

fn text(out: ResponseOutparam, status: u16, text: &str) {
    answer(out, status, "text/plain", text.as_bytes());
}

fn answer(out: ResponseOutparam, status: u16, of: &str, bytes: &[u8]) {
    let body = begin(out, status, of, Some(&bytes.len().to_string()));
    write(&body, bytes);
    let trailers = Fields::new();
    let _ = trailers.append("x-trailer", b"dropped by the host");
    let _ = OutgoingBody::finish(body, Some(trailers));
}

/// Sends the head; gives the body to write to.
fn begin(out: ResponseOutparam, status: u16, of: &str, length: Option<&str>) -> OutgoingBody {
    let headers = Fields::new();
    let _ = headers.append("content-type", of.as_bytes());
    let _ = headers.append("x-component", b"wasi-http");
    if let Some(length) = length {
        let _ = headers.append("content-length", length.as_bytes());
    }
    let response = OutgoingResponse::new(headers);
    let _ = response.set_status_code(status);
    let body = response.body();
    ResponseOutparam::set(out, Ok(response));
    match body {
        Ok(body) => body,
        Err(()) => trap(),
    }
}

/// Writes the body, or its beginning: its stream can be had once.
fn write(body: &OutgoingBody, bytes: &[u8]) {
    if let Ok(stream) = body.write() {
        let _ = send(&stream, bytes);
    }
}

fn send(stream: &OutputStream, bytes: &[u8]) -> Result<(), StreamError> {
    let mut parts = bytes.chunks(4096);
    parts.try_for_each(|part| stream.blocking_write_and_flush(part))
}

fn trap() -> ! {
    std::process::abort()
}

#[allow(clippy::empty_loop, reason = "that it never ends is its purpose")]
fn spin() -> ! {
    loop {
        std::hint::black_box(());
    }
}

#[cfg(target_arch = "wasm32")]
wasip2::http::proxy::export!(Component);
