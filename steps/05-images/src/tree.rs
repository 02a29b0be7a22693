//! A tree of files as a tar stream.
//!
//! Whoever lives in the tree may change it meanwhile. So each file is pinned first (`O_PATH`, which
//! follows nothing and opens nothing), then looked at, and only what proved to be a directory or a
//! regular file is opened: a name that becomes a fifo or a device in between is never opened as one.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, ensure};
use rustix::fs::{Dir, FileType, Mode, OFlags, Stat, Timespec};
use rustix::io::Errno;
use tar::EntryType;

use crate::archiving::{self, About, EPOCH};
use crate::inside::shown;
use crate::overlay::{Attributes, Mark};

/// Linux takes no longer path in one call (path_resolution(7)), and few programs take a longer one
/// at all.
const LONGEST: usize = 4096;
/// The most that attributes of one file may take (xattr(7)).
const ATTRIBUTES: usize = 64 << 10;

/// Writes trees to one tar stream. Of several names of a file, the others are links to the first.
pub struct Packer<'a> {
    to: &'a mut dyn Write,
    /// A procfs of this process's pid namespace.
    proc: &'a OwnedFd,
    /// What is in a layer in overlayfs' form, and is to become one in tar's.
    layer: Option<Attributes>,
    links: HashMap<(u64, u64), Vec<u8>>,
    members: u64,
}

/// What was found at a name.
struct Found {
    pin: OwnedFd,
    stat: Stat,
    kind: FileType,
}

impl<'a> Packer<'a> {
    /// Begins a stream. In `proc`, an open `/proc`, this process finds its own descriptors.
    pub fn new(to: &'a mut dyn Write, proc: &'a OwnedFd) -> Self {
        Self {
            to,
            proc,
            layer: None,
            links: HashMap::new(),
            members: 0,
        }
    }

    /// The same for an unpacked layer, with what it says of those below.
    pub(crate) fn of_layer(to: &'a mut dyn Write, proc: &'a OwnedFd, marks: Attributes) -> Self {
        Self {
            layer: Some(marks),
            ..Self::new(to, proc)
        }
    }

    /// Adds a file that was pinned (`O_PATH|O_NOFOLLOW`), with all below it, called `path` in the
    /// archive. An empty path is the archive's own root; what is below it is called by its name.
    ///
    /// # Errors
    /// A path of more than 4096 bytes, and whatever the file system refuses.
    pub fn add(&mut self, file: OwnedFd, path: &[u8]) -> Result<()> {
        let found = look(file).with_context(|| format!("look at {}", shown(path)))?;
        self.pack(&found, path)
    }

    /// Ends the stream, and returns how many members it has, its own root not counted.
    ///
    /// # Errors
    /// It cannot be written to.
    pub fn finish(self) -> Result<u64> {
        archiving::end(self.to)?;
        Ok(self.members)
    }

