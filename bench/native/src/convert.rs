//! Between the host's types and the plugins': two sets of Rust types that stand for the
//! same `wit/`. Nothing is copied that can be moved.

use lockgate::bindings::lockgate::plugin::types as host;
use lockgate::keys::{Claims, Rejection, Scalar};
use lockgate::reissue::{Refusal, Tokens};
use lockgate::state::Reachability;
use lockgate::{directory, emergency, revocation, store};
use lockgate_sdk::wit::{fallback, jwt, peers, redis, revocations, types, users};
use lockgate_sdk::{Answer, Request};

/// As the plugins see a request.
pub(crate) fn request(request: host::Request) -> Request {
    let caller = types::Caller {
        address: request.caller.address,
        origin: match request.caller.origin {
            host::Origin::Absent => types::Origin::Absent,
            host::Origin::Trusted => types::Origin::Trusted,
            host::Origin::Foreign => types::Origin::Foreign,
        },
        service: request.caller.service,
    };
    Request::from(types::Request {
        method: request.method,
        path: request.path,
        query: request.query,
        headers: request.headers,
        body: request.body,
        caller,
        extensions: request.extensions,
    })
}

/// As the host sees an answer.
pub(crate) fn response(answer: Answer) -> host::Response {
    let types::Response {
        status,
        headers,
        body,
    } = answer.into();
    host::Response {
        status,
        headers,
        body,
    }
}

/// The claims of a verified token.
pub(crate) fn claims(mut claims: Claims) -> jwt::Claims {
    let extensions = claims.take_extensions();
    jwt::Claims {
        token_sha256: claims.token_sha256,
        sub: claims.sub.map(scalar),
        id: claims.id.map(scalar),
        user_id: claims.user_id.map(scalar),
        email: claims.email,
        username: claims.username,
        role: claims.role,
        session_id: claims.session_id,
        token_use: claims.token_use,
        token_type: claims.token_type,
        expires_at: claims.expires_at,
        issued_at: claims.issued_at,
        extensions,
    }
}

fn scalar(scalar: Scalar) -> jwt::Scalar {
    match scalar {
        Scalar::Text(text) => jwt::Scalar::Text(text),
        Scalar::Integer(integer) => jwt::Scalar::Integer(integer),
        Scalar::Number(number) => jwt::Scalar::Number(number),
        Scalar::Boolean(flag) => jwt::Scalar::Boolean(flag),
        Scalar::Other => jwt::Scalar::Other,
    }
}

/// Why a token was refused.
pub(crate) fn rejection(rejection: Rejection) -> jwt::Error {
    match rejection {
        Rejection::Invalid => jwt::Error::InvalidToken,
        Rejection::Signature => jwt::Error::InvalidSignature,
        Rejection::Expired => jwt::Error::Expired,
        Rejection::NoSecret => jwt::Error::NoSecret,
    }
}

/// What replaces a refresh token.
pub(crate) fn tokens(tokens: Tokens) -> jwt::Tokens {
    jwt::Tokens {
        access_token: tokens.access,
        access_expires_at: tokens.access_expires_at,
        refresh_token: tokens.refresh,
        user_id: tokens.user_id,
        email: tokens.email,
        role: tokens.role,
        session_id: tokens.session_id,
        degraded: tokens.degraded,
    }
}

/// Why a refresh token was not replaced.
pub(crate) fn refusal(refusal: Refusal) -> jwt::ReissueError {
    match refusal {
        Refusal::Rejected(why) => jwt::ReissueError::Rejected(rejection(why)),
        Refusal::Unsupported => jwt::ReissueError::UnsupportedFormat,
        Refusal::Revoked => jwt::ReissueError::Revoked,
        Refusal::Reused {
            user_id,
            session_id,
        } => jwt::ReissueError::Reused(jwt::Theft {
            user_id,
            session_id,
        }),
        Refusal::Disabled => jwt::ReissueError::UserDisabled,
        Refusal::Missing => jwt::ReissueError::UserNotFound,
        Refusal::Mismatch => jwt::ReissueError::Mismatch,
        Refusal::Unavailable => jwt::ReissueError::Unavailable,
    }
}

/// What to ask revocations for.
pub(crate) fn subject(subject: &revocations::Subject) -> revocation::Subject {
    revocation::Subject {
        user_id: subject.user_id,
        session_id: subject.session_id.clone(),
        token_sha256: subject.token_sha256.clone(),
        issued_at: subject.issued_at,
    }
}

/// What is known of a user.
pub(crate) fn user(answer: directory::Answer) -> users::Answer {
    use directory::Known;
    let state = match answer.known {
        Known::Active { email, role } => users::State::Active(users::User { email, role }),
        Known::Disabled => users::State::Disabled,
        Known::Missing => users::State::Missing,
        Known::OtherEmail => users::State::Active(users::User {
            email: String::new(),
            role: "user".to_owned(),
        }),
        Known::Unknown => users::State::Unknown,
    };
    users::Answer {
        state,
        degraded: answer.degraded,
    }
}

/// Why a command of the store did nothing.
pub(crate) fn store_error(error: store::Error) -> redis::Error {
    match error {
        store::Error::Unavailable | store::Error::Denied => redis::Error::Unavailable,
        store::Error::WrongType => redis::Error::WrongType,
        store::Error::TooLarge => redis::Error::TooLarge,
    }
}

/// What the emergency store is to keep.
pub(crate) fn draft(draft: &fallback::Draft) -> emergency::Draft {
    emergency::Draft {
        user_id: draft.user_id,
        email: draft.email.clone(),
        role: draft.role.clone(),
        session_id: draft.session_id.clone(),
        session_data: draft.session_data.clone(),
        token_format: draft.token_format.clone(),
        ttl: draft.ttl,
        source_sha256: draft.source_sha256.clone(),
        source_issued_at: draft.source_issued_at,
        source_expires_at: draft.source_expires_at,
    }
}

/// What is known of a dependency.
pub(crate) fn reachability(known: Reachability) -> peers::Reachability {
    match known {
        Reachability::Connected => peers::Reachability::Connected,
        Reachability::Disconnected => peers::Reachability::Disconnected,
        Reachability::NotConfigured => peers::Reachability::NotConfigured,
    }
}
