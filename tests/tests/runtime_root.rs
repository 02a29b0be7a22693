//! What a container of minirunc sees of files: mounts with every option,
//! devices, masked and read-only paths.

use harness::{Host, Setup, User, assert_same};
use serde_json::{Value, json};

/// A root file system of the machine's own busybox, and a source of binds with
/// another mount in it.
const ROOT: &str = r#"
    mkdir -p /tmp/root /tmp/source
    mount -t tmpfs outer /tmp/source
    mkdir /tmp/source/inner
    mount -t tmpfs inner /tmp/source/inner
    cd /tmp/root
    mkdir -p bin etc run var
    ln -s /run var/run
    for name in $(busybox --list); do ln -s busybox "bin/$name"; done
    cp --remove-destination "$(command -v busybox)" bin/busybox
    echo secret >etc/secret
"#;

fn machine() -> Host {
    let host = Host::with(Setup::default());
    host.shell(ROOT);
    host
}

/// A bundle that runs `script`.
fn bundle(script: &str) -> Value {
    let kinds = ["pid", "mount", "ipc", "uts", "cgroup", "network"];
    json!({
        "ociVersion": "1.2.0",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": ["sh", "-c", script],
            "env": ["PATH=/bin"],
            "cwd": "/",
        },
        "root": { "path": "/tmp/root" },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
              "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
        ],
        "linux": { "namespaces": kinds.map(|kind| json!({ "type": kind })) },
    })
}

fn add(config: &mut Value, list: &str, entry: Value) {
    let list = config.pointer_mut(list).expect("the list is there");
    list.as_array_mut().expect("it is a list").push(entry);
}

fn bind(destination: &str, source: &str, options: &[&str]) -> Value {
    json!({ "destination": destination, "type": "bind", "source": source, "options": options })
}

fn run(host: &Host, config: &Value) -> harness::Output {
    run_as(host, User::Root, config)
}

fn run_as(host: &Host, user: User, config: &Value) -> harness::Output {
    host.shell("mkdir -p /tmp/bundle");
    let text = serde_json::to_vec(config).expect("a value is JSON");
    std::fs::write(host.path("/tmp/bundle/config.json"), text).expect("write the bundle");
    host.run_as(user, ["minirunc", "run", "--bundle", "/tmp/bundle", "box"])
}

/// Flags and propagation of what is mounted on /data and below it, as
/// mountinfo has them.
const FLAGS: &str =
    r#"grep " /data" /proc/self/mountinfo | sed -E 's/^([^ ]+ ){4}//; s/ - .*//; s/:[0-9]+/:N/'"#;

#[test]
fn an_option_of_a_bind_changes_what_it_says_and_nothing_else() {
    let host = machine();
    let cases = [
        (&["rbind"][..], "/data rw,relatime\n/data/inner rw,relatime"),
        (&["bind"], "/data rw,relatime"),
        (
            &["rbind", "ro"],
            "/data ro,relatime\n/data/inner rw,relatime",
        ),
        (
            &["rbind", "rro"],
            "/data ro,relatime\n/data/inner ro,relatime",
        ),
        (
            &["rbind", "rro", "rrw"],
            "/data rw,relatime\n/data/inner rw,relatime",
        ),
        (
            &["rbind", "nosuid", "rnodev", "rnoexec", "exec"],
            // What goes for all is said last.
            "/data rw,nosuid,nodev,noexec,relatime\n/data/inner rw,nodev,noexec,relatime",
        ),
        (
            &["rbind", "noatime"],
            "/data rw,noatime\n/data/inner rw,relatime",
        ),
        (
            &["rbind", "rnoatime", "rnodiratime"],
            "/data rw,noatime,nodiratime\n/data/inner rw,noatime,nodiratime",
        ),
        (&["rbind", "rstrictatime"], "/data rw\n/data/inner rw"),
        (
            &["rbind", "nosymfollow"],
            "/data rw,relatime,nosymfollow\n/data/inner rw,relatime",
        ),
        (
            &["rbind", "shared"],
            "/data rw,relatime shared:N\n/data/inner rw,relatime",
        ),
        (
            &["rbind", "rshared"],
            "/data rw,relatime shared:N\n/data/inner rw,relatime shared:N",
        ),
        (
            &["rbind", "unbindable"],
            "/data rw,relatime unbindable\n/data/inner rw,relatime",
        ),
    ];
    for (options, expected) in cases {
        let mut config = bundle(FLAGS);
        add(
            &mut config,
            "/mounts",
            bind("/data", "/tmp/source", options),
        );
        assert_eq!(run(&host, &config).ok(), expected, "{options:?}");
    }
}

