//! The offline default: a root file system made once, from this host's own programs.
//!
//! ```text
//! DATA/rootfs/         bin sbin lib as the host has them, filled with busybox or a hundred programs
//!                      of the host, and their libraries; own users in etc; dev proc sys tmp, empty
//! DATA/rootfs.recipe   a link that points to the RECIPE it was made by: one readlink(2) reads it
//! DATA/rootfs.lock     locked while a rootfs is in the making
//! DATA/rootfs.new      the one in the making; what a killed process left is removed by the next
//! DATA/rootfs.old      the one before, on its way out
//! ```
//!
//! Everything belongs to the caller: in a user namespace, that is root.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, lchown, symlink};
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::libraries::Libraries;

/// To be raised whenever what this file makes changes: a rootfs of another recipe is made anew.
const RECIPE: &str = "1";

/// Where programs are looked for first, and the only places where a container will look.
const STANDARD: [&str; 4] = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"];

/// What a person who looks around in a container types; busybox has all but the first.
#[rustfmt::skip]
const PROGRAMS: [&str; 100] = [
    "bash", "sh", "[", "awk", "base64", "basename", "cat", "chgrp", "chmod", "chown", "chroot",
    "cmp", "cp", "cut", "date", "dd", "df", "diff", "dirname", "dmesg", "du", "echo", "egrep",
    "env", "expr", "false", "fgrep", "find", "free", "grep", "groups", "gunzip", "gzip", "head",
    "hostname", "id", "ionice", "ip", "kill", "link", "ln", "ls", "mkdir", "mkfifo", "mknod",
    "mktemp", "more", "mount", "mv", "nice", "nohup", "nproc", "nsenter", "od", "pidof", "ping",
    "printenv", "printf", "ps", "pwd", "readlink", "realpath", "renice", "rm", "rmdir", "sed",
    "seq", "setpriv", "setsid", "sha256sum", "sleep", "sort", "stat", "stty", "sync", "sysctl",
    "tac", "tail", "tar", "taskset", "tee", "test", "time", "timeout", "top", "touch", "tr", "true",
    "truncate", "tty", "umount", "uname", "uniq", "unshare", "uptime", "wc", "which", "whoami",
    "xargs", "yes",
];

/// Own directories and their modes; /bin, /lib and their kind are made as the host has them.
#[rustfmt::skip]
const DIRECTORIES: [(&str, u32); 14] = [
    ("dev", 0o755), ("etc", 0o755), ("home", 0o755), ("home/user", 0o755), ("mnt", 0o755),
    ("opt", 0o755), ("proc", 0o555), ("root", 0o700), ("run", 0o755), ("srv", 0o755),
    ("sys", 0o555), ("tmp", 0o1777), ("var", 0o755), ("var/tmp", 0o1777),
];

