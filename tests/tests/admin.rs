//! The admin listener changes something only for its bearer token.

use lockgate_tests::component::{self, Probe, digest, version_text};
use lockgate_tests::wait::eventually;
use lockgate_tests::{Call, Host, Service};
use reqwest::Method;

const HERE: Service = Service::Coordinator;

async fn host() -> Host {
    let folder = component::folder();
    Host::builder()
        .plugin(HERE, Probe::version(1).file(folder.path()))
        .start()
        .await
}

fn roll_back(host: &Host, service: &str) -> Call {
    let path = format!("/plugins/{service}/rollback");
    let url = format!("http://127.0.0.1:{}{path}", host.admin_port());
    Call::new(lockgate_tests::http::client(), Method::POST, url)
}

fn token(host: &Host) -> String {
    std::fs::read_to_string(host.data_dir().join("admin_token")).expect("the token was made")
}

async fn answered(host: &Host) -> String {
    host.get(HERE, "/version").send().await.expect(200).text()
}

#[tokio::test]
async fn an_operator_goes_back_to_the_revision_before() {
    let host = host().await;
    let (old, new) = (Probe::version(1).bytes(), Probe::version(2).bytes());
    assert_eq!(answered(&host).await, version_text(1));
    host.swap(HERE, &new).await;
    assert_eq!(answered(&host).await, version_text(2));
    let call = roll_back(&host, HERE.name()).bearer(&token(&host));
    let answer = call.send().await.expect(200).json();
    assert_eq!(answer["digest"], digest(&old));
    assert_eq!(answered(&host).await, version_text(1));
    // The file still lies there; it does not come back by itself.
    let error = host.wait_refused(HERE, &["an operator asked"]).await;
    assert!(error.contains("rolled back to revision 1"), "{error}");
    let again = roll_back(&host, HERE.name()).bearer(&token(&host));
    again.send().await.expect(409);
    assert_eq!(answered(&host).await, version_text(1));
}

#[tokio::test]
async fn off_loopback_a_token_reads_and_only_the_whole_one_changes() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("read_token");
    std::fs::write(&file, "read-read-read-read\n").expect("write the token");
    let mut host = Host::builder()
        .env(
            "LOCKGATE_ADMIN_READ_TOKEN_FILE",
            file.to_str().expect("text"),
        )
        .prepare();
    host.set_env("LOCKGATE_ADMIN", format!("0.0.0.0:{}", host.admin_port()));
    host.launch();
    let metrics = |token: &str| host.admin("/metrics").bearer(token);
    eventually("it listens", async || {
        let answer = metrics("none").try_send().await;
        answer.map(|answer| assert_eq!(answer.status, 401))
    })
    .await;
    let (read, all) = ("read-read-read-read", token(&host));
    for token in [read, &all] {
        metrics(token).send().await.expect(200);
        host.admin("/plugins")
            .bearer(token)
            .send()
            .await
            .expect(200);
    }
    host.admin("/metrics").send().await.expect(401);
    let back = || roll_back(&host, HERE.name());
    back().bearer(read).send().await.expect(401);
    // Only that there is nothing to go back to keeps it.
    back().bearer(&all).send().await.expect(409);
    assert!(!host.log().contains(read));

    // Whoever names a file wants it.
    std::fs::remove_file(&file).expect("remove the token");
    host.stop().await;
    host.launch();
    assert!(!host.wait_exit().await.success());
    assert!(host.log().contains("cannot use the admin token file"));
}

#[tokio::test]
async fn without_the_token_nothing_changes() {
    let host = host().await;
    assert_eq!(answered(&host).await, version_text(1));
    host.swap(HERE, &Probe::version(2).bytes()).await;
    let calls = [
        roll_back(&host, HERE.name()),
        roll_back(&host, HERE.name()).bearer("wrong"),
        roll_back(&host, HERE.name()).bearer(&token(&host)[1..]),
        roll_back(&host, "no-such-service"),
    ];
    for call in calls {
        let answer = call.send().await.expect(401);
        assert_eq!(answer.header("www-authenticate"), "Bearer");
        assert_eq!(answer.json()["error"], "token_missing");
    }
    let unknown = roll_back(&host, "no-such-service").bearer(&token(&host));
    unknown.send().await.expect(404);
    assert_eq!(answered(&host).await, version_text(2));
    assert!(!host.log().contains(&token(&host)));
}
