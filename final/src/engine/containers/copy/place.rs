//! What is copied, and where to: docker's rules.
//!
//! ```text
//!              to nothing         to a file         to a directory
//!   a file     becomes it         replaces it       goes into it
//!   a dir      becomes it         refused           goes into it; DIR/. pours its content into it
//! ```
//!
//! Nothing is copied to below a directory that is missing, and no file to a name that ends in a
//! slash.
//!
//! A path is resolved once. From then on the file, or the directory that it is in, is a descriptor,
//! and what somebody does to the path means nothing any more.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Result, bail, ensure};
use rustix::fs::{FileType, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::engine::lexical;
use crate::runtime::look_up;

/// As many links as the kernel follows (path_resolution(7)).
const LINKS: u32 = 40;

/// A file to be copied.
#[derive(Debug)]
pub(super) struct Source {
    /// The file itself (`O_PATH`).
    pub(super) pin: OwnedFd,
    name: Name,
}

/// What a path calls a source.
#[derive(Clone, Debug)]
pub(super) struct Name {
    /// Its last part; empty for the root.
    base: Vec<u8>,
    /// Whether its content is meant: `DIR/.`
    content: bool,
}

impl Source {
    /// Finds a file by its path from the root that this process has. Its last part is followed only
    /// where that is asked for, or a slash says that it is a directory.
    pub(super) fn find(root: &OwnedFd, path: &[u8], follow: bool) -> Result<Source, Errno> {
        let whole = lexical::parts(path);
        let name = name_of(path);
        let (dir, last) = split(&whole);
        if means_directory(path) || last.is_empty() {
            let pin = open(root.as_fd(), &whole, OFlags::PATH | OFlags::DIRECTORY)?;
            return Ok(Source { pin, name });
        }
        let parent = open(root.as_fd(), dir, OFlags::PATH | OFlags::DIRECTORY)?;
        let mut pin = open(parent.as_fd(), last, OFlags::PATH | OFlags::NOFOLLOW)?;
        if follow && kind(&pin)? == FileType::Symlink {
            pin = open(parent.as_fd(), last, OFlags::PATH)?;
        }
        Ok(Source { pin, name })
    }

    /// What it is called.
    pub(super) fn named(&self) -> Name {
        self.name.clone()
    }

    /// What it is called in an archive for others: `DIR/.` is there without a name.
    pub(super) fn archive_name(&self) -> Vec<u8> {
        match self.name.content {
            true => Vec::new(),
            false => self.name.base.clone(),
        }
    }
}

/// What a path calls a source.
pub(super) fn name_of(path: &[u8]) -> Name {
    let whole = lexical::parts(path);
    Name {
        base: split(&whole).1.to_vec(),
        content: last_part(path) == b".",
    }
}

/// Where something is copied to.
#[derive(Debug)]
pub(super) struct Destination {
    /// The directory that it is in, or will be.
    parent: OwnedFd,
    name: Vec<u8>,
    /// The thing itself, if it is there.
    pin: Option<OwnedFd>,
    /// Whether the path ends as only a directory's may.
    means_directory: bool,
}

impl Destination {
    /// Finds a place by its path from the root that this process has. Links are followed to the last.
    pub(super) fn find(root: &OwnedFd, path: &[u8]) -> Result<Destination, Errno> {
        let means_directory = means_directory(path);
        let mut rest = lexical::parts(path);
        // Absolute links lead to this process's root: the container's, as long as it is a
        // container's that is searched.
        let mut from = root.try_clone().map_err(|_| Errno::MFILE)?;
        for _ in 0..LINKS {
            let (dir, name) = split(&rest);
            if matches!(name, b"" | b"." | b"..") {
                let dir = open(from.as_fd(), &rest, OFlags::PATH | OFlags::DIRECTORY)?;
                return Ok(Destination {
                    parent: dir.try_clone().map_err(|_| Errno::MFILE)?,
                    name: Vec::new(),
                    pin: Some(dir),
                    means_directory,
                });
            }
            let parent = open(from.as_fd(), dir, OFlags::PATH | OFlags::DIRECTORY)?;
            let pin = match open(parent.as_fd(), name, OFlags::PATH | OFlags::NOFOLLOW) {
                Err(Errno::NOENT) => None,
                pin => Some(pin?),
            };
            if let Some(link) = &pin
                && kind(link)? == FileType::Symlink
            {
                let target = rustix::fs::readlinkat(link, "", Vec::new())?.into_bytes();
                if !target.starts_with(b"/") {
                    from = parent;
                }
                rest = target;
                while rest.len() > 1 && rest.ends_with(b"/") {
                    rest.pop();
                }
                continue;
            }
            return Ok(Destination {
                parent,
                name: name.to_vec(),
                pin,
                means_directory,
            });
        }
        Err(Errno::LOOP)
    }

    /// The directory that is there.
    pub(super) fn directory(&self) -> Result<(OwnedFd, Vec<u8>)> {
        match &self.pin {
            Some(pin) if kind(pin)? == FileType::Directory => Ok((pin.try_clone()?, Vec::new())),
            Some(_) => bail!("the destination is not a directory"),
            None => bail!("no such directory"),
        }
    }

    /// In which directory a source will be, and under which name; without a name, its content will
    /// be there.
    pub(super) fn take(&self, source: &Name, is_dir: bool) -> Result<(OwnedFd, Vec<u8>)> {
        let there = self.pin.as_ref().map(kind).transpose()?;
        match there {
            Some(FileType::Directory) => {
                let name = match source.content {
                    true => Vec::new(),
                    false => source.base.clone(),
                };
                let (dir, _) = self.directory()?;
                Ok((dir, name))
            }
            Some(FileType::RegularFile) if !is_dir => {
                ensure!(!self.means_directory, "the destination is not a directory");
                self.here()
            }
            Some(FileType::RegularFile) => bail!("cannot copy directory"),
            Some(_) => bail!("the destination must be a directory or a regular file"),
            None if self.means_directory && !is_dir => bail!("no such directory"),
            None => self.here(),
        }
    }

    fn here(&self) -> Result<(OwnedFd, Vec<u8>)> {
        Ok((self.parent.try_clone()?, self.name.clone()))
    }
}

/// Whether a path says of itself that it is a directory's.
fn means_directory(path: &[u8]) -> bool {
    path.ends_with(b"/") || last_part(path) == b"."
}

/// What stands before the slashes at the end.
fn last_part(path: &[u8]) -> &[u8] {
    let parts = path.split(|&byte| byte == b'/');
    let mut named = parts.filter(|part| !part.is_empty());
    named.next_back().unwrap_or_default()
}

/// The directory and the last name: of `/a`, `/` and `a`.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(0) => path.split_at(1),
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

fn kind(file: &OwnedFd) -> Result<FileType, Errno> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(file)?.st_mode))
}

/// Not through procfs' magic links.
fn open(from: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { b"." } else { path };
    look_up(from, path, flags, ResolveFlags::NO_MAGICLINKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_what_its_letters_say() {
        for (path, whole) in [
            ("/", ""),
            ("a//b/./c/", "a/b/c"),
            ("/../a/../b", "b"),
            ("", ""),
            (".", ""),
            ("/a/.", "a"),
        ] {
            assert_eq!(lexical::parts(path.as_bytes()), whole.as_bytes(), "{path}");
        }
        assert_eq!(split(b"/a"), (&b"/"[..], &b"a"[..]));
        assert_eq!(split(b"a/b"), (&b"a"[..], &b"b"[..]));
    }

    #[test]
    fn a_slash_or_a_dot_at_the_end_means_a_directory() {
        for (path, directory, content) in [
            ("a", false, false),
            ("a/", true, false),
            ("a/.", true, true),
            ("a/./", true, true),
            (".", true, true),
            ("a.", false, false),
        ] {
            assert_eq!(means_directory(path.as_bytes()), directory, "{path}");
            assert_eq!(name_of(path.as_bytes()).content, content, "{path}");
        }
    }
}
