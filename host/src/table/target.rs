//! Where the users table is and how the way there is protected: `DATABASE_URL` with its
//! `sslmode` and `sslrootcert`, and the password file. It connects to nothing.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::Config;
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::tls::{self, Check};
use crate::{config, password};

/// What a URL holds whose password was not filled in.
const PLACEHOLDER: &[u8] = b"${POSTGRES_PASSWORD}";
/// One attempt at one address.
const CONNECT: Duration = Duration::from_secs(1);
/// Idle time after which the connection is tried.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// A peer that acknowledges nothing for this long is gone.
const SILENCE: Duration = Duration::from_secs(5);

/// Why the settings cannot be used. None shows the URL, which may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The URL is wrong.
    #[error("DATABASE_URL cannot be used: {0}")]
    Url(&'static str),
    /// The password file is there but cannot be read.
    #[error("cannot read POSTGRES_PASSWORD_FILE {}: {reason}", path.display())]
    Password {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The certificates that `verify-ca` and `verify-full` check with.
    #[error("DATABASE_URL: no certificates to check the server's with: {0}")]
    Roots(String),
}

/// What a connection is made with.
pub(super) struct Target {
    pub(super) config: Config,
    pub(super) tls: MakeRustlsConnect,
}

/// Reads the URL, the password file and the certificates.
pub(super) fn target(settings: &config::Database) -> Result<Target, SetupError> {
    let (mut config, security) = parse(settings.url.expose_secret())?;
    config
        .connect_timeout(CONNECT)
        .keepalives_idle(KEEPALIVE)
        .tcp_user_timeout(SILENCE);
    let given = config.get_password().unwrap_or_default();
    if given.is_empty() || given == PLACEHOLDER {
        let path = &settings.password_file;
        let password = password::read(path).map_err(|reason| SetupError::Password {
            path: path.clone(),
            reason,
        })?;
        if password.is_none() {
            tracing::warn!(path = %path.display(), "DATABASE_URL has no password, nor has the file");
        }
        // An empty one, so that the placeholder is never sent.
        let password = password.unwrap_or_else(|| SecretString::from(String::new()));
        config.password(password.expose_secret());
    }
    let check = security.check();
    let tls = tls::connector(check, security.roots.as_deref()).map_err(SetupError::Roots)?;
    Ok(Target { config, tls })
}

/// What the URL asks of TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Security {
    mode: Mode,
    /// `sslrootcert`.
    roots: Option<PathBuf>,
}

/// `sslmode`, with the meanings that libpq gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl Security {
    /// As with libpq, `require` together with `sslrootcert` checks the issuer.
    fn check(&self) -> Check {
        match self.mode {
            Mode::VerifyFull => Check::Full,
            Mode::VerifyCa => Check::Issuer,
            Mode::Require if self.roots.is_some() => Check::Issuer,
            Mode::Disable | Mode::Prefer | Mode::Require => Check::Nothing,
        }
    }
}

