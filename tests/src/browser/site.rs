//! One origin as users have it: the page, the paths of the services behind a reverse
//! proxy, and a double of the main API. It writes down what it was asked, and can
//! answer in the place of whoever is behind it.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::host::{Host, Service};
use crate::http;
use crate::ports::Ports;

const LOGIN_COOKIES: [&str; 4] = ["access_token", "refresh_token", "auth_token", "csrf_token"];
/// They belong to one connection (RFC 9110 section 7.6.1).
const HOP_BY_HOP: [&str; 5] = [
    "connection",
    "keep-alive",
    "transfer-encoding",
    "content-length",
    "host",
];

/// An answer in the place of the real one.
#[derive(Debug, Clone)]
pub enum Reply {
    /// Status, content type and body.
    Answer(u16, &'static str, String),
    /// None ever comes, but the connection stays open.
    Silence,
    /// The connection is closed without one.
    Cut,
}

impl Reply {
    /// A JSON answer.
    pub fn json(status: u16, body: &Value) -> Self {
        Self::Answer(status, "application/json", body.to_string())
    }
}

/// A request to a service or to the main API.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Verb.
    pub method: String,
    /// Path with its query.
    pub path: String,
    /// As the browser sent them.
    pub headers: HeaderMap,
    /// As the browser sent it.
    pub body: Bytes,
    /// Counts the beginnings and ends of all requests.
    pub begun: u64,
    /// When it was answered, by the same count; none if it was not.
    pub ended: Option<u64>,
    /// The answer's status and headers.
    pub answer: Option<(u16, HeaderMap)>,
}

#[derive(Debug)]
struct Next {
    act: Value,
    fresh: bool,
    cookies: Vec<(String, String)>,
}

#[derive(Debug, Default)]
struct Record {
    count: u64,
    seen: Vec<Seen>,
    instead: BTreeMap<String, Reply>,
    login: Vec<(String, String)>,
}

#[derive(Debug)]
struct Shared {
    client: reqwest::Client,
    services: BTreeMap<Service, u16>,
    record: Mutex<Record>,
    acts: tokio::sync::Mutex<mpsc::Receiver<Next>>,
    reports: mpsc::Sender<Value>,
}

/// The origin. Dropping it closes the port.
#[derive(Debug)]
pub struct Site {
    ports: Ports,
    shared: Arc<Shared>,
    acts: mpsc::Sender<Next>,
    reports: tokio::sync::Mutex<mpsc::Receiver<Value>>,
    task: JoinHandle<()>,
}

impl Site {
    /// Listens on a port of its own, before the services of a host.
    pub async fn start(host: &Host) -> Self {
        let ports = Ports::take();
        let listener = TcpListener::bind(("127.0.0.1", ports.at(0)))
            .await
            .expect("bind the origin's port");
        let (acts, next) = mpsc::channel(1);
        let (done, reports) = mpsc::channel(1);
        let shared = Arc::new(Shared {
            client: http::client(),
            services: Service::ALL.map(|s| (s, host.port(s))).into(),
            record: Mutex::default(),
            acts: tokio::sync::Mutex::new(next),
            reports: done,
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self {
            ports,
            shared,
            acts,
            reports: tokio::sync::Mutex::new(reports),
            task,
        }
    }

    /// A URL of this origin.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.ports.at(0))
    }

    /// From now on this is answered at a path, whoever owns it.
    pub fn replace(&self, path: &str, reply: Reply) {
        self.shared.record().instead.insert(path.to_owned(), reply);
    }

    /// From now on the owners answer again.
    pub fn restore(&self) {
        self.shared.record().instead.clear();
    }

    /// The cookies that the main API's login sets.
    pub fn login_gives(&self, cookies: &[(&str, &str)]) {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        self.shared.record().login = cookies.iter().map(owned).collect();
    }

    /// What was asked since [`Site::forget`].
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.record().seen.clone()
    }

    /// Forgets what was asked.
    pub fn forget(&self) {
        self.shared.record().seen.clear();
    }

    /// Hands an act to the browser and waits for its report.
    pub(super) async fn play(
        &self,
        act: Value,
        fresh: bool,
        cookies: Vec<(String, String)>,
    ) -> Value {
        let next = Next {
            act,
            fresh,
            cookies,
        };
        self.acts.send(next).await.expect("the origin runs");
        let mut reports = self.reports.lock().await;
        reports.recv().await.expect("the origin runs")
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            continue;
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let serve = service_fn(move |request| Arc::clone(&shared).serve(peer, request));
            // An error is a browser that has gone, or an answer that a test has cut.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), serve)
                .await;
        });
    }
}

type Answer = Response<Full<Bytes>>;

impl Shared {
    fn record(&self) -> std::sync::MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(
        self: Arc<Self>,
        peer: SocketAddr,
        request: Request<Incoming>,
    ) -> io::Result<Answer> {
        let page = |kind: &str, text: &'static str| Ok(answer(200, kind, text));
        match request.uri().path() {
            "/" => page("text/html", include_str!("../../browser/front_end.html")),
            "/stage" => page("text/html", include_str!("../../browser/stage.html")),
            "/stage/front_end.js" => page(
                "text/javascript",
                include_str!("../../browser/front_end.js"),
            ),
            "/stage/play.js" => page("text/javascript", include_str!("../../browser/play.js")),
            "/stage/next" => self.next().await,
            "/stage/report" => self.report(request).await,
            path if path.starts_with("/api/") || path.starts_with("/auth/") => {
                self.api(peer, request).await
            }
            _ => Ok(answer(404, "text/plain", "")),
        }
    }

