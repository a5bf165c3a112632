//! The same requests to all servers: what Lockgate answers, the others must answer, field
//! by field. Only what tells the time may differ.

use serde_json::{Value, json};

use super::server::{Kind, Server};
use super::work::{Work, ask, good};
use crate::host::Service;
use crate::http::Answer;
use crate::measure::Report;
use crate::tokens::{Tokens, User};

/// Fields that tell the time of the answer: of the same kind, of another value.
const OF_NOW: [&str; 4] = [
    "timestamp",
    "expires_in",
    "last_activity",
    "response_time_ms",
];

/// Fields that hold tokens: their claims must be of the same names.
const TOKENS: [&str; 3] = ["access_token", "token", "refresh_token"];

/// Headers that must be the same.
const HEADERS: [&str; 6] = [
    "content-type",
    "cache-control",
    "vary",
    "x-session-format",
    "x-session-valid",
    "x-degraded-mode",
];

pub(super) async fn run(report: &mut Report) {
    report.part("answers", "the same requests to all servers");
    let tokens = mint();
    let questions = questions(&tokens);
    let mut wanted: Vec<Answer> = Vec::new();
    for kind in Kind::ALL {
        let server = Server::start(kind, &tokens).await;
        let mut answers = Vec::new();
        for (_, service, path, body) in &questions {
            answers.push(ask(&server, *service, path, body.as_deref()).await);
        }
        if wanted.is_empty() {
            wanted = answers;
            continue;
        }
        for ((what, ..), (wanted, given)) in questions.iter().zip(wanted.iter().zip(&answers)) {
            let different = difference(wanted, given);
            let what = format!("{} answers as Lockgate: {what}", kind.name());
            report.claim(&what, different.is_none(), different.unwrap_or_default());
        }
    }
}

/// Tokens with a new key.
pub(super) fn mint() -> Tokens {
    use rand::RngExt as _;
    let key: [u8; 32] = rand::rng().random();
    Tokens::new(hex::encode(key).as_bytes())
}

/// What it is, who is asked, where, and the body.
type Question = (&'static str, Service, &'static str, Option<String>);

/// What is asked: the measured work, and what it must not be mistaken for.
fn questions(tokens: &Tokens) -> Vec<Question> {
    const VALIDATE: &str = "/api/v1/jwt/validate";
    const SESSION: &str = "/api/v1/session/validate";
    const REFRESH: &str = "/api/v1/jwt/refresh";
    let user = User::new(7_043);
    let good = good(tokens);
    let mut claims = Tokens::unified_claims(&user, 3_600);
    crate::tokens::set(&mut claims, "role", json!("guest"));
    let post = |body: Value| Some(body.to_string());
    let expecting = |id: u32| post(json!({"token": good, "expected_user_id": id}));
    let validate = |what, body| (what, Service::Jwt, VALIDATE, body);
    let session = |what, body| (what, Service::Session, SESSION, body);
    let refresh = |what, body| (what, Service::Jwt, REFRESH, body);
    let used = Work::Refresh.one(tokens);
    let other_key = mint().sign(&Tokens::unified_claims(&user, 3_600));
    // Whole minutes are told: far enough from the next one.
    let new = tokens.sign(&Tokens::unified_claims(&user, 3_630));
    vec![
        ("health", Service::Jwt, "/health", None),
        validate("a good token", post(json!({"token": good}))),
        validate("the user that is expected", expecting(7_042)),
        validate("another user than expected", expecting(7_043)),
        validate(
            "an old token",
            post(json!({"token": tokens.expired(&user)})),
        ),
        validate("a token of another key", post(json!({"token": other_key}))),
        validate(
            "a role that nobody has",
            post(json!({"token": tokens.sign(&claims)})),
        ),
        validate("no token", post(json!({"token": "junk"}))),
        validate("nothing", post(json!({}))),
        validate("a field of a wrong type", post(json!({"token": 5}))),
        validate("half a body", Some("{\"token\":".to_owned())),
        session("a new session", post(json!({"token": new}))),
        session("the same session again", post(json!({"token": new}))),
        session("no session", post(json!({"token": "junk"}))),
        refresh("a refresh token", used.clone()),
        refresh("the same refresh token again", used),
        refresh("an access token", post(json!({"refresh_token": good}))),
        refresh("no refresh token", post(json!({}))),
    ]
}

/// In what two answers differ, if they do.
fn difference(wanted: &Answer, given: &Answer) -> Option<String> {
    if wanted.status != given.status {
        return Some(format!("{} instead of {}", given.status, wanted.status));
    }
    let mut headers = HEADERS.into_iter();
    if let Some(name) = headers.find(|name| wanted.header(name) != given.header(name)) {
        return Some(format!("the header {name} is {:?}", given.header(name)));
    }
    let (wanted_body, given_body) = (timeless(wanted), timeless(given));
    (wanted_body != given_body).then(|| format!("{given_body} instead of {wanted_body}"))
}

/// The body, with the kind of what tells the time in its place.
fn timeless(answer: &Answer) -> String {
    let Ok(mut body) = serde_json::from_slice::<Value>(&answer.body) else {
        return answer.text();
    };
    if let Some(fields) = body.as_object_mut() {
        // A new token's end counts from now.
        let of_new_token = fields.contains_key("token_type").then_some("expires_at");
        for name in OF_NOW.into_iter().chain(of_new_token) {
            if let Some(value) = fields.get_mut(name).filter(|value| !value.is_null()) {
                *value = json!(if value.is_number() { "number" } else { "text" });
            }
        }
        for name in TOKENS {
            if let Some(value) = fields.get_mut(name)
                && let Some(token) = value.as_str()
            {
                let claims = crate::tokens::claims(token);
                let claims = claims.as_object().expect("claims are an object");
                *value = claims.keys().cloned().collect();
            }
        }
    }
    body.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ() {
        assert_ne!(mint().key(), mint().key());
    }
}
