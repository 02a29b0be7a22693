//! A process of the container: what it becomes, step by step, before it is the
//! user's command. For the first process and for `exec` alike.

use std::borrow::Cow;
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use namespaces::{Command, Inside};
use nix::errno::Errno;
use nix::sys::personality::{self, Persona};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{Mode, SFlag, fstat, umask};
use nix::unistd::{
    Gid, Pid, Uid, dup2_stderr, dup2_stdin, dup2_stdout, fchown, getpid, setgid, setgroups,
    setpgid, setresgid, setresuid, setsid, setuid, tcsetpgrp,
};
use oci_spec::runtime::{Linux, LinuxNamespaceType, LinuxPersonalityDomain, Process, State, User};
use rustix::fs::OFlags;

use super::capabilities::{self, Sets};
use super::console::{ConsoleSocket, Terminal};
use super::label::Label;
use super::namespaces_of::listed;
use super::rlimits::Rlimits;
use super::scheduling::Scheduling;
use super::seccomp::{Filter, Listener};
use super::{Settings, home, procfs, title};

/// All that a process is to be, decided before there is one.
#[derive(Debug)]
pub(crate) struct ProcessPlan<'a> {
    pub(crate) command: Command,
    terminal: Option<Wanted>,
    streams: Option<&'a [OwnedFd; 3]>,
    user: User,
    groups: Vec<Gid>,
    pub(crate) rlimits: Rlimits,
    oom_score: Option<i32>,
    personality: Option<Persona>,
    scheduling: Scheduling,
    label: Label,
    capabilities: Sets,
    no_new_privileges: bool,
    filter: Option<&'a Filter>,
    /// Who answers for the filter, and what is told of the container.
    agent: Option<(Listener, State)>,
}

/// A terminal of its own.
#[derive(Debug)]
struct Wanted {
    /// Rows and columns.
    size: Option<(u16, u16)>,
    /// Who shows it; `None`: the parent.
    socket: Option<ConsoleSocket>,
}

