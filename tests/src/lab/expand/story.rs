//! The stories, their differences, and the patches that break something.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use similar::TextDiff;

use super::Sources;
use super::page::{escaped, fenced, figure};

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
    let out = Command::new("git")
        .args(["apply", "--check", path])
        .current_dir(&sources.root)
        .output()
        .context("run git")?;
    if !out.status.success() {
        let why = String::from_utf8_lossy(&out.stderr).trim().to_owned();
        bail!("{path} does not apply to the sources: {why}");
    }
    Ok(figure(
        "code",
        &format!("<code>{}</code>", escaped(path)),
        &fenced("diff", &text),
    ))
}

fn story(sources: &Sources, number: &str) -> Result<String> {
    Ok(format!("{}/src/run.rs", step(sources, number)?.display()))
}

/// The directory of a step, from the repository's root.
pub fn step(sources: &Sources, number: &str) -> Result<PathBuf> {
    let number: u8 = number
        .parse()
        .with_context(|| format!("{number} is no step's number"))?;
    let prefix = format!("{number:02}-");
    let steps = sources.root.join("steps");
    let entries = steps
        .read_dir()
        .with_context(|| format!("read {}", steps.display()))?;
    for entry in entries {
        let name = entry?.file_name();
        if name.to_string_lossy().starts_with(&prefix) {
            return Ok(PathBuf::from("steps").join(name));
        }
    }
    bail!("there is no step {number}")
}
