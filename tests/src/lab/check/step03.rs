//! Step 3: so much and no more.

use nix::sys::signal::Signal;

use super::program::{Running, have_ended, proc, words};
use super::trial::moment;
use super::{Check, Found, Need, Step, Trial, ensure, failed, same};

/// For checks of what the kernel does when a limit is reached.
const LIMITS: &[Need] = &[Need::Controllers];

pub const STEP: Step = Step {
    number: 3,
    checks: &[
        Check {
            id: "memory-notation",
            task: Some("03.1"),
            points: 12,
            title: "-m reads docker's notation: 17m, 1.5g, 40000k",
            hint: "each unit is 1024 times the last; a fraction is exact, not a float",
            needs: LIMITS,
            run: memory_notation,
        },
        Check {
            id: "controllers",
            task: Some("03.2"),
            points: 12,
            title: "its cgroup has the controllers that limits need",
            hint: "cgroups(7), cgroup.subtree_control: each level hands them on to the next",
            needs: LIMITS,
            run: controllers,
        },
        Check {
            id: "limits",
            task: Some("03.3"),
            points: 16,
            title: "each limit stands in its cgroup, and swap is none",
            hint: "memory.max, memory.swap.max, cpu.max, pids.max; read them from outside",
            needs: LIMITS,
            run: limits,
        },
        Check {
            id: "out-of-memory",
            task: Some("03.4"),
            points: 12,
            title: "who needs more memory is killed, and told why",
            hint: "memory.events counts whom the kernel killed in this cgroup",
            needs: LIMITS,
            run: out_of_memory,
        },
        Check {
            id: "cgroup-removed",
            task: Some("03.5"),
            points: 12,
            title: "the cgroup goes, with whoever is still in it",
            hint: "rmdir(2) of a cgroup fails while a process lives in it: cgroup.kill",
            needs: LIMITS,
            run: cgroup_removed,
        },
        Check {
            id: "first-instruction",
            task: None,
            points: 10,
            title: "no process of it is ever outside of its limits",
            hint: "a process that joins after exec may have forked already: join before",
            needs: LIMITS,
            run: first_instruction,
        },
        Check {
            id: "cgroup-root",
            task: None,
            points: 8,
            title: "the container sees its own cgroup as /",
            hint: "cgroup_namespaces(7): the root is the cgroup one is in when it is made",
            needs: LIMITS,
            run: cgroup_root,
        },
        Check {
            id: "cpu",
            task: None,
            points: 6,
            title: "--cpus holds a busy command back",
            hint: "cpu.max: microseconds to run in each period, and the period",
            needs: LIMITS,
            run: cpu,
        },
        Check {
            id: "limits-after-kill",
            task: None,
            points: 6,
            title: "nothing outlives kill -9 and the next run",
            hint: "who makes a cgroup holds a lock on it; a lock without an owner is free",
            needs: LIMITS,
            run: after_kill,
        },
        Check {
            id: "limit-refused",
            task: None,
            points: 6,
            title: "a limit that cannot be enforced is refused",
            hint: "without a cgroup2 tree there is nothing to write a limit to: say so, 125",
            needs: &[],
            run: limit_refused,
        },
    ],
};

/// A container that sleeps under these limits, and its cgroup as the machine sees it.
fn limited(t: &Trial, options: &[&str]) -> Found<(Running, String)> {
    let (running, pid) = t.container(options).asleep()?;
    Ok((running, own_cgroup(t, pid)?))
}

/// The cgroup of a process, which must not be the one that everybody is in.
fn own_cgroup(t: &Trial, pid: i32) -> Found<String> {
    // Its number in each pid namespace, from ours on down: the machine's is the second.
    let status = std::fs::read_to_string(proc(pid, "status")).unwrap_or_default();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let Some(there) = numbers.and_then(|numbers| numbers.split_whitespace().nth(1)) else {
        return failed("a command that runs on", "it ended");
    };
    let script = format!("sed -n 's/^0:://p' /proc/{there}/cgroup /proc/1/cgroup");
    let both = t.machine(&script)?;
    match both.split_once('\n') {
        Some((own, machines)) if own != machines => Ok(own.to_owned()),
        _ => failed(
            "a cgroup of the container's own",
            format!("it is in {both}"),
        ),
    }
}

