//! The host that a scenario runs on: the same code as in service, in this process, with a
//! clock that stands, a Redis that does as it is told, keys of its own and one service. All
//! of it is gone with the value.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::file::{RedisMode, Request, Scenario, Token};
use super::peers;
use super::redis::Scripted;
use super::words::Words;
use crate::caller::Judge;
use crate::cli::token;
use crate::clock::Clock;
use crate::config::{Config, ServiceConfig};
use crate::engine::Engine;
use crate::http::Service;
use crate::imports::Scope;
use crate::revision::{Artifact, Cache};
use crate::server;
use crate::slot::{Loader, Settings, Slot};
use crate::state::{Reachability, State};

/// Names the service secret of every stage.
const SERVICE_SECRET: &str = "the-service-secret-of-a-test-0123456789";

/// No answer takes longer; a service's own limits are shorter.
const PATIENCE: Duration = Duration::from_secs(20);

/// A host learns within this time that Redis went or came: its breaker rests in between.
const TURN: Duration = Duration::from_secs(15);

/// The service that is tested, as configured.
pub(super) struct Setup {
    pub(super) service: String,
    /// Text of `lockgate.toml`.
    pub(super) config: Option<String>,
    /// Compiled code is kept here from one scenario to the next.
    pub(super) cache: PathBuf,
    pub(super) component: Bytes,
}

/// An answer.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: http::HeaderMap,
    pub(super) body: String,
}

/// One host with one service.
pub(super) struct Stage {
    pub(super) clock: Clock,
    pub(super) redis: Option<Scripted>,
    state: Arc<State>,
    slot: Arc<Slot>,
    address: SocketAddr,
    client: Client<HttpConnector, Full<Bytes>>,
    stop: CancellationToken,
    _folder: tempfile::TempDir,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Setup {
    /// The settings of a stage.
    ///
    /// # Errors
    /// They are not those of a host that serves the service.
    pub(super) fn config(
        &self,
        scenario: &Scenario,
        redis: Option<SocketAddr>,
        folder: &Path,
    ) -> anyhow::Result<Config> {
        let settings = &scenario.settings;
        let secret = folder.join("service_secret");
        std::fs::write(&secret, SERVICE_SECRET)?;
        let key = hex::encode(rand::random::<[u8; 32]>());
        let variable = |name: &str| match name {
            "JWT_SECRET_KEY" => scenario.secret.then(|| key.clone()),
            "REDIS_URL" => redis.map(|address| format!("redis://{address}")),
            "REDIS_PASSWORD_FILE" => Some("/dev/null".to_owned()),
            _ => settings.get(name).cloned(),
        };
        let mut config = Config::from_parts(self.config.as_deref(), variable)?;
        config.data_dir = folder.to_owned();
        config.fallback.path = folder.join("embedded.redb");
        config.jwt.secret_files = Vec::new();
        config.service_secret_file = Some(secret);
        config.database = None;
        config
            .services
            .retain(|service| service.name == self.service);
        let Some(service) = config.services.first_mut() else {
            bail!(
                "{:?} is no service: name one with --service, or give it a port and grants in \
                 lockgate.toml beside the tests",
                self.service
            );
        };
        for (name, value) in settings {
            service.env.retain(|(known, _)| known != name);
            service.env.push((name.clone(), value.clone()));
        }
        Ok(config)
    }
}

impl Stage {
    /// Sets it up at a time in unix seconds; the component serves.
    ///
    /// # Errors
    /// The settings are wrong or the component is refused.
    pub(super) async fn set(
        setup: &Setup,
        engine: &Arc<Engine>,
        scenario: &Scenario,
        now: u64,
    ) -> anyhow::Result<Stage> {
        let folder = tempfile::tempdir().context("no temporary folder")?;
        let clock = Clock::fixed(now);
        let redis = match scenario.redis {
            true => Some(Scripted::start(clock.clone()).await?),
            false => None,
        };
        let address = redis.as_ref().map(|(_, address)| *address);
        let mut config = setup.config(scenario, address, folder.path())?;
        peers::start(&mut config.peers, &scenario.peers, scenario.user.as_ref()).await?;
        let config = Arc::new(config);
        let state = State::open_at(config.clone(), clock.clone()).await?;
        let loader = Arc::new(Loader::new(
            engine.clone(),
            Cache::open(setup.cache.clone()).ok(),
            Settings {
                probation: config.probation,
                quarantine: config.quarantine,
            },
            None,
        ));
        let service = config.services.first().context("no service")?;
        let scope = Arc::new(Scope::new(service, state.clone()));
        let revisions = folder.path().join("revisions");
        let slot = Slot::new(Arc::new(service.clone()), scope, loader, revisions, None);
        let slot = Arc::new(slot);
        load(&slot, setup.component.clone()).await?;
        let stop = CancellationToken::new();
        state.spawn(stop.clone());
        know_peers(&state, service).await?;
        let listener = crate::app::bind("127.0.0.1:0".parse()?, &service.name)?;
        let address = listener.local_addr()?;
        let judge = Arc::new(Judge::new(&config));
        let served = Service::new(slot.clone(), state.clone(), judge, &config, None);
        let limits = config.server.clone();
        tokio::spawn(server::serve(
            listener,
            Arc::new(served),
            limits,
            stop.clone(),
        ));
        Ok(Stage {
            clock,
            redis: redis.map(|(redis, _)| redis),
            state,
            slot,
            address,
            client: Client::builder(TokioExecutor::new()).build_http(),
            stop,
            _folder: folder,
        })
    }

