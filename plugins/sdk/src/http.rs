//! Requests as a plugin reads them. It owns the parsing of headers, cookies and JSON
//! bodies; it decides nothing about who is calling.

use serde::de::{DeserializeOwned, IgnoredAny};

use crate::answer::Fault;
use crate::wit::types;

pub use types::Origin;

/// One HTTP request.
#[derive(Debug, Clone)]
pub struct Request(types::Request);

impl From<types::Request> for Request {
    fn from(request: types::Request) -> Self {
        Self(request)
    }
}

impl Request {
    /// Upper case, as sent.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.0.method
    }

    /// Still percent-encoded, without the query.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// What follows the first `?`, still encoded.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.0.query.as_deref()
    }

    /// The first value of a header; `name` in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers(name).next()
    }

    /// All values of a header; `name` in lower case.
    pub fn headers<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0
            .headers
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| &**value)
    }

    /// All values of a cookie, from all `Cookie` headers (RFC 6265 section 4.2),
    /// without surrounding quotes. Empty ones are left out. Only blanks and tabs may
    /// stand around a name: with other white space it is another cookie.
    pub fn cookies<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.headers("cookie")
            .flat_map(|header| header.split(';'))
            .filter_map(|pair| pair.split_once('='))
            .filter(move |(key, _)| key.trim_matches([' ', '\t']) == name)
            .map(|(_, value)| value.trim().trim_matches('"'))
            .filter(|value| !value.is_empty())
    }

    /// The client's address as the host worked it out.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.0.caller.address
    }

    /// Where the request comes from, as the host judged it.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.0.caller.origin
    }

    /// True if the caller has proved to be a service.
    #[must_use]
    pub fn from_service(&self) -> bool {
        self.0.caller.service
    }

    /// The id that the host's log lines carry.
    #[must_use]
    pub fn id(&self) -> &str {
        let found = self
            .0
            .extensions
            .iter()
            .find(|(name, _)| name == "request-id");
        found.map_or("", |(_, value)| value)
    }

    /// The body as sent.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.0.body
    }

    /// The body as a JSON object, whatever its content type; an empty body is `{}`,
    /// unknown fields are ignored.
    ///
    /// # Errors
    /// [`Fault::BadRequest`] for broken JSON, [`Fault::Unprocessable`] for JSON with
    /// missing fields or of another type.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Fault> {
        parse(&self.0.body)
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Fault> {
    let text = std::str::from_utf8(body)
        .map_err(|_| Fault::BadRequest)?
        .trim_ascii();
    let text = if text.is_empty() { "{}" } else { text };
    // Structs would also be read from arrays.
    if text.starts_with('{')
        && let Ok(value) = serde_json::from_str(text)
    {
        return Ok(value);
    }
    // A field of a wrong type is reported before a fault further on.
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => Err(Fault::Unprocessable),
        Err(_) => Err(Fault::BadRequest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq, serde::Deserialize)]
    struct Body {
        token: Option<String>,
        id: Option<u32>,
    }

    fn read(body: &[u8]) -> Result<Body, Fault> {
        parse(body)
    }

    #[test]
    fn empty_bodies_are_objects() {
        for body in [
            &b""[..],
            b" \r\n",
            b"{}",
            b"{\"other\":[1,{}]}",
            b"{\"token\":null}",
        ] {
            assert_eq!(read(body), Ok(Body::default()));
        }
    }

    #[test]
    fn broken_json_and_wrong_types_differ() {
        let broken: [&[u8]; 8] = [
            b"{",
            b"{\"token\":}",
            b"{\"token\":5",
            b"token=5",
            b"\xff",
            b"{} {}",
            b"[1",
            b"{'token':1}",
        ];
        for body in broken {
            assert_eq!(
                read(body),
                Err(Fault::BadRequest),
                "{}",
                String::from_utf8_lossy(body)
            );
        }
        let wrong: [&[u8]; 8] = [
            b"{\"token\":5}",
            b"{\"id\":\"5\"}",
            b"{\"id\":-1}",
            b"{\"id\":1.5}",
            b"[\"a\",5]",
            b"null",
            b"5",
            b"{\"token\":\"a\",\"token\":\"b\"}",
        ];
        for body in wrong {
            assert_eq!(
                read(body),
                Err(Fault::Unprocessable),
                "{}",
                String::from_utf8_lossy(body)
            );
        }
    }

    #[test]
    fn deep_json_ends() {
        let deep = format!("{{\"x\":{}", "[".repeat(30_000));
        assert_eq!(read(deep.as_bytes()), Err(Fault::BadRequest));
        let closed = format!("{{\"x\":{}{}}}", "[".repeat(30_000), "]".repeat(30_000));
        assert_eq!(read(closed.as_bytes()), Ok(Body::default()));
    }

    fn with_cookies(headers: &[&str]) -> Request {
        let header = |value: &&str| ("cookie".to_owned(), (*value).to_owned());
        Request(types::Request {
            method: "GET".into(),
            path: "/".into(),
            query: None,
            headers: headers.iter().map(header).collect(),
            body: Vec::new(),
            caller: types::Caller {
                address: String::new(),
                origin: Origin::Absent,
                service: false,
            },
            extensions: Vec::new(),
        })
    }

    #[test]
    fn cookies_come_from_all_headers() {
        let request = with_cookies(&["a=1; b=\"2\";c", " a=3;a=; aa=4;\u{a0}a=5"]);
        assert_eq!(request.cookies("a").collect::<Vec<_>>(), ["1", "3"]);
        assert_eq!(request.cookies("b").collect::<Vec<_>>(), ["2"]);
        assert_eq!(request.cookies("c").count(), 0);
    }

    proptest::proptest! {
        #[test]
        fn cookies_come_back_as_they_were_sent(
            sent in proptest::collection::vec(("[ab]{1,2}", "[!-:<-~&&[^\"]]{1,9}"), 0..9),
            split in 0_usize..9,
        ) {
            let pairs: Vec<String> = sent.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let (first, second) = pairs.split_at(split.min(pairs.len()));
            let request = with_cookies(&[&first.join("; "), &second.join(";")]);
            for name in ["a", "b", "aa", "ab", "ba", "bb"] {
                let found: Vec<_> = request.cookies(name).collect();
                let wanted: Vec<_> = sent.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect();
                proptest::prop_assert_eq!(found, wanted, "{}", name);
            }
        }

        #[test]
        fn no_cookie_header_panics_or_gives_more_than_it_holds(text in "(\\PC|[;=\" \t]|access_token){0,30}") {
            for value in with_cookies(&[&text]).cookies("access_token") {
                proptest::prop_assert!(!value.is_empty() && !value.contains(';'));
                proptest::prop_assert!(text.contains(value));
            }
        }

        #[test]
        fn bodies_are_good_wrong_or_broken_as_json_says(
            body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40),
            text in "[{}\\[\\]\",:0-9 a-z\\\\]{0,30}",
        ) {
            for bytes in [body.as_slice(), text.as_bytes()] {
                let json = std::str::from_utf8(bytes).is_ok()
                    && (bytes.trim_ascii().is_empty() || serde_json::from_slice::<IgnoredAny>(bytes).is_ok());
                match read(bytes) {
                    Ok(_) | Err(Fault::Unprocessable) => proptest::prop_assert!(json),
                    Err(fault) => {
                        proptest::prop_assert_eq!(fault, Fault::BadRequest);
                        proptest::prop_assert!(!json);
                    }
                }
            }
        }

        #[test]
        fn a_token_of_any_text_arrives_as_it_is(token in ".{0,40}", more in "[a-z]{0,5}") {
            let body = serde_json::json!({"token": token, "id": 5, (format!("x{more}")): [1, {}]});
            let read = read(body.to_string().as_bytes());
            proptest::prop_assert_eq!(read, Ok(Body { token: Some(token), id: Some(5) }));
        }
    }
}
