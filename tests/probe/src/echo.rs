//! Sockets that are admitted without a look at any credential and give every text back
//! as it came, so that what a test sees is the host's doing.

use crate::Probe;
use crate::bindings::lockgate::plugin::types::Request;
use crate::bindings::socket_events::exports::lockgate::plugin::websocket::{
    Action, Admission, Connection, Ending, Event, Guest,
};

impl Guest for Probe {
    fn open(_: Connection, _: Request) -> Vec<Action> {
        vec![Action::Admit(Admission {
            connection_id: None,
            user_id: 1,
            email: "probe@example.org".to_owned(),
            role: "user".to_owned(),
            format_type: "legacy".to_owned(),
            session_id: "s-probe".to_owned(),
            token_sha256: String::new(),
            issued_at: None,
            token_session_id: None,
        })]
    }

    fn message(_: Connection, event: Event) -> Vec<Action> {
        match event {
            Event::Text(text) => vec![Action::Send(text)],
            Event::Upstream(_) | Event::Unanswered(_) | Event::Expiring => Vec::new(),
        }
    }

    fn closed(_: Connection, _: Ending) {}
}
