//! Validates and refreshes JWTs
