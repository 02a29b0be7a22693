//! The submission as it runs: with a time-out, with a limit on what it prints,
//! and without trust in anything that it says.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::trial::{Found, Problem, failed};

/// How much a command may print; a check looks at a few lines.
const LIMIT: usize = 1 << 20;

/// How many commands did not end in time so far.
static OVERDUE: AtomicU32 = AtomicU32::new(0);

/// How long a command may take: much longer than one that works, until a few
/// have not ended at all.
pub fn patience() -> Duration {
    let seconds = if OVERDUE.load(Ordering::Relaxed) < 3 {
        15
    } else {
        5
    };
    // Emulated, everything takes longer.
    Duration::from_secs(if harness::in_the_vm() {
        6 * seconds
    } else {
        seconds
    })
}

/// A command that has ended.
pub struct Output {
    status: ExitStatus,
    pub stdout: Vec<u8>,
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
        let signal = self.status.signal().unwrap_or(0);
        self.status.code().unwrap_or(128 + signal)
    }

    /// It must have ended with this status.
    pub fn exits(&self, code: i32) -> Found<&Output> {
        if self.code() == code {
            return Ok(self);
        }
        failed(format!("exit status {code}"), self.told())
    }

    /// It must have succeeded.
    pub fn succeeds(&self) -> Found<&Output> {
        self.exits(0)
    }

    /// It must have printed exactly this, but for the last newline, and succeeded.
    pub fn prints(&self, text: &str) -> Found<&Output> {
        if self.code() == 0 && self.text() == text {
            return Ok(self);
        }
        failed(format!("on standard output: {text}"), self.told())
    }

    /// It must say on standard error what went wrong, and nothing on standard output.
    pub fn explains(&self) -> Found {
        if self.stdout.is_empty() && !self.errors().trim().is_empty() {
            return Ok(());
        }
        failed(
            "a sentence on standard error, and nothing on standard output",
            self.told(),
        )
    }

    /// All that is known, for a message.
    pub fn told(&self) -> String {
        let mut told = match self.status.signal() {
            Some(signal) => format!("it was killed by signal {signal}"),
            None => format!("exit status {}", self.code()),
        };
        for (name, text) in [("output", self.text()), ("error", self.errors())] {
            if !text.is_empty() {
                told += &format!("; on standard {name}: {text}");
            }
        }
        told
    }

    /// The task that the submission says it has yet to do.
    fn undone(&self) -> Option<String> {
        if self.code() == 0 {
            return None;
        }
        undone(&self.stderr)
    }
}

/// Finds `not yet implemented` and `task NN.k` on one line.
fn undone(stderr: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(stderr);
    text.lines().find_map(|line| {
        let (_, rest) = line.split_once("not yet implemented")?;
        let (_, rest) = rest.split_once("task ")?;
        let is_name = |c: char| c.is_ascii_digit() || c == '.';
        let task: String = rest.chars().take_while(|c| is_name(*c)).collect();
        Some(task.trim_end_matches('.').to_owned())
    })
}

/// What came through a pipe so far.
#[derive(Default)]
struct Stream {
    bytes: Vec<u8>,
    cut: bool,
}

type Shared = Arc<Mutex<Stream>>;

/// A command that runs. Dropped, it is killed.
pub struct Running {
    child: Child,
    stdout: Shared,
    stderr: Shared,
    ended: bool,
}

