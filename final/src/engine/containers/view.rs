//! A container's files, seen as the container sees them.
//!
//! ```text
//!   cp, running           cp, export              cp, export, stopped
//!   the container's own   a copy of the shim's    a new mount namespace:
//!   mount namespace       mount namespace         its layers are stacked
//!           └──────────────────────┼──────────────────────┘
//!                                  ▼
//!          a child of ours, whose / is the container's and nothing else
//! ```
//!
//! Whatever a path in the container says is then about the container, whoever changes it meanwhile
//! (CVE-2018-15664). The child executes nothing and loads nothing there (CVE-2019-14271): it only
//! moves bytes between files and descriptors that it was born with.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cli::Dirs;
use namespaces::{Inside, Isolation, Joined, Signals};
use nix::fcntl::OFlag;
use nix::sched::CloneFlags;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::pipe2;
use rootfs::{Root, volume};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::Containers;
use super::top::Process;
use crate::shim::{self, protocol::Connection};
use crate::state::{Container, Locked, Places, Status};

/// What is to be seen.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    /// The container's own files.
    Layers,
    /// Also what is mounted over them.
    Mounts,
}

/// From where the container's files can be seen.
pub(super) struct View {
    /// The namespaces of somebody who sees them already.
    joined: Vec<Joined>,
    own: CloneFlags,
    /// Whose layers have to be stacked first, and maybe volumes mounted.
    stacked: Option<(Dirs, Container, Sight)>,
    /// What becomes `/`.
    root: Option<Root>,
    /// A container that does not run must not be started meanwhile.
    _locked: Option<Locked>,
}

/// What the child has in its hands.
pub(super) struct Tree {
    /// The container's root, which is also the child's.
    pub(super) root: OwnedFd,
    /// The host's `/proc`, where it finds its own descriptors.
    pub(super) proc: OwnedFd,
}

/// Who works on this side while the child does on the other.
pub(super) enum Partner {
    /// Gives the child something to read.
    Feeds,
    /// Reads what the child writes.
    Reads,
}

impl Containers {
    /// Finds the best place to look at a container's files from.
    pub(super) fn view(&self, what: &str, sight: Sight) -> Result<View> {
        let container = self.find(what)?;
        let status = container.life.status;
        ensure!(
            !matches!(status, Status::Removing | Status::Dead),
            "container {} is {status}",
            container.id
        );
        if sight == Sight::Mounts
            && let Some(first) = self.pidfd_of_first(&container)?
        {
            return Ok(View {
                joined: vec![joined(first)?],
                own: CloneFlags::empty(),
                stacked: None,
                root: None,
                _locked: None,
            });
        }
        if let Some(shim) = self.pidfd_of_shim(&container)? {
            return Ok(View {
                joined: vec![joined(shim)?],
                own: CloneFlags::CLONE_NEWNS,
                stacked: None,
                root: Some(self.root(&container, sight)),
                _locked: None,
            });
        }
        let locked = self.lock(&container.id)?;
        ensure!(
            !locked.container.life.status.needs_shim(),
            "container {} has just been started; try again",
            container.id
        );
        Ok(View {
            joined: Vec::new(),
            own: CloneFlags::CLONE_NEWNS,
            root: Some(self.root(&container, sight)),
            stacked: Some((self.dirs.clone(), container, sight)),
            _locked: Some(locked),
        })
    }

    /// The container's first process, while it has one.
    fn pidfd_of_first(&self, container: &Container) -> Result<Option<OwnedFd>> {
        let Some(pid) = Pid::from_raw(container.life.pid) else {
            return Ok(None);
        };
        let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else {
            return Ok(None);
        };
        // The number may be another's by now; it is the shim's child only if it still is the same.
        let shim = self.pid_of_shim(container)?;
        let parent = Process::read(container.life.pid).map(|first| first.parent);
        let same = shim.is_some() && parent == shim;
        Ok(same.then_some(pidfd))
    }

    /// Who listens at the container's socket.
    fn pid_of_shim(&self, container: &Container) -> Result<Option<i32>> {
        let shim = Connection::to(&self.places(container))?;
        shim.map(|shim| shim.peer()).transpose()
    }

    fn pidfd_of_shim(&self, container: &Container) -> Result<Option<OwnedFd>> {
        let pid = self.pid_of_shim(container)?.and_then(Pid::from_raw);
        let Some(pidfd) = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else {
            return Ok(None);
        };
        // It lived when we had a hold of it, so it is what we hold.
        Ok(shim::is_alive(&self.places(container))?.then_some(pidfd))
    }

