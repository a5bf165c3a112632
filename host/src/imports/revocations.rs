//! `wit/revocations.wit`: who is revoked, and revoking where granted. It checks
//! what becomes part of a key, for guests are not trusted to.

use super::Context;
use crate::bindings::lockgate::plugin::revocations::{Done, Error, Host, Subject, Verdict};
use crate::revocation::{self, Revoked};
use crate::store::file::FileError;

/// Longest session id that can be revoked, bytes.
const MAX_SESSION_ID: usize = 128;

type Answer = wasmtime::Result<Result<Done, Error>>;

fn is_sha256(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
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

    /// Closes the sockets that rest on what was revoked, whoever has revoked it.
    fn ended(&mut self, who: &Revoked, done: Result<bool, FileError>) -> Answer {
        Ok(done
            .map(|shared| {
                let state = self.state();
                let closed = who.close(state.sockets(), state.clock().now());
                Done {
                    shared,
                    closed: u32::try_from(closed).unwrap_or(u32::MAX),
                }
            })
            .map_err(|_| Error::Unavailable))
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
        // Past any overlay: what it finds is learned.
        let store = self.budget.guard(self.state().store());
        let verdict = self.state().revocations().check(&subject, &store).await;
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
        self.ended(&Revoked::Token(token_sha256), done)
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
        let done = revocations
            .revoke_session(user_id, &session_id, &self.store())
            .await;
        let who = Revoked::Session {
            user_id,
            session_id,
        };
        self.ended(&who, done)
    }

    async fn revoke_user(&mut self, user_id: u32, cut_off: u64) -> Answer {
        self.enter()?;
        if let Err(error) = self.may_revoke() {
            return Ok(Err(error));
        }
        let revocations = self.state().revocations();
        let done = revocations
            .revoke_user(user_id, cut_off, &self.store())
            .await;
        self.ended(&Revoked::User { user_id, cut_off }, done)
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
