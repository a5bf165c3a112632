//! The reverse proxy of the origin: passes requests and sockets on to a service, with
//! the forwarding headers that deployments set, and knows whose each path is.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;

use super::site::Answer;
use crate::host::Service;

/// They belong to one connection (RFC 9110 section 7.6.1).
const HOP_BY_HOP: [&str; 5] = [
    "connection",
    "keep-alive",
    "transfer-encoding",
    "content-length",
    "host",
];

/// Whose a path is at the reverse proxy; none means the main API.
pub(super) fn owner(method: &Method, path: &str) -> Option<Service> {
    let under = |prefix: &str| path.starts_with(prefix);
    match path {
        "/api/v1/session/validate"
        | "/api/v1/session/info"
        | "/api/v1/session/normalize"
        | "/api/v1/session/health" => Some(Service::Session),
        "/api/v1/health/integration" => Some(Service::Coordinator),
        "/api/v1/auth/logout" if method == Method::POST => Some(Service::Coordinator),
        _ if under("/api/v1/jwt/") => Some(Service::Jwt),
        _ if under("/api/v1/fallback/") => Some(Service::Fallback),
        _ if under("/api/v1/ws-auth/") => Some(Service::Gateway),
        _ if under("/api/v1/coordinator/") => Some(Service::Coordinator),
        _ => None,
    }
}

/// Passes a request on to a port of this machine.
pub(super) async fn forward(
    client: &reqwest::Client,
    port: u16,
    peer: SocketAddr,
    mut parts: Parts,
    body: Bytes,
) -> io::Result<Answer> {
    forwarded(peer, &mut parts.headers)?;
    cut_hop_by_hop(&mut parts.headers);
    let url = format!("http://127.0.0.1:{port}{}", parts.uri);
    let sent = client.request(parts.method, url).headers(parts.headers);
    let mut got = sent.body(body).send().await.map_err(io::Error::other)?;
    let (status, mut headers) = (got.status(), std::mem::take(got.headers_mut()));
    let body = got.bytes().await.map_err(io::Error::other)?;
    cut_hop_by_hop(&mut headers);
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    *answer.headers_mut() = headers;
    Ok(answer)
}

/// Passes a handshake on, and then every byte of both sides until one of them ends.
pub(super) async fn open(
    port: u16,
    peer: SocketAddr,
    mut request: Request<Incoming>,
) -> io::Result<Answer> {
    let page = hyper::upgrade::on(&mut request);
    let (parts, _) = request.into_parts();
    let mut onward = Request::new(Empty::<Bytes>::new());
    *onward.uri_mut() = parts.uri;
    *onward.headers_mut() = parts.headers;
    forwarded(peer, onward.headers_mut())?;
    let address = format!("127.0.0.1:{port}");
    let host = HeaderValue::from_str(&address).map_err(io::Error::other)?;
    onward.headers_mut().insert("host", host);

    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(io::Error::other)?;
    tokio::spawn(connection.with_upgrades());
    let mut got = sender
        .send_request(onward)
        .await
        .map_err(io::Error::other)?;
    let service = hyper::upgrade::on(&mut got);
    let (parts, body) = got.into_parts();
    if parts.status != StatusCode::SWITCHING_PROTOCOLS {
        let body = body.collect().await.map_err(io::Error::other)?;
        return Ok(Response::from_parts(parts, Full::new(body.to_bytes())));
    }
    tokio::spawn(async move {
        let (Ok(page), Ok(service)) = tokio::join!(page, service) else {
            return;
        };
        // An error is a side that has gone without a word.
        let _ = copy_bidirectional(&mut TokioIo::new(page), &mut TokioIo::new(service)).await;
    });
    Ok(Response::from_parts(parts, Full::default()))
}

/// Replaces `X-Forwarded-For` and adds the other forwarding headers.
fn forwarded(peer: SocketAddr, headers: &mut HeaderMap) -> io::Result<()> {
    let peer = HeaderValue::from_str(&peer.ip().to_string()).map_err(io::Error::other)?;
    headers.insert("x-forwarded-for", peer.clone());
    headers.insert("x-real-ip", peer);
    headers.insert("x-forwarded-proto", HeaderValue::from_static("http"));
    if let Some(host) = headers.get("host").cloned() {
        headers.insert("x-forwarded-host", host);
    }
    Ok(())
}

fn cut_hop_by_hop(headers: &mut HeaderMap) {
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}
