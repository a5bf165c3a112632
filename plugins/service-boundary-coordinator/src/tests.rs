//! Every endpoint against a scripted host: success, each refusal, each loss.

mod health;
mod logout;
mod sync;

use lockgate_sdk::double::{Double, Reply};
use lockgate_sdk::wit::jwt;

use crate::routes;

/// A host that knows the token `good` of user 42 and `eve` of user 7.
fn host() -> Double {
    let host = Double::new("service-boundary-coordinator-service");
    host.good("good", |_| {});
    host.good("eve", |claims| {
        claims.sub = Some(jwt::Scalar::Text("7".into()));
        claims.id = None;
        claims.email = Some("eve@example.org".into());
        claims.session_id = Some("s-eve".into());
    });
    host.bad("expired", jwt::Error::Expired);
    host
}

fn error(reply: &Reply) -> (u16, String) {
    (
        reply.status(),
        reply.json()["error"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
    )
}

fn refused(status: u16, error: &str) -> (u16, String) {
    (status, error.to_owned())
}

#[test]
fn ready_for_a_swap() {
    assert_eq!(
        lockgate_sdk::self_test(&host(), &routes()),
        Vec::<String>::new()
    );
}
