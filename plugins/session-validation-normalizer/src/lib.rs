//! The service session-validation-normalizer: one session check for every service,
//! and one form for every session format. It owns its routes and the session records
//! of the shared store; a missing record never makes a session invalid.

mod forms;
mod health;
mod info;
mod layer;
mod normalize;
mod record;
mod validate;

use lockgate_sdk::{Host, Route};

/// Every endpoint of the service.
#[must_use]
pub fn routes<H: Host>() -> Vec<Route<H>> {
    vec![
        Route::get("/api/v1/session/validate", validate::validate),
        Route::post("/api/v1/session/validate", validate::validate),
        Route::get("/api/v1/session/info", info::info),
        Route::post("/api/v1/session/normalize", normalize::normalize),
        Route::get("/api/v1/session/health", health::detailed),
        Route::get("/health", health::basic),
    ]
}

lockgate_sdk::register!(routes);
