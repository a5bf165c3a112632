//! Where the chat service is, and a connection to it, over TLS where its URL says so. It
//! sends and reads nothing.

use std::io;
use std::path::Path;
use std::sync::Arc;

use http::Uri;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use crate::tls::{self, RootsError};

/// A connection: plain, or with TLS whose certificate was checked.
pub type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// Why the settings cannot be used. None shows the URL, which may hold a secret.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// It is no `ws://` or `wss://` URL, or names no host.
    #[error("CHAT_UPSTREAM_URL must be a ws:// or wss:// URL with a host")]
    Url,
    /// A `wss://` URL needs certificates to check the server's with.
    #[error("CHAT_CA_FILE: no certificates to check the chat service's with: {0}")]
    Roots(#[from] RootsError),
}

/// Where the chat service is.
pub struct Target {
    url: String,
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("tls", &self.tls.is_some())
            .finish_non_exhaustive()
    }
}

impl Target {
    /// Reads a `ws://` or `wss://` URL (RFC 6455 section 3) and, for the second, the file
    /// of the certificates that count; without one those of the system do.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn new(url: &str, ca_file: Option<&Path>) -> Result<Target, SetupError> {
        let uri: Uri = url.parse().map_err(|_| SetupError::Url)?;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        if host.is_empty() {
            return Err(SetupError::Url);
        }
        let secure = match uri.scheme_str() {
            Some("ws") => false,
            Some("wss") => true,
            _ => return Err(SetupError::Url),
        };
        let tls = if secure {
            let name = ServerName::try_from(host.to_owned()).map_err(|_| SetupError::Url)?;
            let config = tls::http_client(ca_file, "CHAT_CA_FILE")?;
            Some((TlsConnector::from(Arc::new(config)), name))
        } else {
            None
        };
        Ok(Target {
            url: url.to_owned(),
            host: host.to_owned(),
            port: uri.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            tls,
        })
    }

    /// As it was configured.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Connects; has no limit on time.
    ///
    /// # Errors
    /// Nobody takes the connection, or its certificate is not good for the host.
    pub async fn connect(&self) -> io::Result<Stream> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        let _ = stream.set_nodelay(true);
        match &self.tls {
            None => Ok(Either::Left(stream)),
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await?;
                Ok(Either::Right(Box::new(stream)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port_of_the_url() {
        for (url, host, port) in [
            ("ws://chat-service:8007/ws/chat", "chat-service", 8007),
            ("ws://chat/ws", "chat", 80),
            ("ws://user:word@chat/ws?x=1", "chat", 80),
            ("ws://[::1]:8007/ws", "::1", 8007),
        ] {
            let target = Target::new(url, None).unwrap();
            assert_eq!((target.host.as_str(), target.port), (host, port), "{url}");
            assert_eq!(target.url(), url);
            assert!(!format!("{target:?}").contains("word"));
        }
        for url in ["", "chat", "/ws", "ws://", "ws://:80/ws", "http://chat/ws"] {
            assert!(Target::new(url, None).is_err(), "{url}");
        }
    }

    #[test]
    fn a_secure_one_needs_certificates() {
        let missing = Some(Path::new("/nonexistent/ca.pem"));
        let error = Target::new("wss://chat.example.org/ws", missing).unwrap_err();
        let said = error.to_string();
        assert!(said.starts_with("CHAT_CA_FILE: no certificates"), "{said}");
        assert!(said.contains("/nonexistent/ca.pem"), "{said}");
    }
}
