//! Which names stand for secrets, and which headers may be shown.

/// Headers whose values are no secrets. Any other is taken for one.
const PLAIN: [&str; 29] = [
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "access-control-request-headers",
    "access-control-request-method",
    "cache-control",
    "connection",
    "content-encoding",
    "content-language",
    "content-length",
    "content-type",
    "dnt",
    "expect",
    "forwarded",
    "host",
    "if-modified-since",
    "if-none-match",
    "origin",
    "pragma",
    "te",
    "upgrade",
    "upgrade-insecure-requests",
    "user-agent",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-request-id",
];

/// Beginnings of such headers.
const PLAIN_FAMILIES: [&str; 3] = ["sec-fetch-", "sec-ch-", "sec-websocket-"];

/// Last words of names whose values are secrets.
const SECRET: [&str; 22] = [
    "apikey",
    "assertion",
    "auth",
    "authorization",
    "code",
    "cookie",
    "credential",
    "credentials",
    "csrf",
    "jwt",
    "otp",
    "passcode",
    "passphrase",
    "passwd",
    "password",
    "pin",
    "pwd",
    "secret",
    "signature",
    "ticket",
    "token",
    "tokens",
];

/// Words before `key` that make it one.
const SECRET_KEYS: [&str; 6] = [
    "access",
    "api",
    "encryption",
    "private",
    "secret",
    "signing",
];

/// Last words that say something of a secret and are none.
const ABOUT: [&str; 14] = [
    "algorithm",
    "count",
    "expire",
    "expires",
    "expiry",
    "format",
    "id",
    "length",
    "life",
    "sha256",
    "state",
    "status",
    "type",
    "use",
];

/// True if what a name stands for is to be kept secret: a word of it says so, and the last
/// does not say that it is only about one.
pub(in crate::trace) fn is_secret(name: &str) -> bool {
    let decoded = percent_encoding::percent_decode_str(name).decode_utf8_lossy();
    let words = words(&decoded);
    if words
        .last()
        .is_some_and(|last| ABOUT.contains(&last.as_str()))
    {
        return false;
    }
    let key = |pair: &[String]| match pair {
        [of, key] => key == "key" && SECRET_KEYS.contains(&of.as_str()),
        _ => false,
    };
    words.windows(2).any(key) || words.iter().any(|word| names_a_secret(word))
}

/// `password2` and `accesstoken` do as well.
fn names_a_secret(word: &str) -> bool {
    let word = word.trim_end_matches(|c: char| c.is_ascii_digit());
    let long = |secret: &&str| secret.len() >= 5 && word.ends_with(*secret);
    SECRET.contains(&word) || SECRET.iter().any(long)
}

/// True for a setting that is to be kept secret: also any key, and a URL with credentials.
pub(super) fn is_secret_setting(name: &str, value: &str) -> bool {
    let words = words(name);
    let keyed = words
        .iter()
        .any(|word| matches!(word.as_str(), "key" | "pass" | "salt"));
    keyed || is_secret(name) || value.contains("://") && value.contains('@')
}

/// `access_token`, `accessToken` and `Access-Token` have the same words.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut lower = false;
    for c in name.chars() {
        let begins = c.is_uppercase() && lower;
        lower = c.is_lowercase();
        if !c.is_alphanumeric() || begins {
            words.push(String::new());
        }
        if c.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.extend(c.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

fn is_plain(header: &str) -> bool {
    // A token may hide in the offered protocols (RFC 6455 section 11.3.4).
    header != "sec-websocket-protocol"
        && (PLAIN.contains(&header)
            || PLAIN_FAMILIES
                .iter()
                .any(|family| header.starts_with(family)))
}

/// What is secret in a header.
pub(super) fn secrets_of_header(name: &str, value: &str) -> Vec<String> {
    let mut found = Vec::new();
    change_header(name, value, |secret| {
        found.push(secret.to_owned());
        String::new()
    });
    found
}

/// The header with its secret parts changed: the values of cookies, what follows a scheme
/// (RFC 9110 section 11.4), each of the offered protocols, or the whole.
pub(super) fn change_header(
    name: &str,
    value: &str,
    mut change: impl FnMut(&str) -> String,
) -> String {
    if is_plain(name) {
        return value.to_owned();
    }
    match (name, value.split_once(' ')) {
        ("cookie", _) => {
            let cookies = value.split(';').map(|cookie| match cookie.split_once('=') {
                Some((name, value)) => {
                    let inner = value.trim().trim_matches('"');
                    match inner.is_empty() {
                        true => cookie.to_owned(),
                        false => format!("{name}={}", value.replace(inner, &change(inner))),
                    }
                }
                None => change(cookie),
            });
            cookies.collect::<Vec<_>>().join(";")
        }
        ("sec-websocket-protocol", _) => {
            let protocols = value.split(',').map(|protocol| {
                let plain = protocol.trim().len() < 20;
                let inner = protocol.trim();
                if plain {
                    protocol.to_owned()
                } else {
                    protocol.replace(inner, &change(inner))
                }
            });
            protocols.collect::<Vec<_>>().join(",")
        }
        ("authorization" | "proxy-authorization", Some((scheme, credentials))) => {
            format!("{scheme} {}", change(credentials.trim_start()))
        }
        _ => change(value),
    }
}

/// The secret values of `name=value&name=value`, as they stand there.
pub(super) fn secrets_of_pairs(text: &str) -> Vec<String> {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    let secret = pairs.filter(|(name, _)| is_secret(name));
    secret.map(|(_, value)| value.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_of_a_name_counts() {
        for name in [
            "token",
            "access_token",
            "refreshToken",
            "X-CSRF-Token",
            "csrf",
            "password",
            "newPassword",
            "api_key",
            "apikey",
            "JWT_SECRET",
            "ws-ticket",
            "user%5Bpassword%5D",
            "to%6ben",
            "password2",
            "password_confirmation",
            "csrfmiddlewaretoken",
            "accesstoken",
            "otp",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in [
            "",
            "token_format",
            "token_type",
            "tokenUse",
            "session_key",
            "key",
            "token_sha256",
            "user_id",
            "SERVICE_NAME",
            "expected_email",
        ] {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn headers_keep_what_is_no_secret() {
        let changed = |name: &str, value: &str| change_header(name, value, |_| "*".to_owned());
        for (name, value, expected) in [
            ("accept", "text/html", "text/html"),
            ("authorization", "Bearer abc", "Bearer *"),
            ("authorization", "abc", "*"),
            ("cookie", "a=1; b=\"two\"; c", "a=*; b=\"*\";*"),
            ("cookie", "a=", "a="),
            ("x-own", "thing", "*"),
            ("sec-fetch-site", "same-origin", "same-origin"),
            (
                "sec-websocket-protocol",
                "chat, abcdefghijklmnopqrstuvwxyz",
                "chat, *",
            ),
        ] {
            assert_eq!(changed(name, value), expected, "{name}: {value}");
        }
    }
}
