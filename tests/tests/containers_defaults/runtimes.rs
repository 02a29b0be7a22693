//! `--runtime`: the same bundle under runc and crun.

use harness::engine::{Machine, Who};

use crate::{for_each, refused};

/// crun loads a program for the kernel that says who may use which device, for which it wants a limit
/// that takes a capability to raise; as an ordinary user nothing is loaded.
fn runtimes(machine: &Machine) -> Vec<&'static str> {
    let may = "grep -q '^CapEff:.*[1-9a-f]......$' /proc/self/status && ulimit -l unlimited";
    match machine.who() {
        Who::Root if machine.script(may).code() != 0 => vec!["runc"],
        _ => vec!["runc", "crun"],
    }
}

#[test]
fn another_runtime_gives_the_same_container() {
    for_each(|machine| {
        for runtime in runtimes(machine) {
            let run = |script: &str| {
                let mut words = vec!["run", "--rm", "--network", "none"];
                words.extend([
                    "--runtime",
                    runtime,
                    "--hostname",
                    "web",
                    "host",
                    "sh",
                    "-c",
                    script,
                ]);
                machine.minidocker(&words)
            };
            let script = "hostname; echo $$; sed -n '/^Cap/p; /^Seccomp:/p' /proc/self/status; \
                df -k /dev/shm | awk 'END {print $2}'; ls /dev | grep -v core; echo $PATH $HOME; exit 3";
            let out = run(script);
            let mut words = vec!["run", "--rm", "--network", "none", "--hostname", "web"];
            words.extend(["host", "sh", "-c", script]);
            let ours = machine.minidocker(&words);
            assert_eq!(
                (out.code(), out.text()),
                (3, ours.text()),
                "{runtime}: {out}"
            );
            let killed = run("sh -c 'kill -9 $$'; exit $?");
            assert_eq!(killed.code(), 137, "{runtime}: {killed}");
        }
        machine.nothing_left();
    });
}

#[test]
fn its_failures_have_dockers_exit_statuses() {
    for_each(|machine| {
        for runtime in runtimes(machine) {
            for (command, status) in [("nosuch", 127), ("/nosuch", 127), ("/etc", 126)] {
                let line = format!("run --rm --network none --runtime {runtime} host {command}");
                let said = machine.fails(status, line.as_str());
                assert!(said.contains(runtime), "{said}");
            }
        }
        let said = refused(machine, "--runtime nosuch");
        assert!(
            said.contains("unknown or invalid runtime name: nosuch"),
            "{said}"
        );
        let said = refused(machine, "--runtime /etc/passwd");
        assert!(said.contains("/etc/passwd"), "{said}");
        machine.nothing_left();
    });
}

#[test]
fn what_may_happen_to_a_container_may_happen_to_it() {
    for_each(|machine| {
        for runtime in runtimes(machine) {
            machine.ok(format!(
                "run -d --name aa --network none --runtime {runtime} host sleep 100"
            )
            .as_str());
            assert_eq!(
                machine.ok(&[
                    "exec",
                    "aa",
                    "sh",
                    "-c",
                    "echo $$ >/tmp/file; until grep -qx sleep /proc/1/comm; do :; done; cat /proc/1/comm"
                ]),
                "sleep"
            );
            assert_eq!(
                machine
                    .minidocker(&["exec", "aa", "sh", "-c", "exit 4"])
                    .code(),
                4
            );
            machine.fails(127, "exec aa nosuch");
            machine.ok("stop -t 1 aa");
            assert_eq!(machine.container("aa").state()["life"]["exit_code"], 137);
            machine.ok("start aa");
            machine.ok("kill -s KILL aa");
            assert_eq!(machine.ok("wait aa"), "137");
            machine.ok("rm aa");
        }
        machine.nothing_left();
    });
}
