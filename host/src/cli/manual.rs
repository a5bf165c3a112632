//! `lockgate man` and `lockgate completions`: what the definition of the command line says,
//! for `man` and for shells. Both are for packages and hidden in the help.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;

use super::Cli;

/// Arguments of `lockgate man`.
#[derive(Debug, clap::Args)]
pub(super) struct Man {
    /// Folder for a page of each command; it is made if it is missing. Default: only
    /// lockgate(1), to the standard output.
    dir: Option<PathBuf>,
}

/// Arguments of `lockgate completions`.
#[derive(Debug, clap::Args)]
pub(super) struct Completions {
    /// The shell that is to read them.
    shell: Shell,
}

/// Writes the pages.
pub(super) fn man(args: &Man) -> anyhow::Result<ExitCode> {
    match &args.dir {
        Some(dir) => pages(dir).with_context(|| format!("cannot write to {}", dir.display()))?,
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page)?;
            print(&page)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn pages(dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    clap_mangen::generate_to(Cli::command(), dir)
}

/// Prints the completions.
pub(super) fn completions(args: &Completions) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "lockgate", &mut script);
    print(&script)?;
    Ok(ExitCode::SUCCESS)
}

/// A reader that has closed early is no panic.
fn print(text: &[u8]) -> anyhow::Result<()> {
    std::io::stdout()
        .write_all(text)
        .context("cannot write to the standard output")
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Every command that is not hidden, by its whole name, e.g. `lockgate-config-schema`.
    fn commands(command: &clap::Command, name: &str, into: &mut Vec<(String, clap::Command)>) {
        for sub in command.get_subcommands() {
            if !sub.is_hide_set() && sub.get_name() != "help" {
                commands(sub, &format!("{name}-{}", sub.get_name()), into);
            }
        }
        into.push((name.to_owned(), command.clone()));
    }

    fn all() -> Vec<(String, clap::Command)> {
        let mut cli = Cli::command();
        cli.build();
        let mut found = Vec::new();
        commands(&cli, "lockgate", &mut found);
        assert!(found.len() > 18, "{}", found.len());
        found
    }

    #[test]
    fn each_command_has_a_page_with_its_options() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("a/man1");
        pages(&dir).unwrap();
        let all = all();
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), all.len());
        for (name, command) in all {
            let page = std::fs::read_to_string(dir.join(format!("{name}.1"))).unwrap();
            assert!(page.contains(".SH NAME"), "{name}");
            for option in command.get_opts().filter_map(clap::Arg::get_long) {
                let option = format!("\\-\\-{}", option.replace('-', "\\-"));
                assert!(page.contains(&option), "{option} in {name}: {page}");
            }
        }
    }

    #[test]
    fn nothing_is_without_a_word_of_help() {
        for (name, command) in all() {
            assert!(command.get_about().is_some(), "{name}");
            for argument in command.get_arguments() {
                let help = argument.get_help().map(ToString::to_string);
                let id = argument.get_id();
                assert!(help.is_some_and(|help| !help.is_empty()), "{name}: {id}");
            }
        }
    }

    #[test]
    fn what_cannot_be_written_is_said() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let dir = Some(file.path().join("man1"));
        let error = man(&Man { dir }).unwrap_err().to_string();
        assert!(error.starts_with("cannot write to "), "{error}");
    }

    #[test]
    fn bash_reads_its_completions() {
        let mut script = Vec::new();
        clap_complete::generate(Shell::Bash, &mut Cli::command(), "lockgate", &mut script);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &script).unwrap();
        // It is loaded, and asked for the commands that begin with `heal`.
        let asks = "set -e; bash -n \"$1\"; . \"$1\"; COMP_WORDS=(lockgate heal); COMP_CWORD=1; \
            _lockgate lockgate heal lockgate; echo \"${COMPREPLY[@]}\"";
        let output = Command::new("bash")
            .args(["-c", asks, "bash"])
            .arg(file.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{said}");
        assert_eq!(said.trim(), "healthcheck");
    }
}
