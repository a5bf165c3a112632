//! Which tokens are good, whose they are, and why the others are refused: the
//! normalisation's golden vectors, the order of the checks, and forged tokens.
//! Everything goes through `POST /api/v1/jwt/validate`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use lockgate_tests::tokens::{derived_session, part, set, without};
use lockgate_tests::{Host, Service, Tokens, User, now, shape};
use serde_json::{Value, json};

const VALID: &str = "valid:true user_id:int email:str role:role format_type:format session_id:str \
    expires_at:time|null issued_at:time|null expires_in:int|null degraded:bool normalized:obj";
const NORMALIZED: &str = "sub:str email:str id:int role:role session_id:str";

/// What a token should come to.
#[derive(Debug, Clone)]
enum Want {
    /// Format, user id and e-mail.
    Good(&'static str, u32, &'static str),
    /// Valid, whoever it is.
    Valid,
    /// Refused with one of these errors.
    Bad(&'static [&'static str]),
}

const INVALID: Want = Want::Bad(&["invalid_token"]);
const SIGNATURE: Want = Want::Bad(&["invalid_signature"]);
const EXPIRED: Want = Want::Bad(&["token_expired"]);
const UNSUPPORTED: Want = Want::Bad(&["unsupported_format"]);

async fn validate(host: &Host, token: &str) -> Value {
    let call = host
        .post(Service::Jwt, "/api/v1/jwt/validate")
        .json(&json!({"token": token}));
    let answer = call.send().await.expect(200);
    let body = answer.auth();
    let shape = if body["valid"] == true {
        VALID
    } else {
        shape::N
    };
    shape::exact(&body, shape);
    body
}

/// Sends every token, and fails with all differences at once.
async fn run(host: &Host, table: Vec<(String, String, Want)>) {
    let mut faults = Vec::new();
    for (name, token, want) in table {
        let body = validate(host, &token).await;
        let right = match &want {
            Want::Good(format, id, email) => {
                body["valid"] == true
                    && body["format_type"] == *format
                    && body["user_id"] == *id
                    && body["email"] == *email
            }
            Want::Valid => body["valid"] == true,
            Want::Bad(errors) => {
                errors.iter().any(|error| body["error"] == *error)
                    && errors
                        .iter()
                        .any(|error| body["code"] == shape::code_of(error))
            }
        };
        if !right {
            faults.push(format!("{name}: want {want:?}, got {body}"));
        }
    }
    assert!(host.get(Service::Jwt, "/health").send().await.status == 200);
    assert!(
        faults.is_empty(),
        "{} wrong:\n{}",
        faults.len(),
        faults.join("\n")
    );
}

/// Adds a valid `exp` and `iat` unless they are there.
fn timed(mut claims: Value) -> Value {
    for (name, value) in [("exp", now() + 3_600), ("iat", now())] {
        if claims.get(name).is_none() {
            set(&mut claims, name, json!(value));
        }
    }
    claims
}

const A: &str = "ada@example.org";

fn base() -> Value {
    timed(json!({"sub": "14", "email": A, "id": 14, "role": "user", "session_id": "s-14"}))
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = base();
    set(&mut claims, name, value);
    claims
}

