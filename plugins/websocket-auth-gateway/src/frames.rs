//! The messages between the client, the gateway and the chat service: read and written
//! here, decided elsewhere.

use lockgate_sdk::clock::Time;
use lockgate_sdk::socket::Failure;
use serde::Deserialize;
use serde_json::{Value, json};

/// Longest `message_id` that is remembered, bytes.
const MAX_ID: usize = 128;

/// What a client says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Ready,
    Chat(Option<String>),
    Ping,
    Heartbeat,
    Restoration,
    Refresh(Option<String>),
    /// JSON of a type that nobody knows.
    Unknown,
    /// No JSON object.
    Broken,
}

/// Reads a client's message. Whose session it names is not looked at.
pub(crate) fn read(text: &str) -> Said {
    let Ok(Value::Object(said)) = serde_json::from_str(text) else {
        return Said::Broken;
    };
    let field = |name: &str| said.get(name).and_then(Value::as_str).map(str::to_owned);
    match said.get("type").and_then(Value::as_str).unwrap_or_default() {
        "ready" => Said::Ready,
        "chat_message" | "message" => Said::Chat(field("message")),
        "ping" => Said::Ping,
        "heartbeat" => Said::Heartbeat,
        "session_restoration" => Said::Restoration,
        "token_refresh_response" => Said::Refresh(field("token")),
        _ => Said::Unknown,
    }
}

#[derive(Deserialize)]
struct Upstream {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    response: Value,
    #[serde(default)]
    message_id: Value,
    #[serde(default)]
    model: Value,
    #[serde(default)]
    status: Value,
    #[serde(default)]
    message: Value,
}

/// An answer of the chat service.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// What it calls itself, if it is short enough to be remembered.
    pub(crate) id: Option<String>,
    /// As the client is to see it.
    pub(crate) text: String,
}

/// The chat service's message; none if it answers nothing.
pub(crate) fn translate(text: &str, session_id: &str) -> Option<Answer> {
    let said: Upstream = serde_json::from_str(text).ok()?;
    match said.kind.as_str() {
        "response" => {
            let id = match &said.message_id {
                Value::Null => None,
                id => Some(id.to_string()).filter(|id| id.len() <= MAX_ID),
            };
            let content = said.response.as_str().filter(|text| !text.is_empty());
            let Some(content) = content else {
                let text = error("The chat service gave an empty answer");
                return Some(Answer { id, text });
            };
            let metadata = json!({
                "message_id": said.message_id, "model": said.model, "status": said.status,
            });
            let text = text_of(&json!({
                "type": "chat_response", "content": content, "metadata": metadata,
                "session_id": session_id,
            }));
            Some(Answer { id, text })
        }
        "error" => {
            let message = said.message.as_str().filter(|text| !text.is_empty());
            let text = error(message.unwrap_or("The chat service reported an error"));
            Some(Answer { id: None, text })
        }
        _ => None,
    }
}

/// What the chat service is asked.
pub(crate) fn question(message: &str, model: Option<&str>) -> String {
    let mut question = json!({"type": "chat", "message": message});
    if let (Some(model), Some(fields)) = (model, question.as_object_mut()) {
        fields.insert("chat_model".to_owned(), json!(model));
    }
    text_of(&question)
}

/// `connection_confirmed`
pub(crate) fn confirmed(session_id: &str, user_id: u32, degraded: bool) -> String {
    text_of(&json!({
        "type": "connection_confirmed", "session_id": session_id, "user_id": user_id,
        "message": "Connection authenticated", "degraded": degraded,
    }))
}

/// A message of this type that names the session.
pub(crate) fn of_session(kind: &str, session_id: &str) -> String {
    text_of(&json!({"type": kind, "session_id": session_id}))
}

/// A message of this type and nothing else.
pub(crate) fn plain(kind: &str) -> String {
    text_of(&json!({"type": kind}))
}

/// `error`
pub(crate) fn error(message: &str) -> String {
    text_of(&json!({"type": "error", "message": message}))
}

/// `token_refresh_confirmed`
pub(crate) fn refreshed(session_id: &str, expires_at: Option<u64>) -> String {
    text_of(&json!({
        "type": "token_refresh_confirmed", "session_id": session_id,
        "expires_at": expires_at.map(Time),
    }))
}

/// `token_refresh_request`
pub(crate) fn refresh_wanted(expires_at: u64) -> String {
    text_of(&json!({
        "type": "token_refresh_request", "expires_at": Time(expires_at),
        "refresh_deadline": Time(expires_at), "message": "The token ends soon",
    }))
}

/// Why there is no answer, for people.
pub(crate) fn excuse(failure: Failure) -> &'static str {
    match failure {
        Failure::Refused => "The chat service refused the connection",
        Failure::Unreachable => "The chat service cannot be reached",
        Failure::Lost => "The connection to the chat service was lost",
        Failure::Late => "The chat service did not answer in time",
        Failure::Crowded => "Too many messages wait for an answer",
    }
}

fn text_of(value: &Value) -> String {
    value.to_string()
}
