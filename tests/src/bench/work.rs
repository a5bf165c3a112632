//! What is asked of all servers: the request, and what its right answer is. It sends one
//! of them to look at the answer; load is made elsewhere.

use std::io::Write as _;

use reqwest::{Client, Method};
use serde_json::{Value, json};

use super::load::Body;
use super::server::Server;
use crate::host::Service;
use crate::http::{Answer, Call};
use crate::tokens::{Tokens, User, set, unique};

/// Longer than any run, shorter than the longest life of an access token, seconds.
const LIFETIME: i64 = 80_000;

/// Life of a refresh token, seconds.
const REFRESH_LIFETIME: i64 = 604_800;

/// The kinds of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Work {
    /// `GET /health`
    Health,
    /// `POST /api/v1/jwt/validate`, the same token each time.
    Validate,
    /// `POST /api/v1/session/validate` for a session whose record is there.
    Warm,
    /// The same for sessions that were never seen before.
    Cold,
    /// `POST /api/v1/jwt/refresh`, each time with another token.
    Refresh,
}

impl Work {
    /// All of them.
    pub(super) const ALL: [Self; 5] = [
        Self::Health,
        Self::Validate,
        Self::Warm,
        Self::Cold,
        Self::Refresh,
    ];

    /// As the tables name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::Validate => "jwt/validate",
            Self::Warm => "session/validate, known",
            Self::Cold => "session/validate, new",
            Self::Refresh => "jwt/refresh",
        }
    }

    /// Who answers it.
    pub(super) fn service(self) -> Service {
        match self {
            Self::Health | Self::Validate | Self::Refresh => Service::Jwt,
            Self::Warm | Self::Cold => Service::Session,
        }
    }

    /// Where it is asked for.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Health => "/health",
            Self::Validate => "/api/v1/jwt/validate",
            Self::Warm | Self::Cold => "/api/v1/session/validate",
            Self::Refresh => "/api/v1/jwt/refresh",
        }
    }

    /// One body; none: it is a GET request.
    pub(super) fn one(self, tokens: &Tokens) -> Option<String> {
        let body = match self {
            Self::Health => return None,
            Self::Validate | Self::Warm => json!({"token": good(tokens)}),
            Self::Cold => {
                let claims = Tokens::unified_claims(&newcomer(), LIFETIME);
                json!({"token": tokens.sign(&claims)})
            }
            Self::Refresh => {
                let mut claims = Tokens::unified_claims(&newcomer(), REFRESH_LIFETIME);
                set(&mut claims, "token_use", json!("refresh"));
                json!({"refresh_token": tokens.sign(&claims)})
            }
        };
        Some(body.to_string())
    }

    /// The bodies of a load; where each request needs a body of its own, so many are made.
    pub(super) fn bodies(self, tokens: &Tokens, count: usize) -> Body {
        match (self, self.one(tokens)) {
            (_, None) => Body::None,
            (Self::Cold | Self::Refresh, _) => {
                let mut file = tempfile::NamedTempFile::new().expect("make a file of bodies");
                let lines: Vec<String> = (0..count).filter_map(|_| self.one(tokens)).collect();
                let written = file.write_all(lines.join("\n").as_bytes());
                written.and_then(|()| file.flush()).expect("write bodies");
                Body::Lines(file)
            }
            (_, Some(body)) => Body::One(body),
        }
    }

    /// One answer of a server.
    pub(super) async fn ask(self, server: &Server, body: Option<&str>) -> Answer {
        ask(server, self.service(), self.path(), body).await
    }

    /// What is wrong with an answer, if anything is.
    pub(super) fn wrong(self, answer: &Answer) -> Option<String> {
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let right = match self {
            Self::Health => body["status"] == "healthy",
            Self::Validate => body["valid"] == true && body["user_id"] == user().id,
            Self::Warm => {
                body["valid"] == true && body["user_id"] == user().id && body["source"] == "redis"
            }
            Self::Cold => body["valid"] == true && body["source"] == "redis",
            Self::Refresh => ["access_token", "refresh_token"]
                .iter()
                .all(|name| body[*name].as_str().is_some_and(|token| !token.is_empty())),
        };
        let right = right && answer.status == 200 && body["degraded"] == false;
        (!right).then(|| format!("{} {}", answer.status, answer.text()))
    }
}

/// Whose token the same one is each time.
fn user() -> User {
    User::new(7_042)
}

/// Somebody whom no server has seen; all are spelled with the same number of letters.
fn newcomer() -> User {
    let number = unique();
    let id = u32::try_from(1_000_000_000 + number % 1_000_000_000).expect("a user id");
    User::new(id)
}

/// A good access token.
pub(super) fn good(tokens: &Tokens) -> String {
    tokens.sign(&Tokens::unified_claims(&user(), LIFETIME))
}

/// Sends one request; without a body it is a GET request.
pub(super) async fn ask(
    server: &Server,
    service: Service,
    path: &str,
    body: Option<&str>,
) -> Answer {
    let method = if body.is_some() {
        Method::POST
    } else {
        Method::GET
    };
    let url = format!("http://127.0.0.1:{}{path}", server.port(service));
    let call = Call::new(Client::clone(server.client()), method, url);
    let call = match body {
        Some(text) => call.header("content-type", "application/json").body(text),
        None => call,
    };
    call.send().await
}