#[test]
fn an_option_of_a_new_file_system_reaches_the_kernel() {
    let host = machine();
    let cases = [
        (&[][..], "/data rw,relatime"),
        (&["ro"], "/data ro,relatime"),
        (
            &["nosuid", "nodev", "noexec"],
            "/data rw,nosuid,nodev,noexec,relatime",
        ),
        (&["noatime", "strictatime"], "/data rw"),
        (&["rro", "rprivate"], "/data ro,relatime"),
        (&["rnosymfollow"], "/data rw,relatime,nosymfollow"),
        (&["shared", "size=1m"], "/data rw,relatime shared:N"),
    ];
    for (options, expected) in cases {
        let mut config = bundle(FLAGS);
        let tmpfs = json!({ "destination": "/data", "type": "tmpfs", "options": options });
        add(&mut config, "/mounts", tmpfs);
        assert_eq!(run(&host, &config).ok(), expected, "{options:?}");
    }
}

#[test]
fn the_host_is_told_of_mounts_in_a_volume_only_where_the_bundle_says_so() {
    let host = machine();
    host.shell("mount --make-rshared /tmp/source; mkdir -p /tmp/source/made");
    let script = "mount -t tmpfs x /data/made && echo done";
    for (told, seen) in [("rslave", "0"), ("rshared", "1")] {
        let mut config = bundle(script);
        config["process"]["capabilities"] = json!({
            "bounding": ["CAP_SYS_ADMIN"], "effective": ["CAP_SYS_ADMIN"], "permitted": ["CAP_SYS_ADMIN"],
        });
        config["linux"]["rootfsPropagation"] = json!(told);
        add(
            &mut config,
            "/mounts",
            bind("/data", "/tmp/source", &["rbind"]),
        );
        assert_eq!(run(&host, &config).ok(), "done", "{told}");
        let mounted = "grep -c ' /tmp/source/made ' /proc/self/mountinfo || true";
        assert_eq!(host.shell(mounted).trim(), seen, "{told}");
        host.shell("umount /tmp/source/made 2>/dev/null || true");
    }
}

