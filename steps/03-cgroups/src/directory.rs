//! One cgroup directory, held by its descriptor.
//!
//! The descriptor means the same cgroup for as long as it is open, whatever happens to its name; the
//! path is kept for people: it stands in errors and under `--explain`.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::iter;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, fstatfs};
use nix::unistd::{Pid, Uid};
use rustix::fs::{Access, AtFlags, CWD, Dir, FileType, Mode, OFlags};

/// A descriptor as clone3's `CLONE_INTO_CGROUP` wants it, and as `flock` takes it.
const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

#[derive(Debug)]
pub(crate) struct Directory {
    file: File,
    path: PathBuf,
}

impl Directory {
    /// Opens `path` if it lies on a cgroup2 file system, which only the file system's magic number
    /// can tell: a mount point may be covered by another mount.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>> {
        let Ok(fd) = rustix::fs::openat(CWD, path, DIRECTORY, Mode::empty()) else {
            return Ok(None);
        };
        let file = File::from(fd);
        let kind = fstatfs(&file).with_context(|| format!("statfs {}", path.display()))?;
        let path = path.to_owned();
        Ok((kind.filesystem_type() == CGROUP2_SUPER_MAGIC).then_some(Self { file, path }))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn child(&self, name: impl AsRef<OsStr>) -> io::Result<Self> {
        let fd = rustix::fs::openat(&self.file, name.as_ref(), DIRECTORY, Mode::empty())?;
        let path = self.path.join(name.as_ref());
        Ok(Self {
            file: fd.into(),
            path,
        })
    }

    /// Makes the cgroup `name` in this one, with the permissions `mode`.
    pub(crate) fn make(&self, name: impl AsRef<OsStr>, mode: Mode) -> io::Result<()> {
        let path = self.path.join(name.as_ref());
        tracing::info!(call = %format_args!("mkdir({path:?}, {:04o})", mode.bits()), "a new directory here is a new cgroup");
        Ok(rustix::fs::mkdirat(&self.file, name.as_ref(), mode)?)
    }

    pub(crate) fn remove(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        let path = self.path.join(name.as_ref());
        tracing::info!(call = %format_args!("rmdir({path:?})"), "a cgroup goes once nothing lives in it");
        Ok(rustix::fs::unlinkat(
            &self.file,
            name.as_ref(),
            AtFlags::REMOVEDIR,
        )?)
    }

    /// Removes all cgroups below this one, the deepest first.
    ///
    /// A container may have made them, as many and as deep as it liked. So no recursion and no
    /// descriptor per level: down by the name found, up again by `..`.
    pub(crate) fn remove_below(&self) -> Result<()> {
        let mut here = self.child(".")?;
        here.path.clone_from(&self.path);
        let mut way: Vec<OsString> = Vec::new();
        loop {
            if let Some(name) = here.subdirectories()?.next() {
                here = here
                    .child(&name)
                    .with_context(|| format!("open {name:?} in {}", here.path.display()))?;
                way.push(name);
            } else if let Some(name) = way.pop() {
                here.file = rustix::fs::openat(&here.file, "..", DIRECTORY, Mode::empty())?.into();
                here.path.pop();
                here.remove(&name)
                    .with_context(|| format!("rmdir {name:?} in {}", here.path.display()))?;
            } else {
                return Ok(());
            }
        }
    }

    /// The processes in this cgroup and in all below it that our pid namespace shows. A container
    /// may have made as many as it liked: as in `remove_below`, no recursion.
    pub(crate) fn processes(&self) -> Result<Vec<Pid>> {
        let mut pids = Vec::new();
        let mut here = self.child(".")?;
        here.path.clone_from(&self.path);
        here.add_members(&mut pids)?;
        let mut levels: Vec<Vec<OsString>> = vec![here.subdirectories()?.collect()];
        while let Some(level) = levels.last_mut() {
            if let Some(name) = level.pop() {
                // What is gone by now had nobody in it.
                let Ok(below) = here.child(&name) else {
                    continue;
                };
                here = below;
                here.add_members(&mut pids)?;
                levels.push(here.subdirectories()?.collect());
            } else {
                levels.pop();
                if !levels.is_empty() {
                    here.file =
                        rustix::fs::openat(&here.file, "..", DIRECTORY, Mode::empty())?.into();
                    here.path.pop();
                }
            }
        }
        Ok(pids)
    }

