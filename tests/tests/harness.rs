//! The harness itself: its Redis and its tokens are what the other tests believe
//! them to be.

use lockgate_tests::{RedisServer, Tokens, User, shape, tokens};
use serde_json::json;

/// The default user is refused, the host's user is held to its rights, and data
/// outlives an abrupt end but not an empty start.
#[tokio::test(flavor = "multi_thread")]
async fn redis_is_as_deployed() {
    let mut server = RedisServer::start().await;
    let bare = redis::Client::open(server.bare_url()).unwrap();
    let refused = match bare.get_multiplexed_async_connection().await {
        Ok(mut link) => {
            redis::cmd("GET")
                .arg("x")
                .query_async::<Option<String>>(&mut link)
                .await
        }
        Err(error) => Err(error),
    };
    assert!(refused.unwrap_err().to_string().contains("NOAUTH"));

    let client = redis::Client::open(server.url()).unwrap();
    let mut link = client.get_multiplexed_async_connection().await.unwrap();
    let set: String = redis::cmd("SET")
        .arg("x")
        .arg("1")
        .query_async(&mut link)
        .await
        .unwrap();
    assert_eq!(set, "OK");
    let keys: redis::RedisResult<Vec<String>> =
        redis::cmd("KEYS").arg("*").query_async(&mut link).await;
    assert_eq!(keys.unwrap_err().code(), Some("NOPERM"));

    server.kill();
    server.start_again().await;
    assert_eq!(server.get("x").await.as_deref(), Some("1"));
    server.kill();
    server.start_empty().await;
    assert_eq!(server.keys().await, Vec::<String>::new());
}

/// Tokens carry the claims of their format, signed with the bytes of the key.
#[test]
fn tokens_are_signed_with_the_bytes_as_they_are() {
    let mint = Tokens::new(b"line one of the key\nline two of the key");
    let token = mint.access(&User::new(42));
    let claims = tokens::claims(&token);
    assert_eq!((&claims["sub"], &claims["id"]), (&json!("42"), &json!(42)));
    let key = jsonwebtoken::DecodingKey::from_secret(mint.key());
    let rules = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::HS256);
    jsonwebtoken::decode::<serde_json::Value>(&token, &key, &rules).unwrap();
}

/// The shape check finds what is missing, too much and of a wrong type.
#[test]
fn shapes_are_exact() {
    let shape = "a:int b:time|null c?:str";
    assert_eq!(
        shape::check(&json!({"a": 1, "b": "2031-05-04T09:00:00Z"}), shape),
        Ok(())
    );
    for wrong in [
        json!({"a": 1}),
        json!({"a": "1", "b": null}),
        json!({"a": 1, "b": "2031-05-04T09:00:00+00:00"}),
        json!({"a": 1, "b": null, "c": null}),
        json!({"a": 1, "b": null, "d": 1}),
        json!([]),
    ] {
        assert!(shape::check(&wrong, shape).is_err(), "{wrong}");
    }
}
