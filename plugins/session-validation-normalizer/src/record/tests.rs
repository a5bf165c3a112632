//! What may stand under a session's key, and when it is written.

use lockgate_sdk::double::{Double, NOW, claims};
use lockgate_sdk::token::{Presented, Source as Sent};
use lockgate_sdk::{authenticate, authenticate::Policy};
use serde_json::json;

use super::*;

fn login(host: &Double) -> Login {
    host.good("good", |_| {});
    let sent = [Presented {
        source: Sent::Bearer,
        token: "good",
    }];
    authenticate(host, &sent, Policy::ACCESS).unwrap()
}

fn stored(last_activity: &str) -> Value {
    json!({
        "session_id": "s-7Qx", "user_id": 42, "email": "ada@example.org", "role": "user",
        "status": "active", "created_at": "2031-05-04T08:00:00.123456",
        "last_activity": last_activity, "expires_at": "2031-05-05T08:00:00",
        "metadata": {"device": "x"}
    })
}

fn put(host: &Double, value: &[u8]) {
    host.values
        .borrow_mut()
        .insert("session:s-7Qx".into(), value.into());
}

#[test]
fn a_missing_record_is_created_with_nine_keys_and_naive_times() {
    let host = Double::new("test");
    let login = login(&host);
    host.now.set(NOW + 30);
    let known = consult(&host, &login, Access::Note).unwrap();
    assert_eq!((known.created, known.last_activity), (NOW, NOW + 30));
    assert_eq!((known.source, known.degraded), (Source::Redis, false));
    let expected = json!({
        "session_id": "s-7Qx", "user_id": 42, "email": "ada@example.org", "role": "user",
        "status": "active", "created_at": "2031-05-04T09:00:00",
        "last_activity": "2031-05-04T09:00:30", "expires_at": "2031-05-04T10:00:00",
        "metadata": {"token_format": "enhanced"}
    });
    assert_eq!(host.json("session:s-7Qx"), Some(expected));
    assert!(host.sets.borrow()["user_sessions:42"].contains("s-7Qx"));
}

#[test]
fn reading_writes_nothing() {
    let host = Double::new("test");
    let login = login(&host);
    let known = consult(&host, &login, Access::Read).unwrap();
    assert_eq!((known.source, known.degraded), (Source::Jwt, false));
    put(&host, stored("2031-05-04T08:10:00").to_string().as_bytes());
    let known = consult(&host, &login, Access::Read).unwrap();
    assert_eq!(
        (known.created, known.last_activity),
        (NOW - 3600, NOW - 3000)
    );
    assert!(!host.wrote(""));
}

#[test]
fn activity_is_noted_once_a_minute() {
    let host = Double::new("test");
    let login = login(&host);
    put(&host, stored("2031-05-04T08:59:01").to_string().as_bytes());
    assert_eq!(
        consult(&host, &login, Access::Note).unwrap().last_activity,
        NOW - 59
    );
    assert!(!host.wrote(""));
    host.now.set(NOW + 1);
    assert_eq!(
        consult(&host, &login, Access::Note).unwrap().last_activity,
        NOW + 1
    );
    let mut expected = stored("2031-05-04T09:00:01");
    assert_eq!(host.json("session:s-7Qx"), Some(expected.clone()));
    assert_eq!(
        *host.writes.borrow(),
        ["compare_and_set session:s-7Qx", "set_add user_sessions:42"]
    );
    // a token that lives longer than the record prolongs it
    host.now.set(NOW + 100);
    let longer = Login {
        expires_at: Some(NOW + 86_400),
        ..login
    };
    consult(&host, &longer, Access::Note).unwrap();
    expected["last_activity"] = json!("2031-05-04T09:01:40");
    expected["expires_at"] = json!("2031-05-05T09:00:00");
    assert_eq!(host.json("session:s-7Qx"), Some(expected));
}

#[test]
fn a_record_of_the_future_is_left_alone() {
    let host = Double::new("test");
    let login = login(&host);
    put(&host, stored("2031-05-04T09:05:00").to_string().as_bytes());
    consult(&host, &login, Access::Note).unwrap();
    assert!(!host.wrote(""));
}

#[test]
fn what_others_wrote_is_neither_believed_nor_overwritten() {
    let host = Double::new("test");
    let login = login(&host);
    let mut extra = stored("2031-05-04T08:00:00");
    extra["more"] = json!(1);
    let mut less = stored("2031-05-04T08:00:00");
    less.as_object_mut().unwrap().remove("status");
    let mut text_id = stored("2031-05-04T08:00:00");
    text_id["user_id"] = json!("42");
    let foreign = [
        b"\x80\x04\x95\x10\x00pickled".to_vec(),
        b"".to_vec(),
        b"[]".to_vec(),
        b"null".to_vec(),
        extra.to_string().into_bytes(),
        less.to_string().into_bytes(),
        text_id.to_string().into_bytes(),
        stored("yesterday").to_string().into_bytes(),
    ];
    for value in foreign {
        put(&host, &value);
        let known = consult(&host, &login, Access::Note).unwrap();
        assert_eq!(
            (known.source, known.created, known.degraded),
            (Source::Jwt, NOW, false)
        );
        assert_eq!(host.values.borrow()["session:s-7Qx"], value);
    }
    assert!(!host.wrote(""));
}

#[test]
fn another_users_record_and_an_invalidated_one() {
    let host = Double::new("test");
    let login = login(&host);
    let mut other = stored("2031-05-04T08:00:00");
    other["user_id"] = json!(43);
    put(&host, other.to_string().as_bytes());
    assert_eq!(
        consult(&host, &login, Access::Note),
        Err(Fault::ConsistencyMismatch)
    );
    for (status, expected) in [
        ("invalidated", Err(Fault::TokenRevoked)),
        ("expired", Ok(())),
        ("pending_refresh", Ok(())),
    ] {
        let mut record = stored("2031-05-04T09:00:00");
        record["status"] = json!(status);
        put(&host, record.to_string().as_bytes());
        assert_eq!(
            consult(&host, &login, Access::Note).map(|_| ()),
            expected,
            "{status}"
        );
    }
}

#[test]
fn without_redis_the_emergency_store_or_the_token_answers() {
    let host = Double::new("test");
    let login = login(&host);
    host.redis_down();
    let known = consult(&host, &login, Access::Note).unwrap();
    assert_eq!(
        (known.source, known.degraded, known.created),
        (Source::Jwt, true, NOW)
    );
    let draft = crate::validate::draft(&login);
    host.now.set(NOW + 5);
    lockgate_sdk::Host::fallback_copy(&host, &draft).unwrap();
    let known = consult(&host, &login, Access::Note).unwrap();
    assert_eq!(
        (known.source, known.degraded, known.created),
        (Source::Fallback, true, NOW + 5)
    );
    let other = Login {
        session_id: "s-other".into(),
        ..login
    };
    assert_eq!(
        consult(&host, &other, Access::Note).unwrap().source,
        Source::Jwt
    );
    assert_eq!(claims("good").session_id.as_deref(), Some("s-7Qx"));
}
