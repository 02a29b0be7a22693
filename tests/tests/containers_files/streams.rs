//! `cp` with a tar archive on standard input or output, and `export`.

use harness::engine::Machine;
use harness::tree::{assert_same_tree, tree};

use super::{for_each, start};

#[test]
fn an_archive_goes_in_and_comes_out_as_tar_has_it() {
    for_each(|machine| {
        start(
            machine,
            &[],
            "mkdir -p /s/d /t; echo 1 >/s/d/f; ln -s d /s/l; ln -s /t /s/t",
        );
        let names = |line: &str| {
            machine
                .script(&format!("minidocker cp {line} - | tar -t"))
                .ok()
        };
        assert_eq!(names("c:/s/d"), "d/\nd/f");
        assert_eq!(names("c:/s/d/"), "d/\nd/f");
        assert_eq!(names("c:/s/d/."), "./\nf");
        assert_eq!(names("c:/s/d/f"), "f");
        assert_eq!(names("c:/s/l"), "l");
        assert_eq!(names("-L c:/s/l"), "l/\nl/f");
        for pack in ["tar -c", "tar -cz"] {
            machine
                .script(&format!(
                    "cd; mkdir -p a; echo 2 >a/f; {pack} a | minidocker cp - c:/t"
                ))
                .ok();
            assert_eq!(machine.ok("exec c cat /t/a/f"), "2");
            machine.ok("exec c rm -r /t/a");
        }
        // As `/var/run` leads to `/run`, a link of the container's leads on, and never out of it.
        machine
            .script("cd; mkdir -p t; echo 3 >t/g; tar -c t/g | minidocker cp - c:/s")
            .ok();
        assert_eq!(machine.ok("exec c cat /t/g"), "3");
        machine
            .script("cd; tar -c t/g | xz | minidocker cp - c:/s")
            .exits(1);
        machine
            .script("echo nonsense | minidocker cp - c:/s")
            .exits(1);
        machine
            .script("cd; tar -c t | head -c 700 | minidocker cp - c:/t")
            .exits(1);
        machine.nothing_left();
    });
}

#[test]
fn an_export_is_the_tree_that_the_container_sees() {
    for_each(|machine| {
        let script = "rm /etc/group; mkdir /new; echo 1 >/new/f; ln /new/f /new/g; mkfifo /new/p
            rm -r /var/*; echo 2 >/vol/inside; echo 3 >/tmp/t";
        let home = machine.script("cd; mkdir vol; pwd").ok();
        let volume = format!("{home}/vol:/vol");
        start(machine, &["-v", &volume], script);
        let merged = |place: &str| {
            let export = format!("mkdir -p {place}; minidocker export c | tar -x -C {place}");
            machine
                .script(&format!("set -o pipefail; cd {home}; {export}"))
                .ok();
            let path = machine.host().path(&home).join(place);
            tree(
                path.to_str().expect("a path"),
                "-path ./dev -o -path ./.dockerenv",
            )
        };
        let running = merged("running");
        assert!(
            running
                .iter()
                .any(|line| line.starts_with("./new/g|f|644") && line.contains("|2|2|")),
            "{running:#?}"
        );
        assert!(
            !running
                .iter()
                .any(|line| line.starts_with("./vol/") || line.starts_with("./etc/group"))
        );
        let twice = "minidocker export c | sha256sum; minidocker export c | sha256sum";
        let sums = machine.script(twice).ok();
        assert_eq!(sums.lines().next(), sums.lines().nth(1));
        machine.ok("pause c");
        assert_same_tree(&merged("paused"), &running, &[]);
        machine.ok("unpause c");
        machine.ok("stop -t 0 c");
        assert_same_tree(&merged("stopped"), &running, &[]);

        // An image of it is it.
        machine
            .script("cd; minidocker export -o e.tar c; minidocker import e.tar again:1")
            .ok();
        assert_eq!(
            machine.ok("run --rm --network none again:1 cat /new/g"),
            "1"
        );
        machine
            .script("cd; minidocker export -o /nothing/e.tar c")
            .exits(1);
        let mut terminal = machine.terminal("export c");
        terminal.expect("cowardly refusing to save to a terminal");
        machine.ok("rmi again:1");
        machine.nothing_left();
    });
}

#[test]
fn whoever_stops_reading_leaves_nothing_behind() {
    let machine = Machine::of(harness::engine::Who::Root);
    start(
        &machine,
        &[],
        "dd if=/dev/zero of=/big bs=1M count=64 2>/dev/null",
    );
    machine.script("minidocker export c | head -c 100 >/dev/null; minidocker cp c:/big - | head -c 100 >/dev/null").ok();
    machine.ok("stop -t 0 c");
    machine.script("minidocker export c | head -c 100 >/dev/null; minidocker cp c:/big - | head -c 100 >/dev/null").ok();
    // The container is not held by anybody.
    machine.ok("start c");
    machine.nothing_left();
}
