//! What is read to catch up: the stream of events, and the keys by pages. It knows
//! neither what events say nor what keys mean.

use ::redis::Value;
use ::redis::cluster_routing::SingleNodeRoutingInfo;
use ::redis::streams::{StreamId, StreamRangeReply};

use super::Redis;
use crate::store::{Result, Store};

/// Place of an event in the stream: milliseconds, and a number within them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place(u64, u64);

impl Place {
    fn parse(id: &str) -> Option<Place> {
        let (millis, number) = id.split_once('-')?;
        Some(Place(millis.parse().ok()?, number.parse().ok()?))
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}-{}", self.0, self.1)
    }
}

/// A place among all keys; the default is the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cursor {
    /// Which of several servers.
    server: usize,
    /// The server's own cursor.
    at: u64,
}

/// The server's next cursor, and keys.
type Page = (u64, Vec<Vec<u8>>);

/// A key, its value and how long it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Vec<u8>,
    /// Seconds, rounded up; none: for ever.
    pub left: Option<u64>,
}

impl Redis {
    /// The events after `place`, oldest first, at most `limit`, each with its payload
    /// (empty for an entry that is not of ours).
    ///
    /// # Errors
    /// As every command.
    pub async fn events_after(
        &self,
        stream: &str,
        place: Place,
        limit: usize,
    ) -> Result<Vec<(Place, Vec<u8>)>> {
        let mut range = ::redis::cmd("XRANGE");
        range.arg(stream).arg(format!("({place}")).arg("+");
        let reply: StreamRangeReply = self.query(range.arg("COUNT").arg(limit)).await?;
        let read = |entry: &StreamId| {
            let payload = entry.get::<Vec<u8>>("event").unwrap_or_default();
            Some((Place::parse(&entry.id)?, payload))
        };
        Ok(reply.ids.iter().filter_map(read).collect())
    }

    /// Place of the oldest event that is still there; none if there is no event.
    ///
    /// # Errors
    /// As every command.
    pub async fn oldest_event(&self, stream: &str) -> Result<Option<Place>> {
        self.end_of_stream("XRANGE", stream, "-", "+").await
    }

    /// Place of the newest event; none if there is no event.
    ///
    /// # Errors
    /// As every command.
    pub async fn newest_event(&self, stream: &str) -> Result<Option<Place>> {
        self.end_of_stream("XREVRANGE", stream, "+", "-").await
    }

    async fn end_of_stream(
        &self,
        command: &str,
        stream: &str,
        from: &str,
        to: &str,
    ) -> Result<Option<Place>> {
        let mut range = ::redis::cmd(command);
        range.arg(stream).arg(from).arg(to).arg("COUNT").arg(1);
        let reply: StreamRangeReply = self.query(&range).await?;
        Ok(reply.ids.first().and_then(|entry| Place::parse(&entry.id)))
    }

    /// One page of the keys that match, and where the next page begins; none after the
    /// last. A key that is there all the time is on a page at least once, unless servers
    /// come or go meanwhile.
    ///
    /// # Errors
    /// As every command.
    pub async fn scan(
        &self,
        cursor: Cursor,
        pattern: &str,
        count: usize,
    ) -> Result<(Option<Cursor>, Vec<String>)> {
        let mut scan = ::redis::cmd("SCAN");
        scan.arg(cursor.at).arg("MATCH").arg(pattern);
        scan.arg("COUNT").arg(count);
        let masters = if self.connector.is_cluster() {
            self.masters().await?
        } else {
            Vec::new()
        };
        let (at, keys): Page = match masters.get(cursor.server) {
            Some((host, port)) => {
                let (host, port) = (host.clone(), *port);
                let there = SingleNodeRoutingInfo::ByAddress { host, port };
                self.query_at(scan, there).await?
            }
            None if masters.is_empty() => self.query(&scan).await?,
            None => return Ok((None, Vec::new())),
        };
        let keys = keys
            .into_iter()
            .filter_map(|key| String::from_utf8(key).ok());
        let server = cursor.server;
        let next = match at {
            0 if server + 1 < masters.len() => Some(Cursor {
                server: server + 1,
                at,
            }),
            0 => None,
            _ => Some(Cursor { server, at }),
        };
        Ok((next, keys.collect()))
    }

    /// The masters of the cluster, in order.
    async fn masters(&self) -> Result<Vec<(String, u16)>> {
        let mut slots = ::redis::cmd("CLUSTER");
        slots.arg("SLOTS");
        let anywhere = SingleNodeRoutingInfo::Random;
        // First slot, last slot, the master, its replicas.
        let ranges: Vec<Vec<Value>> = self.query_at(slots, anywhere).await?;
        let master = |range: &Vec<Value>| match range.get(2) {
            Some(Value::Array(node)) => match node.as_slice() {
                [Value::BulkString(host), Value::Int(port), ..] => Some((
                    String::from_utf8(host.clone()).ok()?,
                    u16::try_from(*port).ok()?,
                )),
                _ => None,
            },
            _ => None,
        };
        let mut masters: Vec<_> = ranges.iter().filter_map(master).collect();
        masters.sort();
        masters.dedup();
        Ok(masters)
    }

    /// What is there under these keys, with its time to live.
    ///
    /// # Errors
    /// As every command.
    pub async fn held(&self, keys: &[String]) -> Result<Vec<Held>> {
        let values = self.get_many(keys).await?;
        let there = keys.iter().zip(values);
        let there: Vec<_> = there
            .filter_map(|(key, value)| Some((key, value?)))
            .collect();
        if there.is_empty() {
            return Ok(Vec::new());
        }
        let ends = there.iter().map(|(key, _)| {
            let mut ends = ::redis::cmd("PTTL");
            ends.arg(key);
            ends
        });
        let left: Vec<i64> = self.query_all(ends.collect()).await?;
        // -1: it stays for ever. -2: it has ended meanwhile.
        let held = there.into_iter().zip(left).filter(|(_, left)| *left != -2);
        let held = held.map(|((key, value), left)| Held {
            key: key.clone(),
            value,
            left: u64::try_from(left).ok().map(|millis| millis.div_ceil(1000)),
        });
        Ok(held.collect())
    }
}
