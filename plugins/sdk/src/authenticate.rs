//! Who is logged in: verify, normalise, revocations, users. Every service that checks
//! tokens goes through here; what it answers is its own.

use std::cmp::Ordering;

use lockgate_identity::{Format, Role, Scalar, normalise, session_id};

use crate::answer::Fault;
use crate::health::redis_away;
use crate::host::Host;
use crate::token::{Presented, Source};
use crate::wit::jwt::{self, Usage};
use crate::wit::revocations::Subject;
use crate::wit::users;

/// A good token's user and session.
#[derive(Debug, Clone, PartialEq)]
pub struct Login {
    /// 1 to 2147483647.
    pub user_id: u32,
    /// Holds an `@`. Spelled as in the users table where known, else as in the token.
    pub email: String,
    /// From the users table where known, else from the token.
    pub role: Role,
    /// How the identity was found in the claims.
    pub format: Format,
    /// The claim, or derived from the token.
    pub session_id: String,
    /// `session_id` was derived, so a revocation must name the token as well.
    pub derived_session: bool,
    /// The token itself, for host functions that take it.
    pub token: String,
    /// 64 lower-case hex digits.
    pub token_sha256: String,
    /// Where the token was found.
    pub source: Source,
    /// `iat`, unix seconds.
    pub issued_at: Option<u64>,
    /// `exp`, unix seconds.
    pub expires_at: Option<u64>,
    /// The user is known to be active. Without that nobody gets admin rights.
    pub user_known: bool,
    /// A configured dependency could not be asked.
    pub degraded: bool,
}

impl Login {
    /// True only for an admin whose state is known.
    #[must_use]
    pub fn is_admin(&self) -> bool {
        self.user_known && self.role == Role::Admin
    }

    /// What to ask and to write revocations with.
    #[must_use]
    pub fn subject(&self) -> Subject {
        Subject {
            user_id: self.user_id,
            session_id: self.session_id.clone(),
            token_sha256: self.token_sha256.clone(),
            issued_at: self.issued_at,
        }
    }

    /// Seconds until `exp`, at least 0.
    #[must_use]
    pub fn expires_in(&self, now: u64) -> Option<u64> {
        self.expires_at.map(|end| end.saturating_sub(now))
    }
}

/// Why nobody is logged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The finding.
    pub fault: Fault,
    /// A configured dependency could not be asked.
    pub degraded: bool,
}

impl From<Fault> for Refusal {
    /// A finding that no dependency had to be asked for.
    fn from(fault: Fault) -> Self {
        Self {
            fault,
            degraded: false,
        }
    }
}

/// How tokens are to be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// What the token is to be used for.
    pub usage: Usage,
    /// Ask no other service about users, and write nothing of what is read.
    pub quiet: bool,
}

impl Policy {
    /// An access token by the usual rules.
    pub const ACCESS: Self = Self {
        usage: Usage::Access,
        quiet: false,
    };
    /// An access token by the strict rules of emergencies.
    pub const STRICT: Self = Self {
        usage: Usage::StrictAccess,
        quiet: false,
    };
}

