//! Mints tokens in every format that is in circulation, and malformed ones. It
//! signs with the key that it is given and checks nothing.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

/// Unix time in seconds.
pub fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("the clock is after 1970");
    since.as_secs() as i64
}

/// Whom a token is for.
#[derive(Debug, Clone)]
pub struct User {
    /// Usable id.
    pub id: u32,
    /// E-mail address.
    pub email: String,
    /// `admin` or `user`.
    pub role: String,
    /// Claim `session_id`.
    pub session_id: String,
}

impl User {
    /// A user of role `user`; e-mail and session follow from the id.
    pub fn new(id: u32) -> Self {
        Self {
            id,
            email: format!("ada{id}@example.org"),
            role: "user".to_owned(),
            session_id: format!("s-{id}Qx"),
        }
    }

    /// The same with role `admin`.
    pub fn admin(id: u32) -> Self {
        Self {
            role: "admin".to_owned(),
            ..Self::new(id)
        }
    }

    /// The same in another session.
    pub fn session(mut self, id: &str) -> Self {
        id.clone_into(&mut self.session_id);
        self
    }
}

/// A mint with one key.
#[derive(Debug, Clone)]
pub struct Tokens {
    key: Vec<u8>,
}

impl Tokens {
    /// A mint for a key; the bytes are used as they are.
    pub fn new(key: &[u8]) -> Self {
        Self {
            key: key.to_owned(),
        }
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// Signs claims with a plain HS256 header.
    pub fn sign(&self, claims: &Value) -> String {
        self.raw(r#"{"alg":"HS256","typ":"JWT"}"#, &claims.to_string())
    }

    /// Signs any two texts with HS256, whatever they say.
    pub fn raw(&self, header: &str, payload: &str) -> String {
        self.seal(&format!("{}.{}", part(header), part(payload)))
    }

    /// Appends the HS256 signature to what is given, and a dot.
    pub fn seal(&self, message: &str) -> String {
        self.seal_with(message, Algorithm::HS256)
    }

    /// Appends a signature of another HMAC algorithm.
    pub fn seal_with(&self, message: &str, algorithm: Algorithm) -> String {
        let key = EncodingKey::from_secret(&self.key);
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, algorithm)
            .expect("sign with HMAC");
        format!("{message}.{signature}")
    }

    /// Claims of today's login; access and refresh tokens look alike.
    pub fn unified_claims(user: &User, lifetime: i64) -> Value {
        let now = now();
        json!({
            "sub": user.id.to_string(), "email": user.email, "id": user.id, "role": user.role,
            "session_id": user.session_id, "device_id": "device-1", "tfa_verified": true,
            "exp": now + lifetime, "iat": now, "nbf": now,
        })
    }

    /// Access token of today's login: 60 minutes.
    pub fn access(&self, user: &User) -> String {
        self.sign(&Self::unified_claims(user, 3_600))
    }

    /// Refresh token of today's login: 7 days, without a mark.
    pub fn refresh(&self, user: &User) -> String {
        self.sign(&Self::unified_claims(user, 604_800))
    }

    /// Refresh token as Lockgate issues it: `token_use` and `jti`.
    pub fn marked_refresh(&self, user: &User) -> String {
        let mut claims = Self::unified_claims(user, 604_800);
        set(&mut claims, "token_use", json!("refresh"));
        set(
            &mut claims,
            "jti",
            json!(format!("jti-{}-{}", user.id, unique())),
        );
        self.sign(&claims)
    }

    /// An access token whose `exp` lies before the leeway.
    pub fn expired(&self, user: &User) -> String {
        let mut claims = Self::unified_claims(user, -120);
        set(&mut claims, "iat", json!(now() - 3_720));
        self.sign(&claims)
    }

    /// Older enhanced access token: no `session_id`.
    pub fn enhanced(&self, user: &User) -> String {
        let now = now();
        self.sign(&json!({
            "sub": user.id.to_string(), "email": user.email, "id": user.id, "role": user.role,
            "exp": now + 3_600, "iat": now, "nbf": now,
        }))
    }

    /// Older enhanced refresh token: no `iat`, `nbf` and `session_id`.
    pub fn enhanced_refresh(&self, user: &User) -> String {
        self.sign(&json!({
            "sub": user.id.to_string(), "email": user.email, "id": user.id, "role": user.role,
            "exp": now() + 604_800,
        }))
    }

    /// Legacy token of the emergency login: `sub` is the e-mail.
    pub fn legacy(&self, user: &User) -> String {
        let now = now();
        self.sign(&json!({
            "sub": user.email, "id": user.id, "role": user.role, "exp": now + 3_600, "iat": now,
        }))
    }

    /// Scoped token: float times, `iss`, list `aud`.
    pub fn scoped(&self, user: &User) -> String {
        let now = now() as f64 + 0.25;
        self.sign(&json!({
            "sub": user.id.to_string(), "email": user.email, "role": user.role,
            "scopes": ["read", "write"], "iat": now, "exp": now + 3_600.0, "nbf": now,
            "iss": "auth", "aud": ["api", "web"], "jti": format!("scoped-{}", unique()),
            "session_id": user.session_id, "device_fingerprint": null,
            "security_level": "standard",
        }))
    }

    /// Cookie variant (`auth_token`): `user_id`, one day.
    pub fn cookie_variant(&self, user: &User) -> String {
        let now = now();
        self.sign(&json!({
            "sub": user.id.to_string(), "email": user.email, "role": user.role,
            "user_id": user.id, "exp": now + 86_400, "iat": now,
        }))
    }

    /// Service token: never a user.
    pub fn service(&self) -> String {
        let now = now();
        self.sign(&json!({
            "sub": "chat-service", "source_service": "chat", "target_service": "api",
            "permissions": ["read"], "scope": "internal", "iss": "auth", "aud": ["api"],
            "jti": format!("service-{}", unique()), "token_type": "service",
            "iat": now, "exp": now + 86_400,
        }))
    }
}

/// base64url without padding.
pub fn part(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// SHA-256 of a token as 64 lower-case hex digits.
pub fn sha256(token: &str) -> String {
    hex::encode(Sha256::digest(token))
}

/// The session id that a token without one gets.
pub fn derived_session(token: &str) -> String {
    format!("jwt-{}", &sha256(token)[..32])
}

/// Decodes the claims of a token, without any check.
pub fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).expect("a token has three parts");
    let bytes = URL_SAFE_NO_PAD
        .decode(payload)
        .expect("a payload of unpadded base64url");
    serde_json::from_slice(&bytes).expect("a payload of JSON")
}

/// Sets or replaces a member of an object.
pub fn set(object: &mut Value, name: &str, value: Value) {
    members(object).insert(name.to_owned(), value);
}

/// Claims without one member.
pub fn without(mut object: Value, name: &str) -> Value {
    members(&mut object).remove(name);
    object
}

fn members(object: &mut Value) -> &mut Map<String, Value> {
    object.as_object_mut().expect("an object")
}

/// A number that differs each time in this process.
pub fn unique() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
