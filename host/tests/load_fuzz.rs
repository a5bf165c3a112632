//! The load path against files that nobody wrote: generated modules and components, and
//! valid components that were damaged. No file may make it panic or hang; what it
//! accepts must hold under a second pair of eyes; what it refuses it refuses in one
//! sentence. It compiles, but runs no guest code.
//!
//! `LOCKGATE_FUZZ_CASES` is the number of cases of each kind that compile quickly; of
//! the slow ones there are a twentieth. What failed is printed with its seed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::path::Path;
use std::sync::{Arc, OnceLock, mpsc};
use std::time::Duration;

use lockgate::config::{Config, ServiceConfig};
use lockgate::engine::Engine;
use lockgate::revision::{LoadError, Revision};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{FileFailurePersistence, TestCaseResult, TestRunner};
use wasmparser::{ComponentExternalKind, Parser, Payload, Validator};

/// Section of names and the like, in modules and components.
const CUSTOM: u8 = 0;

/// Section of a component that is a whole core module.
const CORE_MODULE: u8 = 1;

/// Section of a component that is a whole component.
const COMPONENT: u8 = 4;

/// How long one file may take, compiling included. It tells a hang from a slow machine.
const GUARD: Duration = Duration::from_secs(120);

/// Has more grants than any other.
const SERVICE: &str = "service-boundary-coordinator";

fn cases() -> u32 {
    let given = std::env::var("LOCKGATE_FUZZ_CASES").ok();
    given.map_or(1500, |text| text.parse().expect("a number of cases"))
}

/// Runs a property so many times.
fn check<S: Strategy>(cases: u32, strategy: &S, property: impl Fn(S::Value) -> TestCaseResult) {
    let mut config = ProptestConfig::with_cases(cases.max(1));
    config.failure_persistence = Some(Box::new(FileFailurePersistence::Off));
    // A smaller case is worth less than a quick end.
    config.max_shrink_iters = 200;
    let mut runner = TestRunner::new(config);
    if let Err(error) = runner.run(strategy, property) {
        panic!("{error}\n{runner}");
    }
}

fn host() -> &'static (Arc<Engine>, Arc<ServiceConfig>) {
    static HOST: OnceLock<(Arc<Engine>, Arc<ServiceConfig>)> = OnceLock::new();
    HOST.get_or_init(|| {
        let config = Config::from_parts(None, |_| None).unwrap();
        let limits = config.services.iter().map(|service| &service.limits);
        let engine = Engine::new(limits, config.stack).unwrap();
        assert!(engine.is_pooled(), "tested as it runs");
        let service = config.service(SERVICE).unwrap().clone();
        (engine, Arc::new(service))
    })
}

/// What the load path says of a file, on a thread of its own. Err: it never said
/// anything, or it panicked.
fn load(bytes: &[u8]) -> Result<Result<(), LoadError>, &'static str> {
    let (done, result) = mpsc::channel();
    let bytes = bytes.to_vec();
    let thread = std::thread::spawn(move || {
        let (engine, service) = host();
        let loaded = Revision::load(engine, service.clone(), &bytes, None, None);
        let _ = done.send(loaded.map(drop));
    });
    match result.recv_timeout(GUARD) {
        Ok(said) => {
            thread.join().map_err(|_| "it panicked at its end")?;
            Ok(said)
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => Err("it panicked"),
        Err(mpsc::RecvTimeoutError::Timeout) => Err("it hangs"),
    }
}

/// Loads the file and judges the verdict. True: it was accepted.
fn judge(bytes: &[u8]) -> Result<bool, TestCaseError> {
    let said =
        load(bytes).map_err(|how| TestCaseError::fail(format!("{how}: {}", shown(bytes))))?;
    let checked = match &said {
        Ok(()) => may_serve(bytes),
        Err(error) => one_sentence(&error.to_string()),
    };
    checked.map_err(|what| TestCaseError::fail(format!("{what}: {}", shown(bytes))))?;
    Ok(said.is_ok())
}

