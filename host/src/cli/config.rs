//! `lockgate config`: what may stand in the configuration file, for readers and for editors.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;

use crate::config::{reference, schema};

const EXAMPLES: &str = "\
Examples:
  lockgate config reference > docs/configuration.md
  lockgate config schema > lockgate.schema.json";

/// Arguments of `lockgate config`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Print every key with its type, default, unit, variable and meaning, as Markdown.
    Reference,
    /// Print the JSON Schema of the file, for editors.
    Schema,
}

/// Prints it.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let text = match args.what {
        What::Reference => reference()?,
        What::Schema => format!("{:#}\n", schema()?),
    };
    let written = std::io::stdout().write_all(text.as_bytes());
    written.context("cannot write to the standard output")?;
    Ok(ExitCode::SUCCESS)
}
