//! `--init`: a pid 1 that reaps orphans and passes signals on.

use harness::engine::Who;
use harness::wait_for;

use crate::{for_each, inside, with_debian, words};

#[test]
fn pid_1_is_ours_and_reaps_whoever_is_left_behind() {
    for_each(|machine| {
        let script = "
            cat /proc/1/comm
            tr -d '\\0' </proc/1/cmdline; echo
            (sh -c 'sleep 0.1 & exit' &)
            sleep 0.5
            while grep -qs '^State:.*zombie' /proc/[0-9]*/status; do sleep 0.1; done
            test $PPID = 1 && exit 7";
        let out = machine.minidocker(&words("--init", "host", script));
        assert_eq!(
            (out.code(), out.text().as_str()),
            (7, "docker-init\ndocker-init"),
            "{out}"
        );
        machine.nothing_left();
    });
}

#[test]
fn it_passes_signals_on_and_ends_with_the_command() {
    for_each(|machine| {
        // As pid 1 of its own a sleep would not hear of SIGTERM.
        machine.ok("run -d --init --name aa --network none -e WORD=secret host sleep 100");
        // Who stays is not called by the command line that it comes of.
        let lines: Vec<String> = machine.processes().into_iter().map(|it| it.line).collect();
        assert!(
            lines.iter().any(|line| line.contains("minidocker-shim aa")),
            "{lines:?}"
        );
        assert!(
            !lines.iter().any(|line| line.contains("secret")),
            "{lines:?}"
        );
        machine.ok("stop -t 60 aa");
        assert_eq!(machine.container("aa").state()["life"]["exit_code"], 143);
        machine.nothing_left();
    });
}

#[test]
fn it_has_no_more_rights_than_the_command_and_keeps_its_program_to_itself() {
    for_each(|machine| {
        let script = "
            for process in 1 self; do
                sed -n '/^Cap/p; /^Seccomp:/p; /^NoNewPrivs/p; /^Uid/p' /proc/$process/status | md5sum
            done | uniq | wc -l
            readlink /proc/1/exe || echo hidden
            readlink /proc/1/fd/0 || echo hidden";
        assert_eq!(inside(machine, "--init", script), "1\nhidden\nhidden");
        let option = "--init --cap-drop ALL --security-opt no-new-privileges";
        assert_eq!(inside(machine, option, script), "1\nhidden\nhidden");
    });
    for who in [Who::Root, Who::Student] {
        let machine = with_debian(who);
        let script = "sed -n 's/^CapPrm:[ \t]*//p; s/^Uid:[ \t]*//p' /proc/1/status; readlink /proc/1/exe || echo hidden";
        let found = machine.ok(&words("--init --user daemon", "debian", script));
        assert_eq!(found, "1\t1\t1\t1\n0000000000000000\nhidden");
    }
}

#[test]
fn others_can_be_run_beside_it() {
    for who in [Who::Root, Who::Student] {
        let machine = with_debian(who);
        machine.ok("run -d --init --user daemon --name aa --network none debian sleep 100");
        assert_eq!(machine.ok("exec aa id -u"), "1");
        assert_eq!(machine.ok("exec -u 0 aa cat /proc/1/comm"), "docker-init");
        machine.nothing_left();
    }
}

#[test]
fn on_a_terminal_the_command_is_in_the_foreground() {
    for_each(|machine| {
        let mut terminal = machine.terminal(&[
            "run",
            "--rm",
            "-it",
            "--init",
            "--network",
            "none",
            "host",
            "sh",
            "-c",
            "echo ready; sleep 100; echo after",
        ]);
        terminal.expect("ready");
        terminal.send("\u{3}");
        assert_eq!(terminal.wait(), 130);
        wait_for("the container to go", 60, || {
            machine.ids().is_empty().then_some(())
        });
        machine.nothing_left();
    });
}
