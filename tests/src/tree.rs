//! Trees of files, as two tools unpack them.

use std::process::Command;

/// Everything about each file of the tree `root`, a line each and sorted: name, kind, mode,
/// owner, time, size, links and target, then contents and extended attributes. What find(1)
/// is to leave out is `except`, as `-path ./proc -o -path ./dev`.
///
/// # Panics
/// Where a file cannot be read.
pub fn tree(root: &str, except: &str) -> Vec<String> {
    let prune = if except.is_empty() { "-false" } else { except };
    let script = format!(
        "cd {root}/ && find . \\( {prune} \\) -prune -o -type d -printf '%p|%y|%m|%U:%G|%T@\\n' \
            -o -printf '%p|%y|%m|%U:%G|%T@|%s|%n|%l\\n'; \
         find . \\( {prune} \\) -prune -o -type f -print0 | xargs -0 sha256sum; \
         find . \\( {prune} \\) -prune -o -print0 | xargs -0 getfattr -h -d -m '^(user|security|trusted)\\.' -e hex"
    );
    let out = Command::new("sh")
        .args(["-c", &script])
        .output()
        .expect("run sh");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}");
    let text = String::from_utf8_lossy(&out.stdout);
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// Holds two trees against each other, but for lines that begin with one of `free`.
///
/// # Panics
/// When they differ, with what only one of them has.
#[track_caller]
pub fn assert_same_tree(ours: &[String], theirs: &[String], free: &[&str]) {
    let only = |these: &[String], others: &[String]| -> Vec<String> {
        let counts = |line: &&String| !free.iter().any(|start| line.starts_with(start));
        let missing = |line: &&String| others.binary_search(line).is_err();
        these
            .iter()
            .filter(counts)
            .filter(missing)
            .cloned()
            .collect()
    };
    let (ours, theirs) = (only(ours, theirs), only(theirs, ours));
    assert!(
        ours.is_empty() && theirs.is_empty(),
        "only ours: {} {:#?}\nonly theirs: {} {:#?}",
        ours.len(),
        ours.iter().take(20).collect::<Vec<_>>(),
        theirs.len(),
        theirs.iter().take(20).collect::<Vec<_>>()
    );
}
