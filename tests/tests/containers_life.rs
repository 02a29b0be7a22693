//! The life of a container, from `create` to `rm`: seen from inside, from outside, and afterwards.

use std::time::Duration;

use harness::engine::{Machine, Wanted, Who, for_each, shell};
use harness::{Host, wait_for};
use nix::sys::signal::Signal;

/// Says hello, waits, and says goodbye with status 3 when it is asked to end.
const POLITE: &str =
    "trap 'echo bye; exit 3' TERM; echo hello; while :; do sleep 1000 & wait $!; done";

#[track_caller]
fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[test]
fn a_machine_for_the_engine_has_its_images_from_the_start() {
    for_each(|machine| {
        assert_eq!(machine.ok("images --format {{.Repository}}"), "host");
        machine.nothing_left();
    });
    let machine = Machine::with(Wanted {
        debian: true,
        ..Wanted::default()
    });
    assert_eq!(
        machine.ok("images --format {{.Repository}}"),
        "host\ndebian"
    );
}

#[test]
fn a_container_is_created_started_paused_stopped_restarted_killed_and_removed() {
    for_each(|machine| {
        let id = machine.ok(&shell("create --name aa --network none host", POLITE));
        assert!(is_id(&id), "{id}");
        let a = machine.container("aa");
        assert_eq!((a.id(), a.status().as_str()), (id.as_str(), "created"));
        assert!(machine.shims().is_empty(), "nothing runs yet");

        assert_eq!(machine.ok("start aa"), "aa");
        assert_eq!(a.status(), "running");
        let (init, shim) = (a.init(), a.shim().expect("a shim"));
        assert_eq!(init.parent, shim);
        assert!(init.line.starts_with("sh -c"), "{init:?}");
        wait_for("hello in the log", 60, || {
            (machine.ok("logs aa") == "hello").then_some(())
        });

        // Without a cgroup of one's own there is nothing that could be frozen.
        if machine.who() != Who::Lone {
            pause(machine);
        }
        assert_eq!(machine.ok("stop aa"), "aa");
        assert_eq!(a.status(), "exited");
        assert_eq!(a.state()["life"]["exit_code"], 3);
        assert_eq!(machine.ok("logs aa"), "hello\nbye");
        assert!(machine.shims().is_empty(), "its shim went with it");

        machine.ok("start aa");
        assert_ne!(a.init().pid, init.pid);
        let before = a.init().pid;
        assert_eq!(machine.ok("restart aa"), "aa");
        assert_ne!(a.init().pid, before);
        assert_eq!(machine.shims().len(), 1);
        assert_eq!(machine.ok("kill aa"), "aa");
        assert_eq!(machine.ok("wait aa"), "137");
        assert_eq!(a.status(), "exited");
        assert_eq!(machine.ok("rm aa"), "aa");
        assert!(machine.ids().is_empty());
        machine.nothing_left();
    });
}

/// Pauses `a`, and lets it go on.
#[track_caller]
fn pause(machine: &Machine) {
    let a = machine.container("aa");
    let freeze = a.cgroup().join("cgroup.freeze");
    let frozen = || std::fs::read_to_string(&freeze).unwrap_or_default();
    assert_eq!(machine.ok("pause aa"), "aa");
    assert_eq!(a.status(), "paused");
    assert_eq!(frozen(), "1\n");
    assert_eq!(machine.ok("unpause aa"), "aa");
    assert_eq!(a.status(), "running");
    assert_eq!(frozen(), "0\n");
}

#[test]
fn one_shim_stays_with_each_container_and_nothing_else_does() {
    for_each(|machine| {
        for name in ["aa", "bb", "cc"] {
            machine.ok(&format!(
                "run -d --name {name} --network none host sleep 1000"
            ));
        }
        machine.ok("exec aa true");
        let mut expected = Vec::new();
        for name in ["aa", "bb", "cc"] {
            let container = machine.container(name);
            let shim = container.shim().expect("a shim");
            let init = container.init();
            assert_eq!((init.parent, init.name.as_str()), (shim, "sleep"));
            let shim = container.process(shim).expect("the shim runs");
            assert_eq!(shim.parent, 1, "nobody waits for a shim: {shim:?}");
            expected.extend([shim.pid, init.pid]);
        }
        let mut all: Vec<i32> = machine.processes().iter().map(|it| it.pid).collect();
        expected.sort_unstable();
        all.sort_unstable();
        assert_eq!(all, expected, "{:#?}", machine.processes());
        // The end of one is nobody else's.
        machine.ok("kill aa");
        assert_eq!(machine.ok("wait aa"), "137");
        assert_eq!(machine.ok("ps --format {{.Names}}"), "cc\nbb");
        assert_eq!(machine.shims().len(), 2);
        machine.nothing_left();
    });
}

