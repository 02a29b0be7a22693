//! What needs cgroup controllers, and so the virtual machine: `cargo lab vm`.
//! On a real machine these are listed as ignored.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use harness::engine::shell;
use harness::{Host, Output, Running, Setup, User, assert_same, wait_for};
use nix::sys::signal::Signal;

/// The cgroup of the container that `running` waits for, as a path here.
fn cgroup(host: &Host, running: &Running) -> PathBuf {
    let place = |pid: i32| {
        let text = read(Path::new(&format!("/proc/{pid}/cgroup")));
        text.trim_start_matches("0::").to_owned()
    };
    // The machine's root is a cgroup of the virtual machine's tree.
    let root = place(host.pid());
    let root = root.trim_end_matches("/session");
    let inside = place(running.container());
    let inside = inside
        .strip_prefix(root)
        .expect("the container is below the machine's root");
    host.path("/sys/fs/cgroup")
        .join(inside.trim_start_matches('/'))
}

fn read(path: &Path) -> String {
    let text = fs::read_to_string(path);
    text.unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
        .trim()
        .to_owned()
}

fn value(cgroup: &Path, file: &str) -> String {
    read(&cgroup.join(file))
}

/// Microseconds of processor time that a cgroup has used.
fn used(cgroup: &Path) -> u64 {
    let stat = value(cgroup, "cpu.stat");
    let usage = stat
        .lines()
        .find_map(|line| line.strip_prefix("usage_usec "));
    usage
        .and_then(|number| number.parse().ok())
        .expect("cpu.stat has usage_usec")
}

const HOG: [&str; 4] = ["dd", "if=/dev/zero", "of=/dev/null", "bs=200M"];

#[test]
#[ignore = "runs in the virtual machine"]
fn a_memory_hog_is_killed_and_reported_and_nobody_else_is() {
    let host = Host::new();
    let before = host.snapshot();
    let mut bystander = host.spawn(["sleep", "1000"]);
    let mut neighbour = host.spawn([
        "step03",
        "run",
        "-m",
        "64m",
        "sh",
        "-c",
        "echo up; exec sleep 1000",
    ]);
    neighbour.expect("up");
    let argv = ["step03", "run", "--memory", "64m"]
        .iter()
        .chain(&HOG)
        .chain(&["count=1"]);
    let out = host.run(argv);
    let error = out.exits(137);
    assert!(error.contains("memory"), "{error}");
    assert!(bystander.is_running() && neighbour.is_running());
    neighbour.signal(Signal::SIGTERM);
    neighbour.wait();
    drop(bystander);
    assert_same(&before, || host.snapshot());
}

#[test]
#[ignore = "runs in the virtual machine"]
fn a_child_that_is_killed_for_memory_is_reported_as_well() {
    let host = Host::new();
    let script = "dd if=/dev/zero of=/dev/null bs=200M count=1; echo went on with $?";
    let out = host.run(["step03", "run", "-m", "64m", "sh", "-c", script]);
    assert!(out.errors().contains("memory"), "{out}");
}

#[test]
#[ignore = "runs in the virtual machine"]
fn a_command_below_its_limit_is_left_alone() {
    let host = Host::new();
    let out = host.run([
        "step03",
        "run",
        "-m",
        "64m",
        "dd",
        "if=/dev/zero",
        "of=/dev/null",
        "bs=16M",
        "count=1",
    ]);
    out.ok();
    assert!(!out.errors().contains("out of memory"), "{out}");
}

#[test]
#[ignore = "runs in the virtual machine"]
fn the_limits_are_what_the_kernel_was_told() {
    let host = Host::new();
    let mut running = host.spawn([
        "step03",
        "run",
        "-m",
        "64m",
        "--cpus",
        "0.5",
        "--pids-limit",
        "32",
        "sh",
        "-c",
        "echo up; exec sleep 1000",
    ]);
    running.expect("up");
    let place = cgroup(&host, &running);
    assert_eq!(value(&place, "memory.max"), "67108864");
    if place.join("memory.swap.max").exists() {
        assert_eq!(
            value(&place, "memory.swap.max"),
            "0",
            "memory without swap means no swap"
        );
    }
    assert_eq!(value(&place, "cpu.max"), "50000 100000");
    assert_eq!(value(&place, "pids.max"), "32");
}

#[test]
#[ignore = "runs in the virtual machine"]
fn a_fork_bomb_stops_at_its_limit_and_the_machine_goes_on() {
    let host = Host::new();
    let before = host.snapshot();
    let bomb = "echo up; bomb() { bomb | bomb & }; bomb; read line";
    let mut running = host.spawn_fed(
        User::Root,
        ["step03", "run", "--pids-limit", "32", "sh", "-c", bomb],
    );
    running.expect("up");
    let place = cgroup(&host, &running);
    let end = Instant::now() + Duration::from_secs(3);
    let mut most = 0;
    while Instant::now() < end {
        let now: u32 = value(&place, "pids.current").parse().unwrap();
        assert!(now <= 32, "{now} processes");
        most = most.max(now);
        assert_eq!(host.run(["echo", "alive"]).ok(), "alive");
    }
    assert!(most > 2, "the bomb went off");
    running.signal(Signal::SIGTERM);
    // Its standard input must stay open until then, or it ends by itself.
    wait_for("the end", 60, || (!running.is_running()).then_some(()));
    assert_eq!(running.wait().code(), 143);
    assert_same(&before, || host.snapshot());
}

