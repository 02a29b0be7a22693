//! Docker's rules for what `cp` makes of a source and a destination, each in a line. They are the
//! same in both directions, and whether the container runs or not.

use std::path::{Path, PathBuf};

use harness::engine::{Machine, Wanted};
use harness::{Dockerd, Output, busybox, made};

use super::{for_each, for_root, listing, start};

/// What there is to copy.
const SOURCES: &str = "
    echo f >f; mkdir -p d/s; echo a >d/a; echo b >d/s/b; ln -s f lf; ln -s d ld; ln -s nowhere ln";

/// What there is where it is copied to.
const TARGETS: &str = "
    echo old >f; mkdir -p e g/f h; echo old >h/d; ln -s e le; ln -s f lf; ln -s new dangling";

/// Options and source, destination, and what is new then or what is said.
type Rule = (&'static str, &'static str, Outcome);
type Outcome = Result<&'static [&'static str], &'static str>;

const RULES: &[Rule] = &[
    // A file.
    ("f", "new", Ok(&["new=f"])),
    ("f", "new/", Err("no such directory")),
    ("f", "no/new", Err("/no")),
    ("f", "f", Ok(&["f=f"])),
    ("f", "f/", Err("ot a directory")),
    ("f", "e", Ok(&["e/f=f"])),
    ("f", "e/", Ok(&["e/f=f"])),
    ("f", "e/.", Ok(&["e/f=f"])),
    ("f", "le", Ok(&["e/f=f"])),
    ("f", "lf", Ok(&["f=f"])),
    ("f", "dangling", Ok(&["new=f"])),
    ("f", "g", Err("cannot overwrite directory")),
    ("f/", "new", Err("ot a directory")),
    ("f/.", "new", Err("ot a directory")),
    ("no", "new", Err("no")),
    // A directory.
    ("d", "new", Ok(&["new/", "new/a=a", "new/s/", "new/s/b=b"])),
    ("d/", "new", Ok(&["new/", "new/a=a", "new/s/", "new/s/b=b"])),
    (
        "d/.",
        "new",
        Ok(&["new/", "new/a=a", "new/s/", "new/s/b=b"]),
    ),
    ("d", "new/", Ok(&["new/", "new/a=a", "new/s/", "new/s/b=b"])),
    ("d", "no/new", Err("/no")),
    ("d", "f", Err("cannot copy directory")),
    ("d/.", "f", Err("cannot copy directory")),
    ("d", "e", Ok(&["e/d/", "e/d/a=a", "e/d/s/", "e/d/s/b=b"])),
    ("d/", "e", Ok(&["e/d/", "e/d/a=a", "e/d/s/", "e/d/s/b=b"])),
    ("d/.", "e", Ok(&["e/a=a", "e/s/", "e/s/b=b"])),
    ("d/../d/./", "e", Ok(&["e/a=a", "e/s/", "e/s/b=b"])),
    ("d/s", "le/", Ok(&["e/s/", "e/s/b=b"])),
    ("d", "h", Err("cannot overwrite non-directory")),
    // A link.
    ("lf", "new", Ok(&["new->f"])),
    ("ln", "e", Ok(&["e/ln->nowhere"])),
    ("ld", "e", Ok(&["e/ld->d"])),
    ("-L lf", "new", Ok(&["new=f"])),
    ("-L lf", "e", Ok(&["e/lf=f"])),
    (
        "-L ld",
        "e",
        Ok(&["e/ld/", "e/ld/a=a", "e/ld/s/", "e/ld/s/b=b"]),
    ),
    ("-L ln", "e", Err("ln")),
    (
        "ld/",
        "e",
        Ok(&["e/ld/", "e/ld/a=a", "e/ld/s/", "e/ld/s/b=b"]),
    ),
    ("ld/.", "e", Ok(&["e/a=a", "e/s/", "e/s/b=b"])),
];

/// Which way files go.
#[derive(Clone, Copy, Debug)]
enum Way {
    In,
    Out,
}

#[test]
fn a_copy_goes_where_docker_puts_it() {
    for_each(|machine| {
        start(machine, &[], &things("/x"));
        machine.script(&things("/tmp/work/x")).ok();
        let upper = machine.container("c1").data().join("upper/x");
        let said = |out: &Output, words: &str| out.code() == 1 && out.errors().contains(words);
        follow(machine, "minidocker", (&upper, 0), said);
        machine.ok("stop -t 0 c1");
        follow(machine, "minidocker", (&upper, RULES.len()), said);
    });
}

