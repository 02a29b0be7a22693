//! `docker stats`: what containers use, and how fast.

use std::fs;
use std::time::Instant;

use anyhow::Result;

use super::Containers;
use crate::runtime::{Runtime, Stats};
use crate::state::Container;

/// What a container had used at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// When.
    pub at: Instant,
    /// Processor time, in nanoseconds.
    pub cpu: u64,
    /// Bytes of memory that nobody could take away without loss; without the controller none.
    pub memory: u64,
    /// The most that there may be of it, in bytes.
    pub limit: u64,
    /// Bytes that came from the network, and that went there.
    pub network: (u64, u64),
    /// Bytes that came from disks, and that went there.
    pub disks: (u64, u64),
    /// Processes and threads.
    pub pids: u64,
}

impl Sample {
    /// How much of a processor it had since an earlier moment, in percent; more than one processor
    /// is more than 100.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    pub fn cpu_since(&self, earlier: &Sample) -> f64 {
        let passed = self.at.duration_since(earlier.at).as_nanos() as f64;
        let used = self.cpu.saturating_sub(earlier.cpu) as f64;
        if passed > 0.0 {
            used / passed * 100.0
        } else {
            0.0
        }
    }
}

impl Containers {
    /// What a container has used so far; `None` where it does not run.
    ///
    /// # Errors
    /// A file of the kernel's cannot be read.
    pub fn sample(&self, container: &Container) -> Result<Option<Sample>> {
        if !container.life.status.needs_shim() || container.life.pid == 0 {
            return Ok(None);
        }
        let runtime = Runtime::at(self.places(container).runtime);
        let found = runtime.find(&container.id.parse()?);
        // Without a cgroup there is nobody who counts; that is no reason to show nothing.
        let used = found.and_then(|it| it.stats()).unwrap_or_default();
        let (memory, limit) = match &used.memory {
            None => (0, 0),
            Some(memory) => {
                // Files that were read once and can be read again.
                let inactive = memory
                    .raw
                    .get("inactive_file")
                    .and_then(serde_json::Value::as_u64);
                let usage = memory.usage.usage.saturating_sub(inactive.unwrap_or(0));
                (usage, memory.usage.limit.min(total_memory()))
            }
        };
        let pids = match &used.pids {
            Some(pids) => pids.current,
            None => self.pids(container)?.len() as u64,
        };
        let shares_network = ["host", "container:"];
        let mode = container.host.network_mode.as_str();
        let shares_network = shares_network.iter().any(|it| mode.starts_with(it));
        Ok(Some(Sample {
            at: Instant::now(),
            cpu: used.cpu.usage.total,
            memory,
            limit,
            network: match shares_network {
                true => (0, 0),
                false => traffic(container.life.pid),
            },
            disks: (moved(&used, "Read"), moved(&used, "Write")),
            pids,
        }))
    }
}

/// The bytes of all disks that were read or written.
fn moved(used: &Stats, op: &str) -> u64 {
    let entries = used.blkio.io_service_bytes_recursive.iter();
    let of_it = entries.filter(|entry| entry.op == op);
    of_it.map(|entry| entry.value).sum()
}

/// The bytes of memory that this machine has.
#[must_use]
pub fn total_memory() -> u64 {
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = info.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    number.unwrap_or(0) * 1024
}

/// What the interfaces in a process' network have received and sent, but for loopback.
fn traffic(pid: i32) -> (u64, u64) {
    let table = fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default();
    in_and_out(&table)
}

/// Each line has a name, eight numbers about what came and eight about what went; bytes come first
/// (proc_pid_net(5)).
fn in_and_out(table: &str) -> (u64, u64) {
    let mut sums = (0, 0);
    for line in table.lines() {
        let Some((name, numbers)) = line.split_once(':') else {
            continue;
        };
        let numbers: Vec<u64> = numbers
            .split_whitespace()
            .filter_map(|number| number.parse().ok())
            .collect();
        if let (true, Some(came), Some(went)) =
            (name.trim() != "lo", numbers.first(), numbers.get(8))
        {
            sums = (sums.0 + came, sums.1 + went);
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_add_up_without_loopback() {
        let table = "Inter-|   Receive       |  Transmit\n \
             face |bytes packets errs drop fifo frame compressed multicast|bytes packets\n    \
             lo:     500       5    0    0    0     0          0         0      500       5\n  \
             eth0:    1000       9    0    0    0     0          0         0      200       3\n  \
             eth1:       1       1    0    0    0     0          0         0        2       3\n";
        assert_eq!(in_and_out(table), (1001, 202));
        assert_eq!(in_and_out(""), (0, 0));
    }

    #[test]
    fn a_processor_and_a_half_is_150_percent() {
        let at = Instant::now();
        let earlier = Sample {
            at,
            cpu: 1_000,
            memory: 0,
            limit: 0,
            network: (0, 0),
            disks: (0, 0),
            pids: 1,
        };
        let later = Sample {
            at: at + std::time::Duration::from_secs(2),
            cpu: 3_000_001_000,
            ..earlier
        };
        assert!((later.cpu_since(&earlier) - 150.0).abs() < 0.001);
        assert!(later.cpu_since(&later).abs() < 0.001);
    }
}
