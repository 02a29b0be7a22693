//! Sizes and ages as docker words them (the package go-units).

use std::time::Duration;

/// Bytes in powers of 1000 with so many significant digits: docker shows three
/// in its lists, and four where something moves. Where rounding makes 1000 of
/// one unit this is 1 of the next, and with docker `1e+03kB`.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "few digits are shown")]
pub fn size(bytes: u64, digits: usize) -> String {
    let mut amount = bytes as f64;
    for unit in ["B", "kB", "MB", "GB", "TB", "PB"] {
        let shown = significant(amount, digits);
        if shown < 1000.0 {
            return format!("{shown}{unit}");
        }
        amount /= 1000.0;
    }
    format!("{}EB", significant(amount, digits))
}

fn significant(amount: f64, digits: usize) -> f64 {
    let rounded = format!("{amount:.*e}", digits.saturating_sub(1));
    rounded.parse().unwrap_or(amount)
}

/// How long something took or is ago, in one unit: "3 weeks", "About an hour".
#[must_use]
pub fn age(time: Duration) -> String {
    let seconds = time.as_secs();
    let minutes = seconds / 60;
    let hours = (seconds + 1800) / 3600;
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 2 * 7 * 24 => format!("{} days", hours / 24),
        () if hours < 2 * 30 * 24 => format!("{} weeks", hours / 24 / 7),
        () if hours < 2 * 365 * 24 => format!("{} months", hours / 24 / 30),
        // Here, and only here, go-units counts full hours.
        () => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits_in_lists_and_four_in_motion() {
        for (bytes, three, four) in [
            (0, "0B", "0B"),
            (999, "999B", "999B"),
            (1000, "1kB", "1kB"),
            (1048, "1.05kB", "1.048kB"),
            (7_830_000, "7.83MB", "7.83MB"),
            (12_345_678, "12.3MB", "12.35MB"),
            (123_456_789, "123MB", "123.5MB"),
            (999_499, "999kB", "999.5kB"),
            (999_999, "1MB", "1MB"),
            (1_500_000_000, "1.5GB", "1.5GB"),
            (u64::MAX, "18.4EB", "18.45EB"),
        ] {
            assert_eq!(size(bytes, 3), three);
            assert_eq!(size(bytes, 4), four);
        }
    }

    #[test]
    fn an_age_is_told_in_one_unit() {
        const HOUR: u64 = 3600;
        const DAY: u64 = 24 * HOUR;
        for (seconds, told) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (HOUR - 1, "59 minutes"),
            (HOUR, "About an hour"),
            (HOUR + 1800, "2 hours"),
            (47 * HOUR + 1799, "47 hours"),
            (47 * HOUR + 1800, "2 days"),
            (13 * DAY, "13 days"),
            (14 * DAY, "2 weeks"),
            (59 * DAY, "8 weeks"),
            (60 * DAY, "2 months"),
            (729 * DAY, "24 months"),
            (730 * DAY, "2 years"),
        ] {
            assert_eq!(age(Duration::from_secs(seconds)), told, "{seconds}");
        }
    }
}
