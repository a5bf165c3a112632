//! The golden vectors: payloads in circulation and what they mean.

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
