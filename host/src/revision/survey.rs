//! What a file says of itself: imports, exports and the tools that made it. Nothing is
//! compiled, nothing is judged; of a broken file it tells what can be read of it.

use std::collections::BTreeMap;

use serde::Serialize;
use wasmparser::component_types::{ComponentEntityType, ComponentItem};
use wasmparser::types::Types;
use wasmparser::{KnownCustom, Parser, Payload, ProducersSectionReader, Validator, WasmFeatures};

use super::LoadError;
use super::imports;
use crate::config::{Contract, Grants};

/// What was found in a file.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Survey {
    /// In the file's order.
    pub imports: Vec<Item>,
    /// In the file's order.
    pub exports: Vec<Item>,
    /// `language`, `sdk` and `processed-by`, each with names and versions.
    pub producers: BTreeMap<String, BTreeMap<String, String>>,
}

/// One import or export of the component itself.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Item {
    /// As the component names it.
    pub name: String,
    /// The functions, if it is an interface and the component is valid.
    pub functions: Vec<String>,
}

impl Survey {
    /// Reads what can be read.
    pub fn of(bytes: &[u8]) -> Survey {
        let mut survey = Survey::default();
        // Depth below the outermost component or module.
        let mut depth = 0_usize;
        for payload in Parser::new(0).parse_all(bytes) {
            let Ok(payload) = payload else {
                break;
            };
            match payload {
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentImportSection(section) if depth == 0 => {
                    let names = section.into_iter().flatten().map(|import| import.name.name);
                    survey.imports.extend(names.map(Item::new));
                }
                Payload::ComponentExportSection(section) if depth == 0 => {
                    let names = section.into_iter().flatten().map(|export| export.name.name);
                    survey.exports.extend(names.map(Item::new));
                }
                Payload::CustomSection(section) => {
                    if let KnownCustom::Producers(producers) = section.as_known() {
                        survey.note(producers);
                    }
                }
                _ => {}
            }
        }
        let mut validator = Validator::new_with_features(WasmFeatures::all());
        if let Ok(types) = validator.validate_all(bytes) {
            for item in &mut survey.imports {
                item.functions = functions(&types, types.component_item_for_import(&item.name));
            }
            for item in &mut survey.exports {
                item.functions = functions(&types, types.component_item_for_export(&item.name));
            }
        }
        survey
    }

    fn note(&mut self, producers: ProducersSectionReader<'_>) {
        for field in producers.into_iter().flatten() {
            let known = self.producers.entry(field.name.to_owned()).or_default();
            for value in field.values.into_iter().flatten() {
                known.insert(value.name.to_owned(), value.version.to_owned());
            }
        }
    }

    /// The interfaces that a service must be granted, in order.
    pub fn needs(&self) -> Vec<&str> {
        let mut needs: Vec<&str> = self
            .imports
            .iter()
            .filter_map(|item| imports::interface(&item.name))
            .filter(|interface| *interface != "types")
            .collect();
        needs.sort_unstable();
        needs.dedup();
        needs
    }

    /// The imports that no service can be granted, with the words of the refusal.
    pub fn not_linked(&self, contract: Option<Contract>) -> Vec<LoadError> {
        let all = Grants::of_a_replay();
        let contract = contract.unwrap_or_default();
        self.imports
            .iter()
            .filter_map(|item| imports::judge(&item.name, "", contract, &all).err())
            .collect()
    }
}

impl Item {
    fn new(name: &str) -> Item {
        Item {
            name: name.to_owned(),
            functions: Vec::new(),
        }
    }
}

#[expect(clippy::indexing_slicing, reason = "the id comes from these types")]
fn functions(types: &Types, item: Option<&ComponentItem>) -> Vec<String> {
    let Some(ComponentEntityType::Instance(id)) = item.map(|item| item.ty) else {
        return Vec::new();
    };
    let types = types.as_ref();
    types[id]
        .exports
        .iter()
        .filter(|(_, item)| matches!(item.ty, ComponentEntityType::Func(_)))
        .map(|(name, _)| name.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPONENT: &str = r#"(component
        (import "lockgate:plugin/redis@0.1.0" (instance
            (export "expire" (func (param "key" string) (param "ttl" u32)))))
        (import "wasi:sockets/tcp@0.2.4" (instance))
        (import "lockgate:plugin/jwt@0.2.0" (instance))
        (component (import "inner" (func)))
        (instance $none)
        (export "lockgate:plugin/handler@0.1.0" (instance $none))
        (@producers (language "Rust" "1.95") (processed-by "wit-component" "0.254")))"#;

    #[test]
    fn a_file_is_read_without_being_compiled() {
        let bytes = wat::parse_str(COMPONENT).unwrap();
        let survey = Survey::of(&bytes);
        let names: Vec<&str> = survey.imports.iter().map(|item| &*item.name).collect();
        assert_eq!(
            names,
            [
                "lockgate:plugin/redis@0.1.0",
                "wasi:sockets/tcp@0.2.4",
                "lockgate:plugin/jwt@0.2.0"
            ]
        );
        assert_eq!(survey.imports[0].functions, ["expire"]);
        assert_eq!(survey.exports[0].name, "lockgate:plugin/handler@0.1.0");
        assert_eq!(survey.needs(), ["jwt", "redis"]);
        assert_eq!(survey.producers["language"]["Rust"], "1.95");
        let words: Vec<String> = survey
            .not_linked(None)
            .iter()
            .map(LoadError::to_string)
            .collect();
        assert_eq!(words.len(), 2, "{words:?}");
        assert!(words[0].contains("wasi:sockets/tcp@0.2.4"), "{words:?}");
        assert!(words[1].contains("newer"), "{words:?}");
    }

    #[test]
    fn what_is_cut_short_or_no_webassembly_is_no_fault() {
        let whole = wat::parse_str(COMPONENT).unwrap();
        for end in 0..whole.len() {
            Survey::of(&whole[..end]);
        }
        assert_eq!(Survey::of(b"hello"), Survey::default());
        let core = wat::parse_str("(module (import \"a\" \"b\" (func)))").unwrap();
        assert_eq!(Survey::of(&core), Survey::default());
    }
}
