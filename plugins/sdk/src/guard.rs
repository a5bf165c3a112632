//! Whether a request that changes state may do so: Origin and CSRF. The host has
//! judged the origin; here it only becomes an answer.

use crate::answer::Fault;
use crate::host::Host;
use crate::http::{Origin, Request};
use crate::token::Source;

/// For every POST that changes state on the strength of a cookie.
///
/// # Errors
/// [`Fault::OriginRefused`] if a browser sent it from a foreign page.
pub fn same_origin(request: &Request) -> Result<(), Fault> {
    match request.origin() {
        Origin::Foreign => Err(Fault::OriginRefused),
        Origin::Absent | Origin::Trusted => Ok(()),
    }
}

/// If the token came from a cookie, header `X-CSRF-TOKEN` must equal a cookie
/// `csrf_token`.
///
/// # Errors
/// [`Fault::CsrfFailed`]
pub fn csrf<H: Host>(host: &H, request: &Request, source: Source) -> Result<(), Fault> {
    if source != Source::Cookie {
        return Ok(());
    }
    let cookies: Vec<String> = request.cookies("csrf_token").map(str::to_owned).collect();
    match request.header("x-csrf-token") {
        Some(header) if !cookies.is_empty() && host.csrf_check(header, &cookies) => Ok(()),
        _ => Err(Fault::CsrfFailed),
    }
}
