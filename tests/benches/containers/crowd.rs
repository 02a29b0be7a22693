//! Many containers: in a row, at once, and two hundred that stay.

use std::fs;

use anyhow::{Context, Result};
use harness::bench::Goal;
use harness::bench::subjects::{OURS, Subject};
use harness::engine::Machine;
use harness::quantile;

/// How many stay.
const MANY: usize = 200;

pub fn measure(machine: &Machine, subjects: &[Subject<'_>]) -> Result<Vec<Goal>> {
    println!("\nmany of `run --rm IMAGE true`, ms each");
    for subject in subjects {
        // The others would take minutes.
        let count = if subject.name == OURS { 100.0 } else { 20.0 };
        let one = "$do run --rm busybox true";
        let row = subject.time(&format!("for n in $(seq {count}); do {one} || exit; done"))?;
        let crowd = subject.time(&format!(
            "for n in $(seq {count}); do {one} & all=\"$all $!\"; done; for it in $all; do wait $it || exit; done"
        ))?;
        println!(
            "  {:<12} {count} in a row {:>7.1}, at once {:>7.1}",
            subject.name,
            row / count,
            crowd / count
        );
    }
    let ours = subjects.iter().find(|subject| subject.name == OURS);
    stay(machine, ours.context("minidocker does not work")?)
}

/// Two hundred that run, started one after the other.
fn stay(machine: &Machine, ours: &Subject<'_>) -> Result<Vec<Goal>> {
    let list = |ours: &Subject<'_>| -> Result<f64> {
        let times: Result<Vec<f64>> = (0..15).map(|_| ours.time("$do ps")).collect();
        Ok(quantile(&times?, 0.5))
    };
    let empty = list(ours)?;
    let starts: Result<Vec<f64>> = (0..MANY)
        .map(|n| ours.time(&format!("$do run -d --name c{n} busybox sleep 1000")))
        .collect();
    let starts = starts?;
    let first = quantile(&starts[..10], 0.5);
    let last = quantile(&starts[MANY - 10..], 0.5);
    let full = list(ours)?;
    let shims = machine.shims();
    let memory: Result<Vec<f64>> = shims
        .iter()
        .map(|(pid, _)| private(machine, *pid))
        .collect();
    let memory = memory?;
    println!("\n{} containers that stay", shims.len());
    println!("  run -d: the first ten {first:.1} ms, the last ten {last:.1} ms");
    println!("  ps: {empty:.1} ms when there were none, {full:.1} ms");
    println!(
        "  private memory of a shim: median {:.0} KiB, largest {:.0} KiB",
        quantile(&memory, 0.5),
        quantile(&memory, 1.0)
    );
    let all: Vec<String> = (0..MANY).map(|n| format!("c{n}")).collect();
    let removal = ours.time(&format!("$do rm -f {}", all.join(" ")))?;
    println!("  rm -f of all: {:.1} ms each", removal / MANY as f64);
    Ok(vec![
        Goal::new("the last of 200 starts / the first", last / first, 1.15),
        Goal::new("ps with 200 - ps with none, ms", full - empty, 20.0),
        Goal::new(
            "private memory of the largest shim, KiB",
            quantile(&memory, 1.0),
            1024.0,
        ),
    ])
}

/// KiB that are a process's alone.
fn private(machine: &Machine, pid: i32) -> Result<f64> {
    let path = machine.host().path(&format!("/proc/{pid}/smaps_rollup"));
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let private = text.lines().filter(|line| line.starts_with("Private_"));
    let sizes = private.filter_map(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    Ok(sizes.sum())
}
