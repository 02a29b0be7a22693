//! `mounts`: what the specification's words mean to the kernel.
//!
//! Everything is decided before anything is mounted. A mount is then one call of
//! mount(2), or, where that is not enough, a tree that is made complete before
//! it comes to its place: nothing is looked up twice in a root that others fill.

use std::borrow::Cow;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use oci_spec::runtime::{self as oci, LinuxNamespaceType};
use rootfs::{Attributes, Kind, Top, kind_of};
use rustix::fs::{FsWord, fstat, fstatfs, statfs};
use sys_mount::MountFlags;

use super::Bundle;
use super::copy_up;
use super::label::mount_label_data;
use super::mount_options::Options;

/// `mounts`, decided.
#[derive(Debug)]
pub(crate) struct Mounts(Vec<Planned>);

#[derive(Debug)]
struct Planned {
    /// How errors name it: `mounts[4] (/data)`.
    field: String,
    mount: rootfs::Mount,
    /// The source of a bind, where the parent had to open it.
    tree: Option<OwnedFd>,
    special: Special,
    /// Read-only as soon as everything else is mounted: mount points and
    /// devices have to be made in it before.
    read_only_later: bool,
}

/// What is more than a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Special {
    None,
    /// A tmpfs that begins with what it covers.
    CopyUp,
    /// The container's cgroup, where it sees the host's whole tree otherwise.
    OwnCgroup,
}

impl Mounts {
    /// Reads `mounts`.
    pub(crate) fn plan(bundle: &Bundle) -> Result<Mounts> {
        let mounts = bundle.spec.mounts().iter().flatten().enumerate();
        let planned = mounts.map(|(index, mount)| {
            let field = format!("mounts[{index}] ({})", mount.destination().display());
            plan_one(bundle, mount, &field).with_context(|| field.clone())
        });
        planned.collect::<Result<_>>().map(Mounts)
    }

    /// Mounts everything in the order of the specification. What is returned is
    /// to be made read-only at the end.
    pub(crate) fn put(&self, top: &Top) -> Result<Vec<OwnedFd>> {
        let mut later = Vec::new();
        for planned in &self.0 {
            let tree = planned.put(top).with_context(|| planned.field.clone())?;
            later.extend(tree.filter(|_| planned.read_only_later));
        }
        Ok(later)
    }

    /// Whether somebody else's `/dev` is used as it is.
    pub(crate) fn binds_dev(&self) -> bool {
        let is = |mount: &rootfs::Mount| {
            mount.flags.contains(MountFlags::BIND) && mount.target == Path::new("/dev")
        };
        self.0.iter().any(|planned| is(&planned.mount))
    }
}

fn plan_one(bundle: &Bundle, mount: &oci::Mount, field: &str) -> Result<Planned> {
    let options = Options::parse(mount.options().as_deref().unwrap_or_default())?;
    let target = clean(mount.destination())?;
    let typ = mount.typ().as_deref().unwrap_or_default();
    let bind = typ == "bind" || options.flags.contains(MountFlags::BIND);
    let mut planned = if bind {
        plan_bind(bundle, mount, target, &options)?
    } else {
        plan_new(bundle, mount, target, &options)?
    };
    planned.field = field.to_owned();
    Ok(planned)
}

/// An absolute path without `.` and doubled slashes, inside the root.
fn clean(destination: &Path) -> Result<PathBuf> {
    ensure!(
        destination.is_absolute(),
        "destination: it must be absolute"
    );
    ensure!(
        !destination
            .components()
            .any(|part| part == Component::ParentDir),
        "destination: it must not have .. in it"
    );
    let clean: PathBuf = destination.components().collect();
    ensure!(
        clean != Path::new("/"),
        "destination: nothing can be mounted on the container's root itself"
    );
    Ok(clean)
}

fn plan_bind(
    bundle: &Bundle,
    mount: &oci::Mount,
    target: PathBuf,
    options: &Options,
) -> Result<Planned> {
    let source = mount
        .source()
        .as_ref()
        .context("source: a bind needs one")?;
    let source = bundle.path.join(source);
    options.refuse_those_of_file_systems()?;
    ensure!(!options.copy_up, "options: tmpcopyup is for a tmpfs");
    if target.starts_with("/proc") {
        allow_in_proc(&target, || is_procfs(&statfs(&source)?))?;
    }
    let mut bind = rootfs::Mount::bind(source, target, false);
    bind.flags = options.flags & (MountFlags::BIND | MountFlags::REC | MountFlags::REMOUNT)
        | MountFlags::BIND;
    bind.plain = is_kernels(&bind.target);
    bind.attributes.extend(options.of_bind());
    bind.attributes.extend(options.recursive());
    bind.propagation = options.propagation;
    let tree = super::id_maps::open_for_child(bundle, mount, &bind, options)?;
    Ok(Planned {
        field: String::new(),
        mount: bind,
        tree,
        special: Special::None,
        read_only_later: false,
    })
}

