//! `process.rlimits`: what one process may use, as setrlimit(2) has it.

use anyhow::{Context, Result};
use oci_spec::runtime::{PosixRlimitType, Process};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use rustix::thread::{CapabilitySet, capabilities};

use super::is_in_user_namespace;

/// The limits of a container's process.
#[derive(Debug)]
pub(crate) struct Rlimits(Vec<(PosixRlimitType, Rlimit)>);

impl Rlimits {
    /// Reads them. A hard limit above our own takes CAP_SYS_RESOURCE
    /// (setrlimit(2)); without it they are narrowed, with one warning.
    pub(crate) fn plan(process: &Process) -> Result<Rlimits> {
        let mut planned = Vec::new();
        let mut narrowed = Vec::new();
        for wanted in process.rlimits().iter().flatten() {
            let ours = getrlimit(resource(wanted.typ()))
                .maximum
                .unwrap_or(u64::MAX);
            let mut hard = wanted.hard();
            if hard > ours && !may_raise()? {
                narrowed.push(format!("{} from {hard} to {ours}", wanted.typ()));
                hard = ours;
            }
            let limit = Rlimit {
                current: finite(wanted.soft().min(hard)),
                maximum: finite(hard),
            };
            planned.push((wanted.typ(), limit));
        }
        if !narrowed.is_empty() {
            tracing::warn!(
                "process.rlimits: narrowed {}, for want of CAP_SYS_RESOURCE",
                narrowed.join(", ")
            );
        }
        Ok(Rlimits(planned))
    }

    /// Puts them in force for another process. From outside: in a user
    /// namespace nobody may raise one. That of open files it only raises:
    /// what lowers it is left to the process itself, which has files of
    /// greater numbers until it becomes the command.
    pub(crate) fn set(&self, pid: nix::unistd::Pid) -> Result<()> {
        let pid = Pid::from_raw(pid.as_raw());
        for (kind, limit) in &self.0 {
            let mut limit = *limit;
            if *kind == PosixRlimitType::RlimitNofile {
                let ours = getrlimit(Resource::Nofile).maximum;
                if limit
                    .maximum
                    .zip(ours)
                    .is_some_and(|(new, ours)| new <= ours)
                {
                    continue;
                }
                limit.current = limit.maximum;
            }
            set_one(pid, *kind, limit)?;
        }
        Ok(())
    }

    /// The rest of it, by the process itself: without the files that it had of ours.
    pub(crate) fn lower_files(&self) -> Result<()> {
        let mut files = self.0.iter();
        let files = files.find(|(kind, _)| *kind == PosixRlimitType::RlimitNofile);
        files.map_or(Ok(()), |(kind, limit)| set_one(None, *kind, *limit))
    }
}

/// `None` is this process.
fn set_one(pid: Option<Pid>, kind: PosixRlimitType, limit: Rlimit) -> Result<()> {
    prlimit(pid, resource(kind), limit).with_context(|| format!("process.rlimits: set {kind}"))?;
    Ok(())
}

/// The kernel's word for no limit is the greatest number.
fn finite(limit: u64) -> Option<u64> {
    (limit != u64::MAX).then_some(limit)
}

/// That of a user namespace does not count.
fn may_raise() -> Result<bool> {
    let own = capabilities(None).context("read this process's capabilities")?;
    Ok(own.effective.contains(CapabilitySet::SYS_RESOURCE) && !is_in_user_namespace())
}

fn resource(of: PosixRlimitType) -> Resource {
    match of {
        PosixRlimitType::RlimitCpu => Resource::Cpu,
        PosixRlimitType::RlimitFsize => Resource::Fsize,
        PosixRlimitType::RlimitData => Resource::Data,
        PosixRlimitType::RlimitStack => Resource::Stack,
        PosixRlimitType::RlimitCore => Resource::Core,
        PosixRlimitType::RlimitRss => Resource::Rss,
        PosixRlimitType::RlimitNproc => Resource::Nproc,
        PosixRlimitType::RlimitNofile => Resource::Nofile,
        PosixRlimitType::RlimitMemlock => Resource::Memlock,
        PosixRlimitType::RlimitAs => Resource::As,
        PosixRlimitType::RlimitLocks => Resource::Locks,
        PosixRlimitType::RlimitSigpending => Resource::Sigpending,
        PosixRlimitType::RlimitMsgqueue => Resource::Msgqueue,
        PosixRlimitType::RlimitNice => Resource::Nice,
        PosixRlimitType::RlimitRtprio => Resource::Rtprio,
        PosixRlimitType::RlimitRttime => Resource::Rttime,
    }
}
