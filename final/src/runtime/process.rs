//! A process of the container: what it becomes, step by step, before it is the
//! user's command. For the first process and for `exec` alike.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use namespaces::{Command, Inside};
use nix::sys::personality::{self, Persona};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, setgid, setgroups, setresgid, setresuid, setuid};
use oci_spec::runtime::{Linux, LinuxPersonalityDomain, PosixRlimitType, Process, User};
use rustix::fs::{OFlags, openat};

use super::capabilities::Sets;
use super::label::Label;
use super::seccomp::Filter;

/// All that a process is to be, decided before there is one.
#[derive(Debug)]
pub(crate) struct ProcessPlan {
    pub(crate) command: Command,
    /// Whether it gets a terminal of its own, and of what size (rows, columns).
    pub(crate) terminal: Option<Option<(u16, u16)>>,
    user: User,
    groups: Vec<Gid>,
    limits: Vec<(Resource, u64, u64)>,
    oom_score: Option<i32>,
    personality: Option<Persona>,
    label: Label,
    capabilities: Sets,
    no_new_privileges: bool,
    seccomp: Option<Filter>,
}

impl ProcessPlan {
    /// Refuses, by the field's name, what cannot be had.
    pub(crate) fn plan(process: &Process, linux: Option<&Linux>) -> Result<ProcessPlan> {
        let words = |words: &Option<Vec<String>>| -> Vec<OsString> {
            words.iter().flatten().map(OsString::from).collect()
        };
        let seccomp = linux.and_then(|linux| linux.seccomp().as_ref());
        let groups = process.user().additional_gids().iter().flatten();
        Ok(ProcessPlan {
            command: Command {
                args: words(process.args()),
                env: words(process.env()),
                cwd: Some(process.cwd().clone()),
                user: None,
                init: false,
            },
            terminal: process.terminal().unwrap_or(false).then(|| size(process)),
            user: process.user().clone(),
            groups: groups.map(|gid| Gid::from_raw(*gid)).collect(),
            limits: limits(process)?,
            oom_score: process.oom_score_adj(),
            personality: linux
                .and_then(|linux| linux.personality().as_ref())
                .map(|personality| match personality.domain() {
                    LinuxPersonalityDomain::PerLinux => Persona::empty(),
                    LinuxPersonalityDomain::PerLinux32 => Persona::from_bits_retain(PER_LINUX32),
                }),
            label: Label::plan(process)?,
            capabilities: Sets::plan(process.capabilities().as_ref())?,
            no_new_privileges: process.no_new_privileges().unwrap_or(false),
            seccomp: seccomp.map(Filter::compile).transpose()?,
        })
    }

    /// What is written to `/proc`, and must be while that is the host's: in a
    /// container's own a link or a mount could lead the write elsewhere
    /// (CVE-2019-16884, CVE-2025-52881).
    pub(crate) fn write_to_proc(&self, proc: BorrowedFd) -> Result<()> {
        if let Some(score) = self.oom_score {
            openat(
                proc,
                "self/oom_score_adj",
                OFlags::WRONLY | OFlags::CLOEXEC,
                rustix::fs::Mode::empty(),
            )
            .map_err(std::io::Error::from)
            .and_then(|file| File::from(file).write_all(score.to_string().as_bytes()))
            .with_context(|| format!("process.oomScoreAdj: set it to {score}"))?;
        }
        self.label.write(proc)
    }

    /// Becomes the command. The last `passed` files before the gate are its own.
    pub(crate) fn become_command(&self, inside: &Inside, passed: u32) -> Result<u8> {
        if let Some(persona) = self.personality {
            personality::set(persona).context("linux.personality: set it")?;
        }
        for (resource, soft, hard) in &self.limits {
            limit(*resource, *soft, *hard)?;
        }
        // Before any name of the image's is looked up: see the leaf.
        inside.close_files(passed)?;
        let program = self.command.locate()?;
        umask(Mode::from_bits_truncate(self.user.umask().unwrap_or(0o022)));
        // A filter needs CAP_SYS_ADMIN or no_new_privs (seccomp(2)), so where
        // the second is not asked for it is installed while the first is there.
        if let Some(filter) = self.seccomp.as_ref().filter(|_| !self.no_new_privileges) {
            filter.install()?;
        }
        self.capabilities.drop_bounding()?;
        self.become_user()?;
        self.capabilities.apply()?;
        if self.no_new_privileges {
            nix::sys::prctl::set_no_new_privs().context("process.noNewPrivileges: set it")?;
            // As late as can be, so that the fewest calls of ours need a place in it.
            if let Some(filter) = &self.seccomp {
                filter.install()?;
            }
        }
        inside.become_program(&program, &self.command)
    }

