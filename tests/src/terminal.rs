//! A person at a terminal: keys, a screen, a window that changes its size.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::termios::{Winsize, tcsetwinsize};

use crate::command::{PATIENCE, collect, comes_of, inner};
use crate::wait_for;

/// A command on a terminal of its own. Dropped, it is killed.
#[derive(Debug)]
pub struct Terminal {
    name: String,
    keys: File,
    screen: Arc<Mutex<Vec<u8>>>,
    /// What was on the screen before this was looked at already.
    seen: usize,
    child: Child,
}

impl Terminal {
    /// Starts a command on a terminal of 24 rows and 80 columns. What is to be
    /// killed when this is dropped is the command's first child, where it has one.
    ///
    /// # Panics
    /// Where there is no pseudo-terminal, or no such command.
    pub fn start(mut command: Command, name: String) -> Terminal {
        let pty = openpty(None, None).expect("open a pseudo-terminal");
        for end in [&pty.master, &pty.slave] {
            rustix::io::fcntl_setfd(end, rustix::io::FdFlags::CLOEXEC).expect("set FD_CLOEXEC");
        }
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&pty.master, size).expect("set the window's size");
        let clone = || pty.slave.try_clone().expect("copy a descriptor");
        command
            .stdin(clone())
            .stdout(clone())
            .stderr(Stdio::from(clone()));
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("start `{name}`: {error}"));
        drop(command);
        drop(pty.slave);
        let keys = File::from(pty.master);
        let screen = collect(Some(keys.try_clone().expect("copy a descriptor")));
        Terminal {
            name,
            keys,
            screen,
            seen: 0,
            child,
        }
    }

    /// Types.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn send(&mut self, keys: &str) {
        self.try_send(keys)
            .unwrap_or_else(|error| panic!("type into `{}`: {error}", self.name));
    }

    /// Types.
    ///
    /// # Errors
    /// Fails when the terminal is gone.
    pub fn try_send(&mut self, keys: &str) -> std::io::Result<()> {
        self.keys.write_all(keys.as_bytes())
    }

    /// Waits until the screen shows `text` after what was expected before.
    ///
    /// # Panics
    /// After two minutes, with the screen.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let screen = self.screen();
            let shown = &screen[self.seen..];
            let fresh = String::from_utf8_lossy(shown).into_owned();
            // Not in the text, where bytes that are none count three times.
            let at = (0..=shown.len()).find(|&at| shown[at..].starts_with(text.as_bytes()));
            if let Some(at) = at {
                self.seen += at + text.len();
                return fresh;
            }
            assert!(
                Instant::now() < end,
                "`{}` did not show {text:?}; on the screen:\n{fresh}",
                self.name
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until somebody at the terminal runs this program.
    ///
    /// # Panics
    /// When nobody does within a minute.
    pub fn runs(&self, program: &str) {
        wait_for(program, 60, || {
            comes_of(self.child.id().cast_signed(), program).then_some(())
        });
    }

    /// Everything that was ever on the screen.
    pub fn screen(&self) -> Vec<u8> {
        self.screen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Changes the window's size.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn resize(&self, rows: u16, columns: u16) {
        tcsetwinsize(
            self.keys.as_fd(),
            Winsize {
                ws_row: rows,
                ws_col: columns,
                ws_xpixel: 0,
                ws_ypixel: 0,
            },
        )
        .expect("resize");
    }

    /// Waits for the end, and returns the status as a shell has it in `$?`.
    ///
    /// # Panics
    /// When it does not come within two minutes.
    #[track_caller]
    pub fn wait(mut self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("wait for one's own child") {
                return status
                    .code()
                    .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
            }
            assert!(
                Instant::now() < end,
                "`{}` did not end; on the screen:\n{}",
                self.name,
                String::from_utf8_lossy(&self.screen())
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(command) = inner(self.child.id().cast_signed()) {
            kill(Pid::from_raw(command), Signal::SIGKILL).ok();
        } else {
            self.child.kill().ok();
        }
        self.child.wait().ok();
    }
}
