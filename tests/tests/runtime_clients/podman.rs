//! podman, which calls the runtime through conmon.

use harness::{Host, Setup, User, wait_for};

use crate::checks::{Checks, assert_nothing_left};
use crate::engine::{Engine, check_all, hog_is_killed, limits_are_in_force};
use crate::{command, machine};

/// Everything of one's own; no limit on processes, which most hosts of these
/// tests cannot hold anybody to.
const SETTINGS: &str = r#"
    mkdir -p /etc/containers
    cat >/etc/containers/policy.json <<'end'
{"default": [{"type": "insecureAcceptAnything"}]}
end
    cat >/etc/containers/containers.conf <<'end'
[containers]
log_driver = "k8s-file"
pids_limit = 0
init_path = "/run/workspace/clients/usr/bin/catatonit"
[network]
network_backend = "cni"
[engine]
helper_binaries_dir = ["/run/workspace/clients/usr/bin"]
end
    printf 'containers:200000:65536\n' | tee -a /etc/subuid >>/etc/subgid
"#;

/// podman with roots of its own, and one image.
fn podman(host: &Host) -> Engine<'_> {
    host.shell(SETTINGS);
    command(
        host,
        "podman",
        "/usr/bin/podman --runtime /run/workspace/minirunc --root /run/podman/graph \
         --runroot /run/podman/run --tmpdir /run/podman/tmp --cgroup-manager cgroupfs \
         --events-backend file --storage-driver overlay --network-config-dir /run/podman/networks",
    );
    host.shell("podman load --quiet -i /tmp/busybox.tar");
    Engine {
        host,
        name: "podman",
    }
}

/// What podman keeps for the next container.
const KEPT: [&str; 4] = [
    "/libpod_parent",
    "/libpod_parent/conmon",
    " /run/podman/graph/overlay",
    " /run/netns",
];

#[test]
fn podman_runs_containers() {
    let host = machine(Setup::default());
    let podman = podman(&host);
    let before = host.snapshot();
    let mut checks = Checks::default();
    check_all(&podman, &mut checks);
    checks.check("a bridge of podman's", || bridge(&podman));
    checks.check("ids of its own", || user_namespaces(&podman));
    checks.check("a pod", || pod(&podman));
    checks.check("mounts of podman's", || mounts(&podman));
    checks.check("a limit that cannot be held is refused", || {
        refused(&podman);
    });
    checks.check("nothing is left", || {
        assert_nothing_left(&host, &before, &KEPT, &["/run/minirunc", "/run/runc"]);
    });
    checks.tell("podman");
}

fn bridge(podman: &Engine<'_>) {
    let out = podman.call(
        "run --rm --cap-add net_raw busybox sh -c 'ip -4 -o address; ping -c 1 -w 20 10.88.0.1'",
    );
    assert!(out.ok().contains(" 10.88.0."), "{out}");
}

fn user_namespaces(podman: &Engine<'_>) {
    let out = podman.run(
        "--uidmap 0:300000:1000 --gidmap 0:400000:2000 -v /tmp/image:/ours:ro busybox sh -c \
         'cat /proc/self/uid_map /proc/self/gid_map; stat -c %u:%g /etc/plain /ours; id -u; touch /x'",
    );
    let words: Vec<_> = out.ok().split_whitespace().map(str::to_owned).collect();
    let expected = [
        "0",
        "300000",
        "1000",
        "0",
        "400000",
        "2000",
        "0:0",
        "65534:65534",
        "0",
    ];
    assert_eq!(words, expected, "{out}");
    let out = podman
        .run("--userns auto busybox cat /proc/self/uid_map")
        .ok();
    assert!(out.contains(" 200000 "), "{out}");
}

fn mounts(podman: &Engine<'_>) {
    let out = podman.run(
        "--tmpfs /etc --mount type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=700 \
         --mount type=bind,src=/tmp/image,dst=/ours,ro=true -v /tmp/image:/over:O busybox sh -c \
         'cat /etc/plain; stat -c %a /t; touch /over/new && ls /over/new; touch /ours/no'",
    );
    assert_eq!(out.text(), "text\n700\n/over/new");
    assert!(out.errors().contains("Read-only file system"), "{out}");
    podman.host.shell("test ! -e /tmp/image/new");
}

