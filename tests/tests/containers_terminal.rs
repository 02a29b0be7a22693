//! People and pipes at a container's standard streams: `run`, `attach` and `exec`, with a terminal
//! and without.

use std::time::Duration;

use harness::engine::{Machine, Who, for_each, shell};
use harness::{Terminal, wait_for};
use nix::sys::signal::Signal;

/// The prompt of a shell in a container.
const PROMPT: &str = "# ";

/// A shell in a new container that is called `aa`.
fn person(machine: &Machine) -> Terminal {
    let mut person = machine.terminal("run -it --name aa --network none host sh");
    person.expect(PROMPT);
    person
}

/// Types a command, and waits for `shown`.
#[track_caller]
fn ask(person: &mut Terminal, command: &str, shown: &str) {
    person.send(&format!("{command}\r"));
    person.expect("\n");
    person.expect(shown);
    person.expect(PROMPT);
}

/// Waits in a container until its terminal has a size, and shows it.
fn becomes(size: &str) -> String {
    format!("until [ \"$(stty size)\" = '{size}' ]; do sleep 0.02; done; stty size")
}

/// A shell script of the user's on a terminal, with minidocker in its path.
fn script(machine: &Machine, script: &str) -> Terminal {
    let host = machine.host();
    host.terminal(machine.user(), ["bash", "-c", script])
}

/// Sends a signal to the client that was started with this line.
#[track_caller]
fn signal_client(machine: &Machine, line: &str, signal: Signal) {
    let pid = wait_for("the client to start", 60, || {
        let all = machine.processes();
        let shims: Vec<i32> = machine.shims().into_iter().map(|(pid, _)| pid).collect();
        let ours = all
            .into_iter()
            .find(|process| process.line.starts_with(line) && !shims.contains(&process.pid));
        ours.map(|process| process.pid)
    });
    let number = format!("-{}", signal as i32);
    machine.host().run(["kill", &number, &pid.to_string()]).ok();
}

#[test]
fn a_terminal_is_the_containers_own_and_as_large_as_ours() {
    for_each(|machine| {
        let mut person = person(machine);
        ask(&mut person, "tty", "/dev/pts/0\r\n");
        ask(&mut person, "stty size", "24 80\r\n");
        person.resize(33, 99);
        ask(&mut person, &becomes("33 99"), "33 99\r\n");

        let mut second = machine.terminal("exec -it aa sh");
        second.expect(PROMPT);
        ask(&mut second, "tty", "/dev/pts/1\r\n");
        ask(&mut second, "stty size", "24 80\r\n");
        second.resize(44, 55);
        ask(&mut second, &becomes("44 55"), "44 55\r\n");
        ask(&mut person, "stty size", "33 99\r\n");
        // Keys are the process's that runs, and not ours.
        second.send("echo be''gun; sleep 1000\r");
        second.expect("begun\r\n");
        second.send("\x03");
        second.expect(PROMPT);
        second.send("exit 7\r");
        assert_eq!(second.wait(), 7);
        person.send("exit 9\r");
        assert_eq!(person.wait(), 9);
        machine.nothing_left();
    });
}

#[test]
fn keys_leave_a_container_that_goes_on() {
    for_each(|machine| {
        let mut first = person(machine);
        first.send("\x10\x11");
        assert_eq!(first.wait(), 0);
        assert_eq!(machine.container("aa").status(), "running");

        // Two at once see and type the same.
        let mut one = machine.terminal("attach aa");
        one.expect(PROMPT);
        let mut two = machine.terminal("attach --detach-keys ctrl-x,y aa");
        two.expect(PROMPT);
        one.send("echo $((40 + 2))\r");
        one.expect("42\r\n");
        two.expect("42\r\n");
        // What only begins the sequence is the container's.
        two.send("\x10\x11\x18echo $((50 + 3))\r");
        two.expect("53\r\n");
        one.expect("53\r\n");
        two.send("\x18");
        two.send("y");
        two.expect("read escape sequence");
        assert_eq!(two.wait(), 1);
        one.send("exit 3\r");
        assert_eq!(one.wait(), 3);

        let said = machine.fails(125, "attach --detach-keys ctrl-1 aa");
        assert!(said.contains("ctrl-1"), "{said}");
        machine.nothing_left();
    });
}

#[test]
fn keys_leave_an_exec_that_goes_on() {
    let machine = Machine::of(Who::Root);
    machine.ok("run -d --name aa --network none host sleep 1000");
    let mut person = machine.terminal(&shell("exec -it aa", "echo here; exec sleep 1234"));
    person.expect("here");
    person.send("\x10\x11");
    assert_eq!(person.wait(), 1);
    let ps = machine.ok("exec aa ps");
    assert!(ps.contains("sleep 1234"), "{ps}");
    machine.nothing_left();
}

