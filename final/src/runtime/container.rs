//! A container that was created: what may happen to it from then on.

use std::cell::OnceCell;
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use anyhow::{Context, Result, bail, ensure};
use namespaces::NamedGate;
use nix::errno::Errno;
use oci_spec::runtime::{ContainerState, Hook, LinuxResources, Spec};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::create::state_of;
use super::group::Group;
use super::resources::Resources;
use super::seccomp::Filter;
use super::state::{self, GATE, Home, Record};
use super::stats::Stats;
use super::{Id, Runtime, bundle, hooks};

/// Where a container is in its life. The runtime-spec knows all of them but
/// the pause, which it leaves to the runtimes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Its first process is not complete yet.
    Creating,
    /// Its first process waits to be started.
    Created,
    /// The user's command runs.
    Running,
    /// All its processes are stopped where they are.
    Paused,
    /// Its first process has ended.
    Stopped,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        })
    }
}

/// A container, with the lock on its state.
#[derive(Debug)]
pub struct Container {
    id: Id,
    home: Home,
    record: Record,
    /// Its configuration, once somebody asked for it.
    spec: OnceCell<Spec>,
    /// That one's profile for system calls, once it was compiled.
    filter: OnceCell<Option<Filter>>,
}

impl Runtime {
    /// The container `id`, to be changed: waits until nobody else does that.
    ///
    /// # Errors
    /// Fails where there is none, and where its creation was not finished.
    pub fn open(&self, id: &Id) -> Result<Container> {
        Container::read(id, Home::open(self.root(), id)?)
    }

    /// The container `id`, to be looked at.
    ///
    /// # Errors
    /// As [`Runtime::open`].
    pub fn find(&self, id: &Id) -> Result<Container> {
        Container::read(id, Home::look(self.root(), id)?)
    }

    /// Removes the container `id`, which must have stopped unless it is done
    /// by `force`, and runs its poststop hooks. By force there need be none.
    ///
    /// # Errors
    /// Fails where there is no such container, or it runs.
    pub fn delete(&self, id: &Id, force: bool) -> Result<()> {
        if force && !self.root().join(id.as_str()).exists() {
            return Ok(());
        }
        let home = Home::open(self.root(), id)?;
        match home.read_record() {
            Ok(Some(record)) => Container::of(id.clone(), home, record).delete(force),
            // Whoever was creating it is dead, for we hold the lock, and with
            // that one whom it had made.
            Ok(None) => {
                if let Some(group) = unrecorded_group(id, &home)? {
                    group.remove()?;
                }
                home.remove()
            }
            Err(_) if force => {
                if let Some(group) = unrecorded_group(id, &home)? {
                    group.kill()?;
                    group.remove()?;
                }
                home.remove()
            }
            Err(error) => Err(error),
        }
    }

    /// All containers that were created here, by their ids.
    ///
    /// # Errors
    /// Fails where the runtime's root cannot be read.
    pub fn list(&self) -> Result<Vec<Container>> {
        let entries = match std::fs::read_dir(self.root()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.with_context(|| format!("list {}", self.root().display()))?,
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut ids: Vec<Id> = names.filter_map(|name| name.parse().ok()).collect();
        ids.sort();
        // One that is being created or deleted is no container at the moment.
        Ok(ids.iter().filter_map(|id| self.find(id).ok()).collect())
    }
}

impl Container {
    pub(crate) fn of(id: Id, home: Home, record: Record) -> Container {
        Container {
            id,
            home,
            record,
            spec: OnceCell::new(),
            filter: OnceCell::new(),
        }
    }

    /// One whose configuration is at hand, and need not be read and compiled again.
    pub(crate) fn with_spec(self, spec: Spec, filter: Option<Filter>) -> Container {
        Container {
            spec: OnceCell::from(spec),
            filter: OnceCell::from(filter),
            ..self
        }
    }

