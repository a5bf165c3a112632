//! Claims of any kind: an identity is one that they hold, and session ids are keys.

#![no_main]

use arbitrary::Arbitrary;
use lockgate_identity::{Claims, Scalar, normalise, session_id, usable_id, usable_session_id};

#[derive(Debug, Arbitrary)]
enum Value<'a> {
    Text(&'a str),
    Integer(i64),
    Number(f64),
    Boolean(bool),
    Other,
}

impl<'a> Value<'a> {
    fn scalar(&self) -> Scalar<'a> {
        match self {
            Self::Text(text) => Scalar::Text(text),
            Self::Integer(number) => Scalar::Integer(*number),
            Self::Number(number) => Scalar::Number(*number),
            Self::Boolean(flag) => Scalar::Boolean(*flag),
            Self::Other => Scalar::Other,
        }
    }
}

#[derive(Debug, Arbitrary)]
struct Given<'a> {
    sub: Option<Value<'a>>,
    id: Option<Value<'a>>,
    user_id: Option<Value<'a>>,
    email: Option<&'a str>,
    username: Option<&'a str>,
    admin: bool,
    session: Option<&'a str>,
    kind: Option<&'a str>,
}

libfuzzer_sys::fuzz_target!(|given: Given<'_>| {
    let claims = Claims {
        sub: given.sub.as_ref().map(Value::scalar),
        id: given.id.as_ref().map(Value::scalar),
        user_id: given.user_id.as_ref().map(Value::scalar),
        email: given.email,
        username: given.username,
        role: Some(if given.admin { "admin" } else { "user" }),
        session_id: given.session,
        token_type: given.kind,
    };
    let first = [claims.sub, claims.id, claims.user_id]
        .into_iter()
        .flatten()
        .find_map(usable_id);
    if let Ok(found) = normalise(&claims) {
        assert_eq!(Some(found.user_id), first);
        assert!(found.email.contains('@'));
        assert_eq!(found.role.as_str() == "admin", given.admin);
        assert_ne!(claims.token_type, Some("service"));
    }
    assert!(usable_session_id(&session_id(
        given.session,
        &"0".repeat(64)
    )));
});
