//! Hot reload with good and bad files: what serves afterwards, and what the admin
//! listener and the log say about it.

use lockgate_tests::component::{self, Probe, version_text};
use lockgate_tests::shape::E;
use lockgate_tests::wait::eventually;
use lockgate_tests::{Host, Service};

/// The service that the probe stands in for: the only one that is granted all
/// that the probe imports.
const HERE: Service = Service::Coordinator;

async fn host_with(probe: &Probe) -> Host {
    let folder = component::folder();
    Host::builder()
        .plugin(HERE, probe.file(folder.path()))
        .start()
        .await
}

async fn answered(host: &Host) -> String {
    host.get(HERE, "/version").send().await.expect(200).text()
}

/// Drops a bad file onto a serving host: the old revision serves on, the error is
/// named on the admin page and in the log, and a good file is taken afterwards.
async fn refused(bytes: &[u8], words: &[&str]) {
    let host = host_with(&Probe::version(1)).await;
    refused_by(&host, bytes, words).await;
    host.swap(HERE, &Probe::version(2).bytes()).await;
    assert_eq!(answered(&host).await, version_text(2));
    let report = host.plugin_report(HERE).await;
    assert_eq!(report.last_error, None, "a good file ends the error");
}

async fn refused_by(host: &Host, bytes: &[u8], words: &[&str]) {
    let before = host.plugin_report(HERE).await;
    assert_eq!(before.last_error, None);
    host.install(HERE, bytes);
    let error = host.wait_refused(HERE, words).await;
    assert!(!error.contains('\n'), "one readable sentence, not: {error}");
    let after = host.plugin_report(HERE).await;
    assert_eq!(after.digest, before.digest, "the old revision serves");
    assert_eq!(after.revision, before.revision, "the old revision serves");
    assert_eq!(answered(host).await, version_text(1));
    let named = host.log().lines().any(|line| {
        line.contains(HERE.name()) && (line.contains("WARN") || line.contains("ERROR"))
    });
    assert!(named, "the log names the refused file:\n{}", host.log());
}

#[tokio::test]
async fn a_new_file_answers_without_a_restart() {
    let mut host = host_with(&Probe::version(1)).await;
    assert_eq!(answered(&host).await, version_text(1));
    let before = host.plugin_report(HERE).await;
    let new = Probe::version(2).bytes();
    host.install(HERE, &new);
    eventually("the new version answers", async || {
        match answered(&host).await {
            text if text == version_text(2) => Ok(()),
            text => Err(text),
        }
    })
    .await;
    assert!(host.is_running(), "it is the same process");
    let after = host.plugin_report(HERE).await;
    assert!(
        after.digest.contains(&component::digest(&new)[..16]),
        "{after:?}"
    );
    assert_ne!(after.revision, before.revision);
    assert_eq!(after.last_error, None);
}

#[tokio::test]
async fn a_shipped_plugin_is_swapped_and_goes_on() {
    let host = Host::start().await;
    let new = component::with_note(&component::built(Service::Session), "another digest");
    host.swap(Service::Session, &new).await;
    let token = host.tokens.access(&lockgate_tests::User::new(14));
    let answer = host
        .get(Service::Session, "/api/v1/session/validate")
        .bearer(&token);
    assert_eq!(answer.send().await.expect(200).json()["valid"], true);
}

#[tokio::test]
async fn the_other_services_keep_their_revisions() {
    let host = host_with(&Probe::version(1)).await;
    let before = host.plugin_report(Service::Session).await;
    host.swap(HERE, &Probe::version(2).bytes()).await;
    let after = host.plugin_report(Service::Session).await;
    assert_eq!(
        (before.revision, before.digest),
        (after.revision, after.digest)
    );
}

