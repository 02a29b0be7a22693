//! Debian's dockerd, which calls the runtime through containerd's shim.

use harness::{Host, Running, Setup, wait_for};
use nix::sys::signal::Signal;

use crate::checks::{Checks, assert_nothing_left};
use crate::containerd::Containerd;
use crate::engine::{Engine, check_all, hog_is_killed, limits_are_in_force};
use crate::{command, machine};

/// dockerd with everything of its own. Dropped, it is gone.
struct Dockerd {
    daemon: Running,
    containerd: Containerd,
}

impl Dockerd {
    fn start(host: &Host, options: &str) -> Dockerd {
        let containerd = Containerd::start(host);
        let daemon = host.spawn([
            "sh",
            "-c",
            &format!(
                "PATH=/run/workspace/clients/usr/sbin:/run/workspace/clients/usr/bin:$PATH
                exec dockerd --containerd /run/containerd/socket --data-root /run/docker/data \
                --exec-root /run/docker/exec --pidfile /run/docker/pid -H unix:///run/docker/socket \
                --add-runtime minirunc=/run/workspace/minirunc --default-runtime minirunc \
                --storage-driver overlay2 --oom-score-adjust 0 {options} 2>&1"
            ),
        ]);
        command(
            host,
            "docker",
            "/run/workspace/clients/usr/bin/docker -H unix:///run/docker/socket",
        );
        wait_for("dockerd to answer", 60, || {
            (host.run(["docker", "version"]).code() == 0).then_some(())
        });
        host.run(["docker", "load", "--quiet", "-i", "/tmp/busybox.tar"])
            .ok();
        Dockerd { daemon, containerd }
    }

    fn stop(self) {
        self.daemon.signal(Signal::SIGTERM);
        self.daemon.wait();
        self.containerd.stop();
    }
}

#[test]
fn docker_runs_containers() {
    let host = machine(Setup::default());
    let before = host.snapshot();
    let dockerd = Dockerd::start(&host, "");
    let docker = Engine {
        host: &host,
        name: "docker",
    };
    let mut checks = Checks::default();
    check_all(&docker, &mut checks);
    checks.check("a bridge of docker's", || bridge(&docker));
    checks.check("a published port", || published(&docker));
    checks.check("what the daemon says of the runtime", || {
        let out = docker.call("info --format '{{.DefaultRuntime}}'");
        assert_eq!(out.ok(), "minirunc");
    });
    dockerd.stop();
    checks.check("nothing is left", || {
        let places = ["/run/docker/exec/runtime-runc/moby"];
        assert_nothing_left(
            &host,
            &before,
            &["/docker", " /run/docker/exec/netns/default"],
            &places,
        );
    });
    checks.tell("docker");
}

/// docker's network library moves an interface into the container from a hook.
fn bridge(docker: &Engine<'_>) {
    let out = docker.call("run --rm busybox sh -c 'ip -4 -o address; ping -c 1 -w 20 172.17.0.1'");
    assert!(out.ok().contains(" 172.17.0."), "{out}");
}

fn published(docker: &Engine<'_>) {
    docker.call("run -d --name web -p 8080:80 busybox sh -c 'echo page >/tmp/index.html; exec httpd -f -h /tmp'").ok();
    wait_for("an answer at the published port", 60, || {
        let out = docker.host.run(["curl", "-s", "http://127.0.0.1:8080/"]);
        (out.text() == "page").then_some(())
    });
    docker.remove("web");
}

#[test]
#[ignore = "runs in the virtual machine"]
fn docker_limits_containers() {
    let host = machine(Setup::default());
    let dockerd = Dockerd::start(&host, "--bridge=none --iptables=false");
    let docker = Engine {
        host: &host,
        name: "docker",
    };
    let mut checks = Checks::default();
    checks.check("limits", || limits_are_in_force(&docker));
    checks.check("a hog", || hog_is_killed(&docker));
    dockerd.stop();
    checks.tell("docker");
}
