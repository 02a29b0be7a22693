//! The desk where one container's questions are answered: its two sockets.

use std::cell::Cell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use domain::base::iana::Rcode;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::answer::{Outcome, Transport, answer, refuse};
use super::forward::{ask, read_message, servers_of_host, write_message};
use super::neighbours::{Directory, Others};

/// So many questions of one container may be with others at a time. Each of them is a socket of ours.
const MOST_ASKED: usize = 256;

/// So many TCP connections it may have.
const MOST_CALLERS: usize = 64;

/// A caller who says nothing for so long is let go (RFC 7766, 6.2.3).
const SILENCE: Duration = Duration::from_secs(10);

/// The most that is read of a question by UDP, in bytes. One is a few dozen.
const QUESTION: usize = 4096;

/// So long it takes until something may be otherwise that the kernel refused.
const PAUSE: Duration = Duration::from_millis(100);

/// Who answers a container.
#[derive(Debug)]
pub(super) struct Desk {
    /// The container.
    pub(super) id: String,
    pub(super) directory: Rc<Directory>,
    turn: Cell<usize>,
}

/// What a question comes to.
enum Found {
    /// What is known here.
    Reply(Vec<u8>),
    /// Whom to ask.
    Ask(Vec<SocketAddr>),
    Nothing,
}

impl Desk {
    pub(super) fn new(id: String, directory: Rc<Directory>) -> Desk {
        directory.came(&id);
        Desk {
            id,
            directory,
            turn: Cell::new(0),
        }
    }

    /// Answers, until this is dropped.
    pub(super) async fn answer(
        self: Rc<Self>,
        udp: std::net::UdpSocket,
        tcp: std::net::TcpListener,
    ) -> Result<Infallible> {
        let udp = Rc::new(UdpSocket::from_std(udp).context("take a socket")?);
        let tcp = TcpListener::from_std(tcp).context("take a socket")?;
        let (packets, callers) = (Rc::clone(&self).packets(udp), self.callers(tcp));
        tokio::select! {
            never = packets => match never {},
            never = callers => match never {},
        }
    }

    async fn packets(self: Rc<Self>, socket: Rc<UdpSocket>) -> Infallible {
        let mut asking = JoinSet::new();
        let mut buffer = vec![0; QUESTION];
        loop {
            tokio::select! {
                received = socket.recv_from(&mut buffer) => {
                    let Ok((length, from)) = received else {
                        sleep(PAUSE).await;
                        continue;
                    };
                    let query = &buffer[..length];
                    match self.find(query, Transport::Udp) {
                        // As with any packet, whoever does not hear it asks again.
                        Found::Reply(reply) => drop(socket.send_to(&reply, from).await),
                        Found::Ask(servers) if asking.len() < MOST_ASKED => {
                            let (socket, query) = (Rc::clone(&socket), query.to_vec());
                            asking.spawn_local(async move {
                                if let Some(reply) = pass_on(&query, Transport::Udp, &servers).await {
                                    let _ = socket.send_to(&reply, from).await;
                                }
                            });
                        }
                        Found::Ask(_) => {
                            if let Some(reply) = refuse(query, Transport::Udp, Rcode::REFUSED) {
                                drop(socket.send_to(&reply, from).await);
                            }
                        }
                        Found::Nothing => {}
                    }
                }
                Some(_) = asking.join_next() => {}
            }
        }
    }

    async fn callers(self: Rc<Self>, listener: TcpListener) -> Infallible {
        let mut callers = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept(), if callers.len() < MOST_CALLERS => match accepted {
                    Ok((stream, _)) => {
                        let desk = Rc::clone(&self);
                        callers.spawn_local(async move { desk.call(stream).await });
                    }
                    Err(_) => sleep(PAUSE).await,
                },
                Some(_) = callers.join_next() => {}
            }
        }
    }

    /// One caller's questions, one after the other.
    async fn call(&self, mut stream: TcpStream) -> Option<()> {
        loop {
            let query = timeout(SILENCE, read_message(&mut stream))
                .await
                .ok()?
                .ok()?;
            let reply = match self.find(&query, Transport::Tcp) {
                Found::Reply(reply) => reply,
                Found::Ask(servers) => pass_on(&query, Transport::Tcp, &servers).await?,
                Found::Nothing => return None,
            };
            let written = timeout(SILENCE, write_message(&mut stream, &reply));
            written.await.ok()?.ok()?;
        }
    }

    fn find(&self, query: &[u8], transport: Transport) -> Found {
        self.turn.update(|turn| turn.wrapping_add(1));
        let now = self.directory.now();
        match answer(query, transport, &self.id, &now, self.turn.get()) {
            Outcome::Reply(reply) => Found::Reply(reply),
            Outcome::Nothing => Found::Nothing,
            Outcome::Others => Found::Ask(match now.others(&self.id) {
                Others::Nobody => Vec::new(),
                Others::OfHost => servers_of_host(),
                Others::These(servers) => servers,
            }),
        }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.directory.left(&self.id);
    }
}

/// What others say, or that nobody says anything.
async fn pass_on(query: &[u8], transport: Transport, servers: &[SocketAddr]) -> Option<Vec<u8>> {
    match ask(query, transport, servers).await {
        Some(answer) => Some(answer),
        None => refuse(query, transport, Rcode::SERVFAIL),
    }
}
