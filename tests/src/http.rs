//! One HTTP request and its whole answer. Knows no endpoint.

use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method};
use serde_json::Value;

/// Guard against hanging; no answer may take more than 5 s.
pub const HANG: Duration = Duration::from_secs(30);

/// A client without redirects and with a hang guard.
pub fn client() -> Client {
    Client::builder()
        .timeout(HANG)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .expect("make an HTTP client")
}

/// A client that speaks HTTP/2 without TLS from the first byte.
pub fn client_h2c() -> Client {
    Client::builder()
        .timeout(HANG)
        .http2_prior_knowledge()
        .no_proxy()
        .build()
        .expect("make an HTTP/2 client")
}

/// A request that is being put together.
#[derive(Debug, Clone)]
pub struct Call {
    client: Client,
    method: Method,
    url: String,
    headers: HeaderMap,
    cookies: Vec<String>,
    body: Option<Vec<u8>>,
}

impl Call {
    /// A request without headers and body.
    pub fn new(client: Client, method: Method, url: String) -> Self {
        Self {
            client,
            method,
            url,
            headers: HeaderMap::new(),
            cookies: Vec::new(),
            body: None,
        }
    }

    /// Sends with another client, e.g. [`client_h2c`].
    pub fn over(mut self, client: &Client) -> Self {
        self.client = client.clone();
        self
    }

    /// Adds a header; the same name may be added again.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
        let value = HeaderValue::from_bytes(value.as_bytes()).expect("a header value");
        self.headers.append(name, value);
        self
    }

    /// Adds `Authorization: Bearer`.
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// Adds a cookie; all go into one `Cookie` header.
    pub fn cookie(mut self, name: &str, value: &str) -> Self {
        self.cookies.push(format!("{name}={value}"));
        self
    }

    /// A JSON body with its content type.
    pub fn json(self, value: &Value) -> Self {
        self.header("content-type", "application/json")
            .body(value.to_string())
    }

    /// A body as it is, without a content type.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Sends it; a failure below HTTP ends the test.
    pub async fn send(self) -> Answer {
        let what = format!("{} {}", self.method, self.url);
        self.try_send()
            .await
            .unwrap_or_else(|e| panic!("{what}: no answer: {e:?}"))
    }

    /// Sends it.
    pub async fn try_send(self) -> reqwest::Result<Answer> {
        let label = format!("{} {}", self.method, self.url);
        let mut request = self
            .client
            .request(self.method, self.url)
            .headers(self.headers);
        if !self.cookies.is_empty() {
            request = request.header("cookie", self.cookies.join("; "));
        }
        if let Some(body) = self.body {
            request = request.body(body);
        }
        let response = request.send().await?;
        Ok(Answer {
            label,
            status: response.status().as_u16(),
            version: response.version(),
            headers: response.headers().clone(),
            body: response.bytes().await?.to_vec(),
        })
    }
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    label: String,
    /// Status code.
    pub status: u16,
    /// HTTP version.
    pub version: reqwest::Version,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Vec<u8>,
}

impl Answer {
    /// Method and URL, for messages.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| {
            panic!(
                "{}: status {}, body is not JSON ({e}): {}",
                self.label,
                self.status,
                self.text()
            )
        })
    }

    /// First value of a header, empty if absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |v| v.to_str().expect("a header of visible characters"))
    }

    /// All values of a header.
    pub fn all(&self, name: &str) -> Vec<String> {
        let texts = self.headers.get_all(name).iter();
        texts
            .map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned())
            .collect()
    }

    /// Asserts the status, with the body in the message.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}: {}", self.label, self.text());
        self
    }

    /// The value of a cookie that the answer sets.
    pub fn set_cookie(&self, name: &str) -> Option<String> {
        let prefix = format!("{name}=");
        self.all("set-cookie").iter().find_map(|line| {
            let pair = line.split(';').next()?;
            pair.strip_prefix(&prefix).map(str::to_owned)
        })
    }
}
