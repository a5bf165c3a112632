//! The scripted host's functions, in memory. Each answers from what the test scripted
//! and notes what it would have written.

use std::time::Duration;

use super::{Double, NOW};
use crate::host::Host;
use crate::wit::{breakers, events, fallback, jwt, peers, redis, revocations, sockets, users};

impl Host for Double {
    fn now(&self) -> u64 {
        self.now.get()
    }

    fn uptime(&self) -> Duration {
        Duration::ZERO
    }

    fn setting(&self, name: &str) -> Option<String> {
        self.settings
            .borrow()
            .get(name)
            .cloned()
            .filter(|value| !value.is_empty())
    }

    fn random(&self, bytes: &mut [u8]) -> bool {
        bytes.fill(7);
        true
    }

    fn log(&self, line: &str) {
        self.lines.borrow_mut().push(line.into());
    }

    fn jwt_verify(&self, token: &str, usage: jwt::Usage) -> Result<jwt::Claims, jwt::Error> {
        if !self.ready.get() {
            return Err(jwt::Error::NoSecret);
        }
        let known = self.tokens.borrow().get(token).cloned();
        let (claims, refresh) = known.unwrap_or(Err(jwt::Error::InvalidToken))?;
        let fits = match usage {
            jwt::Usage::Access => !refresh,
            jwt::Usage::StrictAccess => {
                !refresh && claims.expires_at.is_some() && claims.issued_at.is_some()
            }
            jwt::Usage::Refresh => refresh,
        };
        if fits {
            Ok(claims)
        } else {
            Err(jwt::Error::InvalidToken)
        }
    }

    fn jwt_reissue(&self, token: &str) -> Result<jwt::Tokens, jwt::ReissueError> {
        self.note("reissue", token);
        let none = jwt::ReissueError::Rejected(jwt::Error::InvalidToken);
        self.reissue.borrow().clone().unwrap_or(Err(none))
    }

    fn jwt_ready(&self) -> bool {
        self.ready.get()
    }

    fn revocation_check(&self, subject: &revocations::Subject) -> revocations::Verdict {
        let revoked = self.revoked.borrow();
        let keys = [
            format!("token:{}", subject.token_sha256),
            format!("session:{}:{}", subject.user_id, subject.session_id),
            format!("user:{}", subject.user_id),
        ];
        revocations::Verdict {
            revoked: keys.iter().any(|key| revoked.contains(key)),
            asked: self.up().is_ok(),
        }
    }

    fn revoke_token(
        &self,
        sha256: &str,
        _expires_at: Option<u64>,
    ) -> Result<revocations::Done, revocations::Error> {
        self.note("revoke_token", sha256);
        self.revoked.borrow_mut().insert(format!("token:{sha256}"));
        // Sockets here rest on no token.
        Ok(self.done(0))
    }

    fn revoke_session(
        &self,
        user_id: u32,
        session_id: &str,
    ) -> Result<revocations::Done, revocations::Error> {
        self.note("revoke_session", &format!("{user_id}:{session_id}"));
        self.revoked
            .borrow_mut()
            .insert(format!("session:{user_id}:{session_id}"));
        Ok(self.done(self.end_sockets(user_id, Some(session_id))))
    }

    fn revoke_user(
        &self,
        user_id: u32,
        cut_off: u64,
    ) -> Result<revocations::Done, revocations::Error> {
        self.note("revoke_user", &format!("{user_id} {cut_off}"));
        self.revoked.borrow_mut().insert(format!("user:{user_id}"));
        Ok(self.done(self.end_sockets(user_id, None)))
    }

    fn user_lookup(&self, user_id: u32, _token: &str, quiet: bool) -> users::Answer {
        self.lookups.borrow_mut().push((user_id, quiet));
        let known = self.users.borrow().get(&user_id).cloned();
        users::Answer {
            state: known.unwrap_or(users::State::Unknown),
            degraded: self.users_away.get(),
        }
    }

