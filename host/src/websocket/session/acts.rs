//! What the plugin wants done with a socket, in order: say something, ask the upstream,
//! list the socket, remember. It decides nothing.

use metrics::counter;
use tokio::sync::oneshot;

use super::{End, MADE, Session, Step, gone};
use crate::bindings::socket_events::{self, Action, Admission, Event, Failure};
use crate::keys::Issued;
use crate::respond::SocketFault;
use crate::revocation::Subject;
use crate::sockets::{self, Close, Refused};
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
                    self.ends.expires_at = at;
                    self.noticed = false;
                }
                Action::Link(link) => self.link(link),
                Action::Ask(text) => {
                    if self.pending.len() >= MADE as usize {
                        return Err(SocketFault::Undecided.into());
                    }
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
        tokio::select! {
            biased;
            end = self.ends.come() => Err(end),
            sent = self.wire.send(text) => if sent { Ok(()) } else { Err(End::Theirs(gone())) },
        }
    }

    /// Lists the socket, so that it is counted and can be closed. What was revoked
    /// before it was listed closed it not, so the journal is asked once more.
    fn admit(&mut self, admission: Admission, opening: bool) -> Step {
        let before = self.facts.admitted.as_ref();
        let same = before.is_some_and(|before| before.user_id == admission.user_id);
        if same == opening {
            return Err(SocketFault::Undecided.into());
        }
        match &self.registration {
            Some(registration) => registration.renew(self.listed(&admission)),
            None => self.register(&admission)?,
        }
        self.place.opening = None;
        let revocations = self.place.hub.state.revocations();
        if subjects(&admission).any(|subject| revocations.known(&subject)) {
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

    /// Lists it under the name that it was promised, or under its own if that is taken.
    fn register(&mut self, admission: &Admission) -> Step {
        let hub = self.place.hub.clone();
        let name = admission.connection_id.clone().filter(|name| is_name(name));
        let own = self.facts.id.clone();
        for id in name.into_iter().chain([own]) {
            self.facts.id = id;
            let (sender, receiver) = oneshot::channel();
            let most = hub.limits.most_per_user;
            let registry = hub.state.sockets();
            match registry.register(self.listed(admission), sender, most) {
                Ok(registration) => {
                    self.registration = Some(registration);
                    self.ends.obey(receiver);
                    return Ok(());
                }
                Err(Refused::Crowded) => return Err(SocketFault::Crowded.into()),
                Err(Refused::Taken) => {}
            }
        }
        Err(SocketFault::Undecided.into())
    }

    fn listed(&self, admission: &Admission) -> sockets::Connection {
        sockets::Connection {
            id: self.facts.id.clone(),
            user_id: admission.user_id,
            email: admission.email.clone(),
            role: admission.role.clone(),
            format_type: admission.format_type.clone(),
            connected_at: self.facts.opened_at,
            session_id: admission.session_id.clone(),
            token_session_id: admission.token_session_id.clone(),
            token_sha256: admission.token_sha256.clone(),
            issued_at: admission.issued_at,
        }
    }

    fn link(&mut self, link: socket_events::Link) {
        let credential = match link.credential {
            socket_events::Credential::Token(token) => Credential::Token(token.into()),
            socket_events::Credential::Made => {
                let Some(admitted) = self.facts.admitted.clone() else {
                    return;
                };
                let (state, until) = (self.place.hub.state.clone(), self.ends.expires_at);
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

/// What is looked up for a connection: its session, and that of its token if it is
/// another one.
fn subjects(admission: &Admission) -> impl Iterator<Item = Subject> {
    let sessions = [
        Some(&admission.session_id),
        admission.token_session_id.as_ref(),
    ];
    sessions.into_iter().flatten().map(|session_id| Subject {
        user_id: admission.user_id,
        session_id: session_id.clone(),
        token_sha256: admission.token_sha256.clone(),
        issued_at: admission.issued_at,
    })
}

/// A name as this host gives them out.
fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(plain)
}