    fn pack(&mut self, found: &Found, path: &[u8]) -> Result<()> {
        let what = || format!("pack {}", shown(path));
        ensure!(
            path.len() <= LONGEST,
            "{} is nested too deeply: its path has more than {LONGEST} bytes",
            shown(path)
        );
        let Found { pin, stat, kind } = found;
        match kind {
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let dir = rustix::fs::openat(pin, ".", flags, Mode::empty()).with_context(what)?;
                self.directory(&dir, stat, path)
            }
            FileType::RegularFile => {
                if let Some(first) = self.first_name(stat, path) {
                    return self.link(stat, path, first);
                }
                let file = self.reopen(pin).with_context(what)?;
                self.regular(&file, stat, path)
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(pin, "", Vec::new()).with_context(what)?;
                if let Some(first) = self.first_name(stat, path) {
                    return self.link(stat, path, first);
                }
                let mut about = Self::about(stat, EntryType::Symlink, path);
                about.link = target.into_bytes();
                self.write(&about, &mut io::empty())
            }
            FileType::Socket => {
                // Nobody could connect to one that comes out of an archive.
                tracing::debug!("{} is a socket, and left out", shown(path));
                Ok(())
            }
            FileType::CharacterDevice if self.layer.is_some() && stat.st_rdev == 0 => {
                self.whiteout(path)
            }
            _ => {
                let kind = match kind {
                    FileType::Fifo => EntryType::Fifo,
                    FileType::BlockDevice => EntryType::Block,
                    _ => EntryType::Char,
                };
                if let Some(first) = self.first_name(stat, path) {
                    return self.link(stat, path, first);
                }
                let mut about = Self::about(stat, kind, path);
                if kind != EntryType::Fifo {
                    about.device = (
                        rustix::fs::major(stat.st_rdev),
                        rustix::fs::minor(stat.st_rdev),
                    );
                }
                self.write(&about, &mut io::empty())
            }
        }
    }

    /// The directory, its mark, and then what is in it by name: the same tree gives the same stream.
    fn directory(&mut self, dir: &OwnedFd, stat: &Stat, path: &[u8]) -> Result<()> {
        let mut called = if path.is_empty() {
            b".".to_vec()
        } else {
            path.to_vec()
        };
        called.push(b'/');
        let mut about = Self::about(stat, EntryType::Directory, &called);
        about.xattrs = self.attributes(dir.as_fd())?;
        let opaque = match self.layer {
            Some(marks) => {
                refuse_redirects(marks, dir.as_fd(), path)?;
                marks.of(dir.as_fd(), Mark::Opaque)?.as_deref() == Some(b"y")
            }
            None => false,
        };
        match path.is_empty() {
            true => archiving::append(self.to, &about, &mut io::empty())?,
            false => self.write(&about, &mut io::empty())?,
        }
        if opaque {
            self.say(&join(path, b".wh..wh..opq"))?;
        }
        if is_kernels(dir)? {
            return Ok(());
        }
        for name in names(dir)? {
            let path = join(path, &name);
            match find(dir.as_fd(), &name) {
                // It has just been removed.
                Err(Errno::NOENT) => {}
                found => {
                    let found = found.with_context(|| format!("open {}", shown(&path)))?;
                    if self.layer.is_some() && name.starts_with(b".wh.") {
                        let path = shown(&path);
                        tracing::warn!("{path} is left out: in a layer, its name is an order");
                        continue;
                    }
                    self.pack(&found, &path)?;
                }
            }
        }
        Ok(())
    }

    fn regular(&mut self, file: &File, stat: &Stat, path: &[u8]) -> Result<()> {
        if let Some(marks) = self.layer {
            refuse_redirects(marks, file.as_fd(), path)?;
            if stat.st_size == 0 && marks.of(file.as_fd(), Mark::Whiteout)?.is_some() {
                return self.whiteout(path);
            }
        }
        let mut about = Self::about(stat, EntryType::Regular, path);
        about.size = u64::try_from(stat.st_size).unwrap_or(0);
        about.xattrs = self.attributes(file.as_fd())?;
        self.write(&about, &mut &*file)
    }

    /// What is said of a file that was removed: an empty one beside it.
    fn whiteout(&mut self, path: &[u8]) -> Result<()> {
        let (dir, name) = crate::inside::split(path);
        self.say(&join(dir, &[b".wh.", name].concat()))
    }

    fn say(&mut self, path: &[u8]) -> Result<()> {
        let about = About {
            path: path.to_vec(),
            link: Vec::new(),
            kind: EntryType::Regular,
            mode: 0o600,
            uid: 0,
            gid: 0,
            mtime: EPOCH,
            device: (0, 0),
            xattrs: Vec::new(),
            size: 0,
        };
        self.write(&about, &mut io::empty())
    }

    fn link(&mut self, stat: &Stat, path: &[u8], first: Vec<u8>) -> Result<()> {
        let mut about = Self::about(stat, EntryType::Link, path);
        about.link = first;
        self.write(&about, &mut io::empty())
    }

    /// The path under which a file with several names is in the stream already.
    fn first_name(&mut self, stat: &Stat, path: &[u8]) -> Option<Vec<u8>> {
        if stat.st_nlink < 2 {
            return None;
        }
        let known = self.links.get(&(stat.st_dev, stat.st_ino)).cloned();
        if known.is_none() {
            self.links.insert((stat.st_dev, stat.st_ino), path.to_vec());
        }
        known
    }

    fn about(stat: &Stat, kind: EntryType, path: &[u8]) -> About {
        About {
            path: path.to_vec(),
            link: Vec::new(),
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: Timespec {
                tv_sec: stat.st_mtime,
                tv_nsec: stat.st_mtime_nsec.cast_signed(),
            },
            device: (0, 0),
            xattrs: Vec::new(),
            size: 0,
        }
    }

    fn write(&mut self, about: &About, content: &mut dyn io::Read) -> Result<()> {
        self.members += 1;
        archiving::append(self.to, about, content)
    }

    /// Opens for reading what was pinned. By procfs, since there the kernel knows which file is
    /// meant (proc_pid_fd(5)).
    fn reopen(&self, pin: &OwnedFd) -> Result<File> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let path = format!("self/fd/{}", pin.as_raw_fd());
        Ok(File::from(rustix::fs::openat(
            self.proc,
            path,
            flags,
            Mode::empty(),
        )?))
    }

    /// What others than the kernel and overlayfs set, and the one of the kernel's that layers have.
    fn attributes(&self, file: BorrowedFd<'_>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut list = vec![0; ATTRIBUTES];
        let length = match rustix::fs::flistxattr(file, &mut list[..]) {
            Err(Errno::OPNOTSUPP | Errno::PERM) => 0,
            length => length.context("list the extended attributes")?,
        };
        let list = list.get(..length).unwrap_or_default();
        let mut found = Vec::new();
        for name in list.split(|&byte| byte == 0) {
            let wanted = name == b"security.capability"
                || name.starts_with(b"user.") && !name.starts_with(b"user.overlay.");
            if !wanted {
                continue;
            }
            if let Some(value) = value_of(file, name)? {
                found.push((name.to_vec(), value));
            }
        }
        found.sort();
        Ok(found)
    }
}

