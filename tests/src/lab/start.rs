//! `cargo lab start`: a workspace of the student's own, with one step to write.

mod cargo;
mod readme;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::shell::typed;
use crate::starter::{FILE, Starter};
use crate::tasks::{Region, check_step, read, rewrite, sources, step_dir, tasks_of_step};

/// What a starter has as the repository has it.
const AS_IT_IS: [&str; 4] = [
    ".clippy.toml",
    ".gitignore",
    "LICENSE-APACHE",
    "LICENSE-MIT",
];

/// Writes the starter of `step` into `dir`, or beside the repository, and says what to do next.
pub fn run(step: u8, dir: Option<&Path>) -> Result<u8> {
    check_step(step)?;
    let repository = crate::workspace()?;
    let dir = place(&repository, step, dir)?;
    let made = Half::beside(&dir)?;
    write(&repository, step, &made.dir)
        .with_context(|| format!("write a starter for step {step}"))?;
    made.finish(&dir)?;
    let shown = dir.display();
    println!("Lab {step} is in {shown}. Its README.md lists the tasks; begin with:\n");
    println!(
        "    cd {}\n    cargo lab status",
        typed(dir.as_os_str()).display()
    );
    Ok(0)
}

/// Where the starter is to be: nothing, or an empty directory.
fn place(repository: &Path, step: u8, dir: Option<&Path>) -> Result<PathBuf> {
    let beside = || Some(repository.parent()?.join(format!("minidocker-lab{step}")));
    let wanted = dir.map(Path::to_owned).or_else(beside);
    let wanted = wanted.context("the repository has no parent; give a directory")?;
    let wanted = std::path::absolute(&wanted).context("find the working directory")?;
    let (Some(parent), Some(name)) = (wanted.parent(), wanted.file_name()) else {
        bail!("{} cannot become a lab's directory", wanted.display());
    };
    let parent = parent
        .canonicalize()
        .with_context(|| format!("find {}, in which the lab is to be", parent.display()))?;
    let dir = parent.join(name);
    ensure!(
        !dir.starts_with(repository.join("steps")),
        "{} is among the repository's own steps; choose another place",
        dir.display()
    );
    if let Ok(mut entries) = fs::read_dir(&dir) {
        ensure!(
            entries.next().is_none(),
            "{} is not empty, and nothing in it is overwritten; name another directory: \
             cargo lab start {step} DIR",
            dir.display()
        );
        ensure!(
            env::current_dir().ok() != dir.canonicalize().ok(),
            "{} is where you are, and a lab takes the place of the directory; go out of it, or name \
             one that does not exist",
            dir.display()
        );
    }
    Ok(dir)
}

/// A directory in the making, which goes away again unless it is finished.
struct Half {
    dir: PathBuf,
}

impl Half {
    fn beside(dir: &Path) -> Result<Self> {
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        let half = dir.with_file_name(format!(".{name}.{}", std::process::id()));
        fs::create_dir(&half)
            .with_context(|| format!("make a directory beside {}", dir.display()))?;
        Ok(Self { dir: half })
    }

    /// One rename(2), which takes the place of an empty directory but of nothing else.
    fn finish(self, dir: &Path) -> Result<()> {
        fs::rename(&self.dir, dir).with_context(|| format!("make {}", dir.display()))
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        // It is gone if all went well, and the error is told if not.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Writes the whole starter: the sources, cargo's files, and what is for the student.
fn write(repository: &Path, step: u8, to: &Path) -> Result<()> {
    let steps = (1..=step).map(|number| step_dir(repository, number));
    let steps: Vec<PathBuf> = steps.collect::<Result<_>>()?;
    let mut manifests = Vec::new();
    for package in steps.iter().chain([&repository.join("steps/cli")]) {
        let manifest = package.join("Cargo.toml");
        manifests.push(read(&manifest)?);
        copy(repository, to, &manifest)?;
        let blank = steps.last() == Some(package);
        for source in sources(package)? {
            let text = rewrite(&read(&source)?, |region| filling(region, blank))
                .with_context(|| format!("read {}", source.display()))?;
            put(to, source.strip_prefix(repository)?, &text)?;
        }
    }
    for file in AS_IT_IS {
        copy(repository, to, &repository.join(file))?;
    }
    let workspace = read(&repository.join("Cargo.toml"))?;
    let whole = read(&repository.join("Cargo.lock"))?;
    put(to, Path::new("Cargo.lock"), &whole)?;
    let manifest = |lock: &str| cargo::workspace(&workspace, step, &manifests, lock);
    put(to, Path::new("Cargo.toml"), &manifest(&whole))?;
    put(to, Path::new("Cargo.toml"), &manifest(&cargo::prune(to)?))?;
    put(
        to,
        Path::new(".cargo/config.toml"),
        &cargo::config(repository)?,
    )?;
    put(
        to,
        Path::new("README.md"),
        &readme::of(step, &tasks_of_step(step)?),
    )?;
    let starter = Starter {
        dir: PathBuf::new(),
        step,
        repository: repository.to_owned(),
    };
    put(
        to,
        Path::new(FILE),
        &(serde_json::to_string_pretty(&starter)? + "\n"),
    )
}

/// What a starter has between the markers, which it has not.
fn filling(region: &Region, blank: bool) -> String {
    match blank {
        true => region.todo.clone(),
        false => region.body.clone(),
    }
}

fn copy(repository: &Path, to: &Path, from: &Path) -> Result<()> {
    put(to, from.strip_prefix(repository)?, &read(from)?)
}

/// Writes a file that belongs to the student: whatever the mode of the original is.
fn put(to: &Path, file: &Path, text: &str) -> Result<()> {
    let path = to.join(file);
    let what = || format!("write {}", path.display());
    let parent = path.parent().with_context(what)?;
    fs::create_dir_all(parent)
        .and_then(|()| fs::write(&path, text))
        .with_context(what)
}
