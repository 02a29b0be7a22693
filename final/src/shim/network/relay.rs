//! Where the kernel cannot turn packets round, a process of ours copies them: from `::1` to a
//! container that has no IPv6, and without root into a bridge's namespace.
//!
//! ```text
//!   the host                  minidocker-relay               the container, in the namespace that
//!   caller ──▶ [::1]:8080 ──▶ a socket here, a socket there ──▶ 10.88.0.2:80   the relay is given
//! ```
//!
//! Most published ports are never called this way, so that the shim holds the sockets, and only the
//! first call makes the process. It ends with the shim; its callers are cut off then.

mod datagram;
mod tcp;
mod udp;

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use anyhow::{Context, Result, bail};
use namespaces::{Held, Inside, Isolation, Running};
use nix::sched::{CloneFlags, setns};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::{JoinHandle, LocalSet, spawn_local};

use crate::runtime::title;
use crate::shim::raise_file_limit;
use crate::state::Port;

/// How much is read at once, in bytes: more than the longest datagram has (udp(7)).
const CHUNK: usize = 256 << 10;

/// What all is read into, one after the other: there is one thread. Only what cannot be passed on at
/// once is kept elsewhere, so that thousands who wait cost nothing.
type Buffer = Rc<RefCell<Vec<u8>>>;

/// A port of the host that is answered by a copying process, once somebody calls.
#[derive(Debug)]
pub struct Way {
    /// What is listened on, on the host: a TCP listener or a UDP socket, by `port.protocol`.
    pub socket: OwnedFd,
    /// Which port it is.
    pub port: Port,
    /// Where the container answers, in the namespace that the relay is given.
    pub to: SocketAddr,
}

/// The ways of one container. Nothing is copied, and there is no process, before the first call.
#[derive(Debug)]
pub struct Relay {
    ways: Vec<Way>,
    netns: Option<File>,
    process: Option<Running>,
}

impl Relay {
    /// From sockets that listen. `netns`: from where the container is called; `None`: from here.
    #[must_use]
    pub fn new(ways: Vec<Way>, netns: Option<File>) -> Relay {
        Relay {
            ways,
            netns,
            process: None,
        }
    }

    /// What to poll (to be read): a first call, and while the process runs its end. Then it is time
    /// to [`Relay::attend`].
    pub fn polled(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let ways = match self.process {
            None => self.ways.as_slice(),
            Some(_) => &[],
        };
        let process = self.process.iter().map(AsFd::as_fd);
        process.chain(ways.iter().map(|way| way.socket.as_fd()))
    }

    /// Begins the process, which goes when this is dropped, or we die; or reaps it. To be called by a
    /// process with one thread.
    ///
    /// # Errors
    /// There can be no process; or it could not begin, and nobody is answered from here on.
    pub fn attend(&mut self) -> Result<()> {
        if let Some(process) = self.process.take() {
            let status = process.reap()?;
            // Whoever was killed may be begun again; one that cannot begin would fail each time.
            if status < 128 {
                self.ways.clear();
                bail!("the relay of published ports failed with status {status}");
            }
            return Ok(());
        }
        let isolation = Isolation {
            ids: None,
            ..Isolation::users_only()?
        };
        let held = namespaces::spawn(&isolation, |inside| self.live(inside));
        match held.and_then(Held::let_go) {
            Ok(process) => self.process = Some(process),
            Err(error) => {
                // They would call again and again.
                self.ways.clear();
                return Err(error.context("begin a relay for published ports"));
            }
        }
        Ok(())
    }

    /// Has the container answer elsewhere from here on. Whoever was connected is cut off.
    pub fn lead_to(&mut self, to: impl Fn(&Port) -> SocketAddr) {
        self.process = None;
        for way in &mut self.ways {
            way.to = to(&way.port);
        }
    }

    /// The process' life. What it inherits of the shim's would outlive the shim's own wish to close
    /// it: pipes, terminals, locks.
    fn live(&self, inside: &Inside) -> Result<u8> {
        title::take("minidocker-relay")?;
        let sockets = self.ways.iter().map(|way| way.socket.as_fd());
        let netns = self.netns.iter().map(AsFd::as_fd);
        inside.close_files(0, &sockets.chain(netns).collect::<Vec<_>>())?;
        // Each connection takes two.
        raise_file_limit()?;
        if let Some(netns) = &self.netns {
            setns(netns, CloneFlags::CLONE_NEWNET).context("setns(netns, CLONE_NEWNET)")?;
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        LocalSet::new().block_on(&runtime, self.copy())?;
        Ok(0)
    }

    async fn copy(&self) -> Result<()> {
        let shared = Buffer::new(RefCell::new(vec![0; CHUNK]));
        let mut ways = Vec::new();
        for way in &self.ways {
            ways.push(way.serve(&shared)?);
        }
        for way in ways {
            way.await?;
        }
        Ok(())
    }
}

impl Way {
    fn serve(&self, shared: &Buffer) -> io::Result<JoinHandle<()>> {
        let socket = self.socket.try_clone()?;
        Ok(if self.port.protocol == "udp" {
            let socket = std::net::UdpSocket::from(socket);
            socket.set_nonblocking(true)?;
            spawn_local(udp::serve(
                UdpSocket::from_std(socket)?,
                self.to,
                shared.clone(),
            ))
        } else {
            let socket = std::net::TcpListener::from(socket);
            socket.set_nonblocking(true)?;
            let listener = TcpListener::from_std(socket)?;
            spawn_local(tcp::serve(listener, self.to, shared.clone()))
        })
    }
}
