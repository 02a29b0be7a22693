//! One layer, unpacked into a directory of its own.
//!
//! The directory holds the layer in overlayfs' form (Documentation/filesystems/overlayfs.rst): what
//! a layer removes from those below, tar says with a file `.wh.NAME` and overlayfs with a character
//! device 0/0 called `NAME`; a directory that hides the one below, tar marks with a file
//! `.wh..wh..opq` in it and overlayfs with the attribute `overlay.opaque`.
//!
//! Whoever made the layer chose each name, link and order. So every path is resolved by the kernel
//! as if the layer's directory were `/`, down to the last directory; the last name is then made or
//! removed in that directory, following nothing.

use std::fs::File;
use std::io::BufRead;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use tar::EntryType;

use crate::archive::{Member, Tar};
use crate::inside::{self, clean, shown, split};
use crate::overlay::Attributes;
use crate::scratch::remove_tree_at;

/// How many symlinks may lead to one another, as for the kernel (path_resolution(7)).
const LINKS: u32 = 40;

/// What an unpacked layer came to.
#[derive(Default, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Bytes in its files.
    pub(crate) size: u64,
    /// Files that keep us as their owner, since theirs has no id here.
    pub(crate) owners: u64,
    /// Devices that could not be made.
    pub(crate) devices: u64,
    /// Extended attributes that could not be set, or may not come from a layer.
    pub(crate) xattrs: u64,
}

impl Outcome {
    /// Adds another layer's.
    pub(crate) fn add(&mut self, other: &Self) {
        self.size = self.size.saturating_add(other.size);
        self.owners += other.owners;
        self.devices += other.devices;
        self.xattrs += other.xattrs;
    }

    /// Says once what could not be done; nothing where all could.
    pub(crate) fn warn(&self) {
        let left_out = [
            (
                self.owners,
                "files keep another owner (ids not mapped here)",
            ),
            (
                self.devices,
                "devices were left out (mknod is refused here)",
            ),
            (self.xattrs, "extended attributes were left out"),
        ];
        let left_out = left_out.iter().filter(|(count, _)| *count > 0);
        let left_out: Vec<_> = left_out
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        if !left_out.is_empty() {
            tracing::warn!("{}", left_out.join(", "));
        }
    }
}

/// Unpacks a tar stream into the empty directory `into`, and reads the stream to its end.
///
/// # Errors
/// A damaged archive, a name that would lead out of the layer, a hard link to nothing, and what
/// the file system refuses. What was unpacked until then stays: the caller owns the directory.
pub(crate) fn unpack(stream: impl BufRead, into: &Path, attributes: Attributes) -> Result<Outcome> {
    tracing::info!(
        call = %format_args!("openat2({:?}, …, RESOLVE_IN_ROOT|RESOLVE_NO_MAGICLINKS)", into),
        "no name or link in the layer may lead out of its directory"
    );
    let mut layer = Layer {
        root: inside::directory(into)?,
        attributes,
        last: None,
        directories: Vec::new(),
        outcome: Outcome::default(),
    };
    let mut tar = Tar::new(stream);
    while let Some(member) = tar.next()? {
        layer
            .apply(&member, &mut tar)
            .with_context(|| format!("unpack {}", shown(&member.path)))?;
    }
    tar.drain()?;
    layer.finish()
}

/// A layer that is being unpacked.
struct Layer {
    root: OwnedFd,
    attributes: Attributes,
    /// The directory of the member before: most often the next one's too.
    last: Option<(Vec<u8>, Rc<OwnedFd>)>,
    /// Directories and their times, which every file made in them would change.
    directories: Vec<(Vec<u8>, Timespec)>,
    outcome: Outcome,
}

/// What a member's name asks for.
enum Purpose<'a> {
    /// To be there.
    Appear,
    /// That a name is no longer there.
    Hide(&'a [u8]),
    /// That nothing of the directory below is there.
    Cover,
    /// Nothing: aufs' own files, in layers that docker once made with it.
    Ignore,
}

