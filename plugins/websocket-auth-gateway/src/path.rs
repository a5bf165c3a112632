//! Which socket paths an authorisation may be given for.

/// Longest path that is looked at, bytes.
const LONGEST: usize = 512;

/// The path if none is named.
pub(crate) const DEFAULT: &str = "/ws/chat";

/// True for `/ws/...`, `/api/v1/ws/...` and `/api/v1/chat/ws`. The path is taken
/// literally: one with a query, an escape, an empty segment or a dot segment
/// (RFC 3986 section 5.2.4) is refused, because another server might read it
/// as a different one.
pub(crate) fn is_allowed(path: &str) -> bool {
    let plain = |segment: &str| {
        !matches!(segment, "" | "." | "..")
            && segment
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
    };
    let below = |prefix: &str| {
        path.strip_prefix(prefix)
            .is_some_and(|rest| rest.split('/').all(plain))
    };
    path.len() <= LONGEST && (path == "/api/v1/chat/ws" || below("/ws/") || below("/api/v1/ws/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_paths_are_allowed() {
        for path in [
            DEFAULT,
            "/api/v1/chat/ws",
            "/api/v1/ws/notifications",
            "/ws/a/b_c-d.e",
        ] {
            assert!(is_allowed(path), "{path}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let long = format!("/ws/{}", "a".repeat(LONGEST));
        for path in [
            "",
            "/",
            "ws/chat",
            "/ws",
            "/ws/",
            "/ws//chat",
            "/ws/../api",
            "/ws/./x",
            "/ws/%2e%2e/x",
            "/ws/a?b=c",
            "/ws/a#b",
            "/ws/a b",
            "/ws/\\x",
            "/wsx/chat",
            "/api/v1/chat/ws/more",
            "/api/v1/chat",
            "/api/v1/ws",
            "/WS/chat",
            "/ws/chat\n",
            "/ws/ä",
            &long,
        ] {
            assert!(!is_allowed(path), "{path:?}");
        }
    }
}
