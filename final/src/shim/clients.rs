//! Those who are connected to a shim.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::Result;

use super::protocol::{Connection, Frame, Stream, is_full};

/// One of them, and what has not been sent to them yet.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) connection: Connection,
    pub(super) role: Role,
    queue: VecDeque<Frame>,
}

/// What they are there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// They have not said it yet.
    New,
    /// To see what the container writes.
    Attached {
        /// And to be its standard input.
        stdin: bool,
    },
    /// To know when it ends.
    Waiting,
    /// To keep its processes where they are.
    Holding,
    /// They have what they wanted, or are gone.
    Gone,
}

impl Client {
    fn new(connection: Connection, role: Role) -> Client {
        Client {
            connection,
            role,
            queue: VecDeque::new(),
        }
    }

    /// Sends a frame, now or when there is room.
    pub(super) fn tell(&mut self, frame: Frame) {
        self.queue.push_back(frame);
        self.flush();
    }

    /// Tells why something cannot be done.
    pub(super) fn refuse(mut self, error: &anyhow::Error) {
        let status = namespaces::exit_status(error);
        self.tell(Frame::Failed(status, format!("{error:#}")));
    }

    /// Sends what there is room for.
    pub(super) fn flush(&mut self) {
        while let Some(frame) = self.queue.front() {
            match self.connection.send(frame, &[]) {
                Ok(()) => {
                    self.queue.pop_front();
                }
                Err(error) if is_full(&error) => return,
                // That they are gone is heard from them, and with it ends what they were to the
                // container: its standard input.
                Err(_) => self.queue.clear(),
            }
        }
    }

    pub(super) fn has_backlog(&self) -> bool {
        !self.queue.is_empty()
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Clients(pub(super) Vec<Client>);

impl Clients {
    /// A new one, who has not said what they want.
    pub(super) fn add(&mut self, connection: Connection) {
        self.0.push(Client::new(connection, Role::New));
    }

    /// One who is attached from the beginning.
    pub(super) fn attach(&mut self, connection: Connection, stdin: bool) -> Result<()> {
        connection.set_nonblocking()?;
        self.0
            .push(Client::new(connection, Role::Attached { stdin }));
        Ok(())
    }

    /// What the container wrote goes to everybody who is attached.
    pub(super) fn show(&mut self, stream: Stream, bytes: &[u8]) {
        for client in self.attached() {
            client.tell(Frame::Data(stream, bytes.to_vec()));
        }
    }

    /// Whether somebody is too slow: the container then waits, as with any pipe.
    pub(super) fn are_slow(&self) -> bool {
        self.0.iter().any(Client::has_backlog)
    }

    /// The run has ended for those who watch it.
    pub(super) fn tell_attached(&mut self, status: u8) {
        for client in self.attached() {
            client.tell(Frame::Ended(status));
            client.role = Role::Waiting;
        }
    }

    /// Everything has ended.
    pub(super) fn tell_all(&mut self, status: u8) {
        for client in &mut self.0 {
            client.tell(Frame::Ended(status));
        }
    }

    fn attached(&mut self) -> impl Iterator<Item = &mut Client> {
        let attached = |client: &&mut Client| matches!(client.role, Role::Attached { .. });
        self.0.iter_mut().filter(attached)
    }

    /// Forgets those who are gone.
    pub(super) fn sweep(&mut self) {
        self.0.retain(|client| client.role != Role::Gone);
    }
}