/// Own files; the empty ones are there to be bound over.
#[rustfmt::skip]
const FILES: [(&str, &str); 7] = [
    ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n\
                    user:x:1000:1000:user:/home/user:/bin/sh\n\
                    nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"),
    ("etc/group", "root:x:0:\ntty:x:5:\nuser:x:1000:\nnogroup:x:65534:\n"),
    ("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
    ("etc/os-release", "NAME=\"minidocker host rootfs\"\nID=minidocker\n\
                        PRETTY_NAME=\"minidocker, with programs of its host\"\n"),
    ("etc/hostname", ""), ("etc/hosts", ""), ("etc/resolv.conf", ""),
];

/// Descriptions of terminals, without which an interactive shell moves the cursor wrongly.
#[rustfmt::skip]
const TERMINALS: [&str; 7] = [
    "l/linux", "s/screen", "s/screen-256color", "t/tmux-256color", "v/vt100", "x/xterm",
    "x/xterm-256color",
];

/// Makes the default rootfs at `dir`, unless it is there; two system calls where it is.
///
/// Callers that meet here wait for the first; what a killed one left is never used. A container
/// that still runs on a rootfs of an earlier recipe loses its files.
///
/// # Errors
/// `dir` cannot be written, or this host has no shell that could be copied.
pub fn ensure(dir: &Path) -> Result<()> {
    if is_made(dir) {
        return Ok(());
    }
    if let Some(parent) = dir.parent() {
        fs::create_dir_all(parent)
            .with_context(|| format!("make {} for the default rootfs", parent.display()))?;
    }
    let lock = beside(dir, ".lock");
    let lock = File::create(&lock).with_context(|| format!("open {}", lock.display()))?;
    lock.lock()
        .context("wait for another process that makes the default rootfs")?;
    if is_made(dir) {
        return Ok(());
    }
    let new = beside(dir, ".new");
    remove(&new)?;
    let made = Making::begin(&new).fill();
    if made.is_err() {
        remove(&new)?;
    }
    made.context("make a rootfs from this host's programs")?;
    replace(dir, &new)
}

/// What a killed process left beside the default rootfs at `dir`; nothing while one is in the making.
#[must_use]
pub fn leftovers(dir: &Path) -> Vec<PathBuf> {
    let making = File::open(beside(dir, ".lock")).is_ok_and(|lock| lock.try_lock().is_err());
    let halves = [".new", ".old"].map(|suffix| beside(dir, suffix));
    let mut left = Vec::from(halves);
    left.retain(|half| !making && half.symlink_metadata().is_ok());
    left
}

/// Removes the [`leftovers`].
///
/// # Errors
/// They cannot be removed.
pub fn sweep(dir: &Path) -> Result<()> {
    let Ok(lock) = File::open(beside(dir, ".lock")) else {
        return Ok(());
    };
    if lock.try_lock().is_ok() {
        for suffix in [".new", ".old"] {
            remove(&beside(dir, suffix))?;
        }
    }
    Ok(())
}

/// If this host has `command` but the default rootfs at `dir` lacks it: a sentence that says so,
/// and what to do.
#[must_use]
pub fn why_missing(dir: &Path, command: &OsStr) -> Option<String> {
    let inside = |path: &Path| dir.join(path.strip_prefix("/").unwrap_or(path));
    let is_inside = |path: &Path| inside(path).symlink_metadata().is_ok();
    let places = if command.as_bytes().contains(&b'/') {
        vec![PathBuf::from(command)]
    } else {
        search_path().iter().map(|at| at.join(command)).collect()
    };
    let found = places.iter().find(|place| is_program(place))?;
    if places.iter().any(|place| is_inside(place)) {
        return None;
    }
    let is_there = |name: &&str| {
        STANDARD
            .iter()
            .any(|at| is_inside(&Path::new(at).join(name)))
    };
    let few = ["sh", "bash", "ls", "ps", "mount", "id", "ip", "ping"];
    let few: Vec<_> = few.into_iter().filter(is_there).collect();
    let mut sentence = format!(
        "{} is a program of this host, and the default rootfs holds only a few of those: \
         use one of them ({} …), or give a whole system with --rootfs DIR",
        found.display(),
        few.join(", "),
    );
    // Installed since: the next rootfs would have it.
    if PROGRAMS.iter().any(|name| found.ends_with(name)) {
        sentence += &format!(", or remove {} to have it made anew", dir.display());
    }
    Some(sentence)
}

/// The path of every container's start: no more than a readlink(2) and an lstat(2).
fn is_made(dir: &Path) -> bool {
    fs::read_link(beside(dir, ".recipe")).is_ok_and(|made_by| made_by == Path::new(RECIPE))
        && dir.join("bin/sh").symlink_metadata().is_ok()
}

/// Puts the finished tree `new` in the place of `dir`; after a kill in between, the next call of
/// `ensure` begins again.
fn replace(dir: &Path, new: &Path) -> Result<()> {
    let (old, recipe) = (beside(dir, ".old"), beside(dir, ".recipe"));
    // A rename can reach the disk before the files' data: after a power cut, sh would be empty.
    let sync = File::open(new).and_then(|new| Ok(rustix::fs::syncfs(new)?));
    sync.context("write the default rootfs to the disk")?;
    remove(&old)?;
    match fs::rename(dir, &old) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => fs::rename(new, dir),
    }
    .with_context(|| format!("put the default rootfs at {}", dir.display()))?;
    remove(&recipe)?;
    symlink(RECIPE, &recipe).with_context(|| format!("write {}", recipe.display()))?;
    remove(&old)
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
    .with_context(|| format!("remove {}, left by an earlier run", path.display()))
}

