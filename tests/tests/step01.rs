//! Step 1: a process with namespaces of its own, on the host's files.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use harness::{Host, Setup, User, assert_same, wait_for};
use nix::sys::signal::Signal;

const KINDS: [&str; 6] = ["cgroup", "ipc", "mnt", "net", "pid", "uts"];
const BOTH: [User; 2] = [User::Root, User::Student];

fn namespaces(pid: i32) -> BTreeSet<(String, String)> {
    KINDS
        .iter()
        .map(|kind| {
            let link =
                fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("a process that lives");
            ((*kind).to_owned(), link.display().to_string())
        })
        .collect()
}

/// The process whose name is `name`, of those on the host.
fn find(host: &Host, name: &str) -> i32 {
    let here = fs::read_link(format!("/proc/{}/ns/mnt", host.pid())).expect("the host lives");
    wait_for(&format!("the process {name}"), 60, || {
        fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .find_map(|entry| {
                let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
                let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
                let ours = words.split(|b| *b == 0).any(|word| word == name.as_bytes());
                let is_command = words.starts_with(b"sleep\0");
                let inside = fs::read_link(format!("/proc/{pid}/ns/mnt")).ok()? != here;
                (ours && is_command && inside).then_some(pid)
            })
    })
}

#[test]
fn the_command_has_six_namespaces_of_its_own() {
    let host = Host::new();
    for (user, time) in [(User::Root, "1010101"), (User::Student, "1010102")] {
        let running = host.spawn_as(user, ["step01", "run", "--", "sleep", time]);
        let inside = namespaces(find(&host, time));
        let outside = namespaces(host.pid());
        for (mine, theirs) in inside.iter().zip(&outside) {
            assert_ne!(mine, theirs, "{user:?}: the namespace is the host's");
        }
        drop(running);
    }
}

#[test]
fn without_root_the_user_namespace_is_new_and_with_root_it_is_the_hosts() {
    let host = Host::new();
    let user_namespace = |user| {
        host.run_as(
            user,
            ["step01", "run", "readlink", "/proc/thread-self/ns/user"],
        )
        .ok()
    };
    let hosts = host.shell("readlink /proc/self/ns/user");
    // On the host's /proc, of another pid namespace, "self" does not resolve:
    // so the step has a /proc of its own, or this fails.
    assert_eq!(user_namespace(User::Root), hosts);
    assert_ne!(user_namespace(User::Student), hosts);
}

#[test]
fn the_command_is_process_one() {
    let host = Host::new();
    for user in BOTH {
        let pid = host.run_as(user, ["step01", "run", "--", "sh", "-c", "echo $$"]);
        assert_eq!(pid.ok(), "1", "{user:?}");
    }
}

#[test]
fn with_init_a_small_one_is_process_one_and_reaps_orphans() {
    let host = Host::new();
    for user in BOTH {
        let script = "echo $$; (sh -c 'sleep 0.1 & exit' &) ; sleep 0.5
            while grep -qs ') Z ' /proc/[0-9]*/stat; do sleep 0.1; done";
        let out = host.run_as(user, ["step01", "run", "--init", "sh", "-c", script]);
        assert_ne!(out.ok(), "1", "{user:?}: the command is not the init");
    }
}

#[test]
fn the_hostname_is_the_one_given_and_the_hosts_stays() {
    let host = Host::new();
    for user in BOTH {
        let out = host.run_as(
            user,
            ["step01", "run", "--hostname", "box", "--", "hostname"],
        );
        assert_eq!(out.ok(), "box");
        assert_eq!(host.run(["hostname"]).ok(), "laptop");
    }
}

#[test]
fn the_default_hostname_is_twelve_hex_digits_of_chance() {
    let host = Host::new();
    let names: Vec<String> = (0..2)
        .map(|_| host.run(["step01", "run", "hostname"]).ok())
        .collect();
    for name in &names {
        assert_eq!(name.len(), 12, "{name}");
        assert!(
            name.chars()
                .all(|c| c.is_ascii_hexdigit() && !c.is_ascii_uppercase()),
            "{name}"
        );
    }
    assert_ne!(names[0], names[1]);
}

#[test]
fn the_container_may_name_itself_without_the_host_noticing() {
    let host = Host::new();
    for user in BOTH {
        let out = host.run_as(
            user,
            ["step01", "run", "sh", "-c", "hostname other && hostname"],
        );
        assert_eq!(out.ok(), "other");
        assert_eq!(host.run(["hostname"]).ok(), "laptop");
    }
}

