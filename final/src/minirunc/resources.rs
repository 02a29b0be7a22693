//! How much a container may take, and whether it may run at all.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use jiff::SignedDuration;
use minidocker::runtime::{Runtime, Status};
use oci_spec::runtime::LinuxResources;
use serde_json::{Map, Value, json};

use crate::Subject;

/// Stop all processes of a container where they are
///
///     minirunc pause mybox
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Pause {
    #[command(flatten)]
    subject: Subject,
}

impl Pause {
    pub(crate) fn run(self, runtime: &Runtime) -> Result<()> {
        runtime.open(&self.subject.id)?.pause()
    }
}

/// Let the processes of a paused container go on
///
///     minirunc resume mybox
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Resume {
    #[command(flatten)]
    subject: Subject,
}

impl Resume {
    pub(crate) fn run(self, runtime: &Runtime) -> Result<()> {
        runtime.open(&self.subject.id)?.resume()
    }
}

/// Tell what a container has used so far
///
///     minirunc events --stats mybox
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Events {
    #[command(flatten)]
    subject: Subject,
    /// Once, and not again and again
    #[arg(long)]
    stats: bool,
    /// The pause in between
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_interval)]
    interval: Duration,
}

impl Events {
    pub(crate) fn run(self, runtime: &Runtime) -> Result<()> {
        loop {
            let container = runtime.find(&self.subject.id)?;
            if container.status()? == Status::Stopped {
                return match self.stats {
                    true => bail!("container not running"),
                    false => Ok(()),
                };
            }
            let stats =
                json!({"type": "stats", "id": container.id().as_str(), "data": container.stats()?});
            println!("{stats}");
            if self.stats {
                return Ok(());
            }
            sleep(self.interval);
        }
    }
}

/// As runc has it: `5s`, `500ms`, `1m30s`.
fn parse_interval(text: &str) -> Result<Duration> {
    let time = Duration::try_from(text.parse::<SignedDuration>()?)?;
    ensure!(!time.is_zero(), "it is no time at all");
    Ok(time)
}

/// Change what a running container may take
///
///     minirunc update --memory 64m --pids-limit 32 mybox
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Update {
    #[command(flatten)]
    subject: Subject,
    /// Take linux.resources from this file (- is standard input), and no other option
    #[arg(short, long, value_name = "FILE")]
    resources: Option<PathBuf>,
    #[command(flatten)]
    limits: Limits,
}

/// Each stands for one field of linux.resources.
#[derive(Debug, Args)]
struct Limits {
    /// Share of the disks' time, 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    blkio_weight: Option<u16>,
    /// The time in which the quota is counted, in microseconds
    #[arg(long, value_name = "TIME")]
    cpu_period: Option<u64>,
    /// Processor time in each period, in microseconds; -1 is no limit
    #[arg(long, value_name = "TIME", allow_negative_numbers = true)]
    cpu_quota: Option<i64>,
    /// Processor time that may be saved up, in microseconds
    #[arg(long, value_name = "TIME")]
    cpu_burst: Option<u64>,
    /// Share of the processors' time, beside other containers
    #[arg(long, value_name = "SHARES")]
    cpu_share: Option<u64>,
    /// 1 runs only where nobody else wants to
    #[arg(long, value_name = "0|1")]
    cpu_idle: Option<i64>,
    /// The time in which real-time processes' time is counted, in microseconds
    #[arg(long, value_name = "TIME")]
    cpu_rt_period: Option<u64>,
    /// Real-time processes' time in each period, in microseconds
    #[arg(long, value_name = "TIME")]
    cpu_rt_runtime: Option<i64>,
    /// The processors, as in 0-2,4
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// The memory nodes, as in 0-2,4
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Memory in bytes, or with a unit as in 64m; -1 is no limit
    #[arg(long, value_name = "SIZE", value_parser = parse_size, allow_negative_numbers = true)]
    memory: Option<i64>,
    /// Memory that is spared as long as there is other
    #[arg(long, value_name = "SIZE", value_parser = parse_size, allow_negative_numbers = true)]
    memory_reservation: Option<i64>,
    /// Memory and swap together; -1 is no limit
    #[arg(long, value_name = "SIZE", value_parser = parse_size, allow_negative_numbers = true)]
    memory_swap: Option<i64>,
    /// How many processes; -1 is no limit
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pids_limit: Option<i64>,
}