#[tokio::test(flavor = "multi_thread")]
async fn normalisation() {
    let host = Host::start().await;
    let float = now() as f64 + 0.75;
    let enhanced = Want::Good("enhanced", 14, A);
    let legacy = Want::Good("legacy", 14, A);
    let mixed = Want::Good("mixed", 14, A);
    let claims = [
        ("unified", base(), enhanced.clone()),
        (
            "scoped: list aud, iss, float times",
            json!({"sub": "14", "email": A, "role": "user", "aud": ["api"], "iss": "auth",
                "exp": float + 3_600.0, "iat": float, "nbf": float}),
            enhanced.clone(),
        ),
        (
            "integer sub",
            json!({"sub": 14, "email": A, "role": "user"}),
            enhanced.clone(),
        ),
        (
            "legacy, integer id",
            json!({"sub": A, "id": 14, "role": "user"}),
            legacy.clone(),
        ),
        (
            "legacy, text id",
            json!({"sub": A, "id": "14", "role": "user"}),
            legacy.clone(),
        ),
        (
            "mixed by username and user_id",
            json!({"sub": "zzz", "username": A, "user_id": 14, "role": "user"}),
            mixed.clone(),
        ),
        (
            "mixed without sub",
            json!({"id": 14, "email": A, "role": "user"}),
            mixed.clone(),
        ),
        ("sub wins over id", with("id", json!(99)), enhanced.clone()),
        (
            "legacy e-mail is sub",
            json!({"sub": "a@b.c", "email": "d@e.f", "id": 14, "role": "user"}),
            Want::Good("legacy", 14, "a@b.c"),
        ),
        (
            "no e-mail",
            json!({"sub": "14", "id": 14, "role": "user"}),
            UNSUPPORTED,
        ),
        (
            "e-mail without @",
            with("email", json!("ada.example.org")),
            UNSUPPORTED,
        ),
        ("role missing", without(base(), "role"), UNSUPPORTED),
        (
            "role superuser",
            with("role", json!("superuser")),
            UNSUPPORTED,
        ),
        (
            "role in capitals",
            with("role", json!("Admin")),
            UNSUPPORTED,
        ),
        (
            "role is a list",
            with("role", json!(["admin"])),
            UNSUPPORTED,
        ),
        ("role admin", with("role", json!("admin")), enhanced.clone()),
        (
            "sub -5",
            json!({"sub": "-5", "email": A, "role": "user"}),
            UNSUPPORTED,
        ),
        (
            "sub \"0\"",
            json!({"sub": "0", "email": A, "role": "user"}),
            UNSUPPORTED,
        ),
        (
            "sub 0",
            json!({"sub": 0, "email": A, "role": "user"}),
            UNSUPPORTED,
        ),
        (
            "sub is a float",
            json!({"sub": 14.0, "email": A, "role": "user"}),
            UNSUPPORTED,
        ),
        (
            "sub is a boolean",
            json!({"sub": true, "email": A, "role": "user"}),
            UNSUPPORTED,
        ),
        (
            "sub of other digits",
            json!({"sub": "१४", "email": A, "role": "user"}),
            UNSUPPORTED,
        ),
        (
            "sub with a space",
            json!({"sub": " 14", "email": A, "role": "user"}),
            UNSUPPORTED,
        ),
        (
            "sub with a plus",
            json!({"sub": "+14", "email": A, "role": "user"}),
            UNSUPPORTED,
        ),
        (
            "largest id",
            json!({"sub": "2147483647", "email": A, "role": "user"}),
            Want::Good("enhanced", 2_147_483_647, A),
        ),
        (
            "id above the largest",
            json!({"sub": "2147483648", "email": A, "role": "user"}),
            UNSUPPORTED,
        ),
        (
            "id above 64 bits",
            json!({"sub": "18446744073709551630", "email": A, "role": "user"}),
            UNSUPPORTED,
        ),
        (
            "kid in the payload",
            with("kid", json!("../../etc/passwd")),
            enhanced.clone(),
        ),
        (
            "nbf one hour ahead",
            with("nbf", json!(now() + 3_600)),
            enhanced.clone(),
        ),
        (
            "iat one hour ahead",
            timed(
                json!({"sub": "14", "email": A, "role": "user", "iat": now() + 3_600,
                "exp": now() + 7_200}),
            ),
            enhanced.clone(),
        ),
        ("aud text", with("aud", json!("anything")), enhanced.clone()),
        ("aud list", with("aud", json!(["x", 5])), enhanced.clone()),
        ("aud object", with("aud", json!({"x": 5})), enhanced.clone()),
    ];
    let mut table: Vec<_> = claims
        .into_iter()
        .map(|(name, claims, want)| (name.to_owned(), host.tokens.sign(&timed(claims)), want))
        .collect();
    let user = User::new(14);
    let format = |name| Want::Good(name, 14, "ada14@example.org");
    for (name, token, want) in [
        (
            "unified access",
            host.tokens.access(&user),
            format("enhanced"),
        ),
        (
            "older enhanced",
            host.tokens.enhanced(&user),
            format("enhanced"),
        ),
        ("legacy", host.tokens.legacy(&user), format("legacy")),
        ("scoped", host.tokens.scoped(&user), format("enhanced")),
        (
            "cookie variant",
            host.tokens.cookie_variant(&user),
            format("enhanced"),
        ),
        ("service token", host.tokens.service(), UNSUPPORTED),
        (
            "unified refresh: life too long",
            host.tokens.refresh(&user),
            INVALID,
        ),
        (
            "older refresh: life too long",
            host.tokens.enhanced_refresh(&user),
            INVALID,
        ),
        ("marked refresh", host.tokens.marked_refresh(&user), INVALID),
    ] {
        table.push((name.to_owned(), token, want));
    }
    run(&host, table).await;
}

