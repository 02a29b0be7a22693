//! The rules that the kernel teaches, as DESIGN numbers them: each is a failure
//! that users of other engines reported again and again. The sixth, limits
//! before the first instruction, is in `vm.rs`, and the eighth, layers, in
//! `step05.rs`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use harness::{Host, Setup, User, assert_same};
use nix::sys::signal::Signal;

const BOTH: [User; 2] = [User::Root, User::Student];
const STEPS: [&str; 4] = ["step01", "step02", "step03", "step04"];

#[test]
fn rule_01_on_a_host_with_shared_mounts_pivot_root_works_and_proc_stays() {
    let host = Host::online();
    // As systemd leaves it: everything mounted anywhere goes everywhere.
    host.shell("mount --make-rshared /; mkdir -p /run/mount");
    for user in BOTH {
        for step in STEPS {
            let before = host.snapshot();
            host.run_as(user, [step, "run", "sh", "-c", "mount -t tmpfs none /mnt"])
                .ok();
            assert_same(&before, || host.snapshot());
            host.run(["cat", "/proc/version"]).ok();
        }
    }
}

#[test]
fn rule_02_the_host_is_as_it_was_after_success_failure_interrupt_and_kill() {
    let host = Host::online();
    let before = host.snapshot();
    for user in BOTH {
        for step in STEPS {
            host.run_as(user, [step, "run", "true"]).ok();
            host.run_as(user, [step, "run", "no-such-command"])
                .exits(127);
            let mut running =
                host.spawn_as(user, [step, "run", "sh", "-c", "echo up; exec sleep 1000"]);
            running.expect("up");
            // A shell catches the interrupt, and forgets it when it becomes sleep.
            running.runs("sleep");
            running.signal(Signal::SIGINT);
            assert_eq!(running.wait().code(), 130, "{user:?} {step}");
            assert_same(&before, || host.snapshot());
            let mut running =
                host.spawn_as(user, [step, "run", "sh", "-c", "echo up; exec sleep 1000"]);
            running.expect("up");
            running.signal(Signal::SIGKILL);
            assert_eq!(running.wait().code(), 137);
            host.run_as(user, [step, "run", "true"]).ok();
            assert_same(&before, || host.snapshot());
        }
    }
}

#[test]
fn rule_03_the_status_and_the_arguments_are_the_commands_own() {
    let host = Host::online();
    for user in BOTH {
        for step in STEPS {
            assert_eq!(
                host.run_as(user, [step, "run", "sh", "-c", "exit 99"])
                    .code(),
                99
            );
            let killed = host.run_as(
                user,
                [step, "run", "sh", "-c", "sh -c 'kill -ABRT $$'; exit $?"],
            );
            assert_eq!(killed.code(), 134, "{killed}");
            let argv = [
                step.as_bytes(),
                b"run",
                b"printf",
                b"%s|",
                b"",
                b"a b",
                b"\xff\n",
                b"$x",
            ];
            let out = host.run_as(user, argv.map(OsStr::from_bytes));
            assert_eq!(out.stdout, b"|a b|\xff\n|$x|", "{user:?}: {out}");
        }
    }
}

#[test]
fn rule_04_the_container_is_cloned_by_a_process_with_one_thread() {
    let host = Host::online();
    for step in STEPS {
        let trace = "strace -f -qq -e trace=clone,clone3,unshare -o /tmp/trace";
        host.shell(&format!(
            "{trace} {step} run true; {trace} -A {step} run true"
        ));
        let trace = host.shell("cat /tmp/trace; rm /tmp/trace");
        let mut threads = 0;
        for line in trace.lines() {
            if line.contains("CLONE_THREAD") {
                threads += 1;
            }
            // The next run of the program begins anew.
            if line.contains("CLONE_NEWPID") {
                assert_eq!(
                    threads, 0,
                    "{step}: a thread before the container:\n{trace}"
                );
                break;
            }
        }
    }
}

#[test]
fn rule_05_a_limit_that_cannot_be_enforced_is_an_error() {
    for machine_cgroups in [false, true] {
        let host = Host::with(Setup {
            machine_cgroups,
            outside: true,
            ..Setup::default()
        });
        if host
            .run(["cat", "/sys/fs/cgroup/cgroup.controllers"])
            .text()
            .contains("memory")
        {
            continue;
        }
        for step in ["step03", "step04"] {
            for user in BOTH {
                let error = host
                    .run_as(user, [step, "run", "-m", "64m", "true"])
                    .exits(125);
                assert!(error.contains("memory"), "{error}");
            }
        }
    }
}

