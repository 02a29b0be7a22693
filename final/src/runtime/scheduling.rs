//! When a process gets its turn: `process.scheduler` for processors,
//! `process.ioPriority` for disks, `process.execCPUAffinity` for where.

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use oci_spec::runtime::{
    IOPriorityClass, LinuxSchedulerFlag as Flag, LinuxSchedulerPolicy as Policy, Process, Scheduler,
};

/// What a process asks for beside the share of its cgroup.
#[derive(Debug)]
pub(crate) struct Scheduling {
    processor: Option<libc::sched_attr>,
    /// As ioprio_set(2) takes it.
    disk: Option<libc::c_int>,
}

impl Scheduling {
    /// Reads what the kernel will be told.
    pub(crate) fn plan(process: &Process) -> Result<Scheduling> {
        Ok(Scheduling {
            processor: process.scheduler().as_ref().map(attributes).transpose()?,
            disk: io_priority(process)?,
        })
    }

    /// Puts it in force for this process and those that it forks. It needs
    /// CAP_SYS_NICE for what is better than the usual.
    pub(crate) fn apply(&self) -> Result<()> {
        if let Some(attributes) = &self.processor {
            // SAFETY: the kernel reads one structure, which says how long it is.
            let done =
                unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const *attributes, 0_u32) };
            Errno::result(done).context("process.scheduler: set it")?;
        }
        if let Some(priority) = self.disk {
            // SAFETY: no memory is involved.
            let done = unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, priority) };
            Errno::result(done).context("process.ioPriority: set it")?;
        }
        Ok(())
    }
}

/// As in linux/ioprio.h, which libc leaves out.
const WHO_PROCESS: libc::c_int = 1;
const CLASS_SHIFT: libc::c_int = 13;

fn io_priority(process: &Process) -> Result<Option<libc::c_int>> {
    let Some(wanted) = process.io_priority() else {
        return Ok(None);
    };
    let class = match wanted.class() {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    let priority = wanted.priority();
    let level = libc::c_int::try_from(priority)
        .ok()
        .filter(|level| (0..=7).contains(level));
    let level = level.with_context(|| {
        format!("process.ioPriority.priority: {priority} is not between 0 and 7")
    })?;
    Ok(Some(class << CLASS_SHIFT | level))
}

/// What sched_setattr(2) takes.
fn attributes(wanted: &Scheduler) -> Result<libc::sched_attr> {
    let policy = match wanted.policy() {
        Policy::SchedOther => libc::SCHED_OTHER,
        Policy::SchedFifo => libc::SCHED_FIFO,
        Policy::SchedRr => libc::SCHED_RR,
        Policy::SchedBatch => libc::SCHED_BATCH,
        Policy::SchedIdle => libc::SCHED_IDLE,
        Policy::SchedDeadline => libc::SCHED_DEADLINE,
        Policy::SchedIso => bail!("process.scheduler.policy: Linux has no SCHED_ISO"),
    };
    let nice = wanted.nice().unwrap_or(0);
    ensure!(
        (-20..=19).contains(&nice),
        "process.scheduler.nice: {nice} is not between -20 and 19"
    );
    let priority = wanted.priority().unwrap_or(0);
    let mut flags = 0;
    for (n, flag) in wanted.flags().iter().flatten().enumerate() {
        flags |= match flag {
            Flag::SchedResetOnFork => libc::SCHED_FLAG_RESET_ON_FORK,
            Flag::SchedFlagReclaim => libc::SCHED_FLAG_RECLAIM,
            Flag::SchedFlagDLOverrun => libc::SCHED_FLAG_DL_OVERRUN,
            Flag::SchedFlagKeepPolicy => libc::SCHED_FLAG_KEEP_POLICY,
            Flag::SchedFlagKeepParams => libc::SCHED_FLAG_KEEP_PARAMS,
            // There is no field for the value that it needs.
            Flag::SchedFlagUtilClampMin | Flag::SchedFlagUtilClampMax => {
                bail!("process.scheduler.flags[{n}]: this runtime does not support {flag}")
            }
        };
    }
    Ok(libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: policy as u32,
        sched_flags: flags as u64,
        sched_nice: nice,
        sched_priority: u32::try_from(priority)
            .with_context(|| format!("process.scheduler.priority: {priority} is less than 0"))?,
        sched_runtime: wanted.runtime().unwrap_or(0),
        sched_deadline: wanted.deadline().unwrap_or(0),
        sched_period: wanted.period().unwrap_or(0),
    })
}

/// The processors that `process` may use, before and after it comes under the
/// container's own limits.
pub(crate) fn affinity(process: &Process) -> Result<(Option<CpuSet>, Option<CpuSet>)> {
    let Some(wanted) = process.exec_cpu_affinity() else {
        return Ok((None, None));
    };
    let set = |list: &Option<String>, field| {
        let list = list.as_deref().filter(|list| !list.is_empty());
        list.map(processors)
            .transpose()
            .with_context(|| format!("process.execCPUAffinity.{field}"))
    };
    Ok((
        set(wanted.initial(), "initial")?,
        set(wanted.cpu_affinity_final(), "final")?,
    ))
}

/// `0-3,7`
fn processors(list: &str) -> Result<CpuSet> {
    let mut set = CpuSet::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.parse::<usize>().ok().filter(|n| *n < CpuSet::count());
        let (Some(first), Some(last)) = (number(first), number(last)) else {
            bail!("{part:?} is no processor, or one too many");
        };
        for processor in first..=last {
            set.set(processor).context("add a processor")?;
        }
    }
    Ok(set)
}

/// Lets `pid` run on these processors only.
pub(crate) fn confine(pid: Pid, processors: Option<&CpuSet>) -> Result<()> {
    let done = processors.map_or(Ok(()), |set| sched_setaffinity(pid, set));
    done.context("process.execCPUAffinity: set it")
}