/// The file, to be tried again: it is kept where it is too long to print.
fn shown(bytes: &[u8]) -> String {
    let path = std::env::temp_dir().join("lockgate-load-fuzz.wasm");
    let kept = std::fs::write(&path, bytes).is_ok();
    format!("{} bytes, kept in {path:?}: {kept}", bytes.len())
}

fn one_sentence(error: &str) -> Result<(), String> {
    let fits = (10..1000).contains(&error.len()) && !error.contains(|c: char| c.is_control());
    fits.then_some(())
        .ok_or_else(|| format!("no readable sentence: {error:?}"))
}

/// The second pair of eyes: a valid component by the book, with the handler as an
/// instance, and no import that was not granted.
fn may_serve(bytes: &[u8]) -> Result<(), String> {
    let valid = Validator::new().validate_all(bytes);
    valid.map_err(|error| format!("accepted, but not valid: {error}"))?;
    let (mut imports, mut handlers, mut depth) = (Vec::new(), 0, 0);
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(|error| error.to_string())? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    let import = import.map_err(|error| error.to_string())?;
                    imports.push(import.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    let export = export.map_err(|error| error.to_string())?;
                    handlers += usize::from(
                        export.kind == ComponentExternalKind::Instance
                            && fits(export.name.name, "lockgate:plugin/handler@0.1."),
                    );
                }
            }
            _ => {}
        }
    }
    if handlers != 1 {
        return Err(format!("accepted with {handlers} handlers"));
    }
    match imports.iter().find(|name| !is_granted(name)) {
        Some(import) => Err(format!("accepted with the import {import}")),
        None => Ok(()),
    }
}

/// The name begins so and ends in a number: a compatible version.
fn fits(name: &str, begin: &str) -> bool {
    name.strip_prefix(begin)
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
}

/// What the coordinator may import, written down a second time.
fn is_granted(import: &str) -> bool {
    const OWN: [&str; 12] = [
        "breakers",
        "counters",
        "csrf",
        "events",
        "fallback",
        "jwt",
        "peers",
        "redis",
        "revocations",
        "sockets",
        "types",
        "users",
    ];
    const WASI: [&str; 5] = ["cli", "clocks", "filesystem", "io", "random"];
    let own = |name: &&str| fits(import, &format!("lockgate:plugin/{name}@0.1."));
    let wasi = |name: &&str| import.starts_with(&format!("wasi:{name}/"));
    OWN.iter().any(own) || WASI.iter().any(wasi)
}

/// A small plugin, as the end-to-end tests use it.
fn small(core: &str, more: &str) -> Vec<u8> {
    let (_, frame) = include_str!("../../tests/wat/handler.wat")
        .split_once("(component")
        .unwrap();
    let whole = format!("(component{frame}")
        .replace("{pages}", "1")
        .replace("{core}", core)
        .replace("{more}", more);
    without_names(&wat::parse_str(&whole).unwrap())
}

/// Without the custom sections, in which damage would harm nothing.
fn without_names(file: &[u8]) -> Vec<u8> {
    let (mut plain, all) = sections(file).unwrap();
    for (id, contents) in all.into_iter().filter(|(id, _)| *id != CUSTOM) {
        match id {
            CORE_MODULE if plain[6] == 1 => push_section(&mut plain, id, &without_names(&contents)),
            _ => push_section(&mut plain, id, &contents),
        }
    }
    plain
}

