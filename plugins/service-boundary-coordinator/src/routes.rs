//! The table of endpoints, and nothing else.

use lockgate_sdk::{Host, Route};

use crate::{health, logout, sync};

/// Every endpoint of the service.
pub fn routes<H: Host>() -> Vec<Route<H>> {
    vec![
        Route::get("/api/v1/health/integration", health::integration),
        Route::get("/api/v1/coordinator/status", health::status),
        Route::get("/api/v1/coordinator/services", health::services),
        Route::post("/api/v1/coordinator/sync-auth", sync::sync_auth),
        Route::post("/api/v1/auth/logout", logout::logout),
        Route::get("/health", health::basic),
    ]
}
