//! An operator's word over the plugin folder: back to an earlier revision, or one that
//! stays whatever is dropped, by the commands and over a restart.

use lockgate_tests::component::{self, Probe, digest, version_text};
use lockgate_tests::wait::eventually;
use lockgate_tests::{Host, Service};

const HERE: Service = Service::Coordinator;
const NAME: &str = "service-boundary-coordinator";

/// A host on which these versions of the probe have served, the last one now.
async fn host(versions: &[u32]) -> Host {
    let folder = component::folder();
    let host = Host::builder()
        .plugin(HERE, Probe::version(versions[0]).file(folder.path()))
        .start()
        .await;
    for version in versions {
        host.swap(HERE, &bytes(*version)).await;
        serves(&host, *version).await;
        eventually("it is kept", async || {
            let kept = host.plugin_report(HERE).await.kept;
            kept.contains(&sha(*version)).then_some(()).ok_or(kept)
        })
        .await;
    }
    host
}

fn bytes(version: u32) -> Vec<u8> {
    Probe::version(version).bytes()
}

fn sha(version: u32) -> String {
    digest(&bytes(version))
}

async fn serves(host: &Host, version: u32) {
    let answer = host.get(HERE, "/version").send().await.expect(200);
    assert_eq!(answer.text(), version_text(version));
}

#[tokio::test]
async fn back_to_any_kept_revision_and_forth() {
    let mut host = host(&[1, 2, 3]).await;
    let text = host.command(&["rollback", NAME, &sha(1)[..12]], true);
    assert!(text.contains(&sha(1)[..12]), "{text}");
    serves(&host, 1).await;
    let error = host.wait_refused(HERE, &["an operator asked"]).await;
    assert!(error.contains("revision 3"), "{error}");
    // The file of revision 3 still lies in the folder.
    host.kill().await;
    host.start_again().await;
    serves(&host, 1).await;
    host.wait_refused(HERE, &["not tried again"]).await;
    // Forth to the revision that was rolled back; it is no failed one any more.
    host.command(&["rollback", NAME, &sha(3)], true);
    serves(&host, 3).await;
    host.stop().await;
    host.start_again().await;
    serves(&host, 3).await;
    assert_eq!(host.plugin_report(HERE).await.last_error, None);
}

#[tokio::test]
async fn back_after_a_restart_without_naming_it() {
    let mut host = host(&[1, 2]).await;
    host.stop().await;
    host.start_again().await;
    serves(&host, 2).await;
    host.command(&["rollback", NAME], true);
    serves(&host, 1).await;
    let text = host.command(&["rollback", NAME], false);
    assert!(text.contains("no earlier revision"), "{text}");
    serves(&host, 1).await;
}

#[tokio::test]
async fn a_pinned_service_ignores_drops_and_says_so() {
    let mut host = host(&[1]).await;
    let text = host.command(&["pin", NAME], true);
    assert!(text.contains("pinned"), "{text}");
    host.install(HERE, &bytes(2));
    let error = host.wait_refused(HERE, &["pinned to"]).await;
    assert!(error.contains(&sha(1)), "{error}");
    host.install(HERE, b"not a component");
    for stop_hard in [false, true] {
        if stop_hard {
            host.kill().await;
        } else {
            host.stop().await;
        }
        host.install(HERE, &bytes(2));
        host.start_again().await;
        serves(&host, 1).await;
        let report = host.plugin_report(HERE).await;
        assert!(report.pinned, "{report:?}");
        host.wait_refused(HERE, &["pinned to"]).await;
    }
    let text = host.command(&["rollback", NAME], false);
    assert!(text.contains("unpin it first"), "{text}");
    host.command(&["unpin", NAME], true);
    host.wait_loaded(HERE, &bytes(2)).await;
    serves(&host, 2).await;
    assert!(!host.plugin_report(HERE).await.pinned);
}

#[tokio::test]
async fn a_pin_holds_an_earlier_revision_against_its_own_failures() {
    let host = host(&[1, 2]).await;
    host.command(&["pin", NAME, &sha(1)[..8]], true);
    serves(&host, 1).await;
    for _ in 0..20 {
        host.get(HERE, "/trap").send().await.expect(503);
    }
    serves(&host, 1).await;
    assert_eq!(host.plugin_report(HERE).await.digest, sha(1));
    // The file in the folder was never to blame.
    host.command(&["unpin", NAME], true);
    host.wait_loaded(HERE, &bytes(2)).await;
    serves(&host, 2).await;
}

#[tokio::test]
async fn a_pinned_revision_is_kept_whatever_came_after() {
    let mut host = host(&[1, 2, 3, 4, 5]).await;
    assert_eq!(host.plugin_report(HERE).await.kept.len(), 3);
    let text = host.command(&["pin", NAME, &sha(1)], false);
    assert!(text.contains("no single kept revision"), "{text}");
    host.command(&["pin", NAME, &sha(3)], true);
    host.stop().await;
    std::fs::remove_file(host.plugin_path(HERE)).unwrap();
    host.start_again().await;
    serves(&host, 3).await;
    host.wait_refused(HERE, &["no such file"]).await;
}

#[tokio::test]
async fn the_list_shows_every_service() {
    let host = host(&[1]).await;
    let text = host.command(&["plugins"], true);
    for service in Service::ALL {
        assert!(text.contains(service.name()), "{text}");
    }
    assert!(text.contains(&sha(1)[..12]), "{text}");
    let json: serde_json::Value =
        serde_json::from_str(&host.command(&["plugins", "--json"], true)).expect("JSON");
    assert_eq!(json["plugins"].as_array().map(Vec::len), Some(5));
}

#[tokio::test]
async fn orders_that_make_no_sense_change_nothing() {
    let host = host(&[1]).await;
    for path in ["rollback/00000000", "rollback/", "pin/zz", "rollback/a/b"] {
        let answer = host.order(&format!("/plugins/{NAME}/{path}")).send().await;
        assert!([404, 409].contains(&answer.status), "{path}: {answer:?}");
    }
    for order in ["rollback", "pin", "unpin"] {
        host.order(&format!("/plugins/nobody/{order}"))
            .send()
            .await
            .expect(404);
        let answer = host.admin(&format!("/plugins/{NAME}/{order}")).send().await;
        assert_eq!(answer.expect(405).header("allow"), "POST");
    }
    let text = host.command(&["rollback", "nobody"], false);
    assert!(text.contains("404"), "{text}");
    serves(&host, 1).await;
    assert!(!host.plugin_report(HERE).await.pinned);
}
