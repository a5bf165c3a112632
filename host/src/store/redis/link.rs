//! A connection of its own on which the server tells what happens. It owns the
//! subscription and knows when it is lost; what is told is for others to judge.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, PushInfo, PushKind, RedisResult, Value};
use tokio::sync::mpsc;

use super::Redis;
use super::health::{code, describe};
use crate::store::{Error, Result};

/// A live subscription; dropping it ends it.
#[derive(Debug)]
pub struct Link {
    connection: MultiplexedConnection,
    alive: Arc<AtomicBool>,
    tracks: bool,
    timeout: Duration,
}

impl Redis {
    /// Subscribes to a channel. What is published from now on goes to `heard`, which is
    /// closed when the link is lost. A receiver that is full loses the link: what it
    /// missed has to be read. `changed` is called at once, and must not wait, with each
    /// key that begins with one of `prefixes` and is written or ends (none: all of them).
    /// A cluster, and a server that refuses, do not tell of those: see [`Link::tracks`].
    ///
    /// # Errors
    /// [`Error::Denied`] without the right to the channel, [`Error::Unavailable`] without
    /// a connection.
    pub async fn listen(
        &self,
        channel: &str,
        heard: mpsc::Sender<Vec<u8>>,
        prefixes: &[&str],
        changed: impl Fn(Option<&[u8]>) + Send + Sync + 'static,
    ) -> Result<Link> {
        let alive = Arc::new(AtomicBool::new(true));
        let told = Arc::clone(&alive);
        let config = AsyncConnectionConfig::new()
            .set_push_sender(move |push: PushInfo| take(push, &heard, &changed, &told));
        let subscribing = async {
            let mut connection = self.connector.listen(config).await?;
            connection.subscribe(channel).await?;
            let mut tracks = false;
            if !self.connector.is_cluster() {
                let mut tracking = ::redis::cmd("CLIENT");
                tracking.arg("TRACKING").arg("ON").arg("BCAST");
                for prefix in prefixes {
                    tracking.arg("PREFIX").arg(prefix);
                }
                let answer: RedisResult<Value> = tracking.query_async(&mut connection).await;
                tracks = answer.is_ok();
                if let Err(error) = answer {
                    self.health.denied(&error);
                    tracing::info!(fault = describe(&error), "redis: tells of no changes");
                }
            }
            Ok::<_, ::redis::RedisError>((connection, tracks))
        };
        match subscribing.await {
            Ok((connection, tracks)) => Ok(Link {
                connection,
                alive,
                tracks,
                timeout: self.command_timeout,
            }),
            Err(error) => {
                // Whether Redis can be used is said by its commands.
                self.health.denied(&error);
                tracing::debug!(fault = describe(&error), "redis: no subscription");
                Err(match code(&error).as_deref() {
                    Some("NOPERM") => Error::Denied,
                    _ => Error::Unavailable,
                })
            }
        }
    }
}

/// Called by the connection; must not wait.
fn take(
    push: PushInfo,
    heard: &mpsc::Sender<Vec<u8>>,
    changed: &impl Fn(Option<&[u8]>),
    alive: &AtomicBool,
) -> std::result::Result<(), ()> {
    let lost = match push.kind {
        PushKind::Message => match push.data.into_iter().nth(1) {
            Some(Value::BulkString(payload)) => heard.try_send(payload).is_err(),
            _ => false,
        },
        PushKind::Invalidate => {
            match push.data.into_iter().next() {
                Some(Value::Array(keys)) => keys.iter().for_each(|key| {
                    if let Value::BulkString(key) = key {
                        changed(Some(key));
                    }
                }),
                _ => changed(None),
            }
            false
        }
        PushKind::Disconnection => true,
        _ => false,
    };
    if lost {
        alive.store(false, Ordering::SeqCst);
        return Err(());
    }
    Ok(())
}

impl Drop for Link {
    fn drop(&mut self) {
        self.alive.store(false, Ordering::SeqCst);
    }
}

impl Link {
    /// What [`Link::alive`] says, for others to look at.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.alive)
    }

    /// True if changes of keys are told.
    pub fn tracks(&self) -> bool {
        self.tracks
    }

    /// False for ever once something may have been missed.
    pub fn alive(&self) -> bool {
        self.alive.load(Ordering::SeqCst)
    }

    /// Asks for a sign of life, because a connection can die without a word. False:
    /// there was none.
    pub async fn beat(&mut self) -> bool {
        let ping = ::redis::cmd("PING");
        let ping = ping.query_async::<Value>(&mut self.connection);
        let answered = tokio::time::timeout(self.timeout, ping).await;
        self.alive() && matches!(answered, Ok(Ok(_)))
    }
}
