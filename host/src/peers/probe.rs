//! One look at one peer over the network. It owns URLs, credentials and the limit
//! on time; it keeps nothing and must not judge more than one answer.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderValue, USER_AGENT};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use tokio::time::{Instant, timeout};

use crate::config::PeerConfig;

/// What a peer may take to answer.
pub(super) const LIMIT: Duration = Duration::from_millis(1_500);
/// Longest answer that is read, bytes.
const MAX_BODY: usize = 64 * 1024;

/// What one probe found.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Outcome {
    pub(super) finding: Finding,
    /// How long the answer took, if one came.
    pub(super) took: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Finding {
    Healthy,
    Degraded,
    /// An answer that is none of ours; the peer is there, so its breaker does not
    /// count it.
    Odd(String),
    /// A transport error, a timeout or a 5xx.
    Failed(String),
}

/// A peer's address. Its URL may hold credentials, which are sent but never shown.
pub(super) struct Target {
    pub(super) url: String,
    pub(super) port: u16,
    request: Result<Request<Empty<Bytes>>, &'static str>,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Target")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl Target {
    /// A URL that cannot be used makes a target whose probes all find that.
    pub(super) fn new(peer: &PeerConfig) -> Target {
        let unusable = Target {
            url: String::new(),
            port: 0,
            request: Err("the configured URL cannot be used"),
        };
        let Ok(uri) = peer.url.parse::<Uri>() else {
            return unusable;
        };
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return unusable;
        };
        let default_port = if scheme == "https" { 443 } else { 80 };
        let shown = match authority.port_u16() {
            Some(port) => format!("{scheme}://{}:{port}", authority.host()),
            None => format!("{scheme}://{}", authority.host()),
        };
        let url = format!("{shown}{}", uri.path().trim_end_matches('/'));
        let credentials = authority
            .as_str()
            .rsplit_once('@')
            .map(|(before, _)| before);
        let request = match scheme {
            "http" => request(&format!("{url}/health"), credentials),
            _ => Err("only http peers can be probed"),
        };
        Target {
            url,
            port: authority.port_u16().unwrap_or(default_port),
            request,
        }
    }
}

fn request(url: &str, credentials: Option<&str>) -> Result<Request<Empty<Bytes>>, &'static str> {
    let mut builder = Request::get(url).header(USER_AGENT, "lockgate");
    if let Some(credentials) = credentials {
        let plain: Vec<u8> = percent_encoding::percent_decode_str(credentials).collect();
        let basic = format!("Basic {}", STANDARD.encode(plain));
        let mut value =
            HeaderValue::try_from(basic).map_err(|_| "the credentials cannot be used")?;
        value.set_sensitive(true);
        builder = builder.header(AUTHORIZATION, value);
    }
    builder
        .body(Empty::new())
        .map_err(|_| "the configured URL cannot be used")
}

/// Makes the probes. Every probe connects anew: a peer that no longer accepts
/// connections must not look well through an old one.
#[derive(Debug, Clone)]
pub(super) struct Prober(Client<HttpConnector, Empty<Bytes>>);

impl Prober {
    pub(super) fn new() -> Prober {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build(connector);
        Prober(client)
    }

    /// `GET <peer>/health`, within 1.5 s.
    pub(super) async fn ask(&self, target: &Target) -> Outcome {
        let request = match &target.request {
            Ok(request) => request.clone(),
            Err(reason) => return failed((*reason).to_owned()),
        };
        let start = Instant::now();
        match timeout(LIMIT, self.answer(request)).await {
            Ok(Ok((status, body))) => Outcome {
                finding: judge(status, body.as_deref()),
                took: Some(start.elapsed()),
            },
            Ok(Err(error)) => failed(describe(&error)),
            Err(_) => failed("no answer in time".to_owned()),
        }
    }

    /// Status and body; no body if it is too long or broke off.
    async fn answer(
        &self,
        request: Request<Empty<Bytes>>,
    ) -> Result<(StatusCode, Option<Bytes>), hyper_util::client::legacy::Error> {
        let response = self.0.request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
        Ok((status, body.ok().map(|body| body.to_bytes())))
    }
}

fn failed(reason: String) -> Outcome {
    Outcome {
        finding: Finding::Failed(reason),
        took: None,
    }
}

#[derive(Deserialize)]
struct Health {
    status: String,
}

fn judge(status: StatusCode, body: Option<&[u8]>) -> Finding {
    if status.is_server_error() {
        return Finding::Failed(format!("status {}", status.as_u16()));
    }
    if status != StatusCode::OK {
        return Finding::Odd(format!("status {}", status.as_u16()));
    }
    let Some(body) = body else {
        return Finding::Failed("the answer broke off or is too long".to_owned());
    };
    match serde_json::from_slice::<Health>(body) {
        Ok(health) if health.status == "healthy" => Finding::Healthy,
        Ok(health) if health.status == "degraded" => Finding::Degraded,
        Ok(_) => Finding::Odd("unknown status word".to_owned()),
        Err(_) => Finding::Odd("not a health answer".to_owned()),
    }
}

