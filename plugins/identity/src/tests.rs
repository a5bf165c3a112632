//! The golden vectors: payloads in circulation and what they mean.

use proptest::prelude::*;

use super::Scalar::{Boolean, Integer, Number, Other, Text};
use super::*;

const EMAIL: &str = "ada@example.org";

fn user(sub: Option<Scalar<'static>>) -> Claims<'static> {
    Claims {
        sub,
        email: Some(EMAIL),
        role: Some("user"),
        ..Claims::default()
    }
}

fn found(user_id: u32, email: &str, format: Format) -> Result<Identity, Unsupported> {
    Ok(Identity {
        user_id,
        email: email.to_owned(),
        role: Role::User,
        format,
    })
}

#[test]
fn enhanced_tokens() {
    let unified = Claims {
        id: Some(Integer(14)),
        session_id: Some("s-7Qx"),
        ..user(Some(Text("14")))
    };
    assert_eq!(normalise(&unified), found(14, EMAIL, Format::Enhanced));
    // scoped tokens carry no id
    assert_eq!(
        normalise(&user(Some(Text("14")))),
        found(14, EMAIL, Format::Enhanced)
    );
    assert_eq!(
        normalise(&user(Some(Integer(14)))),
        found(14, EMAIL, Format::Enhanced)
    );
    // the cookie variant
    let cookie = Claims {
        user_id: Some(Integer(14)),
        ..user(Some(Text("14")))
    };
    assert_eq!(normalise(&cookie), found(14, EMAIL, Format::Enhanced));
}

#[test]
fn sub_wins_over_id() {
    let claims = Claims {
        id: Some(Integer(99)),
        ..user(Some(Text("14")))
    };
    assert_eq!(normalise(&claims), found(14, EMAIL, Format::Enhanced));
}

#[test]
fn legacy_tokens() {
    for id in [Integer(14), Text("14")] {
        let claims = Claims {
            id: Some(id),
            email: None,
            ..user(Some(Text("a@b.c")))
        };
        assert_eq!(normalise(&claims), found(14, "a@b.c", Format::Legacy));
    }
    let both = Claims {
        id: Some(Integer(14)),
        email: Some("d@e.f"),
        ..user(Some(Text("a@b.c")))
    };
    assert_eq!(normalise(&both), found(14, "a@b.c", Format::Legacy));
}

#[test]
fn mixed_tokens() {
    let username = Claims {
        username: Some("a@b.c"),
        user_id: Some(Integer(14)),
        email: None,
        ..user(Some(Text("zzz")))
    };
    assert_eq!(normalise(&username), found(14, "a@b.c", Format::Mixed));
    let no_sub = Claims {
        id: Some(Integer(14)),
        ..user(None)
    };
    assert_eq!(normalise(&no_sub), found(14, EMAIL, Format::Mixed));
}

#[test]
fn no_address_is_unsupported() {
    let none = Claims {
        id: Some(Integer(14)),
        email: None,
        ..user(Some(Text("14")))
    };
    assert_eq!(normalise(&none), Err(Unsupported));
    let no_at = Claims {
        email: Some("ada"),
        ..user(Some(Text("14")))
    };
    assert_eq!(normalise(&no_at), Err(Unsupported));
}

#[test]
fn roles_are_exact() {
    for role in [
        None,
        Some("superuser"),
        Some("Admin"),
        Some(" user"),
        Some(""),
    ] {
        let claims = Claims {
            role,
            ..user(Some(Text("14")))
        };
        assert_eq!(normalise(&claims), Err(Unsupported), "{role:?}");
    }
    let admin = Claims {
        role: Some("admin"),
        ..user(Some(Text("14")))
    };
    assert_eq!(normalise(&admin).map(|i| i.role), Ok(Role::Admin));
}

#[test]
fn unusable_ids_are_unsupported() {
    let ids = [
        Text("-5"),
        Text("0"),
        Text(""),
        Text("+5"),
        Text(" 5"),
        Text("5.0"),
        Text("١٤"),
        Text("2147483648"),
        Text("99999999999999999999"),
        Integer(0),
        Integer(-5),
        Integer(2_147_483_648),
        Number(14.0),
        Boolean(true),
        Other,
    ];
    for id in ids {
        assert_eq!(normalise(&user(Some(id))), Err(Unsupported), "{id:?}");
    }
    assert_eq!(usable_id(Text("2147483647")), Some(MAX_USER_ID));
    assert_eq!(usable_id(Integer(1)), Some(1));
}

#[test]
fn service_tokens_are_unsupported() {
    let claims = Claims {
        token_type: Some("service"),
        ..user(Some(Text("14")))
    };
    assert_eq!(normalise(&claims), Err(Unsupported));
}

#[test]
fn session_ids() {
    let sha = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    let derived = "jwt-0123456789abcdef0123456789abcdef";
    assert_eq!(session_id(Some("s-7Qx"), sha), "s-7Qx");
    assert_eq!(session_id(Some(&"a".repeat(128)), sha), "a".repeat(128));
    let long = "a".repeat(129);
    for claim in [
        None,
        Some(""),
        Some("42"),
        Some("a b"),
        Some("a:b"),
        Some("ä"),
        Some(&*long),
    ] {
        assert_eq!(session_id(claim, sha), derived, "{claim:?}");
    }
    assert_eq!(session_id(None, ""), "jwt-");
}

/// Text of which claims are made, and mistaken for ids.
const TEXT: &str = "[0-9]{0,11}|[a-z@.]{0,6}|admin|user|service|.{0,6}";

#[derive(Debug, Clone)]
enum Owned {
    Text(String),
    Integer(i64),
    Number(f64),
    Boolean(bool),
    Other,
}

impl Owned {
    fn borrow(&self) -> Scalar<'_> {
        match self {
            Self::Text(text) => Text(text),
            Self::Integer(number) => Integer(*number),
            Self::Number(number) => Number(*number),
            Self::Boolean(flag) => Boolean(*flag),
            Self::Other => Other,
        }
    }
}

