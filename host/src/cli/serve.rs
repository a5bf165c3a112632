//! `lockgate serve`: settings in, a running host, and its end as the exit code.

use std::process::ExitCode;

use crate::app;
use crate::config::Config;

/// Serves until a signal ends it.
pub(super) fn run() -> anyhow::Result<ExitCode> {
    app::serve(Config::load()?)?;
    Ok(ExitCode::SUCCESS)
}
