//! `lockgate token`: signs a token of any format in circulation with the configured
//! secret, for trying things out. Whoever can read the secret can do this anyway;
//! no service uses this code, and nothing but the token is printed.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use clap::ValueEnum as _;
use serde_json::{Value, json};

use crate::config::Config;
use crate::keys::Keys;

const NO_SECRET: &str = "there is no usable JWT secret: JWT_SECRET_FILE must name a file of \
                         at least 32 bytes (scripts/run makes var/dev/jwt_secret)";

const EXAMPLES: &str = "\
Examples:
  TOKEN=$(lockgate token --user-id 42 --email ada@example.org)
  curl -H \"Authorization: Bearer $TOKEN\" http://127.0.0.1:8025/api/v1/auth/verify-token
  lockgate token --kind refresh --session-id s-1
  lockgate token --kind legacy --role admin --expires-in 300
  lockgate token --kind expired";

/// Arguments of `lockgate token`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Which format and use.
    #[arg(long, value_enum, default_value_t = Kind::Access)]
    kind: Kind,
    /// The user's id.
    #[arg(long, default_value_t = 42, value_parser = clap::value_parser!(u32).range(1..=2_147_483_647))]
    user_id: u32,
    /// The user's e-mail.
    #[arg(long, default_value = "ada@example.org")]
    email: String,
    /// The user's role.
    #[arg(long, value_enum, default_value_t = Role::User)]
    role: Role,
    /// Session id, where the format has one; random if not given.
    #[arg(long)]
    session_id: Option<String>,
    /// Seconds from now to the expiry; may be negative. Default: what the format usually has.
    #[arg(long, allow_negative_numbers = true)]
    expires_in: Option<i64>,
}

/// The formats in circulation, and what Lockgate issues itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// As Lockgate issues it: the unified claims and token_use=access (1 h).
    Access,
    /// As Lockgate issues it: the unified claims and token_use=refresh (7 d).
    Refresh,
    /// An access token that expired an hour ago.
    Expired,
    /// Today's login: the unified claims, unmarked (1 h).
    Unified,
    /// Today's login's refresh token: the same claims (7 d).
    UnifiedRefresh,
    /// Older: no session id (1 h).
    Enhanced,
    /// Older refresh token: neither iat nor nbf (7 d).
    EnhancedRefresh,
    /// Emergency login: sub is the e-mail (1 h).
    Legacy,
    /// With scopes, audience and fractional times (1 h).
    Scoped,
    /// What the cookie auth_token holds (1 d).
    Cookie,
    /// Of one service for another: no user, never accepted (1 d).
    Service,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Role {
    User,
    Admin,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Role::User => "user",
            Role::Admin => "admin",
        }
    }
}

impl Kind {
    /// Usual life in seconds.
    fn life(self) -> i64 {
        match self {
            Kind::Expired => -3600,
            Kind::Refresh | Kind::UnifiedRefresh | Kind::EnhancedRefresh => 604_800,
            Kind::Cookie | Kind::Service => 86_400,
            _ => 3600,
        }
    }
}

/// What a test's token is to be.
///
/// # Errors
/// There is no such kind.
pub(super) fn made(token: &super::test::Token) -> anyhow::Result<Args> {
    let kind = Kind::from_str(&token.kind, false);
    Ok(Args {
        kind: kind.map_err(|_| anyhow::anyhow!("there is no kind {:?}", token.kind))?,
        user_id: token.user_id,
        email: token
            .email
            .clone()
            .unwrap_or_else(|| "ada@example.org".to_owned()),
        role: if token.admin { Role::Admin } else { Role::User },
        session_id: token.session_id.clone(),
        expires_in: token.expires_in,
    })
}

/// Signs claims with a key that nobody knows.
pub(super) fn forged(claims: &Value) -> Option<String> {
    let key = jsonwebtoken::EncodingKey::from_secret(&rand::random::<[u8; 32]>());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), claims, &key).ok()
}

impl Args {
    /// The claims at a time in unix seconds.
    ///
    /// # Errors
    /// The time is too far away.
    pub(super) fn at(&self, now: u64) -> anyhow::Result<Value> {
        Ok(claims(self, i64::try_from(now)?, random_hex))
    }
}

/// Signs and prints the token.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = Config::load()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let claims = claims(args, i64::try_from(now)?, random_hex);
    let token = Keys::load(&config.jwt, now).sign(&claims);
    println!("{}", token.context(NO_SECRET)?);
    Ok(ExitCode::SUCCESS)
}

fn random_hex() -> String {
    hex::encode(rand::random::<[u8; 16]>())
}

