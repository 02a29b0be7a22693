//! The user's command: the last thing that a container's first process does
//! as our program is to become it.

use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context, Result, anyhow, bail};
use nix::errno::Errno;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, chdir, execve, getcwd, setgid, setgroups, setuid};

use crate::gate::Failure;
use crate::{Inside, die_with_parent, init, terminal};

/// Where a command without a slash is looked for, as docker has it.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Who runs a command, in ids as the container sees them.
#[derive(Debug, Clone)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary group ids.
    pub groups: Vec<u32>,
}

/// What a container runs.
#[derive(Debug, Clone)]
pub struct Command {
    /// The program and its arguments, byte for byte.
    pub args: Vec<OsString>,
    /// `NAME=value`; of two with one name the later wins.
    pub env: Vec<OsString>,
    /// The directory to start in; `None` stays where we are.
    pub cwd: Option<PathBuf>,
    /// `None` stays root.
    pub user: Option<User>,
    /// Whether pid 1 is a small init with the command as its child.
    pub init: bool,
}

impl Command {
    /// A command with docker's environment: nothing of the host's but the kind
    /// of its terminal.
    #[must_use]
    pub fn new(args: &[OsString], hostname: &str) -> Command {
        let mut env: Vec<OsString> = vec![
            format!("PATH={PATH}").into(),
            format!("HOSTNAME={hostname}").into(),
            "HOME=/root".into(),
        ];
        if terminal::is_wanted() {
            let kind = env::var_os("TERM").unwrap_or_else(|| "xterm".into());
            env.push([OsStr::new("TERM="), &kind].into_iter().collect());
        }
        Command {
            args: args.to_vec(),
            env,
            cwd: None,
            user: None,
            init: false,
        }
    }

    /// Sets a variable, in the place of an older one of its name. A bare `NAME`
    /// takes the value that the caller has, and is left out where it has none.
    pub fn set_env(&mut self, mut variable: OsString) {
        if !variable.as_bytes().contains(&b'=') {
            let Some(value) = env::var_os(&variable) else {
                return;
            };
            variable.push("=");
            variable.push(value);
        }
        self.env.retain(|old| name_of(old) != name_of(&variable));
        self.env.push(variable);
    }

    /// The value of a variable.
    #[must_use]
    pub fn env(&self, name: &str) -> Option<&OsStr> {
        self.env.iter().find_map(|variable| {
            let value = variable.as_bytes().strip_prefix(name.as_bytes())?;
            value.strip_prefix(b"=").map(OsStr::from_bytes)
        })
    }

    /// Changes to the command's directory, and finds its program from there.
    ///
    /// # Errors
    /// Fails with a [`Failure`] of status 127 or 126 where the program is
    /// missing or cannot be run, and where the directory is not in the container.
    pub fn locate(&self) -> Result<PathBuf> {
        if let Some(dir) = &self.cwd {
            enter_directory(dir)?;
        }
        self.find()
    }

    /// Looks the program up as a shell does: a name with a slash is a path,
    /// any other is tried in each directory of `PATH`.
    fn find(&self) -> Result<PathBuf> {
        let program = self.args.first().context("no command was given")?;
        if program.as_bytes().contains(&b'/') {
            return runnable(Path::new(program)).map_err(|errno| cannot_run(program, errno));
        }
        let path = self.env("PATH").unwrap_or(OsStr::new(PATH));
        let mut errno = Errno::ENOENT;
        for dir in env::split_paths(path) {
            match runnable(&dir.join(program)) {
                Ok(found) => return Ok(found),
                // A shell's word for a file without the x bit, unless a later
                // directory has the real thing. A directory is nothing.
                Err(Errno::EACCES) => errno = Errno::EACCES,
                Err(_) => {}
            }
        }
        Err(cannot_run(program, errno))
    }
}

/// What stands before the `=` of a variable.
fn name_of(variable: &OsStr) -> Option<&[u8]> {
    variable.as_bytes().split(|byte| *byte == b'=').next()
}

/// The path, if execve(2) has a chance there.
fn runnable(path: &Path) -> Result<PathBuf, Errno> {
    let file = fs::metadata(path)
        .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))?;
    if file.is_dir() {
        return Err(Errno::EISDIR);
    }
    if !file.is_file() || file.permissions().mode() & 0o111 == 0 {
        return Err(Errno::EACCES);
    }
    Ok(path.to_path_buf())
}

/// docker's exit statuses: 127 for what is not there, 126 for what is and
/// cannot be run.
fn cannot_run(program: &OsStr, errno: Errno) -> anyhow::Error {
    let program = program.display();
    let (status, sentence) = match errno {
        Errno::ENOENT | Errno::ENOTDIR => (
            127,
            format!("{program}: command not found in the container"),
        ),
        Errno::ENOEXEC => (
            126,
            format!("{program}: not a program for this machine, or a script without #!"),
        ),
        errno => (126, format!("{program}: cannot run it: {}", errno.desc())),
    };
    Failure { status, sentence }.into()
}

