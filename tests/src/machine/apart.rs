//! A machine apart: in a user namespace, so that root in there is nobody outside.
//!
//! ```text
//!                        inside      outside
//! called by root         0-65535     BASE and up: ids that own nothing
//! by an ordinary user    0-65535     theirs of subuid(5), by newuidmap
//!   without newuidmap    0           their own id, and student is root without capabilities
//! ```

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Pid, Uid, User, chown, getgid, getuid, setgid, setgroups, setuid};
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::{STUDENT, attach, hand_down_controllers, memory_on, settle_cgroups};

/// Where root's machines have their ids: far above those of accounts, and of
/// the ranges that useradd(8) hands out.
const BASE: u32 = 0x7000_0000;
/// As many as a machine knows; on most, /etc/subuid grants that many.
const COUNT: u32 = 65_536;
/// Which of them are student's subordinate ids.
const SUBORDINATE: (u32, u32) = (10_000, 50_000);

/// What a program may have at once: a fork bomb stops here, and with it
/// everything else that it could take from the real machine.
const PROCESSES: u64 = 400;
const MEMORY: u64 = 8 << 30;
/// How much of the memory one of its file systems may take.
pub const BOUND: &str = ",size=25%";

/// fork(2), with the child in new namespaces. `None` is the child.
pub fn fork_into(namespaces: CloneFlags) -> Result<Option<Pid>> {
    let flags = namespaces.bits() | libc::SIGCHLD;
    // SAFETY: without CLONE_VM and with no stack it is fork(2), and this
    // process has one thread.
    let pid = unsafe { libc::syscall(libc::SYS_clone, i64::from(flags), 0, 0, 0, 0) };
    match Errno::result(pid) {
        Ok(0) => Ok(None),
        Ok(pid) => Ok(Some(Pid::from_raw(i32::try_from(pid)?))),
        Err(errno) if namespaces.contains(CloneFlags::CLONE_NEWUSER) => Err(errno).context(
            "make a user namespace for the machine (`cargo lab doctor` says which switch to turn)",
        ),
        Err(errno) => Err(errno).context("make the machine's namespaces (is this root?)"),
    }
}

/// Which ids of this process's user namespace are the machine's 0 and so on.
pub struct Map {
    uid: u32,
    gid: u32,
    count: u32,
}

impl Map {
    /// Maps the ids of the machine's first process, in the way that this
    /// process has the right to.
    pub fn write(child: Pid) -> Result<Map> {
        let map = if Uid::effective().is_root() {
            let map = Map {
                uid: base("uid")?,
                gid: base("gid")?,
                count: COUNT,
            };
            map.write_file(child, "uid_map", map.uid)?;
            map.write_file(child, "gid_map", map.gid)?;
            map
        } else if let Some(map) = Map::subordinate()
            && map.helped("newuidmap", child, map.uid)
            && map.helped("newgidmap", child, map.gid)
        {
            map
        } else {
            let map = Map {
                uid: getuid().as_raw(),
                gid: getgid().as_raw(),
                count: 1,
            };
            fs::write(format!("/proc/{child}/setgroups"), "deny")?;
            map.write_file(child, "uid_map", map.uid)?;
            map.write_file(child, "gid_map", map.gid)?;
            map
        };
        Ok(map)
    }

    fn write_file(&self, child: Pid, file: &str, outside: u32) -> Result<()> {
        let path = format!("/proc/{child}/{file}");
        fs::write(&path, format!("0 {outside} {}", self.count))
            .with_context(|| format!("write {path}"))
    }

    /// What subuid(5) and subgid(5) grant the caller, where it is enough.
    fn subordinate() -> Option<Map> {
        let uid = getuid();
        let name = User::from_uid(uid).ok().flatten().map(|user| user.name);
        let first = |file: &str| {
            let table = fs::read_to_string(file).unwrap_or_default();
            table.lines().find_map(|line| {
                let mut fields = line.trim().split(':');
                let owner = fields.next()?;
                let ours = Some(owner) == name.as_deref() || owner == uid.to_string();
                let first = fields.next()?.parse().ok()?;
                let count: u32 = fields.next()?.parse().ok()?;
                (ours && count >= COUNT).then_some(first)
            })
        };
        Some(Map {
            uid: first("/etc/subuid")?,
            gid: first("/etc/subgid")?,
            count: COUNT,
        })
    }

    fn helped(&self, program: &str, child: Pid, outside: u32) -> bool {
        let words = [0, outside, self.count].map(|id| id.to_string());
        let out = Command::new(program)
            .arg(child.to_string())
            .args(words)
            .output();
        out.is_ok_and(|out| out.status.success())
    }
}

