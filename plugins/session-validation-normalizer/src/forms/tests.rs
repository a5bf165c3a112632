//! One test for each form in circulation, and the ways in which they go wrong.

use lockgate_sdk::double::NOW;
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn form(value: &Value) -> Option<Read> {
    read(value.as_object().unwrap(), NOW)
}

fn summary(value: &Value) -> String {
    form(value).map_or_else(
        || "none".to_owned(),
        |read| {
            let s = read.session;
            let end = s.expires_at.map_or_else(|| "-".to_owned(), Time::text);
            let minutes = s
                .expires_in_minutes
                .map_or_else(|| "-".to_owned(), |m| m.to_string());
            let (id, session) = (s.user_id, s.session_id.unwrap_or_else(|| "-".to_owned()));
            format!(
                "{} {id} {} {} {session} {end} {minutes} {:?} {}",
                s.valid, s.email, s.role, read.origin, read.format
            )
        },
    )
}

#[test]
fn the_session_record() {
    let mut record = json!({
        "session_id": "s-7Qx", "user_id": 42, "email": "ada@example.org", "role": "user",
        "status": "active", "created_at": "2031-05-04T08:00:00",
        "last_activity": "2031-05-04T08:00:00", "expires_at": "2031-05-04T10:00:00.5",
        "metadata": {"device": "x"}
    });
    let good = "true 42 ada@example.org user s-7Qx 2031-05-04T10:00:00Z 60 Redis enhanced";
    assert_eq!(summary(&record), good);
    assert_eq!(
        form(&record).unwrap().session.metadata,
        *json!({"device": "x"}).as_object().unwrap()
    );
    for (status, valid) in [
        ("pending_refresh", true),
        ("expired", false),
        ("invalidated", false),
    ] {
        record["status"] = json!(status);
        assert_eq!(form(&record).unwrap().session.valid, valid, "{status}");
    }
}

#[test]
fn the_user_record() {
    let record = json!({
        "user_id": 42, "email": "ada@example.org", "role": "admin",
        "login_time": "2031-05-04T08:00:00", "token_format": "enhanced"
    });
    assert_eq!(
        summary(&record),
        "true 42 ada@example.org admin - - - Redis enhanced"
    );
}

#[test]
fn the_emergency_record() {
    let record = json!({
        "user_id": 42, "email": "ada@example.org", "role": "user", "session_id": "s-7Qx",
        "created_at": "2031-05-04T08:00:00Z", "last_accessed": "2031-05-04T08:00:00Z",
        "expires_at": "2031-05-04T09:00:00Z", "session_data": {"a": 1}, "token_format": "legacy"
    });
    let ended = "false 42 ada@example.org user s-7Qx 2031-05-04T09:00:00Z 0 Fallback enhanced";
    assert_eq!(summary(&record), ended);
    assert_eq!(
        form(&record).unwrap().session.metadata,
        *json!({"a": 1}).as_object().unwrap()
    );
}

#[test]
fn answers_of_services() {
    let mut flat = json!({
        "valid": true, "authenticated": true, "user_id": 42, "id": 42, "email": "ada@example.org",
        "role": "user", "session_id": "s-7Qx", "expires_at": "2031-05-04T09:00:30Z",
        "is_active": true
    });
    let good = "true 42 ada@example.org user s-7Qx 2031-05-04T09:00:30Z 1 Api enhanced";
    assert_eq!(summary(&flat), good);
    for word in [
        json!(false),
        json!("false"),
        json!("true"),
        json!(1),
        json!(null),
    ] {
        flat["valid"] = word.clone();
        assert!(!form(&flat).unwrap().session.valid, "{word}");
    }
    let invalid = json!({"valid": false, "user_id": null, "email": null, "role": null});
    assert_eq!(summary(&invalid), "none");
    let nested =
        json!({"valid": true, "user": {"id": "42", "email": "ada@example.org", "role": "user"}});
    assert_eq!(
        summary(&nested),
        "true 42 ada@example.org user - - - Api legacy"
    );
    let disabled = json!({"valid": true, "user": {"id": 42, "email": "a@b.c", "role": "user", "is_active": false}});
    assert!(!form(&disabled).unwrap().session.valid);
}

