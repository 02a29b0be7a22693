//! Where on this host we may make cgroups, and why not where we may not.
//!
//! A controller belongs to one hierarchy at a time: to a version 1 hierarchy of its own, or to the
//! one tree of version 2. /proc/self/mountinfo says where that tree is mounted, /proc/self/cgroup
//! which controllers version 1 holds, and where in each hierarchy we are.

use std::error::Error;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::{fmt, fs};

use anyhow::{Context, Result, ensure};
use nix::unistd::{Pid, geteuid};

use crate::directory::Directory;

/// What gives an ordinary user a cgroup of their own, for one command.
const DELEGATE: &str = "systemd-run --user --scope -p Delegate=yes --";

/// What gives all controllers to version 2.
const UNIFY: &str = "boot with the kernel parameter systemd.unified_cgroup_hierarchy=1, or try it in a \
                     virtual machine: cargo lab vm";

/// What the host's cgroup file systems look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Version 2 has all controllers.
    Unified,
    /// Version 2 is mounted, but version 1 holds these controllers.
    Hybrid {
        /// The controllers' names.
        held: Vec<String>,
    },
    /// Version 2 is not mounted.
    Legacy,
}

/// The tree of version 2, as this process sees it.
#[derive(Debug)]
pub struct Hierarchy {
    /// Who has the controllers.
    pub mode: Mode,
    root: Option<Directory>,
    /// The cgroup that this process is in.
    own: Option<Directory>,
}

/// The error where a controller is needed that is not to be had.
#[derive(Debug)]
pub struct Missing {
    /// Its name.
    pub controller: String,
    from: PathBuf,
    why: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            controller,
            from,
            why,
        } = self;
        let from = from.display();
        write!(
            out,
            "the {controller} controller is missing from {from}/cgroup.controllers: {why}"
        )
    }
}

impl Error for Missing {}

/// The cgroup below which we may make our own.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) directory: Directory,
    /// We stand in it ourselves.
    pub(crate) is_own: bool,
}

impl Hierarchy {
    /// Looks it up in `/proc`.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn find() -> Result<Self> {
        let mounts = fs::read("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
        let cgroups = fs::read("/proc/self/cgroup").context("read /proc/self/cgroup")?;
        let (held, own) = memberships(&cgroups);
        for (top, mount) in cgroup2_mounts(&mounts) {
            let root = Directory::open(&mount)?;
            if root.is_some() {
                let own = own.and_then(|own| own.strip_prefix(&top).ok());
                let own = own.map(|own| Directory::open(&mount.join(own)));
                let own = own.transpose()?.flatten();
                let mode = if held.is_empty() {
                    Mode::Unified
                } else {
                    Mode::Hybrid { held }
                };
                return Ok(Self { mode, root, own });
            }
        }
        let (root, own) = (None, None);
        Ok(Self {
            mode: Mode::Legacy,
            root,
            own,
        })
    }

    /// Where cgroup2 is mounted.
    pub fn mount(&self) -> Option<&Path> {
        self.root.as_ref().map(Directory::path)
    }

    /// The place for our cgroups: the root of the tree if that is ours to write, otherwise the
    /// cgroup that we are in, if it was delegated to us. `None` where there is no place and, as
    /// nothing of it is `needed`, no need either.
    pub(crate) fn place(self, needed: &[&str]) -> Result<Option<Place>> {
        let asked = needed.join(", ");
        let Some(root) = self.root else {
            ensure!(
                needed.is_empty(),
                "limit {asked}: cgroup version 2 is not mounted; {UNIFY}"
            );
            return Ok(None);
        };
        offers(&root, needed, |missing| absent(missing, &self.mode))?;
        let own_path = self.own.as_ref().map(|own| own.path().to_owned());
        let mut places = [Some(root), self.own].into_iter().flatten();
        let Some(directory) = places.find(Directory::is_ours) else {
            ensure!(needed.is_empty(), "limit {asked}: {}", no_place());
            return Ok(None);
        };
        offers(&directory, needed, not_delegated)?;
        let is_own = own_path.as_deref() == Some(directory.path());
        Ok(Some(Place { directory, is_own }))
    }

