//! Each of the calls that change files fails once in turn, and kills its caller once.

use harness::registry::{Hostile, machine};
use harness::{Host, Output, Setup, User, strace, wait_for};

use crate::{Bystander, image};

/// What may fail, and how.
const FAULTS: [(&str, &str); 13] = [
    ("fchmod", "EIO"),
    ("fchown", "EIO"),
    ("flock", "EIO"),
    ("fsync", "EIO"),
    ("ftruncate", "ENOSPC"),
    ("mkdir", "ENOSPC"),
    ("mkdirat", "ENOSPC"),
    ("rename", "EIO"),
    ("renameat2", "EIO"),
    ("rmdir", "EBUSY"),
    ("unlink", "EIO"),
    ("unlinkat", "EIO"),
    ("utimensat", "EIO"),
];

/// The first so many calls of a name are spoiled; what follows is more of the same.
const MOST: usize = 5;

/// Runs a command as our child and strace as our grandchild (`-D`), not the other way round.
fn traced(host: &Host, options: &[String], line: &str) -> Output {
    let words = ["strace", "-D"].into_iter();
    let words = words.chain(options.iter().map(String::as_str));
    let words = words.chain(["minidocker"]).chain(line.split_whitespace());
    host.run(words)
}

/// Which calls `line` makes, and how often.
fn calls(host: &Host, line: &str) -> Vec<(&'static str, &'static str, usize)> {
    let names: Vec<&str> = FAULTS.iter().map(|(call, _)| *call).collect();
    traced(host, &strace::tracing(&names, "/tmp/trace"), line).ok();
    let trace = std::fs::read_to_string(host.path("/tmp/trace")).expect("a trace");
    let most = strace::most_calls(&trace);
    let count = |call: &str| most.get(call).copied().unwrap_or(0);
    FAULTS
        .map(|(call, error)| (call, error, count(call)))
        .into()
}

/// Spoils the calls of `line` one after the other; `ready` makes it possible again.
fn spoil(bystander: &Bystander<'_>, host: &Host, line: &str, ready: &dyn Fn()) {
    let minidocker = &bystander.minidocker;
    let look = |what: &str| {
        println!("{line}: {what}");
        wait_for("everything that it started to end", 60, || {
            let out = host.run(["pgrep", "-x", "minidocker"]);
            out.text().is_empty().then_some(())
        });
        minidocker.assert_unharmed();
        minidocker.ok("images -q");
        bystander.assert_unharmed();
    };
    ready();
    let calls = calls(host, line);
    let renames = calls.iter().find(|(call, ..)| *call == "rename");
    assert!(
        renames.is_some_and(|(.., count)| *count > 0),
        "{line} changes nothing"
    );
    for (call, error, count) in calls {
        for n in 1..=count.min(MOST) {
            ready();
            let out = traced(host, &strace::failing(call, error, n), line);
            let said = out.errors();
            assert!(
                out.code() == 0 || out.code() == 1 && said.contains("minidocker: "),
                "{call} {n} fails with {error}: {out}"
            );
            assert!(!said.contains("panicked"), "{call} {n}: {out}");
            look(&format!("{call} {n} fails with {error}"));
            ready();
            traced(host, &strace::killing(call, n), line);
            look(&format!("{call} {n} kills"));
        }
    }
    ready();
    minidocker.ok(line);
    bystander.assert_unharmed();
}

/// What all need: an image that comes from a registry and from a file.
fn spoiled(line: &str, get_ready: &[&str]) {
    let host = machine(Setup::default());
    image(&host, "/tmp/layout", 30);
    host.shell("tar -C /tmp/layout -cf /tmp/layout.tar .");
    let hostile = Hostile::start(&host, "/tmp/layout", &[]);
    let bystander = Bystander::new(&host, User::Root);
    let name = hostile.name("x:one");
    let line = line.replace("NAME", &name);
    spoil(&bystander, &host, &line, &|| {
        for line in get_ready {
            // Which is there already, or already gone, after many a fault.
            bystander.minidocker.call(&line.replace("NAME", &name));
        }
    });
}

#[test]
fn a_pull_whose_calls_fail_or_kill_it() {
    spoiled("pull NAME", &["rmi NAME", "image prune -f"]);
}

#[test]
fn a_load_whose_calls_fail_or_kill_it() {
    spoiled(
        "load -i /tmp/layout.tar",
        &["rmi layout:one", "image prune -f"],
    );
}

#[test]
fn a_removal_whose_calls_fail_or_kill_it() {
    spoiled("rmi NAME", &["pull NAME"]);
}

#[test]
fn a_prune_whose_calls_fail_or_kill_it() {
    let another = "tag host NAME";
    spoiled("image prune -f", &["rmi NAME", "pull NAME", another]);
}
