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
    /// What one try to send a batch may take.
    pub timeout: Duration,
    /// A batch that is not full is sent after so long.
    pub delay: Duration,
    /// A caller that has decided whether its trace is sampled decides for this host, too.
    pub follow_caller: bool,
    /// The share of traces that is sampled where nobody has decided, 0 to 1.
    pub ratio: f64,
    /// Spans that may wait.
    pub queue: usize,
    /// `service.name` of the resource; none: that of the environment, or `lockgate`.
    pub service_name: Option<String>,
}

/// None: there is no collector, or it is not to be told.
pub(super) fn complete(raw: &file::Telemetry) -> Result<Option<Telemetry>, ConfigError> {
    let timeout = between("telemetry.timeout_ms", raw.timeout_ms, 10_000, 1, 60_000)?;
    let delay = between("telemetry.delay_ms", raw.delay_ms, 5000, 10, 3_600_000)?;
    let queue = between("telemetry.queue", raw.queue, 8192, 1, 1 << 16)?;
    let (follow_caller, ratio) = sampler(raw)?;
    let (name, endpoint) = match (&raw.traces_endpoint, &raw.endpoint) {
        (Some(whole), _) => ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", whole.clone()),
        (None, Some(base)) => {
            let whole = format!("{}/v1/traces", base.trim_end_matches('/'));
            ("OTEL_EXPORTER_OTLP_ENDPOINT", whole)
        }
        (None, None) => return Ok(None),
    };
    let wanted = one_of(
        "OTEL_TRACES_EXPORTER",
        raw.exporter.as_deref(),
        &["otlp", "none"],
    )?;
    if wanted == "none" || raw.disabled == Some(true) {
        return Ok(None);
    }
    one_of(
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        raw.protocol.as_deref(),
        &["http/protobuf"],
    )?;
    let uri = endpoint.parse::<http::Uri>().ok();
    let usable = uri.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some_and(|host| !host.is_empty())
    });
    if !usable {
        let problem = "must be an http:// or https:// URL with a host";
        return Err(ConfigError::value(name, problem));
    }
    Ok(Some(Telemetry {
        endpoint,
        ca_file: raw.ca_file.clone(),
        timeout: Duration::from_millis(timeout),
        delay: Duration::from_millis(delay),
        follow_caller,
        ratio,
        queue,
        service_name: raw.service_name.clone(),
    }))
}

/// Whether callers are followed, and the share of traces otherwise.
fn sampler(raw: &file::Telemetry) -> Result<(bool, f64), ConfigError> {
    let names = [
        "parentbased_always_on",
        "parentbased_always_off",
        "parentbased_traceidratio",
        "always_on",
        "always_off",
        "traceidratio",
    ];
    let name = one_of("OTEL_TRACES_SAMPLER", raw.sampler.as_deref(), &names)?;
    let given = raw.sampler_arg.unwrap_or(1.0);
    if !(0.0..=1.0).contains(&given) {
        let problem = format!("must be from 0 to 1, not {given}");
        return Err(ConfigError::value("OTEL_TRACES_SAMPLER_ARG", problem));
    }
    let ratio = match name.trim_start_matches("parentbased_") {
        "always_on" => 1.0,
        "always_off" => 0.0,
        _ => given,
    };
    Ok((name.starts_with("parentbased_"), ratio))
}

/// A word out of a list; the first is the default.
fn one_of<'a>(
    name: &'static str,
    given: Option<&'a str>,
    words: &[&'a str],
) -> Result<&'a str, ConfigError> {
    let default = words.first().copied().unwrap_or_default();
    let given = given.unwrap_or(default);
    if words.contains(&given) {
        return Ok(given);
    }
    let problem = format!("must be {}, not {given:?}", words.join(" or "));
    Err(ConfigError::value(name, problem))
}