    /// Has another component serve.
    ///
    /// # Errors
    /// It is refused.
    pub(super) async fn swap(&self, component: Bytes) -> anyhow::Result<()> {
        load(&self.slot, component).await
    }

    /// Signs a token with the key of this host, or of another.
    ///
    /// # Errors
    /// There is no such kind of token.
    pub(super) fn mint(&self, token: &Token) -> anyhow::Result<String> {
        let mut claims = token::made(token)?.at(self.clock.now())?;
        if let Some(claims) = claims.as_object_mut() {
            for (name, value) in &token.claims {
                claims.insert(name.clone(), value.clone());
            }
            for name in &token.without {
                claims.remove(name);
            }
        }
        let signed = match token.forged || !self.state.keys().ready() {
            true => token::forged(&claims),
            false => self.state.keys().sign(&claims),
        };
        signed.context("the token could not be signed")
    }

    /// Has Redis do something else, and waits until the host knows.
    ///
    /// # Errors
    /// It does not notice.
    pub(super) async fn turn(&self, redis: &Scripted, mode: RedisMode) -> anyhow::Result<()> {
        redis.set_mode(mode);
        let wanted = match mode {
            RedisMode::Up => Reachability::Connected,
            RedisMode::Down | RedisMode::Slow => Reachability::Disconnected,
        };
        let knows = async {
            while self.state.dependency("redis") != wanted {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let noticed = tokio::time::timeout(TURN, knows).await;
        noticed.context("the host has not noticed what Redis does")
    }

    /// Sends a request whose texts are put in already; the whole answer.
    ///
    /// # Errors
    /// It cannot be sent, or there is no answer.
    pub(super) async fn ask(&self, request: &Request, words: &Words) -> anyhow::Result<Answer> {
        let path = words.put(&request.path)?;
        let mut built = http::Request::builder()
            .method(request.method.as_str())
            .uri(format!("http://{}{path}", self.address));
        for (name, value) in &request.headers {
            built = built.header(name, words.put(value)?);
        }
        if let Some(bearer) = &request.bearer {
            built = built.header(AUTHORIZATION, format!("Bearer {}", words.put(bearer)?));
        }
        let mut cookies = Vec::new();
        for (name, value) in &request.cookies {
            cookies.push(format!("{name}={}", words.put(value)?));
        }
        if !cookies.is_empty() {
            built = built.header(COOKIE, cookies.join("; "));
        }
        if request.service {
            built = built.header("x-service-secret", SERVICE_SECRET);
        }
        let body = match (&request.json, &request.body) {
            (Some(json), _) => {
                let named = |name: &String| name.eq_ignore_ascii_case(CONTENT_TYPE.as_str());
                if !request.headers.keys().any(named) {
                    built = built.header(CONTENT_TYPE, "application/json");
                }
                words.put_all(json)?.to_string()
            }
            (None, Some(body)) => words.put(body)?,
            (None, None) => String::new(),
        };
        let built = built
            .body(Full::new(Bytes::from(body)))
            .context("the request")?;
        let exchange = async {
            let response = self.client.request(built).await?;
            let (parts, body) = response.into_parts();
            anyhow::Ok((parts, body.collect().await?.to_bytes()))
        };
        let answered = tokio::time::timeout(PATIENCE, exchange).await;
        let (parts, body) = answered.context("there was no answer in time")??;
        Ok(Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        })
    }
}

/// Waits until the peers that the service may see were asked once.
async fn know_peers(state: &State, service: &ServiceConfig) -> anyhow::Result<()> {
    let granted = &service.grants.peers;
    let unknown = || {
        let views = state.peers().snapshot(&service.name, granted);
        let seen = |name: &str| granted.contains(&name.replace('_', "-"));
        let mut views = views.iter();
        views.any(|view| seen(&view.name) && view.last_check.is_none())
    };
    let knows = async {
        while unknown() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let known = tokio::time::timeout(TURN, knows).await;
    known.context("the peers were not probed in time")
}

async fn load(slot: &Slot, component: Bytes) -> anyhow::Result<()> {
    let file = Artifact {
        component,
        signature: None,
    };
    slot.load(file).await.context("the component is refused")
}

impl Answer {
    /// The body as JSON, if it is that.
    pub(super) fn json(&self) -> Option<Value> {
        serde_json::from_str(&self.body).ok()
    }

    /// For whoever reads what went wrong.
    pub(super) fn shown(&self) -> String {
        let body: String = self.body.chars().take(600).collect();
        format!("{} {body}", self.status)
    }
}
