//! `cargo bench -- images`: what it costs to pull an image and to load one, against others who
//! do: skopeo and umoci together, podman, docker.
//!
//! Each round lets everybody do the same in turn, in the same minute on the same machine, into a
//! store that was emptied and written to the disk before; what is compared is the ratio of each
//! round. The registry is Debian's, on loopback; its answers come from memory. A number after the
//! dashes is the number of rounds; `memory` or `disk` measures there alone. It wants what `cargo lab
//! test` has made: Debian's docker and registry.

mod measure;
mod samples;
mod subjects;
mod table;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use harness::registry::{Registry, machine};
use harness::{Host, Setup};

use measure::Measured;
use samples::{ALL, LARGE};
use subjects::{Deed, Dockerd, Subject};
use table::{Table, goal, median};

/// The most memory that an image may cost, however large it is.
const MEMORY: f64 = 64.0;

/// Where stores are: a name for people, and the directory on the machine.
#[derive(Clone)]
struct Place {
    name: String,
    dir: &'static str,
}

fn main() -> Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    // It takes minutes: only where it is meant.
    if !args.iter().any(|arg| arg == "images") {
        return Ok(());
    }
    if !nix::unistd::geteuid().is_root() {
        println!("cargo bench makes namespaces of its own, and has to be run as root");
        return Ok(());
    }
    let rounds = args.iter().find_map(|arg| arg.parse().ok()).unwrap_or(5);
    build();
    let scratch = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("images");
    let samples = samples::make(&scratch)?;
    let disk = scratch.join("disk");
    remove(&disk)?;
    fs::create_dir_all(&disk)?;
    let shown = vec![
        (samples, "samples".to_owned()),
        (disk.clone(), "disk".to_owned()),
    ];
    let host = machine(Setup {
        shown,
        ..Setup::default()
    });
    subjects::prepare(&host)?;
    let registry = Registry::open(&host);
    for sample in ALL.iter().chain([&LARGE]) {
        registry.fill("/run/workspace/samples/layout", sample.name, sample.name);
    }
    let places = [
        Place {
            name: "in memory (tmpfs)".to_owned(),
            dir: "/run/stores",
        },
        Place {
            name: format!("on a disk ({})", file_system(&disk)?),
            dir: "/run/workspace/disk",
        },
    ];
    let wanted = |place: &Place| {
        let others = ["memory", "disk"].map(|word| args.iter().any(|arg| arg == word));
        others == [false; 2] || args.iter().any(|arg| place.name.contains(arg.as_str()))
    };
    for place in places.iter().filter(|place| wanted(place)) {
        measure_at(&host, &registry, place, rounds)?;
    }
    drop(registry);
    drop(host);
    remove(&disk)
}

/// Everything that is measured with the stores at one place.
fn measure_at(host: &Host, registry: &Registry<'_>, place: &Place, rounds: usize) -> Result<()> {
    let dockerd = Dockerd::start(host, place.dir);
    let subjects: Vec<Subject<'_>> = subjects::all(host, place.dir, &registry.address(), &dockerd)
        .into_iter()
        .filter(|subject| subject.works(&ALL[0]))
        .collect();
    let mut verdicts = Vec::new();
    for deed in [Deed::Pull, Deed::Load] {
        println!("\n{}, {}, {rounds} rounds", deed.told(), place.name);
        let mut table = Table::begin();
        for sample in &ALL {
            let series = in_turn(&subjects, rounds, |subject| {
                subject.empty()?;
                subject.measure(deed, sample)
            })?;
            table.sample(sample, &series);
            verdicts.extend(table::verdicts(
                &format!("{deed} {sample}, {}", place.name),
                &series,
            ));
        }
    }
    println!("\na second pull of an unchanged image, {}", place.name);
    verdicts.extend(again(&subjects, registry, rounds)?);
    println!("\ngoals, {} (median of the rounds' ratios)", place.name);
    verdicts.extend(large(&subjects)?);
    for (what, value, most) in verdicts {
        goal(&what, value, most);
    }
    for subject in &subjects {
        subject.empty()?;
    }
    dockerd.stop();
    Ok(())
}

/// What everybody needed, round by round.
type Series = Vec<(&'static str, Vec<Measured>)>;

/// Lets everybody have their turn, once more often than counts: the first round warms the caches.
fn in_turn(
    subjects: &[Subject<'_>],
    rounds: usize,
    turn: impl Fn(&Subject<'_>) -> Result<Measured>,
) -> Result<Series> {
    let mut series: Series = subjects.iter().map(|it| (it.name, Vec::new())).collect();
    for round in 0..=rounds {
        // Who goes first changes, in case it matters.
        for nth in 0..subjects.len() {
            let nth = (nth + round) % subjects.len();
            let measured = turn(&subjects[nth])?;
            if round > 0 {
                series[nth].1.push(measured);
            }
        }
    }
    Ok(series)
}

/// Pulls what is there already.
fn again(
    subjects: &[Subject<'_>],
    registry: &Registry<'_>,
    rounds: usize,
) -> Result<Vec<(String, f64, f64)>> {
    for subject in subjects {
        subject.empty()?;
        subject.measure(Deed::Pull, &ALL[1])?;
    }
    let mut asked = Vec::new();
    for subject in subjects {
        let before = registry.requests().len();
        subject.run(Deed::Pull, &ALL[1])?;
        let requests = registry.requests().split_off(before);
        let methods: Vec<_> = requests.into_iter().map(|it| it.method).collect();
        asked.push((subject.name, methods));
    }
    let mut table = Table::begin();
    let series = in_turn(subjects, rounds, |subject| subject.run(Deed::Pull, &ALL[1]))?;
    table.sample(&ALL[1], &series);
    for (name, methods) in &asked {
        println!("{name:<16} asks the registry: {}", methods.join(" "));
    }
    let ours = asked.into_iter().find(|(name, _)| *name == subjects::OURS);
    let ours = ours.map(|(_, methods)| {
        // One request that is no HEAD counts as too many.
        let heads = methods.iter().all(|method| method == "HEAD");
        let count = if heads { methods.len() as f64 } else { 9.0 };
        ("requests of a second pull".to_owned(), count, 1.0)
    });
    Ok(ours.into_iter().collect())
}

/// What an image of one large layer costs in memory.
fn large(subjects: &[Subject<'_>]) -> Result<Vec<(String, f64, f64)>> {
    let ours = subjects.iter().find(|it| it.name == subjects::OURS);
    let mut verdicts = Vec::new();
    for deed in [Deed::Pull, Deed::Load] {
        let Some(ours) = ours else { break };
        ours.empty()?;
        let measured = ours.measure(deed, &LARGE)?;
        let what = format!(
            "peak MiB, {deed} {LARGE} (in {:.2} s)",
            median(&[measured.seconds])
        );
        verdicts.push((what, measured.peak, MEMORY));
    }
    Ok(verdicts)
}

/// `cargo bench` builds this program only, and the test programs beside it.
fn build() {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--release", "--package", "final", "--quiet"]);
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    if !cargo.status().is_ok_and(|status| status.success()) {
        println!("!! {cargo:?} fails, and what lies there of an earlier build is measured");
    }
}

fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// The kind of file system on which a directory is.
fn file_system(dir: &Path) -> Result<String> {
    let mut findmnt = Command::new("findmnt");
    findmnt.args(["--noheadings", "--output", "FSTYPE", "--target"]);
    let output = findmnt.arg(dir).output().context("run findmnt")?;
    ensure!(output.status.success(), "findmnt: {}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
