//! Tokens good and bad against the verification, and keys that change.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::*;

const NOW: u64 = 1_900_000_000;
const SECRET: &str = "first-line-of-a-key-that-is-long\nsecond-line-of-the-same-key";

fn config() -> config::Jwt {
    config::Jwt {
        secret_files: Vec::new(),
        secret: Some(SecretString::from(SECRET)),
        previous_file: None,
        overlap: Duration::from_secs(604_800),
        allow_missing_exp: false,
        access_max: Duration::from_secs(86_400),
        refresh_grace: Duration::from_secs(60),
        accept_unmarked: true,
        verified_bytes: 1 << 20,
    }
}

fn keys() -> Keys {
    Keys::load(&config(), NOW)
}

fn raw(header: &str, payload: &str, secret: &str) -> String {
    let message = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(payload)
    );
    let signature = hmac_sha256(secret.as_bytes(), message.as_bytes()).unwrap();
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

fn token(claims: &Value) -> String {
    raw(HEADER, &claims.to_string(), SECRET)
}

fn verify(claims: &Value, usage: Usage) -> Result<Claims, Rejection> {
    keys().verify(&token(claims), usage, NOW)
}

fn access() -> Value {
    json!({"sub": "14", "email": "a@b.c", "id": 14, "role": "user",
           "iat": NOW - 10, "exp": NOW + 3000})
}

fn with(mut claims: Value, name: &str, value: Value) -> Value {
    claims[name] = value;
    claims
}

fn without(mut claims: Value, name: &str) -> Value {
    claims.as_object_mut().unwrap().remove(name);
    claims
}

#[test]
fn good_claims_arrive_typed() {
    let claims = with(access(), "exp", json!(NOW as f64 + 3000.9));
    let token = token(&claims);
    let claims = keys().verify(&token, Usage::Access, NOW).unwrap();
    assert_eq!(claims.sub, Some(Scalar::Text("14".into())));
    assert_eq!(claims.id, Some(Scalar::Integer(14)));
    assert_eq!(claims.expires_at, Some(NOW + 3000));
    assert_eq!(claims.token_sha256, sha256_hex(token.as_bytes()));
    for (value, scalar) in [
        (json!(1.0), Scalar::Number(1.0)),
        (json!(true), Scalar::Boolean(true)),
        (json!(null), Scalar::Other),
        (json!([1]), Scalar::Other),
        (json!(u64::MAX), Scalar::Number(u64::MAX as f64)),
        (json!(-5), Scalar::Integer(-5)),
    ] {
        let claims = verify(&with(access(), "sub", value), Usage::Access).unwrap();
        assert_eq!(claims.sub, Some(scalar));
    }
}

#[test]
fn expiry_has_sixty_seconds_of_leeway() {
    for (exp, expected) in [
        (json!(NOW), None),
        (json!(NOW - 30), None),
        (json!(NOW - 59), None),
        (json!(NOW - 60), Some(Rejection::Expired)),
        (json!(NOW as f64 - 59.5), Some(Rejection::Expired)),
        (json!(NOW - 61), Some(Rejection::Expired)),
        (json!(0), Some(Rejection::Expired)),
        (json!((NOW + 60).to_string()), Some(Rejection::Invalid)),
        (json!(true), Some(Rejection::Invalid)),
        (json!(null), Some(Rejection::Invalid)),
        (json!([NOW]), Some(Rejection::Invalid)),
        (json!(-1), Some(Rejection::Invalid)),
        (json!(253_402_300_800u64), Some(Rejection::Invalid)),
        (json!(u64::MAX), Some(Rejection::Invalid)),
        (json!(1e300), Some(Rejection::Invalid)),
    ] {
        let result = verify(&with(access(), "exp", exp.clone()), Usage::Access);
        assert_eq!(result.err(), expected, "exp {exp}");
    }
}

#[test]
fn a_missing_exp_is_a_setting_and_never_good_for_a_refresh() {
    let claims = without(access(), "exp");
    assert_eq!(verify(&claims, Usage::Access), Err(Rejection::Invalid));
    let lax = Keys::load(
        &config::Jwt {
            allow_missing_exp: true,
            ..config()
        },
        NOW,
    );
    assert_eq!(
        lax.verify(&token(&claims), Usage::Access, NOW)
            .unwrap()
            .expires_at,
        None
    );
    for usage in [Usage::StrictAccess, Usage::Refresh] {
        let claims = with(claims.clone(), "token_use", json!("refresh"));
        assert_eq!(
            lax.verify(&token(&claims), usage, NOW),
            Err(Rejection::Invalid)
        );
    }
}