#[test]
fn docker_goes_by_the_same_rules() {
    let machine = Machine::with(Wanted {
        shown: vec![(made("clients"), "clients".to_owned())],
        ..Wanted::default()
    });
    let host = machine.host();
    host.shell("for dir in /root /opt; do mount -t tmpfs -o mode=755 tmpfs $dir; done");
    busybox(host);
    let docker = Dockerd::start(host, "/run/docker/data", "");
    docker.call("load -q -i /tmp/busybox.tar").ok();
    machine.script(&things("/tmp/work/x")).ok();
    machine.script(&things("/tmp/volume")).ok();
    docker
        .call("run -d --name c1 --network none -v /tmp/volume:/x busybox sleep 1000")
        .ok();
    let failed = |out: &Output, _: &str| out.code() != 0;
    follow(&machine, "docker", (&host.path("/tmp/volume"), 0), failed);
    docker.call("rm -f c1").ok();
    docker.stop();
}

/// A script that makes all that there is in a directory.
fn things(dir: &str) -> String {
    format!(
        "set -e; mkdir -p {dir}; cd {dir}; (mkdir s; cd s; {SOURCES})
        i=0; while [ $i -lt {} ]; do mkdir t$i; (cd t$i; {TARGETS}); i=$((i+1)); done",
        2 * RULES.len()
    )
}

