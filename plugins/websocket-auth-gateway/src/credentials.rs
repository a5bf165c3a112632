//! The credentials of a request for a socket, in order. It judges none of them.

use lockgate_sdk::Request;
use lockgate_sdk::http::Origin;
use lockgate_sdk::token::{Presented, Source, collect};

/// Begins a subprotocol that is a token.
const BEARER: &str = "bearer.";
/// Headers of clients that cannot set `Authorization`.
const HEADERS: [&str; 3] = ["x-auth-token", "x-access-token", "x-jwt-token"];
/// Cookies that hold a token.
const COOKIES: [&str; 2] = ["access_token", "auth_token"];

/// What a request shows.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// Of `?ticket=`.
    pub(crate) ticket: Option<String>,
    tokens: Vec<(Source, String)>,
}

impl Credentials {
    /// Query, subprotocols, headers, and the cookies unless another site has sent
    /// them along.
    pub(crate) fn of(request: &Request) -> Self {
        let query = request.query().unwrap_or_default();
        let mut found = Self {
            ticket: parameters(query, "ticket").find(|ticket| !ticket.is_empty()),
            tokens: Vec::new(),
        };
        for token in parameters(query, "token") {
            found.add(Source::Bearer, &token);
        }
        let protocols = request.headers("sec-websocket-protocol");
        for protocol in protocols.flat_map(|header| header.split(',')) {
            if let Some(token) = after_prefix(protocol.trim(), BEARER) {
                found.add(Source::Bearer, token);
            }
        }
        for value in request.headers("authorization") {
            if let Some(token) = after_prefix(value.trim(), "bearer ") {
                found.add(Source::Bearer, token);
            }
        }
        for token in HEADERS.into_iter().flat_map(|name| request.headers(name)) {
            found.add(Source::Bearer, token);
        }
        if request.origin() != Origin::Foreign {
            for token in COOKIES.into_iter().flat_map(|name| request.cookies(name)) {
                found.add(Source::Cookie, token);
            }
        }
        found
    }

    /// The tokens, each once.
    pub(crate) fn presented(&self) -> Vec<Presented<'_>> {
        let tokens = self.tokens.iter();
        collect(tokens.map(|(source, token)| (*source, token.as_str())))
    }

    fn add(&mut self, source: Source, token: &str) {
        self.tokens.push((source, token.to_owned()));
    }
}

/// The decoded values of a parameter of a query.
fn parameters<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = String> + 'a {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .filter(move |(key, _)| *key == name)
        .filter_map(|(_, value)| decoded(value))
}

/// Percent-decoded (RFC 3986 section 2.1); none if it is not UTF-8 then. A `%` without
/// two hex digits stands for itself.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digit = |at: usize| char::from(*after.get(at)?).to_digit(16);
        let pair = digit(0).zip(digit(1)).filter(|_| first == b'%');
        rest = match pair.and_then(|(high, low)| u8::try_from(high * 16 + low).ok()) {
            Some(byte) => {
                bytes.push(byte);
                after.get(2..).unwrap_or_default()
            }
            None => {
                bytes.push(first);
                after
            }
        };
    }
    String::from_utf8(bytes).ok()
}

/// What follows a prefix in any case.
fn after_prefix<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let start = text.get(..prefix.len())?;
    start
        .eq_ignore_ascii_case(prefix)
        .then(|| text.get(prefix.len()..))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockgate_sdk::double::Call;

    fn tokens(call: Call) -> Vec<String> {
        let found = Credentials::of(&call.request());
        let tokens = found.presented();
        tokens.iter().map(|sent| sent.token.to_owned()).collect()
    }

    fn all() -> Call {
        Call::get("/ws/chat")
            .cookie("access_token", "f")
            .cookie("auth_token", "g")
            .header("x-access-token", "e")
            .header("x-auth-token", "\"d\"")
            .bearer("c")
            .header("sec-websocket-protocol", "chat, Bearer.b")
            .query("token=Bearer%20a&ticket=t%2D1&token=a")
    }

    #[test]
    fn the_order_is_the_contracts() {
        assert_eq!(tokens(all()), ["a", "b", "c", "d", "e", "f", "g"]);
        let found = Credentials::of(&all().request());
        assert_eq!(found.ticket.as_deref(), Some("t-1"));
    }

    #[test]
    fn cookies_of_another_site_do_not_count() {
        assert_eq!(
            tokens(all().origin(Origin::Foreign)),
            ["a", "b", "c", "d", "e"]
        );
        assert_eq!(tokens(all().origin(Origin::Trusted)).len(), 7);
    }

    #[test]
    fn percent_signs() {
        for (text, plain) in [
            ("a%2Eb", Some("a.b")),
            ("a+b", Some("a+b")),
            ("%", Some("%")),
            ("%2", Some("%2")),
            ("%zz%41", Some("%zzA")),
            ("%ff", None),
        ] {
            assert_eq!(decoded(text).as_deref(), plain, "{text}");
        }
    }
}
