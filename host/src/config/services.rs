//! What each service is and may spend: its port, its limits and its component's
//! settings. What it may import stands in `grants`.

use std::time::Duration;

use super::{ConfigError, Contract, Grants, Limits, Recording, ServiceConfig, file, grants};

/// The shipped services with their ports, in the order of the ports.
pub const SERVICES: [(&str, u16); 5] = [
    ("jwt-token-adapter", 8025),
    ("session-validation-normalizer", 8026),
    ("fallback-session-provider", 8027),
    ("websocket-auth-gateway", 8028),
    ("service-boundary-coordinator", 8029),
];

/// Longest time that a component may take, whatever the file says: no answer may
/// take more than 5 s.
const WALL_MAX: Duration = Duration::from_millis(4500);
pub(super) fn services(file: &file::File) -> Result<Vec<ServiceConfig>, ConfigError> {
    let own = file
        .services
        .keys()
        .filter(|name| !SERVICES.iter().any(|(known, _)| known == name));
    let mut names: Vec<&str> = SERVICES.iter().map(|(name, _)| *name).collect();
    names.extend(own.map(String::as_str));
    let mut services = Vec::new();
    for name in names {
        services.push(service(file, name)?);
    }
    if let Some(only) = file.service.as_deref() {
        services
            .retain(|service| only == service.name || only == format!("{}-service", service.name));
        if services.is_empty() {
            let known = SERVICES.map(|(name, _)| name).join(", ");
            let problem = format!("{only:?} is not a service; the services are {known}");
            return Err(ConfigError::value("SERVICE_NAME", problem));
        }
    }
    distinct_ports(&services)?;
    Ok(services)
}

fn distinct_ports(services: &[ServiceConfig]) -> Result<(), ConfigError> {
    for (index, service) in services.iter().enumerate() {
        let other = services
            .iter()
            .take(index)
            .find(|other| other.port == service.port);
        if let Some(other) = other.filter(|other| other.port != 0) {
            let problem = format!("port {} is also the port of {}", service.port, other.name);
            return Err(ConfigError::value(
                format!("services.{}", service.name),
                problem,
            ));
        }
    }
    Ok(())
}

fn service(file: &file::File, name: &str) -> Result<ServiceConfig, ConfigError> {
    let key = format!("services.{name}");
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > 64 || !name.chars().all(plain) || name.ends_with("-service")
    {
        let problem =
            "a service's name is made of a-z, 0-9 and hyphens and does not end in -service";
        return Err(ConfigError::value(key, problem));
    }
    let raw = file.services.get(name).cloned().unwrap_or_default();
    let known = SERVICES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, port)| *port);
    let Some(port) = raw.port.or(known) else {
        return Err(ConfigError::value(
            key,
            "a service that is not one of the five needs a port",
        ));
    };
    let reported_name = file
        .service
        .clone()
        .unwrap_or_else(|| format!("{name}-service"));
    if raw.contract == Contract::WasiHttp {
        only_wasi(&key, &raw)?;
    }
    let grants = match (raw.grants, raw.contract) {
        (Some(raw), _) => grants::checked(&key, raw)?,
        (None, Contract::Plugin) => grants::of(name),
        (None, Contract::WasiHttp) => Grants::default(),
    };
    let mut env = guest_environment(file, name, port, &reported_name);
    if grants.reissue {
        let seconds = grants.access_life.as_secs().to_string();
        env.push(("ACCESS_TOKEN_SECONDS".to_owned(), seconds));
    }
    for (variable, value) in &raw.env {
        env.retain(|(known, _)| known != variable);
        env.push((variable.clone(), value.clone()));
    }
    Ok(ServiceConfig {
        socket_paths: socket_paths(&key, name, raw.socket_paths, &grants)?,
        grants,
        limits: limits(&key, name, &raw.limits, raw.contract)?,
        dependencies: dependencies(name)
            .iter()
            .map(|name| (*name).to_owned())
            .collect(),
        recording: raw.recording.map(|raw| recording(&key, raw)).transpose()?,
        name: name.to_owned(),
        reported_name,
        port,
        contract: raw.contract,
        env,
    })
}

