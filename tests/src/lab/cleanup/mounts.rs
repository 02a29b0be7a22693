//! Mounts that a program without private mounts spread to the host, below our own directories.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cli::Dirs;
use nix::mount::{MntFlags, umount2};

/// Where they are mounted, the first made first. A living container's are not among them.
pub fn left(dirs: &Dirs) -> Result<Vec<String>> {
    let table = fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    let left = points.filter(|point| is_left(dirs, Path::new(point)));
    Ok(left.map(str::to_owned).collect())
}

/// Unmounts them, each with what is mounted below it.
pub fn unmount(dirs: &Dirs) -> Result<()> {
    let mut count = usize::MAX;
    loop {
        let left = left(dirs)?;
        let Some(first) = left.first() else {
            return Ok(());
        };
        if left.len() >= count {
            bail!("{first} is unmounted, and still mounted");
        }
        count = left.len();
        let flags = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
        umount2(Path::new(first), flags).with_context(|| format!("unmount {first}"))?;
    }
}

/// A place of ours, where the host itself has nothing mounted. A directory of ours as a whole may be
/// a mount that somebody made for us.
fn is_left(dirs: &Dirs, point: &Path) -> bool {
    for name in ["rootfs", "rootfs.new", "rootfs.old"] {
        let rootfs = dirs.data.join(name);
        if point.starts_with(&rootfs) {
            return !is_root_of_somebody(&rootfs);
        }
    }
    let containers = dirs.data.join("containers");
    if let Some(container) = child_above(&containers, point) {
        return File::open(&container).is_ok_and(|dir| dir.try_lock().is_ok());
    }
    let others = [dirs.data.join("tmp"), dirs.run.join("network/containers")];
    others.iter().any(|dir| child_above(dir, point).is_some())
}

/// The entry of `dir` that `path` is, or is below.
fn child_above(dir: &Path, path: &Path) -> Option<PathBuf> {
    let below = path.strip_prefix(dir).ok()?;
    Some(dir.join(below.components().next()?))
}

/// Whether a process has the directory as its `/`: a container runs on it.
fn is_root_of_somebody(dir: &Path) -> bool {
    let identity = |path: &Path| fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    let Some(wanted) = identity(dir) else {
        return false;
    };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .map(|process| process.path().join("root"))
        .any(|root| identity(&root) == Some(wanted))
}