#[test]
fn a_container_sees_itself_alone_and_is_seen_from_outside() {
    for_each(|machine| {
        machine.ok("run -d --name aa --network none host sleep 1000");
        let a = machine.container("aa");
        let script = "tr '\\0' ' ' </proc/1/cmdline; echo; hostname; id -u; ls /sys/class/net";
        let inside = machine.ok(&shell("exec aa", script));
        let expected = format!("sleep 1000 \n{}\n0\nlo", &a.id()[..12]);
        assert_eq!(inside, expected);
        for kind in ["mnt", "pid", "uts", "ipc", "net", "cgroup"] {
            let own = machine.host().shell(&format!("readlink /proc/1/ns/{kind}"));
            assert_ne!(a.namespace(kind), own, "{kind}");
            let exec = machine.ok(&format!("exec aa readlink /proc/self/ns/{kind}"));
            assert_eq!(exec, a.namespace(kind), "{kind}");
        }
        let user = machine.host().shell("readlink /proc/1/ns/user");
        assert_eq!(a.namespace("user") == user, machine.who() == Who::Root);
        // Its mounts are its shim's affair.
        let mounts = machine
            .host()
            .shell("grep -c merged /proc/1/mountinfo || :");
        assert_eq!(mounts, "0");
        machine.nothing_left();
    });
}

#[test]
fn the_status_is_the_commands_own() {
    for_each(|machine| {
        for (script, status) in [
            ("true", 0),
            ("exit 7", 7),
            ("exit 255", 255),
            ("sh -c 'kill -9 $$'; exit $?", 137),
            ("sh -c 'kill -15 $$'; exit $?", 143),
        ] {
            let out = machine.minidocker(&shell("run --rm --network none host", script));
            assert_eq!(out.code(), status, "{out}");
        }
        machine.fails(127, "run --rm --network none host no-such-command");
        machine.fails(127, "run --rm --network none host /no/such/command");
        machine.fails(126, "run --rm --network none host /etc");
        machine.fails(125, "run --rm --network no-such-network host true");
        machine.fails(125, "run --rm --no-such-flag host true");
        machine.fails(125, "run --rm --name a/b host true");
        assert!(machine.ids().is_empty(), "--rm removes all of them");
        machine.ok("run -d --name aa --network none host sleep 1000");
        assert_eq!(machine.minidocker(&shell("exec aa", "exit 9")).code(), 9);
        machine.fails(127, "exec aa no-such-command");
        machine.fails(126, "exec aa /etc");
        // What could not be started is kept, and may be looked at.
        machine.fails(127, "run --name bb --network none host no-such-command");
        let b = machine.container("bb").state();
        assert_eq!(b["life"]["exit_code"], 127, "{b}");
        assert_eq!(
            machine.ok("ps -a --filter name=bb --format {{.State}}"),
            "created"
        );
        machine.nothing_left();
    });
}

#[test]
fn output_is_complete_and_streams_are_apart() {
    for_each(|machine| {
        // The last words of who ends at once.
        for n in 0..10 {
            let line = format!("run --rm --network none host echo {n}");
            assert_eq!(machine.ok(&line), n.to_string());
        }
        let script = "seq 1 200000; echo odd >&2; seq 200001 300000";
        let out = machine.minidocker(&shell("run --name aa --network none host", script));
        let expected: Vec<u8> = (1..=300_000)
            .flat_map(|n: u32| format!("{n}\n").into_bytes())
            .collect();
        assert_eq!(out.errors(), "odd");
        assert!(out.stdout == expected, "{} bytes came", out.stdout.len());
        let logged = machine.minidocker("logs aa");
        assert_eq!(logged.errors(), "odd");
        assert!(logged.stdout == expected, "{} bytes", logged.stdout.len());
        // Any bytes, and no newline at the end.
        let script = "head -c 3000000 /dev/urandom >/tmp/in; \
            minidocker run -i --rm --network none host cat </tmp/in | cmp - /tmp/in && echo same; rm /tmp/in";
        assert_eq!(machine.script(script).ok(), "same");
        machine.nothing_left();
    });
}