    /// Where the path of a lasting cgroup begins: an absolute one at the root of the tree; a relative
    /// one there too if the root is ours to write, and otherwise beside our own cgroup rather than in
    /// it, where we would stand in the way of controllers. `None` as with `place`.
    pub(crate) fn base(self, absolute: bool, needed: &[&str]) -> Result<Option<Directory>> {
        let Some(root) = self.root else {
            let why = format!("cgroup version 2 is not mounted; {UNIFY}");
            return nowhere(needed, Path::new("/sys/fs/cgroup"), why);
        };
        offers(&root, needed, |missing| absent(missing, &self.mode))?;
        if absolute || root.is_ours() {
            return Ok(Some(root));
        }
        let beside = self.own.as_ref().and_then(|own| own.path().parent());
        let beside = beside.map(Directory::open).transpose()?.flatten();
        let mut places = [beside, self.own].into_iter().flatten();
        let Some(place) = places.find(Directory::is_ours) else {
            return nowhere(needed, root.path(), no_place());
        };
        offers(&place, needed, not_delegated)?;
        Ok(Some(place))
    }
}

/// The root of the tree where it mostly is, if that will do as a [base](Hierarchy::base): then the
/// list of all mounts need not be read, which grows with each container on this host.
pub(crate) fn usual_root(absolute: bool, needed: &[&str]) -> Result<Option<Directory>> {
    let root = Directory::open(Path::new("/sys/fs/cgroup"))?;
    Ok(root
        .filter(|root| (absolute || root.is_ours()) && offers(root, needed, str::to_owned).is_ok()))
}

fn nowhere(needed: &[&str], from: &Path, why: String) -> Result<Option<Directory>> {
    match needed.first() {
        None => Ok(None),
        Some(&missing) => Err(Missing {
            controller: missing.to_owned(),
            from: from.to_owned(),
            why,
        }
        .into()),
    }
}

impl Place {
    pub(crate) fn refuse_others(&self, controllers: &[&str], but: Option<Pid>) -> Result<()> {
        refuse_others(&self.directory, controllers, but)
    }
}

/// Looks who is in `place` beside `but`, rather than wait for EBUSY: the kernel lets cpu and pids be
/// enabled beside processes, and only then refuses each that is to join a cgroup below.
pub(crate) fn refuse_others(
    place: &Directory,
    controllers: &[&str],
    but: Option<Pid>,
) -> Result<()> {
    let others = place.read("cgroup.procs")?;
    let but = but.map(|pid| pid.to_string());
    let place = place.path().display();
    let way_out = match geteuid().is_root() {
        true => format!(
            "move them into one of their own: mkdir {place}/init; for p in $(cat {place}/cgroup.procs); \
             do echo $p > {place}/init/cgroup.procs; done"
        ),
        false => format!("put `{DELEGATE}` before the command"),
    };
    ensure!(
        others.lines().all(|pid| Some(pid) == but.as_deref()),
        "limit {}: other processes are in {place}, and a cgroup cannot limit its children beside \
         processes of its own; {way_out}",
        controllers.join(", "),
    );
    Ok(())
}

/// Refuses, with the reason that `why` knows, if `directory` does not have all controllers `needed`.
pub(crate) fn offers(
    directory: &Directory,
    needed: &[&str],
    why: impl Fn(&str) -> String,
) -> Result<()> {
    if needed.is_empty() {
        return Ok(());
    }
    let offered = directory.read("cgroup.controllers")?;
    let is_offered = |controller: &str| offered.split_whitespace().any(|offer| offer == controller);
    let Some(&missing) = needed.iter().find(|needed| !is_offered(needed)) else {
        return Ok(());
    };
    Err(Missing {
        controller: missing.to_owned(),
        from: directory.path().to_owned(),
        why: why(missing),
    }
    .into())
}

fn absent(controller: &str, mode: &Mode) -> String {
    match mode {
        Mode::Hybrid { held } if held.iter().any(|held| held == controller) => {
            format!("it is held by cgroup version 1; {UNIFY}")
        }
        _ => format!(
            "this kernel was built or booted without it; boot with the kernel parameter \
             cgroup_enable={controller}, or try it in a virtual machine: cargo lab vm"
        ),
    }
}

