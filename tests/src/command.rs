//! Commands on a host: what they print, how they end, and when to give up.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait_for;

/// How long a command may take, and what it prints: on a busy machine that is long, and to be patient
/// costs nothing where all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A command that has ended.
pub struct Output {
    /// The command, for messages.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// All that it wrote to standard output.
    pub stdout: Vec<u8>,
    /// All that it wrote to standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Standard output as text, without the last newline.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout)
            .trim_end_matches('\n')
            .to_owned()
    }

    /// Standard error as text, without the last newline.
    pub fn errors(&self) -> String {
        String::from_utf8_lossy(&self.stderr)
            .trim_end_matches('\n')
            .to_owned()
    }

    /// The exit status as a shell has it in `$?`: 128 + n after signal n.
    pub fn code(&self) -> i32 {
        self.status
            .code()
            .unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// Standard output of a command that must have succeeded.
    ///
    /// # Panics
    /// When it did not, with all that is known about it.
    #[track_caller]
    pub fn ok(&self) -> String {
        self.exits(0);
        self.text()
    }

    /// Standard error of a command that must have ended with `code`.
    ///
    /// # Panics
    /// When it did not, with all that is known about it.
    #[track_caller]
    pub fn exits(&self, code: i32) -> String {
        assert!(
            self.code() == code,
            "expected exit status {code}, but {self}"
        );
        self.errors()
    }
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Output {
            command, status, ..
        } = self;
        let (out, err) = (self.text(), self.errors());
        write!(
            f,
            "`{command}` ended with {status}\n--- stdout\n{out}\n--- stderr\n{err}\n---"
        )
    }
}

/// The first child of `parent`: of `machine enter` it is the command.
pub fn inner(parent: i32) -> Option<i32> {
    let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
    children.ok()?.split_whitespace().next()?.parse().ok()
}

/// Whether a process that comes of `parent` runs a program of this name.
pub(crate) fn comes_of(parent: i32, program: &str) -> bool {
    let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
    let children = children.unwrap_or_default();
    let mut children = children.split_whitespace().flat_map(str::parse);
    children.any(|child| {
        let name = std::fs::read_to_string(format!("/proc/{child}/comm"));
        name.is_ok_and(|name| name.trim_end() == program) || comes_of(child, program)
    })
}

type Shared = Arc<Mutex<Vec<u8>>>;

/// A command that runs. Dropped, it is killed.
#[derive(Debug)]
pub struct Running {
    command: String,
    child: Child,
    stdin: Option<ChildStdin>,
    /// Fully read when these are the only holders left.
    stdout: Shared,
    stderr: Shared,
    /// The pipes that these are read from.
    pipes: [OwnedFd; 2],
    ended: bool,
}

