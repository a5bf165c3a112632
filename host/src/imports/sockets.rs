//! `wit/sockets.wit`: who is connected to this host, and closing their sockets.

use super::Context;
use crate::bindings::lockgate::plugin::sockets::{Connection, Error, Host};
use crate::sockets::{self, Close};

impl From<sockets::Connection> for Connection {
    fn from(connection: sockets::Connection) -> Connection {
        Connection {
            connection_id: connection.id,
            user_id: connection.user_id,
            email: connection.email,
            role: connection.role,
            format_type: connection.format_type,
            connected_at: connection.connected_at,
            session_id: connection.session_id,
        }
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

impl Host for Context {
    fn connections(
        &mut self,
        user_id: Option<u32>,
    ) -> wasmtime::Result<Result<Vec<Connection>, Error>> {
        self.enter()?;
        if !self.grants().sockets.contains("list") {
            self.denied("sockets: list");
            return Ok(Err(Error::Denied));
        }
        let found = self.state().sockets().list(user_id);
        Ok(Ok(found.into_iter().map(Connection::from).collect()))
    }

    fn active(&mut self) -> wasmtime::Result<u32> {
        self.enter()?;
        Ok(number(self.state().sockets().count()))
    }

    fn close(
        &mut self,
        user_id: u32,
        session_id: Option<String>,
        code: u16,
        reason: String,
    ) -> wasmtime::Result<Result<u32, Error>> {
        self.enter()?;
        if !self.grants().sockets.contains("close") {
            self.denied("sockets: close");
            return Ok(Err(Error::Denied));
        }
        if !self.may_write() {
            return Ok(Err(Error::Denied));
        }
        let close = Close::new(code, &reason);
        let closed = self
            .state()
            .sockets()
            .close(user_id, session_id.as_deref(), &close);
        Ok(Ok(number(closed)))
    }
}
