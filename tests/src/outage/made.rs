//! Sessions that are made while Redis is away, and what became of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::host::{Host, Service};
use crate::redis::RedisServer;
use crate::tokens::{Tokens, User};

/// Most users for whom sessions are made: a host keeps a thousand emergency sessions.
const MOST: u32 = 240;
/// The shortest pause between two users.
const PAUSE: Duration = Duration::from_millis(50);

/// The first user of each kind.
const FIRST: [u32; 3] = [40_000, 50_000, 60_000];

/// What was acknowledged.
#[derive(Debug, Default)]
pub(super) struct Made {
    /// Emergency sessions, with the token that opens each.
    created: Vec<(User, String)>,
    /// Users whose login was announced.
    logins: Vec<User>,
    /// Users whose session was validated for the first time.
    validated: Vec<User>,
    /// What was not acknowledged, and why.
    pub(super) failed: Vec<String>,
}

/// What there is of it afterwards.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) emergency: usize,
    pub(super) copies: usize,
    pub(super) logins: usize,
    pub(super) sessions: usize,
    pub(super) opened: usize,
    pub(super) validated: usize,
    pub(super) sessions_then: usize,
}

impl Made {
    /// Makes sessions of three kinds until it is told to stop; `lasts` is how long that
    /// will be.
    pub(super) async fn until(stop: Arc<AtomicBool>, calls: Calls, lasts: Duration) -> Self {
        let mut made = Self::default();
        let pause = PAUSE.max(lasts / MOST);
        for number in 0..MOST {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let [one, two, three] = FIRST.map(|first| User::new(first + number));
            match calls.create(&one).await {
                Ok(token) => made.created.push((one, token)),
                Err(answer) => made.failed.push(answer),
            }
            match calls.login(&two).await {
                Ok(()) => made.logins.push(two),
                Err(answer) => made.failed.push(answer),
            }
            match calls.validate(&three).await {
                Ok(()) => made.validated.push(three),
                Err(answer) => made.failed.push(answer),
            }
            tokio::time::sleep(pause).await;
        }
        made
    }

    /// Emergency sessions of so many users, made one after the other.
    pub(super) async fn before(calls: &Calls, users: u32) -> Vec<User> {
        let users: Vec<_> = (0..users)
            .map(|number| User::new(70_000 + number))
            .collect();
        for user in &users {
            calls.create(user).await.expect("an emergency session");
        }
        users
    }

    /// Emergency sessions, logins and validated sessions.
    pub(super) fn counts(&self) -> [usize; 3] {
        [self.created.len(), self.logins.len(), self.validated.len()]
    }

    /// What Redis and the host have of it.
    pub(super) async fn found(&self, calls: &Calls, redis: &RedisServer) -> Found {
        let fallback = |user: &User| format!("lockgate:fallback:{}", user.id);
        let login = |user: &User| format!("session:{}", user.id);
        let session = |user: &User| format!("session:{}", user.session_id);
        let created: Vec<_> = self.created.iter().map(|made| made.0.clone()).collect();
        let mut found = Found {
            emergency: there(redis, &created, fallback).await,
            copies: there(redis, &self.validated, fallback).await,
            logins: there(redis, &self.logins, login).await,
            sessions: there(redis, &self.validated, session).await,
            ..Found::default()
        };
        for (user, token) in &self.created {
            found.opened += usize::from(calls.opens(user, token).await);
        }
        for user in &self.validated {
            found.validated += usize::from(calls.validate(user).await.is_ok());
        }
        found.sessions_then = there(redis, &self.validated, session).await;
        found
    }
}

/// For how many users there is a key.
async fn there(redis: &RedisServer, users: &[User], key: impl Fn(&User) -> String) -> usize {
    let keys: Vec<String> = users.iter().map(key).collect();
    redis.count(&keys).await
}

/// For how many users Redis has an emergency session.
pub(super) async fn emergency(redis: &RedisServer, users: &[User]) -> usize {
    there(redis, users, |user| {
        format!("lockgate:fallback:{}", user.id)
    })
    .await
}

/// The requests of the users.
#[derive(Debug, Clone)]
pub(super) struct Calls {
    tokens: Tokens,
    create: crate::http::Call,
    open: crate::http::Call,
    login: crate::http::Call,
    validate: crate::http::Call,
}

impl Calls {
    pub(super) fn of(host: &Host) -> Self {
        Self {
            tokens: host.tokens.clone(),
            create: host.post(Service::Fallback, "/api/v1/fallback/create"),
            open: host.post(Service::Fallback, "/api/v1/fallback/validate"),
            login: host.post(Service::Coordinator, "/api/v1/coordinator/sync-auth"),
            validate: host.get(Service::Session, "/api/v1/session/validate"),
        }
    }

    async fn create(&self, user: &User) -> Result<String, String> {
        let call = self.create.clone().bearer(&self.tokens.access(user));
        let body = answer(call, 201).await?;
        Ok(body["fallback_token"].as_str().unwrap_or("").to_owned())
    }

    async fn opens(&self, user: &User, token: &str) -> bool {
        let call = self.open.clone().json(&json!({"fallback_token": token}));
        let body = answer(call, 200).await;
        body.is_ok_and(|body| body["valid"] == true && body["user_id"] == user.id)
    }

    async fn login(&self, user: &User) -> Result<(), String> {
        let event = json!({
            "user_id": user.id, "email": user.email, "event_type": "login", "source": "api",
            "session_id": user.session_id,
        });
        let call = self.login.clone().bearer(&self.tokens.access(user));
        answer(call.json(&event), 200).await.map(drop)
    }

    async fn validate(&self, user: &User) -> Result<(), String> {
        let call = self.validate.clone().bearer(&self.tokens.access(user));
        let body = answer(call, 200).await?;
        match body["valid"] == true && body["user_id"] == user.id {
            true => Ok(()),
            false => Err(body.to_string()),
        }
    }
}

async fn answer(call: crate::http::Call, status: u16) -> Result<Value, String> {
    let answer = call.try_send().await.map_err(|error| error.to_string())?;
    match answer.status == status {
        true => Ok(answer.json()),
        false => Err(format!("{} {}", answer.status, answer.text())),
    }
}