#[test]
fn run_in_the_background_holds_nothing_of_its_caller() {
    for_each(|machine| {
        // The shell reads until nobody holds the pipe.
        let script = "id=$(minidocker run -d --network none host sleep 1000 2>&1); echo $id";
        let id = machine.script(script).ok();
        assert!(is_id(&id), "{id}");
        let (shim, _) = machine.shims()[0];
        let directory = format!("readlink /proc/{shim}/cwd; ls -l /proc/{shim}/fd");
        let shown = machine.host().shell(&directory);
        assert!(shown.starts_with("/\n"), "{shown}");
        assert!(
            !shown.contains("pipe:[") || shown.contains("anon_inode"),
            "{shown}"
        );
        machine.nothing_left();
    });
}

/// Counts in its log, ten times a second.
const COUNTER: &str = "n=0; while :; do n=$((n + 1)); echo $n; sleep 0.1; done";

/// Waits until it has counted on, and sees that it has left nothing out.
#[track_caller]
fn counts_on(machine: &Machine, name: &str) {
    let container = machine.container(name);
    let count = || container.log().lines().count();
    let before = count();
    wait_for("the container to count on", 60, || {
        (count() > before + 1).then_some(())
    });
    let log = container.log();
    let all: Vec<String> = (1..=log.lines().count()).map(|n| n.to_string()).collect();
    assert!(log.lines().eq(all.iter().map(String::as_str)), "{log}");
}

#[test]
fn a_client_that_is_killed_leaves_the_container_alone() {
    for_each(|machine| {
        let mut run = machine.spawn(&shell("run --name aa --network none host", COUNTER));
        run.expect("3\n");
        run.kill_after(Duration::ZERO);
        counts_on(machine, "aa");
        for line in ["attach aa", "logs -f aa", "wait aa", "exec aa sleep 1000"] {
            let client = machine.spawn(line);
            std::thread::sleep(Duration::from_millis(50));
            client.kill_after(Duration::ZERO);
            counts_on(machine, "aa");
        }
        // Whoever comes next finds everything as it is.
        let mut attached = machine.spawn("attach --no-stdin aa");
        attached.expect("\n");
        assert_eq!(
            machine.ok("ps --format {{.Names}}:{{.State}}"),
            "aa:running"
        );
        machine.ok("kill aa");
        attached.wait().exits(137);
        machine.nothing_left();
    });
}

#[test]
fn a_signal_to_the_client_is_the_containers() {
    for_each(|machine| {
        let mut run = machine.spawn(&shell("run --rm --network none host", POLITE));
        run.expect("hello\n");
        run.signal(Signal::SIGTERM);
        let out = run.wait();
        assert_eq!(
            (out.code(), out.text().as_str()),
            (3, "hello\nbye"),
            "{out}"
        );
        let trap = "trap 'exit 5' INT; echo ready; while :; do sleep 1000 & wait $!; done";
        let mut terminal = machine.terminal(&shell("run --rm -it --network none host", trap));
        terminal.expect("ready");
        terminal.send("\x03");
        assert_eq!(terminal.wait(), 5);
        machine.nothing_left();
    });
}

#[test]
fn what_is_to_be_removed_at_its_end_is() {
    for_each(|machine| {
        machine.ok("run --rm --name aa --network none host true");
        for end in ["kill", "stop -t 0", "rm -f"] {
            machine.ok("run -d --rm --name aa --network none host sleep 1000");
            machine.ok(&format!("{end} aa"));
            wait_for("the container to be gone", 60, || {
                machine.ids().is_empty().then_some(())
            });
        }
        machine.nothing_left();
    });
}

/// A command on a container in a state, how it ends, and what it says in small letters.
type Move = (&'static str, i32, &'static str);

/// Of one that has never run.
const CREATED: [Move; 9] = [
    ("stop aa", 0, "aa"),
    ("wait aa", 0, "0"),
    ("logs aa", 0, ""),
    ("kill aa", 1, "is not running"),
    ("pause aa", 1, "is not running"),
    ("unpause aa", 1, "is not paused"),
    ("exec aa true", 1, "is not running"),
    ("top aa", 1, "is not running"),
    (
        "attach aa",
        1,
        "cannot attach to a stopped container, start it first",
    ),
];

