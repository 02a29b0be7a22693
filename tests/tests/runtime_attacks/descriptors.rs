//! Descriptors of the host's that a container inherits, or starts in, or finds
//! its command by (CVE-2024-21626).

use harness::{Bundle, Host, Output};
use serde_json::json;

use crate::{SECRET, host};

/// Looks for the host from the working directory upwards.
const LOOK_UP: &str = r"
    up=.
    for n in 1 2 3 4 5 6 7 8; do
        cat $up/secret-of-the-host $up/tmp/secret-of-the-host 2>/dev/null
        up=$up/..
    done
    cat /proc/self/cwd/tmp/secret-of-the-host /proc/1/cwd/secret-of-the-host 2>/dev/null
    true
";

/// Runs the runtime for a caller who holds many directories and files open,
/// none of them to be closed on exec.
fn with_open_files<const N: usize>(host: &Host, words: [&str; N]) -> Output {
    let opens: String = (3..10).map(|fd| format!("exec {fd}</; ")).collect();
    let more: String = (10..40).map(|fd| format!("exec {fd}</tmp; ")).collect();
    let script = format!("{opens}{more}exec {SECRET_FD}<{SECRET}; exec minirunc \"$@\"");
    let line = ["bash", "-c", &script, "bash"].into_iter().chain(words);
    host.run(line)
}

const SECRET_FD: u32 = 40;

/// Every descriptor that the runtime could have open, and its other doors.
fn doors() -> Vec<String> {
    let numbers = (0..24).chain([SECRET_FD, 100, 1023]);
    let mut doors: Vec<String> = numbers.map(|fd| format!("/proc/self/fd/{fd}")).collect();
    doors.extend(["/proc/self/cwd", "/proc/thread-self/cwd", "/dev/fd/7"].map(str::to_owned));
    doors
}

#[test]
fn no_working_directory_is_the_hosts_in_run() {
    let host = host();
    let mut bundle = Bundle::new(&host, "cwd");
    bundle.script(LOOK_UP);
    for door in doors() {
        bundle.set("/process/cwd", json!(door));
        bundle.write();
        let run = ["run", "--bundle", &bundle.dir(), "cwd"];
        let out = with_open_files(&host, run);
        assert_eq!(out.text(), "", "cwd {door}: {out}");
    }
}

#[test]
fn no_working_directory_is_the_hosts_in_exec() {
    let host = host();
    let mut bundle = Bundle::new(&host, "cwd");
    // The image's WORKDIR may be a link, too.
    for fd in 0..24 {
        let link = bundle.path(&format!("/link{fd}"));
        std::os::unix::fs::symlink(format!("/proc/self/fd/{fd}"), link).unwrap();
    }
    bundle.script("sleep 100");
    bundle.start();
    let links = (0..24).map(|fd| format!("/link{fd}"));
    for door in doors().into_iter().chain(links) {
        let exec = ["exec", "--cwd", &door, "cwd", "sh", "-c", LOOK_UP];
        let out = with_open_files(&host, exec);
        assert_eq!(out.text(), "", "cwd {door}: {out}");
    }
    bundle.delete();
}

#[test]
fn no_command_is_found_through_a_descriptor_of_the_hosts() {
    let host = host();
    host.shell("printf '#!/bin/sh\\necho SECRET\\n' >/tmp/program && chmod 755 /tmp/program");
    // It must work where it is found, or it would not be missed.
    assert_eq!(host.run(["/tmp/program"]).ok(), "SECRET");
    let mut bundle = Bundle::new(&host, "command");
    bundle.script("sleep 100");
    bundle.start();
    for door in doors() {
        for way in ["", "/tmp", "/..", "/../..", "/../../tmp"] {
            let program = format!("{door}{way}/program");
            let out = with_open_files(&host, ["exec", "command", &program]);
            assert_ne!(out.text(), "SECRET", "{program}");
        }
    }
    bundle.delete();
    for door in doors() {
        let program = format!("{door}/tmp/program");
        bundle.command([&program]);
        bundle.write();
        let run = ["run", "--bundle", &bundle.dir(), "command"];
        let out = with_open_files(&host, run);
        assert_ne!(out.text(), "SECRET", "{program}");
    }
}

/// The names of what is open, without what `ls` opens itself.
fn open_files(out: &Output) -> Vec<String> {
    let names = out.ok();
    let names = names.lines().filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}

#[test]
fn a_command_has_the_three_standard_streams_and_what_was_passed_on() {
    let host = host();
    let mut bundle = Bundle::new(&host, "open");
    // The glob is expanded by a shell that has no other file open.
    let list = "for fd in /proc/self/fd/*; do [ -e $fd ] && echo ${fd##*/}; done; true";
    bundle.script(list);
    bundle.write();
    let run = ["run", "--bundle", &bundle.dir(), "open"];
    assert_eq!(open_files(&with_open_files(&host, run)), ["0", "1", "2"]);
    let run = [
        "run",
        "--preserve-fds",
        "2",
        "--bundle",
        &bundle.dir(),
        "open",
    ];
    let out = with_open_files(&host, run);
    assert_eq!(open_files(&out), ["0", "1", "2", "3", "4"]);

    bundle.script("sleep 100");
    bundle.start();
    let exec = ["exec", "open", "sh", "-c", list];
    assert_eq!(open_files(&with_open_files(&host, exec)), ["0", "1", "2"]);
    let exec = ["exec", "--preserve-fds", "2", "open", "sh", "-c", list];
    let out = with_open_files(&host, exec);
    assert_eq!(open_files(&out), ["0", "1", "2", "3", "4"]);
    // The first process of one that was started by another command.
    let list = "for fd in /proc/1/fd/*; do [ -e $fd ] && echo ${fd##*/}; done; true";
    let out = bundle.exec(["sh", "-c", list]);
    assert_eq!(open_files(&out), ["0", "1", "2"]);
    bundle.delete();
}
