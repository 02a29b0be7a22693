//! What cannot be asked for together, or not on this machine: docker's rules, in its words.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::{SysconfVar, sysconf};

use crate::state::{Config, HostConfig};

/// The least memory that a container can be limited to, in bytes: its first processes hardly start
/// with less.
const LEAST_MEMORY: u64 = 6 << 20;

/// The kernel's own bound on processors and memory nodes is 8192 (`NR_CPUS`): a list that names
/// more is not even counted out.
const MOST: u32 = 8192;

/// # Errors
/// Two settings contradict each other, or one cannot be.
pub(super) fn check(config: &Config, host: &HostConfig) -> Result<()> {
    memory(host)?;
    processors(host)?;
    names(config, host)?;
    ensure!(
        (-1000..=1000).contains(&host.oom_score_adj),
        "Invalid value {}, range for oom score adj is [-1000, 1000]",
        host.oom_score_adj
    );
    Ok(())
}

fn memory(host: &HostConfig) -> Result<()> {
    let (memory, reserved) = (host.memory, host.memory_reservation);
    ensure!(
        memory == 0 || memory >= LEAST_MEMORY,
        "Minimum memory limit allowed is 6MB"
    );
    ensure!(
        memory > 0 || host.memory_swap <= 0,
        "You should always set the Memory limit when using Memoryswap limit, see usage"
    );
    ensure!(
        u64::try_from(host.memory_swap).map_or(true, |both| both == 0 || both >= memory),
        "Minimum memoryswap limit should be larger than memory limit, see usage"
    );
    ensure!(
        reserved == 0 || reserved >= LEAST_MEMORY,
        "Minimum memory reservation allowed is 6MB"
    );
    ensure!(
        memory == 0 || reserved <= memory,
        "Minimum memory limit can not be less than memory reservation limit, see usage"
    );
    Ok(())
}

fn processors(host: &HostConfig) -> Result<()> {
    let (period, quota) = (host.cpu_period, host.cpu_quota);
    ensure!(
        host.nano_cpus == 0 || period == 0,
        "Conflicting options: Nano CPUs and CPU Period cannot both be set"
    );
    ensure!(
        host.nano_cpus == 0 || quota <= 0,
        "Conflicting options: Nano CPUs and CPU Quota cannot both be set"
    );
    let online = sysconf(SysconfVar::_NPROCESSORS_ONLN)?
        .unwrap_or(1)
        .unsigned_abs();
    ensure!(
        host.nano_cpus == 0 || (10_000_000..=online * 1_000_000_000).contains(&host.nano_cpus),
        "Range of CPUs is from 0.01 to {online}.00, as there are only {online} CPUs available"
    );
    ensure!(
        period == 0 || (1000..=1_000_000).contains(&period),
        "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
    );
    ensure!(
        quota <= 0 || quota >= 1000,
        "CPU cfs quota can not be less than 1ms (i.e. 1000)"
    );
    ensure!(
        host.cpu_shares == 0 || (2..=262_144).contains(&host.cpu_shares),
        "CPU shares {} are not between 2 and 262144",
        host.cpu_shares
    );
    set(
        "CPUs",
        "cpus",
        &host.cpuset_cpus,
        "/sys/devices/system/cpu/online",
    )?;
    set(
        "memory nodes",
        "mems",
        &host.cpuset_mems,
        "/sys/devices/system/node/online",
    )
}

/// Of a list such as `0-2,4` all have to be online.
fn set(what: &str, which: &str, wanted: &str, online: &str) -> Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let numbers =
        list(wanted).with_context(|| format!("Invalid value {wanted} for cpuset {which}"))?;
    let online = fs::read_to_string(online).with_context(|| format!("read {online}"))?;
    let online = online.trim();
    ensure!(
        numbers.is_subset(&list(online)?),
        "Requested {what} are not available - requested {wanted}, available: {online}"
    );
    Ok(())
}

/// cpuset(7), "List format".
fn list(text: &str) -> Result<BTreeSet<u32>> {
    let number = |text: &str| match text.parse::<u32>() {
        Ok(number) if number < MOST && !text.starts_with('+') => Ok(number),
        _ => bail!("{text:?} is no number below {MOST}"),
    };
    let mut numbers = BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        ensure!(first <= last, "{part:?} ends before it begins");
        numbers.extend(first..=last);
    }
    Ok(numbers)
}