fn not_delegated(controller: &str) -> String {
    let usual = ["cpu", "memory", "pids"];
    let unusual = match usual.contains(&controller) {
        true => String::new(),
        false => format!(" {controller}"),
    };
    format!(
        "it was not delegated to you; let root write the lines `[Service]` and `Delegate=cpu memory \
         pids{unusual}` to /etc/systemd/system/user@.service.d/{controller}.conf, and log in again"
    )
}

fn no_place() -> String {
    if geteuid().is_root() {
        return "the cgroup2 file system cannot be written to; inside a container, have it mounted \
                read-write (docker run --privileged)"
            .to_owned();
    }
    format!("an ordinary user needs a delegated cgroup; put `{DELEGATE}` before the command")
}

/// From /proc/self/cgroup (cgroups(7)): the controllers that version 1 holds, and the path of our
/// cgroup in the tree of version 2, which has the number 0.
fn memberships(table: &[u8]) -> (Vec<String>, Option<&Path>) {
    let (mut held, mut own) = (Vec::new(), None);
    for line in table.split(|b| *b == b'\n') {
        let mut fields = line.splitn(3, |b| *b == b':');
        let (Some(number), Some(names), Some(path)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        if number == b"0" {
            own = Some(Path::new(OsStr::from_bytes(path)));
        } else if !names.starts_with(b"name=") {
            held.extend(String::from_utf8_lossy(names).split(',').map(str::to_owned));
        }
    }
    (held, own)
}

/// From /proc/self/mountinfo (proc_pid_mountinfo(5)): for each mount of cgroup2, which cgroup is at
/// its top, and where it is mounted.
fn cgroup2_mounts(table: &[u8]) -> Vec<(PathBuf, PathBuf)> {
    let lines = table
        .split(|b| *b == b'\n')
        .map(|line| line.split(|b| *b == b' ').collect::<Vec<_>>());
    let mounts = lines.filter_map(|fields| {
        let dash = fields.iter().position(|field| *field == b"-")?;
        let is_cgroup2 = *fields.get(dash + 1)? == b"cgroup2";
        is_cgroup2.then_some((unescape(fields.get(3)?), unescape(fields.get(4)?)))
    });
    mounts.collect()
}

/// The kernel writes a space in a path as `\040`, and other separators alike.
fn unescape(field: &[u8]) -> PathBuf {
    let mut path = Vec::new();
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = (byte == b'\\').then(|| tail.get(..3)).flatten();
        let escaped =
            octal.and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok());
        path.push(escaped.unwrap_or(byte));
        rest = if escaped.is_some() {
            tail.get(3..).unwrap_or_default()
        } else {
            tail
        };
    }
    PathBuf::from(OsStr::from_bytes(&path))
}

#[cfg(test)]
mod tests {
    use super::{cgroup2_mounts, memberships};
    use std::path::{Path, PathBuf};

    #[test]
    fn version_1_is_told_from_version_2() {
        let (held, own) =
            memberships(b"9:name=systemd:/\n4:memory:/a\n2:cpu,cpuacct:/\n0::/user.slice/x:y\n");
        assert_eq!(held, ["memory", "cpu", "cpuacct"]);
        assert_eq!(own, Some(Path::new("/user.slice/x:y")));
        assert_eq!(memberships(b"0::/\n"), (Vec::new(), Some(Path::new("/"))));
        assert_eq!(memberships(b"1:cpu:/\n"), (vec!["cpu".to_owned()], None));
    }

    #[test]
    fn the_cgroup2_mount_is_found_wherever_it_is() {
        let table = b"31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
            35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n\
            41 31 0:38 /a\\040b /mnt/c\\134d\\040 rw,relatime shared:3 master:1 - cgroup2 - rw\n";
        assert_eq!(
            cgroup2_mounts(table),
            [(PathBuf::from("/a b"), PathBuf::from("/mnt/c\\d "))]
        );
    }
}
