//! Step 3: limits, as far as they can be seen without controllers. What a limit
//! does is shown in `vm.rs`.

use std::fs;

use harness::{Host, Setup, Snapshot, User, assert_same};

const BOTH: [User; 2] = [User::Root, User::Student];

/// The directories of containers in the host's cgroup tree.
fn containers(host: &Host) -> Vec<String> {
    let found = host
        .run(["find", "/sys/fs/cgroup", "-mindepth", "1", "-type", "d"])
        .text();
    found
        .lines()
        .filter(|dir| !dir.contains("/session") && !dir.ends_with("/user"))
        .map(str::to_owned)
        .collect()
}

/// The real machine's tree has other tests' machines in it, and for moments their containers.
#[track_caller]
fn nothing_is_left(host: &Host, before: Snapshot) {
    let ours = |snapshot: Snapshot| snapshot.without("minidocker-test-");
    let before = ours(before).without("/sys/fs/cgroup/minidocker");
    let before = before.without("/sys/fs/cgroup/unified/minidocker");
    assert_same(&before, || ours(host.snapshot()));
}

#[test]
fn the_container_has_a_cgroup_of_its_own_while_it_lives() {
    let host = Host::new();
    let mut running = host.spawn(["step03", "run", "sh", "-c", "echo up; exec sleep 1000"]);
    running.expect("up");
    let place = |pid: i32| fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let (parent, child) = (running.pid(), running.container());
    assert_ne!(place(child), place(parent), "the command is in our cgroup");
    assert!(!containers(&host).is_empty());
    drop(running);
}

#[test]
fn the_container_sees_its_cgroup_as_the_root() {
    let host = Host::new();
    for user in BOTH {
        let out = host.run_as(user, ["step03", "run", "grep", "^0:", "/proc/self/cgroup"]);
        let out = out.ok();
        let expected = if user == User::Root { "0::/" } else { "0::" };
        assert!(out.starts_with(expected), "{user:?}: {out}");
    }
}

#[test]
fn a_limit_without_its_controller_is_an_error_that_names_it() {
    // A pure tree and the machine's own, whatever that is.
    for machine_cgroups in [false, true] {
        let host = Host::with(Setup {
            machine_cgroups,
            ..Setup::default()
        });
        let before = host.snapshot();
        for user in BOTH {
            for (option, value, controller) in [
                ("--memory", "64m", "memory"),
                ("--cpus", "0.5", "cpu"),
                ("--pids-limit", "32", "pids"),
            ] {
                let offered = host
                    .run(["cat", "/sys/fs/cgroup/cgroup.controllers"])
                    .text();
                if offered.split(' ').any(|one| one == controller) {
                    continue;
                }
                let out = host.run_as(user, ["step03", "run", option, value, "true"]);
                let error = out.exits(125);
                assert!(error.starts_with("step03: "), "{error}");
                assert!(
                    error.contains(controller),
                    "{user:?}: {controller} is not named: {error}"
                );
            }
        }
        nothing_is_left(&host, before);
    }
}

#[test]
fn without_a_limit_it_runs_on_every_kind_of_tree() {
    for machine_cgroups in [false, true] {
        let host = Host::with(Setup {
            machine_cgroups,
            ..Setup::default()
        });
        let before = host.snapshot();
        for user in BOTH {
            assert_eq!(
                host.run_as(user, ["step03", "run", "echo", "fine"]).ok(),
                "fine"
            );
        }
        nothing_is_left(&host, before);
    }
}

#[test]
fn without_any_cgroup2_it_still_runs_and_a_limit_says_what_is_missing() {
    let host = Host::new();
    host.shell("umount /sys/fs/cgroup");
    for user in BOTH {
        assert_eq!(
            host.run_as(user, ["step03", "run", "echo", "fine"]).ok(),
            "fine"
        );
        let error = host
            .run_as(user, ["step03", "run", "-m", "64m", "true"])
            .exits(125);
        assert!(error.contains("cgroup"), "{user:?}: {error}");
    }
}

#[test]
fn values_that_make_no_sense_are_refused() {
    let host = Host::new();
    for (option, value) in [
        ("-m", "lots"),
        ("-m", ""),
        ("-m", "-1"),
        ("-m", "64q"),
        ("-m", "99999999999999999999g"),
        ("--cpus", "0"),
        ("--cpus", "-1"),
        ("--cpus", "nan"),
        ("--cpus", "inf"),
        ("--pids-limit", "x"),
        ("--pids-limit", "0"),
    ] {
        let option = format!("{option}={value}");
        let out = host.run(["step03", "run", &option, "true"]);
        assert!([2, 125].contains(&out.code()), "{out}");
        assert!(!out.errors().is_empty());
    }
}

#[test]
fn in_a_delegated_tree_student_makes_a_cgroup() {
    let host = Host::with(Setup {
        delegated: true,
        ..Setup::default()
    });
    let before = host.snapshot();
    let out = host.run_as_student(["step03", "run", "echo", "fine"]);
    assert_eq!(out.ok(), "fine");
    assert_same(&before, || host.snapshot());
}

#[test]
fn the_cgroup_goes_also_after_a_failure() {
    let host = Host::new();
    let before = host.snapshot();
    for argv in [
        &["no-such-command"][..],
        &["sh", "-c", "sh -c 'kill -9 $$'; exit $?"],
        &["-v", "/no/such:/x", "true"],
        &["sh", "-c", "sleep 1000 & setsid sleep 1000 & exit 1"],
    ] {
        let whole = ["step03", "run"].iter().chain(argv);
        assert_ne!(host.run(whole).code(), 0);
        assert!(
            containers(&host).is_empty(),
            "{argv:?}: {:?}",
            containers(&host)
        );
    }
    assert_same(&before, || host.snapshot());
}
