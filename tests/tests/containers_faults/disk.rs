//! A disk under the store that is full, and one that is read-only.

use std::fs;
use std::io::Write;

use harness::engine::{Machine, Who};
use harness::wait_for;

use harness::engine::kills::listed;

/// Writes until the file system of the store is full, and gives the file.
fn fill(machine: &Machine) -> std::path::PathBuf {
    let path = machine.data().join("filler");
    let mut file = fs::File::create(&path).expect("make a file");
    for size in [1 << 20, 4096, 1] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
    path
}

/// Makes the file system of the store small, so that it can be filled.
fn small(machine: &Machine) {
    let place = match machine.who() {
        Who::Root => "/var/lib/minidocker",
        Who::Student | Who::Lone => "/home",
    };
    machine.host().shell(&format!(
        "used=$(df -k --output=used {place} | tail -1); mount -o remount,size=$((used + 4096))k {place}"
    ));
}

#[test]
fn on_a_full_disk_containers_live_on_end_and_can_be_removed() {
    for who in [Who::Root, Who::Student] {
        let machine = Machine::of(who);
        let chatty = "trap 'exit 7' TERM; while :; do echo a line of words that takes some room; sleep 0.02; done";
        for name in ["one", "two", "three"] {
            let words = [
                "run",
                "-d",
                "--name",
                name,
                "--network",
                "none",
                "host",
                "sh",
                "-c",
                chatty,
            ];
            machine.ok(&words);
        }
        small(&machine);
        let filler = fill(&machine);
        let init = machine.container("one").init();
        for line in [
            "create --name four --network none host true",
            "run --network none host true",
        ] {
            let out = machine.minidocker(line);
            assert!(
                out.code() != 0 && out.errors().contains("No space left"),
                "{out}"
            );
        }
        // They go on, whether what they say can be kept or not.
        machine.ok("exec one true");
        let states = listed(&machine, "");
        assert!(
            states.len() == 3 && states.iter().all(|(_, state)| state == "running"),
            "{states:?}"
        );
        assert_eq!(machine.container("one").init().pid, init.pid);
        let ended = ["stop one", "kill two"].map(|line| machine.minidocker(line));
        wait_for(&format!("the truth after {ended:#?}"), 60, || {
            let states = listed(&machine, "");
            println!("{states:?}");
            let of = |name: &str| states.iter().find(|it| it.0 == name).map(|it| it.1.clone());
            let ended = ["one", "two"]
                .iter()
                .all(|name| of(name).as_deref() == Some("exited"));
            (ended && of("three").as_deref() == Some("running")).then_some(())
        });
        // It is written down before the shim goes.
        wait_for("one shim to be left", 60, || {
            (machine.shims().len() == 1).then_some(())
        });
        // How they ended is not lost, although nobody could write it down; and it is when one can.
        let codes = || machine.ok("inspect -f {{.State.ExitCode}} one two");
        assert_eq!(codes(), "7\n137");
        assert_eq!(
            machine.container("one").state()["life"]["status"],
            "running"
        );
        assert_eq!(codes(), "7\n137");
        machine.ok("rm -f two three");
        fs::remove_file(filler).expect("remove the filler");
        assert_eq!(machine.ok("inspect -f {{.State.ExitCode}} one"), "7");
        assert_eq!(machine.container("one").state()["life"]["exit_code"], 7);
        machine.ok("start one");
        machine.ok("exec one true");
        machine.no_container_left();
    }
}

#[test]
fn on_a_read_only_disk_there_are_sentences_and_the_truth() {
    for who in [Who::Root, Who::Student] {
        let machine = Machine::of(who);
        machine.ok("run -d --name one --network none host sleep 1000");
        machine.ok("create --name two --network none host sleep 1000");
        let place = match who {
            Who::Root => "/var/lib/minidocker",
            _ => "/home/student/.local/share/minidocker",
        };
        machine.host().shell(&format!(
            "mount --rbind {place} {place}; mount -o remount,bind,ro {place}"
        ));
        let all = listed(&machine, "");
        assert_eq!(all.len(), 2, "{all:?}");
        for line in [
            "create --name three --network none host true",
            "start two",
            "rm two",
            "rename two three",
        ] {
            let out = machine.minidocker(line);
            let said = out.errors();
            assert!(
                out.code() != 0 && said.contains("Read-only file system"),
                "{out}"
            );
            assert!(!said.contains("panicked"), "{out}");
        }
        for line in ["exec one true", "logs one", "inspect one two", "top one"] {
            machine.ok(line);
        }
        machine.host().shell(&format!("umount -l {place}"));
        machine.ok("start two");
        machine.nothing_left();
    }
}
