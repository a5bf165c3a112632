//! `wit/events.wit`: tells all hosts what happened to a login.

use super::Context;
use crate::bindings::lockgate::plugin::events::{self as wit, Error, Host};
use crate::events::{Event, Kind};

impl Host for Context {
    async fn publish(
        &mut self,
        event: wit::Event,
    ) -> wasmtime::Result<Result<wit::Published, Error>> {
        self.enter()?;
        let Some(kind) = Kind::parse(&event.event_type) else {
            return Ok(Err(Error::Invalid));
        };
        let checked = Event::new(
            kind,
            event.user_id,
            event.email,
            event.source,
            event.session_id,
            &event.details,
        );
        let Ok(event) = checked else {
            return Ok(Err(Error::Invalid));
        };
        if !self.may_write() {
            return Ok(Err(Error::Denied));
        }
        let published = self.state().events().publish(&self.store(), &event).await;
        Ok(Ok(wit::Published {
            event_id: published.event_id,
            time: published.time,
            delivered: published.delivered,
        }))
    }
}
