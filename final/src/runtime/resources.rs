//! `linux.resources`: what a container may use, in the words of version 2 of cgroups.
//!
//! The specification's words are those of version 1. Here each becomes a file of version 2 and what
//! is written to it; the conversions are the field's own, so that a limit means the same under runc
//! and crun. Zero is how the engines write "not set" where it is no useful limit.

use std::fs;
use std::io;
use std::os::fd::AsFd;

use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use cgroups::{Lasting, Missing};
use nix::errno::Errno;
use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxNetwork, LinuxPids, LinuxRdma,
    LinuxResources, LinuxThrottleDevice,
};

use super::device_filter::DeviceFilter;

/// What a container may use, as the kernel takes it.
#[derive(Debug, Default)]
pub(crate) struct Resources {
    settings: Vec<Setting>,
    /// `memory.checkBeforeUpdate`, and the bytes of the limit to hold what is used against.
    checked: Option<u64>,
    devices: Option<Devices>,
}

#[derive(Debug)]
enum Devices {
    All,
    Filtered(DeviceFilter),
}

/// One write to the cgroup.
#[derive(Debug, PartialEq, Eq)]
struct Setting {
    /// The field that asks for it, below `linux.resources`.
    field: String,
    file: String,
    value: String,
    absent: Absent,
    /// The file has two words, and keeps the first.
    behind_first: bool,
}

/// What to do where the kernel has no such file.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Absent {
    Refuse,
    /// It limits nothing, or what the kernel does not have.
    Skip,
    /// As long as this host has no swap.
    SkipWithoutSwap,
    /// Write this to that file.
    Instead(&'static str, String),
}

/// What came of a setting.
enum Outcome {
    Written,
    /// The kernel may yet take it, when the others are written: a burst of processor time must not be
    /// more than the quota, whichever comes first.
    Later(Error),
}

impl Resources {
    /// Converts `linux.resources`.
    ///
    /// # Errors
    /// The field that makes no sense, or that version 2 cannot do.
    pub(crate) fn plan(resources: &LinuxResources) -> Result<Self> {
        // The field's name goes on in the error.
        let plan = Self::convert(resources);
        let mut plan = plan.map_err(|error| anyhow!("linux.resources.{error:#}"))?;
        let rules = resources.devices().as_deref().unwrap_or_default();
        if !rules.is_empty() {
            plan.devices = Some(DeviceFilter::plan(rules)?.map_or(Devices::All, Devices::Filtered));
        }
        Ok(plan)
    }

    fn convert(resources: &LinuxResources) -> Result<Self> {
        let mut plan = Self::default();
        if let Some(memory) = resources.memory() {
            plan.memory(memory)?;
        }
        if let Some(cpu) = resources.cpu() {
            plan.cpu(cpu)?;
        }
        if let Some(pids) = resources.pids() {
            plan.pids(pids);
        }
        if let Some(io) = resources.block_io() {
            plan.block_io(io)?;
        }
        for (at, limit) in resources.hugepage_limits().iter().flatten().enumerate() {
            plan.huge_pages(&format!("hugepageLimits[{at}]"), limit)?;
        }
        let mut rdma: Vec<_> = resources.rdma().iter().flatten().collect();
        rdma.sort_by_key(|(device, _)| *device);
        for (device, limit) in rdma {
            plan.rdma(device, limit)?;
        }
        if let Some(network) = resources.network() {
            refuse_network(network)?;
        }
        // Last: they overrule what was said before in other words.
        let mut unified: Vec<_> = resources.unified().iter().flatten().collect();
        unified.sort();
        for (file, value) in unified {
            check_file(file).with_context(|| format!("unified[{file:?}]"))?;
            plan.set(format!("unified[{file:?}]"), file, value.clone());
        }
        Ok(plan)
    }

    fn set(&mut self, field: impl Into<String>, file: impl Into<String>, value: impl Into<String>) {
        self.set_or(field, file, value, Absent::Refuse);
    }