/// `/var/lib/minidocker/rootfs` and `.lock`: the file of that name beside it.
fn beside(dir: &Path, suffix: &str) -> PathBuf {
    [dir.as_os_str(), OsStr::new(suffix)]
        .into_iter()
        .collect::<OsString>()
        .into()
}

/// The standard places, then the caller's own: on NixOS and Guix, programs are nowhere else.
fn search_path() -> Vec<PathBuf> {
    let own = env::var_os("PATH").unwrap_or_default();
    let own = env::split_paths(&own).filter(|path| path.is_absolute());
    STANDARD.iter().map(PathBuf::from).chain(own).collect()
}

/// A file that can be run, and read: what root alone may read cannot be copied.
fn is_program(path: &Path) -> bool {
    let metadata = fs::metadata(path);
    metadata.is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
        && File::open(path).is_ok()
}

/// A rootfs in the making.
struct Making<'a> {
    root: &'a Path,
    search_path: Vec<PathBuf>,
    /// STANDARD and /bin without links: what is written below `root` never goes through one.
    standard: Vec<PathBuf>,
    bin: PathBuf,
    libraries: Libraries,
}

impl<'a> Making<'a> {
    fn begin(root: &'a Path) -> Self {
        Self {
            root,
            search_path: search_path(),
            standard: STANDARD
                .iter()
                .filter_map(|place| fs::canonicalize(place).ok())
                .collect(),
            bin: fs::canonicalize("/bin").unwrap_or_else(|_| PathBuf::from("/bin")),
            libraries: Libraries::of_host(),
        }
    }

    fn fill(&self) -> Result<()> {
        self.skeleton()?;
        if let Some(busybox) = self.program("busybox")? {
            self.applets(&busybox)?;
        }
        for name in PROGRAMS.iter().filter(|name| !self.has(name)) {
            self.program(name)?;
        }
        if !self.has("sh") {
            bail!(
                "this host has no sh that could be copied; give a whole system with --rootfs DIR"
            );
        }
        // Scripts begin with this path, and `is_made` looks for it.
        self.link(&self.bin.join("sh"), &self.place_of("sh"))?;
        let databases = ["/etc/terminfo", "/lib/terminfo", "/usr/share/terminfo"];
        let terminals = databases
            .iter()
            .flat_map(|at| TERMINALS.map(|name| Path::new(at).join(name)));
        terminals
            .filter(|path| path.is_file())
            .try_for_each(|path| self.bring(&path, 0))
    }

    fn skeleton(&self) -> Result<()> {
        make_directory(self.root, 0o755)?;
        for (path, mode) in DIRECTORIES {
            make_directory(&self.root.join(path), mode)?;
        }
        // An ordinary caller cannot give files away, and his containers may have no user 1000.
        let _ = lchown(self.root.join("home/user"), Some(1000), Some(1000));
        for (path, text) in FILES {
            copy(text.as_bytes(), &self.root.join(path), 0o644)?;
        }
        symlink("/proc/self/mounts", self.root.join("etc/mtab")).context("link /etc/mtab")?;
        let roads = STANDARD
            .into_iter()
            .chain(["/lib", "/lib64", "/usr/lib"])
            .map(Path::new);
        roads
            .filter(|road| road.exists())
            .try_for_each(|road| self.bring(road, 0))?;
        make_directory(&self.inside(&self.bin), 0o755)
    }

    /// Brings the program `name` and what it cannot start without. Returns its path in the rootfs,
    /// or None where the host has it not, or not in a form of which a copy would start.
    fn program(&self, name: &str) -> Result<Option<PathBuf>> {
        let mut places = self.search_path.iter().map(|place| place.join(name));
        let Some(path) = places.find(|path| is_program(path)) else {
            return Ok(None);
        };
        let needed = match self.libraries.needed_by(&path) {
            Ok(needed) => needed,
            Err(error) => {
                tracing::debug!("{name} is left out: {error:#}");
                return Ok(None);
            }
        };
        needed
            .files
            .iter()
            .chain([&path])
            .try_for_each(|file| self.bring(file, 0))?;
        needed
            .links
            .iter()
            .try_for_each(|(at, to)| self.link(at, to))?;
        if STANDARD
            .iter()
            .any(|place| path.parent() == Some(Path::new(place)))
        {
            return Ok(Some(path));
        }
        let real = path.canonicalize()?;
        self.link(&self.place_of(name), &real)?;
        Ok(Some(real))
    }

