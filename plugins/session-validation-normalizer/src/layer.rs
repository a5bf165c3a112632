//! The header `X-Integration-Layer`: session answers repeat it and do not depend on
//! it.

use lockgate_sdk::{Answer, Request};

const NAME: &str = "x-integration-layer";

/// Longest value that is repeated, in bytes.
const LONGEST: usize = 64;

/// The answer with the request's header, if it was sent and is plain text.
pub(crate) fn echo(request: &Request, answer: Answer) -> Answer {
    let sane = |value: &&str| value.len() <= LONGEST && value.bytes().all(|b| b.is_ascii_graphic());
    match request.header(NAME).filter(sane) {
        Some(value) => answer.header(NAME, value),
        None => answer,
    }
}
