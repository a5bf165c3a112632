//! The events of sockets: who may stay, what a message means, what the chat service
//! is asked. It keeps nothing: what must last is remembered by the host.

use lockgate_sdk::authenticate::{Login, Policy, Refusal, authenticate};
use lockgate_sdk::socket::{Action, Admission, Connection, Credential, Ending, Event, Link};
use lockgate_sdk::token::{Presented, Source, trim};
use lockgate_sdk::{Fault, Host, Request};
use serde::{Deserialize, Serialize};

use crate::credentials::Credentials;
use crate::frames::{self, Said};
use crate::{auth, connections, ticket};

/// A refused socket (RFC 6455 section 7.4.1).
const POLICY_VIOLATION: u16 = 1008;
/// The service cannot judge.
const INNER_FAULT: u16 = 1011;

/// What is remembered of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Memory {
    user_id: u32,
    session_id: String,
    /// What the last answer of the chat service called itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    answered: Option<String>,
}

impl Memory {
    fn of(connection: &Connection) -> Option<Self> {
        serde_json::from_slice(&connection.state).ok()
    }

    fn remember(&self) -> Action {
        Action::Remember(serde_json::to_vec(self).unwrap_or_default())
    }
}

/// Who is let in, by a token or by a ticket.
struct Entry {
    admission: Admission,
    credential: Credential,
    expires_at: Option<u64>,
    degraded: bool,
}

/// `websocket.open`
pub fn open<H: Host>(host: &H, _: &Connection, request: &Request) -> Vec<Action> {
    host.counter_add("total_connections", 1);
    match entry(host, request) {
        Ok(entry) => {
            host.counter_add("authenticated_connections", 1);
            let (user_id, degraded) = (entry.admission.user_id, entry.degraded);
            let confirmed = frames::confirmed(&entry.admission.session_id, user_id, degraded);
            let mut actions = admit(entry);
            actions.push(Action::Send(confirmed));
            actions
        }
        Err(refusal) => {
            connections::count_failure(host, refusal.fault);
            vec![close(refusal.fault)]
        }
    }
}

/// `websocket.message`
pub fn message<H: Host>(host: &H, connection: &Connection, event: Event) -> Vec<Action> {
    let Some(memory) = Memory::of(connection) else {
        return vec![close(Fault::ServiceUnavailable)];
    };
    match event {
        Event::Text(text) => said(host, &memory, frames::read(&text)),
        Event::Upstream(text) => upstream(memory, &text),
        Event::Unanswered(failure) => vec![Action::Send(frames::error(frames::excuse(failure)))],
        Event::Expiring => {
            let wanted = connection.expires_at.map(frames::refresh_wanted);
            wanted.map(Action::Send).into_iter().collect()
        }
    }
}

/// `websocket.closed`
pub fn closed<H: Host>(host: &H, connection: &Connection, ending: &Ending) {
    host.log(&format!(
        "socket ended connection={} code={}",
        connection.id, ending.code
    ));
}

/// The chat service may say the same twice; the second would be taken for the answer to
/// the next message.
fn upstream(mut memory: Memory, text: &str) -> Vec<Action> {
    let Some(answer) = frames::translate(text, &memory.session_id) else {
        return Vec::new();
    };
    let said = Action::Answer(answer.text);
    if answer.id.is_none() {
        return vec![said];
    }
    if answer.id == memory.answered {
        return Vec::new();
    }
    memory.answered = answer.id;
    vec![memory.remember(), said]
}

fn said<H: Host>(host: &H, memory: &Memory, said: Said) -> Vec<Action> {
    let session_id = &memory.session_id;
    let reply = match said {
        Said::Ready => frames::of_session("ready_confirmed", session_id),
        Said::Ping => frames::plain("pong"),
        Said::Heartbeat => frames::plain("heartbeat_ack"),
        Said::Restoration => frames::of_session("session_restoration", session_id),
        Said::Chat(Some(message)) if !message.trim().is_empty() => {
            let model = host.setting("DEFAULT_CHAT_MODEL");
            return vec![
                Action::Send(frames::of_session("message_received", session_id)),
                Action::Ask(frames::question(&message, model.as_deref())),
            ];
        }
        Said::Chat(_) => frames::error("The message is empty"),
        Said::Refresh(token) => return refresh(host, memory, token.as_deref()),
        Said::Broken => frames::error("The message is not a JSON object"),
        Said::Unknown => return Vec::new(),
    };
    vec![Action::Send(reply)]
}

