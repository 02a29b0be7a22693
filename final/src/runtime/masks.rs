//! Paths that a container must not read, or not write.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, ensure};
use oci_spec::runtime::Linux;
use rootfs::{Attributes, Kind, Top, copy_tree, kind_of, move_tree};
use rustix::fs::{FileType, fstat, makedev};
use sys_mount::MountFlags;

/// `linux.maskedPaths` and `linux.readonlyPaths`.
#[derive(Debug)]
pub(crate) struct Masks {
    masked: Vec<PathBuf>,
    read_only: Vec<PathBuf>,
}

impl Masks {
    pub(crate) fn plan(linux: Option<&Linux>) -> Result<Masks> {
        let masked = linux.and_then(|linux| linux.masked_paths().as_deref());
        let read_only = linux.and_then(|linux| linux.readonly_paths().as_deref());
        Ok(Masks {
            masked: absolute(masked, "maskedPaths")?,
            read_only: absolute(read_only, "readonlyPaths")?,
        })
    }

    /// Mounts something over each; what is missing needs no mask.
    pub(crate) fn put(&self, top: &Top) -> Result<()> {
        for (index, path) in self.read_only.iter().enumerate() {
            let field = || format!("linux.readonlyPaths[{index}] ({})", path.display());
            if let Some(place) = top.existing(path).with_context(field)? {
                set_read_only(&place).with_context(field)?;
            }
        }
        let mut covers = Covers::default();
        for (index, path) in self.masked.iter().enumerate() {
            let field = || format!("linux.maskedPaths[{index}] ({})", path.display());
            if let Some(place) = top.existing(path).with_context(field)? {
                covers.put(top, &place).with_context(field)?;
            }
        }
        Ok(())
    }
}

fn absolute(paths: Option<&[String]>, field: &str) -> Result<Vec<PathBuf>> {
    let check = |(index, path): (usize, &String)| {
        let path = PathBuf::from(path);
        ensure!(
            path.is_absolute() && !path.components().any(|part| part == Component::ParentDir),
            "linux.{field}[{index}]: {path:?} must be absolute, without .. in it"
        );
        Ok(path)
    };
    paths
        .unwrap_or_default()
        .iter()
        .enumerate()
        .map(check)
        .collect()
}

/// A copy of the mount, which can only be read, on top of it.
fn set_read_only(place: &OwnedFd) -> Result<()> {
    let copy = copy_tree(place.as_fd(), true)?;
    let read_only = Attributes {
        set: libc::MOUNT_ATTR_RDONLY,
        all: true,
        ..Attributes::default()
    };
    read_only.apply(&copy).context("make it read-only")?;
    move_tree(&copy, place, "the container may only read it")
}

const HIDDEN: &str = "what is below is not for the container";

/// What hides files and directories, made when first needed.
#[derive(Default)]
struct Covers {
    null: Option<OwnedFd>,
    /// An empty, read-only tmpfs; one for all directories.
    empty: Option<OwnedFd>,
}

impl Covers {
    fn put(&mut self, top: &Top, place: &OwnedFd) -> Result<()> {
        let cover = match kind_of(place)? {
            Kind::File => match &self.null {
                Some(null) => null,
                None => self.null.insert(open_null(top)?),
            },
            Kind::Directory => match &self.empty {
                Some(empty) => empty,
                None => {
                    let empty = make_empty()?;
                    move_tree(&empty, place, HIDDEN)?;
                    self.empty = Some(empty);
                    return Ok(());
                }
            },
        };
        move_tree(&copy_tree(cover.as_fd(), false)?, place, HIDDEN)
    }
}

/// Whoever can put another file in the place of `/dev/null` while this is done
/// would have it bound over the path (CVE-2025-31133), so it is the open file
/// that is looked at, and bound.
fn open_null(top: &Top) -> Result<OwnedFd> {
    let null = top
        .existing(Path::new("/dev/null"))?
        .context("find the container's /dev/null")?;
    let found = fstat(&null).context("look at the container's /dev/null")?;
    ensure!(
        FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice
            && found.st_rdev == makedev(1, 3),
        "the container's /dev/null is not the null device"
    );
    Ok(null)
}

fn make_empty() -> Result<OwnedFd> {
    let mut empty = rootfs::Mount::tmpfs(PathBuf::from("a masked path"));
    empty.flags = MountFlags::RDONLY;
    empty.make_tree()
}
