//! What may lie in the plugin folder besides a whole file: slow copies, links,
//! folders, pipes, strangers, nothing.

use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::Duration;

use lockgate_tests::component::{self, Probe, version_text};
use lockgate_tests::wait::eventually;
use lockgate_tests::{Host, Service};

const HERE: Service = Service::Coordinator;

async fn host() -> Host {
    let folder = component::folder();
    Host::builder()
        .plugin(HERE, Probe::version(1).file(folder.path()))
        .start()
        .await
}

async fn answered(host: &Host) -> String {
    host.get(HERE, "/version").send().await.expect(200).text()
}

/// Swaps another service, which shows that the watch still works and that the
/// folder was looked at.
async fn barrier(host: &Host, note: &str) {
    let new = component::with_note(&component::built(Service::Fallback), note);
    host.swap(Service::Fallback, &new).await;
}

async fn wait_version(host: &Host, version: u32) {
    eventually("the new version answers", async || {
        match answered(host).await {
            text if text == version_text(version) => Ok(()),
            text => Err(text),
        }
    })
    .await;
}

#[tokio::test]
async fn a_slow_copy_is_loaded_when_it_is_whole() {
    let host = host().await;
    let new = Probe::version(2).bytes();
    let mut file = std::fs::File::create(host.plugin_path(HERE)).unwrap();
    for part in new.chunks(new.len() / 10) {
        file.write_all(part).unwrap();
        file.flush().unwrap();
        assert_eq!(answered(&host).await, version_text(1));
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    drop(file);
    wait_version(&host, 2).await;
}

#[tokio::test]
async fn a_copy_that_stops_half_way_leaves_the_old_one_serving() {
    let host = host().await;
    let new = Probe::version(2).bytes();
    let (first, second) = new.split_at(new.len() / 2);
    let mut file = std::fs::File::create(host.plugin_path(HERE)).unwrap();
    file.write_all(first).unwrap();
    file.flush().unwrap();
    host.wait_refused(HERE, &[]).await;
    assert_eq!(answered(&host).await, version_text(1));
    file.write_all(second).unwrap();
    drop(file);
    wait_version(&host, 2).await;
    assert_eq!(host.plugin_report(HERE).await.last_error, None);
}

#[tokio::test]
async fn a_file_written_in_place_is_loaded() {
    let host = host().await;
    std::fs::write(host.plugin_path(HERE), Probe::version(2).bytes()).unwrap();
    wait_version(&host, 2).await;
}

#[tokio::test]
async fn a_change_that_keeps_size_and_time_is_seen() {
    let host = host().await;
    let path = host.plugin_path(HERE);
    let before = std::fs::metadata(&path).unwrap().modified().unwrap();
    std::fs::write(&path, Probe::version(2).bytes()).unwrap();
    std::fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(before)
        .unwrap();
    wait_version(&host, 2).await;
}

#[tokio::test]
async fn a_symlink_is_followed_and_a_switch_of_it_is_seen() {
    let host = host().await;
    let outside = component::folder();
    let files = [2, 3].map(|version| Probe::version(version).file(outside.path()));
    for (file, version) in files.iter().zip([2, 3]) {
        let link = host.root().join("new-link");
        symlink(file, &link).unwrap();
        std::fs::rename(&link, host.plugin_path(HERE)).unwrap();
        wait_version(&host, version).await;
    }
}

#[tokio::test]
async fn a_linked_folder_that_is_switched_is_seen() {
    // As container platforms update a mounted folder: file -> data -> release.
    let host = host().await;
    let dir = host.plugins_dir();
    let name = format!("{}.wasm", HERE.name());
    for version in [2, 3] {
        let release = dir.join(format!("..release-{version}"));
        std::fs::create_dir(&release).unwrap();
        std::fs::write(release.join(&name), Probe::version(version).bytes()).unwrap();
        let new = dir.join("..data-new");
        symlink(&release, &new).unwrap();
        std::fs::rename(&new, dir.join("..data")).unwrap();
        if version == 2 {
            let link = host.root().join("new-link");
            symlink(dir.join("..data").join(&name), &link).unwrap();
            std::fs::rename(&link, host.plugin_path(HERE)).unwrap();
        }
        wait_version(&host, version).await;
    }
}

#[tokio::test]
async fn a_deleted_file_keeps_serving() {
    let host = host().await;
    std::fs::remove_file(host.plugin_path(HERE)).unwrap();
    host.wait_refused(HERE, &["no such file"]).await;
    barrier(&host, "after the deletion").await;
    assert_eq!(answered(&host).await, version_text(1));
    host.swap(HERE, &Probe::version(2).bytes()).await;
    assert_eq!(answered(&host).await, version_text(2));
}

#[tokio::test]
async fn a_dangling_link_and_a_loop_of_links_keep_it_serving() {
    let host = host().await;
    let path = host.plugin_path(HERE);
    std::fs::remove_file(&path).unwrap();
    symlink(host.root().join("nowhere"), &path).unwrap();
    host.wait_refused(HERE, &["no such file"]).await;
    barrier(&host, "after the dangling link").await;
    assert_eq!(answered(&host).await, version_text(1));
    std::fs::remove_file(&path).unwrap();
    symlink(&path, &path).unwrap();
    host.wait_refused(HERE, &["cannot be read"]).await;
    barrier(&host, "after the loop").await;
    assert_eq!(answered(&host).await, version_text(1));
    host.swap(HERE, &Probe::version(2).bytes()).await;
}

#[tokio::test]
async fn a_folder_with_the_name_of_a_component_changes_nothing() {
    let host = host().await;
    let path = host.plugin_path(HERE);
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("inside.wasm"), Probe::version(9).bytes()).unwrap();
    host.wait_refused(HERE, &["not a regular file"]).await;
    barrier(&host, "after the folder").await;
    assert_eq!(answered(&host).await, version_text(1));
    std::fs::remove_dir_all(&path).unwrap();
    host.swap(HERE, &Probe::version(2).bytes()).await;
    assert_eq!(answered(&host).await, version_text(2));
}

