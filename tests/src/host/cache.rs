//! The compiled code of the built plugins, made once and copied to every host.

use std::fs::File;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::{Host, HostBuilder, Service};
use crate::place;

/// Copies the cache into a data folder; makes it first if nobody has.
pub(super) fn seed(data: &Path) {
    let store = place::scratch().join(identity());
    let lock = File::create(place::scratch().join("lock")).expect("make the cache's lock");
    lock.lock().expect("wait for the cache");
    if !store.is_dir() {
        fill(&store);
    }
    drop(lock);
    place::copy_folder(&store, &data.join("cache")).expect("copy the compiled code");
}

/// Changes with the binary and with every plugin.
fn identity() -> String {
    let mut hash = Sha256::new();
    for service in Service::ALL {
        hash.update(std::fs::read(place::plugin(service.name())).expect("read a plugin"));
    }
    let binary = std::fs::metadata(place::binary()).expect("look at the host");
    hash.update(format!("{:?} {}", binary.modified().ok(), binary.len()));
    hex::encode(&hash.finalize()[..12])
}

/// Runs one host until it is ready, and keeps what it compiled.
fn fill(store: &Path) {
    let made: PathBuf = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("start a runtime");
        runtime.block_on(async {
            let mut host: Host = HostBuilder::default().cold().start().await;
            host.stop().await;
            let folder = host
                .folder
                .take()
                .expect("the folder is still there")
                .keep();
            folder.join("data/cache")
        })
    })
    .join()
    .expect("compile the plugins once");
    let part = store.with_extension("part");
    let _ = std::fs::remove_dir_all(&part);
    place::copy_folder(&made, &part).expect("keep the compiled code");
    std::fs::rename(&part, store).expect("keep the compiled code");
    let root = made
        .parent()
        .and_then(Path::parent)
        .expect("a folder in a host's folder");
    let _ = std::fs::remove_dir_all(root);
}
