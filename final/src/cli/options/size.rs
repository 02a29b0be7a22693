//! Amounts of memory.

use anyhow::{Context, Result, bail, ensure};

/// Bytes, in docker's notation: a number, with a fraction if need be, and one of the units
/// `b k m g t p`, each 1024 times the last; `kb` and `kib` mean `k`.
///
/// # Errors
/// It is no such number, or more than the kernel can count.
pub(super) fn bytes(text: &str) -> Result<u64> {
    read(text).with_context(|| format!("invalid size: '{text}'"))
}

/// The same, or -1 for what has no limit.
///
/// # Errors
/// As [`bytes`].
pub(super) fn bytes_or_all(text: &str) -> Result<i64> {
    match text {
        "-1" => Ok(-1),
        text => Ok(i64::try_from(bytes(text)?)?),
    }
}

fn read(text: &str) -> Result<u64> {
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let unit_at = text.find(|c| !is_number(c)).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let power = match unit.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => bail!("{unit:?} is no unit"),
    };
    let bytes = times(number, 1 << (10 * power))?;
    // The kernel counts in signed numbers.
    Ok(i64::try_from(bytes).context("too large")?.unsigned_abs())
}

/// So many times a decimal number: exact, where a float would round.
///
/// # Errors
/// It is no such number, or too large.
pub(super) fn times(number: &str, scale: u128) -> Result<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    // The parser takes "+1".
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    ensure!(plain && !digits.is_empty(), "a number is missing");
    let value: u128 = digits.parse().context("too many digits")?;
    let places = u32::try_from(fraction.len())?;
    let parts = 10_u128.checked_pow(places).context("too many digits")?;
    Ok(value.checked_mul(scale).context("too large")? / parts)
}

#[cfg(test)]
mod tests {
    use super::{bytes, bytes_or_all};

    #[test]
    fn an_amount_has_a_unit() {
        for (text, number) in [
            ("0", 0),
            ("100", 100),
            ("100b", 100),
            ("1k", 1024),
            ("1.5K", 1536),
            ("64m", 64 << 20),
            ("64 MiB", 64 << 20),
            (".5g", 1 << 29),
            ("2gb", 2 << 30),
            ("8191p", 8191 << 50),
        ] {
            assert_eq!(bytes(text).unwrap(), number, "{text}");
        }
        assert_eq!(bytes_or_all("-1").unwrap(), -1);
    }

    #[test]
    fn what_is_no_amount_is_refused_with_docker_s_words() {
        for text in [
            "",
            "m",
            ".",
            ".m",
            "-1",
            "+1k",
            "1e9",
            "1x",
            "1mm",
            "1.2.3",
            "1 k ",
            "64m\n",
            "٦٤m",
            "8192p",
            "0.00000000000000000000000000000000000000000000001",
        ] {
            let error = bytes(text).unwrap_err().to_string();
            assert_eq!(error, format!("invalid size: '{text}'"));
        }
    }
}