#[test]
fn claims() {
    let mut claims = json!({
        "sub": "42", "email": "ada@example.org", "role": "user", "session_id": null,
        "exp": 1_935_655_200.7, "iat": 1_935_651_600.7
    });
    let good = "true 42 ada@example.org user - 2031-05-04T10:00:00Z 60 Jwt mixed";
    assert_eq!(summary(&claims), good);
    claims["id"] = json!(99);
    assert_eq!(summary(&claims), good);
    let legacy = json!({"sub": "ada@example.org", "id": 42, "role": "user", "exp": 1_935_655_200});
    let read = "true 42 ada@example.org user - 2031-05-04T10:00:00Z 60 Jwt legacy";
    assert_eq!(summary(&legacy), read);
}

#[test]
fn a_row_of_the_users_table() {
    let mut row = json!({
        "id": 42, "email": "ada@example.org", "role": "user", "is_active": true, "status": "active"
    });
    assert_eq!(
        summary(&row),
        "true 42 ada@example.org user - - - Database legacy"
    );
    for status in ["disabled", "pending_approval"] {
        row["status"] = json!(status);
        assert!(!form(&row).unwrap().session.valid, "{status}");
    }
}

#[test]
fn nothing_usable() {
    let rows = [
        json!({}),
        json!({"user_id": 0, "email": "a@b.c", "role": "user"}),
        json!({"user_id": -1, "email": "a@b.c", "role": "user"}),
        json!({"user_id": 1.0, "email": "a@b.c", "role": "user"}),
        json!({"user_id": true, "email": "a@b.c", "role": "user"}),
        json!({"user_id": 1_u64 << 63, "email": "a@b.c", "role": "user"}),
        json!({"user_id": 1, "id": 2, "email": "a@b.c", "role": "user"}),
        json!({"user_id": 1, "email": "a.b.c", "role": "user"}),
        json!({"user_id": 1, "email": "a@b.c", "role": "root"}),
        json!({"user_id": 1, "email": "a@b.c"}),
        json!({"user": {}, "user_id": 1, "email": "a@b.c", "role": "user"}),
    ];
    for row in rows {
        assert_eq!(summary(&row), "none", "{row}");
    }
}

#[test]
fn an_end_that_cannot_be_read_is_not_valid() {
    for end in [
        json!("soon"),
        json!(-1),
        json!(1e300),
        json!([]),
        json!(true),
    ] {
        let session = json!({"user_id": 1, "email": "a@b.c", "role": "user", "expires_at": end});
        let read = form(&session).unwrap().session;
        assert_eq!((read.valid, read.expires_at), (false, None), "{end}");
    }
    let digits = json!({"user_id": 1, "email": "a@b.c", "role": "user", "session_id": "42"});
    assert_eq!(form(&digits).unwrap().session.session_id, None);
}

fn value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (40u32..44).prop_map(Value::from),
        "[a-z]{0,3}@?[0-9.]{0,4}".prop_map(Value::from),
        prop_oneof!["user", "admin", "active", "42", "2031-05-04T10:00:00"].prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 24, 6, |inner| {
        prop::collection::btree_map(name(), inner, 0..6)
            .prop_map(|object| Value::Object(object.into_iter().collect()))
    })
}

fn name() -> impl Strategy<Value = String> {
    let known = [
        "user_id",
        "id",
        "sub",
        "email",
        "username",
        "role",
        "user",
        "valid",
        "status",
        "exp",
        "expires_at",
        "session_id",
        "metadata",
        "session_data",
        "is_active",
    ];
    prop::sample::select(known.map(str::to_owned).to_vec())
}

proptest! {
    #[test]
    fn whatever_is_read_keeps_the_rules(
        object in prop::collection::btree_map(name(), value(), 0..12),
    ) {
        let object: Object = object.into_iter().collect();
        let Some(read) = read(&object, NOW) else { return Ok(()) };
        let session = read.session;
        prop_assert!((1..=identity::MAX_USER_ID).contains(&session.user_id));
        prop_assert!(session.email.contains('@') && Role::parse(session.role).is_some());
        prop_assert!(session.session_id.is_none_or(|id| usable_session_id(&id)));
        prop_assert!(!session.valid || session.expires_at.is_none_or(|end| end.0 > NOW));
        prop_assert_eq!(session.expires_at.is_some(), session.expires_in_minutes.is_some());
    }
}