    fn redis_get(&self, key: &str) -> Result<Option<Vec<u8>>, redis::Error> {
        self.up()?;
        Ok(self.values.borrow().get(key).cloned())
    }

    fn redis_get_many(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, redis::Error> {
        keys.iter().map(|key| self.redis_get(key)).collect()
    }

    fn redis_take(&self, key: &str) -> Result<Option<Vec<u8>>, redis::Error> {
        self.up()?;
        self.note("take", key);
        Ok(self.values.borrow_mut().remove(key))
    }

    fn redis_set(
        &self,
        key: &str,
        value: &[u8],
        _ttl: u32,
        condition: redis::Condition,
    ) -> Result<bool, redis::Error> {
        self.up()?;
        self.note("set", key);
        let mut values = self.values.borrow_mut();
        if condition == redis::Condition::IfAbsent && values.contains_key(key) {
            return Ok(false);
        }
        values.insert(key.into(), value.into());
        Ok(true)
    }

    fn redis_compare_and_set(
        &self,
        key: &str,
        expected: &[u8],
        value: &[u8],
        _ttl: u32,
    ) -> Result<bool, redis::Error> {
        self.up()?;
        self.note("compare_and_set", key);
        let mut values = self.values.borrow_mut();
        if values.get(key).map(Vec::as_slice) != Some(expected) {
            return Ok(false);
        }
        values.insert(key.into(), value.into());
        Ok(true)
    }

    fn redis_delete(&self, keys: &[String]) -> Result<u32, redis::Error> {
        self.up()?;
        let mut deleted = 0;
        for key in keys {
            self.note("delete", key);
            let value = self.values.borrow_mut().remove(key).is_some();
            let set = self.sets.borrow_mut().remove(key).is_some();
            deleted += u32::from(value || set);
        }
        Ok(deleted)
    }

    fn redis_expire(&self, key: &str, _ttl: u32) -> Result<bool, redis::Error> {
        self.up()?;
        self.note("expire", key);
        Ok(self.values.borrow().contains_key(key) || self.sets.borrow().contains_key(key))
    }

    fn redis_increment(&self, key: &str, by: i64, _ttl: u32) -> Result<i64, redis::Error> {
        self.up()?;
        self.note("increment", key);
        let mut values = self.values.borrow_mut();
        let old = values
            .get(key)
            .map_or("0", |bytes| std::str::from_utf8(bytes).unwrap());
        let new = old.parse::<i64>().map_err(|_| redis::Error::WrongType)? + by;
        values.insert(key.into(), new.to_string().into_bytes());
        Ok(new)
    }

    fn redis_set_add(&self, key: &str, member: &str, _ttl: u32) -> Result<bool, redis::Error> {
        self.set_up(key)?;
        self.note("set_add", key);
        Ok(self
            .sets
            .borrow_mut()
            .entry(key.into())
            .or_default()
            .insert(member.into()))
    }

    fn redis_set_remove(&self, key: &str, member: &str) -> Result<bool, redis::Error> {
        self.set_up(key)?;
        self.note("set_remove", key);
        Ok(self
            .sets
            .borrow_mut()
            .get_mut(key)
            .is_some_and(|set| set.remove(member)))
    }

    fn redis_set_contains(&self, key: &str, member: &str) -> Result<bool, redis::Error> {
        self.set_up(key)?;
        Ok(self
            .sets
            .borrow()
            .get(key)
            .is_some_and(|set| set.contains(member)))
    }

    fn redis_set_members(&self, key: &str) -> Result<Vec<String>, redis::Error> {
        self.set_up(key)?;
        Ok(self
            .sets
            .borrow()
            .get(key)
            .into_iter()
            .flatten()
            .cloned()
            .collect())
    }

    fn fallback_create(
        &self,
        draft: &fallback::Draft,
    ) -> Result<fallback::Created, fallback::Error> {
        self.emergency_create(draft)
    }

    fn fallback_copy(&self, draft: &fallback::Draft) -> Result<(), fallback::Error> {
        self.emergency_copy(draft)
    }

    fn fallback_find(&self, user_id: u32) -> Result<Option<fallback::Session>, fallback::Error> {
        self.emergency_find(user_id)
    }

    fn fallback_find_by_token(
        &self,
        token: &str,
    ) -> Result<Option<fallback::Session>, fallback::Error> {
        self.emergency_find_by_token(token)
    }

    fn fallback_update(
        &self,
        user_id: u32,
        session_data: &str,
        token_format: &str,
    ) -> Result<bool, fallback::Error> {
        self.emergency_update(user_id, session_data, token_format)
    }

    fn fallback_remove(
        &self,
        user_id: u32,
        session_id: Option<&str>,
    ) -> Result<bool, fallback::Error> {
        self.emergency_remove(user_id, session_id)
    }

    fn fallback_report(&self) -> fallback::Statistics {
        self.emergency_report()
    }

    fn csrf_issue(&self) -> Option<String> {
        self.ready.get().then(|| format!("{NOW}:nonce:signature"))
    }

    fn csrf_check(&self, header: &str, cookies: &[String]) -> bool {
        cookies.iter().any(|cookie| cookie == header)
    }

    fn limiter_take(&self, bucket: &str, key: &str, per_minute: u32) -> Result<(), u32> {
        self.note("limiter_take", &format!("{bucket}:{key} {per_minute}"));
        let limited = self
            .limited
            .borrow()
            .get(&format!("{bucket}:{key}"))
            .copied();
        if per_minute == 0 {
            Err(60)
        } else {
            limited.map_or(Ok(()), Err)
        }
    }

    fn counter_add(&self, name: &str, by: u64) {
        *self.counts.borrow_mut().entry(name.into()).or_default() += by;
    }

    fn counters(&self) -> Vec<(String, u64)> {
        self.counts
            .borrow()
            .iter()
            .map(|(name, count)| (name.clone(), *count))
            .collect()
    }

    fn breakers(&self) -> Vec<breakers::Breaker> {
        self.breakers.borrow().clone()
    }

    fn peers(&self) -> Vec<peers::Peer> {
        self.peers.borrow().clone()
    }

    fn peer_probes(&self) -> u64 {
        90
    }

    fn dependency(&self, name: &str) -> peers::Reachability {
        if name == "redis" {
            return self.redis.get();
        }
        let known = self.dependencies.borrow().get(name).copied();
        known.unwrap_or(peers::Reachability::NotConfigured)
    }

    fn socket_connections(
        &self,
        user_id: Option<u32>,
    ) -> Result<Vec<sockets::Connection>, sockets::Error> {
        let sockets = self.sockets.borrow();
        let fits = |socket: &&sockets::Connection| user_id.is_none_or(|id| id == socket.user_id);
        Ok(sockets.iter().filter(fits).cloned().collect())
    }

    fn sockets_active(&self) -> u32 {
        u32::try_from(self.sockets.borrow().len()).unwrap()
    }

    fn sockets_close(
        &self,
        user_id: u32,
        session_id: Option<&str>,
        code: u16,
        _reason: &str,
    ) -> Result<u32, sockets::Error> {
        self.note(
            "sockets_close",
            &format!("{user_id} {} {code}", session_id.unwrap_or("*")),
        );
        Ok(self.end_sockets(user_id, session_id))
    }

    fn event_publish(&self, event: &events::Event) -> Result<events::Published, events::Error> {
        self.note("event_publish", &event.event_type);
        self.events.borrow_mut().push(event.clone());
        Ok(events::Published {
            event_id: format!("ev-{}", self.events.borrow().len()),
            time: self.now.get(),
            delivered: self.up().is_ok(),
        })
    }
}
