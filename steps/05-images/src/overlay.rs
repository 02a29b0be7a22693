//! The layers of an image, one over the other, and one on top to write to.

use std::fmt::Write;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::fs::{Mode, OFlags, XattrFlags};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit};
use sys_mount::Mount;

use crate::inside;
use crate::tree;

/// The most lower layers that overlayfs takes (OVL_MAX_STACK in fs/overlayfs/params.h).
const MOST_LAYERS: usize = 500;

/// What overlayfs is to stack.
///
/// ```text
/// target   what the container sees
///   upper      what it wrote; work is overlayfs' own, on the same file system
///   lower[n]   the image's last layer
///   …
///   lower[0]   its first
/// ```
#[derive(Clone, Debug)]
pub struct Overlay {
    /// The read-only layers, lowest first; at least one, at most 500.
    pub lower: Vec<PathBuf>,
    /// The writable directory.
    pub upper: PathBuf,
    /// An empty directory beside it.
    pub work: PathBuf,
    /// Where to mount.
    pub target: PathBuf,
    /// Keep overlayfs' marks in `user.overlay.*` instead of `trusted.overlay.*`, as a user
    /// namespace requires. The layers must have been unpacked with the same.
    pub userxattr: bool,
}

impl Overlay {
    /// An overlay of one layer at `lower`, with `upper`, `work` and `target` beside it: directories
    /// of ours, in `dir`, that have to be there when it is mounted.
    ///
    /// # Errors
    /// `dir` cannot be opened.
    pub fn of_one(dir: &Path) -> Result<Self> {
        Ok(Self {
            lower: vec![dir.join("lower")],
            upper: dir.join("upper"),
            work: dir.join("work"),
            target: dir.join("target"),
            userxattr: Attributes::here(&inside::directory(dir)?) == Attributes::User,
        })
    }

    /// Mounts it, in the mount namespace of the caller (mount(2), overlayfs.rst).
    ///
    /// # Errors
    /// More than 500 layers, or what the kernel refuses.
    pub fn mount(&self) -> Result<()> {
        let count = self.lower.len();
        ensure!(count > 0, "an image without layers has nothing to mount");
        ensure!(
            count <= MOST_LAYERS,
            "the image has {count} layers, and overlayfs takes no more than {MOST_LAYERS}; \
             build it with fewer"
        );
        let before = raise_descriptor_limit(count as u64 + 64)?;
        let mounted = self.stack();
        // The command would inherit it, and some programs loop over all they may open.
        if let Some(limit) = before {
            rustix::process::setrlimit(Resource::Nofile, limit).context("restore RLIMIT_NOFILE")?;
        }
        mounted
    }

    /// mount(2) takes one page of options: 4095 bytes, and older kernels cut what is longer without
    /// a word, so that an image of sixty layers would come up with forty. The layers' paths can be
    /// of any length. So each is opened, the working directory becomes `/proc/self/fd`, and a layer
    /// is then the name of its descriptor: `lowerdir=12:11:10:9`, with 500 layers 2000 bytes. It
    /// spares commas, colons and backslashes in a path their escapes, too, and works on every
    /// kernel, where fsconfig(2)'s `lowerdir+` came with 6.5.
    fn stack(&self) -> Result<()> {
        // task 05.4 {
        let lower = open_all(&self.lower)?;
        let [upper, work, target] = [&self.upper, &self.work, &self.target];
        let (upper, work) = (inside::directory(upper)?, inside::directory(work)?);
        let target = inside::directory(target)?;

        let mut options = String::from("lowerdir=");
        for (nth, layer) in lower.iter().rev().enumerate() {
            let colon = if nth == 0 { "" } else { ":" };
            write!(options, "{colon}{}", layer.as_raw_fd())?;
        }
        let (upper, work) = (upper.as_raw_fd(), work.as_raw_fd());
        write!(options, ",upperdir={upper},workdir={work}")?;
        if self.userxattr {
            options.push_str(",userxattr");
        }
        self.mount_with(&options, &target)
        // } todo!("task 05.4: stack the layers with overlayfs (book: 5.4)")
    }