    /// The same for what may be `max`. Where the kernel does not limit it at all, that is so.
    fn limit(&mut self, field: &str, file: &str, value: String) {
        let absent = match value.starts_with("max") {
            true => Absent::Skip,
            false => Absent::Refuse,
        };
        self.set_or(field, file, value, absent);
    }

    fn set_or(
        &mut self,
        field: impl Into<String>,
        file: impl Into<String>,
        value: impl Into<String>,
        absent: Absent,
    ) {
        self.settings.push(Setting {
            field: field.into(),
            file: file.into(),
            value: value.into(),
            absent,
            behind_first: false,
        });
    }

    #[allow(deprecated)] // Somebody may still write them, and is told so.
    fn memory(&mut self, memory: &LinuxMemory) -> Result<()> {
        let asks = |number: Option<i64>| number.is_some_and(|number| number > 0);
        refuse("memory.kernel", asks(memory.kernel()))?;
        refuse("memory.kernelTCP", asks(memory.kernel_tcp()))?;
        refuse("memory.swappiness", memory.swappiness().is_some())?;
        refuse(
            "memory.disableOOMKiller",
            memory.disable_oom_killer() == Some(true),
        )?;
        refuse(
            "memory.useHierarchy: false",
            memory.use_hierarchy() == Some(false),
        )?;
        let limit = bytes("memory.limit", memory.limit())?;
        let reservation = bytes("memory.reservation", memory.reservation())?;
        match (bytes("memory.swap", memory.swap())?, limit) {
            // Version 1 counts memory and swap together, version 2 swap alone.
            (Some(Bytes::Max), _) | (None, Some(Bytes::Max)) => {
                self.set_or("memory.swap", "memory.swap.max", "max", Absent::Skip);
            }
            (Some(Bytes::Most(both)), Some(Bytes::Most(limit))) => {
                let swap = both.checked_sub(limit).with_context(|| {
                    format!("memory.swap: {both} is less than memory.limit, which it includes")
                })?;
                let absent = match swap {
                    0 => Absent::SkipWithoutSwap,
                    _ => Absent::Refuse,
                };
                self.set_or("memory.swap", "memory.swap.max", swap.to_string(), absent);
            }
            (Some(_), _) => bail!("memory.swap: it includes memory.limit, which is not set"),
            (None, _) => {}
        }
        if let Some(limit) = limit {
            self.limit("memory.limit", "memory.max", limit.to_string());
        }
        if let Some(reservation) = reservation {
            self.set("memory.reservation", "memory.low", reservation.to_string());
        }
        if let (Some(true), Some(Bytes::Most(limit))) = (memory.check_before_update(), limit) {
            self.checked = Some(limit);
        }
        Ok(())
    }

