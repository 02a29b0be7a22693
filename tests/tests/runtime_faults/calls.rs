//! Each of the calls fails once in turn.

use std::collections::BTreeMap;

use harness::{Bundle, Host, Output, assert_same, strace};

use crate::{difference, look, rich};

/// What may fail, and how.
const FAULTS: [(&str, &str); 51] = [
    ("bind", "EIO"),
    ("bpf", "EPERM"),
    ("capset", "EPERM"),
    ("chdir", "EIO"),
    ("clone", "EAGAIN"),
    ("clone3", "EAGAIN"),
    ("close_range", "EIO"),
    ("connect", "EIO"),
    ("execveat", "EIO"),
    ("fchdir", "EIO"),
    ("fchmod", "EIO"),
    ("fchownat", "EIO"),
    ("flock", "EIO"),
    ("fsconfig", "EIO"),
    ("fsmount", "EIO"),
    ("fsopen", "EIO"),
    ("keyctl", "EIO"),
    ("listen", "EIO"),
    ("memfd_create", "EMFILE"),
    ("mkdir", "ENOSPC"),
    ("mkdirat", "ENOSPC"),
    ("mknodat", "EIO"),
    ("mount", "EIO"),
    ("mount_setattr", "EIO"),
    ("move_mount", "EIO"),
    ("open_tree", "EIO"),
    ("openat2", "EIO"),
    ("personality", "EIO"),
    ("pidfd_open", "EMFILE"),
    ("pidfd_send_signal", "EIO"),
    ("pivot_root", "EIO"),
    ("prctl", "EPERM"),
    ("recvmsg", "EIO"),
    ("rename", "EIO"),
    ("renameat", "EIO"),
    ("rmdir", "EBUSY"),
    ("seccomp", "EIO"),
    ("sendmsg", "EIO"),
    ("setdomainname", "EIO"),
    ("setgid", "EPERM"),
    ("setgroups", "EPERM"),
    ("sethostname", "EIO"),
    ("setns", "EIO"),
    ("setresuid", "EPERM"),
    ("setsid", "EPERM"),
    ("setuid", "EPERM"),
    ("socket", "EMFILE"),
    ("symlinkat", "EIO"),
    ("umount2", "EIO"),
    ("unlinkat", "EIO"),
    ("unshare", "EIO"),
];

/// How often each call is made by `line`, in the process that makes it most
/// often.
fn counts(bundle: &Bundle, line: &[&str]) -> BTreeMap<String, usize> {
    let calls = FAULTS.iter().map(|(call, _)| *call).chain(["write"]);
    let options = strace::tracing(&calls.collect::<Vec<_>>(), "/tmp/trace");
    traced(bundle, &options, line).ok();
    let text = std::fs::read_to_string(bundle.host().path("/tmp/trace")).expect("read the trace");
    strace::most_calls(&text)
}

/// Runs `line` as our child and strace as our grandchild (`-D`), not the other
/// way round.
fn traced(bundle: &Bundle, options: &[String], line: &[&str]) -> Output {
    let mut all = vec!["strace", "-D"];
    all.extend(options.iter().map(String::as_str));
    all.extend(line);
    bundle.background(&all)
}

/// Which of `count` calls are tried: of many every few, and always the first
/// and the last ones.
fn chosen(count: usize) -> Vec<usize> {
    let step = count.div_ceil(12).max(1);
    (1..=count)
        .filter(|n| n % step == 0 || *n <= 3 || *n + 2 > count)
        .collect()
}

/// Runs `line` once for each fault that can happen in it; `after` looks at how
/// that ended, and puts things right again.
fn each_fault(
    bundle: &Bundle,
    line: &[&str],
    only: &[&str],
    counts: &BTreeMap<String, usize>,
    mut after: impl FnMut(&Output) -> Vec<String>,
) {
    let mut complaints = String::new();
    let (mut tried, mut failed) = (0, 0);
    for (call, error) in FAULTS.into_iter().chain([("write", "ENOSPC")]) {
        if !only.is_empty() && !only.contains(&call) {
            continue;
        }
        for n in chosen(counts.get(call).copied().unwrap_or(0)) {
            let out = traced(bundle, &strace::failing(call, error, n), line);
            tried += 1;
            failed += usize::from(out.code() != 0);
            // strace counts for each process: a write of the child's may fail, and then
            // the parent's, which is the sentence.
            let word = match call {
                "write" => "",
                _ => "minirunc: ",
            };
            for complaint in judge(&out, word).into_iter().chain(after(&out)) {
                complaints += &format!("{call} number {n}: {complaint}: {}\n", out.errors());
            }
        }
    }
    println!("{failed} of {tried} faults were fatal");
    assert!(complaints.is_empty(), "{}\n{complaints}", line.join(" "));
    assert!(failed > 0, "no fault was noticed");
}

