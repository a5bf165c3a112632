//! The JWT secret changes while the host serves: the new key signs, the old one
//! verifies for a while, nobody is logged out and nothing is started again.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lockgate_tests::host::Secret;
use lockgate_tests::shape::S;
use lockgate_tests::wait::eventually;
use lockgate_tests::{Host, Service, Tokens, User, now};
use serde_json::{Value, json};

const FIRST: &[u8] = b"the first key, line one 012345678\nline two";
const SECOND: &[u8] = b"the second key, line one 012345678\nline two";
const THIRD: &[u8] = b"the third key, line one 012345678\nline two";

async fn valid(host: &Host, token: &str) -> bool {
    let call = host
        .get(Service::Session, "/api/v1/session/validate")
        .bearer(token);
    call.send().await.expect(200).json()["valid"] == true
}

/// Refreshes and gives both new tokens.
async fn refresh(host: &Host, token: &str) -> Value {
    let call = host.post(Service::Jwt, "/api/v1/jwt/refresh");
    let body = json!({"refresh_token": token});
    call.json(&body).send().await.expect(200).json()
}

/// True if this mint has signed the token.
fn signed_by(mint: &Tokens, token: &str) -> bool {
    let (message, _) = token.rsplit_once('.').unwrap();
    mint.seal(message) == token
}

/// Waits until the host signs with the key.
async fn signs(host: &Host, mint: &Tokens) {
    eventually("the new key signs", async || {
        let old = mint.access(&User::new(1));
        valid(host, &old).await.then_some(()).ok_or("not yet")
    })
    .await;
    let answer = refresh(host, &mint.marked_refresh(&User::new(1))).await;
    assert!(signed_by(mint, answer["access_token"].as_str().unwrap()));
}

async fn metric(host: &Host, name: &str) -> String {
    let text = host.admin("/metrics").send().await.expect(200).text();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.unwrap_or("absent").to_owned()
}

async fn start(path: Option<&Path>) -> Host {
    let mut builder = Host::builder().secret(Secret::Bytes(FIRST.to_vec()));
    if let Some(path) = path {
        builder = builder.env("JWT_SECRET_FILE", path.display().to_string());
    }
    builder.start().await
}

/// A new file takes the name of the old one.
fn rename_over(file: &Path, content: &[u8]) {
    let fresh = file.with_extension("fresh");
    std::fs::write(&fresh, content).unwrap();
    std::fs::rename(fresh, file).unwrap();
}

/// Requests go on through two changes; each is answered as before.
#[tokio::test(flavor = "multi_thread")]
async fn two_changes_in_a_row_log_nobody_out() {
    let host = Arc::new(start(None).await);
    let mints = [FIRST, SECOND, THIRD].map(Tokens::new);
    let pid = host.pid();
    let users = [11, 12, 13].map(User::new);
    let first = mints[0].access(&users[0]);
    let first_refresh = mints[0].marked_refresh(&users[0].clone().session("s-r"));

    let stop = Arc::new(AtomicBool::new(false));
    let (watched, ended, token) = (host.clone(), stop.clone(), first.clone());
    let steady = tokio::spawn(async move {
        let mut answers = 0;
        while !ended.load(Ordering::SeqCst) {
            let call = watched.get(Service::Session, "/api/v1/session/validate");
            let answer = call.cookie("access_token", &token).send().await;
            let body = answer.expect_shape(200, S);
            assert_eq!(body["user_id"], 11);
            answers += 1;
        }
        answers
    });

    std::fs::write(host.secret_file(), SECOND).unwrap();
    signs(&host, &mints[1]).await;
    let second = mints[1].access(&users[1]);
    assert!(valid(&host, &second).await && valid(&host, &first).await);
    rename_over(&host.secret_file(), THIRD);
    signs(&host, &mints[2]).await;
    for token in [&first, &second, &mints[2].access(&users[2])] {
        assert!(valid(&host, token).await);
    }
    // What the first key signed is replaced by what the third one signs.
    let answer = refresh(&host, &first_refresh).await;
    for name in ["access_token", "refresh_token"] {
        assert!(
            signed_by(&mints[2], answer[name].as_str().unwrap()),
            "{name}"
        );
    }
    // Whoever has an old key cannot make new tokens with it.
    for mint in &mints[..2] {
        let mut claims = Tokens::unified_claims(&users[0], 3_600);
        claims["iat"] = json!(now() + 30);
        let call = host.get(Service::Session, "/api/v1/session/validate");
        let answer = call.bearer(&mint.sign(&claims)).send().await;
        answer.expect_invalid("invalid_signature");
    }
    stop.store(true, Ordering::SeqCst);
    assert!(steady.await.unwrap() > 0);
    assert_eq!(host.pid(), pid);
    assert_eq!(metric(&host, "lockgate_key_changes_total").await, "2");
    let log = host.log();
    for secret in ["the first key", "the second key", "the third key"] {
        assert!(!log.contains(secret), "a key is in the log");
    }
}

