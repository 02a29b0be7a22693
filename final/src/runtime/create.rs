//! The story: from a bundle to a process that waits to be started.
//!
//! Everything that can be refused is refused in [`Plan::of`], before anything
//! is made. What is made after that is unmade when a later part fails.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use jiff::Timestamp;
use namespaces::{NamedGate, Running, Signals};
use nix::unistd::{Pid, getuid};
use oci_spec::runtime::{ContainerState, Hooks, Spec, State, StateBuilder};

use super::group::{Group, SavedGroup};
use super::namespaces_of::Namespaces;
use super::process::ProcessPlan;
use super::procfs;
use super::resources::Resources;
use super::root::RootPlan;
use super::seccomp::Filter;
use super::state::{self, GATE, Home, Record};
use super::sysctl::Sysctls;
use super::{Bundle, Container, Id, Runtime, Settings, hooks, init};

/// A container that waits to be started, and its first process.
#[derive(Debug)]
pub struct Created {
    /// The container.
    pub container: Container,
    /// The process, whose parent we are: to be waited for, or left to itself.
    pub process: Running,
}

impl Runtime {
    /// Creates the container `id` from a bundle. While its first process, whose pid the `work` is
    /// told, puts its files together, that can be done which others have to do for it: so a network
    /// costs no time.
    ///
    /// # Errors
    /// Fails with the field's name where the bundle asks for what cannot be
    /// had, and otherwise with the operation that did not succeed, or with what
    /// the work says. Nothing is left of the container then.
    pub fn create<T>(
        &self,
        id: &Id,
        bundle: Bundle,
        settings: &Settings,
        work: impl FnOnce(Pid) -> Result<T>,
    ) -> Result<(Created, T)> {
        let filter = Filter::of(&bundle.spec)?;
        let plan = Plan::of(id, &bundle, filter.as_ref(), settings)?;
        // From here on Ctrl-C waits until there is something to be unmade. (step 1)
        let signals = Signals::hold()?;
        let mut home = Home::make(self.root(), id, &bundle.text)?;
        let gate = NamedGate::make(home.as_fd(), GATE)?;

        // Limits first: the process is born under them. (step 3)
        let mut group = NewGroup::make(&plan, id)?;

        // If we are killed, whoever deletes the container finds what was made for it.
        let mut record = plan.record(&bundle, settings.init, group.save());
        home.write_record(&record)?;

        // Born with its namespaces, and held at the gate. (step 1)
        let mut isolation = plan.namespaces.isolation(plan.hostname.as_deref());
        isolation.cgroup = group.as_fd();
        let held = namespaces::spawn(&isolation, |inside| {
            home.close_copy()?;
            init::live(inside, &plan, &gate)
        })?;
        if !held.born_in_cgroup() {
            group.add(held.pid())?;
        }
        let pid = held.pid().as_raw();
        let unfinished = Unfinished { plan: &plan, pid };

        // What it says of links in general counts for those that come later.
        let held = match plan.sysctls.is_empty() {
            true => held,
            false => held.advance(&signals)?,
        };
        // It puts its root file system together, and meanwhile it gets a network. (step 2, and 4)
        let (held, done) = held.advance_during(&signals, work)?;
        let held = if plan.pauses_for_hooks() {
            unfinished.run_hooks()?;
            held.advance(&signals)?
        } else {
            held
        };
        plan.process.rlimits.set(held.pid())?;

        // Complete: from here on it is a container that other commands find.
        record.pid = pid;
        record.start_time = state::start_time(pid)?
            .context("the container's first process ended while it was created")?;
        home.write_record(&record)?;
        if let Some(path) = &settings.pid_file {
            write_pid(path, pid)?;
        }
        let process = held.let_go()?;
        home.keep();
        group.keep();
        std::mem::forget(unfinished);
        drop((gate, plan));
        let created = Created {
            container: Container::of(id.clone(), home, record).with_spec(bundle.spec, filter),
            process,
        };
        Ok((created, done))
    }
}

/// What a container is to be, decided before there is one.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) namespaces: Namespaces,
    pub(crate) hostname: Option<String>,
    pub(crate) domainname: Option<String>,
    /// `None` where the mount namespace is another's, with a root of its own.
    pub(crate) root: Option<RootPlan>,
    pub(crate) sysctls: Sysctls,
    pub(crate) process: ProcessPlan<'a>,
    pub(crate) hooks: Hooks,
    pub(crate) keyring: Option<Id>,
    pub(crate) passed_files: u32,
    pub(crate) proc: OwnedFd,
    resources: Resources,
    cgroup: Option<PathBuf>,
    state: State,
}