/// The first of `COUNT` ids that this user namespace has, and nobody uses.
fn base(kind: &str) -> Result<u32> {
    let path = format!("/proc/self/{kind}_map");
    let table = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let ends = table.lines().filter_map(|line| {
        let fields: Vec<u64> = line
            .split_whitespace()
            .filter_map(|n| n.parse().ok())
            .collect();
        Some((*fields.first()?, fields.first()? + fields.get(2)?))
    });
    let last = ends
        .filter(|(first, end)| end - first >= u64::from(COUNT))
        .max()
        .with_context(|| format!("{path} has no {COUNT} ids in a row for a machine"))?;
    let wanted = u64::from(BASE).min(last.1 - u64::from(COUNT));
    Ok(u32::try_from(wanted.max(last.0))?)
}

/// Whether this process's user namespace knows the uid of student.
pub fn has_student() -> Result<bool> {
    let path = "/proc/self/uid_map";
    let table = fs::read_to_string(path).with_context(|| format!("read {path}"))?;
    Ok(table.lines().any(|line| {
        let fields: Vec<u64> = line.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        matches!(fields[..], [first, _, count] if (first..first + count).contains(&u64::from(STUDENT)))
    }))
}

/// Becomes uid 0 of the user namespace that this process is in.
pub fn become_root() -> Result<()> {
    // Denied where only one's own id is mapped, and not needed there.
    setgroups(&[]).ok();
    setgid(Gid::from_raw(0)).context("become the machine's root group")?;
    setuid(Uid::from_raw(0)).context("become the machine's root")?;
    // setuid(2) took it away, and with it the right of whoever made this
    // namespace to look at it through /proc/PID/root and /proc/PID/ns: ptrace(2).
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable)?;
    Ok(())
}

/// The student of a machine with one id: uid 1000 of a user namespace in which
/// it stands for that id. The machine's root without capabilities would not do:
/// nobody maps a root that they are not the lord of (user_namespaces(7)).
pub fn become_lone_student() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWUSER).context("make student's user namespace")?;
    for (file, map) in [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("{STUDENT} 0 1")),
        ("gid_map", format!("{STUDENT} 0 1")),
    ] {
        let path = format!("/proc/thread-self/{file}");
        fs::write(&path, map).with_context(|| format!("write {path}"))?;
    }
    // The capabilities in there go with execve(2), since this is not uid 0.
    Ok(())
}

/// Bounds what a program can take; its limits count per user namespace, so
/// that one machine does not starve another.
pub fn limit() -> Result<()> {
    for (resource, most) in [
        (Resource::Nproc, PROCESSES),
        (Resource::As, MEMORY),
        (Resource::Core, 0),
    ] {
        let old = rustix::process::getrlimit(resource);
        let most = old.maximum.map_or(most, |old| old.min(most));
        let both = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        setrlimit(resource, both).with_context(|| format!("limit {resource:?}"))?;
    }
    Ok(())
}

/// Lets /dev/stdin and so on be opened anew inside, where the pipes and
/// terminals of this process belong to nobody.
pub fn open_streams() -> Result<()> {
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    for stream in [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()] {
        let kind = crate::kind_of(stream)?;
        if kind == libc::S_IFIFO || rustix::termios::isatty(stream) {
            rustix::fs::fchmod(stream, rustix::fs::Mode::from_raw_mode(0o666)).ok();
        }
    }
    Ok(())
}

/// Makes everything that is mounted now read-only in this mount namespace, so
/// that what a program writes by mistake stays on its machine. Against malice it
/// is no wall, for the machine's root may turn it back: that is what ids that
/// own nothing are for, and the virtual machine.
pub fn protect() -> Result<()> {
    let readonly = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the path is a C string, and the structure outlives the call and
    // its size is its own.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            c"/".as_ptr(),
            libc::AT_RECURSIVE,
            &raw const readonly,
            size_of::<libc::mount_attr>(),
        )
    };
    Errno::result(done)
        .map(drop)
        .context("make the real machine's files read-only")
}

/// Empty directories where others cannot be written.
pub fn own_directories() -> Result<()> {
    for (dir, options) in [
        ("/var/lib", "mode=755"),
        ("/root", "mode=700"),
        ("/dev/shm", "mode=1777"),
        ("/dev/mqueue", "mode=1777"),
    ] {
        if Path::new(dir).is_dir() {
            memory_on(dir, &format!("{options}{BOUND}"))?;
        }
    }
    fs::create_dir_all("/var/lib/minidocker").context("create /var/lib/minidocker")
}

/// An /etc of links to what was there, but for the files in `own`. Not an
/// overlay: that cannot lie over a directory in which somebody has mounted
/// something, as container engines do on /etc/hosts, unless one may unmount it.
pub fn cover_etc(own: &Path) -> Result<()> {
    let old = Path::new("/run/etc/old");
    fs::create_dir_all(old)?;
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    attach(Some("/etc"), "/run/etc/old", None, flags, None)?;
    memory_on("/etc", "mode=755")?;
    for entry in fs::read_dir(own)?.chain(fs::read_dir(old)?) {
        let from = entry?.path();
        let Some(name) = from.file_name() else {
            continue;
        };
        let to = Path::new("/etc").join(name);
        if to.symlink_metadata().is_ok() {
            continue;
        }
        if from.starts_with(own) {
            fs::copy(&from, &to).map(drop)
        } else {
            let target = fs::read_link(&from).unwrap_or(from);
            std::os::unix::fs::symlink(target, &to)
        }
        .with_context(|| format!("make {}", to.display()))?;
    }
    Ok(())
}

