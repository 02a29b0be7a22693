//! What the upper layer of an overlay changes of those below.
//!
//! Nothing is compared: each file in the upper layer is an addition, or hides one below, or says that
//! there is none any more (overlayfs.rst). Only a directory may be there for the sake of what is in
//! it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::inside;
use crate::overlay::{Attributes, Mark, Overlay};
use crate::tree::names;

/// In how many directories a file may be.
const DEEPEST: usize = 500;

/// What became of a file. Shown, it is docker's letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was there, and is another; or something was added to the directory, or taken away.
    Changed,
    /// It was not there.
    Added,
    /// It is there no more.
    Deleted,
}

impl Change {
    /// `C`, `A` or `D`.
    #[must_use]
    pub fn letter(self) -> char {
        match self {
            Self::Changed => 'C',
            Self::Added => 'A',
            Self::Deleted => 'D',
        }
    }
}

/// What is at one name below: the directories that would be seen as one there, the uppermost first,
/// or something else that is no directory.
#[derive(Default)]
struct Below {
    dirs: Vec<PathBuf>,
    found: Option<Metadata>,
}

impl Overlay {
    /// The paths that the upper layer changes, with a `/` before each: a directory before what is in
    /// it, by name.
    ///
    /// # Errors
    /// The layers cannot be read.
    pub fn changes(&self) -> Result<Vec<(Change, Vec<u8>)>> {
        let marks = match self.userxattr {
            true => Attributes::User,
            false => Attributes::Trusted,
        };
        let upper = inside::directory(&self.upper)?;
        let upper = open(&upper, b".").context("open the upper layer")?;
        let dirs = self.lower.iter().rev().cloned().collect();
        Comparison { marks }.directory(&upper, b"", &Below { dirs, found: None })
    }
}

struct Comparison {
    marks: Attributes,
}

type Changes = Vec<(Change, Vec<u8>)>;

impl Comparison {
    /// What is changed in a directory.
    fn directory(&self, upper: &OwnedFd, path: &[u8], below: &Below) -> Result<Changes> {
        let opaque = self.marks.of(upper.as_fd(), Mark::Opaque)?.as_deref() == Some(b"y");
        let mut all: BTreeMap<Vec<u8>, bool> = BTreeMap::new();
        if opaque {
            // What was there is not, unless it was made again.
            all.extend(
                self.names_below(below)?
                    .into_iter()
                    .map(|name| (name, false)),
            );
        }
        all.extend(names(upper)?.into_iter().map(|name| (name, true)));
        let nothing = Below::default();
        let merged = if opaque { &nothing } else { below };
        let mut changes = Vec::new();
        for (name, is_there) in all {
            let path = [path, b"/", &name].concat();
            let before = self.look(below, &name)?;
            if is_there {
                let merged = self.look(merged, &name)?;
                changes.append(&mut self.entry(upper, &name, &path, (&before, &merged))?);
            } else if before.found.is_some() {
                changes.push((Change::Deleted, path));
            }
        }
        Ok(changes)
    }

    /// What one name of the upper layer means. `before` is what was there in all, and `merged` what
    /// still shows through.
    fn entry(
        &self,
        parent: &OwnedFd,
        name: &[u8],
        path: &[u8],
        (before, merged): (&Below, &Below),
    ) -> Result<Changes> {
        let what = || format!("look at {}", inside::shown(path));
        let stat = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            // It has just been removed.
            Err(Errno::NOENT) => return Ok(Vec::new()),
            stat => stat.with_context(what)?,
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        let whiteout = kind == FileType::CharacterDevice && stat.st_rdev == 0;
        let own = match (&before.found, whiteout) {
            (None, true) => return Ok(Vec::new()),
            (Some(_), true) => Some(Change::Deleted),
            (None, false) => Some(Change::Added),
            (Some(_), false) => Some(Change::Changed),
        };
        // Each directory on the way takes a descriptor, and some of the stack.
        ensure!(
            path.iter().filter(|&&byte| byte == b'/').count() <= DEEPEST,
            "{} is nested too deeply: in more than {DEEPEST} directories",
            inside::shown(path)
        );
        if kind != FileType::Directory {
            return Ok(own.into_iter().map(|own| (own, path.to_vec())).collect());
        }
        let dir = match open(parent, name) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(Vec::new()),
            dir => dir.with_context(what)?,
        };
        let inner = self.directory(&dir, path, merged)?;
        let is_direct = |(change, its): &(Change, Vec<u8>)| {
            *change != Change::Changed && inside::split(its).0 == path
        };
        // A directory is also there for what is in it.
        let same = merged
            .found
            .as_ref()
            .is_some_and(|lower| is_same(&stat, lower));
        let opaque = self.marks.of(dir.as_fd(), Mark::Opaque)?.as_deref() == Some(b"y");
        let own = own.filter(|_| !same || opaque || inner.iter().any(is_direct));
        let own = own.into_iter().map(|own| (own, path.to_vec()));
        Ok(own.chain(inner).collect())
    }

    /// What is below at a name in a directory.
    fn look(&self, dir: &Below, name: &[u8]) -> Result<Below> {
        let mut below = Below::default();
        for dir in &dir.dirs {
            let path = dir.join(std::ffi::OsStr::from_bytes(name));
            let found = match path.symlink_metadata() {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                found => found.with_context(|| format!("look at {}", path.display()))?,
            };
            let whiteout = found.file_type().is_char_device() && found.rdev() == 0;
            let is_dir = found.is_dir();
            if whiteout || (!is_dir && !below.dirs.is_empty()) {
                break;
            }
            below.found.get_or_insert(found);
            if !is_dir {
                break;
            }
            let covers = self.marks.is_opaque(&path);
            below.dirs.push(path);
            if covers {
                break;
            }
        }
        Ok(below)
    }

    fn names_below(&self, below: &Below) -> Result<BTreeSet<Vec<u8>>> {
        let mut all = BTreeSet::new();
        for dir in &below.dirs {
            for entry in list(dir)? {
                all.insert(entry);
            }
        }
        Ok(all)
    }
}

fn list(dir: &Path) -> Result<Vec<Vec<u8>>> {
    let opened = inside::directory(dir)?;
    let opened = open(&opened, b".").with_context(|| format!("open {}", dir.display()))?;
    names(&opened)
}

fn open(parent: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

/// Whether a directory is as it was: overlayfs gives a copy its owner, mode and time.
fn is_same(upper: &Stat, lower: &Metadata) -> bool {
    (upper.st_mode, upper.st_uid, upper.st_gid) == (lower.mode(), lower.uid(), lower.gid())
        && (upper.st_mtime, upper.st_mtime_nsec.cast_signed())
            == (lower.mtime(), lower.mtime_nsec())
}