/// The value of an attribute, if it is there.
pub(crate) fn value_of(file: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Vec<u8>>> {
    let mut value = vec![0; ATTRIBUTES];
    match rustix::fs::fgetxattr(file, name, &mut value[..]) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM) => Ok(None),
        Err(errno) => Err(errno).with_context(|| format!("read the attribute {}", shown(name))),
    }
}

fn find(parent: BorrowedFd<'_>, name: &[u8]) -> Result<Found, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    look(rustix::fs::openat(parent, name, flags, Mode::empty())?)
}

fn look(pin: OwnedFd) -> Result<Found, Errno> {
    let stat = rustix::fs::fstat(&pin)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    Ok(Found { pin, stat, kind })
}

/// The names in a directory, sorted.
pub(crate) fn names(dir: &OwnedFd) -> Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir).context("list a directory")? {
        let entry = entry.context("list a directory")?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort();
    Ok(names)
}

/// Whether what is in a directory is made up by the kernel: nobody's files (statfs(2)).
fn is_kernels(dir: &OwnedFd) -> Result<bool> {
    const KERNELS: [u32; 10] = [
        0x9fa0,      // proc
        0x6265_6572, // sysfs
        0x0027_e0eb, // cgroup
        0x6367_7270, // cgroup2
        0x1cd1,      // devpts
        0x1980_0202, // mqueue
        0x6462_6720, // debugfs
        0x7472_6163, // tracefs
        0x7363_6673, // securityfs
        0xcafe_4a11, // bpf
    ];
    let kind = rustix::fs::fstatfs(dir)
        .context("look at a file system")?
        .f_type;
    // Some architectures' is narrower, and its sign of no meaning.
    Ok(KERNELS.contains(&(kind as u32)))
}

/// overlayfs can leave the content of a renamed directory, or of a file that only changed its
/// owner, in a layer below: a tar stream cannot say that. We don't ask for either, but a kernel may
/// be built to do so unasked (overlayfs.rst, "redirect_dir", "metacopy").
fn refuse_redirects(marks: Attributes, file: BorrowedFd<'_>, path: &[u8]) -> Result<()> {
    for (mark, option) in [
        (Mark::Redirect, "redirect_dir"),
        (Mark::Metacopy, "metacopy"),
    ] {
        ensure!(
            marks.of(file, mark)?.is_none(),
            "{} lies in a layer below under another name or owner; what helps: \
             echo N > /sys/module/overlay/parameters/{option}, and a new container",
            shown(path)
        );
    }
    Ok(())
}

fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    match dir.is_empty() {
        true => name.to_vec(),
        false => [dir, b"/", name].concat(),
    }
}
