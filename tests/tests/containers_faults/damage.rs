//! State files that are damaged, missing, of another version, or from the future.

use std::fs;
use std::path::Path;

use harness::engine::kills::listed;
use harness::engine::{Machine, Who};
use harness::wait_for;

use crate::Bystander;

type Damage = (&'static str, fn(&Path));

const DAMAGES: [Damage; 7] = [
    ("empty", |path| fs::write(path, "").expect("write")),
    ("no JSON", |path| fs::write(path, "{\0").expect("write")),
    ("cut off", |path| {
        let text = fs::read(path).expect("read");
        fs::write(path, &text[..text.len() / 2]).expect("write");
    }),
    ("of another version", |path| {
        let text = fs::read_to_string(path).expect("read");
        let other = text.replacen("\"version\":1", "\"version\":99", 1);
        assert_ne!(text, other);
        fs::write(path, other).expect("write");
    }),
    ("of other types", |path| {
        let text = fs::read_to_string(path).expect("read");
        let other = text.replacen("\"pid\":", "\"pid\":\"x\",\"other\":", 1);
        assert_ne!(text, other);
        fs::write(path, other).expect("write");
    }),
    ("gone", |path| fs::remove_file(path).expect("remove")),
    ("a directory", |path| {
        fs::remove_file(path).expect("remove");
        fs::create_dir(path).expect("make a directory");
    }),
];

#[test]
fn a_damaged_container_is_listed_as_dead_and_can_be_removed() {
    std::thread::scope(|scope| {
        for who in [Who::Root, Who::Student] {
            scope.spawn(move || {
                let machine = Machine::of(who);
                let bystander = Bystander::new(&machine);
                for (what, damage) in DAMAGES {
                    println!("{who:?}: {what}");
                    for ready in ["run -d", "create"] {
                        if (what, ready) == ("gone", "create") {
                            // As if whoever was creating it had been killed.
                            continue;
                        }
                        damaged(&machine, ready, damage);
                        bystander.lives();
                    }
                }
                bystander.is_unharmed();
                machine.nothing_left();
            });
        }
    });
}

/// Damages a container that was made so, and removes it.
fn damaged(machine: &Machine, ready: &str, damage: fn(&Path)) {
    let id = machine.ok(&format!("{ready} --name one --network none host sleep 999"));
    damage(&machine.container("one").data().join("state.json"));
    let list = machine.ok("ps -a --no-trunc --format {{.ID}}:{{.State}}");
    assert!(
        list.lines().any(|line| line == format!("{id}:dead")),
        "{list}"
    );
    let check = machine.minidocker("system check");
    assert!(format!("{check}").contains(&id[..12]), "{check}");
    for line in ["start", "stop", "exec", "inspect", "logs", "wait"] {
        let words = [line, &id, "true"];
        let words = if line == "exec" {
            &words[..]
        } else {
            &words[..2]
        };
        let out = machine.minidocker(words);
        assert!(!out.errors().contains("panicked"), "{out}");
    }
    machine.ok(&["rm", "-f", &id]);
    wait_for("its processes to be gone", 60, || {
        let all = machine.processes();
        (!all.iter().any(|it| it.line == "sleep 999")).then_some(())
    });
    assert!(listed(machine, "one").is_empty());
    assert_eq!(machine.shims().len(), 1);
}

#[test]
fn what_is_from_the_future_is_a_moment_ago() {
    let machine = Machine::of(Who::Root);
    machine.ok("run -d --name one host sleep 1000");
    machine.ok("run --name two host echo words");
    for name in ["one", "two"] {
        machine.container(name).edit(|state| {
            for pointer in ["/created", "/life/started", "/life/finished"] {
                if let Some(time) = state.pointer_mut(pointer).filter(|time| time.is_string()) {
                    *time = "2199-01-02T03:04:05.123456789Z".into();
                }
            }
        });
    }
    let log = machine.container("two");
    let log = log.data().join(format!("{}-json.log", log.id()));
    let text = fs::read_to_string(&log).expect("the log");
    let year = &text[text.find("\"time\":\"").expect("a time") + 8..][..4];
    fs::write(
        &log,
        text.replace(&format!("\"time\":\"{year}"), "\"time\":\"2199"),
    )
    .expect("write");
    for line in [
        "ps -a",
        "ps -a --filter since=one",
        "inspect one two",
        "logs -t two",
        "logs --since 1h two",
        "logs --until 1h two",
        "events --since 1h --until 0s",
        "events --since 2198-01-01 --until 0s",
        "stats --no-stream one",
        "system df",
        "top one",
        "stop -t 0 one",
        "start one two",
        "restart -t 0 one",
    ] {
        let out = machine.minidocker(line);
        assert!(
            !out.errors().contains("panicked") && out.code() == 0,
            "{out}"
        );
    }
    machine.nothing_left();
}

#[test]
fn names_that_lead_nowhere_are_in_nobodys_way() {
    let machine = Machine::of(Who::Root);
    let one = machine.ok("create --name one host true");
    let names = machine.data().join("names");
    fs::write(names.join("empty"), "").expect("write");
    fs::write(names.join("nobody"), "f".repeat(64)).expect("write");
    fs::write(names.join("second"), &one).expect("write");
    for name in ["empty", "nobody"] {
        assert!(
            machine
                .fails(1, &["start", name])
                .contains("No such container")
        );
    }
    for name in ["empty", "nobody", "second"] {
        machine.ok(&["create", "--name", name, "host", "true"]);
    }
    machine.ok("start one second");
    machine.nothing_left();
}

#[test]
fn after_a_reboot_nothing_runs_and_everything_can_start() {
    for who in [Who::Root, Who::Student] {
        let machine = Machine::of(who);
        machine.ok("run -d --name one --network none host sleep 1000");
        machine.ok("run -d --name two --network none --restart always host sleep 1000");
        for process in machine.processes() {
            machine
                .host()
                .run(["kill", "-KILL", &process.pid.to_string()]);
        }
        wait_for("all processes to end", 60, || {
            machine.processes().is_empty().then_some(())
        });
        // A tmpfs is empty after a reboot, and cgroups are gone.
        fs::remove_dir_all(machine.run()).expect("empty the directory");
        machine.host().shell(
            "find /sys/fs/cgroup -mindepth 1 -depth -type d -path '*minidocker*' -exec rmdir {} +",
        );
        let states = listed(&machine, "");
        assert!(
            states.iter().all(|(_, state)| state == "exited"),
            "{states:?}"
        );
        machine.ok("start one two");
        machine.ok("exec one true");
        machine.nothing_left();
    }
}
