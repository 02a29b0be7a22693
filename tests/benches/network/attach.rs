//! What attaching to a network adds to a start: one with a network, and the same without, in turn.

use anyhow::{Context, Result};
use harness::bench::Goal;
use harness::bench::subjects::{OURS, Subject};
use harness::engine::Machine;
use harness::quantile;

/// Ports that somebody else publishes.
const PORTS: &str = "20000-20499:20000-20499";

/// Starts with a network and without.
struct Pairs {
    with: Vec<f64>,
    added: Vec<f64>,
    /// How many times as long as without it takes: the same for a slow minute as for a fast one.
    ratios: Vec<f64>,
}

impl Pairs {
    fn measure(subject: &Subject<'_>, options: &str, rounds: usize) -> Result<Pairs> {
        let line = |options: &str| format!("$do run --rm {options} busybox true");
        let (ours, none) = (line(options), line("--network none"));
        let (mut with, mut added, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..=rounds {
            // Who goes first changes, in case it matters.
            let (network, without) = if round % 2 == 0 {
                (subject.time(&ours)?, subject.time(&none)?)
            } else {
                let without = subject.time(&none)?;
                (subject.time(&ours)?, without)
            };
            // The first round warms the caches.
            if round > 0 {
                with.push(network);
                added.push(network - without);
                ratios.push(network / without);
            }
        }
        Ok(Pairs {
            with,
            added,
            ratios,
        })
    }

    /// The median of what it adds, after a line that says all.
    fn tell(&self, who: &str, what: &str) -> f64 {
        let [low, middle, high] = [0.1, 0.5, 0.9].map(|part| quantile(&self.added, part));
        let whole = quantile(&self.with, 0.5);
        println!(
            "  {who:<12} {what:<34} {whole:>7.2}, of that {middle:>6.2} ({low:.2} to {high:.2})"
        );
        middle
    }
}

/// Measures the default network, one that people made, and a published port; ours alone again beside
/// five hundred ports of somebody else's.
pub fn measure(machine: &Machine, subjects: &[Subject<'_>], rounds: usize) -> Result<Vec<Goal>> {
    let ours = subjects.iter().find(|subject| subject.name == OURS);
    let ours = ours.context("minidocker does not work")?;
    println!(
        "\n`run --rm IMAGE true`, {rounds} rounds: ms, and how much of it the network takes (p10 to p90)"
    );
    for subject in subjects {
        subject.shell("$do network create lan");
        Pairs::measure(subject, "", rounds)?.tell(subject.name, "the first in a network");
        for name in ["default", "lan"] {
            let network = if name == "lan" { "--network lan" } else { "" };
            subject.time(&format!(
                "$do run -d --name {name} {network} busybox sleep 1000"
            ))?;
        }
    }
    let mut goals = Vec::new();
    let cases = [
        ("", "one more in the default network"),
        ("--network lan", "one more in a network of one's own"),
        ("-p 8080:80", "one more with a published port"),
    ];
    let mut before = Vec::new();
    for (options, what) in cases {
        for subject in subjects {
            // The others take seconds.
            let few = subject.name != OURS;
            let pairs = Pairs::measure(subject, options, if few { rounds.min(7) } else { rounds })?;
            let added = pairs.tell(subject.name, what);
            if !few {
                goals.push(Goal::new(format!("{what} adds, ms"), added, 3.0));
                before.push(quantile(&pairs.ratios, 0.5));
            }
        }
    }
    println!("the same beside 500 published ports");
    ours.time(&format!(
        "$do run -d --name many -p {PORTS} busybox sleep 1000"
    ))?;
    for ((options, what), before) in cases.iter().zip(before) {
        let pairs = Pairs::measure(ours, options, rounds)?;
        pairs.tell(OURS, what);
        let ratio = quantile(&pairs.ratios, 0.5) / before;
        goals.push(Goal::new(
            format!("{what}, beside 500 ports / without"),
            ratio,
            1.2,
        ));
    }
    for subject in subjects {
        subject.shell("$do rm -f default lan many; $do network rm lan");
    }
    machine.no_container_left();
    Ok(goals)
}