    fn cpu(&mut self, cpu: &LinuxCpu) -> Result<()> {
        refuse(
            "cpu.realtimeRuntime",
            cpu.realtime_runtime().is_some_and(|time| time != 0),
        )?;
        refuse(
            "cpu.realtimePeriod",
            cpu.realtime_period().is_some_and(|time| time != 0),
        )?;
        // Before the weight, which the kernel does not take for who is idle.
        if let Some(idle) = cpu.idle() {
            ensure!(matches!(idle, 0 | 1), "cpu.idle: {idle} is neither 0 nor 1");
            self.set("cpu.idle", "cpu.idle", idle.to_string());
        }
        if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
            self.set(
                "cpu.shares",
                "cpu.weight",
                weight_of_shares(shares).to_string(),
            );
        }
        let quota = cpu.quota().filter(|quota| *quota != 0);
        let quota =
            quota.map(|quota| u64::try_from(quota).map_or("max".to_owned(), |q| q.to_string()));
        let period = cpu.period().filter(|period| *period != 0);
        if let Some(burst) = cpu.burst() {
            self.set("cpu.burst", "cpu.max.burst", burst.to_string());
        }
        match (quota, period) {
            (Some(quota), Some(period)) => {
                self.limit("cpu.quota", "cpu.max", format!("{quota} {period}"));
            }
            (Some(quota), None) => self.limit("cpu.quota", "cpu.max", quota),
            (None, Some(period)) => self.settings.push(Setting {
                field: "cpu.period".to_owned(),
                file: "cpu.max".to_owned(),
                value: period.to_string(),
                absent: Absent::Refuse,
                // The quota stays what it is.
                behind_first: true,
            }),
            (None, None) => {}
        }
        for (field, list) in [("cpu.cpus", cpu.cpus()), ("cpu.mems", cpu.mems())] {
            if let Some(list) = list.as_deref().filter(|list| !list.is_empty()) {
                check_list(list).context(field)?;
                self.set(field, field.replace("cpu.", "cpuset."), list);
            }
        }
        Ok(())
    }

    fn pids(&mut self, pids: &LinuxPids) {
        match u64::try_from(pids.limit()) {
            Ok(0) => {}
            Ok(limit) => self.set("pids.limit", "pids.max", limit.to_string()),
            Err(_) => self.limit("pids.limit", "pids.max", "max".to_owned()),
        }
    }

    fn block_io(&mut self, io: &LinuxBlockIo) -> Result<()> {
        let asks = |weight: Option<u16>| weight.is_some_and(|weight| weight != 0);
        refuse("blockIO.leafWeight", asks(io.leaf_weight()))?;
        if let Some(weight) = io.weight().filter(|weight| *weight != 0) {
            self.io_weight("blockIO.weight", "", weight)?;
        }
        for (at, device) in io.weight_device().iter().flatten().enumerate() {
            let field = format!("blockIO.weightDevice[{at}]");
            refuse(&format!("{field}.leafWeight"), asks(device.leaf_weight()))?;
            if let Some(weight) = device.weight().filter(|weight| *weight != 0) {
                let device = device_number(&field, device.major(), device.minor())?;
                self.io_weight(&format!("{field}.weight"), &format!("{device} "), weight)?;
            }
        }
        self.throttle("ReadBpsDevice", io.throttle_read_bps_device(), "rbps")?;
        self.throttle("WriteBpsDevice", io.throttle_write_bps_device(), "wbps")?;
        self.throttle("ReadIOPSDevice", io.throttle_read_iops_device(), "riops")?;
        self.throttle("WriteIOPSDevice", io.throttle_write_iops_device(), "wiops")
    }

    /// The scheduler BFQ has the range of version 1, the kernel's own weights are 1 to 10000.
    fn io_weight(&mut self, field: &str, device: &str, weight: u16) -> Result<()> {
        ensure!(
            (10..=1000).contains(&weight),
            "{field}: {weight} is not between 10 and 1000"
        );
        let converted = 1 + (u32::from(weight) - 10) * 9999 / 990;
        let instead = Absent::Instead("io.weight", format!("{device}{converted}"));
        self.set_or(field, "io.bfq.weight", format!("{device}{weight}"), instead);
        Ok(())
    }

    fn throttle(
        &mut self,
        name: &str,
        devices: &Option<Vec<LinuxThrottleDevice>>,
        key: &str,
    ) -> Result<()> {
        for (at, throttle) in devices.iter().flatten().enumerate() {
            let field = format!("blockIO.throttle{name}[{at}]");
            let device = device_number(&field, throttle.major(), throttle.minor())?;
            let value = match throttle.rate() {
                0 => format!("{device} {key}=max"),
                rate => format!("{device} {key}={rate}"),
            };
            self.set(format!("{field}.rate"), "io.max", value);
        }
        Ok(())
    }

    fn huge_pages(&mut self, field: &str, limit: &LinuxHugepageLimit) -> Result<()> {
        let size = limit.page_size();
        let number = ["KB", "MB", "GB"]
            .iter()
            .find_map(|unit| size.strip_suffix(unit));
        let is_size = number.is_some_and(|number| {
            !number.starts_with('0') && number.parse::<u32>().is_ok() && !number.starts_with('+')
        });
        ensure!(
            is_size,
            "{field}.pageSize: {size:?} is no size of a page; write one such as 2MB"
        );
        let limit = limit.limit();
        ensure!(limit >= 0, "{field}.limit: {limit} is negative");
        let field = format!("{field}.limit");
        self.set(&field, format!("hugetlb.{size}.max"), limit.to_string());
        // Reserved and not yet touched (Linux 5.7): those count as well.
        self.set_or(
            field,
            format!("hugetlb.{size}.rsvd.max"),
            limit.to_string(),
            Absent::Skip,
        );
        Ok(())
    }

    fn rdma(&mut self, device: &str, limit: &LinuxRdma) -> Result<()> {
        let field = format!("rdma[{device:?}]");
        let is_name = !device.is_empty() && !device.contains(char::is_whitespace);
        ensure!(is_name, "{field}: that is no name of a device");
        let handles = limit
            .hca_handles()
            .map(|number| format!(" hca_handle={number}"));
        let objects = limit
            .hca_objects()
            .map(|number| format!(" hca_object={number}"));
        let limits: String = [handles, objects].into_iter().flatten().collect();
        if !limits.is_empty() {
            self.set(field, "rdma.max", format!("{device}{limits}"));
        }
        Ok(())
    }

    /// Refuses what a container without a cgroup would not be kept from.
    pub(crate) fn do_without(&self) -> Result<()> {
        match &self.devices {
            Some(Devices::Filtered(_)) => DeviceFilter::do_without(),
            _ => Ok(()),
        }
    }

    /// Whether there is no limit.
    pub(crate) fn is_empty(&self) -> bool {
        self.settings
            .iter()
            .all(|setting| setting.absent == Absent::Skip)
    }

    /// The controllers without which these limits are only words.
    pub(crate) fn controllers(&self) -> Vec<&str> {
        let mut names: Vec<_> = self
            .settings
            .iter()
            .filter_map(Setting::controller)
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Says whose fault `error` is: the field that needs the controller which is missing.
    pub(crate) fn blame(&self, error: Error) -> Error {
        let missing = error.downcast_ref::<Missing>();
        let missing = missing.map(|missing| missing.controller.as_str());
        let mut settings = self.settings.iter();
        match settings.find(|setting| missing.is_some() && setting.controller() == missing) {
            Some(setting) => {
                let field = format!("linux.resources.{}", setting.field);
                error.context(field)
            }
            None => error.context("linux.cgroupsPath"),
        }
    }

    /// Puts them in force in `cgroup`, where the controllers are on.
    pub(crate) fn apply(&self, cgroup: &Lasting) -> Result<()> {
        if let Some(limit) = self.checked {
            check_usage(cgroup, limit).context("linux.resources.memory.limit")?;
        }
        let mut late = Vec::new();
        for setting in &self.settings {
            if let Outcome::Later(_) = setting.write(cgroup)? {
                late.push(setting);
            }
        }
        for setting in late {
            if let Outcome::Later(error) = setting.write(cgroup)? {
                return Err(error);
            }
        }
        match &self.devices {
            None => Ok(()),
            Some(Devices::All) => DeviceFilter::clear(cgroup.as_fd()),
            Some(Devices::Filtered(filter)) => filter.attach(cgroup.as_fd()),
        }
    }
}