fn read(t: &Trial, cgroup: &str, file: &str) -> Found<String> {
    t.machine(&format!("cat /sys/fs/cgroup{cgroup}/{file}"))
}

/// The notation as a person writes it, and the kernel's number.
fn memory_notation(t: &Trial) -> Found {
    let n = t.number(17..120);
    let cases = [
        (format!("{n}m"), n << 20),
        (format!("{n}M"), n << 20),
        ("1.5g".to_owned(), 3 << 29),
        (format!("{}k", n * 1000), (n * 1000) << 10),
        (format!("{}", n << 20), n << 20),
    ];
    for (text, bytes) in cases {
        let (_running, cgroup) = limited(t, &["-m", &text])?;
        let page = 4096;
        let expected = (bytes / page * page).to_string();
        same(
            &format!("memory.max for -m {text}"),
            &expected,
            &read(t, &cgroup, "memory.max")?,
        )?;
    }
    for nonsense in ["12parsecs", "-5m", "m", "1e9", "99999999999g"] {
        let run = t.run(&[&format!("--memory={nonsense}")], &["true"])?;
        ensure(
            [2, 125].contains(&run.code()),
            format!("exit status 125 or 2 for --memory={nonsense}"),
            run.told(),
        )?;
    }
    Ok(())
}

fn controllers(t: &Trial) -> Found {
    let (_running, cgroup) = limited(t, &["-m", "64m", "--cpus", "0.5", "--pids-limit", "50"])?;
    let there = read(t, &cgroup, "cgroup.controllers")?;
    for wanted in ["memory", "cpu", "pids"] {
        ensure(
            there.split_whitespace().any(|one| one == wanted),
            format!("{wanted} in the cgroup.controllers of the container's cgroup"),
            there.clone(),
        )?;
    }
    Ok(())
}

fn limits(t: &Trial) -> Found {
    let (megabytes, percent, pids) = (t.number(20..200), t.number(11..90), t.number(20..200));
    let (memory, cpus) = (format!("{megabytes}m"), format!("0.{percent}"));
    let pids = pids.to_string();
    let (_running, cgroup) = limited(
        t,
        &["--memory", &memory, "--cpus", &cpus, "--pids-limit", &pids],
    )?;
    same(
        "memory.max",
        &(megabytes << 20).to_string(),
        &read(t, &cgroup, "memory.max")?,
    )?;
    same("pids.max", &pids, &read(t, &cgroup, "pids.max")?)?;
    let share = read(t, &cgroup, "cpu.max")?;
    let numbers: Vec<u64> = share.split(' ').filter_map(|n| n.parse().ok()).collect();
    ensure(
        matches!(numbers[..], [quota, period] if quota * 100 == period * percent),
        format!("cpu.max: {percent} of each 100 microseconds"),
        share.clone(),
    )?;
    // A kernel that counts no swap has no such file.
    let swap = t.machine(&format!(
        "cat /sys/fs/cgroup{cgroup}/memory.swap.max 2>/dev/null || echo 0"
    ))?;
    same("memory.swap.max", "0", &swap)
}

fn out_of_memory(t: &Trial) -> Found {
    // tail keeps a line until it ends, and this one never does.
    let run = t.run(&["-m", "24m"], &["tail", "/dev/zero"])?;
    run.exits(137)?;
    ensure(
        run.errors().to_lowercase().contains("out of memory"),
        "on standard error: out of memory",
        run.told(),
    )?;
    // Not every end by SIGKILL is one for want of memory.
    let run = t.shell(&["-m", "64m"], "sleep 60 & kill -9 $!; wait $!")?;
    run.exits(137)?;
    ensure(
        !run.errors().to_lowercase().contains("out of memory"),
        "no word of memory where a process was killed by another",
        run.told(),
    )
}

