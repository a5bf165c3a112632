//! The host's own disk hangs or is full while Redis is away: who is logged in stays so, and
//! what is the disk's fault puts no component to rest.

use std::path::PathBuf;
use std::process::Command;

use futures_util::future::join_all;
use lockgate_tests::metrics::Metrics;
use lockgate_tests::wait::eventually;
use lockgate_tests::{Answer, Host, RedisServer, Service, User, place};

/// A host on a disk that is good until it is said to be bad.
struct OnBadDisk {
    host: Host,
    redis: RedisServer,
    folder: tempfile::TempDir,
}

impl OnBadDisk {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let library = path("bad.so");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o", &library])
            .arg(place::repository().join("tests/disk/bad.c"))
            .status()
            .expect("run the C compiler");
        assert!(built.success(), "the bad disk was not built");
        let redis = RedisServer::start().await;
        let host = Host::builder()
            .redis(&redis)
            .env("LD_PRELOAD", library)
            .env("HANGING_DISK", path("hangs"))
            .env("FULL_DISK", path("full"))
            .start()
            .await;
        Self {
            host,
            redis,
            folder,
        }
    }

    fn switch(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn validate(&self, token: &str) -> Answer {
        self.host
            .get(Service::Session, "/api/v1/session/validate")
            .bearer(token)
            .send()
            .await
    }

    /// Forty users who were not seen before.
    async fn all_are_logged_in(&self, from: u32) {
        let checks = (from..from + 40).map(|id| {
            let token = self.host.tokens.access(&User::new(id));
            async move { self.validate(&token).await }
        });
        for answer in join_all(checks).await {
            let body = answer.expect(200).auth();
            assert_eq!(body["valid"], true, "{body}");
            assert_eq!(body["degraded"], true, "{body}");
        }
    }

    async fn log_out(&self, token: &str) -> Answer {
        self.host
            .post(Service::Coordinator, "/api/v1/auth/logout")
            .bearer(token)
            .send()
            .await
    }

    async fn nothing_rests(&self) -> Metrics {
        let metrics = Metrics::of(&self.host).await;
        let resting = metrics.sum("lockgate_quarantines_total", &[]);
        assert_eq!(resting, 0.0, "a component rests for the disk's fault");
        metrics
    }
}

#[tokio::test]
async fn nobody_is_logged_out_while_the_disk_hangs() {
    let mut on = OnBadDisk::start().await;
    on.redis.kill();
    std::fs::write(on.switch("hangs"), "").unwrap();
    on.all_are_logged_in(1).await;

    // A logout is answered only when it is on the disk, which it cannot be.
    let leaving = on.host.tokens.access(&User::new(50));
    for answer in join_all((0..12).map(|_| on.log_out(&leaving))).await {
        answer.expect_error(503, "service_unavailable");
    }
    let kept = on.nothing_rests().await;
    let kept = kept.sum("lockgate_faults_total", &[("kind", "kept")]);
    assert!(kept >= 12.0, "{kept} calls were kept by the disk");
    on.all_are_logged_in(100).await;
    let body = on.host.get(Service::Coordinator, "/health").send().await;
    body.expect(200);

    // What was on its way to the disk comes there, the logout as well.
    std::fs::remove_file(on.switch("hangs")).unwrap();
    eventually("the logout counts", async || {
        match on.validate(&leaving).await.status {
            401 => Ok(()),
            status => Err(status),
        }
    })
    .await;
    on.redis.start_again().await;
    // Copies that find too many before them are left out.
    eventually("the emergency sessions are in Redis", async || {
        let keys = on.redis.keys().await;
        let copies = keys
            .iter()
            .filter(|key| key.starts_with("lockgate:fallback:"));
        if copies.count() >= 40 {
            Ok(())
        } else {
            Err(keys)
        }
    })
    .await;
}

#[tokio::test]
async fn nobody_is_logged_out_while_the_disk_is_full() {
    let mut on = OnBadDisk::start().await;
    let before = on.host.tokens.access(&User::new(60));
    on.log_out(&before).await.expect(204);
    on.redis.kill();
    std::fs::write(on.switch("full"), "").unwrap();
    for round in 0..5 {
        on.all_are_logged_in(100 + 40 * round).await;
        // What cannot be kept is not promised, and what was promised holds.
        let leaving = on.host.tokens.access(&User::new(70 + round));
        on.log_out(&leaving)
            .await
            .expect_error(503, "service_unavailable");
        assert_eq!(on.validate(&before).await.status, 401);
    }
    on.nothing_rests().await;
    std::fs::remove_file(on.switch("full")).unwrap();
    let leaving = on.host.tokens.access(&User::new(80));
    eventually("a logout is kept again", async || {
        match on.log_out(&leaving).await.status {
            204 => Ok(()),
            status => Err(status),
        }
    })
    .await;
    assert_eq!(on.validate(&leaving).await.status, 401);
}
