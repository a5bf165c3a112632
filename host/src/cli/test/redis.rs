//! A Redis that does as a test says: it speaks the protocol on a loopback port, so that the
//! host's own client, breaker and time limits are in the test, keeps its keys in memory, and
//! ends them by the test's clock. It knows the commands that this host sends, and no others.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redis::Value as Wire;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::file::RedisMode;
use crate::clock::Clock;
use crate::store::redis::scripts;

/// What a key holds.
#[derive(Debug, Clone)]
pub(super) enum Held {
    Text(Vec<u8>),
    Set(BTreeSet<Vec<u8>>),
}

type Keys = BTreeMap<Vec<u8>, (Held, u64)>;

/// The scripted server.
#[derive(Debug, Clone)]
pub(super) struct Scripted {
    keys: Arc<Mutex<Keys>>,
    events: Arc<Mutex<Vec<Vec<u8>>>>,
    clock: Clock,
    mode: watch::Sender<RedisMode>,
}

const NEVER: u64 = u64::MAX;

impl Scripted {
    /// Listens on a free port until the runtime ends.
    pub(super) async fn start(clock: Clock) -> std::io::Result<(Scripted, SocketAddr)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let server = Scripted {
            keys: Arc::default(),
            events: Arc::default(),
            clock,
            mode: watch::Sender::new(RedisMode::Up),
        };
        let serving = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // As refused as a connection to a port can be on which somebody listens.
                if *serving.mode.borrow() != RedisMode::Down {
                    tokio::spawn(serving.clone().talk(stream));
                }
            }
        });
        Ok((server, address))
    }

    /// What it does from now on.
    pub(super) fn set_mode(&self, mode: RedisMode) {
        self.mode.send_replace(mode);
    }

    /// What a key holds now.
    pub(super) fn held(&self, key: &str) -> Option<Held> {
        self.live()
            .get(key.as_bytes())
            .map(|(held, _)| held.clone())
    }

    /// Writes a key that never ends, past every client; none deletes it.
    pub(super) fn put(&self, key: &str, held: Option<Held>) {
        let key = key.as_bytes().to_vec();
        match held {
            Some(held) => self.live().insert(key, (held, NEVER)),
            None => self.live().remove(&key),
        };
    }

    async fn talk(self, mut stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let mut mode = self.mode.subscribe();
        let mut buffer = Vec::new();
        loop {
            while *mode.borrow_and_update() == RedisMode::Slow {
                if mode.changed().await.is_err() {
                    return;
                }
            }
            if *mode.borrow() == RedisMode::Down {
                return;
            }
            while let Some((command, used)) = next(&buffer) {
                buffer.drain(..used);
                let answer = self.answer(&command);
                if stream.write_all(&answer).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                _ = mode.changed() => {}
                read = stream.read_buf(&mut buffer) => match read {
                    Ok(1..) => {}
                    Ok(0) | Err(_) => return,
                },
            }
        }
    }

    /// The keys that have not ended.
    fn live(&self) -> MutexGuard<'_, Keys> {
        let now = self.clock.now();
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.retain(|_, (_, ends)| *ends > now);
        keys
    }

    fn answer(&self, command: &[Vec<u8>]) -> Vec<u8> {
        let mut words = command.iter().map(Vec::as_slice);
        let name = words.next().unwrap_or_default().to_ascii_uppercase();
        let arguments: Vec<&[u8]> = words.collect();
        let name = String::from_utf8_lossy(&name).into_owned();
        self.known(&name, &arguments)
            .unwrap_or_else(|| format!("-ERR unknown command {name}\r\n").into_bytes())
    }

    fn known(&self, name: &str, arguments: &[&[u8]]) -> Option<Vec<u8>> {
        let first = arguments.first().copied();
        Some(match (name, first) {
            ("HELLO", _) => b"%1\r\n$5\r\nproto\r\n:3\r\n".to_vec(),
            ("CLIENT", Some(b"SETINFO" | b"SETNAME")) | ("SELECT" | "AUTH", _) => ok(),
            ("PING", _) => b"+PONG\r\n".to_vec(),
            ("ROLE", _) => list(&[bulk(b"master"), number(0), list(&[])]),
            ("INFO", _) => bulk(b"maxmemory_policy:noeviction\r\n"),
            ("SUBSCRIBE", Some(channel)) => [
                b">3\r\n".to_vec(),
                bulk(b"subscribe"),
                bulk(channel),
                number(1),
            ]
            .concat(),
            ("PUBLISH", _) => number(0),
            ("XADD", _) => {
                let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
                events.push(arguments.last()?.to_vec());
                bulk(format!("{}-0", events.len()).as_bytes())
            }
            ("XRANGE" | "XREVRANGE", _) => list(&[]),
            ("SCAN", _) => {
                let pattern = arguments.get(2).copied().unwrap_or(b"*");
                let start = pattern.strip_suffix(b"*").unwrap_or(pattern);
                let keys = self.live();
                let found = keys.keys().filter(|key| key.starts_with(start));
                let found: Vec<Vec<u8>> = found.map(|key| bulk(key)).collect();
                list(&[bulk(b"0"), list(&found)])
            }
            ("MGET", _) => {
                let keys = self.live();
                let value = |key: &&[u8]| match keys.get(*key) {
                    Some((Held::Text(value), _)) => bulk(value),
                    _ => nil(),
                };
                list(&arguments.iter().map(value).collect::<Vec<_>>())
            }
            ("DEL", _) => {
                let mut keys = self.live();
                let gone = arguments.iter().filter(|key| keys.remove(**key).is_some());
                number(i64::try_from(gone.count()).ok()?)
            }
            ("EVAL", Some(script)) => self.eval(script, arguments.get(2)?, arguments.get(3..)?)?,
            (_, Some(key)) => self.of_key(name, key, arguments.get(1..)?)?,
            _ => return None,
        })
    }

    /// A command on one key.
    fn of_key(&self, name: &str, key: &[u8], rest: &[&[u8]]) -> Option<Vec<u8>> {
        let mut keys = self.live();
        let held = keys.get(key).map(|(held, _)| held.clone());
        let is_set = matches!(name, "SREM" | "SISMEMBER" | "SMEMBERS");
        match (&held, name) {
            (Some(Held::Set(_)), "GET" | "GETDEL") => return Some(wrong_type()),
            (Some(Held::Text(_)), _) if is_set => return Some(wrong_type()),
            _ => {}
        }
        let now = self.clock.now();
        Some(match name {
            "GET" | "GETDEL" => {
                if name == "GETDEL" {
                    keys.remove(key);
                }
                match held {
                    Some(Held::Text(value)) => bulk(&value),
                    _ => nil(),
                }
            }
            "SET" => {
                if rest.get(3) == Some(&b"NX".as_slice()) && held.is_some() {
                    return Some(nil());
                }
                let ends = now.saturating_add(integer(rest.get(2)?)?);
                keys.insert(key.to_vec(), (Held::Text(rest.first()?.to_vec()), ends));
                ok()
            }
            "EXPIRE" => match keys.get_mut(key) {
                Some((_, ends)) => {
                    *ends = now.saturating_add(integer(rest.first()?)?);
                    number(1)
                }
                None => number(0),
            },
            "PTTL" => match keys.get(key) {
                None => number(-2),
                Some((_, NEVER)) => number(-1),
                Some((_, ends)) => number(i64::try_from((ends - now).saturating_mul(1000)).ok()?),
            },
            "SREM" => {
                let mut members = members(held);
                let removed = members.remove(*rest.first()?);
                match (members.is_empty(), keys.get_mut(key)) {
                    (true, _) => drop(keys.remove(key)),
                    (false, Some((held, _))) => *held = Held::Set(members),
                    (false, None) => {}
                }
                number(removed.into())
            }
            "SISMEMBER" => number(members(held).contains(*rest.first()?).into()),
            "SMEMBERS" => {
                let members: Vec<Vec<u8>> =
                    members(held).iter().map(|member| bulk(member)).collect();
                list(&members)
            }
            _ => return None,
        })
    }

    /// One of the scripts of the host, on one key.
    fn eval(&self, script: &[u8], key: &[u8], rest: &[&[u8]]) -> Option<Vec<u8>> {
        let mut keys = self.live();
        let held = keys.get(key).cloned();
        let now = self.clock.now();
        let ends = |word: &[u8]| integer(word).map(|ttl| now.saturating_add(ttl));
        Some(if script == scripts::COMPARE_AND_SET.as_bytes() {
            match held {
                Some((Held::Set(_), _)) => wrong_type(),
                Some((Held::Text(value), _)) if value == *rest.first()? => {
                    let new = Held::Text(rest.get(1)?.to_vec());
                    keys.insert(key.to_vec(), (new, ends(rest.get(2)?)?));
                    number(1)
                }
                _ => number(0),
            }
        } else if script == scripts::INCREMENT.as_bytes() {
            let by: i64 = text(rest.first()?)?.parse().ok()?;
            let (value, until) = match held {
                Some((Held::Set(_), _)) => return Some(wrong_type()),
                Some((Held::Text(value), until)) => (text(&value)?.parse::<i64>().ok(), until),
                None => (Some(0), NEVER),
            };
            let Some(sum) = value.and_then(|value| value.checked_add(by)) else {
                return Some(b"-ERR value is not an integer or out of range\r\n".to_vec());
            };
            let until = if until == NEVER {
                ends(rest.get(1)?)?
            } else {
                until
            };
            keys.insert(
                key.to_vec(),
                (Held::Text(sum.to_string().into_bytes()), until),
            );
            number(sum)
        } else if script == scripts::SET_ADD.as_bytes() {
            if matches!(held, Some((Held::Text(_), _))) {
                return Some(wrong_type());
            }
            let mut members = members(held.map(|(held, _)| held));
            let added = members.insert(rest.first()?.to_vec());
            keys.insert(key.to_vec(), (Held::Set(members), ends(rest.get(1)?)?));
            number(added.into())
        } else {
            return None;
        })
    }
}

