//! Which program a suite grades.

use std::path::PathBuf;

/// The path of step `number`'s binary: `$STEP04` for step 4 where that is set,
/// otherwise the workspace's own build.
///
/// # Panics
/// When there is no such file.
pub fn step(number: u8) -> PathBuf {
    program(&format!("step{number:02}"))
}

/// The path of `minirunc`: `$MINIRUNC` where that is set, otherwise the
/// workspace's own build; and so with the others.
pub(crate) fn program(name: &str) -> PathBuf {
    let path = place(name);
    assert!(
        path.is_file(),
        "there is no {}: `cargo build --workspace` makes it, and `cargo lab test` does so first",
        path.display(),
    );
    path.canonicalize().unwrap_or(path)
}

/// Where such a program is, or would be.
pub(crate) fn place(name: &str) -> PathBuf {
    let other = std::env::var_os(name.to_uppercase());
    other.map_or_else(|| build_dir().join(name), PathBuf::from)
}

/// The path of the `lab` tool.
pub fn lab() -> PathBuf {
    build_dir().join("lab")
}

/// Where the workspace's programs are: beside this one, or one level above
/// where it is a test.
///
/// # Panics
/// When this program lies nowhere.
pub fn build_dir() -> PathBuf {
    let here = std::env::current_exe().expect("/proc/self/exe");
    let dir = here.parent().expect("an executable lies in a directory");
    match dir.parent() {
        Some(above) if !dir.join("machine").is_file() => above.to_owned(),
        _ => dir.to_owned(),
    }
}

/// What `cargo lab test` makes beside the build and keeps there: `images`, `clients`.
///
/// # Panics
/// Where it has not been made yet.
pub fn made(name: &str) -> PathBuf {
    let dir = build_dir().with_file_name(name);
    let shown = dir.display();
    assert!(
        dir.is_dir(),
        "there is no {shown}: `cargo lab test` makes it first"
    );
    dir
}

/// A kernel call that `--explain` told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// Who made it: `parent` or `child`.
    pub who: String,
    /// The call as the man page writes it.
    pub call: String,
}

impl Explained {
    /// The system call's name: `mount` of `mount("proc", ...)`.
    pub fn name(&self) -> &str {
        self.call.split('(').next().unwrap_or_default()
    }
}

/// The calls that `--explain` told of on standard error, in order.
pub fn explained(stderr: &str) -> Vec<Explained> {
    let told = |line: &str| {
        let (who, call) = line.trim_start().split_once(' ')?;
        ["parent", "child"].contains(&who).then(|| Explained {
            who: who.to_owned(),
            call: call.trim().to_owned(),
        })
    };
    stderr.lines().filter_map(told).collect()
}
