//! Times as callers see them. It owns the text forms and nothing else; what time it
//! is, the host says.

use serde::{Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

/// The last second that has a four-digit year.
pub const MAX: u64 = 253_402_300_799;

/// Unix seconds that are written as RFC 3339 in UTC, with `Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub u64);

impl Time {
    /// `2031-05-04T09:00:00Z` (RFC 3339 section 5.6). Later than [`MAX`] counts as [`MAX`].
    #[must_use]
    pub fn text(self) -> String {
        moment(self.0).format(&Rfc3339).unwrap_or_default()
    }

    /// `2031-05-04T09:00:00`: UTC without saying so, for the session records that
    /// other programs read.
    #[must_use]
    pub fn naive(self) -> String {
        let form = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");
        moment(self.0).format(form).unwrap_or_default()
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text())
    }
}

/// Unix seconds, cut, of an RFC 3339 time or of a naive one, which counts as UTC. A
/// blank instead of `T` is accepted. None for anything else, before 1970 and after
/// [`MAX`].
#[must_use]
pub fn parse(text: &str) -> Option<u64> {
    let text = text.trim().replacen(' ', "T", 1);
    let time = OffsetDateTime::parse(&text, &Rfc3339)
        .or_else(|_| OffsetDateTime::parse(&format!("{text}Z"), &Rfc3339));
    let seconds = u64::try_from(time.ok()?.unix_timestamp()).ok()?;
    (seconds <= MAX).then_some(seconds)
}

fn moment(seconds: u64) -> OffsetDateTime {
    let seconds = i64::try_from(seconds.min(MAX)).unwrap_or(0);
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_utc_with_z() {
        assert_eq!(Time(0).text(), "1970-01-01T00:00:00Z");
        assert_eq!(Time(1_935_651_600).text(), "2031-05-04T09:00:00Z");
        assert_eq!(Time(1_935_651_600).naive(), "2031-05-04T09:00:00");
        assert_eq!(Time(u64::MAX).text(), "9999-12-31T23:59:59Z");
        assert_eq!(
            serde_json::to_string(&Time(0)).unwrap(),
            "\"1970-01-01T00:00:00Z\""
        );
    }

    #[test]
    fn reads_what_is_in_circulation() {
        let good = [
            "2031-05-04T09:00:00Z",
            "2031-05-04T09:00:00.123456",
            "2031-05-04 09:00:00",
            "2031-05-04 09:00:00.5+00:00",
            "2031-05-04T11:00:00+02:00",
            "2031-05-04T09:00:00+00:00",
        ];
        for text in good {
            assert_eq!(parse(text), Some(1_935_651_600), "{text}");
        }
        for text in [
            "",
            "now",
            "2031-05-04",
            "1935651600",
            "1931-05-04T09:00:00Z",
            "2031-13-04T09:00:00",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn both_forms_are_read_back(seconds in 0..=MAX) {
            proptest::prop_assert_eq!(parse(&Time(seconds).text()), Some(seconds));
            proptest::prop_assert_eq!(parse(&Time(seconds).naive()), Some(seconds));
        }

        #[test]
        fn any_text_is_a_time_or_none(text in "\\PC{0,40}") {
            proptest::prop_assert!(parse(&text).is_none_or(|seconds| seconds <= MAX));
        }
    }
}