    fn root(&self, container: &Container, sight: Sight) -> Root {
        let mut volumes = Vec::new();
        if sight == Sight::Mounts {
            for (n, mount) in container.mounts.iter().enumerate() {
                // What is in memory goes with the container's processes.
                let is_part = !mount.subpath.is_empty();
                let source = match is_part {
                    true => self.places(container).subpath(n),
                    false => PathBuf::from(&mount.source),
                };
                if mount.r#type != "tmpfs" && (is_part || source.exists()) {
                    volumes.push(rootfs::Volume {
                        source,
                        target: PathBuf::from(&mount.destination),
                        read_only: !mount.writable,
                    });
                }
            }
        }
        Root {
            path: self.places(container).data.join("merged"),
            read_only: sight == Sight::Mounts && container.host.readonly_rootfs,
            mounts: volume::mounts(&volumes),
        }
    }
}

impl View {
    /// Works on the container's files in a child; `theirs` are the files that it has for that.
    ///
    /// # Errors
    /// What the work fails with; a signal that ended it.
    pub(super) fn visit(
        &self,
        theirs: &[BorrowedFd<'_>],
        work: impl Fn(&Tree) -> Result<()>,
    ) -> Result<()> {
        let signals = Signals::hold()?;
        let child = self.spawn(theirs, work)?;
        let status = child.release(&signals)?.wait(&signals)?;
        ensure!(status == 0, "interrupted");
        Ok(())
    }

    /// The same, with a partner at the other end of a pipe. Nobody waits for who still feeds a child
    /// that has failed: it may be the keyboard that is waited for.
    pub(super) fn visit_with<T: Send + 'static>(
        &self,
        partner: &Partner,
        work: impl Fn(&Tree, &OwnedFd) -> Result<()>,
        here: impl FnOnce(OwnedFd) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC).context("make a pipe")?;
        let (ours, theirs) = match partner {
            Partner::Feeds => (write, read),
            Partner::Reads => (read, write),
        };
        let signals = Signals::hold()?;
        let child = self.spawn(&[theirs.as_fd()], |tree| match work(tree, &theirs) {
            // The reader is gone, and says why.
            Err(error) if is_cut(&error) => Ok(()),
            done => done,
        })?;
        drop(theirs);
        let (tell, told) = channel();
        thread::spawn(move || tell.send(here(ours)));
        let ended = child.release(&signals).and_then(|it| it.wait(&signals));
        let inside = ended.and_then(|status| {
            ensure!(status == 0, "interrupted");
            Ok(())
        });
        let patience = match (partner, &inside) {
            (Partner::Feeds, Err(_)) => Duration::from_millis(200),
            _ => Duration::MAX,
        };
        let outside = told.recv_timeout(patience).ok();
        // Whoever fails cuts the other short: the cause is with who gives, unless nobody took it.
        match (partner, outside) {
            (Partner::Feeds, Some(Err(error))) if !is_cut(&error) => Err(error),
            (_, outside) => {
                inside?;
                outside.context("a thread that copies files panicked")?
            }
        }
    }

    fn spawn(
        &self,
        theirs: &[BorrowedFd<'_>],
        work: impl Fn(&Tree) -> Result<()>,
    ) -> Result<namespaces::Held> {
        let proc = open(Path::new("/proc"))?;
        let isolation = Isolation {
            namespaces: self.own,
            joined: &self.joined,
            ids: match self.joined.is_empty() {
                true => Isolation::users_only()?.ids,
                false => None,
            },
            ..Isolation::users_only()?
        };
        namespaces::spawn(&isolation, |inside: &Inside| {
            let kept: Vec<_> = theirs.iter().copied().chain([proc.as_fd()]).collect();
            inside.close_files(0, &kept)?;
            nix::sys::prctl::set_dumpable(false).context("keep others out of this process")?;
            let mut _held = Vec::new();
            if let Some((dirs, container, sight)) = &self.stacked {
                shim::layers(dirs, container)?.mount()?;
                if *sight == Sight::Mounts {
                    _held = shim::mount_volumes(container, dirs)?;
                }
                shim::mount_parts(container, &Places::of(dirs, &container.id))?;
            }
            if let Some(root) = &self.root {
                rootfs::enter(root)?;
            }
            // What is written to nobody is an error like others, with a sentence.
            // SAFETY: to ignore a signal runs nothing when it comes.
            unsafe { signal(Signal::SIGPIPE, SigHandler::SigIgn) }.context("ignore SIGPIPE")?;
            nix::sys::stat::umask(nix::sys::stat::Mode::empty());
            let tree = Tree {
                root: open(Path::new("/"))?,
                proc: proc.try_clone().context("duplicate a descriptor")?,
            };
            work(&tree)?;
            Ok(0)
        })
    }
}

/// Whether the other end of a pipe was closed.
fn is_cut(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<io::Error>();
        io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}

/// Pins a directory.
pub(super) fn open(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty())
        .with_context(|| format!("open {}", path.display()))
}

/// The mount namespace of a process, and the user namespace that it belongs to, if that is not ours.
fn joined(pidfd: OwnedFd) -> Result<Joined> {
    let mut kinds = CloneFlags::CLONE_NEWNS;
    if Isolation::users_only()?.ids.is_some() {
        kinds |= CloneFlags::CLONE_NEWUSER;
    }
    Ok(Joined { file: pidfd, kinds })
}