#[tokio::test]
async fn two_services_are_swapped_in_one_moment() {
    let host = Host::start().await;
    let both = [Service::Jwt, Service::Session];
    let new = both.map(|service| component::with_note(&component::built(service), "together"));
    for (service, bytes) in both.iter().zip(&new) {
        host.install(*service, bytes);
    }
    for (service, bytes) in both.iter().zip(&new) {
        host.wait_loaded(*service, bytes).await;
        host.get(*service, "/health").send().await.expect(200);
    }
}

#[tokio::test]
async fn the_same_contents_again_change_nothing() {
    let host = host_with(&Probe::version(1)).await;
    let before = host.plugin_report(HERE).await;
    host.install(HERE, &Probe::version(1).bytes());
    // A swap elsewhere shows that the folder was looked at since.
    let new = component::with_note(&component::built(Service::Fallback), "a barrier");
    host.swap(Service::Fallback, &new).await;
    let after = host.plugin_report(HERE).await;
    assert_eq!(
        (before.revision, before.digest),
        (after.revision, after.digest)
    );
}

#[tokio::test]
async fn a_change_and_back_again_ends_on_the_first() {
    let host = host_with(&Probe::version(1)).await;
    for version in [2, 1, 2, 1] {
        host.swap(HERE, &Probe::version(version).bytes()).await;
        assert_eq!(answered(&host).await, version_text(version));
    }
}

#[tokio::test]
async fn a_file_dropped_where_none_was_is_served() {
    let host = Host::builder().without_plugin(HERE).start_unready().await;
    let health = host.get(HERE, "/health").send().await.expect(503).json();
    assert_eq!(health["status"], "error", "{health}");
    let answer = host
        .post(HERE, "/api/v1/coordinator/sync-auth")
        .send()
        .await;
    answer.expect_error(503, "service_unavailable");
    host.swap(HERE, &Probe::version(7).bytes()).await;
    assert_eq!(answered(&host).await, version_text(7));
}

#[tokio::test]
async fn a_bad_file_at_the_start_stops_only_its_own_service() {
    let folder = component::folder();
    let bad = folder.path().join("bad.wasm");
    std::fs::write(&bad, b"no component at all").unwrap();
    let host = Host::builder().plugin(HERE, &bad).start_unready().await;
    host.wait_refused(HERE, &[]).await;
    host.get(HERE, "/version")
        .send()
        .await
        .expect_error(503, "service_unavailable");
    let health = host.get(HERE, "/health").send().await.expect(503).json();
    assert_eq!(
        (&health["status"], &health["degraded"]),
        (&"error".into(), &true.into())
    );
    eventually("the other services answer", async || {
        let answer = host.get(Service::Session, "/health").send().await;
        if answer.status == 200 {
            Ok(())
        } else {
            Err(answer.text())
        }
    })
    .await;
    host.swap(HERE, &Probe::version(1).bytes()).await;
    assert_eq!(answered(&host).await, version_text(1));
}

#[tokio::test]
async fn an_empty_file_is_refused() {
    refused(b"", &["empty"]).await;
}

#[tokio::test]
async fn text_is_refused() {
    refused(b"<!doctype html><title>404</title>", &["component"]).await;
}

#[tokio::test]
async fn random_bytes_are_refused() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes: Vec<u8> = (0..100_000)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect();
    refused(&bytes, &["component"]).await;
    // The same behind a component's first eight bytes.
    bytes.splice(0..8, *b"\0asm\x0d\0\x01\0");
    refused(&bytes, &["component"]).await;
}

#[tokio::test]
async fn a_truncated_component_is_refused() {
    let whole = Probe::version(2).bytes();
    for length in [4, 8, 100, whole.len() / 2, whole.len() - 1] {
        let host = host_with(&Probe::version(1)).await;
        refused_by(&host, &whole[..length], &["component"]).await;
    }
}