impl<'a> ProcessPlan<'a> {
    /// Refuses, by the field's name, what cannot be had.
    pub(crate) fn plan(
        process: &Process,
        linux: Option<&Linux>,
        filter: Option<&'a Filter>,
        state: &State,
        settings: &'a Settings,
    ) -> Result<ProcessPlan<'a>> {
        let profile = linux.and_then(|linux| linux.seccomp().as_ref());
        let groups = process.user().additional_gids().iter().flatten();
        let terminal = terminal(process, settings.console_socket.as_deref())?;
        let streams = settings.streams.as_ref();
        ensure!(
            streams.is_none() || terminal.is_none(),
            "process.terminal: a process on a terminal has no other standard streams"
        );
        Ok(ProcessPlan {
            command: command(process, settings.init),
            terminal,
            streams,
            user: process.user().clone(),
            groups: groups.map(|gid| Gid::from_raw(*gid)).collect(),
            rlimits: Rlimits::plan(process)?,
            oom_score: process.oom_score_adj(),
            personality: linux
                .and_then(|linux| linux.personality().as_ref())
                .map(|personality| match personality.domain() {
                    LinuxPersonalityDomain::PerLinux => Persona::empty(),
                    LinuxPersonalityDomain::PerLinux32 => Persona::from_bits_retain(PER_LINUX32),
                }),
            scheduling: Scheduling::plan(process)?,
            label: Label::plan(process)?,
            capabilities: Sets::plan(process.capabilities().as_ref(), own_user(linux))?,
            no_new_privileges: process.no_new_privileges().unwrap_or(false),
            filter,
            agent: match profile {
                Some(profile) => Listener::connect(profile)?.map(|agent| (agent, state.clone())),
                None => None,
            },
        })
    }

    /// What is written to `/proc`, and must be while that is the host's: in a
    /// container's own a link or a mount could lead the write elsewhere
    /// (CVE-2019-16884, CVE-2025-52881).
    pub(crate) fn write_to_proc(&self, proc: BorrowedFd) -> Result<()> {
        if let Some(score) = self.oom_score {
            procfs::write(proc, "self/oom_score_adj", &score.to_string())
                .with_context(|| format!("process.oomScoreAdj: set it to {score}"))?;
        }
        if self.command.init {
            title::take_in(proc, "docker-init")?;
        }
        self.label.write(proc)
    }

    /// Opens the terminal in the container's root `top`, where one is wanted,
    /// and hands it to whoever shows it.
    pub(crate) fn open_terminal(
        &self,
        inside: &Inside,
        top: BorrowedFd,
    ) -> Result<Option<Terminal>> {
        let Some(wanted) = &self.terminal else {
            return Ok(None);
        };
        let terminal = Terminal::open(top, wanted.size)?;
        match &wanted.socket {
            Some(socket) => socket.send(&terminal)?,
            None => inside.hand_over(&terminal.master)?,
        }
        Ok(Some(terminal))
    }

    /// What it needs of the host's until it is the command.
    pub(crate) fn kept_files(&self) -> Vec<BorrowedFd<'_>> {
        let agent = self.agent.as_ref().map(|(agent, _)| agent.as_fd());
        let wanted = self.terminal.as_ref();
        let socket = wanted.and_then(|wanted| Some(wanted.socket.as_ref()?.as_fd()));
        let streams = self.streams.into_iter().flatten().map(AsFd::as_fd);
        agent.into_iter().chain(socket).chain(streams).collect()
    }

    /// Becomes the command, which gets `passed` files after standard error.
    /// `pid` is this process's on the host, where [`ProcessPlan::has_agent`].
    pub(crate) fn become_command(&self, inside: &Inside, passed: u32, pid: i32) -> Result<u8> {
        if let Some(persona) = self.personality {
            personality::set(persona).context("linux.personality: set it")?;
        }
        self.scheduling.apply()?;
        // Before any name of the image's is looked up: see the leaf.
        inside.close_files(passed, &self.kept_files())?;
        self.rlimits.lower_files()?;
        let program = self.command.locate()?;
        let mut command = Cow::Borrowed(&self.command);
        if command.env("HOME").is_none() {
            let mut home = OsString::from("HOME=");
            home.push(home::of(self.user.uid()));
            command.to_mut().env.push(home);
        }
        umask(Mode::from_bits_truncate(self.user.umask().unwrap_or(0o022)));
        self.take_streams()?;
        self.give_streams()?;
        // A filter needs CAP_SYS_ADMIN or no_new_privs (seccomp(2)), so where
        // the second is not asked for it is installed while the first is there.
        if !self.no_new_privileges {
            self.install_filter(pid)?;
        }
        self.capabilities.drop_bounding()?;
        self.become_user()?;
        self.capabilities.apply()?;
        if self.no_new_privileges {
            nix::sys::prctl::set_no_new_privs().context("process.noNewPrivileges: set it")?;
            // As late as can be, so that the fewest calls of ours need a place in it.
            self.install_filter(pid)?;
        }
        if self.command.init
            && let Some(status) = self.leave_init(inside)?
        {
            return Ok(status);
        }
        inside.become_program(&program, &command)
    }

    /// Leaves pid 1 behind, with no more rights than the command has. Only the
    /// command comes back.
    fn leave_init(&self, inside: &Inside) -> Result<Option<u8>> {
        // Pid 1 goes on to run our program, and knows what that knew: nobody in the
        // container may look at either through /proc/1 (CVE-2019-5736). execve(2)
        // lifts this for the command.
        nix::sys::prctl::set_dumpable(false).context("keep others from looking into pid 1")?;
        // What execve(2) does to the command, if it is not root's.
        if self.user.uid() != 0 {
            capabilities::drop_all()?;
        }
        if let Some(status) = inside.stay_behind()? {
            return Ok(Some(status));
        }
        // Pid 1 leads the session. What is typed is for the command alone.
        let own = Pid::from_raw(0);
        setpgid(own, own).context("begin a process group")?;
        if self.terminal.is_some() {
            // Whoever is in the background is stopped for that (tcsetpgrp(3)).
            let mut stop = SigSet::empty();
            stop.add(Signal::SIGTTOU);
            stop.thread_block()
                .and_then(|()| tcsetpgrp(std::io::stdin(), getpid()))
                .and_then(|()| stop.thread_unblock())
                .context("bring the command to the terminal's foreground")?;
        }
        Ok(None)
    }

    /// Whether somebody outside will want to know which process it is.
    pub(crate) fn has_agent(&self) -> bool {
        self.agent.is_some()
    }

    fn install_filter(&self, pid: i32) -> Result<()> {
        let Some(filter) = self.filter else {
            return Ok(());
        };
        match (filter.install()?, &self.agent) {
            (Some(listener), Some((agent, state))) => agent.send(&listener, pid, state.clone()),
            _ => Ok(()),
        }
    }

    /// The descriptors that they come from close with execve(2).
    fn take_streams(&self) -> Result<()> {
        let Some([input, output, errors]) = self.streams else {
            return Ok(());
        };
        dup2_stdin(input)
            .and_then(|()| dup2_stdout(output))
            .and_then(|()| dup2_stderr(errors))
            .context("take the standard streams, for which RLIMIT_NOFILE has to be 3 at least")
    }

    /// So that the user may open `/dev/stdout` anew, as programs do that log
    /// there: a pipe or terminal is opened with the permissions that it has.
    /// Only what is the container's own is given away, no terminal or file of
    /// the caller's.
    fn give_streams(&self) -> Result<()> {
        let uid = Uid::from_raw(self.user.uid());
        for stream in [0, 1, 2] {
            // SAFETY: nothing closes them; where one is closed already, fstat says so.
            let stream = unsafe { BorrowedFd::borrow_raw(stream) };
            let Ok(found) = fstat(stream) else { continue };
            let own = match SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits()) {
                SFlag::S_IFIFO => true,
                SFlag::S_IFCHR => self.terminal.is_some(),
                _ => false,
            };
            if !own || found.st_uid == uid.as_raw() {
                continue;
            }
            match fchown(stream, Some(uid), None) {
                // It belongs to somebody whom the container does not know.
                Ok(()) | Err(Errno::EPERM | Errno::EINVAL) => {}
                Err(errno) => return Err(errno).context("give the streams to process.user"),
            }
        }
        Ok(())
    }

    /// Groups first: once the user id is no longer 0 the others may not change.
    fn become_user(&self) -> Result<()> {
        let (uid, gid) = (self.user.uid(), self.user.gid());
        // Otherwise the change from root to anybody else takes all capabilities.
        nix::sys::prctl::set_keepcaps(true).context("keep capabilities for the new user")?;
        match setgroups(&self.groups) {
            // In a user namespace with one id setgroups(2) is denied, and there
            // is no group to drop or to add.
            Err(Errno::EPERM) if self.groups.is_empty() => {}
            done => done.context("process.user.additionalGids: set them")?,
        }
        setgid(Gid::from_raw(gid)).map_err(|errno| unmapped("gid", gid, errno))?;
        setuid(Uid::from_raw(uid)).map_err(|errno| unmapped("uid", uid, errno))
    }
}