/// What is wrong with how a command with a fault ended.
fn judge(out: &Output, word: &str) -> Option<String> {
    let errors = out.errors();
    match out.code() {
        // There was another way, or nobody needs what failed.
        0 => None,
        1 | 255 if errors.contains("panicked") => Some("a panic".to_owned()),
        1 | 255 if !errors.contains(word) => Some("no sentence".to_owned()),
        1 | 255 => None,
        code => Some(format!("ended with status {code}")),
    }
}

const CREATE: [&str; 3] = ["minirunc", "create", "--bundle"];

fn create_with_faults(host: &Host, bundle: &Bundle, name: &str) {
    let delete = || host.run(["minirunc", "delete", "--force", name]);
    let dir = bundle.dir();
    let create = [&CREATE[..], &[&dir, name]].concat();
    bundle.background(&create).ok();
    delete().ok();
    let everything = host.snapshot();
    let before = look(host);
    let counts = counts(bundle, &create);
    delete().ok();
    each_fault(bundle, &create, &[], &counts, |out| {
        if out.code() == 0 {
            delete().ok();
            return difference(host, &before);
        }
        let left = difference(host, &before);
        delete();
        left
    });
    let own = format!("{dir}/said");
    assert_same(&everything.without(&own), || {
        host.snapshot().without(&own).without("/tmp/trace")
    });
}

#[test]
fn whatever_call_of_create_fails_there_is_a_sentence_and_nothing_is_left() {
    let host = Host::new();
    let bundle = rich(&host, "create");
    create_with_faults(&host, &bundle, "create");
}

#[test]
fn the_same_in_a_user_namespace() {
    let host = Host::new();
    let mut bundle = rich(&host, "users");
    bundle.own_users();
    bundle.write();
    create_with_faults(&host, &bundle, "users");
}

/// What is called by the first process after it was started.
const AT_THE_END: [&str; 10] = [
    "capset",
    "chdir",
    "close_range",
    "personality",
    "prctl",
    "seccomp",
    "setgid",
    "setgroups",
    "setuid",
    "recvmsg",
];

#[test]
fn whatever_call_of_run_fails_there_is_a_sentence_and_nothing_is_left() {
    let host = Host::new();
    let mut bundle = rich(&host, "run");
    bundle.command(["true"]);
    bundle.write();
    let run = ["minirunc", "run", "--bundle", "/tmp/run", "run"];
    bundle.background(&run).ok();
    let before = look(&host);
    let counts = counts(&bundle, &run);
    each_fault(&bundle, &run, &AT_THE_END, &counts, |_| {
        let left = difference(&host, &before);
        host.run(["minirunc", "delete", "--force", "run"]);
        left
    });
}

#[test]
fn whatever_call_of_start_fails_the_container_can_be_removed() {
    let host = Host::new();
    let bundle = rich(&host, "start");
    let create = [&CREATE[..], &["/tmp/start", "start"]].concat();
    let start = ["minirunc", "start", "start"];
    let delete = || host.run(["minirunc", "delete", "--force", "start"]).ok();
    bundle.background(&create).ok();
    let before = {
        delete();
        look(&host)
    };
    bundle.background(&create).ok();
    let counts = counts(&bundle, &start);
    delete();
    bundle.background(&create).ok();
    each_fault(&bundle, &start, &[], &counts, |_| {
        delete();
        let left = difference(&host, &before);
        bundle.background(&create).ok();
        left
    });
    delete();
}

#[test]
fn whatever_call_of_delete_fails_the_next_one_removes_all() {
    let host = Host::new();
    let bundle = rich(&host, "delete");
    let create = [&CREATE[..], &["/tmp/delete", "delete"]].concat();
    let delete = ["minirunc", "delete", "--force", "delete"];
    bundle.background(&create).ok();
    host.run(delete).ok();
    let before = look(&host);
    bundle.background(&create).ok();
    let counts = counts(&bundle, &delete);
    bundle.background(&create).ok();
    each_fault(&bundle, &delete, &[], &counts, |_| {
        host.run(delete).ok();
        let left = difference(&host, &before);
        bundle.background(&create).ok();
        left
    });
    host.run(delete).ok();
}

#[test]
fn whatever_call_of_exec_fails_the_container_goes_on_alone() {
    let host = Host::new();
    let bundle = rich(&host, "exec");
    bundle.start();
    let exec = ["minirunc", "exec", "exec", "true"];
    bundle.background(&exec).ok();
    let before = look(&host);
    let counts = counts(&bundle, &exec);
    each_fault(&bundle, &exec, &[], &counts, |_| difference(&host, &before));
    bundle.delete();
}
