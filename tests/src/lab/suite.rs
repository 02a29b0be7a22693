//! `cargo lab test`: everything that must hold, in the order in which it is
//! cheapest to find out.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::unistd::geteuid;

use crate::kernel::Kernel;
use crate::system::Freight;
use crate::vm::WITH_CLIENTS;
use crate::{book, clients, images, system, vm};

/// What the tests call, and the Debian package that has it.
const NEEDED: [(&str, &str); 29] = [
    ("cc", "gcc"),
    ("git", "git"),
    ("jq", "jq"),
    ("strace", "strace"),
    ("nft", "nftables"),
    ("ip", "iproute2"),
    ("ping", "iputils-ping"),
    ("ps", "procps"),
    ("hostname", "hostname"),
    ("curl", "curl"),
    ("getfattr", "attr"),
    ("getcap", "libcap2-bin"),
    ("newuidmap", "uidmap"),
    ("pasta", "passt"),
    ("slirp4netns", "slirp4netns"),
    ("busybox", "busybox-static"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("strip", "binutils"),
    ("xz", "xz-utils"),
    ("umoci", "umoci"),
    ("skopeo", "skopeo"),
    ("openssl", "openssl"),
    ("zstd", "zstd"),
    ("mmdebstrap", "mmdebstrap"),
    ("podman", "podman"),
    ("runc", "runc"),
    ("iptables", "iptables"),
    ("dig", "bind9-dnsutils"),
    ("python3", "python3"),
];

/// The suites of which a virtual machine tells more than a real one with no
/// controllers: all of it, or what is marked as for there alone.
const IN_THE_VM: [(&str, &str); 8] = [
    ("vm", WHOLE),
    ("step03", WHOLE),
    ("runtime_limits", "--ignored"),
    ("containers_rootless", "--ignored"),
    ("containers_limits", WHOLE),
    ("harness", WHOLE),
    ("doctor", "--ignored"),
    ("cleanup", "--ignored"),
];

/// Runs all tests of a suite.
const WHOLE: &str = "--include-ignored";

/// What a virtual machine of a gigabyte without a network, and without cargo, cc
/// and git, has no place for.
const NOT_IN_THE_VM: [&str; 15] = [
    "bridges",
    "containers_commands",
    "containers_faults",
    "containers_life",
    "containers_peers",
    "networks_faults",
    "networks_names",
    "networks_tools",
    "step05",
    "registry_peers",
    "registry_faults",
    "starters",
    "grader",
    "grader_wrong",
    "book",
];

/// The suites that take longest: begun first, so that no processor waits for the other in the end.
const LONG: [&str; 10] = [
    "grader_wrong",
    "starters",
    "registry_faults",
    "containers_faults",
    "networks_faults",
    "runtime_attacks",
    "containers_peers",
    "containers_files",
    "networks_tools",
    "grader",
];

/// How long the suites may take in the virtual machine.
const LIMIT: Duration = Duration::from_secs(1500);

/// Runs all phases, and tells how each went; the exit status is 1 when one failed.
///
/// ```text
/// what is fetched ‖ format, lints, build, unit tests   then   suites   then   machines, book ‖ rehearsal
/// ```
///
/// What is beside something else waits for networks, disks and clocks, and the other computes.
pub fn run() -> Result<u8> {
    if !install_what_is_missing()? {
        return Ok(2);
    }
    let phases = Phases::new();
    let (built, ()) = side_by_side(|| build(&phases), || fetch(&phases))?;
    if !built {
        return Ok(phases.close());
    }
    if geteuid().is_root() {
        phases.run("suites", native)?;
        phases.cargo(
            "tests that ask the kernel as root",
            &["test", "--package", "final", "--lib", "--", "--ignored"],
        )?;
    } else {
        println!("lab: without root the black-box suites run in the virtual machine");
    }
    side_by_side(|| boot(&phases), || phases.run("rehearsal", rehearsed))?;
    Ok(phases.close())
}

/// All that the compiler has to do with, in the order in which it is cheapest to find out. Returns
/// whether there is anything to go on with.
fn build(phases: &Phases) -> Result<bool> {
    phases.cargo("formatting", &["fmt", "--all", "--check"])?;
    let lints = ["--workspace", "--all-targets", "--", "-D", "warnings"];
    phases.cargo("lints", &[&["clippy", "--quiet"], &lints[..]].concat())?;
    if !phases.cargo("build", &["build", "--quiet", "--workspace", "--bins"])? {
        return Ok(false);
    }
    let steps = [
        "test",
        "--no-fail-fast",
        "--workspace",
        "--exclude",
        "tests",
    ];
    phases.cargo("unit tests", &steps)?;
    let own = ["--package", "tests", "--lib", "--bins"];
    phases.cargo(
        "the lab's own",
        &[&["test", "--no-fail-fast"], &own[..]].concat(),
    )?;
    phases.run("build of the suites", || vm::suites().map(|_| true))
}

/// What comes from elsewhere, once for each clone.
fn fetch(phases: &Phases) -> Result<()> {
    phases.run("clients", || clients::ensure().map(|()| true))?;
    phases.run("kernel", || Kernel::ensure(&vm::dir()?).map(|_| true))?;
    if geteuid().is_root() {
        phases.run("images", || images::ensure().map(|()| true))?;
    }
    phases.run("mdBook", || book::mdbook().map(|_| true))?;
    Ok(())
}

/// What takes a machine of its own, and the book.
fn boot(phases: &Phases) -> Result<()> {
    phases.run("virtual machine", || {
        in_the_vm(whole(), &|name| match geteuid().is_root() {
            true => IN_THE_VM
                .iter()
                .find(|(suite, _)| *suite == name)
                .map(|(_, which)| *which),
            false => (!NOT_IN_THE_VM.contains(&name) && name != WITH_CLIENTS).then_some(WHOLE),
        })
    })?;
    phases.run("virtual machine with clients", || {
        in_the_vm(clients::freight()?, &|name| {
            (name == WITH_CLIENTS).then_some("--ignored")
        })
    })?;
    phases.run("book", || book::build(&book::mdbook()?, false))?;
    Ok(())
}

/// The rehearsal, told in one piece when it is over: others are telling something meanwhile.
fn rehearsed() -> Result<bool> {
    let mut lab = Command::new("cargo");
    lab.args(["lab", "rehearse"])
        .current_dir(crate::workspace()?);
    let output = lab.output().context("run a rehearsal")?;
    let mut told = std::io::stdout().lock();
    writeln!(told, "\n-- rehearsal")?;
    told.write_all(&output.stdout)?;
    told.write_all(&output.stderr)?;
    Ok(output.status.success())
}

/// Does two things at the same time.
fn side_by_side<A, B: Send>(
    one: impl FnOnce() -> Result<A>,
    other: impl FnOnce() -> Result<B> + Send,
) -> Result<(A, B)> {
    thread::scope(|scope| {
        let other = scope.spawn(other);
        let one = one();
        let other = other.join().map_err(|_| anyhow!("a phase has panicked"))?;
        Ok((one?, other?))
    })
}

/// Says what is done, how long it took, and in the end how it all went.
struct Phases {
    start: Instant,
    over: Mutex<Vec<(&'static str, Duration, bool)>>,
}

impl Phases {
    fn new() -> Phases {
        Phases {
            start: Instant::now(),
            over: Mutex::default(),
        }
    }

    /// Runs one phase; an error is a failure of this phase and not the end.
    fn run(&self, name: &'static str, phase: impl FnOnce() -> Result<bool>) -> Result<bool> {
        println!("\n== {name}");
        let start = Instant::now();
        let passed = phase().unwrap_or_else(|error| {
            eprintln!("lab: {name}: {error:#}");
            false
        });
        let took = start.elapsed();
        println!(
            "== {name}: {} in {:.1} s",
            verdict(passed),
            took.as_secs_f64()
        );
        let mut over = self.over.lock().map_err(|_| anyhow!("a phase panicked"))?;
        over.push((name, took, passed));
        Ok(passed)
    }

    fn cargo(&self, name: &'static str, arguments: &[&str]) -> Result<bool> {
        self.run(name, || {
            let workspace = crate::workspace()?;
            succeeds(Command::new("cargo").args(arguments).current_dir(workspace))
        })
    }

    fn close(&self) -> u8 {
        let over = self
            .over
            .lock()
            .map_or_else(|_| Vec::new(), |over| over.clone());
        let passed = over.iter().all(|(.., passed)| *passed);
        println!("\n== summary");
        let all = [("all", self.start.elapsed(), passed)];
        for (name, took, passed) in over.iter().chain(&all) {
            println!(
                "{name:<34} {:>7.1} s  {}",
                took.as_secs_f64(),
                verdict(*passed)
            );
        }
        u8::from(!passed)
    }
}

fn verdict(passed: bool) -> &'static str {
    if passed { "passed" } else { "FAILED" }
}

/// Runs a command, and says which.
pub fn succeeds(command: &mut Command) -> Result<bool> {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line = words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ");
    println!("$ {line}");
    let status = command.env("RUST_BACKTRACE", "0").status();
    Ok(status.with_context(|| format!("run `{line}`"))?.success())
}

/// Whether everything needed is there in the end.
fn install_what_is_missing() -> Result<bool> {
    let missing: Vec<(&str, &str)> = NEEDED
        .into_iter()
        .filter(|(program, _)| system::find(program).is_none())
        .collect();
    if missing.is_empty() {
        return Ok(true);
    }
    let packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    let is_debian = Path::new("/etc/debian_version").exists();
    if !(is_debian && geteuid().is_root()) {
        let programs: Vec<&str> = missing.iter().map(|(program, _)| *program).collect();
        eprintln!(
            "lab: the tests need what is not here: {}",
            programs.join(", ")
        );
        eprintln!(
            "lab: on Debian: sudo apt-get install --no-install-recommends {}",
            packages.join(" ")
        );
        return Ok(false);
    }
    let mut apt = Command::new("apt-get");
    apt.args(["install", "--yes", "--quiet", "--no-install-recommends"])
        .args(&packages);
    apt.env("DEBIAN_FRONTEND", "noninteractive");
    // The lists may be old or absent: then once more, with new ones.
    if !succeeds(&mut apt)? {
        succeeds(Command::new("apt-get").args(["update", "--quiet"]))?;
        if !succeeds(&mut apt)? {
            bail!("apt-get could not install {}", packages.join(" "));
        }
    }
    Ok(true)
}

/// The black-box suites, several at once. They wait more than they compute, for processes, for
/// clocks and for each other's locks; and the last test of a suite would have the machine to itself.
fn native() -> Result<bool> {
    let place = crate::workspace()?.join("tests");
    let mut suites = vm::suites()?;
    suites.sort_by_key(|suite| {
        let name = system::suite_name(suite);
        LONG.iter()
            .position(|long| *long == name)
            .unwrap_or(LONG.len())
    });
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let left = Mutex::new(suites.into_iter());
    let passed = AtomicBool::new(true);
    let work = || -> Result<()> {
        loop {
            let suite = left.lock().ok().and_then(|mut left| left.next());
            let Some(suite) = suite else { return Ok(()) };
            let mut command = Command::new(&suite);
            command.current_dir(&place).env("RUST_BACKTRACE", "0");
            // All is built: nothing that a suite calls has to have cargo see to that again.
            command.env_remove("CARGO");
            if std::env::var_os("RUST_TEST_THREADS").is_none() {
                command.env("RUST_TEST_THREADS", cores.to_string());
            }
            let start = Instant::now();
            let output = command.output();
            let output = output.with_context(|| format!("run {}", suite.display()))?;
            let took = start.elapsed().as_secs_f64();
            // In one piece, whoever else is just telling something.
            let mut told = std::io::stdout().lock();
            writeln!(told, "\n-- {} ({took:.1} s)", system::suite_name(&suite))?;
            told.write_all(&output.stdout)?;
            told.write_all(&output.stderr)?;
            passed.fetch_and(output.status.success(), Ordering::Relaxed);
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..2 * cores).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            worker
                .join()
                .map_err(|_| anyhow!("a thread that ran suites has panicked"))??;
        }
        Ok::<_, anyhow::Error>(())
    })?;
    Ok(passed.into_inner())
}

fn whole() -> Freight {
    Freight {
        own: system::OWN,
        ..Freight::default()
    }
}

/// Runs suites in a virtual machine with some freight, each with the flag that says
/// which of its tests.
fn in_the_vm(freight: Freight, wanted: &dyn Fn(&str) -> Option<&'static str>) -> Result<bool> {
    let mut script =
        String::from("stty -F /dev/ttyS0 raw -echo\nstatus=0\ncd /workspace/suites\n{\n");
    let mut suites = Vec::new();
    for suite in vm::suites()? {
        let name = system::suite_name(&suite);
        let Some(which) = wanted(&name) else {
            continue;
        };
        println!("$ cargo lab vm -- /workspace/suites/{name} {which}");
        script += &format!(
            "echo suite {name}\n./{name} {which} --test-threads 2 </dev/null || status=1\n"
        );
        suites.push(suite);
    }
    script += "} >/dev/ttyS0 2>&1\n";
    let freight = Freight { suites, ..freight };
    Ok(vm::boot(&freight, &script, Some(LIMIT), &mut |_| {})? == 0)
}
