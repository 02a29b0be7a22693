//! `diff` and `commit`: what a container wrote, told and kept.

use harness::engine::{Who, shell};
use harness::{assert_same_tree, tree};

use super::{for_each, for_root, start};

/// Changes of every kind.
const CHANGES: &str = "
    mkdir -p /new/deep; echo 1 >/new/deep/f; ln /new/deep/f /new/g; ln -s ../nowhere /new/l
    mkfifo -m 600 /new/p; chmod 4755 /new/deep/f; echo line >>/etc/group
    rm -r /srv; rm /etc/passwd; rm -r /opt; mkdir /opt; echo 2 >/opt/again
    chmod 700 /mnt; mkdir -m 1777 /new/sticky; touch -d 2001-02-03 /new/sticky";

/// What each container gets, at the time of its image's first.
const INITS: [&str; 5] = ["./.dockerenv|", "./dev", "./etc|d|", "./etc/mtab|", ".|d|"];

#[test]
fn a_diff_says_what_is_new_changed_and_gone() {
    for_each(|machine| {
        start(
            machine,
            &["-v", "/tmp:/vol/inner", "--tmpfs", "/mem"],
            CHANGES,
        );
        let expected = "C /etc\nC /etc/group\nD /etc/passwd\nC /mnt\nA /new\nA /new/deep\n\
            A /new/deep/f\nA /new/g\nA /new/l\nA /new/p\nA /new/sticky\nC /opt\nA /opt/again\nD /srv";
        let of_mounts = ["A /mem", "A /vol", "A /vol/inner"];
        let told = || {
            let all = machine.ok("diff c1");
            let ours = all.lines().filter(|line| !of_mounts.contains(line));
            ours.collect::<Vec<_>>().join("\n")
        };
        assert_eq!(told(), expected);
        machine.ok("stop -t 0 c1");
        assert_eq!(told(), expected);
        machine.ok("create --name other host true");
        assert_eq!(machine.ok("diff other"), "");
        assert!(
            machine
                .fails(1, "diff nobody")
                .contains("No such container: nobody")
        );
        // Only to some depth, and what lies deeper is named.
        let deep = "p=$(printf 'a/%.0s' $(seq 1900)); mkdir -p /d/$p";
        machine.ok(&shell("run --name deep --network none host", deep));
        let said = machine.fails(1, "diff deep");
        assert!(said.contains("is nested too deeply"), "{said}");
    });
}

#[test]
fn a_committed_image_has_the_containers_files() {
    for_each(|machine| {
        let marks = match machine.who() {
            Who::Root => "mknod /new/dev c 1 5; chown 7:8 /new/g",
            Who::Student => "chown 7:8 /new/g",
            Who::Lone => "",
        };
        start(machine, &[], &format!("{CHANGES}; {marks}"));
        let id = machine.ok("commit c1 new:1");
        assert!(id.starts_with("sha256:"), "{id}");
        machine.ok("create --name copy new:1 true");
        let home = machine.script("cd /tmp/work; pwd").ok();
        let export = |container: &str| {
            let unpack = format!(
                "mkdir {container}; minidocker export {container} | tar -x -C {container} --xattrs"
            );
            machine
                .script(&format!("cd /tmp/work; set -o pipefail; {unpack}"))
                .ok();
            let place = machine.host().path(&home).join(container);
            tree(place.to_str().expect("a path"), "")
        };
        assert_same_tree(&export("c1"), &export("copy"), &INITS);
        assert_eq!(machine.ok("diff copy"), "");

        // The layer lies over the others, and what is gone stays gone.
        machine.ok("run --name next --network none new:1 rm /new/g");
        machine.ok("commit next new:2");
        let script = "ls /etc/passwd /srv /new/g 2>/dev/null; cat /new/deep/f /opt/again";
        assert_eq!(
            machine.ok(&[
                "run",
                "--rm",
                "--network",
                "none",
                "new:2",
                "sh",
                "-c",
                script
            ]),
            "1\n2"
        );
        // Nothing written is no layer.
        let layers =
            |image: &str| machine.ok(&["image", "inspect", "-f", "{{len .RootFS.Layers}}", image]);
        machine.ok("create --name same new:2 true");
        machine.ok("commit same new:3");
        assert_eq!(layers("new:3"), layers("new:2"));
    });
}

