//! The one connection to Postgres, made when it is needed and made anew when it is
//! gone. All looks share it: each is one round trip. It sets nothing in the session and
//! does not judge what the server says.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::Mutex;
use tokio_postgres::{Client, Error};
use tokio_util::task::AbortOnDropHandle;

use super::target::Target;

/// Looks in a row that may remain without an answer before the connection is given up.
/// Fewer would leave a busy server with many connections that nobody reads.
const PATIENCE: u32 = 5;

/// The connection.
pub(super) struct Link {
    target: Target,
    current: Mutex<Option<Arc<Open>>>,
    unanswered: AtomicU32,
}

/// An open connection; it ends when the last look that uses it is done.
pub(super) struct Open {
    client: Client,
    _running: AbortOnDropHandle<()>,
}

impl std::ops::Deref for Open {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Link").finish_non_exhaustive()
    }
}

impl Link {
    pub(super) fn new(target: Target) -> Link {
        Link {
            target,
            current: Mutex::new(None),
            unanswered: AtomicU32::new(0),
        }
    }

    /// The open connection, or a new one; one is made at a time.
    pub(super) async fn client(&self) -> Result<Arc<Open>, Error> {
        let mut current = self.current.lock().await;
        if let Some(open) = current.as_ref().filter(|open| !open.is_closed()) {
            return Ok(Arc::clone(open));
        }
        *current = None;
        let (client, connection) = self.target.config.connect(self.target.tls.clone()).await?;
        let running = tokio::spawn(async move {
            // Whoever is waiting for an answer is told.
            let _ = connection.await;
        });
        let open = Arc::new(Open {
            client,
            _running: AbortOnDropHandle::new(running),
        });
        *current = Some(Arc::clone(&open));
        Ok(open)
    }

    /// The server answered.
    pub(super) fn answered(&self) {
        self.unanswered.store(0, Ordering::Relaxed);
    }

    /// The server did not answer in time.
    pub(super) async fn silent(&self) {
        if self.unanswered.fetch_add(1, Ordering::Relaxed) + 1 >= PATIENCE {
            self.answered();
            self.drop_current().await;
        }
    }

    /// The next look connects anew.
    pub(super) async fn drop_current(&self) {
        *self.current.lock().await = None;
    }
}
