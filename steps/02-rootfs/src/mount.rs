//! One mount: what it is, and how it comes to its place.

use std::borrow::Cow;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::MsFlags;
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, open_tree,
};
use sys_mount::MountFlags;

use crate::attributes::{self, Attributes, mount_setattr};
use crate::path_of;
use crate::place::{self, Kind};
use crate::top::move_tree;

/// A mount in the container, with the words of mount(2).
#[derive(Debug, Clone)]
pub struct Mount {
    /// A path of the host for a bind; otherwise a name to show in
    /// `/proc/mounts`.
    pub source: PathBuf,
    /// Where it appears in the container.
    pub target: PathBuf,
    /// The file system's type; none for a bind.
    pub fstype: Cow<'static, str>,
    /// `MS_*` flags. `RDONLY` of a bind goes for what is mounted below it too.
    pub flags: MountFlags,
    /// Options of the file system.
    pub data: String,
    /// Whether links on the way to the target are refused. Where an image has
    /// one for `/proc`, a proc would come to be somewhere else.
    pub plain: bool,
    /// What else is changed before the mount comes to its place.
    pub attributes: Vec<Attributes>,
    /// `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE` or `MS_UNBINDABLE`, with `MS_REC`
    /// for those below it too; or nothing, and it is as where it comes from.
    pub propagation: MsFlags,
}

const QUIET: MountFlags = MountFlags::NOSUID
    .union(MountFlags::NODEV)
    .union(MountFlags::NOEXEC);

impl Mount {
    /// The processes of the container's pid namespace: proc shows that of
    /// whoever mounts it (pid_namespaces(7)).
    #[must_use]
    pub fn proc() -> Mount {
        Mount::kernel("proc", "/proc", QUIET, "")
    }

    /// The devices of the container's net namespace. Read-only, for most of
    /// what is in it belongs to the host.
    #[must_use]
    pub fn sysfs() -> Mount {
        Mount::kernel("sysfs", "/sys", QUIET | MountFlags::RDONLY, "")
    }

    /// An empty `/dev`; [`crate::enter`] fills it.
    #[must_use]
    pub fn dev() -> Mount {
        let flags = MountFlags::NOSUID | MountFlags::STRICTATIME;
        Mount::kernel("tmpfs", "/dev", flags, "mode=755,size=65536k")
    }

    /// Terminals of its own: in the host's devpts a container could open
    /// those of others. Group 5 is tty, as everywhere.
    #[must_use]
    pub fn devpts() -> Mount {
        let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
        let data = "newinstance,ptmxmode=0666,mode=0620,gid=5";
        Mount::kernel("devpts", "/dev/pts", flags, data)
    }

    /// POSIX shared memory (shm_open(3)).
    #[must_use]
    pub fn shm() -> Mount {
        Mount::kernel("tmpfs", "/dev/shm", QUIET, "mode=1777,size=65536k")
    }

    /// POSIX message queues of the container's ipc namespace.
    #[must_use]
    pub fn mqueue() -> Mount {
        Mount::kernel("mqueue", "/dev/mqueue", QUIET, "")
    }

    /// The container's own part of the cgroup tree, to look at.
    #[must_use]
    pub fn cgroup2() -> Mount {
        Mount::kernel("cgroup2", "/sys/fs/cgroup", QUIET | MountFlags::RDONLY, "")
    }

    /// A file or directory of the host, with what is mounted below it.
    #[must_use]
    pub fn bind(source: PathBuf, target: PathBuf, read_only: bool) -> Mount {
        let mut flags = MountFlags::BIND | MountFlags::REC;
        if read_only {
            flags |= MountFlags::RDONLY;
        }
        Mount {
            source,
            target,
            fstype: Cow::Borrowed(""),
            flags,
            data: String::new(),
            plain: false,
            attributes: Vec::new(),
            propagation: MsFlags::empty(),
        }
    }

    /// Files in memory.
    #[must_use]
    pub fn tmpfs(target: PathBuf) -> Mount {
        Mount {
            source: "tmpfs".into(),
            target,
            fstype: Cow::Borrowed("tmpfs"),
            flags: MountFlags::empty(),
            data: String::new(),
            plain: false,
            attributes: Vec::new(),
            propagation: MsFlags::empty(),
        }
    }

    fn kernel(fstype: &'static str, target: &str, flags: MountFlags, data: &str) -> Mount {
        Mount {
            source: fstype.into(),
            target: target.into(),
            fstype: Cow::Borrowed(fstype),
            flags,
            data: data.to_owned(),
            plain: true,
            attributes: Vec::new(),
            propagation: MsFlags::empty(),
        }
    }

    fn is_bind(&self) -> bool {
        self.flags.contains(MountFlags::BIND)
    }

    pub(crate) fn is_dev(&self) -> bool {
        !self.is_bind() && self.target == Path::new("/dev")
    }