/// Whose containers join the namespaces of its first.
fn pod(podman: &Engine<'_>) {
    podman
        .call("pod create --name pod --share-parent=false --network none")
        .ok();
    podman
        .call("run -d --pod pod --name one busybox sleep 1000")
        .ok();
    let link = |name: &str, kind: &str| {
        let pid = podman.inspect(name, ".State.Pid");
        podman
            .host
            .shell(&format!("readlink /proc/{pid}/ns/{kind}"))
    };
    podman
        .call("run -d --pod pod --name two busybox sleep 1000")
        .ok();
    for (kind, same) in [
        ("net", true),
        ("ipc", true),
        ("uts", true),
        ("pid", false),
        ("mnt", false),
    ] {
        assert_eq!(link("one", kind) == link("two", kind), same, "{kind}");
    }
    podman.call("pod stop -t 0 pod").ok();
    podman.call("pod rm -f pod").ok();
}

/// Without a controller for it; where there is one, limits are another test's.
fn refused(podman: &Engine<'_>) {
    let have = podman.host.shell("cat /sys/fs/cgroup/cgroup.controllers");
    if !have.contains("memory") {
        let out = podman.run("--memory 64m busybox true");
        assert!([125, 126, 127].contains(&out.code()), "{out}");
        assert!(out.errors().contains("memory"), "{out}");
    }
}

#[test]
fn podman_runs_containers_for_somebody_who_is_not_root() {
    let host = machine(Setup {
        delegated: true,
        ..Setup::default()
    });
    host.shell(SETTINGS);
    let line = "/usr/bin/podman --runtime /run/workspace/minirunc --cgroup-manager cgroupfs \
        --events-backend file --storage-driver overlay";
    command(&host, "podman", line);
    let student = |line: &str| host.run_as(User::Student, ["sh", "-c", line]);
    student("podman load --quiet -i /tmp/busybox.tar && podman system migrate").ok();
    let before = host.snapshot();
    let mut checks = Checks::default();
    checks.check("run", || {
        let out = student(
            "podman run --rm --network none busybox sh -c 'id -u; cat /proc/self/uid_map; exit 7'",
        );
        out.exits(7);
        let words: Vec<_> = out.text().split_whitespace().map(str::to_owned).collect();
        assert_eq!(words, ["0", "0", "1000", "1", "1", "100000", "65536"]);
    });
    checks.check("one's own id inside", || {
        let out = student("podman run --rm --network none --userns keep-id -v /home/student:/h busybox sh -c 'id -u; touch /h/x'");
        assert_eq!(out.ok(), "1000");
    });
    checks.check("127 and 126", || {
        student("podman run --rm --network none busybox no-such-command").exits(127);
        student("podman run --rm --network none busybox /etc/plain").exits(126);
    });
    checks.check("in the background", || {
        student(
            "podman run -d --network none --name back busybox sh -c 'echo hello; exec sleep 1000'",
        )
        .ok();
        let out = student("podman exec -u ann back sh -c 'id -u; exit 4'");
        out.exits(4);
        assert_eq!(out.text(), "1234");
        wait_for("hello in the log", 60, || {
            (student("podman logs back").ok() == "hello").then_some(())
        });
        student("podman stop -t 0 back").ok();
        assert_eq!(
            student("podman inspect --format '{{.State.ExitCode}}' back").ok(),
            "137"
        );
        student("podman rm back").ok();
    });
    checks.check("a terminal", || {
        let mut terminal = host.terminal(
            User::Student,
            [
                "podman",
                "run",
                "-it",
                "--rm",
                "--network",
                "none",
                "-e",
                "HOME=/",
                "busybox",
                "sh",
            ],
        );
        terminal.expect("# ");
        terminal.send("tty\n");
        terminal.expect("/dev/pts/0");
        terminal.send("exit 5\n");
        assert_eq!(terminal.wait(), 5);
    });
    checks.check("nothing is left", || {
        // Which holds student's user namespace for the next podman.
        student("podman system migrate").ok();
        assert_nothing_left(
            &host,
            &before,
            &["/user/libpod_parent"],
            &["/run/user/1000/minirunc"],
        );
    });
    checks.tell("podman as student");
}

#[test]
#[ignore = "runs in the virtual machine"]
fn podman_limits_containers() {
    let host = machine(Setup::default());
    let podman = podman(&host);
    let mut checks = Checks::default();
    checks.check("limits", || limits_are_in_force(&podman));
    checks.check("a hog", || hog_is_killed(&podman));
    checks.tell("podman");
}
