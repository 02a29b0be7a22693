//! Questions to the person at the terminal.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::SignalFd;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// The longest line that a terminal hands out (termios(3), "Canonical and noncanonical mode").
const LONGEST: usize = 4096;

/// Asks whether to go on; only `y` is a yes. Docker asks whoever is there, terminal or not.
pub(crate) fn confirmed(warning: &str) -> Result<bool> {
    show(&format!(
        "{warning}\nAre you sure you want to continue? [y/N] "
    ))?;
    let mut answer = String::new();
    io::stdin()
        .read_line(&mut answer)
        .context("read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y"))
}

/// Asks the person at the terminal for a line.
///
/// # Errors
/// There is nobody, or the input ends.
pub(crate) fn ask(question: &str) -> Result<String> {
    show(question)?;
    line()
}

/// Asks for a line that nobody is to see.
///
/// # Errors
/// As [`ask`].
pub(crate) fn ask_secretly(question: &str) -> Result<String> {
    show(question)?;
    let secret = {
        let hidden = Hidden::new()?;
        hidden.wait()?;
        line()
    };
    // That of the line was hidden, too.
    show("\n")?;
    secret
}

/// Whether there is somebody to be asked.
pub(crate) fn somebody_is_there() -> bool {
    io::stdin().is_terminal()
}

fn show(text: &str) -> Result<()> {
    let mut out = io::stdout();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.context("write to standard output")
}

/// One line, straight from the terminal: a buffer would keep the next answer, too.
fn line() -> Result<String> {
    let mut bytes = [0; LONGEST];
    let count = rustix::io::retry_on_intr(|| rustix::io::read(io::stdin(), &mut bytes));
    let count = count.context("read from the terminal")?;
    ensure!(count > 0, "the terminal was closed instead of an answer");
    let line = String::from_utf8_lossy(bytes.get(..count).unwrap_or_default());
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

/// A terminal that does not show what is typed. Dropped, it does again.
struct Hidden {
    before: Termios,
    signals: SignalFd,
    held: SigSet,
}

impl Hidden {
    fn new() -> Result<Hidden> {
        // A signal that ends this process must not leave the terminal so: it waits until the
        // terminal is as before.
        let mut held = SigSet::empty();
        for signal in [
            Signal::SIGINT,
            Signal::SIGTERM,
            Signal::SIGHUP,
            Signal::SIGQUIT,
        ] {
            held.add(signal);
        }
        let signals = SignalFd::new(&held).context("watch for signals (signalfd)")?;
        let before = tcgetattr(io::stdin()).context("ask the terminal for its modes")?;
        held.thread_block()
            .context("hold signals back (sigprocmask)")?;
        let mut modes = before.clone();
        modes.local_modes &= !LocalModes::ECHO;
        let hidden = Hidden {
            before,
            signals,
            held,
        };
        // Now, and not with a flush: somebody may have typed or pasted ahead.
        tcsetattr(io::stdin(), OptionalActions::Now, &modes)
            .context("keep the terminal from showing the password")?;
        Ok(hidden)
    }

    /// Waits until there is a line, or ends this process as a signal wants it.
    fn wait(&self) -> Result<()> {
        let stdin = io::stdin();
        loop {
            let mut either = [
                PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut either, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                ready => ready.context("wait for the terminal (poll)")?,
            };
            if !either[1].any().unwrap_or_default() {
                return Ok(());
            }
            if let Some(came) = self.signals.read_signal().context("read a signal")? {
                self.show_again();
                let signal = i32::try_from(came.ssi_signo).unwrap_or_default();
                raise(Signal::try_from(signal).unwrap_or(Signal::SIGTERM)).context("end")?;
            }
        }
    }

    fn show_again(&self) {
        // Nobody is left to be told of a failure.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
        let _ = self.held.thread_unblock();
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        self.show_again();
    }
}
