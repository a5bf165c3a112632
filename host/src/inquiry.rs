//! Asks the session normalizer what the users table says of a user: the other services
//! have no database. It owns the HTTP side of that question and keeps no answers; what
//! they mean for a login the directory decides.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderValue, USER_AGENT};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Deserialize;
use tokio::time::{Instant, timeout};
use tracing::Span;

use crate::breaker::Policy;
use crate::config::PeerConfig;
use crate::dependency::Dependency;
use crate::telemetry;

/// One question, connecting included.
const LIMIT: Duration = Duration::from_secs(1);
/// Longest answer that is read, bytes.
const MAX_BODY: usize = 64 * 1024;
/// That there is no users table is asked again after this long.
const WITHOUT_TABLE: Duration = Duration::from_secs(60);
/// Marks the question: nothing is written for it and no other service asked.
const PEER: &str = "x-lockgate-peer";
/// In the answer: `active` (the table or its cache says so), `unknown` (the table could
/// not be asked) or `none` (there is no table).
const STATE: &str = "x-lockgate-user";

/// The id of the request for which is asked, so that both log lines can be found.
const REQUEST_ID: &str = "x-request-id";

/// With what is asked.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// An access token of the user.
    pub token: &'a str,
    /// The id of the request that wants to know.
    pub request_id: &'a str,
}

/// What the session normalizer says of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// In the table and active.
    Active {
        /// The e-mail in the table.
        email: String,
        /// `admin` or `user`.
        role: String,
    },
    /// In the table and not active.
    Disabled,
    /// Not in the table.
    Missing,
    /// The table has another e-mail than the token.
    OtherEmail,
    /// Nothing: the token is not good there.
    Nothing,
    /// There is no users table.
    WithoutTable,
}

/// Neither the normalizer nor the table could be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the session normalizer could not be asked")]
pub struct Away;

/// The way to the session normalizer.
#[derive(Debug)]
pub struct Inquiry {
    client: Client<HttpConnector, Empty<Bytes>>,
    /// None: the configured URL cannot be used.
    base: Option<String>,
    dependency: Dependency,
    /// When it last said that there is no users table, until it says otherwise.
    without_table: Mutex<Option<Instant>>,
}

impl Inquiry {
    /// Nothing is asked yet. Must be called within a tokio runtime.
    pub fn new(peer: &PeerConfig) -> Inquiry {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .build(connector);
        let base = base(&peer.url);
        if base.is_none() {
            tracing::error!(peer = peer.name, "only http peers can be asked about users");
        }
        Inquiry {
            client,
            base,
            dependency: Dependency::new("session normalizer", Policy::TABLE),
            without_table: Mutex::new(None),
        }
    }

    /// What the table says of the user whose access token this is, within 1 s.
    ///
    /// # Errors
    /// [`Away`]; at once while the normalizer is known to be away.
    pub async fn ask(&self, user_id: u32, question: Question<'_>) -> Result<Word, Away> {
        let last = self.without_table();
        if last.is_some_and(|at| at.elapsed() < WITHOUT_TABLE) {
            return Ok(Word::WithoutTable);
        }
        let found = match self.request("/api/v1/session/validate", Some(question)) {
            Some(request) if self.dependency.usable() => {
                let span = telemetry::call_of(request.method(), request.uri());
                let answer = self.answer(request, user_id);
                telemetry::within(span, answer, |_| "unavailable").await
            }
            _ => Err(Away),
        };
        match (found, last) {
            (Ok(word), _) => {
                *self.lock() = (word == Word::WithoutTable).then(Instant::now);
                Ok(word)
            }
            // As far as anybody knows there is no table that could be away.
            (Err(Away), Some(_)) => Ok(Word::WithoutTable),
            (Err(Away), None) => Err(Away),
        }
    }

    /// While it is away: asks whether it is back. Run once a second.
    pub async fn probe(&self) {
        if self.dependency.usable() || !self.dependency.may_probe() {
            return;
        }
        if let Some(request) = self.request("/health", None) {
            // The outcome is noted.
            let _ = self.send(request).await;
        }
    }

