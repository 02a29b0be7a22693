//! containerd, which calls the runtime through its shim, and `ctr`, its own client.

use harness::{Host, Output, Running, Setup, User, wait_for};
use nix::sys::signal::Signal;

use crate::checks::{Checks, assert_nothing_left};
use crate::engine::expect_size;
use crate::{command, machine};

/// No plugin that would look at the real machine's directories.
const SETTINGS: &str = r#"
    mkdir -p /run/containerd
    cat >/run/containerd/config.toml <<'end'
version = 2
root = "/run/containerd/root"
state = "/run/containerd/state"
oom_score = 0
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt",
    "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
    "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
address = "/run/containerd/socket"
[ttrpc]
address = "/run/containerd/socket.ttrpc"
end
"#;

/// containerd with everything of its own. Dropped, it is gone.
pub struct Containerd(Running);

impl Containerd {
    pub fn start(host: &Host) -> Containerd {
        host.shell(SETTINGS);
        let daemon = host.spawn([
            "sh",
            "-c",
            "PATH=/run/workspace/clients/usr/bin:$PATH
            exec containerd -c /run/containerd/config.toml 2>&1",
        ]);
        command(
            host,
            "ctr",
            "/run/workspace/clients/usr/bin/ctr -a /run/containerd/socket",
        );
        wait_for("containerd's socket", 60, || {
            host.path("/run/containerd/socket").exists().then_some(())
        });
        Containerd(daemon)
    }

    pub fn stop(self) {
        self.0.signal(Signal::SIGTERM);
        self.0.wait();
    }
}

struct Ctr<'a>(&'a Host);

impl Ctr<'_> {
    #[track_caller]
    fn call(&self, line: &str) -> Output {
        self.0.run(["sh", "-c", &format!("ctr {line}")])
    }

    #[track_caller]
    fn run(&self, options: &str, id: &str, words: &str) -> Output {
        self.call(&format!("{} {id} {words}", Ctr::line(options)))
    }

    fn line(options: &str) -> String {
        format!(
            "run --runtime io.containerd.runc.v2 --runc-binary /run/workspace/minirunc --cpu-shares 0 {options} \
             docker.io/library/busybox:latest"
        )
    }
}

#[test]
fn containerd_runs_containers() {
    let host = machine(Setup::default());
    let before = host.snapshot();
    let containerd = Containerd::start(&host);
    let ctr = Ctr(&host);
    ctr.call("images import /tmp/busybox.tar").ok();
    let mut checks = Checks::default();
    checks.check("the exit status is the command's", || {
        let out = ctr.run("--rm", "one", "sh -c 'echo fine; exit 7'");
        out.exits(7);
        assert_eq!(out.text(), "fine");
    });
    checks.check("a command that is not there", || {
        let out = ctr.run("--rm", "one", "no-such-command");
        assert_ne!(out.code(), 0);
        assert!(out.errors().contains("no-such-command"), "{out}");
    });
    checks.check("a terminal", || terminal(&host));
    checks.check("a life in the background", || life(&ctr));
    checks.check("a directory for a root", || {
        let out = ctr.call(
            "run --rm --runc-binary /run/workspace/minirunc --cpu-shares 0 --rootfs /tmp/image/root two /bin/cat /etc/plain",
        );
        assert_eq!(out.ok(), "text");
    });
    checks.check("options of ctr's", || {
        let out = ctr.run(
            "--rm --cap-drop CAP_CHOWN --with-ns uts:/proc/1/ns/uts --env A=b --cwd /etc --read-only --seccomp \
             --mount type=bind,src=/tmp/image,dst=/mnt,options=rbind:ro",
            "three",
            "sh -c 'hostname; echo $A; pwd; ls /mnt/root/etc/plain; grep Seccomp: /proc/self/status'",
        );
        assert_eq!(out.ok(), "laptop\nb\n/etc\n/mnt/root/etc/plain\nSeccomp:\t2");
    });
    containerd.stop();
    checks.check("nothing is left", || {
        let places = [
            "/run/containerd/runc/default",
            "/run/containerd/state/io.containerd.runtime.v2.task/default",
        ];
        assert_nothing_left(&host, &before, &["/default"], &places);
    });
    checks.tell("containerd");
}

fn terminal(host: &Host) {
    let line = format!("exec ctr {} term sh", Ctr::line("--rm -t --env HOME=/"));
    let mut terminal = host.terminal(User::Root, ["sh", "-c", &line]);
    terminal.expect("# ");
    terminal.send("tty\n");
    terminal.expect("/dev/pts/0");
    // Which ctr tells when the shell runs.
    expect_size(&mut terminal, "24 80");
    terminal.send("exit 5\n");
    assert_eq!(terminal.wait(), 5);
}

fn life(ctr: &Ctr<'_>) {
    ctr.run(
        "-d",
        "back",
        "sh -c 'trap \"exit 3\" TERM; while :; do sleep 0.05; done'",
    )
    .ok();
    let list = || ctr.call("task ls").ok();
    assert!(list().contains("RUNNING"), "{}", list());
    let out = ctr.call("task exec --exec-id later --cwd /etc back sh -c 'pwd; exit 9'");
    out.exits(9);
    assert_eq!(out.text(), "/etc");
    let pids = ctr.call("task ps back").ok();
    assert!(pids.lines().count() >= 2, "{pids}");
    ctr.call("task pause back").ok();
    assert!(list().contains("PAUSED"), "{}", list());
    ctr.call("task resume back").ok();
    assert!(list().contains("RUNNING"), "{}", list());
    ctr.call("task kill -s TERM back").ok();
    wait_for("the end", 60, || list().contains("STOPPED").then_some(()));
    let out = ctr.call("task rm back");
    out.ok();
    assert!(out.errors().contains("exit code 3"), "{out}");
    ctr.call("container rm back").ok();
}