/// newuidmap(1) is of no use with the set-user-ID bit of somebody whom this
/// user namespace does not know; a copy that belongs to its root is.
pub fn own_helpers() -> Result<()> {
    if !has_student()? {
        return Ok(());
    }
    for name in ["newuidmap", "newgidmap"] {
        let original = PathBuf::from("/usr/bin").join(name);
        let Ok(file) = fs::File::open(&original) else {
            continue;
        };
        let own = Path::new("/run/workspace/helpers").join(name);
        fs::create_dir_all("/run/workspace/helpers")?;
        copy(&file, &own)?;
        fs::set_permissions(&own, fs::Permissions::from_mode(0o4755))?;
        mount(
            Some(&own),
            &original,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )
        .with_context(|| format!("mount a copy on {}", original.display()))?;
    }
    Ok(())
}

/// The machine's subuid(5).
pub fn subordinate_ids() -> String {
    let (first, count) = SUBORDINATE;
    match has_student() {
        Ok(true) => format!("student:{first}:{count}\n"),
        _ => String::new(),
    }
}

/// Writes what an open file holds to a new one, as executable as that is.
pub fn copy(from: &fs::File, to: &Path) -> Result<()> {
    let executable = from.metadata()?.mode() & 0o111 != 0;
    let mut file = fs::File::create(to).with_context(|| format!("create {}", to.display()))?;
    // In the kernel: the program of a debug build has a hundred megabytes.
    let mut from = from;
    std::io::copy(&mut from, &mut file).with_context(|| format!("write {}", to.display()))?;
    let mode = if executable { 0o755 } else { 0o644 };
    fs::set_permissions(to, fs::Permissions::from_mode(mode))?;
    Ok(())
}

/// Makes the cgroup that will be the root of the machine's tree, and moves its
/// first process there, where this process has the right to. Where it has not,
/// the machine has no cgroups of its own: most of what it is for needs none.
pub fn give_cgroup(name: &str, child: Pid, map: &Map) -> Option<PathBuf> {
    let dir = parent_cgroup()?.join(name);
    fs::create_dir(&dir).ok()?;
    let given =
        owned(&dir, map).is_ok() && fs::write(dir.join("cgroup.procs"), child.to_string()).is_ok();
    if !given {
        fs::remove_dir(&dir).ok()?;
    }
    given.then_some(dir)
}

/// Bounds a whole machine, where there are controllers; these files stay ours.
fn bound(dir: &Path) {
    let table = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = table
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    if let Some(kilobytes) = kilobytes {
        fs::write(dir.join("memory.max"), (kilobytes * 1024 / 3).to_string()).ok();
    }
    fs::write(dir.join("pids.max"), (2 * PROCESSES).to_string()).ok();
}

/// Hands a cgroup over to the machine's root, as delegation wants it: cgroups(7).
fn owned(dir: &Path, map: &Map) -> Result<()> {
    if map.uid == getuid().as_raw() {
        return Ok(());
    }
    ensure!(Uid::effective().is_root(), "only root gives files away");
    bound(dir);
    if std::env::var_os("MINIDOCKER_VM").is_some()
        && let Some(parent) = dir.parent()
    {
        hand_down_controllers(parent)?;
    }
    for file in [
        "",
        "cgroup.procs",
        "cgroup.subtree_control",
        "cgroup.threads",
    ] {
        let path = dir.join(file);
        chown(
            &path,
            Some(Uid::from_raw(map.uid)),
            Some(Gid::from_raw(map.gid)),
        )?;
    }
    Ok(())
}

/// Where a machine's cgroup can be made: for root at the top of the tree, for
/// anybody else beside their own cgroup, which is where systemd lets them.
fn parent_cgroup() -> Option<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mounted = table.lines().find(|line| line.contains(" - cgroup2 "))?;
    let root = PathBuf::from(mounted.split(' ').nth(4)?);
    if Uid::effective().is_root() {
        return Some(root);
    }
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(root.join(Path::new(own).parent()?))
}

/// Makes the cgroup that this process was put into the root of its tree.
pub fn enter_cgroups(name: &str, delegated: bool) -> Result<()> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let given = own
        .lines()
        .any(|line| line.starts_with("0::") && line.ends_with(name));
    unshare(CloneFlags::CLONE_NEWCGROUP).context("unshare the cgroup namespace")?;
    if given {
        return settle_cgroups(delegated);
    }
    if delegated {
        bail!("there is no cgroup to delegate");
    }
    // To be looked at, at least, as everybody may everywhere.
    let at = "/sys/fs/cgroup";
    attach(Some("cgroup2"), at, Some("cgroup2"), MsFlags::empty(), None)
}
