//! A bash on a terminal, read up to its next prompt.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use harness::Terminal;

use super::place::Place;

/// How long nothing more may come after a prompt: what looks like one can be
/// the middle of an output.
const QUIET: Duration = Duration::from_millis(60);

/// One shell; it may have others inside.
pub struct Shell {
    terminal: Terminal,
    /// How much of the screen was there when the last line was typed.
    before: usize,
    typed: String,
}

impl Shell {
    /// A bash where the book's reader stands: at the top of the clone.
    pub fn open(place: &Place) -> Result<Shell> {
        let mut shell = Shell {
            terminal: place.bash(),
            before: 0,
            typed: String::new(),
        };
        shell.output(&["$ "], Duration::from_secs(20))?;
        Ok(shell)
    }

    /// Types a line.
    pub fn enter(&mut self, line: &str) {
        self.before = self.terminal.screen().len();
        self.typed = line.to_owned();
        self.terminal.send(&format!("{line}\n"));
    }

    /// Presses keys: `^C`, or letters.
    pub fn press(&mut self, keys: &str) -> Result<()> {
        let mut letters = keys.chars();
        let mut pressed = String::new();
        while let Some(letter) = letters.next() {
            match (letter, letter == '^') {
                (_, true) => match letters.next() {
                    Some(key @ '@'..='_') => pressed.push(char::from(key as u8 & 0x1f)),
                    _ => bail!("{keys} is no key: write ^C for Ctrl-C"),
                },
                (letter, false) => pressed.push(letter),
            }
        }
        self.terminal.send(&pressed);
        Ok(())
    }

    /// Waits until this is on the screen, after the line that was typed last.
    pub fn wait_for(&self, text: &str, patience: Duration) -> Result<()> {
        let end = Instant::now() + patience;
        while !self.fresh().contains(text) {
            self.refuse_silence(end, &format!("{text:?}"))?;
        }
        Ok(())
    }

    /// All that came after the typed line, up to one of these prompts.
    pub fn output(&mut self, prompts: &[&str], patience: Duration) -> Result<String> {
        let end = Instant::now() + patience;
        loop {
            let length = self.terminal.screen().len();
            if let Some(output) = self.complete(prompts) {
                std::thread::sleep(QUIET);
                if self.terminal.screen().len() == length {
                    return Ok(output);
                }
            }
            self.refuse_silence(end, &format!("the prompt {:?}", prompts.join("\" or \"")))?;
        }
    }

    /// What is on the screen without the line's echo and the prompt, once that is there.
    fn complete(&self, prompts: &[&str]) -> Option<String> {
        let fresh = self.fresh();
        let prompt = prompts.iter().find(|prompt| fresh.ends_with(**prompt))?;
        let output = fresh.strip_suffix(prompt)?;
        // `# ` is the end of `vm# `, too.
        if !(output.is_empty() || output.ends_with('\n')) {
            return None;
        }
        let echo = format!("{}\n", self.typed);
        Some(output.strip_prefix(&echo).unwrap_or(output).to_owned())
    }

    fn fresh(&self) -> String {
        let screen = self.terminal.screen();
        let text = String::from_utf8_lossy(&screen[self.before..]);
        without_colours(&text.replace('\r', ""))
    }

    fn refuse_silence(&self, end: Instant, what: &str) -> Result<()> {
        if Instant::now() > end {
            bail!(
                "waited in vain for {what}; on the screen:\n{}",
                self.fresh()
            );
        }
        std::thread::sleep(Duration::from_millis(10));
        Ok(())
    }
}

/// Text without what sets colours and weights (ECMA-48, SGR).
fn without_colours(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\x1b[") {
        plain.push_str(before);
        rest = match after.split_once('m') {
            Some((_, after)) => after,
            None => after,
        };
    }
    plain + rest
}
