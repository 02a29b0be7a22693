//! Debian's docker on a machine, with everything of its own.

use nix::sys::signal::Signal;

use crate::command::{Output, Running};
use crate::host::Host;
use crate::wait_for;

/// dockerd, and the client that talks to it. Dropped, it is gone.
#[derive(Debug)]
pub struct Dockerd<'a> {
    host: &'a Host,
    daemon: Running,
}

impl<'a> Dockerd<'a> {
    /// Starts it on a machine that shows `target/clients` at /run/workspace/clients, with its images
    /// in `data`; `docker` is a command there from now on.
    ///
    /// # Panics
    /// When it does not answer within 60 s.
    pub fn start(host: &'a Host, data: &str, options: &str) -> Dockerd<'a> {
        host.shell(
            "cd /run/workspace
            printf '#!/bin/sh\\nexec /run/workspace/clients/usr/bin/docker -H unix:///run/docker/socket \"$@\"\\n' >docker
            chmod 755 docker",
        );
        let line = format!(
            "PATH=/run/workspace/clients/usr/sbin:/run/workspace/clients/usr/bin:$PATH
            exec dockerd --data-root {data} --exec-root /run/docker/exec --pidfile /run/docker/pid \
            -H unix:///run/docker/socket --storage-driver overlay2 --oom-score-adjust 0 {options} 2>&1"
        );
        let mut daemon = host.spawn(["sh", "-c", &line]);
        wait_for("dockerd to answer", 60, || {
            assert!(daemon.is_running(), "dockerd ended:\n{}", daemon.printed());
            (host.run(["docker", "version"]).code() == 0).then_some(())
        });
        Dockerd { host, daemon }
    }

    /// Runs a command of docker's to its end: one line of shell.
    #[track_caller]
    pub fn call(&self, line: &str) -> Output {
        self.host.run(["sh", "-c", &format!("docker {line}")])
    }

    /// The daemon's pid, as the real machine numbers it.
    pub fn pid(&self) -> i32 {
        self.daemon.pid()
    }

    /// Ends it.
    pub fn stop(self) {
        self.daemon.signal(Signal::SIGTERM);
        self.daemon.wait();
    }
}