impl Layer {
    fn apply(&mut self, member: &Member, tar: &mut Tar<impl BufRead>) -> Result<()> {
        let path = clean(&member.path)?;
        let (dir, name) = split(&path);
        match purpose(dir, name)? {
            Purpose::Ignore => Ok(()),
            Purpose::Cover => self.cover(dir),
            Purpose::Hide(hidden) => self.hide(dir, hidden),
            Purpose::Appear if name.is_empty() => self.top(member),
            Purpose::Appear => self.appear(dir, name, member, tar),
        }
    }

    /// The layer's own directory, as `./`. Anything else of that name would take its place
    /// (CVE-2021-29136).
    fn top(&mut self, member: &Member) -> Result<()> {
        ensure!(is_directory(member), "the root of a layer is a directory");
        let root = self.directory(b"")?;
        self.describe(&root, b".", member)?;
        self.directories.push((Vec::new(), member.mtime));
        Ok(())
    }

    fn appear(
        &mut self,
        dir: &[u8],
        name: &[u8],
        member: &Member,
        tar: &mut Tar<impl BufRead>,
    ) -> Result<()> {
        let parent = self.directory(dir)?;
        match member.kind {
            _ if is_directory(member) => {
                self.make_directory(&parent, name)?;
                self.directories.push((clean(&member.path)?, member.mtime));
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let file = self.replace(&parent, name, || create(&parent, name))?;
                tar.fill(member, &file)?;
                self.outcome.size = self.outcome.size.saturating_add(member.size);
            }
            EntryType::Symlink => self.replace(&parent, name, || {
                rustix::fs::symlinkat(&member.link[..], &parent, name)
            })?,
            EntryType::Link => return self.link(&parent, name, &member.link),
            EntryType::Fifo => self.make_node(&parent, name, FileType::Fifo, member)?,
            EntryType::Char | EntryType::Block => {
                let kind = match member.kind {
                    EntryType::Char => FileType::CharacterDevice,
                    _ => FileType::BlockDevice,
                };
                match self.make_node(&parent, name, kind, member) {
                    // A user namespace grants no devices (mknod(2), EPERM).
                    Err(error) if error.downcast_ref() == Some(&Errno::PERM) => {
                        self.outcome.devices += 1;
                        return Ok(());
                    }
                    made => made?,
                }
            }
            other => bail!("a member of the unknown type {:?}", other.as_byte() as char),
        }
        self.describe(&parent, name, member)
    }

