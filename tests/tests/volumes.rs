//! Volumes: what they begin with, who sees them, how long they stay, and what is left of one whose
//! maker or remover was killed. In docker's words beside docker: `containers_peers`.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use harness::engine::kills::{AT_ONCE, Deed, Target, kills};
use harness::engine::{Machine, Who, for_each, shell};
use harness::wait_for;

/// Runs a script in a container that is gone afterwards, and returns what it prints.
#[track_caller]
fn run(machine: &Machine, options: &str, script: &str) -> String {
    machine.ok(&shell(
        &format!("run --rm --network none {options} host"),
        script,
    ))
}

/// The same, of which only the errors are of interest: it must end with `code`.
#[track_caller]
fn refused(machine: &Machine, code: i32, options: &str, why: &str) {
    let said = machine.fails(
        code,
        &format!("run --rm --network none {options} host true"),
    );
    assert!(said.contains(why), "{options}: {said}");
}

/// What is in the volumes' directory.
fn on_disk(machine: &Machine) -> BTreeSet<String> {
    let entries = fs::read_dir(machine.data().join("volumes"))
        .into_iter()
        .flatten();
    let names = entries.flatten().map(|entry| entry.file_name());
    names
        .map(|name| name.to_string_lossy().into_owned())
        .collect()
}

/// Where a volume's files are, for this process.
fn files(machine: &Machine, name: &str) -> PathBuf {
    machine.data().join("volumes").join(name).join("_data")
}

/// Removes all containers and all volumes, and sees that nothing is left of either.
#[track_caller]
fn no_volume_left(machine: &Machine) {
    machine.no_container_left();
    machine.ok("volume prune -af");
    let left = on_disk(machine);
    assert!(left.is_empty(), "{left:?}");
}

/// The same, and the machine is as it was.
#[track_caller]
fn nothing_left(machine: &Machine) {
    no_volume_left(machine);
    let _ = fs::remove_dir(machine.data().join("volumes"));
    machine.nothing_left();
}

