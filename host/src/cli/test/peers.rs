//! The other services as a test wants them: each says that it is healthy, and that there is no
//! users table, unless the scenario says otherwise.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use axum::Router;
use axum::response::IntoResponse as _;
use http::{HeaderName, StatusCode, Uri};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::file::{Peer, User, UserState};
use crate::config::PeerConfig;

/// In what the session normalizer says of users.
const STATE: HeaderName = HeaderName::from_static("x-lockgate-user");

/// Where it is asked that.
const QUESTION: &str = "/api/v1/session/validate";

/// Starts a stand-in for each peer and writes its address into the settings. One that is
/// away has an address at which nobody listens.
///
/// # Errors
/// No port.
pub(super) async fn start(
    peers: &mut [PeerConfig],
    wanted: &BTreeMap<String, Peer>,
    user: Option<&User>,
) -> std::io::Result<()> {
    for peer in peers {
        let answer = wanted.get(&peer.name).cloned().unwrap_or_default();
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        peer.url = format!("http://{}", listener.local_addr()?);
        if !answer.down {
            tokio::spawn(serve(listener, answer, user.cloned()));
        }
    }
    Ok(())
}

async fn serve(listener: TcpListener, peer: Peer, user: Option<User>) {
    let answer = move |uri: Uri| {
        let (peer, user) = (peer.clone(), user.clone());
        async move {
            let good = peer.code < 500;
            let (code, state, body) = match uri.path() {
                QUESTION if good => word(user.as_ref()),
                _ => (peer.code, "none", json!({ "status": peer.status })),
            };
            let code = StatusCode::from_u16(code).unwrap_or(StatusCode::OK);
            (code, [(STATE, state)], axum::Json(body)).into_response()
        }
    };
    // It ends with the runtime's task; no test waits for it.
    let _ = axum::serve(listener, Router::new().fallback(answer)).await;
}

/// What the users table says, as the session normalizer passes it on.
fn word(user: Option<&User>) -> (u16, &'static str, Value) {
    let Some(user) = user else {
        return (200, "none", json!({ "valid": true }));
    };
    match user.state {
        UserState::Active => {
            let (id, email, role) = (user.user_id, &user.email, &user.role);
            let body = json!({ "valid": true, "user_id": id, "email": email, "role": role });
            (200, "active", body)
        }
        UserState::Disabled => (
            401,
            "active",
            json!({ "valid": false, "error": "user_disabled" }),
        ),
        UserState::Missing => (
            200,
            "active",
            json!({ "valid": false, "error": "user_not_found" }),
        ),
    }
}
