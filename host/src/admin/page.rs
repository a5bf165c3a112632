//! `/`: a page that shows what `/plugins` and `/metrics` say, and sends orders. Its three
//! files hold no data of the host, so they need no token; what they ask for does.

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use axum::routing::get;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};

use super::Admin;

/// Paths, content types and texts of the files.
const FILES: [(&str, &str, &str); 3] = [
    (
        "/",
        "text/html; charset=utf-8",
        include_str!("page/page.html"),
    ),
    (
        "/page.css",
        "text/css; charset=utf-8",
        include_str!("page/page.css"),
    ),
    (
        "/page.js",
        "text/javascript; charset=utf-8",
        include_str!("page/page.js"),
    ),
];

/// Only its own files, and requests to its own origin; in nobody's frame (Content
/// Security Policy Level 3). `data:` is for the icon that it does not have.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
                      connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// The routes of this file.
pub(super) fn routes() -> Router<Admin> {
    let route = |router: Router<Admin>, (path, kind, text)| {
        router.route(path, get(async move || file(kind, text)))
    };
    FILES.into_iter().fold(Router::new(), route)
}

/// True for the paths of the page's own files.
pub(super) fn is_of_page(path: &str) -> bool {
    FILES.iter().any(|(own, ..)| *own == path)
}

fn file(kind: &'static str, text: &'static str) -> Response {
    let mut response = Response::new(Body::from(text));
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
