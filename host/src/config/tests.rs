//! What an operator can write, and what comes of it.

use super::*;

fn load(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let value = |name: &str| {
        let found = variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    Config::from_parts(Some(text), value)
}

fn guest_env<'a>(config: &'a Config, service: &str, name: &str) -> Option<&'a str> {
    let env = &config.service(service).unwrap().env;
    env.iter()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.as_str())
}

#[test]
fn nothing_set_serves_five_on_loopback() {
    let config = load("", &[]).unwrap();
    assert_eq!(config.bind.to_string(), "127.0.0.1");
    assert_eq!(config.admin.to_string(), "127.0.0.1:8024");
    let ports: Vec<u16> = config.services.iter().map(|service| service.port).collect();
    assert_eq!(ports, [8025, 8026, 8027, 8028, 8029]);
    assert!(config.redis.is_none() && config.database.is_none());
    assert_eq!(config.fallback.path, Path::new("var/fallback.redb"));
    assert_eq!(config.peers[1].url, "http://127.0.0.1:8026");
    assert_eq!(
        config.services[0].reported_name,
        "jwt-token-adapter-service"
    );
    assert_eq!(
        config.jwt.secret_files,
        [
            Path::new("/run/secrets/jwt_secret"),
            Path::new("/run/secrets/JWT_SECRET_KEY")
        ]
    );
}

#[test]
fn least_privilege_by_default() {
    let config = load("", &[]).unwrap();
    let may = |check: fn(&ServiceConfig) -> bool| -> Vec<&str> {
        config
            .services
            .iter()
            .filter(|s| check(s))
            .map(|s| s.name.as_str())
            .collect()
    };
    assert_eq!(may(|s| s.grants.reissue), ["jwt-token-adapter"]);
    assert_eq!(
        may(|s| s.grants.revoke),
        ["jwt-token-adapter", "service-boundary-coordinator"]
    );
    assert_eq!(
        may(|s| s.grants.verify.contains("refresh")),
        ["jwt-token-adapter", "service-boundary-coordinator"]
    );
    assert_eq!(
        may(|s| s.grants.sockets.contains("list")),
        ["websocket-auth-gateway"]
    );
    assert_eq!(
        may(|s| s.grants.database),
        ["session-validation-normalizer"]
    );
    assert_eq!(
        may(|s| s.grants.interfaces.contains("breakers")),
        ["service-boundary-coordinator"]
    );
    for service in &config.services {
        let prefixes = service
            .grants
            .redis_read
            .iter()
            .chain(&service.grants.redis_write);
        assert!(
            !prefixes.clone().any(|prefix| prefix == "*"),
            "{}",
            service.name
        );
        assert!(
            !prefixes
                .clone()
                .any(|prefix| prefix.starts_with("lockgate:revoked"))
        );
        assert!(service.env.iter().all(|(name, _)| !name.contains("SECRET")));
    }
}

#[test]
fn the_environment_beats_the_file() {
    let file = "bind = \"10.0.0.1\"\n[services.jwt-token-adapter]\nport = 1\n[jwt]\nallow_missing_exp = true";
    let config = load(
        file,
        &[
            ("LOCKGATE_BIND", "0.0.0.0"),
            ("JWT_TOKEN_ADAPTER_PORT", "9025"),
            ("JWT_ALLOW_MISSING_EXP", "false"),
            (
                "SESSION_VALIDATION_NORMALIZER_URL",
                "http://normalizer:8026/",
            ),
            (
                "ALLOWED_ORIGINS",
                "https://App.example.org:443, http://localhost:3001",
            ),
            ("TRUSTED_PROXIES", "10.0.0.0/8,192.0.2.7"),
            ("LOG_LEVEL", ""),
        ],
    )
    .unwrap();
    assert_eq!(config.bind.to_string(), "0.0.0.0");
    assert_eq!(config.services[0].port, 9025);
    assert!(!config.jwt.allow_missing_exp);
    assert_eq!(config.peers[0].url, "http://127.0.0.1:9025");
    assert_eq!(config.peers[1].url, "http://normalizer:8026");
    let origins: Vec<&str> = config.allowed_origins.iter().map(String::as_str).collect();
    assert_eq!(
        origins,
        ["http://localhost:3001", "https://app.example.org"]
    );
    assert!(config.trusted_proxies[1].contains(&"192.0.2.7".parse::<IpAddr>().unwrap()));
    assert_eq!(config.log.level, tracing::Level::INFO);
}

