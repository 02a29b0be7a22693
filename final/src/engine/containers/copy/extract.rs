//! An archive becomes files in a directory where others may be at work.
//!
//! The directory is open, and each name is made in a directory that is: below the first, symbolic
//! links are not followed to anything that the archive itself describes, and a file is given its
//! owner, mode and times through its own descriptor. So whoever puts a link in the place of a name
//! that was just made finds that nobody went that way.

use std::collections::HashSet;
use std::fs::File;
use std::io::BufRead;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use anyhow::{Context, Result, bail, ensure};
use images::{Member, Tar};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;
use tar::EntryType;

use super::place::split;
use crate::runtime::look_up;

/// Whose the files will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// As the archive says.
    Archives,
    /// Root's.
    Root,
    /// Whoever's this process is.
    Ours,
}

/// What is different in a container and on the host.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    owner: Owner,
    /// Whether a link that was there before leads on, as `/var/run` does to `/run`.
    follow: bool,
    /// Whether devices are made, and programs that run with their owner's rights.
    powers: bool,
}

impl Rules {
    /// All that is made is the container's, whatever it is.
    pub(super) fn in_container(owner: Owner) -> Rules {
        Rules {
            owner,
            follow: true,
            powers: true,
        }
    }

    /// A container must not be able to lay a device or a set-user-ID program of its own before the
    /// host's users, unless somebody wants it all as it is.
    pub(super) fn on_host(archive: bool) -> Rules {
        Rules {
            owner: if archive {
                Owner::Archives
            } else {
                Owner::Ours
            },
            follow: false,
            powers: archive,
        }
    }
}

/// Unpacks an archive. `place` says in which open directory, and what the archive's root is called
/// there (nothing: its content goes there), once it is known whether that root is a directory.
pub(super) fn extract(
    tar: &mut Tar<impl BufRead>,
    rules: Rules,
    place: impl FnOnce(bool) -> Result<(OwnedFd, Vec<u8>)>,
) -> Result<()> {
    let Some(first) = tar.next()? else {
        place(true)?;
        return Ok(());
    };
    let (dir, name) = place(first.kind == EntryType::Directory)?;
    let mut extraction = Extraction {
        dir: Rc::new(dir),
        name: name.clone(),
        rules,
        last: None,
        described: HashSet::new(),
        brought: HashSet::new(),
        directories: Vec::new(),
        left_out: 0,
    };
    let mut next = Some(first);
    while let Some(member) = next {
        // The archive's root has no name of its own.
        let path = Some(&member.path).filter(|path| !path.is_empty());
        let what = || format!("copy {}", path.unwrap_or(&name).escape_ascii());
        extraction.apply(&member, tar).with_context(what)?;
        next = tar.next()?;
    }
    extraction.finish()
}

struct Extraction {
    dir: Rc<OwnedFd>,
    name: Vec<u8>,
    rules: Rules,
    /// The directory of the member before: most often the next one's too.
    last: Option<(Vec<u8>, Rc<OwnedFd>)>,
    /// The directories that the archive has had.
    described: HashSet<Vec<u8>>,
    /// The links that it has brought: they are no way to anywhere.
    brought: HashSet<Vec<u8>>,
    /// Their modes and times: what is made in them changes the one, and may need another.
    directories: Vec<(Vec<u8>, u32, Timespec)>,
    /// What could not be made.
    left_out: u64,
}