/// Times: ranges, leeway, types and the longest life.
#[tokio::test(flavor = "multi_thread")]
async fn times() {
    let host = Host::start().await;
    let at = |exp: Value, iat: Option<Value>| {
        let mut claims = without(without(base(), "iat"), "exp");
        set(&mut claims, "exp", exp);
        if let Some(iat) = iat {
            set(&mut claims, "iat", iat);
        }
        host.tokens.sign(&claims)
    };
    let now = now();
    let text = |exp: &str| {
        let payload = format!(r#"{{"sub":"14","email":"{A}","role":"user","exp":{exp}}}"#);
        host.tokens.raw(r#"{"alg":"HS256"}"#, &payload)
    };
    let table = vec![
        (
            "exp 30 s ago",
            at(json!(now - 30), Some(json!(now - 3_600))),
            Want::Valid,
        ),
        (
            "exp 60 s ago",
            at(json!(now - 60), Some(json!(now - 3_600))),
            EXPIRED,
        ),
        (
            "exp 61 s ago",
            at(json!(now - 61), Some(json!(now - 3_600))),
            EXPIRED,
        ),
        ("exp 0", at(json!(0), None), EXPIRED),
        (
            "exp float",
            at(json!(now as f64 + 100.9), None),
            Want::Valid,
        ),
        ("no exp", host.tokens.sign(&without(base(), "exp")), INVALID),
        (
            "exp is digits in text",
            at(json!((now + 100).to_string()), None),
            INVALID,
        ),
        ("exp true", at(json!(true), None), INVALID),
        ("exp null", at(json!(null), None), INVALID),
        ("exp list", at(json!([now + 100]), None), INVALID),
        ("exp -1", at(json!(-1), None), INVALID),
        (
            "exp after year 9999",
            at(json!(253_402_300_800_i64), None),
            INVALID,
        ),
        ("exp 2^64-1", at(json!(u64::MAX), None), INVALID),
        ("exp 1e300", text("1e300"), INVALID),
        ("exp 1e999", text("1e999"), INVALID),
        ("exp NaN", text("NaN"), INVALID),
        ("exp -0.5", text("-0.5"), INVALID),
        (
            "exp year 9999, life too long",
            at(json!(253_402_300_799_i64), None),
            INVALID,
        ),
        ("iat -1", at(json!(now + 100), Some(json!(-1))), INVALID),
        (
            "iat after year 9999",
            at(json!(now + 100), Some(json!(1e15))),
            INVALID,
        ),
        ("nbf -1", host.tokens.sign(&with("nbf", json!(-1))), INVALID),
        (
            "nbf after year 9999",
            host.tokens.sign(&with("nbf", json!(1e300))),
            INVALID,
        ),
        (
            "nbf text",
            host.tokens.sign(&with("nbf", json!("soon"))),
            Want::Valid,
        ),
        (
            "iat text",
            at(json!(now + 100), Some(json!("then"))),
            Want::Valid,
        ),
        (
            "life one day",
            at(json!(now + 86_000), Some(json!(now - 400))),
            Want::Valid,
        ),
        (
            "life a second more",
            at(json!(now + 86_000), Some(json!(now - 401))),
            INVALID,
        ),
        (
            "no iat, over a day left",
            at(json!(now + 86_500), None),
            INVALID,
        ),
        (
            "no iat, under a day left",
            at(json!(now + 86_300), None),
            Want::Valid,
        ),
        (
            "marked as access",
            host.tokens.sign(&with("token_use", json!("access"))),
            Want::Valid,
        ),
        (
            "marked as refresh",
            host.tokens.sign(&with("token_use", json!("refresh"))),
            INVALID,
        ),
    ];
    run(
        &host,
        table
            .into_iter()
            .map(|(n, t, w)| (n.to_owned(), t, w))
            .collect(),
    )
    .await;
}

/// Headers, encodings and signatures that somebody made up.
#[tokio::test(flavor = "multi_thread")]
async fn forgeries() {
    let host = Host::start().await;
    let mint = &host.tokens;
    let payload = base().to_string();
    let mut table: Vec<(String, String, Want)> = Vec::new();
    let mut add = |name: &str, token: String, want: Want| {
        table.push((name.to_owned(), token, want));
    };

    for alg in [
        "none", "None", "NONE", "nOnE", "", "hs256", "HS256 ", "HS512", "RS256", "ES256",
    ] {
        let header = json!({"alg": alg, "typ": "JWT"}).to_string();
        add(
            &format!("alg {alg:?}, signed"),
            mint.raw(&header, &payload),
            INVALID,
        );
        let bare = format!("{}.{}.", part(&header), part(&payload));
        add(&format!("alg {alg:?}, no signature"), bare, INVALID);
    }
    for (alg, algorithm) in [("HS384", Algorithm::HS384), ("HS512", Algorithm::HS512)] {
        let message = format!(
            "{}.{}",
            part(&json!({"alg": alg}).to_string()),
            part(&payload)
        );
        add(
            &format!("{alg}, rightly signed"),
            mint.seal_with(&message, algorithm),
            INVALID,
        );
        let message = format!("{}.{}", part(r#"{"alg":"HS256"}"#), part(&payload));
        let token = mint.seal_with(&message, algorithm);
        add(
            &format!("HS256 with the signature of {alg}"),
            token,
            SIGNATURE,
        );
    }
    for (name, header) in [
        ("no alg", r#"{"typ":"JWT"}"#),
        ("alg null", r#"{"alg":null}"#),
        ("alg list", r#"{"alg":["HS256"]}"#),
        ("crit", r#"{"alg":"HS256","crit":["exp"]}"#),
        ("empty crit", r#"{"alg":"HS256","crit":[]}"#),
        ("zip", r#"{"alg":"HS256","zip":"DEF"}"#),
        ("b64 false", r#"{"alg":"HS256","b64":false}"#),
        ("b64 true", r#"{"alg":"HS256","b64":true}"#),
        ("alg twice", r#"{"alg":"none","alg":"HS256"}"#),
        (
            "alg twice, one escaped",
            r#"{"alg":"HS256","\u0061lg":"HS256"}"#,
        ),
        ("kid twice", r#"{"alg":"HS256","kid":"a","kid":"b"}"#),
        ("header is a list", r#"["HS256"]"#),
        ("header is text", r#""HS256""#),
        ("header is no JSON", r#"{"alg":"HS256""#),
        ("header with text after it", r#"{"alg":"HS256"} x"#),
        ("header with a BOM", "\u{feff}{\"alg\":\"HS256\"}"),
        ("empty header", ""),
    ] {
        add(name, mint.raw(header, &payload), INVALID);
    }
    for (name, header) in [
        ("kid", r#"{"alg":"HS256","kid":"../../dev/null"}"#),
        ("jku", r#"{"alg":"HS256","jku":"http://127.0.0.1:1/keys"}"#),
        ("jwk", r#"{"alg":"HS256","jwk":{"kty":"oct","k":"AA"}}"#),
        ("x5u", r#"{"alg":"HS256","x5u":"http://127.0.0.1:1/"}"#),
    ] {
        add(
            &format!("{name} is ignored"),
            mint.raw(header, &payload),
            Want::Valid,
        );
    }

    let plain = r#"{"alg":"HS256"}"#;
    let exp = now() + 600;
    for (name, payload) in [
        (
            "role twice",
            format!(r#"{{"sub":"14","email":"{A}","role":"user","role":"admin","exp":{exp}}}"#),
        ),
        (
            "role twice, one escaped",
            format!(
                r#"{{"sub":"14","email":"{A}","role":"user","\u0072ole":"admin","exp":{exp}}}"#
            ),
        ),
        (
            "exp twice",
            format!(r#"{{"sub":"14","email":"{A}","role":"user","exp":1,"exp":{exp}}}"#),
        ),
        (
            "unknown claim twice",
            format!(r#"{{"sub":"14","email":"{A}","role":"user","x":1,"x":1,"exp":{exp}}}"#),
        ),
        ("claims are a list", format!(r#"["14",{exp}]"#)),
        ("claims are null", "null".to_owned()),
        ("claims are a number", exp.to_string()),
        ("claims are no JSON", format!(r#"{{"sub":"14","exp":{exp}"#)),
        ("claims with text after them", format!("{payload}x")),
        ("claims with a BOM", format!("\u{feff}{payload}")),
        ("no claims", String::new()),
        (
            "deep claims",
            format!(
                r#"{{"exp":{exp},"x":{}1{}}}"#,
                "[".repeat(2_000),
                "]".repeat(2_000)
            ),
        ),
    ] {
        add(name, mint.raw(plain, &payload), INVALID);
    }
    let message = format!(
        "{}.{}",
        part(plain),
        URL_SAFE_NO_PAD.encode(b"{\"sub\":\"\xff\xfe\"}")
    );
    add("claims that are not UTF-8", mint.seal(&message), INVALID);
    add("empty claims object", mint.raw(plain, "{}"), INVALID);

    let good = mint.sign(&base());
    let [header, claims, signature] = split(&good);
    add("good", good.clone(), Want::Valid);
    add("two parts", format!("{header}.{claims}"), INVALID);
    add("four parts", format!("{good}.{signature}"), INVALID);
    add(
        "five parts",
        format!("{good}.{signature}.{signature}"),
        INVALID,
    );
    add("one part", signature.clone(), INVALID);
    add("dots", "..".to_owned(), INVALID);
    add("a word", "garbage".to_owned(), INVALID);
    add("padded signature", format!("{good}="), INVALID);
    add(
        "padded header",
        mint.seal(&format!("{header}=.{claims}")),
        INVALID,
    );
    add(
        "padded claims",
        mint.seal(&format!("{header}.{claims}==")),
        INVALID,
    );
    add(
        "space inside",
        mint.seal(&format!("{header} .{claims}")),
        INVALID,
    );
    add(
        "line end inside",
        mint.seal(&format!("{header}.{claims}\n")),
        INVALID,
    );
    add(
        "NUL inside",
        mint.seal(&format!("{header}.{claims}\0")),
        INVALID,
    );
    add(
        "signature not canonical",
        format!("{header}.{claims}.{}", bent(&signature)),
        INVALID,
    );
    let standard = base64::engine::general_purpose::STANDARD_NO_PAD;
    let odd = with("x", json!("~~~???>>>~~~???>>>")).to_string();
    let message = format!("{header}.{}", standard.encode(&odd));
    assert!(
        message.contains(['+', '/']),
        "the vector should need the other alphabet"
    );
    add("standard alphabet", mint.seal(&message), INVALID);
    add("url-safe alphabet", mint.raw(plain, &odd), Want::Valid);
    let mut loose = with("x", json!(""));
    while loose.to_string().len().is_multiple_of(3) {
        set(&mut loose, "x", json!("y"));
    }
    let bent_claims = bent(&part(&loose.to_string()));
    add(
        "claims not canonical",
        mint.seal(&format!("{header}.{bent_claims}")),
        INVALID,
    );

    let either = Want::Bad(&["invalid_token", "invalid_signature"]);
    add(
        "signature empty",
        format!("{header}.{claims}."),
        either.clone(),
    );
    add(
        "signature cut",
        format!("{header}.{claims}.{}", &signature[..40]),
        either,
    );
    let other = mint.sign(&with("role", json!("admin")));
    add(
        "claims exchanged",
        format!("{header}.{}.{signature}", split(&other)[1]),
        SIGNATURE,
    );
    let stranger = Tokens::new(b"another key that is long enough to be one");
    add("wrong key", stranger.sign(&base()), SIGNATURE);
    add(
        "wrong key, expired",
        stranger.expired(&User::new(14)),
        SIGNATURE,
    );
    add(
        "wrong key, no exp",
        stranger.sign(&without(base(), "exp")),
        SIGNATURE,
    );
    let first_line = mint.key().split(|b| *b == b'\n').next().unwrap();
    add(
        "first line of the key",
        Tokens::new(first_line).sign(&base()),
        SIGNATURE,
    );
    let joined: Vec<u8> = mint.key().iter().copied().filter(|b| *b != b'\n').collect();
    add(
        "key without its line end",
        Tokens::new(&joined).sign(&base()),
        SIGNATURE,
    );

    add("16 KiB", sized(mint, 16 * 1024), Want::Valid);
    add("16 KiB and one", sized(mint, 16 * 1024 + 1), INVALID);
    add("60 KiB", sized(mint, 60 * 1024), INVALID);
    run(&host, table).await;
}

fn split(token: &str) -> [String; 3] {
    let parts: Vec<_> = token.split('.').map(str::to_owned).collect();
    parts.try_into().expect("three parts")
}

/// The same bytes in base64url whose unused last bits are not zero.
fn bent(text: &str) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    assert!(!text.len().is_multiple_of(4), "no unused bits");
    let (rest, last) = text.split_at(text.len() - 1);
    let at = ALPHABET
        .iter()
        .position(|c| *c == last.as_bytes()[0])
        .expect("base64url");
    format!("{rest}{}", char::from(ALPHABET[at | 1]))
}

/// A good token of exactly this size.
fn sized(mint: &Tokens, size: usize) -> String {
    for spaces in 0..4 {
        let header = format!(r#"{{"alg":"HS256"{}}}"#, " ".repeat(spaces));
        let spare = size - part(&header).len() - 45;
        let plain = with("x", json!("")).to_string().len();
        let fill = (spare * 3 / 4).saturating_sub(plain);
        for fill in fill.saturating_sub(2)..fill + 3 {
            let claims = with("x", json!("y".repeat(fill))).to_string();
            let token = mint.raw(&header, &claims);
            if token.len() == size {
                return token;
            }
        }
    }
    panic!("no token of {size} bytes");
}

/// The session id: the claim if it is usable, else derived from the token.
#[tokio::test(flavor = "multi_thread")]
async fn session_ids() {
    let host = Host::start().await;
    for id in ["s-14", "A.b_c-9", "x", &"y".repeat(128), "jwt-0"] {
        let token = host.tokens.sign(&with("session_id", json!(id)));
        let body = validate(&host, &token).await;
        assert_eq!(body["session_id"], id);
        assert_eq!(body["normalized"]["session_id"], id);
    }
    for id in [
        json!("1935651600000"),
        json!("y".repeat(129)),
        json!("with space"),
        json!("a:b"),
        json!("ü"),
        json!("a/b"),
        json!(""),
        json!(5),
        json!(null),
        json!(["s"]),
    ] {
        let token = host.tokens.sign(&with("session_id", id.clone()));
        let body = validate(&host, &token).await;
        assert_eq!(body["valid"], true, "{id}");
        assert_eq!(body["session_id"], derived_session(&token), "{id}");
    }
    let token = host.tokens.sign(&without(base(), "session_id"));
    assert_eq!(
        validate(&host, &token).await["session_id"],
        derived_session(&token)
    );
}

/// The fields of a valid answer say what the token says.
#[tokio::test(flavor = "multi_thread")]
async fn fields_of_a_valid_token() {
    let host = Host::start().await;
    let claims = base();
    let body = validate(&host, &host.tokens.sign(&claims)).await;
    shape::exact(&body["normalized"], NORMALIZED);
    assert_eq!(
        body["normalized"],
        json!({"sub": "14", "email": A, "id": 14, "role": "user", "session_id": "s-14"})
    );
    let time = |name: &str| shape::parse_time(body[name].as_str().unwrap());
    assert_eq!(time("expires_at"), claims["exp"].as_i64());
    assert_eq!(time("issued_at"), claims["iat"].as_i64());
    let left = body["expires_in"].as_i64().unwrap();
    assert!((3_500..=3_600).contains(&left), "{left}");
    assert_eq!(body["degraded"], false);

    let mut late = without(base(), "iat");
    set(&mut late, "exp", json!(now() - 20));
    let body = validate(&host, &host.tokens.sign(&late)).await;
    assert_eq!(
        (&body["expires_in"], &body["issued_at"]),
        (&json!(0), &json!(null))
    );
}

/// `JWT_ALLOW_MISSING_EXP` brings back tokens without `exp`, and only those.
#[tokio::test(flavor = "multi_thread")]
async fn missing_exp_by_setting() {
    let host = Host::builder()
        .env("JWT_ALLOW_MISSING_EXP", "true")
        .start()
        .await;
    let token = host.tokens.sign(&without(base(), "exp"));
    let body = validate(&host, &token).await;
    assert_eq!(
        (&body["valid"], &body["expires_at"]),
        (&json!(true), &json!(null))
    );
    assert_eq!(body["expires_in"], json!(null));
    let session = host
        .get(Service::Session, "/api/v1/session/validate")
        .bearer(&token);
    let body = session.send().await.expect_shape(200, shape::S);
    assert_eq!(
        (&body["expires_at"], &body["expires_in_minutes"]),
        (&json!(null), &json!(60))
    );
    for exp in [json!("99999999999"), json!(null), json!(true)] {
        let body = validate(&host, &host.tokens.sign(&with("exp", exp))).await;
        assert_eq!(body["error"], "invalid_token");
    }
    let refresh = json!({"refresh_token": host.tokens.sign(&without(base(), "exp"))});
    let answer = host
        .post(Service::Jwt, "/api/v1/jwt/refresh")
        .json(&refresh)
        .send()
        .await;
    answer.expect_error(401, "invalid_token");
}

/// `ACCESS_TOKEN_MAX_SECONDS` is the longest life of an access token.
#[tokio::test(flavor = "multi_thread")]
async fn longest_life_by_setting() {
    let host = Host::builder()
        .env("ACCESS_TOKEN_MAX_SECONDS", "1800")
        .start()
        .await;
    let user = User::new(14);
    let long = validate(&host, &host.tokens.access(&user)).await;
    assert_eq!(long["error"], "invalid_token");
    let short = host.tokens.sign(&Tokens::unified_claims(&user, 1_800));
    assert_eq!(validate(&host, &short).await["valid"], true);
}
