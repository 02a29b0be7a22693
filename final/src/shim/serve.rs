//! The loop: what the container writes, what clients want, and who has ended.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{read, write};

use super::Shim;
use super::begin::Run;
use super::clients::{Client, Role};
use super::execs::Execed;
use super::protocol::{Frame, Heard, Request};
use super::runner::Runner;
use crate::state::journal::{self, Event};
use crate::state::{Locked, Status};

/// How much is read at once, in bytes: a pipe's capacity.
const CHUNK: usize = 64 << 10;

/// How much of a container that never wrote more at once, which is most of them.
const QUIET: usize = 4 << 10;

/// So much for the container's standard input waits here, in bytes, before clients have to.
const MOST_INPUT: usize = 64 << 10;

/// So long it takes until somebody may have gone who has a descriptor.
const PAUSE: Duration = Duration::from_millis(20);

/// How a run ended.
pub(super) struct Ended {
    pub(super) status: u8,
    /// Whether the kernel had to kill for want of memory.
    pub(super) oom_killed: bool,
    pub(super) lasted: Duration,
}

/// What a descriptor in the poll is.
#[derive(Clone, Copy)]
enum Source {
    Process,
    Listener,
    Client(usize),
    Output(usize),
    Input,
    Exec(usize),
    ExecOther(usize),
    Network,
}

/// For the container's standard input, and not taken by it yet.
#[derive(Default)]
struct Pending {
    bytes: Vec<u8>,
    /// Whether nothing comes after them.
    last: bool,
}

