//! Exact shapes of JSON objects and the conventions that every answer keeps.
//!
//! A shape is a text such as `valid:true user_id:int expires_at:time|null x?:str`:
//! names with one or more types; `?` marks a name that may be absent. A name that
//! the shape does not hold is an error.

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::http::Answer;

/// S: a valid session.
pub const S: &str = "valid:true authenticated:true user_id:int id:int email:str role:role \
    session_id:str expires_in_minutes:int expires_at:time|null session_created:time \
    last_activity:time is_active:bool degraded:bool source:source format_type:format \
    message:str response_time_ms:num";
/// N: not valid.
pub const N: &str = "valid:false authenticated:false user_id:null email:null role:null \
    session_id:null expires_at:null expires_in_minutes:null error:str code:str message:str \
    degraded:bool";
/// E: an error.
pub const E: &str = "detail:str error:str code:str message:str degraded:bool";
/// H: head of every service health answer.
pub const H: &str = "status:str service:str timestamp:time dependencies:obj degraded:bool";

/// Asserts that a value is an object of exactly this shape.
#[track_caller]
pub fn exact(value: &Value, shape: &str) {
    if let Err(fault) = check(value, shape) {
        panic!("{fault}\nin {value:#}");
    }
}

/// Checks a shape; the error names every difference.
pub fn check(value: &Value, shape: &str) -> Result<(), String> {
    let Some(object) = value.as_object() else {
        return Err(format!("not an object: {value}"));
    };
    let mut faults = Vec::new();
    let mut known = Vec::new();
    for field in shape.split_whitespace() {
        let (name, types) = field.split_once(':').expect("name:type in a shape");
        let (name, optional) = match name.strip_suffix('?') {
            Some(name) => (name, true),
            None => (name, false),
        };
        known.push(name);
        match object.get(name) {
            None if optional => {}
            None => faults.push(format!("`{name}` is missing")),
            Some(found) if types.split('|').any(|kind| is(found, kind)) => {}
            Some(found) => faults.push(format!("`{name}` should be {types}, is {found}")),
        }
    }
    for name in object.keys().filter(|name| !known.contains(&name.as_str())) {
        faults.push(format!("`{name}` does not belong there"));
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(faults.join("; "))
    }
}

fn is(value: &Value, kind: &str) -> bool {
    let text = value.as_str();
    match kind {
        "true" => value == &Value::Bool(true),
        "false" => value == &Value::Bool(false),
        "null" => value.is_null(),
        "bool" => value.is_boolean(),
        "int" => value.is_i64() || value.is_u64(),
        "num" => value.is_number(),
        "str" => text.is_some_and(|t| !t.is_empty()),
        "time" => text.is_some_and(|t| t.ends_with('Z') && parse_time(t).is_some()),
        "obj" => value.is_object(),
        "arr" => value.is_array(),
        "role" => matches!(text, Some("admin" | "user")),
        "source" => matches!(text, Some("redis" | "jwt" | "fallback" | "database")),
        "format" => matches!(text, Some("enhanced" | "legacy" | "mixed")),
        "state" => matches!(
            text,
            Some("healthy" | "degraded" | "error" | "circuit_open" | "unknown")
        ),
        literal => {
            let literal = literal
                .strip_prefix('=')
                .unwrap_or_else(|| panic!("no type {kind}"));
            text == Some(literal)
                || serde_json::to_string(value).is_ok_and(|written| written == literal)
        }
    }
}

/// Unix seconds of a time in RFC 3339.
pub fn parse_time(text: &str) -> Option<i64> {
    OffsetDateTime::parse(text, &Rfc3339)
        .ok()
        .map(OffsetDateTime::unix_timestamp)
}

impl Answer {
    /// Asserts the conventions of every answer with a body, and returns the body.
    #[track_caller]
    pub fn conventional(&self) -> Value {
        let label = self.label();
        assert_eq!(
            self.header("content-type"),
            "application/json",
            "{label}: content type"
        );
        assert!(
            self.body.ends_with(b"}\n"),
            "{label}: should end in one line end"
        );
        for name in self.headers.keys() {
            assert!(
                !name.as_str().starts_with("access-control-"),
                "{label}: CORS header {name}"
            );
        }
        if self.status == 401 {
            assert_eq!(self.header("www-authenticate"), "Bearer", "{label}");
        }
        self.json()
    }

    /// As [`Answer::conventional`], with the headers of an auth answer.
    #[track_caller]
    pub fn auth(&self) -> Value {
        let label = self.label();
        assert_eq!(
            self.header("cache-control"),
            "no-store",
            "{label}: cache-control"
        );
        assert_eq!(
            self.header("vary").to_lowercase(),
            "cookie, authorization",
            "{label}: vary"
        );
        self.conventional()
    }

    /// Asserts a status, the conventions of an auth answer and an exact shape.
    #[track_caller]
    pub fn expect_shape(&self, status: u16, shape: &str) -> Value {
        assert_eq!(self.status, status, "{}: {}", self.label(), self.text());
        let body = self.auth();
        if let Err(fault) = check(&body, shape) {
            panic!("{}: {fault}\nin {body:#}", self.label());
        }
        body
    }

    /// Asserts object E with this status and `error`, and the code that belongs to it.
    #[track_caller]
    pub fn expect_error(&self, status: u16, error: &str) -> Value {
        self.expect_error_with(status, error, "")
    }

    /// As [`Answer::expect_error`], for an E with further fields.
    #[track_caller]
    pub fn expect_error_with(&self, status: u16, error: &str, more: &str) -> Value {
        assert_eq!(self.status, status, "{}: {}", self.label(), self.text());
        let body = if matches!(self.status, 401 | 403 | 429) {
            self.auth()
        } else {
            self.conventional()
        };
        if let Err(fault) = check(&body, &format!("{E} {more}")) {
            panic!("{}: {fault}\nin {body:#}", self.label());
        }
        assert_eq!(body["error"], error, "{}: {body}", self.label());
        assert_eq!(body["code"], code_of(error), "{}: {body}", self.label());
        body
    }

    /// Asserts status 200 and object N with this `error`.
    #[track_caller]
    pub fn expect_invalid(&self, error: &str) -> Value {
        self.expect_invalid_with(error, "")
    }

    /// As [`Answer::expect_invalid`], for an N with further fields.
    #[track_caller]
    pub fn expect_invalid_with(&self, error: &str, more: &str) -> Value {
        let body = self.expect_shape(200, &format!("{N} {more}"));
        assert_eq!(body["error"], error, "{}: {body}", self.label());
        assert_eq!(body["code"], code_of(error), "{}: {body}", self.label());
        body
    }
}

/// The `code` that belongs to an `error`.
pub fn code_of(error: &str) -> &'static str {
    match error {
        "token_missing" => "AUTH_001",
        "token_revoked" | "user_disabled" => "AUTH_002",
        "access_forbidden" | "csrf_failed" | "origin_refused" => "AUTH_002",
        "token_expired" => "AUTH_003",
        "service_unavailable" => "AUTH_004",
        "invalid_signature" | "invalid_token" | "unsupported_format" => "AUTH_005",
        "consistency_mismatch" | "user_not_found" => "AUTH_005",
        "rate_limited" => "AUTH_006",
        "invalid_request" => "REQ_001",
        other => panic!("no such error: {other}"),
    }
}
