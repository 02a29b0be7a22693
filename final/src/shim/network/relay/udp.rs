//! Datagrams. There are no connections: each caller gets a socket towards the container, by which
//! the container's answers find back, until nothing has been said for a while.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::Duration;

use nix::sys::socket::{MsgFlags, send};
use tokio::net::UdpSocket;
use tokio::task::{JoinHandle, consume_budget, spawn_local};
use tokio::time::{Instant, timeout_at};

use super::Buffer;
use super::datagram::{self, Ends};

/// A caller is forgotten after so long a silence. The kernel's own is between 30 and 120 seconds
/// (nf_conntrack_udp_timeout, nf_conntrack_udp_timeout_stream).
const SILENCE: Duration = Duration::from_secs(90);

/// How many callers are known at once. Addresses are easily forged: whoever has been silent for the
/// longest makes room.
const MOST: usize = 1024;

/// Somebody who called.
struct Caller {
    /// Where they are, and where they called.
    ends: Ends,
    /// Towards the container, for this caller alone.
    socket: UdpSocket,
    /// When one of them last said something.
    heard: Cell<Instant>,
}

/// One published port.
struct Port {
    socket: UdpSocket,
    to: SocketAddr,
    shared: Buffer,
    /// Who is known, and the task that brings each their answers.
    callers: RefCell<HashMap<Ends, Known>>,
}

type Known = (Rc<Caller>, JoinHandle<()>);

/// Answers everybody who calls.
pub async fn serve(socket: UdpSocket, to: SocketAddr, shared: Buffer) {
    // Without it they are answered by most of a host's addresses.
    let _ = datagram::ask_for_ends(&socket);
    let port = Rc::new(Port {
        socket,
        to,
        shared,
        callers: RefCell::default(),
    });
    while port.socket.readable().await.is_ok() {
        // What fails is lost, as datagrams may be: an error tells of one that was sent before
        // (udp(7)), or that no descriptor is free.
        let _ = port.pass_on();
        consume_budget().await;
    }
}

impl Port {
    /// Brings the container a datagram.
    fn pass_on(self: &Rc<Self>) -> io::Result<()> {
        let mut buffer = self.shared.borrow_mut();
        let (length, ends) = datagram::receive(&self.socket, &mut buffer)?;
        let known = self.callers.borrow().get(&ends).map(|(it, _)| it.clone());
        let caller = known.map_or_else(|| self.meet(ends), Ok)?;
        caller.heard.set(Instant::now());
        let said = buffer.get(..length).unwrap_or_default();
        // Not by tokio: of a new socket it does not know yet that one can write there.
        send(caller.socket.as_raw_fd(), said, MsgFlags::MSG_DONTWAIT)?;
        Ok(())
    }

    fn meet(self: &Rc<Self>, ends: Ends) -> io::Result<Rc<Caller>> {
        let any: SocketAddr = match self.to {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let towards = std::net::UdpSocket::bind(any)?;
        towards.connect(self.to)?;
        towards.set_nonblocking(true)?;
        let caller = Rc::new(Caller {
            ends,
            socket: UdpSocket::from_std(towards)?,
            heard: Cell::new(Instant::now()),
        });
        let mut callers = self.callers.borrow_mut();
        if callers.len() >= MOST {
            let all = callers.values().map(|(caller, _)| caller);
            let quietest = all.min_by_key(|caller| caller.heard.get());
            let quietest = quietest.map(|caller| caller.ends);
            if let Some((_, answers)) = quietest.and_then(|ends| callers.remove(&ends)) {
                answers.abort();
            }
        }
        let (port, his) = (self.clone(), caller.clone());
        let answers = spawn_local(async move {
            port.answer(&his).await;
            port.callers.borrow_mut().remove(&ends);
        });
        callers.insert(ends, (caller.clone(), answers));
        Ok(caller)
    }

    /// Brings a caller the container's answers, until both are silent.
    async fn answer(&self, caller: &Caller) {
        loop {
            let forgotten = caller.heard.get() + SILENCE;
            if timeout_at(forgotten, caller.socket.readable())
                .await
                .is_ok()
            {
                // That nobody listens in the container (ECONNREFUSED) may yet change.
                let _ = self.bring_back(caller);
                consume_budget().await;
            } else if caller.heard.get() + SILENCE <= Instant::now() {
                return;
            }
        }
    }

    fn bring_back(&self, caller: &Caller) -> io::Result<()> {
        let mut buffer = self.shared.borrow_mut();
        let length = caller.socket.try_recv(&mut buffer)?;
        caller.heard.set(Instant::now());
        let said = buffer.get(..length).unwrap_or_default();
        datagram::answer(&self.socket, &caller.ends, said)
    }
}
