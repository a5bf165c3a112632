//! Runs the steps of one scenario and says what was not as expected.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use serde_json::Value;

use super::expect::{difference, differs};
use super::file::{Expect, Scenario, Step, Swap};
use super::redis::{Held, Scripted};
use super::seconds;
use super::stage::{Answer, Setup, Stage};
use super::words::Words;
use crate::engine::Engine;

/// Callers that go on during a swap.
const CALLERS: usize = 4;

/// What one of them has seen at least after the swap.
const AFTERWARDS: u32 = 5;

/// Runs all steps; the first that fails ends it.
///
/// # Errors
/// What was not as expected, without any token in it.
pub(super) async fn scenario(
    setup: &Setup,
    engine: &Arc<Engine>,
    scenario: &Scenario,
    now: u64,
    folder: &Path,
) -> anyhow::Result<()> {
    let stage = Stage::set(setup, engine, scenario, now).await?;
    let mut words = Words::default();
    for (name, token) in &scenario.tokens {
        let token = stage
            .mint(token)
            .with_context(|| format!("token {name:?}"))?;
        words.name(name, token);
    }
    let mut run = Run {
        setup,
        folder,
        stage: Arc::new(stage),
        words,
        swaps: 0,
    };
    run.write(&scenario.store)?;
    for (index, step) in scenario.step.iter().enumerate() {
        let done = run.step(step).await;
        if let Err(error) = done {
            let said = run.words.hide(&format!("{error:#}"));
            bail!("step {}: {said}", index + 1);
        }
    }
    Ok(())
}

struct Run<'a> {
    setup: &'a Setup,
    folder: &'a Path,
    stage: Arc<Stage>,
    words: Words,
    swaps: u32,
}