#[test]
#[ignore = "runs in the virtual machine"]
fn half_a_processor_is_half_within_a_tenth_over_five_seconds_of_work() {
    let host = Host::new();
    let mut running = host.spawn([
        "step03",
        "run",
        "--cpus",
        "0.5",
        "sh",
        "-c",
        "echo up; while :; do :; done",
    ]);
    running.expect("up");
    let place = cgroup(&host, &running);
    let (start, first) = (Instant::now(), used(&place));
    let (seconds, work) = wait_for("five seconds of work", 60, || {
        let work = used(&place) - first;
        (work >= 5_000_000).then(|| (start.elapsed().as_secs_f64(), work))
    });
    let share = f64::from(u32::try_from(work).unwrap()) / 1e6 / seconds;
    assert!(
        (0.45..=0.55).contains(&share),
        "{work} us in {seconds} s: {share}"
    );
}

/// A shell that may not fork, and tries to.
fn one_process() -> Vec<&'static str> {
    shell("step03 run --pids-limit 1", "(:); true & wait; echo forked")
}

#[track_caller]
fn check_it_cannot_fork(out: &Output) {
    assert!(
        !out.text().contains("forked") || out.errors().contains("fork"),
        "{out}"
    );
}

#[test]
#[ignore = "runs in the virtual machine"]
fn rule_06_limits_are_in_force_before_the_commands_first_instruction() {
    let host = Host::new();
    // A shell that may not fork must fail at its first attempt, each time.
    for _ in 0..10 {
        check_it_cannot_fork(&host.run(one_process()));
    }
    let argv =
        "strace -f -qq -y -s 400 -o /tmp/trace step03 run -m 64m --cpus 0.5 --pids-limit 32 uname";
    host.shell(argv);
    let trace = host.shell("cat /tmp/trace");
    let place = |what: &str| trace.lines().position(|line| line.contains(what));
    let command = place("[\"uname\"]");
    let command = command.expect("the command is executed");
    for file in ["memory.max>", "cpu.max>", "pids.max>"] {
        let written = place(file).unwrap_or_else(|| panic!("{file} is written:\n{trace}"));
        assert!(written < command, "{file} is written after the exec");
    }
    let joined = place("CLONE_INTO_CGROUP").or_else(|| place("cgroup.procs>"));
    assert!(joined.expect("the command joins its cgroup") < command);
}

#[test]
#[ignore = "runs in the virtual machine"]
fn a_delegated_tree_gives_student_limits() {
    let host = Host::with(Setup {
        delegated: true,
        ..Setup::default()
    });
    let before = host.snapshot();
    let argv = ["step03", "run", "-m", "64m"]
        .iter()
        .chain(&HOG)
        .chain(&["count=1"]);
    let error = host.run_as_student(argv).exits(137);
    assert!(error.contains("memory"), "{error}");
    check_it_cannot_fork(&host.run_as_student(one_process()));
    assert_same(&before, || host.snapshot());
}

#[test]
#[ignore = "runs in the virtual machine"]
fn without_a_delegated_tree_student_is_told_so() {
    let host = Host::new();
    let error = host
        .run_as_student(["step03", "run", "-m", "64m", "true"])
        .exits(125);
    assert!(
        error.contains("cgroup") || error.contains("memory"),
        "{error}"
    );
}

#[test]
#[ignore = "runs in the virtual machine"]
fn where_the_root_holds_processes_the_error_says_so_or_it_works() {
    let host = Host::new();
    host.shell("echo 1 >/sys/fs/cgroup/cgroup.procs");
    let out = host.run(["step03", "run", "-m", "64m", "true"]);
    if out.code() != 0 {
        let error = out.exits(125);
        assert!(
            error.contains("process"),
            "the reason is the kernel's rule: {error}"
        );
    }
}

#[test]
#[ignore = "runs in the virtual machine"]
fn later_steps_hold_the_same_limits() {
    let host = Host::online();
    for run in [&["step04", "run"][..], &["step05", "run", "host"]] {
        let (program, rest) = run.split_at(2);
        let argv = program
            .iter()
            .chain(&["-m", "64m"])
            .chain(rest)
            .chain(&HOG)
            .chain(&["count=1"]);
        let out = host.run(argv);
        assert!(out.exits(137).contains("memory"), "{out}");
    }
}

#[test]
#[ignore = "runs in the virtual machine"]
fn a_cgroup_write_that_fails_is_an_error_of_one_sentence_and_leaves_nothing() {
    let host = Host::new();
    let argv = [
        "step04",
        "run",
        "-m",
        "64m",
        "--cpus",
        "0.5",
        "--pids-limit",
        "32",
        "true",
    ];
    // The first of all runs enables controllers, which then stay.
    host.run(argv).ok();
    let mut trace = vec![
        "strace",
        "-qq",
        "-y",
        "-e",
        "trace=write,pwrite64",
        "-o",
        "/tmp/trace",
    ];
    trace.extend(argv);
    host.run(trace).ok();
    let writes = host.shell("cat /tmp/trace; rm /tmp/trace");
    let before = host.snapshot();
    let wanted = writes
        .lines()
        .filter(|line| line.starts_with("write("))
        .zip(1..)
        .filter(|(line, _)| line.contains("/sys/fs/cgroup/"))
        .map(|(line, n)| (line.to_owned(), n));
    for (line, n) in wanted {
        let inject = format!("inject=write:error=EACCES:when={n}");
        let mut faulty = vec![
            "strace",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "trace=write",
            "-e",
            &inject,
        ];
        faulty.extend(argv);
        let out = host.run(faulty);
        if line.contains("cgroup.kill") {
            // Whoever is left there ends with the pid namespace all the same.
            assert_eq!(out.code(), 0, "{line}: {out}");
            assert_same(&before, || host.snapshot());
            continue;
        }
        assert_eq!(out.code(), 125, "{line}: {out}");
        let error = out.errors();
        assert!(
            error.contains("step04: ") && error.contains("/sys/fs/cgroup"),
            "{line}: {out}"
        );
        assert_same(&before, || host.snapshot());
    }
}
