//! `cargo bench -- containers`: what a container's life costs, against docker and podman.
//!
//! Each round lets everybody do the same in turn, in the same minute on the same machine; what is
//! compared is the ratio of each round. Times are taken on the machine, by the shell that starts the
//! command. A number after the dashes is the number of rounds. It wants what `cargo lab test` has
//! made: Debian's docker.

mod crowd;
mod duel;

use anyhow::Result;
use harness::bench::{Goal, rounds, subjects};

fn main() -> Result<()> {
    let Some(rounds) = rounds("containers", 15) else {
        return Ok(());
    };
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
