//! Who a command runs as, and what it may.

use std::fs;
use std::time::{Duration, Instant};

use harness::Bundle;
use serde_json::json;

use crate::host;

/// CVE-2026-30892: a user that is half understood is somebody else.
#[test]
fn exec_takes_no_user_that_is_not_a_number_and_nothing_else() {
    let host = host();
    let mut bundle = Bundle::new(&host, "user");
    bundle.script("sleep 100");
    bundle.start();
    for user in [
        "root",
        "ann",
        "1000x",
        "x1000",
        "1000:",
        ":5",
        "1000:5x",
        "1000 ",
        " 1000",
        "+5",
        "-1",
        "1:-1",
        "0x10",
        "1e3",
        "1.5",
        "1,2",
        "1000:5:6",
        "4294967295",
        "1:4294967295",
        "4294967296",
        "18446744073709551616",
        "\u{661}",
        "",
    ] {
        let user = format!("--user={user}");
        let out = bundle.exec([&user, "--", "id"]);
        assert_ne!(out.code(), 0, "{user}: {out}");
        assert_eq!(out.text(), "", "{user}");
        assert!(!out.errors().is_empty(), "{user}: no sentence");
    }
    let ids = ["sh", "-c", "echo $(id -u):$(id -g):$(id -G)"];
    for (user, is) in [
        ("1000:5", "1000:5:5"),
        ("1000", "1000:0:0"),
        ("0010", "10:0:0"),
        ("4294967294:4294967294", "4294967294:4294967294:4294967294"),
    ] {
        let out = bundle.exec(["--user", user, "--", ids[0], ids[1], ids[2]]);
        assert_eq!(out.ok(), is, "{user}");
    }
    bundle.delete();
}

/// The five sets, as /proc/self/status has them.
const SETS: [&str; 3] = ["sh", "-c", "grep ^Cap /proc/self/status"];

fn set(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let digits = line.and_then(|line| line.strip_prefix(':')).map(str::trim);
    u64::from_str_radix(digits.unwrap_or_default(), 16).expect("a set of capabilities")
}

/// CVE-2022-27650, CVE-2022-29162: what is inheritable is everybody's who can
/// run a program with such a capability in its file.
#[test]
fn nothing_is_inheritable_in_run_or_in_exec() {
    let host = host();
    let mut bundle = Bundle::new(&host, "inherit");
    bundle.command(SETS);
    let status = bundle.run().ok();
    assert_eq!(set(&status, "CapInh"), 0);
    assert_eq!(set(&status, "CapAmb"), 0);
    assert_ne!(set(&status, "CapPrm"), 0);

    bundle.script("sleep 100");
    bundle.start();
    let [a, b, c] = SETS;
    for status in [
        bundle.exec([a, b, c]),
        bundle.exec(["--user", "1234", "--", a, b, c]),
        bundle.exec(["--cap", "CAP_NET_ADMIN", "--", a, b, c]),
        bundle.exec(["--cap", "CAP_NET_ADMIN", "--user", "1234", "--", a, b, c]),
    ] {
        let status = status.ok();
        assert_eq!(set(&status, "CapInh"), 0, "{status}");
        assert_eq!(set(&status, "CapAmb"), 0, "{status}");
    }
    bundle.delete();
}

/// The same, tried: the program's file says that it may inherit.
#[test]
fn an_ordinary_user_gets_nothing_by_a_program_that_may_inherit() {
    let host = host();
    let mut bundle = Bundle::new(&host, "file");
    bundle.set("/process/noNewPrivileges", json!(false));
    host.shell(&format!(
        "cd {}/rootfs/bin; cp busybox grep.inherits; setcap cap_net_raw,cap_chown+i grep.inherits; \
         rm grep; mv grep.inherits grep",
        bundle.dir()
    ));
    bundle.script("sleep 100");
    bundle.start();
    let out = bundle.exec(["--user", "1234", "--", "grep", "^Cap", "/proc/self/status"]);
    assert_eq!(set(&out.ok(), "CapPrm"), 0, "{out}");
    bundle.delete();
    bundle.set("/process/user", json!({"uid": 1234, "gid": 1234}));
    bundle.command(["grep", "^Cap", "/proc/self/status"]);
    let out = bundle.run();
    assert_eq!(set(&out.ok(), "CapPrm"), 0, "{out}");
}

/// CVE-2024-9341 and its like: files of the image that never end.
#[test]
fn a_user_database_that_never_ends_holds_nobody_up() {
    let host = host();
    for (number, make) in [
        "mkfifo etc/passwd etc/group",
        "ln -s /dev/zero etc/passwd; ln -s /dev/zero etc/group",
        "ln -s passwd etc/passwd; ln -s group etc/group",
        "truncate -s 100G etc/passwd etc/group",
        "ln -s ../../../../../../tmp/fifo etc/passwd",
    ]
    .into_iter()
    .enumerate()
    {
        let mut bundle = Bundle::new(&host, &format!("fifo{number}"));
        host.shell(&format!(
            "[ -e /tmp/fifo ] || mkfifo /tmp/fifo; cd {}/rootfs; rm etc/passwd etc/group; {make}",
            bundle.dir()
        ));
        bundle.script("echo ran; sleep 100");
        let began = Instant::now();
        bundle.start();
        assert_eq!(bundle.exec(["echo", "ran"]).ok(), "ran", "{make}");
        assert_eq!(bundle.exec(["-u", "7", "--", "echo", "ran"]).ok(), "ran");
        assert!(began.elapsed() < Duration::from_secs(60), "{make}");
        bundle.delete();
    }
}

/// CVE-2018-20699: a list of a few bytes that stands for all the memory there is.
#[test]
fn a_list_of_processors_that_has_no_end_is_refused_without_memory() {
    let host = host();
    let mut bundle = Bundle::new(&host, "list");
    bundle.script("echo ran");
    for list in [
        "0-4294967295",
        "0-18446744073709551615",
        "4294967294-4294967295",
        "1000000000000000000000",
        "0-99999999,100000000-999999999",
    ] {
        for field in ["cpus", "mems"] {
            bundle.set("/linux/resources/cpu", json!({ field: list }));
            bundle.write();
            // More than 200 MB, and it is killed or panics.
            let script = "ulimit -v 200000; exec minirunc run --bundle $0 list";
            let began = Instant::now();
            let out = host.run(["sh", "-c", script, &bundle.dir()]);
            let error = out.exits(1);
            assert!(error.contains(field), "{list}: {error}");
            assert!(began.elapsed() < Duration::from_secs(60), "{list}");
        }
    }
    assert!(!host.path("/run/minirunc/list").exists());
}

/// A configuration cannot give what the runtime's caller does not have: the
/// files of others are others' in the container, too.
#[test]
fn an_unmapped_user_owns_nothing_of_the_hosts() {
    let host = host();
    host.shell("echo SECRET >/tmp/private; chmod 600 /tmp/private");
    let mut bundle = Bundle::new(&host, "mapped");
    fs::write(bundle.path("/private"), "").unwrap();
    bundle.own_users();
    bundle.bind("/tmp/private", "/private");
    bundle.script("id -u; cat /private; chmod 644 /private; chown 0 /private; true");
    assert_eq!(bundle.run().ok(), "0");
}