#[test]
fn iat_and_nbf_must_lie_in_range_and_are_else_not_checked() {
    for name in ["iat", "nbf"] {
        for value in [json!(NOW + 3600), json!("text"), json!(null), json!(0)] {
            let claims = with(
                with(access(), name, value.clone()),
                "exp",
                json!(NOW + 3601),
            );
            let far = name == "iat" && value == json!(0);
            let expected = far.then_some(Rejection::Invalid);
            assert_eq!(
                verify(&claims, Usage::Access).err(),
                expected,
                "{name} {value}"
            );
        }
        for value in [
            json!(-1),
            json!(-0.5),
            json!(253_402_300_800u64),
            json!(1e18),
        ] {
            let claims = with(access(), name, value.clone());
            assert_eq!(
                verify(&claims, Usage::Access),
                Err(Rejection::Invalid),
                "{name} {value}"
            );
        }
    }
}

#[test]
fn the_signature_is_judged_before_any_claim() {
    let expired = with(access(), "exp", json!(1));
    let forged = raw(
        HEADER,
        &expired.to_string(),
        "another-secret-of-thirty-two-byte",
    );
    assert_eq!(
        keys().verify(&forged, Usage::Access, NOW),
        Err(Rejection::Signature)
    );
    let good = token(&access());
    let (message, _) = good.rsplit_once('.').unwrap();
    for signature in ["", "AA", &URL_SAFE_NO_PAD.encode([0; 32])] {
        let forged = format!("{message}.{signature}");
        assert_eq!(
            keys().verify(&forged, Usage::Access, NOW),
            Err(Rejection::Signature)
        );
    }
}

#[test]
fn trimmed_keys_are_other_keys() {
    for wrong in [
        SECRET.replace('\n', ""),
        SECRET.replace('\n', "\r\n"),
        format!("{SECRET}\n"),
    ] {
        let forged = raw(HEADER, &access().to_string(), &wrong);
        assert_eq!(
            keys().verify(&forged, Usage::Access, NOW),
            Err(Rejection::Signature)
        );
    }
}

#[test]
fn bad_headers_are_invalid_even_if_signed() {
    let payload = access().to_string();
    for header in [
        r#"{"alg":"none"}"#,
        r#"{"alg":"HS512"}"#,
        r#"{"alg":"hs256"}"#,
        r#"{"alg":["HS256"]}"#,
        r#"{"typ":"JWT"}"#,
        r#"{"alg":"HS256","crit":["x"],"x":1}"#,
        r#"{"alg":"HS256","crit":[]}"#,
        r#"{"alg":"HS256","zip":"DEF"}"#,
        r#"{"alg":"HS256","b64":false}"#,
        r#"{"alg":"none","alg":"HS256"}"#,
        r#"{"alg":"HS256","\u0061lg":"HS256"}"#,
        r#"{"alg":"HS256","x":{"a":1,"a":2}}"#,
        r#"["HS256"]"#,
        r#"{"alg":"HS256"} x"#,
        "",
        "HS256",
    ] {
        let token = raw(header, &payload, SECRET);
        assert_eq!(
            keys().verify(&token, Usage::Access, NOW),
            Err(Rejection::Invalid),
            "{header}"
        );
    }
    for header in [
        r#"{"alg":"HS256"}"#,
        r#" {"typ":"x","alg":"HS256","kid":"../../dev/null","jku":"http://a","jwk":{},"x5u":"b"}"#,
    ] {
        let token = raw(header, &payload, SECRET);
        assert!(
            keys().verify(&token, Usage::Access, NOW).is_ok(),
            "{header}"
        );
    }
}