fn cgroup_removed(t: &Trial) -> Found {
    let before = t.snapshot();
    t.shell(&["-m", "64m"], "sleep 1000 & sleep 1000 &")?
        .succeeds()?;
    t.unchanged(&before)?;
    let (running, cgroup) = limited(t, &["-m", "64m"])?;
    // A container as another engine's: cgroups of its own, below.
    t.machine(&format!("mkdir -p /sys/fs/cgroup{cgroup}/inner/most"))?;
    running.signal(Signal::SIGTERM)?;
    running.wait()?;
    t.unchanged(&before)
}

fn first_instruction(t: &Trial) -> Found {
    let limit = t.number(6..12);
    let seconds = t.number(3_000_000..9_000_000);
    let script = format!(
        "(for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do sleep {seconds} & done) 2>/dev/null; wait"
    );
    let limit_text = limit.to_string();
    let mut run = t.container(&["--pids-limit", &limit_text]).start(&[
        "sh",
        "-c",
        &format!("sleep {seconds} & echo begun; {script}"),
    ])?;
    run.until("begun")?;
    moment(300);
    let seconds = seconds.to_string().into_bytes();
    let sleepers = run.processes(t.first()).into_iter();
    let mut cgroups = sleepers
        .filter(|pid| words(*pid).get(1) == Some(&seconds))
        .map(|pid| own_cgroup(t, pid))
        .collect::<Found<Vec<String>>>()?;
    let count = cgroups.len() as u64;
    ensure(
        (1..limit).contains(&count),
        format!("at most {} of 16 processes beside the shell", limit - 1),
        format!("{count} of them"),
    )?;
    cgroups.dedup();
    ensure(
        cgroups.len() == 1,
        "one cgroup for all of them",
        cgroups.join(" "),
    )
}

fn cgroup_root(t: &Trial) -> Found {
    limited(t, &["--pids-limit", "50"])?;
    let run = t.run(&["--pids-limit", "50"], &["cat", "/proc/self/cgroup"])?;
    run.succeeds()?;
    let text = run.text();
    let own = text.lines().find_map(|line| line.strip_prefix("0::"));
    same("in /proc/self/cgroup, after 0::", "/", own.unwrap_or(&text))
}

fn cpu(t: &Trial) -> Found {
    let script = "echo busy; while :; do :; done";
    let mut running = t
        .container(&["--cpus", "0.1"])
        .start(&["sh", "-c", script])?;
    running.until("busy")?;
    let busy = running.processes(t.first());
    let Some(busy) = busy.last() else {
        return failed("a command that runs on", "it ended");
    };
    let cgroup = own_cgroup(t, *busy)?;
    moment(600);
    let stat = read(t, &cgroup, "cpu.stat")?;
    let throttled = stat
        .lines()
        .find_map(|line| line.strip_prefix("nr_throttled "));
    ensure(
        throttled.is_some_and(|times| times != "0"),
        "a busy loop that was held back: nr_throttled in cpu.stat",
        stat,
    )
}

fn after_kill(t: &Trial) -> Found {
    let before = t.snapshot();
    let (running, pid) = t.container(&["-m", "64m"]).asleep()?;
    let cgroup = own_cgroup(t, pid)?;
    running.signal(Signal::SIGKILL)?;
    let _ = running.wait()?;
    have_ended(&[pid]);
    let left = t.machine(&format!("cat /sys/fs/cgroup{cgroup}/cgroup.procs || true"))?;
    ensure(
        left.trim().is_empty(),
        "no process of a container whose engine is dead",
        format!("in its cgroup: {left}"),
    )?;
    t.run(&["-m", "64m"], &["true"])?.succeeds()?;
    t.unchanged(&before)
}

fn limit_refused(t: &Trial) -> Found {
    t.machine("umount -l /sys/fs/cgroup || true")?;
    t.run(&[], &["true"])?.succeeds()?;
    for option in [["-m", "64m"], ["--cpus", "0.5"], ["--pids-limit", "50"]] {
        let run = t.run(&option, &["true"])?;
        run.exits(125)?;
        ensure(
            run.errors().contains("cgroup"),
            format!("a sentence on why {} cannot be had: no cgroup2", option[0]),
            run.told(),
        )?;
    }
    Ok(())
}