    /// Groups first: once the user id is no longer 0 the others may not change.
    fn become_user(&self) -> Result<()> {
        let (uid, gid) = (self.user.uid(), self.user.gid());
        // Otherwise the change from root to anybody else takes all capabilities.
        nix::sys::prctl::set_keepcaps(true).context("keep capabilities for the new user")?;
        match setgroups(&self.groups) {
            // In a user namespace with one id setgroups(2) is denied, and there
            // is no group to drop or to add.
            Err(nix::errno::Errno::EPERM) if self.groups.is_empty() => {}
            done => done.context("process.user.additionalGids: set them")?,
        }
        setgid(Gid::from_raw(gid)).map_err(|errno| unmapped("gid", gid, errno))?;
        setuid(Uid::from_raw(uid)).map_err(|errno| unmapped("uid", uid, errno))
    }
}

/// As in linux/personality.h; nix knows the flags only.
const PER_LINUX32: i32 = 0x0008;

fn unmapped(field: &str, id: u32, errno: nix::errno::Errno) -> anyhow::Error {
    match errno {
        nix::errno::Errno::EINVAL => anyhow!(
            "process.user.{field}: {id} is not mapped into the container's user namespace (linux.{field}Mappings)"
        ),
        errno => anyhow!(errno).context(format!("process.user.{field}: become {id}")),
    }
}

/// Becomes root of a user namespace that it was born into or has joined; what
/// it makes from here on belongs to that root.
pub(crate) fn become_root() -> Result<()> {
    match setgroups(&[]) {
        Ok(()) | Err(nix::errno::Errno::EPERM) => {}
        Err(errno) => return Err(errno).context("leave the caller's groups"),
    }
    let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
    setresgid(gid, gid, gid)
        .and_then(|()| setresuid(uid, uid, uid))
        .context(
            "become root in the container: linux.uidMappings and linux.gidMappings must map id 0",
        )
}

/// The host's procfs, opened while nobody else can have touched it.
pub(crate) fn trusted_proc() -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(
        rustix::fs::CWD,
        Path::new("/proc"),
        flags,
        rustix::fs::Mode::empty(),
    )
    .context("open /proc")
}

fn size(process: &Process) -> Option<(u16, u16)> {
    let size = process.console_size()?;
    let (rows, columns) = (size.height(), size.width());
    Some((rows.try_into().ok()?, columns.try_into().ok()?))
}

fn limits(process: &Process) -> Result<Vec<(Resource, u64, u64)>> {
    let mut limits = Vec::new();
    for wanted in process.rlimits().iter().flatten() {
        let resource = resource(wanted.typ());
        let (_, ours) = getrlimit(resource).context("read this process's limits")?;
        let mut hard = wanted.hard();
        // Only CAP_SYS_RESOURCE may raise one (setrlimit(2)).
        if hard > ours && !has_sys_resource()? {
            tracing::warn!(
                "process.rlimits: {} is narrowed from {hard} to {ours}, for want of CAP_SYS_RESOURCE",
                wanted.typ()
            );
            hard = ours;
        }
        limits.push((resource, wanted.soft().min(hard), hard));
    }
    Ok(limits)
}

fn has_sys_resource() -> Result<bool> {
    let sets = rustix::thread::capabilities(None).context("read this process's capabilities")?;
    Ok(sets
        .effective
        .contains(rustix::thread::CapabilitySet::SYS_RESOURCE))
}

fn limit(resource: Resource, soft: u64, hard: u64) -> Result<()> {
    setrlimit(resource, soft, hard)
        .with_context(|| format!("process.rlimits: set {resource:?} to {soft} and {hard}"))
}

fn resource(of: PosixRlimitType) -> Resource {
    match of {
        PosixRlimitType::RlimitCpu => Resource::RLIMIT_CPU,
        PosixRlimitType::RlimitFsize => Resource::RLIMIT_FSIZE,
        PosixRlimitType::RlimitData => Resource::RLIMIT_DATA,
        PosixRlimitType::RlimitStack => Resource::RLIMIT_STACK,
        PosixRlimitType::RlimitCore => Resource::RLIMIT_CORE,
        PosixRlimitType::RlimitRss => Resource::RLIMIT_RSS,
        PosixRlimitType::RlimitNproc => Resource::RLIMIT_NPROC,
        PosixRlimitType::RlimitNofile => Resource::RLIMIT_NOFILE,
        PosixRlimitType::RlimitMemlock => Resource::RLIMIT_MEMLOCK,
        PosixRlimitType::RlimitAs => Resource::RLIMIT_AS,
        PosixRlimitType::RlimitLocks => Resource::RLIMIT_LOCKS,
        PosixRlimitType::RlimitSigpending => Resource::RLIMIT_SIGPENDING,
        PosixRlimitType::RlimitMsgqueue => Resource::RLIMIT_MSGQUEUE,
        PosixRlimitType::RlimitNice => Resource::RLIMIT_NICE,
        PosixRlimitType::RlimitRtprio => Resource::RLIMIT_RTPRIO,
        PosixRlimitType::RlimitRttime => Resource::RLIMIT_RTTIME,
    }
}