fn plan_new(
    bundle: &Bundle,
    mount: &oci::Mount,
    target: PathBuf,
    options: &Options,
) -> Result<Planned> {
    let typ = mount.typ().as_deref().context("type: it is missing")?;
    ensure!(
        options.id_map.is_none() && mount.uid_mappings().is_none(),
        "options: only a bind can have ids of its own"
    );
    ensure!(
        !options.copy_up || typ == "tmpfs",
        "options: tmpcopyup is for a tmpfs"
    );
    if target.starts_with("/proc") {
        allow_in_proc(&target, || Ok(typ == "proc"))?;
    }
    let cgroup = ["cgroup", "cgroup2"].contains(&typ);
    let fstype = if cgroup { "cgroup2" } else { typ };
    let read_only_later = options.flags.contains(MountFlags::RDONLY)
        && (typ == "tmpfs" || target == Path::new("/dev"));
    let mut flags = options.flags;
    if read_only_later {
        flags -= MountFlags::RDONLY;
    }
    let special = if cgroup && !has_namespace(bundle, LinuxNamespaceType::Cgroup) {
        Special::OwnCgroup
    } else if options.copy_up {
        Special::CopyUp
    } else {
        Special::None
    };
    Ok(Planned {
        field: String::new(),
        mount: rootfs::Mount {
            source: mount.source().clone().unwrap_or_else(|| typ.into()),
            plain: is_kernels(&target) || ["proc", "sysfs"].contains(&typ),
            target,
            fstype: fstype.to_owned().into(),
            flags,
            data: data(bundle, typ, options)?,
            attributes: options.recursive().into_iter().collect(),
            propagation: options.propagation,
        },
        tree: None,
        special,
        read_only_later,
    })
}

/// The options that only the file system knows, with the label of its files.
fn data(bundle: &Bundle, typ: &str, options: &Options) -> Result<String> {
    let linux = bundle.spec.linux().as_ref();
    let label = linux.and_then(|linux| linux.mount_label().as_deref());
    let mut data = options.data.join(",");
    // The kernel labels these itself.
    if let Some(label) = label.filter(|label| !label.is_empty())
        && !["proc", "sysfs", "cgroup", "cgroup2"].contains(&typ)
    {
        if !data.is_empty() {
            data.push(',');
        }
        data += &mount_label_data(label)?;
    }
    Ok(data)
}

/// Where an image's link would lead the container's most trusted files astray.
fn is_kernels(target: &Path) -> bool {
    target.starts_with("/proc") || ["/sys", "/dev"].map(Path::new).contains(&target)
}

/// Files of `/proc` that others may emulate, as lxcfs does.
const EMULATED: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// Whoever writes to `/proc/self/attr` or `/proc/sys` later must find the
/// kernel there, not a file of somebody's (CVE-2019-16884, CVE-2019-19921).
fn allow_in_proc(target: &Path, is_proc: impl FnOnce() -> Result<bool>) -> Result<()> {
    if target == Path::new("/proc") {
        ensure!(
            is_proc()?,
            "destination: only a proc can be mounted on /proc"
        );
        return Ok(());
    }
    ensure!(
        EMULATED.map(Path::new).contains(&target),
        "destination: nothing can be mounted inside /proc but {}",
        EMULATED.join(", ")
    );
    Ok(())
}

/// PROC_SUPER_MAGIC and CGROUP2_SUPER_MAGIC (linux/magic.h).
const PROC: FsWord = 0x9fa0;
const CGROUP2: FsWord = 0x6367_7270;

fn is_procfs(found: &rustix::fs::StatFs) -> Result<bool> {
    Ok(found.f_type == PROC)
}

pub(crate) fn has_namespace(bundle: &Bundle, typ: LinuxNamespaceType) -> bool {
    let linux = bundle.spec.linux().as_ref();
    let namespaces = linux.and_then(|linux| linux.namespaces().as_ref());
    namespaces.is_some_and(|all| all.iter().any(|one| one.typ() == typ))
}