impl<'a> Plan<'a> {
    fn of(
        id: &Id,
        bundle: &Bundle,
        filter: Option<&'a Filter>,
        settings: &'a Settings,
    ) -> Result<Plan<'a>> {
        let spec = &bundle.spec;
        let none = oci_spec::runtime::Linux::default();
        let linux = spec.linux().as_ref().unwrap_or(&none);
        let process = spec.process().as_ref().context("process: it is missing")?;
        let state = state_of(id, spec, &bundle.path)?;
        let namespaces = Namespaces::plan(spec, super::root::propagation(linux)?)?;
        let root = namespaces
            .makes_mounts()
            .then(|| RootPlan::plan(bundle))
            .transpose()?;
        Ok(Plan {
            root,
            hostname: spec.hostname().clone(),
            domainname: spec.domainname().clone(),
            sysctls: Sysctls::plan(linux)?,
            process: ProcessPlan::plan(process, Some(linux), filter, &state, settings)?,
            hooks: spec.hooks().clone().unwrap_or_default(),
            keyring: (!settings.no_new_keyring).then(|| id.clone()),
            passed_files: settings.preserve_fds,
            proc: procfs::open()?,
            resources: linux
                .resources()
                .as_ref()
                .map_or_else(|| Ok(Resources::default()), Resources::plan)?,
            cgroup: linux.cgroups_path().clone(),
            state,
            namespaces,
        })
    }

    /// Whether there are hooks between the making of the root file system and
    /// the moment when the host's is out of reach.
    pub(crate) fn pauses_for_hooks(&self) -> bool {
        let some = |hooks: &Option<Vec<_>>| hooks.as_ref().is_some_and(|hooks| !hooks.is_empty());
        some(self.hooks.prestart()) || some(self.hooks.create_runtime())
    }

    /// What hooks are told.
    pub(crate) fn state(&self, status: ContainerState, pid: i32) -> Result<State> {
        let mut state = self.state.clone();
        state.set_status(status).set_pid(Some(pid));
        Ok(state)
    }

    fn record(&self, bundle: &Bundle, init: bool, cgroup: Option<SavedGroup>) -> Record {
        Record {
            oci_version: bundle.spec.version().clone(),
            pid: 0,
            start_time: 0,
            bundle: bundle.path.clone(),
            rootfs: bundle.rootfs.clone(),
            created: Timestamp::now(),
            owner: getuid().as_raw(),
            annotations: bundle.spec.annotations().clone().unwrap_or_default(),
            init,
            cgroup,
        }
    }
}

/// A container's state as the runtime-spec gives it, for one without a process.
pub(crate) fn state_of(id: &Id, spec: &Spec, bundle: &Path) -> Result<State> {
    let mut state = StateBuilder::default()
        .version(spec.version())
        .id(id.as_str())
        .status(ContainerState::Creating)
        .bundle(bundle);
    if let Some(annotations) = spec.annotations() {
        state = state.annotations(annotations.clone());
    }
    state.build().context("put the container's state together")
}

/// A cgroup that goes again unless it is kept.
struct NewGroup(Option<Group>);

impl NewGroup {
    fn make(plan: &Plan, id: &Id) -> Result<NewGroup> {
        let group = Group::create(plan.cgroup.as_deref(), id.as_str(), &plan.resources)?;
        let group = NewGroup(group);
        if let (Some(made), Some(owner)) = (&group.0, plan.namespaces.delegate()) {
            made.give_to(owner)?;
        }
        Ok(group)
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.0.as_ref().map(AsFd::as_fd)
    }

    fn add(&self, pid: Pid) -> Result<()> {
        self.0.as_ref().map_or(Ok(()), |group| group.add(pid))
    }

    fn save(&self) -> Option<SavedGroup> {
        self.0.as_ref().map(Group::save)
    }

    fn keep(&mut self) {
        self.0 = None;
    }
}

impl Drop for NewGroup {
    fn drop(&mut self) {
        let Some(group) = &self.0 else { return };
        let unmake = || group.kill().and_then(|()| group.remove());
        // Once more where something failed: what is done already does no harm.
        if let Err(error) = unmake().or_else(|_| unmake()) {
            tracing::warn!("a cgroup stays behind: {error:#}");
        }
    }
}

/// A container whose hooks have begun: what they made, those for its end unmake.
struct Unfinished<'a> {
    plan: &'a Plan<'a>,
    pid: i32,
}

impl Unfinished<'_> {
    fn run_hooks(&self) -> Result<()> {
        let state = self.plan.state(ContainerState::Creating, self.pid)?;
        let all = [
            ("prestart", self.plan.hooks.prestart()),
            ("createRuntime", self.plan.hooks.create_runtime()),
        ];
        for (moment, hooks) in all {
            hooks::run(hooks.as_deref().unwrap_or_default(), moment, &state)?;
        }
        Ok(())
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        let hooks = self.plan.hooks.poststop().as_deref().unwrap_or_default();
        let state = self.plan.state(ContainerState::Stopped, self.pid);
        if let Err(error) = state.and_then(|state| hooks::run(hooks, "poststop", &state)) {
            tracing::warn!("{error:#}");
        }
    }
}

/// Whoever watches for the file must not find half a number in it.
pub(crate) fn write_pid(path: &Path, pid: i32) -> Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    fs::write(&new, pid.to_string())
        .and_then(|()| fs::rename(&new, path))
        .with_context(|| format!("write the pid file {}", path.display()))
}
