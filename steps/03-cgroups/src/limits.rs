//! What a container may use, and how a person writes it.

use std::fmt;

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::{SysconfVar, sysconf};

/// What a container may use; `None` leaves it unlimited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory, page cache and kernel memory included. No swap comes on top.
    pub memory: Option<u64>,
    /// Processor time.
    pub cpus: Option<Cpus>,
    /// Processes and threads together.
    pub pids: Option<u64>,
}

/// CPU time: `quota` microseconds of it in each `period` of microseconds, summed over all processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cpus {
    /// Microseconds to run in each period.
    pub quota: u64,
    /// The period's length, in microseconds.
    pub period: u64,
}

/// As `cpu.max` takes it.
impl fmt::Display for Cpus {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.quota, self.period)
    }
}

impl Limits {
    /// The controllers without which these limits are only words.
    pub(crate) fn controllers(&self) -> Vec<&'static str> {
        let asked = [
            ("memory", self.memory.is_some()),
            ("cpu", self.cpus.is_some()),
            ("pids", self.pids.is_some()),
        ];
        asked
            .iter()
            .filter(|(_, asked)| *asked)
            .map(|(name, _)| *name)
            .collect()
    }
}

const NANO: u128 = 1_000_000_000;
const MEBIBYTE: u64 = 1 << 20;

/// Bytes, from docker's notation: a number, with a fraction if need be, and one of the units `b k m
/// g t p`, each 1024 times the last; `kb` and `KiB` mean `k`. At least 6 MiB, as with docker: the
/// first processes of a container hardly start with less.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_memory(text: &str) -> Result<u64> {
    // task 03.1 {
    let context =
        || format!("memory limit {text:?}: write a number and a unit, such as 64m or 1.5g");
    let start = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(start);
    let scale = scale(unit).with_context(context)?;
    let nanos = billionths(number).with_context(context)?;
    let bytes = nanos
        .checked_mul(scale)
        .and_then(|bytes| u64::try_from(bytes / NANO).ok());
    // The kernel counts pages in a signed long and takes what does not fit for "max": no limit.
    let Some(bytes) = bytes.filter(|bytes| i64::try_from(*bytes).is_ok()) else {
        bail!("memory limit {text:?} is more than the kernel can count (8 EiB)");
    };
    ensure!(
        bytes >= 6 * MEBIBYTE,
        "memory limit {text:?} is too small: the least is 6m"
    );
    Ok(bytes)
    // } todo!("task 03.1: read 64m and 1.5g as bytes (book: 3.1)")
}

fn scale(unit: &str) -> Result<u128> {
    let unit = unit.trim_start().to_ascii_lowercase();
    let power = match unit.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => bail!("{unit:?} is no unit"),
    };
    Ok(1 << (10 * power))
}

/// CPU time, from a number of processors such as `0.5` or `2`: at least 0.01, since the kernel
/// refuses a quota below a millisecond, and at most what is online, as with docker.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_cpus(text: &str) -> Result<Cpus> {
    let online = sysconf(SysconfVar::_NPROCESSORS_ONLN)?
        .and_then(|n| u128::try_from(n).ok())
        .unwrap_or(1);
    let nanos = billionths(text).with_context(|| {
        format!("cpu limit {text:?}: write a number of processors, such as 0.5 or 2")
    })?;
    ensure!(
        (NANO / 100..=online * NANO).contains(&nanos),
        "cpu limit {text:?}: it can be 0.01 to {online}, the processors that this host has"
    );
    let period = 100_000;
    let quota = u64::try_from(nanos * u128::from(period) / NANO)?;
    Ok(Cpus { quota, period })
}

/// The decimal number `text`, in billionths: exact, where a float would round.
fn billionths(text: &str) -> Result<u128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    ensure!(
        !(whole.is_empty() && fraction.is_empty()),
        "a number is missing"
    );
    ensure!(
        whole
            .bytes()
            .chain(fraction.bytes())
            .all(|b| b.is_ascii_digit()),
        "{text:?} is no number"
    );
    ensure!(
        fraction.len() <= 9,
        "{text:?} has more than nine decimal places"
    );
    let whole: u64 = format!("0{whole}")
        .parse()
        .with_context(|| format!("{text:?} is too large"))?;
    let fraction: u64 = format!("{fraction:0<9}").parse()?;
    Ok(u128::from(whole) * NANO + u128::from(fraction))
}

#[cfg(test)]
mod tests {
    use super::{Cpus, parse_cpus, parse_memory};

    #[test]
    fn memory_is_written_as_docker_has_it() {
        let cases = [
            ("64m", 64 << 20),
            ("64M", 64 << 20),
            ("64mb", 64 << 20),
            ("64 MiB", 64 << 20),
            ("1.5g", 3 << 29),
            ("512000k", 512_000 << 10),
            ("100000000b", 100_000_000),
            ("68719476736", 1 << 36),
            (".5g", 1 << 29),
            ("6m", 6 << 20),
            ("8191p", 8191 << 50),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse_memory(text).unwrap(), bytes, "{text}");
        }
    }

    #[test]
    fn memory_that_makes_no_sense_is_refused() {
        let cases = [
            "",
            " ",
            "m",
            ".m",
            "-64m",
            "+64m",
            "64q",
            "64mm",
            "m64",
            "1e9",
            "0x10m",
            "64,5m",
            "1.2.3g",
            "0",
            "100b",
            "512k",
            "6291455",
            "8192p",
            "9223372036854775808",
            "99999999999999999999999999p",
            "18446744073709551615p",
            "64m\n",
            "٦٤m",
        ];
        for text in cases {
            assert!(parse_memory(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn half_a_processor_is_half_of_each_period() {
        assert_eq!(
            parse_cpus("0.5").unwrap(),
            Cpus {
                quota: 50_000,
                period: 100_000
            }
        );
        assert_eq!(
            parse_cpus("1").unwrap(),
            Cpus {
                quota: 100_000,
                period: 100_000
            }
        );
        assert_eq!(parse_cpus(".25").unwrap().to_string(), "25000 100000");
        assert_eq!(parse_cpus("0.01").unwrap().quota, 1_000);
    }

    #[test]
    fn processors_that_nobody_has_are_refused() {
        for text in [
            "",
            ".",
            "0",
            "0.009",
            "-1",
            "half",
            "1e0",
            "NaN",
            "inf",
            "1000000",
            "0.0000000001",
            "99999999999999999999",
        ] {
            assert!(parse_cpus(text).is_err(), "{text:?}");
        }
    }
}
