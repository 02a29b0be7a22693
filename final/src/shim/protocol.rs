//! What a client says to a shim, and what it hears: packets on a unix socket (SOCK_SEQPACKET).
//!
//! The first packet of a connection is a [`Request`]. What follows are [`Frame`]s, in both
//! directions:
//!
//! ```text
//! attach   ◀ stdout, stderr …                  ◀ ended
//!          ▶ stdin …, end of stdin
//! exec     ◀ started + the terminal's master   ◀ ended
//! the rest ◀ done, or failed
//! ```

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType,
    UnixAddr, accept4, bind, connect, listen, recv, recvmsg, sendmsg, socket,
};
use serde::{Deserialize, Serialize};

use crate::state::{Places, Wanted};

/// The most that is in one packet, in bytes: less than a socket's buffer has room for.
pub const LARGEST: usize = 64 << 10;

/// What a client wants.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// To see what the container writes from now on, and maybe to be its standard input.
    Attach {
        /// Whether what this client sends is for its standard input.
        stdin: bool,
    },
    /// To run one more process. Its standard streams come with the packet, unless it has a
    /// terminal; a description that is too long for a packet comes as one more descriptor.
    Exec(Exec),
    /// To send a signal, to the first process or to all.
    Signal {
        /// Its number.
        signal: i32,
        /// Whether all processes get it.
        all: bool,
    },
    /// To stop all processes where they are.
    Pause,
    /// The same for as long as this client is there, or until somebody lets them go on.
    Hold,
    /// To let them go on.
    Resume,
    /// To give the container's terminal a size.
    Resize {
        /// In characters.
        rows: u16,
        /// In characters.
        columns: u16,
    },
    /// To know when it has ended, and what followed from that is done.
    Wait,
    /// To be in one more network, which [`crate::state::Wanted`] says more about.
    Connect {
        /// The network's name.
        network: String,
        /// What the container is to be there.
        wanted: Wanted,
    },
    /// To leave a network.
    Disconnect {
        /// Its name.
        network: String,
    },
    /// To have made anew what is gone of its networks altogether: cables, the way outside.
    Replug,
    /// To have it not started again: somebody has written down that it was stopped by hand.
    Cancel,
}

/// One more process. What is empty is as the container has it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Exec {
    /// The program and its arguments.
    pub args: Vec<String>,
    /// `KEY=VALUE`, beside the container's.
    pub env: Vec<String>,
    /// Where it starts.
    pub working_dir: String,
    /// `USER[:GROUP]`, looked up in the container.
    pub user: String,
    /// Whether it gets a terminal, whose master then comes with [`Frame::Done`].
    pub tty: bool,
    /// Rows and columns of that.
    pub size: (u16, u16),
    /// Whether it may do what a privileged container may.
    pub privileged: bool,
}

/// What is said after that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// For the container's standard input, or from its output.
    Data(Stream, Vec<u8>),
    /// There will be no more for its standard input.
    EndOfInput,
    /// What was asked for is done; an exec has begun.
    Done,
    /// It could not be done: an exit status, and a sentence.
    Failed(u8, String),
    /// It ended, with this status.
    Ended(u8),
}

/// One of the standard streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard input.
    In,
    /// Standard output, and all of a terminal's.
    Out,
    /// Standard error.
    Err,
}

impl Stream {
    /// As a log names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Stream::In => "stdin",
            Stream::Out => "stdout",
            Stream::Err => "stderr",
        }
    }
}

impl Frame {
    fn encode(&self) -> Vec<u8> {
        let with = |kind: u8, rest: &[u8]| [&[kind], rest].concat();
        match self {
            Frame::Data(Stream::In, bytes) => with(0, bytes),
            Frame::Data(Stream::Out, bytes) => with(1, bytes),
            Frame::Data(Stream::Err, bytes) => with(2, bytes),
            Frame::EndOfInput => with(3, &[]),
            Frame::Done => with(4, &[]),
            Frame::Failed(status, sentence) => {
                let mut sentence = sentence.as_bytes();
                sentence = sentence.get(..LARGEST).unwrap_or(sentence);
                with(5, &[&[*status], sentence].concat())
            }
            Frame::Ended(status) => with(6, &[*status]),
        }
    }

    fn decode(packet: &[u8]) -> Result<Frame> {
        let what = "a packet that makes no sense came from the container's shim or client";
        let (kind, rest) = packet.split_first().context(what)?;
        Ok(match kind {
            0 => Frame::Data(Stream::In, rest.to_vec()),
            1 => Frame::Data(Stream::Out, rest.to_vec()),
            2 => Frame::Data(Stream::Err, rest.to_vec()),
            3 => Frame::EndOfInput,
            4 => Frame::Done,
            5 => {
                let (status, sentence) = rest.split_first().context(what)?;
                Frame::Failed(*status, String::from_utf8_lossy(sentence).into_owned())
            }
            6 => Frame::Ended(*rest.first().context(what)?),
            _ => bail!(what),
        })
    }
}

