//! What ends a socket whatever it is about at that moment: an order to close it, the stop
//! of the host, the end of its token. It closes nothing itself.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::sleep;

use super::End;
use crate::respond::SocketFault;
use crate::sockets::Close;
use crate::websocket::Hub;

/// A token counts this long after its `exp`, seconds.
const LEEWAY: u64 = 60;
/// The clock is looked at this often, for it may be set.
pub(super) const LOOK: Duration = Duration::from_secs(4);

/// The ends that may come to one socket.
pub(super) struct Ends {
    hub: Arc<Hub>,
    order: Option<oneshot::Receiver<Close>>,
    /// Its share of the time over which sockets leave when the host stops, 0 to 1.
    share: f64,
    /// The `exp` that counts, unix seconds.
    pub(super) expires_at: Option<u64>,
}

impl Ends {
    /// Of a socket without a token, that nobody can close yet.
    pub(super) fn new(hub: Arc<Hub>) -> Ends {
        Ends {
            hub,
            order: None,
            share: rand::random_range(0.0..1.0),
            expires_at: None,
        }
    }

    /// Whoever holds the other end can order the socket to close.
    pub(super) fn obey(&mut self, order: oneshot::Receiver<Close>) {
        self.order = Some(order);
    }

    /// The end that comes first. May be dropped before it comes.
    pub(super) async fn come(&mut self) -> End {
        tokio::select! {
            biased;
            close = ordered(&mut self.order) => End::Ours(close),
            () = self.hub.leaving(self.share) => SocketFault::Stopping.into(),
            () = expired(&self.hub, self.expires_at) => SocketFault::Expired.into(),
        }
    }
}

/// Waits until a token has ended, by a clock that may be set meanwhile.
async fn expired(hub: &Hub, expires_at: Option<u64>) {
    let Some(end) = expires_at.map(|at| at.saturating_add(LEEWAY)) else {
        return pending().await;
    };
    loop {
        let left = end.saturating_sub(hub.state.clock().now());
        if left == 0 {
            return;
        }
        sleep(Duration::from_secs(left).min(LOOK)).await;
    }
}

/// Waits for an order to close. One whose sender is gone never comes.
async fn ordered(order: &mut Option<oneshot::Receiver<Close>>) -> Close {
    if let Some(receiver) = order
        && let Ok(close) = receiver.await
    {
        return close;
    }
    *order = None;
    pending().await
}
