//! Known attacks on JSON Web Tokens, at every door: what is not signed with the key,
//! or could be read in two ways, opens none, and no key is fetched from anywhere.
//! What golden_vectors.rs has (spellings of `alg`, single header members, the order
//! of the checks) is not repeated.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use lockgate_tests::tokens::{part, set};
use lockgate_tests::{Answer, Call, Host, Service, Tokens, User, attacks, now, shape};
use serde_json::{Value, json};
use tokio::net::TcpListener;

const PLAIN: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
const VALIDATE: &str = "/api/v1/jwt/validate";
const EITHER: &[&str] = &["invalid_token", "invalid_signature"];
const INVALID: &[&str] = &["invalid_token"];
const SIGNATURE: &[&str] = &["invalid_signature"];

/// A named token, and the errors of which it must get one; none means it is good.
type Vector = (String, String, &'static [&'static str]);

async fn validate(host: &Host, token: &str) -> Value {
    let call = host
        .post(Service::Jwt, VALIDATE)
        .json(&json!({"token": token}));
    call.send().await.expect(200).auth()
}

/// Sends every token, and fails with all differences at once.
async fn run(host: &Host, vectors: Vec<Vector>) {
    let mut faults = Vec::new();
    for (name, token, errors) in vectors {
        let body = validate(host, &token).await;
        let right = match errors {
            [] => body["valid"] == true && body["user_id"] == 14,
            _ => {
                body["valid"] == false
                    && shape::check(&body, shape::N).is_ok()
                    && errors.iter().any(|error| body["error"] == *error)
            }
        };
        if !errors.is_empty() {
            attacks::note(body["valid"] == false, 200);
        }
        if !right {
            faults.push(format!("{name}: want {errors:?}, got {body}"));
        }
    }
    assert!(!host.log().contains("panicked"), "{}", host.log());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn claims() -> Value {
    Tokens::unified_claims(&User::new(14), 3_600)
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    set(&mut claims, name, value);
    claims
}

/// An HMAC-SHA256 token under any key, also an empty one.
fn forged(key: &[u8], header: &str, payload: &str) -> String {
    Tokens::new(key).raw(header, payload)
}

/// A token that an asymmetric key has signed.
fn signed(header: &Value, algorithm: Algorithm, key: &EncodingKey) -> String {
    let message = format!(
        "{}.{}",
        part(&header.to_string()),
        part(&claims().to_string())
    );
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

/// The attacker's own keys in the header, and public keys taken for secrets.
#[tokio::test(flavor = "multi_thread")]
async fn keys_that_come_with_the_token() {
    let host = Host::start().await;
    let fetched = Arc::new(AtomicUsize::new(0));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::clone(&fetched);
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });

    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let random = aws_lc_rs::rand::SystemRandom::new();
    let ec = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, ec.as_ref()).unwrap();
    let point = pair.public_key().as_ref().to_vec();
    let ed = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
    let ed_point = Ed25519KeyPair::from_pkcs8(ed.as_ref()).unwrap();
    let ed_point = ed_point.public_key().as_ref().to_vec();
    let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let ec_jwk =
        json!({"kty": "EC", "crv": "P-256", "x": b64(&point[1..33]), "y": b64(&point[33..])});
    let ed_jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": b64(&ed_point)});
    let (ec_key, ed_key) = (
        EncodingKey::from_ec_der(ec.as_ref()),
        EncodingKey::from_ed_der(ed.as_ref()),
    );

    let mut vectors: Vec<Vector> = vec![
        (
            "ES256 with its own jwk (CVE-2018-0114)".into(),
            signed(
                &json!({"alg": "ES256", "jwk": ec_jwk}),
                Algorithm::ES256,
                &ec_key,
            ),
            INVALID,
        ),
        (
            "EdDSA with its own jwk".into(),
            signed(
                &json!({"alg": "EdDSA", "jwk": ed_jwk}),
                Algorithm::EdDSA,
                &ed_key,
            ),
            INVALID,
        ),
        (
            "ES256 signature under alg HS256".into(),
            signed(
                &json!({"alg": "HS256", "jwk": ec_jwk}),
                Algorithm::ES256,
                &ec_key,
            ),
            SIGNATURE,
        ),
    ];
    // RS/HS confusion: whatever is public about a key, as the secret of an HMAC.
    let der = [
        &hex::decode("3059301306072a8648ce3d020106082a8648ce3d030107034200").unwrap()[..],
        &point,
    ]
    .concat();
    let pem = |end: &str| {
        let text = STANDARD.encode(&der);
        format!("-----BEGIN PUBLIC KEY-----{end}{text}{end}-----END PUBLIC KEY-----{end}")
            .into_bytes()
    };
    for (name, key) in [
        ("a PEM file", pem("\n")),
        ("a PEM file of DOS", pem("\r\n")),
        ("DER", der.clone()),
        ("the point", point.clone()),
        ("the jwk's text", ec_jwk.to_string().into_bytes()),
        ("the jwk's x", b64(&point[1..33]).into_bytes()),
    ] {
        for alg in ["HS256", "RS256", "ES256"] {
            let header = json!({"alg": alg, "jwk": ec_jwk}).to_string();
            let errors = if alg == "HS256" { SIGNATURE } else { INVALID };
            let token = forged(&key, &header, &claims().to_string());
            vectors.push((format!("{alg} by HMAC under {name}"), token, errors));
        }
    }
    let own = b"the attacker's own key, of 32 bytes";
    for (name, value) in [
        ("jwk", json!({"kty": "oct", "alg": "HS256", "k": b64(own)})),
        ("jku", json!(format!("http://{address}/jwks.json"))),
        (
            "jku",
            json!(format!("http://{address}#@idp.example/jwks.json")),
        ),
        ("jku", json!("file:///proc/self/environ")),
        ("x5u", json!(format!("http://{address}/cert.pem"))),
        ("x5c", json!([STANDARD.encode(&der)])),
        ("x5t", json!(b64(own))),
        ("x5t#S256", json!(b64(own))),
        ("iss", json!(format!("http://{address}/"))),
        ("k", json!(b64(own))),
        ("key", json!(String::from_utf8_lossy(own))),
    ] {
        let mut header = json!({"alg": "HS256", "kid": "1"});
        set(&mut header, name, value);
        let token = forged(own, &header.to_string(), &claims().to_string());
        vectors.push((format!("its own key by {name}: {header}"), token, SIGNATURE));
    }
    let kids = [
        ("/dev/null", &b""[..]),
        ("../../../../../../dev/null", b""),
        ("/proc/sys/kernel/randomize_va_space", b"2"),
        ("/proc/sys/kernel/randomize_va_space", b"2\n"),
        ("jwt_secret\0.txt", b""),
        ("x' UNION SELECT 'secret'-- ", b"secret"),
        ("x\"; $(cat /run/secrets/jwt_secret)", b"secret"),
        ("|/bin/true", b""),
        ("http://127.0.0.1/", b""),
        ("", b""),
    ];
    for (kid, key) in kids {
        let header = json!({"alg": "HS256", "kid": kid}).to_string();
        let token = forged(key, &header, &claims().to_string());
        vectors.push((format!("kid {kid:?}"), token, SIGNATURE));
        let good = host.tokens.raw(&header, &claims().to_string());
        vectors.push((format!("kid {kid:?}, rightly signed"), good, &[]));
    }
    run(&host, vectors).await;
    let count = fetched.load(Ordering::SeqCst);
    assert_eq!(count, 0, "something was fetched from the token's address");
}

