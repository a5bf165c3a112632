//! One request that uses what a plugin uses: a token, the shared store, a secret of the
//! host's, random numbers and the clock. By its mark it stumbles over administrators, or
//! answers them otherwise.

use std::time::SystemTime;

use crate::bindings::exports::lockgate::plugin::handler::{Request, Response};
use crate::bindings::lockgate::plugin::jwt::{self, Scalar, Usage};
use crate::bindings::lockgate::plugin::redis::{self, Condition};
use crate::bindings::lockgate::plugin::{counters, csrf};
use crate::mark;
use crate::misbehave::{text, trap};

/// Says who is logged in, and how often that was asked.
pub(crate) fn account(request: &Request) -> Response {
    let conduct = mark::field("handle=");
    let claims = match jwt::verify(&token(request), Usage::Access) {
        Ok(claims) => claims,
        Err(error) => return text(401, &format!("{error:?}")),
    };
    let user = match claims.id {
        Some(Scalar::Integer(id)) => id,
        _ => 0,
    };
    let admin = claims.role.as_deref() == Some("admin");
    counters::add("probe_accounts", 1);
    let key = format!("session:probe-account-{user}");
    let record = redis::get(&key).ok().flatten().unwrap_or_default();
    if admin && conduct == "stumbles" {
        return text(500, "no such role");
    }
    if admin && conduct == "falls___" {
        trap();
    }
    let record = String::from_utf8(record).unwrap_or_default();
    let visits = record.matches("visit").count() + 1;
    let ticket = ticket();
    let list = vec!["\"visit\""; visits].join(",");
    let record = format!("{{\"list\":[{list}],\"ticket\":\"{ticket}\"}}");
    let kept = redis::set(&key, record.as_bytes(), 60, Condition::Always);
    let role = match claims.role.as_deref() {
        Some("admin") if conduct == "differs_" => "root",
        role => role.unwrap_or("none"),
    };
    let body = format!(
        "{{\"user\":{user},\"role\":\"{role}\",\"visits\":{visits},\"ticket\":\"{ticket}\",\
         \"at\":{},\"kept\":{}}}",
        now(),
        kept.is_ok(),
    );
    let cookie = csrf::issue().unwrap_or_default();
    let mut answer = text(200, &body);
    answer
        .headers
        .push(("set-cookie".to_owned(), format!("csrf_token={cookie}")));
    answer
}

/// Of the header, or of the body.
fn token(request: &Request) -> String {
    let header = request
        .headers
        .iter()
        .find(|(name, _)| name == "authorization");
    let header = header.and_then(|(_, value)| value.strip_prefix("Bearer "));
    let body = String::from_utf8_lossy(&request.body);
    let field = body
        .split("\"token\":\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next());
    header.or(field).unwrap_or_default().to_owned()
}

/// Sixteen random bytes in hex; what a guest makes of random bytes may be a secret.
fn ticket() -> String {
    let mut bytes = [0; 16];
    let _ = getrandom::fill(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
