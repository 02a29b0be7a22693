//! The processes that were added to a container: whose children they are, and who waits for them.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use anyhow::{Context, Result};
use namespaces::Running;
use nix::unistd::read;

use super::clients::Client;
use super::protocol::{Exec, Frame};
use super::runner::Runner;
use super::streams::Console;
use super::{Shim, spec};
use crate::runtime::Settings;
use crate::state::journal::{self, Event};

/// Those that have not ended yet.
#[derive(Debug, Default)]
pub(super) struct Execs(pub(super) Vec<Execed>);

/// One of them.
#[derive(Debug)]
pub(super) struct Execed {
    pub(super) process: Running,
    /// Who waits for its end, as long as they do.
    client: Option<Client>,
    /// Its terminal, which must not end with the client who shows it.
    terminal: Option<OwnedFd>,
}

impl Shim<'_> {
    /// Runs one more process in the container, for a client.
    pub(super) fn exec(
        &self,
        runner: &Runner,
        wish: &Exec,
        client: Client,
        files: Vec<OwnedFd>,
    ) -> Option<Execed> {
        match self.try_exec(runner, wish, files) {
            Ok((process, terminal)) => {
                let shown: Vec<_> = terminal.iter().map(AsRawFd::as_raw_fd).collect();
                // Should they be gone, it runs all the same.
                let _ = client.connection.send(&Frame::Done, &shown);
                Some(Execed {
                    process,
                    client: Some(client),
                    terminal,
                })
            }
            Err(error) => {
                client.refuse(&error);
                None
            }
        }
    }

    fn try_exec(
        &self,
        runner: &Runner,
        wish: &Exec,
        files: Vec<OwnedFd>,
    ) -> Result<(Running, Option<OwnedFd>)> {
        let container = self.places.read()?;
        let root = runner.open_root()?;
        let process = spec::exec_process(&container, wish, root.as_fd())?;
        drop(root);
        let console = wish.tty.then(|| Console::open(self.places)).transpose()?;
        let mut settings = Settings {
            console_socket: console.as_ref().map(Console::path),
            ..Settings::default()
        };
        if !wish.tty {
            let streams = files.try_into().ok();
            settings.streams = Some(streams.context("an exec takes three standard streams")?);
        }
        let command = wish.args.join(" ");
        let tell = |action: &str| {
            let event = Event::of(&container, format!("{action}: {command}"));
            journal::tell(self.dirs, &event);
        };
        tell("exec_create");
        let process = runner.exec(&process, settings)?;
        tell("exec_start");
        let terminal = console.map(Console::take).transpose()?;
        Ok((process, terminal))
    }
}

impl Execed {
    /// The process has ended: whoever waits is told, and how.
    pub(super) fn end(self) -> Result<u8> {
        let status = self.process.reap()?;
        if let Some(client) = self.client {
            let _ = client.connection.send(&Frame::Ended(status), &[]);
        }
        Ok(status)
    }

    /// What to poll for beside the process: the client's end, and then what nobody shows any more.
    pub(super) fn other(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        match (&self.client, &self.terminal) {
            (Some(client), _) => Some(client.connection.as_fd()),
            (None, Some(terminal)) => Some(terminal.as_fd()),
            (None, None) => None,
        }
    }

    /// The client is gone, or there is something that nobody shows.
    pub(super) fn attend(&mut self) {
        if self.client.take().is_some() {
            return;
        }
        let Some(terminal) = &self.terminal else {
            return;
        };
        if !matches!(read(terminal, &mut [0; 4096]), Ok(length) if length > 0) {
            self.terminal = None;
        }
    }
}