impl Running {
    /// Starts a command, in a group of its own: where somebody in a group is stopped and an orphan of
    /// it ends, the kernel hangs up the whole group (setpgid(2)), and that would be all suites.
    pub(crate) fn start(mut command: Command, name: String, stdin: Stdio) -> Running {
        command
            .process_group(0)
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("start `{name}`: {error}"));
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (stdout, stderr) = (stdout.expect("a pipe"), stderr.expect("a pipe"));
        let pipes = [stdout.as_fd(), stderr.as_fd()]
            .map(|pipe| pipe.try_clone_to_owned().expect("copy a descriptor"));
        let (stdout, stderr) = (collect(Some(stdout)), collect(Some(stderr)));
        let stdin = child.stdin.take();
        Running {
            command: name,
            child,
            stdin,
            stdout,
            stderr,
            pipes,
            ended: false,
        }
    }

    /// The pid of the command itself, as the real machine numbers it.
    ///
    /// # Panics
    /// When it does not start within a minute.
    pub fn pid(&self) -> i32 {
        wait_for(&format!("`{}` to start", self.command), 60, || {
            self.started()
        })
    }

    /// The same, if it has started and not ended.
    pub fn started(&self) -> Option<i32> {
        inner(self.child.id().cast_signed())
    }

    /// The pid of the container's first process, as the real machine numbers
    /// it: the first child of the command.
    ///
    /// # Panics
    /// When there is none within a minute.
    pub fn container(&self) -> i32 {
        let parent = self.pid();
        wait_for("the container's first process", 60, || inner(parent))
    }

    /// Waits until somebody who comes of the command runs this program.
    ///
    /// # Panics
    /// When nobody does within a minute.
    pub fn runs(&self, program: &str) {
        wait_for(program, 60, || {
            comes_of(self.child.id().cast_signed(), program).then_some(())
        });
    }

    /// Sends a signal to the command itself.
    ///
    /// # Panics
    /// When the command is gone.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal)
            .unwrap_or_else(|error| panic!("send {signal} to `{}`: {error}", self.command));
    }

    /// Kills the command, and it alone, after `moment`, or lets it end before.
    ///
    /// # Panics
    /// When it does not start within a minute.
    pub fn kill_after(self, moment: Duration) -> Output {
        let pid = Pid::from_raw(self.pid());
        std::thread::sleep(moment);
        // It is waited for by the process that entered the machine, which is
        // waited for below: until then the number is nobody else's, or gone.
        kill(pid, Signal::SIGKILL).ok();
        self.wait()
    }

    /// Writes to the command's standard input.
    ///
    /// # Panics
    /// When the command does not read.
    pub fn write(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("standard input is still open");
        stdin
            .write_all(bytes)
            .and_then(|()| stdin.flush())
            .unwrap_or_else(|error| panic!("write to `{}`: {error}", self.command));
    }

    /// Closes the command's standard input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Waits until standard output holds `text`, and returns all of it so far.
    ///
    /// # Panics
    /// After two minutes, or when the command ends without it.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            // What it has said before its end may not be read yet.
            let over = !matches!(self.child.try_wait(), Ok(None)) && !self.unread();
            let seen = copy(&self.stdout);
            let seen = String::from_utf8_lossy(&seen);
            if seen.contains(text) {
                return seen.into_owned();
            }
            assert!(
                !over && Instant::now() < end,
                "`{}` {} without printing {text:?}; it printed:\n{seen}\n--- stderr\n{}",
                self.command,
                if over { "ended" } else { "went on" },
                String::from_utf8_lossy(&copy(&self.stderr)),
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What the command has printed to standard output so far.
    pub fn printed(&self) -> String {
        String::from_utf8_lossy(&copy(&self.stdout)).into_owned()
    }

    /// Whether the command still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// When it does not come within two minutes; the command is killed then.
    #[track_caller]
    pub fn wait(mut self) -> Output {
        self.stdin = None;
        let end = Instant::now() + PATIENCE;
        let status = loop {
            match self.child.try_wait().expect("wait for one's own child") {
                Some(status) => break status,
                None if Instant::now() < end => std::thread::sleep(Duration::from_millis(2)),
                None => self.give_up(),
            }
        };
        self.ended = true;
        // Who has inherited a pipe keeps it open: two seconds for what is on
        // its way, and no waiting for a process that stayed behind.
        let begin = Instant::now();
        let goes_on = |seconds| begin.elapsed() < Duration::from_secs(seconds);
        while self.unread() && (goes_on(2) || self.holds_something() && goes_on(60)) {
            std::thread::sleep(Duration::from_millis(1));
        }
        Output {
            command: self.command.clone(),
            status,
            stdout: copy(&self.stdout),
            stderr: copy(&self.stderr),
        }
    }

    fn unread(&self) -> bool {
        Arc::strong_count(&self.stdout) > 1 || Arc::strong_count(&self.stderr) > 1
    }

    /// Whether there is something in a pipe that was not read yet, for want of a processor.
    fn holds_something(&self) -> bool {
        let held = |pipe| rustix::io::ioctl_fionread(pipe).unwrap_or(0);
        self.pipes.iter().any(|pipe| held(pipe) > 0)
    }

    #[track_caller]
    fn give_up(&mut self) -> ! {
        let (out, err) = (copy(&self.stdout), copy(&self.stderr));
        panic!(
            "`{}` did not end within {PATIENCE:?}\n--- stdout\n{}\n--- stderr\n{}\n---",
            self.command,
            String::from_utf8_lossy(&out),
            String::from_utf8_lossy(&err),
        )
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        // Whoever entered the machine for the command ends when the command has.
        if let Some(command) = inner(self.child.id().cast_signed()) {
            kill(Pid::from_raw(command), Signal::SIGKILL).ok();
        } else {
            self.child.kill().ok();
        }
        self.child.wait().ok();
    }
}

fn copy(shared: &Shared) -> Vec<u8> {
    shared
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone()
}

/// Reads a pipe to its end in a thread of its own.
pub(crate) fn collect(pipe: Option<impl Read + Send + 'static>) -> Shared {
    let shared = Shared::default();
    let writer = Arc::clone(&shared);
    std::thread::spawn(move || {
        let mut buffer = [0; 65536];
        let mut pipe = pipe;
        while let Some(read) = pipe.as_mut().and_then(|pipe| pipe.read(&mut buffer).ok()) {
            if read == 0 {
                break;
            }
            let mut shared = writer.lock().unwrap_or_else(PoisonError::into_inner);
            shared.extend_from_slice(&buffer[..read]);
        }
    });
    shared
}
