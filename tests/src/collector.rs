//! An OpenTelemetry collector as far as spans go: it takes OTLP over HTTP, reads it with the
//! messages of the specification, and keeps what came.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::certificates;
use crate::wait::eventually;

/// A span that came.
#[derive(Debug, Clone)]
pub struct Span {
    /// 32 hexadecimal digits.
    pub trace: String,
    /// 16 hexadecimal digits.
    pub id: String,
    /// The same of the span above; empty: none.
    pub parent: String,
    /// What was done.
    pub name: String,
    /// `Internal`, `Server`, `Client`, ...
    pub kind: SpanKind,
    /// What is said of it.
    pub attributes: BTreeMap<String, String>,
    /// Its status is an error.
    pub failed: bool,
    /// Log lines that hang at it.
    pub events: usize,
    /// What is said of the process.
    pub resource: BTreeMap<String, String>,
}

impl Span {
    /// One attribute; empty if it is not there.
    pub fn get(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

#[derive(Debug, Default)]
struct Record {
    spans: Vec<Span>,
    raw: Vec<u8>,
    headers: BTreeMap<String, String>,
}

/// A running collector.
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    record: Arc<Mutex<Record>>,
    task: JoinHandle<()>,
}

impl Collector {
    /// Listens on a free port.
    pub async fn start() -> Self {
        Self::listen(SocketAddr::from(([127, 0, 0, 1], 0)), None).await
    }

    /// Listens at an address.
    pub async fn start_at(address: SocketAddr) -> Self {
        Self::listen(address, None).await
    }

    /// The same over TLS, with a new certificate that names `localhost` only; its CA is
    /// `ca.pem` in the folder then.
    pub async fn start_tls(folder: &Path) -> Self {
        let acceptor = certificates::acceptor(folder);
        Self::listen(SocketAddr::from(([127, 0, 0, 1], 0)), Some(acceptor)).await
    }

    async fn listen(address: SocketAddr, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind(address).await.expect("bind");
        let address = listener.local_addr().expect("its address");
        let record = Arc::<Mutex<Record>>::default();
        let task = tokio::spawn(accept(listener, record.clone(), tls));
        Self {
            address,
            record,
            task,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base URL of its receiver.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The spans that came so far.
    pub fn spans(&self) -> Vec<Span> {
        self.locked(|record| record.spans.clone())
    }

    /// All bytes that came so far.
    pub fn raw(&self) -> Vec<u8> {
        self.locked(|record| record.raw.clone())
    }

    /// The headers of the last batch.
    pub fn headers(&self) -> BTreeMap<String, String> {
        self.locked(|record| record.headers.clone())
    }

    /// Waits for a span.
    pub async fn wait(&self, what: &str, wanted: impl Fn(&Span) -> bool) -> Span {
        eventually(&format!("the span came: {what}"), async || {
            let spans = self.spans();
            let found = spans.iter().find(|span| wanted(span)).cloned();
            found.ok_or_else(|| format!("{spans:#?}"))
        })
        .await
    }

    /// Waits for the span of a request by its id, and gives all spans of its trace.
    pub async fn trace(&self, request_id: &str) -> (Span, Vec<Span>) {
        let mine = |span: &Span| {
            span.kind == SpanKind::Server && span.get("lockgate.request_id") == request_id
        };
        let root = self.wait(request_id, mine).await;
        let spans = self.spans();
        let of_trace = spans.into_iter().filter(|span| span.trace == root.trace);
        (root.clone(), of_trace.collect())
    }

    fn locked<T>(&self, read: impl FnOnce(&Record) -> T) -> T {
        read(&self.record.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, record: Arc<Mutex<Record>>, tls: Option<TlsAcceptor>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (record, tls) = (record.clone(), tls.clone());
        connections.spawn(async move {
            match tls {
                None => serve(stream, record).await,
                Some(acceptor) => {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(stream, record).await;
                    }
                }
            }
        });
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, record: Arc<Mutex<Record>>) {
    let service = service_fn(move |request| {
        let record = record.clone();
        async move { Ok::<_, Infallible>(take(request, &record).await) }
    });
    // The host may leave at any time.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn take(request: Request<Incoming>, record: &Mutex<Record>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let refusal = |status: u16| {
        let response = Response::builder().status(status).body(Full::default());
        response.expect("a response")
    };
    let protobuf = head.headers.get("content-type");
    if head.method != "POST" || head.uri.path() != "/v1/traces" {
        return refusal(404);
    }
    if protobuf.is_none_or(|kind| kind != "application/x-protobuf") {
        return refusal(415);
    }
    let Ok(body) = body.collect().await else {
        return refusal(400);
    };
    let body = body.to_bytes();
    let Ok(batch) = ExportTraceServiceRequest::decode(body.clone()) else {
        return refusal(400);
    };
    let headers = head.headers.iter().map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        (name.as_str().to_owned(), value)
    });
    let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
    record.headers = headers.collect();
    record.raw.extend_from_slice(&body);
    record.spans.extend(spans(batch));
    let answer = ExportTraceServiceResponse::default().encode_to_vec();
    Response::new(Full::new(answer.into()))
}

fn spans(batch: ExportTraceServiceRequest) -> Vec<Span> {
    let mut found = Vec::new();
    for of_process in batch.resource_spans {
        let resource = of_process.resource.map(|resource| resource.attributes);
        let resource = pairs(resource.unwrap_or_default());
        for of_scope in of_process.scope_spans {
            found.extend(of_scope.spans.into_iter().map(|span| {
                Span {
                    trace: hex::encode(&span.trace_id),
                    id: hex::encode(&span.span_id),
                    parent: hex::encode(&span.parent_span_id),
                    kind: span.kind(),
                    failed: span
                        .status
                        .as_ref()
                        .is_some_and(|status| status.code() == StatusCode::Error),
                    events: span.events.len(),
                    name: span.name,
                    attributes: pairs(span.attributes),
                    resource: resource.clone(),
                }
            }));
        }
    }
    found
}

fn pairs(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: Value| match value {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        Value::BoolValue(flag) => flag.to_string(),
        other => format!("{other:?}"),
    };
    let pair = |attribute: KeyValue| {
        let value = attribute.value.and_then(|value| value.value);
        (attribute.key, value.map(text).unwrap_or_default())
    };
    attributes.into_iter().map(pair).collect()
}