#[test]
fn one_service_only() {
    for name in [
        "fallback-session-provider",
        "fallback-session-provider-service",
    ] {
        let config = load("", &[("SERVICE_NAME", name)]).unwrap();
        assert_eq!(config.services.len(), 1);
        assert_eq!(config.services[0].port, 8027);
        assert_eq!(config.services[0].reported_name, name);
        assert_eq!(
            guest_env(&config, "fallback-session-provider", "SERVICE_NAME"),
            Some(name)
        );
        assert_eq!(config.peers.len(), 5);
    }
}

#[test]
fn each_component_gets_only_its_own_settings() {
    let config = load(
        "",
        &[
            ("ENVIRONMENT", "production"),
            ("DOMAIN", "example.org"),
            ("FALLBACK_RATE_LIMIT", "3"),
            ("DEFAULT_CHAT_MODEL", "small"),
            ("JWT_SECRET_KEY", "0123456789012345678901234567890123456789"),
        ],
    )
    .unwrap();
    assert_eq!(
        guest_env(&config, "jwt-token-adapter", "DOMAIN"),
        Some("example.org")
    );
    assert_eq!(
        guest_env(&config, "jwt-token-adapter", "DEFAULT_CHAT_MODEL"),
        Some("small")
    );
    assert_eq!(
        guest_env(&config, "websocket-auth-gateway", "DEFAULT_CHAT_MODEL"),
        Some("small")
    );
    assert_eq!(
        guest_env(
            &config,
            "session-validation-normalizer",
            "DEFAULT_CHAT_MODEL"
        ),
        None
    );
    assert_eq!(
        guest_env(&config, "fallback-session-provider", "FALLBACK_RATE_LIMIT"),
        Some("3")
    );
    assert_eq!(
        guest_env(&config, "fallback-session-provider", "DOMAIN"),
        None
    );
    let shown = format!("{config:?}");
    assert!(!shown.contains("0123456789"), "a secret is shown");
}

#[test]
fn a_service_of_ones_own() {
    let file = r#"
        [services.probe]
        port = 0
        [services.probe.grants]
        interfaces = ["redis"]
        redis_read = ["probe:*"]
        [services.probe.limits]
        memory_bytes = 1048576
        cpu_ms = 50
        [services.probe.env]
        COLOUR = "blue"
    "#;
    let config = load(file, &[]).unwrap();
    let probe = config.service("probe").unwrap();
    assert_eq!((probe.port, probe.limits.memory), (0, 1 << 20));
    assert_eq!(probe.limits.cpu, Duration::from_millis(50));
    assert!(!probe.grants.revoke && probe.grants.redis_write.is_empty());
    assert_eq!(guest_env(&config, "probe", "COLOUR"), Some("blue"));
    assert!(config.peers.iter().all(|peer| peer.name != "probe"));
}

#[test]
fn sockets_are_served_where_the_file_says() {
    let paths = |text: &str, service: &str| {
        let config = load(text, &[]).unwrap();
        config.service(service).unwrap().socket_paths.clone()
    };
    let gateway = "websocket-auth-gateway";
    assert_eq!(paths("", gateway), ["/ws/chat", "/api/v1/chat/ws"]);
    assert!(paths("", "jwt-token-adapter").is_empty());
    let own = "[services.probe]\nport = 0\nsocket_paths = [\"/ws\", \"/a/%20b\"]\n\
               [services.probe.grants]\nsockets = [\"serve\"]";
    assert_eq!(paths(own, "probe"), ["/ws", "/a/%20b"]);
    // Turned off by hand, and with the right.
    let off = "[services.websocket-auth-gateway]\nsocket_paths = []";
    assert!(paths(off, gateway).is_empty());
    let without = "[services.websocket-auth-gateway.grants]\nsockets = [\"list\"]";
    assert!(paths(without, gateway).is_empty());
}

