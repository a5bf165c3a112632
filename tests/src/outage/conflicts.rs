//! What Redis and a host know differs after they were apart: a table of cases with what
//! should come of each. A revocation beats everything; of two records the later one wins.

mod cases;

use std::time::Duration;

use serde_json::{Value, json};

use cases::Ask::{
    self, Check, Emergency, Opens, OpensElsewhere, OpensLater, Session, Value as Kept,
};
use cases::{CASES, FOREIGN};

use super::cluster::Cluster;
use super::course::carried;
use crate::host::{Host, Service};
use crate::measure::Report;
use crate::tokens::{User, now};

/// Two changes at least this far apart have different times.
const APART: Duration = Duration::from_millis(20);

/// Users of the cases.
const USERS: u32 = 15;

/// The two hosts: `near` keeps Redis, `far` is cut off from it.
struct Sides<'a> {
    cluster: &'a Cluster,
    near: &'a Host,
    far: &'a Host,
    /// Each user's token from before.
    tokens: Vec<String>,
}

pub(super) async fn run(report: &mut Report) {
    report.part(
        "conflicts",
        "what a host and Redis say after they were apart",
    );
    let cluster = Cluster::start(|host| host).await;
    let sides = Sides {
        near: &cluster.hosts[0],
        far: cluster.last(),
        tokens: tokens(&cluster.hosts[0]),
        cluster: &cluster,
    };
    let mut secrets = sides.before().await;
    cluster.cut().await;
    sides.apart(&mut secrets).await;
    cluster.heal().await;
    carried(sides.far).await;
    let mut rows = Vec::new();
    for case in &CASES {
        let mut seen = Vec::new();
        for ask in case.asked {
            seen.push(sides.answer(case.number, *ask, &secrets).await);
        }
        let words = [case.name, case.redis, case.host, &seen.join(", ")];
        rows.push(words.map(str::to_owned).to_vec());
    }
    let head = [
        "case",
        "in Redis meanwhile",
        "on the host meanwhile",
        "afterwards",
    ];
    report.table(&head, &rows);
    for (case, row) in CASES.iter().zip(&rows) {
        let holds = row[3] == case.expected;
        let seen = match holds {
            true => String::new(),
            false => format!("{} instead of {}", row[3], case.expected),
        };
        report.claim(case.name, holds, seen);
    }
}

fn tokens(host: &Host) -> Vec<String> {
    let token = |number| host.tokens.access(&user(number));
    (0..USERS).map(token).collect()
}

/// A user of a case.
fn user(number: u32) -> User {
    User::new(80_000 + number)
}

/// The same user in a session of a later time.
fn later(number: u32) -> User {
    user(number).session("s-later")
}

/// What opens the emergency sessions, by the number of their case; those of later ones
/// stand [`LATER`] further on.
const LATER: u32 = 100;

type Secrets = std::collections::BTreeMap<u32, String>;

