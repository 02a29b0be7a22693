//! Moments: as they are written on a command line, and as docker prints them.

use std::time::Duration;

use anyhow::{Context, Result};
use jiff::civil::DateTime;
use jiff::{SignedDuration, Timestamp};
use minidocker::engine::machine::time_zone;

/// The moment that somebody names: a time, a date, seconds since 1970, or how long before `now`.
///
/// # Errors
/// It is nothing of that.
pub(crate) fn moment(text: &str, now: Timestamp) -> Result<Timestamp> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    // Without an offset, it is meant as this machine's clock shows it.
    if let Ok(time) = text.parse::<DateTime>() {
        return Ok(time.to_zoned(time_zone())?.timestamp());
    }
    if let Some((seconds, nanoseconds)) = seconds(text) {
        return Ok(Timestamp::new(seconds, nanoseconds)?);
    }
    let ago: Result<SignedDuration, _> = text.parse();
    ago.ok()
        .and_then(|ago| now.checked_sub(ago).ok())
        .with_context(|| {
            format!("{text:?} is no time: neither 2024-01-31T10:00:00Z, 2024-01-31, 1706695200 nor 1h30m")
        })
}

/// Seconds since 1970 and nanoseconds more: `1706695200.000000001`.
fn seconds(text: &str) -> Option<(i64, i32)> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_fraction = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let nanoseconds = format!("{fraction:0<9}");
    let nanoseconds = nanoseconds.get(..9).filter(|_| is_fraction)?;
    Some((seconds.parse().ok()?, nanoseconds.parse().ok()?))
}

/// A moment as Go prints one: `2024-01-31 10:00:00 +0000 UTC`.
pub(crate) fn at(then: Timestamp) -> String {
    let then = then.to_zoned(time_zone());
    then.strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string()
}

/// A moment as RFC 3339 has it, with so many digits of a second: `2024-01-31T10:00:00+01:00`.
pub(crate) fn rfc3339(then: Timestamp, digits: usize) -> String {
    let format = match digits {
        0 => "%Y-%m-%dT%H:%M:%S%:z".to_owned(),
        digits => format!("%Y-%m-%dT%H:%M:%S.%{digits}f%:z"),
    };
    let then = then.to_zoned(time_zone());
    // Go has Z for no offset.
    then.strftime(&format).to_string().replace("+00:00", "Z")
}

/// How long something is ago, which is never before now: a clock that was set back makes things of
/// the future, which are new.
pub(crate) fn age(then: Timestamp, now: Timestamp) -> String {
    let since = now.duration_since(then).max(SignedDuration::ZERO);
    cli::age(Duration::try_from(since).unwrap_or_default())
}

/// `3 weeks ago`
pub(crate) fn ago(then: Timestamp, now: Timestamp) -> String {
    format!("{} ago", age(then, now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_told_in_many_ways() {
        let now: Timestamp = "2024-02-01T12:00:00Z".parse().unwrap();
        for (text, expected) in [
            ("2024-01-31T10:00:00Z", "2024-01-31T10:00:00Z"),
            ("2024-01-31T10:00:00.5+02:00", "2024-01-31T08:00:00.5Z"),
            ("1706695200", "2024-01-31T10:00:00Z"),
            ("1h30m", "2024-02-01T10:30:00Z"),
            ("10m", "2024-02-01T11:50:00Z"),
            ("240h", "2024-01-22T12:00:00Z"),
        ] {
            let expected: Timestamp = expected.parse().unwrap();
            assert_eq!(moment(text, now).unwrap(), expected, "{text}");
        }
        let local = moment("2024-01-31", now).unwrap().as_second();
        assert!((1_706_659_200 - local).abs() <= 14 * 3600);
        for text in ["", "soon", "-"] {
            assert!(moment(text, now).is_err(), "{text}");
        }
    }
}
