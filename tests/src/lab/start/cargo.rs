//! Cargo's files of a starter, made from the repository's.
//!
//! cargo would warn of profiles for packages that are not there, and rewrite a `Cargo.lock` that
//! names more than is needed; a starter should build offline, from what is fetched already, and
//! without a word.

use std::collections::BTreeSet;
use std::env;
use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};

/// A function that only says `todo!` uses nothing. What is forgotten to be used in the solution,
/// a `Result` above all, is still told.
const LINTS: &str = "\
# What only an unsolved task would use is nobody's mistake.
dead_code = \"allow\"
unused_imports = \"allow\"
unused_variables = \"allow\"
";

/// A `Cargo.lock`, by packages.
pub struct Lock {
    head: String,
    packages: Vec<Package>,
}

struct Package {
    name: String,
    version: String,
    /// As the lock has them: a name, with the version where there are several.
    dependencies: Vec<String>,
    text: String,
}

impl Lock {
    /// Takes the file apart at its empty lines.
    pub fn parse(text: &str) -> Self {
        let mut parts = text.split("\n\n[[package]]\n");
        let head = parts.next().unwrap_or_default().to_owned();
        let packages = parts.map(Package::parse).collect();
        Self { head, packages }
    }

    /// Only what the first steps need.
    pub fn reached_from(self, step: u8) -> Self {
        let mut wanted: Vec<String> = (1..=step).map(|step| format!("step{step:02}")).collect();
        let mut reached = BTreeSet::new();
        while let Some(dependency) = wanted.pop() {
            for (nth, package) in self.packages.iter().enumerate() {
                if package.is(&dependency) && reached.insert(nth) {
                    wanted.extend_from_slice(&package.dependencies);
                }
            }
        }
        let packages = self.packages.into_iter().enumerate();
        let packages = packages.filter(|(nth, _)| reached.contains(nth));
        Self {
            head: self.head,
            packages: packages.map(|(_, package)| package).collect(),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.packages.iter().any(|package| package.name == name)
    }
}

impl fmt::Display for Lock {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.head)?;
        for package in &self.packages {
            write!(out, "\n\n[[package]]\n{}", package.text.trim_end())?;
        }
        out.write_str("\n")
    }
}

impl Package {
    fn parse(text: &str) -> Self {
        let value = |key: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(key));
            value.unwrap_or_default().trim_matches('"').to_owned()
        };
        let dependencies = text.lines().filter_map(|line| line.strip_prefix(" \""));
        let dependencies = dependencies.filter_map(|line| line.strip_suffix("\","));
        Self {
            name: value("name = "),
            version: value("version = "),
            dependencies: dependencies.map(str::to_owned).collect(),
            text: text.to_owned(),
        }
    }

    /// Whether a dependency, `NAME` or `NAME VERSION`, means this one.
    fn is(&self, dependency: &str) -> bool {
        let mut words = dependency.split(' ');
        words.next() == Some(&self.name)
            && words.next().is_none_or(|version| version == self.version)
    }
}

/// The workspace's `Cargo.toml` with what these packages use, and no more.
pub fn workspace(source: &str, manifests: &[String], lock: &Lock) -> String {
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
                "[profile.dev.package]" => lock.has(name),
                _ => true,
            };
            if keep && name == "members" {
                kept += "members = [\"steps/*\"]\n";
            } else if keep {
                kept += line;
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
    let path = |path: &Path| {
        let text = path.to_str();
        let text = text.with_context(|| format!("{} is no UTF-8", path.display()))?;
        // A string of JSON is one of TOML.
        Ok::<_, anyhow::Error>(serde_json::to_string(text)?)
    };
    let manifest = path(&repository.join("Cargo.toml"))?;
    // Where the repository cannot be written to, its programs were built elsewhere.
    let here = env::current_exe().context("find this program")?;
    let target = here.ancestors().nth(2).unwrap_or(&here);
    let elsewhere = match target == repository.join("target") {
        true => String::new(),
        false => format!("\"--target-dir\", {}, ", path(target)?),
    };
    Ok(format!(
        "[alias]\nlab = [\"run\", \"--quiet\", \"--manifest-path\", {manifest}, {elsewhere}\
         \"--package\", \"tests\", \"--bin\", \"lab\", \"--\"]\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = "\
# Generated.
version = 4

[[package]]
name = \"a\"
version = \"1.0.0\"
dependencies = [
 \"b 2.0.0\",
]

[[package]]
name = \"b\"
version = \"1.0.0\"

[[package]]
name = \"b\"
version = \"2.0.0\"

[[package]]
name = \"step01\"
version = \"0.1.0\"
dependencies = [
 \"a\",
]

[[package]]
name = \"step02\"
version = \"0.1.0\"
dependencies = [
 \"b 1.0.0\",
 \"step01\",
]
";

    #[test]
    fn a_lock_keeps_what_is_reached() {
        let lock = Lock::parse(LOCK).reached_from(1);
        let names: Vec<_> = lock
            .packages
            .iter()
            .map(|it| (&*it.name, &*it.version))
            .collect();
        assert_eq!(names, [("a", "1.0.0"), ("b", "2.0.0"), ("step01", "0.1.0")]);
        assert_eq!(Lock::parse(LOCK).reached_from(2).to_string(), LOCK);
    }

    #[test]
    fn a_workspace_names_only_what_its_members_use() {
        let source = "[workspace]\nmembers = [\"steps/*\", \"tests\"]\n\n[workspace.dependencies]\n\
            # ours\na = { path = \"a\" }\nc = \"1\"\n\n# theirs\nd = \"1\"\n\n\
            [workspace.lints.rust]\nx = \"deny\"\n\n# Fast.\n[profile.dev.package]\nd = { opt-level = 3 }\n";
        let manifests = ["[dependencies]\na.workspace = true\n".to_owned()];
        let written = workspace(source, &manifests, &Lock::parse(LOCK));
        let wanted = "[workspace]\nmembers = [\"steps/*\"]\n\n[workspace.dependencies]\n# ours\n\
            a = { path = \"a\" }\n\n[workspace.lints.rust]\nx = \"deny\"\n";
        assert_eq!(written, wanted.to_owned() + LINTS);
    }
}
