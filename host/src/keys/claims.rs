//! The claims of a verified token, typed. It judges types, not meaning.

use serde_json::{Map, Value};

/// A claim whose JSON type differs between the formats in circulation.
#[derive(Debug, Clone, PartialEq)]
pub enum Scalar {
    /// A string.
    Text(String),
    /// A number written without fraction or exponent.
    Integer(i64),
    /// Any other number.
    Number(f64),
    /// True or false.
    Boolean(bool),
    /// `null`, an array or an object.
    Other,
}

/// The claims. One of an unexpected type counts as absent, except where
/// [`Scalar`] keeps the type.
#[derive(Debug, Clone, PartialEq)]
pub struct Claims {
    /// SHA-256 of the token as sent, 64 lower-case hex digits.
    pub token_sha256: String,
    /// `sub`.
    pub sub: Option<Scalar>,
    /// `id`.
    pub id: Option<Scalar>,
    /// `user_id`.
    pub user_id: Option<Scalar>,
    /// `email`.
    pub email: Option<String>,
    /// `username`.
    pub username: Option<String>,
    /// `role`.
    pub role: Option<String>,
    /// `session_id`.
    pub session_id: Option<String>,
    /// `token_use`.
    pub token_use: Option<String>,
    /// `token_type`.
    pub token_type: Option<String>,
    /// `exp` in whole unix seconds.
    pub expires_at: Option<u64>,
    /// `iat` in whole unix seconds.
    pub issued_at: Option<u64>,
    /// `nbf` in whole unix seconds.
    pub not_before: Option<u64>,
    /// `auth_time` in whole unix seconds: when the user logged in.
    pub auth_time: Option<u64>,
    /// `device_id`.
    pub device_id: Option<String>,
    /// `tfa_verified`.
    pub tfa_verified: Option<bool>,
    /// `jti`.
    pub jti: Option<String>,
}

/// Latest time that a claim may name: the end of the year 9999.
pub(super) const LATEST: u64 = 253_402_300_799;

impl Claims {
    /// Takes out the claims that plugins are shown by name, as text, where the token has
    /// them.
    pub fn take_extensions(&mut self) -> Vec<(String, String)> {
        let extensions = [
            ("device_id", self.device_id.take()),
            ("jti", self.jti.take()),
            (
                "tfa_verified",
                self.tfa_verified.map(|flag| flag.to_string()),
            ),
            ("auth_time", self.auth_time.map(|time| time.to_string())),
            ("nbf", self.not_before.map(|time| time.to_string())),
        ];
        extensions
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)))
            .collect()
    }

    /// Reads the claims of a token whose times lie in range.
    pub(super) fn read(object: &Map<String, Value>, token_sha256: String) -> Claims {
        let text = |name: &str| object.get(name).and_then(Value::as_str).map(str::to_owned);
        let scalar = |name: &str| object.get(name).map(Scalar::read);
        let seconds = |name: &str| object.get(name).and_then(seconds);
        Claims {
            token_sha256,
            sub: scalar("sub"),
            id: scalar("id"),
            user_id: scalar("user_id"),
            email: text("email"),
            username: text("username"),
            role: text("role"),
            session_id: text("session_id"),
            token_use: text("token_use"),
            token_type: text("token_type"),
            expires_at: seconds("exp"),
            issued_at: seconds("iat"),
            not_before: seconds("nbf"),
            auth_time: seconds("auth_time"),
            device_id: text("device_id"),
            tfa_verified: object.get("tfa_verified").and_then(Value::as_bool),
            jti: text("jti"),
        }
    }

    /// Who the token speaks of, by the rules shared with the plugins.
    ///
    /// # Errors
    /// The claims hold no usable identity.
    pub fn identity(&self) -> Result<lockgate_identity::Identity, lockgate_identity::Unsupported> {
        lockgate_identity::normalise(&lockgate_identity::Claims {
            sub: self.sub.as_ref().map(Scalar::borrow),
            id: self.id.as_ref().map(Scalar::borrow),
            user_id: self.user_id.as_ref().map(Scalar::borrow),
            email: self.email.as_deref(),
            username: self.username.as_deref(),
            role: self.role.as_deref(),
            session_id: self.session_id.as_deref(),
            token_type: self.token_type.as_deref(),
        })
    }

    /// The session that the token belongs to; derived from the token's hash if it
    /// names none.
    pub fn session(&self) -> String {
        lockgate_identity::session_id(self.session_id.as_deref(), &self.token_sha256)
    }
}

impl Scalar {
    fn read(value: &Value) -> Scalar {
        match value {
            Value::String(text) => Scalar::Text(text.clone()),
            Value::Bool(flag) => Scalar::Boolean(*flag),
            Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(integer), _) => Scalar::Integer(integer),
                (None, Some(float)) => Scalar::Number(float),
                (None, None) => Scalar::Other,
            },
            Value::Null | Value::Array(_) | Value::Object(_) => Scalar::Other,
        }
    }

    fn borrow(&self) -> lockgate_identity::Scalar<'_> {
        match self {
            Scalar::Text(text) => lockgate_identity::Scalar::Text(text),
            Scalar::Integer(integer) => lockgate_identity::Scalar::Integer(*integer),
            Scalar::Number(number) => lockgate_identity::Scalar::Number(*number),
            Scalar::Boolean(flag) => lockgate_identity::Scalar::Boolean(*flag),
            Scalar::Other => lockgate_identity::Scalar::Other,
        }
    }
}

/// A number in range, cut to whole seconds.
pub(super) fn seconds(value: &Value) -> Option<u64> {
    let whole = match value.as_u64() {
        Some(whole) => whole,
        None => {
            let float = value.as_f64()?;
            if !(0.0..=LATEST as f64).contains(&float) {
                return None;
            }
            // In range, so that the cast only drops the fraction.
            float as u64
        }
    };
    (whole <= LATEST).then_some(whole)
}
