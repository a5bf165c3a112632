//! A Python with the packages of a `requirements.txt`, in a folder of its own below the
//! target folder. What is missing is a failure that says so.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::place;

/// The folder of the scripts.
pub fn scripts() -> PathBuf {
    place::repository().join("tests/python")
}

/// The interpreter of the scripts.
///
/// # Panics
/// As [`prepared`].
pub fn interpreter() -> PathBuf {
    prepared("python", &scripts().join("requirements.txt"))
}

/// An interpreter with what a file of requirements names, in a folder of this name; makes it
/// at the first use, and again when the requirements have changed.
///
/// # Panics
/// Python is missing, or a package cannot be installed.
pub fn prepared(name: &str, requirements: &Path) -> PathBuf {
    let lock = File::create(place::scratch().join("python-lock")).expect("make a lock");
    lock.lock().expect("wait for the packages' installation");
    let folder = place::target().join("tools").join(name);
    environment("python3", requirements, &folder).unwrap_or_else(|fault| panic!("{fault}"))
}

/// Makes a virtual environment that holds what a file of requirements names, unless it
/// is there already; gives its interpreter.
///
/// # Errors
/// What is missing, and the words of the program that has said so.
pub fn environment(python: &str, requirements: &Path, folder: &Path) -> Result<PathBuf, String> {
    let interpreter = folder.join("bin/python");
    let wanted = std::fs::read_to_string(requirements)
        .map_err(|e| format!("no requirements at {}: {e}", requirements.display()))?;
    // Written last: a folder without it is half made.
    let made = folder.join("requirements.made");
    if interpreter.exists() && std::fs::read_to_string(&made).is_ok_and(|text| text == wanted) {
        return Ok(interpreter);
    }
    let mut venv = Command::new(python);
    venv.args(["-m", "venv", "--clear"]).arg(folder);
    run(&mut venv).map_err(|fault| {
        format!("no Python with venv (apt-get install python3 python3-venv): {fault}")
    })?;
    let mut pip = Command::new(&interpreter);
    pip.args(["-m", "pip", "install", "--quiet", "--no-input"])
        .args(["--disable-pip-version-check", "--requirement"])
        .arg(requirements);
    run(&mut pip).map_err(|fault| {
        let wanted = wanted.trim();
        format!("the Python package {wanted} cannot be installed: {fault}")
    })?;
    std::fs::write(&made, wanted).map_err(|e| format!("{}: {e}", made.display()))?;
    Ok(interpreter)
}

fn run(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|e| format!("{program}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let words = [output.stdout, output.stderr].concat();
    let words = String::from_utf8_lossy(&words);
    Err(format!("{program}: {}: {}", output.status, words.trim()))
}