    /// The directory at `path`, made with all that leads to it where it is missing.
    fn directory(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>> {
        if let Some((known, dir)) = &self.last
            && known == path
        {
            return Ok(Rc::clone(dir));
        }
        let dir = match self.resolve(path) {
            Err(Errno::NOENT | Errno::NOTDIR) => {
                self.make_path(path, 0)?;
                self.resolve(path)
            }
            result => result,
        };
        let dir = Rc::new(dir.with_context(|| format!("open the directory {}", shown(path)))?);
        self.last = Some((path.to_vec(), Rc::clone(&dir)));
        Ok(dir)
    }

    fn resolve(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        inside::open(&self.root, path, OFlags::PATH | OFlags::DIRECTORY)
    }

    /// `mkdir -p`. A symlink that leads nowhere here may lead to a directory of a layer below, as
    /// `/var/run` to `/run` does: then this layer needs that directory too.
    fn make_path(&mut self, path: &[u8], links: u32) -> Result<()> {
        ensure!(links < LINKS, Errno::LOOP);
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        for end in ends.map(|(end, _)| end).chain([path.len()]) {
            let prefix = &path[..end];
            if self.resolve(prefix).is_ok() {
                continue;
            }
            let (dir, name) = split(prefix);
            let parent = self.resolve(dir)?;
            if kind(&parent, name)? == Some(FileType::Symlink) {
                let target = rustix::fs::readlinkat(&parent, name, Vec::new())?.into_bytes();
                let target = match target.as_slice() {
                    [b'/', rest @ ..] => rest.to_vec(),
                    _ => [dir, &target].join(&b'/'),
                };
                self.make_path(&target, links + 1)?;
            } else {
                let whiteout = is_whiteout(&parent, name)?;
                let free = whiteout || kind(&parent, name)?.is_none();
                ensure!(free, "{} is not a directory", shown(prefix));
                self.make_directory(&parent, name)?;
                let mode = Mode::from_raw_mode(0o755);
                rustix::fs::chmodat(&parent, name, mode, AtFlags::empty())?;
            }
        }
        Ok(())
    }

    /// A directory stays if there is one. One in place of something else hides what the layers
    /// below have there, as that something did.
    fn make_directory(&mut self, parent: &OwnedFd, name: &[u8]) -> Result<()> {
        let make = || rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755));
        match make() {
            Err(Errno::EXIST) if kind(parent, name)? == Some(FileType::Directory) => Ok(()),
            Err(Errno::EXIST) => {
                self.remove(parent, name)?;
                make()?;
                self.attributes.make_opaque(&at(parent, name))
            }
            made => Ok(made?),
        }
    }

    /// Makes something that is not a directory, in place of whatever is there.
    fn replace<T>(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        make: impl Fn() -> Result<T, Errno>,
    ) -> Result<T> {
        match make() {
            Err(Errno::EXIST) => {
                self.remove(parent, name)?;
                Ok(make()?)
            }
            made => Ok(made?),
        }
    }

    fn remove(&mut self, parent: &OwnedFd, name: &[u8]) -> Result<()> {
        self.last = None;
        Ok(remove_tree_at(parent.as_fd(), name)?)
    }

    /// A second name for a file of this layer; for a symlink, of the link itself.
    fn link(&mut self, parent: &OwnedFd, name: &[u8], target: &[u8]) -> Result<()> {
        let missing = || {
            format!(
                "the hard link's target {} is not in the layer",
                shown(target)
            )
        };
        let path = clean(target)?;
        let (dir, file) = split(&path);
        let source = self.resolve(dir).with_context(missing)?;
        ensure!(!is_whiteout(&source, file)?, missing());
        let link = || rustix::fs::linkat(&source, file, parent, name, AtFlags::empty());
        match self.replace(parent, name, link) {
            Err(error) if error.downcast_ref() == Some(&Errno::NOENT) => bail!(missing()),
            made => made,
        }
    }

    fn make_node(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        kind: FileType,
        member: &Member,
    ) -> Result<()> {
        let device = rustix::fs::makedev(member.device.0, member.device.1);
        self.replace(parent, name, || {
            rustix::fs::mknodat(parent, name, kind, Mode::RUSR, device)
        })
    }

    /// Leaves a whiteout, in a directory that is marked as having some. What this layer itself puts
    /// in that place counts, wherever in the stream it stands (OCI image-spec, layer.md,
    /// "Whiteouts"): a directory there hides the one below, anything else does so by being there.
    fn hide(&mut self, dir: &[u8], name: &[u8]) -> Result<()> {
        // task 05.3 {
        let parent = self.directory(dir)?;
        match kind(&parent, name)? {
            Some(FileType::Directory) => self.attributes.make_opaque(&at(&parent, name)),
            Some(_) => Ok(()),
            None => {
                let (kind, mode) = (FileType::CharacterDevice, Mode::empty());
                rustix::fs::mknodat(&parent, name, kind, mode, 0)
                    .context("make a whiteout (mknod of a character device 0/0)")?;
                self.attributes.mark_whiteouts(&at(&parent, b"."))
            }
        }
        // } todo!("task 05.3: leave a whiteout for a removed file (book: 5.3)")
    }

    fn cover(&mut self, dir: &[u8]) -> Result<()> {
        let dir = self.directory(dir)?;
        self.attributes.make_opaque(&at(&dir, b"."))
    }

    /// Owner, mode, attributes, time: in this order, because chown(2) takes the setuid bits and
    /// the file capabilities away. By name, since there is no descriptor for a link or a device.
    fn describe(&mut self, parent: &OwnedFd, name: &[u8], member: &Member) -> Result<()> {
        let (uid, gid) = (Uid::from_raw(member.uid), Gid::from_raw(member.gid));
        let mut mode = member.mode;
        match rustix::fs::chownat(
            parent,
            name,
            Some(uid),
            Some(gid),
            AtFlags::SYMLINK_NOFOLLOW,
        ) {
            // No id for it in this user namespace, or no right to give files away. The owner is
            // then another than was meant: nothing may run with his rights.
            Err(Errno::INVAL | Errno::PERM) => {
                self.outcome.owners += 1;
                mode &= 0o1777;
            }
            result => result.context("set the owner")?,
        }
        if member.kind != EntryType::Symlink {
            rustix::fs::chmodat(parent, name, Mode::from_raw_mode(mode), AtFlags::empty())
                .context("set the mode")?;
        }
        for (key, value) in &member.xattrs {
            self.set_xattr(&at(parent, name), key, value)?;
        }
        let times = Timestamps {
            last_access: member.mtime,
            last_modification: member.mtime,
        };
        rustix::fs::utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)
            .context("set the time")
    }

    /// overlayfs takes its orders from attributes: one that came with a layer could show a file
    /// under another's name, or from another layer. They are ours to set.
    fn set_xattr(&mut self, path: &[u8], key: &[u8], value: &[u8]) -> Result<()> {
        let ours = key.starts_with(b"trusted.") || key.starts_with(b"user.overlay.");
        let set = match ours {
            true => Err(Errno::PERM),
            false => rustix::fs::lsetxattr(path, key, value, XattrFlags::empty()),
        };
        match set {
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::INVAL) => self.outcome.xattrs += 1,
            set => set.with_context(|| format!("set the attribute {}", shown(key)))?,
        }
        Ok(())
    }

    /// Gives the directories their times, now that nothing more is made in them.
    fn finish(self) -> Result<Outcome> {
        for (path, mtime) in &self.directories {
            let (dir, name) = match path.is_empty() {
                true => (&b""[..], &b"."[..]),
                false => split(path),
            };
            let times = Timestamps {
                last_access: *mtime,
                last_modification: *mtime,
            };
            // By now something else may have taken its place, and has its own time.
            if let Ok(parent) = self.resolve(dir)
                && kind(&parent, name)? == Some(FileType::Directory)
            {
                rustix::fs::utimensat(&parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)
                    .with_context(|| format!("set the time of {}", shown(path)))?;
            }
        }
        Ok(self.outcome)
    }
}

