//! Passwords that stand in files. It keeps nothing and logs nothing.

use std::io::ErrorKind;
use std::path::Path;

use secrecy::SecretString;

/// Longest password file that is read, bytes.
const MAX_FILE: usize = 64 * 1024;

/// The file's text, trimmed at both ends; none if there is no such file or it is empty.
///
/// # Errors
/// Why the file cannot be used, in words.
pub fn read(path: &Path) -> Result<Option<SecretString>, String> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    if bytes.len() > MAX_FILE {
        return Err("it is too long".into());
    }
    let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    let text = text.trim();
    Ok((!text.is_empty()).then(|| SecretString::from(text.to_owned())))
}
