//! The stories, their differences, and the patches that break something.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use similar::TextDiff;

use super::Sources;
use super::page::{escaped, fenced, figure};
use crate::call::call;
use crate::tasks::step_dir;

/// The whole story of a step.
pub fn whole(sources: &Sources, number: &str) -> Result<String> {
    let path = story(sources, number)?;
    let text = sources.read(&path)?;
    Ok(figure(
        "code",
        &format!("<code>{}</code>", escaped(&path)),
        &fenced("rust,noplayground", &text),
    ))
}

/// What two steps' stories differ by, as diff -u has it.
pub fn difference(sources: &Sources, from: &str, to: &str) -> Result<String> {
    let (from, to) = (story(sources, from)?, story(sources, to)?);
    let (before, after) = (sources.read(&from)?, sources.read(&to)?);
    let diff = TextDiff::from_lines(&before, &after);
    let shown = diff.unified_diff().context_radius(3).to_string();
    ensure!(!shown.is_empty(), "{from} and {to} do not differ");
    Ok(figure(
        "code",
        &format!("<code>diff -u {} {}</code>", escaped(&from), escaped(&to)),
        &fenced("diff", &shown),
    ))
}

/// A patch, which must apply to the sources as they are.
pub fn patch(sources: &Sources, path: &str) -> Result<String> {
    ensure!(
        path.ends_with(".patch"),
        "{path} is no patch: its name does not end in .patch"
    );
    let text = sources.read(path)?;
    let mut apply = Command::new("git");
    apply
        .args(["apply", "--check", path])
        .current_dir(&sources.root);
    call(&mut apply).with_context(|| format!("{path} does not apply to the sources"))?;
    Ok(figure(
        "code",
        &format!("<code>{}</code>", escaped(path)),
        &fenced("diff", &text),
    ))
}

/// The path of a step's story, from the repository's root.
fn story(sources: &Sources, number: &str) -> Result<String> {
    let step = number
        .parse()
        .with_context(|| format!("{number} is no step's number"))?;
    let path = step_dir(&sources.root, step)?.join("src/run.rs");
    let path = path.strip_prefix(&sources.root).unwrap_or(&path);
    Ok(path.to_string_lossy().into_owned())
}