impl Extraction {
    fn apply(&mut self, member: &Member, tar: &mut Tar<impl BufRead>) -> Result<()> {
        let path = self.path(&member.path)?;
        if path.is_empty() {
            ensure!(
                member.kind == EntryType::Directory,
                "the archive's root is not a directory"
            );
            return Ok(());
        }
        let (dir, name) = split(&path);
        let parent = self.directory(dir)?;
        match member.kind {
            EntryType::Directory => self.make_directory(&parent, &path, member),
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let file = replace(&parent, name, || create(&parent, name))?;
                tar.fill(member, &file)?;
                self.describe(file.as_fd(), member)?;
                rustix::fs::fchmod(&file, self.mode(member)).context("set the mode")?;
                rustix::fs::futimens(&file, &times(member.mtime)).context("set the time")
            }
            EntryType::Symlink => {
                let link = || rustix::fs::symlinkat(&member.link[..], &parent, name);
                replace(&parent, name, link)?;
                self.brought.insert(path.clone());
                self.describe_name(&parent, name, member)
            }
            EntryType::Link => {
                let target = self.path(&member.link)?;
                let (dir, file) = split(&target);
                let source = self.directory(dir)?;
                let link = || rustix::fs::linkat(&source, file, &parent, name, AtFlags::empty());
                replace(&parent, name, link)
            }
            EntryType::Fifo => self.make_node(&parent, name, FileType::Fifo, member),
            EntryType::Char => self.make_node(&parent, name, FileType::CharacterDevice, member),
            EntryType::Block => self.make_node(&parent, name, FileType::BlockDevice, member),
            other => bail!("a member of the unknown type {:?}", other.as_byte() as char),
        }
    }

    /// Where a member goes, from the open directory.
    fn path(&self, path: &[u8]) -> Result<Vec<u8>> {
        let path = images::clean_path(path)?;
        let parts = [&self.name[..], &path[..]];
        let parts: Vec<&[u8]> = parts.into_iter().filter(|it| !it.is_empty()).collect();
        Ok(parts.join(&b'/'))
    }

    /// A directory that is there stays, with all that is in it.
    fn make_directory(&mut self, parent: &OwnedFd, path: &[u8], member: &Member) -> Result<()> {
        let (_, name) = split(path);
        match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
            Err(Errno::EXIST) => {}
            made => made?,
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = match rustix::fs::openat(parent, name, flags, Mode::empty()) {
            Err(Errno::NOTDIR | Errno::LOOP) => bail!(
                "cannot overwrite non-directory {:?} with directory",
                String::from_utf8_lossy(path)
            ),
            dir => dir?,
        };
        self.describe(dir.as_fd(), member)?;
        self.described.insert(path.to_vec());
        let mode = self.mode(member).as_raw_mode();
        self.directories.push((path.to_vec(), mode, member.mtime));
        Ok(())
    }

    fn make_node(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        kind: FileType,
        member: &Member,
    ) -> Result<()> {
        if kind != FileType::Fifo && !self.rules.powers {
            self.left_out += 1;
            return Ok(());
        }
        let device = rustix::fs::makedev(member.device.0, member.device.1);
        let mode = self.mode(member);
        let make = || rustix::fs::mknodat(parent, name, kind, mode, device);
        match replace(parent, name, make) {
            // A user namespace grants no devices (mknod(2), EPERM).
            Err(error) if error.downcast_ref() == Some(&Errno::PERM) => {
                self.left_out += 1;
                Ok(())
            }
            made => made.and_then(|()| self.describe_name(parent, name, member)),
        }
    }

    /// The directory at `path`.
    fn directory(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>> {
        if let Some((known, dir)) = &self.last
            && known == path
        {
            return Ok(Rc::clone(dir));
        }
        let opened = match self.open(path) {
            Err(Errno::NOENT) => {
                self.make_path(path)?;
                self.open(path)
            }
            opened => opened,
        };
        let what = || format!("open the directory {}", path.escape_ascii());
        let dir = Rc::new(opened.with_context(what)?);
        self.last = Some((path.to_vec(), Rc::clone(&dir)));
        Ok(dir)
    }

    fn open(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let plain = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match open(&self.dir, path, plain) {
            Err(Errno::LOOP) if self.rules.follow && !self.is_archives(path) => {
                open(&self.dir, path, ResolveFlags::NO_MAGICLINKS)
            }
            opened => opened,
        }
    }

    /// Whether the archive itself has said what a directory is, or what leads to it.
    fn is_archives(&self, path: &[u8]) -> bool {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let mut prefixes = ends.map(|(end, _)| path.get(..end)).chain([Some(path)]);
        self.described.contains(path)
            || prefixes.any(|prefix| prefix.is_some_and(|it| self.brought.contains(it)))
    }

    /// `mkdir -p`, for an archive that has files and not their directories.
    fn make_path(&self, path: &[u8]) -> Result<()> {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        for end in ends.map(|(end, _)| end).chain([path.len()]) {
            let prefix = path.get(..end).unwrap_or(path);
            if let Err(Errno::NOENT) = self.open(prefix) {
                let (dir, name) = split(prefix);
                rustix::fs::mkdirat(self.open(dir)?, name, Mode::from_raw_mode(0o755))
                    .with_context(|| format!("make {}", prefix.escape_ascii()))?;
            }
        }
        Ok(())
    }

    /// Owner and attributes of an open file, in this order: chown(2) takes file capabilities away.
    fn describe(&mut self, file: BorrowedFd<'_>, member: &Member) -> Result<()> {
        if let Some((uid, gid)) = self.owner(member) {
            match rustix::fs::fchown(file, Some(uid), Some(gid)) {
                // No id for it in this user namespace, or no right to give files away.
                Err(Errno::INVAL | Errno::PERM) => {}
                changed => changed.context("set the owner")?,
            }
        }
        for (key, value) in &member.xattrs {
            let plain = key.starts_with(b"user.") && !key.starts_with(b"user.overlay.");
            let power = key == b"security.capability" && self.keeps_powers(member);
            if !(plain || power) {
                continue;
            }
            match rustix::fs::fsetxattr(file, &key[..], value, XattrFlags::empty()) {
                Err(Errno::PERM | Errno::OPNOTSUPP | Errno::INVAL) => self.left_out += 1,
                set => set.context("set an extended attribute")?,
            }
        }
        Ok(())
    }

    /// The same for what cannot be opened without consequences.
    fn describe_name(&mut self, parent: &OwnedFd, name: &[u8], member: &Member) -> Result<()> {
        let plain = AtFlags::SYMLINK_NOFOLLOW;
        if let Some((uid, gid)) = self.owner(member) {
            match rustix::fs::chownat(parent, name, Some(uid), Some(gid), plain) {
                Err(Errno::INVAL | Errno::PERM) => {}
                changed => changed.context("set the owner")?,
            }
        }
        rustix::fs::utimensat(parent, name, &times(member.mtime), plain).context("set the time")
    }

    fn owner(&self, member: &Member) -> Option<(Uid, Gid)> {
        match self.rules.owner {
            Owner::Archives => Some((Uid::from_raw(member.uid), Gid::from_raw(member.gid))),
            Owner::Root => Some((Uid::ROOT, Gid::ROOT)),
            Owner::Ours => None,
        }
    }

    /// Rights go with an owner, not with a file: chown(2) has it so, too.
    fn keeps_powers(&self, member: &Member) -> bool {
        let same = match self.rules.owner {
            Owner::Archives => true,
            Owner::Root => (member.uid, member.gid) == (0, 0),
            Owner::Ours => false,
        };
        self.rules.powers && same
    }

    fn mode(&self, member: &Member) -> Mode {
        let directory = member.kind == EntryType::Directory;
        let all = match directory || self.keeps_powers(member) {
            true => 0o7777,
            false => 0o1777,
        };
        Mode::from_raw_mode(member.mode & all)
    }

    /// Gives the directories their modes and times, the innermost first.
    fn finish(self) -> Result<()> {
        for (path, mode, mtime) in self.directories.iter().rev() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let (dir, name) = split(path);
            let parent = self.open(dir)?;
            // By now somebody else may have taken it away.
            let Ok(dir) = rustix::fs::openat(&parent, name, flags, Mode::empty()) else {
                continue;
            };
            let described = rustix::fs::futimens(&dir, &times(*mtime))
                .and_then(|()| rustix::fs::fchmod(&dir, Mode::from_raw_mode(*mode)));
            match described {
                // One that was there is another's.
                Err(Errno::PERM) => {}
                described => described
                    .with_context(|| format!("set mode and time of {}", path.escape_ascii()))?,
            }
        }
        if self.left_out > 0 {
            tracing::warn!(
                "{} devices or extended attributes were left out",
                self.left_out
            );
        }
        Ok(())
    }
}

fn open(dir: &OwnedFd, path: &[u8], resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { b"." } else { path };
    look_up(dir, path, OFlags::PATH | OFlags::DIRECTORY, resolve)
}

fn create(parent: &OwnedFd, name: &[u8]) -> Result<File, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR).map(File::from)
}

/// Makes something in place of whatever is there, but for a directory.
fn replace<T>(parent: &OwnedFd, name: &[u8], make: impl Fn() -> Result<T, Errno>) -> Result<T> {
    for _ in 0..100 {
        match make() {
            Err(Errno::EXIST) => {}
            made => return Ok(made?),
        }
        match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR) => bail!(
                "cannot overwrite directory {:?} with non-directory",
                String::from_utf8_lossy(name)
            ),
            Err(Errno::BUSY) => bail!(
                "{:?} is mounted there, and cannot be replaced",
                String::from_utf8_lossy(name)
            ),
            Err(errno) => return Err(errno).context("remove what is there"),
        }
    }
    bail!("somebody puts another file there again and again")
}

fn times(mtime: Timespec) -> Timestamps {
    Timestamps {
        last_access: mtime,
        last_modification: mtime,
    }
}
