//! `cargo bench -- network`: what a network adds to a container's start, and what goes through it,
//! against docker and podman; `attach` or `traffic` behind it is one of the two.
//!
//! Everybody does the same in turn, round after round; what is compared is the ratio of each round. A
//! number after the dashes is the number of rounds. It wants what `cargo lab test` has made: Debian's
//! docker.

mod attach;
mod traffic;
mod wire;

use std::env;

use anyhow::Result;
use harness::bench::{Goal, rounds, subjects};

fn main() -> Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    // In the networks of containers it is one end of the wire.
    if let Some(part) = wire::Part::of(&args)? {
        return part.play();
    }
    let Some(rounds) = rounds("network", 15) else {
        return Ok(());
    };
    let machine = subjects::machine(vec![(env::current_exe()?, "wire".to_owned())]);
    let (subjects, docker) = subjects::all(&machine);
    // Docker has the firewall drop what is anybody else's.
    machine.host().shell("iptables -P FORWARD ACCEPT");
    let is_named = |part: &str| args.iter().any(|arg| arg == part);
    let mut goals = Vec::new();
    if !is_named("traffic") {
        goals.extend(attach::measure(&machine, &subjects, rounds)?);
    }
    if !is_named("attach") {
        goals.extend(traffic::measure(&machine, &subjects, rounds)?);
    }
    println!("\ngoals");
    goals.iter().for_each(Goal::tell);
    if let Some(docker) = docker {
        docker.stop();
    }
    Ok(())
}