#[test]
fn a_volume_is_made_listed_shown_and_removed() {
    for_each(|machine| {
        assert_eq!(machine.ok("volume create data"), "data");
        assert_eq!(machine.ok("volume create data"), "data");
        assert_eq!(
            machine.ok("volume create --label tier=db --label x tagged"),
            "tagged"
        );
        let digits = machine.ok("volume create");
        assert!(digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let all = machine.ok("volume ls");
        assert_eq!(all.lines().next(), Some("DRIVER    VOLUME NAME"));
        assert!(all.contains("local     data\n"), "{all}");
        for (filters, expected) in [
            ("--filter name=at", vec!["data"]),
            (
                "--filter name=^data$ --filter name=tag",
                vec!["data", "tagged"],
            ),
            ("--filter label=tier", vec!["tagged"]),
            ("--filter label=tier=db --filter label=y", vec![]),
            ("--filter driver=nfs", vec![]),
            ("--filter driver=local --filter label=x", vec!["tagged"]),
            ("--filter dangling=false", vec![]),
        ] {
            let listed = machine.ok(&format!("volume ls -q {filters}"));
            assert_eq!(listed.lines().collect::<Vec<_>>(), expected, "{filters}");
        }
        assert_eq!(
            machine.ok("volume ls --filter label=x --format {{.Name}}={{.Labels}}/{{.Scope}}"),
            "tagged=tier=db,x=/local"
        );
        machine.fails(1, "volume ls --filter size=1");

        let shown = machine.minidocker("volume inspect data nobody");
        assert_eq!(shown.code(), 1);
        assert!(
            shown.errors().contains("get nobody: no such volume"),
            "{shown}"
        );
        let shown: serde_json::Value = serde_json::from_str(&shown.text()).expect("JSON");
        assert_eq!(
            (&shown[0]["Name"], &shown[0]["Driver"]),
            (&"data".into(), &"local".into())
        );
        let place = machine.ok("inspect --type volume -f {{.Mountpoint}} data");
        assert!(machine.host().path(&place).is_dir(), "{place}");
        assert_eq!(machine.ok("inspect -f {{.Name}} tagged"), "tagged");

        // It belongs to a container that has not run yet, and to one that has ended.
        machine.ok("create --name box --network none -v data:/x -v tagged:/y:ro host true");
        for force in ["", "-f "] {
            let said = machine.fails(1, &format!("volume rm {force}data"));
            let id = machine.container("box").id().to_owned();
            let words = format!("remove data: volume is in use - [{id}]");
            assert!(said.contains(&words), "{said}");
        }
        assert_eq!(machine.ok("volume ls -q -f dangling=true"), digits);
        assert_eq!(
            machine.ok("ps -a --filter volume=tagged --format {{.Names}}"),
            "box"
        );
        machine.ok("start -a box");
        machine.fails(1, "volume rm data");
        assert_eq!(machine.ok("volume prune -f").lines().nth(1), Some(&*digits));
        machine.ok("rm -v box");

        assert_eq!(machine.ok("volume rm -f nobody data"), "nobody\ndata");
        assert!(
            machine
                .fails(1, "volume rm data")
                .contains("get data: no such volume")
        );
        assert_eq!(
            machine.ok("volume prune -af --filter label!=x"),
            "Total reclaimed space: 0B"
        );
        let pruned = machine.ok("volume prune -f --filter all=1 --filter label=tier=db");
        assert_eq!(
            pruned,
            "Deleted Volumes:\ntagged\n\nTotal reclaimed space: 0B"
        );
        machine.fails(1, "volume prune -f --filter until=1h");
        let told = "events --since 1h --until 0s --filter volume=data --format {{.Action}}";
        let told = machine.ok(told);
        assert_eq!(told, "create\nmount\nunmount\ndestroy");

        for (line, why) in [
            ("volume create a", "volume name is too short"),
            (
                "volume create a/b",
                "includes invalid characters for a local volume name",
            ),
            ("volume create -d nfs share", "plugin \"nfs\" not found"),
            ("volume create -o size=1m data", "invalid option: \"size\""),
            (
                "volume create -o type=tmpfs data",
                "missing required option: \"device\"",
            ),
            (
                "volume create -o type=ext4 -o device=/dev/x -o o=remount data",
                "that is no way to mount type=ext4",
            ),
        ] {
            let said = machine.fails(1, line);
            assert!(said.contains(why), "{line}: {said}");
        }
        nothing_left(machine);
    });
}

/// What is to be seen of a directory, in its container.
const LIST: &str = "cd /data && find . | sort | while read f; do
    if [ -d $f ] && [ ! -L $f ]; then stat -c '%n %A %u %g %Y' $f
    else stat -c '%n %A %u %g %Y %h %N' $f; [ -f $f ] && [ ! -p $f ] && md5sum <$f; fi; done
    [ one -ef sub/two ] && echo the same";

/// An image with much that can be in a directory.
fn make_image(machine: &Machine) {
    let script = "mkdir -p /data/sub/deep /data/kept && cd /data && echo text >one
        ln one sub/two; ln -s ../one sub/link; ln -s nowhere gone; mkfifo -m 622 pipe
        echo secret >sub/deep/private; chmod 4711 sub/deep/private
        chown -h 33:44 sub/link sub/deep/private kept . 2>/dev/null
        chmod 2750 kept; chmod 1777 sub; chmod 700 .
        touch -d '2001-02-03 04:05:06' sub/deep/private one
        touch -h -d '2002-02-03 04:05:06' sub/link; touch -d '2003-02-03 04:05:06' sub/deep sub .
        echo made";
    machine.ok(&shell("run --name maker --network none host", script));
    let upper = machine.ok("inspect -f {{.GraphDriver.Data.UpperDir}} maker");
    let mark = format!("setfattr -n user.kind -v sweet {upper}/data/sub/deep/private");
    machine.host().shell(&mark);
    machine.ok("commit maker full");
    machine.ok("rm maker");
}

#[test]
fn a_new_volume_begins_with_what_the_image_has_in_its_place() {
    for_each(|machine| {
        make_image(machine);
        let list = |options: &str| {
            let line = format!("run --rm --network none {options} full");
            machine.ok(&shell(&line, LIST))
        };
        let image = list("");
        assert!(
            image.contains("the same") && image.contains("./sub/deep/private"),
            "{image}"
        );
        assert_eq!(list("-v data:/data"), image);
        let private = inside(machine, "data/_data/sub/deep/private");
        let mark = format!("getfattr --absolute-names --only-values -n user.kind {private}");
        assert_eq!(machine.host().shell(&mark), "sweet");
        // What somebody has taken out of it does not come back; and an empty one may be wanted.
        let other = |options: &str, script: &str| {
            machine.ok(&shell(
                &format!("run --rm --network none {options} full"),
                script,
            ))
        };
        other("-v data:/x", "rm -r /x/sub /x/one /x/pipe");
        assert_eq!(other("-v data:/data", "ls /data"), "gone\nkept");
        assert_eq!(other("-v bare:/data:nocopy", "ls /data"), "");
        assert_eq!(
            other("--mount src=bear,dst=/data,volume-nocopy", "ls /data"),
            ""
        );
        assert_eq!(other("-v late:/nowhere", "ls /nowhere"), "");
        assert_eq!(other("-v late:/data", "ls /data | wc -l"), "5");
        // Of several that begin with it, all see all of it.
        let count = shell(
            "run --rm --network none -v crowd:/data full",
            "find /data | wc -l",
        );
        let all: Vec<_> = (0..4).map(|_| machine.spawn(&count)).collect();
        for one in all {
            assert_eq!(one.wait().ok(), "10");
        }
        // Whoever died while copying left half of it aside, and whoever died while moving left
        // what is still to be moved; what others have written meanwhile stays.
        machine.ok("volume create half");
        let half = files(machine, "half");
        let aside = |name: &str| half.with_file_name(name);
        machine
            .script(&format!(
                "mkdir {0} && touch {0}/rubbish && mkdir {1} && touch {1}/rest {1}/mine && echo x >{2}/mine",
                inside(machine, "half/filling"),
                inside(machine, "half/filled"),
                inside(machine, "half/_data"),
            ))
            .ok();
        assert_eq!(
            other("-v half:/x:nocopy", "ls /x; cat /x/mine"),
            "mine\nrest\nx"
        );
        assert!(!aside("filled").exists());
        other("-v half:/x", "rm /x/*");
        assert_eq!(other("-v half:/data", "ls /data | wc -l"), "5");
        assert!(!aside("filling").exists());
        // What is mounted in its place has a beginning of its own, on the same disk as well.
        machine.ok("volume create covered");
        let covered = inside(machine, "covered/_data");
        let mount = format!("mount --bind {covered} {covered}");
        machine.host().shell(&mount);
        assert_eq!(other("-v covered:/data", "ls /data"), "");
        machine.host().shell(&format!("umount {covered}"));
        assert_eq!(other("-v covered:/data", "ls /data | wc -l"), "5");
        machine.ok("rmi full");
        nothing_left(machine);
    });
}

/// A place below the volumes, as the machine sees it.
fn inside(machine: &Machine, path: &str) -> String {
    let place = machine.ok("info --format {{.DockerRootDir}}");
    format!("{place}/volumes/{path}")
}

#[test]
fn a_volume_outlives_its_containers_and_an_anonymous_one_the_others() {
    for_each(|machine| {
        let owners = "touch /v/root; touch /v/other; chown 33:44 /v/other 2>/dev/null; mkdir -m 700 /v/dir; touch /v/dir/f; chown -R 33 /v/dir 2>/dev/null; stat -c '%u:%g %n' /v/*";
        let seen = run(machine, "-v keep:/v", owners);
        let found = run(
            machine,
            "-v keep:/w:ro",
            "cd /w; stat -c '%u:%g /v/%n' *; ls /w/dir",
        );
        assert_eq!(found, format!("{seen}\nf"));
        if machine.who() == Who::Student {
            assert!(seen.contains("33:44 /v/other"), "{seen}");
        }
        // As an ordinary user it has files of somebody else's, and is removed all the same.
        machine.ok("volume rm keep");

        machine.ok("run -d --name first --network none -v /anon -v named:/n host sleep 1000");
        machine.ok("create --name second --network none --volumes-from first:ro host sh -c true");
        run(
            machine,
            "--volumes-from first",
            "echo text >/anon/file; echo text >/n/file",
        );
        let said = machine.minidocker(&shell(
            "run --rm --network none --volumes-from second host",
            "cat /anon/file; echo x >/anon/x",
        ));
        assert!(said.errors().contains("Read-only"), "{said}");
        assert_eq!(said.text(), "text");
        refused(
            machine,
            125,
            "--volumes-from nobody",
            "No such container: nobody",
        );
        // What is asked for in the same place goes before.
        assert_eq!(
            run(
                machine,
                "--volumes-from first --tmpfs /n",
                "ls /n; cat /anon/file"
            ),
            "text"
        );
        assert_eq!(
            machine.ok(&["inspect", "-f", "{{.HostConfig.VolumesFrom}}", "second"]),
            "[first:ro]"
        );
        let anonymous = machine.ok("volume ls -q -f label=com.docker.volume.anonymous");
        assert_eq!(anonymous.len(), 64, "{anonymous}");
        machine.ok("rm -f -v first");
        assert_eq!(on_disk(machine).len(), 2, "the second has them as well");
        machine.ok("rm -v second");
        assert_eq!(on_disk(machine), BTreeSet::from(["named".to_owned()]));

        machine.ok("run --name kept --network none -v /anon host true");
        machine.ok("rm kept");
        assert_eq!(on_disk(machine).len(), 2);
        machine.ok("run --rm --network none -v /anon -v named:/n host true");
        assert_eq!(on_disk(machine).len(), 2, "that of --rm went");
        // A shim that is killed removes nothing, and who comes next does.
        machine.ok("run -d --rm --name killed --network none -v /anon host sleep 1000");
        assert_eq!(on_disk(machine).len(), 3);
        machine.container("killed").kill_shim();
        wait_for("the container to be gone", 60, || {
            machine.ok("ps -aq").is_empty().then_some(())
        });
        assert_eq!(on_disk(machine).len(), 2);
        let pruned = machine.ok("system prune -f --volumes");
        assert!(pruned.contains("Deleted Volumes:"), "{pruned}");
        assert_eq!(on_disk(machine), BTreeSet::from(["named".to_owned()]));
        nothing_left(machine);
    });
}

#[test]
fn mounts_are_what_their_keys_say() {
    for_each(|machine| {
        // Read-only is nothing that the container could change.
        let try_it = "mount -o remount,rw /v; mount -o remount,bind,rw /v; echo x >/v/x";
        for option in ["-v data:/v:ro", "--mount src=data,dst=/v,readonly"] {
            let out = machine.minidocker(&shell(
                &format!("run --rm --network none {option} host"),
                try_it,
            ));
            assert!(
                out.code() != 0 && out.errors().contains("Read-only"),
                "{out}"
            );
        }
        assert_eq!(
            run(
                machine,
                "--mount type=tmpfs,dst=/t,tmpfs-size=2m,tmpfs-mode=1750",
                "df -k /t | tail -1 | awk '{print $2}'; stat -c %a /t; dd if=/dev/zero of=/t/x bs=1M count=3 2>&1 | grep -c 'No space'"
            ),
            "2048\n1750\n1"
        );
        // A place of the host's that is not there: -v makes it, and --mount does not.
        refused(
            machine,
            125,
            "--mount type=bind,src=/tmp/there,dst=/v",
            "bind source path does not exist: /tmp/there",
        );
        assert_eq!(
            run(machine, "-v /tmp/there/it/is:/v", "ls -A /v | wc -l"),
            "0"
        );
        let volume = "--mount src=named,dst=/v,volume-label=tier=db,volume-driver=local";
        run(
            machine,
            volume,
            "mkdir -p /v/a/b; echo deep >/v/a/b/f; echo top >/v/f",
        );
        assert_eq!(machine.ok("volume ls -q -f label=tier=db"), "named");

        // A subpath is below its volume, whatever links somebody has put there.
        let links = "ln -s a/b /v/in; ln -s ../../../../../../.. /v/out; ln -s /a /v/root; ln -s /v/f /v/file";
        run(machine, "-v named:/v", links);
        for good in ["a/b", "a/../a/b/", "in"] {
            let option = format!("--mount src=named,dst=/s,volume-subpath={good}");
            assert_eq!(
                run(
                    machine,
                    &option,
                    "cat /s/f; cd /s/..; ls -d v 2>&- || echo root"
                ),
                "deep\nroot"
            );
        }
        for (bad, why) in [
            ("out", "leads out of the volume named"),
            ("root", "leads out of the volume named"),
            ("file", "leads out of the volume named"),
            ("f", "Not a directory"),
            ("nothing", "No such file or directory"),
            (
                "../named",
                "subpath must be a relative path within the volume",
            ),
            ("/a", "subpath must be a relative path within the volume"),
        ] {
            refused(
                machine,
                125,
                &format!("--mount src=named,dst=/s,volume-subpath={bad}"),
                why,
            );
        }
        let again = "run --name again --network none --mount src=named,dst=/s,volume-subpath=a/b,ro host cat /s/f";
        assert_eq!(machine.ok(again), "deep");
        assert_eq!(machine.ok("start -a again"), "deep");
        let copied = machine.script("minidocker cp again:/s/f - | tar -xO").ok();
        assert_eq!(copied, "deep");
        machine.ok("rm again");

        // An empty part begins with what the image has in its place, and the volume stays as it was.
        if machine.who() == Who::Root {
            make_image(machine);
            run(
                machine,
                "-v parts:/v",
                "mkdir -p /v/x/y && ln -s /etc /v/out",
            );
            let part = "--mount src=parts,dst=/data,volume-subpath=x/y";
            let other = |option: &str, script: &str| {
                let line = format!("run --rm --network none {option} full");
                machine.ok(&shell(&line, script))
            };
            let whole = other("", "ls -A /data");
            assert!(!whole.is_empty());
            assert_eq!(other(&format!("{part},volume-nocopy"), "ls -A /data"), "");
            assert_eq!(other(part, "ls -A /data && rm -r /data/*"), whole);
            let left = other(part, "ls -A /data");
            assert_eq!(other(part, "ls -A /data; touch /data/mine"), left);
            assert_eq!(
                run(machine, "-v parts:/v", "ls -A /v /v/x"),
                "/v:\nout\nx\n\n/v/x:\ny"
            );
            let entries = fs::read_dir(machine.data().join("volumes/parts")).expect("a volume");
            assert_eq!(entries.count(), 2, "_data and volume.json");
            machine.ok("volume rm parts");
        }

        // A volume that is another directory of the host's.
        machine
            .script("mkdir /tmp/else && echo there >/tmp/else/f")
            .ok();
        machine.ok("volume create -o type=none -o o=bind,ro -o device=/tmp/else elsewhere");
        assert_eq!(
            run(
                machine,
                "-v elsewhere:/v",
                "cat /v/f; echo x 2>&- >/v/x || echo refused"
            ),
            "there\nrefused"
        );
        let said = machine.fails(
            1,
            "volume create -o type=none -o o=bind -o device=/tmp elsewhere",
        );
        assert!(said.contains("volume name must be unique"), "{said}");
        machine.ok("volume rm elsewhere");
        assert_eq!(machine.script("cat /tmp/else/f").ok(), "there");
        machine.script("rm -r /tmp/else /tmp/there").ok();
        nothing_left(machine);
    });
}

#[test]
fn a_volume_that_is_a_file_system_is_mounted_for_who_uses_it() {
    for_each(|machine| {
        let host = machine.host();
        let mounts = || host.shell("cat /proc/self/mountinfo");
        let before = mounts();
        let made = "volume create -o type=tmpfs -o device=tmpfs -o o=size=1m,mode=1750,noexec mem";
        machine.ok(made);
        machine.ok(made);
        assert_eq!(
            machine.ok(&["volume", "inspect", "-f", "{{json .Options}}", "mem"]),
            r#"{"device":"tmpfs","o":"size=1m,mode=1750,noexec","type":"tmpfs"}"#
        );
        let words = "run -d --name first --network none --restart on-failure:1 -v mem:/m host";
        machine.ok(&shell(
            words,
            "[ -e /m/f ] && exit 1; echo x >/m/f; sleep 1000",
        ));
        let seen = machine.ok(&shell("exec first", "grep ' /m ' /proc/mounts"));
        for option in ["tmpfs", "size=1024k", "mode=1750", "noexec"] {
            assert!(seen.contains(option), "{seen}");
        }
        // Its alone, and nobody else's on the host.
        assert_eq!(mounts(), before);
        assert_eq!(
            machine.script("minidocker cp first:/m/f - | tar -xO").ok(),
            "x"
        );
        let said = machine.fails(125, "run --rm --network none -v mem:/m host true");
        assert!(
            said.contains("volume mem is a tmpfs, and another container has it"),
            "{said}"
        );
        let pid = machine.container("first").init().pid;
        host.shell(&format!("kill -9 {pid}"));
        wait_for("it to run again", 60, || {
            let first = machine.container("first");
            (first.status() == "running" && first.init().pid != pid).then_some(())
        });
        wait_for("its file", 60, || {
            (machine.minidocker("exec first cat /m/f").text() == "x").then_some(())
        });
        // It goes with its user, killed or not, and the next one begins with nothing.
        machine.container("first").kill_shim();
        assert_eq!(run(machine, "-v mem:/m", "ls -A /m"), "");
        assert_eq!(
            run(
                machine,
                "--mount type=volume,src=new,dst=/m,\"volume-opt=type=tmpfs\",\
             volume-opt=device=x",
                "grep -c ' /m tmpfs' /proc/mounts"
            ),
            "1"
        );
        machine.ok("rm -f first");
        assert_eq!(mounts(), before);

        // What the kernel does not mount is said.
        for (options, why) in [
            ("type=nonsense -o device=x", "type=nonsense, device=x"),
            ("type=tmpfs -o device=x -o o=nonsense=1", "Invalid argument"),
            (
                "type=nfs -o device=:/x -o o=addr=no.such.invalid",
                "no.such.invalid",
            ),
        ] {
            machine.ok(&format!("volume create -o {options} odd"));
            let said = machine.fails(125, "run --rm --network none -v odd:/m host true");
            assert!(
                said.contains("error while mounting volume odd") && said.contains(why),
                "{said}"
            );
            machine.ok("volume rm odd");
        }
        machine.ok("volume rm mem new");
        nothing_left(machine);
    });
}

#[test]
fn what_is_mounted_below_a_bind_comes_along_as_it_is_asked_for() {
    let machine = Machine::of(Who::Root);
    machine.host().shell(
        "mkdir -p /tmp/up/down && mount -t tmpfs tmpfs /tmp/up/down && touch /tmp/up/down/f",
    );
    let of = |keys: &str| {
        let option = format!("--mount type=bind,src=/tmp/up,dst=/u{keys}");
        run(
            &machine,
            &option,
            "[ -e /u/down/f ] && echo here; [ -e /u/down/f ] && touch /u/down/g 2>&- && echo writable; rm -f /u/down/g; touch /u/g 2>&- && echo top; rm -f /u/g",
        )
    };
    assert_eq!(of(""), "here\nwritable\ntop");
    assert_eq!(of(",readonly"), "here");
    assert_eq!(of(",readonly,bind-recursive=writable"), "here\nwritable");
    assert_eq!(
        of(",readonly,bind-propagation=rprivate,bind-recursive=readonly"),
        "here"
    );
    assert_eq!(of(",bind-recursive=disabled"), "top");
    assert_eq!(of(",bind-nonrecursive"), "top");
    machine.host().shell("umount /tmp/up/down; rm -r /tmp/up");
    // What an administrator mounts in a volume is not the volume's.
    machine.ok("volume create disk");
    let place = machine.ok("volume inspect -f {{.Mountpoint}} disk");
    machine.host().shell(&format!(
        "mount -t tmpfs tmpfs {place} && touch {place}/precious"
    ));
    let said = machine.fails(1, "volume rm disk");
    assert!(said.contains("something is mounted at"), "{said}");
    assert_eq!(
        run(&machine, "-v disk:/etc", "ls /etc | grep -c precious"),
        "1"
    );
    machine
        .host()
        .shell(&format!("test -e {place}/precious && umount {place}"));
    nothing_left(&machine);
}

#[test]
fn directories_count_without_a_file_and_damaged_files_lose_nothing() {
    for who in [Who::Root, Who::Student] {
        let machine = &Machine::of(who);
        machine.ok("volume create torn");
        run(machine, "-v torn:/v", "echo text >/v/f");
        let hand = inside(machine, "hand/_data");
        machine
            .script(&format!("mkdir -p {hand} && echo text >{hand}/f"))
            .ok();
        let torn = files(machine, "torn").with_file_name("volume.json");
        fs::write(&torn, "{\"version\":1,").expect("tear");
        let list = machine.minidocker("volume ls -q");
        assert_eq!(list.ok(), "hand\ntorn");
        assert!(list.errors().contains("is damaged"), "{list}");
        assert_eq!(run(machine, "-v hand:/v", "cat /v/f"), "text");
        // What somebody left who was killed.
        let killed = inside(machine, ".gone.0123456789abcdef/_data/f");
        machine.script(&format!("mkdir -p {killed}")).ok();
        for command in ["system check --dry-run", "system check"] {
            let told = machine.minidocker(command);
            assert_eq!(told.code(), 1, "{told}");
            for what in [
                "volume.json is damaged",
                "half made or half removed volumes: 1",
            ] {
                assert!(told.text().contains(what), "{told}");
            }
        }
        let told = machine.minidocker("system check").text();
        assert!(!told.contains("half made"), "{told}");
        let said = machine.fails(1, "volume inspect torn");
        assert!(said.contains("volume.json is damaged"), "{said}");
        refused(machine, 125, "-v torn:/v", "volume.json is damaged");
        let pruned = machine.minidocker("volume prune -af");
        assert!(pruned.ok().contains("hand"), "{pruned}");
        assert_eq!(
            fs::read_to_string(files(machine, "torn").join("f")).expect("read"),
            "text\n"
        );
        fs::remove_file(&torn).expect("remove");
        assert_eq!(run(machine, "-v torn:/v", "cat /v/f"), "text");

        // Nobody knows what a container with a damaged state needs.
        machine.ok("create --name lost --network none -v torn:/v host true");
        let state = machine.container("lost").data().join("state.json");
        let text = fs::read(&state).expect("read");
        fs::write(&state, "{").expect("damage");
        for line in ["volume rm torn", "volume prune -af"] {
            let said = machine.fails(1, line);
            assert!(said.contains("find out which volumes container"), "{said}");
        }
        fs::write(&state, text).expect("write");
        machine.fails(1, "volume rm torn");
        machine.ok("rm lost");

        // On a full disk there is no half of anything.
        make_image(machine);
        let place = match who {
            Who::Root => "/var/lib/minidocker",
            Who::Student | Who::Lone => "/home",
        };
        let host = machine.host();
        host.shell(&format!(
            "used=$(df -k --output=used {place} | tail -1); mount -o remount,size=$((used + 64))k {place}; \
             head -c 1M /dev/zero >{place}/filler || true"
        ));
        let said = machine.fails(1, "volume create more");
        assert!(said.contains("No space left"), "{said}");
        assert_eq!(on_disk(machine), BTreeSet::from(["torn".to_owned()]));
        machine.ok("volume rm torn");
        host.shell(&format!(
            "rm {place}/filler; mount -o remount,size=1g {place}"
        ));
        machine.ok("rmi full");
        no_volume_left(machine);
    }
}

#[test]
fn of_a_removal_and_a_container_that_wants_the_volume_one_wins() {
    let machine = &Machine::of(Who::Root);
    for round in 0..12 {
        let volume = format!("vol{round}");
        run(machine, &format!("-v {volume}:/v"), "echo text >/v/f");
        let create = format!("create --name c{round}x --network none -v {volume}:/v host true");
        let (create, remove) = match round % 2 {
            0 => {
                let create = machine.spawn(&create);
                (create, machine.spawn(&format!("volume rm {volume}")))
            }
            _ => {
                let remove = machine.spawn(&format!("volume rm {volume}"));
                (machine.spawn(&create), remove)
            }
        };
        create.wait().ok();
        let removed = remove.wait().code() == 0;
        let kept = files(machine, &volume).join("f").exists();
        assert!(
            files(machine, &volume).is_dir() && kept != removed,
            "{round}"
        );
    }
    let all: Vec<_> = (0..16)
        .map(|_| machine.spawn("volume create one"))
        .collect();
    for one in all {
        assert_eq!(one.wait().ok(), "one");
    }
    // A container from which another takes its volumes may go just then.
    for round in 0..8 {
        machine.ok(&format!(
            "create --name from{round} --network none -v /anon host true"
        ));
        let take = format!(
            "create --name take{round} --network none --volumes-from from{round} host true"
        );
        let take = machine.spawn(&take);
        let remove = machine.spawn(&format!("rm -v from{round}"));
        remove.wait().ok();
        let took = take.wait().code() == 0;
        let name = machine.minidocker(&[
            "inspect",
            "-f",
            "{{range .Mounts}}{{.Name}}{{end}}",
            &format!("take{round}"),
        ]);
        assert!(!took || on_disk(machine).contains(&name.text()), "{name}");
    }
    nothing_left(machine);
}

#[test]
fn whoever_makes_fills_or_removes_a_volume_is_killed() {
    let machine = &Machine::of(Who::Root);
    make_image(machine);
    let more = shell(
        "run --name more --network none full",
        "cd /data/sub && for i in $(seq 300); do head -c 9000 /dev/zero >f$i; done",
    );
    machine.ok(&more);
    machine.ok("commit more full");
    machine.ok("rm more");
    let whole = |name: &str| {
        let place = files(machine, name);
        assert!(
            place.is_dir() && place.with_file_name("volume.json").is_file(),
            "{name}"
        );
    };
    let all_whole = || {
        let all = machine.ok("volume ls -q");
        all.lines().for_each(whole);
    };
    // They take some milliseconds: each is killed a little later than the one before.
    let kill_each = |command: &str| {
        machine.script(&format!(
            "for n in $(seq 0 31); do
                timeout -s KILL $(printf 0.%04d $((n * 4 + 1))) minidocker {command} vol$n; done"
        ));
    };
    kill_each("volume create");
    all_whole();
    machine.ok("volume create vol0");
    machine.ok("volume prune -af");
    let fill = Deed {
        ready: "",
        line: "run -d --name NAME -e VICTIM=NAME --network none -v NAME:/data full sleep 1000",
        targets: &[Target::Shim, Target::Client],
        again: "",
    };
    kills(machine, &fill, 4 * AT_ONCE, || {
        all_whole();
        for name in machine.ok("volume ls -q").lines() {
            let line = format!("run --rm --network none -v {name}:/data full");
            assert_eq!(
                machine.ok(&shell(&line, "find /data | wc -l")),
                "310",
                "{name}"
            );
        }
    });
    no_volume_left(machine);
    for n in 0..32 {
        let line = format!("volume create vol{n}");
        machine.ok(&line);
        fs::write(files(machine, &format!("vol{n}")).join("f"), "text").expect("write");
    }
    kill_each("volume rm");
    all_whole();
    for name in machine.ok("volume ls -q").lines() {
        assert!(files(machine, name).join("f").exists(), "{name}");
    }
    machine.ok("volume prune -af");
    assert!(on_disk(machine).is_empty(), "{:?}", on_disk(machine));
    machine.ok("rmi full");
    nothing_left(machine);
}