#[test]
fn rule_07_a_resolver_on_the_hosts_loopback_is_not_handed_to_the_container() {
    let host = Host::online();
    let resolvers = |host: &Host, user| {
        let out = host
            .run_as(user, ["step04", "run", "cat", "/etc/resolv.conf"])
            .ok();
        out.lines()
            .filter_map(|line| line.strip_prefix("nameserver ").map(str::to_owned))
            .collect::<Vec<_>>()
    };
    host.shell("printf 'nameserver 127.0.0.53\noptions edns0\n' >/etc/resolv.conf");
    for user in BOTH {
        let seen = resolvers(&host, user);
        assert!(
            seen.iter()
                .all(|one| !one.starts_with("127.") && one != "::1"),
            "{user:?}: {seen:?}"
        );
    }
    // systemd-resolved keeps the real ones here.
    host.shell("mkdir -p /run/systemd/resolve; echo nameserver 192.0.2.2 >/run/systemd/resolve/resolv.conf");
    assert_eq!(resolvers(&host, User::Root), ["192.0.2.2"]);
}

#[test]
fn rule_09_no_descriptor_of_the_caller_reaches_the_command() {
    let host = Host::online();
    for user in BOTH {
        for step in STEPS {
            let script = format!("exec 7</etc/passwd 9</; exec {step} run ls /proc/self/fd");
            let out = host.run_as(user, ["sh", "-c", &script]).ok();
            for descriptor in ["7", "9"] {
                let is_open = out.split_whitespace().any(|fd| fd == descriptor);
                assert!(!is_open, "{user:?} {step}:\n{out}");
            }
        }
    }
    // From step 2 on /proc is the container's, and the list is exact.
    let out = host
        .run(["step02", "run", "sh", "-c", "echo /proc/$$/fd/*"])
        .ok();
    let beyond = out.split_whitespace().filter(|fd| {
        !["0", "1", "2"]
            .iter()
            .any(|n| fd.ends_with(&format!("/{n}")))
    });
    assert!(
        beyond.count() <= 1,
        "the shell has one for the directory, no more: {out}"
    );
}

/// execve(2) looks a program up before it closes anything, and an image may call
/// its program what it likes.
#[test]
fn rule_09_no_descriptor_of_the_engine_leads_a_command_to_the_host() {
    let host = Host::online();
    for (step, image) in [
        ("step02", ""),
        ("step03", ""),
        ("step04", ""),
        ("step05", "host"),
    ] {
        for descriptor in 3..16 {
            let up = format!("/proc/self/fd/{descriptor}{}", "/..".repeat(9));
            for program in [
                format!("{up}/bin/busybox"),
                format!("/proc/self/fd/{descriptor}/bin/busybox"),
            ] {
                let script = format!("exec 7</; exec {step} run {image} {program} true");
                let out = host.run(["sh", "-c", &script]);
                assert!([126, 127].contains(&out.code()), "{program}: {out}");
            }
        }
    }
}

#[test]
fn rule_09_where_a_namespace_cannot_be_made_nothing_runs_on_the_host() {
    let host = Host::online();
    for step in STEPS {
        for call in ["clone3,clone", "unshare"] {
            let inject = format!("inject={call}:error=EPERM");
            let out = host.run([
                "strace",
                "-f",
                "-qq",
                "-o",
                "/dev/null",
                "-e",
                &inject,
                step,
                "run",
                "sh",
                "-c",
                "echo escaped",
            ]);
            if call == "clone3,clone" {
                assert!(!out.text().contains("escaped"), "{step}: {out}");
            }
            assert!([0, 125].contains(&out.code()), "{step} {call}: {out}");
        }
    }
}

#[test]
fn rule_10_where_user_namespaces_are_forbidden_the_error_names_the_switch() {
    let host = Host::new();
    let script = "unshare --user sleep 1000 >/dev/null 2>&1 &
        until [ $(readlink /proc/$!/ns/user) != $(readlink /proc/$$/ns/user) ]; do sleep 0.01; done
        echo 0 0 65536 >/proc/$!/uid_map; echo 0 0 65536 >/proc/$!/gid_map
        exec nsenter --user --target $! --setuid 0 --setgid 0 sh -c '
            echo 0 >/proc/sys/user/max_user_namespaces
            exec setpriv --reuid 1000 --regid 1000 --clear-groups env HOME=/home/student step01 run true'";
    let out = host.run(["sh", "-c", script]);
    let error = out.exits(125);
    assert!(
        error.contains("max_user_namespaces"),
        "the switch is named: {error}"
    );
}

#[test]
fn rule_11_without_some_capabilities_it_uses_what_is_there() {
    let host = Host::online();
    for missing in [
        "mknod",
        "sys_resource",
        "sys_nice",
        "audit_write",
        "sys_ptrace",
        "mknod,-setfcap,-sys_boot",
    ] {
        for step in STEPS {
            let bounding = format!("--bounding-set=-{missing}");
            let out = host.run([
                "setpriv",
                &bounding,
                step,
                "run",
                "sh",
                "-c",
                "echo x >/dev/null && echo fine",
            ]);
            assert_eq!(out.ok(), "fine", "without {missing}: {out}");
        }
    }
    // Without the one that everything needs: a sentence, not a half-made container.
    let before = host.snapshot();
    let out = host.run([
        "setpriv",
        "--bounding-set=-sys_admin",
        "step02",
        "run",
        "echo",
        "fine",
    ]);
    if out.code() != 0 {
        assert!(out.exits(125).starts_with("step02: "), "{out}");
    }
    assert_same(&before, || host.snapshot());
}