    /// Mounts it in the root that `top` is, and nowhere else.
    pub(crate) fn put(&self, top: &OwnedFd) -> Result<()> {
        if !self.needs_tree() {
            let place = self.find_place(top, Kind::Directory)?;
            return self.mount_at(&path_of(place.as_fd()));
        }
        let tree = self.make_tree()?;
        let place = self.find_place(top, place::kind_of(&tree)?)?;
        self.attach(&tree, &place)
    }

    /// Opens the target, and makes it if it is missing.
    pub(crate) fn find_place(&self, top: &OwnedFd, kind: Kind) -> Result<OwnedFd> {
        if self.plain {
            place::open_plain(top, &self.target, kind)
        } else {
            place::open(top, &self.target, kind)
        }
    }

    /// Whether one call of mount(2) is not enough. What comes after it would
    /// have to look the target up again, and whoever shares the root could put
    /// a link there meanwhile and lead us to another mount.
    #[must_use]
    pub fn needs_tree(&self) -> bool {
        self.is_bind() || !self.attributes.is_empty() || !self.propagation.is_empty()
    }

    /// The mount, complete, but nowhere yet; its descriptor holds it.
    ///
    /// # Errors
    /// Fails where the source is missing, or the kernel refuses.
    pub fn make_tree(&self) -> Result<OwnedFd> {
        let tree = if self.is_bind() {
            self.copy_source()?
        } else {
            self.create()?
        };
        self.adjust(&tree)?;
        Ok(tree)
    }

    /// Gives `tree` the attributes, before it has a path.
    ///
    /// # Errors
    /// Fails where the kernel refuses, as it does when a user namespace wants
    /// to undo what the host has set.
    pub fn adjust(&self, tree: &OwnedFd) -> Result<()> {
        if self.is_bind() && self.flags.contains(MountFlags::RDONLY) {
            set_read_only(tree, true)
                .with_context(|| format!("make {} read-only", self.target.display()))?;
        }
        for change in &self.attributes {
            change
                .apply(tree)
                .with_context(|| format!("change {}", self.target.display()))?;
        }
        Ok(())
    }

    /// The source of a bind as a mount of its own, which is nowhere yet.
    fn copy_source(&self) -> Result<OwnedFd> {
        let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        if self.flags.contains(MountFlags::REC) {
            flags |= OpenTreeFlags::AT_RECURSIVE;
        }
        tracing::info!(
            call = %format_args!(
                "open_tree(AT_FDCWD, {:?}, OPEN_TREE_CLONE|OPEN_TREE_CLOEXEC{})",
                self.source,
                if self.flags.contains(MountFlags::REC) { "|AT_RECURSIVE" } else { "" },
            ),
            "a bind begins as a copy of the mount, held by its descriptor"
        );
        open_tree(CWD, &self.source, flags)
            .with_context(|| format!("open {} on the host, to mount it", self.source.display()))
    }

