//! Stolen refresh tokens, races between thief and owner, and sessions and cookies of
//! one user mixed with those of another. Plain rotation, grace and theft are in
//! refresh.rs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lockgate_tests::tokens::{claims, set};
use lockgate_tests::{Answer, Call, Host, RedisServer, Service, Tokens, User, attacks};
use serde_json::{Value, json};

const REFRESH: &str = "/api/v1/jwt/refresh";

fn refresh(host: &Host) -> Call {
    host.post(Service::Jwt, REFRESH)
}

async fn by_body(host: &Host, token: &str) -> Answer {
    refresh(host)
        .json(&json!({"refresh_token": token}))
        .send()
        .await
}

/// A refresh that must work; gives access and refresh token.
async fn good(host: &Host, token: &str) -> (String, String) {
    pair(&by_body(host, token).await.expect(200).json())
}

fn pair(body: &Value) -> (String, String) {
    let text = |name: &str| body[name].as_str().expect("a token").to_owned();
    (text("access_token"), text("refresh_token"))
}

async fn validates(host: &Host, token: &str) -> bool {
    let call = host.post(Service::Jwt, "/api/v1/jwt/validate");
    let answer = call.bearer(token).send().await.expect(200);
    answer.json()["valid"] == true
}

/// Both stores, with a short grace period.
async fn both_stores(test: impl AsyncFn(Arc<Host>)) {
    let host = || Host::builder().env("REFRESH_GRACE_SECONDS", "1");
    test(Arc::new(host().start().await)).await;
    let redis = RedisServer::start().await;
    test(Arc::new(host().redis(&redis).start().await)).await;
}

/// Other spellings of one token are one token: no second chain starts from it.
#[tokio::test(flavor = "multi_thread")]
async fn one_token_in_many_spellings_has_one_successor() {
    let host = Host::start().await;
    let old = host.tokens.marked_refresh(&User::new(14));
    let mut pairs = BTreeSet::new();
    for text in [
        old.clone(),
        format!(" {old} "),
        format!("\"{old}\""),
        format!("'{old}'"),
        format!("Bearer {old}"),
        format!("bearer  BEARER \"{old}\""),
        format!("{old}\n"),
        format!("\t{old}"),
    ] {
        pairs.insert(pair(&by_body(&host, &text).await.expect(200).json()));
        if !text.contains(['\n', '\t']) {
            let answer = refresh(&host).bearer(&text).send().await.expect(200);
            pairs.insert(pair(&answer.json()));
        }
    }
    assert_eq!(pairs.len(), 1, "{pairs:?}");
    for bent in [
        format!("{old}="),
        format!("{old}."),
        old.replace('.', "%2E"),
        old.to_uppercase(),
    ] {
        let answer = by_body(&host, &bent).await.expect(401);
        assert_ne!(
            answer.json()["error"],
            "token_revoked",
            "no use of the token"
        );
    }
    let (_, next) = pairs.pop_first().unwrap();
    good(&host, &next).await;
}

/// The same token at once by cookie, body and header.
#[tokio::test(flavor = "multi_thread")]
async fn a_race_over_all_places_has_one_successor() {
    both_stores(async |host| {
        let old = host.tokens.marked_refresh(&User::new(14));
        let mut calls = tokio::task::JoinSet::new();
        for number in 0..45 {
            let call = match number % 3 {
                0 => refresh(&host).cookie("refresh_token", &old),
                1 => refresh(&host).json(&json!({"refresh_token": old})),
                _ => refresh(&host).bearer(&old),
            };
            calls.spawn(call.send());
        }
        let mut tokens = BTreeSet::new();
        for answer in calls.join_all().await {
            let answer = answer.expect(200);
            let cookie = answer.set_cookie("refresh_token");
            let body = answer.json();
            let next = cookie.or_else(|| body["refresh_token"].as_str().map(str::to_owned));
            tokens.insert((body["access_token"].to_string(), next.expect("a successor")));
        }
        assert_eq!(tokens.len(), 1);
    })
    .await;
}

