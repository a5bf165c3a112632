//! `wit/jwt.wit`: checking tokens, and replacing refresh tokens. A guest is given
//! claims and tokens, never a key; what is signed the host alone decides.

use super::Context;
use crate::bindings::lockgate::plugin::jwt as wit;
use crate::keys::{Claims, Rejection, Scalar, Usage};
use crate::reissue::{Lives, Refusal, Tokens};

impl From<Scalar> for wit::Scalar {
    fn from(scalar: Scalar) -> wit::Scalar {
        match scalar {
            Scalar::Text(text) => wit::Scalar::Text(text),
            Scalar::Integer(integer) => wit::Scalar::Integer(integer),
            Scalar::Number(number) => wit::Scalar::Number(number),
            Scalar::Boolean(flag) => wit::Scalar::Boolean(flag),
            Scalar::Other => wit::Scalar::Other,
        }
    }
}

impl From<Claims> for wit::Claims {
    fn from(mut claims: Claims) -> wit::Claims {
        let extensions = claims.take_extensions();
        wit::Claims {
            token_sha256: claims.token_sha256,
            sub: claims.sub.map(Into::into),
            id: claims.id.map(Into::into),
            user_id: claims.user_id.map(Into::into),
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
}

impl From<Rejection> for wit::Error {
    fn from(rejection: Rejection) -> wit::Error {
        match rejection {
            Rejection::Invalid => wit::Error::InvalidToken,
            Rejection::Signature => wit::Error::InvalidSignature,
            Rejection::Expired => wit::Error::Expired,
            Rejection::NoSecret => wit::Error::NoSecret,
        }
    }
}

impl From<Tokens> for wit::Tokens {
    fn from(tokens: Tokens) -> wit::Tokens {
        wit::Tokens {
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
}

impl From<Refusal> for wit::ReissueError {
    fn from(refusal: Refusal) -> wit::ReissueError {
        match refusal {
            Refusal::Rejected(rejection) => wit::ReissueError::Rejected(rejection.into()),
            Refusal::Unsupported => wit::ReissueError::UnsupportedFormat,
            Refusal::Revoked => wit::ReissueError::Revoked,
            Refusal::Reused {
                user_id,
                session_id,
            } => wit::ReissueError::Reused(wit::Theft {
                user_id,
                session_id,
            }),
            Refusal::Disabled => wit::ReissueError::UserDisabled,
            Refusal::Missing => wit::ReissueError::UserNotFound,
            Refusal::Mismatch => wit::ReissueError::Mismatch,
            Refusal::Unavailable => wit::ReissueError::Unavailable,
        }
    }
}

impl wit::Host for Context {
    fn verify(
        &mut self,
        token: String,
        usage: wit::Usage,
    ) -> wasmtime::Result<Result<wit::Claims, wit::Error>> {
        self.enter()?;
        let (usage, name) = match usage {
            wit::Usage::Access => (Usage::Access, "access"),
            wit::Usage::StrictAccess => (Usage::StrictAccess, "strict-access"),
            wit::Usage::Refresh => (Usage::Refresh, "refresh"),
        };
        if !self.grants().verify.contains(name) {
            self.denied("jwt: verify for this use");
            return Ok(Err(wit::Error::Denied));
        }
        let state = self.state();
        let verified = state.keys().verify(&token, usage, state.clock().now());
        Ok(verified.map(Into::into).map_err(Into::into))
    }

    async fn reissue(
        &mut self,
        token: String,
    ) -> wasmtime::Result<Result<wit::Tokens, wit::ReissueError>> {
        self.enter()?;
        if !self.grants().reissue {
            self.denied("jwt: reissue");
            return Ok(Err(wit::ReissueError::Rejected(wit::Error::Denied)));
        }
        if !self.may_write() {
            return Ok(Err(wit::ReissueError::Rejected(wit::Error::Denied)));
        }
        let lives = Lives {
            access: self.grants().access_life.as_secs(),
            refresh: self.grants().refresh_life.as_secs(),
        };
        let reissued = self
            .state()
            .reissue(&token, lives, &self.store(), self.request_id())
            .await;
        Ok(reissued.map(Into::into).map_err(Into::into))
    }

    fn ready(&mut self) -> wasmtime::Result<bool> {
        self.enter()?;
        Ok(self.state().keys().ready())
    }
}