#[tokio::test]
async fn flipped_bytes_are_refused_or_serve_but_never_break_the_host() {
    let whole = Probe::version(2).bytes();
    let host = host_with(&Probe::version(1)).await;
    for step in 1..=8 {
        let mut bytes = whole.clone();
        let at = whole.len() * step / 9;
        bytes[at] ^= 0x55;
        host.install(HERE, &bytes);
        eventually("the damaged file is judged", async || {
            let report = host.plugin_report(HERE).await;
            let judged = report.last_error.is_some()
                || report.digest.contains(&component::digest(&bytes)[..16]);
            if judged { Ok(()) } else { Err(report) }
        })
        .await;
        let answer = host.get(HERE, "/version").send().await;
        assert!(matches!(answer.status, 200 | 503), "{}", answer.text());
        host.swap(HERE, &component::with_note(&whole, &format!("good {step}")))
            .await;
        assert_eq!(answered(&host).await, version_text(2));
    }
}

#[tokio::test]
async fn a_core_module_is_refused() {
    refused(
        &component::text("(module (func (export \"handle\")))"),
        &["component"],
    )
    .await;
}

#[tokio::test]
async fn a_component_without_the_handler_is_refused_by_name() {
    refused(&component::text("(component)"), &["handler"]).await;
}

#[tokio::test]
async fn a_handler_of_another_type_is_refused_by_name() {
    let wrong = component::text(
        r#"(component
            (core module $m (func (export "handle")))
            (core instance $i (instantiate $m))
            (func $handle (canon lift (core func $i "handle")))
            (instance $handler (export "handle" (func $handle)))
            (export "lockgate:plugin/handler@0.1.0" (instance $handler)))"#,
    );
    refused(&wrong, &["handler"]).await;
}

#[tokio::test]
async fn another_version_of_the_world_is_refused_by_name() {
    let wrong = component::patched(&Probe::version(2).bytes(), "handler@0.1.0", "handler@9.1.0");
    refused(&wrong, &["handler"]).await;
}

#[tokio::test]
async fn an_interface_that_was_not_granted_is_refused_by_name() {
    // The fallback provider needs `limiter`, which the coordinator may not import.
    refused(&component::built(Service::Fallback), &["limiter", "grant"]).await;
}

#[tokio::test]
async fn an_interface_that_does_not_exist_is_refused_by_name() {
    let probe = Probe::version(2).bytes();
    refused(
        &component::with_import(&probe, "lockgate:plugin/master-key@0.1.0"),
        &["lockgate:plugin/master-key"],
    )
    .await;
}

#[tokio::test]
async fn http_and_sockets_of_wasi_are_refused_by_name() {
    let probe = Probe::version(2).bytes();
    for name in ["wasi:http/outgoing-handler@0.2.0", "wasi:sockets/tcp@0.2.0"] {
        refused(
            &component::with_import(&probe, name),
            &[name.split('@').next().unwrap()],
        )
        .await;
    }
}

#[tokio::test]
async fn a_self_test_that_reports_is_quoted() {
    let probe = Probe::version(2).self_test("reports_");
    refused(&probe.bytes(), &["the probe was told to report this"]).await;
}

#[tokio::test]
async fn a_self_test_that_traps_is_refused() {
    refused(
        &Probe::version(2).self_test("traps___").bytes(),
        &["self-test", "trap"],
    )
    .await;
}

#[tokio::test]
async fn a_self_test_without_end_is_refused() {
    refused(
        &Probe::version(2).self_test("loops___").bytes(),
        &["self-test"],
    )
    .await;
}

#[tokio::test]
async fn a_precompiled_file_is_never_loaded() {
    // What wasmtime writes is an ELF file; nobody but the host may make one.
    refused(
        b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0wasmtime",
        &["component"],
    )
    .await;
}

#[tokio::test]
async fn an_answer_before_any_component_is_object_e() {
    let host = Host::builder().without_plugin(HERE).start_unready().await;
    let answer = host.get(HERE, "/api/v1/coordinator/status").send().await;
    answer.expect_shape(503, E);
}