impl Running {
    /// Starts a command that enters the machine.
    pub fn start(mut command: Command, input: Option<Vec<u8>>) -> Found<Running> {
        let stdin = if input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        };
        command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| Problem::Impossible {
            why: format!("start a command on the machine: {error}"),
            fix: "end other programs, and try again".to_owned(),
        })?;
        if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
            // In a thread: whoever does not read must not stop the grader.
            std::thread::spawn(move || stdin.write_all(&input));
        }
        let stdout = collect(child.stdout.take());
        let stderr = collect(child.stderr.take());
        Ok(Running {
            child,
            stdout,
            stderr,
            ended: false,
        })
    }

    /// Waits for the end, within the time that a command has.
    pub fn wait(mut self) -> Found<Output> {
        let patience = patience();
        let end = Instant::now() + patience;
        let status = loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                break status;
            }
            self.refuse_floods()?;
            if Instant::now() > end {
                OVERDUE.fetch_add(1, Ordering::Relaxed);
                return failed(
                    format!("an end within {} s", patience.as_secs()),
                    format!("it went on, and was killed{}", self.so_far()),
                );
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        self.ended = true;
        // Who has inherited a pipe keeps it open: no waiting for a process
        // that stayed behind.
        let end = Instant::now() + Duration::from_secs(2);
        while self.unread() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.refuse_floods()?;
        let output = Output {
            status,
            stdout: look(&self.stdout).bytes.clone(),
            stderr: look(&self.stderr).bytes.clone(),
        };
        match output.undone() {
            Some(task) => Err(Problem::Undone(task)),
            None => Ok(output),
        }
    }

    /// Waits until it has printed `text` on standard output.
    pub fn until(&mut self, text: &str) -> Found<String> {
        let end = Instant::now() + patience();
        loop {
            // What it has said before its end may not be read yet.
            let over = !matches!(self.child.try_wait(), Ok(None)) && !self.unread();
            self.refuse_floods()?;
            let printed = String::from_utf8_lossy(&look(&self.stdout).bytes).into_owned();
            if printed.contains(text) {
                return Ok(printed);
            }
            if over || Instant::now() > end {
                std::thread::sleep(Duration::from_millis(20));
                if let Some(task) = undone(&look(&self.stderr).bytes) {
                    return Err(Problem::Undone(task));
                }
                let what = if over {
                    "it ended without"
                } else {
                    "it ran on without"
                };
                return failed(
                    format!("on standard output, while it runs: {text}"),
                    format!("{what}{}", self.so_far()),
                );
            }
            std::thread::sleep(Duration::from_millis(3));
        }
    }

    /// The pid of the submission itself, as this process sees it.
    pub fn pid(&self) -> Found<i32> {
        let enter = self.child.id().cast_signed();
        let found = until(Duration::from_secs(5), || harness::inner(enter));
        found.map_or_else(
            || failed("a program that runs", format!("it ended{}", self.so_far())),
            Ok,
        )
    }

    /// The processes that it started, as this process sees them, and the orphans
    /// among those, which are children of the machine's `first` process.
    pub fn processes(&self, first: i32) -> Vec<i32> {
        descendants(&[self.child.id().cast_signed(), first])
    }

    /// Sends a signal to the submission itself.
    pub fn signal(&self, signal: Signal) -> Found {
        let pid = self.pid()?;
        kill(Pid::from_raw(pid), signal).or_else(|error| {
            failed(
                format!("a program that {signal} reaches"),
                error.to_string(),
            )
        })
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    fn refuse_floods(&self) -> Found {
        let cut = [&self.stdout, &self.stderr]
            .iter()
            .any(|stream| look(stream).cut);
        if !cut {
            return Ok(());
        }
        failed(
            "at most 1 MiB of output",
            "more than 1 MiB: it was cut off, and the program killed".to_owned(),
        )
    }

    fn so_far(&self) -> String {
        let mut told = String::new();
        for (name, stream) in [("output", &self.stdout), ("error", &self.stderr)] {
            let bytes = look(stream).bytes.clone();
            if !bytes.is_empty() {
                let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
                told += &format!("; on standard {name}: {text}");
            }
        }
        told
    }

    fn unread(&self) -> bool {
        Arc::strong_count(&self.stdout) > 1 || Arc::strong_count(&self.stderr) > 1
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        // The process that entered the machine waits for its command, and so
        // reaps it: the machine's end waits for the last zombie. What they leave
        // dies with the machine.
        if let Some(command) = harness::inner(self.child.id().cast_signed()) {
            kill(Pid::from_raw(command), Signal::SIGKILL).ok();
            if until(Duration::from_secs(2), || self.child.try_wait().ok()?).is_some() {
                return;
            }
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Tries `look` until it gives something.
pub fn until<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() > end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn look(stream: &Shared) -> MutexGuard<'_, Stream> {
    stream.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads a pipe in a thread of its own, to its end or to the limit. After that
/// it is closed, and who writes to it is killed by SIGPIPE.
fn collect(pipe: Option<impl Read + Send + 'static>) -> Shared {
    let shared = Shared::default();
    let writer = Arc::clone(&shared);
    std::thread::spawn(move || {
        let mut buffer = [0; 65536];
        let mut pipe = pipe;
        while let Some(read) = pipe.as_mut().and_then(|pipe| pipe.read(&mut buffer).ok()) {
            let mut stream = look(&writer);
            let room = LIMIT - stream.bytes.len();
            stream.bytes.extend_from_slice(&buffer[..read.min(room)]);
            stream.cut = read > room;
            if read == 0 || stream.cut {
                break;
            }
        }
    });
    shared
}

/// These processes and all below them, as this process sees them.
fn descendants(of: &[i32]) -> Vec<i32> {
    let parent = |pid: i32| -> Option<i32> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name may hold anything, also a parenthesis.
        let (_, rest) = stat.rsplit_once(')')?;
        rest.split_whitespace().nth(1)?.parse().ok()
    };
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let parents: Vec<(i32, i32)> = pids
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, parent(pid)?)))
        .collect();
    let mut found = of.to_vec();
    let mut at = 0;
    while let Some(one) = found.get(at).copied() {
        found.extend(
            parents
                .iter()
                .filter(|(_, above)| *above == one)
                .map(|(pid, _)| *pid),
        );
        at += 1;
    }
    found
}

/// The words of a process's command line.
pub fn words(pid: i32) -> Vec<Vec<u8>> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let line = line.strip_suffix(b"\0").unwrap_or(&line);
    line.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect()
}

/// Waits for the ends of processes whose engine was killed: each has its turn to die, on a busy machine
/// late. Returns whether all have ended.
pub fn have_ended(pids: &[i32]) -> bool {
    let has_ended = |pid: &i32| {
        let stat = fs::read_to_string(proc(*pid, "stat")).unwrap_or_default();
        let state = stat.rsplit(") ").next().unwrap_or_default();
        state.is_empty() || state.starts_with(['Z', 'X'])
    };
    until(patience(), || pids.iter().all(has_ended).then_some(())).is_some()
}

/// A file below /proc/PID.
pub fn proc(pid: i32, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{name}"))
}