impl Planned {
    /// Mounts it; the tree is returned where one was made.
    fn put(&self, top: &Top) -> Result<Option<OwnedFd>> {
        if self.mount.flags.contains(MountFlags::REMOUNT) {
            return self.remount(top);
        }
        if let Some(tree) = &self.tree {
            let place = self.place(top, kind_of(tree)?)?;
            self.mount.attach(tree, &place)?;
            return Ok(None);
        }
        if self.special == Special::OwnCgroup {
            return self.put_own_cgroup(top);
        }
        let mount = self.with_mode(top)?;
        if !mount.needs_tree() && self.special == Special::None && !self.read_only_later {
            let place = self.place(top, Kind::Directory)?;
            return self.mount_or_keep(&mount, &place).map(|()| None);
        }
        let tree = mount.make_tree()?;
        let place = self.place(top, kind_of(&tree)?)?;
        if self.special == Special::CopyUp {
            copy_up::copy(&place, &tree).context("options: tmpcopyup: copy what is there")?;
        }
        mount.attach(&tree, &place)?;
        Ok(Some(tree))
    }

    /// Without root, `/sys` is a bind of the host's and has brought the cgroup
    /// file system along. Where the container has no cgroup but the caller's,
    /// that one is meant, and the kernel mounts nothing upon itself.
    fn mount_or_keep(&self, mount: &rootfs::Mount, place: &OwnedFd) -> Result<()> {
        let done = mount.mount_on(place);
        let busy = |error: &anyhow::Error| {
            let cause = error.downcast_ref::<std::io::Error>();
            cause.is_some_and(|cause| cause.kind() == ErrorKind::ResourceBusy)
        };
        match done {
            Err(error) if mount.fstype == "cgroup2" && busy(&error) => {
                Attributes::of_flags(mount.flags).apply(place)
            }
            done => done,
        }
    }

    /// A tmpfs that is told no mode has that of the directory that it covers,
    /// as in runc: `/run` stays closed to others.
    fn with_mode(&self, top: &Top) -> Result<Cow<'_, rootfs::Mount>> {
        let mut options = self.mount.data.split(',');
        if self.mount.fstype != "tmpfs" || options.any(|option| option.starts_with("mode=")) {
            return Ok(Cow::Borrowed(&self.mount));
        }
        let Some(covered) = top.existing(&self.mount.target)? else {
            return Ok(Cow::Borrowed(&self.mount));
        };
        let mode = fstat(&covered).context("look at the mount point")?.st_mode & 0o7777;
        let mut mount = self.mount.clone();
        if !mount.data.is_empty() {
            mount.data.push(',');
        }
        mount.data += &format!("mode={mode:o}");
        Ok(Cow::Owned(mount))
    }

    /// Opens the mount point. A link of the image's may have led into the
    /// container's proc, and there it must not go.
    fn place(&self, top: &Top, kind: Kind) -> Result<OwnedFd> {
        let place = top.place(&self.mount, kind)?;
        if !self.mount.plain && is_procfs(&fstatfs(&place).context("look at the mount point")?)? {
            bail!("destination: it leads into /proc, where nothing can be mounted");
        }
        Ok(place)
    }

    /// Changes what an earlier entry, or the image, has mounted there.
    fn remount(&self, top: &Top) -> Result<Option<OwnedFd>> {
        let place = self.place(top, Kind::Directory)?;
        if self.mount.flags.contains(MountFlags::BIND) {
            self.mount.adjust(&place)?;
        } else {
            self.mount.mount_on(&place)?;
        }
        Ok(None)
    }

    /// Without a cgroup namespace a new mount would show all of the host's
    /// groups, so only the container's own is bound.
    fn put_own_cgroup(&self, top: &Top) -> Result<Option<OwnedFd>> {
        let mut bind = self.mount.clone();
        bind.source = own_cgroup()?;
        bind.flags = MountFlags::BIND | MountFlags::REC;
        bind.attributes
            .insert(0, Attributes::of_flags(self.mount.flags));
        let tree = bind.make_tree()?;
        let place = self.place(top, kind_of(&tree)?)?;
        bind.attach(&tree, &place)?;
        Ok(Some(tree))
    }
}

/// The directory of this process's cgroup.
fn own_cgroup() -> Result<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").context("read /proc/self/cgroup")?;
    let path = groups
        .lines()
        .find_map(|line| line.strip_prefix("0::/"))
        .context("find this process's cgroup (v2) in /proc/self/cgroup")?;
    let mounted = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        .into_iter()
        .find(|dir| statfs(*dir).is_ok_and(|found| found.f_type == CGROUP2))
        .context("find a cgroup2 mounted on the host's /sys/fs/cgroup")?;
    Ok(Path::new(mounted).join(path))
}