/// Many replays at once after the grace period: each is refused, and the session ends once.
#[tokio::test(flavor = "multi_thread")]
async fn replays_at_once_are_all_theft() {
    both_stores(async |host| {
        let user = User::new(14);
        let old = host.tokens.marked_refresh(&user);
        let (access, next) = good(&host, &old).await;
        let other = host.tokens.access(&user.clone().session("s-other"));
        let stranger = host.tokens.access(&User::new(15).session(&user.session_id));
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..30 {
            calls.spawn(refresh(&host).cookie("refresh_token", &old).send());
        }
        for answer in calls.join_all().await {
            attacks::note(answer.status == 401, answer.status);
            answer.expect_error(401, "token_revoked");
            let given = ["access_token", "refresh_token"].map(|name| answer.set_cookie(name));
            assert!(
                given.iter().flatten().all(String::is_empty),
                "cookies are only deleted: {given:?}"
            );
        }
        by_body(&host, &next)
            .await
            .expect_error(401, "token_revoked");
        assert!(!validates(&host, &access).await);
        assert!(validates(&host, &other).await, "another session goes on");
        assert!(
            validates(&host, &stranger).await,
            "so does another user's of the same name"
        );
    })
    .await;
}

/// Thief and owner both go on from one stolen token. Within the grace period both hold
/// the same successor; whoever goes on with it first makes the other's use theft.
#[tokio::test(flavor = "multi_thread")]
async fn thief_and_owner_cannot_both_go_on() {
    both_stores(async |host| {
        let stolen = host.tokens.marked_refresh(&User::new(14));
        let (_, owner) = good(&host, &stolen).await;
        let (_, thief) = good(&host, &stolen).await;
        assert_eq!(owner, thief, "no second chain");
        let (_, thief) = good(&host, &thief).await;
        let (thief_access, thief) = good(&host, &thief).await;
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        by_body(&host, &owner)
            .await
            .expect_error(401, "token_revoked");
        by_body(&host, &thief)
            .await
            .expect_error(401, "token_revoked");
        assert!(!validates(&host, &thief_access).await);
    })
    .await;
}

/// A replay of the grandparent races with the child's own use: at the end nobody has
/// a token that works.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_races_with_the_next_use_leaves_nothing() {
    both_stores(async |host| {
        for round in 0..5 {
            let grandparent = host.tokens.marked_refresh(&User::new(100 + round));
            let (_, parent) = good(&host, &grandparent).await;
            let (_, child) = good(&host, &parent).await;
            let (replay, used) = tokio::join!(by_body(&host, &grandparent), by_body(&host, &child));
            replay.expect_error(401, "token_revoked");
            by_body(&host, &child)
                .await
                .expect_error(401, "token_revoked");
            if used.status == 200 {
                let (access, next) = pair(&used.json());
                by_body(&host, &next)
                    .await
                    .expect_error(401, "token_revoked");
                assert!(!validates(&host, &access).await);
            } else {
                used.expect_error(401, "token_revoked");
            }
        }
    })
    .await;
}

/// Refresh and logout at once: whichever comes first, nothing is left afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_that_races_with_the_logout_leaves_nothing() {
    both_stores(async |host| {
        for round in 0..5 {
            let user = User::new(200 + round);
            let (access, old) = (host.tokens.access(&user), host.tokens.marked_refresh(&user));
            let logout = host.post(Service::Coordinator, "/api/v1/auth/logout");
            let logout = logout
                .cookie("access_token", &access)
                .cookie("refresh_token", &old);
            let (out, used) = tokio::join!(logout.send(), by_body(&host, &old));
            out.expect(204);
            if used.status == 200 {
                let (access, next) = pair(&used.json());
                assert!(!validates(&host, &access).await, "round {round}");
                by_body(&host, &next)
                    .await
                    .expect_error(401, "token_revoked");
            }
            by_body(&host, &old)
                .await
                .expect_error(401, "token_revoked");
        }
    })
    .await;
}

/// Cookie, body and header of three users, and cookies that come twice: one token
/// decides, and nobody gets the tokens of somebody else.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_several_users_in_one_refresh() {
    let host = Host::start().await;
    let [one, two, three] = [1, 2, 3].map(|id| host.tokens.marked_refresh(&User::new(id)));
    let call = refresh(&host)
        .cookie("refresh_token", &one)
        .cookie("refresh_token", &two)
        .json(&json!({"refresh_token": two, "token": three, "user_id": 3}))
        .bearer(&three);
    let call = call.cookie("access_token", &host.tokens.access(&User::new(2)));
    let answer = call.send().await.expect(200);
    let body = answer.json();
    assert_eq!(body["user_id"], 1);
    for name in ["access_token", "refresh_token"] {
        let token = answer.set_cookie(name).expect("a new cookie");
        assert_eq!(
            (&claims(&token)["sub"], &claims(&token)["id"]),
            (&json!("1"), &json!(1))
        );
    }
    assert!(body.get("refresh_token").is_none(), "it came by cookie");
    // The others' tokens are unused: their own rotation starts only now.
    for (token, id) in [(&two, 2), (&three, 3)] {
        let (access, _) = good(&host, token).await;
        assert_eq!(claims(&access)["id"], id);
    }
    // A planted cookie before the real one spoils the refresh, but steals nothing.
    let four = host.tokens.marked_refresh(&User::new(4));
    let planted = refresh(&host)
        .cookie("refresh_token", "planted")
        .cookie("refresh_token", &four);
    planted.send().await.expect_error(401, "invalid_token");
    good(&host, &four).await;
}

