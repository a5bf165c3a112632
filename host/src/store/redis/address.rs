//! `REDIS_URL` and what belongs to it -> where to connect, and as whom. It connects to
//! nothing, and no error of it shows the URL or the password.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ::redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use ::redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion,
    RedisConnectionInfo, RedisError, TlsCertificates,
};
use percent_encoding::percent_decode_str;
use secrecy::ExposeSecret;

use crate::{config, password};

/// Idle time after which the connection is probed; the server drops idle ones
/// after 300 s.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// A peer that acknowledges nothing for this long is gone: the next command connects
/// anew, perhaps to another address.
#[cfg(target_os = "linux")]
const SILENCE: Duration = Duration::from_secs(5);
/// Longest CA file that is read, bytes.
const MAX_FILE: usize = 64 * 1024;
/// Port of Redis.
const REDIS_PORT: u16 = 6379;
/// Port of a sentinel.
const SENTINEL_PORT: u16 = 26379;

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The URL is wrong; it is not shown, because it may hold a password.
    #[error("REDIS_URL cannot be used: {0}")]
    Url(String),
    /// A file is there but cannot be used.
    #[error("cannot use {variable} {path}: {reason}")]
    File {
        /// The variable that names it.
        variable: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
}

impl From<RedisError> for SetupError {
    fn from(error: RedisError) -> SetupError {
        SetupError::Url(error.category().to_owned())
    }
}

fn wrong(reason: &str) -> SetupError {
    SetupError::Url(reason.to_owned())
}

/// What the URL names.
#[derive(Debug, Clone)]
pub(super) enum Target {
    /// One server.
    Single(ConnectionInfo),
    /// Some nodes of a cluster.
    Cluster(Vec<ConnectionInfo>),
    /// Sentinels that know the master.
    Sentinel {
        /// Where to ask.
        sentinels: Vec<ConnectionInfo>,
        /// Of whom.
        master: String,
        /// How to speak to the master; its address is still missing.
        node: ConnectionInfo,
    },
}

/// Where to connect.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) target: Target,
    /// The CA that has signed the servers' certificates; else the usual ones.
    pub(super) certificates: Option<TlsCertificates>,
}

impl Address {
    /// Reads the settings and the files that they name.
    pub(super) fn read(config: &config::Redis) -> Result<Address, SetupError> {
        let url = config.url.expose_secret();
        let target = match url.split_once("://").map(|(scheme, _)| scheme) {
            Some("redis+cluster" | "rediss+cluster") => cluster(url, config)?,
            Some("redis+sentinel" | "rediss+sentinel") => sentinel(url, config)?,
            _ => Target::Single(complete(url.into_connection_info()?, config)?),
        };
        let certificates = config.ca_file.as_deref().map(certificates).transpose()?;
        Ok(Address {
            target,
            certificates,
        })
    }

    /// A client of one server.
    pub(super) fn client(&self, info: &ConnectionInfo) -> Result<Client, RedisError> {
        let tls = matches!(info.addr(), ConnectionAddr::TcpTls { .. });
        match &self.certificates {
            Some(certificates) if tls => Client::build_with_tls(info.clone(), certificates.clone()),
            _ => Client::open(info.clone()),
        }
    }
}

/// The same server, spoken to in RESP3: what it tells by itself needs that.
pub(super) fn listening(info: &ConnectionInfo) -> ConnectionInfo {
    let settings = info.redis_settings().clone();
    info.clone()
        .set_redis_settings(settings.set_protocol(ProtocolVersion::RESP3))
}

/// The same settings at another address.
pub(super) fn at(node: &ConnectionInfo, host: String, port: u16) -> ConnectionInfo {
    node.clone().set_addr(address(
        matches!(node.addr(), ConnectionAddr::TcpTls { .. }),
        host,
        port,
    ))
}

fn address(tls: bool, host: String, port: u16) -> ConnectionAddr {
    if tls {
        ConnectionAddr::TcpTls {
            host,
            port,
            insecure: false,
            tls_params: None,
        }
    } else {
        ConnectionAddr::Tcp(host, port)
    }
}