#[tokio::test]
async fn a_pipe_with_the_name_of_a_component_blocks_nothing() {
    let host = host().await;
    let path = host.plugin_path(HERE);
    std::fs::remove_file(&path).unwrap();
    let made = Command::new("mkfifo")
        .arg(&path)
        .status()
        .expect("run mkfifo");
    assert!(made.success());
    host.wait_refused(HERE, &["not a regular file"]).await;
    barrier(&host, "after the pipe").await;
    assert_eq!(answered(&host).await, version_text(1));
    std::fs::remove_file(&path).unwrap();
    host.swap(HERE, &Probe::version(2).bytes()).await;
    assert_eq!(answered(&host).await, version_text(2));
}

#[tokio::test]
async fn a_socket_or_a_device_with_the_name_of_a_component_changes_nothing() {
    let host = host().await;
    let path = host.plugin_path(HERE);
    std::fs::remove_file(&path).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
    host.wait_refused(HERE, &["not a regular file"]).await;
    assert_eq!(answered(&host).await, version_text(1));
    host.swap(HERE, &Probe::version(2).bytes()).await;
    std::fs::remove_file(&path).unwrap();
    symlink("/dev/zero", &path).unwrap();
    host.wait_refused(HERE, &["not a regular file"]).await;
    assert_eq!(answered(&host).await, version_text(2));
    host.swap(HERE, &Probe::version(1).bytes()).await;
}

#[tokio::test]
async fn a_file_that_cannot_be_read_changes_nothing() {
    let host = host().await;
    let path = host.plugin_path(HERE);
    // A regular file that nobody can read from its beginning, root included.
    let link = host.root().join("new-link");
    symlink("/proc/self/mem", &link).unwrap();
    std::fs::rename(&link, &path).unwrap();
    host.wait_refused(HERE, &["cannot be read"]).await;
    assert_eq!(answered(&host).await, version_text(1));
    host.swap(HERE, &Probe::version(2).bytes()).await;
    assert_eq!(answered(&host).await, version_text(2));
}

