//! Traces as files, and how outcomes differ.

use serde_json::json;

use super::*;
use crate::bindings::lockgate::plugin::types::{Caller, Origin};
use crate::config::Config;

fn request() -> Request {
    Request {
        method: "POST".to_owned(),
        path: "/a".to_owned(),
        query: None,
        headers: vec![("accept".to_owned(), "*/*".to_owned())],
        body: vec![0xff, 0x00],
        caller: Caller {
            address: "192.0.2.1".to_owned(),
            origin: Origin::Absent,
            service: false,
        },
        extensions: Vec::new(),
    }
}

fn answer(status: u16, body: &str) -> Outcome {
    Outcome::Answer {
        status,
        headers: vec![("a".to_owned(), "b".to_owned())],
        body: json!({ "text": body }),
    }
}

fn trace() -> Trace {
    let config = Config::from_parts(None, |_| None).unwrap();
    let limits = &config.services[0].limits;
    let environment = [("A".to_owned(), "1".to_owned())];
    let component = ("hello", "0a0b");
    Trace::new(
        component,
        limits,
        &environment,
        "id-1",
        &request(),
        Vec::new(),
        answer(500, "x"),
    )
}

#[test]
fn a_file_gives_the_trace_back() {
    let trace = trace();
    let file = trace.to_file(None).unwrap();
    let read = Trace::from_file(file, None).unwrap();
    assert_eq!(read, trace);
    assert_eq!(read.request().unwrap(), request());
}

#[test]
fn an_encrypted_file_needs_its_key_and_hides_everything() {
    let key = |digit: &str| Key::from_text(&format!("{}\n", digit.repeat(64))).unwrap();
    let trace = trace();
    let file = trace.to_file(Some(&key("a"))).unwrap();
    assert!(!file.windows(5).any(|window| window == b"hello"));
    assert_ne!(
        file,
        trace.to_file(Some(&key("a"))).unwrap(),
        "another nonce each time"
    );
    assert_eq!(
        Trace::from_file(file.clone(), Some(&key("a"))).unwrap(),
        trace
    );
    let error = |file: &[u8], key: Option<&Key>| Trace::from_file(file.to_vec(), key).unwrap_err();
    assert!(matches!(error(&file, None), TraceError::Encrypted));
    assert!(matches!(error(&file, Some(&key("b"))), TraceError::Key));
    for at in [20, 40, file.len() - 1] {
        let mut changed = file.clone();
        changed[at] ^= 1;
        assert!(
            matches!(error(&changed, Some(&key("a"))), TraceError::Key),
            "{at}"
        );
    }
    for cut in 17..40 {
        assert!(
            matches!(error(&file[..cut], Some(&key("a"))), TraceError::Key),
            "{cut}"
        );
    }
    for bad in ["", "abc", &"g".repeat(64), &"a".repeat(62), &"a".repeat(66)] {
        assert!(Key::from_text(bad).is_err(), "{bad}");
    }
}

#[test]
fn what_is_no_trace_is_refused_in_words() {
    let error = |text: &str| Trace::from_file(text.as_bytes().to_vec(), None).unwrap_err();
    for text in ["", "{", "[]", "{\"format\":1}", "{\"format\":\"1\"}"] {
        assert!(
            error(text).to_string().starts_with("this is not a trace: "),
            "{text}"
        );
    }
    assert!(matches!(error("{\"format\":2}"), TraceError::Format(2)));
    let mut wrong = serde_json::to_value(trace()).unwrap();
    wrong["request"] = json!({"method": 5});
    assert!(matches!(error(&wrong.to_string()), TraceError::Form(_)));
}

#[test]
fn the_first_difference_is_named() {
    let was = answer(500, "one two three");
    let said = |is: &Outcome| was.difference(is).unwrap_or_default();
    assert_eq!(said(&was), "");
    assert_eq!(said(&answer(200, "x")), "status: recorded was 500, now 200");
    let body = said(&answer(500, "one two four"));
    assert!(body.contains("from character 8 on"), "{body}");
    let fault = Outcome::Fault {
        kind: "trap".to_owned(),
        words: "it fell".to_owned(),
    };
    assert_eq!(
        said(&fault),
        "recorded was an answer 500, now no answer (it fell)"
    );
    assert!(fault.is_failure() && was.is_failure() && !answer(499, "").is_failure());
}