/// Adds the password of the file and the settings of every connection.
fn complete(info: ConnectionInfo, config: &config::Redis) -> Result<ConnectionInfo, SetupError> {
    let mut settings = info.redis_settings().clone();
    if settings.password().is_none()
        && let Some(password) = password::read(&config.password_file)
            .map_err(|reason| unusable("REDIS_PASSWORD_FILE", &config.password_file, reason))?
    {
        if settings.username().is_none() {
            settings = settings.set_username(&config.username);
        }
        settings = settings.set_password(password.expose_secret());
    }
    Ok(with_tcp(info.set_redis_settings(settings)))
}

fn with_tcp(info: ConnectionInfo) -> ConnectionInfo {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE);
    let tcp = TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(keepalive);
    #[cfg(target_os = "linux")]
    let tcp = tcp.set_user_timeout(SILENCE);
    info.set_tcp_settings(tcp)
}

/// `redis+cluster://[user:password@]host[:port],...[/0]`
fn cluster(url: &str, config: &config::Redis) -> Result<Target, SetupError> {
    let parts = Parts::read(url, REDIS_PORT)?;
    if !matches!(parts.path.as_slice(), [] | ["0"]) {
        return Err(wrong("a cluster has db 0 only"));
    }
    let nodes = parts.infos(&parts.settings()?)?;
    let nodes = nodes.into_iter().map(|info| complete(info, config));
    Ok(Target::Cluster(nodes.collect::<Result<_, _>>()?))
}

/// `redis+sentinel://[user:password@]host[:port],.../master[/db]`
fn sentinel(url: &str, config: &config::Redis) -> Result<Target, SetupError> {
    let parts = Parts::read(url, SENTINEL_PORT)?;
    let (master, db) = match parts.path.as_slice() {
        [master] => (*master, "0"),
        [master, db] => (*master, *db),
        _ => {
            return Err(wrong(
                "after the sentinels come a slash and the master's name",
            ));
        }
    };
    let db = db.parse().map_err(|_| wrong("the db is not a number"))?;
    let settings = parts.settings()?.set_db(db);
    // The address is that of the master, once it is known.
    let node = parts.infos(&settings)?.swap_remove(0);
    Ok(Target::Sentinel {
        sentinels: parts
            .infos(&RedisConnectionInfo::default())?
            .into_iter()
            .map(with_tcp)
            .collect(),
        master: decode(master)?,
        node: complete(node, config)?,
    })
}

/// A URL of several servers, taken apart.
struct Parts<'a> {
    tls: bool,
    user: Option<&'a str>,
    hosts: Vec<(String, u16)>,
    path: Vec<&'a str>,
}

impl<'a> Parts<'a> {
    fn read(url: &'a str, default_port: u16) -> Result<Parts<'a>, SetupError> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("no scheme"))?;
        if rest.contains(['?', '#']) {
            return Err(wrong("nothing may follow the path"));
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (Some(user), hosts),
            None => (None, authority),
        };
        let hosts = hosts.split(',').map(|host| host_port(host, default_port));
        Ok(Parts {
            tls: scheme.starts_with("rediss"),
            user,
            hosts: hosts.collect::<Result<_, _>>()?,
            path: path.split('/').filter(|part| !part.is_empty()).collect(),
        })
    }

    fn settings(&self) -> Result<RedisConnectionInfo, SetupError> {
        let mut settings = RedisConnectionInfo::default();
        let Some(user) = self.user else {
            return Ok(settings);
        };
        let (name, password) = match user.split_once(':') {
            Some((name, password)) => (name, Some(password)),
            None => (user, None),
        };
        if !name.is_empty() {
            settings = settings.set_username(decode(name)?);
        }
        if let Some(password) = password.filter(|password| !password.is_empty()) {
            settings = settings.set_password(decode(password)?);
        }
        Ok(settings)
    }

    fn infos(&self, settings: &RedisConnectionInfo) -> Result<Vec<ConnectionInfo>, SetupError> {
        let info = |(host, port): &(String, u16)| -> Result<ConnectionInfo, SetupError> {
            let info = address(self.tls, host.clone(), *port).into_connection_info()?;
            Ok(info.set_redis_settings(settings.clone()))
        };
        self.hosts.iter().map(info).collect()
    }
}

fn host_port(text: &str, default_port: u16) -> Result<(String, u16), SetupError> {
    let bad = || wrong("a host is not of the form name:port");
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or_else(bad)?;
            (host, rest.strip_prefix(':'))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = port
        .map_or(Ok(default_port), str::parse)
        .map_err(|_| bad())?;
    if host.is_empty() || host.contains('@') {
        return Err(bad());
    }
    Ok((host.to_owned(), port))
}