/// Keys that somebody might have guessed, and kin of the right one.
#[tokio::test(flavor = "multi_thread")]
async fn weak_and_related_keys() {
    let host = Host::start().await;
    let right = host.tokens.key().to_vec();
    let file = host.secret_file().display().to_string();
    let mut turned = right.clone();
    turned.reverse();
    let mut keys: Vec<Vec<u8>> = vec![
        Vec::new(),
        vec![0],
        vec![0; 32],
        vec![0; 64],
        vec![0xff; 32],
        file.into_bytes(),
        hex::encode(&right).into_bytes(),
        STANDARD.encode(&right).into_bytes(),
        [&right[..], b"\n"].concat(),
        [&right[..], b"\0"].concat(),
        [b" ", &right[..]].concat(),
        right.to_ascii_lowercase(),
        right.to_ascii_uppercase(),
        right[1..].to_vec(),
        right[..32].to_vec(),
        right[..64].to_vec(),
        turned,
        String::from_utf8(right.clone())
            .unwrap()
            .replace('\n', "\r\n")
            .into_bytes(),
        String::from_utf8(right)
            .unwrap()
            .replace('\n', "\\n")
            .into_bytes(),
    ];
    for word in [
        "secret",
        "password",
        "changeme",
        "your-256-bit-secret",
        "null",
        "undefined",
        "None",
        "jwt_secret",
        "JWT_SECRET_KEY",
        "lockgate",
        "qwertyuiopasdfghjklzxcvbnm123456",
    ] {
        keys.push(word.as_bytes().to_vec());
    }
    let vectors = keys.into_iter().enumerate().map(|(at, key)| {
        (
            format!("key {at}"),
            Tokens::new(&key).sign(&claims()),
            SIGNATURE,
        )
    });
    run(&host, vectors.collect()).await;
}

