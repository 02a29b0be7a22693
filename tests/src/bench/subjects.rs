//! Who keeps containers: minidocker, docker and podman, on one machine.

use std::path::PathBuf;

use crate::engine::{Machine, Wanted};
use crate::{Dockerd, Host, Output, busybox, made};
use anyhow::{Context, Result, ensure};

/// The one that the others are compared with.
pub const OURS: &str = "minidocker";

/// Somebody with containers on the machine.
pub struct Subject<'a> {
    /// What it is called.
    pub name: &'static str,
    /// How its commands begin.
    program: &'static str,
    host: &'a Host,
}

/// A machine for all of them, which shows some files more, and has the image busybox as a file.
pub fn machine(mut shown: Vec<(PathBuf, String)>) -> Machine {
    super::build();
    shown.push((made("clients"), "clients".to_owned()));
    let machine = Machine::with(Wanted {
        outside: true,
        shown,
        ..Wanted::default()
    });
    let host = machine.host();
    // Where there are no controllers, podman's own limit cannot be set.
    host.shell("mkdir -p /etc/containers; printf '[containers]\\npids_limit = 0\\n' >/etc/containers/containers.conf");
    host.shell("for dir in /root /opt /var/lib/containers; do mkdir -p $dir; mount -t tmpfs -o mode=755 tmpfs $dir; done");
    busybox(host);
    machine
}

/// Those who work, each with the image busybox.
pub fn all(machine: &Machine) -> (Vec<Subject<'_>>, Option<Dockerd<'_>>) {
    let host = machine.host();
    let docker = Dockerd::start(host, "/run/docker/data", "");
    let subjects = [
        (OURS, "minidocker"),
        ("docker", "docker"),
        (
            "podman",
            "podman --cgroup-manager cgroupfs --events-backend file --runtime runc",
        ),
    ];
    let subjects = subjects.map(|(name, program)| Subject {
        name,
        program,
        host,
    });
    let works = |subject: &Subject<'_>| {
        let tried = subject.prepare();
        if let Err(error) = &tried {
            println!("!! {} is left out: {error:#}", subject.name);
        }
        tried.is_ok()
    };
    (subjects.into_iter().filter(works).collect(), Some(docker))
}

impl Subject<'_> {
    /// A program that does nothing would win every race: each has to be seen at work.
    fn prepare(&self) -> Result<()> {
        self.time("$do load -q -i /tmp/busybox.tar")?;
        let out = self.shell("$do run --rm busybox sh -c 'ls /sys/class/net; exit 7'");
        ensure!(
            out.code() == 7 && out.text().contains("eth0"),
            "a container with a network: {out}"
        );
        let out = self.shell("$do run --rm --network none busybox cat /proc/self/cgroup");
        ensure!(out.code() == 0, "a container without a network: {out}");
        Ok(())
    }

    /// Milliseconds that a line of shell takes, in which `$do` begins a command; it must succeed.
    pub fn time(&self, line: &str) -> Result<f64> {
        let script = format!(
            "begin=$EPOCHREALTIME
            {{ {line}; }} </dev/null >/tmp/out 2>&1 || {{ cat /tmp/out >&2; exit 1; }}
            end=$EPOCHREALTIME
            echo $((${{end/./}} - ${{begin/./}}))"
        );
        let out = self.shell(&script);
        ensure!(out.code() == 0, "{}: {out}", self.name);
        let micros: f64 = out.text().parse().context("no time")?;
        Ok(micros / 1000.0)
    }

    /// Runs a script whose time does not matter.
    pub fn shell(&self, script: &str) -> Output {
        let script = script.replace("$do", self.program);
        self.host.run(["bash", "-c", &script])
    }
}