    fn add_members(&self, pids: &mut Vec<Pid>) -> Result<()> {
        let members = match self
            .open_file("cgroup.procs", OFlags::RDONLY)
            .and_then(io::read_to_string)
        {
            // ENOENT and ENODEV: removed meanwhile. EOPNOTSUPP: a threaded cgroup, whose processes
            // the domain above it lists (cgroups(7), "cgroup v2 thread mode").
            Err(error)
                if [Errno::ENOENT, Errno::ENODEV, Errno::EOPNOTSUPP]
                    .map(|errno| Some(errno as i32))
                    .contains(&error.raw_os_error()) =>
            {
                String::new()
            }
            read => read.with_context(|| format!("read {}/cgroup.procs", self.path.display()))?,
        };
        // A process that our pid namespace does not show has the number 0.
        let visible = members.lines().filter_map(|pid| pid.parse().ok());
        pids.extend(visible.filter(|pid| *pid != 0).map(Pid::from_raw));
        Ok(())
    }

    /// The names of the cgroups in this one. Everything else here is a control file.
    pub(crate) fn subdirectories(&self) -> Result<impl Iterator<Item = OsString> + use<>> {
        let entries =
            Dir::read_from(&self.file).with_context(|| format!("list {}", self.path.display()))?;
        let directories = entries.filter_map(|entry| {
            let entry = entry
                .ok()
                .filter(|entry| entry.file_type() == FileType::Directory)?;
            Some(OsStr::from_bytes(entry.file_name().to_bytes()).to_owned())
        });
        Ok(directories.filter(|name| name != "." && name != ".."))
    }

    /// Whether it is still `name` in `place` that this descriptor is of.
    pub(crate) fn is(&self, place: &Self, name: impl AsRef<OsStr>) -> Result<bool> {
        let mine = rustix::fs::fstat(&self.file)?;
        let there = place
            .child(name)
            .and_then(|there| Ok(rustix::fs::fstat(&there.file)?));
        Ok(there.is_ok_and(|there| (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)))
    }

    /// Whether we may make cgroups here and move processes into them (cgroups(7), "Cgroup
    /// delegation: delegating a hierarchy to a less privileged user").
    pub(crate) fn is_ours(&self) -> bool {
        let may =
            |name, access| rustix::fs::accessat(&self.file, name, access, AtFlags::EACCESS).is_ok();
        may(".", Access::WRITE_OK | Access::EXEC_OK) && may("cgroup.procs", Access::WRITE_OK)
    }

    /// Makes `owner` the owner of the directory and of the files that may be delegated: the kernel
    /// lists those it knows.
    pub(crate) fn delegate(&self, owner: Uid) -> Result<()> {
        let files = "/sys/kernel/cgroup/delegate";
        let files = fs::read_to_string(files).with_context(|| format!("read {files}"))?;
        for file in iter::once(".").chain(files.lines()) {
            let path = self.path.join(file);
            tracing::info!(call = %format_args!("chown({path:?}, {owner}, -1)"), "may be changed from inside the container");
            let owner = rustix::fs::Uid::from_raw(owner.as_raw());
            match rustix::fs::chownat(
                &self.file,
                file,
                Some(owner),
                None,
                AtFlags::SYMLINK_NOFOLLOW,
            ) {
                // That of a controller which is off.
                Err(rustix::io::Errno::NOENT) => {}
                changed => changed.with_context(|| format!("chown {}", path.display()))?,
            }
        }
        Ok(())
    }

    pub(crate) fn has(&self, file: &str) -> bool {
        rustix::fs::accessat(&self.file, file, Access::EXISTS, AtFlags::empty()).is_ok()
    }

