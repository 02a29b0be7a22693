//! Cargo's files of a starter, made from the repository's.
//!
//! cargo would warn of profiles for packages that are not there, and rewrite a `Cargo.lock` that
//! names more than is needed; a starter should build offline, from what is fetched already, and
//! without a word.

use std::env;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::call::call;
use crate::tasks::read;

/// A function that only says `todo!` uses nothing. What is forgotten to be used in the solution,
/// a `Result` above all, is still told.
const LINTS: &str = "\
# What only an unsolved task would use is nobody's mistake.
dead_code = \"allow\"
unused_imports = \"allow\"
unused_variables = \"allow\"
";

/// Takes out of the `Cargo.lock` in `dir` what the workspace there does not need, and returns the
/// rest. Only cargo knows what that is: it depends on the features that are asked for.
pub fn prune(dir: &Path) -> Result<String> {
    let cargo = env::var_os("CARGO").unwrap_or("cargo".into());
    let mut update = Command::new(cargo);
    update
        .args(["update", "--workspace", "--offline", "--quiet"])
        .current_dir(dir);
    call(&mut update)?;
    read(&dir.join("Cargo.lock"))
}

/// The workspace's `Cargo.toml` with what these packages use, and no more.
///
/// Its packages get a version of their own. Where several workspaces share one target directory
/// (CARGO_TARGET_DIR), cargo would take a package of one for that of another: to it they differ by
/// name, version and the path from their workspace.
pub fn workspace(source: &str, step: u8, manifests: &[String], lock: &str) -> String {
    let used = |name: &str| {
        let line = format!("{name}.workspace = true");
        manifests
            .iter()
            .any(|manifest| manifest.lines().any(|other| other == line))
    };
    let mut section = "";
    let mut paragraphs = Vec::new();
    for paragraph in source.split("\n\n") {
        let mut kept = String::new();
        for line in paragraph.lines() {
            if line.starts_with('[') {
                section = line;
            }
            let name = line.split_once(" = ").map_or("", |(name, _)| name);
            let keep = match section {
                _ if name.is_empty() => true,
                "[workspace.dependencies]" => used(name),
                "[profile.runtime]" => false,
                "[profile.dev.package]" => lock.contains(&format!("\nname = \"{name}\"\n")),
                _ => true,
            };
            if keep {
                kept += &match (section, name) {
                    ("[workspace]", "members") => "members = [\"steps/*\"]".to_owned(),
                    ("[workspace.package]", "version") => {
                        format!("{}-lab{step}\"", line.trim_end_matches('"'))
                    }
                    _ => line.to_owned(),
                };
                kept += "\n";
            }
        }
        if section == "[workspace.lints.rust]" {
            kept += LINTS;
        }
        // A heading goes with the last thing below it.
        if kept.contains(" = ") {
            paragraphs.push(kept);
        }
    }
    paragraphs.join("\n")
}

/// The alias by which `cargo lab` in a starter is the repository's.
pub fn config(repository: &Path) -> Result<String> {
    let mut words = ["run", "--quiet", "--manifest-path"]
        .map(str::to_owned)
        .to_vec();
    words.push(utf8(&repository.join("Cargo.toml"))?);
    // Where the repository cannot be written to, its programs were built elsewhere.
    let here = env::current_exe().context("find this program")?;
    let target = here.ancestors().nth(2).unwrap_or(&here);
    if target != repository.join("target") {
        words.extend(["--target-dir".to_owned(), utf8(target)?]);
    }
    words.extend(["--package", "tests", "--bin", "lab", "--"].map(str::to_owned));
    // cargo cuts a string at its spaces. An array it joins with the one that a directory further up
    // has for the same alias, so that this is for those who need it. JSON's notation is TOML's.
    let alias = match words.iter().any(|word| word.contains(' ')) {
        true => serde_json::to_string(&words)?,
        false => serde_json::to_string(&words.join(" "))?,
    };
    Ok(format!("[alias]\nlab = {alias}\n"))
}

fn utf8(path: &Path) -> Result<String> {
    let text = path.to_str();
    let text = text.with_context(|| format!("{} is no UTF-8", path.display()))?;
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workspace_names_only_what_its_members_use() {
        let source = "[workspace]\nmembers = [\"steps/*\", \"tests\"]\n\n[workspace.package]\nversion = \"1.0.0\"\n\n\
            [workspace.dependencies]\n\
            # ours\na = { path = \"a\" }\nc = \"1\"\n\n# theirs\nd = \"1\"\n\n\
            [workspace.lints.rust]\nx = \"deny\"\n\n# Fast.\n[profile.dev.package]\nd = { opt-level = 3 }\n";
        let manifests = ["[dependencies]\na.workspace = true\n".to_owned()];
        let written = workspace(source, 2, &manifests, "[[package]]\nname = \"b\"\n");
        let wanted = "[workspace]\nmembers = [\"steps/*\"]\n\n[workspace.package]\nversion = \"1.0.0-lab2\"\n\n\
            [workspace.dependencies]\n# ours\n\
            a = { path = \"a\" }\n\n[workspace.lints.rust]\nx = \"deny\"\n";
        assert_eq!(written, wanted.to_owned() + LINTS);
    }
}
