//! Whether a layer's tree still is what its blob unpacks to.

use std::collections::{BTreeSet, HashMap};
use std::ffi::CString;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use rustix::buffer::spare_capacity;
use rustix::fs::{AtFlags, Dir, FileType, OFlags, Stat, Timespec};
use rustix::io::Errno;

use crate::archive::BUFFER;
use crate::inside;
use crate::layer::at;

/// Two trees, side by side.
struct Trees {
    there: OwnedFd,
    fresh: OwnedFd,
    /// When the fresh one was begun.
    begun: Timespec,
    /// Which file of the fresh tree a file with several names should be.
    links: HashMap<u64, u64>,
}

/// Compares the tree `there` with one that was unpacked just now: names, types, owners, modes,
/// times, attributes, contents, and which names are one file. Nothing below them is followed.
///
/// # Errors
/// The first difference that is found, or that something cannot be read.
pub(crate) fn compare(there: &Path, fresh: &Path, begun: Timespec) -> Result<()> {
    let mut trees = Trees {
        there: inside::directory(there)?,
        fresh: inside::directory(fresh)?,
        begun,
        links: HashMap::new(),
    };
    // The way to a directory is looked up anew for each: a tree may be deeper than the number of
    // descriptors that a process may have.
    let mut left = vec![Vec::new()];
    while let Some(dir) = left.pop() {
        let found = trees.directory(&dir);
        left.extend(found.with_context(|| format!("/{}", inside::shown(&dir)))?);
    }
    Ok(())
}

impl Trees {
    /// Compares what is in a directory, and returns the directories in it.
    fn directory(&mut self, dir: &[u8]) -> Result<Vec<Vec<u8>>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let there = inside::open(&self.there, dir, flags)?;
        let fresh = inside::open(&self.fresh, dir, flags)?;
        let (names, expected) = (names(&there)?, names(&fresh)?);
        if let Some(name) = names.symmetric_difference(&expected).next() {
            let shown = inside::shown(name.as_bytes());
            match names.contains(name) {
                true => bail!("{shown} doesn't belong there"),
                false => bail!("{shown} is missing"),
            }
        }
        let mut directories = Vec::new();
        for name in &expected {
            let name = name.as_bytes();
            let shown = || inside::shown(name);
            let kind = self.entry(&there, &fresh, name).with_context(shown)?;
            if kind == FileType::Directory {
                let below = if dir.is_empty() {
                    vec![name]
                } else {
                    vec![dir, name]
                };
                directories.push(below.join(&b'/'));
            }
        }
        // Last: its time only repeats what is wrong with a name in it.
        self.entry(&there, &fresh, b".")?;
        Ok(directories)
    }

    fn entry(&mut self, there: &OwnedFd, fresh: &OwnedFd, name: &[u8]) -> Result<FileType> {
        let look = |dir| rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW);
        let (is, should) = (look(there)?, look(fresh)?);
        let kind = FileType::from_raw_mode(should.st_mode);
        ensure!(FileType::from_raw_mode(is.st_mode) == kind, "another type");
        // A directory itself is looked at together with what is in it.
        if kind == FileType::Directory && name != b"." {
            return Ok(kind);
        }
        ensure!(is.st_mode == should.st_mode, "another mode");
        let owner = |stat: &Stat| (stat.st_uid, stat.st_gid);
        ensure!(owner(&is) == owner(&should), "another owner");
        // What an archive doesn't mention, the directories on the way to something and whiteouts,
        // is of the moment in which it was made.
        let time = |stat: &Stat| (stat.st_mtime, stat.st_mtime_nsec as i64);
        let dated = time(&should) < (self.begun.tv_sec, self.begun.tv_nsec);
        ensure!(!dated || time(&is) == time(&should), "another time");
        ensure!(
            attributes(there, name)? == attributes(fresh, name)?,
            "other attributes"
        );
        if kind == FileType::Directory {
            return Ok(kind);
        }
        ensure!(is.st_nlink == should.st_nlink, "another number of names");
        ensure!(is.st_rdev == should.st_rdev, "another device");
        ensure!(is.st_size == should.st_size, "another size");
        if should.st_nlink > 1 {
            match self.links.insert(should.st_ino, is.st_ino) {
                Some(known) => ensure!(known == is.st_ino, "a name of another file"),
                None => same_content(kind, there, fresh, name)?,
            }
        } else {
            same_content(kind, there, fresh, name)?;
        }
        Ok(kind)
    }
}

fn names(dir: &OwnedFd) -> Result<BTreeSet<CString>> {
    let mut names = BTreeSet::new();
    for entry in Dir::read_from(dir)? {
        let name = entry?.file_name().to_owned();
        if name.as_c_str() != c"." && name.as_c_str() != c".." {
            names.insert(name);
        }
    }
    Ok(names)
}

fn same_content(kind: FileType, there: &OwnedFd, fresh: &OwnedFd, name: &[u8]) -> Result<()> {
    let same = match kind {
        FileType::Symlink => {
            let target = |dir| rustix::fs::readlinkat(dir, name, Vec::new());
            target(there)? == target(fresh)?
        }
        FileType::RegularFile => {
            let open =
                |dir| inside::open_file(dir, name).map(|it| BufReader::with_capacity(BUFFER, it));
            same_bytes(open(there)?, open(fresh)?)?
        }
        _ => true,
    };
    ensure!(same, "other content");
    Ok(())
}

fn same_bytes(mut one: BufReader<File>, mut other: BufReader<File>) -> Result<bool> {
    loop {
        let (left, right) = (one.fill_buf()?, other.fill_buf()?);
        let count = left.len().min(right.len());
        if left.get(..count) != right.get(..count) {
            return Ok(false);
        }
        if count == 0 {
            return Ok(left.len() == right.len());
        }
        one.consume(count);
        other.consume(count);
    }
}

/// The most that a list of attributes or the value of one can have (xattr(7), "Limits").
const LARGEST_ATTRIBUTE: usize = 64 << 10;

/// The extended attributes of what is at a name, by their names.
fn attributes(dir: &OwnedFd, name: &[u8]) -> Result<HashMap<Vec<u8>, Vec<u8>>> {
    let path = at(dir, name);
    let mut list = Vec::with_capacity(LARGEST_ATTRIBUTE);
    match rustix::fs::llistxattr(&path[..], spare_capacity(&mut list)) {
        Err(Errno::OPNOTSUPP) => return Ok(HashMap::new()),
        listed => listed?,
    };
    let mut attributes = HashMap::new();
    for key in list.split(|&byte| byte == 0).filter(|key| !key.is_empty()) {
        let mut value = Vec::with_capacity(LARGEST_ATTRIBUTE);
        rustix::fs::lgetxattr(&path[..], key, spare_capacity(&mut value))?;
        attributes.insert(key.to_vec(), value);
    }
    Ok(attributes)
}