/// What a container that shares somebody's network or name cannot have of its own.
fn names(config: &Config, host: &HostConfig) -> Result<()> {
    let named = !config.hostname.is_empty();
    ensure!(
        !named || host.uts_mode != "host",
        "conflicting options: hostname and the UTS mode"
    );
    let shares = host.network_mode.starts_with("container:");
    let published = host.publish_all_ports || !host.ports.is_empty();
    for (asked, what) in [
        (named, "hostname and the network mode"),
        (
            published,
            "port publishing and the container type network mode",
        ),
        (
            !config.exposed_ports.is_empty(),
            "port exposing and the container type network mode",
        ),
        (!host.dns.is_empty(), "dns and the network mode"),
        (
            !host.extra_hosts.is_empty(),
            "custom host-to-IP mapping and the network mode",
        ),
    ] {
        ensure!(!(shares && asked), "conflicting options: {what}");
    }
    let of_network = |name: &&String| name.starts_with("net.");
    if let Some(name) = host.sysctls.keys().find(of_network)
        && (shares || host.network_mode == "host")
    {
        bail!("sysctl '{name}' is not allowed in a network namespace that is not the container's");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl Fn(&mut Config, &mut HostConfig)) -> String {
        let (mut config, mut host) = (Config::default(), HostConfig::default());
        change(&mut config, &mut host);
        check(&config, &host).map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn limits_that_contradict_each_other_are_refused() {
        assert_eq!(refused(|_, _| {}), "");
        let memory = |memory, swap, reserved| {
            refused(move |_, host| {
                host.memory = memory;
                host.memory_swap = swap;
                host.memory_reservation = reserved;
            })
        };
        assert_eq!(memory(6 << 20, -1, 6 << 20), "");
        assert!(memory(1, 0, 0).contains("Minimum memory limit allowed"));
        assert!(memory(0, 1 << 30, 0).contains("always set the Memory limit"));
        assert!(memory(64 << 20, 32 << 20, 0).contains("larger than memory limit"));
        assert!(memory(64 << 20, 0, 65 << 20).contains("less than memory reservation"));
        let cpus = |nano, quota, period| {
            refused(move |_, host| {
                host.nano_cpus = nano;
                host.cpu_quota = quota;
                host.cpu_period = period;
            })
        };
        assert_eq!(cpus(10_000_000, 0, 0), "");
        assert!(cpus(1, 0, 0).contains("Range of CPUs is from 0.01"));
        assert!(cpus(u64::MAX, 0, 0).contains("Range of CPUs is from 0.01"));
        assert!(cpus(1_000_000_000, 5000, 0).contains("Nano CPUs and CPU Quota"));
        assert!(cpus(1_000_000_000, 0, 5000).contains("Nano CPUs and CPU Period"));
        assert!(cpus(0, 999, 0).contains("CPU cfs quota"));
        assert!(cpus(0, 0, 999).contains("CPU cfs period"));
    }

    #[test]
    fn a_list_of_processors_is_bounded_and_online() {
        let cpus = |text: &str| refused(|_, host| text.clone_into(&mut host.cpuset_cpus));
        assert_eq!(cpus("0"), "");
        for text in [
            "0-4294967295",
            "0-18446744073709551615",
            "1-0",
            "a",
            "0,",
            "-1",
            "+1",
            "8192",
        ] {
            assert!(
                cpus(text).starts_with("Invalid value "),
                "{text}: {}",
                cpus(text)
            );
        }
        assert!(cpus("8191").starts_with("Requested CPUs are not available - requested 8191"));
    }

    #[test]
    fn who_shares_a_network_has_no_name_and_no_ports_in_it() {
        let shares = |change: fn(&mut Config, &mut HostConfig)| {
            refused(move |config, host| {
                "container:x".clone_into(&mut host.network_mode);
                change(config, host);
            })
        };
        assert_eq!(shares(|_, _| {}), "");
        assert_eq!(
            shares(|config, _| config.hostname.push('h')),
            "conflicting options: hostname and the network mode"
        );
        assert!(shares(|_, host| host.publish_all_ports = true).contains("port publishing"));
        assert!(shares(|_, host| host.dns.push("1.1.1.1".to_owned())).contains("dns"));
    }
}