impl Setting {
    fn controller(&self) -> Option<&str> {
        let (controller, _) = self.file.split_once('.')?;
        let is_needed = controller != "cgroup" && self.absent != Absent::Skip;
        is_needed.then_some(controller)
    }

    fn write(&self, cgroup: &Lasting) -> Result<Outcome> {
        let field = || format!("linux.resources.{}", self.field);
        let (mut file, mut value) = (self.file.as_str(), self.value.clone());
        if self.absent != Absent::Refuse && !cgroup.has(file) {
            match &self.absent {
                Absent::Skip => return Ok(Outcome::Written),
                Absent::SkipWithoutSwap if !has_swap() => return Ok(Outcome::Written),
                Absent::Instead(other, converted) => (file, value) = (*other, converted.clone()),
                Absent::SkipWithoutSwap | Absent::Refuse => {}
            }
        }
        if self.behind_first {
            let now = cgroup.read(file)?;
            let first = now.split_whitespace().next().unwrap_or("max");
            value = format!("{first} {value}");
        }
        match cgroup.write(file, &value, "as linux.resources has it") {
            Err(error) if is(&error, Errno::EINVAL) => Ok(Outcome::Later(error.context(field()))),
            written => written.with_context(field).map(|()| Outcome::Written),
        }
    }
}

