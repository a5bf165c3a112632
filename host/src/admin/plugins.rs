//! `/plugins`: what serves, what can be gone back to, and the orders that change it.
//! Every order answers with the service's entry as it then is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use axum::Router;
use axum::extract::{Path, State as Shared};
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::{Admin, fault, sent, shadow};
use crate::clock::timestamp;
use crate::respond::{self, Fault};
use crate::slot::{self, ByHand, Report, Slot};

/// The routes of this file.
pub(super) fn routes() -> Router<Admin> {
    Router::new()
        .route("/plugins", get(plugins))
        .route("/plugins/{service}/rollback", only_post(post(roll_back)))
        .route(
            "/plugins/{service}/rollback/{digest}",
            only_post(post(roll_back)),
        )
        .route("/plugins/{service}/pin", only_post(post(pin)))
        .route("/plugins/{service}/pin/{digest}", only_post(post(pin)))
        .route("/plugins/{service}/unpin", only_post(post(unpin)))
}

pub(super) fn only_post(route: MethodRouter<Admin>) -> MethodRouter<Admin> {
    route.fallback(async || fault(&Fault::MethodNotAllowed("POST")))
}

/// The path of an order.
#[derive(Deserialize)]
pub(super) struct Meant {
    pub(super) service: String,
    /// The first characters of the digest of a kept revision or a candidate, 8 at least.
    pub(super) digest: Option<String>,
}

/// One entry of `/plugins`. Times are RFC 3339, digests SHA-256 in hex.
#[derive(Serialize)]
struct Entry {
    service: String,
    address: SocketAddr,
    /// `serving`; `quarantined` while that is left alone; `empty` while no component was
    /// ever loaded.
    state: &'static str,
    /// Counts up with every swap since the start.
    revision: Option<u64>,
    digest: Option<String>,
    size: Option<usize>,
    loaded_at: Option<String>,
    /// An operator keeps this revision, whatever lies in the folder.
    pinned: bool,
    /// Digest of the one before, while it is still in memory.
    previous: Option<String>,
    /// Digests on disk that can be gone back to, the newest first.
    kept: Vec<String>,
    /// Why the file in the folder is not the one that serves.
    last_error: Option<String>,
    last_error_at: Option<String>,
    /// The latest swaps and refusals, oldest first.
    history: Vec<Event>,
    /// The candidate that gets copies of live requests.
    shadow: Option<shadow::Report>,
}

/// One swap or refusal.
#[derive(Serialize)]
struct Event {
    at: String,
    revision: Option<u64>,
    digest: Option<String>,
    error: Option<String>,
}

impl Entry {
    fn new(slot: &Slot, address: SocketAddr) -> Entry {
        let Report {
            revision,
            previous,
            pinned,
            kept,
            last_error,
            history,
        } = slot.report();
        Entry {
            service: slot.service().name.clone(),
            address,
            state: match &revision {
                None => "empty",
                Some(revision) if revision.quarantined => "quarantined",
                Some(_) => "serving",
            },
            pinned: pinned.is_some(),
            previous,
            kept,
            revision: revision.as_ref().map(|revision| revision.number),
            size: revision.as_ref().map(|revision| revision.size),
            loaded_at: revision.as_ref().map(|revision| shown(revision.loaded_at)),
            digest: revision.map(|revision| revision.digest),
            last_error_at: last_error.as_ref().map(|failure| shown(failure.at)),
            last_error: last_error.map(|failure| failure.message),
            history: history.into_iter().map(Event::from).collect(),
            shadow: slot
                .shadow_report()
                .map(|report| shadow::Report::new(slot, report)),
        }
    }
}

impl From<slot::Entry> for Event {
    fn from(entry: slot::Entry) -> Event {
        Event {
            at: shown(entry.at),
            revision: entry.number,
            digest: entry.digest,
            error: entry.error,
        }
    }
}

pub(super) fn shown(at: SystemTime) -> String {
    timestamp(at.into())
}

/// Body of `/plugins`.
#[derive(Serialize)]
struct Plugins {
    plugins: Vec<Entry>,
}

async fn plugins(Shared(admin): Shared<Admin>) -> Response {
    let entries = admin
        .services
        .iter()
        .map(|(slot, address)| Entry::new(slot, *address));
    let body = Plugins {
        plugins: entries.collect(),
    };
    sent(respond::json(StatusCode::OK, &body))
}

/// Goes back to the revision before the one that serves, or to the one that is named.
async fn roll_back(Shared(admin): Shared<Admin>, Path(meant): Path<Meant>) -> Response {
    let Some((slot, address)) = named(&admin, &meant.service) else {
        return fault(&Fault::NotFound);
    };
    let done = slot.roll_back_to(meant.digest.as_deref()).await;
    outcome(slot, *address, done)
}

/// Keeps the revision that serves, or the one that is named.
async fn pin(Shared(admin): Shared<Admin>, Path(meant): Path<Meant>) -> Response {
    let Some((slot, address)) = named(&admin, &meant.service) else {
        return fault(&Fault::NotFound);
    };
    let done = slot.pin(meant.digest.as_deref()).await;
    outcome(slot, *address, done)
}

/// Lets the file in the folder serve again.
async fn unpin(Shared(admin): Shared<Admin>, Path(service): Path<String>) -> Response {
    let Some((slot, address)) = named(&admin, &service) else {
        return fault(&Fault::NotFound);
    };
    slot.unpin().await;
    outcome(slot, *address, Ok(()))
}

pub(super) fn named<'a>(admin: &'a Admin, service: &str) -> Option<&'a (Arc<Slot>, SocketAddr)> {
    admin
        .services
        .iter()
        .find(|(slot, _)| slot.service().name == service)
}

fn outcome(slot: &Slot, address: SocketAddr, done: Result<(), ByHand>) -> Response {
    match done {
        Ok(()) => sent(respond::json(StatusCode::OK, &Entry::new(slot, address))),
        Err(problem) => fault(&Fault::Conflict(problem.to_string())),
    }
}
