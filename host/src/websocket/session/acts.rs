//! What the plugin wants done with a socket, in order: say something, ask the upstream,
//! list the socket, remember. It decides nothing.

use std::future::pending;
use std::time::Duration;

use metrics::counter;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::{End, LEEWAY, Session, Step, gone, ordered};
use crate::bindings::socket_events::{self, Action, Admission, Event, Failure};
use crate::keys::Issued;
use crate::respond::SocketFault;
use crate::revocation::Subject;
use crate::sockets::{self, Close};
use crate::websocket::relay::Credential;

/// Life of an access token made for the upstream, seconds.
const MADE_LIFE: u64 = 60;

impl Session {
    pub(super) async fn act(&mut self, actions: Vec<Action>, opening: bool) -> Step {
        for action in actions {
            match action {
                Action::Send(text) => self.send(text).await?,
                Action::Answer(text) => {
                    if self.relay.answered() {
                        self.send(text).await?;
                    }
                }
                Action::Close(ending) => {
                    return Err(End::Ours(Close::new(ending.code, &ending.reason)));
                }
                Action::Admit(admission) => self.admit(admission, opening)?,
                Action::Remember(state) => self.facts.state = state,
                Action::Expire(at) => {
                    self.facts.expires_at = at;
                    self.noticed = false;
                }
                Action::Link(link) => self.link(link),
                Action::Ask(text) => {
                    if !self.relay.ask(text) {
                        self.pending.push_back(Event::Unanswered(Failure::Crowded));
                    }
                }
            }
        }
        Ok(())
    }

    /// Sends, unless the socket is to end before the client has taken it.
    async fn send(&mut self, text: String) -> Step {
        counter!("lockgate_socket_messages_total", "direction" => "out").increment(1);
        let expires = self.facts.expires_at.map(|at| {
            let now = self.place.hub.state.clock().now();
            at.saturating_add(LEEWAY).saturating_sub(now)
        });
        tokio::select! {
            biased;
            close = ordered(&mut self.told_to_close) => Err(End::Ours(close)),
            sent = self.wire.send(text) => if sent { Ok(()) } else { Err(gone()) },
            () = after(expires) => Err(SocketFault::Expired.into()),
        }
    }

    /// Lists the socket, so that it is counted and can be closed. What was revoked
    /// before it was listed closed it not, so the journal is asked once more.
    fn admit(&mut self, admission: Admission, opening: bool) -> Step {
        self.look_at_order()?;
        let before = self.facts.admitted.as_ref();
        let same = before.is_some_and(|before| before.user_id == admission.user_id);
        if same == opening {
            return Err(SocketFault::Undecided.into());
        }
        self.registration = None;
        let hub = &self.place.hub;
        let registry = hub.state.sockets();
        if opening && registry.list(Some(admission.user_id)).len() >= hub.limits.most_per_user {
            return Err(SocketFault::Crowded.into());
        }
        let names = admission.connection_id.clone().into_iter();
        let names = names.filter(|name| is_name(name));
        for id in names.chain([self.facts.id.clone()]) {
            let (sender, receiver) = oneshot::channel();
            let connection = sockets::Connection {
                id: id.clone(),
                user_id: admission.user_id,
                email: admission.email.clone(),
                role: admission.role.clone(),
                format_type: admission.format_type.clone(),
                connected_at: self.facts.opened_at,
                session_id: admission.session_id.clone(),
                token_sha256: admission.token_sha256.clone(),
            };
            if let Ok(registration) = registry.register(connection, sender) {
                self.registration = Some(registration);
                self.told_to_close = Some(receiver);
                self.facts.id = id;
                break;
            }
        }
        let subject = Subject {
            user_id: admission.user_id,
            session_id: admission.session_id.clone(),
            token_sha256: admission.token_sha256.clone(),
            issued_at: admission.issued_at,
        };
        if self.registration.is_none() {
            return Err(SocketFault::Undecided.into());
        }
        if hub.state.revocations().known(&subject) {
            let fault = if opening {
                SocketFault::Revoked
            } else {
                SocketFault::Ended
            };
            return Err(fault.into());
        }
        if opening {
            tracing::info!(
                request_id = self.request_id,
                connection = self.facts.id,
                user = admission.user_id,
                "socket opened"
            );
        }
        self.facts.admitted = Some(admission);
        Ok(())
    }

    fn link(&mut self, link: socket_events::Link) {
        let credential = match link.credential {
            socket_events::Credential::Token(token) => Credential::Token(token.into()),
            socket_events::Credential::Made => {
                let Some(admitted) = self.facts.admitted.clone() else {
                    return;
                };
                let (state, until) = (self.place.hub.state.clone(), self.facts.expires_at);
                Credential::Made(Box::new(move || {
                    let claims = made_claims(&admitted, until, state.clock().now());
                    state.keys().sign(&claims)
                }))
            }
        };
        self.relay.renew(credential, link.session_id);
    }
}

/// The claims of an access token for the upstream; it ends with what it stands for.
fn made_claims(admitted: &Admission, until: Option<u64>, now: u64) -> Issued {
    let exp = now.saturating_add(MADE_LIFE);
    Issued {
        sub: admitted.user_id.to_string(),
        email: admitted.email.clone(),
        id: admitted.user_id,
        role: admitted.role.clone(),
        session_id: admitted.session_id.clone(),
        device_id: String::new(),
        tfa_verified: false,
        exp: until.map_or(exp, |until| exp.min(until)),
        iat: now,
        nbf: now,
        token_use: "access",
        jti: format!("{:032x}", rand::random::<u128>()),
        auth_time: admitted.issued_at.unwrap_or(now),
    }
}

async fn after(seconds: Option<u64>) {
    match seconds {
        Some(seconds) => sleep(Duration::from_secs(seconds)).await,
        None => pending().await,
    }
}

/// A name as this host gives them out.
fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(plain)
}