/// Copies by each rule, from and to the `first` places and those after it of a container's directory.
#[track_caller]
fn follow(
    machine: &Machine,
    program: &str,
    (container, first): (&Path, usize),
    fails_so: impl Fn(&Output, &str) -> bool,
) {
    let host = machine.host().path("/tmp/work/x");
    let mut wrong = Vec::new();
    for (n, (source, to, expected)) in RULES.iter().enumerate() {
        for way in [Way::In, Way::Out] {
            let (flag, source) = source.rsplit_once(' ').unwrap_or(("", source));
            let place = format!("t{}", first + n);
            let (line, dir): (String, &Path) = match way {
                Way::In => (
                    format!("cp {flag} s/{source} c1:/x/{place}/{to}"),
                    container,
                ),
                Way::Out => (format!("cp {flag} c1:/x/s/{source} {place}/{to}"), &host),
            };
            let before = listing(&dir.join(&place));
            let out = machine.script(&format!("cd /tmp/work/x; {program} {line}"));
            let after = listing(&dir.join(&place));
            let new: Vec<String> = after.difference(&before).cloned().collect();
            let right = match expected {
                Ok(expected) => out.code() == 0 && new == **expected,
                Err(words) => fails_so(&out, words) && new.is_empty() && before.is_subset(&after),
            };
            if !right {
                wrong.push(format!("{line}: {} {} {new:?}", out.code(), out.errors()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn words_that_make_no_sense_are_refused_as_docker_does() {
    for_root(|machine| {
        start(machine, &["-v", "/run:/vol:ro"], "echo 1 >/f; mkdir /d");
        machine.script("cd /tmp/work; echo 1 >f; echo 2 >c:f").ok();
        for (line, words) in [
            (
                "cp c1:/f c1:/d",
                "copying between containers is not supported",
            ),
            (
                "cp /tmp/work/f /tmp/work/g",
                "must specify at least one container source",
            ),
            (
                "cp ./c:f /tmp/work/g",
                "must specify at least one container source",
            ),
            ("cp none:/f /tmp/work/g", "No such container: none"),
            ("cp /tmp/work/f none:/f", "No such container: none"),
            (
                "cp c1:/nothing /tmp/work/g",
                "Could not find the file /nothing in container c1",
            ),
            (
                "cp /tmp/work/f c1:/nothing/f",
                "Could not find the file /nothing/f in container c1",
            ),
            ("cp /tmp/work/nothing c1:/", "No such file or directory"),
            (
                "cp c1:/f /nothing/f",
                "invalid output path: directory \"/nothing\" does not exist",
            ),
            (
                "cp c1:/f /dev/null",
                "must be a directory or a regular file",
            ),
            (
                "cp /tmp/work/f c1:/dev/null",
                "must be a directory or a regular file",
            ),
            ("cp - c1:/f", "destination \"c1:/f\" must be a directory"),
            ("cp - c1:/nothing", "must be a directory"),
            ("cp /tmp/work/f c1:/vol/f", "read-only"),
            // Procfs lets nobody remove a file, and it has a name.
            ("cp /tmp/work/f c1:/proc/1/comm", "copy comm: "),
        ] {
            let said = machine.fails(1, line);
            assert!(said.contains(words), "{line}: {said}");
        }
        // A path of the host may have a colon in it.
        machine
            .script("cd /tmp/work; minidocker cp ./c:f c1:/g")
            .ok();
        assert_eq!(machine.ok("exec c1 cat /g"), "2");
        let said = machine
            .script("cd /tmp/work; minidocker cp -q=false ./f c1:/g")
            .errors();
        assert!(said.starts_with("Successfully copied 3"), "{said}");
        assert!(said.trim().ends_with("kB to c1:/g"), "{said}");
        assert_eq!(
            machine
                .script("cd /tmp/work; minidocker cp ./f c1:/g")
                .errors(),
            ""
        );
    });
}

#[test]
fn a_read_only_root_is_read_only_for_a_copy_and_a_volume_is_not() {
    for_each(|machine| {
        machine
            .script("cd /tmp/work; mkdir vol ro; echo 1 >f; echo 2 >vol/from-host")
            .ok();
        let home = machine.script("cd /tmp/work; pwd").ok();
        let (vol, ro) = (format!("{home}/vol:/vol"), format!("{home}/ro:/ro:ro"));
        start(
            machine,
            &["--read-only", "-v", &vol, "-v", &ro, "--tmpfs", "/mem"],
            "echo 3 >/mem/f",
        );
        let file = PathBuf::from(&home).join("f");
        let file = file.display();
        for running in [true, false] {
            for refused in ["/new", "/etc/group", "/ro/f"] {
                let said = machine.fails(1, &format!("cp {file} c1:{refused}"));
                assert!(said.contains("read-only"), "{refused}: {said}");
            }
            machine.ok(&format!("cp {file} c1:/vol/{running}"));
            machine.ok(&format!("cp c1:/vol/from-host {home}/{running}"));
            assert_eq!(
                machine
                    .script(&format!("cd /tmp/work; cat vol/{running} {running}"))
                    .ok(),
                "1\n2"
            );
            if running {
                machine.ok(&format!("cp c1:/mem/f {home}/mem"));
                machine.ok(&format!("cp {file} c1:/mem/g"));
                assert_eq!(machine.ok("exec c1 cat /mem/g"), "1");
                machine.ok("stop -t 0 c1");
            }
        }
    });
}

#[test]
fn a_volume_of_a_container_that_never_ran_can_be_filled() {
    for_each(|machine| {
        let home = machine
            .script("cd /tmp/work; mkdir vol; echo 1 >f; pwd")
            .ok();
        machine.ok(&format!(
            "create --name c1 -v {home}/vol:/not/there/yet host cat /not/there/yet/f"
        ));
        machine.ok(&format!("cp {home}/f c1:/not/there/yet/"));
        assert_eq!(machine.script("cat /tmp/work/vol/f").ok(), "1");
        assert_eq!(machine.ok("start -a c1"), "1");
    });
}

#[test]
fn owners_modes_times_links_and_attributes_go_along() {
    for_each(|machine| {
        let lone = machine.who() == harness::engine::Who::Lone;
        let own = if lone { "0:0" } else { "33:44" };
        let script = format!(
            "mkdir /s; cd /s; echo 1 >f; chmod 640 f; ln f g; mkfifo p; mkdir -m 1770 d; echo 2 >d/x
             chown {own} f d; chmod 6755 d/x; touch -d '2001-02-03 04:05:06' f d"
        );
        start(machine, &[], &script);
        let home = machine.script("cd /tmp/work; pwd").ok();
        machine.ok(&format!("cp c1:/s {home}/s"));
        let user = machine.script("id -u; id -g").ok().replace('\n', ":");
        let look = "find . -printf '%P %y %m %U:%G %n %TY-%Tm-%Td\\n' | sort";
        let out = machine.script(&format!("cd /tmp/work/s; {look}")).ok();
        for line in [
            format!("f f 640 {user} 2 2001-02-03"),
            format!("g f 640 {user} 2 2001-02-03"),
            format!("d d 1770 {user} 2 2001-02-03"),
        ] {
            assert!(out.contains(&line), "{line}\n{out}");
        }
        // Nobody's rights come out of a container unasked.
        assert!(out.contains(&format!("d/x f 755 {user} 1")), "{out}");
        assert!(out.contains("p p 644"), "{out}");

        // Back again: root's, unless owners are to be kept.
        machine.ok(&format!("cp {home}/s c1:/t"));
        let owners = "stat -c '%u:%g %a %h' /t/f /t/d";
        assert_eq!(
            machine.ok(&["exec", "c1", "sh", "-c", owners]),
            "0:0 640 2\n0:0 1770 2"
        );
        if machine.who() == harness::engine::Who::Root {
            machine
                .script("cd /tmp/work; chown -R 5:6 s; setfattr -n user.k -v v s/f; setcap cap_kill+ep s/d/x")
                .ok();
            machine.ok(&format!("cp -a {home}/s c1:/u"));
            let owners = "stat -c '%u:%g %a %h' /u/f /u/d";
            assert_eq!(
                machine.ok(&["exec", "c1", "sh", "-c", owners]),
                "5:6 640 2\n5:6 1770 2"
            );
            machine.ok(&format!("cp -a c1:/u {home}/u"));
            let kept = machine
                .script("cd /tmp/work/u; stat -c %u:%g f; getfattr --only-values -n user.k f; getcap d/x")
                .ok();
            assert_eq!(kept, "5:6\nvd/x cap_kill=ep");
        }
    });
}