/// Takes out of the URL what the client does not know, and gives it the rest.
fn parse(url: &str) -> Result<(Config, Security), SetupError> {
    let unusable = SetupError::Url(
        "it is not postgresql://user:password@host:port/database?sslmode=...; \
         percent-encode what is special in the password",
    );
    // The password may hold a question mark.
    let start = url.find('@').map_or(0, |at| at + 1);
    let (before, rest) = url.split_at_checked(start).unwrap_or(("", url));
    let (place, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    let mut security = Security {
        mode: Mode::Prefer,
        roots: None,
    };
    let mut kept = Vec::new();
    for parameter in parameters
        .split('&')
        .filter(|parameter| !parameter.is_empty())
    {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match name {
            "sslmode" => security.mode = mode(value)?,
            "sslrootcert" => {
                let path: Vec<u8> = percent_encoding::percent_decode_str(value).collect();
                let path = String::from_utf8(path).ok();
                // libpq's word for the certificates of the system.
                let path = path.filter(|path| !path.is_empty() && path != "system");
                security.roots = path.map(PathBuf::from);
            }
            _ => kept.push(parameter),
        }
    }
    let known = format!("{before}{place}?{}", kept.join("&"));
    // Its error may repeat a part of the URL.
    let Ok(mut config) = known.parse::<Config>() else {
        return Err(unusable);
    };
    if config.get_hosts().is_empty() || config.get_user().is_none() {
        return Err(unusable);
    }
    config.ssl_mode(match security.mode {
        Mode::Disable => SslMode::Disable,
        Mode::Prefer => SslMode::Prefer,
        Mode::Require | Mode::VerifyCa | Mode::VerifyFull => SslMode::Require,
    });
    Ok((config, security))
}

fn mode(value: &str) -> Result<Mode, SetupError> {
    Ok(match value {
        "disable" => Mode::Disable,
        // libpq's `allow` takes TLS as the second choice; here it is the first.
        "allow" | "prefer" => Mode::Prefer,
        "require" => Mode::Require,
        "verify-ca" => Mode::VerifyCa,
        "verify-full" => Mode::VerifyFull,
        _ => {
            return Err(SetupError::Url(
                "sslmode must be disable, allow, prefer, require, verify-ca or verify-full",
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_postgres::config::Host;

    fn settings(url: &str, password_file: &std::path::Path) -> config::Database {
        config::Database {
            url: SecretString::from(url.to_owned()),
            password_file: password_file.to_owned(),
        }
    }

    fn parsed(url: &str) -> (Config, Security) {
        parse(url).unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    #[test]
    fn every_part_of_a_url() {
        let (config, security) = parsed(
            "postgresql://app%5Fuser:a%2Fb?c+d=@db:6432/app?sslmode=verify-ca\
             &application_name=x&sslrootcert=%2Fetc%2Fca.pem",
        );
        assert_eq!(config.get_user(), Some("app_user"));
        assert_eq!(config.get_password(), Some(b"a/b?c+d=".as_slice()));
        assert_eq!(config.get_hosts(), [Host::Tcp("db".into())]);
        assert_eq!(
            (config.get_ports(), config.get_dbname()),
            ([6432].as_slice(), Some("app"))
        );
        assert_eq!(config.get_application_name(), Some("x"));
        assert_eq!(config.get_ssl_mode(), SslMode::Require);
        assert_eq!(security.roots, Some(PathBuf::from("/etc/ca.pem")));
        assert_eq!(security.check(), Check::Issuer);
    }

    #[test]
    fn every_mode() {
        for (word, tls, check, with_roots) in [
            ("", SslMode::Prefer, Check::Nothing, Check::Nothing),
            (
                "sslmode=disable",
                SslMode::Disable,
                Check::Nothing,
                Check::Nothing,
            ),
            (
                "sslmode=allow",
                SslMode::Prefer,
                Check::Nothing,
                Check::Nothing,
            ),
            (
                "sslmode=prefer",
                SslMode::Prefer,
                Check::Nothing,
                Check::Nothing,
            ),
            (
                "sslmode=require",
                SslMode::Require,
                Check::Nothing,
                Check::Issuer,
            ),
            (
                "sslmode=verify-ca",
                SslMode::Require,
                Check::Issuer,
                Check::Issuer,
            ),
            (
                "sslmode=verify-full",
                SslMode::Require,
                Check::Full,
                Check::Full,
            ),
        ] {
            let (config, security) = parsed(&format!("postgres://u:p@db/app?{word}"));
            assert_eq!(
                (config.get_ssl_mode(), security.check()),
                (tls, check),
                "{word}"
            );
            let url = format!("postgres://u:p@db/app?{word}&sslrootcert=ca.pem");
            assert_eq!(parsed(&url).1.check(), with_roots, "{word}");
        }
    }

    #[test]
    fn mistakes_are_named_without_the_url() {
        for url in [
            "postgresql://",
            "postgresql://db/app",
            "postgresql://u:secret@",
            "postgresql://u:secret@db:port/app",
            "postgresql://u:secret@db/app?sslmode=secret",
            "postgresql://u:secret@db/app?sslmode=",
            "postgresql://u:secret@db/app?secret=1",
            "postgresql://u:secret@[::1/app",
        ] {
            let said = parse(url).unwrap_err().to_string();
            assert!(
                said.starts_with("DATABASE_URL") && !said.contains("secret"),
                "{said}"
            );
        }
    }

    #[test]
    fn a_missing_password_comes_from_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        let password = |url: &str| {
            let target = target(&settings(url, &file)).unwrap();
            target.config.get_password().unwrap().to_owned()
        };
        let open = [
            "postgresql://u@db/app",
            "postgresql://u:@db/app",
            "postgresql://u:${POSTGRES_PASSWORD}@db/app",
            "postgresql://u:%24%7BPOSTGRES_PASSWORD%7D@db/app",
        ];
        for url in open {
            assert_eq!(password(url), b"", "{url}");
        }
        std::fs::write(&file, " a/b+c=%41\n").unwrap();
        for url in open {
            assert_eq!(password(url), b"a/b+c=%41", "{url}");
        }
        assert_eq!(password("postgresql://u:own@db/app"), b"own");
        std::fs::write(&file, [0xff, 0xfe]).unwrap();
        assert!(target(&settings(open[0], &file)).is_err());
    }

    #[test]
    fn certificates_that_cannot_be_read_are_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        let url = format!(
            "postgresql://u:p@db/app?sslmode=verify-full&sslrootcert={}",
            file.display()
        );
        assert!(target(&settings(&url, &file)).is_err());
        std::fs::write(&file, "no certificate").unwrap();
        assert!(target(&settings(&url, &file)).is_err());
    }
}