/// Each use of a refresh token within the grace gives the same tokens, also when the
/// key changes in between.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_gives_the_same_tokens_after_a_change() {
    let host = start(None).await;
    let token = Tokens::new(FIRST).marked_refresh(&User::new(14));
    let before = refresh(&host, &token).await;
    std::fs::write(host.secret_file(), SECOND).unwrap();
    signs(&host, &Tokens::new(SECOND)).await;
    let after = refresh(&host, &token).await;
    for name in ["access_token", "refresh_token"] {
        assert_eq!(before[name], after[name], "{name}");
    }
    // And the chain goes on.
    let next = refresh(&host, after["refresh_token"].as_str().unwrap()).await;
    let access = next["access_token"].as_str().unwrap();
    assert!(signed_by(&Tokens::new(SECOND), access) && valid(&host, access).await);
}

/// The file is a link into a folder that is replaced as a whole, as some platforms
/// mount secrets.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_replaced() {
    use std::os::unix::fs::symlink;
    let mount = tempfile::tempdir().unwrap();
    let at = |name: &str| mount.path().join(name);
    for (folder, key) in [("one", FIRST), ("two", SECOND)] {
        std::fs::create_dir(at(folder)).unwrap();
        std::fs::write(at(folder).join("jwt_secret"), key).unwrap();
    }
    symlink("one", at("..data")).unwrap();
    symlink("..data/jwt_secret", at("jwt_secret")).unwrap();
    let host = start(Some(&at("jwt_secret"))).await;
    let old = Tokens::new(FIRST).access(&User::new(14));
    assert!(valid(&host, &old).await);
    symlink("two", at("..fresh")).unwrap();
    std::fs::rename(at("..fresh"), at("..data")).unwrap();
    signs(&host, &Tokens::new(SECOND)).await;
    assert!(valid(&host, &old).await);
}

/// What cannot be a key changes nothing and is reported; the next good file is taken.
#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_changes_nothing_and_is_reported() {
    let host = start(None).await;
    let file = host.secret_file();
    let first = Tokens::new(FIRST);
    let files = [
        ("empty", "unreadable or empty"),
        ("short", "too short"),
        ("gone", "unreadable or empty"),
        ("a folder", "unreadable or empty"),
        ("over long", "unreadable or empty"),
    ];
    for (faults, (what, fault)) in (1..).zip(files) {
        match what {
            "empty" => std::fs::write(&file, " \n").unwrap(),
            "short" => std::fs::write(&file, "only-thirty-one-bytes-of-a-key-").unwrap(),
            "gone" => std::fs::remove_file(&file).unwrap(),
            "a folder" => {
                std::fs::remove_file(&file).unwrap();
                std::fs::create_dir(&file).unwrap();
            }
            _ => std::fs::write(&file, vec![b'x'; 70_000]).unwrap(),
        }
        eventually(&format!("{what} is reported"), async || {
            let count = metric(&host, "lockgate_key_faults_total").await;
            let usable = metric(&host, "lockgate_key_file_usable").await;
            let reported = count == i32::to_string(&faults) && usable == "0";
            let logged = host.log().contains(fault);
            (reported && logged).then_some(()).ok_or((count, usable))
        })
        .await;
        assert!(valid(&host, &first.access(&User::new(14))).await, "{what}");
        let answer = refresh(&host, &first.marked_refresh(&User::new(15))).await;
        assert!(signed_by(&first, answer["access_token"].as_str().unwrap()));
        host.get(Service::Jwt, "/health").send().await.expect(200);
        if what == "a folder" {
            std::fs::remove_dir(&file).unwrap();
        }
        // The key that is loaded is good news too.
        rename_over(&file, FIRST);
        eventually("the file is usable again", async || {
            let usable = metric(&host, "lockgate_key_file_usable").await;
            (usable == "1").then_some(()).ok_or(usable)
        })
        .await;
    }
    assert_eq!(metric(&host, "lockgate_key_changes_total").await, "absent");
    rename_over(&file, SECOND);
    signs(&host, &Tokens::new(SECOND)).await;
    let log = host.log();
    assert!(!log.contains("only-thirty-one"), "the key is in the log");
}

/// Another source that appears later is not the chosen one.
#[tokio::test(flavor = "multi_thread")]
async fn the_source_is_chosen_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("later");
    let host = Host::builder()
        .env("JWT_SECRET_FILE", file.display().to_string())
        .env("JWT_SECRET_KEY", String::from_utf8(FIRST.to_vec()).unwrap())
        .start()
        .await;
    std::fs::write(&file, SECOND).unwrap();
    let watched = start(None).await;
    std::fs::write(watched.secret_file(), SECOND).unwrap();
    // By now this host would have seen its file as well.
    signs(&watched, &Tokens::new(SECOND)).await;
    assert!(valid(&host, &Tokens::new(FIRST).access(&User::new(14))).await);
    assert!(!valid(&host, &Tokens::new(SECOND).access(&User::new(14))).await);
}
