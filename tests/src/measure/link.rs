//! One keep-alive connection of a client, and requests that know what a right answer
//! is. It opens the connection again when it was closed; it measures nothing.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, HOST, HeaderName, HeaderValue};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::http::HANG;

/// The header by which the host's log names a request.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A request that is made once and sent often, and what its answer must be.
#[derive(Debug, Clone)]
pub(crate) struct Shot {
    request: Request<Full<Bytes>>,
    statuses: Vec<u16>,
    holds: Vec<Vec<u8>>,
}

impl Shot {
    /// A GET request whose answer must be 200.
    pub(crate) fn get(path: &str) -> Self {
        Self::new(Method::GET, path, Bytes::new())
    }

    /// A POST request of JSON whose answer must be 200.
    pub(crate) fn post(path: &str, body: &serde_json::Value) -> Self {
        let mut shot = Self::new(Method::POST, path, body.to_string().into());
        let json = HeaderValue::from_static("application/json");
        shot.request.headers_mut().insert(CONTENT_TYPE, json);
        shot
    }

    fn new(method: Method, path: &str, body: Bytes) -> Self {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "127.0.0.1")
            .body(Full::new(body))
            .expect("a request");
        Self {
            request,
            statuses: vec![200],
            holds: Vec::new(),
        }
    }

    /// With `Authorization: Bearer`.
    pub(crate) fn bearer(self, token: &str) -> Self {
        self.header(AUTHORIZATION, &format!("Bearer {token}"))
    }

    /// With the cookie of the front end.
    pub(crate) fn cookie(self, token: &str) -> Self {
        self.header(COOKIE, &format!("access_token={token}"))
    }

    /// With a header.
    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> Self {
        let value = HeaderValue::from_str(value).expect("a header value");
        self.request.headers_mut().insert(name, value);
        self
    }

    /// The right answer has this status.
    pub(crate) fn status(self, status: u16) -> Self {
        self.any_of(&[status])
    }

    /// The right answer has one of these.
    pub(crate) fn any_of(mut self, statuses: &[u16]) -> Self {
        self.statuses = statuses.to_vec();
        self
    }

    /// The right answer's body holds this text.
    pub(crate) fn holds(mut self, text: &str) -> Self {
        self.holds.push(text.as_bytes().to_vec());
        self
    }

    /// Is this the right answer?
    pub(crate) fn judge(&self, answer: Result<Answer, Loss>) -> Result<(), Loss> {
        let answer = answer?;
        if !self.statuses.contains(&answer.status) {
            return Err(Loss::Status(answer.status, answer.start()));
        }
        let holds = |part: &Vec<u8>| answer.body.windows(part.len()).any(|at| at == part);
        match self.holds.iter().all(holds) {
            true => Ok(()),
            false => Err(Loss::Body(answer.start())),
        }
    }
}

/// What came back.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// Status code.
    pub(crate) status: u16,
    /// The whole body.
    pub(crate) body: Bytes,
}

impl Answer {
    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn start(&self) -> String {
        self.text().chars().take(200).collect()
    }
}

/// How a request did not get its right answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Loss {
    /// There was no connection.
    Refused(String),
    /// The connection was closed without any byte of an answer. On a connection that
    /// was kept alive the host may never have seen the request.
    Closed(String),
    /// The connection was closed inside an answer.
    Cut(String),
    /// No answer came in [`HANG`].
    Silent,
    /// An answer of another status, and how its body begins.
    Status(u16, String),
    /// The status is right; the body is not.
    Body(String),
}

impl Loss {
    /// A few words for a table.
    pub(crate) fn kind(&self) -> String {
        match self {
            Self::Refused(_) => "no connection".to_owned(),
            Self::Closed(_) => "closed without an answer".to_owned(),
            Self::Cut(_) => "closed inside an answer".to_owned(),
            Self::Silent => "no answer".to_owned(),
            Self::Status(status, _) => format!("status {status}"),
            Self::Body(_) => "wrong body".to_owned(),
        }
    }
}

/// A connection that is opened when it is needed.
#[derive(Debug)]
pub(crate) struct Link {
    port: u16,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Link {
    /// A link to a port of this machine; nothing is opened yet.
    pub(crate) fn new(port: u16) -> Self {
        Self { port, sender: None }
    }

    /// Sends a request under an id and judges the answer.
    pub(crate) async fn send(&mut self, shot: &Shot, id: &str) -> Result<(), Loss> {
        let answer = self.exchange(shot, id).await;
        shot.judge(answer)
    }

    /// Sends a request under an id; any answer is one.
    pub(crate) async fn exchange(&mut self, shot: &Shot, id: &str) -> Result<Answer, Loss> {
        let mut request = shot.request.clone();
        let id = HeaderValue::from_str(id).expect("a plain id");
        request.headers_mut().insert(REQUEST_ID, id);
        match tokio::time::timeout(HANG, self.round(request)).await {
            Ok(answer) => answer,
            Err(_) => {
                self.sender = None;
                Err(Loss::Silent)
            }
        }
    }

    async fn round(&mut self, mut request: Request<Full<Bytes>>) -> Result<Answer, Loss> {
        // A connection that was closed between two requests costs a second try, as with
        // any client; the request has not left this process then.
        for last in [false, true] {
            let sender = self.sender().await?;
            match sender.try_send_request(request).await {
                Ok(response) => {
                    let status = response.status().as_u16();
                    let body = response.into_body().collect().await;
                    let body = body.map_err(|error| Loss::Cut(words(&error)))?.to_bytes();
                    return Ok(Answer { status, body });
                }
                Err(mut error) => {
                    self.sender = None;
                    match error.take_message() {
                        Some(unsent) if !last => request = unsent,
                        _ => return Err(Loss::Closed(words(error.error()))),
                    }
                }
            }
        }
        unreachable!("the last try returns")
    }

    async fn sender(&mut self) -> Result<&mut SendRequest<Full<Bytes>>, Loss> {
        let open = match &mut self.sender {
            Some(sender) => sender.ready().await.is_ok(),
            None => false,
        };
        if !open {
            let refused = |error: &dyn std::error::Error| Loss::Refused(words(error));
            let stream = TcpStream::connect(("127.0.0.1", self.port)).await;
            let stream = stream.map_err(|error| refused(&error))?;
            stream.set_nodelay(true).map_err(|error| refused(&error))?;
            let (sender, connection) = handshake(TokioIo::new(stream))
                .await
                .map_err(|error| refused(&error))?;
            tokio::spawn(connection);
            self.sender = Some(sender);
        }
        Ok(self.sender.as_mut().expect("it was opened"))
    }
}

fn words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}

/// Asks again and again until the answer is right; gives up after the guard.
pub(crate) async fn first_right(port: u16, shot: &Shot, guard: Duration) -> Result<(), Loss> {
    let mut link = Link::new(port);
    let begun = std::time::Instant::now();
    loop {
        match link.send(shot, "first").await {
            Ok(()) => return Ok(()),
            Err(loss) if begun.elapsed() > guard => return Err(loss),
            Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    }
}
