//! Where a token may come from, which one counts if there are several, and what
//! is reported if none is good.

use lockgate_tests::tokens::sha256;
use lockgate_tests::{Host, RedisServer, Service, Tokens, User, shape};
use serde_json::{Value, json};

const VALIDATE: &str = "/api/v1/jwt/validate";

/// Puts tokens into the four places and returns the answer of 8025.
async fn ask(
    host: &Host,
    body: Option<&str>,
    bearer: Option<&str>,
    access: Option<&str>,
    auth: Option<&str>,
) -> Value {
    let mut call = host.post(Service::Jwt, VALIDATE);
    if let Some(token) = body {
        call = call.json(&json!({"token": token}));
    }
    if let Some(token) = bearer {
        call = call.header("authorization", &format!("Bearer {token}"));
    }
    if let Some(token) = access {
        call = call.cookie("access_token", token);
    }
    if let Some(token) = auth {
        call = call.cookie("auth_token", token);
    }
    call.send().await.expect(200).auth()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_place_and_spelling() {
    let host = Host::start().await;
    let token = host.tokens.access(&User::new(7));
    let valid = |body: Value, what: &str| assert_eq!(body["valid"], true, "{what}: {body}");

    valid(ask(&host, Some(&token), None, None, None).await, "body");
    valid(ask(&host, None, Some(&token), None, None).await, "bearer");
    valid(
        ask(&host, None, None, Some(&token), None).await,
        "access_token",
    );
    valid(
        ask(&host, None, None, None, Some(&token)).await,
        "auth_token",
    );
    for text in [
        format!("Bearer {token}"),
        format!("  {token}  "),
        format!("\"{token}\""),
        format!("bearer \"{token}\" "),
        format!("'{token}'"),
    ] {
        valid(ask(&host, Some(&text), None, None, None).await, &text);
        valid(ask(&host, None, Some(&text), None, None).await, &text);
    }
    valid(
        ask(&host, None, None, Some(&format!("\"{token}\"")), None).await,
        "quoted cookie",
    );
    for scheme in ["bearer", "BEARER", "bEaReR"] {
        let call = host.post(Service::Jwt, VALIDATE);
        let call = call.header("authorization", &format!("{scheme} {token}"));
        valid(call.send().await.json(), scheme);
    }
    for other in [
        format!("Basic {token}"),
        token.clone(),
        "Digest x=y".to_owned(),
    ] {
        let call = host
            .post(Service::Jwt, VALIDATE)
            .header("authorization", &other);
        let answer = call.send().await;
        assert_eq!(answer.json()["valid"], false, "{other}: {}", answer.text());
    }
    host.post(Service::Jwt, VALIDATE)
        .send()
        .await
        .expect_invalid("token_missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_good_one_counts() {
    let host = Host::start().await;
    let mint = &host.tokens;
    let in_session = |id: &str| mint.access(&User::new(8).session(id));
    let (one, two) = (in_session("s-one"), in_session("s-two"));
    let (three, four) = (in_session("s-three"), in_session("s-four"));
    let stale = mint.expired(&User::new(8));
    let foreign = Tokens::new(b"some other key of more than 32 bytes").access(&User::new(9));

    let session = |body: Value| body["session_id"].as_str().unwrap_or("none").to_owned();
    let all = ask(&host, Some(&one), Some(&two), Some(&three), Some(&four)).await;
    assert_eq!(session(all), "s-one");
    let no_body = ask(&host, None, Some(&two), Some(&three), Some(&four)).await;
    assert_eq!(session(no_body), "s-two");
    let cookies = ask(&host, None, None, Some(&three), Some(&four)).await;
    assert_eq!(session(cookies), "s-three");

    let good = ask(&host, None, Some(&stale), Some(&three), None).await;
    assert_eq!(
        session(good),
        "s-three",
        "a stale header must not hide a good cookie"
    );
    let good = ask(
        &host,
        Some("garbage"),
        Some(&foreign),
        Some(&stale),
        Some(&four),
    )
    .await;
    assert_eq!(session(good), "s-four");

    let mixed = ask(
        &host,
        None,
        Some(&one),
        Some(&mint.access(&User::new(9))),
        None,
    )
    .await;
    assert_eq!(
        (&mixed["valid"], &mixed["error"]),
        (&json!(false), &json!("consistency_mismatch"))
    );
    let mixed = ask(
        &host,
        Some(&one),
        None,
        None,
        Some(&mint.access(&User::new(9))),
    )
    .await;
    assert_eq!(mixed["error"], "consistency_mismatch");

    let errors = [
        (Some("garbage"), Some(stale.as_str()), "invalid_token"),
        (Some(stale.as_str()), Some("garbage"), "token_expired"),
        (
            Some(foreign.as_str()),
            Some(stale.as_str()),
            "invalid_signature",
        ),
        (None, Some("garbage"), "invalid_token"),
    ];
    for (body, bearer, want) in errors {
        let answer = ask(&host, body, bearer, None, None).await;
        assert_eq!(answer["error"], want, "{answer}");
    }
}

/// A revoked token is passed over for a good one, and reported before other faults.
#[tokio::test(flavor = "multi_thread")]
async fn revoked_ones_are_passed_over_but_reported() {
    let redis = RedisServer::start().await;
    let host = Host::builder().redis(&redis).start().await;
    let mint = &host.tokens;
    let user = User::new(10);
    let revoked = mint.access(&user.clone().session("s-gone"));
    let key = format!("lockgate:revoked:token:{}", sha256(&revoked));
    let _: String = redis.run(&["SET", &key, "1", "EX", "3600"]).await;
    let good = mint.access(&user);
    let stale = mint.expired(&user);

    let body = ask(&host, None, Some(&revoked), Some(&good), None).await;
    assert_eq!(
        (&body["valid"], &body["session_id"]),
        (&json!(true), &json!(user.session_id))
    );
    let body = ask(&host, Some(&stale), Some(&revoked), None, None).await;
    shape::exact(&body, shape::N);
    assert_eq!(
        (&body["error"], &body["code"]),
        (&json!("token_revoked"), &json!("AUTH_002"))
    );
    let body = ask(&host, None, Some(&revoked), Some("garbage"), None).await;
    assert_eq!(body["error"], "token_revoked");
}
