//! The files of a new plugin, as they lie in this binary: the example of the language under
//! the plugin's name, the contract, and for Rust the SDK. It writes none of them.

use anyhow::Context;
use rust_embed::Embed;

use super::{Language, workspace};

/// One file to write.
pub(super) struct File {
    /// Below the new folder.
    pub(super) path: String,
    pub(super) contents: Vec<u8>,
}

/// What is not as it is in the repository: the sources of a package of its own.
#[derive(Embed)]
#[folder = "templates/rust/"]
struct Rust;

#[derive(Embed)]
#[folder = "../plugins/"]
#[include = "identity/Cargo.toml"]
#[include = "identity/src/*"]
#[include = "sdk/Cargo.toml"]
#[include = "sdk/src/*"]
struct Sdk;

// What a build leaves in the folders of the examples stays out.
#[derive(Embed)]
#[folder = "../plugins/examples/python/"]
#[include = ".gitignore"]
#[include = "*.py"]
#[include = "*.sh"]
#[include = "*.toml"]
#[include = "*.txt"]
#[include = "*.md"]
#[include = "*.wit"]
#[exclude = ".venv/*"]
#[exclude = "bindings/*"]
#[exclude = "wit/deps/*"]
struct Python;

#[derive(Embed)]
#[folder = "../plugins/examples/js/"]
#[include = ".gitignore"]
#[include = "*.js"]
#[include = "*.mjs"]
#[include = "*.sh"]
#[include = "*.toml"]
#[include = "package.json"]
#[include = "*.md"]
#[include = "*.wit"]
#[exclude = "node_modules/*"]
#[exclude = "wit/deps/*"]
struct Js;

#[derive(Embed)]
#[folder = "../wit/"]
#[include = "*.wit"]
struct Wit;

const LICENSE: &str = include_str!("../../../../LICENSE");
const LOCK: &str = include_str!("../../../../Cargo.lock");

/// The manifest of the Rust template, which cargo is not to take for one of its own.
const MANIFEST: &str = "Cargo.toml.in";

/// All files of a plugin.
///
/// # Errors
/// What lies in this binary does not fit together.
pub(super) fn of(language: Language, name: &str) -> anyhow::Result<Vec<File>> {
    Ok(match language {
        Language::Rust => {
            let mut files = named::<Rust>("rust-example", name)?;
            let manifest = files.iter_mut().find(|file| file.path == MANIFEST);
            let manifest = manifest.context("there is no manifest")?;
            manifest.path = "Cargo.toml".to_owned();
            let package = String::from_utf8(std::mem::take(&mut manifest.contents))?;
            let sdk = all::<Sdk>("lockgate/plugins/");
            let members = sdk.iter().filter(|file| file.path.ends_with("Cargo.toml"));
            let members = members.map(|file| str::from_utf8(&file.contents));
            let members = members.collect::<Result<Vec<_>, _>>()?;
            manifest.contents = workspace::manifest(&package, &members)?.into_bytes();
            files.extend(sdk);
            files.extend(all::<Wit>("lockgate/wit/"));
            files.push(text("lockgate/LICENSE", LICENSE));
            // The versions that the SDK was tested with; cargo drops what is not needed.
            files.push(text("Cargo.lock", LOCK));
            files
        }
        Language::Python => with_contract(named::<Python>("python-example", name)?),
        Language::Js => with_contract(named::<Js>("js-example", name)?),
    })
}

fn with_contract(mut files: Vec<File>) -> Vec<File> {
    files.extend(all::<Wit>("wit/deps/lockgate/"));
    files
}

fn text(path: &str, contents: &str) -> File {
    File {
        path: path.to_owned(),
        contents: contents.as_bytes().to_vec(),
    }
}

fn all<E: Embed>(below: &str) -> Vec<File> {
    E::iter()
        .filter_map(|path| {
            Some(File {
                contents: E::get(&path)?.data.into_owned(),
                path: format!("{below}{path}"),
            })
        })
        .collect()
}

/// The files of an example, in which its name is replaced.
fn named<E: Embed>(example: &str, name: &str) -> anyhow::Result<Vec<File>> {
    let mut files = all::<E>("");
    for file in &mut files {
        let text = str::from_utf8(&file.contents);
        let text = text.with_context(|| format!("{} is not text", file.path))?;
        file.contents = text.replace(example, name).into_bytes();
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn paths(language: Language) -> BTreeSet<String> {
        let files = of(language, "greeter").unwrap();
        for file in &files {
            let text = str::from_utf8(&file.contents).unwrap();
            for example in ["rust-example", "python-example", "js-example"] {
                assert!(!text.contains(example), "{}", file.path);
            }
        }
        files.into_iter().map(|file| file.path).collect()
    }

    #[test]
    fn every_language_has_its_files_and_no_others() {
        let shared = [
            ".gitignore",
            "README.md",
            "build.sh",
            "lockgate.toml",
            "tests/hello.toml",
        ];
        for (language, more) in [
            (
                Language::Rust,
                &[
                    "Cargo.lock",
                    "Cargo.toml",
                    "src/lib.rs",
                    "lockgate/LICENSE",
                    "lockgate/plugins/identity/src/lib.rs",
                    "lockgate/plugins/sdk/Cargo.toml",
                    "lockgate/plugins/sdk/src/double/call.rs",
                    "lockgate/wit/world.wit",
                ][..],
            ),
            (
                Language::Python,
                &[
                    "app.py",
                    "no-sockets.wit",
                    "requirements.txt",
                    "tests/test_app.py",
                    "wit/deps/lockgate/world.wit",
                    "wit/plugin.wit",
                ],
            ),
            (
                Language::Js,
                &[
                    "app.js",
                    "build.mjs",
                    "package.json",
                    "tests/app.test.mjs",
                    "wit/deps/lockgate/jwt.wit",
                    "wit/plugin.wit",
                ],
            ),
        ] {
            let paths = paths(language);
            for path in shared.iter().chain(more) {
                assert!(paths.contains(*path), "{path} is missing in {paths:#?}");
            }
            let strange = |path: &&String| {
                path.contains("node_modules")
                    || path.contains(".venv")
                    || path.starts_with("dist")
                    || path.ends_with(".in")
            };
            assert_eq!(paths.iter().find(strange), None);
        }
    }
}