/// A few words without addresses or credentials.
fn describe(error: &hyper_util::client::legacy::Error) -> String {
    let mut cause = std::error::Error::source(error);
    while let Some(found) = cause {
        if let Some(io) = found.downcast_ref::<std::io::Error>() {
            return io.kind().to_string();
        }
        cause = found.source();
    }
    if error.is_connect() {
        "no connection".to_owned()
    } else {
        "not an HTTP answer".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    fn target(url: &str) -> Target {
        Target::new(&PeerConfig {
            name: "jwt-token-adapter".into(),
            url: url.into(),
        })
    }

    /// Answers one connection with these bytes and returns what was asked.
    async fn peer(answer: &'static [u8]) -> (String, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                asked.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(answer).await.unwrap();
            String::from_utf8(asked).unwrap()
        });
        (url, asked)
    }

    async fn ask(answer: &'static [u8]) -> Outcome {
        let (url, _) = peer(answer).await;
        Prober::new().ask(&target(&url)).await
    }

    #[tokio::test]
    async fn only_the_two_words_with_200_are_good() {
        let healthy =
            ask(b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n{\"status\":\"healthy\"}").await;
        assert_eq!(healthy.finding, Finding::Healthy);
        assert!(healthy.took.is_some());
        let degraded =
            ask(b"HTTP/1.1 200 OK\r\ncontent-length: 21\r\n\r\n{\"status\":\"degraded\"}").await;
        assert_eq!(degraded.finding, Finding::Degraded);
    }

    #[tokio::test]
    async fn other_answers_are_odd_and_no_failures() {
        for answer in [
            &b"HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{\"status\":\"ok\"}"[..],
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{\"status\":true}",
            b"HTTP/1.1 204 No Content\r\n\r\n",
            b"HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 404 Not Found\r\ncontent-length: 20\r\n\r\n{\"status\":\"healthy\"}",
        ] {
            let outcome = ask(answer).await;
            assert!(matches!(outcome.finding, Finding::Odd(_)), "{outcome:?}");
        }
    }

    #[tokio::test]
    async fn server_errors_broken_answers_and_refused_connections_are_failures() {
        for answer in [
            &b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 20\r\n\r\n{\"status\":\"healthy\"}"[..],
            b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n{\"sta",
            b"SSH-2.0-OpenSSH\r\n",
            b"",
        ] {
            let outcome = ask(answer).await;
            assert!(matches!(outcome.finding, Finding::Failed(_)), "{outcome:?}");
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closed = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let outcome = Prober::new().ask(&target(&closed)).await;
        assert_eq!(outcome, failed("connection refused".to_owned()));
    }

    #[tokio::test]
    async fn a_peer_that_does_not_answer_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent = format!("http://{}", listener.local_addr().unwrap());
        let outcome = Prober::new().ask(&target(&silent)).await;
        assert_eq!(outcome, failed("no answer in time".to_owned()));
    }

    #[tokio::test]
    async fn credentials_are_sent_and_never_shown() {
        let (url, asked) =
            peer(b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n{\"status\":\"healthy\"}").await;
        let address = url.strip_prefix("http://").unwrap();
        let target = target(&format!("http://ada:p%2Fw@{address}/base/?q=1"));
        assert_eq!(target.url, format!("{url}/base"));
        assert!(!format!("{target:?}").contains("p%2Fw"));
        let outcome = Prober::new().ask(&target).await;
        assert_eq!(outcome.finding, Finding::Healthy);
        let asked = asked.await.unwrap();
        assert!(
            asked.starts_with("GET /base/health HTTP/1.1\r\n"),
            "{asked}"
        );
        assert!(
            asked.contains("authorization: Basic YWRhOnAvdw==\r\n"),
            "{asked}"
        );
    }

    #[tokio::test]
    async fn urls_that_cannot_be_probed_say_so() {
        for url in [
            "",
            "jwt:8025",
            "/health",
            "https://example.org",
            "http://[::1",
            "ftp://x",
        ] {
            let outcome = Prober::new().ask(&target(url)).await;
            assert!(
                matches!(outcome.finding, Finding::Failed(_)),
                "{url}: {outcome:?}"
            );
        }
        assert_eq!(target("https://example.org").port, 443);
        assert_eq!(
            target("http://example.org:8025/").url,
            "http://example.org:8025"
        );
    }
}
