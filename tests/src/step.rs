//! Which program a suite grades.

use std::path::PathBuf;

/// The path of step `number`'s binary: `$STEP04` for step 4 where that is set,
/// otherwise the workspace's own build.
///
/// # Panics
/// When there is no such file.
pub fn step(number: u8) -> PathBuf {
    let path = std::env::var_os(format!("STEP{number:02}")).map_or_else(
        || build_dir().join(format!("step{number:02}")),
        PathBuf::from,
    );
    assert!(
        path.is_file(),
        "there is no {}: `cargo build --workspace` makes it, and `cargo lab test` does so first",
        path.display(),
    );
    path.canonicalize().unwrap_or(path)
}

/// Where the workspace's programs are: this executable is `deps/NAME-HASH` in it.
pub(crate) fn build_dir() -> PathBuf {
    let here = std::env::current_exe().expect("/proc/self/exe");
    here.parent()
        .and_then(|deps| deps.parent())
        .expect("a test executable lies two levels below the root")
        .to_owned()
}

/// The calls that `--explain` told of in `stderr`, in order: each line's first
/// word that looks like a call, `mount(...)` or `RTM_NEWLINK ...`.
pub fn explained(stderr: &str) -> Vec<String> {
    stderr.lines().filter_map(call_in).collect()
}

fn call_in(line: &str) -> Option<String> {
    let at = line.find('(')?;
    let name_start = line[..at]
        .rfind(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .map_or(0, |i| i + 1);
    (name_start < at).then(|| line[name_start..].to_owned())
}