    /// A new file system as a mount that is nowhere yet.
    fn create(&self) -> Result<OwnedFd> {
        tracing::info!(
            call = %format_args!("fsopen({:?}, FSOPEN_CLOEXEC)", self.fstype),
            "a file system is asked for in steps, and held by its descriptor"
        );
        let context = fsopen(&*self.fstype, FsOpenFlags::FSOPEN_CLOEXEC)
            .with_context(|| format!("{}: open the type {}", self.name(), self.fstype))?;
        self.configure(&context)
            .map_err(|errno| match complaint(&context) {
                Some(text) => anyhow::Error::new(errno).context(text),
                None => errno.into(),
            })
            .with_context(|| self.name())?;
        tracing::info!(
            call = %format_args!("fsmount({}, FSMOUNT_CLOEXEC, …)", context.as_raw_fd()),
            "{}", self.purpose()
        );
        let attributes = MountAttrFlags::from_bits_retain(attributes::of_flags(self.flags) as u32);
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).with_context(|| self.name())
    }

    fn configure(&self, context: &OwnedFd) -> Result<(), Errno> {
        fsconfig_set_string(context, "source", &*self.source)?;
        for (flag, key) in SUPERBLOCK_FLAGS {
            if self.flags.contains(MountFlags::from_bits_retain(flag)) {
                fsconfig_set_flag(context, key)?;
            }
        }
        for option in options(&self.data) {
            match option.split_once('=') {
                Some((key, value)) => fsconfig_set_string(context, key, value.trim_matches('"'))?,
                None => fsconfig_set_flag(context, option)?,
            }
        }
        fsconfig_create(context)
    }

    /// Moves a tree to its place.
    ///
    /// # Errors
    /// Fails where the kernel refuses: a directory stands on no file, nor a
    /// file on a directory.
    pub fn attach(&self, tree: &OwnedFd, place: &OwnedFd) -> Result<()> {
        move_tree(tree, place, self.purpose()).with_context(|| self.name())?;
        if self.propagation.is_empty() {
            return Ok(());
        }
        // Not before: what comes into a shared mount becomes shared itself.
        Attributes::propagation(self.propagation)
            .apply(tree)
            .with_context(|| format!("change the propagation of {}", self.target.display()))
    }

    fn name(&self) -> String {
        let (source, target) = (self.source.display(), self.target.display());
        format!("mount {source} on {target} in the container")
    }

    /// One call of mount(2), on an open place.
    ///
    /// # Errors
    /// Fails where the kernel refuses.
    pub fn mount_on(&self, place: &OwnedFd) -> Result<()> {
        self.explain(self.call(&path_of(place.as_fd()), &self.data))
    }

    /// The same with `place` as its second argument.
    pub(crate) fn mount_at(&self, place: &Path) -> Result<()> {
        let mut done = self.call(place, &self.data);
        // In a user namespace that maps only one's own group there is no group
        // 5, and then terminals belong to the user alone.
        if self.fstype == "devpts" && refused(&done, libc::EINVAL) {
            done = self.call(place, "newinstance,ptmxmode=0666,mode=0600");
        }
        self.explain(done)
    }

    /// In a user namespace the kernel mounts no new proc or sysfs where parts
    /// of the old one are covered, lest it uncover them.
    fn explain(&self, done: io::Result<()>) -> Result<()> {
        let masked = ["proc", "sysfs"].contains(&&*self.fstype) && refused(&done, libc::EPERM);
        done.with_context(|| {
            let hint = if masked {
                "; inside another container, start that one with --security-opt systempaths=unconfined"
            } else {
                ""
            };
            self.name() + hint
        })
    }

    fn call(&self, place: &Path, data: &str) -> io::Result<()> {
        tracing::info!(
            call = %format_args!(
                "mount({:?}, {:?}, {}, {}, {})",
                self.source,
                self.target,
                if self.fstype.is_empty() { "NULL".to_owned() } else { format!("{:?}", self.fstype) },
                names(self.flags),
                if data.is_empty() { "NULL".to_owned() } else { format!("{data:?}") },
            ),
            "{}", self.purpose()
        );
        // A type is always given: without one sys-mount would try each that
        // the kernel knows. The kernel ignores MS_RDONLY for a new bind.
        sys_mount::Mount::builder()
            .fstype(&*self.fstype)
            .flags(self.flags)
            .data(data)
            .mount(&self.source, place)
            .map(drop)
    }

    fn purpose(&self) -> &'static str {
        match &*self.fstype {
            "" if self.target == Path::new("/") => "pivot_root wants a mount point",
            "" => "the container sees this file of the host's",
            "proc" => "the processes of the container's pid namespace",
            "sysfs" => "the devices of the container's net namespace",
            "devpts" => "terminals that no other container can open",
            "mqueue" => "the message queues of the container's ipc namespace",
            "cgroup2" => "the container may look at its own limits",
            _ => "files in memory that go with the container",
        }
    }
}

fn refused(done: &io::Result<()>, errno: i32) -> bool {
    matches!(done, Err(error) if error.raw_os_error() == Some(errno))
}

/// What mount(2) takes as flags, and a file system being made as words.
const SUPERBLOCK_FLAGS: [(libc::c_ulong, &str); 5] = [
    (libc::MS_RDONLY, "ro"),
    (libc::MS_SYNCHRONOUS, "sync"),
    (libc::MS_DIRSYNC, "dirsync"),
    (libc::MS_MANDLOCK, "mand"),
    (libc::MS_LAZYTIME, "lazytime"),
];

/// The options between the commas; a comma in quotes belongs to a label.
fn options(data: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    data.split(move |letter| {
        quoted ^= letter == '"';
        letter == ',' && !quoted
    })
    .filter(|option| !option.is_empty())
}

/// What the kernel says about a refused file system: one line, after its
/// severity.
fn complaint(context: &OwnedFd) -> Option<String> {
    let mut line = [0; 256];
    let length = rustix::io::read(context, &mut line).ok()?;
    let text = String::from_utf8_lossy(line.get(2..length)?);
    Some(text.trim_end().to_owned())
}

/// The flags as the man page writes them.
fn names(flags: MountFlags) -> String {
    let names: Vec<String> = flags
        .iter_names()
        .map(|(name, _)| format!("MS_{name}"))
        .collect();
    if names.is_empty() {
        return "0".to_owned();
    }
    names.join("|")
}

/// Makes a mount read-only, and with `all` those below it too. A remount by
/// mount(2) would have to repeat every flag that the host has locked; in a
/// user namespace leaving one out is EPERM. mount_setattr(2) changes one.
pub(crate) fn set_read_only(mounted: &OwnedFd, all: bool) -> Result<()> {
    // task 02.4 {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    let mut flags = libc::AT_EMPTY_PATH;
    if all {
        flags |= libc::AT_RECURSIVE;
    }
    tracing::info!(
        call = %format_args!(
            "mount_setattr({}, \"\", AT_EMPTY_PATH{}, {{attr_set=MOUNT_ATTR_RDONLY}})",
            mounted.as_raw_fd(),
            if all { "|AT_RECURSIVE" } else { "" },
        ),
        "the container may read it, and no more"
    );
    Ok(mount_setattr(mounted, flags, &attributes)?)
    // } todo!("task 02.4: make a mount read-only (book: 2.4)")
}