#[test]
fn our_terminal_is_afterwards_as_it_was() {
    let machine = Machine::of(Who::Root);
    machine.ok("run -dit --name bb --network none host sh");
    let ends = [
        "run -it --rm --network none host true",
        "run -it --rm --network none host no-such-command",
        "run -it --rm --network no-such-network host true",
        "exec -it bb no-such-command",
        "exec -it bb true",
        "run -it --rm --network none host seq 1 100000 | head -1",
    ];
    for line in ends {
        let compared = format!(
            "stty -g >/tmp/before; minidocker {line}; stty -g | cmp - /tmp/before && rm /tmp/before && echo s''ame"
        );
        let mut terminal = script(&machine, &compared);
        terminal.expect("same");
        assert_eq!(terminal.wait(), 0, "{line}");
    }
    for (line, signal) in [
        ("attach bb", Signal::SIGTERM),
        ("attach bb", Signal::SIGHUP),
        ("exec -it bb sh", Signal::SIGTERM),
    ] {
        let compared = format!(
            "stty -g >/tmp/before; minidocker {line}; echo st''atus $?; \
             stty -g | cmp - /tmp/before && rm /tmp/before && echo s''ame"
        );
        let mut terminal = script(&machine, &compared);
        terminal.expect(PROMPT);
        signal_client(&machine, &format!("minidocker {line}"), signal);
        terminal.expect(&format!("status {}", 128 + signal as i32));
        terminal.expect("same");
        assert_eq!(machine.container("bb").status(), "running");
    }
    machine.nothing_left();
}

#[test]
fn a_client_that_was_stopped_goes_on_with_a_raw_terminal() {
    let machine = Machine::of(Who::Root);
    let mut terminal = script(
        &machine,
        "set -m; minidocker run -it --name aa --network none host sh; \
         stty sane; echo st''opped; fg >/dev/null; echo en''ded $?",
    );
    terminal.expect(PROMPT);
    signal_client(&machine, "minidocker run", Signal::SIGSTOP);
    terminal.expect("stopped");
    // A cooked terminal would keep the line, and echo it twice.
    ask(&mut terminal, "", "");
    ask(&mut terminal, "echo $((6 * 7))", "42\r\n");
    terminal.send("exit 5\r");
    terminal.expect("ended 5");
    machine.nothing_left();
}

#[test]
fn what_a_program_draws_and_what_is_typed_passes_untouched() {
    for_each(|machine| {
        let mut person = person(machine);
        let command =
            r"stty raw -echo; printf '\033[1;31mred\033[0m\007\t\200\377\n\r\000end'; stty sane";
        person.send(&format!("{command}\r"));
        person.expect("\n");
        person.expect("end");
        let screen = person.screen();
        let drawn = b"\x1b[1;31mred\x1b[0m\x07\t\x80\xff\n\r\0end";
        let there = screen.windows(drawn.len()).any(|bytes| bytes == drawn);
        assert!(there, "{}", screen.escape_ascii());
        person.expect(PROMPT);

        person.send(
            "stty raw -echo; echo re''ady; head -c 126 | od -v -An -tu1 | tr -d '\\n'; echo; stty sane\r",
        );
        person.expect("ready");
        // But for the two that would leave.
        let keys: Vec<u8> = (0..128).filter(|key| ![0x10, 0x11].contains(key)).collect();
        person.send(&String::from_utf8_lossy(&keys));
        let shown = person.expect(" 127\n");
        let numbers: Vec<u8> = shown
            .split_whitespace()
            .filter_map(|number| number.parse().ok())
            .collect();
        assert_eq!(numbers, keys);
        person.send("exit\r");
        assert_eq!(person.wait(), 0);
        machine.nothing_left();
    });
}

#[test]
fn a_terminal_is_asked_for_where_there_is_none() {
    let machine = Machine::of(Who::Root);
    machine.ok("run -dit --name aa --network none host sh");
    for line in [
        "run -it --rm --network none host true",
        "exec -it aa true",
        "attach aa",
    ] {
        let said = machine.fails(1, line);
        assert_eq!(said, "minidocker: the input device is not a TTY", "{line}");
    }
    // One that only shows needs none.
    let out = machine.minidocker("run -t --rm --network none host echo hello");
    assert_eq!(out.ok(), "hello\r");
    assert_eq!(machine.minidocker("exec -t aa echo hello").ok(), "hello\r");
    machine.nothing_left();
}

#[test]
fn a_reader_who_has_seen_enough_ends_the_client_alone() {
    for_each(|machine| {
        let slow = "i=0; while :; do i=$((i + 1)); echo $i; sleep 0.01; done";
        let first = format!(
            "minidocker run --name aa --network none host sh -c '{slow}' | head -2; \
             echo ${{PIPESTATUS[0]}}"
        );
        assert_eq!(machine.script(&first).ok(), "1\n2\n141");
        for line in ["attach --no-stdin aa", "logs -f aa"] {
            let script = format!("minidocker {line} | head -2 | wc -l");
            assert_eq!(machine.script(&script).ok(), "2", "{line}");
        }
        let exec = format!("minidocker exec aa sh -c '{slow}' | head -2");
        assert_eq!(machine.script(&exec).ok(), "1\n2");
        assert_eq!(machine.container("aa").status(), "running");
        machine.nothing_left();
    });
}

