//! The least that a container can cost: its namespaces, its root, its /proc, and the command.

use std::ffi::CString;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, chdir, execv, pivot_root};

/// Runs `command` in `root`, and returns its exit status.
pub fn run(root: &Path, command: &[String]) -> Result<i32> {
    let flags = libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWCGROUP;
    // SAFETY: all zeroes is a valid clone_args: every field is a number, and 0 means "not used".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = u64::from(flags.cast_unsigned());
    args.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
    // SAFETY: without a stack and CLONE_VM this is a fork, in a process that has one thread; `args`
    // outlives the call, and its size is the one given.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of_val(&args)) };
    match i32::try_from(pid)? {
        -1 => Err(std::io::Error::last_os_error()).context("clone3"),
        0 => {
            let failure = contain(root, command).err();
            eprintln!("floor: {failure:?}");
            std::process::exit(125)
        }
        pid => match waitpid(Pid::from_raw(pid), None)? {
            WaitStatus::Exited(_, status) => Ok(status),
            other => bail!("the floor's child: {other:?}"),
        },
    }
}

fn contain(root: &Path, command: &[String]) -> Result<()> {
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(
        Some(root),
        root,
        none,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        none,
    )?;
    chdir(root)?;
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    chdir("/")?;
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none)?;
    let args = command
        .iter()
        .map(|arg| CString::new(arg.as_bytes()))
        .collect::<Result<Vec<_>, _>>()?;
    let program = args.first().context("the floor needs a command")?;
    execv(program, &args)?;
    Ok(())
}

/// A root file system for all: a static busybox, and where a container expects to mount something.
pub fn busybox_root(root: &Path) -> Result<()> {
    for directory in ["bin", "proc", "sys", "dev", "tmp", "run", "etc"] {
        fs::create_dir_all(root.join(directory))?;
    }
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let busybox = std::env::split_paths(&paths)
        .map(|path| path.join("busybox"))
        .find(|path| path.exists());
    let busybox =
        busybox.context("busybox is not installed (Debian: apt-get install busybox-static)")?;
    fs::copy(&busybox, root.join("bin/busybox"))
        .with_context(|| format!("copy {}", busybox.display()))?;
    for name in ["sh", "true", "sleep", "echo"] {
        let link = root.join("bin").join(name);
        if !link.exists() {
            fs::hard_link(root.join("bin/busybox"), &link)?;
        }
    }
    Ok(())
}