/// Another token of the same user takes the place of the one before.
fn refresh<H: Host>(host: &H, memory: &Memory, token: Option<&str>) -> Vec<Action> {
    let presented = token.map(trim).filter(|token| !token.is_empty());
    let presented = presented.map(|token| Presented {
        source: Source::Body,
        token,
    });
    let presented: Vec<Presented<'_>> = presented.into_iter().collect();
    match authenticate(host, &presented, Policy::ACCESS) {
        Ok(login) if login.user_id == memory.user_id => {
            let entry = of_login(login);
            let (session_id, expires_at) = (entry.admission.session_id.clone(), entry.expires_at);
            let mut actions = admit(entry);
            actions.push(Action::Send(frames::refreshed(&session_id, expires_at)));
            actions
        }
        Ok(_) | Err(_) => vec![Action::Send(frames::error("The new token was refused"))],
    }
}

fn admit(entry: Entry) -> Vec<Action> {
    let memory = Memory {
        user_id: entry.admission.user_id,
        session_id: entry.admission.session_id.clone(),
        answered: None,
    };
    let link = Link {
        credential: entry.credential,
        session_id: memory.session_id.clone(),
    };
    vec![
        Action::Expire(entry.expires_at),
        Action::Admit(entry.admission),
        memory.remember(),
        Action::Link(link),
    ]
}

fn entry<H: Host>(host: &H, request: &Request) -> Result<Entry, Refusal> {
    if !host.jwt_ready() {
        return Err(Fault::ServiceUnavailable.into());
    }
    let shown = Credentials::of(request);
    let presented = shown.presented();
    let Some(value) = &shown.ticket else {
        return authenticate(host, &presented, Policy::ACCESS).map(of_login);
    };
    match by_ticket(host, value, request.path()) {
        Ok(entry) => match others(host, &presented, entry.admission.user_id) {
            true => Err(Fault::ConsistencyMismatch.into()),
            false => Ok(entry),
        },
        Err(refusal) if presented.is_empty() => Err(refusal),
        Err(refusal) => authenticate(host, &presented, Policy::ACCESS)
            .map(of_login)
            .map_err(|second| stronger(refusal, second)),
    }
}

/// A revoked or disabled finding counts for more than a token that is merely bad.
fn stronger(first: Refusal, second: Refusal) -> Refusal {
    match first.fault {
        Fault::TokenRevoked | Fault::UserDisabled => first,
        _ => second,
    }
}

/// True if one of the tokens is another user's.
fn others<H: Host>(host: &H, presented: &[Presented<'_>], user_id: u32) -> bool {
    presented.iter().any(|sent| {
        lockgate_sdk::authenticate::verify(host, sent, Policy::ACCESS.usage)
            .is_ok_and(|login| login.user_id != user_id)
    })
}

fn of_login(login: Login) -> Entry {
    Entry {
        expires_at: login.expires_at,
        degraded: login.degraded,
        credential: Credential::Token(login.token),
        admission: Admission {
            connection_id: None,
            user_id: login.user_id,
            email: login.email,
            role: login.role.as_str().to_owned(),
            format_type: login.format.as_str().to_owned(),
            session_id: login.session_id,
            token_session_id: None,
            token_sha256: login.token_sha256,
            issued_at: login.issued_at,
        },
    }
}

fn by_ticket<H: Host>(host: &H, value: &str, path: &str) -> Result<Entry, Refusal> {
    let redeemed = ticket::redeem(host, value, path)?;
    let kept = redeemed.kept;
    Ok(Entry {
        expires_at: kept.token_exp,
        degraded: redeemed.degraded,
        credential: Credential::Made,
        admission: Admission {
            connection_id: Some(kept.connection_id),
            user_id: kept.user_id,
            email: kept.email,
            role: kept.role,
            // A ticket stands for an identity that is in one form already.
            format_type: "enhanced".to_owned(),
            session_id: kept.session_id,
            token_session_id: kept.token_session_id,
            token_sha256: kept.token_sha256,
            issued_at: kept.token_iat,
        },
    })
}

fn close(fault: Fault) -> Action {
    let code = match fault {
        Fault::ServiceUnavailable => INNER_FAULT,
        _ => POLICY_VIOLATION,
    };
    Action::Close(Ending {
        code,
        reason: auth::reason(fault).to_owned(),
    })
}

#[cfg(test)]
mod tests;
