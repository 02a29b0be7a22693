//! A container's files: copied in and out, told of, committed and exported; whose they are, and what
//! becomes of them when somebody in the container doesn't mean well.

mod attacks;
mod layers;
mod rules;
mod streams;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use harness::engine::{self, Machine, Who};

/// Makes a check for each of those whose containers they may be, at the same time.
fn for_each(check: impl Fn(&Machine) + Sync) {
    engine::for_each(|machine| {
        begin(machine);
        check(machine);
        end(machine);
    });
}

/// One for root alone.
fn for_root(check: impl Fn(&Machine)) {
    let machine = Machine::of(Who::Root);
    begin(&machine);
    check(&machine);
    end(&machine);
}

/// A place of the host's for files.
fn begin(machine: &Machine) {
    machine.script("mkdir /tmp/work").ok();
}

/// Sees that nothing of the containers is left.
fn end(machine: &Machine) {
    machine.script("rm -rf /tmp/work").ok();
    machine.nothing_left();
}

/// Starts a container that runs a script and then waits; returns when the script has ended.
#[track_caller]
fn start(machine: &Machine, options: &[&str], script: &str) {
    let script = format!("{script}\necho ready; exec sleep 1000");
    let mut words = vec!["run", "-d", "--name", "c1", "--network", "none"];
    words.extend(options);
    words.extend(["host", "sh", "-ec", &script]);
    machine.ok(&words);
    harness::wait_for("the container's files", 60, || {
        (machine.ok("logs c1") == "ready").then_some(())
    });
}

/// Each file of a tree in a line: `dir/`, `file=content`, `link->target`.
fn listing(dir: &Path) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    let mut left = vec![String::new()];
    while let Some(inner) = left.pop() {
        let Ok(entries) = fs::read_dir(dir.join(&inner)) else {
            continue;
        };
        for entry in entries {
            let entry = entry.expect("list a directory");
            let name = format!("{inner}{}", entry.file_name().to_string_lossy());
            let kind = entry.file_type().expect("look at a file");
            lines.insert(if kind.is_dir() {
                left.push(format!("{name}/"));
                format!("{name}/")
            } else if kind.is_symlink() {
                let target = fs::read_link(entry.path()).expect("read a link");
                format!("{name}->{}", target.display())
            } else {
                let content = fs::read(entry.path()).expect("read a file");
                format!("{name}={}", String::from_utf8_lossy(&content).trim())
            });
        }
    }
    lines
}
