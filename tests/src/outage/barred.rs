//! Tokens that were revoked, and whether anybody accepts one again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::task::{JoinHandle, JoinSet};

use crate::host::{Host, Service};
use crate::http::Call;
use crate::measure::link::{Link, Shot};
use crate::tokens::{User, sha256};

/// Pause between two questions.
const PAUSE: Duration = Duration::from_millis(2);

/// What came of the questions.
#[derive(Debug, Clone, Default)]
pub(super) struct Count {
    /// Questions.
    pub(super) asked: u64,
    /// A revoked token was taken for good.
    pub(super) accepted: u64,
    /// It was not, but the answer is not the right one either.
    pub(super) odd: u64,
    /// The first answer that is not the right one.
    pub(super) first: String,
}

/// A token that was revoked.
#[derive(Debug, Clone)]
struct Token {
    text: String,
    /// Redis should hold this key.
    key: String,
}

/// All revoked tokens; it asks for them until it is dropped.
#[derive(Debug)]
pub(super) struct Barred {
    tokens: Arc<Mutex<Vec<Token>>>,
    count: Arc<Mutex<Count>>,
    asking: JoinHandle<()>,
}

impl Barred {
    /// None yet.
    pub(super) fn start(host: &Host) -> Self {
        let tokens = Arc::new(Mutex::new(Vec::new()));
        let count = Arc::new(Mutex::new(Count::default()));
        let links = [Service::Session, Service::Jwt, Service::Fallback]
            .map(|service| Link::new(host.port(service)));
        let asking = tokio::spawn(ask_on(links, Arc::clone(&tokens), Arc::clone(&count)));
        Self {
            tokens,
            count,
            asking,
        }
    }

    /// Revokes so many more, by logout and by events for a session and for a user.
    pub(super) async fn revoke(&self, host: &Host, first: u32, count: u32) {
        let mut revoking = JoinSet::new();
        for id in first..first + count {
            let (call, token) = revocation(host, &User::new(id));
            revoking.spawn(async move {
                let status = call.send().await.status;
                assert!(matches!(status, 200 | 204), "revoking: {status}");
                token
            });
        }
        while let Some(token) = revoking.join_next().await {
            let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
            tokens.push(token.expect("a token is revoked"));
        }
    }

    fn all(&self) -> Vec<Token> {
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.clone()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.all().len()
    }

    /// The keys that Redis should hold for them.
    pub(super) fn keys(&self) -> Vec<String> {
        self.all().into_iter().map(|token| token.key).collect()
    }

    /// Asks for each of them once more, and gives what came of all questions.
    pub(super) async fn end(self, host: &Host) -> Count {
        self.asking.abort();
        let mut links = [Service::Session, Service::Jwt, Service::Fallback]
            .map(|service| Link::new(host.port(service)));
        for token in self.all() {
            ask(&mut links, &token.text, &self.count).await;
        }
        let count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        count.clone()
    }
}

impl Drop for Barred {
    fn drop(&mut self) {
        self.asking.abort();
    }
}

/// The request that ends a login, one of three; Redis should hold the token's key then.
fn revocation(host: &Host, user: &User) -> (Call, Token) {
    let (id, session) = (user.id, &user.session_id);
    let text = host.tokens.access(user);
    let mut event = json!({
        "user_id": id, "email": user.email, "event_type": "logout", "source": "api",
    });
    let sync = host.post(Service::Coordinator, "/api/v1/coordinator/sync-auth");
    let (call, key) = match id % 3 {
        0 => {
            let logout = host.post(Service::Coordinator, "/api/v1/auth/logout");
            (logout, format!("lockgate:revoked:token:{}", sha256(&text)))
        }
        1 => {
            event["session_id"] = json!(session);
            let key = format!("lockgate:revoked:session:{id}:{session}");
            (sync.json(&event), key)
        }
        _ => (sync.json(&event), format!("lockgate:revoked:user:{id}")),
    };
    (call.bearer(&text), Token { text, key })
}

async fn ask_on(mut links: [Link; 3], tokens: Arc<Mutex<Vec<Token>>>, count: Arc<Mutex<Count>>) {
    for number in 0_usize.. {
        let token = {
            let tokens = tokens.lock().unwrap_or_else(PoisonError::into_inner);
            let at = number.checked_rem(tokens.len());
            at.map(|at| tokens[at].text.clone())
        };
        if let Some(token) = token {
            ask(&mut links, &token, &count).await;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// One token, on three ports.
async fn ask(links: &mut [Link; 3], token: &str, count: &Mutex<Count>) {
    let body = json!({"token": token});
    let shots = [
        Shot::get("/api/v1/session/validate")
            .cookie(token)
            .status(401),
        Shot::get("/api/v1/auth/verify-token")
            .bearer(token)
            .status(401),
        Shot::post("/api/v1/fallback/validate", &body).holds("\"valid\":false"),
    ];
    for (link, shot) in links.iter_mut().zip(shots) {
        let shot = shot.holds("\"token_revoked\"");
        let answer = link.exchange(&shot, "barred").await;
        // Lost requests are counted by the load.
        let Ok(answer) = answer else { continue };
        let taken = answer.status == 200 && answer.text().contains("\"valid\":true");
        let judged = shot.judge(Ok(answer));
        let mut count = count.lock().unwrap_or_else(PoisonError::into_inner);
        count.asked += 1;
        count.accepted += u64::from(taken);
        count.odd += u64::from(!taken && judged.is_err());
        if let Err(loss) = judged
            && count.first.is_empty()
        {
            count.first = format!("{loss:?}");
        }
    }
}