#[test]
fn input_that_ends_is_the_containers_end_of_file() {
    for_each(|machine| {
        for (script, printed) in [
            (
                "printf 'a\\nb' | minidocker run -i --rm --network none host cat",
                "a\nb",
            ),
            (
                "minidocker run -i --rm --network none host cat </dev/null",
                "",
            ),
            ("echo a | minidocker run --rm --network none host cat", ""),
            (
                "yes | minidocker run -i --rm --network none host head -1",
                "y",
            ),
        ] {
            let out = machine.script(script);
            assert_eq!(out.ok(), printed, "{script}");
        }
        machine.ok("run -d --name aa --network none host sleep 1000");
        for (script, printed) in [
            ("printf 'a\\nb' | minidocker exec -i aa cat", "a\nb"),
            ("minidocker exec -i aa cat </dev/null", ""),
            ("echo a | minidocker exec aa cat", ""),
            ("yes | minidocker exec -i aa head -1", "y"),
            (
                "echo a | minidocker exec -i aa sh -c 'exec <&-; sleep 0.3; echo b'",
                "b",
            ),
        ] {
            let out = machine.script(script);
            assert_eq!(out.ok(), printed, "{script}");
        }
        // Who only looks in takes nothing along when they go.
        machine.ok("run -di --name bb --network none host cat");
        let mut looking = machine.feed("attach bb");
        looking.write(b"one\n");
        looking.expect("one\n");
        looking.close_stdin();
        std::thread::sleep(Duration::from_millis(200));
        let mut second = machine.feed("attach bb");
        second.write(b"two\n");
        second.expect("two\n");
        looking.expect("two\n");
        machine.ok("kill bb");
        looking.wait().exits(137);
        second.wait().exits(137);
        machine.nothing_left();
    });
}

#[test]
fn large_streams_come_through_byte_for_byte() {
    for_each(|machine| {
        machine.ok("run -d --name aa --network none host sleep 1000");
        for line in [
            "run -i --rm --log-driver none --network none host cat",
            "exec -i aa cat",
        ] {
            let script = format!(
                "head -c 64M /dev/urandom >/tmp/in; minidocker {line} </tmp/in | cmp - /tmp/in \
                 && echo same; rm /tmp/in"
            );
            assert_eq!(machine.script(&script).ok(), "same", "{line}");
        }
        machine.nothing_left();
    });
}

#[test]
fn a_slow_reader_loses_nothing_and_others_see_the_same() {
    let machine = Machine::of(Who::Student);
    let container = "read line; seq 1 300000; read line";
    machine.ok(&shell("run -di --name aa --network none host", container));
    let script = "
        minidocker attach --no-stdin aa >/tmp/quick & quick=$!
        minidocker attach --no-stdin aa | (sleep 1; cat >/tmp/slow) & slow=$!
        until [ $(minidocker events --since 1h --until 0s --filter event=attach | wc -l) = 2 ]; do
            sleep 0.1
        done
        (echo; sleep 3; echo) | minidocker attach aa >/tmp/typing
        wait $quick $slow
        cd /tmp; seq 1 300000 >expected
        for file in quick slow typing; do cmp $file expected && echo $file; done
        minidocker logs aa | cmp - expected && echo logs
        rm quick slow typing expected";
    assert_eq!(machine.script(script).ok(), "quick\nslow\ntyping\nlogs");
    machine.nothing_left();
}

#[test]
fn a_container_that_does_not_read_can_be_talked_to() {
    let machine = Machine::of(Who::Root);
    let container = "trap 'echo got; exit 5' INT; echo ready; while :; do sleep 0.1; done";
    let script = format!(
        "yes | minidocker run -i --name aa --network none host sh -c \"{container}\"; \
         echo ${{PIPESTATUS[1]}}"
    );
    let host = machine.host();
    let mut run = host.spawn_as(machine.user(), ["bash", "-c", &script]);
    run.expect("ready\n");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(machine.ok("exec aa echo here"), "here");
    signal_client(&machine, "minidocker run", Signal::SIGINT);
    assert_eq!(run.wait().ok(), "ready\ngot\n5");
    machine.nothing_left();
}

#[test]
fn a_signal_that_is_not_passed_on_ends_the_client_alone() {
    let machine = Machine::of(Who::Root);
    let container = "trap 'exit 5' INT; echo ready; while :; do sleep 0.1; done";
    let line = "run --sig-proxy=false --name aa --network none host";
    let mut run = machine.spawn(&shell(line, container));
    run.expect("ready\n");
    run.signal(Signal::SIGINT);
    run.wait().exits(130);
    assert_eq!(machine.container("aa").status(), "running");
    machine.nothing_left();
}