fn decode(text: &str) -> Result<String, SetupError> {
    let decoded = percent_decode_str(text).decode_utf8();
    Ok(decoded.map_err(|_| wrong("it is not UTF-8"))?.into_owned())
}

fn unusable(variable: &'static str, path: &Path, reason: impl Into<String>) -> SetupError {
    SetupError::File {
        variable,
        path: path.to_owned(),
        reason: reason.into(),
    }
}

fn certificates(path: &Path) -> Result<TlsCertificates, SetupError> {
    let unusable = |reason: String| unusable("REDIS_CA_FILE", path, reason);
    let pem = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
    if pem.len() > MAX_FILE {
        return Err(unusable("it is too long".into()));
    }
    let certificate = |found: &pem::Pem| found.tag() == "CERTIFICATE";
    if !pem::parse_many(&pem).is_ok_and(|found| found.iter().any(certificate)) {
        return Err(unusable("it holds no PEM certificate".into()));
    }
    Ok(TlsCertificates {
        client_tls: None,
        root_cert: Some(pem),
    })
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    fn read(url: &str) -> Result<Address, SetupError> {
        Address::read(&config::Redis {
            url: SecretString::from(url.to_owned()),
            ca_file: None,
            username: "lwe-app".into(),
            password_file: "/nowhere/password".into(),
            command_timeout: Duration::from_millis(150),
            request_budget: Duration::from_millis(400),
        })
    }

    fn shown(info: &ConnectionInfo) -> String {
        let settings = info.redis_settings();
        format!(
            "{} {:?} {:?} {}",
            info.addr(),
            settings.username(),
            settings.password(),
            settings.db()
        )
    }

    #[test]
    fn each_form_says_where_and_as_whom() {
        let Target::Single(one) = read("redis://u:p%2Fw@h:7000/5").unwrap().target else {
            panic!("one server");
        };
        assert_eq!(shown(&one), r#"h:7000 Some("u") Some("p/w") 5"#);
        let url = "rediss+cluster://u:p%40%2Cw@a,[::1]:7001/0";
        let Target::Cluster(nodes) = read(url).unwrap().target else {
            panic!("a cluster");
        };
        let nodes: Vec<String> = nodes.iter().map(shown).collect();
        let as_user = r#"Some("u") Some("p@,w") 0"#;
        assert_eq!(
            nodes,
            [format!("a:6379 {as_user}"), format!("::1:7001 {as_user}")]
        );
        let url = "redis+sentinel://:pw@a,b:26380/my%2Dmain/3";
        let Target::Sentinel {
            sentinels,
            master,
            node,
        } = read(url).unwrap().target
        else {
            panic!("sentinels");
        };
        let sentinels: Vec<String> = sentinels.iter().map(shown).collect();
        assert_eq!(sentinels, ["a:26379 None None 0", "b:26380 None None 0"]);
        assert_eq!(master, "my-main");
        let moved = shown(&at(&node, "m".into(), 1));
        assert_eq!(moved, r#"m:1 None Some("pw") 3"#);
    }

    #[test]
    fn a_wrong_url_is_refused_and_not_shown() {
        for url in [
            "redis+cluster://",
            "redis+cluster://u:hidden@",
            "redis+cluster://u:hidden@a:port",
            "redis+cluster://u:hidden@a:70000",
            "redis+cluster://u:hidden@a,,b",
            "redis+cluster://u:hidden@a/1",
            "redis+cluster://u:hidden@a/0/0",
            "redis+cluster://u:%ff-hidden@a",
            "redis+cluster://u:hidden@a?db=0",
            "redis+cluster://u:hidden@[::1",
            "redis+sentinel://u:hidden@a",
            "redis+sentinel://u:hidden@a/main/x",
            "redis+sentinel://u:hidden@a/main/0/0",
            "redis+sentinel://u:hidden@a/main#0",
            "redis://u:hidden@h:70000",
        ] {
            let error = read(url).err().unwrap_or_else(|| panic!("{url} is taken"));
            assert!(!format!("{error} {error:?}").contains("hidden"), "{error}");
        }
    }
}
