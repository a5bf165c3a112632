//! Where traces go: the settings of an OpenTelemetry collector and what is wrong with them.

use std::path::PathBuf;
use std::time::Duration;

use super::services::between;
use super::{ConfigError, file};

/// The way to an OpenTelemetry collector.
#[derive(Debug, Clone)]
pub struct Telemetry {
    /// The whole URL that takes spans by OTLP over HTTP, `http` or `https`.
    pub endpoint: String,
    /// PEM file of the CA that has signed its certificate; without it the usual ones.
    pub ca_file: Option<PathBuf>,
    /// What one batch may take, repeating included.
    pub timeout: Duration,
    /// Spans that may wait.
    pub queue: usize,
    /// `service.name` of the resource.
    pub service_name: String,
}

/// None: there is no collector, or it is not to be told.
pub(super) fn complete(raw: &file::Telemetry) -> Result<Option<Telemetry>, ConfigError> {
    let timeout = between("telemetry.timeout_ms", raw.timeout_ms, 10_000, 1, 60_000)?;
    let queue = between("telemetry.queue", raw.queue, 8192, 1, 1 << 20)?;
    let protocol = raw.protocol.as_deref().unwrap_or("http/protobuf");
    let (name, endpoint) = match (&raw.traces_endpoint, &raw.endpoint) {
        (Some(whole), _) => ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", whole.clone()),
        (None, Some(base)) => {
            let whole = format!("{}/v1/traces", base.trim_end_matches('/'));
            ("OTEL_EXPORTER_OTLP_ENDPOINT", whole)
        }
        (None, None) => return Ok(None),
    };
    if raw.disabled == Some(true) {
        return Ok(None);
    }
    if protocol != "http/protobuf" {
        let problem = format!("must be http/protobuf, not {protocol:?}");
        return Err(ConfigError::value("OTEL_EXPORTER_OTLP_PROTOCOL", problem));
    }
    let uri = endpoint.parse::<http::Uri>().ok();
    let usable = uri.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some_and(|host| !host.is_empty())
    });
    if !usable {
        let problem = "must be an http:// or https:// URL with a host";
        return Err(ConfigError::value(name, problem));
    }
    let service_name = raw.service_name.clone();
    Ok(Some(Telemetry {
        endpoint,
        ca_file: raw.ca_file.clone(),
        timeout: Duration::from_millis(timeout),
        queue,
        service_name: service_name.unwrap_or_else(|| "lockgate".to_owned()),
    }))
}
