//! How much of the machine a container may have.

use std::str::FromStr;

use anyhow::{Context, Error, Result, bail, ensure};
use clap::Args;
use minidocker::state::{HostConfig, Ulimit};

use super::size;

/// How much of the machine a container may have.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(super) struct Limits {
    /// Memory, and without --memory-swap no swap [units: b, k, m, g]
    #[arg(short, long, value_name = "BYTES", value_parser = size::bytes)]
    memory: Option<u64>,
    /// Memory and swap together; -1 for any amount of it
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, value_parser = size::bytes_or_all)]
    memory_swap: Option<i64>,
    /// Memory that is left to it when the machine is short of it
    #[arg(long, value_name = "BYTES", value_parser = size::bytes)]
    memory_reservation: Option<u64>,
    /// Processor time, in processors
    #[arg(long, value_name = "NUMBER", value_parser = billionths)]
    cpus: Option<u64>,
    /// Its weight against others who want processor time; 1024 is usual
    #[arg(short, long, value_name = "WEIGHT")]
    cpu_shares: Option<u64>,
    /// Microseconds of processor time in each period
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    cpu_quota: Option<i64>,
    /// The length of a period
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<u64>,
    /// The processors it may run on
    #[arg(long, value_name = "0-2,4")]
    cpuset_cpus: Option<String>,
    /// The memory nodes it may use
    #[arg(long, value_name = "0-2,4")]
    cpuset_mems: Option<String>,
    /// Processes and threads; -1 for any number
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    /// What each process may use: nofile=1024:2048
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    ulimit: Vec<Limit>,
    /// What fits into /dev/shm [default: 64m]
    #[arg(long, value_name = "BYTES", value_parser = size::bytes)]
    shm_size: Option<u64>,
    /// How likely it is to be killed when memory is short, -1000 to 1000
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    oom_score_adj: Option<i32>,
}

impl Limits {
    /// Writes them down.
    pub(super) fn write(self, host: &mut HostConfig) {
        host.memory = self.memory.unwrap_or_default();
        host.memory_swap = self.memory_swap.unwrap_or_default();
        host.memory_reservation = self.memory_reservation.unwrap_or_default();
        host.nano_cpus = self.cpus.unwrap_or_default();
        host.cpu_shares = self.cpu_shares.unwrap_or_default();
        host.cpu_quota = self.cpu_quota.unwrap_or_default();
        host.cpu_period = self.cpu_period.unwrap_or_default();
        host.cpuset_cpus = self.cpuset_cpus.unwrap_or_default();
        host.cpuset_mems = self.cpuset_mems.unwrap_or_default();
        host.pids_limit = self.pids_limit.unwrap_or_default();
        // Of two with one name the last counts.
        for Limit(limit) in self.ulimit {
            host.ulimits.retain(|other| other.name != limit.name);
            host.ulimits.push(limit);
        }
        host.shm_size = self.shm_size.unwrap_or_default();
        host.oom_score_adj = self.oom_score_adj.unwrap_or_default();
    }
}

/// A number of processors, in thousand-millionths.
fn billionths(text: &str) -> Result<u64> {
    let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction);
    ensure!(fraction.len() <= 9, "value is too precise");
    let nanos = size::times(text, 1_000_000_000).and_then(|nanos| Ok(u64::try_from(nanos)?));
    nanos.with_context(|| format!("{text:?} is no number of processors, such as 0.5 or 2"))
}

/// `--ulimit`.
#[derive(Clone, Debug)]
struct Limit(Ulimit);

/// Those of getrlimit(2), but for the address space, as with docker.
const NAMES: &str = "core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime \
                     sigpending stack";

impl FromStr for Limit {
    type Err = Error;

    fn from_str(text: &str) -> Result<Limit> {
        let Some((name, values)) = text.split_once('=') else {
            bail!("invalid ulimit argument: {text}");
        };
        let known = NAMES.split(' ').any(|known| known == name);
        ensure!(known, "invalid ulimit type: {name}");
        let values: Vec<&str> = values.split(':').collect();
        let (soft, hard) = match values[..] {
            [both] => (both, both),
            [soft, hard] => (soft, hard),
            _ => bail!(
                "too many limit value arguments - {}, can only have up to two, soft[:hard]",
                values.join(":")
            ),
        };
        let number = |text: &str| match text.parse::<i64>() {
            Ok(number) if number >= -1 && !text.starts_with('+') => Ok(number),
            _ => bail!("invalid ulimit argument: {text:?} is no number"),
        };
        let (soft, hard) = (number(soft)?, number(hard)?);
        ensure!(
            hard == -1 || (soft != -1 && soft <= hard),
            "ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
        );
        Ok(Limit(Ulimit {
            name: name.to_owned(),
            soft,
            hard,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_counted_exactly() {
        for (text, nanos) in [
            ("0", 0),
            ("1", 1_000_000_000),
            ("1.5", 1_500_000_000),
            (".25", 250_000_000),
            ("0.000000001", 1),
        ] {
            assert_eq!(billionths(text).unwrap(), nanos, "{text}");
        }
        for text in [
            "",
            ".",
            "-1",
            "+1",
            "1e3",
            "half",
            "0.0000000001",
            "99999999999999999999",
        ] {
            assert!(billionths(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_ulimit_has_a_name_and_two_values() {
        let read = |text: &str| {
            text.parse::<Limit>()
                .map(|Limit(limit)| (limit.name, limit.soft, limit.hard))
        };
        assert_eq!(
            read("nofile=1024:2048").unwrap(),
            ("nofile".to_owned(), 1024, 2048)
        );
        assert_eq!(read("core=0").unwrap(), ("core".to_owned(), 0, 0));
        assert_eq!(
            read("memlock=-1:-1").unwrap(),
            ("memlock".to_owned(), -1, -1)
        );
        assert_eq!(read("nproc=5:-1").unwrap(), ("nproc".to_owned(), 5, -1));
        for (text, why) in [
            ("nofile", "invalid ulimit argument: nofile"),
            ("files=1", "invalid ulimit type: files"),
            ("as=1", "invalid ulimit type: as"),
            ("nofile=1:2:3", "too many limit value arguments - 1:2:3"),
            ("nofile=", "invalid ulimit argument"),
            ("nofile=-2", "invalid ulimit argument"),
            (
                "nofile=2:1",
                "must be less than or equal to hard limit: 2 > 1",
            ),
            ("nofile=-1:1", "must be less than or equal to hard limit"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