const RUNNING: [Move; 4] = [
    ("start aa", 0, "aa"),
    ("unpause aa", 1, "is not paused"),
    ("rm aa", 1, "stop the container before"),
    ("rename aa bb", 1, "already in use"),
];

const PAUSED: [Move; 5] = [
    ("pause aa", 1, "is already paused"),
    (
        "start aa",
        1,
        "cannot start a paused container, try unpause instead",
    ),
    (
        "exec aa true",
        1,
        "is paused, unpause the container before exec",
    ),
    (
        "attach aa",
        1,
        "cannot attach to a paused container, unpause it first",
    ),
    ("rm aa", 1, "paused"),
];

#[test]
fn a_wrong_move_is_told_and_changes_nothing() {
    for_each(|machine| {
        machine.ok("create --name bb --network none host true");
        machine.ok("create --name aa --network none host sleep 1000");
        moves(machine, "created", &CREATED);
        machine.ok("start aa");
        moves(machine, "running", &RUNNING);
        // Without a cgroup of one's own there is nothing that could be frozen.
        if machine.who() == Who::Lone {
            machine.fails(1, "pause aa");
        } else {
            machine.ok("pause aa");
            moves(machine, "paused", &PAUSED);
        }
        // Who is paused can be killed all the same.
        machine.ok("kill aa");
        assert_eq!(machine.ok("wait aa"), "137");
        moves(machine, "exited", &CREATED[3..]);
        assert_eq!(machine.ok("stop aa"), "aa");
        // No id begins with an x.
        for line in [
            "start xx",
            "stop xx",
            "kill xx",
            "rm xx",
            "exec xx true",
            "logs xx",
            "pause xx",
        ] {
            let said = machine.fails(1, line);
            assert!(said.contains("No such container: xx"), "{line}: {said}");
        }
        assert_eq!(machine.minidocker("rm -f xx").code(), 0);
        let said = machine.fails(125, "run --name aa host true");
        assert!(said.contains("is already in use by container"), "{said}");
        machine.nothing_left();
    });
}

#[track_caller]
fn moves(machine: &Machine, status: &str, moves: &[Move]) {
    for (line, code, word) in moves {
        let out = machine.minidocker(*line);
        let said = format!("{}{}", out.text(), out.errors()).to_lowercase();
        assert!(
            out.code() == *code && said.contains(word),
            "{status}, wanted {code} and {word:?}: {out}"
        );
        assert_eq!(machine.container("aa").status(), status, "after {line}");
    }
}

#[test]
fn a_container_goes_by_its_name_its_id_and_the_beginning_of_it() {
    let machine = Machine::of(Who::Root);
    // No id begins with an x.
    let id = machine.ok("create --name x1 host true");
    machine.ok("create --name x2 host true");
    for name in ["x1", "/x1", id.as_str(), &id[..12], &id[..6]] {
        let found = machine.ok(&["inspect", "--format", "{{.Id}}", name]);
        assert_eq!(found, id);
    }
    machine.ok("rename x1 other");
    assert_eq!(machine.ok("start other"), "other");
    machine.fails(1, "start x1");
    machine.ok("create --name x1 host true");
    machine.nothing_left();
}

#[test]
fn a_policy_starts_it_again_until_somebody_stops_it() {
    for_each(|machine| {
        machine.ok(&shell(
            "run -d --name aa --restart on-failure:2 --network none host",
            "exit 3",
        ));
        let a = machine.container("aa");
        wait_for("two more tries", 60, || {
            let state = a.state();
            (state["life"]["restarts"] == 2 && state["life"]["status"] == "exited").then_some(())
        });
        assert_eq!(
            machine.ok("inspect --format {{.RestartCount}}/{{.State.ExitCode}} aa"),
            "2/3"
        );
        let again = "run -d --name bb --restart always --network none host sleep 1000";
        machine.ok(again);
        let b = machine.container("bb");
        let before = b.init().pid;
        kill(machine.host(), before);
        wait_for("another first process", 60, || {
            let pid = b.state()["life"]["pid"].as_i64()?;
            (pid > 0 && pid != i64::from(before)).then_some(())
        });
        assert_eq!(machine.shims().len(), 1);
        machine.ok("stop -t 0 bb");
        assert_eq!(b.status(), "exited");
        assert!(machine.shims().is_empty());
        machine.nothing_left();
    });
}

/// Kills a process as the machine's root.
fn kill(host: &Host, pid: i32) {
    host.run(["kill", "-KILL", &pid.to_string()]).ok();
}
