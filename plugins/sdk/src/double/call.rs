//! Requests for tests to send, and what comes back. It knows no endpoint.

use crate::host::Host;
use crate::http::{Origin, Request};
use crate::wit::types;

/// A request to be built: `Call::get("/health").bearer("t").send(&host, &routes())`.
#[derive(Debug, Clone)]
pub struct Call(types::Request);

impl Call {
    /// A request of this method.
    #[must_use]
    pub fn new(method: &str, path: &str) -> Self {
        let caller = types::Caller {
            address: "192.0.2.1".into(),
            origin: Origin::Absent,
            service: false,
        };
        Self(types::Request {
            method: method.into(),
            path: path.into(),
            query: None,
            headers: Vec::new(),
            body: Vec::new(),
            caller,
            extensions: vec![("request-id".into(), "r-1".into())],
        })
    }

    /// A GET request.
    #[must_use]
    pub fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    /// A POST request.
    #[must_use]
    pub fn post(path: &str) -> Self {
        Self::new("POST", path)
    }

    /// With a header; `name` in lower case.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.0.headers.push((name.into(), value.into()));
        self
    }

    /// With a query, encoded.
    #[must_use]
    pub fn query(mut self, query: &str) -> Self {
        self.0.query = Some(query.into());
        self
    }

    /// With `Authorization: Bearer`.
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// With a cookie.
    #[must_use]
    pub fn cookie(self, name: &str, value: &str) -> Self {
        self.header("cookie", &format!("{name}={value}"))
    }

    /// With a body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.0.body = body.into();
        self
    }

    /// From this origin.
    #[must_use]
    pub fn origin(mut self, origin: Origin) -> Self {
        self.0.caller.origin = origin;
        self
    }

    /// From a service.
    #[must_use]
    pub fn service(mut self) -> Self {
        self.0.caller.service = true;
        self
    }

    /// The request itself, for what reads requests.
    #[must_use]
    pub fn request(self) -> Request {
        Request::from(self.0)
    }

    /// Sends it.
    #[must_use]
    pub fn send<H: Host>(self, host: &H, routes: &[crate::Route<H>]) -> Reply {
        Reply(crate::serve(host, routes, &self.request()))
    }
}

/// What came back.
#[derive(Debug)]
pub struct Reply(crate::Answer);

impl Reply {
    /// The status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.0.status()
    }

    /// The body; null if there is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        if self.0.body().is_empty() {
            return serde_json::Value::Null;
        }
        assert_eq!(
            self.0.body().last(),
            Some(&b'\n'),
            "bodies end in a line feed"
        );
        serde_json::from_slice(self.0.body()).expect("bodies are JSON")
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8(self.0.body().to_vec()).expect("bodies are UTF-8")
    }

    /// The values of a header, joined by `|`.
    #[must_use]
    pub fn header(&self, name: &str) -> String {
        self.0.header_values(name).collect::<Vec<_>>().join("|")
    }
}