/// The claims; `fresh` makes random ids.
fn claims(args: &Args, now: i64, fresh: impl Fn() -> String) -> Value {
    let exp = now.saturating_add(args.expires_in.unwrap_or_else(|| args.kind.life()));
    let iat = if exp > now {
        now
    } else {
        exp.saturating_sub(3600)
    };
    let id = args.user_id.to_string();
    let (email, role) = (args.email.as_str(), args.role.name());
    let session = args
        .session_id
        .clone()
        .unwrap_or_else(|| format!("s-{}", fresh()));

    let mut claims = match args.kind {
        Kind::Access | Kind::Refresh | Kind::Expired | Kind::Unified | Kind::UnifiedRefresh => {
            json!({
                "sub": id, "email": email, "id": args.user_id, "role": role,
                "session_id": session, "device_id": fresh(), "tfa_verified": false,
                "exp": exp, "iat": iat, "nbf": iat,
            })
        }
        Kind::Enhanced => json!({
            "sub": id, "email": email, "id": args.user_id, "role": role,
            "exp": exp, "iat": iat, "nbf": iat,
        }),
        Kind::EnhancedRefresh => json!({
            "sub": id, "email": email, "id": args.user_id, "role": role, "exp": exp,
        }),
        Kind::Legacy => json!({
            "sub": email, "id": args.user_id, "role": role, "exp": exp, "iat": iat,
        }),
        Kind::Scoped => scoped(&id, email, role, &args.session_id, (iat, exp), fresh()),
        Kind::Cookie => json!({
            "sub": id, "email": email, "role": role, "user_id": args.user_id, "exp": exp,
        }),
        Kind::Service => json!({
            "sub": "main-api", "source_service": "main-api", "target_service": "chat-service",
            "permissions": ["read"], "scope": "internal", "iss": "main-api",
            "aud": ["chat-service"], "jti": fresh(), "token_type": "service",
            "exp": exp, "iat": iat,
        }),
    };
    let token_use = match args.kind {
        Kind::Access | Kind::Expired => Some("access"),
        Kind::Refresh => Some("refresh"),
        _ => None,
    };
    if let (Some(token_use), Some(claims)) = (token_use, claims.as_object_mut()) {
        claims.insert("token_use".to_owned(), token_use.into());
        claims.insert("jti".to_owned(), fresh().into());
    }
    claims
}

#[expect(
    clippy::cast_precision_loss,
    reason = "this format has fractional times; unix seconds fit an f64 exactly"
)]
fn scoped(
    id: &str,
    email: &str,
    role: &str,
    session: &Option<String>,
    (iat, exp): (i64, i64),
    jti: String,
) -> Value {
    json!({
        "sub": id, "email": email, "role": role, "scopes": ["read", "write"],
        "iat": iat as f64 + 0.25, "nbf": iat as f64 + 0.25, "exp": exp as f64 + 0.25,
        "iss": "main-api", "aud": ["main-api", "chat-service"], "jti": jti,
        "session_id": session, "device_fingerprint": null, "security_level": "standard",
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    const NOW: i64 = 1_900_000_000;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn made(arguments: &[&str]) -> Value {
        let line = ["token"].iter().chain(arguments);
        claims(&Line::parse_from(line).args, NOW, || "fresh".to_owned())
    }

    #[test]
    fn an_access_token_has_the_unified_claims_and_its_use() {
        assert_eq!(
            made(&[
                "--user-id",
                "7",
                "--email",
                "g@h.i",
                "--role",
                "admin",
                "--session-id",
                "s-1"
            ]),
            json!({
                "sub": "7", "email": "g@h.i", "id": 7, "role": "admin", "session_id": "s-1",
                "device_id": "fresh", "tfa_verified": false,
                "exp": NOW + 3600, "iat": NOW, "nbf": NOW, "token_use": "access", "jti": "fresh",
            })
        );
    }

    #[test]
    fn every_kind_has_its_marks() {
        for (kind, marks, absent) in [
            (
                "refresh",
                json!({"token_use": "refresh", "exp": NOW + 604_800}),
                &["user_id"][..],
            ),
            (
                "expired",
                json!({"exp": NOW - 3600, "iat": NOW - 7200}),
                &[],
            ),
            (
                "unified",
                json!({"session_id": "s-fresh", "exp": NOW + 3600}),
                &["token_use", "jti"],
            ),
            (
                "unified-refresh",
                json!({"iat": NOW, "exp": NOW + 604_800}),
                &["token_use"],
            ),
            (
                "enhanced",
                json!({"id": 42, "nbf": NOW}),
                &["session_id", "token_use"],
            ),
            (
                "enhanced-refresh",
                json!({"exp": NOW + 604_800}),
                &["iat", "nbf", "session_id"],
            ),
            (
                "legacy",
                json!({"sub": "ada@example.org", "id": 42}),
                &["email", "nbf"],
            ),
            (
                "scoped",
                json!({"session_id": null, "iat": NOW as f64 + 0.25}),
                &["id"],
            ),
            (
                "cookie",
                json!({"user_id": 42, "exp": NOW + 86_400}),
                &["iat", "id"],
            ),
            (
                "service",
                json!({"token_type": "service"}),
                &["email", "role"],
            ),
        ] {
            let claims = made(&["--kind", kind]);
            for (name, value) in marks.as_object().unwrap() {
                assert_eq!(&claims[name], value, "{kind}: {name}");
            }
            for name in absent {
                assert!(claims.get(name).is_none(), "{kind} has {name}");
            }
        }
    }

    #[test]
    fn a_negative_life_is_an_expired_token() {
        let claims = made(&["--expires-in", "-30"]);
        assert_eq!(claims["exp"], NOW - 30);
        assert_eq!(claims["iat"], NOW - 3630);
    }
}