/// What a client adds to a refresh changes nothing in the new tokens.
#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_gives_no_more_than_the_old_token_had() {
    let host = Host::start().await;
    let mut old = Tokens::unified_claims(&User::new(14), 604_800);
    set(&mut old, "token_use", json!("refresh"));
    for (name, value) in [
        ("tfa_verified", json!(false)),
        ("scopes", json!(["admin"])),
        ("admin_permissions", json!(["all"])),
        ("is_admin", json!(true)),
        ("aud", json!(["billing"])),
        ("token_type", json!("access")),
    ] {
        set(&mut old, name, value);
    }
    let old = host.tokens.sign(&old);
    let call = refresh(&host).json(&json!({
        "refresh_token": old, "role": "admin", "user_id": 1, "email": "eve@example.org",
        "session_id": "s-eve", "tfa_verified": true, "expires_in": 999_999_999, "scope": "all",
    }));
    let call = call
        .header("x-user-id", "1")
        .header("x-user-role", "admin")
        .header("x-session-id", "s-eve");
    let (access, next) = pair(&call.send().await.expect(200).json());
    for token in [access, next] {
        let new = claims(&token);
        assert_eq!((&new["role"], &new["id"]), (&json!("user"), &json!(14)));
        assert_eq!(new["session_id"], "s-14Qx");
        assert_eq!(new["tfa_verified"], false, "never raised");
        for name in ["scopes", "admin_permissions", "is_admin", "aud", "scope"] {
            assert!(new.get(name).is_none(), "{name} in {new}");
        }
        let life = new["exp"].as_i64().unwrap() - new["iat"].as_i64().unwrap();
        assert!(life <= 604_800, "{new}");
    }
}

/// A token of one user that names the session of another: it ends nothing there, sees
/// nothing of it, and takes nothing over.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_id_of_another_user_opens_nothing() {
    let redis = RedisServer::start().await;
    let host = Host::builder()
        .redis(&redis)
        .env("REFRESH_GRACE_SECONDS", "1")
        .start()
        .await;
    let victim = User::new(14);
    let eve = User::new(66);
    let posing = eve.clone().session(&victim.session_id);
    let theirs = host.tokens.access(&victim);
    let get = |path: &str| host.get(Service::Session, path);
    get("/api/v1/session/validate")
        .bearer(&theirs)
        .send()
        .await
        .expect(200);
    let record = format!("session:{}", victim.session_id);
    let before: Value = serde_json::from_str(&redis.get(&record).await.unwrap()).unwrap();

    // In the claim: the record is another's.
    let token = host.tokens.access(&posing);
    let validate = get("/api/v1/session/validate").bearer(&token).send().await;
    validate.expect_invalid("consistency_mismatch");
    // In header, cookie and body: passed over.
    let own = host.tokens.access(&eve);
    let info = get("/api/v1/session/info")
        .bearer(&own)
        .header("x-session-id", &victim.session_id)
        .cookie("session_id", &victim.session_id)
        .cookie("sessionid", &victim.session_id);
    let info = info.send().await.expect(200).json();
    assert_eq!(
        (&info["user_id"], &info["session_id"]),
        (&json!(66), &json!(eve.session_id))
    );
    let authorize = host.post(Service::Gateway, "/api/v1/ws-auth/authorize");
    let body = json!({"token": own, "session_id": victim.session_id});
    let authorize = authorize.json(&body).send().await.expect(200).json();
    assert_eq!(
        (&authorize["user_id"], &authorize["session_id"]),
        (&json!(66), &json!(eve.session_id))
    );
    // In an event: refused, whether it names the session or the user.
    for (user_id, email) in [(66, &eve.email), (14, &victim.email)] {
        let event = json!({"user_id": user_id, "email": email, "event_type": "logout",
            "source": "api", "session_id": victim.session_id});
        let call = host
            .post(Service::Coordinator, "/api/v1/coordinator/sync-auth")
            .bearer(&own)
            .json(&event);
        call.send().await.expect_error(403, "access_forbidden");
    }
    // Its theft and its logout end only what is Eve's own.
    let old = host.tokens.marked_refresh(&posing);
    good(&host, &old).await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    by_body(&host, &old)
        .await
        .expect_error(401, "token_revoked");
    let logout = host.post(Service::Coordinator, "/api/v1/auth/logout");
    logout
        .cookie("access_token", &token)
        .cookie("refresh_token", &old)
        .send()
        .await
        .expect(204);

    let after = get("/api/v1/session/validate").bearer(&theirs).send().await;
    assert_eq!(after.expect(200).json()["user_id"], 14);
    let now: Value = serde_json::from_str(&redis.get(&record).await.expect("it is there")).unwrap();
    assert_eq!(
        (&now["user_id"], &now["email"], &now["created_at"]),
        (&before["user_id"], &before["email"], &before["created_at"])
    );
    assert!(validates(&host, &theirs).await);
}

