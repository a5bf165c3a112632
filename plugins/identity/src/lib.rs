//! Turns the claims of every token format in circulation into one identity.
//!
//! It owns the rules for user ids, roles and session ids, and nothing else: no
//! signatures, no times, no revocations, no input or output. Both the host and the
//! plugins use it, so that one token can never mean two users.

use std::fmt;

/// Largest user id: ids are positive 32-bit integers in the users table.
pub const MAX_USER_ID: u32 = 2_147_483_647;

/// Longest session id that is taken from a claim, in characters.
pub const MAX_SESSION_ID: usize = 128;

/// A claim whose JSON type differs between the formats.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scalar<'a> {
    /// A JSON string.
    Text(&'a str),
    /// A JSON number without fraction or exponent.
    Integer(i64),
    /// Any other JSON number; never an id.
    Number(f64),
    /// A JSON boolean; never an id.
    Boolean(bool),
    /// `null`, an array or an object.
    Other,
}

impl<'a> Scalar<'a> {
    /// The text, if it is one.
    #[must_use]
    pub fn text(self) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// The verified claims that say who a token belongs to. Empty by default.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Claims<'a> {
    /// `sub`
    pub sub: Option<Scalar<'a>>,
    /// `id`
    pub id: Option<Scalar<'a>>,
    /// `user_id`
    pub user_id: Option<Scalar<'a>>,
    /// `email`
    pub email: Option<&'a str>,
    /// `username`
    pub username: Option<&'a str>,
    /// `role`
    pub role: Option<&'a str>,
    /// `session_id`; see [`session_id`].
    pub session_id: Option<&'a str>,
    /// `token_type`; `service` marks a token between services.
    pub token_type: Option<&'a str>,
}

/// What a user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// May act for other users.
    Admin,
    /// May act for itself.
    User,
}

impl Role {
    /// Exactly `admin` or `user`; anything else is no role.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "admin" => Some(Self::Admin),
            "user" => Some(Self::User),
            _ => None,
        }
    }

    /// `admin` or `user`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::User => "user",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How the identity was found in the claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// `sub` is the id, `email` the e-mail.
    Enhanced,
    /// `sub` is the e-mail, `id` the id.
    Legacy,
    /// Any other arrangement.
    Mixed,
}

impl Format {
    /// `enhanced`, `legacy` or `mixed`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enhanced => "enhanced",
            Self::Legacy => "legacy",
            Self::Mixed => "mixed",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who a token belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// 1 to [`MAX_USER_ID`].
    pub user_id: u32,
    /// Holds an `@`.
    pub email: String,
    /// As the token says; the users table may know better.
    pub role: Role,
    /// How it was found.
    pub format: Format,
}

/// The claims hold no identity that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsupported;

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the claims hold no usable id, e-mail and role")
    }
}

impl std::error::Error for Unsupported {}

/// The identity in verified claims: enhanced, else legacy, else mixed.
///
/// # Errors
/// [`Unsupported`] if id, e-mail or role is missing or unusable in all three, and
/// always for service tokens.
pub fn normalise(claims: &Claims<'_>) -> Result<Identity, Unsupported> {
    if claims.token_type == Some("service") {
        return Err(Unsupported);
    }
    let role = claims.role.and_then(Role::parse).ok_or(Unsupported)?;
    let (user_id, email, format) = enhanced(claims)
        .or_else(|| legacy(claims))
        .or_else(|| mixed(claims))
        .ok_or(Unsupported)?;
    Ok(Identity {
        user_id,
        email: email.to_owned(),
        role,
        format,
    })
}

fn enhanced<'a>(claims: &Claims<'a>) -> Option<(u32, &'a str, Format)> {
    Some((
        usable_id(claims.sub?)?,
        address(claims.email)?,
        Format::Enhanced,
    ))
}

fn legacy<'a>(claims: &Claims<'a>) -> Option<(u32, &'a str, Format)> {
    let email = address(claims.sub?.text())?;
    Some((usable_id(claims.id?)?, email, Format::Legacy))
}

fn mixed<'a>(claims: &Claims<'a>) -> Option<(u32, &'a str, Format)> {
    let user_id = [claims.sub, claims.id, claims.user_id]
        .into_iter()
        .flatten()
        .find_map(usable_id)?;
    let sub = claims.sub.and_then(Scalar::text);
    let email = [claims.email, sub, claims.username]
        .into_iter()
        .find_map(address)?;
    Some((user_id, email, Format::Mixed))
}

fn address(text: Option<&str>) -> Option<&str> {
    text.filter(|text| text.contains('@'))
}

/// A user id: an integer or a string of ASCII digits, 1 to [`MAX_USER_ID`].
/// Booleans and numbers with a fraction are no ids.
#[must_use]
pub fn usable_id(value: Scalar<'_>) -> Option<u32> {
    let id = match value {
        Scalar::Integer(number) => u32::try_from(number).ok()?,
        Scalar::Text(text) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => {
            text.parse().ok()?
        }
        _ => return None,
    };
    (1..=MAX_USER_ID).contains(&id).then_some(id)
}

/// The claim `session_id` if it is usable, else one that is derived from the
/// token's SHA-256 (lower-case hex): `jwt-` and its first 32 digits. Never empty.
#[must_use]
pub fn session_id(claim: Option<&str>, token_sha256: &str) -> String {
    match claim {
        Some(claim) if usable_session_id(claim) => claim.to_owned(),
        _ => format!("jwt-{}", token_sha256.get(..32).unwrap_or(token_sha256)),
    }
}

/// 1 to [`MAX_SESSION_ID`] characters of `A-Za-z0-9._-`, and not digits only: in the
/// shared store session records and user records share a key prefix.
#[must_use]
pub fn usable_session_id(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_SESSION_ID
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        && !text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests;
