//! `cargo lab diff`: how the story grows from one step to another.

use std::io;

use anyhow::Result;
use similar::TextDiff;

use crate::tasks::{check_step, read, step_dir};
use crate::terminal::{has_colours, painted, say};

/// Prints what two steps' stories differ by, as diff -u has it.
pub fn run(from: u8, to: u8) -> Result<u8> {
    check_step(from)?;
    check_step(to)?;
    let root = crate::workspace()?;
    let story = |step| Ok::<_, anyhow::Error>(step_dir(&root, step)?.join("src/run.rs"));
    let (before, after) = (story(from)?, story(to)?);
    let (old, new) = (read(&before)?, read(&after)?);
    let shown = |path: &std::path::Path| {
        let path = path.strip_prefix(&root).unwrap_or(path);
        path.display().to_string()
    };
    let diff = TextDiff::from_lines(&old, &new)
        .unified_diff()
        .context_radius(3)
        .header(&shown(&before), &shown(&after))
        .to_string();
    let coloured = has_colours(&io::stdout());
    for line in diff.lines() {
        match colour(line).filter(|_| coloured) {
            Some(colour) => say(&painted(line, colour)),
            None => say(line),
        }
    }
    Ok(0)
}

/// The colour that git shows such a line in.
fn colour(line: &str) -> Option<&'static str> {
    match line.as_bytes() {
        [b'+', b'+', b'+', ..] | [b'-', b'-', b'-', ..] => Some("1"),
        [b'+', ..] => Some("32"),
        [b'-', ..] => Some("31"),
        [b'@', ..] => Some("36"),
        _ => None,
    }
}
