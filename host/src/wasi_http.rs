//! One request by the contract `wasi-http`: what was read of it becomes a resource of the
//! guest, and what the guest streams becomes a response again, collected and checked. The
//! call has to end well: an answer of a guest that fails afterwards is none.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use http::header::{HOST, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http_body_util::{BodyExt, Full};
use tokio::sync::oneshot;
use wasmtime::Store;
use wasmtime_wasi_http::p2::bindings::Proxy;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme as GuestScheme};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use crate::bindings::lockgate::plugin::types::Request;
use crate::config::Limits;
use crate::response::{self, BadResponse};
use crate::sandbox::HostData;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What the guest sets.
type Set = Result<http::Response<HyperOutgoingBody>, ErrorCode>;

/// Why there is no answer.
pub enum Failure {
    /// The call failed.
    Call(wasmtime::Error),
    /// The call ended well, and what it gave cannot be sent.
    Answer(BadResponse),
}

impl From<wasmtime::Error> for Failure {
    fn from(error: wasmtime::Error) -> Failure {
        Failure::Call(error)
    }
}

/// Has the guest answer one request. The future must not be dropped before its end.
///
/// # Errors
/// [`Failure`]: it has not, or not so that it can be sent.
pub async fn call(
    store: &mut Store<HostData>,
    guest: &Proxy,
    request: &Request,
    request_id: &str,
    limits: &Limits,
) -> Result<http::Response<Bytes>, Failure> {
    let (sender, receiver) = oneshot::channel();
    let mut http = store.data_mut().http();
    let incoming = incoming(request, request_id);
    let incoming = http.new_incoming_request(GuestScheme::Http, incoming)?;
    let out = http.new_response_outparam(sender)?;
    let begun = AtomicBool::new(false);
    let handler = guest.wasi_http_incoming_handler();
    let mut call = pin!(handler.call_handle(store, incoming, out));
    // What the guest has written is there at once: no budget of the runtime may hide it.
    let collecting = collect(receiver, &begun, request.method == "HEAD", limits);
    let mut collecting = pin!(tokio::task::coop::unconstrained(collecting));
    let mut answer = None;
    // The guest waits while nobody takes what it writes, so both run by turns.
    let called = poll_fn(|cx| {
        let called = call.as_mut().poll(cx);
        if answer.is_none()
            && let Poll::Ready(collected) = collecting.as_mut().poll(cx)
        {
            answer = Some(collected);
        }
        called
    });
    called.await?;
    let nothing_more = match begun.load(Ordering::Relaxed) {
        true => BadResponse::Unfinished,
        false => BadResponse::Missing,
    };
    answer.unwrap_or(Err(nothing_more)).map_err(Failure::Answer)
}

/// The request as the guest sees it: with the host's id for it, and with an authority even
/// if the client sent none (RFC 9112 section 3.2).
fn incoming(request: &Request, request_id: &str) -> http::Request<Full<Bytes>> {
    let mut incoming = http::Request::new(Full::new(Bytes::from(request.body.clone())));
    if let Ok(method) = http::Method::from_bytes(request.method.as_bytes()) {
        *incoming.method_mut() = method;
    }
    for (name, value) in &request.headers {
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::from_str(value),
        ) {
            incoming.headers_mut().append(name, value);
        }
    }
    if let Ok(id) = HeaderValue::from_str(request_id) {
        incoming.headers_mut().insert(REQUEST_ID, id);
    }
    let host = incoming.headers().get(HOST);
    let authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let target = match &request.query {
        Some(query) => format!("{}?{query}", request.path),
        None => request.path.clone(),
    };
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(Scheme::HTTP);
    uri.authority = Some(authority.unwrap_or_else(|| Authority::from_static("localhost")));
    uri.path_and_query =
        Some(PathAndQuery::try_from(target).unwrap_or_else(|_| PathAndQuery::from_static("/")));
    *incoming.uri_mut() = http::Uri::from_parts(uri).unwrap_or_default();
    incoming
}

/// The answer once it is whole. Trailers are dropped. An answer over its limit is given up,
/// and the guest finds its stream closed.
async fn collect(
    receiver: oneshot::Receiver<Set>,
    begun: &AtomicBool,
    head_only: bool,
    limits: &Limits,
) -> Result<http::Response<Bytes>, BadResponse> {
    let set = receiver.await.map_err(|_| BadResponse::Missing)?;
    begun.store(true, Ordering::Relaxed);
    let (head, mut body) = set
        .map_err(|code| BadResponse::Error(name(&code)))?
        .into_parts();
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            // For HEAD a guest names the length of a body that it does not write.
            if head_only {
                bytes.clear();
                break;
            }
            return Err(BadResponse::Unfinished);
        };
        if let Ok(data) = frame.into_data() {
            let total = bytes.len().saturating_add(data.len());
            if total > limits.response_body {
                return Err(BadResponse::Body(total));
            }
            bytes.extend_from_slice(&data);
        }
    }
    response::checked(head, bytes.freeze(), limits)
}

/// The name of a code without what the guest has written into it.
fn name(code: &ErrorCode) -> String {
    let text = format!("{code:?}");
    let name = text.rsplit("::").next().unwrap_or_default();
    let end = name.find(|c: char| !c.is_alphanumeric());
    name.get(..end.unwrap_or(name.len()))
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bindings::lockgate::plugin::types::{Caller, Origin};

    fn request(path: &str, headers: &[(&str, &str)]) -> Request {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Request {
            method: "PURGE".to_owned(),
            path: path.to_owned(),
            query: Some("a=b".to_owned()),
            headers: headers.iter().map(pair).collect(),
            body: b"body".to_vec(),
            caller: Caller {
                address: "192.0.2.1".to_owned(),
                origin: Origin::Absent,
                service: false,
            },
            extensions: Vec::new(),
        }
    }

    #[test]
    fn a_request_is_handed_on_as_it_came() {
        let headers = [
            ("host", "a.example:80"),
            ("x", "1"),
            ("x", "2"),
            ("x-request-id", "b"),
        ];
        let made = incoming(&request("/p", &headers), "id-1");
        assert_eq!(made.method(), "PURGE");
        assert_eq!(made.uri(), "http://a.example:80/p?a=b");
        let values: Vec<_> = made.headers().get_all("x").iter().collect();
        assert_eq!(values, ["1", "2"]);
        assert_eq!(made.headers()["x-request-id"], "id-1");
    }

    #[test]
    fn what_is_no_url_still_has_an_authority_and_a_path() {
        let host = |text: &str| {
            incoming(&request("/", &[("host", text)]), "i")
                .uri()
                .clone()
        };
        assert_eq!(host("no host"), "http://localhost/?a=b");
        assert_eq!(host("\u{e9}.example"), "http://localhost/?a=b");
        assert_eq!(
            incoming(&request("/", &[]), "i").uri(),
            "http://localhost/?a=b"
        );
        let odd = incoming(&request("\u{0}", &[]), "i");
        assert_eq!(odd.uri(), "http://localhost/");
    }

    #[test]
    fn a_code_is_named_without_the_words_of_the_guest() {
        let secret = ErrorCode::InternalError(Some("eyJ.secret".to_owned()));
        assert_eq!(name(&secret), "InternalError");
        assert_eq!(name(&ErrorCode::ConfigurationError), "ConfigurationError");
    }
}
