//! Drops that must be signed: with a public key configured nothing serves that was not
//! signed for its service, and nothing older than what was accepted before.

use std::path::{Path, PathBuf};

use lockgate_tests::component::{self, Probe, digest, version_text};
use lockgate_tests::place::{self, run};
use lockgate_tests::wait::eventually;
use lockgate_tests::{Host, Service};
use tempfile::TempDir;

const HERE: Service = Service::Coordinator;

/// Keys and what was signed with them.
struct Signer {
    folder: TempDir,
}

impl Signer {
    fn new() -> Signer {
        let folder = component::folder();
        for name in ["right", "wrong"] {
            let out = folder.path().join(name);
            run(&["keygen", "--out", text(&out)], true);
        }
        Signer { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The signature file of a component.
    fn sign(&self, key: &str, service: Service, sequence: u64, component: &[u8]) -> Vec<u8> {
        let file = self.path("signed.wasm");
        std::fs::write(&file, component).unwrap();
        let key = self.path(&format!("{key}.key"));
        let sequence = sequence.to_string();
        let words = ["sign", text(&file), "--key", text(&key)];
        let more = ["--service", service.name(), "--sequence", &sequence];
        run(&[&words[..], &more].concat(), true);
        std::fs::read(self.path("signed.wasm.sig")).unwrap()
    }

    /// Only the probe's service has a component; it is signed with sequence number 5.
    async fn host(&self) -> Host {
        let first = Probe::version(1).bytes();
        let mut host = Host::builder().env(
            "LOCKGATE_PLUGINS_PUBLIC_KEY_FILE",
            text(&self.path("right.pub")),
        );
        for service in Service::ALL {
            host = host.without_plugin(service);
        }
        let host = host.start_unready().await;
        put(&host, HERE, &self.sign("right", HERE, 5, &first), &first);
        host.wait_loaded(HERE, &first).await;
        host
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of plain text")
}

fn signature_path(host: &Host, service: Service) -> PathBuf {
    host.plugin_path(service).with_added_extension("sig")
}

fn put_signature(host: &Host, service: Service, signature: &[u8]) {
    let part = host.root().join("signature.part");
    std::fs::write(&part, signature).unwrap();
    std::fs::rename(part, signature_path(host, service)).unwrap();
}

/// The signature first, then the component.
fn put(host: &Host, service: Service, signature: &[u8], component: &[u8]) {
    put_signature(host, service, signature);
    host.install(service, component);
}

async fn answered(host: &Host) -> String {
    host.get(HERE, "/version").send().await.expect(200).text()
}

async fn wait_error_gone(host: &Host) {
    eventually("the error is over", async || {
        match host.plugin_report(HERE).await.last_error {
            None => Ok(()),
            Some(error) => Err(error),
        }
    })
    .await;
}

#[tokio::test]
async fn a_signed_pair_serves_in_whichever_order_it_comes() {
    let signer = Signer::new();
    let host = signer.host().await;
    assert_eq!(answered(&host).await, version_text(1));
    let second = Probe::version(2).bytes();
    put(
        &host,
        HERE,
        &signer.sign("right", HERE, 6, &second),
        &second,
    );
    host.wait_loaded(HERE, &second).await;
    // The component first: it is refused until its signature comes.
    let third = Probe::version(3).bytes();
    host.install(HERE, &third);
    host.wait_refused(HERE, &["signature is of another file"])
        .await;
    assert_eq!(answered(&host).await, version_text(2));
    put_signature(&host, HERE, &signer.sign("right", HERE, 7, &third));
    host.wait_loaded(HERE, &third).await;
    wait_error_gone(&host).await;
    assert_eq!(answered(&host).await, version_text(3));
}

#[tokio::test]
async fn what_is_not_signed_as_it_should_be_is_refused() {
    let signer = Signer::new();
    let host = signer.host().await;
    let new = Probe::version(2).bytes();
    std::fs::remove_file(signature_path(&host, HERE)).unwrap();
    host.install(HERE, &new);
    host.wait_refused(HERE, &["no signature"]).await;
    let good = signer.sign("right", HERE, 6, &new);
    let altered = String::from_utf8(good.clone())
        .unwrap()
        .replace(": 6", ": 9");
    let cases = [
        (signer.sign("wrong", HERE, 6, &new), "does not verify"),
        (altered.into_bytes(), "does not verify"),
        (
            signer.sign("right", Service::Jwt, 6, &new),
            "signed for service \"jwt-token-adapter\"",
        ),
        (signer.sign("right", HERE, 4, &new), "4 is lower than 5"),
        (b"{}".to_vec(), "not usable"),
        (b"\xff\0".to_vec(), "not usable"),
        (vec![b' '; 100_000], "not usable"),
    ];
    for (signature, words) in cases {
        put_signature(&host, HERE, &signature);
        host.wait_refused(HERE, &[words]).await;
        assert_eq!(answered(&host).await, version_text(1), "{words}");
    }
    // One bit of the component is another file.
    let mut flipped = new.clone();
    *flipped.last_mut().unwrap() ^= 1;
    put(&host, HERE, &good, &flipped);
    host.wait_refused(HERE, &["of another file"]).await;
    put(&host, HERE, &good, &new);
    host.wait_loaded(HERE, &new).await;
}

#[tokio::test]
async fn a_serving_file_whose_signature_goes_is_reported_and_serves_on() {
    let signer = Signer::new();
    let host = signer.host().await;
    let signature = std::fs::read(signature_path(&host, HERE)).unwrap();
    std::fs::remove_file(signature_path(&host, HERE)).unwrap();
    host.wait_refused(HERE, &["no signature"]).await;
    assert_eq!(answered(&host).await, version_text(1));
    put_signature(&host, HERE, &signature);
    wait_error_gone(&host).await;
}

#[tokio::test]
async fn a_restart_forgets_no_sequence_number_and_serves_only_what_was_signed() {
    let signer = Signer::new();
    let mut host = signer.host().await;
    let (old, old_signature) = (
        std::fs::read(host.plugin_path(HERE)).unwrap(),
        std::fs::read(signature_path(&host, HERE)).unwrap(),
    );
    assert_eq!(answered(&host).await, version_text(1));
    let new = Probe::version(2).bytes();
    put(&host, HERE, &signer.sign("right", HERE, 6, &new), &new);
    host.wait_loaded(HERE, &new).await;
    assert_eq!(answered(&host).await, version_text(2));
    eventually("both are kept", async || {
        let kept = host.plugin_report(HERE).await.kept;
        if kept.len() == 2 { Ok(()) } else { Err(kept) }
    })
    .await;
    // The older pair does not come back, over a restart neither: the kept one serves.
    put(&host, HERE, &old_signature, &old);
    host.wait_refused(HERE, &["5 is lower than 6"]).await;
    host.stop().await;
    host.start_again_unready().await;
    host.wait_loaded(HERE, &new).await;
    assert!(
        host.plugin_report(HERE)
            .await
            .last_error
            .unwrap()
            .contains("lower")
    );
    // By hand it may: it was signed and had served.
    host.command(&["rollback", HERE.name(), &digest(&old)[..12]], true);
    assert_eq!(answered(&host).await, version_text(1));
    // With another public key nothing that is kept counts any more.
    host.stop().await;
    host.set_env(
        "LOCKGATE_PLUGINS_PUBLIC_KEY_FILE",
        text(&signer.path("wrong.pub")),
    );
    host.start_again_unready().await;
    host.wait_refused(HERE, &["does not verify"]).await;
    assert_eq!(host.plugin_report(HERE).await.state, "empty");
}

#[tokio::test]
async fn a_key_that_cannot_be_used_ends_the_start() {
    let signer = Signer::new();
    for key in [signer.path("missing.pub"), signer.path("right.key")] {
        let output = std::process::Command::new(place::binary())
            .arg("serve")
            .current_dir(signer.folder.path())
            .env_clear()
            .env("LOCKGATE_PLUGINS_PUBLIC_KEY_FILE", &key)
            .output()
            .expect("run the binary");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{said}");
        assert!(said.contains("public key"), "{said}");
    }
}

#[tokio::test]
async fn check_says_what_a_host_would() {
    let signer = Signer::new();
    let file = signer.path("signed.wasm");
    let component = Probe::version(1).bytes();
    let check = |success| {
        let output = std::process::Command::new(place::binary())
            .args(["check", text(&file), "--service", HERE.name()])
            .current_dir(signer.folder.path())
            .env_clear()
            .env("LOCKGATE_PLUGINS_PUBLIC_KEY_FILE", signer.path("right.pub"))
            .output()
            .expect("run the binary");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.success(), success, "{said}");
        said
    };
    std::fs::write(&file, &component).unwrap();
    assert!(check(false).contains("no signature"));
    signer.sign("wrong", HERE, 1, &component);
    assert!(check(false).contains("does not verify"));
    signer.sign("right", HERE, 1, &component);
    assert!(check(true).contains("would serve"));
}