impl Shim<'_> {
    /// Stays with a run until it has ended and all that it wrote is in the log.
    pub(super) fn serve(&mut self, mut run: Run) -> Result<Ended> {
        let began = Instant::now();
        let mut pending = Pending::default();
        let mut buffer = vec![0; QUIET];
        while !self.turn(&mut run, &mut pending, &mut buffer)? {}
        drop(pending);
        let Run {
            process,
            runner,
            mut streams,
            execs,
            network,
            ..
        } = run;
        let status = process.reap()?;

        // Whoever it left behind goes too, and with them the last who could write.
        let oom_killed = status == 128 + 9 && runner.oom_kills().is_ok_and(|kills| kills > 0);
        runner.delete()?;
        for exec in execs.0 {
            self.exec_ended(exec);
        }
        for (stream, file) in &mut streams.outputs {
            // Without a cgroup somebody may live on and write for ever: what was there is enough.
            let mut left = capacity(file);
            while left > 0
                && let Ok(length @ 1..) = read(&*file, &mut buffer)
            {
                self.log.write(*stream, &buffer[..length]);
                self.clients.show(*stream, &buffer[..length]);
                left = left.saturating_sub(length);
            }
        }
        self.log.end();
        drop(network);
        Ok(Ended {
            status,
            oom_killed,
            lasted: began.elapsed(),
        })
    }

    /// Waits for something to happen, and sees to it. Returns whether the first process has ended.
    fn turn(&mut self, run: &mut Run, pending: &mut Pending, buffer: &mut Vec<u8>) -> Result<bool> {
        let (sources, mut polled) = self.interests(run, pending);
        wait_for(&mut polled, PollTimeout::NONE)?;
        let ready: Vec<(Source, PollFlags)> = sources
            .into_iter()
            .zip(&polled)
            .filter_map(|(source, polled)| Some((source, polled.revents()?)))
            .filter(|(_, events)| !events.is_empty())
            .collect();
        drop(polled);
        let mut ended = false;
        let mut gone = Vec::new();
        for (source, events) in ready {
            match source {
                Source::Process => ended = true,
                Source::Listener => self.accept(),
                Source::Client(n) => {
                    if events.contains(PollFlags::POLLOUT)
                        && let Some(client) = self.clients.0.get_mut(n)
                    {
                        client.flush();
                    }
                    if events.intersects(PollFlags::POLLIN | PollFlags::POLLHUP) {
                        self.hear(n, run, pending)?;
                    }
                }
                Source::Output(n) => self.pass_on(n, run, buffer),
                Source::Input => feed(&mut run.streams.input, pending),
                Source::Exec(n) => gone.push(n),
                Source::ExecOther(n) => {
                    if let Some(exec) = run.execs.0.get_mut(n) {
                        exec.attend();
                    }
                }
                // The container lives on without it.
                Source::Network => drop(run.network.attend(self.id.as_str(), self.dirs)),
            }
        }
        // From behind, so that the numbers before stay right.
        for n in gone.into_iter().rev() {
            let exec = run.execs.0.remove(n);
            self.exec_ended(exec);
        }
        run.streams.outputs.retain(|(_, file)| !is_over(file));
        self.clients.sweep();
        Ok(ended)
    }

    /// The container lives on, whether or not anybody can be told.
    fn exec_ended(&self, exec: Execed) {
        if let Ok(status) = exec.end()
            && let Ok(container) = self.places.read()
        {
            let died = Event::of(&container, "exec_die").with("exitCode", status);
            journal::tell(self.dirs, &died);
        }
    }

    /// Who is listened to at the moment. Nothing is read that there is no room for.
    fn interests<'a>(&'a self, run: &'a Run, pending: &Pending) -> (Vec<Source>, Vec<PollFd<'a>>) {
        let mut all = vec![
            (Source::Process, run.process.as_fd(), PollFlags::POLLIN),
            (Source::Listener, self.listener.as_fd(), PollFlags::POLLIN),
        ];
        for (n, client) in self.clients.0.iter().enumerate() {
            let mut events = PollFlags::empty();
            if client.has_backlog() {
                events |= PollFlags::POLLOUT;
            }
            // Only who types waits: others may want to end a container that does not read.
            let types = client.role == Role::Attached { stdin: true };
            if !types || pending.bytes.len() < MOST_INPUT {
                events |= PollFlags::POLLIN;
            }
            all.push((Source::Client(n), client.as_fd(), events));
        }
        if !self.clients.are_slow() {
            for (n, (_, file)) in run.streams.outputs.iter().enumerate() {
                all.push((Source::Output(n), file.as_fd(), PollFlags::POLLIN));
            }
        }
        if let Some(input) = &run.streams.input
            && !pending.bytes.is_empty()
        {
            all.push((Source::Input, input.as_fd(), PollFlags::POLLOUT));
        }
        for (n, exec) in run.execs.0.iter().enumerate() {
            all.push((Source::Exec(n), exec.process.as_fd(), PollFlags::POLLIN));
            if let Some(other) = exec.other() {
                all.push((Source::ExecOther(n), other, PollFlags::POLLIN));
            }
        }
        let network = run.network.polled();
        all.extend(network.map(|file| (Source::Network, file, PollFlags::POLLIN)));
        all.into_iter()
            .map(
                |(source, file, events): (Source, BorrowedFd<'a>, PollFlags)| {
                    (source, PollFd::new(file, events))
                },
            )
            .unzip()
    }

    fn accept(&mut self) {
        loop {
            match self.listener.accept() {
                Ok(Some(connection)) => self.clients.add(connection),
                Ok(None) => return,
                // No descriptor is free: who calls waits until somebody goes, and the container
                // lives on.
                Err(_) => return sleep(PAUSE),
            }
        }
    }

    /// What the container wrote goes to the log and to everybody who is attached.
    fn pass_on(&mut self, n: usize, run: &mut Run, buffer: &mut Vec<u8>) {
        let Some((stream, file)) = run.streams.outputs.get(n) else {
            return;
        };
        if let Ok(length @ 1..) = read(file, buffer) {
            self.log.write(*stream, &buffer[..length]);
            self.clients.show(*stream, &buffer[..length]);
            if length == buffer.len() {
                buffer.resize(CHUNK, 0);
            }
        }
    }

    /// A client says something, or goes.
    fn hear(&mut self, n: usize, run: &mut Run, pending: &mut Pending) -> Result<()> {
        let Some(client) = self.clients.0.get_mut(n) else {
            return Ok(());
        };
        if client.role == Role::New {
            return match client.connection.hear_request() {
                Ok(Heard::Word(request, files)) => self.answer(n, request, files, run),
                Ok(Heard::Nothing) => Ok(()),
                Ok(Heard::End) | Err(_) => {
                    client.role = Role::Gone;
                    Ok(())
                }
            };
        }
        let stdin = client.role == Role::Attached { stdin: true };
        match client.connection.hear() {
            Ok(Heard::Word(Frame::Data(_, bytes), _)) if stdin => {
                pending.bytes.extend_from_slice(&bytes);
                feed(&mut run.streams.input, pending);
            }
            Ok(Heard::Word(Frame::EndOfInput, _)) if stdin => end_input(run, pending),
            Ok(Heard::Word(..) | Heard::Nothing) => {}
            Ok(Heard::End) | Err(_) => {
                let held = client.role == Role::Holding;
                client.role = Role::Gone;
                if stdin {
                    end_input(run, pending);
                }
                if held {
                    // Whoever held them was killed, and there is nobody left to tell.
                    let _ = self.pause(&run.runner, false);
                }
            }
        }
        Ok(())
    }

    fn answer(
        &mut self,
        n: usize,
        request: Request,
        files: Vec<OwnedFd>,
        run: &mut Run,
    ) -> Result<()> {
        let done = match request {
            Request::Attach { stdin } => {
                self.clients.0[n].role = Role::Attached { stdin };
                return Ok(());
            }
            Request::Wait => {
                self.clients.0[n].role = Role::Waiting;
                return Ok(());
            }
            Request::Exec(wish) => {
                let client = self.clients.0.remove(n);
                let execed = self.exec(&run.runner, &wish, client, files);
                run.execs.0.extend(execed);
                return Ok(());
            }
            Request::Signal { signal, all } => self.signal(&run.runner, signal, all),
            Request::Pause => self.pause(&run.runner, true),
            Request::Hold => match self.pause(&run.runner, true) {
                Ok(()) => {
                    let client = &mut self.clients.0[n];
                    client.role = Role::Holding;
                    client.tell(Frame::Done);
                    return Ok(());
                }
                refused => refused,
            },
            Request::Resume => {
                for client in &mut self.clients.0 {
                    if client.role == Role::Holding {
                        client.role = Role::Waiting;
                    }
                }
                self.pause(&run.runner, false)
            }
            Request::Resize { rows, columns } => {
                resize(run, rows, columns);
                Ok(())
            }
            Request::Connect { network, wanted } => self.connect(run, &network, wanted),
            Request::Disconnect { network } => self.disconnect(run, &network),
            Request::Replug => run.network.make_anew(self.id.as_str(), self.dirs),
            // It runs, and what is written down counts when it ends.
            Request::Cancel => Ok(()),
        };
        let client = &mut self.clients.0[n];
        client.tell(match done {
            Ok(()) => Frame::Done,
            Err(error) => Frame::Failed(namespaces::exit_status(&error), format!("{error:#}")),
        });
        client.role = Role::Gone;
        Ok(())
    }

    fn signal(&self, runner: &Runner, signal: i32, all: bool) -> Result<()> {
        runner.kill(signal, all)?;
        let sent = Event::of(&self.places.read()?, "kill").with("signal", signal);
        journal::tell(self.dirs, &sent);
        Ok(())
    }

    /// Stops all processes where they are, or lets them go on, and writes that down.
    fn pause(&self, runner: &Runner, pause: bool) -> Result<()> {
        let mut locked = Locked::open(self.dirs, self.id.as_str())?;
        locked.container.life.status = match pause {
            true => {
                runner.pause()?;
                Status::Paused
            }
            false => {
                runner.resume()?;
                Status::Running
            }
        };
        locked.save()?;
        let action = if pause { "pause" } else { "unpause" };
        journal::tell(self.dirs, &Event::of(&locked.container, action));
        Ok(())
    }

    /// Waits before the next start, or until somebody wants none.
    pub(super) fn wait(&mut self, pause: Duration) -> Result<()> {
        let until = Instant::now() + pause;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            let files = std::iter::once(self.listener.as_fd());
            let files = files.chain(self.clients.0.iter().map(Client::as_fd));
            let mut polled: Vec<PollFd> = files
                .map(|file| PollFd::new(file, PollFlags::POLLIN))
                .collect();
            let milliseconds = u32::try_from(left.as_millis() + 1).unwrap_or(u32::MAX);
            wait_for(&mut polled, PollTimeout::try_from(milliseconds)?)?;
            drop(polled);
            self.accept();
            for client in &mut self.clients.0 {
                if client.role != Role::New {
                    if let Ok(Heard::End) | Err(_) = client.connection.hear() {
                        client.role = Role::Gone;
                    }
                    continue;
                }
                match client.connection.hear_request() {
                    Ok(Heard::Nothing) => {}
                    Ok(Heard::Word(Request::Cancel, _)) => {
                        client.role = Role::Waiting;
                        return Ok(());
                    }
                    Ok(Heard::Word(Request::Wait, _)) => client.role = Role::Waiting,
                    Ok(Heard::Word(Request::Attach { stdin }, _)) => {
                        client.role = Role::Attached { stdin };
                    }
                    Ok(Heard::Word(..)) => {
                        let sentence = "the container is restarting, wait until it is running";
                        client.tell(Frame::Failed(125, sentence.to_owned()));
                        client.role = Role::Gone;
                    }
                    Ok(Heard::End) | Err(_) => client.role = Role::Gone,
                }
            }
            self.clients.sweep();
        }
    }

    /// Stays until everybody has heard what there is to hear.
    pub(super) fn linger(&mut self) -> Result<()> {
        loop {
            self.clients.sweep();
            let slow = self.clients.0.iter().filter(|client| client.has_backlog());
            let mut polled: Vec<PollFd> = slow
                .map(|client| PollFd::new(client.as_fd(), PollFlags::POLLOUT))
                .collect();
            if polled.is_empty() {
                return Ok(());
            }
            wait_for(&mut polled, PollTimeout::NONE)?;
            drop(polled);
            self.clients.0.iter_mut().for_each(Client::flush);
        }
    }
}

