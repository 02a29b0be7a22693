//! `cargo bench`: what a container costs, from start to exit of `true`, at each step.
//!
//! Every figure is paired: the subject and its rival run in turn, in the same minute on the same
//! machine, and what is compared is the ratio of each pair. So a machine that is busy for a while
//! makes both slow, and not the result wrong. Before each run the kernel gets a moment of rest: it
//! frees network links and namespaces behind the last one's back, and whoever comes next pays.
//!
//! `cargo bench -- load` measures the loading of a Debian image instead, and `cargo bench --
//! runtime` the OCI runtime. A number after the dashes is the number of pairs.

mod floor;
mod load;
mod runtime;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio, exit};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::bench::Goal;
use harness::quantile;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

/// How long the kernel gets before each run: it frees a bridge within 60 ms.
const REST: Duration = Duration::from_millis(100);

/// One way to run a command in a container.
struct Subject {
    name: &'static str,
    program: PathBuf,
    args: Vec<String>,
    /// Where the command is written to, for those that take none as arguments.
    bundle: Option<PathBuf>,
}

impl Subject {
    /// The command line that runs `inside` in the container `id`, where a container
    /// needs a name.
    fn command(&self, id: &str, inside: &[&str]) -> Result<Command> {
        let mut command = Command::new(&self.program);
        command.args(&self.args);
        match &self.bundle {
            None => command.args(inside),
            Some(bundle) => {
                write_bundle(bundle, inside)?;
                command.arg("--bundle").arg(bundle).arg(id)
            }
        };
        command.stdin(Stdio::null());
        Ok(command)
    }
}

fn main() -> Result<()> {
    let args: Vec<String> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if let [word, root, command @ ..] = args.as_slice()
        && word == "floor"
    {
        exit(floor::run(Path::new(root), command)?);
    }
    // Another benchmark's word: `benches/images`.
    if args.iter().any(|arg| arg == "images") {
        return Ok(());
    }
    if !nix::unistd::geteuid().is_root() {
        println!("cargo bench makes namespaces of its own, and has to be run as root");
        return Ok(());
    }
    let pairs = args.iter().find_map(|arg| arg.parse().ok()).unwrap_or(100);
    let runtime = args.iter().any(|arg| arg == "runtime");
    let packages = ["step01", "step02", "step03", "step04", "step05"];
    match runtime {
        true => build(&["minirunc"]),
        false => packages
            .iter()
            .for_each(|package| build(&["build", "--release", "--package", package])),
    }
    let scratch = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("bench");
    fs::create_dir_all(&scratch)?;
    if args.iter().any(|arg| arg == "load") {
        // Its packages come from the network, which is out of reach after the next line.
        let archive = load::debian_archive(&scratch)?;
        keep_to_ourselves(&scratch)?;
        return load::compare(&scratch, &archive, &built("step05")?);
    }
    keep_to_ourselves(&scratch)?;
    mount(
        Some("bench"),
        &scratch,
        Some("tmpfs"),
        MsFlags::empty(),
        None::<&str>,
    )
    .context("mount tmpfs")?;
    if runtime {
        return runtime::compare(&scratch, pairs);
    }
    start_to_exit(&scratch, pairs)
}

/// `cargo bench` builds this program only.
fn build(command: &[&str]) {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(command).arg("--quiet");
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    if !cargo.status().is_ok_and(|status| status.success()) {
        println!("!! {cargo:?} fails, and what lies there of an earlier build is measured");
    }
}

/// The steps' binaries lie one directory above the benchmark's own.
fn built(name: &str) -> Result<PathBuf> {
    let own = env::current_exe()?;
    let release = own
        .parent()
        .and_then(Path::parent)
        .context("the benchmark lies at no usual place")?;
    Ok(release.join(name))
}