    /// Waits for the exclusive lock that says: the owner of this directory lives.
    pub(crate) fn lock(&self) -> Result<()> {
        self.file
            .lock()
            .with_context(|| format!("lock {}", self.path.display()))
    }

    /// Takes the lock if its last owner is dead.
    pub(crate) fn try_lock(&self) -> bool {
        self.file.try_lock().is_ok()
    }

    pub(crate) fn unlock(&self) -> Result<()> {
        self.file
            .unlock()
            .with_context(|| format!("unlock {}", self.path.display()))
    }

    fn open_file(&self, name: &str, how: OFlags) -> io::Result<File> {
        let how = how | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.file, name, how, Mode::empty())?.into())
    }

    /// The whole of a control file; empty where the kernel shows no such file.
    pub(crate) fn read(&self, file: &str) -> Result<String> {
        match self
            .open_file(file, OFlags::RDONLY)
            .and_then(io::read_to_string)
        {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
            read => read.with_context(|| format!("read {}", self.path.join(file).display())),
        }
    }

    /// Writes `value` with one write(2): the kernel takes each as one command.
    pub(crate) fn write(&self, file: &str, value: &str, why: &'static str) -> Result<()> {
        let path = self.path.join(file);
        tracing::info!(call = %format_args!("write({path:?}, {value:?})"), "{why}");
        self.open_file(file, OFlags::WRONLY)
            .and_then(|mut file| file.write_all(value.as_bytes()))
            .with_context(|| format!("write {value:?} to {}", path.display()))
    }

    pub(crate) fn add(&self, pid: Pid) -> Result<()> {
        self.write(
            "cgroup.procs",
            &pid.to_string(),
            "one write moves the whole process",
        )
    }

    pub(crate) fn freeze(&self) -> Result<()> {
        self.write(
            "cgroup.freeze",
            "1",
            "unlike with SIGSTOP, nobody in it can tell",
        )?;
        let frozen = self.wait_until("frozen", 1, Duration::from_secs(10))?;
        ensure!(
            frozen,
            "{} does not freeze: a process in it waits inside the kernel",
            self.path.display()
        );
        Ok(())
    }

    pub(crate) fn thaw(&self) -> Result<()> {
        self.write("cgroup.freeze", "0", "go on where you were stopped")
    }

    pub(crate) fn kill(&self) -> Result<()> {
        self.write(
            "cgroup.kill",
            "1",
            "SIGKILL for all, and none can fork its way out",
        )
    }

    /// Waits until `cgroup.events` has `key value`, and says whether it came to that in time. The
    /// kernel wakes whoever polls the file for POLLPRI at each change since the last read of it.
    pub(crate) fn wait_until(&self, key: &str, value: u64, patience: Duration) -> Result<bool> {
        let deadline = Instant::now() + patience;
        let watch = || -> io::Result<bool> {
            let mut events = self.open_file("cgroup.events", OFlags::RDONLY)?;
            loop {
                let mut text = String::new();
                events.rewind()?;
                events.read_to_string(&mut text)?;
                let left = deadline.saturating_duration_since(Instant::now());
                if field(&text, key) == Some(value) || left.is_zero() {
                    return Ok(field(&text, key) == Some(value));
                }
                let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
                match poll(
                    &mut [PollFd::new(events.as_fd(), PollFlags::POLLPRI)],
                    timeout,
                ) {
                    Ok(_) | Err(Errno::EINTR) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
        };
        watch().with_context(|| format!("watch {}/cgroup.events", self.path.display()))
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The number behind `key` in a flat keyed file: a key, a space and a number on each line.
pub(crate) fn field(text: &str, key: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn a_key_is_not_found_in_a_longer_key() {
        let events = "low 0\noom_kill_group 7\noom_kill 3\noom 1\n";
        assert_eq!(field(events, "oom_kill"), Some(3));
        assert_eq!(field(events, "oom"), Some(1));
        assert_eq!(field(events, "max"), None);
    }
}