#[tokio::test]
async fn a_file_without_permission_is_loaded_only_by_who_may_read_it_anyway() {
    let host = host().await;
    let part = host.root().join("closed.part");
    std::fs::write(&part, Probe::version(2).bytes()).unwrap();
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o000);
    std::fs::set_permissions(&part, closed).unwrap();
    let readable = std::fs::read(&part).is_ok();
    std::fs::rename(&part, host.plugin_path(HERE)).unwrap();
    if readable {
        wait_version(&host, 2).await;
    } else {
        host.wait_refused(HERE, &["cannot be read", "denied"]).await;
        assert_eq!(answered(&host).await, version_text(1));
        // The permission is all that changes.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o400);
        std::fs::set_permissions(host.plugin_path(HERE), open).unwrap();
        wait_version(&host, 2).await;
    }
    assert_eq!(host.plugin_report(HERE).await.last_error, None);
}

#[tokio::test]
async fn a_file_that_is_replaced_while_it_is_compiled_gives_way_to_the_next() {
    let host = host().await;
    // At several moments: before the file is stable, while it is compiled, after.
    for (round, pause) in [0_u32, 150, 300, 600, 1200].into_iter().enumerate() {
        let note = |which: &str| format!("round {round} {which}");
        let first = component::with_note(&Probe::version(8).bytes(), &note("first"));
        let second = component::with_note(&Probe::version(2).bytes(), &note("second"));
        host.install(HERE, &first);
        tokio::time::sleep(Duration::from_millis(pause.into())).await;
        host.install(HERE, &second);
        host.wait_loaded(HERE, &second).await;
        assert_eq!(answered(&host).await, version_text(2));
    }
    barrier(&host, "after the last round").await;
    assert_eq!(answered(&host).await, version_text(2));
    assert_eq!(host.plugin_report(HERE).await.last_error, None);
}

#[tokio::test]
async fn a_pipe_at_the_start_blocks_nothing() {
    let mut host = host().await;
    host.stop().await;
    let path = host.plugin_path(HERE);
    std::fs::remove_file(&path).unwrap();
    assert!(
        Command::new("mkfifo")
            .arg(&path)
            .status()
            .expect("run mkfifo")
            .success()
    );
    host.start_again_unready().await;
    eventually("the other services answer", async || {
        let answer = host.get(Service::Session, "/health").send().await;
        if answer.status == 200 {
            Ok(())
        } else {
            Err(answer.text())
        }
    })
    .await;
    host.get(HERE, "/version")
        .send()
        .await
        .expect_error(503, "service_unavailable");
}

#[tokio::test]
async fn a_file_far_too_large_is_refused_unread() {
    let host = host().await;
    let part = host.root().join("huge.part");
    std::fs::File::create(&part)
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    std::fs::rename(&part, host.plugin_path(HERE)).unwrap();
    host.wait_refused(HERE, &["more than"]).await;
    assert_eq!(answered(&host).await, version_text(1));
    host.swap(HERE, &Probe::version(2).bytes()).await;
}

#[tokio::test]
async fn strangers_in_the_folder_are_left_alone() {
    let host = host().await;
    let dir = host.plugins_dir();
    for name in [
        "stranger.wasm",
        "jwt-token-adapter.wasm.bak",
        "jwt-token-adapter",
        ".x.wasm",
    ] {
        std::fs::write(dir.join(name), Probe::version(9).bytes()).unwrap();
    }
    std::fs::create_dir(dir.join("sub")).unwrap();
    let nested = dir.join("sub").join("service-boundary-coordinator.wasm");
    std::fs::write(nested, Probe::version(9).bytes()).unwrap();
    barrier(&host, "after the strangers").await;
    assert_eq!(answered(&host).await, version_text(1));
    assert_eq!(host.plugin_report(HERE).await.last_error, None);
}

#[tokio::test]
async fn a_folder_that_is_replaced_is_watched_again() {
    let host = host().await;
    let dir = host.plugins_dir();
    let old = host.root().join("plugins-old");
    std::fs::rename(&dir, &old).unwrap();
    assert_eq!(answered(&host).await, version_text(1));
    std::fs::create_dir(&dir).unwrap();
    for service in Service::ALL {
        let name = format!("{}.wasm", service.name());
        std::fs::copy(old.join(&name), dir.join(&name)).unwrap();
    }
    host.swap(HERE, &Probe::version(2).bytes()).await;
    assert_eq!(answered(&host).await, version_text(2));
    barrier(&host, "in the new folder").await;
}
