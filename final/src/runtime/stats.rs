//! What a container has used so far, in the words of `runc events --stats`.

use anyhow::Result;
use cgroups::Lasting;
use serde::Serialize;

/// What a container has used so far. What the kernel does not count here is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Processor time.
    pub cpu: Cpu,
    /// Memory, where the controller is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// Processes and threads, where the controller is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<Pids>,
    /// What went to disks and came from them.
    pub blkio: Io,
}

/// Processor time, of all processes that were ever in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Cpu {
    /// How much of it.
    pub usage: CpuUsage,
    /// How often it had to wait for the next period of its quota.
    pub throttling: Throttling,
}

/// Nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CpuUsage {
    /// All of it.
    pub total: u64,
    /// What the kernel did for it.
    pub kernel: u64,
    /// What it did itself.
    pub user: u64,
}

/// The quota's effect.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Throttling {
    /// Periods in which it ran.
    pub periods: u64,
    /// Those in which it used the quota up.
    pub throttled_periods: u64,
    /// Nanoseconds that it waited.
    pub throttled_time: u64,
}

/// Bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Of these, files that are kept for the next reader.
    pub cache: u64,
    /// Memory.
    pub usage: Use,
    /// Swap alone, as version 2 of cgroups counts it.
    pub swap: Use,
    /// All that the kernel tells.
    pub raw: serde_json::Map<String, serde_json::Value>,
}

/// What is used of what may be used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Use {
    /// The most that may be used; 2⁶⁴ − 1 for no limit.
    pub limit: u64,
    /// What is used now.
    pub usage: u64,
    /// The most that ever was (Linux 5.19, for swap 6.5), or 0.
    pub max: u64,
    /// How often the limit was in the way.
    pub failcnt: u64,
}

/// Processes and threads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Pids {
    /// How many there are.
    pub current: u64,
    /// How many there may be; left out for no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

/// What went to disks and came from them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Io {
    /// Bytes.
    pub io_service_bytes_recursive: Vec<IoEntry>,
    /// Operations.
    pub io_serviced_recursive: Vec<IoEntry>,
}

/// One number of one disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct IoEntry {
    /// The disk's numbers.
    pub major: u64,
    /// The disk's numbers.
    pub minor: u64,
    /// `Read` or `Write`.
    pub op: &'static str,
    /// How many.
    pub value: u64,
}

impl Stats {
    /// Reads them.
    pub(crate) fn of(cgroup: &Lasting) -> Result<Self> {
        Ok(Self {
            cpu: cpu(&cgroup.read("cpu.stat")?),
            memory: memory(cgroup)?,
            pids: pids(cgroup)?,
            blkio: io(&cgroup.read("io.stat")?),
        })
    }
}

fn cpu(stat: &str) -> Cpu {
    let number = |key| field(stat, key);
    let nanoseconds = |key| number(key).saturating_mul(1000);
    Cpu {
        usage: CpuUsage {
            total: nanoseconds("usage_usec"),
            kernel: nanoseconds("system_usec"),
            user: nanoseconds("user_usec"),
        },
        throttling: Throttling {
            periods: number("nr_periods"),
            throttled_periods: number("nr_throttled"),
            throttled_time: nanoseconds("throttled_usec"),
        },
    }
}

fn memory(cgroup: &Lasting) -> Result<Option<Memory>> {
    if !cgroup.has("memory.current") {
        return Ok(None);
    }
    let used = |prefix: &str, failures| -> Result<Use> {
        let number = |name: &str| -> Result<Option<u64>> {
            Ok(number(&cgroup.read(&format!("{prefix}.{name}"))?))
        };
        Ok(Use {
            limit: number("max")?.unwrap_or(u64::MAX),
            usage: number("current")?.unwrap_or(0),
            max: number("peak")?.unwrap_or(0),
            failcnt: field(&cgroup.read(&format!("{prefix}.events"))?, failures),
        })
    };
    let stat = cgroup.read("memory.stat")?;
    let raw = stat.lines().filter_map(|line| {
        let (key, value) = line.split_once(' ')?;
        Some((key.to_owned(), value.parse::<u64>().ok()?.into()))
    });
    Ok(Some(Memory {
        cache: field(&stat, "file"),
        usage: used("memory", "max")?,
        swap: used("memory.swap", "max")?,
        raw: raw.collect(),
    }))
}

fn pids(cgroup: &Lasting) -> Result<Option<Pids>> {
    let current = number(&cgroup.read("pids.current")?);
    let limit = number(&cgroup.read("pids.max")?);
    Ok(current.map(|current| Pids { current, limit }))
}

/// Each line has a disk's numbers and then pairs: `8:0 rbytes=1 wbytes=2 rios=3 …`.
fn io(stat: &str) -> Io {
    let mut io = Io::default();
    for line in stat.lines() {
        let mut words = line.split_whitespace();
        let disk = words.next().and_then(|disk| disk.split_once(':'));
        let disk = disk.and_then(|(major, minor)| Some((number(major)?, number(minor)?)));
        let Some((major, minor)) = disk else { continue };
        for pair in words {
            let (list, op) = match pair.split_once('=').map(|(key, _)| key) {
                Some("rbytes") => (&mut io.io_service_bytes_recursive, "Read"),
                Some("wbytes") => (&mut io.io_service_bytes_recursive, "Write"),
                Some("rios") => (&mut io.io_serviced_recursive, "Read"),
                Some("wios") => (&mut io.io_serviced_recursive, "Write"),
                _ => continue,
            };
            if let Some(value) = pair.split_once('=').and_then(|(_, value)| number(value)) {
                list.push(IoEntry {
                    major,
                    minor,
                    op,
                    value,
                });
            }
        }
    }
    io
}

/// `max` is no number.
fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// The number behind `key`, on a line of its own; 0 if there is none.
fn field(text: &str, key: &str) -> u64 {
    let value = |line: &str| number(line.strip_prefix(key)?.strip_prefix(' ')?);
    text.lines().find_map(value).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{IoEntry, cpu, io};

    #[test]
    fn microseconds_become_nanoseconds() {
        let cpu =
            cpu("usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 4\nnr_throttled 3\n");
        assert_eq!(
            (cpu.usage.total, cpu.usage.user, cpu.usage.kernel),
            (30_000, 20_000, 10_000)
        );
        assert_eq!(
            (cpu.throttling.periods, cpu.throttling.throttled_periods),
            (4, 3)
        );
        assert_eq!(cpu.throttling.throttled_time, 0);
    }

    #[test]
    fn each_disk_has_its_entries() {
        let io = io("8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5\n(unknown) rbytes=1\n\n253:1 \n");
        let entry = |op, value| IoEntry {
            major: 8,
            minor: 0,
            op,
            value,
        };
        assert_eq!(
            io.io_service_bytes_recursive,
            [entry("Read", 1), entry("Write", 2)]
        );
        assert_eq!(
            io.io_serviced_recursive,
            [entry("Read", 3), entry("Write", 4)]
        );
    }
}