impl Sides<'_> {
    /// Both sides agree.
    async fn before(&self) -> Secrets {
        let mut secrets = Secrets::new();
        for number in [1, 5, 8, 10, 11, 12] {
            secrets.insert(number, create(self.far, &user(number)).await);
        }
        for number in [1, 2, 8, 9, 11, 12] {
            validate(self.far, &user(number)).await;
        }
        tokio::time::sleep(APART).await;
        secrets
    }

    /// Each side changes something that the other does not see.
    async fn apart(&self, secrets: &mut Secrets) {
        let (near, far) = (self.near, self.far);
        // 1: ended on the host; its records are in Redis.
        logout(far, &user(1)).await;
        // 2: ended elsewhere; the host has made an emergency session meanwhile.
        secrets.insert(2, create(far, &user(2)).await);
        logout(near, &user(2)).await;
        // 3: all of the user ended elsewhere.
        secrets.insert(3, create(far, &user(3)).await);
        event(near, &user(3), "logout", None).await;
        // 4: Redis has the newer record, 5: the host has, 6: Redis has none.
        secrets.insert(4, create(far, &user(4)).await);
        tokio::time::sleep(APART).await;
        secrets.insert(LATER + 4, create(near, &later(4)).await);
        create(near, &user(5)).await;
        tokio::time::sleep(APART).await;
        secrets.insert(LATER + 5, create(far, &later(5)).await);
        secrets.insert(6, create(far, &user(6)).await);
        // 7: it has ended before Redis is back.
        let body = json!({"ttl_seconds": 1});
        create_with(far, &user(7), &body).await;
        // 8: expired on the host, not revoked.
        event(far, &user(8), "session_expired", None).await;
        // 9: marked invalid in Redis by another server.
        self.invalidate(&user(9)).await;
        // 10: removed on the host, then made anew elsewhere.
        logout(far, &user(10)).await;
        tokio::time::sleep(APART).await;
        secrets.insert(LATER + 10, create(near, &later(10)).await);
        // 11: removed on the host, then made anew there.
        logout(far, &user(11)).await;
        tokio::time::sleep(APART).await;
        secrets.insert(LATER + 11, create(far, &later(11)).await);
        // 12: disabled elsewhere.
        self.disable(&user(12)).await;
        // 13: a login on the host; another server has written its own value.
        self.cluster
            .redis
            .run::<()>(&["SET", "session:s-80013Qx", FOREIGN, "EX", "600"])
            .await;
        event(far, &user(13), "login", Some("s-80013Qx")).await;
        // 14: a login on the host, and then its end.
        event(far, &user(14), "login", Some("s-80014Qx")).await;
        logout(far, &user(14)).await;
        // What has one second to live has ended.
        tokio::time::sleep(Duration::from_millis(2_100)).await;
    }

    async fn invalidate(&self, user: &User) {
        let record = json!({
            "session_id": user.session_id, "user_id": user.id, "email": user.email,
            "role": "user", "status": "invalidated", "created_at": "2031-01-01T00:00:00",
            "last_activity": "2031-01-01T00:00:00", "expires_at": "2031-01-02T00:00:00",
            "metadata": {},
        });
        let key = format!("session:{}", user.session_id);
        let words = ["SET", &key, &record.to_string(), "EX", "600"];
        self.cluster.redis.run::<()>(&words).await;
    }

    async fn disable(&self, user: &User) {
        let record = json!({
            "is_active": false, "email": user.email, "role": "user", "checked_at": now(),
        });
        let key = format!("lockgate:user:{}", user.id);
        let words = ["SET", &key, &record.to_string(), "EX", "600"];
        self.cluster.redis.run::<()>(&words).await;
    }

    /// Whose emergency session Redis has.
    async fn emergency(&self, number: u32) -> String {
        let key = format!("lockgate:fallback:{}", user(number).id);
        match self.cluster.redis.get(&key).await {
            None => "none".to_owned(),
            Some(record) => {
                let record: Value = serde_json::from_str(&record).expect("a record");
                record["session_id"].as_str().unwrap_or("?").to_owned()
            }
        }
    }

    /// Whether Redis has the record of a session.
    async fn session(&self, number: u32) -> String {
        let key = format!("session:{}", user(number).session_id);
        let there = self.cluster.redis.get(&key).await;
        there.map_or("gone".to_owned(), |_| "there".to_owned())
    }

    /// What the host that was cut off answers to a user's token from before, in words.
    async fn says(&self, number: u32) -> String {
        let call = self.far.get(Service::Session, "/api/v1/session/validate");
        let answer = call.bearer(&self.tokens[number as usize]).send().await;
        let body = answer.json();
        match body["valid"] == true {
            true => "valid".to_owned(),
            false => body["error"].as_str().unwrap_or("?").to_owned(),
        }
    }

    async fn answer(&self, number: u32, ask: Ask, secrets: &Secrets) -> String {
        match ask {
            Check => self.says(number).await,
            Session => self.session(number).await,
            Emergency => self.emergency(number).await,
            Opens => opens(self.far, &secrets[&number]).await,
            OpensLater => opens(self.far, &secrets[&(LATER + number)]).await,
            OpensElsewhere => opens(self.near, &secrets[&(LATER + number)]).await,
            Kept => self.kept(number).await,
        }
    }

    async fn kept(&self, number: u32) -> String {
        let key = format!("session:{}", user(number).session_id);
        let value = self.cluster.redis.get(&key).await;
        let kept = value.as_deref() == Some(FOREIGN);
        let word = if kept { "left alone" } else { "overwritten" };
        word.to_owned()
    }
}

/// Whether an emergency session can be opened on a host.
async fn opens(host: &Host, secret: &str) -> String {
    let body = json!({"fallback_token": secret});
    let call = host.post(Service::Fallback, "/api/v1/fallback/validate");
    let body = call.json(&body).send().await.expect(200).json();
    let valid = body["valid"] == true;
    let word = if valid { "opens" } else { "closed" };
    word.to_owned()
}

async fn create(host: &Host, user: &User) -> String {
    create_with(host, user, &json!({})).await
}

async fn create_with(host: &Host, user: &User, body: &Value) -> String {
    let call = host.post(Service::Fallback, "/api/v1/fallback/create");
    let call = call.bearer(&host.tokens.access(user)).json(body);
    let answer = call.send().await;
    assert!(matches!(answer.status, 200 | 201), "{}", answer.text());
    let body = answer.json();
    body["fallback_token"].as_str().expect("a token").to_owned()
}

async fn validate(host: &Host, user: &User) {
    let call = host.get(Service::Session, "/api/v1/session/validate");
    let answer = call.bearer(&host.tokens.access(user)).send().await;
    assert_eq!(answer.expect(200).json()["valid"], true);
}

async fn logout(host: &Host, user: &User) {
    let call = host.post(Service::Coordinator, "/api/v1/auth/logout");
    let call = call.bearer(&host.tokens.access(user));
    call.send().await.expect(204);
}

async fn event(host: &Host, user: &User, kind: &str, session: Option<&str>) {
    let mut body = json!({
        "user_id": user.id, "email": user.email, "event_type": kind, "source": "api",
    });
    if let Some(session) = session {
        body["session_id"] = json!(session);
    }
    let call = host.post(Service::Coordinator, "/api/v1/coordinator/sync-auth");
    let call = call.bearer(&host.tokens.access(user)).json(&body);
    call.send().await.expect(200);
}
