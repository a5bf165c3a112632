//! Serves the files of one page to a browser, by their names and nothing else.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// What a page may consist of: path, file and content type.
const FILES: [(&str, &str, &str); 3] = [
    ("/", "index.html", "text/html; charset=utf-8"),
    ("/chat.js", "chat.js", "text/javascript; charset=utf-8"),
    ("/chat.css", "chat.css", "text/css; charset=utf-8"),
];
/// The page runs its own script only; it may open sockets anywhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
                      connect-src ws: wss:; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// A page that is served; dropped, it is gone.
#[derive(Debug)]
pub struct Page {
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Page {
    /// Serves the files of a folder at an address. They are read for each request.
    ///
    /// # Errors
    /// A file is missing, or the address cannot be bound.
    pub async fn serve(address: SocketAddr, folder: &Path) -> io::Result<Self> {
        for (_, name, _) in FILES {
            let file = folder.join(name);
            std::fs::metadata(&file)
                .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", file.display())))?;
        }
        let listener = TcpListener::bind(address).await?;
        Ok(Self {
            address: listener.local_addr()?,
            task: tokio::spawn(accept(listener, Arc::from(folder))),
        })
    }

    /// Where it is served.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, folder: Arc<Path>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(super::BREATH).await;
            continue;
        };
        let folder = Arc::clone(&folder);
        tokio::spawn(async move {
            let serve = service_fn(move |request| answer(Arc::clone(&folder), request));
            // An error is a browser that has gone.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), serve)
                .await;
        });
    }
}

async fn answer(
    folder: Arc<Path>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, kind, body) = match wanted(&folder, &request) {
        Ok((file, kind)) => match tokio::fs::read(file).await {
            Ok(bytes) => (200, kind, Bytes::from(bytes)),
            Err(error) => (500, "text/plain", Bytes::from(error.to_string())),
        },
        Err(status) => (status, "text/plain", Bytes::new()),
    };
    let answer = Response::builder()
        .status(status)
        .header("content-type", kind)
        .header("cache-control", "no-store")
        .header("content-security-policy", POLICY)
        .header("referrer-policy", "no-referrer")
        .header("x-content-type-options", "nosniff");
    Ok(answer
        .body(Full::new(body))
        .expect("headers that are valid"))
}

/// The file that a request is for, and its content type; else the status.
fn wanted(folder: &Path, request: &Request<Incoming>) -> Result<(PathBuf, &'static str), u16> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(405);
    }
    let path = request.uri().path();
    let known = FILES.iter().find(|(known, _, _)| *known == path);
    known
        .map(|(_, name, kind)| (folder.join(name), *kind))
        .ok_or(404)
}
