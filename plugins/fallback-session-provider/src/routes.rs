//! The table of endpoints, and nothing else.

use lockgate_sdk::{Host, Route};

use crate::{emergency, health, sessions};

/// Every endpoint of the service.
pub fn routes<H: Host>() -> Vec<Route<H>> {
    vec![
        Route::post("/api/v1/fallback/validate", sessions::validate),
        Route::post("/api/v1/fallback/create", sessions::create),
        Route::post("/api/v1/fallback/emergency-auth", emergency::authenticate),
        Route::get("/api/v1/fallback/health", health::details),
        Route::get("/health", health::basic),
    ]
}
