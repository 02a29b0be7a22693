//! The runtime: `minirunc` against crun and runc, with the defences that docker gives a container.
//!
//! It is built as `cargo minirunc` does. The bundle is what `runc spec` writes, with docker's
//! capabilities and seccomp profile in it, as `minirunc spec` has them. Rules on devices are left
//! out for all: where the cgroup controllers are version 1's, crun may not load the program that
//! they become.

use std::env::consts::ARCH;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use harness::bench::Goal;
use serde_json::Value;

use crate::{
    REST, Series, Subject, built, floor, private_memory, quantile, runs, spread, write_bundle,
};

/// How many containers live when the last one is started.
const CROWD: usize = 500;

/// How many are started and deleted again while nobody else lives, and while all but one do.
const SAMPLES: usize = 30;

/// Measures, and holds what it found against the goals.
pub fn compare(scratch: &Path, pairs: usize) -> Result<()> {
    let minirunc = built(&format!("../{ARCH}-unknown-linux-gnu/runtime/minirunc"))?;
    let bundle = scratch.join("bundle");
    floor::busybox_root(&bundle.join("root"))?;
    write_config(&bundle, &minirunc)?;
    let subject = |name, program: &Path| Subject {
        name,
        program: program.to_owned(),
        args: vec!["run".to_owned()],
        bundle: Some(bundle.clone()),
    };
    let root = bundle.join("root");
    let root = root
        .to_str()
        .context("the target directory's path is not UTF-8")?;
    let floor = Subject {
        name: "floor",
        program: std::env::current_exe()?,
        args: vec!["floor".to_owned(), root.to_owned()],
        bundle: None,
    };
    let minirunc = subject("minirunc", &minirunc);
    ensure!(
        runs(&minirunc) && runs(&floor),
        "there is nothing to measure"
    );
    let peers = ["crun", "runc"].map(|name| subject(name, Path::new(name)));
    let peers: Vec<Subject> = peers.into_iter().filter(runs).collect();

    println!("\n`run` of `true`, from start to exit, {pairs} pairs each; p10 and p90 in brackets");
    println!(
        "{:<10} {:>9} {:<17} {:>10} {:<15} {:>10} {:>12}",
        "", "ms", "", "x minirunc", "", "peak KiB", "waiting KiB"
    );
    let mut times = Vec::new();
    for rival in [&floor].into_iter().chain(&peers) {
        // Seen from the rival, so that the row is about it.
        let series = Series::of(rival, &minirunc, pairs)?;
        row(rival, &series.millis, &series.ratios)?;
        let ratios: Vec<f64> = series.ratios.iter().map(|ratio| 1.0 / ratio).collect();
        times.push((rival, quantile(&ratios, 0.5)));
    }
    row(
        &minirunc,
        &Series::of(&minirunc, &floor, pairs)?.millis,
        &[1.0],
    )?;
    println!("   peak: what the largest of its processes had in memory (getrusage(2), ru_maxrss)");
    println!("   waiting: what `run` has for itself while its container lives");

    let crowd = Crowd::gather(&minirunc)?;
    for peer in &peers[..peers.len().min(1)] {
        Crowd::gather(peer)?;
    }

    println!("\ngoals (median of the pairs' ratios)");
    for (rival, ratio) in times {
        let most = if rival.name == "floor" { 2.0 } else { 1.0 };
        Goal::new(format!("minirunc / {}", rival.name), ratio, most).tell();
    }
    if let Some(crun) = peers.first() {
        let ratio = peak(&minirunc)? as f64 / peak(crun)? as f64;
        Goal::new(format!("peak memory, minirunc / {}", crun.name), ratio, 1.0).tell();
    }
    Goal::new(
        format!("minirunc, start {CROWD} / start 1"),
        crowd.ratio,
        1.1,
    )
    .tell();
    Ok(())
}

fn row(subject: &Subject, millis: &[f64], ratios: &[f64]) -> Result<()> {
    let (ms, ratio) = (spread(millis), spread(ratios));
    println!(
        "{:<10} {:>9} {:<17} {:>10} {:<15} {:>10} {:>12}",
        subject.name,
        ms.0,
        ms.1,
        ratio.0,
        ratio.1,
        peak(subject)?,
        private_memory(subject)?
    );
    Ok(())
}