fn is(error: &Error, errno: Errno) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.and_then(io::Error::raw_os_error) == Some(errno as i32)
}

/// A limit in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bytes {
    Max,
    Most(u64),
}

impl std::fmt::Display for Bytes {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Max => out.write_str("max"),
            Self::Most(bytes) => bytes.fmt(out),
        }
    }
}

fn bytes(field: &str, number: Option<i64>) -> Result<Option<Bytes>> {
    match number {
        None | Some(0) => Ok(None),
        Some(-1) => Ok(Some(Bytes::Max)),
        Some(number) => {
            let bytes = u64::try_from(number)
                .with_context(|| format!("{field}: {number} is neither bytes nor -1"))?;
            Ok(Some(Bytes::Most(bytes)))
        }
    }
}

/// From 2 to 262144 on to 1 to 10000, in a straight line, as runc 1.1 has it. (Later versions bend it,
/// so that 1024 becomes 100: the default of version 1 that of version 2.)
fn weight_of_shares(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

/// As docker and runc promise it: before, rather than by killing somebody.
fn check_usage(cgroup: &Lasting, limit: u64) -> Result<()> {
    let used = cgroup.read("memory.current")?;
    let used: u64 = used.trim().parse().unwrap_or(0);
    ensure!(
        used <= limit,
        "{limit} bytes are less than the {used} in use now"
    );
    Ok(())
}

fn has_swap() -> bool {
    // The first line is a heading.
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    swaps.lines().count() > 1
}

fn device_number(field: &str, major: i64, minor: i64) -> Result<String> {
    let is_number = |number| u32::try_from(number).is_ok();
    ensure!(
        is_number(major),
        "{field}.major: {major} is no device number"
    );
    ensure!(
        is_number(minor),
        "{field}.minor: {minor} is no device number"
    );
    Ok(format!("{major}:{minor}"))
}

fn refuse(field: &str, is_asked: bool) -> Result<()> {
    ensure!(
        !is_asked,
        "{field}: version 2 of cgroups cannot do this; leave it out"
    );
    Ok(())
}

fn refuse_network(network: &LinuxNetwork) -> Result<()> {
    let is_class = network.class_id().is_some_and(|id| id != 0);
    let has_priorities = network
        .priorities()
        .as_ref()
        .is_some_and(|all| !all.is_empty());
    refuse("network.classID", is_class)?;
    refuse("network.priorities", has_priorities)
}

/// A list such as `0-3,5`. The kernel reads it; nobody here counts to the end of a range, which may
/// be long (CVE-2018-20699).
fn check_list(list: &str) -> Result<()> {
    const MOST: usize = 32 << 10;
    ensure!(list.len() <= MOST, "the list is longer than {MOST} bytes");
    let is_number = |text: &str| {
        (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    for part in list.trim_end().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        ensure!(
            is_number(first) && is_number(last),
            "{part:?} is neither a number nor a range, such as 0-3"
        );
    }
    Ok(())
}

/// What is written below the container's cgroup, and nowhere else.
fn check_file(file: &str) -> Result<()> {
    let is_plain = file
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'/');
    let has_parts = file
        .split_once('.')
        .is_some_and(|(name, rest)| !name.is_empty() && !rest.is_empty());
    ensure!(
        is_plain && has_parts,
        "that is no file of a cgroup; write one such as memory.high"
    );
    // `cgroup.procs` takes any process of the host's in.
    let moves = [
        "procs",
        "threads",
        "kill",
        "freeze",
        "type",
        "subtree_control",
    ];
    ensure!(
        !file
            .strip_prefix("cgroup.")
            .is_some_and(|rest| moves.contains(&rest)),
        "that is no limit, but for whoever made the cgroup"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(json: &str) -> Result<Resources> {
        Resources::plan(&serde_json::from_str(json).unwrap())
    }

    /// What is written where, in order.
    fn writes(json: &str) -> Vec<String> {
        let plan = plan(json).unwrap_or_else(|error| panic!("{json}: {error:#}"));
        let write = |setting: &Setting| {
            let first = if setting.behind_first { "… " } else { "" };
            format!("{} {first}{}", setting.file, setting.value)
        };
        plan.settings.iter().map(write).collect()
    }

    #[test]
    fn each_word_of_version_1_becomes_a_file_of_version_2() {
        let cases: [(&str, &[&str]); 28] = [
            (
                r#"{"memory": {"limit": 67108864}}"#,
                &["memory.max 67108864"],
            ),
            (
                r#"{"memory": {"limit": -1}}"#,
                &["memory.swap.max max", "memory.max max"],
            ),
            (
                r#"{"memory": {"limit": 64, "swap": 96, "reservation": 32}}"#,
                &["memory.swap.max 32", "memory.max 64", "memory.low 32"],
            ),
            (
                r#"{"memory": {"limit": 64, "swap": 64}}"#,
                &["memory.swap.max 0", "memory.max 64"],
            ),
            (
                r#"{"memory": {"limit": 64, "swap": -1}}"#,
                &["memory.swap.max max", "memory.max 64"],
            ),
            (r#"{"memory": {"swap": -1}}"#, &["memory.swap.max max"]),
            (r#"{"memory": {"reservation": -1}}"#, &["memory.low max"]),
            (r#"{"cpu": {"shares": 1}}"#, &["cpu.weight 1"]),
            (r#"{"cpu": {"shares": 2}}"#, &["cpu.weight 1"]),
            (r#"{"cpu": {"shares": 512}}"#, &["cpu.weight 20"]),
            (r#"{"cpu": {"shares": 1024}}"#, &["cpu.weight 39"]),
            (r#"{"cpu": {"shares": 262144}}"#, &["cpu.weight 10000"]),
            (
                r#"{"cpu": {"shares": 18446744073709551615}}"#,
                &["cpu.weight 10000"],
            ),
            (
                r#"{"cpu": {"quota": 50000, "period": 200000}}"#,
                &["cpu.max 50000 200000"],
            ),
            (r#"{"cpu": {"quota": 50000}}"#, &["cpu.max 50000"]),
            (r#"{"cpu": {"quota": -1, "period": 0}}"#, &["cpu.max max"]),
            (r#"{"cpu": {"period": 50000}}"#, &["cpu.max … 50000"]),
            (
                r#"{"cpu": {"quota": 50000, "burst": 10000, "idle": 1}}"#,
                &["cpu.idle 1", "cpu.max.burst 10000", "cpu.max 50000"],
            ),
            (
                r#"{"cpu": {"cpus": "0-1,3", "mems": "0"}}"#,
                &["cpuset.cpus 0-1,3", "cpuset.mems 0"],
            ),
            (r#"{"pids": {"limit": 32}}"#, &["pids.max 32"]),
            (r#"{"pids": {"limit": -1}}"#, &["pids.max max"]),
            (r#"{"blockIO": {"weight": 10}}"#, &["io.bfq.weight 10"]),
            (
                r#"{"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 500}]}}"#,
                &["io.bfq.weight 8:0 500"],
            ),
            (
                r#"{"blockIO": {
                    "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1048576}],
                    "throttleWriteBpsDevice": [{"major": 8, "minor": 16, "rate": 2}],
                    "throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 3}],
                    "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 0}]}}"#,
                &[
                    "io.max 8:0 rbps=1048576",
                    "io.max 8:16 wbps=2",
                    "io.max 8:0 riops=3",
                    "io.max 8:0 wiops=max",
                ],
            ),
            (
                r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}]}"#,
                &["hugetlb.2MB.max 4194304", "hugetlb.2MB.rsvd.max 4194304"],
            ),
            (
                r#"{"rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}, "mlx4_0": {"hcaObjects": 1}}}"#,
                &[
                    "rdma.max mlx4_0 hca_object=1",
                    "rdma.max mlx5_1 hca_handle=3 hca_object=10000",
                ],
            ),
            (
                r#"{"memory": {"limit": 64}, "unified": {"memory.max": "128", "cgroup.max.depth": "3"}}"#,
                &["memory.max 64", "cgroup.max.depth 3", "memory.max 128"],
            ),
            (
                r#"{"unified": {"io.max": "8:0 rbps=max"}}"#,
                &["io.max 8:0 rbps=max"],
            ),
        ];
        for (json, expected) in cases {
            assert_eq!(writes(json), expected, "{json}");
        }
    }

    #[test]
    fn what_the_engines_write_when_nothing_is_asked_for_is_nothing() {
        let nothing = [
            "{}",
            r#"{"memory": {}, "cpu": {}, "pids": {"limit": 0}, "blockIO": {"weight": 0}}"#,
            r#"{"memory": {"limit": 0, "swap": 0, "reservation": 0, "kernel": 0, "kernelTCP": -1,
                "disableOOMKiller": false, "useHierarchy": true, "checkBeforeUpdate": true}}"#,
            r#"{"cpu": {"shares": 0, "quota": 0, "period": 0, "realtimeRuntime": 0, "realtimePeriod": 0,
                "cpus": "", "mems": ""}}"#,
            r#"{"blockIO": {"leafWeight": 0, "weightDevice": [{"major": 8, "minor": 0, "weight": 0}]}}"#,
            r#"{"network": {"classID": 0, "priorities": []}, "hugepageLimits": [], "rdma": {"a": {}}}"#,
            r#"{"devices": [{"allow": true, "access": "rwm"}]}"#,
            r#"{"memory": {"limit": -1, "swap": -1}, "cpu": {"quota": -1}, "pids": {"limit": -1}}"#,
        ];
        for json in nothing {
            let plan = plan(json).unwrap();
            assert!(plan.is_empty(), "{json}");
            assert!(plan.controllers().is_empty(), "{json}");
        }
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_its_name() {
        let cases = [
            (r#"{"memory": {"kernel": 1}}"#, "memory.kernel: "),
            (r#"{"memory": {"kernelTCP": 1}}"#, "memory.kernelTCP: "),
            (r#"{"memory": {"swappiness": 60}}"#, "memory.swappiness: "),
            (
                r#"{"memory": {"disableOOMKiller": true}}"#,
                "memory.disableOOMKiller: ",
            ),
            (
                r#"{"memory": {"useHierarchy": false}}"#,
                "memory.useHierarchy: ",
            ),
            (r#"{"memory": {"limit": -2}}"#, "memory.limit: -2"),
            (
                r#"{"memory": {"reservation": -7}}"#,
                "memory.reservation: -7",
            ),
            (
                r#"{"memory": {"limit": 64, "swap": 63}}"#,
                "memory.swap: 63",
            ),
            (r#"{"memory": {"limit": -1, "swap": 63}}"#, "memory.swap: "),
            (r#"{"memory": {"swap": 64}}"#, "memory.swap: "),
            (
                r#"{"cpu": {"realtimeRuntime": 950000}}"#,
                "cpu.realtimeRuntime: ",
            ),
            (
                r#"{"cpu": {"realtimePeriod": 1000000}}"#,
                "cpu.realtimePeriod: ",
            ),
            (r#"{"cpu": {"idle": 2}}"#, "cpu.idle: 2"),
            (r#"{"cpu": {"cpus": "0-"}}"#, "cpu.cpus: "),
            (r#"{"cpu": {"cpus": "0\n1"}}"#, "cpu.cpus: "),
            (r#"{"cpu": {"mems": "0-4294967295"}}"#, "cpu.mems: "),
            (r#"{"blockIO": {"weight": 9}}"#, "blockIO.weight: 9"),
            (r#"{"blockIO": {"weight": 1001}}"#, "blockIO.weight: 1001"),
            (r#"{"blockIO": {"leafWeight": 10}}"#, "blockIO.leafWeight: "),
            (
                r#"{"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "leafWeight": 10}]}}"#,
                "blockIO.weightDevice[0].leafWeight: ",
            ),
            (
                r#"{"blockIO": {"throttleReadIOPSDevice": [{"major": -1, "minor": 0, "rate": 1}]}}"#,
                "blockIO.throttleReadIOPSDevice[0].major: -1",
            ),
            (
                r#"{"hugepageLimits": [{"pageSize": "../2MB", "limit": 1}]}"#,
                "hugepageLimits[0].pageSize: ",
            ),
            (
                r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": -1}]}"#,
                "hugepageLimits[0].limit: ",
            ),
            (r#"{"network": {"classID": 1048577}}"#, "network.classID: "),
            (
                r#"{"network": {"priorities": [{"name": "eth0", "priority": 1}]}}"#,
                "network.priorities: ",
            ),
            (
                r#"{"rdma": {"a b": {"hcaHandles": 1}}}"#,
                r#"rdma["a b"]: "#,
            ),
            (
                r#"{"unified": {"../memory.max": "1"}}"#,
                r#"unified["../memory.max"]: "#,
            ),
            (r#"{"unified": {"memory": "1"}}"#, r#"unified["memory"]: "#),
            (r#"{"unified": {".": "1"}}"#, r#"unified["."]: "#),
            (r#"{"unified": {"..": "1"}}"#, r#"unified[".."]: "#),
            (r#"{"unified": {"a.\u0000": "1"}}"#, r#"unified["a.\0"]: "#),
        ];
        for (json, message) in cases {
            let error = format!("{:#}", plan(json).expect_err(json));
            let expected = format!("linux.resources.{message}");
            assert!(error.starts_with(&expected), "{error}\n{expected}");
        }
    }

    #[test]
    fn a_list_is_bounded() {
        let list = vec!["0"; 20_000].join(",");
        let error = plan(&format!(r#"{{"cpu": {{"cpus": "{list}"}}}}"#)).unwrap_err();
        assert!(format!("{error:#}").contains("longer than"), "{error:#}");
    }

    #[test]
    fn weights_of_io_are_converted_where_bfq_is_not() {
        for (weight, converted) in [(10, "1"), (500, "4950"), (1000, "10000")] {
            let plan = plan(&format!(r#"{{"blockIO": {{"weight": {weight}}}}}"#)).unwrap();
            let instead = Absent::Instead("io.weight", converted.to_owned());
            assert_eq!(plan.settings[0].absent, instead);
        }
    }

    #[test]
    fn each_limit_names_its_controller() {
        let plan = plan(
            r#"{"memory": {"limit": 64}, "pids": {"limit": 3}, "blockIO": {"weight": 10},
                "cpu": {"cpus": "0", "shares": 3},
                "hugepageLimits": [{"pageSize": "1GB", "limit": 0}],
                "unified": {"misc.max": "", "cgroup.max.depth": "1", "memory.high": "max"}}"#,
        );
        let expected = ["cpu", "cpuset", "hugetlb", "io", "memory", "misc", "pids"];
        assert_eq!(plan.unwrap().controllers(), expected);
    }
}