/// The first token that verifies and is not revoked.
///
/// Two tokens that verify for different users are refused as a whole, so that users
/// are never mixed; a token that does not verify hides no other.
///
/// # Errors
/// A revoked or disabled finding if there is one, else the fault of the first token,
/// else [`Fault::TokenMissing`]. [`Fault::ServiceUnavailable`] without a secret.
pub fn authenticate<H: Host>(
    host: &H,
    presented: &[Presented<'_>],
    policy: Policy,
) -> Result<Login, Refusal> {
    let away = redis_away(host);
    let refuse = |fault| Refusal {
        fault,
        degraded: away,
    };
    let Some(first) = presented.first() else {
        let fault = if host.jwt_ready() {
            Fault::TokenMissing
        } else {
            Fault::ServiceUnavailable
        };
        return Err(refuse(fault));
    };
    let mut first_fault = None;
    let mut verified: Vec<Login> = Vec::new();
    for sent in presented {
        match verify(host, sent, policy.usage) {
            Ok(login) => verified.push(login),
            Err(Fault::ServiceUnavailable) => return Err(refuse(Fault::ServiceUnavailable)),
            Err(fault) if sent == first => first_fault = Some(fault),
            Err(_) => {}
        }
    }
    if differ(&verified) {
        return Err(refuse(Fault::ConsistencyMismatch));
    }
    let mut degraded = away;
    let mut revoked = false;
    for login in verified {
        let verdict = host.revocation_check(&login.subject());
        degraded |= !verdict.asked;
        if verdict.revoked {
            revoked = true;
            continue;
        }
        return with_user(host, login, policy.quiet, degraded);
    }
    let found = if revoked {
        Some(Fault::TokenRevoked)
    } else {
        first_fault
    };
    Err(Refusal {
        fault: found.unwrap_or(Fault::InvalidToken),
        degraded,
    })
}

fn differ(verified: &[Login]) -> bool {
    verified.windows(2).any(|pair| match pair {
        [a, b] => a.user_id != b.user_id,
        _ => false,
    })
}

/// Checks form, signature, times, use and identity of one token; asks neither
/// revocations nor users.
///
/// # Errors
/// What is wrong with the token; [`Fault::ServiceUnavailable`] without a secret.
pub fn verify<H: Host>(host: &H, sent: &Presented<'_>, usage: Usage) -> Result<Login, Fault> {
    let claims = host.jwt_verify(sent.token, usage).map_err(fault)?;
    let identity = normalise(&view(&claims)).map_err(|_| Fault::UnsupportedFormat)?;
    let session = session_id(claims.session_id.as_deref(), &claims.token_sha256);
    Ok(Login {
        user_id: identity.user_id,
        email: identity.email,
        role: identity.role,
        format: identity.format,
        derived_session: claims.session_id.as_deref() != Some(&session),
        session_id: session,
        token: sent.token.to_owned(),
        token_sha256: claims.token_sha256,
        source: sent.source,
        issued_at: claims.issued_at,
        expires_at: claims.expires_at,
        user_known: false,
        degraded: false,
    })
}

fn with_user<H: Host>(
    host: &H,
    login: Login,
    quiet: bool,
    degraded: bool,
) -> Result<Login, Refusal> {
    let answer = host.user_lookup(login.user_id, &login.token, quiet);
    let degraded = degraded || answer.degraded;
    match judge(&login.email, answer.state) {
        Ok(Some(listed)) => Ok(Login {
            email: listed.email,
            role: listed.role,
            user_known: true,
            degraded,
            ..login
        }),
        Ok(None) => Ok(Login { degraded, ..login }),
        Err(fault) => Err(Refusal { fault, degraded }),
    }
}

/// What the users table says of an active user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// As it is spelled there.
    pub email: String,
    /// The role.
    pub role: Role,
}

/// What the users table means for a token: what it says if known, or a refusal.
///
/// # Errors
/// A disabled or missing user, or one with another e-mail.
pub fn judge(email: &str, state: users::State) -> Result<Option<Listed>, Fault> {
    match state {
        users::State::Active(user) if same_email(&user.email, email) => {
            let email = user.email;
            Ok(Role::parse(&user.role).map(|role| Listed { email, role }))
        }
        users::State::Active(_) => Err(Fault::ConsistencyMismatch),
        users::State::Disabled => Err(Fault::UserDisabled),
        users::State::Missing => Err(Fault::UserNotFound),
        users::State::Unknown => Ok(None),
    }
}

/// Compares e-mails without case.
#[must_use]
pub fn same_email(a: &str, b: &str) -> bool {
    let lower = |text: &str| {
        text.trim()
            .chars()
            .flat_map(char::to_lowercase)
            .collect::<String>()
    };
    lower(a).cmp(&lower(b)) == Ordering::Equal
}

/// What a refused token means.
#[must_use]
pub fn fault(error: jwt::Error) -> Fault {
    match error {
        jwt::Error::InvalidToken => Fault::InvalidToken,
        jwt::Error::InvalidSignature => Fault::InvalidSignature,
        jwt::Error::Expired => Fault::TokenExpired,
        jwt::Error::NoSecret | jwt::Error::Denied => Fault::ServiceUnavailable,
    }
}

/// The claims as the rules of identity read them.
#[must_use]
pub fn view(claims: &jwt::Claims) -> lockgate_identity::Claims<'_> {
    lockgate_identity::Claims {
        sub: claims.sub.as_ref().map(scalar),
        id: claims.id.as_ref().map(scalar),
        user_id: claims.user_id.as_ref().map(scalar),
        email: claims.email.as_deref(),
        username: claims.username.as_deref(),
        role: claims.role.as_deref(),
        session_id: claims.session_id.as_deref(),
        token_type: claims.token_type.as_deref(),
    }
}

fn scalar(value: &jwt::Scalar) -> Scalar<'_> {
    match value {
        jwt::Scalar::Text(text) => Scalar::Text(text),
        jwt::Scalar::Integer(number) => Scalar::Integer(*number),
        jwt::Scalar::Number(number) => Scalar::Number(*number),
        jwt::Scalar::Boolean(flag) => Scalar::Boolean(*flag),
        jwt::Scalar::Other => Scalar::Other,
    }
}
