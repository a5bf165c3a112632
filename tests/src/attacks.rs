//! Counts attacks over all tests of a run, for its closing lines.

use std::io::Write as _;

/// Notes one attack and the status of its answer, 0 if there was none, in the file that
/// `LOCKGATE_ATTACKS` names, if it names one. It judges nothing: the test does.
pub fn note(refused: bool, status: u16) {
    let Some(path) = std::env::var_os("LOCKGATE_ATTACKS") else {
        return;
    };
    let word = if refused { "refused" } else { "accepted" };
    let file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path);
    file.and_then(|mut file| file.write_all(format!("{word} {status}\n").as_bytes()))
        .expect("write the file of LOCKGATE_ATTACKS");
}