/// KiB that the largest of a run's processes had in memory at its largest.
fn peak(subject: &Subject) -> Result<u64> {
    let mut command = subject.command("bench", &["/bin/true"])?;
    // SAFETY: nothing is done in the child. What matters is that there is one: without this a child
    // shares this program's memory until it executes another, and would be counted as that large.
    unsafe { command.pre_exec(|| Ok(())) };
    let child = command.spawn()?;
    let pid = i32::try_from(child.id())?;
    // SAFETY: all zeroes is a valid rusage: it holds numbers only.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let mut status = 0;
    // SAFETY: both places outlive the call, and nobody else waits for this child.
    let waited = unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) };
    ensure!(
        waited == pid && status == 0,
        "{} failed: {status}",
        subject.name
    );
    Ok(usage.ru_maxrss.cast_unsigned())
}

/// What it costs to start a container among many.
struct Crowd {
    /// Of the last container's time to the first one's.
    ratio: f64,
}

impl Crowd {
    /// Starts them all, and deletes them again.
    fn gather(runtime: &Subject) -> Result<Crowd> {
        let bundle = runtime
            .bundle
            .as_deref()
            .context("a runtime has a bundle")?;
        write_bundle(bundle, &["/bin/sleep", "100000"])?;
        let crowd = Containers { runtime, bundle };
        let alone = crowd.sample("alone")?;
        for number in 1..CROWD {
            crowd.start(&format!("crowd{number}"))?;
        }
        let among = crowd.sample("among")?;
        let state = crowd.time(&["state", "crowd1"])?;
        let list = crowd.time(&["list"])?;
        for number in 1..CROWD {
            crowd.delete(&format!("crowd{number}"))?;
        }
        let (first, last) = (spread(&alone), spread(&among));
        println!(
            "\n{}, create and start of `sleep`, {SAMPLES} each, ms",
            runtime.name
        );
        println!("the first  {:>9} {}", first.0, first.1);
        println!("number {CROWD} {:>9} {}", last.0, last.1);
        println!(
            "state with {CROWD} alive {:.2}, list {:.2}",
            state * 1e3,
            list * 1e3
        );
        Ok(Crowd {
            ratio: quantile(&among, 0.5) / quantile(&alone, 0.5),
        })
    }
}

/// Those of one runtime.
struct Containers<'a> {
    runtime: &'a Subject,
    bundle: &'a Path,
}

impl Containers<'_> {
    /// Milliseconds to create and start one, which is deleted each time.
    fn sample(&self, id: &str) -> Result<Vec<f64>> {
        let mut millis = Vec::new();
        for nth in 0..SAMPLES + 3 {
            sleep(REST);
            let took = self.start(id)?;
            self.delete(id)?;
            // The first warm the caches.
            if nth >= 3 {
                millis.push(took * 1e3);
            }
        }
        Ok(millis)
    }

    /// Seconds to create and start the container `id`.
    fn start(&self, id: &str) -> Result<f64> {
        let bundle = self.bundle.to_str().context("a path in UTF-8")?;
        let created = self.time(&["create", "--bundle", bundle, id])?;
        Ok(created + self.time(&["start", id])?)
    }

    fn delete(&self, id: &str) -> Result<f64> {
        self.time(&["delete", "--force", id])
    }

    /// Seconds that a command takes.
    fn time(&self, args: &[&str]) -> Result<f64> {
        let mut command = Command::new(&self.runtime.program);
        command
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let start = Instant::now();
        let status = command.status().context("run it")?;
        let elapsed = start.elapsed().as_secs_f64();
        ensure!(
            status.success(),
            "{} {}: {status}",
            self.runtime.name,
            args.join(" ")
        );
        Ok(elapsed)
    }
}

/// `runc spec`, with docker's defences.
fn write_config(bundle: &Path, minirunc: &Path) -> Result<()> {
    write_bundle(bundle, &["/bin/true"])?;
    let docker = bundle.join("docker");
    fs::create_dir_all(&docker)?;
    let made = Command::new(minirunc)
        .arg("spec")
        .arg("--bundle")
        .arg(&docker)
        .status();
    ensure!(
        made.is_ok_and(|status| status.success()),
        "minirunc spec failed"
    );
    let read = |dir: &Path| -> Result<Value> {
        Ok(serde_json::from_slice(&fs::read(dir.join("config.json"))?)?)
    };
    let (mut config, docker) = (read(bundle)?, read(&docker)?);
    config["process"]["capabilities"] = docker["process"]["capabilities"].clone();
    config["process"]["noNewPrivileges"] = false.into();
    config["linux"]["seccomp"] = docker["linux"]["seccomp"].clone();
    ensure!(
        config["linux"]["seccomp"].is_object(),
        "minirunc spec has no seccomp profile"
    );
    Ok(fs::write(
        bundle.join("config.json"),
        serde_json::to_vec(&config)?,
    )?)
}
