//! A terminal, read: what is new on its screen, and whether a shell waits there.

use std::time::{Duration, Instant};

use harness::Terminal;
use regex_lite::Regex;

/// How long a screen is still before a prompt on it is taken for one.
const STILL: Duration = Duration::from_millis(80);

/// How often it is looked at.
const MOMENT: Duration = Duration::from_millis(10);

/// A terminal and how much of it was read.
pub struct Screen {
    terminal: Terminal,
    read: usize,
    /// How much was there when it was looked at last, and since when.
    length: usize,
    since: Instant,
    /// What a terminal sends to set colours and the like.
    escapes: Regex,
}

impl Screen {
    /// A screen of which nothing is read.
    pub fn new(terminal: Terminal) -> anyhow::Result<Screen> {
        Ok(Screen {
            terminal,
            read: 0,
            length: 0,
            since: Instant::now(),
            escapes: Regex::new("\x1b(?:\\[[0-9;?]*[ -/]*[@-~]|[()][A-Z0-9]|[=>])")?,
        })
    }

    /// Presses keys.
    pub fn send(&mut self, keys: &str) -> Result<(), String> {
        self.terminal
            .try_send(keys)
            .map_err(|error| format!("nobody is at the terminal any more: {error}"))
    }

    /// What is there and was not read, as a person sees it.
    pub fn fresh(&mut self) -> String {
        let screen = self.terminal.screen();
        if screen.len() != self.length {
            self.length = screen.len();
            self.since = Instant::now();
        }
        let text = String::from_utf8_lossy(&screen[self.read..]).replace("\r\n", "\n");
        let text = self.escapes.replace_all(&text, "");
        let lines = text.split('\n').map(|line| {
            // A carriage return begins the line anew.
            line.trim_end_matches('\r')
                .rsplit('\r')
                .next()
                .unwrap_or(line)
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// How long nothing has come.
    pub fn still(&self) -> Duration {
        self.since.elapsed()
    }

    /// Takes everything that is there for read.
    pub fn take(&mut self) {
        self.read = self.length;
    }

    /// Types a line, and reads its echo.
    pub fn line(&mut self, text: &str, limit: Duration) -> Result<(), String> {
        self.send(&format!("{text}\n"))?;
        let end = Instant::now() + limit;
        loop {
            let fresh = self.fresh();
            if fresh.contains('\n') {
                break;
            }
            if Instant::now() > end {
                return Err(format!(
                    "the terminal does not show what is typed, but:\n{fresh}"
                ));
            }
            std::thread::sleep(MOMENT);
        }
        // Only the echo: the output may be there already.
        let screen = self.terminal.screen();
        let echo = screen[self.read..].iter().position(|byte| *byte == b'\n');
        self.read += echo.map_or(0, |at| at + 1);
        Ok(())
    }

    /// Waits until `look` has seen what it wants in the fresh text, or time is up.
    pub fn watch<T>(
        &mut self,
        limit: Duration,
        mut look: impl FnMut(&str, Duration) -> Option<T>,
    ) -> Result<T, String> {
        let end = Instant::now() + limit;
        loop {
            let fresh = self.fresh();
            if let Some(found) = look(&fresh, self.still()) {
                return Ok(found);
            }
            if Instant::now() > end {
                return Err(fresh);
            }
            std::thread::sleep(MOMENT);
        }
    }
}

/// The output before a shell's prompt, where the text ends in one and nothing
/// has come for a while: a program may write `$ ` in the midst of a line, too.
pub fn before_prompt<'a>(text: &'a str, prompt: &str, still: Duration) -> Option<Vec<&'a str>> {
    let head = text.strip_suffix(prompt).filter(|_| still >= STILL)?;
    match head.strip_suffix('\n') {
        Some(lines) => Some(lines.split('\n').collect()),
        None if head.is_empty() => Some(Vec::new()),
        // A program that ends by itself on ^C leaves the cursor behind it.
        None if head.ends_with("^C") || head.ends_with("^\\") => Some(head.split('\n').collect()),
        None => None,
    }
}
