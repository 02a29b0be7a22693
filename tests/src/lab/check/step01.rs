//! Step 1: a process that sees a machine of its own.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::program::have_ended;
use super::trial::{ids_inside, moment, namespace, owner};
use super::{Check, Found, Step, Trial, ensure, failed, same};

pub const STEP: Step = Step {
    number: 1,
    checks: &[
        Check {
            id: "six-namespaces",
            task: Some("01.1"),
            points: 12,
            title: "six namespaces are the container's own",
            hint: "namespaces(7) lists the kinds; compare /proc/PID/ns from outside",
            needs: &[],
            run: six_namespaces,
        },
        Check {
            id: "uid-map",
            task: Some("01.2"),
            points: 10,
            title: "an ordinary user is root inside, and only there",
            hint: "user_namespaces(7): who may write uid_map, and what must be written first?",
            needs: &[],
            run: uid_map,
        },
        Check {
            id: "mounts-private",
            task: Some("01.3"),
            points: 10,
            title: "a mount made inside appears nowhere outside",
            hint: "mount_namespaces(7): a copy of a shared mount still passes events on",
            needs: &[],
            run: mounts_private,
        },
        Check {
            id: "hostname",
            task: Some("01.4"),
            points: 8,
            title: "--hostname names the container, not the machine",
            hint: "sethostname(2) changes the name of the uts namespace that one is in",
            needs: &[],
            run: hostname,
        },
        Check {
            id: "hostname-default",
            task: None,
            points: 4,
            title: "without --hostname each container has its own name",
            hint: "the new uts namespace begins with a copy of the machine's name",
            needs: &[],
            run: hostname_default,
        },
        Check {
            id: "exit-status",
            task: Some("01.5"),
            points: 6,
            title: "the exit status is the command's own",
            hint: "wait(2): WIFEXITED and WEXITSTATUS",
            needs: &[],
            run: exit_status,
        },
        Check {
            id: "killed-status",
            task: Some("01.5"),
            points: 6,
            title: "a command killed by signal n ends with 128 + n",
            hint: "wait(2): a status says whether a process exited or was killed",
            needs: &[],
            run: killed_status,
        },
        Check {
            id: "not-found",
            task: None,
            points: 4,
            title: "a command that is not there is 127, and a sentence",
            hint: "execve(2) fails with ENOENT, in the child: how does the parent hear of it?",
            needs: &[],
            run: not_found,
        },
        Check {
            id: "cannot-execute",
            task: None,
            points: 4,
            title: "a file that cannot be executed is 126",
            hint: "execve(2) fails with EACCES for a directory and for a file without x",
            needs: &[],
            run: cannot_execute,
        },
        Check {
            id: "wrong-option",
            task: None,
            points: 4,
            title: "a wrong option is 125 or 2, and nothing is run",
            hint: "whatever stands before the command and begins with - must be known",
            needs: &[],
            run: wrong_option,
        },
        Check {
            id: "arguments",
            task: None,
            points: 6,
            title: "arguments arrive byte for byte",
            hint: "no shell in between: execve(2) takes an array of byte strings",
            needs: &[],
            run: arguments,
        },
        Check {
            id: "options-end",
            task: None,
            points: 4,
            title: "options end at the command",
            hint: "`run echo --hostname x` prints --hostname x",
            needs: &[],
            run: options_end,
        },
        Check {
            id: "streams",
            task: None,
            points: 5,
            title: "standard input, output and error are passed through",
            hint: "descriptors 0, 1 and 2 survive fork and execve; print nothing of your own",
            needs: &[],
            run: streams,
        },
        Check {
            id: "pid-1",
            task: None,
            points: 7,
            title: "the command is process 1",
            hint: "pid_namespaces(7): unshare moves children only; and a shell in between is 1 itself",
            needs: &[],
            run: pid_1,
        },
        Check {
            id: "signals",
            task: None,
            points: 5,
            title: "SIGTERM and SIGINT reach the command, or end it",
            hint: "pid 1 is spared a signal that it has no handler for: pid_namespaces(7)",
            needs: &[],
            run: signals,
        },
        Check {
            id: "kill-9",
            task: None,
            points: 3,
            title: "nothing survives kill -9 of the program",
            hint: "prctl(2): PR_SET_PDEATHSIG",
            needs: &[],
            run: kill_9,
        },
        Check {
            id: "afterwards-1",
            task: None,
            points: 2,
            title: "the machine is as before, however a command ended",
            hint: "compare /proc/mounts, ps and /tmp before and after",
            needs: &[],
            run: afterwards,
        },
    ],
};