/// Moves this process to mount and network namespaces of its own: bridges, state and locks of the
/// machine's real containers are neither seen nor touched. Where version 1 holds the cgroup
/// controllers, /sys/fs/cgroup becomes a pure cgroup2 tree, since runc and crun know no mixture.
fn keep_to_ourselves(scratch: &Path) -> Result<()> {
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).context("unshare")?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .context("make / private")?;
    if !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        umount2("/sys/fs/cgroup", MntFlags::MNT_DETACH).context("umount /sys/fs/cgroup")?;
        mount(
            Some("cgroup2"),
            "/sys/fs/cgroup",
            Some("cgroup2"),
            MsFlags::empty(),
            none,
        )
        .context("mount cgroup2")?;
        println!(
            "cgroups here are held by version 1: measured on a cgroup2 tree without controllers"
        );
    }
    for directory in ["/run", "/var/lib"] {
        let hidden = scratch.starts_with(directory);
        ensure!(
            !hidden,
            "the target directory must not lie below {directory}"
        );
        mount(
            Some("bench"),
            directory,
            Some("tmpfs"),
            MsFlags::empty(),
            none,
        )
        .context("mount tmpfs")?;
    }
    Ok(())
}

fn start_to_exit(scratch: &Path, pairs: usize) -> Result<()> {
    let root = scratch.join("root");
    floor::busybox_root(&root)?;
    let subjects = subjects(scratch, &root)?;
    let find = |name: &str| subjects.iter().find(|subject| subject.name == name);
    let floor = find("floor").context("the floor itself cannot run here")?;
    println!("\nstart to exit of `true`, {pairs} pairs each; p10 and p90 in brackets");
    println!(
        "{:<14} {:>9} {:<17} {:>7} {:<15} {:>12}",
        "", "ms", "", "x floor", "", "private KiB"
    );
    for subject in &subjects {
        let series = Series::of(subject, floor, pairs)?;
        let memory = private_memory(subject).map_or("-".to_owned(), |kib| kib.to_string());
        let (ms, ratio) = (spread(&series.millis), spread(&series.ratios));
        println!(
            "{:<14} {:>9} {:<17} {:>7} {:<15} {:>12}",
            subject.name, ms.0, ms.1, ratio.0, ratio.1, memory
        );
    }
    println!("\ngoals (median of the pairs' ratios)");
    let goals = [
        ("step02", "floor", 1.5),
        ("step03", "crun", 1.0),
        ("step04 bridge", "floor", 3.0),
    ];
    for (name, rival, most) in goals {
        let (Some(subject), Some(rival)) = (find(name), find(rival)) else {
            println!("?? {name} / {rival}: not measured, see above");
            continue;
        };
        let measured = quantile(&Series::of(subject, rival, pairs)?.ratios, 0.5);
        Goal::new(format!("{name} / {}", rival.name), measured, most).tell();
    }
    println!("   private memory of the waiting parent: goal 2048 KiB");
    Ok(())
}

/// Those that really run a container here; of the others it says why not.
fn subjects(scratch: &Path, root: &Path) -> Result<Vec<Subject>> {
    let path = root
        .to_str()
        .context("the target directory's path is not UTF-8")?;
    let image = load::busybox_archive(scratch)?;
    let loaded = Command::new(built("step05")?)
        .arg("load")
        .arg(&image)
        .output();
    if !loaded.is_ok_and(|output| output.status.success()) {
        println!("!! step05 does not load {}", image.display());
    }
    let step = |name, binary, args: &[&str]| -> Result<Subject> {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        Ok(Subject {
            name,
            program: built(binary)?,
            args,
            bundle: None,
        })
    };
    let peer = |name: &'static str| {
        let args = vec!["run".to_owned()];
        Subject {
            name,
            program: name.into(),
            args,
            bundle: Some(scratch.to_owned()),
        }
    };
    let floor = vec!["floor".to_owned(), path.to_owned()];
    let all = [
        Subject {
            name: "floor",
            program: env::current_exe()?,
            args: floor,
            bundle: None,
        },
        step("step01", "step01", &["run", "--"])?,
        step("step02", "step02", &["run", "--rootfs", path, "--"])?,
        step("step03", "step03", &["run", "--rootfs", path, "--"])?,
        step(
            "step04 none",
            "step04",
            &["run", "--network", "none", "--rootfs", path, "--"],
        )?,
        step(
            "step04 bridge",
            "step04",
            &["run", "--network", "bridge", "--rootfs", path, "--"],
        )?,
        step("step05 image", "step05", &["run", load::BUSYBOX])?,
        peer("crun"),
        peer("runc"),
    ];
    Ok(all.into_iter().filter(runs).collect())
}

