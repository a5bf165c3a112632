//! Every default that holds for the whole process, and the checks that make raw
//! settings usable. What belongs to one service stands in `services`.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::services::{SERVICES, at_least, between, services};
use super::{
    Config, ConfigError, Database, Fallback, Jwt, Log, PeerConfig, Probation, Quarantine, Redis,
    Reload, Server, Sockets, file, telemetry,
};

/// Fills what the file and the environment left open, and checks the rest.
pub(super) fn complete(file: file::File) -> Result<Config, ConfigError> {
    let bind = file.bind.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let data_dir = file
        .data_dir
        .clone()
        .unwrap_or_else(|| PathBuf::from("var"));
    Ok(Config {
        bind,
        admin: file
            .admin
            .unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 8024))),
        admin_token_file: file
            .admin_token_file
            .clone()
            .unwrap_or_else(|| data_dir.join("admin_token")),
        admin_read_token_file: file.admin_read_token_file.clone(),
        plugins_dir: file
            .plugins_dir
            .clone()
            .unwrap_or_else(|| PathBuf::from("target/plugins")),
        plugins_public_key_file: file.plugins_public_key_file.clone(),
        // The same for all services: wasmtime has one size for an engine.
        stack: between(
            "engine.stack_bytes",
            file.engine.stack_bytes,
            512 << 10,
            64 << 10,
            4 << 20,
        )?,
        log: log(&file.log)?,
        telemetry: telemetry::complete(&file.telemetry)?,
        services: services(&file)?,
        peers: peers(&file, bind)?,
        server: server(&file.server)?,
        reload: Reload {
            poll: Duration::from_millis(at_least("reload.poll_ms", file.reload.poll_ms, 2000, 50)?),
            settle: Duration::from_millis(file.reload.settle_ms.unwrap_or(100)),
        },
        probation: Probation {
            requests: file.probation.requests.unwrap_or(100),
            time: Duration::from_secs(file.probation.seconds.unwrap_or(60)),
            failures: at_least("probation.failures", file.probation.failures, 5, 1)?,
        },
        quarantine: quarantine(&file.quarantine)?,
        redis: redis(&file.redis)?,
        jwt: jwt(&file.jwt),
        csrf_secret_file: file.csrf_secret_file.clone(),
        service_secret_file: file.service_secret_file.clone(),
        allowed_origins: origins(file.allowed_origins.as_deref().unwrap_or_default())?,
        trusted_proxies: proxies(file.trusted_proxies.as_deref().unwrap_or_default())?,
        fallback: Fallback {
            path: file
                .fallback
                .path
                .clone()
                .unwrap_or_else(|| data_dir.join("fallback.redb")),
        },
        database: database(&file.database)?,
        chat_upstream_url: chat(file.chat.upstream_url.as_deref())?,
        chat_ca_file: file.chat.ca_file.clone(),
        chat_reply_timeout: Duration::from_secs(between(
            "CHAT_REPLY_TIMEOUT_SECONDS",
            file.chat.reply_timeout_seconds,
            120,
            1,
            86_400,
        )?),
        sockets: sockets(&file.sockets)?,
        data_dir,
    })
}

fn quarantine(raw: &file::Quarantine) -> Result<Quarantine, ConfigError> {
    let window = at_least("quarantine.window_seconds", raw.window_seconds, 10, 1)?;
    let rest = at_least("quarantine.rest_seconds", raw.rest_seconds, 5, 1)?;
    Ok(Quarantine {
        timeouts: at_least("quarantine.timeouts", raw.timeouts, 10, 1)?,
        window: Duration::from_secs(window),
        rest: Duration::from_secs(rest),
    })
}

fn sockets(raw: &file::Sockets) -> Result<Sockets, ConfigError> {
    let per_user = at_least("sockets.most_per_user", raw.most_per_user, 64, 1)?;
    let ping = between("sockets.ping_seconds", raw.ping_seconds, 30, 1, 3600)?;
    Ok(Sockets {
        most: at_least("sockets.most", raw.most, 16_384, 1)?,
        most_per_user: per_user,
        message: between(
            "sockets.message_bytes",
            raw.message_bytes,
            64 << 10,
            125,
            1 << 20,
        )?,
        ping: Duration::from_secs(ping),
    })
}

