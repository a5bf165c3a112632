//! `wit/peers.wit`: what the background probes found last. Nothing here waits.

use super::Context;
use crate::bindings::lockgate::plugin::peers::{self as wit, Host, Peer, Reachability};
use crate::peers::{Status, View};
use crate::state;

impl From<View> for Peer {
    fn from(view: View) -> Peer {
        Peer {
            name: view.name,
            url: view.url,
            port: view.port,
            status: match view.status {
                Status::Healthy => wit::Status::Healthy,
                Status::Degraded => wit::Status::Degraded,
                Status::Error => wit::Status::Error,
                Status::CircuitOpen => wit::Status::CircuitOpen,
                Status::Unknown => wit::Status::Unknown,
            },
            response_time_ms: view.response_time_ms,
            error_count: view.error_count,
            last_check: view.last_check,
            error_message: view.error_message,
        }
    }
}

impl Host for Context {
    fn snapshot(&mut self) -> wasmtime::Result<Vec<Peer>> {
        self.enter()?;
        let peers = self.state().peers();
        let found = peers.snapshot(&self.service().name, &self.grants().peers);
        Ok(found.into_iter().map(Peer::from).collect())
    }

    fn probes(&mut self) -> wasmtime::Result<u64> {
        self.enter()?;
        Ok(self.state().peers().probes())
    }

    fn dependency(&mut self, name: String) -> wasmtime::Result<Reachability> {
        self.enter()?;
        Ok(match self.state().dependency(&name) {
            state::Reachability::Connected => Reachability::Connected,
            state::Reachability::Disconnected => Reachability::Disconnected,
            state::Reachability::NotConfigured => Reachability::NotConfigured,
        })
    }
}
