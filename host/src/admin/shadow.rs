//! `/plugins/{service}/shadow` and `promote`: a candidate that gets copies of live requests.
//! Its component is the body, its signature, where drops must be signed, a header.

use std::path::PathBuf;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, Query, State as Shared};
use axum::response::Response;
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};

use super::plugins::{Meant, named, only_post, shown};
use super::{Admin, fault, sent};
use crate::respond::{self, Fault};
use crate::revision::{Artifact, MAX_SIZE};
use crate::slot::{Found, NoShadow, ShadowReport, ShadowSettings, Slot};

/// The signature file in base64.
const SIGNATURE: &str = "x-lockgate-signature";

/// The routes of this file.
pub(super) fn routes() -> Router<Admin> {
    let shadow = get(report).post(begin).delete(end);
    let wrong = async || fault(&Fault::MethodNotAllowed("GET, POST, DELETE"));
    let promote = || only_post(post(promote));
    Router::new()
        .route("/plugins/{service}/shadow", shadow.fallback(wrong))
        .route("/plugins/{service}/promote", promote())
        .route("/plugins/{service}/promote/{digest}", promote())
        .layer(DefaultBodyLimit::max(MAX_SIZE))
}

/// How it is tried.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// 0 to 1; all by default.
    share: Option<f64>,
    promote_after: Option<u64>,
}

/// What is known of it. Times are RFC 3339.
#[derive(Serialize)]
pub(super) struct Report {
    service: String,
    digest: String,
    since: String,
    share: f64,
    compared: u64,
    different: u64,
    passed_over: u64,
    promoted: bool,
    /// Why it was not promoted, or not for good.
    problem: Option<String>,
    differences: Vec<Difference>,
}

#[derive(Serialize)]
struct Difference {
    request_id: String,
    method: String,
    path: String,
    what: String,
}

impl From<Found> for Difference {
    fn from(found: Found) -> Difference {
        Difference {
            request_id: found.request_id,
            method: found.method,
            path: found.path,
            what: found.what,
        }
    }
}

impl Report {
    pub(super) fn new(slot: &Slot, report: ShadowReport) -> Report {
        let differences = report.differences.into_iter().map(Difference::from);
        Report {
            service: slot.service().name.clone(),
            digest: report.digest,
            since: shown(report.since),
            share: report.share,
            compared: report.compared,
            different: report.different,
            passed_over: report.passed_over,
            promoted: report.promoted,
            problem: report.not_promoted,
            differences: differences.collect(),
        }
    }
}

fn entry(slot: &Slot, report: Option<ShadowReport>) -> Response {
    match report {
        Some(report) => sent(respond::json(StatusCode::OK, &Report::new(slot, report))),
        None => fault(&Fault::Conflict(NoShadow::None.to_string())),
    }
}

/// What is known of the candidate.
async fn report(Shared(admin): Shared<Admin>, Path(service): Path<String>) -> Response {
    match named(&admin, &service) {
        Some((slot, _)) => entry(slot, slot.shadow_report()),
        None => fault(&Fault::NotFound),
    }
}

/// Ends it, and says what was known of it.
async fn end(Shared(admin): Shared<Admin>, Path(service): Path<String>) -> Response {
    match named(&admin, &service) {
        Some((slot, _)) => entry(slot, slot.end_shadow()),
        None => fault(&Fault::NotFound),
    }
}

/// Takes a candidate.
async fn begin(
    Shared(admin): Shared<Admin>,
    Path(service): Path<String>,
    wanted: Result<Query<Wanted>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
    component: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Response {
    let Some((slot, _)) = named(&admin, &service) else {
        return fault(&Fault::NotFound);
    };
    let Ok(component) = component else {
        return fault(&Fault::BodyTooLarge);
    };
    let settings = wanted.map_err(|error| error.to_string()).and_then(checked);
    let settings = match settings {
        Ok(settings) => settings,
        Err(problem) => return fault(&Fault::Conflict(problem)),
    };
    let signature = headers
        .get(SIGNATURE)
        .map(|text| STANDARD.decode(text.as_bytes()));
    let Ok(signature) = signature.transpose() else {
        return fault(&Fault::Conflict(format!(
            "the header {SIGNATURE} is no base64"
        )));
    };
    let file = Artifact {
        component,
        signature: signature.map(Bytes::from),
    };
    let place = place(&admin, slot);
    match slot.clone().shadow(file, place, settings).await {
        Ok(()) => entry(slot, slot.shadow_report()),
        Err(error) => fault(&Fault::Conflict(error.to_string())),
    }
}

fn checked(Query(wanted): Query<Wanted>) -> Result<ShadowSettings, String> {
    let share = wanted.share.unwrap_or(1.0);
    if !(0.0..=1.0).contains(&share) {
        return Err("share is a number from 0 to 1".to_owned());
    }
    if wanted.promote_after == Some(0) {
        return Err("promote_after is a number of requests, 1 at least".to_owned());
    }
    Ok(ShadowSettings {
        share,
        promote_after: wanted.promote_after,
    })
}

fn place(admin: &Admin, slot: &Slot) -> PathBuf {
    admin
        .plugins_dir
        .join(format!("{}.wasm", slot.service().name))
}

/// Has it serve, if it is the one that is named, or none is.
async fn promote(Shared(admin): Shared<Admin>, Path(meant): Path<Meant>) -> Response {
    let Some((slot, _)) = named(&admin, &meant.service) else {
        return fault(&Fault::NotFound);
    };
    match slot.promote(meant.digest.as_deref()).await {
        Ok(report) => entry(slot, Some(report)),
        Err(error) => fault(&Fault::Conflict(error.to_string())),
    }
}