/// From outside, where nothing inside can pretend.
fn six_namespaces(t: &Trial) -> Found {
    let (_running, pid) = t.container(&[]).asleep()?;
    for kind in ["mnt", "pid", "uts", "ipc", "net", "cgroup"] {
        let (inside, outside) = (namespace(pid, kind)?, namespace(t.first(), kind)?);
        ensure(
            inside != outside,
            format!("another {kind} namespace than the machine's {outside}"),
            format!("the command is in {inside} too"),
        )?;
    }
    Ok(())
}

/// Inside it is uid 0; outside it is whoever started it.
fn uid_map(t: &Trial) -> Found {
    let inside = t
        .container(&[])
        .as_student()
        .run(&["sh", "-c", "id -u; id -g"])?;
    inside.prints("0\n0")?;
    let (running, pid) = t.container(&[]).as_student().asleep()?;
    ensure(
        namespace(pid, "user")? != namespace(t.first(), "user")?,
        "a user namespace of its own, for an ordinary user",
        "the machine's",
    )?;
    let (inside, outside) = (owner(pid)?, owner(running.pid()?)?);
    same(
        "the command's uid as the machine sees it",
        &outside,
        &inside,
    )
}

/// On a machine whose mounts are shared, as systemd has them: neither what the
/// command mounts nor what was mounted for it may appear there.
fn mounts_private(t: &Trial) -> Found {
    let (source, file) = (t.word(), t.word());
    t.machine("mount --make-rshared /")?;
    let script = format!("mount -t tmpfs {source} /mnt && echo >/mnt/{file} && ls /mnt");
    t.shell(&[], &script)?.prints(&file)?;
    let before = t.machine("cat /proc/self/mountinfo")?;
    let (_running, _) = t.container(&[]).asleep()?;
    let mounts = t.machine("cat /proc/self/mountinfo")?;
    let leaked = mounts
        .lines()
        .find(|line| line.contains(&source) || !before.lines().any(|known| known == *line));
    ensure(
        leaked.is_none(),
        "no mount of the container in the machine's /proc/self/mountinfo",
        leaked.unwrap_or_default(),
    )
}

/// The name comes back, and the machine keeps its own, also when the container
/// renames itself.
fn hostname(t: &Trial) -> Found {
    let (name, other) = (t.word(), t.word());
    t.run(&["--hostname", &name], &["uname", "-n"])?
        .prints(&name)?;
    let script = format!("hostname {other} && uname -n");
    t.shell(&["--hostname", &name], &script)?.prints(&other)?;
    same(
        "the machine's own hostname",
        "laptop",
        &t.machine("uname -n")?,
    )
}

fn hostname_default(t: &Trial) -> Found {
    let first = t.run(&[], &["uname", "-n"])?.succeeds()?.text();
    let second = t.run(&[], &["uname", "-n"])?.succeeds()?.text();
    let own = first != second && first != "laptop" && !first.is_empty();
    ensure(
        own,
        "two names for two containers, and neither the machine's",
        format!("{first} and {second}; the machine is called laptop"),
    )
}

fn exit_status(t: &Trial) -> Found {
    for code in [0, t.number(3..60), t.number(60..120), t.number(160..255)] {
        let code = code as i32;
        t.shell(&[], &format!("exit {code}"))?.exits(code)?;
    }
    Ok(())
}

/// SIGKILL is the one signal that process 1 cannot be spared.
fn killed_status(t: &Trial) -> Found {
    let (running, pid) = t.container(&[]).asleep()?;
    kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
    running.wait()?.exits(137)?;
    let code = t.number(3..120) as i32;
    // And a status above 128 that is no signal stays what it is.
    let script = format!("sh -c 'kill -9 $$'; [ $? = 137 ] && exit {code}");
    t.shell(&[], &script)?.exits(code)?;
    Ok(())
}

fn not_found(t: &Trial) -> Found {
    for command in [t.word(), format!("/no/{}", t.word())] {
        let out = t.run(&[], &[&command])?;
        out.exits(127)?.explains()?;
    }
    Ok(())
}

fn cannot_execute(t: &Trial) -> Found {
    for command in ["/", "/proc/version"] {
        t.run(&[], &[command])?.exits(126)?.explains()?;
    }
    Ok(())
}

fn wrong_option(t: &Trial) -> Found {
    let (option, word) = (format!("--{}", t.word()), t.word());
    // Whoever refuses everything has not understood this option either.
    t.run(&[], &["echo", &word])?.prints(&word)?;
    let out = t.run(&[&option], &["echo", &word])?;
    let refused = [2, 125].contains(&out.code()) && !out.text().contains(&word);
    ensure(
        refused,
        "exit status 125 or 2, and no command run",
        out.told(),
    )?;
    out.explains()
}

