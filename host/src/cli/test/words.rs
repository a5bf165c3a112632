//! Texts that a scenario gives names: its tokens and what it saves of answers. They are put
//! in where `{name}` stands, and taken out of what is printed.

use std::collections::BTreeMap;

use anyhow::bail;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// Longer texts are no longer shown, whatever they are.
const SHORTEST_HIDDEN: usize = 16;

/// Names and what they stand for.
#[derive(Debug, Default, Clone)]
pub(super) struct Words(BTreeMap<String, String>);

impl Words {
    /// Gives a text a name.
    pub(super) fn name(&mut self, name: &str, text: String) {
        self.0.insert(name.to_owned(), text);
    }

    /// A text with all names put in. `{sha256:NAME}` is the digest of that in hex. Braces
    /// around anything but a name stay.
    ///
    /// # Errors
    /// A name that there is not.
    pub(super) fn put(&self, text: &str) -> anyhow::Result<String> {
        let mut done = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            done.push_str(before);
            let inner = after.split_once('}').filter(|(name, _)| is_name(name));
            let Some((name, left)) = inner else {
                done.push('{');
                rest = after;
                continue;
            };
            let (hashed, name) = match name.strip_prefix("sha256:") {
                Some(name) => (true, name),
                None => (false, name),
            };
            match self.0.get(name) {
                Some(text) if hashed => done.push_str(&hex::encode(Sha256::digest(text))),
                Some(text) => done.push_str(text),
                None => bail!("there is no token or saved text {name:?}"),
            }
            rest = left;
        }
        done.push_str(rest);
        Ok(done)
    }

    /// As [`Words::put`], in every text of a value and in the names of fields.
    ///
    /// # Errors
    /// A name that there is not.
    pub(super) fn put_all(&self, value: &Value) -> anyhow::Result<Value> {
        Ok(match value {
            Value::String(text) => Value::String(self.put(text)?),
            Value::Array(items) => {
                let items: anyhow::Result<Vec<Value>> =
                    items.iter().map(|item| self.put_all(item)).collect();
                Value::Array(items?)
            }
            Value::Object(fields) => {
                let mut done = serde_json::Map::new();
                for (name, value) in fields {
                    done.insert(self.put(name)?, self.put_all(value)?);
                }
                Value::Object(done)
            }
            other => other.clone(),
        })
    }

    /// A text as it may be printed: names in the place of what they stand for.
    pub(super) fn hide(&self, text: &str) -> String {
        let mut text = text.to_owned();
        let mut words: Vec<_> = self.0.iter().collect();
        words.sort_by_key(|(_, word)| std::cmp::Reverse(word.len()));
        for (name, word) in words {
            if word.len() >= SHORTEST_HIDDEN {
                text = text.replace(word.as_str(), &format!("{{{name}}}"));
            }
        }
        for token in crate::trace::token_like(&text) {
            text = text.replace(&token, "<token>");
        }
        text
    }
}

fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-:".contains(&byte);
    !text.is_empty()
        && text.bytes().all(plain)
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_put_in_and_taken_out() {
        let mut words = Words::default();
        words.name("ada", "a-token-of-some-length".to_owned());
        assert_eq!(
            words.put("x {ada} {").unwrap(),
            "x a-token-of-some-length {"
        );
        assert_eq!(
            words.put("{\"a\": 1} {} { ada }").unwrap(),
            "{\"a\": 1} {} { ada }"
        );
        let digest = words.put("{sha256:ada}").unwrap();
        assert_eq!(
            digest,
            hex::encode(Sha256::digest("a-token-of-some-length"))
        );
        let put = words.put_all(&json!({"{ada}": ["{ada}", 1]})).unwrap();
        assert_eq!(
            put,
            json!({"a-token-of-some-length": ["a-token-of-some-length", 1]})
        );
        let error = words.put("{eve}").unwrap_err().to_string();
        assert_eq!(error, "there is no token or saved text \"eve\"");
        let token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI0MiJ9.c2lnbmF0dXJlLW9m";
        let said = words.hide(&format!("got a-token-of-some-length and {token}"));
        assert_eq!(said, "got {ada} and <token>");
    }
}
