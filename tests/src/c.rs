//! Small programs in C, which do what no command does.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

/// Compiles `source` to `program`, with the source beside it.
///
/// # Panics
/// Where there is no C compiler, or it refuses the source.
pub fn compile_c(program: &Path, source: &str, options: impl IntoIterator<Item: AsRef<OsStr>>) {
    let file = program.with_extension("c");
    std::fs::write(&file, source).expect("write a source file");
    let out = Command::new("cc")
        .arg("-O1")
        .args(options)
        .arg("-o")
        .args([program, &file])
        .output()
        .expect("run cc (Debian: apt-get install gcc libc6-dev)");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{}: {said}", program.display());
}
