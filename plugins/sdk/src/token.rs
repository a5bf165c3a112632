//! Where tokens come from, in order. It looks at no claim and asks nobody.

use crate::http::Request;

/// More different tokens than this in one request are not looked at.
const MOST: usize = 8;

/// Where a token was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Field of the body.
    Body,
    /// Header `Authorization: Bearer` (RFC 6750 section 2.1).
    Bearer,
    /// A cookie.
    Cookie,
}

/// A token as it was sent, without quotes and prefixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Presented<'a> {
    /// Where it was found.
    pub source: Source,
    /// Never empty.
    pub token: &'a str,
}

/// The tokens of a request: body, `Authorization`, cookies `access_token` and
/// `auth_token`. The same token is listed once.
#[must_use]
pub fn presented<'a>(body: Option<&'a str>, request: &'a Request) -> Vec<Presented<'a>> {
    let body = body.into_iter().map(|token| (Source::Body, token));
    let cookies = ["access_token", "auth_token"]
        .into_iter()
        .flat_map(|name| request.cookies(name));
    collect(
        body.chain(bearer(request))
            .chain(cookies.map(|token| (Source::Cookie, token))),
    )
}

/// The token of a refresh: cookie `refresh_token`, else the body's, else
/// `Authorization`. The first that is there is the one.
#[must_use]
pub fn for_refresh<'a>(body: Option<&'a str>, request: &'a Request) -> Option<Presented<'a>> {
    let cookies = request
        .cookies("refresh_token")
        .map(|token| (Source::Cookie, token));
    let body = body.into_iter().map(|token| (Source::Body, token));
    collect(cookies.chain(body).chain(bearer(request)))
        .into_iter()
        .next()
}

fn bearer(request: &Request) -> impl Iterator<Item = (Source, &str)> {
    request
        .headers("authorization")
        .filter_map(|value| strip_scheme(value.trim()))
        .map(|token| (Source::Bearer, token))
}

/// Each token once, trimmed, in order; empty ones and those beyond a few are left out.
#[must_use]
pub fn collect<'a>(found: impl Iterator<Item = (Source, &'a str)>) -> Vec<Presented<'a>> {
    let mut list: Vec<Presented<'a>> = Vec::new();
    for (source, token) in found.map(|(source, token)| (source, trim(token))) {
        if list.len() == MOST {
            break;
        }
        if !token.is_empty() && list.iter().all(|earlier| earlier.token != token) {
            list.push(Presented { source, token });
        }
    }
    list
}

/// Without blanks, quotes and `Bearer ` around it, however often they stand there.
#[must_use]
pub fn trim(token: &str) -> &str {
    let mut token = token;
    loop {
        let bare = token.trim_matches(|c: char| c.is_whitespace() || c == '"' || c == '\'');
        let bare = strip_scheme(bare).unwrap_or(bare);
        if bare == token {
            return token;
        }
        token = bare;
    }
}

/// What follows `Bearer ` in any case (RFC 9110 section 11.1).
fn strip_scheme(value: &str) -> Option<&str> {
    let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
    scheme.eq_ignore_ascii_case("bearer").then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_trimmed() {
        let sent = [
            "a.b.c",
            " a.b.c ",
            "\"a.b.c\"",
            "Bearer a.b.c",
            "bearer BEARER  'a.b.c'",
            "\" Bearer a.b.c\"",
        ];
        for token in sent {
            assert_eq!(trim(token), "a.b.c", "{token}");
        }
        for token in ["", " ", "\"\"", "Bearer \" \""] {
            assert_eq!(trim(token), "", "{token}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_sent_the_list_is_short_clean_and_without_repetition(
            body in proptest::option::of("([ '\"]|Bearer |[ab.]){0,6}"),
            headers in proptest::collection::vec(("authorization|cookie", "([ ;='\"]|[Bb]earer |access_token=|auth_token=|[ab.]){0,12}"), 0..12),
        ) {
            let call = crate::double::Call::get("/");
            let call = headers.iter().fold(call, |call, (name, value)| call.header(name, value));
            let request = call.request();
            let found = presented(body.as_deref(), &request);
            proptest::prop_assert!(found.len() <= MOST);
            for (at, one) in found.iter().enumerate() {
                proptest::prop_assert!(!one.token.is_empty());
                proptest::prop_assert_eq!(trim(one.token), one.token);
                proptest::prop_assert!(found[..at].iter().all(|earlier| earlier.token != one.token));
            }
            let first = body.as_deref().map(trim).filter(|token| !token.is_empty());
            if let Some(first) = first {
                proptest::prop_assert_eq!(found.first().map(|f| (f.source, f.token)), Some((Source::Body, first)));
            }
            let order: Vec<_> = found.iter().map(|one| one.source as u8).collect();
            proptest::prop_assert!(order.is_sorted());
        }
        #[test]
        fn trimming_twice_changes_nothing(text in "(?i)([ '\"\t]|bearer|a|\\.|\\PC){0,12}") {
            let once = trim(&text);
            proptest::prop_assert!(text.contains(once));
            proptest::prop_assert_eq!(trim(once), once);
        }
    }
}
