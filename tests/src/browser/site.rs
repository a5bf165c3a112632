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
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::passage;
use crate::host::{Host, Service};
use crate::http;
use crate::ports::Ports;

const LOGIN_COOKIES: [&str; 4] = ["access_token", "refresh_token", "auth_token", "csrf_token"];
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
    holds: mpsc::Sender<Hold>,
}

/// A page that waits. It goes on when this is dropped.
#[derive(Debug)]
pub struct Hold(oneshot::Sender<()>);

impl Hold {
    /// Lets the page go on.
    pub fn go_on(self) {
        // Fails if the page has been left meanwhile.
        let _ = self.0.send(());
    }
}

/// The origin. Dropping it closes the port.
#[derive(Debug)]
pub struct Site {
    ports: Ports,
    shared: Arc<Shared>,
    acts: mpsc::Sender<Next>,
    reports: tokio::sync::Mutex<mpsc::Receiver<Value>>,
    holds: tokio::sync::Mutex<mpsc::Receiver<Hold>>,
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
        let (hold, holds) = mpsc::channel(1);
        let shared = Arc::new(Shared {
            client: http::client(),
            services: Service::ALL.map(|s| (s, host.port(s))).into(),
            record: Mutex::default(),
            acts: tokio::sync::Mutex::new(next),
            reports: done,
            holds: hold,
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self {
            ports,
            shared,
            acts,
            reports: tokio::sync::Mutex::new(reports),
            holds: tokio::sync::Mutex::new(holds),
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

    /// Waits until the page has come to its next step `hold`.
    pub async fn held(&self) -> Hold {
        self.holds
            .lock()
            .await
            .recv()
            .await
            .expect("the origin runs")
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
                .with_upgrades()
                .await;
        });
    }
}

pub(super) type Answer = Response<Full<Bytes>>;

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
            "/stage/chat.js" => page("text/javascript", include_str!("../../browser/chat.js")),
            "/stage/play.js" => page("text/javascript", include_str!("../../browser/play.js")),
            "/stage/next" => self.next().await,
            "/stage/report" => self.report(request).await,
            "/stage/hold" => self.hold().await,
            "/ws/chat" => self.socket(peer, request).await,
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
        let body = collect(request.into_body()).await?;
        let report = serde_json::from_slice(&body)?;
        let _ = self.reports.send(report).await;
        Ok(answer(204, "text/plain", ""))
    }

    async fn hold(&self) -> io::Result<Answer> {
        let (hold, released) = oneshot::channel();
        let _ = self.holds.send(Hold(hold)).await;
        // Released, or dropped: both let the page go on.
        let _ = released.await;
        Ok(answer(204, "text/plain", ""))
    }

    /// A socket of the gateway, through this origin.
    async fn socket(&self, peer: SocketAddr, request: Request<Incoming>) -> io::Result<Answer> {
        let (parts, body) = request.into_parts();
        let at = self.begin(&parts, Bytes::new());
        let gateway = self.services[&Service::Gateway];
        let request = Request::from_parts(parts, body);
        let answer = passage::open(gateway, peer, request).await?;
        self.end(at, &answer);
        Ok(answer)
    }

    async fn api(&self, peer: SocketAddr, request: Request<Incoming>) -> io::Result<Answer> {
        let (parts, body) = request.into_parts();
        let body = collect(body).await?;
        let at = self.begin(&parts, body.clone());
        let path = parts.uri.path();
        let instead = self.record().instead.get(path).cloned();
        let answer = match instead {
            Some(Reply::Silence) => std::future::pending().await,
            Some(Reply::Cut) => return Err(io::ErrorKind::ConnectionReset.into()),
            Some(Reply::Answer(status, kind, body)) => answer(status, kind, body),
            None => match passage::owner(&parts.method, path) {
                Some(service) => {
                    let port = self.services[&service];
                    passage::forward(&self.client, port, peer, parts, body).await?
                }
                None => self.main_api(path),
            },
        };
        self.end(at, &answer);
        Ok(answer)
    }

    /// Writes a request down; gives its number.
    fn begin(&self, parts: &Parts, body: Bytes) -> u64 {
        let mut record = self.record();
        record.count += 1;
        let begun = record.count;
        record.seen.push(Seen {
            method: parts.method.to_string(),
            path: parts.uri.to_string(),
            headers: parts.headers.clone(),
            body,
            begun,
            ended: None,
            answer: None,
        });
        begun
    }

    fn end(&self, begun: u64, answer: &Answer) {
        let mut record = self.record();
        record.count += 1;
        let ended = record.count;
        if let Some(seen) = record.seen.iter_mut().find(|seen| seen.begun == begun) {
            seen.ended = Some(ended);
            seen.answer = Some((answer.status().as_u16(), answer.headers().clone()));
        }
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

async fn collect(body: Incoming) -> io::Result<Bytes> {
    let body = body.collect().await;
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
