//! Lists of bytes as text: `[104,105]` is written as `{"text":"hi"}`, and what is no
//! UTF-8 as `{"base64":"/w=="}`. No other list of `wit/` holds only such numbers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

/// Bytes as text, none as an empty list.
pub fn of_bytes(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok("") => json!([]),
        Ok(text) => json!({ "text": text }),
        Err(_) => json!({ "base64": STANDARD.encode(bytes) }),
    }
}

/// Lists of bytes become text.
pub fn readable(value: Value) -> Value {
    match value {
        Value::Array(items) if !items.is_empty() => match bytes(&items) {
            Some(bytes) => of_bytes(&bytes),
            None => Value::Array(items.into_iter().map(readable).collect()),
        },
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .map(|(name, value)| (name, readable(value)))
                .collect(),
        ),
        other => other,
    }
}

/// Takes [`readable`] back.
pub fn unreadable(value: Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.into_iter().map(unreadable).collect()),
        Value::Object(fields) => match text(&fields) {
            Some(bytes) => Value::from(bytes),
            None => Value::Object(
                fields
                    .into_iter()
                    .map(|(name, value)| (name, unreadable(value)))
                    .collect(),
            ),
        },
        other => other,
    }
}

fn bytes(items: &[Value]) -> Option<Vec<u8>> {
    let byte = |item: &Value| item.as_u64().and_then(|number| u8::try_from(number).ok());
    items.iter().map(byte).collect()
}

fn text(fields: &Map<String, Value>) -> Option<Vec<u8>> {
    let mut fields = fields.iter();
    let (name, value) = fields.next().filter(|_| fields.next().is_none())?;
    match (name.as_str(), value.as_str()?) {
        ("text", text) => Some(text.as_bytes().to_vec()),
        ("base64", text) => STANDARD.decode(text).ok(),
        _ => None,
    }
}
