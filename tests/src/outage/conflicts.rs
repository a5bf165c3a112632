//! What Redis and a host know differs after they were apart: a table of cases with what
//! should come of each. A revocation beats everything; of two records the later one wins.

use std::time::Duration;

use serde_json::{Value, json};

use super::cluster::Cluster;
use super::course::carried;
use crate::host::{Host, Service};
use crate::measure::Report;
use crate::tokens::{User, now};

/// Two changes at least this far apart have different times.
const APART: Duration = Duration::from_millis(20);

/// One case: what was on either side, what should come of it, and what did.
struct Case {
    name: &'static str,
    redis: &'static str,
    host: &'static str,
    expected: String,
    seen: String,
}

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
    let before = sides.before().await;
    cluster.cut().await;
    let apart = sides.apart(&before).await;
    cluster.heal().await;
    carried(sides.far).await;
    let cases = sides.after(&before, &apart).await;
    let row = |case: &Case| {
        let texts = [case.name, case.redis, case.host, &case.seen];
        texts.map(str::to_owned).to_vec()
    };
    let rows: Vec<_> = cases.iter().map(row).collect();
    let head = [
        "case",
        "in Redis meanwhile",
        "on the host meanwhile",
        "afterwards",
    ];
    report.table(&head, &rows);
    for case in &cases {
        let seen = match case.seen == case.expected {
            true => String::new(),
            false => format!("{} instead of {}", case.seen, case.expected),
        };
        report.claim(case.name, seen.is_empty(), seen);
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

/// Emergency sessions from before, by the number of their case.
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
    async fn apart(&self, before: &Secrets) -> Secrets {
        let mut secrets = before.clone();
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
        secrets.insert(104, create(near, &user(4).session("s-newer")).await);
        create(near, &user(5)).await;
        tokio::time::sleep(APART).await;
        secrets.insert(5, create(far, &user(5).session("s-newer")).await);
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
        secrets.insert(110, create(near, &user(10).session("s-again")).await);
        // 11: removed on the host, then made anew there.
        logout(far, &user(11)).await;
        tokio::time::sleep(APART).await;
        secrets.insert(111, create(far, &user(11).session("s-again")).await);
        // 12: disabled elsewhere.
        self.disable(&user(12)).await;
        // 13: a login on the host; another server has written its own value.
        self.cluster
            .redis
            .run::<()>(&["SET", "session:s-80013Qx", "\u{1}not ours", "EX", "600"])
            .await;
        event(far, &user(13), "login", Some("s-80013Qx")).await;
        // 14: a login on the host, and then its end.
        event(far, &user(14), "login", Some("s-80014Qx")).await;
        logout(far, &user(14)).await;
        // What has one second to live has ended.
        tokio::time::sleep(Duration::from_millis(2_100)).await;
        secrets
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

    /// Whether an emergency session can be opened there.
    async fn opens(&self, secret: &str) -> String {
        opens(self.far, secret).await
    }

    async fn after(&self, before: &Secrets, secrets: &Secrets) -> Vec<Case> {
        let mut cases = Vec::new();
        let mut case = |name, redis, host, expected: &str, seen: Vec<String>| {
            cases.push(Case {
                name,
                redis,
                host,
                expected: expected.to_owned(),
                seen: seen.join(", "),
            });
        };
        let own = |number| user(number).session_id;
        let seen = vec![
            self.says(1).await,
            self.session(1).await,
            self.emergency(1).await,
            self.opens(&secrets[&1]).await,
        ];
        case(
            "ended on the host",
            "session, emergency session",
            "logout",
            "token_revoked, gone, none, closed",
            seen,
        );
        let seen = vec![
            self.says(2).await,
            self.emergency(2).await,
            self.opens(&secrets[&2]).await,
        ];
        case(
            "ended elsewhere",
            "revocation of the session",
            "emergency session",
            "token_revoked, none, closed",
            seen,
        );
        let seen = vec![
            self.says(3).await,
            self.emergency(3).await,
            self.opens(&secrets[&3]).await,
        ];
        case(
            "all of the user ended elsewhere",
            "cut-off of the user",
            "emergency session",
            "token_revoked, none, closed",
            seen,
        );
        let seen = vec![
            self.emergency(4).await,
            self.opens(&secrets[&4]).await,
            self.opens(&secrets[&104]).await,
        ];
        case(
            "Redis has the later record",
            "emergency session, later",
            "emergency session",
            "s-newer, closed, opens",
            seen,
        );
        let seen = vec![
            self.emergency(5).await,
            self.opens(&before[&5]).await,
            self.opens(&secrets[&5]).await,
        ];
        case(
            "the host has the later record",
            "emergency session",
            "emergency session, later",
            "s-newer, closed, opens",
            seen,
        );
        let seen = vec![self.emergency(6).await, self.opens(&secrets[&6]).await];
        let expected = format!("{}, opens", own(6));
        case(
            "only the host has a record",
            "nothing",
            "emergency session",
            &expected,
            seen,
        );
        let seen = vec![self.emergency(7).await];
        case(
            "it ends before the return",
            "nothing",
            "emergency session of 1 s",
            "none",
            seen,
        );
        let seen = vec![
            self.session(8).await,
            self.emergency(8).await,
            self.says(8).await,
        ];
        case(
            "expired on the host",
            "session, emergency session",
            "session_expired",
            "gone, none, valid",
            seen,
        );
        let seen = vec![self.says(9).await];
        case(
            "marked invalid by another server",
            "session, invalidated",
            "session, active",
            "token_revoked",
            seen,
        );
        let seen = vec![
            self.says(10).await,
            self.emergency(10).await,
            self.opens(&before[&10]).await,
            // Where it was made: another host has it only once it has asked for the user.
            opens(self.near, &secrets[&110]).await,
        ];
        case(
            "ended on the host, then a login elsewhere",
            "emergency session, later",
            "logout",
            "token_revoked, s-again, closed, opens",
            seen,
        );
        let seen = vec![
            self.says(11).await,
            self.emergency(11).await,
            self.opens(&before[&11]).await,
            self.opens(&secrets[&111]).await,
        ];
        case(
            "ended on the host, then a login there",
            "session, emergency session",
            "logout, emergency session",
            "token_revoked, s-again, closed, opens",
            seen,
        );
        let seen = vec![self.says(12).await, self.opens(&secrets[&12]).await];
        case(
            "disabled elsewhere",
            "user, not active",
            "emergency session",
            "user_disabled, closed",
            seen,
        );
        let value = self.cluster.redis.get("session:s-80013Qx").await;
        let kept = value.as_deref() == Some("\u{1}not ours");
        let word = if kept { "left alone" } else { "overwritten" };
        case(
            "another program's value",
            "not JSON",
            "login",
            "left alone",
            vec![word.to_owned()],
        );
        let seen = vec![self.says(14).await, self.session(14).await];
        case(
            "a login and its end on the host",
            "nothing",
            "login, logout",
            "token_revoked, gone",
            seen,
        );
        cases
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