#[test]
fn bad_payloads_are_invalid_even_if_signed() {
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    let nested = format!(r#"{{"a":{deep}}}"#);
    for payload in [
        r#"{"sub":"1","sub":"2","exp":1999999999}"#,
        r#"{"sub":"1","s\u0075b":"2","exp":1999999999}"#,
        "[]",
        "null",
        "",
        "{",
        r#"{"exp":1e999}"#,
        "{\"a\":\"\u{1}\"}",
        &nested,
    ] {
        let token = raw(HEADER, payload, SECRET);
        assert_eq!(
            keys().verify(&token, Usage::Access, NOW),
            Err(Rejection::Invalid),
            "{payload}"
        );
    }
}

#[test]
fn only_canonical_base64url_in_three_parts() {
    let good = token(&access());
    let mut bad = vec![
        String::new(),
        ".".into(),
        "..".into(),
        "...".into(),
        format!("{good}."),
        format!("{good}=",),
        format!(".{good}"),
        format!(" {good}"),
        format!("{good}\n"),
        good.replacen('.', "=.", 1),
        format!("{good}.AAAA"),
        "é.é.é".into(),
    ];
    // The last character of a 32-byte signature holds two unused bits.
    let mut twisted = good;
    let last = twisted.pop().unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let at = alphabet.find(last).unwrap();
    twisted.push(alphabet.chars().nth(at + 1).unwrap());
    bad.push(twisted);
    for token in bad {
        assert_eq!(
            keys().verify(&token, Usage::Access, NOW),
            Err(Rejection::Invalid),
            "{token:?}"
        );
    }
}

#[test]
fn sixteen_kib_is_the_limit() {
    let fill = |length: usize| token(&with(access(), "fill", json!("x".repeat(length))));
    let mut length = 11_000;
    while fill(length).len() < MAX {
        length += 1;
    }
    const MAX: usize = 16 * 1024;
    while fill(length).len() > MAX {
        length -= 1;
    }
    assert!(keys().verify(&fill(length), Usage::Access, NOW).is_ok());
    assert_eq!(
        keys().verify(&fill(length + 3), Usage::Access, NOW),
        Err(Rejection::Invalid)
    );
    assert_eq!(
        keys().verify(&"x".repeat(1_000_000), Usage::Access, NOW),
        Err(Rejection::Invalid)
    );
}

#[test]
fn an_access_token_may_live_a_day() {
    let life = |life: u64| with(access(), "exp", json!(NOW - 10 + life));
    assert!(verify(&life(86_400), Usage::Access).is_ok());
    assert_eq!(
        verify(&life(86_401), Usage::Access),
        Err(Rejection::Invalid)
    );
    let no_iat = |left: u64| without(with(access(), "exp", json!(NOW + left)), "iat");
    assert!(verify(&no_iat(86_400), Usage::Access).is_ok());
    assert_eq!(
        verify(&no_iat(86_401), Usage::Access),
        Err(Rejection::Invalid)
    );
    let marked = with(access(), "token_use", json!("refresh"));
    assert_eq!(verify(&marked, Usage::Access), Err(Rejection::Invalid));
    // Expired comes before the use.
    let old = with(
        with(access(), "exp", json!(NOW - 100)),
        "token_use",
        json!("refresh"),
    );
    assert_eq!(verify(&old, Usage::Access), Err(Rejection::Expired));
}

#[test]
fn strict_use_asks_for_more() {
    let strict = |claims: Value| verify(&claims, Usage::StrictAccess).err();
    assert_eq!(strict(access()), None);
    assert_eq!(strict(without(access(), "iat")), Some(Rejection::Invalid));
    assert_eq!(strict(without(access(), "exp")), Some(Rejection::Invalid));
    assert_eq!(strict(with(access(), "exp", json!(NOW - 9))), None);
    assert_eq!(
        strict(with(access(), "exp", json!(NOW - 10))),
        Some(Rejection::Expired)
    );
    for name in ["iat", "nbf"] {
        assert_eq!(strict(with(access(), name, json!(NOW + 10))), None);
        assert_eq!(
            strict(with(access(), name, json!(NOW + 11))),
            Some(Rejection::Invalid)
        );
    }
}

#[test]
fn refresh_tokens_are_marked_or_told_by_their_shape() {
    let week = with(access(), "exp", json!(NOW + 604_790));
    let refresh = |claims: &Value| verify(claims, Usage::Refresh).err();
    let invalid = Some(Rejection::Invalid);
    assert_eq!(refresh(&week), None);
    assert_eq!(refresh(&access()), invalid);
    assert_eq!(refresh(&without(access(), "iat")), None);
    assert_eq!(
        refresh(&with(without(access(), "iat"), "user_id", json!(14))),
        invalid
    );
    assert_eq!(
        refresh(&with(access(), "token_use", json!("refresh"))),
        None
    );
    assert_eq!(
        refresh(&with(week.clone(), "token_use", json!("access"))),
        invalid
    );
    assert_eq!(
        refresh(&with(week.clone(), "exp", json!(NOW - 60))),
        Some(Rejection::Expired)
    );
    let marked_only = Keys::load(
        &config::Jwt {
            accept_unmarked: false,
            ..config()
        },
        NOW,
    );
    assert_eq!(
        marked_only.verify(&token(&week), Usage::Refresh, NOW),
        Err(Rejection::Invalid)
    );
    let marked = with(week, "token_use", json!("refresh"));
    assert!(
        marked_only
            .verify(&token(&marked), Usage::Refresh, NOW)
            .is_ok()
    );
}

fn file(content: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    std::fs::write(&path, content).unwrap();
    (folder, path)
}

fn from_file(path: &std::path::Path) -> Keys {
    let jwt = config::Jwt {
        secret_files: vec![path.to_owned()],
        secret: None,
        ..config()
    };
    Keys::load(&jwt, NOW)
}

#[test]
fn the_secret_is_trimmed_at_both_ends_only() {
    let (_folder, path) = file(format!(" \t{SECRET}\r\n\n").as_bytes());
    assert!(
        from_file(&path)
            .verify(&token(&access()), Usage::Access, NOW)
            .is_ok()
    );
    let (_folder, path) = file(&[0xff; 40]);
    assert!(from_file(&path).ready(), "any bytes are a key");
}

#[test]
fn short_secrets_are_none_and_hide_no_later_source() {
    for content in ["x".repeat(31), format!("  {}  ", "x".repeat(31))] {
        let (_folder, path) = file(content.as_bytes());
        let jwt = config::Jwt {
            secret_files: vec![path],
            ..config()
        };
        let keys = Keys::load(&jwt, NOW);
        assert!(!keys.ready());
        assert_eq!(
            keys.verify(&token(&access()), Usage::Access, NOW),
            Err(Rejection::NoSecret)
        );
        assert_eq!(keys.sign(&access()), None);
    }
    for content in ["", " \n "] {
        let (_folder, path) = file(content.as_bytes());
        let missing = path.with_file_name("missing");
        let jwt = config::Jwt {
            secret_files: vec![missing, path],
            ..config()
        };
        assert!(
            Keys::load(&jwt, NOW).ready(),
            "empty and missing files are passed over"
        );
    }
}

const SECOND: &str = "a-new-secret-that-is-long-enough-for-it";
const THIRD: &str = "another-secret-that-is-long-enough-for-it";

/// Looks at the file once. True: another key signs now.
fn reload(keys: &Keys, path: &std::path::Path, now: u64) -> bool {
    let before = keys.signer();
    keys.take(path, source::read(path), &mut None, now);
    keys.signer() != before
}

fn change(keys: &Keys, path: &std::path::Path, content: &str, now: u64) {
    std::fs::write(path, content).unwrap();
    assert!(reload(keys, path, now), "a new key");
}

fn issued(at: u64) -> Value {
    with(access(), "iat", json!(at))
}

#[test]
fn a_changed_file_signs_at_once_and_the_old_key_overlaps() {
    let (_folder, path) = file(SECRET.as_bytes());
    let keys = from_file(&path);
    assert!(!reload(&keys, &path, NOW), "nothing has changed");
    let old = token(&access());
    let young = token(&issued(NOW + 1));
    let undated = token(&without(access(), "iat"));
    for bad in [&b""[..], b"short"] {
        std::fs::write(&path, bad).unwrap();
        assert!(!reload(&keys, &path, NOW));
        assert!(keys.verify(&old, Usage::Access, NOW).is_ok());
    }
    change(&keys, &path, SECOND, NOW);
    let fresh = keys.sign(&access()).unwrap();
    assert_eq!(fresh, raw(HEADER, &payload(&fresh), SECOND));
    assert!(keys.verify(&fresh, Usage::Access, NOW).is_ok());
    assert!(keys.verify(&old, Usage::Access, NOW).is_ok());
    for refused in [&young, &undated] {
        let verified = keys.verify(refused, Usage::Access, NOW);
        assert_eq!(verified, Err(Rejection::Signature));
    }
    let later = NOW + 604_801;
    let verified = keys.verify(&old, Usage::Access, later);
    assert_eq!(verified, Err(Rejection::Signature));
}

/// The payload of a token, as text.
fn payload(token: &str) -> String {
    let payload = token.split('.').nth(1).unwrap();
    String::from_utf8(URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

#[test]
fn each_of_several_replaced_keys_has_its_own_overlap() {
    let (_folder, path) = file(SECRET.as_bytes());
    let keys = from_file(&path);
    let signed = |at: u64, secret: &str| raw(HEADER, &issued(at).to_string(), secret);
    change(&keys, &path, SECOND, NOW);
    change(&keys, &path, THIRD, NOW + 100);
    let now = NOW + 100;
    for (at, secret, good) in [
        (NOW, SECRET, true),
        (NOW + 1, SECRET, false),
        (NOW + 100, SECOND, true),
        (NOW + 101, SECOND, false),
        (NOW + 101, THIRD, true),
    ] {
        let verified = keys.verify(&signed(at, secret), Usage::Access, now);
        assert_eq!(verified.is_ok(), good, "{secret} at {at}: {verified:?}");
    }
    // The first key comes back: it is the current one, without limits.
    change(&keys, &path, SECRET, NOW + 200);
    let verified = keys.verify(&signed(NOW + 201, SECRET), Usage::Access, NOW + 200);
    assert!(verified.is_ok(), "{verified:?}");
    // What is over is forgotten, and the number of keys is bounded.
    let over = NOW + 604_801 + 200;
    change(&keys, &path, SECOND, over);
    assert_eq!(keys.ring().previous.len(), 1);
    for number in 0..2 * MAX_PREVIOUS {
        change(&keys, &path, &format!("{THIRD}{number}"), over + 1);
    }
    assert_eq!(keys.ring().previous.len(), MAX_PREVIOUS);
}

#[test]
fn a_replaced_key_signs_again_what_it_has_signed() {
    let (_folder, path) = file(SECRET.as_bytes());
    let keys = from_file(&path);
    let first = keys.sign(&access()).unwrap();
    let signer = keys.signer().unwrap();
    change(&keys, &path, SECOND, NOW);
    assert_ne!(keys.sign(&access()).unwrap(), first);
    assert_eq!(keys.sign_again(&access(), &signer).unwrap(), first);
    let fresh = keys.sign(&access()).unwrap();
    assert_eq!(keys.sign_again(&access(), "unknown").unwrap(), fresh);
}

#[test]
fn with_no_overlap_the_old_keys_are_refused_at_once() {
    let (_folder, path) = file(SECRET.as_bytes());
    let previous = path.with_file_name("previous");
    std::fs::write(&previous, THIRD).unwrap();
    let jwt = config::Jwt {
        secret_files: vec![path.clone()],
        previous_file: Some(previous),
        overlap: Duration::ZERO,
        ..config()
    };
    let keys = Keys::load(&jwt, NOW);
    let signer = keys.signer().unwrap();
    change(&keys, &path, SECOND, NOW);
    for secret in [SECRET, THIRD] {
        let old = raw(HEADER, &access().to_string(), secret);
        let verified = keys.verify(&old, Usage::Access, NOW);
        assert_eq!(verified, Err(Rejection::Signature));
    }
    let again = keys.sign_again(&access(), &signer);
    assert_eq!(again, keys.sign(&access()), "nothing is signed with it");
}

#[test]
fn a_key_that_was_too_short_at_first_is_taken_later() {
    let (_folder, path) = file(b"short");
    let keys = from_file(&path);
    assert!(!keys.ready());
    change(&keys, &path, SECRET, NOW);
    assert!(keys.ready());
}

#[test]
fn debug_output_shows_no_secret() {
    let text = format!("{:?}", keys());
    assert!(!text.contains("first-line"), "{text}");
    assert!(
        !text.contains(&format!("{:?}", SECRET.as_bytes())),
        "{text}"
    );
}

#[test]
fn the_payload_never_needs_the_two_url_characters() {
    let name = "~?>\u{7f} ü 漢 😀 \" \\ / ~~~ ???";
    let claims = with(access(), "email", json!(name));
    let signed = keys().sign(&claims).unwrap();
    let payload = signed.split('.').nth(1).unwrap();
    assert!(!payload.contains(['-', '_']), "{payload}");
    let read = keys().verify(&signed, Usage::Access, NOW).unwrap();
    assert_eq!(read.email.as_deref(), Some(name));
}

#[test]
fn the_hmac_is_the_standard_one() {
    // RFC 4231, test case 2.
    let mac = hmac_sha256(b"Jefe", b"what do ya want for nothing?").unwrap();
    assert_eq!(
        hex::encode(mac),
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    );
}

proptest! {
    #[test]
    fn signed_claims_survive_and_stay_ascii(email in ".*", role in "[ -~]*") {
        let claims = with(with(access(), "email", json!(email)), "role", json!(role));
        let signed = keys().sign(&claims).unwrap();
        let payload = signed.split('.').nth(1).unwrap();
        prop_assert!(!payload.contains(['-', '_']));
        prop_assert!(URL_SAFE_NO_PAD.decode(payload).unwrap().is_ascii());
        let read = keys().verify(&signed, Usage::Access, NOW).unwrap();
        prop_assert_eq!(read.email, Some(email));
        prop_assert_eq!(read.role, Some(role));
    }

    #[test]
    fn no_text_panics_or_passes(text in ".{0,200}") {
        prop_assert!(keys().verify(&text, Usage::Access, NOW).is_err());
    }

    #[test]
    fn a_changed_character_never_passes(at in 0usize..400, to in "[A-Za-z0-9_.-]") {
        let good = token(&access());
        let at = at % good.len();
        prop_assume!(good[at..=at] != to);
        let mut bad = good;
        bad.replace_range(at..=at, &to);
        prop_assert!(keys().verify(&bad, Usage::Access, NOW).is_err());
    }
}

#[test]
fn a_token_that_was_verified_is_as_good_as_it_was_and_no_longer() {
    let keys = keys();
    let good = token(&access());
    let end = access()["exp"].as_u64().unwrap();
    let first = keys.verify(&good, Usage::Access, NOW).unwrap();
    for now in [NOW, NOW + 1, end, end + 59] {
        assert_eq!(keys.verify(&good, Usage::Access, now), Ok(first.clone()));
    }
    for usage in [Usage::Access, Usage::StrictAccess] {
        let leeway = if usage == Usage::Access { 60 } else { 10 };
        assert!(keys.verify(&good, usage, end + leeway - 1).is_ok());
        let late = keys.verify(&good, usage, end + leeway);
        assert_eq!(late, Err(Rejection::Expired), "{usage:?}");
    }
    // Good for one use says nothing of another.
    assert_eq!(
        keys.verify(&good, Usage::Refresh, NOW),
        Err(Rejection::Invalid)
    );
    // What was good with a clock that was ahead is verified again when it is set back.
    let ahead = with(access(), "iat", json!(NOW + 1000));
    let ahead = token(&with(ahead, "exp", json!(NOW + 2000)));
    assert!(keys.verify(&ahead, Usage::StrictAccess, NOW + 1000).is_ok());
    assert_eq!(
        keys.verify(&ahead, Usage::StrictAccess, NOW),
        Err(Rejection::Invalid)
    );
}

#[test]
fn a_verified_token_does_not_outlive_its_key() {
    let keys = keys();
    let good = token(&access());
    let signed = |now| keys.verify(&good, Usage::Access, now).map(|_| ());
    assert_eq!(signed(NOW), Ok(()));
    let other = || b"another-key-that-is-long-enough".to_vec().into();
    assert!(keys.replace(other(), NOW + 5));
    assert_eq!(signed(NOW + 5), Ok(()), "within the overlap");
    assert_eq!(signed(NOW + 6), Ok(()));
    let lax = Keys::load(
        &config::Jwt {
            overlap: Duration::from_secs(100),
            allow_missing_exp: true,
            ..config()
        },
        NOW,
    );
    let endless = token(&without(access(), "exp"));
    assert!(lax.verify(&endless, Usage::Access, NOW).is_ok());
    assert!(lax.replace(other(), NOW));
    for (now, expected) in [
        (NOW + 99, Ok(())),
        (NOW + 100, Ok(())),
        (NOW + 101, Err(Rejection::Signature)),
    ] {
        let got = lax.verify(&endless, Usage::Access, now).map(|_| ());
        assert_eq!(got, expected, "{}", now - NOW);
    }
}
