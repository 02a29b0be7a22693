//! `cargo bench -- containers`: what a container's life costs, against docker and podman.
//!
//! Each round lets everybody do the same in turn, in the same minute on the same machine; what is
//! compared is the ratio of each round. Times are taken on the machine, by the shell that starts the
//! command. A number after the dashes is the number of rounds. It wants what `cargo lab test` has
//! made: Debian's docker.

mod crowd;
mod duel;
mod subjects;

use std::env;
use std::process::Command;

use anyhow::Result;
use harness::engine::{Machine, Wanted};
use harness::{busybox, made};

use duel::Goal;

fn main() -> Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    // It takes minutes: only where it is meant.
    if !args.iter().any(|arg| arg == "containers") {
        return Ok(());
    }
    if !nix::unistd::geteuid().is_root() {
        println!("cargo bench makes namespaces of its own, and has to be run as root");
        return Ok(());
    }
    let rounds = args.iter().find_map(|arg| arg.parse().ok()).unwrap_or(15);
    build();
    let machine = Machine::with(Wanted {
        outside: true,
        shown: vec![(made("clients"), "clients".to_owned())],
        ..Wanted::default()
    });
    let host = machine.host();
    // Where there are no controllers, podman's own limit cannot be set.
    host.shell("mkdir -p /etc/containers; printf '[containers]\\npids_limit = 0\\n' >/etc/containers/containers.conf");
    host.shell("for dir in /root /opt /var/lib/containers; do mkdir -p $dir; mount -t tmpfs -o mode=755 tmpfs $dir; done");
    busybox(host);
    let (subjects, docker) = subjects::all(&machine);
    let mut goals = duel::fight(&subjects, rounds)?;
    goals.extend(crowd::measure(&machine, &subjects)?);
    println!("\ngoals");
    goals.iter().for_each(Goal::tell);
    if let Some(docker) = docker {
        docker.stop();
    }
    Ok(())
}

/// `cargo bench` builds this program only, and the test programs beside it. `MINIDOCKER=…` puts
/// another program in the place of ours.
fn build() {
    if env::var_os("MINIDOCKER").is_some() {
        return;
    }
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--release", "--package", "final", "--quiet"]);
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    if !cargo.status().is_ok_and(|status| status.success()) {
        println!("!! {cargo:?} fails, and what lies there of an earlier build is measured");
    }
}
