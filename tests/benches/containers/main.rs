//! `cargo bench -- containers`: what a container's life costs, against docker and podman.
//!
//! Each round lets everybody do the same in turn, in the same minute on the same machine; what is
//! compared is the ratio of each round. Times are taken on the machine, by the shell that starts the
//! command. A number after the dashes is the number of rounds. It wants what `cargo lab test` has
//! made: Debian's docker.

mod crowd;
mod duel;
mod goal;
mod subjects;

use std::env;

use anyhow::Result;

use goal::Goal;

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
    let machine = subjects::machine(Vec::new());
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