/// Valid components that compile quickly, each with other sections.
fn bases() -> &'static [Vec<u8>] {
    static BASES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    BASES.get_or_init(|| {
        let answer =
            "(func (export \"handle\") (param i32) (result i32) (call $answer (i32.const 7)))";
        let table = "(table $t 10 funcref) (elem (i32.const 0) $answer)
            (func (export \"handle\") (param i32) (result i32)
              (call_indirect (param i32) (result i32) (i32.const 1) (i32.const 0)))";
        let imports = "(import \"lockgate:plugin/counters@0.1.0\" (instance $counters
              (export \"add\" (func (param \"name\" string) (param \"by\" u64)))))
            (core func $add (canon lower (func $counters \"add\")
              (memory $instance \"memory\") (realloc (func $instance \"realloc\"))))
            (core module $user (import \"host\" \"add\" (func (param i32 i32 i64))))
            (core instance (instantiate $user
              (with \"host\" (instance (export \"add\" (func $add))))))";
        let self_test = "(core module $quiet
              (memory (export \"memory\") 1)
              (func (export \"run\") (result i32) (i32.const 8)))
            (component $inner (core module (func (export \"f\") (result i32) (i32.const 1))))
            (instance (instantiate $inner))";
        vec![
            small(answer, ""),
            small(table, ""),
            small(answer, imports),
            small(
                answer,
                &self_test.replace("(memory (export \"memory\") 1)", ""),
            ),
        ]
    })
}

fn probe() -> Vec<u8> {
    let given = std::env::var_os("LOCKGATE_TEST_PROBE");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let path = given.map_or_else(|| root.join("target/probe/lockgate_probe.wasm"), Into::into);
    std::fs::read(&path)
        .unwrap_or_else(|error| panic!("{path:?}: {error}; run scripts/build-plugins probe"))
}

/// A way to damage a file. Places and sections are chosen when its size is known.
#[derive(Debug, Clone)]
enum Damage {
    Flip(Index, u8),
    Put(Index, u8),
    Insert(Index, Vec<u8>),
    Delete(Index, usize),
    CutOff(Index),
    /// A section once more, at another place.
    Repeat(Index, Index),
    Remove(Index),
    Exchange(Index, Index),
    /// A section of another component, at a place.
    Graft(Index, Index, Index),
    /// The begin of this file and the end of another.
    Splice(Index, Index, Index),
    /// A name that means something, in place of another of its length.
    Rename(Index),
    /// Damage within a module or component that the file holds; its length is put right.
    Within(Index, Box<Damage>),
}

/// Names as they stand in components, and what they may become.
const NAMES: [(&str, &str); 8] = [
    ("plugin/handler", "plugin/handles"),
    ("handler@0.1.0", "handler@0.2.0"),
    ("handler@0.1.0", "handler@0.1.9"),
    ("plugin/counters", "plugin/limiters"),
    ("plugin/types@0.1.0", "plugin/types@1.1.0"),
    ("plugin/counters@0.1.0", "plugin/counters@0.9.0"),
    ("lockgate:plugin/t", "wasi:sockets/tcp1"),
    ("handle", "Handle"),
];

fn damage() -> impl Strategy<Value = Damage> {
    let place = any::<Index>;
    let flat = prop_oneof![
        4 => (place(), 0..8_u8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        3 => (place(), any::<u8>()).prop_map(|(at, byte)| Damage::Put(at, byte)),
        2 => (place(), proptest::collection::vec(any::<u8>(), 1..9))
            .prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        2 => (place(), 1..17_usize).prop_map(|(at, length)| Damage::Delete(at, length)),
        1 => place().prop_map(Damage::CutOff),
        3 => (place(), place()).prop_map(|(which, to)| Damage::Repeat(which, to)),
        2 => place().prop_map(Damage::Remove),
        2 => (place(), place()).prop_map(|(one, other)| Damage::Exchange(one, other)),
        3 => (place(), place(), place()).prop_map(|(of, which, to)| Damage::Graft(of, which, to)),
        1 => (place(), place(), place()).prop_map(|(of, end, from)| Damage::Splice(of, end, from)),
        4 => place().prop_map(Damage::Rename),
    ];
    flat.prop_recursive(2, 4, 1, move |inner| {
        (place(), inner).prop_map(|(which, inside)| Damage::Within(which, Box::new(inside)))
    })
}

fn apply(damage: &Damage, file: &mut Vec<u8>, others: &[Vec<u8>]) {
    let in_file = |index: &Index| index.index(file.len().max(1)).min(file.len());
    match damage {
        Damage::Flip(at, bit) => {
            let at = in_file(at);
            file.get_mut(at)
                .into_iter()
                .for_each(|byte| *byte ^= 1 << bit);
        }
        Damage::Put(at, new) => {
            let at = in_file(at);
            file.get_mut(at).into_iter().for_each(|byte| *byte = *new);
        }
        Damage::Insert(at, bytes) => {
            let at = in_file(at);
            file.splice(at..at, bytes.iter().copied());
        }
        Damage::Delete(at, length) => {
            let at = in_file(at);
            let end = (at + length).min(file.len());
            file.drain(at..end);
        }
        Damage::CutOff(at) => file.truncate(in_file(at)),
        Damage::Rename(which) => rename(file, which),
        Damage::Splice(of, end, from) => {
            let other = of.get(others);
            let tail = &other[from.index(other.len())..];
            file.truncate(in_file(end));
            file.extend_from_slice(tail);
        }
        _ => rearrange(damage, file, others),
    }
}

/// The kinds of damage that leave sections whole.
fn rearrange(damage: &Damage, file: &mut Vec<u8>, others: &[Vec<u8>]) {
    let Some((header, mut sections)) = sections(file) else {
        return;
    };
    let count = sections.len();
    match damage {
        Damage::Repeat(which, to) => {
            let again = which.get(&sections).clone();
            sections.insert(to.index(count + 1), again);
        }
        Damage::Remove(which) => drop(sections.remove(which.index(count))),
        Damage::Exchange(one, other) => sections.swap(one.index(count), other.index(count)),
        Damage::Graft(of, which, to) => {
            if let Some((_, others)) = self::sections(of.get::<Vec<u8>>(others)) {
                sections.insert(to.index(count + 1), which.get(&others).clone());
            }
        }
        Damage::Within(which, inside) => {
            let mut files: Vec<&mut (u8, Vec<u8>)> = sections
                .iter_mut()
                .filter(|(id, _)| matches!(*id, CORE_MODULE | COMPONENT))
                .collect();
            let count = files.len();
            if count > 0 {
                apply(inside, &mut files[which.index(count)].1, others);
            }
        }
        _ => {}
    }
    file.clear();
    file.extend_from_slice(&header);
    for (id, contents) in sections {
        push_section(file, id, &contents);
    }
}

/// The id of a section, and what is in it.
type Section = (u8, Vec<u8>);

/// A module's or component's header and its sections, if it is whole and has any.
fn sections(file: &[u8]) -> Option<(Vec<u8>, Vec<Section>)> {
    let (header, mut rest) = file.split_at_checked(8)?;
    let mut sections = Vec::new();
    while let Some((id, more)) = rest.split_first() {
        let mut reader = wasmparser::BinaryReader::new(more, 0);
        let length = reader.read_var_u32().ok()? as usize;
        let start = reader.current_position();
        let contents = more.get(start..start + length)?;
        sections.push((*id, contents.to_vec()));
        rest = more.get(start + length..)?;
    }
    (!sections.is_empty()).then(|| (header.to_vec(), sections))
}

fn push_section(file: &mut Vec<u8>, id: u8, contents: &[u8]) {
    file.push(id);
    let mut length = contents.len();
    while length >= 0x80 {
        file.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    file.push(length as u8);
    file.extend_from_slice(contents);
}

fn rename(file: &mut [u8], which: &Index) {
    let (from, to) = which.get(&NAMES);
    let places: Vec<usize> = file
        .windows(from.len())
        .enumerate()
        .filter_map(|(at, window)| (window == from.as_bytes()).then_some(at))
        .collect();
    for at in places {
        file[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
}

fn damaged(base: &[u8], damages: &[Damage]) -> Vec<u8> {
    let mut file = base.to_vec();
    for damage in damages {
        apply(damage, &mut file, bases());
    }
    file
}

#[test]
fn the_bases_themselves_are_accepted() {
    for (index, base) in bases().iter().enumerate() {
        assert_eq!(load(base), Ok(Ok(())), "base {index}");
        assert_eq!(may_serve(base), Ok(()), "base {index}");
    }
    assert_eq!(load(&probe()), Ok(Ok(())));
    assert_eq!(may_serve(&probe()), Ok(()));
}

#[test]
fn the_second_pair_of_eyes_sees() {
    let base = &bases()[2];
    let renamed = |from: &str, to: &str| {
        let text = |name: &str| name.as_bytes().to_vec();
        let at = base
            .windows(from.len())
            .position(|w| w == text(from))
            .unwrap();
        let mut file = base.clone();
        file[at..at + to.len()].copy_from_slice(&text(to));
        may_serve(&file).unwrap_err()
    };
    let said = renamed("plugin/counters", "plugin/limiters");
    assert!(
        said.contains("the import lockgate:plugin/limiters"),
        "{said}"
    );
    let said = renamed("handler@0.1.0", "handler@0.2.0");
    assert!(said.contains("0 handlers"), "{said}");
    assert!(may_serve(&base[..base.len() - 1]).is_err());
}

#[test]
fn damaged_components() {
    let damages = proptest::collection::vec(damage(), 1..4);
    let accepted = std::cell::Cell::new(0);
    check(cases(), &(any::<Index>(), damages), |(base, damages)| {
        let file = damaged(base.get::<Vec<u8>>(bases()), &damages);
        accepted.set(accepted.get() + u32::from(judge(&file)?));
        Ok(())
    });
    // Some damage harms nothing: a custom section, the names of functions.
    assert!(
        cases() < 500 || accepted.get() > 0,
        "every file was refused"
    );
}

#[test]
fn a_damaged_plugin() {
    let probe = probe();
    let damages = proptest::collection::vec(damage(), 1..3);
    check(cases() / 20, &damages, |damages| {
        judge(&damaged(&probe, &damages))?;
        Ok(())
    });
}

/// Raw material for the generator.
fn material() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 64..2048)
}

#[test]
fn generated_modules() {
    check(cases() / 4, &material(), |material| {
        let mut source = arbitrary::Unstructured::new(&material);
        let config = wasm_smith::Config::default();
        if let Ok(module) = wasm_smith::Module::new(config, &mut source) {
            prop_assert!(!judge(&module.to_bytes())?, "a module is no component");
        }
        Ok(())
    });
}

#[test]
fn generated_components() {
    let modern = any::<bool>();
    check(cases(), &(material(), modern), |(material, modern)| {
        let mut source = arbitrary::Unstructured::new(&material);
        if let Ok(component) = wasm_smith::Component::new(generator(modern), &mut source) {
            judge(&component.to_bytes())?;
        }
        Ok(())
    });
}

/// What is generated: all that there is, or what the host has not switched off.
fn generator(modern: bool) -> wasm_smith::Config {
    let mut config = wasm_smith::Config::default();
    if !modern {
        config.gc_enabled = false;
        config.exceptions_enabled = false;
        config.memory64_enabled = false;
        config.threads_enabled = false;
        config.max_memories = 0;
    }
    config
}

/// A valid plugin that brings a generated module along, as one of its own would be:
/// what the compiler gets to see from an accepted file.
#[test]
fn plugins_with_a_generated_module() {
    let accepted = std::cell::Cell::new(0);
    let modern = any::<bool>();
    check(cases() / 4, &(material(), modern), |(material, modern)| {
        let mut source = arbitrary::Unstructured::new(&material);
        if let Ok(module) = wasm_smith::Module::new(generator(modern), &mut source) {
            let mut file = bases()[0].clone();
            push_section(&mut file, CORE_MODULE, &module.to_bytes());
            accepted.set(accepted.get() + u32::from(judge(&file)?));
        }
        Ok(())
    });
    assert!(
        cases() < 500 || accepted.get() > 0,
        "every file was refused"
    );
}