fn wait_for(polled: &mut [PollFd], timeout: PollTimeout) -> Result<()> {
    match poll(polled, timeout) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno).context("wait for the container and its clients"),
    }
}

/// How much may be written and not read yet, in bytes (pipe(7)); a terminal has room for less.
fn capacity(file: &OwnedFd) -> usize {
    let capacity = fcntl(file, FcntlArg::F_GETPIPE_SZ).ok();
    let capacity = capacity.and_then(|bytes| usize::try_from(bytes).ok());
    capacity.unwrap_or(CHUNK)
}

/// Whether nobody can write there any more.
fn is_over(file: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
    let over = PollFlags::POLLHUP;
    poll(&mut polled, PollTimeout::ZERO).is_ok()
        && polled[0].revents().is_some_and(|events| events == over)
}

/// Gives the container of its standard input what it takes.
fn feed(input: &mut Option<OwnedFd>, pending: &mut Pending) {
    if let Some(file) = input {
        match write(&*file, &pending.bytes) {
            Ok(length) => drop(pending.bytes.drain(..length)),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            // Nobody reads it.
            Err(_) => pending.bytes.clear(),
        }
    } else {
        pending.bytes.clear();
    }
    if pending.last && pending.bytes.is_empty() {
        *input = None;
    }
}

/// The client who was standard input is at its end. A terminal has none.
fn end_input(run: &mut Run, pending: &mut Pending) {
    if run.stdin_once && run.streams.terminal().is_none() {
        pending.last = true;
        feed(&mut run.streams.input, pending);
    }
}

fn resize(run: &Run, rows: u16, columns: u16) {
    if let Some(master) = run.streams.terminal() {
        // It can only fail because the terminal has just gone.
        let _ = namespaces::set_terminal_size(master, rows, columns);
    }
}
