//! What the commands that speak to a running host share: where its admin listener is,
//! its token, one request and its JSON answer.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::config::Config;

/// Longest answer that is read, bytes.
const MAX_ANSWER: usize = 4 << 20;

/// A revision may have to be compiled first.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which host to speak to.
#[derive(Debug, clap::Args)]
pub(super) struct Remote {
    /// Address of the admin listener. Default: as configured (LOCKGATE_ADMIN).
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin: Option<SocketAddr>,
    /// File with the admin token. Default: as configured (LOCKGATE_ADMIN_TOKEN_FILE).
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl Remote {
    /// Sends one request without a body; the answer if it was 200.
    ///
    /// # Errors
    /// There is no answer, or it is a refusal, whose words are the error's.
    pub(super) fn call(&self, method: Method, path: &str) -> anyhow::Result<Value> {
        self.send(method, path, &[], Bytes::new())
    }

    /// Sends one request; the answer if it was 200.
    ///
    /// # Errors
    /// As [`Remote::call`].
    pub(super) fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, String)],
        body: Bytes,
    ) -> anyhow::Result<Value> {
        let config = match (self.admin, &self.token_file) {
            (Some(_), Some(_)) => None,
            _ => Some(Config::load()?),
        };
        let admin = self.admin.or(config.as_ref().map(|config| config.admin));
        let admin = reachable(admin.context("no address of the admin listener")?);
        let file = self.token_file.clone();
        let file = file.or(config.map(|config| config.admin_token_file));
        // Reading needs no token on a loopback address, so a missing file is no error yet.
        let token = file.and_then(|file| std::fs::read_to_string(file).ok());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{admin}{path}"));
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {}", token.trim()));
        }
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request.body(Full::new(body))?;
        runtime.block_on(async {
            tokio::time::timeout(PATIENCE, exchange(admin, request))
                .await
                .with_context(|| format!("{admin} did not answer in time"))?
        })
    }
}

async fn exchange(admin: SocketAddr, request: Request<Full<Bytes>>) -> anyhow::Result<Value> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let response = client
        .request(request)
        .await
        .with_context(|| format!("cannot reach the admin listener at {admin}"))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER)
        .collect()
        .await;
    let body = body
        .map_err(|error| anyhow::anyhow!("{admin}: {error}"))?
        .to_bytes();
    let answer: Value = serde_json::from_slice(&body)
        .with_context(|| format!("{admin} answered {status}, and not in JSON"))?;
    if !status.is_success() {
        let words = answer.get("message").and_then(Value::as_str);
        bail!("{} ({status})", words.unwrap_or("refused"));
    }
    Ok(answer)
}

/// Bound to all addresses it is reached on this machine's own.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_to_listen_on_becomes_one_to_call() {
        for (bound, called) in [
            ("0.0.0.0:8024", "127.0.0.1:8024"),
            ("[::]:8024", "[::1]:8024"),
            ("10.0.0.5:1", "10.0.0.5:1"),
        ] {
            assert_eq!(
                reachable(bound.parse().unwrap()),
                called.parse::<SocketAddr>().unwrap()
            );
        }
    }
}
