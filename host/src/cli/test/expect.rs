//! What is expected against what came. An object holds what is named at least; a list has
//! the same length; some texts stand for any value of a kind.

use serde_json::Value;

/// Where the first difference is, in words; none: it is as expected.
pub(super) fn difference(expected: &Value, found: Option<&Value>, place: &str) -> Option<String> {
    if let Value::String(pattern) = expected
        && let Some(fits) = stands_for(pattern, found)
    {
        return (!fits).then(|| wrong(place, pattern, found));
    }
    let Some(found) = found else {
        return Some(wrong(place, &expected.to_string(), None));
    };
    match (expected, found) {
        (Value::Object(expected), Value::Object(fields)) => {
            expected.iter().find_map(|(name, value)| {
                difference(value, fields.get(name), &format!("{place}/{name}"))
            })
        }
        (Value::Array(expected), Value::Array(items)) if expected.len() == items.len() => {
            let mut pairs = expected.iter().zip(items).enumerate();
            pairs.find_map(|(at, (expected, item))| {
                difference(expected, Some(item), &format!("{place}/{at}"))
            })
        }
        // 1 and 1.0 are one number in JSON (RFC 8259 section 6).
        (Value::Number(expected), Value::Number(number))
            if expected.as_f64() == number.as_f64() =>
        {
            None
        }
        (expected, found) if expected == found => None,
        _ => Some(wrong(place, &expected.to_string(), Some(found))),
    }
}

/// As [`difference`], of one text, e.g. a header's.
pub(super) fn differs(expected: &str, found: Option<&str>) -> bool {
    let found = found.map(Value::from);
    match stands_for(expected, found.as_ref()) {
        Some(fits) => !fits,
        None => found.as_ref().and_then(Value::as_str) != Some(expected),
    }
}

/// True if the text stands for such values and this is one; none: it stands for itself.
fn stands_for(pattern: &str, found: Option<&Value>) -> Option<bool> {
    let text = found.and_then(Value::as_str);
    Some(match pattern {
        "<absent>" => found.is_none(),
        "<any>" => found.is_some(),
        "<null>" => found.is_some_and(Value::is_null),
        "<string>" => text.is_some_and(|text| !text.is_empty()),
        "<number>" => found.is_some_and(Value::is_number),
        "<bool>" => found.is_some_and(Value::is_boolean),
        "<list>" => found.is_some_and(Value::is_array),
        "<object>" => found.is_some_and(Value::is_object),
        _ => {
            let part = pattern.strip_prefix("<has ")?.strip_suffix('>')?;
            text.is_some_and(|text| text.contains(part))
        }
    })
}

fn wrong(place: &str, expected: &str, found: Option<&Value>) -> String {
    let place = if place.is_empty() { "the whole" } else { place };
    let found = found.map_or_else(|| "nothing".to_owned(), ToString::to_string);
    format!("{place}: expected {expected}, found {found}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_named_must_be_there() {
        let found = json!({"a": 1, "b": [1, "x"], "c": null, "d": {"e": true, "f": "fox"}});
        for expected in [
            json!({}),
            json!({"a": 1}),
            json!({"a": 1.0}),
            json!({"a": "<number>", "b": "<list>", "c": "<null>", "d": "<object>"}),
            json!({"b": ["<any>", "<string>"], "x": "<absent>"}),
            json!({"d": {"e": "<bool>", "f": "<has ox>"}}),
        ] {
            assert_eq!(difference(&expected, Some(&found), ""), None, "{expected}");
        }
        for (expected, words) in [
            (json!({"a": 2}), "/a: expected 2, found 1"),
            (json!({"a": "1"}), "/a: expected \"1\", found 1"),
            (json!({"b": [1]}), "/b: expected [1], found [1,\"x\"]"),
            (json!({"b": [1, "y"]}), "/b/1: expected \"y\", found \"x\""),
            (
                json!({"c": "<absent>"}),
                "/c: expected <absent>, found null",
            ),
            (json!({"d": {"g": 1}}), "/d/g: expected 1, found nothing"),
            (json!({"x": "<any>"}), "/x: expected <any>, found nothing"),
            (
                json!({"d": {"f": "<has cat>"}}),
                "/d/f: expected <has cat>, found \"fox\"",
            ),
            (json!([]), "the whole: expected [], found {"),
        ] {
            let said = difference(&expected, Some(&found), "").unwrap();
            assert!(said.starts_with(words), "{said}");
        }
        assert!(differs("a", None) && differs("a", Some("b")) && differs("<string>", Some("")));
        assert!(!differs("<absent>", None) && !differs("<has b>", Some("abc")));
    }
}
