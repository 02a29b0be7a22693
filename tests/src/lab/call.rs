//! Programs of others, called for what they answer.

use std::process::Command;

use anyhow::{Context, Result, bail};

/// What the program prints; where it fails, an error with what it says about that.
pub fn call(command: &mut Command) -> Result<String> {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    let line = words.join(" ");
    let out = command.output().with_context(|| format!("run `{line}`"))?;
    if !out.status.success() {
        let said = String::from_utf8_lossy(&out.stderr);
        bail!("`{line}` failed ({}): {}", out.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&out.stdout).trim_end().to_owned())
}
