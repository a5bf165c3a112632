//! From a request to its handler: exact paths, 404, 405 with `Allow`, HEAD. It knows
//! no endpoint.

use crate::answer::{Answer, Fault};
use crate::host::Host;
use crate::http::Request;

/// What answers a request.
pub type Handler<H> = fn(&H, &Request) -> Answer;

/// One verb on one path.
pub struct Route<H> {
    method: &'static str,
    path: &'static str,
    handler: Handler<H>,
}

impl<H> Route<H> {
    /// GET, and HEAD with it.
    pub const fn get(path: &'static str, handler: Handler<H>) -> Self {
        Self {
            method: "GET",
            path,
            handler,
        }
    }

    /// POST.
    pub const fn post(path: &'static str, handler: Handler<H>) -> Self {
        Self {
            method: "POST",
            path,
            handler,
        }
    }

    /// `GET /path`, for findings.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// Answers one request with the route that fits, or with 404 or 405. The answer to HEAD
/// is that to GET (RFC 9110 section 9.3.2): the host takes the body away and leaves its
/// length.
pub fn serve<H: Host>(host: &H, routes: &[Route<H>], request: &Request) -> Answer {
    let method = match request.method() {
        "HEAD" => "GET",
        method => method,
    };
    let found = routes
        .iter()
        .find(|r| r.path == request.path() && r.method == method);
    match found {
        Some(route) => (route.handler)(host, request),
        None => unrouted(&allowed(routes, request.path())),
    }
}

fn unrouted(allowed: &[&'static str]) -> Answer {
    if allowed.is_empty() {
        return Answer::fault(Fault::NotFound, false);
    }
    // RFC 9110 section 10.2.1
    Answer::fault(Fault::MethodNotAllowed, false).header("allow", &allowed.join(", "))
}

fn allowed<H>(routes: &[Route<H>], path: &str) -> Vec<&'static str> {
    let mut verbs = Vec::new();
    for route in routes.iter().filter(|route| route.path == path) {
        verbs.push(route.method);
        if route.method == "GET" {
            verbs.push("HEAD");
        }
    }
    verbs
}
