//! The service jwt-token-adapter: validates and refreshes tokens of every format in
//! circulation. It owns its routes; it never sees a key, and cannot sign claims of
//! its choice.

mod health;
mod refresh;
mod validate;

use lockgate_sdk::{Host, Route};

/// Every endpoint of the service.
#[must_use]
pub fn routes<H: Host>() -> Vec<Route<H>> {
    vec![
        Route::post("/api/v1/jwt/validate", validate::validate),
        Route::post("/api/v1/jwt/refresh", refresh::refresh),
        Route::get("/api/v1/auth/verify-token", validate::verify_token),
        Route::get("/api/v1/jwt/health", health::detailed),
        Route::get("/api/v1/jwt/status", health::status),
        Route::get("/health", health::basic),
    ]
}

lockgate_sdk::register!(routes);
