//! Which program is graded, and whether it is one at all.

use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::starter::Starter;
use crate::tasks::check_step;

/// What is graded, and for which step.
pub struct Submission {
    pub step: u8,
    pub path: PathBuf,
}

impl Submission {
    /// The program at `bin`; or the one that the starter around the current
    /// directory builds; or the repository's own.
    pub fn find(step: Option<u8>, bin: Option<&Path>) -> Result<Submission> {
        let starter = Starter::here()?;
        let step = step
            .or(starter.as_ref().map(|starter| starter.step))
            .context("say which step to check: cargo lab check 2")?;
        check_step(step)?;
        if let (None, Some(starter)) = (bin, &starter) {
            ensure!(
                step <= starter.step,
                "step {step} is not in {}, which is lab {}: cargo lab start {step} makes one that \
                 has it",
                starter.dir.display(),
                starter.step
            );
        }
        let built = crate::target_dir()?;
        // `cargo lab` has built this program alone; started by its path, it is
        // where all programs are.
        if std::env::var_os("CARGO").is_some() {
            cargo(&crate::workspace()?, "tests", "machine", &built)?;
        }
        let path = match bin {
            Some(bin) => bin.to_owned(),
            None => {
                let name = format!("step{step:02}");
                let (dir, target) = match starter {
                    Some(starter) => (starter.dir.clone(), starter.dir.join("target")),
                    None => (crate::workspace()?, built),
                };
                cargo(&dir, &name, &name, &target)?;
                let profile = if cfg!(debug_assertions) {
                    "debug"
                } else {
                    "release"
                };
                target.join(profile).join(name)
            }
        };
        Ok(Submission { step, path })
    }

    /// Its name on the machine.
    pub fn name(&self) -> String {
        format!("step{:02}", self.step)
    }

    /// Why it cannot be run at all, in a sentence; `None` when it can.
    pub fn refusal(&self) -> Result<Option<String>> {
        let path = self.path.display();
        let meta = match fs::metadata(&self.path) {
            Ok(meta) => meta,
            Err(error) => return Ok(Some(format!("{path} cannot be found: {error}"))),
        };
        if meta.is_dir() {
            return Ok(Some(format!("{path} is a directory, not a program")));
        }
        if !meta.is_file() {
            return Ok(Some(format!("{path} is no regular file")));
        }
        if meta.permissions().mode() & 0o111 == 0 {
            return Ok(Some(format!("{path} is not executable: chmod +x {path}")));
        }
        let mut head = Vec::new();
        let read =
            fs::File::open(&self.path).and_then(|file| file.take(256).read_to_end(&mut head));
        if let Err(error) = read {
            return Ok(Some(format!("{path} cannot be read: {error}")));
        }
        if head.starts_with(b"\x7fELF") {
            return Ok(None);
        }
        let Some(words) = interpreter(&head) else {
            return Ok(Some(format!(
                "{path} is neither a binary nor a script: its first line must be #! and an interpreter"
            )));
        };
        let program = words.first().cloned().unwrap_or_default();
        if program.is_file() {
            return Ok(None);
        }
        let hint = if program.as_os_str().as_bytes().ends_with(b"\r") {
            " (its lines end in CR LF)"
        } else {
            ""
        };
        Ok(Some(format!(
            "{path} wants the interpreter {}, which is not here{hint}",
            program.display()
        )))
    }
}

/// The words behind #! in a script's first line.
pub fn interpreter(content: &[u8]) -> Option<Vec<PathBuf>> {
    let line = content
        .strip_prefix(b"#!")?
        .split(|byte| *byte == b'\n')
        .next()?;
    let words = line.split(|byte| [b' ', b'\t'].contains(byte));
    let path = |word: &[u8]| PathBuf::from(std::ffi::OsStr::from_bytes(word));
    Some(words.filter(|word| !word.is_empty()).map(path).collect())
}

/// Compiles one program of a workspace.
fn cargo(workspace: &Path, package: &str, name: &str, target: &Path) -> Result<()> {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--quiet", "--package", package, "--bin", name]);
    cargo
        .arg("--manifest-path")
        .arg(workspace.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(target);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let status = cargo.status().context("run cargo")?;
    if !status.success() {
        bail!("{name} does not build; the compiler says why above");
    }
    Ok(())
}
