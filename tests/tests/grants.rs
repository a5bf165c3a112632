//! What a component is granted, checked when it is loaded and at every call: the
//! smallest grants that work, and what happens one step beyond.

use lockgate_tests::component::{self, Probe, digest};
use lockgate_tests::{Host, Service, User};
use serde_json::{Value, json};

const HERE: Service = Service::Coordinator;

/// The probe's service with these grants instead of the default ones.
async fn host(grants: &str) -> Host {
    let folder = component::folder();
    let table = format!("[services.{}.grants]", HERE.name());
    Host::builder()
        .plugin(HERE, Probe::version(1).file(folder.path()))
        .config(format!("{table}\n{grants}\n"))
        .start()
        .await
}

/// All that the probe imports.
const IMPORTS: &str = r#"interfaces = ["breakers", "counters", "csrf", "events", "fallback",
    "jwt", "limiter", "peers", "redis", "revocations", "sockets", "users"]"#;

#[tokio::test]
async fn an_import_more_is_refused_with_what_changed() {
    let host = Host::start().await;
    let running = digest(&component::built(Service::Gateway));
    // The coordinator imports what the gateway is not granted.
    host.install(Service::Gateway, &component::built(HERE));
    let against = format!("against the running revision {}", &running[..12]);
    let words = ["is not granted", &against, "+lockgate:plugin/csrf@0.1.0"];
    let said = host.wait_refused(Service::Gateway, &words).await;
    assert!(
        !said.contains("-lockgate:plugin/jwt"),
        "both import it: {said}"
    );
    assert_eq!(host.plugin_report(Service::Gateway).await.digest, running);
}

#[tokio::test]
async fn tokens_are_verified_only_for_the_granted_uses() {
    let without = host(IMPORTS).await;
    let token = without.tokens.access(&User::new(14));
    let verify = async |host: &Host, token: &str| {
        let call = host.get(HERE, "/verify").bearer(token);
        call.send().await.expect(200).text()
    };
    let said = verify(&without, &token).await;
    assert!(said.contains("bad ") && said.contains("denied"), "{said}");
    assert!(without.metric(HERE, "lockgate_denied_total").await >= 1.0);
    assert!(without.log().contains("jwt: verify for this use"));
    let with = host(&format!("{IMPORTS}\nverify = [\"access\"]")).await;
    let said = verify(&with, &with.tokens.access(&User::new(14))).await;
    assert!(said.contains("good "), "{said}");
}

#[tokio::test]
async fn a_denied_key_is_an_error_counted_each_time_and_logged_a_few_times() {
    let host = host(&format!(
        "{IMPORTS}\nredis_read = [\"probe:*\"]\nredis_write = [\"probe:w:*\"]"
    ))
    .await;
    let ask = async |key: &str| {
        let call = host.get(HERE, &format!("/redis?key={key}"));
        call.send().await.expect(200).text()
    };
    let said = ask("probe:r").await;
    assert!(said.contains("set Err(Error::Denied)") && said.contains("get Ok(None)"));
    let said = ask("probe:w:1").await;
    assert!(said.contains("set Ok(true)") && said.contains("get Ok(Some("));
    let said = ask("other").await;
    assert!(said.contains("set Err(Error::Denied)") && said.contains("get Err(Error::Denied)"));
    assert_eq!(host.metric(HERE, "lockgate_denied_total").await, 3.0);
    assert_eq!(host.log().matches("a host call was denied").count(), 3);
}

#[tokio::test]
async fn signed_tokens_live_no_longer_than_was_granted() {
    let grants = r#"interfaces = ["counters", "csrf", "events", "jwt", "peers", "revocations", "sockets", "users"]
        verify = ["access", "refresh"]
        reissue = true
        access_seconds = 600
        refresh_seconds = 7200"#;
    let table = format!("[services.{}.grants]", Service::Jwt.name());
    let host = Host::builder()
        .config(format!("{table}\n{grants}\n"))
        .start()
        .await;
    let refresh = host.tokens.refresh(&User::new(14));
    let call = host.post(Service::Jwt, "/api/v1/jwt/refresh");
    let body = json!({ "refresh_token": refresh });
    let answer = call.json(&body).send().await.expect(200).json();
    assert_eq!(answer["expires_in"], 600, "{answer}");
    assert_eq!(life(&answer["access_token"]), 600);
    assert_eq!(life(&answer["refresh_token"]), 7200);
}

/// `exp - iat` of a token.
fn life(token: &Value) -> i64 {
    use base64::Engine as _;
    let payload = token.as_str().unwrap().split('.').nth(1).unwrap();
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(payload)
        .unwrap();
    let claims: Value = serde_json::from_slice(&bytes).unwrap();
    claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap()
}
