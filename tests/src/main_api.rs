//! `examples/main-api` as a process of its own, and peers that stand where Lockgate should
//! and do not behave. It judges no answer.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::host::{Host, Service, signal};
use crate::http::{Call, client};
use crate::ports::Ports;
use crate::wait::eventually;
use crate::{place, python};

/// A running main API. Dropping it ends the process.
#[derive(Debug)]
pub struct MainApi {
    child: Child,
    ports: Ports,
    folder: tempfile::TempDir,
    client: reqwest::Client,
}

impl MainApi {
    /// Starts one that forwards to a host and has its key.
    pub async fn before(host: &Host) -> Self {
        let url = |service| format!("http://127.0.0.1:{}", host.port(service));
        Self::start(
            [
                url(Service::Session),
                url(Service::Gateway),
                url(Service::Coordinator),
            ],
            &host.secret_file(),
        )
        .await
    }

    /// Starts one that forwards session checks, authorizations and health to these, and waits
    /// until it serves.
    pub async fn start([session, gateway, coordinator]: [String; 3], secret: &Path) -> Self {
        let example = place::repository().join("examples/main-api");
        let python = python::prepared("main-api", &example.join("requirements.txt"));
        let folder = tempfile::Builder::new()
            .prefix("lockgate-main-api-")
            .tempdir()
            .expect("make its folder");
        let log = File::create(folder.path().join("log")).expect("make a log");
        let ports = Ports::take();
        let child = Command::new(python)
            .args(["-m", "uvicorn", "app:app", "--host", "127.0.0.1"])
            .args(["--port", &ports.at(0).to_string(), "--app-dir"])
            .arg(example)
            .current_dir(folder.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("JWT_SECRET_FILE", secret)
            .env("SESSION_VALIDATION_NORMALIZER_URL", session)
            .env("WEBSOCKET_AUTH_GATEWAY_URL", gateway)
            .env("SERVICE_BOUNDARY_COORDINATOR_URL", coordinator)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("share the log"))
            .stderr(log)
            .spawn()
            .expect("start the main API");
        let mut api = Self {
            child,
            ports,
            folder,
            client: client(),
        };
        eventually("the main API listens", async || {
            let left = api.child.try_wait().expect("ask for its state");
            assert!(left.is_none(), "it left ({left:?}): {}", api.log());
            TcpStream::connect(("127.0.0.1", api.port())).await
        })
        .await;
        api
    }

    /// Where it serves.
    pub fn port(&self) -> u16 {
        self.ports.at(0)
    }

    /// A request to it.
    pub fn call(&self, method: Method, path: &str) -> Call {
        let url = format!("http://127.0.0.1:{}{path}", self.port());
        Call::new(self.client.clone(), method, url)
    }

    /// All that it has written so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for MainApi {
    fn drop(&mut self) {
        signal(self.child.id(), "KILL");
        let _ = self.child.wait();
    }
}

/// What a peer does with a request.
#[derive(Debug, Clone, Copy)]
pub enum Manner {
    /// Takes it and never answers.
    Hangs,
    /// Sends a byte now and then, for ever.
    Trickles,
    /// Sends a head and then bytes without an end.
    Floods,
    /// Writes these bytes and closes.
    Says(&'static str),
}

/// What a peer was asked: the first bytes of each connection.
#[derive(Debug, Clone, Default)]
pub struct Asked(Arc<Mutex<Vec<String>>>);

impl Asked {
    /// One text a connection, in the order of their arrival.
    pub fn all(&self) -> Vec<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn note(&self, request: &[u8]) {
        let text = String::from_utf8_lossy(request).into_owned();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(text);
    }
}

/// A peer with a manner, for as long as the runtime lives: its URL, and what it was asked.
pub async fn peer(manner: Manner) -> (String, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("its address");
    let asked = Asked::default();
    let note = asked.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(behave(stream, manner, note.clone()));
        }
    });
    (format!("http://{address}"), asked)
}

async fn behave(mut stream: TcpStream, manner: Manner, asked: Asked) {
    let mut request = [0; 16 * 1024];
    let read = stream.read(&mut request).await.unwrap_or(0);
    asked.note(&request[..read]);
    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n";
    match manner {
        Manner::Hangs => std::future::pending().await,
        Manner::Says(text) => {
            let _ = stream.write_all(text.as_bytes()).await;
        }
        Manner::Trickles => {
            let _ = stream.write_all(HEAD).await;
            while stream.write_all(b" ").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Manner::Floods => {
            let _ = stream.write_all(HEAD).await;
            while stream.write_all(&[b' '; 16 * 1024]).await.is_ok() {}
        }
    }
}
