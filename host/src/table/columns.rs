//! Which columns the users table has, and the query for those of interest. Only names
//! that stand here become part of a query.

/// The names of the table's columns. `users` is found as the user's search path says;
/// without such a table there are none.
pub(super) const COLUMNS: &str = "SELECT attname::text FROM pg_catalog.pg_attribute \
     WHERE attrelid = pg_catalog.to_regclass('users') AND attnum > 0 AND NOT attisdropped";

/// What differs between the variants of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Columns {
    is_active: bool,
    status: bool,
}

impl Columns {
    /// # Errors
    /// What is missing without which the table is of no use, in words.
    pub(super) fn of(names: &[String]) -> Result<Columns, String> {
        let has = |name: &str| names.iter().any(|known| known == name);
        if names.is_empty() {
            return Err("there is no table users".to_owned());
        }
        for needed in ["id", "email", "role"] {
            if !has(needed) {
                return Err(format!("the table users has no column {needed}"));
            }
        }
        Ok(Columns {
            is_active: has("is_active"),
            status: has("status"),
        })
    }

    /// E-mail, role, `is_active` and `status` of the user `$1`. Everything is cast to a
    /// type that the client knows: it would ask for that of an enum with a named
    /// statement.
    pub(super) fn query(self) -> String {
        let is_active = if self.is_active {
            "is_active::bool"
        } else {
            "true"
        };
        let status = if self.status {
            "status::text"
        } else {
            "'active'::text"
        };
        format!(
            "SELECT email::text, role::text, {is_active}, {status} FROM users WHERE id = $1 LIMIT 1"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(names: &[&str]) -> Result<String, String> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        Columns::of(&names).map(Columns::query)
    }

    #[test]
    fn only_what_is_there_is_asked_for() {
        assert_eq!(
            query(&["id", "email", "role", "password_hash", "totp_secret"]).unwrap(),
            "SELECT email::text, role::text, true, 'active'::text FROM users WHERE id = $1 LIMIT 1"
        );
        assert_eq!(
            query(&["status", "role", "is_active", "id", "username", "email"]).unwrap(),
            "SELECT email::text, role::text, is_active::bool, status::text FROM users \
             WHERE id = $1 LIMIT 1"
        );
    }

    #[test]
    fn without_the_rest_the_table_is_of_no_use() {
        assert_eq!(query(&[]).unwrap_err(), "there is no table users");
        assert_eq!(
            query(&["id", "role"]).unwrap_err(),
            "the table users has no column email"
        );
    }
}
