//! `wit/fallback.wit`: the emergency sessions. It converts and checks rights; the
//! records' rules are the store's.

use std::sync::Arc;

use super::Context;
use crate::bindings::lockgate::plugin::fallback::{
    Created, Draft, Error, Host, Session, Statistics,
};
use crate::emergency::{self, Fault, MAX_LIFE, MAX_RECORDS, Record};

type Answer<T> = wasmtime::Result<Result<T, Error>>;

impl From<Fault> for Error {
    fn from(fault: Fault) -> Error {
        match fault {
            Fault::Invalid(_) => Error::Invalid,
            Fault::File(_) => Error::Unavailable,
        }
    }
}

impl From<Draft> for emergency::Draft {
    fn from(draft: Draft) -> emergency::Draft {
        emergency::Draft {
            user_id: draft.user_id,
            email: draft.email,
            role: draft.role,
            session_id: draft.session_id,
            session_data: draft.session_data,
            token_format: draft.token_format,
            ttl: draft.ttl,
            source_sha256: draft.source_sha256,
            source_issued_at: draft.source_issued_at,
            source_expires_at: draft.source_expires_at,
        }
    }
}

impl From<Record> for Session {
    fn from(record: Record) -> Session {
        Session {
            user_id: record.user_id,
            email: record.email,
            role: record.role,
            session_id: record.session_id,
            created_at: record.created_at,
            last_accessed: record.last_accessed,
            expires_at: record.expires_at,
            session_data: serde_json::Value::Object(record.session_data).to_string(),
            token_format: record.token_format,
            source_sha256: record.source_sha256,
            source_issued_at: record.source_issued_at,
            source_expires_at: record.source_expires_at,
        }
    }
}

impl Host for Context {
    async fn create(&mut self, draft: Draft) -> Answer<Created> {
        self.enter()?;
        if !self.may_write() {
            return Ok(Err(Error::Denied));
        }
        let created = self
            .state()
            .emergency()
            .create(draft.into(), &self.store())
            .await;
        Ok(created.map_err(Error::from).map(|created| Created {
            session: created.record.into(),
            token: created.token,
            replaced: created.replaced,
        }))
    }

    fn copy(&mut self, draft: Draft) -> Answer<()> {
        self.enter()?;
        // A copy may be made twice without harm, so it does not count as a write.
        if self.in_self_test() {
            return Ok(Err(Error::Denied));
        }
        let state = self.state();
        let copied = state.emergency().copy(draft.into(), state.shared_store());
        Ok(copied.map_err(|_| Error::Invalid))
    }

    async fn find(&mut self, user_id: u32) -> Answer<Option<Session>> {
        self.enter()?;
        let found = self.state().emergency().find(user_id, &self.store()).await;
        Ok(Ok(found.map(Into::into)))
    }

    fn find_by_token(&mut self, token: String) -> Answer<Option<Session>> {
        self.enter()?;
        Ok(Ok(self
            .state()
            .emergency()
            .find_by_token(&token)
            .map(Into::into)))
    }

    async fn update(
        &mut self,
        user_id: u32,
        session_data: String,
        token_format: String,
    ) -> Answer<bool> {
        self.enter()?;
        if !self.may_write() {
            return Ok(Err(Error::Denied));
        }
        let emergency = Arc::clone(self.state().emergency());
        let done = emergency
            .update(user_id, &session_data, &token_format, &self.store())
            .await;
        Ok(done.map_err(Error::from))
    }

    async fn remove(&mut self, user_id: u32, session_id: Option<String>) -> Answer<bool> {
        self.enter()?;
        if !self.may_write() {
            return Ok(Err(Error::Denied));
        }
        let emergency = Arc::clone(self.state().emergency());
        let done = emergency
            .remove(user_id, session_id.as_deref(), &self.store())
            .await;
        Ok(done.map_err(|_| Error::Unavailable))
    }

    fn report(&mut self) -> wasmtime::Result<Statistics> {
        self.enter()?;
        let state = self.state();
        let report = state.emergency().report();
        Ok(Statistics {
            active: report.active,
            expired_pending_cleanup: report.expired,
            pending_resync: report.pending,
            max_sessions: u32::try_from(MAX_RECORDS).unwrap_or(u32::MAX),
            session_ttl: u32::try_from(MAX_LIFE).unwrap_or(u32::MAX),
            storage_location: state.storage_location(),
            persistent: report.persistent,
            counts: report
                .counts
                .into_iter()
                .map(|(name, count)| (name.to_owned(), count))
                .collect(),
        })
    }
}