/// As in linux/personality.h; nix knows the flags only.
const PER_LINUX32: i32 = 0x0008;

fn unmapped(field: &str, id: u32, errno: Errno) -> anyhow::Error {
    match errno {
        Errno::EINVAL => anyhow!(
            "process.user.{field}: {id} is not mapped into the container's user namespace \
             (linux.{field}Mappings); an ordinary user's has more ids than root's where \
             /etc/sub{field} lists some and newuidmap(1) is installed"
        ),
        errno => anyhow!(errno).context(format!("process.user.{field}: become {id}")),
    }
}

/// Becomes root of a user namespace that it was born into or has joined; what
/// it makes from here on belongs to that root.
pub(crate) fn become_root() -> Result<()> {
    match setgroups(&[]) {
        Ok(()) | Err(Errno::EPERM) => {}
        Err(errno) => return Err(errno).context("leave the caller's groups"),
    }
    let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
    setresgid(gid, gid, gid)
        .and_then(|()| setresuid(uid, uid, uid))
        .context(
            "become root in the container: linux.uidMappings and linux.gidMappings must map id 0",
        )
}

/// Away from the caller's session and its terminal, whose other members it
/// could type for (CVE-2017-5226).
pub(crate) fn begin_session(terminal: Option<&Terminal>) -> Result<()> {
    // A new child leads no group, so there is nothing in the way.
    setsid().context("begin a session")?;
    terminal.map_or(Ok(()), Terminal::control)
}

/// `/`, where it is the container's already.
pub(crate) fn current_root() -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open("/", flags, rustix::fs::Mode::empty()).context("open the container's root")
}

/// Whether the process is in a user namespace that is not the runtime's.
fn own_user(linux: Option<&Linux>) -> bool {
    listed(linux).any(|namespace| namespace.typ() == LinuxNamespaceType::User)
}

/// Of two variables with one name the later counts.
fn command(process: &Process, init: bool) -> Command {
    let args = process.args().iter().flatten();
    let mut command = Command {
        args: args.map(OsString::from).collect(),
        env: Vec::new(),
        cwd: Some(process.cwd().clone()),
        user: None,
        init,
    };
    for variable in process.env().iter().flatten() {
        // A bare name would take the runtime's own value.
        if variable.contains('=') {
            command.set_env(variable.into());
        } else {
            command.env.push(variable.into());
        }
    }
    command
}

/// Whoever makes a process and goes away must say who gets its terminal.
fn terminal(process: &Process, socket: Option<&Path>) -> Result<Option<Wanted>> {
    if process.terminal() != Some(true) {
        return Ok(None);
    }
    let characters = |number: u64| u16::try_from(number).unwrap_or(u16::MAX);
    Ok(Some(Wanted {
        size: process
            .console_size()
            .map(|size| (characters(size.height()), characters(size.width()))),
        socket: socket.map(ConsoleSocket::connect).transpose()?,
    }))
}