/// Reads whiteouts out of a member's name.
fn purpose<'a>(dir: &[u8], name: &'a [u8]) -> Result<Purpose<'a>> {
    for part in dir.split(|&byte| byte == b'/') {
        match part {
            [b'.', b'w', b'h', b'.', b'.', b'w', b'h', b'.', ..] => return Ok(Purpose::Ignore),
            [b'.', b'w', b'h', b'.', ..] => bail!("a member inside a whiteout"),
            _ => {}
        }
    }
    match name.strip_prefix(b".wh.") {
        None => Ok(Purpose::Appear),
        Some(b".wh..opq") => Ok(Purpose::Cover),
        Some(b"" | b"." | b"..") => bail!("a whiteout of a directory's own name"),
        Some(rest) if rest.starts_with(b".wh.") => Ok(Purpose::Ignore),
        Some(hidden) => Ok(Purpose::Hide(hidden)),
    }
}

/// Archives from before 1988 know no type for directories, and say it with a slash.
fn is_directory(member: &Member) -> bool {
    let old = member.kind == EntryType::Regular && member.path.ends_with(b"/");
    old || member.kind == EntryType::Directory
}

fn create(parent: &OwnedFd, name: &[u8]) -> Result<File, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR).map(File::from)
}

/// What is at a name, nothing followed.
fn kind(parent: &OwnedFd, name: &[u8]) -> Result<Option<FileType>, Errno> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_whiteout(parent: &OwnedFd, name: &[u8]) -> Result<bool, Errno> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => {
            let kind = FileType::from_raw_mode(stat.st_mode);
            Ok(kind == FileType::CharacterDevice && stat.st_rdev == 0)
        }
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// A name in an open directory, for the calls that know no `dirfd`: setxattr(2) and its like.
pub(crate) fn at(parent: &OwnedFd, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", parent.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    path
}

#[cfg(test)]
mod tests;
