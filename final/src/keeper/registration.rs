//! How a container comes to be answered: its shim makes the sockets, and hands them to the keeper.
//!
//! ```text
//! shim    ── Register { id } + [udp, tcp] ──▶ keeper      (SOCK_SEQPACKET, SCM_RIGHTS; unix(7))
//!            lays the container's cables
//!         ◀── "here" ────────────────────────
//!         ═══ stays open; its end is the end of either ═══
//! ```

use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, bail};
use cli::Dirs;
use network::Protocol;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};

use super::{ADDRESS, PORT, life};
use crate::shim::protocol::{Connection, Heard};
use crate::state::Places;

/// What is wanted of the keeper. Each packet is one, as JSON.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// To answer a container, on the two sockets that come along: UDP, and listening TCP.
    Register {
        /// The container's id.
        id: String,
    },
}

/// What the keeper says when that is done.
pub(super) const HERE: &[u8] = b"here";

/// How long a keeper may take to answer, in milliseconds: it only waits for itself.
const PATIENCE: u16 = 10_000;

/// What is said where it does not.
const UNHEARD: &str = "the keeper of names (minidocker-keep) does not answer; it may be stopped, or \
                       have as many open files as it is allowed (`ulimit -Hn`)";

/// How often it is tried with another keeper, or the same: one that can take no more files says
/// nothing each time.
const TRIES: u32 = 10;

/// A container that the keeper answers, until this is dropped (or its holder dies).
#[derive(Debug)]
pub struct Registration {
    connection: Connection,
}

impl Registration {
    /// What is readable when the keeper is gone; then [`Asking::of`] again.
    #[must_use]
    pub fn connection(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}

/// A container for which the keeper is asked, and makes itself ready.
#[derive(Debug)]
pub struct Asking {
    dirs: Dirs,
    id: String,
    udp: UdpSocket,
    tcp: TcpListener,
    connection: Connection,
}

impl Asking {
    /// Asks for a container: the sockets of its resolver are made in its network namespace, and
    /// handed to the keeper, which is begun where there is none. Loopback is up in there then. Starts
    /// a thread, which has ended when this returns.
    ///
    /// # Errors
    /// The namespace is not ours to enter, or there can be no keeper.
    pub fn of(dirs: &Dirs, id: &str, netns: BorrowedFd<'_>) -> Result<Asking> {
        let (udp, tcp) = network::within(netns, || {
            network::loopback_up()?;
            let udp = UdpSocket::bind((ADDRESS, 0)).context("make a socket for UDP")?;
            let tcp = TcpListener::bind((ADDRESS, 0)).context("make a socket for TCP")?;
            // The port itself is left to whoever runs a name server in there.
            let ways = [
                (Protocol::Udp, udp.local_addr()?.port()),
                (Protocol::Tcp, tcp.local_addr()?.port()),
            ];
            network::detour(ADDRESS, PORT, &ways)?;
            Ok((udp, tcp))
        })?;
        Ok(Asking {
            dirs: dirs.clone(),
            id: id.to_owned(),
            connection: ask(dirs, id, &udp, &tcp)?,
            udp,
            tcp,
        })
    }

    /// Waits for the keeper's answer. When this returns, whoever asks in there is answered.
    ///
    /// # Errors
    /// It does not answer, and no other one can be begun.
    pub fn settle(mut self) -> Result<Registration> {
        for _ in 0..TRIES {
            if is_answered(&self.connection)? {
                return Ok(Registration {
                    connection: self.connection,
                });
            }
            // One that was about to end when we came says nothing.
            self.connection = ask(&self.dirs, &self.id, &self.udp, &self.tcp)?;
        }
        bail!(UNHEARD)
    }
}

/// Hands the sockets over, to whoever is the keeper.
fn ask(dirs: &Dirs, id: &str, udp: &UdpSocket, tcp: &TcpListener) -> Result<Connection> {
    let overlay = Places::of(dirs, id).data.join("merged");
    let connection = life::connect(dirs, &overlay)?;
    let packet = serde_json::to_vec(&Request::Register { id: id.to_owned() })?;
    match connection.send_packet(&packet, &[udp.as_raw_fd(), tcp.as_raw_fd()]) {
        // What one that is gone answers is its end.
        Err(error) if is_gone(&error) => {}
        sent => sent.context("ask the keeper of names")?,
    }
    Ok(connection)
}

/// Waits for an answer. Returns whether there was one.
fn is_answered(connection: &Connection) -> Result<bool> {
    let mut waiting = [PollFd::new(connection.as_fd(), PollFlags::POLLIN)];
    loop {
        match poll(&mut waiting, PollTimeout::from(PATIENCE)) {
            Err(Errno::EINTR) => {}
            Ok(0) => bail!(UNHEARD),
            ready => {
                ready.context("wait for the keeper of names")?;
                break;
            }
        }
    }
    match connection.receive()? {
        Heard::Word(word, _) if word == HERE => Ok(true),
        Heard::Word(word, _) => bail!("{}", String::from_utf8_lossy(&word)),
        Heard::Nothing | Heard::End => Ok(false),
    }
}

fn is_gone(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref(),
        Some(Errno::EPIPE | Errno::ECONNRESET | Errno::ENOTCONN)
    )
}

/// The two sockets of a registration, as the keeper uses them.
pub(super) fn sockets(files: Vec<OwnedFd>) -> Result<(UdpSocket, TcpListener)> {
    let [udp, tcp]: [OwnedFd; 2] = files
        .try_into()
        .map_err(|_| anyhow::anyhow!("a registration comes with two sockets"))?;
    let (udp, tcp) = (UdpSocket::from(udp), TcpListener::from(tcp));
    udp.set_nonblocking(true)
        .and_then(|()| tcp.set_nonblocking(true))
        .context("set a socket non-blocking")?;
    Ok((udp, tcp))
}