fn scalar() -> impl Strategy<Value = Option<Owned>> {
    proptest::option::of(prop_oneof![
        TEXT.prop_map(Owned::Text),
        any::<i64>().prop_map(Owned::Integer),
        (-2_i64..20).prop_map(Owned::Integer),
        any::<f64>().prop_map(Owned::Number),
        any::<bool>().prop_map(Owned::Boolean),
        Just(Owned::Other),
    ])
}

fn text() -> impl Strategy<Value = Option<String>> {
    proptest::option::of(TEXT)
}

proptest! {
    #[test]
    fn an_id_is_its_own_decimal_text(id in 1..=MAX_USER_ID) {
        prop_assert_eq!(usable_id(Integer(i64::from(id))), Some(id));
        prop_assert_eq!(usable_id(Text(&id.to_string())), Some(id));
        prop_assert_eq!(usable_id(Number(f64::from(id))), None);
    }

    #[test]
    fn what_is_no_decimal_number_in_range_is_no_id(text in TEXT, number in any::<i64>()) {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let value = text.parse::<u128>().ok().filter(|_| digits);
        let in_range = |value: u128| (1..=u128::from(MAX_USER_ID)).contains(&value);
        let wanted = value.filter(|value| in_range(*value));
        prop_assert_eq!(usable_id(Text(&text)).map(u128::from), wanted);
        let wanted = u128::try_from(number).ok().filter(|value| in_range(*value));
        prop_assert_eq!(usable_id(Integer(number)).map(u128::from), wanted);
    }

    #[test]
    fn an_identity_is_one_that_the_claims_hold(
        (sub, id, user_id) in (scalar(), scalar(), scalar()),
        (email, username, role) in (text(), text(), text()),
        token_type in text(),
    ) {
        let claims = Claims {
            sub: sub.as_ref().map(Owned::borrow),
            id: id.as_ref().map(Owned::borrow),
            user_id: user_id.as_ref().map(Owned::borrow),
            email: email.as_deref(),
            username: username.as_deref(),
            role: role.as_deref(),
            session_id: None,
            token_type: token_type.as_deref(),
        };
        let ids = [claims.sub, claims.id, claims.user_id];
        let usable: Vec<u32> = ids.into_iter().flatten().filter_map(usable_id).collect();
        let texts = [claims.email, claims.sub.and_then(Scalar::text), claims.username];
        let mails: Vec<&str> = texts.into_iter().flatten().filter(|t| t.contains('@')).collect();
        let known = matches!(claims.role, Some("admin" | "user"));
        let service = claims.token_type == Some("service");
        match normalise(&claims) {
            Ok(found) => {
                prop_assert!(known && !service);
                prop_assert_eq!(Some(found.role.as_str()), claims.role);
                prop_assert!(mails.contains(&found.email.as_str()));
                // The first usable one, so that no later claim makes another user of it.
                prop_assert_eq!(Some(&found.user_id), usable.first());
            }
            Err(Unsupported) => {
                prop_assert!(service || !known || usable.is_empty() || mails.is_empty());
            }
        }
    }

    #[test]
    fn a_session_id_is_always_usable_as_a_key(claim in text(), sha in "[0-9a-f]{64}") {
        let id = session_id(claim.as_deref(), &sha);
        prop_assert!(usable_session_id(&id), "{}", id);
        let kept = claim.as_deref().is_some_and(usable_session_id);
        prop_assert_eq!(kept, claim.as_deref() == Some(&id));
    }
}
