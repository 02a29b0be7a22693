//! One more process in a container that runs.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result, bail, ensure};
use namespaces::{Inside, Isolation, Joined, Outside, Running, Signals};
use nix::fcntl::OFlag;
use nix::sched::CloneFlags;
use nix::unistd::{Pid, pipe2, read, write};
use oci_spec::runtime::{ContainerState, Process};

use super::create::{state_of, write_pid};
use super::group::Group;
use super::namespaces_of::{kind, listed};
use super::process::{self, ProcessPlan};
use super::{Container, Settings, keyring, procfs, scheduling};

impl Container {
    /// Runs `process` in the container: in all of its namespaces, in its
    /// cgroup, under its filter. Returns when the command has been exec'ed.
    ///
    /// # Errors
    /// Fails where the container does not run, and where the command cannot be run.
    pub fn exec(&self, process: &Process, settings: &Settings) -> Result<Running> {
        // By one process it is known what all are in: its pidfd cannot become another's.
        let file = self.member()?;
        let file = file.context("cannot exec in a stopped container")?;
        let group = self.group()?;
        if group.as_ref().map_or(Ok(false), Group::is_frozen)? {
            bail!("cannot exec in a paused container");
        }
        let spec = self.spec()?;
        let linux = spec.linux().as_ref();
        let mut state = state_of(self.id(), spec, &self.record().bundle)?;
        state
            .set_status(ContainerState::Running)
            .set_pid(Some(self.record().pid));
        let plan = ProcessPlan::plan(process, linux, self.filter()?, &state, settings)?;
        let affinity = scheduling::affinity(process)?;
        let proc = procfs::open()?;
        let signals = Signals::hold()?;

        // All at once: what that process is in, and nothing else. (step 1)
        let kinds = listed(linux).fold(CloneFlags::empty(), |all, one| all | kind(one.typ()));
        let joined = [Joined { file, kinds }];
        // Who may trace others in the container could take the host's files from
        // a process that joins it: none is open any more when it does.
        let own_pid = plan.has_agent().then(Told::make).transpose()?;
        let mut kept = plan.kept_files();
        kept.extend(own_pid.as_ref().map(|told| told.reader.as_fd()));
        // Born under the container's limits: to be moved there afterwards takes an RCU grace period
        // of the kernel's, which is some milliseconds.
        let (before, after) = affinity;
        let cgroup = group.as_ref().filter(|_| before.is_none());
        let isolation = Isolation {
            namespaces: CloneFlags::empty(),
            ids: None,
            joined: &joined,
            outside: Some(Outside {
                last: &|| plan.write_to_proc(proc.as_fd()),
                passed: settings.preserve_fds,
                kept,
            }),
            time_offsets: None,
            propagation: None,
            hostname: None,
            cgroup: cgroup.map(AsFd::as_fd),
        };
        let has_users = kinds.contains(CloneFlags::CLONE_NEWUSER);
        let live = |inside: &Inside| {
            inside.outlive_parent()?;
            if has_users {
                process::become_root()?;
            }
            if !settings.no_new_keyring {
                keyring::leave(self.id())?;
            }
            let terminal = plan.open_terminal(inside, process::current_root()?.as_fd())?;
            process::begin_session(terminal.as_ref())?;
            drop(terminal);
            let pid = own_pid.as_ref().map_or(Ok(0), Told::hear)?;
            plan.become_command(inside, settings.preserve_fds, pid)
        };
        let held = namespaces::spawn(&isolation, live)?;

        // Under the container's limits before its first instruction. (step 3)
        let pid = held.pid();
        scheduling::confine(pid, before.as_ref())?;
        if let Some(group) = group.filter(|_| !held.born_in_cgroup()) {
            group.join(pid, Pid::from_raw(self.record().pid))?;
        }
        scheduling::confine(pid, after.as_ref())?;
        plan.rlimits.set(pid)?;
        if let Some(told) = &own_pid {
            told.say(pid)?;
        }
        let running = held.release(&signals)?;
        if let Some(path) = &settings.pid_file {
            write_pid(path, pid.as_raw())?;
        }
        Ok(running)
    }
}

/// How the process learns its pid on the host, whose `/proc` it cannot see.
struct Told {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl Told {
    fn make() -> Result<Told> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC).context("make a pipe")?;
        Ok(Told { reader, writer })
    }

    fn say(&self, pid: Pid) -> Result<()> {
        let number = pid.as_raw().to_ne_bytes();
        write(&self.writer, &number).context("tell the process its pid")?;
        Ok(())
    }

    fn hear(&self) -> Result<i32> {
        let mut number = [0; 4];
        let length = read(&self.reader, &mut number).context("hear this process's pid")?;
        ensure!(length == number.len(), "nobody tells this process its pid");
        Ok(i32::from_ne_bytes(number))
    }
}
