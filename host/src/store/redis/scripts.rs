//! What Redis does in one step on one key, in Lua: `KEYS[1]` and its arguments.

/// Replaces a value that is as expected: 1, else 0.
pub const COMPARE_AND_SET: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then \
     redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3]) return 1 else return 0 end";
/// Adds, and gives a new key its time to live.
pub const INCREMENT: &str = "local value = redis.call('INCRBY', KEYS[1], ARGV[1]) \
     if redis.call('TTL', KEYS[1]) < 0 then redis.call('EXPIRE', KEYS[1], ARGV[2]) end \
     return value";
/// Adds a member and restarts the time to live: 1 if it was not there.
pub const SET_ADD: &str = "local added = redis.call('SADD', KEYS[1], ARGV[1]) \
     redis.call('EXPIRE', KEYS[1], ARGV[2]) return added";