    /// Mounts on `target` with options that name descriptors of this process.
    fn mount_with(&self, options: &str, target: &OwnedFd) -> Result<()> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // A caller may stand where its own root inside may not: then there is no way back.
        let before = rustix::fs::open(".", flags, Mode::empty());
        tracing::info!(
            call = r#"chdir("/proc/self/fd")"#,
            "from here an open layer has a name of a few bytes: its descriptor's number"
        );
        rustix::process::chdir("/proc/self/fd").context("chdir to /proc/self/fd")?;
        let target = target.as_raw_fd();
        tracing::info!(
            call = %format_args!(r#"mount("overlay", "{target}", "overlay", 0, "{options}")"#),
            "the layers appear as one tree, and what the container writes goes to the upper one"
        );
        let mounted = Mount::builder()
            .fstype("overlay")
            .data(options)
            .mount("overlay", target.to_string());
        before
            .map_or_else(|_| rustix::process::chdir("/"), rustix::process::fchdir)
            .context("go back to the working directory")?;
        let layers = self.lower.len();
        mounted.with_context(|| {
            let target = self.target.display();
            format!("mount an overlay of {layers} layers on {target}")
        })?;
        Ok(())
    }
}

fn open_all(paths: &[PathBuf]) -> Result<Vec<OwnedFd>> {
    paths.iter().map(|path| inside::directory(path)).collect()
}

/// Lets this process hold `needed` descriptors, and returns the limit it had if that was too low.
fn raise_descriptor_limit(needed: u64) -> Result<Option<Rlimit>> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(None);
    }
    let enough = needed.min(limit.maximum.unwrap_or(u64::MAX));
    let raised = Rlimit {
        current: Some(enough),
        ..limit
    };
    tracing::info!(
        call = %format_args!("setrlimit(RLIMIT_NOFILE, {enough})"),
        "every layer is held open while it is mounted"
    );
    rustix::process::setrlimit(Resource::Nofile, raised)
        .context("raise the limit of open files (RLIMIT_NOFILE)")?;
    Ok(Some(limit))
}

/// What overlayfs notes on a file.
#[derive(Clone, Copy)]
pub(crate) enum Mark {
    /// `y`: the directory hides those below. (`x`: there are whiteouts of the second kind in it.)
    Opaque,
    /// The empty file says that there is none (since Linux 6.7).
    Whiteout,
    /// The directory's content lies below under another name.
    Redirect,
    /// The file's content lies below.
    Metacopy,
}

/// Under which names overlayfs keeps its marks on files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Attributes {
    /// `trusted.overlay.*`, which only the host's root may set.
    Trusted,
    /// `user.overlay.*`, which a file's owner may set.
    User,
}

impl Attributes {
    /// Which of the two this process may set on a directory of its own. Asked by removing an
    /// attribute that isn't there: the right is checked first (xattr(7)).
    pub(crate) fn here(dir: &OwnedFd) -> Self {
        let path = format!("/proc/self/fd/{}", dir.as_raw_fd());
        match rustix::fs::removexattr(path, "trusted.overlay.none") {
            Err(Errno::PERM) => Self::User,
            _ => Self::Trusted,
        }
    }

    fn opaque(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.opaque",
            Self::User => "user.overlay.opaque",
        }
    }

    /// What overlayfs noted on an open file.
    pub(crate) fn of(self, file: BorrowedFd<'_>, mark: Mark) -> Result<Option<Vec<u8>>> {
        let space = match self {
            Self::Trusted => "trusted",
            Self::User => "user",
        };
        let mark = match mark {
            Mark::Opaque => "opaque",
            Mark::Whiteout => "whiteout",
            Mark::Redirect => "redirect",
            Mark::Metacopy => "metacopy",
        };
        tree::value_of(file, format!("{space}.overlay.{mark}").as_bytes())
    }

    /// Marks a directory as hiding those of the same name below.
    pub(crate) fn make_opaque(self, path: &[u8]) -> Result<()> {
        set(path, self.opaque(), b"y")
    }

    /// Marks a directory as one with whiteouts in it. Where no other layer has that directory,
    /// overlayfs would list it as it is, with the whiteouts as files that cannot be opened; only
    /// one that seems to be copied up is looked through for them (ovl_get_inode in
    /// fs/overlayfs/inode.c).
    pub(crate) fn mark_whiteouts(self, path: &[u8]) -> Result<()> {
        let origin = match self {
            Self::Trusted => "trusted.overlay.origin",
            Self::User => "user.overlay.origin",
        };
        set(path, origin, b"")
    }

    /// Whether a directory is so marked.
    pub(crate) fn is_opaque(self, path: &Path) -> bool {
        let mut value = [0; 1];
        let length = rustix::fs::lgetxattr(path, self.opaque(), &mut value);
        length == Ok(1) && value == *b"y"
    }
}

fn set(path: &[u8], name: &str, value: &[u8]) -> Result<()> {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty())
        .with_context(|| format!("mark a directory for overlayfs ({name})"))
}