#[test]
fn a_tmpfs_can_begin_with_what_it_covers_and_with_its_mode() {
    let host = machine();
    host.shell("cd /tmp/root; mkdir -p data/sub; echo text >data/sub/file; ln -s sub data/link; mkfifo data/pipe
        chown 5:6 data/sub/file; chmod 4755 data/sub/file; touch -d @1000000000 data/sub/file; chmod 711 data");
    let look = "cd /data; stat -c '%n %F %a %u:%g' . sub sub/file link pipe; stat -c %Y sub/file; cat sub/file; \
        touch sub/new; stat -f -c %T .";
    let mut config = bundle(look);
    add(
        &mut config,
        "/mounts",
        json!({ "destination": "/data", "type": "tmpfs", "options": ["tmpcopyup", "size=1m"] }),
    );
    let expected = ". directory 711 0:0\nsub directory 755 0:0\nsub/file regular file 4755 5:6\n\
        link symbolic link 777 0:0\npipe fifo 644 0:0\n1000000000\ntext\ntmpfs";
    assert_eq!(run(&host, &config).ok(), expected);
    assert_eq!(host.shell("ls /tmp/root/data/sub").trim(), "file");
}

#[test]
fn a_read_only_tmpfs_takes_mounts_and_devices_before_it_is_closed() {
    let host = machine();
    let script = "cat /data/a/secret; test -c /dev/null && touch /data/x /dev/x; echo $?";
    let mut config = bundle(script);
    config["mounts"][1]["options"] = json!(["ro", "mode=755"]);
    add(
        &mut config,
        "/mounts",
        json!({ "destination": "/data", "type": "tmpfs", "options": ["ro"] }),
    );
    add(
        &mut config,
        "/mounts",
        bind("/data/a/secret", "/tmp/root/etc/secret", &["bind"]),
    );
    assert_eq!(run(&host, &config).ok(), "secret\n1");
}

#[test]
fn links_lead_to_places_in_the_container_and_never_out_of_it() {
    let host = machine();
    host.shell("ln -s ../../../../../tmp/source /tmp/root/etc/out; ln -s /run/nowhere/file /tmp/root/etc/dangling");
    let before = host.shell("find /tmp/source");
    let mut config = bundle("ls -d /run/data/inner /tmp/source/new/inner && cat /run/nowhere/file");
    add(
        &mut config,
        "/mounts",
        bind("/var/run/data", "/tmp/source", &["bind"]),
    );
    add(
        &mut config,
        "/mounts",
        bind("/etc/out/new", "/tmp/source", &["bind"]),
    );
    add(
        &mut config,
        "/mounts",
        bind("/etc/dangling", "/tmp/root/etc/secret", &["bind"]),
    );
    let expected = "/run/data/inner\n/tmp/source/new/inner\nsecret";
    assert_eq!(run(&host, &config).ok(), expected);
    assert_eq!(host.shell("find /tmp/source"), before);
}

#[test]
fn a_mount_that_cannot_be_is_refused_by_its_field() {
    let host = machine();
    let cases = [
        (
            json!({ "destination": "/", "type": "tmpfs" }),
            "mounts[2].destination: ",
        ),
        (
            json!({ "destination": "/proc", "type": "tmpfs" }),
            "mounts[2].destination: only a proc",
        ),
        (
            bind("/proc", "/tmp/source", &[]),
            "mounts[2].destination: only a proc",
        ),
        (
            bind("/proc/self/attr", "/tmp/source", &[]),
            "mounts[2].destination: nothing",
        ),
        (
            bind("/data", "/tmp/missing", &[]),
            "mounts[2] (/data): open /tmp/missing",
        ),
        (
            bind("/data", "/tmp/source", &["sync"]),
            "mounts[2].options: sync",
        ),
        (
            bind("/data", "/tmp/source", &["frob"]),
            "mounts[2].options: \"frob\"",
        ),
        (
            bind("/etc", "/tmp/root/etc/secret", &[]),
            "mounts[2] (/etc): /etc is a directory",
        ),
        (
            json!({ "destination": "/data", "type": "frobfs" }),
            "mounts[2] (/data): ",
        ),
        (json!({ "destination": "/data" }), "mounts[2].type: "),
        (
            json!({ "destination": "/data", "type": "bind" }),
            "mounts[2].source: ",
        ),
        (
            json!({ "destination": "/data", "type": "tmpfs", "options": ["frob", "shared"] }),
            "mounts[2] (/data): mount tmpfs on /data in the container: tmpfs: Unknown parameter 'frob'",
        ),
    ];
    host.shell("mkdir /tmp/root/data");
    run(&host, &bundle("true")).ok();
    host.shell("rm /tmp/bundle/config.json");
    let before = host.snapshot();
    for (mount, error) in cases {
        let mut config = bundle("true");
        add(&mut config, "/mounts", mount.clone());
        let out = run(&host, &config);
        assert_ne!(out.code(), 0, "{mount}");
        assert!(out.errors().contains(error), "{mount}: {}", out.errors());
        host.shell("rm /tmp/bundle/config.json");
    }
    assert_same(&before, || host.snapshot());
}

#[test]
fn masked_paths_are_empty_and_read_only_ones_stay_as_they_are() {
    let host = machine();
    host.shell(
        "mkdir -p /tmp/root/closed /tmp/root/kept; touch /tmp/root/closed/x /tmp/root/kept/x",
    );
    let script = "cat /etc/secret; ls /closed; ls /kept; touch /closed/y /kept/y; echo $?; \
        echo 0 >/proc/sys/kernel/domainname || true; grep -c ' /closed ' /proc/self/mountinfo";
    let mut config = bundle(script);
    config["linux"]["maskedPaths"] = json!(["/etc/secret", "/closed", "/missing", "/proc/keys"]);
    config["linux"]["readonlyPaths"] = json!(["/kept", "/proc/sys", "/missing"]);
    let out = run(&host, &config);
    assert_eq!(out.ok(), "x\n1\n1");
    assert!(
        out.errors()
            .contains("/proc/sys/kernel/domainname: Read-only file system"),
        "{}",
        out.errors()
    );
}

#[test]
fn devices_are_made_as_told_and_the_usual_ones_are_there() {
    let host = machine();
    let script = "cd /dev; stat -c '%n %F %a %u:%g %t:%T' null net/tun loop0 pipe tty; readlink fd; readlink ptmx; echo x >zero && echo fine";
    let mut config = bundle(script);
    config["linux"]["devices"] = json!([
        { "path": "/dev/net/tun", "type": "c", "major": 10, "minor": 200, "fileMode": 0o600, "uid": 1, "gid": 2 },
        { "path": "/dev/loop0", "type": "b", "major": 7, "minor": 0, "fileMode": 0o640 },
        { "path": "/dev/pipe", "type": "p" },
    ]);
    let expected = "null character special file 666 0:0 1:3\nnet/tun character special file 600 1:2 a:c8\n\
        loop0 block special file 640 0:0 7:0\npipe fifo 666 0:0 0:0\ntty character special file 666 0:0 5:0\n\
        /proc/self/fd\npts/ptmx\nfine";
    assert_eq!(run(&host, &config).ok(), expected);
}

#[test]
fn in_a_user_namespace_ids_are_mapped_devices_borrowed_and_locked_flags_kept() {
    let host = machine();
    host.shell("chown -hR 100000:100000 /tmp/root; mkdir -p -m 700 /tmp/closed; touch /tmp/closed/file; chown 5:6 /tmp/closed/file
        mkdir /tmp/locked; mount -t tmpfs -o nosuid,nodev locked /tmp/locked");
    let script =
        "stat -c '%u:%g' /mapped; echo x >/dev/null && grep -c ' /dev/null ' /proc/self/mountinfo
        grep ' /locked' /proc/self/mountinfo | cut -d' ' -f6";
    let mut config = bundle(script);
    let map = json!([{ "containerID": 0, "hostID": 100000, "size": 65536 }]);
    config["linux"]["uidMappings"] = map.clone();
    config["linux"]["gidMappings"] = map;
    add(&mut config, "/linux/namespaces", json!({ "type": "user" }));
    add(
        &mut config,
        "/mounts",
        bind("/mapped", "/tmp/closed/file", &["bind", "idmap"]),
    );
    add(
        &mut config,
        "/mounts",
        bind("/locked", "/tmp/locked", &["rbind", "ro"]),
    );
    assert_eq!(run(&host, &config).ok(), "5:6\n1\nro,nosuid,nodev,relatime");
}

#[test]
fn a_mount_can_have_ids_of_its_own() {
    let host = machine();
    host.shell("touch /tmp/source/file; chown 7:8 /tmp/source/file");
    let mut config = bundle("stat -c '%u:%g' /data/file");
    let mut mount = bind("/data", "/tmp/source", &["bind", "idmap"]);
    mount["uidMappings"] = json!([{ "containerID": 7, "hostID": 1007, "size": 1 }]);
    mount["gidMappings"] = json!([{ "containerID": 0, "hostID": 2000, "size": 10 }]);
    add(&mut config, "/mounts", mount);
    assert_eq!(run(&host, &config).ok(), "1007:2008");
}