impl Run<'_> {
    async fn step(&mut self, step: &Step) -> anyhow::Result<()> {
        if let Some(clock) = &step.clock {
            self.set_clock(clock)?;
        }
        if let (Some(mode), Some(redis)) = (step.redis, &self.stage.redis) {
            self.stage.turn(redis, mode).await?;
        }
        self.write(&step.store)?;
        if let Some(swap) = &step.swap {
            self.swap(swap, step).await?;
        }
        for _ in 0..step.repeat.unwrap_or(1) {
            if let (Some(request), Some(expect)) = (&step.request, &step.expect) {
                let answer = self.stage.ask(request, &self.words).await?;
                check(expect, &answer, &self.words)
                    .with_context(|| format!("{} {}", request.method, request.path))?;
                self.save(step, &answer)?;
            }
        }
        self.look(step)
    }

    fn set_clock(&self, text: &str) -> anyhow::Result<()> {
        let now = self.stage.clock.now();
        let new = match text.strip_prefix('+') {
            Some(more) => {
                let more = more.strip_suffix('s').and_then(|more| more.parse().ok());
                let more: u64 = more.context("a clock is moved by \"+60s\" or to a time")?;
                now.saturating_add(more)
            }
            None => seconds(text)?,
        };
        self.stage.clock.set(new);
        Ok(())
    }

    fn redis(&self) -> anyhow::Result<&Scripted> {
        self.stage
            .redis
            .as_ref()
            .context("the scenario has no Redis")
    }

    fn write(&self, store: &std::collections::BTreeMap<String, Value>) -> anyhow::Result<()> {
        for (key, value) in store {
            let (key, value) = (self.words.put(key)?, self.words.put_all(value)?);
            let held = match value {
                Value::String(absent) if absent == "<absent>" => None,
                Value::String(text) => Some(Held::Text(text.into_bytes())),
                Value::Array(items) => {
                    let members = items.iter().filter_map(Value::as_str);
                    Some(Held::Set(
                        members.map(|text| text.as_bytes().to_vec()).collect(),
                    ))
                }
                other => Some(Held::Text(other.to_string().into_bytes())),
            };
            self.redis()?.put(&key, held);
        }
        Ok(())
    }

    /// What Redis holds, against what it should.
    fn look(&self, step: &Step) -> anyhow::Result<()> {
        for (key, expected) in &step.stored {
            let (key, expected) = (self.words.put(key)?, self.words.put_all(expected)?);
            let held = self.redis()?.held(&key).map(|held| match held {
                Held::Text(value) => {
                    let text = String::from_utf8_lossy(&value).into_owned();
                    serde_json::from_str(&text).unwrap_or(Value::String(text))
                }
                Held::Set(members) => {
                    let members = members.iter().map(|member| String::from_utf8_lossy(member));
                    members
                        .map(|member| Value::from(member.into_owned()))
                        .collect()
                }
            });
            if let Some(difference) = difference(&expected, held.as_ref(), "") {
                bail!("in Redis, key {key}: {difference}");
            }
        }
        Ok(())
    }

    fn save(&mut self, step: &Step, answer: &Answer) -> anyhow::Result<()> {
        for (name, place) in &step.save {
            let json = answer.json().context("what is to be saved is no JSON")?;
            let value = json.pointer(place);
            let text = match value {
                Some(Value::String(text)) => text.clone(),
                Some(other) => other.to_string(),
                None => bail!("the answer has nothing at {place} that could be saved"),
            };
            self.words.name(name, text);
        }
        Ok(())
    }

    /// Swaps while callers make the step's request, each answer of which must be as
    /// expected; without a request it just swaps.
    async fn swap(&mut self, swap: &Swap, step: &Step) -> anyhow::Result<()> {
        self.swaps += 1;
        let component = match swap {
            Swap::Same(_) => with_note(&self.setup.component, self.swaps),
            Swap::File(name) => {
                let path = self.folder.join(name);
                let bytes = std::fs::read(&path);
                Bytes::from(bytes.with_context(|| format!("cannot read {}", path.display()))?)
            }
        };
        let (Some(request), Some(expect)) = (&step.request, &step.expect) else {
            return self.stage.swap(component).await;
        };
        let swapped = Arc::new(AtomicBool::new(false));
        let begun = Arc::new(AtomicU32::new(0));
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..CALLERS {
            let (stage, words) = (self.stage.clone(), self.words.clone());
            let (request, expect) = (request.clone(), expect.clone());
            let (swapped, begun) = (swapped.clone(), begun.clone());
            callers.spawn(async move {
                let mut after = 0;
                while after < AFTERWARDS {
                    after += u32::from(swapped.load(Ordering::Acquire));
                    let answer = stage.ask(&request, &words).await?;
                    begun.fetch_add(1, Ordering::Release);
                    check(&expect, &answer, &words).context("during a swap")?;
                }
                anyhow::Ok(())
            });
        }
        while begun.load(Ordering::Acquire) < AFTERWARDS && callers.len() == CALLERS {
            tokio::time::sleep(Duration::from_millis(1)).await;
            if let Some(ended) = callers.try_join_next() {
                ended??;
            }
        }
        let done = self.stage.swap(component).await;
        swapped.store(true, Ordering::Release);
        while let Some(ended) = callers.join_next().await {
            ended??;
        }
        done
    }
}

/// The same component with a custom section more (core specification, section 2.5.10 of the
/// binary format): another digest.
fn with_note(component: &Bytes, number: u32) -> Bytes {
    let note = number.to_le_bytes();
    let section = [&[0, 9, 4][..], b"note", &note].concat();
    Bytes::from([component.as_ref(), &section].concat())
}

fn check(expect: &Expect, answer: &Answer, words: &Words) -> anyhow::Result<()> {
    if answer.status != expect.status {
        bail!("expected status {}, got {}", expect.status, answer.shown());
    }
    for (name, expected) in &expect.headers {
        let expected = words.put(expected)?;
        let found = answer.headers.get_all(name.as_str());
        let found: Vec<&str> = found
            .iter()
            .filter_map(|value| value.to_str().ok())
            .collect();
        let right = match found.as_slice() {
            [] => !differs(&expected, None),
            values => values.iter().any(|value| !differs(&expected, Some(value))),
        };
        if !right {
            bail!("header {name}: expected {expected:?}, got {found:?}");
        }
    }
    if let Some(expected) = &expect.json {
        let expected = words.put_all(expected)?;
        let found = answer.json();
        if let Some(difference) = difference(&expected, found.as_ref(), "") {
            bail!("{difference}; the answer was {}", answer.shown());
        }
    }
    if let Some(expected) = &expect.body {
        let expected = words.put(expected)?;
        if differs(&expected, Some(&answer.body)) {
            bail!("expected the text {expected:?}, got {}", answer.shown());
        }
    }
    Ok(())
}
