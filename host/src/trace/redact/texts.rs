//! What can be seen in a text without knowing what it is for: tokens, the fields of JSON,
//! forms.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// Shortest JWT that is told from other text, bytes.
const SHORTEST_TOKEN: usize = 30;

/// Only lower-case hex digits, and enough of them to be no word.
pub(super) fn is_hex(text: &str) -> bool {
    text.len() >= 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// What looks like a JWT (RFC 7519 section 3): it begins as base64url of `{"`, and has
/// dots.
pub fn token_like(text: &str) -> Vec<String> {
    let outside = |c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c));
    let runs = text
        .split(outside)
        .filter(|run| run.len() >= SHORTEST_TOKEN);
    let tokens = runs.filter_map(|run| run.find("eyJ").and_then(|at| run.get(at..)));
    tokens
        .filter(|run| run.contains('.'))
        .map(str::to_owned)
        .collect()
}

/// Every string and number in a JSON text with the name it has, repeated names too; none: it is no
/// JSON object or list.
pub(super) fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let text = text.trim_start();
    if !text.starts_with(['{', '[']) {
        return None;
    }
    let found: Found = serde_json::from_str(text).ok()?;
    Some(found.0)
}

/// True if a JSON text has this value under this name.
pub(super) fn holds(text: &str, name: &str, value: &str) -> bool {
    let pairs = pairs(text).unwrap_or_default();
    pairs
        .iter()
        .any(|(its_name, its)| its_name == name && its == value)
}

struct Found(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Found {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Found, D::Error> {
        deserializer.deserialize_any(Search)
    }
}

/// A string that has no name yet has an empty one.
struct Search;

impl<'de> Visitor<'de> for Search {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E>(self, text: &str) -> Result<Found, E> {
        Ok(Found(vec![(String::new(), text.to_owned())]))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Found, E> {
        Ok(Found(Vec::new()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Found, E> {
        Ok(Found(vec![(String::new(), number.to_string())]))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Found, E> {
        Ok(Found(vec![(String::new(), number.to_string())]))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Found, E> {
        Ok(Found(vec![(String::new(), number.to_string())]))
    }

    fn visit_unit<E>(self) -> Result<Found, E> {
        Ok(Found(Vec::new()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Found, A::Error> {
        let mut all = Vec::new();
        while let Some(Found(found)) = items.next_element()? {
            all.extend(found);
        }
        Ok(Found(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Found, A::Error> {
        let mut all = Vec::new();
        while let Some((name, Found(found))) = fields.next_entry::<String, Found>()? {
            // What stands below a secret name is secret too.
            let outer = super::names::is_secret(&name);
            let named = |(inner, value): (String, String)| match inner.is_empty() || outer {
                true => (name.clone(), value),
                false => (inner, value),
            };
            all.extend(found.into_iter().map(named));
        }
        Ok(Found(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_seen_in_other_text() {
        let token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI0MiJ9.c2lnbmF0dXJl";
        for text in [
            token.to_owned(),
            format!("a \"{token}\";"),
            format!("x.{token}"),
        ] {
            assert_eq!(token_like(&text), [token], "{text}");
        }
        for text in [
            "eyJ",
            "eyJhbGciOiJIUzI1NiJ9eyJzdWIiOiI0MiJ9c2lnbmF0dXJl",
            "a.b.c",
        ] {
            assert!(token_like(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn every_string_of_a_json_text_has_its_name() {
        let text = r#"{"a": "1", "b": {"c": ["2", {"d": "3"}], "a": "4"}, "n": 5, "a": "6"}"#;
        let found = pairs(text).unwrap();
        let expected = [
            ("a", "1"),
            ("c", "2"),
            ("d", "3"),
            ("a", "4"),
            ("n", "5"),
            ("a", "6"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(found, expected);
        for text in ["", "a=1", "\"a\"", "{\"a\":", "5"] {
            assert_eq!(pairs(text), None, "{text}");
        }
    }
}
