//! `lockgate keygen` and `lockgate sign`: the author's side of signed drops. They work
//! on files only; the private key never gets near a host.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use zeroize::Zeroizing;

use super::plugins::service_name;
use crate::revision;
use crate::signature::{self, PrivateKey};

const KEYGEN_EXAMPLES: &str = "\
Examples:
  lockgate keygen                                  # lockgate-plugins.key and .pub
  lockgate keygen --out /secure/release
On the host: LOCKGATE_PLUGINS_PUBLIC_KEY_FILE=/etc/lockgate/release.pub";

const SIGN_EXAMPLES: &str = "\
Examples:
  lockgate sign target/plugins/jwt-token-adapter.wasm --key /secure/release.key
  lockgate sign new.wasm --service jwt-token-adapter --sequence 7 --key /secure/release.key
Put both files into the plugin folder; their order does not matter.";

/// Arguments of `lockgate keygen`.
#[derive(Debug, clap::Args)]
#[command(after_help = KEYGEN_EXAMPLES)]
pub(super) struct Keygen {
    /// Name of the files without .key and .pub. Existing files are not replaced.
    #[arg(long, default_value = "lockgate-plugins", value_name = "NAME")]
    out: PathBuf,
}

/// Arguments of `lockgate sign`.
#[derive(Debug, clap::Args)]
#[command(after_help = SIGN_EXAMPLES)]
pub(super) struct Sign {
    /// The component. Its signature is written beside it, as <FILE>.sig.
    file: PathBuf,
    /// The private key, in PEM.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The service that it is for. Default: the name of the file without .wasm.
    #[arg(long, value_parser = service_name)]
    service: Option<String>,
    /// A host refuses a lower number than it has accepted. Default: the time, in seconds since 1970.
    #[arg(long)]
    sequence: Option<u64>,
}

/// Makes a key pair.
pub(super) fn keygen(args: &Keygen) -> anyhow::Result<ExitCode> {
    let (private, public) = signature::generate()?;
    let (key, public_key) = (named(&args.out, "key"), named(&args.out, "pub"));
    write_new(&key, private.as_bytes(), 0o600)?;
    write_new(&public_key, public.as_bytes(), 0o644)?;
    println!("{}: sign with it, and keep it secret", key.display());
    println!(
        "{}: for the host's LOCKGATE_PLUGINS_PUBLIC_KEY_FILE",
        public_key.display()
    );
    Ok(ExitCode::SUCCESS)
}

/// Signs a component.
pub(super) fn sign(args: &Sign) -> anyhow::Result<ExitCode> {
    let service = match &args.service {
        Some(service) => service.clone(),
        None => from_file(&args.file)?,
    };
    let sequence = match args.sequence {
        Some(sequence) => sequence,
        None => SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
    };
    let key = Zeroizing::new(read(&args.key)?);
    let key = PrivateKey::from_pem(&key)
        .with_context(|| format!("cannot use the private key {}", args.key.display()))?;
    let digest = revision::digest(&read(&args.file)?);
    let signature = key.sign(&service, sequence, &digest);
    let path = named(&args.file, "sig");
    replace(&path, signature.to_text().as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))?;
    println!(
        "{}: {service}, sequence {sequence}, digest {digest}",
        path.display()
    );
    Ok(ExitCode::SUCCESS)
}

fn from_file(file: &Path) -> anyhow::Result<String> {
    let stem = file.file_stem().and_then(|stem| stem.to_str());
    let name = service_name(stem.unwrap_or_default());
    name.map_err(|problem| {
        anyhow::anyhow!("name the service with --service: {problem}, not {stem:?}")
    })
}

fn named(path: &Path, extension: &str) -> PathBuf {
    path.with_added_extension(extension)
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn write_new(path: &Path, contents: &[u8], mode: u32) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    let made = options.write(true).create_new(true).mode(mode).open(path);
    let written = made.and_then(|mut file| file.write_all(contents));
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// In one step, so that a host never sees half a file.
fn replace(path: &Path, contents: &[u8]) -> std::io::Result<()> {
    let part = named(path, "part");
    File::create(&part)?.write_all(contents)?;
    std::fs::rename(part, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::PublicKey;

    #[test]
    fn a_signed_file_passes_with_the_public_key() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("v1.2");
        keygen(&Keygen { out: out.clone() }).unwrap();
        assert!(keygen(&Keygen { out }).is_err(), "never replaced");
        let file = folder.path().join("jwt-token-adapter.wasm");
        std::fs::write(&file, "component").unwrap();
        let args = Sign {
            file,
            key: folder.path().join("v1.2.key"),
            service: None,
            sequence: Some(7),
        };
        sign(&args).unwrap();
        let public = std::fs::read(folder.path().join("v1.2.pub")).unwrap();
        let signature = std::fs::read(folder.path().join("jwt-token-adapter.wasm.sig")).unwrap();
        let checked = PublicKey::from_pem(&public).unwrap().check(
            "jwt-token-adapter",
            &revision::digest(b"component"),
            Some(&signature),
        );
        assert_eq!(checked, Ok(7));
        let without = Sign {
            file: folder.path().join("X.wasm"),
            ..args
        };
        let error = sign(&without).unwrap_err().to_string();
        assert!(error.contains("--service"), "{error}");
    }
}