#[test]
fn a_committed_image_runs_as_its_container_did_but_for_the_changes() {
    for_root(|machine| {
        let options = [
            "-e",
            "A=1",
            "-w",
            "/tmp",
            "-u",
            "0",
            "-l",
            "x=y",
            "--stop-signal",
            "USR1",
        ];
        start(machine, &options, "true");
        machine.ok(&[
            "commit",
            "-a",
            "Somebody <s@example.org>",
            "-m",
            "why",
            "-c",
            "CMD [\"echo\", \"a b\"]",
            "--change",
            "ENV B=$A C='d e'",
            "-c",
            "LABEL k=v",
            "-c",
            "EXPOSE 80",
            "-c",
            "WORKDIR sub",
            "-c",
            "USER nobody",
            "-c",
            "VOLUME /data",
            "-c",
            "ONBUILD RUN true",
            "c1",
            "img",
        ]);
        let shown = |format: &str| machine.ok(&["image", "inspect", "-f", format, "img"]);
        assert_eq!(shown("{{json .Config.Cmd}}"), r#"["echo","a b"]"#);
        assert_eq!(
            shown("{{.Config.WorkingDir}} {{.Config.User}}"),
            "/tmp/sub nobody"
        );
        assert_eq!(shown("{{json .Config.Labels}}"), r#"{"k":"v","x":"y"}"#);
        let env = shown("{{json .Config.Env}}");
        assert!(
            env.contains(r#""A=1""#) && env.contains(r#""B=1""#) && env.contains(r#""C=d e""#),
            "{env}"
        );
        assert_eq!(
            shown("{{.Config.StopSignal}} {{json .Config.OnBuild}}"),
            r#"USR1 ["RUN true"]"#
        );
        let history = machine.ok("history --format {{.Comment}} img");
        assert_eq!(history.lines().next(), Some("why"));
        for wrong in ["RUN true", "CMD", "NONSENSE x"] {
            machine.fails(1, &["commit", "-c", wrong, "c1", "other"]);
        }
        assert!(
            machine
                .fails(1, "commit nobody")
                .contains("No such container")
        );
    });
}

#[test]
fn a_container_stands_still_while_it_is_committed() {
    for_root(|machine| {
        start(
            machine,
            &[],
            "dd if=/dev/urandom of=/big bs=1M count=48 2>/dev/null; touch /ticks
        while :; do echo >>/ticks; done &",
        );
        let mut committing = machine.spawn("commit c1 img");
        let c = machine.container("c1");
        c.wait_until("paused");
        assert!(committing.is_running());
        committing.wait().ok();
        assert_eq!(c.status(), "running");
        // Whoever is killed lets go of it.
        let committing = machine.spawn("commit c1 img");
        c.wait_until("paused");
        committing.signal(nix::sys::signal::Signal::SIGKILL);
        committing.wait();
        c.wait_until("running");
        machine.ok("commit --pause=0 c1 img2");
        assert_eq!(c.status(), "running");
        // One that was paused stays so.
        machine.ok("pause c1");
        machine.ok("commit c1 img3");
        assert_eq!(c.status(), "paused");
        machine.ok("unpause c1");
    });
}

#[test]
fn others_read_a_committed_image_and_unpack_the_same_tree() {
    for_root(|machine| {
        let more = "mknod /new/dev c 1 5; chown 7:8 /new/g; mkdir /new/\u{e9}; touch '/new/a b'";
        start(machine, &[], &format!("{CHANGES}; {more}"));
        let caps =
            "cd /tmp/work; cp /bin/true cap; setcap cap_kill+ep cap; setfattr -n user.k -v v cap";
        machine
            .script(&format!("{caps}; minidocker cp -a cap c1:/new/"))
            .ok();
        machine.ok("commit c1 new:1");
        let read = "cd /tmp/work; store=/var/lib/minidocker/images
        skopeo inspect oci:$store:docker.io/library/new:1 >/dev/null || skopeo inspect oci:$store:new:1 >/dev/null
        skopeo copy -q oci:$store:new:1 oci:copy:new
        umoci unpack --image copy:new bundle";
        machine.script(&format!("set -e; {read}")).ok();
        machine.script("cd /tmp/work; mkdir ours; minidocker create --name copy new:1 true; minidocker export copy | tar -x -C ours --xattrs --xattrs-include=*").ok();
        let of = |path: &str| {
            tree(
                machine.host().path(path).to_str().expect("a path"),
                "-path ./dev -o -path ./etc -o -path ./proc -o -path ./sys",
            )
        };
        assert_same_tree(
            &of("/tmp/work/bundle/rootfs"),
            &of("/tmp/work/ours"),
            &[
                ".|d|",
                "./.dockerenv",
                "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  ./.dockerenv",
            ],
        );
    });
}

#[test]
fn an_image_stays_as_long_as_a_container_needs_it() {
    for_each(|machine| {
        machine.ok("tag host mine:1");
        start(machine, &[], "true");
        machine.ok("commit c1 mine:2");
        machine.ok("create --name dd mine:2 true");
        let said = machine.fails(1, "rmi mine:2");
        assert!(
            said.contains(
                "conflict: unable to remove repository reference \"mine:2\" (must force)"
            ),
            "{said}"
        );
        assert!(
            machine.ok("image prune -a -f").contains("Untagged: mine:1")
                || !machine.ok("images").contains("mine:1")
        );
        let host = machine.ok("inspect -f {{.Image}} c1");
        let said = machine.fails(1, &format!("rmi -f {host}"));
        assert!(
            said.contains("(cannot be forced) - image is being used by running container"),
            "{said}"
        );
        assert_eq!(machine.ok("rmi -f mine:2"), "Untagged: mine:2");
        assert_eq!(machine.minidocker("start -a dd").code(), 0);
        machine.ok("rm dd");
    });
}
