//! Finished spans on their way: a bounded queue, a thread that empties it, and the client that
//! brings them to the collector. What cannot be brought is dropped and counted; no request
//! ever waits. It makes no span.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{ExporterBuildError, Protocol, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor,
};
use rustls::RootCertStore;
use tokio::runtime::Handle;

use crate::config;
use crate::tls::{self, RootsError};

/// Longest answer of the collector that is read, bytes.
const MAX_ANSWER: usize = 64 * 1024;
/// Spans in one request.
const BATCH: usize = 512;

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// An `https://` collector needs certificates to check its own with.
    #[error("OTEL_EXPORTER_OTLP_CERTIFICATE: no certificates to check the collector's with: {0}")]
    Roots(#[from] RootsError),
    /// The variables that the exporter reads itself are wrong.
    #[error("the exporter of spans: {0}")]
    Exporter(#[from] ExporterBuildError),
}

/// Takes finished spans and has them sent through `runtime`.
///
/// # Errors
/// [`SetupError`].
pub(super) fn processor(
    config: &config::Telemetry,
    runtime: Handle,
) -> Result<impl SpanProcessor + 'static, SetupError> {
    let https = config.endpoint.starts_with("https:");
    let fault = Arc::<Mutex<String>>::default();
    let collector = Collector {
        client: client(https, config.ca_file.as_deref())?,
        runtime,
        limit: config.timeout,
        fault: fault.clone(),
    };
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(collector)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(config.endpoint.clone())
        .with_timeout(config.timeout)
        .build()?;
    let waiting = Arc::new(AtomicUsize::new(0));
    let counted = Counted {
        exporter,
        waiting: waiting.clone(),
        away: AtomicBool::new(false),
        fault,
    };
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(config.queue)
        .with_scheduled_delay(config.delay)
        .with_max_export_batch_size(BATCH.min(config.queue))
        .build();
    Ok(Bounded {
        batches: BatchSpanProcessor::new(counted, batches),
        waiting,
        most: config.queue,
    })
}

fn client(https: bool, ca_file: Option<&Path>) -> Result<Https, RootsError> {
    let roots = match https {
        true => tls::roots(ca_file, "OTEL_EXPORTER_OTLP_CERTIFICATE")?,
        false => RootCertStore::empty(),
    };
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls::client(roots)?)
        .https_or_http()
        .enable_http1()
        .build();
    Ok(Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .build(connector))
}

type Https = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// The collector. It is asked on the runtime, whatever thread wants to know.
#[derive(Debug)]
struct Collector {
    client: Https,
    runtime: Handle,
    limit: Duration,
    /// Why it was not reached last; the exporter says only that.
    fault: Arc<Mutex<String>>,
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let exchange = async move {
            let response = client.request(request.map(Full::new)).await?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        let limit = self.limit;
        // The timer, too, is the runtime's.
        let limited = async move { tokio::time::timeout(limit, exchange).await };
        let answer: Result<_, HttpError> = match self.runtime.spawn(limited).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(late)) => Err(late.into()),
            Err(stopped) => Err(stopped.into()),
        };
        answer.inspect_err(|error| *locked(&self.fault) = words(error.as_ref()))
    }
}

/// An error and what it comes from, in one line.
fn words(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

fn locked(fault: &Mutex<String>) -> MutexGuard<'_, String> {
    fault.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets so many spans wait, and counts those beyond.
#[derive(Debug)]
struct Bounded {
    batches: BatchSpanProcessor,
    waiting: Arc<AtomicUsize>,
    most: usize,
}

impl SpanProcessor for Bounded {
    fn on_start(&self, span: &mut Span, context: &opentelemetry::Context) {
        self.batches.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if !span.span_context.is_sampled() {
            return;
        }
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.most {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            count("dropped", 1);
            return;
        }
        self.batches.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

/// Counts what is sent, and says once that the collector is away, and once that it is back.
#[derive(Debug)]
struct Counted<E> {
    exporter: E,
    waiting: Arc<AtomicUsize>,
    away: AtomicBool,
    fault: Arc<Mutex<String>>,
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        self.waiting.fetch_sub(spans, Ordering::Relaxed);
        let sent = self.exporter.export(batch).await;
        match &sent {
            Ok(()) => {
                if self.away.swap(false, Ordering::Relaxed) {
                    tracing::info!("the collector takes spans again");
                }
                count("sent", spans);
            }
            Err(error) => {
                let why = std::mem::take(&mut *locked(&self.fault));
                if !self.away.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, why, "the collector takes no spans; they are dropped");
                }
                count("failed", spans);
            }
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

fn count(result: &'static str, spans: usize) {
    metrics::counter!("lockgate_spans_total", "result" => result).increment(spans as u64);
}
