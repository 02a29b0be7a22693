//! Programs that the labs and the book use, beside the steps.

use super::finding::{Finding, Fix};
use crate::system;

const AREA: &str = "Tools";

/// What the book's sessions type, and the Debian package that has it.
const BOOK: [(&str, &str); 6] = [
    ("git", "git"),
    ("tar", "tar"),
    ("curl", "curl"),
    ("jq", "jq"),
    ("strace", "strace"),
    ("ip", "iproute2"),
];

/// What `cargo lab vm` runs.
const VM: [(&str, &str); 2] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
];

pub fn examine() -> Vec<Finding> {
    let mut findings = vec![programs("book", &BOOK, "some of the book's sessions")];
    if std::env::var_os("MINIDOCKER_VM").is_none() {
        findings.push(programs("vm", &VM, "cargo lab vm"));
    }
    findings
}

fn programs(
    name: &'static str,
    wanted: &[(&'static str, &'static str)],
    lost: &'static str,
) -> Finding {
    let missing = wanted
        .iter()
        .filter(|(program, _)| system::find(program).is_none());
    let (programs, packages): (Vec<&str>, Vec<&str>) = missing.copied().unzip();
    if programs.is_empty() {
        let all: Vec<&str> = wanted.iter().map(|(program, _)| *program).collect();
        return Finding::ok(AREA, name, all.join(", "));
    }
    Finding::ok(AREA, name, format!("missing: {}", programs.join(", ")))
        .note(Some(lost), Some(Fix::install(&packages.join(" "))))
}