/// One end of a connection.
#[derive(Debug)]
pub struct Connection(OwnedFd);

/// What a receiver finds.
#[derive(Debug)]
pub enum Heard<T> {
    /// It was sent, maybe with descriptors.
    Word(T, Vec<OwnedFd>),
    /// Nothing yet.
    Nothing,
    /// The other side is gone.
    End,
}

impl Connection {
    /// Connects to the shim of a container; `None`: there is none.
    ///
    /// # Errors
    /// The socket cannot be used.
    pub fn to(places: &Places) -> Result<Option<Connection>> {
        Connection::at(&places.run, SOCKET)
    }

    /// Connects to whoever listens at `name` in a directory; `None`: nobody does.
    ///
    /// # Errors
    /// The socket cannot be used.
    pub fn at(directory: &Path, name: &str) -> Result<Option<Connection>> {
        let socket = new_socket(SockFlag::SOCK_CLOEXEC)?;
        let Ok(opened) = std::fs::File::open(directory) else {
            return Ok(None);
        };
        match connect(socket.as_raw_fd(), &address(&opened, name)?) {
            Ok(()) => Ok(Some(Connection(socket))),
            Err(Errno::ENOENT | Errno::ECONNREFUSED) => Ok(None),
            Err(errno) => {
                let path = directory.join(name);
                Err(errno).with_context(|| format!("connect to {}", path.display()))
            }
        }
    }

    /// A pair of ends: one for a shim that is about to be born, one for whoever starts it.
    ///
    /// # Errors
    /// The kernel has no descriptors left.
    pub fn pair() -> Result<(Connection, Connection)> {
        let (one, two) = nix::sys::socket::socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .context("make a pair of sockets")?;
        Ok((Connection(one), Connection(two)))
    }

    /// Says what this connection is for. That the shim has gone meanwhile is what is heard next.
    ///
    /// # Errors
    /// The packet cannot be sent.
    pub fn request(&self, request: &Request, files: &[RawFd]) -> Result<()> {
        let text = serde_json::to_vec(request)?;
        if text.len() <= LARGEST {
            return unless_gone(self.send_packet(&text, files));
        }
        let memory =
            nix::sys::memfd::memfd_create(c"request", nix::sys::memfd::MFdFlags::MFD_CLOEXEC)
                .context("memfd_create")?;
        let mut file = std::fs::File::from(memory);
        std::io::Write::write_all(&mut file, &text).context("write a request")?;
        std::io::Seek::rewind(&mut file)?;
        let files: Vec<RawFd> = files.iter().copied().chain([file.as_raw_fd()]).collect();
        unless_gone(self.send_packet(b"long", &files))
    }

    /// Hears what a new connection is for.
    ///
    /// # Errors
    /// It is nothing that this shim knows.
    pub fn hear_request(&self) -> Result<Heard<Request>> {
        let (packet, mut files) = match self.receive()? {
            Heard::Word(packet, files) => (packet, files),
            Heard::Nothing => return Ok(Heard::Nothing),
            Heard::End => return Ok(Heard::End),
        };
        let text = if packet == b"long" {
            let memory = files
                .pop()
                .context("a long request came without its text")?;
            let mut text = Vec::new();
            let most = 16 << 20;
            std::io::Read::read_to_end(
                &mut std::io::Read::take(std::fs::File::from(memory), most),
                &mut text,
            )?;
            text
        } else {
            packet
        };
        let request = serde_json::from_slice(&text).context("read a request")?;
        Ok(Heard::Word(request, files))
    }

    /// Sends a frame. Whether it waits for room is the descriptor's affair.
    ///
    /// # Errors
    /// The other side is gone, or there is no room ([`Errno::EAGAIN`]).
    pub fn send(&self, frame: &Frame, files: &[RawFd]) -> Result<()> {
        self.send_packet(&frame.encode(), files)
    }

    /// Hears a frame.
    ///
    /// # Errors
    /// It makes no sense, or the connection broke.
    pub fn hear(&self) -> Result<Heard<Frame>> {
        Ok(match self.receive()? {
            Heard::Word(packet, files) => Heard::Word(Frame::decode(&packet)?, files),
            Heard::Nothing => Heard::Nothing,
            Heard::End => Heard::End,
        })
    }

    /// No longer waits, neither to send nor to hear.
    ///
    /// # Errors
    /// What fcntl(2) refuses.
    pub fn set_nonblocking(&self) -> Result<()> {
        rustix::io::ioctl_fionbio(&self.0, true).context("set a socket non-blocking")
    }

    /// Another descriptor of this end.
    ///
    /// # Errors
    /// The process has no descriptors left.
    pub fn try_clone(&self) -> Result<Connection> {
        let copy = self.0.try_clone().context("dup a socket")?;
        Ok(Connection(copy))
    }

