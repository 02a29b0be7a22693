//! Makes programs of the one in C, the right one and the wrong ones.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The program in C, as it stands in `tests/labs/other`.
pub fn source() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("labs/other/minic.c");
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The text with each edit made.
///
/// # Panics
/// Where the text that an edit is for does not stand there exactly once.
pub fn edited(text: &str, name: &str, edits: &[(&str, &str)]) -> String {
    edits.iter().fold(text.to_owned(), |text, (old, new)| {
        let found = text.matches(old).count();
        assert_eq!(
            found, 1,
            "{name}: the program has this {found} times, not once:\n{old}"
        );
        text.replacen(old, new, 1)
    })
}

/// What the right program must stand; the wrong ones leave things unused.
pub const STRICT: &[&str] = &["-Wall", "-Wextra", "-Werror"];
/// See [`STRICT`].
pub const LENIENT: &[&str] = &["-w"];

/// Compiles `source` as far as `step` to `dir/name`. Static, so that it runs in
/// the virtual machine, too.
pub fn compile(dir: &Path, name: &str, step: u8, source: &str, warnings: &[&str]) -> PathBuf {
    let (file, program) = (dir.join(format!("{name}.c")), dir.join(name));
    fs::write(&file, source).expect("write a source file");
    let out = Command::new("cc")
        .args(["-O1", "-static"])
        .args(warnings)
        .arg(format!("-DSTEP={step}"))
        .arg("-o")
        .args([&program, &file])
        .output()
        .expect("run cc (Debian: apt-get install gcc libc6-dev)");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{name}: {said}");
    program
}
