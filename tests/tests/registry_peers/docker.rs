//! Debian's docker itself: what it saves, pushes and writes down is ours, and what we do is its.

use harness::registry::{Minidocker, PASSWORD, Registry, USER};
use harness::{Host, Output, Running, User, wait_for};

use crate::{Images, file, host};

/// dockerd with everything of its own, to which no container is known. Dropped, it is gone.
struct Docker<'a> {
    host: &'a Host,
    daemon: Running,
}

impl<'a> Docker<'a> {
    fn start(host: &'a Host) -> Docker<'a> {
        let daemon = host.spawn([
            "sh",
            "-c",
            "PATH=/run/workspace/clients/usr/sbin:/run/workspace/clients/usr/bin:$PATH
            exec dockerd --data-root /run/docker/data --exec-root /run/docker/exec \
            --pidfile /run/docker/pid -H unix:///run/docker/socket --storage-driver vfs \
            --bridge none --iptables=false --oom-score-adjust 0 2>&1",
        ]);
        let docker = Docker { host, daemon };
        wait_for("dockerd to answer", 60, || {
            (docker.call("version").code() == 0).then_some(())
        });
        docker
    }

    fn call(&self, line: &str) -> Output {
        let program = "/run/workspace/clients/usr/bin/docker -H unix:///run/docker/socket";
        let words = program.split(' ').chain(line.split_whitespace());
        self.host.run(words)
    }

    #[track_caller]
    fn id(&self, image: &str) -> String {
        self.call(&format!("image inspect --format {{{{.Id}}}} {image}"))
            .ok()
    }

    fn stop(self) {
        self.daemon.signal(nix::sys::signal::Signal::SIGTERM);
        self.daemon.wait();
    }
}

#[test]
fn images_go_to_docker_and_come_back() {
    let host = host();
    let images = Images::new(&host);
    let docker = Docker::start(&host);
    let minidocker = Minidocker::of(&host, User::Root);
    let registry = Registry::open(&host);
    let name = registry.fill("/tmp/layout", "simple", "simple");
    minidocker.ok(&format!("pull {name}"));
    let id = minidocker.inspect(&name, "{{.Id}}");
    // In files.
    minidocker.ok(&format!("save -o /tmp/ours.tar {name}"));
    let said = docker.call("load -i /tmp/ours.tar").ok();
    assert!(said.contains(&name), "{said}");
    assert_eq!(docker.id(&name), id);
    docker.call(&format!("tag {name} docker:saved")).ok();
    docker.call("save -o /tmp/theirs.tar docker:saved").ok();
    assert_eq!(
        minidocker.ok("load -i /tmp/theirs.tar"),
        "Loaded image: docker:saved"
    );
    assert_eq!(minidocker.inspect("docker:saved", "{{.Id}}"), id);
    // By a registry.
    let ours = format!("{}/ours", registry.address());
    minidocker.ok(&format!("tag {name} {ours}"));
    minidocker.ok(&format!("push {ours}"));
    let said = docker.call(&format!("pull {ours}")).ok();
    assert!(said.contains(images.digest("simple")), "{said}");
    assert_eq!(docker.id(&ours), id);
    let theirs = format!("{}/theirs", registry.address());
    docker.call(&format!("tag {name} {theirs}")).ok();
    docker.call(&format!("push {theirs}")).ok();
    minidocker.ok(&format!("pull {theirs}"));
    assert_eq!(minidocker.inspect(&theirs, "{{.Id}}"), id);
    assert_eq!(file(&minidocker, &theirs, "third"), "3\n");
    minidocker.assert_sound();
    docker.stop();
}

#[test]
fn docker_and_minidocker_know_each_others_logins() {
    let host = host();
    Images::new(&host);
    let docker = Docker::start(&host);
    let minidocker = Minidocker::of(&host, User::Root);
    for registry in [
        Registry::htpasswd(&host),
        Registry::token(&host, &["--identity"]),
    ] {
        let address = registry.address();
        let name = registry.fill("/tmp/layout", "simple", "private");
        let push = format!("push {address}/mine");
        // By docker.
        let login = format!("login -u {USER} --password-stdin {address}");
        let script = format!(
            "printf '{PASSWORD}' | /run/workspace/clients/usr/bin/docker -H unix:///run/docker/socket {login}"
        );
        host.shell(&script);
        let theirs = host.shell("cat /root/.docker/config.json");
        minidocker.ok(&format!("pull {name}"));
        minidocker.ok(&format!("tag {name} {address}/mine"));
        minidocker.ok(&push);
        minidocker.ok(&format!("logout {address}"));
        minidocker.fails(&push);
        // By minidocker.
        host.shell(&format!("printf '{PASSWORD}' | minidocker {login}"));
        let ours = host.shell("cat /root/.docker/config.json");
        assert_eq!(ours, theirs);
        docker.call(&format!("pull {name}")).ok();
        docker.call(&format!("tag {name} {address}/mine")).ok();
        docker.call(&push).ok();
        docker.call(&format!("logout {address}")).ok();
        assert_ne!(docker.call(&push).code(), 0);
    }
    docker.stop();
}