/// A name with its character at a place written as an escape.
fn escaped(name: &str, at: usize, upper: bool) -> String {
    let escape = |c: char| match upper {
        true => format!("\\u{:04X}", c as u32),
        false => format!("\\u{:04x}", c as u32),
    };
    let letters = name.chars().enumerate();
    letters
        .map(|(i, c)| if i == at { escape(c) } else { c.to_string() })
        .collect()
}

/// One object, two readings: members that occur twice in any spelling and depth.
#[tokio::test(flavor = "multi_thread")]
async fn members_that_occur_twice() {
    let host = Host::start().await;
    let mint = &host.tokens;
    let mut vectors: Vec<Vector> = Vec::new();
    let base = claims().to_string();
    let inner = &base[1..base.len() - 1];
    for (name, value) in [
        ("sub", "\"1\""),
        ("sub", "\"14\""),
        ("email", "\"eve@example.org\""),
        ("id", "1"),
        ("role", "\"admin\""),
        ("exp", "253402300799"),
        ("iat", "0"),
        ("nbf", "0"),
        ("session_id", "\"s-other\""),
        ("device_id", "null"),
        ("tfa_verified", "true"),
    ] {
        let last = name.len() - 1;
        for spelling in [
            name.to_owned(),
            escaped(name, 0, false),
            escaped(name, last, true),
            name.chars()
                .map(|c| format!("\\u{:04x}", c as u32))
                .collect(),
        ] {
            for payload in [
                format!(r#"{{{inner},"{spelling}":{value}}}"#),
                format!(r#"{{"{spelling}":{value},{inner}}}"#),
            ] {
                let name = format!("{spelling} twice in the claims");
                vectors.push((name, mint.raw(PLAIN, &payload), INVALID));
            }
        }
    }
    for more in [
        r#""x":{"a":1,"a":2}"#,
        r#""x":[{"a":1,"\u0061":2}]"#,
        r#""x":{"y":{"z":[[{"":1,"":1}]]}}"#,
        r#""\ud83d\ude00":1,"😀":1"#,
        r#""a\/b":1,"a/b":1"#,
        r#""\"":1,"\u0022":1"#,
    ] {
        vectors.push((
            more.into(),
            mint.raw(PLAIN, &format!("{{{inner},{more}}}")),
            INVALID,
        ));
    }
    for header in [
        r#"{"alg":"none","\u0061lg":"HS256"}"#,
        r#"{"\u0061\u006C\u0067":"HS256","alg":"none"}"#,
        r#"{"alg":"HS256","alg":"HS256"}"#,
        r#"{"alg":"HS256","typ":"JWT","t\u0079p":"JWE"}"#,
        r#"{"alg":"HS256","x":{"alg":"none","alg":"none"}}"#,
        r#"{"alg":"HS256","\u0063rit":["exp"]}"#,
        r#"{"alg":"HS256","z\u0069p":"DEF"}"#,
        r#"{"alg":"HS256","b\u0036\u0034":false}"#,
    ] {
        vectors.push((header.into(), mint.raw(header, &base), INVALID));
    }
    // Names that only look alike are others: ours counts.
    for name in [
        "Role",
        "ROLE",
        "role ",
        "role\\u0000",
        "r\u{43e}le",
        "\u{ff52}ole",
        "__proto__",
        "",
    ] {
        let payload = format!(r#"{{{inner},"{name}":"admin"}}"#);
        let body = validate(&host, &mint.raw(PLAIN, &payload)).await;
        assert_eq!(
            (&body["valid"], &body["role"]),
            (&json!(true), &json!("user")),
            "{name:?}"
        );
    }
    for header in [
        r#"{"Alg":"none","alg":"HS256"}"#,
        r#"{"ALG":"none","alg":"HS256"}"#,
    ] {
        vectors.push((header.into(), mint.raw(header, &base), &[]));
    }
    run(&host, vectors).await;
}

/// Other spellings of the same bytes, each signed as it stands.
#[tokio::test(flavor = "multi_thread")]
async fn encodings() {
    let host = Host::start().await;
    let mint = &host.tokens;
    let good = mint.sign(&claims());
    let parts: Vec<&str> = good.split('.').collect();
    let mut vectors: Vec<Vector> = vec![("as it is".into(), good.clone(), &[])];
    let strange = [
        "=", "==", "%3D", "+", "/", " ", "\t", "\n", "\r\n", "\0", "\u{b}", "\u{a0}", "\u{200b}",
        "\u{feff}", "é", "\u{ff21}", "*", "%2e", "\\", "\"", "'", ",", ":",
    ];
    for odd in strange {
        for (which, text) in parts.iter().enumerate() {
            for at in [0, 1, text.len() / 2, text.len() - 1, text.len()] {
                let mut changed: Vec<String> = parts.iter().map(|p| (*p).to_owned()).collect();
                changed[which].insert_str(at, odd);
                let name = format!("{odd:?} in part {which} at {at}");
                // White space and quotes around a whole token are taken off before.
                let outside = (which == 0 && at == 0) || (which == 2 && at == text.len());
                let trimmed = odd.trim_matches(|c: char| c.is_whitespace() || "'\"".contains(c));
                if outside && trimmed.is_empty() {
                    vectors.push((name, changed.join("."), &[]));
                    continue;
                }
                let errors: &[&str] = if which == 2 { &[] } else { INVALID };
                let resealed = mint.seal(&changed[..2].join("."));
                vectors.push((format!("{name}, resealed"), resealed, errors));
                vectors.push((name, changed.join("."), EITHER));
            }
        }
    }
    // Bits that no byte needs (RFC 4648 section 3.5), in a header that has some.
    let text = part(r#"{"alg":"HS256" }"#);
    assert!(!text.len().is_multiple_of(4), "no unused bits");
    for last in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".chars() {
        let bent = format!("{}{last}", &text[..text.len() - 1]);
        let errors = if bent == text { &[] } else { INVALID };
        let token = mint.seal(&format!("{bent}.{}", parts[1]));
        vectors.push((format!("a header that ends in {last}"), token, errors));
    }
    // Cut anywhere, and glued together in every way.
    for end in 0..good.len() {
        let errors = if end == 0 {
            &["token_missing", "invalid_token"][..]
        } else {
            EITHER
        };
        vectors.push((format!("cut at {end}"), good[..end].to_owned(), errors));
    }
    let other = mint.sign(&with("role", json!("admin")));
    for (name, between) in [
        ("nothing", ""),
        ("a dot", "."),
        ("a comma", ","),
        ("a space", " "),
        ("a line end", "\n"),
        ("a semicolon", ";"),
        ("NUL", "\0"),
        ("an ampersand", "&token="),
    ] {
        vectors.push((
            format!("two joined by {name}"),
            format!("{good}{between}{other}"),
            EITHER,
        ));
    }
    vectors.push((
        "no claims (RFC 7797)".into(),
        format!("{}..{}", parts[0], parts[2]),
        EITHER,
    ));
    vectors.push((
        "no header".into(),
        format!(".{}.{}", parts[1], parts[2]),
        EITHER,
    ));
    vectors.push((
        "turned around".into(),
        format!("{}.{}.{}", parts[2], parts[1], parts[0]),
        EITHER,
    ));
    let plain = part(r#"{"alg":"HS256","b64":false,"crit":["b64"]}"#);
    let unencoded = format!("{plain}.{}", claims());
    vectors.push(("claims not encoded".into(), mint.seal(&unencoded), INVALID));
    run(&host, vectors).await;
}

/// Signatures that some libraries took for good ones.
#[tokio::test(flavor = "multi_thread")]
async fn signatures_of_nothing() {
    let host = Host::start().await;
    let good = host.tokens.sign(&claims());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let mut vectors: Vec<Vector> = Vec::new();
    for length in [0_usize, 1, 16, 31, 32, 33, 48, 64, 96, 132, 256] {
        for fill in [0_u8, 0xff, 0x30] {
            let text = URL_SAFE_NO_PAD.encode(vec![fill; length]);
            let name = format!("{length} bytes of {fill}");
            vectors.push((name, format!("{message}.{text}"), SIGNATURE));
        }
    }
    for cut in [1, 16, 31] {
        let text = URL_SAFE_NO_PAD.encode(&bytes[..cut]);
        vectors.push((
            format!("the first {cut} bytes"),
            format!("{message}.{text}"),
            SIGNATURE,
        ));
    }
    for (name, changed) in [
        ("doubled", bytes.repeat(2)),
        ("with a byte more", [&bytes[..], &[0]].concat()),
        ("in hexadecimal", hex::encode(&bytes).into_bytes()),
        ("encoded twice", signature.as_bytes().to_vec()),
        ("turned around", bytes.iter().rev().copied().collect()),
    ] {
        let text = URL_SAFE_NO_PAD.encode(changed);
        vectors.push((name.into(), format!("{message}.{text}"), SIGNATURE));
    }
    for alg in [
        "ES256",
        "ES384",
        "ES512",
        "PS256",
        "EdDSA",
        "none",
        "HS256/none",
        "HS256\0",
    ] {
        let header = part(&json!({"alg": alg}).to_string());
        let claims = part(&claims().to_string());
        for length in [0, 64, 96, 132] {
            let text = URL_SAFE_NO_PAD.encode(vec![0_u8; length]);
            let name = format!("{alg:?} with {length} zero bytes (CVE-2022-21449)");
            vectors.push((name, format!("{header}.{claims}.{text}"), INVALID));
        }
    }
    // DER of r = s = 0, and of an empty sequence.
    for der in ["3006020100020100", "3000"] {
        let text = URL_SAFE_NO_PAD.encode(hex::decode(der).unwrap());
        vectors.push((format!("DER {der}"), format!("{message}.{text}"), SIGNATURE));
    }
    run(&host, vectors).await;
}

/// Encrypted, nested, serialised otherwise, or of another kind.
#[tokio::test(flavor = "multi_thread")]
async fn other_kinds_of_tokens() {
    let host = Host::start().await;
    let mint = &host.tokens;
    let good = mint.sign(&claims());
    let [header, payload, signature] =
        <[&str; 3]>::try_from(good.split('.').collect::<Vec<_>>()).unwrap();
    let mut vectors: Vec<Vector> = Vec::new();
    for jwe in [
        json!({"alg": "dir", "enc": "A256GCM"}),
        json!({"alg": "RSA-OAEP", "enc": "A256GCM"}),
        json!({"alg": "PBES2-HS256+A128KW", "enc": "A128CBC-HS256", "p2s": "AA", "p2c": 2_147_483_647}),
        json!({"alg": "HS256", "enc": "A256GCM", "zip": "DEF"}),
        json!({"alg": "HS256"}),
    ] {
        let head = part(&jwe.to_string());
        let token = format!(
            "{head}.{}.{}.{payload}.{signature}",
            part("key"),
            part("iv")
        );
        vectors.push((format!("JWE {jwe}"), token, INVALID));
        let empty = format!("{head}...{payload}.{signature}");
        vectors.push((format!("JWE {jwe} with empty parts"), empty, INVALID));
    }
    let flat = json!({"protected": header, "payload": payload, "signature": signature});
    let general =
        json!({"payload": payload, "signatures": [{"protected": header, "signature": signature}]});
    for form in [flat, general] {
        vectors.push(("JSON serialisation".into(), form.to_string(), INVALID));
        let call = host
            .post(Service::Jwt, VALIDATE)
            .json(&json!({"token": form}));
        call.send().await.expect_error(422, "invalid_request");
        // Nor does such an object count as a request of its own.
        let call = host.post(Service::Jwt, VALIDATE).json(&form);
        call.send().await.expect_invalid("token_missing");
    }
    for list in [json!([good]), json!({"0": good}), json!(14), json!(true)] {
        let call = host
            .post(Service::Jwt, VALIDATE)
            .json(&json!({"token": list}));
        call.send().await.expect_error(422, "invalid_request");
    }
    vectors.push((
        "a token as claims".into(),
        mint.raw(r#"{"alg":"HS256","cty":"JWT"}"#, &good),
        INVALID,
    ));
    vectors.push((
        "a token as text".into(),
        mint.raw(PLAIN, &json!(good).to_string()),
        INVALID,
    ));
    let nested = json!({"token": good, "jwt": claims(), "exp": now() + 600});
    vectors.push((
        "a token in a claim".into(),
        mint.sign(&nested),
        &["unsupported_format"],
    ));
    vectors.push(("encoded twice".into(), part(&good), INVALID));
    vectors.push(("percent-encoded".into(), good.replace('.', "%2E"), INVALID));
    for typ in [
        json!("JWE"),
        json!("at+jwt"),
        json!("dpop+jwt"),
        json!("none"),
        json!("jwt"),
        json!(null),
        json!(5),
        json!({"alg": "none"}),
        json!(["JWT"]),
    ] {
        let header = json!({"alg": "HS256", "typ": typ, "cty": typ}).to_string();
        vectors.push((
            format!("typ {typ} says nothing"),
            mint.raw(&header, &claims().to_string()),
            &[],
        ));
        let unsigned = json!({"alg": "none", "typ": typ}).to_string();
        let token = format!("{}.{}.", part(&unsigned), part(&claims().to_string()));
        vectors.push((format!("typ {typ}, unsigned"), token, INVALID));
    }
    run(&host, vectors).await;
}

/// Numbers at the edges of what machines can hold.
#[tokio::test(flavor = "multi_thread")]
async fn numbers_at_the_edges() {
    let host = Host::start().await;
    let raw = |name: &str, number: &str| {
        let mut base = claims();
        base.as_object_mut().unwrap().remove(name);
        let text = base.to_string();
        let payload = format!(r#"{{"{name}":{number},{}"#, &text[1..]);
        host.tokens.raw(PLAIN, &payload)
    };
    let mut vectors: Vec<Vector> = Vec::new();
    let expired = &["token_expired"][..];
    for (exp, errors) in [
        ("-0", expired),
        ("-0.0", expired),
        ("0e0", expired),
        ("1e-5", expired),
        ("1e9", expired),
        ("1e400", INVALID),
        ("-1e400", INVALID),
        ("1e-400", expired),
        ("-1e-400", EITHER),
        ("253402300799.5", INVALID),
        ("2.534023008e11", INVALID),
        ("9007199254740993", INVALID),
        ("9223372036854775808", INVALID),
        ("18446744073709551616", INVALID),
        ("340282366920938463463374607431768211456", INVALID),
        ("0x7fffffff", INVALID),
        ("1_000", INVALID),
        ("+1", INVALID),
        ("01", INVALID),
        (".5", INVALID),
        ("1.", INVALID),
        ("Infinity", INVALID),
        ("\"1e10\"", INVALID),
        ("[]", INVALID),
        ("{}", INVALID),
    ] {
        // An exp that rounds to minus zero may count as either.
        let errors = if exp == "-1e-400" {
            &["token_expired", "invalid_token"][..]
        } else {
            errors
        };
        vectors.push((format!("exp {exp}"), raw("exp", exp), errors));
    }
    let soon = now() + 600;
    for exp in [
        format!("{soon}.999999999"),
        format!("{soon}e0"),
        format!("{soon}00E-2"),
        format!("{soon}.0"),
    ] {
        vectors.push((format!("exp {exp}"), raw("exp", &exp), &[]));
    }
    let digits = format!("{soon}.{}", "9".repeat(5_000));
    vectors.push(("exp of 5,000 digits".into(), raw("exp", &digits), &[]));
    vectors.push((
        "exp of 5,000 digits before the point".into(),
        raw("exp", &"9".repeat(5_000)),
        INVALID,
    ));
    for name in ["iat", "nbf"] {
        for number in [
            "-1",
            "-1e-3",
            "253402300800",
            "9223372036854775807",
            "18446744073709551616",
            "1e308",
        ] {
            vectors.push((format!("{name} {number}"), raw(name, number), INVALID));
        }
    }
    // Who: no number wraps around or is rounded into another user's.
    for number in [
        "14.0",
        "1.4e1",
        "14e0",
        "13.999999999999999999",
        "-14",
        "4294967310",
        "18446744073709551630",
        "9007199254740993",
        "1e400",
        "true",
        "[14]",
        "\"14.0\"",
        "\"0x0e\"",
        "\"1e1\"",
        "\"14\\u0000\"",
        "\"\\uff11\\uff14\"",
        "\"-14\"",
        "\"14 \"",
        "\"4294967310\"",
        "\"\"",
    ] {
        // `id` says 14 too, and is next in order: remove it.
        let mut base = claims();
        for name in ["sub", "id"] {
            base.as_object_mut().unwrap().remove(name);
        }
        let text = base.to_string();
        let errors: &[&str] = if number == "1e400" {
            INVALID
        } else {
            &["unsupported_format"]
        };
        for name in ["sub", "id", "user_id"] {
            let payload = format!(r#"{{"{name}":{number},{}"#, &text[1..]);
            vectors.push((
                format!("{name} {number}"),
                host.tokens.raw(PLAIN, &payload),
                errors,
            ));
        }
    }
    run(&host, vectors).await;
}

/// Claims of great size and depth, and text of all kinds in them.
#[tokio::test(flavor = "multi_thread")]
async fn odd_claims() {
    let host = Host::start().await;
    let mint = &host.tokens;
    let base = claims().to_string();
    let inner = &base[1..base.len() - 1];
    let raw = |more: &str| mint.raw(PLAIN, &format!("{{{inner},{more}}}"));
    let mut vectors: Vec<Vector> = Vec::new();
    for (depth, errors) in [
        (100, &[][..]),
        (126, &[]),
        (1_000, INVALID),
        (5_000, INVALID),
    ] {
        let lists = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        vectors.push((
            format!("{depth} lists"),
            raw(&format!("\"x\":{lists}")),
            errors,
        ));
        let objects = format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        let errors = if objects.len() > 11_000 {
            INVALID
        } else {
            errors
        };
        vectors.push((
            format!("{depth} objects"),
            raw(&format!("\"x\":{objects}")),
            errors,
        ));
    }
    vectors.push((
        "1,000 members".into(),
        {
            let many: Vec<String> = (0..1_000).map(|n| format!("\"m{n}\":{n}")).collect();
            raw(&many.join(","))
        },
        &[],
    ));
    for bad in [
        r#""x":"\ud800""#,
        r#""x":"\udc00\ud800""#,
        r#""x":"\u12""#,
        r#""x":"\x41""#,
        "\"x\":\"\u{1}\"",
        "\"x\":\"a\nb\"",
        r#""x":1,"#,
        r#""x":NaN"#,
        r#""x":'y'"#,
        r#""x":/**/1"#,
        r#""x":1}{"#,
    ] {
        vectors.push((bad.into(), raw(bad), INVALID));
    }
    for (name, bytes) in [
        ("a lone continuation", &b"\x80"[..]),
        ("an overlong slash", b"\xc0\xaf"),
        ("a surrogate", b"\xed\xa0\x80"),
        ("above Unicode", b"\xf4\x90\x80\x80"),
        ("cut short", b"\xe2\x82"),
        ("Latin-1", b"\xfc"),
    ] {
        let payload = [format!("{{{inner},\"x\":\"").as_bytes(), bytes, b"\"}"].concat();
        let message = format!("{}.{}", part(PLAIN), URL_SAFE_NO_PAD.encode(payload));
        vectors.push((format!("claims with {name}"), mint.seal(&message), INVALID));
        let header = [b"{\"alg\":\"HS256\",\"x\":\"", bytes, b"\"}"].concat();
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), part(&base));
        vectors.push((
            format!("a header with {name}"),
            mint.seal(&message),
            INVALID,
        ));
    }
    let wide: Vec<u8> = base.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let message = format!("{}.{}", part(PLAIN), URL_SAFE_NO_PAD.encode(wide));
    vectors.push(("claims in UTF-16".into(), mint.seal(&message), INVALID));
    run(&host, vectors).await;
    // Text that is hard to handle comes through as it is, or not at all.
    for text in [
        "a\0b@c.d",
        "\u{202e}gro.elpmaxe@ada",
        "a\r\nSet-Cookie: x=y@b.c",
        "\u{feff}@\u{2028}",
        "😀@é.org",
    ] {
        let body = validate(&host, &mint.sign(&with("email", json!(text)))).await;
        assert_eq!(
            (&body["valid"], &body["email"]),
            (&json!(true), &json!(text))
        );
    }
}

/// True for the answer that an endpoint owes to a bad token.
type Judge = fn(&Answer) -> bool;

/// Every endpoint that judges a token, with what it says to a bad one.
fn doors(host: &Host) -> Vec<(Call, Judge)> {
    let valid_false: Judge = |a| a.status == 200 && a.json()["valid"] == false;
    let refused: Judge = |a| a.status == 401 && a.json()["code"] == "AUTH_005";
    let event = json!({"user_id": 14, "email": "ada14@example.org", "event_type": "logout",
        "source": "api"});
    vec![
        (
            host.get(Service::Session, "/api/v1/session/validate"),
            valid_false,
        ),
        (
            host.post(Service::Session, "/api/v1/session/validate"),
            valid_false,
        ),
        (host.post(Service::Jwt, VALIDATE), valid_false),
        (
            host.post(Service::Gateway, "/api/v1/ws-auth/validate"),
            valid_false,
        ),
        (
            host.post(Service::Fallback, "/api/v1/fallback/validate"),
            valid_false,
        ),
        (host.get(Service::Session, "/api/v1/session/info"), refused),
        (
            host.post(Service::Session, "/api/v1/session/normalize"),
            refused,
        ),
        (host.get(Service::Jwt, "/api/v1/auth/verify-token"), refused),
        (
            host.post(Service::Gateway, "/api/v1/ws-auth/authorize"),
            refused,
        ),
        (
            host.get(Service::Gateway, "/api/v1/ws-auth/connection-info"),
            refused,
        ),
        (
            host.post(Service::Fallback, "/api/v1/fallback/create"),
            refused,
        ),
        (
            host.post(Service::Fallback, "/api/v1/fallback/emergency-auth"),
            refused,
        ),
        (
            host.post(Service::Coordinator, "/api/v1/coordinator/sync-auth")
                .json(&event),
            refused,
        ),
    ]
}

/// The worst forgeries, through every door and in every place for a token.
#[tokio::test(flavor = "multi_thread")]
async fn every_door() {
    let host = Host::builder()
        .env("FALLBACK_RATE_LIMIT", "100000")
        .start()
        .await;
    let mint = &host.tokens;
    let payload = claims().to_string();
    let unsigned = |alg: &str| {
        format!(
            "{}.{}.",
            part(&json!({"alg": alg}).to_string()),
            part(&payload)
        )
    };
    let good = mint.sign(&claims());
    let (message, _) = good.rsplit_once('.').unwrap();
    let forgeries = [
        unsigned("none"),
        unsigned("HS256"),
        forged(b"", PLAIN, &payload),
        forged(b"secret", PLAIN, &payload),
        mint.seal_with(
            &format!("{}.{}", part(r#"{"alg":"HS512"}"#), part(&payload)),
            Algorithm::HS512,
        ),
        mint.raw(r#"{"alg":"none","alg":"HS256"}"#, &payload),
        mint.raw(r#"{"alg":"HS256","crit":["exp"]}"#, &payload),
        format!("{message}.{}", URL_SAFE_NO_PAD.encode([0; 32])),
        mint.raw(
            PLAIN,
            &format!("{},\"role\":\"admin\"}}", &payload[..payload.len() - 1]),
        ),
    ];
    for (at, token) in forgeries.iter().enumerate() {
        for (call, refused) in doors(&host) {
            let placed = [
                call.clone().bearer(token),
                call.clone()
                    .cookie("access_token", token)
                    .cookie("csrf_token", "c")
                    .header("x-csrf-token", "c"),
                call.cookie("auth_token", token)
                    .cookie("csrf_token", "c")
                    .header("x-csrf-token", "c"),
            ];
            for call in placed {
                let answer = call.send().await;
                attacks::note(refused(&answer), answer.status);
                assert!(
                    refused(&answer),
                    "forgery {at} at {}: {} {}",
                    answer.label(),
                    answer.status,
                    answer.text()
                );
            }
        }
        let refresh = host.post(Service::Jwt, "/api/v1/jwt/refresh");
        for call in [
            refresh.clone().bearer(token),
            refresh.cookie("refresh_token", token),
        ] {
            let answer = call.send().await;
            attacks::note(answer.status == 401, answer.status);
            let answer = answer.expect(401);
            assert!(
                answer
                    .all("set-cookie")
                    .iter()
                    .all(|line| line.contains("Max-Age=0"))
            );
        }
        let logout = host.post(Service::Coordinator, "/api/v1/auth/logout");
        logout.bearer(token).send().await.expect(204);
    }
    // Nobody was logged out by a forged logout.
    assert_eq!(validate(&host, &good).await["valid"], true);
}

/// The Big List of Naughty Strings, as tokens, in headers, in claims and in every
/// field of a body that takes text.
#[tokio::test(flavor = "multi_thread")]
async fn naughty_strings() {
    let mut host = Host::builder()
        .env("FALLBACK_RATE_LIMIT", "100000")
        .start()
        .await;
    let good = host.tokens.sign(&claims());
    let posts = [
        (Service::Jwt, VALIDATE, &["token", "expected_email"][..]),
        (Service::Jwt, "/api/v1/jwt/refresh", &["refresh_token"]),
        (Service::Session, "/api/v1/session/validate", &["token"]),
        (
            Service::Session,
            "/api/v1/session/normalize",
            &["source", "token", "session"],
        ),
        (
            Service::Fallback,
            "/api/v1/fallback/validate",
            &["fallback_token", "session_key", "email"],
        ),
        (
            Service::Fallback,
            "/api/v1/fallback/create",
            &["additional_data"],
        ),
        (
            Service::Gateway,
            "/api/v1/ws-auth/authorize",
            &["path", "session_id", "client_ip"],
        ),
        (
            Service::Coordinator,
            "/api/v1/coordinator/sync-auth",
            &["email", "event_type", "source", "session_id", "details"],
        ),
    ];
    for text in naughty_strings::BLNS {
        let body = validate(&host, text).await;
        attacks::note(body["valid"] == false, 200);
        assert_eq!(body["valid"], false, "{text:?}");
        for (service, path, fields) in posts {
            for field in fields {
                let mut body = json!({"user_id": 14, "email": "ada14@example.org",
                    "event_type": "login", "source": "api"});
                if service != Service::Coordinator {
                    body = json!({});
                }
                body[*field] = json!(text);
                let answer = host
                    .post(service, path)
                    .bearer(&good)
                    .json(&body)
                    .send()
                    .await;
                assert!(
                    answer.status < 500,
                    "{path} {field} {text:?}: {}",
                    answer.text()
                );
                answer.conventional();
            }
        }
        // Claims, rightly signed: whatever it is, the answer is one of ours.
        for name in [
            "sub",
            "email",
            "role",
            "session_id",
            "device_id",
            "username",
            "jti",
            "token_use",
        ] {
            let token = host.tokens.sign(&with(name, json!(text)));
            let answer = host
                .get(Service::Session, "/api/v1/session/validate")
                .bearer(&token)
                .send()
                .await
                .expect(200);
            let body = answer.auth();
            assert!(body["valid"].is_boolean(), "{name} {text:?}: {body}");
            assert_ne!(body["role"], "admin", "{name} {text:?}");
        }
        if reqwest::header::HeaderValue::from_bytes(text.as_bytes()).is_ok() {
            for name in [
                "authorization",
                "cookie",
                "origin",
                "x-session-id",
                "x-forwarded-for",
                "x-request-id",
                "x-integration-layer",
                "x-csrf-token",
                "user-agent",
            ] {
                let call = host
                    .get(Service::Session, "/api/v1/session/validate")
                    .header(name, text);
                let answer = call.send().await.expect(200);
                assert_eq!(answer.auth()["valid"], false, "{name} {text:?}");
            }
        }
    }
    assert!(host.is_running() && !host.log().contains("panicked"));
    assert_eq!(validate(&host, &good).await["valid"], true);
}
