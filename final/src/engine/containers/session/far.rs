//! The other side of a session: a shim that carries the container's streams, or an exec's own.

use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Result, bail};
use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::unistd::write;
use rustix::buffer::spare_capacity;

use super::super::exec::Execed;
use crate::shim::Streams;
use crate::shim::protocol::{Connection, Frame, Heard, LARGEST, Request, Stream, is_full};
use crate::state::Places;

/// How much is read at once, in bytes: a pipe's capacity.
const CHUNK: usize = 64 << 10;

/// Where bytes go to and come from.
#[derive(Debug)]
pub(super) struct Far {
    connection: Connection,
    way: Way,
}

#[derive(Debug)]
enum Way {
    /// In the connection's packets.
    Shim(Places),
    /// In streams of our own; the connection only tells of the end.
    Own(Streams),
}

/// What can be polled for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    Connection,
    Input,
    Output(usize),
}

/// What comes from there.
#[derive(Debug)]
pub(super) enum News {
    Nothing,
    Wrote(Stream, Vec<u8>),
    Ended(u8),
}

impl Far {
    pub(super) fn attached(connection: Connection, places: Places) -> Result<Far> {
        connection.set_nonblocking()?;
        let way = Way::Shim(places);
        Ok(Far { connection, way })
    }

    pub(super) fn execed(execed: Execed) -> Result<Far> {
        execed.connection.set_nonblocking()?;
        Ok(Far {
            connection: execed.connection,
            way: Way::Own(execed.streams),
        })
    }

    /// What is to be polled: `output`, whether there is room for more of that, and `input`, whether
    /// there is something to be sent.
    pub(super) fn interests(
        &self,
        output: bool,
        input: bool,
    ) -> Vec<(Part, BorrowedFd<'_>, PollFlags)> {
        let mut all = Vec::new();
        match &self.way {
            Way::Shim(_) => {
                let mut events = PollFlags::empty();
                events.set(PollFlags::POLLIN, output);
                events.set(PollFlags::POLLOUT, input);
                if !events.is_empty() {
                    all.push((Part::Connection, self.connection.as_fd(), events));
                }
            }
            Way::Own(own) => {
                all.push((Part::Connection, self.connection.as_fd(), PollFlags::POLLIN));
                if let Some(into) = &own.input
                    && input
                {
                    all.push((Part::Input, into.as_fd(), PollFlags::POLLOUT));
                }
                for (n, (_, file)) in own.outputs.iter().enumerate().filter(|_| output) {
                    all.push((Part::Output(n), file.as_fd(), PollFlags::POLLIN));
                }
            }
        }
        all
    }

    /// What has come from a part that is ready.
    pub(super) fn hear(&mut self, part: Part) -> Result<News> {
        match part {
            Part::Input => Ok(News::Nothing),
            Part::Connection => match self.connection.hear()? {
                Heard::Word(Frame::Data(stream, bytes), _) => Ok(News::Wrote(stream, bytes)),
                Heard::Word(Frame::Ended(status), _) => {
                    self.let_slave_go();
                    Ok(News::Ended(status))
                }
                Heard::Word(Frame::Failed(status, sentence), _) => {
                    Err(namespaces::Failure { status, sentence }.into())
                }
                Heard::Word(..) | Heard::Nothing => Ok(News::Nothing),
                Heard::End => bail!(
                    "the process that looked after the container is gone; \
                     `minidocker ps --all` says what became of it"
                ),
            },
            Part::Output(n) => Ok(self.read(n)),
        }
    }

    fn read(&mut self, n: usize) -> News {
        let Way::Own(Streams { outputs, .. }) = &mut self.way else {
            return News::Nothing;
        };
        let Some((stream, file)) = outputs.get(n) else {
            return News::Nothing;
        };
        let mut buffer = Vec::with_capacity(CHUNK);
        match rustix::io::read(file, spare_capacity(&mut buffer)) {
            Ok(1..) => News::Wrote(*stream, buffer),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => News::Nothing,
            // A terminal without any slave says EIO.
            Ok(0) | Err(_) => {
                outputs.remove(n);
                News::Nothing
            }
        }
    }

    /// Whether more may come after the end was told.
    pub(super) fn has_outputs(&self) -> bool {
        matches!(&self.way, Way::Own(own) if !own.outputs.is_empty())
    }

    fn let_slave_go(&mut self) {
        if let Way::Own(own) = &mut self.way {
            own.slave = None;
        }
    }

    /// Sends bytes for standard input, and returns how many were taken; `None`: nobody reads there
    /// any more.
    pub(super) fn give(&mut self, bytes: &[u8]) -> Option<usize> {
        match &mut self.way {
            Way::Shim(_) => {
                let piece = bytes.get(..LARGEST).unwrap_or(bytes);
                let frame = Frame::Data(Stream::In, piece.to_vec());
                match self.connection.send(&frame, &[]) {
                    Ok(()) => Some(piece.len()),
                    Err(error) => is_full(&error).then_some(0),
                }
            }
            Way::Own(own) => match write(own.input.as_ref()?, bytes) {
                Ok(length) => Some(length),
                Err(Errno::EAGAIN | Errno::EINTR) => Some(0),
                Err(_) => {
                    own.input = None;
                    None
                }
            },
        }
    }

    /// There will be no more for standard input. Returns whether that could be said now.
    pub(super) fn end_input(&mut self) -> bool {
        match &mut self.way {
            Way::Shim(_) => match self.connection.send(&Frame::EndOfInput, &[]) {
                Ok(()) => true,
                Err(error) => !is_full(&error),
            },
            Way::Own(own) => {
                // A terminal has no end but a hang-up.
                if own.slave.is_none() {
                    own.input = None;
                }
                true
            }
        }
    }

    /// Gives the terminal a size, in characters.
    pub(super) fn resize(&self, rows: u16, columns: u16) {
        match &self.way {
            Way::Shim(_) => self.ask(&Request::Resize { rows, columns }),
            Way::Own(own) => {
                if let Some(master) = own.terminal() {
                    // It can only fail because the terminal has just gone.
                    let _ = namespaces::set_terminal_size(master, rows, columns);
                }
            }
        }
    }

    /// Sends a signal to the container's first process.
    pub(super) fn signal(&self, signal: i32) {
        self.ask(&Request::Signal { signal, all: false });
    }

    /// Asks in a connection of its own, for this one may be full of bytes that nobody reads. Should
    /// the shim be gone, this one tells.
    fn ask(&self, request: &Request) {
        if let Way::Shim(places) = &self.way
            && let Ok(Some(connection)) = Connection::to(places)
        {
            let _ = connection.request(request, &[]);
        }
    }
}