fn log(raw: &file::Log) -> Result<Log, ConfigError> {
    let level = match raw
        .level
        .as_deref()
        .unwrap_or("INFO")
        .to_ascii_uppercase()
        .as_str()
    {
        "DEBUG" => tracing::Level::DEBUG,
        "INFO" => tracing::Level::INFO,
        "WARNING" | "WARN" => tracing::Level::WARN,
        "ERROR" => tracing::Level::ERROR,
        other => {
            let problem = format!("must be DEBUG, INFO, WARNING or ERROR, not {other:?}");
            return Err(ConfigError::value("LOG_LEVEL", problem));
        }
    };
    Ok(Log {
        level,
        json: raw.json.unwrap_or(false),
    })
}

fn server(raw: &file::Server) -> Result<Server, ConfigError> {
    let millis = Duration::from_millis;
    Ok(Server {
        header_read: millis(at_least(
            "server.header_read_ms",
            raw.header_read_ms,
            10_000,
            1,
        )?),
        body_read: millis(at_least(
            "server.body_read_ms",
            raw.body_read_ms,
            10_000,
            1,
        )?),
        max_headers: at_least("server.max_headers", raw.max_headers, 100, 8)?,
        // hyper refuses a smaller read buffer.
        max_header_bytes: at_least(
            "server.max_header_bytes",
            raw.max_header_bytes,
            65_536,
            8192,
        )?,
        max_connections: at_least("server.max_connections", raw.max_connections, 4096, 1)?,
        drain: millis(raw.drain_ms.unwrap_or(4_500)),
    })
}

/// What `REDIS_URL` may begin with.
const REDIS_SCHEMES: [&str; 6] = [
    "redis",
    "rediss",
    "redis+cluster",
    "rediss+cluster",
    "redis+sentinel",
    "rediss+sentinel",
];

fn redis(raw: &file::Redis) -> Result<Option<Redis>, ConfigError> {
    let Some(url) = raw.url.as_deref().filter(|url| !url.is_empty()) else {
        return Ok(None);
    };
    let scheme = url.split_once("://").map(|(scheme, _)| scheme);
    if !scheme.is_some_and(|scheme| REDIS_SCHEMES.contains(&scheme)) {
        let problem = "must begin with redis:// or rediss://, redis+cluster:// or \
             redis+sentinel://, or rediss+cluster:// or rediss+sentinel://";
        return Err(ConfigError::value("REDIS_URL", problem));
    }
    let millis = Duration::from_millis;
    Ok(Some(Redis {
        url: url.to_owned().into(),
        ca_file: raw.ca_file.clone(),
        username: raw.username.clone().unwrap_or_else(|| "lwe-app".to_owned()),
        password_file: raw
            .password_file
            .clone()
            .unwrap_or_else(|| PathBuf::from("/run/secrets/REDIS_PASSWORD")),
        command_timeout: millis(at_least(
            "redis.command_timeout_ms",
            raw.command_timeout_ms,
            150,
            1,
        )?),
        request_budget: millis(at_least(
            "redis.request_budget_ms",
            raw.request_budget_ms,
            400,
            1,
        )?),
    }))
}

fn database(raw: &file::Database) -> Result<Option<Database>, ConfigError> {
    let Some(url) = raw.url.as_deref().filter(|url| !url.is_empty()) else {
        return Ok(None);
    };
    if !(url.starts_with("postgresql://") || url.starts_with("postgres://")) {
        let problem = "must begin with postgresql://";
        return Err(ConfigError::value("DATABASE_URL", problem));
    }
    Ok(Some(Database {
        url: url.to_owned().into(),
        password_file: raw
            .password_file
            .clone()
            .unwrap_or_else(|| PathBuf::from("/run/secrets/POSTGRES_PASSWORD")),
    }))
}