/// A credential of one user beside one of another, in every pair of places: refused,
/// in whichever order they come.
#[tokio::test(flavor = "multi_thread")]
async fn users_are_never_mixed() {
    let host = Host::builder()
        .env("FALLBACK_RATE_LIMIT", "100000")
        .start()
        .await;
    let (ada, eve) = (User::new(14), User::admin(66));
    let tokens = [host.tokens.access(&ada), host.tokens.cookie_variant(&eve)];
    let place = |call: Call, place: usize, token: &str| match place {
        0 => call.bearer(token),
        1 => call.cookie("access_token", token),
        2 => call.cookie("auth_token", token),
        _ => call.json(&json!({"token": token})),
    };
    for first in 0..4 {
        for second in 0..4 {
            // Only cookies may come twice.
            if first == second && !(1..=2).contains(&first) {
                continue;
            }
            for [one, two] in [[0, 1], [1, 0]] {
                let put =
                    |call: Call| place(place(call, first, &tokens[one]), second, &tokens[two]);
                let what = format!("{one} in place {first}, {two} in place {second}");
                let call = put(host.post(Service::Session, "/api/v1/session/validate"));
                let body = call.send().await.expect(200).auth();
                attacks::note(body["valid"] == false, 200);
                assert_eq!(body["error"], "consistency_mismatch", "{what}: {body}");
                for (service, path) in [
                    (Service::Jwt, "/api/v1/jwt/validate"),
                    (Service::Gateway, "/api/v1/ws-auth/validate"),
                    (Service::Fallback, "/api/v1/fallback/validate"),
                ] {
                    let body = put(host.post(service, path))
                        .send()
                        .await
                        .expect(200)
                        .auth();
                    attacks::note(body["valid"] == false, 200);
                    assert_eq!(body["error"], "consistency_mismatch", "{what} {path}");
                }
                let call = put(host.post(Service::Fallback, "/api/v1/fallback/emergency-auth"));
                call.send().await.expect_error(401, "consistency_mismatch");
                let call = put(host.post(Service::Gateway, "/api/v1/ws-auth/authorize"));
                call.send().await.expect_error_with(
                    401,
                    "consistency_mismatch",
                    "authorized:false close_code:=1008 reason:str",
                );
            }
        }
    }
    // The fallback token of one user proves nothing about another.
    let call = host.post(Service::Fallback, "/api/v1/fallback/create");
    let created = call.bearer(&tokens[0]).send().await.expect(201).json();
    let fallback = &created["fallback_token"];
    for narrow in [
        json!({"fallback_token": fallback, "user_id": 66}),
        json!({"fallback_token": fallback, "email": eve.email}),
        json!({"fallback_token": fallback, "session_key": "fallback_session:66"}),
        json!({"session_key": "fallback_session:14", "user_id": 14, "email": ada.email}),
        json!({"fallback_token": "", "session_key": "fallback_session:14"}),
        json!({"fallback_token": created["session_key"]}),
        json!({"fallback_token": created["session_id"]}),
    ] {
        let call = host.post(Service::Fallback, "/api/v1/fallback/validate");
        let body = call.json(&narrow).send().await.expect(200).json();
        assert_eq!(body["valid"], false, "{narrow}");
    }
}