fn arguments(t: &Trial) -> Found {
    let word = t.word();
    let odd: [&[u8]; 10] = [
        word.as_bytes(),
        b"",
        b" two  words ",
        b"new\nline",
        b"'\"\\$HOME`*?~;&|",
        b"--help",
        b"-",
        b"--",
        b"\xff\xfe not UTF-8 \x80",
        "k\u{f6}ln \u{6771}\u{4eac}".as_bytes(),
    ];
    let command = [&[&b"printf"[..], b"%s\\n<>"], &odd[..]].concat();
    let out = t.container(&[]).arguments(&command)?;
    let mut expected = Vec::new();
    for word in odd {
        expected.extend_from_slice(word);
        expected.extend_from_slice(b"\n<>");
    }
    ensure(
        out.succeeds()?.stdout == expected,
        format!("from printf: {}", expected.escape_ascii()),
        out.stdout.escape_ascii().to_string(),
    )
}

fn options_end(t: &Trial) -> Found {
    let word = t.word();
    t.run(&[], &["echo", "--hostname", &word, "-h"])?
        .prints(&format!("--hostname {word} -h"))?;
    Ok(())
}

fn streams(t: &Trial) -> Found {
    let (input, error) = (format!("{}\0\u{ff}{}\n", t.word(), t.word()), t.word());
    let out = t.container(&[]).fed(input.as_bytes()).run(&[
        "sh",
        "-c",
        &format!("cat; echo {error} >&2"),
    ])?;
    ensure(
        out.succeeds()?.stdout == input.as_bytes(),
        format!("on standard output, what was on standard input: {input:?}"),
        out.told(),
    )?;
    ensure(
        out.errors().contains(&error),
        format!("on standard error: {error}"),
        out.told(),
    )
}

/// As it sees itself, and as the kernel numbers it.
fn pid_1(t: &Trial) -> Found {
    t.shell(&[], "echo $$")?.prints("1")?;
    let (_running, pid) = t.container(&[]).asleep()?;
    let ids = ids_inside(pid)?;
    let innermost = ids.last().copied().unwrap_or_default();
    same(
        "NSpid, the last number, in /proc/PID/status",
        "1",
        &innermost.to_string(),
    )
}

/// One command has a handler; another has none, and ends all the same.
fn signals(t: &Trial) -> Found {
    for (signal, name) in [(Signal::SIGTERM, "TERM"), (Signal::SIGINT, "INT")] {
        let (ready, code) = (t.word(), t.number(3..120));
        let script =
            format!("trap 'exit {code}' {name}; echo {ready}; while :; do sleep 0.05; done");
        let mut running = t.container(&[]).start(&["sh", "-c", &script])?;
        running.until(&ready)?;
        running.signal(signal)?;
        running.wait()?.exits(code as i32)?;
    }
    let (running, _) = t.container(&[]).asleep()?;
    moment(50);
    running.signal(Signal::SIGTERM)?;
    let out = running.wait()?;
    ensure(
        out.code() != 0,
        "an end by SIGTERM, and an exit status that tells of it",
        out.told(),
    )
}

fn kill_9(t: &Trial) -> Found {
    // What a first container makes for all others is not what this is about.
    t.run(&[], &["true"])?;
    let before = t.snapshot();
    let (running, pid) = t.container(&[]).asleep()?;
    running.signal(Signal::SIGKILL)?;
    // That it was killed is nothing to complain of.
    running.wait().ok();
    if !have_ended(&[pid]) {
        return failed("no process of the container", "its command runs on");
    }
    // What could not be unmade then, the next container unmakes.
    t.run(&[], &["true"])?;
    t.unchanged(&before)
}

fn afterwards(t: &Trial) -> Found {
    // mount(8) makes it for notes of its own, and at this step it is the machine's.
    t.machine("mkdir -p /run/mount")?;
    t.run(&[], &["true"])?;
    t.container(&[]).as_student().run(&["true"])?;
    let before = t.snapshot();
    let code = t.number(3..120) as i32;
    t.run(&[], &["true"])?.exits(0)?;
    t.shell(&[], &format!("exit {code}"))?.exits(code)?;
    t.container(&[]).as_student().run(&["true"])?.exits(0)?;
    t.run(&[], &[&t.word()])?;
    t.shell(&[], "sleep 600 & (sleep 600 &) ; mount -t tmpfs none /mnt")?;
    let (running, _) = t.container(&[]).asleep()?;
    running.signal(Signal::SIGTERM)?;
    running.wait()?;
    t.unchanged(&before)
}