#[test]
fn a_service_accepts_one_contract() {
    let config = load("[services.web]\nport = 1\ncontract = \"wasi-http\"", &[]).unwrap();
    let web = config.service("web").unwrap();
    assert_eq!((web.contract, web.limits.reuse), (Contract::WasiHttp, 1));
    assert_eq!(web.grants, Grants::default());
    let shipped = config.service("jwt-token-adapter").unwrap();
    assert_eq!(shipped.contract, Contract::Plugin);
    // A shipped service loses what its plugin is granted.
    let text = "[services.websocket-auth-gateway]\ncontract = \"wasi-http\"\nlimits.reuse = 7";
    let config = load(text, &[]).unwrap();
    let gateway = config.service("websocket-auth-gateway").unwrap();
    assert_eq!(gateway.grants, Grants::default());
    assert!(gateway.socket_paths.is_empty());
    assert_eq!(gateway.limits.reuse, 7);
    for (lines, expected) in [
        ("contract = \"http\"", "expected `plugin` or `wasi-http`"),
        (
            "contract = \"wasi-http\"\ngrants.interfaces = [\"jwt\"]",
            "services.web.grants: is for the contract",
        ),
        (
            "contract = \"wasi-http\"\nsocket_paths = [\"/ws\"]",
            "services.web.socket_paths: is for the contract",
        ),
    ] {
        let text = format!("[services.web]\nport = 1\n{lines}");
        let error = load(&text, &[]).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn paths_of_sockets_that_cannot_be_are_refused() {
    let with = |paths: &str, rights: &str| {
        let text = format!(
            "[services.probe]\nport = 0\n{paths}\n[services.probe.grants]\nsockets = [{rights}]"
        );
        load(&text, &[]).unwrap_err().to_string()
    };
    for path in [
        "ws",
        "",
        "*",
        "/ws?x=1",
        "/ws#x",
        "/a b",
        "/ä",
        "http://x/ws",
        "/\\u0007",
    ] {
        let said = with(&format!("socket_paths = [\"{path}\"]"), "\"serve\"");
        assert!(said.starts_with("services.probe.socket_paths: "), "{said}");
        assert!(said.contains("is not a path such as"), "{path}: {said}");
        assert!(!said.contains('\n'), "{said}");
    }
    for (paths, rights, expected) in [
        ("socket_paths = [\"/health\"]", "\"serve\"", "health"),
        (
            "socket_paths = [\"/a\", \"/b\", \"/a\"]",
            "\"serve\"",
            "\"/a\" is named twice",
        ),
        (
            "socket_paths = [\"/ws\"]",
            "\"list\"",
            "add \"serve\" to services.probe.grants.sockets",
        ),
        ("", "\"serve\"", "services.probe.socket_paths: is missing"),
        ("socket_paths = \"/ws\"", "\"serve\"", "invalid type"),
    ] {
        let said = with(paths, rights);
        assert!(said.contains(expected), "{paths}: {said}");
    }
}

#[test]
fn every_mistake_is_named_in_one_sentence() {
    let cases: &[(&str, (&str, &str), &str)] = &[
        ("prot = 1", ("", ""), "unknown field `prot`"),
        (
            "[services.jwt-token-adapter]\nprot = 1",
            ("", ""),
            "line 2: unknown field `prot`",
        ),
        ("[jwt]\nsecret = \"x\"", ("", ""), "unknown field `secret`"),
        ("bind = 7", ("", ""), "invalid type"),
        ("[services.probe]", ("", ""), "needs a port"),
        (
            "[services.\"../x\"]\nport = 1",
            ("", ""),
            "a-z, 0-9 and hyphens",
        ),
        (
            "[services.probe]\nport = 8026",
            ("", ""),
            "also the port of session-validation-normalizer",
        ),
        (
            "[services.probe]\nport = 1\n[services.probe.grants]\ninterfaces = [\"keys\"]",
            ("", ""),
            "\"keys\" is not an interface",
        ),
        (
            "[services.probe]\nport = 1\n[services.probe.grants]\nverify = [\"any\"]",
            ("", ""),
            "grants.verify: \"any\" is not a use of tokens",
        ),
        (
            "[services.probe]\nport = 1\n[services.probe.grants]\nsockets = [\"open\"]",
            ("", ""),
            "grants.sockets: \"open\" is not a right",
        ),
        (
            "[services.probe]\nport = 1\n[services.probe.grants]\naccess_seconds = 3601",
            ("", ""),
            "grants.access_seconds: must be at most 3600",
        ),
        (
            "[services.probe]\nport = 1\n[services.probe.grants]\nrefresh_seconds = 0",
            ("", ""),
            "grants.refresh_seconds: must be at least 1",
        ),
        (
            "[engine]\nstack_bytes = 8388608",
            ("", ""),
            "engine.stack_bytes: must be at most",
        ),
        (
            "[services.jwt-token-adapter.limits]\nwall_ms = 60000",
            ("", ""),
            "must be at most 4500",
        ),
        (
            "[services.jwt-token-adapter.limits]\nreuse = 0",
            ("", ""),
            "must be at least 1",
        ),
        (
            "",
            ("LOCKGATE_BIND", "localhost"),
            "LOCKGATE_BIND: must be an IP address",
        ),
        (
            "",
            ("JWT_TOKEN_ADAPTER_PORT", "80250"),
            "JWT_TOKEN_ADAPTER_PORT: must be a port",
        ),
        (
            "",
            ("SERVICE_NAME", "jwt"),
            "SERVICE_NAME: \"jwt\" is not a service",
        ),
        (
            "",
            ("JWT_ALLOW_MISSING_EXP", "maybe"),
            "must be true or false",
        ),
        (
            "",
            ("REDIS_URL", "http://secret@redis"),
            "REDIS_URL: must begin with redis://",
        ),
        (
            "",
            ("DATABASE_URL", "mysql://secret@db/app"),
            "DATABASE_URL: must begin with postgresql://",
        ),
        ("", ("TRUSTED_PROXIES", "10.0.0.0/99"), "TRUSTED_PROXIES"),
        (
            "",
            ("ALLOWED_ORIGINS", "app.example.org"),
            "ALLOWED_ORIGINS",
        ),
        ("", ("LOG_LEVEL", "LOUD"), "LOG_LEVEL"),
        ("", ("CHAT_UPSTREAM_URL", "chat"), "CHAT_UPSTREAM_URL"),
        (
            "",
            ("CHAT_UPSTREAM_URL", "http://chat/"),
            "a ws:// or wss:// URL",
        ),
        ("", ("CHAT_UPSTREAM_URL", "wss:///ws"), "CHAT_UPSTREAM_URL"),
        (
            "",
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
            "OTEL_EXPORTER_OTLP_ENDPOINT: must be an http:// or https:// URL",
        ),
        (
            "",
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://secret@"),
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        ),
        (
            "[telemetry]\nendpoint = \"http://collector:4317\"",
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            "must be http/protobuf, not \"grpc\"",
        ),
        ("", ("OTEL_BSP_MAX_QUEUE_SIZE", "0"), "telemetry.queue"),
        (
            "",
            ("OTEL_TRACES_SAMPLER", "parentbased_always"),
            "OTEL_TRACES_SAMPLER: must be",
        ),
        (
            "[telemetry]\nsampler = \"traceidratio\"",
            ("OTEL_TRACES_SAMPLER_ARG", "1.01"),
            "must be from 0 to 1",
        ),
        ("", ("OTEL_TRACES_SAMPLER_ARG", "NaN"), "from 0 to 1"),
        ("", ("OTEL_BSP_SCHEDULE_DELAY", "0"), "telemetry.delay_ms"),
        (
            "[telemetry]\nendpoint = \"http://collector:4317\"",
            ("OTEL_TRACES_EXPORTER", "zipkin"),
            "OTEL_TRACES_EXPORTER: must be otlp or none",
        ),
        (
            "",
            ("OTEL_SDK_DISABLED", "perhaps"),
            "must be true or false",
        ),
    ];
    for (file, variable, expected) in cases {
        let said = load(file, &[*variable]).unwrap_err().to_string();
        assert!(said.contains(expected), "{file:?} {variable:?}: {said:?}");
        assert!(
            !said.contains('\n') && !said.contains("secret@"),
            "{said:?}"
        );
    }
}

#[test]
fn traces_go_where_the_file_or_the_environment_says() {
    let endpoint = |file: &str, variables: &[(&str, &str)]| {
        let telemetry = load(file, variables).unwrap().telemetry;
        telemetry.map(|telemetry| telemetry.endpoint)
    };
    let file = "[telemetry]\nendpoint = \"http://a:4318/\"";
    let (base, whole) = (
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://b/otlp"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c/x"),
    );
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(endpoint("", &[]), None);
    assert_eq!(endpoint(file, &[]), some("http://a:4318/v1/traces"));
    assert_eq!(endpoint(file, &[base]), some("https://b/otlp/v1/traces"));
    assert_eq!(endpoint(file, &[base, whole]), some("http://c/x"));
    assert_eq!(endpoint(file, &[("OTEL_SDK_DISABLED", "true")]), None);
    assert_eq!(endpoint(file, &[("OTEL_TRACES_EXPORTER", "none")]), None);
}

#[test]
fn samplers_are_those_of_the_specification() {
    let sampler = |name: &str, arg: &str| {
        let file = "[telemetry]\nendpoint = \"http://a:4318/\"";
        let variables = [
            ("OTEL_TRACES_SAMPLER", name),
            ("OTEL_TRACES_SAMPLER_ARG", arg),
        ];
        let telemetry = load(file, &variables).unwrap().telemetry.unwrap();
        (telemetry.follow_caller, telemetry.ratio)
    };
    assert_eq!(sampler("", ""), (true, 1.0));
    assert_eq!(sampler("always_on", "0.5"), (false, 1.0));
    assert_eq!(sampler("parentbased_always_off", ""), (true, 0.0));
    assert_eq!(sampler("traceidratio", "0.25"), (false, 0.25));
    assert_eq!(sampler("parentbased_traceidratio", "0"), (true, 0.0));
}
