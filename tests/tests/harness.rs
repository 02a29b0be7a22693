//! The harness itself: a machine is private, and a difference is seen.

use harness::{Host, Setup, User, assert_same};

#[test]
fn a_machine_is_private_and_gone_afterwards() {
    let host = Host::online();
    assert_eq!(host.run(["hostname"]).ok(), "laptop");
    assert_eq!(host.run(["sh", "-c", "exit 7"]).code(), 7);
    assert_eq!(host.run(["sh", "-c", "kill -9 $$"]).code(), 137);
    assert_eq!(host.shell("cat /proc/self/cgroup | grep ^0"), "0::/session");
    assert_eq!(host.run_as_student(["id", "-un"]).ok(), "student");
    assert_eq!(host.outside(["ping", "-c1", "-W20", "192.0.2.1"]).code(), 0);
    let keeper = host.pid();
    drop(host);
    assert!(!std::path::Path::new(&format!("/proc/{keeper}")).exists());
}

#[test]
fn what_is_left_behind_is_seen() {
    let host = Host::new();
    let before = host.snapshot();
    assert_same(&before, || host.snapshot());
    for (leave, part) in [
        ("mount -t tmpfs none /mnt", "mounts"),
        ("ip link add left0 type bridge", "links"),
        ("nft add table ip left", "nftables"),
        ("mkdir /sys/fs/cgroup/left", "cgroups"),
        ("sleep 1000 </dev/null >/dev/null 2>&1 &", "processes"),
        ("echo x > /tmp/left", "files"),
    ] {
        let before = host.snapshot();
        host.shell(leave);
        let after = host.snapshot();
        assert_ne!(before.part(part), after.part(part), "{leave}");
        assert!(!before.changes(&after).is_empty(), "{leave} was not seen");
    }
}

#[test]
fn a_terminal_types_and_shows() {
    let host = Host::new();
    let mut terminal = host.terminal(User::Student, ["sh"]);
    terminal.expect("$ ");
    terminal.resize(33, 91);
    terminal.send("stty size\n");
    terminal.expect("33 91");
    terminal.send("sleep 100\n");
    terminal.expect("sleep 100");
    terminal.runs("sleep");
    terminal.send("\x03");
    terminal.expect("$ ");
    terminal.send("exit 9\n");
    assert_eq!(terminal.wait(), 9);
}

#[test]
fn cgroups_can_be_delegated_or_left_as_they_are() {
    let host = Host::with(Setup {
        delegated: true,
        ..Setup::default()
    });
    let made = host.run_as_student(["mkdir", "/sys/fs/cgroup/user/mine"]);
    assert_eq!(made.code(), 0);
    let host = Host::with(Setup {
        machine_cgroups: true,
        ..Setup::default()
    });
    assert!(host.shell("mount").contains("/sys/fs/cgroup"));
}