/// The next whole command and its length.
fn next(buffer: &[u8]) -> Option<(Vec<Vec<u8>>, usize)> {
    // The crate reads one value and does not say how long it was: its own packing does.
    let Ok(Wire::Array(words)) = redis::parse_redis_value(buffer) else {
        return None;
    };
    let words: Option<Vec<Vec<u8>>> = words
        .into_iter()
        .map(|word| match word {
            Wire::BulkString(word) => Some(word),
            _ => None,
        })
        .collect();
    let words = words?;
    let mut command = redis::Cmd::new();
    for word in &words {
        command.arg(word);
    }
    let length = command.get_packed_command().len();
    Some((words, length))
}

fn members(held: Option<Held>) -> BTreeSet<Vec<u8>> {
    match held {
        Some(Held::Set(members)) => members,
        _ => BTreeSet::new(),
    }
}

fn text(word: &[u8]) -> Option<&str> {
    std::str::from_utf8(word).ok()
}

fn integer(word: &[u8]) -> Option<u64> {
    text(word)?.parse().ok()
}

fn ok() -> Vec<u8> {
    b"+OK\r\n".to_vec()
}

fn nil() -> Vec<u8> {
    b"_\r\n".to_vec()
}

fn wrong_type() -> Vec<u8> {
    b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n".to_vec()
}

fn number(number: i64) -> Vec<u8> {
    format!(":{number}\r\n").into_bytes()
}

fn bulk(value: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat()
}

fn list(items: &[Vec<u8>]) -> Vec<u8> {
    [format!("*{}\r\n", items.len()).into_bytes(), items.concat()].concat()
}