#[test]
fn the_command_is_root_inside_whoever_runs_it() {
    let host = Host::new();
    for user in BOTH {
        assert_eq!(host.run_as(user, ["step01", "run", "id", "-u"]).ok(), "0");
        assert_eq!(host.run_as(user, ["step01", "run", "id", "-g"]).ok(), "0");
    }
}

#[test]
fn student_maps_the_subordinate_ids_and_only_their_own_without_any() {
    let host = Host::new();
    let map = host
        .run_as_student(["step01", "run", "cat", "/proc/self/uid_map"])
        .ok();
    let rows: Vec<Vec<u64>> = map
        .lines()
        .map(|row| row.split_whitespace().map(|n| n.parse().unwrap()).collect())
        .collect();
    assert_eq!(rows, [[0, 1000, 1], [1, 100_000, 65536]]);
    let host = Host::with(Setup {
        no_subids: true,
        ..Setup::default()
    });
    let out = host
        .run_as_student(["step01", "run", "cat", "/proc/self/uid_map"])
        .ok();
    let row: Vec<&str> = out.split_whitespace().collect();
    assert_eq!(row, ["0", "1000", "1"]);
}

#[test]
fn loopback_is_the_only_interface() {
    let host = Host::online();
    for user in BOTH {
        let out = host
            .run_as(user, ["step01", "run", "ip", "-o", "link"])
            .ok();
        let names: Vec<&str> = out
            .lines()
            .filter_map(|line| line.split(": ").nth(1))
            .collect();
        assert_eq!(names, ["lo"], "{user:?}");
    }
}

#[test]
fn the_exit_status_is_the_commands() {
    let host = Host::new();
    for user in BOTH {
        for code in [0, 1, 7, 42, 255] {
            let out = host.run_as(
                user,
                ["step01", "run", "--", "sh", "-c", &format!("exit {code}")],
            );
            assert_eq!(out.code(), code, "{user:?} {out}");
        }
    }
}

#[test]
fn a_command_killed_by_a_signal_ends_with_128_and_the_signal() {
    let host = Host::new();
    for user in BOTH {
        for (signal, code) in [("KILL", 137), ("TERM", 143), ("SEGV", 139)] {
            // A child of pid 1, so that the signal is not ignored.
            let script = format!("sh -c 'kill -{signal} $$'; exit $?");
            let out = host.run_as(user, ["step01", "run", "sh", "-c", &script]);
            assert_eq!(out.code(), code, "{user:?} {out}");
            let script = format!("kill -{signal} $$");
            let out = host.run_as(user, ["step01", "run", "--init", "sh", "-c", &script]);
            assert_eq!(out.code(), code, "{user:?} {out}");
        }
    }
}

#[test]
fn arguments_arrive_byte_for_byte() {
    let host = Host::new();
    let odd: Vec<&OsStr> = [
        &b""[..],
        b" two  words ",
        b"new\nline",
        b"'\"\\$HOME`*?~",
        b"--help",
        b"-",
        b"--",
        b"\xff\xfe not UTF-8 \x80",
        "köln 東京".as_bytes(),
    ]
    .into_iter()
    .map(OsStr::from_bytes)
    .collect();
    for user in BOTH {
        let mut argv: Vec<&OsStr> = ["step01", "run", "--", "printf", "%s\\n<>"]
            .iter()
            .map(OsStr::new)
            .collect();
        argv.extend(&odd);
        let out = host.run_as(user, argv);
        out.ok();
        let mut expected = Vec::new();
        for word in &odd {
            expected.extend_from_slice(word.as_bytes());
            expected.extend_from_slice(b"\n<>");
        }
        assert_eq!(out.stdout, expected, "{user:?}: {out}");
    }
}

#[test]
fn options_end_at_the_command() {
    let host = Host::new();
    let out = host.run([
        "step01",
        "run",
        "echo",
        "--hostname",
        "x",
        "--explain",
        "-h",
    ]);
    assert_eq!(out.ok(), "--hostname x --explain -h");
}

#[test]
fn standard_input_output_and_error_are_the_callers() {
    let host = Host::new();
    for user in BOTH {
        let mut running =
            host.spawn_fed(user, ["step01", "run", "sh", "-c", "cat; echo problem >&2"]);
        running.write(b"through\0the\xffpipe");
        running.close_stdin();
        let out = running.wait();
        assert_eq!(out.stdout, b"through\0the\xffpipe", "{out}");
        assert_eq!(out.exits(0), "problem");
    }
}

