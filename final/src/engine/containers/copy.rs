//! `docker cp`: files from the host to a container, and back.
//!
//! ```text
//!   host                               a child whose / is the container's
//!   files ──▶ tar ──────── pipe ──────▶ files      cp FILE CONTAINER:PATH
//!   files ◀────────────── pipe ─── tar ◀── files      cp CONTAINER:PATH FILE
//!   - ──▶ decompress ──── pipe ──────▶ files      cp - CONTAINER:PATH
//!   - ◀──────────────────────── tar ◀── files      cp CONTAINER:PATH -
//! ```
//!
//! Neither side ever holds a descriptor of the other's files, and no path of the one means anything
//! to the other. What goes through the pipe is taken apart as if a stranger had sent it.

mod extract;
mod place;

use std::fs::File;
use std::io::{self, BufReader, BufWriter, IsTerminal, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use images::{Packer, Tar, decompress};
use rustix::io::Errno;

use super::Containers;
use super::view::{Partner, Sight, open};
use crate::state::journal::{self, Event};
use extract::{Owner, Rules};
use place::{Destination, Source};

/// Large enough that a system call moves much more than it costs.
const BUFFER: usize = 256 << 10;

/// What is at this end.
#[derive(Clone, Debug)]
pub enum Local {
    /// A file or directory.
    Path(PathBuf),
    /// Standard input or output, as a tar archive.
    Stream,
}

/// How files are copied.
#[derive(Clone, Copy, Debug, Default)]
pub struct Copying {
    /// Files keep their owners. Otherwise they are whoever's the copy is: in a container root's.
    pub archive: bool,
    /// A source that is a symbolic link is what it leads to.
    pub follow: bool,
}

impl Containers {
    /// Copies from the host into a container, and returns how many bytes that took in an archive.
    ///
    /// # Errors
    /// There is no such file or container; a directory would take a file's place, or the other way
    /// round; the container may not write there.
    pub fn copy_in(&self, from: &Local, what: &str, to: &str, how: Copying) -> Result<u64> {
        let container = self.find(what)?;
        let view = self.view(&container.id, Sight::Mounts)?;
        let (source, rules) = match from {
            Local::Stream => (None, Rules::in_container(Owner::Archives)),
            Local::Path(path) => {
                let owner = if how.archive {
                    Owner::Archives
                } else {
                    Owner::Root
                };
                (
                    Some(find_on_host(path, how.follow)?),
                    Rules::in_container(owner),
                )
            }
        };
        let base = source.as_ref().map(Source::named);
        let missing = |path: &str| format!("Could not find the file {path} in container {what}");
        let place = |root: &OwnedFd, is_dir: bool| -> Result<_> {
            let destination = Destination::find(root, to.as_bytes());
            let destination = destination.map_err(|errno| explain(errno, missing(to)))?;
            match &base {
                Some(source) => destination.take(source, is_dir),
                None => destination
                    .directory()
                    .with_context(|| format!("destination \"{what}:{to}\" must be a directory")),
            }
        };
        let copied = view.visit_with(
            &Partner::Feeds,
            |tree, pipe| {
                let mut tar = Tar::new(reader(pipe)?);
                extract::extract(&mut tar, rules, |is_dir| place(&tree.root, is_dir))
                    .map_err(|error| read_only(error, what))?;
                tar.drain()
            },
            move |pipe| {
                let mut to = Counted::new(File::from(pipe));
                match source {
                    None => {
                        let (_, mut tar) = decompress(io::stdin().lock())?;
                        io::copy(&mut tar, &mut to)?;
                    }
                    Some(source) => {
                        let mut to = BufWriter::with_capacity(BUFFER, &mut to);
                        pack(source, b"", &open(Path::new("/proc"))?, &mut to)?;
                    }
                }
                Ok(to.count)
            },
        )?;
        let event = Event::of(&container, "extract-to-dir").with("path", to);
        journal::tell(&self.dirs, &event);
        Ok(copied)
    }

    /// Copies from a container to the host, and returns how many bytes that took in an archive.
    ///
    /// # Errors
    /// There is no such file or container; a directory would take a file's place, or the other way
    /// round.
    pub fn copy_out(&self, what: &str, from: &str, to: &Local, how: Copying) -> Result<u64> {
        let container = self.find(what)?;
        let view = self.view(&container.id, Sight::Mounts)?;
        let event = Event::of(&container, "archive-path").with("path", from);
        let missing = || format!("Could not find the file {from} in container {what}");
        let find = |root: &OwnedFd| {
            Source::find(root, from.as_bytes(), how.follow)
                .map_err(|errno| explain(errno, missing()))
        };
        let Local::Path(path) = to else {
            let out = io::stdout();
            ensure!(
                !out.is_terminal(),
                "cowardly refusing to copy to a terminal; redirect standard output"
            );
            view.visit(&[], |tree| {
                let source = find(&tree.root)?;
                let name = source.archive_name();
                let mut out = BufWriter::with_capacity(BUFFER, out.lock());
                pack(source, &name, &tree.proc, &mut out)
            })?;
            journal::tell(&self.dirs, &event);
            return Ok(0);
        };
        let source = place::name_of(from.as_bytes());
        let destination = find_place(path)?;
        let rules = Rules::on_host(how.archive);
        let copied = view.visit_with(
            &Partner::Reads,
            |tree, pipe| {
                let source = find(&tree.root)?;
                let mut to = BufWriter::with_capacity(BUFFER, file(pipe)?);
                pack(source, b"", &tree.proc, &mut to)
            },
            move |pipe| {
                let mut from = Counted::new(File::from(pipe));
                let mut tar = Tar::new(BufReader::with_capacity(BUFFER, &mut from));
                let place = |is_dir| destination.take(&source, is_dir);
                extract::extract(&mut tar, rules, place)?;
                tar.drain()?;
                Ok(from.count)
            },
        )?;
        journal::tell(&self.dirs, &event);
        Ok(copied)
    }
}

/// Writes a source as an archive in which it is called `path`.
fn pack(source: Source, path: &[u8], proc: &OwnedFd, to: &mut dyn Write) -> Result<()> {
    let mut packer = Packer::new(to, proc);
    packer.add(source.pin, path)?;
    packer.finish()?;
    Ok(())
}

fn find_on_host(path: &Path, follow: bool) -> Result<Source> {
    let whole = absolute(path)?;
    Source::find(&open(Path::new("/"))?, &whole, follow)
        .map_err(|errno| anyhow!(errno).context(format!("find {}", path.display())))
}

/// Where a copy will be, which is looked for before anything is copied.
fn find_place(path: &Path) -> Result<Destination> {
    let whole = absolute(path)?;
    let missing = || {
        let parent = path.parent().filter(|it| !it.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new(".")).display();
        format!("invalid output path: directory \"{parent}\" does not exist")
    };
    Destination::find(&open(Path::new("/"))?, &whole).map_err(|errno| explain(errno, missing()))
}

/// The path from the root, with the slash and the dot at its end, which mean something.
fn absolute(path: &Path) -> Result<Vec<u8>> {
    let bytes = path.as_os_str().as_bytes();
    if path.is_absolute() {
        return Ok(bytes.to_vec());
    }
    let here = std::env::current_dir().context("find the working directory")?;
    Ok([here.as_os_str().as_bytes(), b"/", bytes].concat())
}

fn file(pipe: &OwnedFd) -> Result<File> {
    let copy = pipe.as_fd().try_clone_to_owned();
    Ok(File::from(copy.context("duplicate a descriptor")?))
}

fn reader(pipe: &OwnedFd) -> Result<BufReader<File>> {
    Ok(BufReader::with_capacity(BUFFER, file(pipe)?))
}

/// Docker's sentence for what is not there, and the kernel's word for all else.
fn explain(errno: Errno, sentence: String) -> anyhow::Error {
    match errno {
        Errno::NOENT => anyhow!(sentence),
        errno => anyhow!(errno).context(sentence),
    }
}

fn read_only(error: anyhow::Error, what: &str) -> anyhow::Error {
    let refused = error.chain().any(|cause| {
        let errno = cause.downcast_ref::<Errno>();
        errno == Some(&Errno::ROFS)
    });
    match refused {
        true => error.context(format!(
            "the root or the volume is marked read-only in container {what}"
        )),
        false => error,
    }
}

/// Counts what passes.
struct Counted<T> {
    inner: T,
    count: u64,
}

impl<T> Counted<T> {
    fn new(inner: T) -> Self {
        Self { inner, count: 0 }
    }
}

impl<T: Write> Write for Counted<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.count += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: Read> Read for Counted<T> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(into)?;
        self.count += count as u64;
        Ok(count)
    }
}
