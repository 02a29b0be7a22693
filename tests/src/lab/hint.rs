//! `cargo lab hint`: the next thought, not the answer.
//!
//! A hint is a file `tests/labs/hints/NN.k.md`. What stands below a line `---` in it is for those
//! who ask for more.

use anyhow::{Context, Result};

use crate::tasks::{TaskId, read, task};
use crate::terminal::say;

/// Prints the first hint for a task, and with `more` all there is.
pub fn run(id: TaskId, more: bool) -> Result<u8> {
    let task = task(id)?;
    let file = crate::workspace()?.join(format!("tests/labs/hints/{id}.md"));
    let text = read(&file)?;
    let (first, rest) = text
        .split_once("\n---\n")
        .with_context(|| format!("{} has no second part", file.display()))?;
    say(&format!("{id}: {}", task.title));
    say(&format!(
        "     {} in {} (book: {})\n\n{}",
        task.function,
        task.file.display(),
        task.section,
        first.trim()
    ));
    match more {
        true => say(&format!("\n{}", rest.trim())),
        false => say(&format!("\nMore of it: cargo lab hint {id} --more")),
    }
    Ok(0)
}
