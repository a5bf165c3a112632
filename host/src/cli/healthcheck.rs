//! `lockgate healthcheck`: a GET of each URL with a time limit, yes or no. It reads no
//! configuration, follows no redirect and knows nothing of what the answer says.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

const EXAMPLES: &str = "\
Example:
  lockgate healthcheck http://127.0.0.1:8025/health
  lockgate healthcheck http://127.0.0.1:8025/health http://127.0.0.1:8026/health

Exit code 0: all answers were 2xx. 1: another status, or none in time.";

/// Arguments of `lockgate healthcheck`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// What to ask, one after the other; plain http only.
    #[arg(required = true, value_name = "URL")]
    urls: Vec<http::Uri>,
    /// Seconds to wait for each answer.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=10))]
    timeout: u64,
}

/// Asks, and prints a line for each answer, up to the first that is not 2xx.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let limit = Duration::from_secs(args.timeout);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    for url in &args.urls {
        let status = runtime.block_on(ask(url.clone(), limit))?;
        println!("{url} answered {status}");
        if !status.is_success() {
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn ask(url: http::Uri, limit: Duration) -> anyhow::Result<http::StatusCode> {
    if url.scheme() != Some(&http::uri::Scheme::HTTP) {
        bail!("{url} does not begin with http://");
    }
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let response = tokio::time::timeout(limit, client.get(url.clone()))
        .await
        .with_context(|| format!("{url} did not answer within {} s", limit.as_secs()))?
        .with_context(|| format!("cannot ask {url}"))?;
    Ok(response.status())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers one connection with these bytes; with none, it stays silent.
    async fn server(answer: &'static str) -> http::Uri {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            if answer.is_empty() {
                std::future::pending::<()>().await;
            }
        });
        format!("http://{address}/health").parse().unwrap()
    }

    #[tokio::test]
    async fn the_status_is_the_answer() {
        for (answer, expected) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 200),
            (
                "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n",
                503,
            ),
            (
                "HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n",
                302,
            ),
        ] {
            let status = ask(server(answer).await, Duration::from_secs(10))
                .await
                .unwrap();
            assert_eq!(status, expected);
        }
    }

    #[tokio::test]
    async fn silence_and_noise_are_failures() {
        for answer in ["", "220 mail.example.org ESMTP\r\n"] {
            assert!(
                ask(server(answer).await, Duration::from_secs(1))
                    .await
                    .is_err(),
                "{answer:?}"
            );
        }
    }

    #[tokio::test]
    async fn only_plain_http_is_asked() {
        for url in ["https://127.0.0.1/health", "/health"] {
            let error = ask(url.parse().unwrap(), Duration::from_secs(1))
                .await
                .unwrap_err();
            assert!(error.to_string().contains("http://"), "{error}");
        }
    }
}
