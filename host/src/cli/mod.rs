//! The command line: what it accepts, what it explains, and the exit code. Each
//! command has a file of its own; this one only parses and dispatches.

mod check;
mod config;
mod dev;
mod healthcheck;
mod inspect;
mod manual;
mod new;
mod plugins;
mod remote;
mod replay;
mod serve;
mod shadow;
mod sign;
mod test;
mod token;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

const EXAMPLES: &str = "\
Examples:
  lockgate serve
  lockgate check target/plugins/jwt-token-adapter.wasm
  lockgate token --user-id 42 --email ada@example.org
  lockgate healthcheck http://127.0.0.1:8025/health

Settings come from the file that LOCKGATE_CONFIG names (else ./lockgate.toml, if it
is there) and from the environment, which beats the file. `lockgate config reference`
lists them.";

/// Serves WebAssembly components as HTTP services and swaps them while they serve.
#[derive(Debug, Parser)]
#[command(name = "lockgate", version, after_help = EXAMPLES, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve all services, or the one that SERVICE_NAME names, until SIGTERM or SIGINT.
    Serve,
    /// Make a folder with a new plugin that builds without Lockgate's sources.
    New(new::Args),
    /// Build a plugin at every save, drop it into a running host and compare the answers.
    Dev(dev::Args),
    /// Say what a file is: its contract, imports, the grants that it needs, its tools.
    Inspect(inspect::Args),
    /// Say whether a component file would be taken, and if not, why.
    Check(check::Args),
    /// Print a token signed with the configured secret, for trying things out.
    Token(token::Args),
    /// Show what a running host serves.
    Plugins(plugins::List),
    /// Have a running host go back to an earlier revision of a service.
    Rollback(plugins::RollBack),
    /// Have a running host keep a revision, whatever is dropped into the plugin folder.
    Pin(plugins::Pin),
    /// Take `pin` back.
    Unpin(plugins::Unpin),
    /// Make a key pair for signing plugin files.
    Keygen(sign::Keygen),
    /// Sign a plugin file for one service.
    Sign(sign::Sign),
    /// Have a running host copy its requests to a candidate and compare the answers.
    Shadow(shadow::Shadow),
    /// Have the candidate of `shadow` serve.
    Promote(shadow::Promote),
    /// Run a plugin's own tests through the code of the host.
    Test(test::Args),
    /// Run a recorded call again, with this or another revision of the component.
    Replay(replay::Args),
    /// Ask a health endpoint; for containers without curl.
    Healthcheck(healthcheck::Args),
    /// Print what may stand in the configuration file.
    Config(config::Args),
    /// Write the manual pages.
    #[command(hide = true)]
    Man(manual::Man),
    /// Print completions for a shell.
    #[command(hide = true)]
    Completions(manual::Completions),
}

impl Cli {
    /// Reads the arguments of the process. Bad arguments, `--help` and `--version` end it here.
    pub fn from_process() -> Cli {
        Cli::parse()
    }

    /// Runs the command. The exit code is 0 for success or yes, 1 for failure or
    /// no; clap ends a wrong usage with 2.
    pub fn run(self) -> ExitCode {
        let outcome = match self.command {
            Command::Serve => serve::run(),
            Command::New(args) => new::run(&args),
            Command::Dev(args) => dev::run(&args),
            Command::Inspect(args) => inspect::run(&args),
            Command::Check(args) => check::run(&args),
            Command::Token(args) => token::run(&args),
            Command::Plugins(args) => plugins::list(&args),
            Command::Rollback(args) => plugins::roll_back(&args),
            Command::Pin(args) => plugins::pin(&args),
            Command::Unpin(args) => plugins::unpin(&args),
            Command::Keygen(args) => sign::keygen(&args),
            Command::Sign(args) => sign::sign(&args),
            Command::Shadow(args) => shadow::shadow(&args),
            Command::Promote(args) => shadow::promote(&args),
            Command::Test(args) => test::run(&args),
            Command::Replay(args) => replay::run(&args),
            Command::Healthcheck(args) => healthcheck::run(&args),
            Command::Config(args) => config::run(&args),
            Command::Man(args) => manual::man(&args),
            Command::Completions(args) => manual::completions(&args),
        };
        outcome.unwrap_or_else(|error| {
            eprintln!("lockgate: {error:#}");
            ExitCode::FAILURE
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn wrong_usage_is_refused() {
        for arguments in [
            &["lockgate"][..],
            &["lockgate", "fly"],
            &["lockgate", "check"],
            &["lockgate", "new"],
            &["lockgate", "new", "No"],
            &["lockgate", "new", "a", "--lang", "cobol"],
            &["lockgate", "dev"],
            &["lockgate", "inspect"],
            &["lockgate", "healthcheck"],
            &["lockgate", "config"],
            &["lockgate", "completions", "tcl"],
            &["lockgate", "healthcheck", "http://h/", "--timeout", "11"],
            &["lockgate", "rollback"],
            &["lockgate", "rollback", "a/b"],
            &["lockgate", "pin", "a", "1234567"],
            &["lockgate", "pin", "a", "not-a-digest"],
            &["lockgate", "sign", "x.wasm"],
            &["lockgate", "sign", "x.wasm", "--key", "k", "--service", "A"],
            &[
                "lockgate",
                "sign",
                "x.wasm",
                "--key",
                "k",
                "--sequence",
                "-1",
            ],
            &["lockgate", "token", "--role", "root"],
            &["lockgate", "token", "--user-id", "-1"],
            &["lockgate", "token", "--kind", "nonsense"],
        ] {
            assert!(Cli::try_parse_from(arguments).is_err(), "{arguments:?}");
        }
    }

    #[test]
    fn the_help_shows_every_command() {
        let help = Cli::command().render_long_help().to_string();
        for word in [
            "serve",
            "new",
            "dev",
            "inspect",
            "check",
            "token",
            "healthcheck",
            "config",
            "plugins",
            "rollback",
            "pin",
            "unpin",
            "keygen",
            "sign",
            "replay",
            "test",
            "shadow",
            "promote",
            "LOCKGATE_CONFIG",
            "Examples",
        ] {
            assert!(help.contains(word), "{word} is missing in:\n{help}");
        }
    }
}
