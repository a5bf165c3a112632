//! `wit/revocations.wit`: who is revoked, and revoking where granted. It checks
//! what becomes part of a key, for guests are not trusted to.

use super::Context;
use crate::bindings::lockgate::plugin::revocations::{Error, Host, Subject, Verdict};
use crate::revocation;
use crate::sockets::Close;
use crate::store::file::FileError;

/// Close code of a socket whose token is revoked.
const SESSION_ENDED: u16 = 4001;
/// Longest session id that can be revoked, bytes.
const MAX_SESSION_ID: usize = 128;

type Answer = wasmtime::Result<Result<bool, Error>>;

fn is_sha256(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn answer(done: Result<bool, FileError>) -> Answer {
    Ok(done.map_err(|_| Error::Unavailable))
}

impl Context {
    fn may_revoke(&mut self) -> Result<(), Error> {
        if !self.grants().revoke {
            self.denied("revocations: revoking");
            return Err(Error::Denied);
        }
        if !self.may_write() {
            return Err(Error::Denied);
        }
        Ok(())
    }
}

impl Host for Context {
    async fn check(&mut self, subject: Subject) -> wasmtime::Result<Verdict> {
        self.enter()?;
        let subject = revocation::Subject {
            user_id: subject.user_id,
            session_id: subject.session_id,
            token_sha256: subject.token_sha256,
            issued_at: subject.issued_at,
        };
        let verdict = self
            .state()
            .revocations()
            .check(&subject, &self.store())
            .await;
        Ok(Verdict {
            revoked: verdict.revoked,
            asked: verdict.asked,
        })
    }

    async fn revoke_token(&mut self, token_sha256: String, expires_at: Option<u64>) -> Answer {
        self.enter()?;
        if let Err(error) = self.may_revoke() {
            return Ok(Err(error));
        }
        if !is_sha256(&token_sha256) {
            return Ok(Err(Error::Unavailable));
        }
        let revocations = self.state().revocations();
        let done = revocations
            .revoke_token(&token_sha256, expires_at, &self.store())
            .await;
        if done.is_ok() {
            let close = Close::new(SESSION_ENDED, "Logged out");
            self.state().sockets().close_token(&token_sha256, &close);
        }
        answer(done)
    }

    async fn revoke_session(&mut self, user_id: u32, session_id: String) -> Answer {
        self.enter()?;
        if let Err(error) = self.may_revoke() {
            return Ok(Err(error));
        }
        if session_id.is_empty() || session_id.len() > MAX_SESSION_ID {
            return Ok(Err(Error::Unavailable));
        }
        let revocations = self.state().revocations();
        answer(
            revocations
                .revoke_session(user_id, &session_id, &self.store())
                .await,
        )
    }

    async fn revoke_user(&mut self, user_id: u32, cut_off: u64) -> Answer {
        self.enter()?;
        if let Err(error) = self.may_revoke() {
            return Ok(Err(error));
        }
        let revocations = self.state().revocations();
        answer(
            revocations
                .revoke_user(user_id, cut_off, &self.store())
                .await,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_lower_case_hex_of_one_length() {
        assert!(is_sha256(&"0a".repeat(32)));
        for bad in [
            "",
            &"0A".repeat(32),
            &"0a".repeat(31),
            &"0g".repeat(32),
            &"é".repeat(32),
        ] {
            assert!(!is_sha256(bad), "{bad}");
        }
    }
}
