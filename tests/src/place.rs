//! Where the binary, the plugins and the shared cache of compiled code are. It
//! builds nothing: what is missing is a failure that says how to make it.

use std::path::{Path, PathBuf};

/// Root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ has a parent")
        .to_owned()
}

/// Cargo's target folder.
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => repository().join(dir),
        None => repository().join("target"),
    }
}

/// The host: `LOCKGATE_BIN`, else the release build.
pub fn binary() -> PathBuf {
    let path = match std::env::var_os("LOCKGATE_BIN") {
        Some(path) => PathBuf::from(path),
        None => target().join("release/lockgate"),
    };
    assert!(
        path.is_file(),
        "no host at {}: run `cargo build --release` or set LOCKGATE_BIN",
        path.display()
    );
    path
}

/// Runs a command of the binary that needs no host, with an empty environment; gives what it
/// printed, after checking the exit code.
pub fn run(words: &[&str], success: bool) -> String {
    let output = std::process::Command::new(binary())
        .args(words)
        .env_clear()
        .output()
        .expect("run the binary");
    let said = String::from_utf8([output.stdout, output.stderr].concat()).expect("text");
    assert_eq!(output.status.success(), success, "{words:?}: {said}");
    said
}

/// The folder of built plugins: `LOCKGATE_TEST_PLUGINS`, else `target/plugins`.
pub fn plugins() -> PathBuf {
    match std::env::var_os("LOCKGATE_TEST_PLUGINS") {
        Some(path) => PathBuf::from(path),
        None => repository().join("target/plugins"),
    }
}

/// One built plugin.
pub fn plugin(name: &str) -> PathBuf {
    let path = plugins().join(format!("{name}.wasm"));
    assert!(
        path.is_file(),
        "no plugin at {}: run `scripts/build-plugins` or set LOCKGATE_TEST_PLUGINS",
        path.display()
    );
    path
}

/// The hostile guest: `LOCKGATE_TEST_PROBE`, else what `scripts/build-plugins` made.
pub fn probe() -> PathBuf {
    let path = match std::env::var_os("LOCKGATE_TEST_PROBE") {
        Some(path) => PathBuf::from(path),
        None => repository().join("target/probe/lockgate_probe.wasm"),
    };
    assert!(
        path.is_file(),
        "no probe at {}: run `scripts/build-plugins` or set LOCKGATE_TEST_PROBE",
        path.display()
    );
    path
}

/// The `wasi:http` component of the tests, which lies beside the hostile guest.
pub fn wasi_http_guest() -> PathBuf {
    let path = probe().with_file_name("wasi_http_guest.wasm");
    assert!(
        path.is_file(),
        "no wasi:http component at {}: run `scripts/build-plugins`",
        path.display()
    );
    path
}

/// The runner of the Autobahn test suite: `LOCKGATE_TEST_KOSOKU`, else what
/// `scripts/test` has installed.
pub fn kosoku() -> PathBuf {
    let path = match std::env::var_os("LOCKGATE_TEST_KOSOKU") {
        Some(path) => PathBuf::from(path),
        None => repository().join("target/tools/venv/bin/kosoku"),
    };
    assert!(
        path.is_file(),
        "no kosoku at {}: `python3 -m venv target/tools/venv && \
         target/tools/venv/bin/pip install kosoku==0.1.0`, or set LOCKGATE_TEST_KOSOKU",
        path.display()
    );
    path
}

/// What the tests keep between runs: compiled code and locks.
pub fn scratch() -> PathBuf {
    let path = target().join("test-cache");
    std::fs::create_dir_all(&path).expect("make the folder of the tests");
    path
}

/// Copies a folder with all it holds.
pub fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}
