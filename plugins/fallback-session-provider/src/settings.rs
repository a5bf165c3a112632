//! What the operator chose for emergency sessions. Read from the WASI
//! environment once an instance; anything unreadable falls back to the strict
//! side.

/// How a token is checked in an emergency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// `exp` and `iat` must be there, leeway 10 s.
    Strict,
    /// The rules of every other endpoint.
    Standard,
}

/// The settings of `emergency-auth`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Off: every call is refused.
    pub(crate) enabled: bool,
    /// How a token is checked.
    pub(crate) level: Level,
    /// Failures a minute and client address, and successes a minute and user.
    pub(crate) per_minute: u32,
    /// Refuse while the session normalizer is healthy.
    pub(crate) only_on_outage: bool,
}

impl Settings {
    /// Reads the settings through `variable`, which gives the value of an
    /// environment variable.
    pub(crate) fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        let is = |name: &str, word: &str| {
            variable(name).is_some_and(|value| value.trim().eq_ignore_ascii_case(word))
        };
        Self {
            enabled: variable("FALLBACK_AUTH_ENABLED").is_none()
                || is("FALLBACK_AUTH_ENABLED", "true"),
            level: if is("FALLBACK_SECURITY_LEVEL", "standard") {
                Level::Standard
            } else {
                Level::Strict
            },
            per_minute: variable("FALLBACK_RATE_LIMIT")
                .and_then(|value| value.trim().parse().ok())
                .unwrap_or(10),
            only_on_outage: is("FALLBACK_ONLY_ON_OUTAGE", "true"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Settings {
        Settings::read(|name| {
            pairs
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn unset_is_enabled_and_strict() {
        let expected = Settings {
            enabled: true,
            level: Level::Strict,
            per_minute: 10,
            only_on_outage: false,
        };
        assert_eq!(read(&[]), expected);
    }

    #[test]
    fn everything_can_be_chosen() {
        let read = read(&[
            ("FALLBACK_AUTH_ENABLED", "false"),
            ("FALLBACK_SECURITY_LEVEL", "Standard"),
            ("FALLBACK_RATE_LIMIT", "3"),
            ("FALLBACK_ONLY_ON_OUTAGE", "TRUE"),
        ]);
        let expected = Settings {
            enabled: false,
            level: Level::Standard,
            per_minute: 3,
            only_on_outage: true,
        };
        assert_eq!(read, expected);
    }

    #[test]
    fn nonsense_falls_to_the_strict_side() {
        let read = read(&[
            ("FALLBACK_AUTH_ENABLED", "perhaps"),
            ("FALLBACK_SECURITY_LEVEL", "lax"),
            ("FALLBACK_RATE_LIMIT", "-1"),
        ]);
        assert_eq!(
            read,
            Settings {
                enabled: false,
                level: Level::Strict,
                per_minute: 10,
                only_on_outage: false
            }
        );
    }
}