#[test]
fn the_environment_is_small_and_says_where_one_is() {
    let host = Host::new();
    for user in BOTH {
        let out = host.run_as(
            user,
            [
                "env",
                "SECRET=1",
                "step01",
                "run",
                "--hostname",
                "box",
                "env",
            ],
        );
        let out = out.ok();
        let names: BTreeSet<&str> = out
            .lines()
            .filter_map(|line| line.split('=').next())
            .collect();
        for name in ["PATH", "HOME", "HOSTNAME"] {
            assert!(names.contains(name), "{user:?}: no {name} in\n{out}");
        }
        assert!(
            !names.contains("SECRET"),
            "{user:?}: the caller's environment came along"
        );
        assert!(out.lines().any(|line| line == "HOSTNAME=box"), "{out}");
        assert!(out.lines().any(|line| line == "HOME=/root"), "{out}");
    }
}

#[test]
fn on_a_terminal_the_environment_names_its_kind() {
    let host = Host::new();
    let mut terminal = host.terminal(User::Student, ["step01", "run", "env"]);
    terminal.expect("TERM=xterm");
    assert_eq!(terminal.wait(), 0);
}

#[test]
fn a_command_that_is_not_there_is_127_and_one_that_cannot_run_126() {
    let host = Host::new();
    for user in BOTH {
        for (command, code) in [
            ("no-such-command", 127),
            ("/no/such", 127),
            ("/etc/passwd", 126),
            ("/etc", 126),
        ] {
            let out = host.run_as(user, ["step01", "run", "--", command]);
            let error = out.exits(code);
            assert!(error.starts_with("step01: "), "{error}");
            assert!(
                error.contains(command),
                "the sentence names the command: {error}"
            );
            assert_eq!(error.lines().count(), 1, "one sentence: {error}");
        }
    }
}

#[test]
fn a_wrong_command_line_is_2_and_help_is_0() {
    let host = Host::new();
    for argv in [
        &["step01"][..],
        &["step01", "run"],
        &["step01", "run", "--no-such-option", "true"],
        &["step01", "frobnicate"],
        &["step01", "run", "--hostname"],
    ] {
        assert_eq!(host.run(argv).code(), 2, "{argv:?}");
    }
    for argv in [
        &["step01", "--help"][..],
        &["step01", "run", "--help"],
        &["step01", "--version"],
    ] {
        assert!(
            host.run(argv).ok().contains("step01") || argv[1] == "run",
            "{argv:?}"
        );
    }
}

#[test]
fn a_hostname_that_the_kernel_refuses_is_an_error_of_one_sentence() {
    let host = Host::new();
    let long = "x".repeat(65);
    let out = host.run(["step01", "run", "--hostname", &long, "true"]);
    let code = out.code();
    assert!(code == 125 || code == 2, "{out}");
    assert!(
        out.errors().contains("hostname") || out.errors().contains("name"),
        "{out}"
    );
}

#[test]
fn a_signal_to_the_waiting_parent_reaches_the_command() {
    let host = Host::new();
    for user in BOTH {
        for signal in [
            Signal::SIGTERM,
            Signal::SIGINT,
            Signal::SIGHUP,
            Signal::SIGUSR1,
            Signal::SIGQUIT,
        ] {
            let name = signal.as_str().trim_start_matches("SIG");
            let script = format!(
                "trap 'echo got; exit 33' {name}; echo ready; while :; do sleep 0.02; done"
            );
            let mut running = host.spawn_as(user, ["step01", "run", "sh", "-c", &script]);
            running.expect("ready");
            running.signal(signal);
            let out = running.wait();
            assert_eq!(out.code(), 33, "{user:?} {signal}: {out}");
            assert!(out.text().contains("got"));
        }
    }
}

#[test]
fn a_signal_that_process_one_would_ignore_ends_the_container_all_the_same() {
    let host = Host::new();
    for user in BOTH {
        for init in [&["step01", "run"][..], &["step01", "run", "--init"]] {
            for (signal, code) in [
                (Signal::SIGINT, 130),
                (Signal::SIGTERM, 143),
                (Signal::SIGHUP, 129),
            ] {
                let argv = init
                    .iter()
                    .copied()
                    .chain(["sh", "-c", "echo up; exec sleep 600"]);
                let mut running = host.spawn_as(user, argv);
                running.expect("up");
                running.runs("sleep");
                running.signal(signal);
                assert_eq!(running.wait().code(), code, "{user:?} {init:?} {signal}");
            }
        }
    }
}

