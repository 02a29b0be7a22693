//! `cp` with a tar archive on standard input or output, and `export`.

use harness::engine::Who;
use harness::{assert_same_tree, tree};

use super::{for_each, for_root, start};

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
        assert_eq!(names("c1:/s/d"), "d/\nd/f");
        assert_eq!(names("c1:/s/d/"), "d/\nd/f");
        assert_eq!(names("c1:/s/d/."), "./\nf");
        assert_eq!(names("c1:/s/d/f"), "f");
        assert_eq!(names("c1:/s/l"), "l");
        assert_eq!(names("-L c1:/s/l"), "l/\nl/f");
        for pack in ["tar -c", "tar -cz"] {
            machine
                .script(&format!(
                    "cd /tmp/work; mkdir -p a; echo 2 >a/f; {pack} a | minidocker cp - c1:/t"
                ))
                .ok();
            assert_eq!(machine.ok("exec c1 cat /t/a/f"), "2");
            machine.ok("exec c1 rm -r /t/a");
        }
        // As `/var/run` leads to `/run`, a link of the container's leads on, and never out of it.
        machine
            .script("cd /tmp/work; mkdir -p t; echo 3 >t/g; tar -c t/g | minidocker cp - c1:/s")
            .ok();
        assert_eq!(machine.ok("exec c1 cat /t/g"), "3");
        machine
            .script("cd /tmp/work; tar -c t/g | xz | minidocker cp - c1:/s")
            .exits(1);
        machine
            .script("echo nonsense | minidocker cp - c1:/s")
            .exits(1);
        machine
            .script("cd /tmp/work; tar -c t | head -c 700 | minidocker cp - c1:/t")
            .exits(1);
    });
}

#[test]
fn an_export_is_the_tree_that_the_container_sees() {
    for_each(|machine| {
        let script = "rm /etc/group; mkdir /new; echo 1 >/new/f; ln /new/f /new/g; mkfifo /new/p
            rm -r /var/*; echo 2 >/vol/inside; echo 3 >/tmp/t";
        let home = machine.script("cd /tmp/work; mkdir vol; pwd").ok();
        let volume = format!("{home}/vol:/vol");
        start(machine, &["-v", &volume], script);
        let merged = |place: &str| {
            let export = format!("mkdir -p {place}; minidocker export c1 | tar -x -C {place}");
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
        let twice = "minidocker export c1 | sha256sum; minidocker export c1 | sha256sum";
        let sums = machine.script(twice).ok();
        assert_eq!(sums.lines().next(), sums.lines().nth(1));
        // Without a cgroup nobody is paused.
        if machine.who() == Who::Root {
            machine.ok("pause c1");
            assert_same_tree(&merged("paused"), &running, &[]);
            machine.ok("unpause c1");
        }
        machine.ok("stop -t 0 c1");
        assert_same_tree(&merged("stopped"), &running, &[]);

        // An image of it is it.
        machine
            .script("cd /tmp/work; minidocker export -o e.tar c1; minidocker import e.tar again:1")
            .ok();
        assert_eq!(
            machine.ok("run --rm --network none again:1 cat /new/g"),
            "1"
        );
        machine
            .script("cd /tmp/work; minidocker export -o /nothing/e.tar c1")
            .exits(1);
        let mut terminal = machine.terminal("export c1");
        terminal.expect("cowardly refusing to save to a terminal");
        machine.ok("rmi again:1");
    });
}

#[test]
fn whoever_stops_reading_leaves_nothing_behind() {
    for_root(|machine| {
        start(
            machine,
            &[],
            "dd if=/dev/zero of=/big bs=1M count=64 2>/dev/null",
        );
        machine.script("minidocker export c1 | head -c 100 >/dev/null; minidocker cp c1:/big - | head -c 100 >/dev/null").ok();
        machine.ok("stop -t 0 c1");
        machine.script("minidocker export c1 | head -c 100 >/dev/null; minidocker cp c1:/big - | head -c 100 >/dev/null").ok();
        // The container is not held by anybody.
        machine.ok("start c1");
    });
}
