//! `lockgate new`: makes a folder with a plugin that builds where Lockgate's sources are
//! not. Everything comes out of this binary; nothing is fetched and nothing is built.

mod files;
mod workspace;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};

use files::File;

const EXAMPLES: &str = "\
Examples:
  lockgate new greeter
  lockgate new greeter --lang python
  lockgate new greeter --lang js --dir /tmp/greeter

The folder holds the service, a native test, requests with what is expected of them, a
build.sh that makes dist/NAME.wasm, and a lockgate.toml with the service's port and grants.
Rust needs nothing but a toolchain, Python 3.10 with venv, JavaScript Node.js 20 with npm.";

/// Arguments of `lockgate new`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Name of the plugin and of its service: a-z, 0-9 and hyphens, a letter first.
    #[arg(value_parser = name)]
    name: String,
    /// What it is written in.
    #[arg(long, value_enum, default_value_t = Language::Rust)]
    lang: Language,
    /// The folder to make. Default: NAME. If it is there it must be empty.
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// What a plugin can be written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Language {
    Rust,
    Python,
    Js,
}

/// Makes the folder, whole or not at all.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let folder = args.dir.clone().unwrap_or_else(|| args.name.clone().into());
    let shown = folder.display();
    make(&folder, &files::of(args.lang, &args.name)?)
        .with_context(|| format!("nothing was made at {shown}"))?;
    println!(
        "{shown} holds the plugin {}. Next: cd {shown} && ./build.sh; README.md says more.",
        args.name
    );
    Ok(ExitCode::SUCCESS)
}

/// A name that is good for a service, a file and a package.
fn name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !text.chars().all(plain)
        || !text.starts_with(|c: char| c.is_ascii_lowercase())
        || text.ends_with('-')
        || text.len() > 64
    {
        return Err(
            "a name is made of a-z, 0-9 and hyphens, begins with a letter, ends with none of \
             the hyphens and has at most 64 characters"
                .to_owned(),
        );
    }
    if text.ends_with("-service") {
        return Err("the name of a service does not end in -service".to_owned());
    }
    if matches!(text, "lockgate-sdk" | "lockgate-identity") {
        return Err("this is the name of a package that the plugin needs".to_owned());
    }
    Ok(text.to_owned())
}

/// Writes all files beside the folder first, and renames.
fn make(folder: &Path, files: &[File]) -> anyhow::Result<()> {
    match fs::read_dir(folder).map(|mut entries| entries.next()) {
        Ok(Some(_)) => bail!("the folder is not empty"),
        Ok(None) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    let parent = match folder.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let part = tempfile::Builder::new()
        .prefix(".lockgate-new-")
        .tempdir_in(parent)
        .with_context(|| format!("no folder can be made in {}", parent.display()))?;
    for file in files {
        let path = part.path().join(&file.path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, &file.contents)?;
        if file.path.ends_with(".sh") {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
    }
    fs::set_permissions(part.path(), fs::Permissions::from_mode(0o755))?;
    // An empty folder gives way; one that was filled meanwhile does not.
    fs::rename(part.path(), folder)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_services() {
        for good in ["a", "greeter", "my-plugin-2", "jwt-token-adapter"] {
            assert_eq!(name(good).unwrap(), good);
        }
        let long = "a".repeat(65);
        for bad in [
            "",
            "A",
            "a_b",
            "a b",
            "../a",
            "a/b",
            "2a",
            "-a",
            "a-",
            "é",
            "a.b",
            &long,
            "x-service",
            "lockgate-sdk",
        ] {
            assert!(name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_folder_is_made_whole_or_not_at_all() {
        let place = tempfile::tempdir().unwrap();
        let files = files::of(Language::Rust, "greeter").unwrap();
        let full = place.path().join("full");
        fs::create_dir(&full).unwrap();
        fs::write(full.join("mine"), "x").unwrap();
        let error = make(&full, &files).unwrap_err().to_string();
        assert!(error.contains("not empty"), "{error}");
        assert_eq!(fs::read_dir(&full).unwrap().count(), 1);
        assert!(make(&full.join("mine"), &files).is_err(), "a file is there");
        assert!(make(&place.path().join("no/such"), &files).is_err());
        assert_eq!(
            fs::read_dir(place.path()).unwrap().count(),
            1,
            "nothing is left"
        );
        let empty = place.path().join("empty");
        fs::create_dir(&empty).unwrap();
        make(&empty, &files).unwrap();
        let script = fs::metadata(empty.join("build.sh")).unwrap();
        assert_eq!(script.permissions().mode() & 0o777, 0o755);
        make(&place.path().join("new"), &files).unwrap();
    }
}
