//! The scripted host's emergency sessions: one record a user, in memory.

use super::Double;
use crate::wit::fallback;

impl Double {
    pub(super) fn emergency_create(
        &self,
        draft: &fallback::Draft,
    ) -> Result<fallback::Created, fallback::Error> {
        self.emergency()?;
        self.note("fallback_create", &draft.session_id);
        let session = self.record(draft);
        let token = format!("fallback-{}", draft.user_id);
        let old = self
            .fallback
            .borrow_mut()
            .insert(draft.user_id, (session.clone(), token.clone()));
        Ok(fallback::Created {
            session,
            token,
            replaced: old.is_some(),
        })
    }

    pub(super) fn emergency_copy(&self, draft: &fallback::Draft) -> Result<(), fallback::Error> {
        self.emergency()?;
        self.note("fallback_copy", &draft.session_id);
        let session = self.record(draft);
        let mut records = self.fallback.borrow_mut();
        records
            .entry(draft.user_id)
            .or_insert((session, String::new()));
        Ok(())
    }

    pub(super) fn emergency_find(
        &self,
        user_id: u32,
    ) -> Result<Option<fallback::Session>, fallback::Error> {
        self.emergency()?;
        let found = self
            .fallback
            .borrow()
            .get(&user_id)
            .map(|(session, _)| session.clone());
        Ok(found.filter(|session| session.expires_at > self.now.get()))
    }

    pub(super) fn emergency_find_by_token(
        &self,
        token: &str,
    ) -> Result<Option<fallback::Session>, fallback::Error> {
        self.emergency()?;
        let records = self.fallback.borrow();
        let found = records
            .values()
            .find(|(_, known)| !known.is_empty() && known == token);
        let found = found.map(|(session, _)| session.clone());
        Ok(found.filter(|session| session.expires_at > self.now.get()))
    }

    pub(super) fn emergency_update(
        &self,
        user_id: u32,
        session_data: &str,
        token_format: &str,
    ) -> Result<bool, fallback::Error> {
        self.emergency()?;
        self.note("fallback_update", &user_id.to_string());
        let mut records = self.fallback.borrow_mut();
        let Some((session, _)) = records.get_mut(&user_id) else {
            return Ok(false);
        };
        session.session_data = session_data.into();
        session.token_format = token_format.into();
        Ok(true)
    }

    pub(super) fn emergency_remove(
        &self,
        user_id: u32,
        session_id: Option<&str>,
    ) -> Result<bool, fallback::Error> {
        self.emergency()?;
        self.note("fallback_remove", &user_id.to_string());
        let mut records = self.fallback.borrow_mut();
        let own =
            |session: &fallback::Session| session_id.is_none_or(|id| id == session.session_id);
        if records
            .get(&user_id)
            .is_some_and(|(session, _)| own(session))
        {
            records.remove(&user_id);
        }
        Ok(true)
    }

    pub(super) fn emergency_report(&self) -> fallback::Statistics {
        fallback::Statistics {
            active: u32::try_from(self.fallback.borrow().len()).unwrap(),
            expired_pending_cleanup: 0,
            pending_resync: 0,
            max_sessions: 1000,
            session_ttl: 3600,
            storage_location: "/var/lib/lockgate/fallback.redb".into(),
            persistent: self.fallback_error.get().is_none(),
            counts: Vec::new(),
        }
    }
}
