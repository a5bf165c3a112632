//! The admin listener: what runs, since when, and why something does not. What changes
//! anything needs its bearer token, and it answers only to names that are its own, so
//! that a web page cannot reach it through a browser on the same machine (DNS rebinding).

mod gauges;
mod page;
mod plugins;
mod shadow;
mod token;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State as Shared};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HOST, HeaderValue};
use http::uri::Authority;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;

use tower::ServiceExt;

pub use token::{Token, Tokens};

use crate::respond::{self, Fault};
use crate::server::{Handler, RequestBody};
use crate::slot::Slot;
use crate::state::State;

/// What the admin listener can see.
#[derive(Clone)]
pub struct Admin {
    /// Each service with the address it listens on.
    pub services: Vec<(Arc<Slot>, SocketAddr)>,
    /// Whose breakers the metrics show.
    pub state: Arc<State>,
    /// Renders the metrics.
    pub metrics: PrometheusHandle,
    /// The address that this listener was told to bind to.
    pub address: SocketAddr,
    /// Where a candidate is put that is promoted.
    pub plugins_dir: PathBuf,
    /// What a caller must send.
    pub tokens: Tokens,
}

/// The admin listener's answers, for the accept loop.
#[derive(Clone)]
pub struct Answers(Router);

impl Handler for Answers {
    type Body = Body;

    async fn call(&self, _: SocketAddr, request: http::Request<RequestBody>) -> Response {
        let Ok(response) = self.0.clone().oneshot(request.map(Body::new)).await;
        response
    }
}

/// Body of `/livez` and `/readyz`.
#[derive(Serialize)]
struct Condition {
    status: &'static str,
    waiting_for: Vec<String>,
}

/// Sets up the routes of the admin listener.
pub fn answers(admin: Admin) -> Answers {
    let (address, tokens) = (admin.address, admin.tokens.clone());
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .merge(page::routes())
        .merge(plugins::routes())
        .merge(shadow::routes())
        .fallback(async || fault(&Fault::NotFound))
        .method_not_allowed_fallback(async || fault(&Fault::MethodNotAllowed("GET, HEAD")))
        .layer(middleware::from_fn(move |request: Request, next: Next| {
            let refusal = refusal(&request, address, &tokens);
            async move {
                match refusal {
                    None => next.run(request).await,
                    Some(refusal) => fault(&refusal),
                }
            }
        }))
        .with_state(admin);
    Answers(router)
}

async fn livez() -> Response {
    let body = Condition {
        status: "ok",
        waiting_for: Vec::new(),
    };
    sent(respond::json(StatusCode::OK, &body))
}

/// Ready once each service has a component.
async fn readyz(Shared(admin): Shared<Admin>) -> Response {
    let waiting = admin.services.iter().filter(|(slot, _)| !slot.is_ready());
    let waiting_for: Vec<_> = waiting
        .map(|(slot, _)| slot.service().name.clone())
        .collect();
    let (code, status) = if waiting_for.is_empty() {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "waiting")
    };
    sent(respond::json(
        code,
        &Condition {
            status,
            waiting_for,
        },
    ))
}

/// The Prometheus text format, version 0.0.4.
async fn metrics(Shared(admin): Shared<Admin>) -> Response {
    let slots = admin.services.iter().map(|(slot, _)| slot.as_ref());
    gauges::refresh(slots, &admin.state);
    let mut response = Response::new(Body::from(admin.metrics.render()));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// Why a request goes no further. Whoever can reach a loopback address may read; the
/// page's own files hold nothing that is secret, and ask for the token where one is needed.
fn refusal(request: &Request, address: SocketAddr, tokens: &Tokens) -> Option<Fault> {
    if !is_own_name(request, address) {
        return Some(Fault::ForeignHost);
    }
    let public = address.ip().is_loopback() || page::is_of_page(request.uri().path());
    let reads = request.method().is_safe();
    let allowed = public && reads || tokens.allow(request.headers(), reads);
    (!allowed).then_some(Fault::Unauthorized)
}

fn fault(fault: &Fault) -> Response {
    sent(respond::fault(fault, false))
}

fn sent(response: http::Response<Bytes>) -> Response {
    response.map(Body::from)
}

/// True if the request names a loopback address, `localhost` or the configured address; a
/// listener on all addresses takes any address, but no other name.
fn is_own_name(request: &Request, configured: SocketAddr) -> bool {
    let named = request.uri().authority().cloned().or_else(|| {
        let host = request.headers().get(HOST)?;
        host.to_str().ok()?.parse::<Authority>().ok()
    });
    let Some(authority) = named else {
        return false;
    };
    let host = authority
        .host()
        .trim_start_matches('[')
        .trim_end_matches(']');
    match host.parse::<IpAddr>() {
        Ok(address) => {
            let own = configured.ip();
            address.is_loopback() || own.is_unspecified() || address == own
        }
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(host: Option<&str>) -> bool {
        own_of("10.0.0.5:8024", host)
    }

    fn own_of(configured: &str, host: Option<&str>) -> bool {
        let mut request = Request::builder().uri("/plugins");
        if let Some(host) = host {
            request = request.header(HOST, host);
        }
        let request = request.body(Body::empty()).unwrap();
        is_own_name(&request, configured.parse().unwrap())
    }

    #[test]
    fn a_listener_on_all_addresses_is_asked_by_address_only() {
        for (configured, host, answered) in [
            ("0.0.0.0:8024", "10.0.0.6:8024", true),
            ("[::]:8024", "[fd00::6]:8024", true),
            ("0.0.0.0:8024", "localhost", true),
            ("0.0.0.0:8024", "evil.example", false),
            ("0.0.0.0:8024", "10.0.0.6.evil.example", false),
        ] {
            assert_eq!(own_of(configured, Some(host)), answered, "{host}");
        }
        assert!(!own_of("0.0.0.0:8024", None));
    }

    #[test]
    fn only_its_own_names_are_answered() {
        for host in [
            "127.0.0.1:8024",
            "localhost",
            "LOCALHOST:1",
            "[::1]:8024",
            "10.0.0.5:8024",
        ] {
            assert!(own(Some(host)), "{host}");
        }
        for host in [
            "evil.example",
            "10.0.0.6",
            "127.0.0.1.evil.example",
            "",
            "localhost.x",
        ] {
            assert!(!own(Some(host)), "{host}");
        }
        assert!(!own(None));
    }
}