fn jwt(raw: &file::Jwt) -> Jwt {
    let seconds = |given: Option<u64>, default| Duration::from_secs(given.unwrap_or(default));
    let mut secret_files = Vec::new();
    for path in raw.secret_file.iter().cloned().chain([
        PathBuf::from("/run/secrets/jwt_secret"),
        PathBuf::from("/run/secrets/JWT_SECRET_KEY"),
    ]) {
        if !secret_files.contains(&path) {
            secret_files.push(path);
        }
    }
    Jwt {
        secret_files,
        secret: raw.secret.clone().map(Into::into),
        previous_file: raw.previous_secret_file.clone(),
        overlap: seconds(raw.overlap_seconds, 604_800),
        allow_missing_exp: raw.allow_missing_exp.unwrap_or(false),
        access_max: seconds(raw.access_max_seconds, 86_400),
        refresh_grace: seconds(raw.refresh_grace_seconds, 60),
        accept_unmarked: raw.accept_unmarked.unwrap_or(true),
        verified_bytes: raw.verified_bytes.unwrap_or(8 << 20),
    }
}

/// `scheme://host[:port]`, in lower case, the scheme's own port left out.
fn origins(raw: &[String]) -> Result<BTreeSet<String>, ConfigError> {
    let mut origins = BTreeSet::new();
    for given in raw {
        let lower = given.trim_end_matches('/').to_ascii_lowercase();
        let uri: Option<http::Uri> = lower.parse().ok();
        let fits = uri.as_ref().is_some_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri
                    .authority()
                    .is_some_and(|authority| !authority.as_str().contains('@'))
                && uri.path() == "/"
                && uri.query().is_none()
        });
        if !fits {
            let problem = format!("{given:?} is not an origin such as https://app.example.org");
            return Err(ConfigError::value("ALLOWED_ORIGINS", problem));
        }
        let plain = match lower.split_once("://") {
            Some(("http", host)) => format!("http://{}", host.strip_suffix(":80").unwrap_or(host)),
            Some((_, host)) => format!("https://{}", host.strip_suffix(":443").unwrap_or(host)),
            None => lower,
        };
        origins.insert(plain);
    }
    Ok(origins)
}

fn proxies(raw: &[String]) -> Result<Vec<ipnet::IpNet>, ConfigError> {
    let parse = |given: &String| {
        let net = given.parse::<ipnet::IpNet>().ok();
        let net = net.or_else(|| given.parse::<IpAddr>().ok().map(ipnet::IpNet::from));
        net.ok_or_else(|| {
            let problem = format!("{given:?} is not an address or a CIDR such as 10.0.0.0/8");
            ConfigError::value("TRUSTED_PROXIES", problem)
        })
    };
    raw.iter().map(parse).collect()
}

fn chat(raw: Option<&str>) -> Result<String, ConfigError> {
    let url = raw.unwrap_or("ws://chat-service:8007/ws/chat");
    let uri: Option<http::Uri> = url.parse().ok();
    match uri {
        Some(uri)
            if matches!(uri.scheme_str(), Some("ws" | "wss"))
                && uri.host().is_some_and(|host| !host.is_empty()) =>
        {
            Ok(url.to_owned())
        }
        _ => Err(ConfigError::value(
            "CHAT_UPSTREAM_URL",
            "must be a ws:// or wss:// URL",
        )),
    }
}

fn peers(file: &file::File, bind: IpAddr) -> Result<Vec<PeerConfig>, ConfigError> {
    let host = match bind {
        ip if ip.is_unspecified() || ip.is_loopback() && ip.is_ipv4() => "127.0.0.1".to_owned(),
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    let peer = |&(name, port): &(&str, u16)| {
        let raw = file.services.get(name);
        let port = raw.and_then(|service| service.port).unwrap_or(port);
        let given = raw.and_then(|service| service.url.clone());
        let url = given.unwrap_or_else(|| format!("http://{host}:{port}"));
        let uri: Option<http::Uri> = url.parse().ok();
        if !uri.is_some_and(|uri| matches!(uri.scheme_str(), Some("http" | "https"))) {
            let problem = "url must be an http:// or https:// URL";
            return Err(ConfigError::value(format!("services.{name}"), problem));
        }
        Ok(PeerConfig {
            name: name.to_owned(),
            url: url.trim_end_matches('/').to_owned(),
        })
    };
    SERVICES.iter().map(peer).collect()
}
