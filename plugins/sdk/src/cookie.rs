//! `Set-Cookie` values (RFC 6265 section 4.1). It owns their attributes; whose
//! values they carry, the endpoints say.

use crate::host::Host;

/// The names of all login cookies.
pub const ALL: [&str; 4] = ["access_token", "refresh_token", "auth_token", "csrf_token"];

/// What the environment says about cookies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// `.example.org`; none means host-only.
    domain: Option<String>,
    secure: bool,
}

impl Policy {
    /// From `ENVIRONMENT` and `DOMAIN`: only `production` makes cookies `Secure` and
    /// gives them a domain.
    pub fn of<H: Host>(host: &H) -> Self {
        let secure = host.setting("ENVIRONMENT").as_deref() == Some("production");
        let domain = host.setting("DOMAIN").filter(|_| secure);
        let domain = domain
            .as_deref()
            .map(|name| name.trim().trim_start_matches('.'));
        let domain = domain
            .filter(|name| !name.is_empty())
            .map(|name| format!(".{name}"));
        Self { domain, secure }
    }

    /// Sets `access_token`.
    #[must_use]
    pub fn access(&self, token: &str) -> String {
        self.set("access_token", token, 3600)
    }

    /// Sets `refresh_token`.
    #[must_use]
    pub fn refresh(&self, token: &str) -> String {
        self.set("refresh_token", token, 604_800)
    }

    /// Sets `csrf_token`, which scripts may read.
    #[must_use]
    pub fn csrf(&self, value: &str) -> String {
        self.set("csrf_token", value, 604_800)
    }

    /// Deletes these cookies: the host-only ones, and those with a domain if there is
    /// one (RFC 6265 section 5.3 keeps them apart).
    #[must_use]
    pub fn delete(&self, names: &[&str]) -> Vec<String> {
        let host_only = Self {
            domain: None,
            ..self.clone()
        };
        let mut deleted: Vec<String> = names
            .iter()
            .map(|name| host_only.set(name, "", 0))
            .collect();
        if self.domain.is_some() {
            deleted.extend(names.iter().map(|name| self.set(name, "", 0)));
        }
        deleted
    }

    fn set(&self, name: &str, value: &str, max_age: u32) -> String {
        let mut cookie = format!("{name}={value}; Path=/; Max-Age={max_age}; SameSite=Lax");
        if let Some(domain) = &self.domain {
            cookie.push_str("; Domain=");
            cookie.push_str(domain);
        }
        if name != "csrf_token" {
            cookie.push_str("; HttpOnly");
        }
        if self.secure {
            cookie.push_str("; Secure");
        }
        cookie
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_at_home() {
        let policy = Policy {
            domain: None,
            secure: false,
        };
        assert_eq!(
            policy.access("a.b.c"),
            "access_token=a.b.c; Path=/; Max-Age=3600; SameSite=Lax; HttpOnly"
        );
        assert_eq!(
            policy.csrf("x"),
            "csrf_token=x; Path=/; Max-Age=604800; SameSite=Lax"
        );
        assert_eq!(policy.delete(&ALL).len(), 4);
    }

    #[test]
    fn cookies_in_production() {
        let policy = Policy {
            domain: Some(".example.org".into()),
            secure: true,
        };
        assert_eq!(
            policy.refresh("a.b.c"),
            "refresh_token=a.b.c; Path=/; Max-Age=604800; SameSite=Lax; Domain=.example.org; HttpOnly; Secure"
        );
        assert_eq!(
            policy.delete(&["auth_token"]),
            [
                "auth_token=; Path=/; Max-Age=0; SameSite=Lax; HttpOnly; Secure",
                "auth_token=; Path=/; Max-Age=0; SameSite=Lax; Domain=.example.org; HttpOnly; Secure",
            ]
        );
    }
}