    fn read(id: &Id, home: Home) -> Result<Container> {
        let record = home.read_record()?.with_context(|| {
            format!(
                "container {id} is being created; if nobody does that any more, `minirunc delete --force {id}` removes it"
            )
        })?;
        Ok(Container::of(id.clone(), home, record))
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &Id {
        &self.id
    }

    /// What does not change in its life.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Its configuration, as it was when the container was created.
    ///
    /// # Errors
    /// Fails where the runtime's copy of it is damaged.
    pub fn spec(&self) -> Result<&Spec> {
        if let Some(spec) = self.spec.get() {
            return Ok(spec);
        }
        let spec = bundle::reread(&self.home.config()?)?;
        Ok(self.spec.get_or_init(|| spec))
    }

    /// The filter that all of its processes get.
    pub(crate) fn filter(&self) -> Result<Option<&Filter>> {
        if let Some(filter) = self.filter.get() {
            return Ok(filter.as_ref());
        }
        let filter = Filter::of(self.spec()?)?;
        Ok(self.filter.get_or_init(|| filter).as_ref())
    }

    /// Lets others change it, up to [`Container::delete`].
    ///
    /// # Errors
    /// What flock(2) refuses.
    pub fn unlock(&self) -> Result<()> {
        self.home.unlock()
    }

    /// What it is doing now.
    ///
    /// # Errors
    /// Fails where `/proc` or its cgroup cannot be read.
    pub fn status(&self) -> Result<Status> {
        if self.record.pid == 0 {
            return Ok(Status::Creating);
        }
        if state::start_time(self.record.pid)? != Some(self.record.start_time) {
            return Ok(Status::Stopped);
        }
        if self.home.has_gate() {
            return Ok(Status::Created);
        }
        match self.group()? {
            Some(group) if group.is_frozen()? => Ok(Status::Paused),
            _ => Ok(Status::Running),
        }
    }

    /// Lets the first process go on to the user's command.
    ///
    /// # Errors
    /// Fails where it does not wait for that, and where the command cannot be run.
    pub fn start(&self) -> Result<()> {
        match self.status()? {
            Status::Created => {}
            Status::Creating => bail!("cannot start a container whose creation was given up"),
            Status::Stopped if self.home.has_gate() => {
                bail!("cannot start a container whose first process ended before it was started")
            }
            Status::Stopped => bail!("cannot start a container that has stopped"),
            _ => bail!("cannot start an already running container"),
        }
        let started = NamedGate::open(self.home.as_fd(), GATE);
        self.home.remove_gate()?;
        started?;
        // The container runs; a hook that fails does not change that (runtime-spec, "Lifecycle").
        if let Err(error) = self.run_hooks("poststart", ContainerState::Running) {
            tracing::warn!("{error:#}");
        }
        Ok(())
    }

    /// Sends a signal to the first process, or to `all` of the container's.
    ///
    /// # Errors
    /// Fails where no process is left, and where the kernel refuses the signal.
    pub fn kill(&self, signal: i32, all: bool) -> Result<()> {
        if all {
            return self.kill_all(signal);
        }
        let init = self.first_process()?.context("container not running")?;
        send(&init, signal)
    }

    fn kill_all(&self, signal: i32) -> Result<()> {
        let Some(group) = self.group()? else {
            return match self.first_process()? {
                Some(init) => send(&init, signal),
                None => Ok(()),
            };
        };
        if signal == libc::SIGKILL {
            return group.kill();
        }
        for pid in group.pids()? {
            // One that ended meanwhile needs no signal.
            let pid = Pid::from_raw(pid.as_raw());
            if let Some(process) = pid.and_then(|pid| open_process(pid).ok()) {
                send(&process, signal)?;
            }
        }
        Ok(())
    }

    /// Removes what is left of it, and runs its poststop hooks. One that runs
    /// is ended first if that is done by `force`.
    ///
    /// # Errors
    /// Fails where it runs, and where something cannot be removed.
    pub fn delete(self, force: bool) -> Result<()> {
        self.home.lock()?;
        if !self.home.is_current()? {
            // While we had no lock somebody else has done it.
            return Ok(());
        }
        match self.status()? {
            // We hold the lock, so nobody is creating it any more.
            Status::Stopped | Status::Creating => {}
            // Nothing of the user's has run in it yet.
            Status::Created => self.end()?,
            _ if force => self.end()?,
            status => bail!(
                "cannot delete container {} that is not stopped: {status}; `minirunc kill {} KILL` ends it",
                self.id,
                self.id
            ),
        }
        if let Some(group) = self.group()? {
            group.kill()?;
            group.remove()?;
        }
        let hooks = self.run_hooks("poststop", ContainerState::Stopped);
        self.home.remove()?;
        if let Err(error) = hooks {
            tracing::warn!("{error:#}");
        }
        Ok(())
    }

    /// Kills the first process, and waits until it is gone.
    fn end(&self) -> Result<()> {
        let Some(init) = self.first_process()? else {
            return Ok(());
        };
        send(&init, libc::SIGKILL)?;
        if let Some(group) = self.group()? {
            group.thaw()?;
        }
        let mut waiting = [nix::poll::PollFd::new(
            init.as_fd(),
            nix::poll::PollFlags::POLLIN,
        )];
        let ended =
            nix::poll::poll(&mut waiting, 10_000_u16).context("wait for the container's end")?;
        ensure!(
            ended > 0,
            "process {} of container {} does not die",
            self.record.pid,
            self.id
        );
        Ok(())
    }

    /// Stops every process of the container where it is.
    ///
    /// # Errors
    /// Fails where it does not run, and where it has no cgroup.
    pub fn pause(&self) -> Result<()> {
        let status = self.status()?;
        ensure!(
            matches!(status, Status::Running | Status::Created),
            "container {} cannot be paused: it is {status}",
            self.id
        );
        self.needed_group()?.freeze()
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// Fails where it is not paused.
    pub fn resume(&self) -> Result<()> {
        let status = self.status()?;
        ensure!(
            status == Status::Paused,
            "container {} is not paused: it is {status}",
            self.id
        );
        self.needed_group()?.thaw()
    }

    /// Changes what it may use.
    ///
    /// # Errors
    /// Fails with the field's name where a limit cannot be had.
    pub fn update(&self, resources: &LinuxResources) -> Result<()> {
        let resources = Resources::plan(resources)?;
        self.needed_group()?.update(&resources)
    }

    /// The processes in it, as this host numbers them.
    ///
    /// # Errors
    /// Fails where its cgroup cannot be read.
    pub fn pids(&self) -> Result<Vec<i32>> {
        let Some(group) = self.group()? else {
            return Ok(self
                .first_process()?
                .map(|_| self.record.pid)
                .into_iter()
                .collect());
        };
        Ok(group
            .pids()?
            .into_iter()
            .map(nix::unistd::Pid::as_raw)
            .collect())
    }

    /// What it has used so far.
    ///
    /// # Errors
    /// Fails where it has no cgroup, or a file of the kernel's cannot be read.
    pub fn stats(&self) -> Result<Stats> {
        self.needed_group()?.stats()
    }

    /// How many of its processes the kernel has killed for want of memory; 0 where nobody counts.
    ///
    /// # Errors
    /// Fails where its cgroup cannot be read.
    pub fn oom_kills(&self) -> Result<u64> {
        self.group()?.map_or(Ok(0), |group| group.oom_kills())
    }

    /// The container's cgroup, where it has one.
    pub(crate) fn group(&self) -> Result<Option<Group>> {
        self.record.cgroup.as_ref().map_or(Ok(None), Group::open)
    }

    fn needed_group(&self) -> Result<Group> {
        self.group()?.with_context(|| {
            format!(
                "container {} has no cgroup; an ordinary user's has one if it is started where cgroups \
                 are delegated: put `systemd-run --user --scope -p Delegate=yes --` before the command",
                self.id
            )
        })
    }

    /// The first process, if it is still the one that we made.
    pub(crate) fn first_process(&self) -> Result<Option<OwnedFd>> {
        let Some(pid) = Pid::from_raw(self.record.pid) else {
            return Ok(None);
        };
        let process = match open_process(pid) {
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            process => process.context("open the container's first process")?,
        };
        // Looked at after it was opened: now it cannot become another one.
        let same = state::start_time(self.record.pid)? == Some(self.record.start_time);
        Ok(same.then_some(process))
    }

    /// A process that is in its namespaces, for another one to join. An init of
    /// ours lets nobody look at it but the host's root, so it is its command.
    pub(crate) fn member(&self) -> Result<Option<OwnedFd>> {
        if !self.record.init {
            return self.first_process();
        }
        let Some(command) = self.oldest_child() else {
            return Ok(None);
        };
        let process = match open_process(command) {
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            process => process.context("open the container's command")?,
        };
        // As above: now it, too, cannot become another one.
        let same = self.oldest_child() == Some(command) && self.first_process()?.is_some();
        Ok(same.then_some(process))
    }

    /// A process that is in its namespaces, and can be looked at by whoever made the container.
    ///
    /// # Errors
    /// Fails where its command has ended.
    pub fn member_pid(&self) -> Result<i32> {
        if !self.record.init {
            return Ok(self.record.pid);
        }
        let command = self.oldest_child();
        let command = command.with_context(|| format!("container {} is not running", self.id))?;
        Ok(command.as_raw_pid())
    }

    /// Its `/`, where a container runs.
    ///
    /// # Errors
    /// Fails where it has stopped.
    pub fn open_root(&self) -> Result<OwnedFd> {
        let gone = || format!("container {} is not running", self.id);
        let pid = self.member_pid()?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(format!("/proc/{pid}/root"), flags, Mode::empty());
        // If it is still there, it was there before.
        self.member()?.with_context(gone)?;
        root.with_context(|| format!("open the root of container {}", self.id))
    }

    /// Orphans become children of pid 1 later (proc_pid_task(5)).
    fn oldest_child(&self) -> Option<Pid> {
        let pid = self.record.pid;
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        Pid::from_raw(children.split_whitespace().next()?.parse().ok()?)
    }

    fn run_hooks(&self, moment: &str, status: ContainerState) -> Result<()> {
        let spec = self.spec()?;
        let Some(all) = spec.hooks() else {
            return Ok(());
        };
        let hooks: &[Hook] = match moment {
            "poststart" => all.poststart(),
            _ => all.poststop(),
        }
        .as_deref()
        .unwrap_or_default();
        let mut state = state_of(&self.id, spec, &self.record.bundle)?;
        state.set_status(status).set_pid(Some(self.record.pid));
        hooks::run(hooks, moment, &state)
    }
}

/// The cgroup of a container of which there is no record, by its configuration.
/// Without that, too, it was not made yet.
fn unrecorded_group(id: &Id, home: &Home) -> Result<Option<Group>> {
    let Ok(spec) = home.config().and_then(|text| bundle::reread(&text)) else {
        return Ok(None);
    };
    let linux = spec.linux().as_ref();
    let path = linux.and_then(|linux| linux.cgroups_path().as_deref());
    Group::find(path, id.as_str())
}

fn open_process(pid: Pid) -> rustix::io::Result<OwnedFd> {
    pidfd_open(pid, PidfdFlags::empty())
}

/// By number, since a real-time signal has no name that a crate would know.
fn send(process: &OwnedFd, signal: i32) -> Result<()> {
    // SAFETY: no pointer is passed but null, which means "as kill(2)".
    let done = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0_u32,
        )
    };
    match Errno::result(done) {
        Err(Errno::ESRCH) => bail!("container not running"),
        done => done
            .map(drop)
            .with_context(|| format!("send signal {signal}")),
    }
}
