//! Makes the programs: of C, and of the steps with one file changed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::{build_dir, compile_c, lab};

use crate::wrong::Wrong;

/// What the right program in C must stand; the wrong ones leave things unused.
pub const STRICT: &[&str] = &["-Wall", "-Wextra", "-Werror"];
/// See [`STRICT`].
pub const LENIENT: &[&str] = &["-w"];

/// The program in C, as it stands in `tests/labs/other`.
pub fn c_source() -> String {
    read(&labs().join("other/minic.c"))
}

/// Compiles `source` as far as `step` to `name`. Static, so that it runs in the
/// virtual machine, too.
pub fn compile(name: &str, step: u8, source: &str, warnings: &[&str]) -> PathBuf {
    let program = scratch().join(name);
    let step = format!("-DSTEP={step}");
    let options = ["-static"].iter().chain(warnings).copied();
    compile_c(&program, source, options.chain([step.as_str()]));
    program
}

/// The program in C with all of this wrong in it; called as the first.
pub fn wrong_c(all: &[Wrong]) -> PathBuf {
    let source = all
        .iter()
        .fold(c_source(), |text, wrong| edited(&text, wrong));
    let first = all.first().expect("something is wrong");
    compile(first.name, first.step, &source, LENIENT)
}

/// The text with each edit made.
///
/// # Panics
/// Where the text that an edit is for does not stand there exactly once.
fn edited(text: &str, wrong: &Wrong) -> String {
    wrong
        .edits
        .iter()
        .fold(text.to_owned(), |text, (old, new)| {
            let found = text.matches(old).count();
            let name = wrong.name;
            assert_eq!(
                found, 1,
                "{name}: the program has this {found} times, not once:\n{old}"
            );
            text.replacen(old, new, 1)
        })
}

/// A shell script as a program.
pub fn script(name: &str, script: &str) -> PathBuf {
    let program = scratch().join(name);
    write(&program, &format!("#!/bin/sh\n{script}\n"));
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("chmod");
    program
}

/// A copy of the steps in which one file at a time is wrong.
pub struct Steps(PathBuf);

impl Steps {
    /// Copies them, as they are.
    pub fn copied() -> Steps {
        let (from, to) = (workspace(), scratch().join("steps"));
        fs::remove_dir_all(&to).ok();
        copy(&from.join("steps"), &to.join("steps"));
        fs::copy(from.join("Cargo.lock"), to.join("Cargo.lock")).expect("copy Cargo.lock");
        let manifest = read(&from.join("Cargo.toml"));
        let members = r#"members = ["steps/*", "final", "tests"]"#;
        assert!(manifest.contains(members), "the workspace has {members}");
        write(
            &to.join("Cargo.toml"),
            &manifest.replace(members, r#"members = ["steps/*"]"#),
        );
        set_apart(&to, "wrong");
        Steps(to)
    }

    /// Builds step 5 with `file` of it changed, and changes it back.
    pub fn build(&self, file: &str, wrong: &Wrong) -> PathBuf {
        let path = self.0.join("steps/05-images").join(file);
        let right = read(&path);
        write(&path, &edited(&right, wrong));
        let program = build(&self.0, 5, wrong.name);
        write(&path, &right);
        program
    }
}

/// What `cargo lab start` writes for a step, built.
pub fn starter(step: u8) -> PathBuf {
    let name = format!("starter{step:02}");
    // Not below the repository, whose .cargo/config.toml would be read there, too.
    let dir = std::env::temp_dir().join(format!("{name}.{}", std::process::id()));
    let mut start = Command::new(lab());
    start.args(["start", &step.to_string()]).arg(&dir);
    let out = start.output().expect("run lab");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "lab start {step}: {said}");
    set_apart(&dir, &name);
    let program = build(&dir, step, &name);
    fs::remove_dir_all(&dir).expect("remove the starter");
    program
}

/// Gives the packages of another workspace than ours versions of their own: by
/// these cargo tells them from ours. Built in one directory, a wrong layer.rs
/// would otherwise become the right step's.
fn set_apart(workspace: &Path, name: &str) {
    let manifest = workspace.join("Cargo.toml");
    let text = read(&manifest);
    let version = text.lines().find(|line| line.starts_with("version = "));
    let version = version.expect("the workspace has a version");
    let other = format!("{}-{name}\"", version.trim_end_matches('"'));
    write(&manifest, &text.replacen(version, &other, 1));
}

/// Builds a step of another workspace than ours, as `name`.
///
/// In our own directory for builds, where all that it depends on is compiled
/// already; so its program must have neither the name of ours nor that of another
/// workspace's, which may be built at the same time.
fn build(workspace: &Path, step: u8, name: &str) -> PathBuf {
    let steps = fs::read_dir(workspace.join("steps")).expect("list the steps");
    let is_it = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(&format!("{step:02}-"))
    };
    let dir = steps.flatten().map(|entry| entry.path()).find(is_it);
    let manifest = dir.expect("the step is there").join("Cargo.toml");
    let whose = workspace.file_stem().unwrap_or_default().to_string_lossy();
    let (other, text) = (format!("other{step:02}-{whose}"), read(&manifest));
    if !text.contains(&other) {
        let bin = format!("\n[[bin]]\nname = \"{other}\"\npath = \"src/main.rs\"\n");
        write(&manifest, &(text + &bin));
    }
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--offline", "--bin", &other]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let out = cargo
        .arg("--target-dir")
        .arg(build_dir().join(".."))
        .current_dir(workspace)
        .output()
        .expect("run cargo");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{name} does not build:\n{said}");
    let program = scratch().join(name);
    fs::copy(build_dir().join(other), &program).expect("keep the program");
    program
}

/// Where the programs are made.
pub fn scratch() -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("wrong");
    fs::create_dir_all(&dir).expect("make a directory for the programs");
    dir
}

/// The data of the labs.
pub fn labs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("labs")
}

fn workspace() -> PathBuf {
    labs().join("../..")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("make a directory");
    for entry in fs::read_dir(from).expect("list a directory").flatten() {
        let (path, there) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &there);
        } else {
            fs::copy(&path, &there).expect("copy a file");
        }
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
