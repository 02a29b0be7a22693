//! What the command lines share: the voice they speak with (errors, notes,
//! columns, units, `--explain`) and the directories where they keep things.
//!
//! A leaf prints nothing. It emits `tracing` events, and [`start`] decides
//! which of them a person gets to see.

#![warn(missing_docs)]

mod columns;
mod dirs;
mod explain;
mod printable;
mod told;
mod units;

pub use columns::columns;
pub use dirs::Dirs;
pub use explain::speak_as;
pub use printable::printable;
pub use told::Told;
pub use units::{age, size};

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, Error, Result};
use nix::sys::signal::{SigHandler, Signal, signal};

/// So many characters of a complaint's line are printed. A document that cannot
/// be read may be quoted in it.
const LONGEST_LINE: usize = 2000;

/// Prepares a step's process: notes always reach standard error, the kernel
/// calls only where `explain` asks for them.
pub fn start(program: &'static str, explain: bool) {
    default_sigpipe();
    explain::install(program, explain);
}

/// Lets SIGPIPE end this process, as it does any other.
pub fn default_sigpipe() {
    // Rust starts with SIGPIPE ignored: `stepNN images | head` would end in a
    // panic, and the container would inherit the ignored signal.
    // SAFETY: SIG_DFL installs no handler, so no code of ours runs in one.
    let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
}

/// Tells the person what failed, as one sentence. Where that cannot be
/// written the exit status must do; `eprintln!` would put a panic's in its place.
///
/// What failed may have been a registry's or an image's, and so are some of the words.
pub fn complain(program: &str, error: &Error) {
    let text = format!("{error:#}");
    let lines = text.lines().map(|line| printable(line, LONGEST_LINE));
    let lines: Vec<String> = lines.collect();
    // In one write(2): others may be telling something at the same terminal.
    let text = format!("{program}: {}\n", lines.join("\n"));
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Prints lines. A full disk at the other end is an error, and to `println!` a
/// panic.
///
/// # Errors
/// Standard output cannot be written to.
pub fn say(lines: &str) -> Result<()> {
    writeln!(io::stdout(), "{lines}").context("write to standard output")
}

/// The end of a step's process: its status, or a complaint and the status that
/// `of_error` has for it.
pub fn end(program: &str, done: Result<u8>, of_error: impl Fn(&Error) -> u8) -> ExitCode {
    let status = done.unwrap_or_else(|error| {
        complain(program, &error);
        of_error(&error)
    });
    ExitCode::from(status)
}