impl Inside {
    /// Becomes the command. Returns only if that fails.
    ///
    /// # Errors
    /// Fails with a [`Failure`] of status 127 or 126 where the command is
    /// missing or cannot be run, and with any other error before that.
    pub fn exec(&self, command: &Command) -> Result<u8> {
        self.gate.outlive_other_files(0, &[])?;
        let program = command.locate()?;
        if command.init
            && let Some(status) = init::stay_behind()?
        {
            return Ok(status);
        }
        tracing::info!(
            call = %format_args!("execve({program:?}, {:?})", command.args),
            "our program is replaced by the user's"
        );
        let slave = self.open_terminal()?;
        terminal::begin_session(slave.as_ref())?;
        // The caller's umask is for files of his own; images and their scripts
        // count on the usual one, which docker and runc set too.
        umask(Mode::S_IWGRP | Mode::S_IWOTH);
        match &command.user {
            Some(user) => become_user(user)?,
            // The caller's own groups would open files of the host's.
            None => set_groups(&[])?,
        }
        die_with_parent()?;
        self.become_program(&program, command)
    }

    /// Closes all files but standard input, output and error, the `passed` ones
    /// after them and those `kept`, as [`Inside::exec`] does before it looks at any
    /// name.
    ///
    /// # Errors
    /// Fails on kernels before Linux 5.9.
    pub fn close_files(&self, passed: u32, kept: &[BorrowedFd]) -> Result<()> {
        self.gate.outlive_other_files(passed, kept)
    }

    /// The part of [`Inside::exec`] that [`Command::init`] asks for: forks. In
    /// the child this returns `None`; pid 1 stays here as its init, and returns
    /// the status that the child ended with.
    ///
    /// # Errors
    /// Fails where the kernel has no room for another process.
    pub fn stay_behind(&self) -> Result<Option<u8>> {
        init::stay_behind()
    }

    /// Hands the master of the process's terminal over to the parent, which
    /// will carry its bytes.
    ///
    /// # Errors
    /// Fails where the parent is gone.
    pub fn hand_over(&self, master: &OwnedFd) -> Result<()> {
        self.gate.hand_over(master)
    }

    /// The last step of [`Inside::exec`], for who has seen to the process's
    /// files, user and terminal in other ways: execve(2), and nothing else.
    ///
    /// # Errors
    /// As [`Inside::exec`].
    pub fn become_program(&self, program: &Path, command: &Command) -> Result<u8> {
        let path = CString::new(program.as_os_str().as_bytes())?;
        let (argv, env) = (c_strings(&command.args)?, c_strings(&command.env)?);
        let Err(errno) = execve(&path, &argv, &env) as Result<Infallible, Errno>;
        let name = command
            .args
            .first()
            .map_or(OsStr::new(""), OsString::as_os_str);
        // The file was there a moment ago: ENOENT now means its interpreter.
        if errno == Errno::ENOENT {
            let sentence = format!(
                "{}: its interpreter (the #! line, or the ELF loader) is not in the container",
                name.display()
            );
            return Err(Failure {
                status: 127,
                sentence,
            }
            .into());
        }
        Err(cannot_run(name, errno))
    }

    fn open_terminal(&self) -> Result<Option<OwnedFd>> {
        if !terminal::is_wanted() {
            return Ok(None);
        }
        let (master, slave) = terminal::open()?;
        self.gate.hand_over(&master)?;
        Ok(Some(slave))
    }
}

/// Changes to `dir`, which must be in the container. A directory that lies
/// outside, reached through a descriptor of the host's, is called
/// "(unreachable)" by getcwd(2): that was CVE-2024-21626.
fn enter_directory(dir: &Path) -> Result<()> {
    chdir(dir).with_context(|| format!("change to the directory {}", dir.display()))?;
    let here = getcwd().with_context(|| format!("find {} in the container", dir.display()))?;
    if !here.is_absolute() {
        bail!("the directory {} lies outside the container", dir.display());
    }
    Ok(())
}

/// Groups first: once the user id is no longer 0 the others may not change.
fn become_user(user: &User) -> Result<()> {
    set_groups(&user.groups)?;
    setgid(Gid::from_raw(user.gid)).map_err(|errno| unmapped("group", user.gid, errno))?;
    setuid(Uid::from_raw(user.uid)).map_err(|errno| unmapped("user", user.uid, errno))
}

fn set_groups(groups: &[u32]) -> Result<()> {
    let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
    match setgroups(&groups) {
        // In a user namespace with one id setgroups(2) is denied, and there is
        // no other group that the user could get.
        Err(Errno::EPERM) => Ok(()),
        other => other.context("set the supplementary groups"),
    }
}

fn unmapped(kind: &str, id: u32, errno: Errno) -> anyhow::Error {
    match errno {
        Errno::EINVAL => anyhow!(
            "{kind} id {id} is not mapped into the container; run as root, or install newuidmap \
             (package uidmap) and get a range in /etc/subuid and /etc/subgid"
        ),
        errno => anyhow!(errno).context(format!("become {kind} {id}")),
    }
}

fn c_strings(strings: &[OsString]) -> Result<Vec<CString>> {
    strings
        .iter()
        .map(|string| {
            CString::new(string.as_bytes())
                .with_context(|| format!("{} holds a NUL byte", string.display()))
        })
        .collect()
}