    /// Sends bytes, and descriptors with them.
    ///
    /// # Errors
    /// As [`Connection::send`].
    pub fn send_packet(&self, bytes: &[u8], files: &[RawFd]) -> Result<()> {
        let rights = [ControlMessage::ScmRights(files)];
        let rights = if files.is_empty() {
            &[][..]
        } else {
            &rights[..]
        };
        loop {
            let sent = sendmsg::<()>(
                self.0.as_raw_fd(),
                &[IoSlice::new(bytes)],
                rights,
                MsgFlags::MSG_NOSIGNAL,
                None,
            );
            match sent {
                Err(Errno::EINTR) => {}
                sent => {
                    sent?;
                    return Ok(());
                }
            }
        }
    }

    /// Hears bytes, and takes the descriptors that came with them.
    ///
    /// # Errors
    /// The connection broke.
    pub fn receive(&self) -> Result<Heard<Vec<u8>>> {
        let length = match self.waiting()? {
            None => return Ok(Heard::Nothing),
            Some(0) => return Ok(Heard::End),
            Some(length) => length,
        };
        ensure!(length <= LARGEST + 16, "a packet that is too long came");
        let mut bytes = vec![0; length];
        let mut control = nix::cmsg_space!([RawFd; 8]);
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let got = recvmsg::<()>(self.0.as_raw_fd(), &mut slices, Some(&mut control), flags);
        let mut files = Vec::new();
        for message in got.context("hear from a socket")?.cmsgs()? {
            if let ControlMessageOwned::ScmRights(rights) = message {
                // SAFETY: the kernel has just made these descriptors for us.
                files.extend(
                    rights
                        .into_iter()
                        .map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }),
                );
            }
        }
        Ok(Heard::Word(bytes, files))
    }

    /// The length of the packet that comes next, in bytes: most have a few, and room for the largest
    /// would have to be cleared for each. `None`: there is none yet; 0: there will be no more.
    fn waiting(&self) -> Result<Option<usize>> {
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC;
        loop {
            match recv(self.0.as_raw_fd(), &mut [], flags) {
                // The other side left without having read all: that is said once, and before its own
                // last words.
                Err(Errno::EINTR | Errno::ECONNRESET) => {}
                Err(Errno::EAGAIN) => return Ok(None),
                length => return length.map(Some).context("hear from a socket"),
            }
        }
    }
}

impl AsRawFd for Connection {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl std::os::fd::AsFd for Connection {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Where a shim listens.
#[derive(Debug)]
pub struct Listener(OwnedFd);

impl Listener {
    /// Listens in a container's directory.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn bind(places: &Places) -> Result<Listener> {
        Listener::at(&places.run, SOCKET)
    }

    /// Listens at `name` in a directory, in the place of whoever did so before.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn at(directory: &Path, name: &str) -> Result<Listener> {
        let opened = std::fs::File::open(directory)
            .with_context(|| format!("open {}", directory.display()))?;
        let path = directory.join(name);
        let _ = std::fs::remove_file(&path);
        let socket = new_socket(SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?;
        bind(socket.as_raw_fd(), &address(&opened, name)?)
            .and_then(|()| listen(&socket, Backlog::new(64)?))
            .with_context(|| format!("listen at {}", path.display()))?;
        Ok(Listener(socket))
    }

    /// The next client, if one is there.
    ///
    /// # Errors
    /// The kernel has no descriptors left.
    pub fn accept(&self) -> Result<Option<Connection>> {
        match accept4(
            self.0.as_raw_fd(),
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        ) {
            // SAFETY: accept4(2) has just made this descriptor for us.
            Ok(fd) => Ok(Some(Connection(unsafe { OwnedFd::from_raw_fd(fd) }))),
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNABORTED) => Ok(None),
            Err(errno) => Err(errno).context("accept a client"),
        }
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl std::os::fd::AsFd for Listener {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether there was no room to [send](Connection::send).
pub(crate) fn is_full(error: &anyhow::Error) -> bool {
    error.downcast_ref() == Some(&Errno::EAGAIN)
}

/// The other side may have ended before it took the packet, which only says when.
fn unless_gone(sent: Result<()>) -> Result<()> {
    match sent {
        Err(error) if matches!(error.downcast_ref(), Some(Errno::EPIPE | Errno::ECONNRESET)) => {
            Ok(())
        }
        sent => sent,
    }
}

const SOCKET: &str = "shim.sock";

fn new_socket(flags: SockFlag) -> Result<OwnedFd> {
    socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).context("make a socket")
}

/// A socket's address has room for 107 bytes (unix(7)), a descriptor's name is short.
fn address(directory: &std::fs::File, name: &str) -> Result<UnixAddr> {
    let path = format!("/proc/self/fd/{}/{name}", directory.as_raw_fd());
    UnixAddr::new(path.as_str()).context("the socket's address")
}
