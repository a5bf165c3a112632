//! The FastAPI twin as processes of their own: uvicorn with uvloop and httptools, as
//! `bench/fastapi/requirements.txt` pins them. It measures nothing.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::host::try_signal;
use crate::place;
use crate::ports::Ports;
use crate::redis::RedisServer;

/// How long it may take to leave after SIGTERM.
const STOP_GUARD: Duration = Duration::from_secs(5);

/// A running twin. Dropping it ends all its processes.
#[derive(Debug)]
pub(super) struct Python {
    child: Child,
    ports: Ports,
    folder: tempfile::TempDir,
}

impl Python {
    /// Starts one and waits for nothing.
    pub(super) fn start(workers: usize, redis: &RedisServer, key: &[u8]) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("lockgate-bench-")
            .tempdir()
            .expect("make the folder of the twin");
        let secret = folder.path().join("jwt_secret");
        std::fs::write(&secret, key).expect("write the key file");
        let log = File::create(folder.path().join("log")).expect("make a log");
        let ports = Ports::take();
        let child = Command::new(interpreter())
            .args(["-m", "uvicorn", "app:app", "--host", "127.0.0.1"])
            .args(["--port", &ports.at(0).to_string()])
            .args(["--workers", &workers.to_string()])
            .args(["--loop", "uvloop", "--http", "httptools"])
            .args(["--no-access-log", "--log-level", "warning", "--app-dir"])
            .arg(place::repository().join("bench/fastapi"))
            .current_dir(folder.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("JWT_SECRET_FILE", &secret)
            .env("REDIS_URL", redis.url())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("share the log"))
            .stderr(log)
            // So that its workers can be told to leave together with it.
            .process_group(0)
            .spawn()
            .expect("start the FastAPI twin");
        Self {
            child,
            ports,
            folder,
        }
    }

    /// Where it serves.
    pub(super) fn port(&self) -> u16 {
        self.ports.at(0)
    }

    /// Its first process.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All that it has written so far.
    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let begun = Instant::now();
        try_signal(self.pid(), "TERM");
        while matches!(self.child.try_wait(), Ok(None)) && begun.elapsed() < STOP_GUARD {
            std::thread::sleep(Duration::from_millis(10));
        }
        // Whatever is left of its group.
        let group = format!("-{}", self.pid());
        let _ = Command::new("sh")
            .args(["-c", "kill -s KILL -- \"$1\"", "sh", &group])
            .stderr(Stdio::null())
            .status();
        let _ = self.child.wait();
    }
}

/// The Python with the packages of the twin: `LOCKGATE_BENCH_PYTHON`, else what
/// `scripts/bench` has installed.
fn interpreter() -> PathBuf {
    let path = match std::env::var_os("LOCKGATE_BENCH_PYTHON") {
        Some(path) => PathBuf::from(path),
        None => place::repository().join("target/tools/fastapi/bin/python"),
    };
    assert!(
        path.is_file(),
        "no Python at {}: run `scripts/bench`, or set LOCKGATE_BENCH_PYTHON",
        path.display()
    );
    path
}

/// The versions of what the twin is made of.
pub(super) fn version() -> String {
    let code = "import sys; from importlib.metadata import version as v; \
        print(f'Python {sys.version.split()[0]}', \
        *(f'{p} {v(p)}' for p in ['fastapi', 'uvicorn', 'uvloop', 'httptools', 'PyJWT', 'redis']), \
        sep=', ')";
    let output = Command::new(interpreter()).args(["-c", code]).output();
    let output = output.expect("run Python");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