    fn without_table(&self) -> Option<Instant> {
        *self.lock()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.without_table
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn request(&self, path: &str, question: Option<Question<'_>>) -> Option<Request<Empty<Bytes>>> {
        let mut builder = Request::get(format!("{}{path}", self.base.as_ref()?))
            .header(USER_AGENT, "lockgate")
            .header(PEER, "1");
        if let Some(Question { token, request_id }) = question {
            let mut value = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
            value.set_sensitive(true);
            builder = builder.header(AUTHORIZATION, value);
            builder = builder.header(REQUEST_ID, request_id);
        }
        builder.body(Empty::new()).ok()
    }

    async fn answer(&self, request: Request<Empty<Bytes>>, user_id: u32) -> Result<Word, Away> {
        let answer = self.send(request).await?;
        judge(&answer, user_id)
    }

    async fn send(&self, request: Request<Empty<Bytes>>) -> Result<Answer, Away> {
        let fault = match timeout(LIMIT, self.exchange(request)).await {
            Ok(Some(answer)) if !answer.status.is_server_error() => {
                self.dependency.succeeded();
                return Ok(answer);
            }
            Ok(Some(answer)) => format!("status {}", answer.status.as_u16()),
            Ok(None) => "no connection".to_owned(),
            Err(_) => "no answer in time".to_owned(),
        };
        self.dependency.failed(&fault);
        Err(Away)
    }

    async fn exchange(&self, mut request: Request<Empty<Bytes>>) -> Option<Answer> {
        telemetry::pass_on(request.headers_mut());
        let response = self.client.request(request).await.ok()?;
        let status = response.status();
        telemetry::came(&Span::current(), status);
        let state = response.headers().get(STATE);
        let state = state
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
        Some(Answer {
            status,
            state,
            body: body.ok()?.to_bytes(),
        })
    }
}

/// The URL without credentials, which a Bearer would collide with.
fn base(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    let authority = uri
        .authority()
        .filter(|_| uri.scheme_str() == Some("http"))?;
    let port = authority.port_u16().map(|port| format!(":{port}"));
    let path = uri.path().trim_end_matches('/');
    let host = authority.host();
    Some(format!("http://{host}{}{path}", port.unwrap_or_default()))
}

/// One whole answer.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    state: Option<String>,
    body: Bytes,
}

/// The fields of a session check that say something of the user.
#[derive(Debug, Deserialize)]
struct Session {
    valid: bool,
    user_id: Option<u32>,
    email: Option<String>,
    role: Option<String>,
    error: Option<String>,
}

/// An answer that is none of the normalizer's is as good as none.
fn judge(answer: &Answer, user_id: u32) -> Result<Word, Away> {
    let session: Session = serde_json::from_slice(&answer.body).map_err(|_| Away)?;
    let state = answer.state.as_deref();
    match (
        answer.status.as_u16(),
        session.valid,
        session.error.as_deref(),
    ) {
        (200, true, _) if state == Some("none") => Ok(Word::WithoutTable),
        (200, true, _) if state == Some("active") && session.user_id == Some(user_id) => {
            match (session.email, session.role) {
                (Some(email), Some(role)) => Ok(Word::Active { email, role }),
                _ => Err(Away),
            }
        }
        (401, false, Some("user_disabled")) => Ok(Word::Disabled),
        (200, false, Some("user_not_found")) => Ok(Word::Missing),
        (200, false, Some("consistency_mismatch")) => Ok(Word::OtherEmail),
        (200 | 401, false, Some(_)) => Ok(Word::Nothing),
        _ => Err(Away),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: u16, state: &str, body: &str) -> Result<Word, Away> {
        let answer = Answer {
            status: StatusCode::from_u16(status).unwrap(),
            state: (!state.is_empty()).then(|| state.to_owned()),
            body: Bytes::copy_from_slice(body.as_bytes()),
        };
        judge(&answer, 42)
    }

    #[test]
    fn only_a_user_whom_the_table_knows_is_active() {
        let valid = r#"{"valid":true,"user_id":42,"email":"ada@example.org","role":"admin","degraded":false}"#;
        let ada = Word::Active {
            email: "ada@example.org".into(),
            role: "admin".into(),
        };
        assert_eq!(judged(200, "active", valid), Ok(ada));
        assert_eq!(judged(200, "none", valid), Ok(Word::WithoutTable));
        for state in ["", "unknown", "ACTIVE"] {
            assert_eq!(judged(200, state, valid), Err(Away), "{state}");
        }
        for other in [
            r#"{"valid":true,"user_id":43,"email":"ada@example.org","role":"admin"}"#,
            r#"{"valid":true,"email":"ada@example.org","role":"admin"}"#,
            r#"{"valid":true,"user_id":42}"#,
            r#"{"valid":"true","user_id":42,"email":"a@b","role":"user"}"#,
            "[]",
            "",
        ] {
            assert_eq!(judged(200, "active", other), Err(Away), "{other}");
        }
        assert_eq!(judged(201, "active", valid), Err(Away));
    }

    #[test]
    fn refusals_say_why() {
        let refused = |status, error: &str| {
            judged(
                status,
                "",
                &format!(r#"{{"valid":false,"user_id":null,"error":"{error}"}}"#),
            )
        };
        assert_eq!(refused(401, "user_disabled"), Ok(Word::Disabled));
        assert_eq!(refused(200, "user_not_found"), Ok(Word::Missing));
        assert_eq!(refused(200, "consistency_mismatch"), Ok(Word::OtherEmail));
        assert_eq!(refused(401, "token_revoked"), Ok(Word::Nothing));
        assert_eq!(refused(200, "token_expired"), Ok(Word::Nothing));
        assert_eq!(refused(404, "invalid_request"), Err(Away));
    }

    #[test]
    fn urls_lose_their_credentials() {
        let rows = [
            ("http://db:8026", Some("http://db:8026")),
            (
                "http://ada:pw@db:8026/base/?q=1",
                Some("http://db:8026/base"),
            ),
            ("http://[::1]:8026", Some("http://[::1]:8026")),
            ("https://db", None),
            ("db:8026", None),
        ];
        for (url, expected) in rows {
            assert_eq!(base(url).as_deref(), expected, "{url}");
        }
    }
}
