//! `cargo lab cleanup`: what a crash left goes, and nothing else.

use std::time::Duration;

use harness::{Host, Setup, Snapshot, User, assert_same, in_the_vm, lab, wait_for};
use nix::sys::signal::Signal;

fn host() -> Host {
    Host::with(Setup {
        outside: true,
        shown: vec![(lab(), "lab".to_owned())],
        ..Setup::default()
    })
}

const NOTHING: &str = "Nothing is left behind.";

/// Cleans up until the machine is as it was. What was killed still dies when the first look is taken,
/// and counts as living.
#[track_caller]
fn clean_up(host: &Host, user: User, before: &Snapshot) {
    let mut patience = 300;
    loop {
        let out = host.run_as(user, ["lab", "cleanup"]).ok();
        let after = host.snapshot();
        if out.contains(NOTHING) && before.changes(&after).is_empty() {
            return;
        }
        patience -= 1;
        if patience == 0 {
            assert_same(before, || host.snapshot());
            panic!("cleanup always finds something more: {out}");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn after_kill_9_at_any_moment_it_leaves_the_machine_as_it_was() {
    let host = host();
    let runs: [&[&str]; 5] = [
        &["step01", "run", "sleep", "0.05"],
        &["step02", "run", "-v", "/srv:/data", "sleep", "0.05"],
        &["step03", "run", "sleep", "0.05"],
        &["step04", "run", "-p", "8080:80", "sleep", "0.05"],
        &["step05", "run", "-p", "8080:80", "host", "sleep", "0.05"],
    ];
    // Each takes its time where the machine is emulated.
    let moments: &[u64] = if in_the_vm() {
        &[40]
    } else {
        &[3, 9, 17, 31, 58]
    };
    for user in [User::Root, User::Student] {
        for run in runs {
            host.run_as(user, run).ok();
        }
        host.run_as(user, ["lab", "cleanup"]).ok();
        let before = host.snapshot();
        for run in runs {
            for moment in moments {
                let running = host.spawn_as(user, run);
                running.kill_after(Duration::from_millis(*moment));
                let clean = || clean_up(&host, user, &before);
                let clean = std::panic::catch_unwind(std::panic::AssertUnwindSafe(clean));
                assert!(clean.is_ok(), "{user:?}, {run:?}, killed after {moment} ms");
            }
        }
    }
}

#[test]
fn files_that_belong_to_a_containers_users_go_too() {
    let host = host();
    host.run_as_student(["step05", "run", "host", "true"]).ok();
    let before = host.snapshot();
    let script =
        "mkdir /mine; touch /mine/x; chown -R 5:5 /mine; chmod 700 /mine; echo up; sleep 99";
    let run = ["step05", "run", "host", "sh", "-c", script];
    let mut dying = host.spawn_as(User::Student, run);
    dying.expect("up");
    dying.signal(Signal::SIGKILL);
    dying.wait();
    clean_up(&host, User::Student, &before);
}

/// What half-written programs leave: each thing by the mark that it has, and without a lease.
const MESS: &str = r#"
    ip link add mini0 address 02:6d:0a:58:00:01 type bridge
    ip address add 10.88.0.1/16 dev mini0; ip link set mini0 up
    ip link add veth0a580007 type veth peer name half; ip link set veth0a580007 master mini0
    ip link add veth0a580008 type veth peer name loose
    nft 'add table inet minidocker { comment "minidocker in /run/minidocker"; }'
    mkdir -p /run/minidocker/network/containers/dead /run/minidocker/network/mini0/leases
    echo dead >/run/minidocker/network/mini0/leases/10.88.0.9
    echo 10.88.0.0/16 >/run/minidocker/network/mini0/subnet
    mkdir -p /sys/fs/cgroup/minidocker/dead/below
    sleep 1000 & echo $! >/sys/fs/cgroup/minidocker/dead/below/cgroup.procs
    cd /var/lib/minidocker
    mkdir -p rootfs.new/etc tmp/4194304.0 containers/dead/merged containers/dead/upper
    mount --bind rootfs rootfs; mount -t proc proc rootfs/proc
    mkdir -p /run/precious; echo mine >/run/precious/file
    mount --bind /run/precious containers/dead/merged
    mkdir .minidocker-doctor-4194303
"#;

/// What it prints about each.
const LISTED: [&str; 14] = [
    "cgroup /sys/fs/cgroup/minidocker\n",
    "cgroup /sys/fs/cgroup/minidocker/dead\n",
    "link mini0\n",
    "link veth0a580007\n",
    "link veth0a580008\n",
    "table inet minidocker\n",
    "the files for a container, /run/minidocker/network/containers/dead\n",
    "the lease /run/minidocker/network/mini0/leases/10.88.0.9\n",
    "mount on /var/lib/minidocker/rootfs\n",
    "mount on /var/lib/minidocker/rootfs/proc\n",
    "mount on /var/lib/minidocker/containers/dead/merged\n",
    "/var/lib/minidocker/rootfs.new\n",
    "/var/lib/minidocker/containers/dead\n",
    "/var/lib/minidocker/.minidocker-doctor-4194303\n",
];

#[test]
fn a_half_written_programs_leftovers_go_by_their_marks() {
    let host = host();
    host.run(["step05", "run", "host", "true"]).ok();
    // mount(8) keeps notes in /run/mount.
    host.shell("mkdir -p /run/mount /run/precious; echo mine >/run/precious/file");
    let before = host.snapshot();
    host.shell(MESS);
    let mess = host.snapshot();
    let dry = host.run(["lab", "cleanup", "--dry-run"]).ok() + "\n";
    assert_same(&mess, || host.snapshot());
    let done = host.run(["lab", "cleanup"]).ok() + "\n";
    for thing in LISTED {
        assert!(dry.contains(thing), "{thing} is not in\n{dry}");
        assert!(done.contains(thing), "{thing} is not in\n{done}");
    }
    assert!(
        dry.lines()
            .all(|line| line.starts_with("would remove ") || line.starts_with("Kept"))
    );
    assert_same(&before, || host.snapshot());
    assert_eq!(host.shell("cat /run/precious/file"), "mine");
    assert!(host.run(["lab", "cleanup"]).ok().contains(NOTHING));
    host.run(["step05", "run", "host", "true"]).ok();
}

#[test]
fn nothing_is_removed_through_a_mount() {
    let host = host();
    host.run(["step05", "run", "host", "true"]).ok();
    host.shell("mkdir -p /run/mount /run/precious; echo mine >/run/precious/file");
    let before = host.snapshot();
    host.shell(
        "mkdir -p /var/lib/minidocker/containers/dead/upper /var/lib/minidocker/containers/dead/merged/data
         mount --bind /run/precious /var/lib/minidocker/containers/dead/merged/data",
    );
    let error = host.run(["step05", "run", "host", "true"]).exits(125);
    assert!(error.contains("something is mounted"), "{error}");
    assert_eq!(host.shell("cat /run/precious/file"), "mine");
    let out = host.run(["lab", "cleanup"]).ok();
    assert!(
        out.contains("removed the mount on /var/lib/minidocker/"),
        "{out}"
    );
    assert_same(&before, || host.snapshot());
    host.run(["step05", "run", "host", "true"]).ok();
}

#[test]
fn what_is_not_ours_stays() {
    let host = host();
    host.run(["step05", "run", "host", "true"]).ok();
    host.shell(
        "ip link add mini0 address 02:00:00:00:00:01 type bridge
         ip link add veth0a580009 type veth peer name other; ip link set veth0a580009 master mini0
         ip link add vethc0a80101 type veth peer name lan
         nft add table ip minidocker; nft add table inet minidocker-mine
         nft 'add table inet minidocker { comment \"minidocker in /run/elsewhere\"; }'
         mkdir -p /sys/fs/cgroup/minidocker-other/dead /sys/fs/cgroup/other
         mkdir -p /run/minidocker-other /var/lib/minidocker/mine/data /var/lib/minidocker/rootfs-mine
         echo mine >/var/lib/minidocker/notes
         mount -t tmpfs tmpfs /var/lib/minidocker/mine/data
         mkdir /tmp/minidocker-doctor-mine; ip netns add mine",
    );
    let before = host.snapshot();
    let out = host.run(["lab", "cleanup"]).ok();
    assert!(out.contains(NOTHING), "{out}");
    assert!(out.contains("Kept: images"), "{out}");
    assert_same(&before, || host.snapshot());
}

#[test]
fn a_running_container_goes_on_answering_beside_it() {
    let host = host();
    let serve = "echo hello >/tmp/x; echo up; exec busybox httpd -f -p 80 -h /tmp";
    let mut living = host.spawn(["step05", "run", "-p", "8080:80", "host", "sh", "-c", serve]);
    living.expect("up");
    wait_for("the living one to answer", 60, || {
        let out = host.run(["curl", "-sS", "http://127.0.0.1:8080/x"]);
        (out.code() == 0).then_some(())
    });
    let before = host.snapshot();
    for step in ["step04", "step05"] {
        let image: &[&str] = if step == "step05" { &["host"] } else { &[] };
        let (options, command) = (
            [step, "run", "-p", "8081:80"],
            ["sh", "-c", "echo up; sleep 100"],
        );
        let mut dying = host.spawn(options.iter().chain(image).chain(&command));
        dying.expect("up");
        dying.signal(Signal::SIGKILL);
        dying.wait();
    }
    let dry = wait_for("the killed one to be dead", 60, || {
        let dry = host.run(["lab", "cleanup", "--dry-run"]).ok();
        dry.contains("leases/10.88.0.3").then_some(dry)
    });
    assert!(
        !dry.contains("10.88.0.2") && !dry.contains("link mini0"),
        "{dry}"
    );
    clean_up(&host, User::Root, &before);
    let answer = host.run(["curl", "-sS", "http://127.0.0.1:8080/x"]).ok();
    assert_eq!(answer, "hello");
    assert!(living.is_running());
    let answer = host
        .outside(["curl", "-sS", "http://192.0.2.1:8080/x"])
        .ok();
    assert_eq!(answer, "hello");
    drop(living);
}

#[test]
#[ignore = "runs in the virtual machine"]
fn a_cgroup_with_limits_goes_and_its_processes_end() {
    let host = host();
    let run = ["step03", "run", "-m", "64m", "--pids-limit", "9"];
    host.run(run.iter().chain(&["true"])).ok();
    let before = host.snapshot();
    let mut dying = host.spawn(run.iter().chain(&["sh", "-c", "echo up; sleep 99"]));
    dying.expect("up");
    dying.signal(Signal::SIGKILL);
    dying.wait();
    clean_up(&host, User::Root, &before);
}

#[test]
fn what_cannot_be_removed_is_named_with_the_reason() {
    let host = host();
    host.run(["step02", "run", "true"]).ok();
    host.shell(
        "mkdir /var/lib/minidocker/rootfs.new; mkdir /sys/fs/cgroup/minidocker
         mount -o remount,ro /var/lib/minidocker",
    );
    let out = host.run(["lab", "cleanup"]);
    let why = out.exits(1);
    let text = out.text();
    assert!(
        text.contains("NOT removed: /var/lib/minidocker/rootfs.new"),
        "{out}"
    );
    assert!(
        text.contains("removed the cgroup /sys/fs/cgroup/minidocker"),
        "{out}"
    );
    assert!(why.contains("ead-only file system"), "{why}");
    host.shell("mount -o remount,rw /var/lib/minidocker");
    host.run(["lab", "cleanup"]).ok();
    assert!(host.run(["lab", "cleanup"]).ok().contains(NOTHING));
}
