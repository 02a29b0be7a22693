//! One of this process's own output streams, and what it has not taken yet.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use anyhow::{Context, Result};
use rustix::fs::{FileType, Mode, OFlags, fstat};

use crate::shim::protocol::Stream;

/// A pipe that poll(2) calls ready has room for so many bytes (pipe(7), PIPE_BUF).
const SURE: usize = 4096;

/// Standard output or standard error.
#[derive(Debug)]
pub(super) struct Output {
    file: File,
    /// How much is written at once, in bytes: a write(2) that waits for a slow reader would keep us
    /// from everything else.
    most: usize,
    pending: Vec<u8>,
    /// How much of that is written.
    written: usize,
}

impl Output {
    pub(super) fn of(stream: Stream) -> Result<Output> {
        let (out, err) = (io::stdout(), io::stderr());
        let fd = match stream {
            Stream::Err => err.as_fd(),
            Stream::Out | Stream::In => out.as_fd(),
        };
        let (file, most) = match again(fd)? {
            Some(file) => (file, usize::MAX),
            None => {
                let file = fd.try_clone_to_owned().context("dup a standard stream")?;
                let kind = FileType::from_raw_mode(fstat(&file)?.st_mode);
                let most = match kind {
                    FileType::RegularFile => usize::MAX,
                    _ => SURE,
                };
                (file.into(), most)
            }
        };
        Ok(Output {
            file,
            most,
            pending: Vec::new(),
            written: 0,
        })
    }

    /// Whether there is something to be written first.
    pub(super) fn is_busy(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Takes the bytes. It must not be busy.
    pub(super) fn put(&mut self, bytes: Vec<u8>) {
        self.pending = bytes;
        self.written = 0;
    }

    /// Writes what there is room for. Poll it before.
    pub(super) fn go_on(&mut self) -> io::Result<()> {
        let rest = self.pending.get(self.written..).unwrap_or_default();
        let piece = rest.get(..self.most).unwrap_or(rest);
        match self.file.write(piece) {
            Ok(length) => self.written += length,
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
        if self.written >= self.pending.len() {
            self.pending.clear();
        }
        Ok(())
    }
}

impl AsFd for Output {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A pipe or a terminal, opened once more: whether writing waits is a matter of the open file, which
/// others share with us.
fn again(fd: BorrowedFd) -> Result<Option<File>> {
    let kind = FileType::from_raw_mode(fstat(fd).context("look at a standard stream")?.st_mode);
    if kind != FileType::Fifo && !rustix::termios::isatty(fd) {
        return Ok(None);
    }
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    // It may be another user's.
    let file = rustix::fs::open(path, flags, Mode::empty());
    Ok(file.ok().map(File::from))
}
