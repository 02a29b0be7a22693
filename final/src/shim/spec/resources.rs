//! What the container may use up: docker's options in the runtime's words.

use oci_spec::runtime::{Linux, LinuxCpu, LinuxMemory, LinuxPids};

use crate::state::HostConfig;

/// Periods are so long, in microseconds, where nobody says.
const PERIOD: u64 = 100_000;

/// Adds the limits to what is there.
pub(super) fn apply(linux: &mut Linux, host: &HostConfig) {
    let mut resources = linux.resources().clone().unwrap_or_default();
    resources
        .set_memory(memory(host))
        .set_cpu(cpu(host))
        .set_pids(pids(host));
    linux.set_resources(Some(resources));
}

/// Whether there is any limit.
pub(super) fn are_limited(host: &HostConfig) -> bool {
    memory(host).is_some() || cpu(host).is_some() || pids(host).is_some()
}

fn memory(host: &HostConfig) -> Option<LinuxMemory> {
    let bytes = |number: u64| (number > 0).then(|| i64::try_from(number).unwrap_or(i64::MAX));
    let limit = bytes(host.memory);
    let mut memory = LinuxMemory::default();
    memory
        .set_limit(limit)
        .set_reservation(bytes(host.memory_reservation))
        // Both together. A container that has a limit does not begin to swap at it.
        .set_swap(match host.memory_swap {
            0 => limit,
            both => Some(both),
        });
    (memory != LinuxMemory::default()).then_some(memory)
}

fn cpu(host: &HostConfig) -> Option<LinuxCpu> {
    let mut cpu = LinuxCpu::default();
    let some = |number: u64| (number > 0).then_some(number);
    cpu.set_shares(some(host.cpu_shares))
        .set_quota(Some(host.cpu_quota).filter(|quota| *quota != 0))
        .set_period(some(host.cpu_period))
        .set_cpus(Some(host.cpuset_cpus.clone()).filter(|list| !list.is_empty()))
        .set_mems(Some(host.cpuset_mems.clone()).filter(|list| !list.is_empty()));
    if host.nano_cpus > 0 {
        let quota = u128::from(host.nano_cpus) * u128::from(PERIOD) / 1_000_000_000;
        cpu.set_quota(Some(i64::try_from(quota).unwrap_or(i64::MAX)))
            .set_period(Some(PERIOD));
    }
    (cpu != LinuxCpu::default()).then_some(cpu)
}

fn pids(host: &HostConfig) -> Option<LinuxPids> {
    let mut pids = LinuxPids::default();
    pids.set_limit(host.pids_limit);
    (host.pids_limit > 0).then_some(pids)
}
