//! How far a pull or a push has come, blob by blob, as docker shows it: on a terminal in lines
//! that are redrawn where they stand, otherwise a line for each change.
//!
//! Those who do the work only note down how far they are. A thread of its own, the painter,
//! looks at these notes a few times a second and does the printing, so that a terminal or a pipe
//! that nobody reads holds up no download.

mod line;
mod screen;

use std::io::{self, IsTerminal, Write};
use std::mem::discriminant;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use images::Digest;
use minidocker::engine::images::Stage;

use crate::session;
use screen::{Screen, Size};

/// Between two drawings: ten a second is as much as an eye takes in.
const PAUSE: Duration = Duration::from_millis(100);

/// Where the notes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Nowhere.
    Quiet,
    /// A line for each change, as far as it is not only of numbers.
    Lines,
    /// Bars.
    Terminal,
}

impl Manner {
    /// The one that suits standard output. Where other lines come in between no line stays where
    /// it was drawn, and there can be no bars.
    pub(crate) fn of_output(quiet: bool, interrupted: bool) -> Manner {
        match (quiet, io::stdout().is_terminal() && !interrupted) {
            (true, _) => Manner::Quiet,
            (false, true) => Manner::Terminal,
            (false, false) => Manner::Lines,
        }
    }
}

/// The progress of one command. Dropped, it is drawn for the last time.
pub(crate) struct Progress {
    manner: Manner,
    notes: Arc<Notes>,
    painter: Option<JoinHandle<io::Result<()>>>,
}

#[derive(Default)]
struct Notes {
    board: Mutex<Board>,
    changed: Condvar,
}

/// What there is to be drawn.
#[derive(Default)]
struct Board {
    /// What stands above all, once it is known that there is something to tell.
    heading: Option<String>,
    blobs: Vec<(Digest, Stage)>,
    /// Lines that are not printed yet.
    lines: Vec<String>,
    changed: bool,
    over: bool,
}

impl Progress {
    /// Starts the painter, who begins with the `heading` when the first note comes. From here on
    /// this process has two threads.
    pub(crate) fn start(manner: Manner, heading: &str) -> Progress {
        let notes = Arc::new(Notes::default());
        if !heading.is_empty() {
            notes.board().heading = Some(format!("{heading}\n"));
        }
        let read = Arc::clone(&notes);
        let painter = match manner {
            Manner::Quiet => None,
            Manner::Lines => Some(std::thread::spawn(move || print(&read))),
            Manner::Terminal => Some(std::thread::spawn(move || draw(&read))),
        };
        Progress {
            manner,
            notes,
            painter,
        }
    }

    /// Notes how far a blob is. Any thread may.
    pub(crate) fn note(&self, blob: &Digest, stage: Stage) {
        if self.manner == Manner::Quiet {
            return;
        }
        let mut board = self.notes.board();
        let at = board.blobs.iter().position(|known| known.0 == *blob);
        let before = at
            .and_then(|at| board.blobs.get(at))
            .map(|known| discriminant(&known.1));
        if self.manner == Manner::Lines && before != Some(discriminant(&stage)) {
            board.lines.extend(line::without_numbers(blob, &stage));
        }
        match at.and_then(|at| board.blobs.get_mut(at)) {
            Some(known) => known.1 = stage,
            None => board.blobs.push((*blob, stage)),
        }
        board.changed = true;
        self.notes.changed.notify_one();
    }

    /// Draws for the last time, if only the heading, and leaves the cursor below.
    ///
    /// # Errors
    /// What was to be printed could not be.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.notes.board().changed = true;
        self.stop().context("write to standard output")
    }

    fn stop(&mut self) -> io::Result<()> {
        let Some(painter) = self.painter.take() else {
            return Ok(());
        };
        self.notes.board().over = true;
        self.notes.changed.notify_one();
        match painter.join() {
            Ok(painted) => painted,
            Err(_) => Err(io::Error::other("the painter of the progress panicked")),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        // Who drops it has worse to tell.
        let _ = self.stop();
    }
}

impl Board {
    /// Takes the changes for seen, and gives the heading out with the first of them.
    fn heading(&mut self) -> String {
        let heading = if self.changed {
            self.heading.take()
        } else {
            None
        };
        self.changed = false;
        heading.unwrap_or_default()
    }
}

impl Notes {
    /// A thread that panicked holding it has left it in order: each change is one assignment.
    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for something new, or for the end.
    fn wait(&self) -> MutexGuard<'_, Board> {
        let idle = |board: &mut Board| !board.changed && !board.over;
        let board = self.changed.wait_while(self.board(), idle);
        board.unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a moment, unless it is over.
    fn pause(&self) {
        let goes_on = |board: &mut Board| !board.over;
        drop(
            self.changed
                .wait_timeout_while(self.board(), PAUSE, goes_on),
        );
    }
}

/// The painter where there is no terminal.
fn print(notes: &Notes) -> io::Result<()> {
    loop {
        let mut board = notes.wait();
        let mut text = board.heading();
        text.extend(board.lines.drain(..).map(|line| line + "\n"));
        let over = board.over;
        drop(board);
        put(&text)?;
        if over {
            return Ok(());
        }
    }
}

/// The painter on a terminal.
fn draw(notes: &Notes) -> io::Result<()> {
    let mut screen = Screen::default();
    loop {
        let mut board = notes.wait();
        let heading = board.heading();
        let (blobs, over) = (board.blobs.clone(), board.over);
        drop(board);
        put(&(heading + &screen.draw(&blobs, size(), over)))?;
        if over {
            return Ok(());
        }
        notes.pause();
    }
}

/// In one piece: whenever this process ends, the cursor stands at the beginning of a free line.
fn put(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// The terminal's size now; a terminal that does not know its own is taken for a usual one.
fn size() -> Size {
    let or = |known: u16, usual| match known {
        0 => usual,
        known => usize::from(known),
    };
    let (rows, columns) = session::size();
    Size {
        rows: or(rows, 24),
        columns: or(columns, 80),
    }
}