    /// Held until there is an act; the answer sets its cookies.
    async fn next(&self) -> io::Result<Answer> {
        let mut acts = self.acts.lock().await;
        let next = acts.recv().await.ok_or(io::ErrorKind::BrokenPipe)?;
        let mut answer = answer(200, "application/json", next.act.to_string());
        if next.fresh {
            for name in LOGIN_COOKIES {
                set_cookie(
                    &mut answer,
                    &format!("{name}=; Path=/; Max-Age=0; SameSite=Lax"),
                );
            }
        }
        for (name, value) in &next.cookies {
            login_cookie(&mut answer, name, value);
        }
        Ok(answer)
    }

    async fn report(&self, request: Request<Incoming>) -> io::Result<Answer> {
        let body = collect(request).await?;
        let report = serde_json::from_slice(&body)?;
        let _ = self.reports.send(report).await;
        Ok(answer(204, "text/plain", ""))
    }

    async fn api(&self, peer: SocketAddr, request: Request<Incoming>) -> io::Result<Answer> {
        let path = request.uri().path().to_owned();
        let target = request.uri().to_string();
        let (method, headers) = (request.method().clone(), request.headers().clone());
        let body = collect(request).await?;
        let (at, instead) = {
            let mut record = self.record();
            record.count += 1;
            let begun = record.count;
            record.seen.push(Seen {
                method: method.to_string(),
                path: target.clone(),
                headers: headers.clone(),
                body: body.clone(),
                begun,
                ended: None,
                answer: None,
            });
            (begun, record.instead.get(&path).cloned())
        };
        let answer = match instead {
            Some(Reply::Silence) => std::future::pending().await,
            Some(Reply::Cut) => return Err(io::ErrorKind::ConnectionReset.into()),
            Some(Reply::Answer(status, kind, body)) => answer(status, kind, body),
            None => match owner(&method, &path) {
                Some(service) => {
                    self.forward(service, peer, method, &target, headers, body)
                        .await?
                }
                None => self.main_api(&path),
            },
        };
        let mut record = self.record();
        record.count += 1;
        let ended = record.count;
        if let Some(seen) = record.seen.iter_mut().find(|seen| seen.begun == at) {
            seen.ended = Some(ended);
            seen.answer = Some((answer.status().as_u16(), answer.headers().clone()));
        }
        Ok(answer)
    }

    /// Replaces `X-Forwarded-For` and adds the other forwarding headers.
    async fn forward(
        &self,
        service: Service,
        peer: SocketAddr,
        method: Method,
        target: &str,
        mut headers: HeaderMap,
        body: Bytes,
    ) -> io::Result<Answer> {
        let host = headers.get("host").cloned();
        for name in HOP_BY_HOP {
            headers.remove(name);
        }
        let peer = HeaderValue::from_str(&peer.ip().to_string()).map_err(io::Error::other)?;
        headers.insert("x-forwarded-for", peer.clone());
        headers.insert("x-real-ip", peer);
        headers.insert("x-forwarded-proto", HeaderValue::from_static("http"));
        if let Some(host) = host {
            headers.insert("x-forwarded-host", host);
        }
        let url = format!("http://127.0.0.1:{}{target}", self.services[&service]);
        let sent = self.client.request(method, url).headers(headers).body(body);
        let mut got = sent.send().await.map_err(io::Error::other)?;
        let (status, mut headers) = (got.status(), std::mem::take(got.headers_mut()));
        let body = got.bytes().await.map_err(io::Error::other)?;
        for name in HOP_BY_HOP {
            headers.remove(name);
        }
        let mut answer = Response::new(Full::new(body));
        *answer.status_mut() = status;
        *answer.headers_mut() = headers;
        Ok(answer)
    }

    /// Knows nobody, and lets everybody log in.
    fn main_api(&self, path: &str) -> Answer {
        match path {
            "/api/v1/auth/validate" => {
                answer(401, "application/json", r#"{"detail":"Not authenticated"}"#)
            }
            "/auth/login" => {
                let mut answer = answer(200, "application/json", "{}");
                for (name, value) in &self.record().login {
                    login_cookie(&mut answer, name, value);
                }
                answer
            }
            _ => answer(404, "application/json", "{}"),
        }
    }
}

/// Whose a path is at the reverse proxy; none means the main API.
fn owner(method: &Method, path: &str) -> Option<Service> {
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

async fn collect(request: Request<Incoming>) -> io::Result<Bytes> {
    let body = request.into_body().collect().await;
    Ok(body.map_err(io::Error::other)?.to_bytes())
}

fn answer(status: u16, kind: &str, body: impl Into<Bytes>) -> Answer {
    let answer = Response::builder()
        .status(status)
        .header("content-type", kind)
        .header("cache-control", "no-store");
    answer.body(Full::new(body.into())).expect("an answer")
}

fn login_cookie(answer: &mut Answer, name: &str, value: &str) {
    set_cookie(
        answer,
        &format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax"),
    );
}

fn set_cookie(answer: &mut Answer, line: &str) {
    let value = HeaderValue::from_str(line).expect("a cookie of visible characters");
    let name = HeaderName::from_static("set-cookie");
    answer.headers_mut().append(name, value);
}
