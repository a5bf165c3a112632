//! A tape that records, plays, shadows.

use serde_json::json;

use super::*;

fn entry(function: &str, arguments: Value, result: Value) -> Entry {
    Entry {
        function: function.to_owned(),
        arguments,
        result,
    }
}

/// Asks for a text; the host would say `host`.
fn ask(tape: &Tape, function: &str, argument: &str) -> Result<String, Difference> {
    Ok(match tape.next(function, (argument,))? {
        Step::Result(text) => text,
        Step::Ask => {
            tape.note(&"host");
            "host".to_owned()
        }
    })
}

fn two() -> Vec<Entry> {
    vec![
        entry("redis.get", json!(["a"]), json!("1")),
        entry("redis.get", json!(["b"]), json!("2")),
    ]
}

#[test]
fn what_the_host_says_is_written_down() {
    let tape = Tape::recording();
    assert_eq!(ask(&tape, "redis.get", "a").unwrap(), "host");
    let bytes: Vec<u8> = tape.value("random.secure", [3], || vec![104, 105, 255]);
    assert_eq!(bytes, [104, 105, 255]);
    let text: Vec<u8> = tape.value("random.secure", [2], || b"hi".to_vec());
    assert_eq!(text, b"hi");
    let expected = [
        entry("redis.get", json!(["a"]), json!("host")),
        entry("random.secure", json!([3]), json!({"base64": "aGn/"})),
        entry("random.secure", json!([2]), json!({"text": "hi"})),
    ];
    assert_eq!(tape.made(), expected);
    assert_eq!(tape.difference(), None);
    let again = Tape::replaying(tape.made());
    assert_eq!(ask(&again, "redis.get", "a").unwrap(), "host");
    let bytes: Vec<u8> = again.value("random.secure", [3], Vec::new);
    assert_eq!(bytes, [104, 105, 255]);
    assert!(matches!(
        again.difference(),
        Some(Difference::Fewer { number: 3, .. })
    ));
}

#[test]
fn what_is_kept_of_a_call_is_bounded() {
    let tape = Tape::recording();
    let large = "x".repeat(1 << 20);
    for number in 1..=20 {
        ask(&tape, "redis.get", &large).unwrap();
        assert_eq!(tape.is_cut(), number >= 8, "{number}");
    }
    assert!(tape.made().is_empty());
}

#[test]
fn numbers_among_the_arguments_are_no_bytes() {
    let tape = Tape::recording();
    let _: Step<()> = tape.next("fallback.find", (42_u32,)).unwrap();
    assert_eq!(tape.made()[0].arguments, json!([42]));
}

#[test]
fn a_replay_tells_the_first_difference() {
    let tape = Tape::replaying(two());
    assert_eq!(ask(&tape, "redis.get", "a").unwrap(), "1");
    assert_eq!(ask(&tape, "redis.get", "b").unwrap(), "2");
    assert_eq!(tape.difference(), None);
    assert_eq!(ask(&tape, "redis.get", "c").unwrap(), "host");
    assert!(matches!(
        tape.difference(),
        Some(Difference::More { number: 3, .. })
    ));

    let other = Tape::replaying(two());
    assert_eq!(ask(&other, "redis.get", "c").unwrap(), "host");
    assert_eq!(
        other.difference().unwrap().to_string(),
        "host call 1: recorded was redis.get(\"a\"), it made redis.get(\"c\")"
    );
    let outside: Step<Value> = other.next("users.lookup", ()).unwrap();
    assert!(matches!(outside, Step::Result(_)), "nobody else is asked");

    let form = Tape::replaying(vec![entry("redis.get", json!(["a"]), json!(5))]);
    assert!(matches!(
        ask(&form, "redis.get", "a"),
        Err(Difference::Form { number: 1, .. })
    ));
}

#[test]
fn what_is_asked_in_another_order_is_answered_and_told() {
    let tape = Tape::replaying(two());
    assert_eq!(ask(&tape, "redis.get", "b").unwrap(), "2");
    assert!(matches!(
        tape.difference(),
        Some(Difference::Call { number: 1, .. })
    ));
    assert_eq!(ask(&tape, "redis.get", "a").unwrap(), "1");
}

#[test]
fn in_order_the_arguments_do_not_matter_but_the_functions_do() {
    let tape = Tape::in_order(two());
    assert_eq!(ask(&tape, "redis.get", "x").unwrap(), "1");
    assert!(ask(&tape, "redis.take", "x").is_err());
    assert_eq!(tape.made()[0], entry("redis.get", json!(["x"]), json!("1")));
}

#[test]
fn a_shadow_changes_nothing() {
    let tape = Tape::shadowing(two());
    assert_eq!(ask(&tape, "redis.get", "b").unwrap(), "2");
    assert_eq!(
        ask(&tape, "redis.get", "b").unwrap(),
        "host",
        "it was asked once"
    );
    assert!(tape.alone().more.is_empty(), "reading changes nothing");
    let step: Step<Result<u32, u32>> = tape.next("sockets.close", (42, "x")).unwrap();
    assert!(matches!(step, Step::Result(Ok(0))));
    assert_eq!(
        ask(&tape, "redis.take", "c").unwrap(),
        "host",
        "the overlay answers"
    );
    assert_eq!(tape.alone().more, ["sockets.close", "redis.take"]);
    assert!(tape.alone().fewer.is_empty(), "what is left reads");
    let left = Tape::shadowing(vec![entry("redis.set", json!(["a"]), json!("1"))]);
    assert_eq!(left.alone().fewer, ["redis.set"]);
}

/// What a shadow gets has the types of `wit/`.
#[test]
fn stand_ins_have_the_right_form() {
    use crate::bindings::lockgate::plugin as wit;
    fn gets<T: DeserializeOwned>(function: &str) {
        let tape = Tape::shadowing(Vec::new());
        let step = tape.next::<_, T>(function, ());
        assert!(matches!(step, Ok(Step::Result(_))), "{function}");
    }
    type Fallback<T> = Result<T, wit::fallback::Error>;
    type Revoked = Result<wit::revocations::Done, wit::revocations::Error>;
    gets::<()>("counters.add");
    gets::<Result<wit::events::Published, wit::events::Error>>("events.publish");
    gets::<Fallback<()>>("fallback.copy");
    gets::<Fallback<wit::fallback::Created>>("fallback.create");
    gets::<Fallback<bool>>("fallback.remove");
    gets::<Fallback<bool>>("fallback.update");
    gets::<Result<wit::jwt::Tokens, wit::jwt::ReissueError>>("jwt.reissue");
    gets::<Result<(), u32>>("limiter.take");
    gets::<Revoked>("revocations.revoke-session");
    gets::<Revoked>("revocations.revoke-token");
    gets::<Revoked>("revocations.revoke-user");
    gets::<Result<u32, wit::sockets::Error>>("sockets.close");
}

#[test]
fn a_clock_stands_where_the_tape_ends() {
    let calls = vec![entry("clock.wall", Value::Null, json!([7, 0]))];
    let tape = Tape::replaying(calls);
    let now = || -> (u64, u32) { tape.value("clock.wall", (), || (99, 0)) };
    assert_eq!(now(), (7, 0));
    assert_eq!(now(), (7, 0));
}