impl Update {
    pub(crate) fn run(self, runtime: &Runtime) -> Result<()> {
        let resources = match &self.resources {
            Some(path) => read(path)?,
            None => self.limits.into_resources()?,
        };
        runtime.open(&self.subject.id)?.update(&resources)
    }
}

fn read(path: &Path) -> Result<LinuxResources> {
    let mut text = String::new();
    if path == Path::new("-") {
        io::stdin().read_to_string(&mut text)
    } else {
        File::open(path).and_then(|mut file| file.read_to_string(&mut text))
    }
    .with_context(|| format!("read {}", path.display()))?;
    let mut reader = serde_json::Deserializer::from_str(&text);
    serde_path_to_error::deserialize(&mut reader)
        .with_context(|| format!("the resources of {}", path.display()))
}

impl Limits {
    /// In the specification's own words, so that each field has one reader.
    fn into_resources(self) -> Result<LinuxResources> {
        let fields = [
            ("blockIO", "weight", json!(self.blkio_weight)),
            ("cpu", "period", json!(self.cpu_period)),
            ("cpu", "quota", json!(self.cpu_quota)),
            ("cpu", "burst", json!(self.cpu_burst)),
            ("cpu", "shares", json!(self.cpu_share)),
            ("cpu", "idle", json!(self.cpu_idle)),
            ("cpu", "realtimePeriod", json!(self.cpu_rt_period)),
            ("cpu", "realtimeRuntime", json!(self.cpu_rt_runtime)),
            ("cpu", "cpus", json!(self.cpuset_cpus)),
            ("cpu", "mems", json!(self.cpuset_mems)),
            ("memory", "limit", json!(self.memory)),
            ("memory", "reservation", json!(self.memory_reservation)),
            ("memory", "swap", json!(self.memory_swap)),
            ("pids", "limit", json!(self.pids_limit)),
        ];
        let mut all = Map::new();
        for (group, name, value) in fields {
            if !value.is_null()
                && let Value::Object(group) = all.entry(group).or_insert_with(|| json!({}))
            {
                group.insert(name.to_owned(), value);
            }
        }
        serde_json::from_value(all.into()).context("understand the limits")
    }
}

/// Bytes, or with a unit: `64m` is 64 MiB, as docker has it.
fn parse_size(text: &str) -> Result<i64> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|end: char| end.is_ascii_alphabetic());
    let shift = match lower.get(digits.len()..) {
        Some("" | "b") => 0,
        Some("k" | "kb" | "kib") => 10,
        Some("m" | "mb" | "mib") => 20,
        Some("g" | "gb" | "gib") => 30,
        Some("t" | "tb" | "tib") => 40,
        _ => bail!("{text:?} is no size like 64m"),
    };
    let number: i64 = digits
        .parse()
        .with_context(|| format!("{text:?} is no size like 64m"))?;
    number
        .checked_mul(1 << shift)
        .filter(|size| *size >= -1)
        .with_context(|| format!("{text} is no size that a container could have"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_given_in_bytes_or_with_a_unit() {
        for (text, size) in [
            ("0", 0),
            ("-1", -1),
            ("64m", 64 << 20),
            ("1GiB", 1 << 30),
            ("7b", 7),
        ] {
            assert_eq!(parse_size(text).ok(), Some(size), "{text}");
        }
        for text in ["", "m", "64x", "-2", "-1k", "1.5g", "9999999999g", "6 4m"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