    /// Asks busybox for the names to which it answers, and makes each a link to it.
    fn applets(&self, busybox: &Path) -> Result<()> {
        tracing::info!(
            call = "clone3({flags=CLONE_VM|CLONE_VFORK, exit_signal=SIGCHLD}, 88)",
            "a child, to ask busybox what it can do"
        );
        tracing::info!(
            call = %format_args!("execve({busybox:?}, [{busybox:?}, \"--list\"], envp)"),
            "each name becomes a link in the new rootfs"
        );
        let mut command = Command::new(busybox);
        let list = match command
            .arg("--list")
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
        {
            Ok(output) => output.stdout,
            Err(error) => {
                tracing::warn!(
                    "{} is left out: it cannot be run: {error}",
                    busybox.display()
                );
                return Ok(());
            }
        };
        let names = list
            .split(|byte| *byte == b'\n')
            .filter(|name| !name.is_empty() && !name.contains(&b'/'));
        names
            .map(OsStr::from_bytes)
            .try_for_each(|name| self.link(&self.place_of(name), busybox))
    }

    /// Brings what the host has at `path`, with the road that leads there: each symbolic link on it
    /// is made again and followed. So a copy finds its libraries where the original does, whether
    /// /lib is a link into /usr or a program is one into a store.
    fn bring(&self, path: &Path, links: u8) -> Result<()> {
        // The kernel's own bound: path_resolution(7).
        if links > 40 {
            bail!("{} goes round in a circle of links", path.display());
        }
        let mut here = PathBuf::from("/");
        let mut steps = path.components();
        while let Some(step) = steps.next() {
            match step {
                Component::Normal(name) => here.push(name),
                Component::ParentDir => drop(here.pop()),
                _ => continue,
            }
            let look = || format!("look at {}", here.display());
            let metadata = here.symlink_metadata().with_context(look)?;
            let inside = self.inside(&here);
            if metadata.is_symlink() {
                let target = fs::read_link(&here).with_context(look)?;
                self.link(&here, &target)?;
                here.pop();
                return self.bring(&here.join(target).join(steps.as_path()), links + 1);
            } else if metadata.is_dir() {
                make_directory(&inside, 0o755)?;
            } else if inside.symlink_metadata().is_err() {
                let source =
                    File::open(&here).with_context(|| format!("open {}", here.display()))?;
                // A copy with set-user-ID would make the caller of everyone who runs it.
                copy(source, &inside, metadata.permissions().mode() & 0o755)?;
            }
        }
        Ok(())
    }

    /// Where a program `name` goes: where the host has one of that name, so that a full path means
    /// the same inside.
    fn place_of(&self, name: impl AsRef<Path>) -> PathBuf {
        let mut places = self.standard.iter().map(|place| place.join(&name));
        let taken = places.find(|place| place.symlink_metadata().is_ok());
        taken.unwrap_or_else(|| self.bin.join(&name))
    }

    fn has(&self, name: &str) -> bool {
        self.inside(&self.place_of(name)).symlink_metadata().is_ok()
    }

    /// Makes a link at `at`, unless something is there.
    fn link(&self, at: &Path, to: &Path) -> Result<()> {
        match symlink(to, self.inside(at)) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
        .with_context(|| format!("link {} to {}", self.inside(at).display(), to.display()))
    }

    /// The place below the new root of an absolute path without symbolic links.
    fn inside(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }
}

/// Makes a directory whose mode no umask changes, unless there is one.
fn make_directory(path: &Path, mode: u32) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(mode)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
    .with_context(|| format!("make the directory {}", path.display()))
}

/// Writes a new file of the caller's own: no owner, attribute or capability comes along.
fn copy(mut source: impl io::Read, path: &Path, mode: u32) -> Result<()> {
    let mut write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        io::copy(&mut source, &mut file)?;
        file.set_permissions(Permissions::from_mode(mode))
    };
    write().with_context(|| format!("write {}", path.display()))
}
