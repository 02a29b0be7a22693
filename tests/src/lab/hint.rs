//! `cargo lab hint`: the next thought, not the answer.
//!
//! A hint is a file `tests/labs/hints/NN.k.md`. What stands below a line `---` in it is for those
//! who ask for more.

use std::io::{self, Write};

use anyhow::{Context, Result};

use crate::tasks::{TaskId, read, task};

/// Prints the first hint for a task, and with `more` all there is.
pub fn run(id: TaskId, more: bool) -> Result<u8> {
    let task = task(id)?;
    let file = crate::workspace()?.join(format!("tests/labs/hints/{id}.md"));
    let text = read(&file)?;
    let (first, rest) = text
        .split_once("\n---\n")
        .with_context(|| format!("{} has no second part", file.display()))?;
    let last = match more {
        true => rest.trim().to_owned(),
        false => format!("More of it: cargo lab hint {id} --more"),
    };
    let hint = format!(
        "{id}: {}\n     {} in {} (book: {})\n\n{}\n\n{last}\n",
        task.title,
        task.function,
        task.file.display(),
        task.section,
        first.trim()
    );
    match io::stdout().write_all(hint.as_bytes()) {
        // `| head` has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(0),
        written => written.context("write the hint").map(|()| 0),
    }
}