/// A program that does nothing would win every race: it has to be seen running the command, as
/// process 1.
fn runs(subject: &Subject) -> bool {
    let output = subject
        .command("bench", &["/bin/sh", "-c", "echo pid $$"])
        .and_then(|mut command| Ok(command.output()?));
    let why = match output {
        Ok(output) if output.stdout == b"pid 1\n" && output.status.success() => return true,
        Ok(output) => format!(
            "{}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        ),
        Err(error) => format!("{error:#}"),
    };
    println!(
        "!! {} is left out, it runs no container here: {why}",
        subject.name
    );
    false
}

struct Series {
    millis: Vec<f64>,
    /// Of the subject's time to the rival's, pair by pair.
    ratios: Vec<f64>,
}

impl Series {
    fn of(subject: &Subject, rival: &Subject, pairs: usize) -> Result<Self> {
        let (mut millis, mut ratios) = (Vec::new(), Vec::new());
        for pair in 0..pairs + 3 {
            // Who goes first changes, in case it matters.
            let (mine, other) = if pair % 2 == 0 {
                (time(subject)?, time(rival)?)
            } else {
                let other = time(rival)?;
                (time(subject)?, other)
            };
            // The first pairs warm the caches.
            if pair >= 3 {
                millis.push(mine * 1e3);
                ratios.push(mine / other);
            }
        }
        Ok(Self { millis, ratios })
    }
}

/// Seconds from spawn to exit.
fn time(subject: &Subject) -> Result<f64> {
    let mut command = subject.command("bench", &["/bin/true"])?;
    sleep(REST);
    let start = Instant::now();
    let status = command
        .status()
        .with_context(|| format!("run {}", subject.name))?;
    let elapsed = start.elapsed().as_secs_f64();
    ensure!(
        status.success(),
        "{} failed in the midst of the measurement: {status}",
        subject.name
    );
    Ok(elapsed)
}

/// KiB that the parent, waiting for its container, has for itself. A second one
/// waits beside it: alone, a process would count its program's own pages too,
/// which all containers share.
fn private_memory(subject: &Subject) -> Result<u64> {
    let mut neighbour = subject
        .command("neighbour", &["/bin/sleep", "1"])?
        .spawn()?;
    let mut parent = subject.command("bench", &["/bin/sleep", "1"])?.spawn()?;
    sleep(Duration::from_millis(500));
    let maps = fs::read_to_string(format!("/proc/{}/smaps_rollup", parent.id()));
    parent.wait()?;
    neighbour.wait()?;
    let maps = maps?;
    let lines = maps.lines().filter(|line| line.starts_with("Private_"));
    Ok(lines
        .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
        .sum())
}

/// The bundle as `runc spec` makes it, with our command and no terminal.
fn write_bundle(bundle: &Path, inside: &[&str]) -> Result<()> {
    let path = bundle.join("config.json");
    if !path.exists() {
        let made = Command::new("runc")
            .arg("spec")
            .current_dir(bundle)
            .status();
        let made = made.or_else(|_| {
            Command::new("crun")
                .arg("spec")
                .current_dir(bundle)
                .status()
        });
        ensure!(
            made.is_ok_and(|status| status.success()),
            "neither runc nor crun makes a bundle"
        );
    }
    let mut spec: serde_json::Value = serde_json::from_slice(&fs::read(&path)?)?;
    // Devices are refused by a BPF program, for which crun wants CAP_SYS_RESOURCE: left out, as the
    // steps have no such thing.
    spec["linux"]["resources"] = serde_json::json!({});
    spec["process"]["args"] = serde_json::json!(inside);
    spec["process"]["terminal"] = false.into();
    spec["root"]["path"] = "root".into();
    Ok(fs::write(&path, serde_json::to_vec(&spec)?)?)
}

/// The median, and the tenths below and above it.
fn spread(values: &[f64]) -> (String, String) {
    let [low, middle, high] = [0.1, 0.5, 0.9].map(|part| quantile(values, part));
    (format!("{middle:.2}"), format!("({low:.2}-{high:.2})"))
}
