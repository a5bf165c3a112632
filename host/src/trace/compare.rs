//! Where two outcomes of the same request differ, in words that anybody may read: places
//! and lengths, and values only where they are plain.

use serde_json::Value;

use super::redact::{is_plain_value, is_secret};
use super::{Outcome, text};

/// The first thing in which `candidate` differs from what users got; none if it does not.
pub fn shown_difference(users: &Outcome, candidate: &Outcome) -> Option<String> {
    if users == candidate {
        return None;
    }
    let (Some((status, headers, body)), Some((its_status, its_headers, its_body))) =
        (users.answer(), candidate.answer())
    else {
        return Some(format!("{} became {}", users.shown(), candidate.shown()));
    };
    if status != its_status {
        return Some(format!("status {status} became {its_status}"));
    }
    let (text, its_text) = (text(body), text(its_body));
    if text != its_text {
        return Some(difference_of_bodies(&text, &its_text));
    }
    let header = |(name, value): &(String, String)| {
        let same = |pair: &&(String, String)| pair.0 == *name && pair.1 == *value;
        !its_headers.iter().any(|pair| same(&pair))
    };
    let name = headers
        .iter()
        .find(|pair| header(pair))
        .map(|(name, _)| name.as_str());
    Some(match name {
        Some(name) => format!("header {name} is another one or missing"),
        None => "there are other headers, or in another order".to_owned(),
    })
}

fn difference_of_bodies(users: &str, candidate: &str) -> String {
    let parsed = |text: &str| serde_json::from_str::<Value>(text).ok();
    if let (Some(was), Some(is)) = (parsed(users), parsed(candidate))
        && let Some((place, was, is)) = part(&was, &is, String::new())
    {
        let secret = place.split('/').any(is_secret);
        let (was, is) = (value(secret, was), value(secret, is));
        let part = |part: &str| {
            if is_plain_value(part) {
                part.to_owned()
            } else {
                "*".to_owned()
            }
        };
        let place: Vec<String> = place.split('/').take(16).map(part).collect();
        let place = place.join("/");
        return format!("body at {place}: {was} became {is}");
    }
    let same = users
        .bytes()
        .zip(candidate.bytes())
        .take_while(|(a, b)| a == b);
    format!(
        "body from byte {} on ({} bytes became {})",
        same.count(),
        users.len(),
        candidate.len()
    )
}

/// The place (JSON Pointer, RFC 6901) where two values part, and what is there.
fn part<'a>(
    was: &'a Value,
    is: &'a Value,
    place: String,
) -> Option<(String, Option<&'a Value>, Option<&'a Value>)> {
    match (was, is) {
        (Value::Object(was), Value::Object(is)) => {
            let names = was
                .keys()
                .chain(is.keys().filter(|name| !was.contains_key(*name)));
            for name in names {
                let inner = format!("{place}/{}", name.replace('~', "~0").replace('/', "~1"));
                let found = match (was.get(name), is.get(name)) {
                    (Some(was), Some(is)) => part(was, is, inner),
                    (was, is) => Some((inner, was, is)),
                };
                if found.is_some() {
                    return found;
                }
            }
            None
        }
        (Value::Array(was), Value::Array(is)) if was.len() == is.len() => {
            let mut pairs = was.iter().zip(is).enumerate();
            pairs.find_map(|(at, (was, is))| part(was, is, format!("{place}/{at}")))
        }
        _ => (was != is).then_some((place, Some(was), Some(is))),
    }
}

fn value(secret: bool, value: Option<&Value>) -> String {
    match value {
        None => "nothing".to_owned(),
        Some(Value::Object(_)) => "an object".to_owned(),
        Some(Value::Array(items)) => format!("a list of {}", items.len()),
        Some(Value::Number(_)) if secret => "a number".to_owned(),
        Some(Value::String(text)) if secret || !is_plain_value(text) => {
            format!("a text of {} bytes", text.len())
        }
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, header: &str, body: &str) -> Outcome {
        Outcome::Answer {
            status,
            headers: vec![("set-cookie".to_owned(), header.to_owned())],
            body: serde_json::json!({ "text": body }),
        }
    }

    #[test]
    fn places_are_named_and_secrets_are_not() {
        let token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI0MiJ9.c2lnbmF0dXJlLW9m";
        let long = "x".repeat(50);
        let cases = [
            ("{\"a\":1}", "{\"a\":1}".to_owned(), None),
            (
                "{\"a\":{\"b\":1}}",
                "{\"a\":{\"b\":2}}".to_owned(),
                Some("body at /a/b: 1 became 2"),
            ),
            (
                "[1,\"a\"]",
                "[1,\"b\"]".to_owned(),
                Some("body at /1: \"a\" became \"b\""),
            ),
            (
                "{\"a\":1}",
                "{}".to_owned(),
                Some("body at /a: 1 became nothing"),
            ),
            (
                "{}",
                "{\"a/b\":[1]}".to_owned(),
                Some("body at /a~1b: nothing became a list of 1"),
            ),
            (
                "{\"access_token\":\"abc\"}",
                "{\"access_token\":\"abcd\"}".to_owned(),
                Some("body at /access_token: a text of 3 bytes became a text of 4 bytes"),
            ),
            (
                "{\"a\":\"x\"}",
                format!("{{\"a\":\"{token}\"}}"),
                Some("body at /a: \"x\" became a text of 54 bytes"),
            ),
            (
                "{\"a\":\"x\"}",
                format!("{{\"a\":\"{long}\"}}"),
                Some("body at /a: \"x\" became a text of 50 bytes"),
            ),
            (
                "{\"otp\":123456}",
                "{\"otp\":1}".to_owned(),
                Some("body at /otp: a number became a number"),
            ),
            (
                "{\"tokens\":[\"a\"]}",
                "{\"tokens\":[\"bc\"]}".to_owned(),
                Some("body at /tokens/0: a text of 1 bytes became a text of 2 bytes"),
            ),
            (
                "abc",
                "abd".to_owned(),
                Some("body from byte 2 on (3 bytes became 3)"),
            ),
            (
                "{\"a\":1}",
                "{ \"a\":1}".to_owned(),
                Some("body from byte 1 on (7 bytes became 8)"),
            ),
        ];
        for (was, is, expected) in cases {
            let said = shown_difference(&answer(200, "a", was), &answer(200, "a", &is));
            assert_eq!(said.as_deref(), expected, "{was} {is}");
        }
        let said = |is: Outcome| shown_difference(&answer(200, "secret", "x"), &is).unwrap();
        assert_eq!(said(answer(401, "secret", "x")), "status 200 became 401");
        let header = said(answer(200, "other", "x"));
        assert_eq!(header, "header set-cookie is another one or missing");
    }
}