/// A component of `wasi:http` gets nothing of the host, and settings that say otherwise
/// would do nothing without a word.
fn only_wasi(key: &str, raw: &file::Service) -> Result<(), ConfigError> {
    let given = [
        ("grants", raw.grants.is_some()),
        ("socket_paths", raw.socket_paths.is_some()),
    ];
    match given.iter().find(|(_, given)| *given) {
        Some((name, _)) => Err(ConfigError::value(
            format!("{key}.{name}"),
            "is for the contract \"plugin\": a component of \"wasi-http\" gets no functions of \
             this host and serves no sockets",
        )),
        None => Ok(()),
    }
}

fn recording(key: &str, raw: file::Recording) -> Result<Recording, ConfigError> {
    let key = |field: &str| format!("{key}.recording.{field}");
    Ok(Recording {
        when: raw.when,
        share: between(&key("share"), raw.share, 1.0, 0.0, 1.0)?,
        key_file: raw.key_file,
        keep: at_least(&key("keep"), raw.keep, 100, 1)?,
    })
}

fn dependencies(name: &str) -> &'static [&'static str] {
    match name {
        "session-validation-normalizer" => &["redis", "database"],
        "websocket-auth-gateway" => &["redis", "chat_service"],
        _ => &["redis"],
    }
}

/// Where a service serves sockets. Paths without the right to serve them, or the right
/// without a path, would do nothing without a word; `[]` says that this is wanted.
fn socket_paths(
    key: &str,
    name: &str,
    given: Option<Vec<String>>,
    grants: &Grants,
) -> Result<Vec<String>, ConfigError> {
    let key = format!("{key}.socket_paths");
    let error = |problem: String| Err(ConfigError::value(key.clone(), problem));
    let may = grants.sockets.contains("serve");
    let Some(paths) = given else {
        return match (may, name) {
            (false, _) => Ok(Vec::new()),
            (true, "websocket-auth-gateway") => {
                Ok(["/ws/chat", "/api/v1/chat/ws"].map(str::to_owned).to_vec())
            }
            (true, _) => error(
                "is missing: the service is granted to serve sockets, so name their paths, \
                 or [] for none"
                    .to_owned(),
            ),
        };
    };
    if !may && !paths.is_empty() {
        return error(format!(
            "needs the right to serve sockets: add \"serve\" to services.{name}.grants.sockets"
        ));
    }
    for (index, path) in paths.iter().enumerate() {
        if !is_path(path) {
            return error(format!(
                "{path:?} is not a path such as /ws/chat: it begins with a slash, \
                 has no query and nothing that a URL may not hold"
            ));
        }
        if path == "/health" {
            return error("/health is where the service answers for its health".to_owned());
        }
        if paths.iter().take(index).any(|other| other == path) {
            return error(format!("{path:?} is named twice"));
        }
    }
    Ok(paths)
}

/// A path as it stands in a request (RFC 3986 section 3.3), without a query.
fn is_path(path: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"?#\"<>\\^`{|}".contains(&byte);
    path.starts_with('/') && path.bytes().all(plain)
}

/// The settings that this service's component reads, and no others.
fn guest_environment(
    file: &file::File,
    name: &str,
    port: u16,
    reported: &str,
) -> Vec<(String, String)> {
    let mut env = vec![
        ("SERVICE_NAME".to_owned(), reported.to_owned()),
        ("SERVICE_PORT".to_owned(), port.to_string()),
        (
            "LOG_LEVEL".to_owned(),
            file.log.level.clone().unwrap_or_else(|| "INFO".to_owned()),
        ),
    ];
    let mut set = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            env.push((name.to_owned(), value));
        }
    };
    let flag = |value: Option<bool>, default: bool| Some(value.unwrap_or(default).to_string());
    if matches!(name, "jwt-token-adapter" | "service-boundary-coordinator") {
        set("ENVIRONMENT", file.environment.clone());
        set("DOMAIN", file.domain.clone());
    }
    if matches!(name, "jwt-token-adapter" | "websocket-auth-gateway") {
        set("DEFAULT_CHAT_MODEL", file.chat.default_model.clone());
    }
    if name == "jwt-token-adapter" {
        set(
            "REFRESH_ACCEPT_UNMARKED",
            flag(file.jwt.accept_unmarked, true),
        );
    }
    if name != "service-boundary-coordinator" && SERVICES.iter().any(|(known, _)| *known == name) {
        set(
            "JWT_ALLOW_MISSING_EXP",
            flag(file.jwt.allow_missing_exp, false),
        );
    }
    if name == "fallback-session-provider" {
        let fallback = &file.fallback;
        set("FALLBACK_AUTH_ENABLED", flag(fallback.enabled, true));
        let level = fallback.security_level.clone();
        set(
            "FALLBACK_SECURITY_LEVEL",
            Some(level.unwrap_or_else(|| "strict".to_owned())),
        );
        set(
            "FALLBACK_RATE_LIMIT",
            Some(fallback.rate_limit.unwrap_or(10).to_string()),
        );
        set(
            "FALLBACK_ONLY_ON_OUTAGE",
            flag(fallback.only_on_outage, false),
        );
    }
    env
}