#[test]
fn the_end_of_process_one_is_the_end_of_every_process() {
    let host = Host::new();
    let before = host.snapshot();
    for user in BOTH {
        let script = "sleep 600 & setsid sleep 600 & (sleep 600 &) ; exit 3";
        assert_eq!(
            host.run_as(user, ["step01", "run", "sh", "-c", script])
                .code(),
            3
        );
    }
    assert_same(&before, || host.snapshot());
}

#[test]
fn the_host_is_as_it_was_afterwards() {
    let host = Host::online();
    let before = host.snapshot();
    for user in BOTH {
        for argv in [
            &["true"][..],
            &["false"],
            &["no-such-command"],
            &["sh", "-c", "kill -9 $$"],
        ] {
            host.run_as(user, ["step01", "run"].iter().chain(argv));
        }
    }
    assert_same(&before, || host.snapshot());
}

#[test]
fn a_mount_inside_is_not_seen_outside() {
    let host = Host::new();
    // mount(8) makes it for notes of its own.
    host.shell("mkdir /run/mount");
    let before = host.snapshot();
    for user in BOTH {
        let script = "mount -t tmpfs none /mnt && touch /mnt/inside && ls /mnt";
        assert_eq!(
            host.run_as(user, ["step01", "run", "sh", "-c", script])
                .ok(),
            "inside"
        );
        assert_same(&before, || host.snapshot());
    }
}

#[test]
fn an_interactive_shell_has_job_control_and_ctrl_c_spares_it() {
    let host = Host::new();
    for user in BOTH {
        let mut terminal = host.terminal(user, ["step01", "run", "--", "sh"]);
        terminal.expect("# ");
        terminal.send("tty; echo $-\n");
        let seen = terminal.expect("m");
        assert!(!seen.contains("not a tty"), "{seen}");
        terminal.expect("# ");
        terminal.send("sleep 1000\n");
        terminal.expect("sleep 1000");
        terminal.runs("sleep");
        terminal.send("\x03");
        terminal.expect("# ");
        terminal.send("sleep 1001 & jobs\n");
        terminal.expect("Running");
        terminal.send("kill %1; exit 5\n");
        assert_eq!(terminal.wait(), 5, "{user:?}");
    }
}

#[test]
fn ctrl_c_ends_a_plain_command_with_130_and_the_terminal_is_as_it_was() {
    let host = Host::new();
    for user in BOTH {
        // A script that survives the interrupt, as an interactive shell does.
        let script = "trap : INT; stty -a >/tmp/before; \
            step01 run -- sh -c 'echo up; exec sleep 1000'; \
            echo status $?; stty -a >/tmp/after; cmp /tmp/before /tmp/after";
        let mut terminal = host.terminal(user, ["sh", "-c", script]);
        terminal.expect("up");
        terminal.runs("sleep");
        terminal.send("\x03");
        terminal.expect("status 130");
        assert_eq!(
            terminal.wait(),
            0,
            "{user:?}: the terminal's settings changed"
        );
        host.shell("rm -f /tmp/before /tmp/after");
    }
}

#[test]
fn a_resized_window_is_seen_inside() {
    let host = Host::new();
    for user in BOTH {
        let script = "trap 'stty size' WINCH; stty size; while :; do sleep 0.05; done";
        let mut terminal = host.terminal(user, ["step01", "run", "sh", "-c", script]);
        terminal.expect("24 80");
        terminal.resize(40, 100);
        terminal.expect("40 100");
    }
}

#[test]
fn output_through_a_terminal_arrives_whole() {
    let host = Host::new();
    for user in BOTH {
        let mut terminal = host.terminal(
            user,
            ["step01", "run", "sh", "-c", "seq 1 20000; echo the-end"],
        );
        terminal.expect("\n20000");
        terminal.expect("the-end");
        assert_eq!(terminal.wait(), 0);
    }
}

#[test]
fn twenty_at_once_do_not_disturb_each_other() {
    let host = Host::new();
    let before = host.snapshot();
    let running: Vec<_> = (0..20)
        .map(|n| {
            host.spawn([
                "step01",
                "run",
                "--hostname",
                &format!("box{n}"),
                "hostname",
            ])
        })
        .collect();
    for (n, one) in running.into_iter().enumerate() {
        assert_eq!(one.wait().ok(), format!("box{n}"));
    }
    assert_same(&before, || host.snapshot());
}
