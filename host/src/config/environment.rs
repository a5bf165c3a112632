//! The environment of the service contract, laid over the file: a variable that is
//! set and not empty beats the file's key. It knows no defaults.

use std::path::PathBuf;
use std::str::FromStr;

use super::ConfigError;
use super::file::File;
use super::services::SERVICES;

/// Writes every known variable over the file's value.
pub(super) fn apply(
    file: &mut File,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<(), ConfigError> {
    let from = Source(variable);
    from.parsed("LOCKGATE_BIND", "an IP address", &mut file.bind)?;
    from.parsed(
        "LOCKGATE_ADMIN",
        "an address such as 127.0.0.1:8024",
        &mut file.admin,
    )?;
    from.path("LOCKGATE_ADMIN_TOKEN_FILE", &mut file.admin_token_file);
    from.path(
        "LOCKGATE_ADMIN_READ_TOKEN_FILE",
        &mut file.admin_read_token_file,
    );
    from.path("LOCKGATE_PLUGINS_DIR", &mut file.plugins_dir);
    from.path(
        "LOCKGATE_PLUGINS_PUBLIC_KEY_FILE",
        &mut file.plugins_public_key_file,
    );
    from.path("LOCKGATE_DATA_DIR", &mut file.data_dir);
    from.text("SERVICE_NAME", &mut file.service);
    from.text("ENVIRONMENT", &mut file.environment);
    from.text("DOMAIN", &mut file.domain);
    from.path("CSRF_SECRET_FILE", &mut file.csrf_secret_file);
    from.path("SERVICE_SECRET_FILE", &mut file.service_secret_file);
    from.list("ALLOWED_ORIGINS", &mut file.allowed_origins);
    from.list("TRUSTED_PROXIES", &mut file.trusted_proxies);
    from.text("LOG_LEVEL", &mut file.log.level);
    from.text("DATABASE_URL", &mut file.database.url);
    from.path("POSTGRES_PASSWORD_FILE", &mut file.database.password_file);
    from.text("CHAT_UPSTREAM_URL", &mut file.chat.upstream_url);
    from.path("CHAT_CA_FILE", &mut file.chat.ca_file);
    from.text("DEFAULT_CHAT_MODEL", &mut file.chat.default_model);
    from.seconds(
        "CHAT_REPLY_TIMEOUT_SECONDS",
        &mut file.chat.reply_timeout_seconds,
    )?;
    telemetry(&from, file)?;
    redis(&from, file);
    jwt(&from, file)?;
    fallback(&from, file)?;
    services(&from, file)
}

/// The names that the specification of OpenTelemetry gives them. The exporter itself reads
/// the headers and the attributes of the resource.
fn telemetry(from: &Source<'_>, file: &mut File) -> Result<(), ConfigError> {
    let telemetry = &mut file.telemetry;
    from.text("OTEL_EXPORTER_OTLP_ENDPOINT", &mut telemetry.endpoint);
    from.text(
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        &mut telemetry.traces_endpoint,
    );
    from.text("OTEL_EXPORTER_OTLP_PROTOCOL", &mut telemetry.protocol);
    from.path("OTEL_EXPORTER_OTLP_CERTIFICATE", &mut telemetry.ca_file);
    from.parsed(
        "OTEL_EXPORTER_OTLP_TIMEOUT",
        "milliseconds",
        &mut telemetry.timeout_ms,
    )?;
    from.parsed(
        "OTEL_BSP_SCHEDULE_DELAY",
        "milliseconds",
        &mut telemetry.delay_ms,
    )?;
    from.text("OTEL_TRACES_SAMPLER", &mut telemetry.sampler);
    from.parsed(
        "OTEL_TRACES_SAMPLER_ARG",
        "a number from 0 to 1",
        &mut telemetry.sampler_arg,
    )?;
    from.text("OTEL_TRACES_EXPORTER", &mut telemetry.exporter);
    from.parsed(
        "OTEL_BSP_MAX_QUEUE_SIZE",
        "a whole number",
        &mut telemetry.queue,
    )?;
    from.text("OTEL_SERVICE_NAME", &mut telemetry.service_name);
    from.flag("OTEL_SDK_DISABLED", &mut telemetry.disabled)
}

fn redis(from: &Source<'_>, file: &mut File) {
    from.text("REDIS_URL", &mut file.redis.url);
    from.text("REDIS_USERNAME", &mut file.redis.username);
    from.path("REDIS_PASSWORD_FILE", &mut file.redis.password_file);
    from.path("REDIS_CA_FILE", &mut file.redis.ca_file);
}

fn jwt(from: &Source<'_>, file: &mut File) -> Result<(), ConfigError> {
    let jwt = &mut file.jwt;
    from.path("JWT_SECRET_FILE", &mut jwt.secret_file);
    from.path("JWT_SECRET_PREVIOUS_FILE", &mut jwt.previous_secret_file);
    from.text("JWT_SECRET_KEY", &mut jwt.secret);
    from.seconds("JWT_KEY_OVERLAP_SECONDS", &mut jwt.overlap_seconds)?;
    from.seconds("ACCESS_TOKEN_MAX_SECONDS", &mut jwt.access_max_seconds)?;
    from.seconds("REFRESH_GRACE_SECONDS", &mut jwt.refresh_grace_seconds)?;
    from.flag("JWT_ALLOW_MISSING_EXP", &mut jwt.allow_missing_exp)?;
    from.flag("REFRESH_ACCEPT_UNMARKED", &mut jwt.accept_unmarked)
}

fn fallback(from: &Source<'_>, file: &mut File) -> Result<(), ConfigError> {
    let fallback = &mut file.fallback;
    from.flag("FALLBACK_AUTH_ENABLED", &mut fallback.enabled)?;
    from.text("FALLBACK_SECURITY_LEVEL", &mut fallback.security_level);
    from.parsed(
        "FALLBACK_RATE_LIMIT",
        "a whole number",
        &mut fallback.rate_limit,
    )?;
    from.flag("FALLBACK_ONLY_ON_OUTAGE", &mut fallback.only_on_outage)?;
    from.path("FALLBACK_STORE_PATH", &mut fallback.path);
    Ok(())
}

fn services(from: &Source<'_>, file: &mut File) -> Result<(), ConfigError> {
    let mut names: Vec<String> = file.services.keys().cloned().collect();
    names.extend(SERVICES.iter().map(|(name, _)| (*name).to_owned()));
    for name in names {
        let prefix = name.replace('-', "_").to_ascii_uppercase();
        let (mut port, mut url) = (None, None);
        from.parsed(
            &format!("{prefix}_PORT"),
            "a port from 0 to 65535",
            &mut port,
        )?;
        from.text(&format!("{prefix}_URL"), &mut url);
        if port.is_some() || url.is_some() {
            let service = file.services.entry(name).or_default();
            service.port = port.or(service.port);
            service.url = url.or(service.url.take());
        }
    }
    Ok(())
}

struct Source<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Source<'_> {
    /// An empty variable counts as unset: compose files cannot leave one out.
    fn get(&self, name: &str) -> Option<String> {
        let value = (self.0)(name)?;
        let value = value.trim();
        (!value.is_empty()).then(|| value.to_owned())
    }

    fn text(&self, name: &str, into: &mut Option<String>) {
        if let Some(value) = self.get(name) {
            *into = Some(value);
        }
    }

    fn path(&self, name: &str, into: &mut Option<PathBuf>) {
        if let Some(value) = self.get(name) {
            *into = Some(PathBuf::from(value));
        }
    }

    fn list(&self, name: &str, into: &mut Option<Vec<String>>) {
        if let Some(value) = self.get(name) {
            let parts = value
                .split([',', ' '])
                .map(str::trim)
                .filter(|part| !part.is_empty());
            *into = Some(parts.map(str::to_owned).collect());
        }
    }

    fn parsed<T: FromStr>(
        &self,
        name: &str,
        what: &str,
        into: &mut Option<T>,
    ) -> Result<(), ConfigError> {
        if let Some(value) = self.get(name) {
            let parsed = value.parse();
            *into =
                Some(parsed.map_err(|_| {
                    ConfigError::value(name, format!("must be {what}, not {value:?}"))
                })?);
        }
        Ok(())
    }

    fn seconds(&self, name: &str, into: &mut Option<u64>) -> Result<(), ConfigError> {
        self.parsed(name, "a whole number of seconds", into)
    }

    fn flag(&self, name: &str, into: &mut Option<bool>) -> Result<(), ConfigError> {
        if let Some(value) = self.get(name) {
            *into = Some(match value.to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" | "on" => true,
                "false" | "0" | "no" | "off" => false,
                _ => {
                    return Err(ConfigError::value(
                        name,
                        format!("must be true or false, not {value:?}"),
                    ));
                }
            });
        }
        Ok(())
    }
}