fn limits(
    key: &str,
    name: &str,
    raw: &file::Limits,
    contract: Contract,
) -> Result<Limits, ConfigError> {
    let key = |field: &str| format!("{key}.limits.{field}");
    // Validation may never take more than 2 s, a second run included.
    let quick = matches!(name, "jwt-token-adapter" | "session-validation-normalizer");
    let (cpu, wall) = if quick { (600, 1500) } else { (1000, 4500) };
    // A 503 of the session check logs users out, so it gets a longer queue.
    let queue = if name == "session-validation-normalizer" {
        1024
    } else {
        256
    };
    // Hosts of wasi:http start an instance for each request, and components rest on it.
    let reuse = match contract {
        Contract::Plugin => 128,
        Contract::WasiHttp => 1,
    };
    let wall = Duration::from_millis(at_least(&key("wall_ms"), raw.wall_ms, wall, 1)?);
    if wall > WALL_MAX {
        return Err(ConfigError::value(
            key("wall_ms"),
            format!("must be at most {}", WALL_MAX.as_millis()),
        ));
    }
    Ok(Limits {
        memory: at_least(&key("memory_bytes"), raw.memory_bytes, 32 << 20, 1 << 16)?,
        table_elements: raw.table_elements.unwrap_or(20_000),
        cpu: Duration::from_millis(at_least(&key("cpu_ms"), raw.cpu_ms, cpu, 1)?),
        wall,
        host_calls: raw.host_calls.unwrap_or(256),
        request_body: raw.request_body_bytes.unwrap_or(64 << 10),
        response_body: raw.response_body_bytes.unwrap_or(1 << 20),
        response_headers: raw.response_headers.unwrap_or(64),
        value: raw.value_bytes.unwrap_or(256 << 10),
        log_lines: raw.log_lines.unwrap_or(64),
        log_bytes: raw.log_bytes.unwrap_or(16 << 10),
        slow_calls: at_least(&key("slow_calls"), raw.slow_calls, 4, 1)?,
        in_flight: at_least(&key("in_flight"), raw.in_flight, 64, 1)?,
        queue: raw.queue.unwrap_or(queue),
        reuse: at_least(&key("reuse"), raw.reuse, reuse, 1)?,
        warm: raw.warm.unwrap_or(2),
    })
}

/// The given value, or the default; an error if it is too small or too large.
pub(super) fn between<T: PartialOrd + std::fmt::Display>(
    name: &str,
    given: Option<T>,
    default: T,
    least: T,
    most: T,
) -> Result<T, ConfigError> {
    match at_least(name, given, default, least)? {
        value if value > most => {
            let problem = format!("must be at most {most}, not {value}");
            Err(ConfigError::value(name, problem))
        }
        value => Ok(value),
    }
}

/// The given value, or the default; an error if it is too small.
pub(super) fn at_least<T: PartialOrd + std::fmt::Display>(
    name: &str,
    given: Option<T>,
    default: T,
    least: T,
) -> Result<T, ConfigError> {
    match given {
        Some(value) if value < least => Err(ConfigError::value(
            name,
            format!("must be at least {least}, not {value}"),
        )),
        other => Ok(other.unwrap_or(default)),
    }
}
