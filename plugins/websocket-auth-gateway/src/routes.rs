//! The table of endpoints, and nothing else.

use lockgate_sdk::{Host, Route};

use crate::{auth, authorize, connections, health};

/// Every HTTP endpoint of the service.
pub fn routes<H: Host>() -> Vec<Route<H>> {
    vec![
        Route::post("/api/v1/ws-auth/validate", auth::validate),
        Route::post("/api/v1/ws-auth/authorize", authorize::authorize),
        Route::get("/api/v1/ws-auth/connection-info", connections::info),
        Route::get("/api/v1/ws-auth/health", health::details),
        Route::get("/health", health::basic),
    ]
}
