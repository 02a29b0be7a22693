//! What the container's first process does, from its birth in new namespaces
//! to the user's command: one list, in the order in which it must be.

use std::os::fd::AsFd;

use anyhow::{Context, Result};
use namespaces::{Inside, NamedGate};
use oci_spec::runtime::{ContainerState, Hook};

use super::create::Plan;
use super::root::RootPlan;
use super::{hooks, keyring, process, procfs};

/// The child's side of the story; `gate` is where it waits to be started.
pub(crate) fn live(inside: &Inside, plan: &Plan, gate: &NamedGate) -> Result<u8> {
    // The last writes to a /proc that is the host's, and can be trusted. As long as
    // we are who we were: after a change of user only root may write to ours.
    plan.process.write_to_proc(plan.proc.as_fd())?;
    // A user namespace is entered as nobody; its root owns what is made below.
    if plan.namespaces.has_users() {
        process::become_root()?;
    }
    if let Some(id) = &plan.keyring {
        keyring::leave(id)?;
    }
    if let Some(name) = &plan.domainname {
        set_domainname(name)?;
    }
    plan.sysctls.write(plan.proc.as_fd())?;
    if !plan.sysctls.is_empty() {
        inside.pause()?;
    }

    // The root file system is put together beside the host's. (step 2)
    let top = plan.root.as_ref().map(RootPlan::prepare).transpose()?;
    if plan.pauses_for_hooks() {
        inside.pause()?;
    }
    run_hooks(plan, "createContainer", plan.hooks.create_container())?;
    // Its terminal is one of the container's own. (step 1)
    let terminal = match &top {
        Some(top) => plan.process.open_terminal(inside, top.as_fd())?,
        None => plan
            .process
            .open_terminal(inside, process::current_root()?.as_fd())?,
    };
    // … and takes its place: from here on there is no way to the host's files.
    if let (Some(root), Some(top)) = (&plan.root, top) {
        if let Some(terminal) = &terminal {
            top.bind_console(&terminal.slave)?;
        }
        top.pivot()?;
        root.finish()?;
    }
    process::begin_session(terminal.as_ref())?;
    drop(terminal);

    // Whoever else runs in the container later must find nothing of the host's here.
    let pid = match plan.process.has_agent() {
        true => procfs::own_pid(plan.proc.as_fd())?,
        false => 0,
    };
    let mut kept = plan.process.kept_files();
    kept.push(gate.as_fd());
    inside.close_files(plan.passed_files, &kept)?;

    // What can be said of the command now is said to whoever creates it.
    plan.process.command.locate()?;
    inside.outlive_parent()?;
    inside.pause()?;

    // Created. Whoever starts it takes the parent's place.
    inside.wait_at(gate)?;
    run_hooks(plan, "startContainer", plan.hooks.start_container())?;
    plan.process.become_command(inside, plan.passed_files, pid)
}

/// In the container, with its own pid as the container sees it.
fn run_hooks(plan: &Plan, moment: &str, hooks: &Option<Vec<Hook>>) -> Result<()> {
    let Some(hooks @ [_, ..]) = hooks.as_deref() else {
        return Ok(());
    };
    let pid = nix::unistd::getpid().as_raw();
    let status = match moment {
        "startContainer" => ContainerState::Created,
        _ => ContainerState::Creating,
    };
    hooks::run(hooks, moment, &plan.state(status, pid)?)
}

/// The name belongs to the uts namespace, as the hostname does.
fn set_domainname(name: &str) -> Result<()> {
    // SAFETY: the pointer and the length are those of one string.
    let done = unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) };
    nix::errno::Errno::result(done)
        .map(drop)
        .with_context(|| format!("domainname: set it to {name:?} (at most 64 bytes)"))
}
