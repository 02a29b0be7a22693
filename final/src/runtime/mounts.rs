//! `mounts`: what the specification's words mean to the kernel.
//!
//! Everything is decided before anything is mounted. A mount is then one call of
//! mount(2), or, where that is not enough, a tree that is made complete before
//! it comes to its place: nothing is looked up twice in a root that others fill.

use std::borrow::Cow;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use nix::mount::MsFlags;
use oci_spec::runtime::{self as oci, LinuxNamespace, LinuxNamespaceType};
use rootfs::{Attributes, Kind, Top, kind_of};
use rustix::fs::{FsWord, PROC_SUPER_MAGIC, fstat, fstatfs, statfs};
use sys_mount::MountFlags;

use super::label::mount_label_data;
use super::mount_options::Options;
use super::namespaces_of::listed;
use super::root::keeps_shared;
use super::{Bundle, copy_up, id_maps};

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
        let linux = bundle.spec.linux().as_ref();
        let label = linux.and_then(|linux| linux.mount_label().as_deref());
        let label = label
            .filter(|label| !label.is_empty())
            .map(mount_label_data)
            .transpose()?;
        let mounts = bundle.spec.mounts().iter().flatten().enumerate();
        let planned = mounts.map(|(index, mount)| {
            Entry::read(bundle, mount, format!("mounts[{index}]"))?.plan(label.as_deref())
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

/// One of `mounts`, as it is read.
struct Entry<'a> {
    /// `mounts[4]`
    field: String,
    bundle: &'a Bundle,
    mount: &'a oci::Mount,
    typ: &'a str,
    target: PathBuf,
    options: Options,
}

impl<'a> Entry<'a> {
    fn read(bundle: &'a Bundle, mount: &'a oci::Mount, field: String) -> Result<Entry<'a>> {
        let target: PathBuf = Path::new("/")
            .join(mount.destination())
            .components()
            .collect();
        ensure!(
            target != Path::new("/"),
            "{field}.destination: nothing can be mounted on the container's root itself"
        );
        Ok(Entry {
            bundle,
            mount,
            typ: mount.typ().as_deref().unwrap_or_default(),
            target,
            options: Options::parse(mount.options().as_deref().unwrap_or_default(), &field)?,
            field,
        })
    }

    fn plan(self, label: Option<&str>) -> Result<Planned> {
        ensure!(
            self.typ == "tmpfs" || !self.options.copy_up,
            "{}.options: tmpcopyup is for a tmpfs",
            self.field
        );
        if self.typ == "bind" || self.options.flags.contains(MountFlags::BIND) {
            self.plan_bind()
        } else {
            self.plan_new(label)
        }
    }

    fn plan_bind(self) -> Result<Planned> {
        let Entry { field, options, .. } = &self;
        let source = self.mount.source().as_ref();
        let source = source.with_context(|| format!("{field}.source: a bind needs one"))?;
        let source = self.bundle.path.join(source);
        options.refuse_those_of_file_systems(field)?;
        self.check_destination(|| is_procfs(&statfs(&source)?))?;
        let mut bind = rootfs::Mount::bind(source, self.target.clone(), false);
        let kept = MountFlags::BIND | MountFlags::REC | MountFlags::REMOUNT;
        bind.flags = options.flags & kept | MountFlags::BIND;
        bind.plain = is_kernels(&bind.target);
        bind.attributes.extend(options.of_bind());
        bind.attributes.extend(options.recursive());
        bind.propagation = options.propagation;
        let tree = id_maps::open_for_child(self.bundle, self.mount, &bind, options)
            .with_context(|| field.clone())?;
        Ok(Planned {
            field: self.named(),
            mount: bind,
            tree,
            special: Special::None,
            read_only_later: false,
        })
    }

    fn plan_new(self, label: Option<&str>) -> Result<Planned> {
        let Entry { field, options, .. } = &self;
        ensure!(!self.typ.is_empty(), "{field}.type: it is missing");
        ensure!(
            options.id_map.is_none() && self.mount.uid_mappings().is_none(),
            "{field}.uidMappings: only a bind can have ids of its own"
        );
        self.check_destination(|| Ok(self.typ == "proc"))?;
        self.check_namespace()?;
        let read_only_later = options.flags.contains(MountFlags::RDONLY)
            && (self.typ == "tmpfs" || self.target == Path::new("/dev"));
        let mut flags = options.flags;
        if read_only_later {
            flags -= MountFlags::RDONLY;
        }
        let source = self.mount.source().as_ref();
        Ok(Planned {
            field: self.named(),
            mount: rootfs::Mount {
                source: source.map_or_else(|| self.typ.into(), PathBuf::clone),
                target: self.target.clone(),
                fstype: if self.is_cgroup() {
                    "cgroup2"
                } else {
                    self.typ
                }
                .to_owned()
                .into(),
                flags,
                data: self.data(label),
                plain: is_kernels(&self.target) || ["proc", "sysfs"].contains(&self.typ),
                attributes: options.recursive().into_iter().collect(),
                propagation: self.propagation_of_new()?,
            },
            tree: None,
            special: self.special(),
            read_only_later,
        })
    }

    /// A new mount is nobody's peer unless it comes into a shared one: to make
    /// it private, or a slave, is mostly nothing to do.
    fn propagation_of_new(&self) -> Result<MsFlags> {
        let told = self.options.propagation;
        if !told.intersects(MsFlags::MS_PRIVATE | MsFlags::MS_SLAVE) {
            return Ok(told);
        }
        let all = self.bundle.spec.mounts().iter().flatten();
        let mut options = all.flat_map(|mount| mount.options().iter().flatten());
        let shares = options.any(|option| ["shared", "rshared"].contains(&option.as_str()))
            || keeps_shared(self.bundle.spec.linux().as_ref())?;
        Ok(if shares { told } else { MsFlags::empty() })
    }

    /// How errors of the kernel's name it.
    fn named(&self) -> String {
        format!("{} ({})", self.field, self.target.display())
    }

    fn is_cgroup(&self) -> bool {
        ["cgroup", "cgroup2"].contains(&self.typ)
    }

    fn special(&self) -> Special {
        if self.is_cgroup() && !has_namespace(self.bundle, LinuxNamespaceType::Cgroup) {
            Special::OwnCgroup
        } else if self.options.copy_up {
            Special::CopyUp
        } else {
            Special::None
        }
    }

    /// The options that only the file system knows, with the label of its
    /// files where the kernel does not choose that itself.
    fn data(&self, label: Option<&str>) -> String {
        let labelled = !self.is_cgroup() && !["proc", "sysfs"].contains(&self.typ);
        let known = self.options.data.iter().map(String::as_str);
        let all: Vec<&str> = known.chain(label.filter(|_| labelled)).collect();
        all.join(",")
    }

    /// Whoever writes to `/proc/self/attr` or `/proc/sys` later must find the
    /// kernel there, not a file of somebody's (CVE-2019-16884, CVE-2019-19921).
    fn check_destination(&self, is_proc: impl FnOnce() -> Result<bool>) -> Result<()> {
        let field = &self.field;
        if self.target == Path::new("/proc") {
            ensure!(
                is_proc().with_context(|| format!("{field}.source"))?,
                "{field}.destination: only a proc can be mounted on /proc"
            );
        } else if self.target.starts_with("/proc") {
            ensure!(
                EMULATED.map(Path::new).contains(&&*self.target),
                "{field}.destination: nothing can be mounted inside /proc but {}",
                EMULATED.join(", ")
            );
        }
        Ok(())
    }

    /// The kernel's own answer would be a bare EPERM.
    fn check_namespace(&self) -> Result<()> {
        let needed = match self.typ {
            "proc" => LinuxNamespaceType::Pid,
            "sysfs" => LinuxNamespaceType::Network,
            "mqueue" => LinuxNamespaceType::Ipc,
            _ => return Ok(()),
        };
        ensure!(
            !makes_users(self.bundle) || has_namespace(self.bundle, needed),
            "{}.type: in a user namespace a new {} needs a {needed} namespace in \
             linux.namespaces; or bind the host's",
            self.field,
            self.typ
        );
        Ok(())
    }
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

/// CGROUP2_SUPER_MAGIC (linux/magic.h).
const CGROUP2: FsWord = 0x6367_7270;

fn is_procfs(found: &rustix::fs::StatFs) -> Result<bool> {
    Ok(found.f_type == PROC_SUPER_MAGIC)
}

/// Whether the container is in such a namespace other than the runtime's.
pub(crate) fn has_namespace(bundle: &Bundle, typ: LinuxNamespaceType) -> bool {
    namespaces_of(bundle).any(|one| one.typ() == typ)
}

fn makes_users(bundle: &Bundle) -> bool {
    namespaces_of(bundle).any(|one| one.typ() == LinuxNamespaceType::User && one.path().is_none())
}

pub(crate) fn namespaces_of(bundle: &Bundle) -> impl Iterator<Item = &LinuxNamespace> {
    listed(bundle.spec.linux().as_ref())
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
