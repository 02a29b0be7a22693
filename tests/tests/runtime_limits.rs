//! What a container may use: its cgroup, its devices and its limits.
//!
//! The cgroup and the devices are looked at wherever version 2 of cgroups is;
//! limits need its controllers, and so the virtual machine: `cargo lab vm`.

use std::fs;

use harness::{Host, Setup, User, assert_same, wait_for};
use serde_json::{Value, json};

/// A root file system of the machine's own busybox.
const ROOT: &str = r#"
    mkdir -p /tmp/root
    cd /tmp/root
    mkdir -p bin dev proc sys tmp
    for name in $(busybox --list); do ln -s busybox "bin/$name"; done
    cp --remove-destination "$(command -v busybox)" bin/busybox
"#;

/// A machine with a root file system for bundles.
fn machine(setup: Setup) -> Host {
    let host = Host::with(setup);
    host.shell(ROOT);
    host
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

/// Writes the bundle /tmp/`name`, whose command is `script`, with `linux` on
/// top of namespaces of its own. Student's has a user namespace as well.
fn bundle(host: &Host, user: User, name: &str, script: &str, linux: Value) {
    let kinds = ["pid", "mount", "ipc", "uts", "cgroup"].map(|kind| json!({ "type": kind }));
    let mut namespaces = kinds.to_vec();
    let mut ids = json!({});
    if user == User::Student {
        namespaces.push(json!({ "type": "user" }));
        let root = json!([{ "containerID": 0, "hostID": 1000, "size": 1 }]);
        ids = json!({ "uidMappings": root, "gidMappings": root });
    }
    // To make devices, and to open the kernel's log.
    let capabilities = json!(["CAP_MKNOD", "CAP_SYSLOG"]);
    let mut config = json!({
        "ociVersion": "1.2.0",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": ["sh", "-c", script],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
        },
        "root": { "path": "/tmp/root" },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"] },
            { "destination": "/tmp", "type": "tmpfs", "source": "tmpfs" },
            { "destination": "/sys", "type": "tmpfs", "source": "tmpfs" },
            { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup" },
        ],
        "linux": { "namespaces": namespaces },
    });
    merge(&mut config["linux"], ids);
    merge(&mut config["linux"], linux);
    let dir = format!("/tmp/{name}");
    host.run_as(user, ["mkdir", "-p", &dir]).ok();
    fs::write(host.path(&format!("{dir}/config.json")), config.to_string())
        .expect("write to the machine's memory");
}

/// Runs such a bundle to its end.
fn run_as(host: &Host, user: User, script: &str, linux: Value) -> harness::Output {
    bundle(host, user, "box", script, linux);
    host.run_as(user, ["minirunc", "run", "--bundle", "/tmp/box", "box"])
}

fn run(host: &Host, script: &str, linux: Value) -> harness::Output {
    run_as(host, User::Root, script, linux)
}

/// Starts such a bundle, which says `up` first.
fn spawn(host: &Host, user: User, script: &str, linux: Value) -> harness::Running {
    let script = format!("echo up; {script}");
    bundle(host, user, "box", &script, linux);
    let mut running = host.spawn_as(user, ["minirunc", "run", "--bundle", "/tmp/box", "box"]);
    running.expect("up");
    running
}

fn end(host: &Host, mut running: harness::Running) {
    host.run(["minirunc", "kill", "box", "KILL"]).ok();
    wait_for("the end", 60, || (!running.is_running()).then_some(()));
}

/// Changes what the container `box` may use, with the file that `update` reads.
fn update(host: &Host, resources: &Value) -> harness::Output {
    fs::write(host.path("/tmp/resources"), resources.to_string())
        .expect("write to the machine's memory");
    host.run(["minirunc", "update", "--resources", "/tmp/resources", "box"])
}

fn cgroups(host: &Host) -> String {
    host.shell("cd /sys/fs/cgroup; find . -mindepth 1 -type d | sort")
}

/// A control file of the cgroup `path`, as the machine sees it.
fn value(host: &Host, path: &str, file: &str) -> String {
    host.run(["cat", &format!("/sys/fs/cgroup/{path}/{file}")])
        .ok()
}

#[test]
fn only_the_devices_that_the_rules_allow_are_opened() {
    let host = machine(Setup::default());
    let script = r#"
        mknod /tmp/mem c 1 1; mknod /tmp/kmsg c 1 11; mknod /tmp/loop b 7 0
        for device in /dev/null /dev/zero /dev/urandom /tmp/mem /tmp/kmsg /tmp/loop; do
            (exec <$device) 2>/dev/null && r=r || r=-
            (exec >>$device) 2>/dev/null && w=w || w=-
            echo $device $r$w
        done"#;
    let devices = json!([
        { "allow": false, "access": "rwm" },
        { "allow": true, "type": "c", "major": 1, "minor": 11, "access": "rw" },
        { "allow": false, "type": "c", "major": 1, "minor": 11, "access": "w" },
    ]);
    let out = run(
        &host,
        script,
        json!({ "resources": { "devices": devices } }),
    );
    assert_eq!(
        out.ok(),
        "/dev/null rw\n/dev/zero rw\n/dev/urandom rw\n/tmp/mem --\n/tmp/kmsg r-\n/tmp/loop --"
    );
    // The rules make the difference.
    let all = json!([{ "allow": true, "access": "rwm" }]);
    let out = run(&host, script, json!({ "resources": { "devices": all } }));
    let out = out.ok();
    assert!(out.contains("/tmp/kmsg rw"), "{out}");
}

#[test]
fn an_update_replaces_the_rules_for_devices() {
    let host = machine(Setup::default());
    let script = "mknod /tmp/kmsg c 1 11; \
        while read word; do (exec </tmp/kmsg) 2>/dev/null && echo $word yes || echo $word no; done";
    let none = json!({ "devices": [{ "allow": false, "access": "rwm" }] });
    bundle(
        &host,
        User::Root,
        "box",
        script,
        json!({ "resources": none }),
    );
    let mut running = host.spawn_fed(
        User::Root,
        ["minirunc", "run", "--bundle", "/tmp/box", "box"],
    );
    running.write(b"first\n");
    running.expect("first no");
    let kmsg = json!({ "allow": true, "type": "c", "major": 1, "minor": 11, "access": "r" });
    let some = json!({ "devices": [{ "allow": false, "access": "rwm" }, kmsg] });
    update(&host, &some).ok();
    running.write(b"second\n");
    running.expect("second yes");
    update(&host, &json!({ "pids": { "limit": 0 } })).ok();
    running.write(b"third\n");
    running.expect("third yes");
    update(&host, &none).ok();
    running.write(b"fourth\n");
    running.expect("fourth no");
    running.close_stdin();
    running.wait().ok();
}

#[test]
fn the_cgroup_is_where_the_path_says_and_goes_with_what_was_made_for_it() {
    let host = machine(Setup::default());
    host.shell("mkdir -p /sys/fs/cgroup/there/already");
    let before = cgroups(&host);
    for (path, place) in [
        (json!({}), "minirunc-box"),
        (json!({ "cgroupsPath": "/there/new/box" }), "there/new/box"),
        (json!({ "cgroupsPath": "relative/box" }), "relative/box"),
        (json!({ "cgroupsPath": "/there/already" }), "there/already"),
    ] {
        // The container makes some as well, and stays in one of them.
        let script = "mkdir -p /sys/fs/cgroup/a/b /sys/fs/cgroup/c; \
            echo 1 >/sys/fs/cgroup/a/b/cgroup.procs; echo settled; exec sleep 1000";
        let mut running = spawn(&host, User::Root, script, path);
        running.expect("settled");
        let pids = value(&host, &format!("{place}/a/b"), "cgroup.procs");
        assert_eq!(pids.lines().count(), 1, "{place}: {pids}");
        let listed = host.run(["minirunc", "ps", "--format", "json", "box"]).ok();
        assert_eq!(listed.trim(), format!("[{}]", pids.trim()), "{place}");
        end(&host, running);
        let now = cgroups(&host);
        // What was there keeps what was made in it: it is not ours to empty.
        let ours = |line: &&str| !line.starts_with("./there/already/");
        let now: Vec<_> = now.lines().filter(ours).collect();
        assert_eq!(now.join("\n"), before, "{place}");
    }
}

#[test]
fn a_cgroup_with_somebody_in_it_is_not_taken() {
    let host = machine(Setup::default());
    host.shell("mkdir -p /sys/fs/cgroup/taken/inner");
    let stranger = host.spawn([
        "sh",
        "-c",
        "echo $$ >/sys/fs/cgroup/taken/inner/cgroup.procs; exec sleep 1000",
    ]);
    wait_for("the stranger to settle", 60, || {
        (!value(&host, "taken/inner", "cgroup.procs").is_empty()).then_some(())
    });
    run(&host, "true", json!({})).ok();
    let snapshot = || host.snapshot().without("/tmp/box");
    let before = snapshot();
    let error = run(&host, "true", json!({ "cgroupsPath": "/taken" })).exits(1);
    assert!(error.contains("linux.cgroupsPath: "), "{error}");
    assert!(error.contains("there are processes in it"), "{error}");
    let error = run(&host, "true", json!({ "cgroupsPath": "/../out" })).exits(1);
    assert!(error.contains("linux.cgroupsPath: "), "{error}");
    assert_same(&before, snapshot);
    drop(stranger);
}

#[test]
fn nothing_is_left_of_a_container_that_could_not_be_made() {
    let host = machine(Setup::default());
    let before = cgroups(&host);
    let path = json!({ "cgroupsPath": "/a/b/c" });
    bundle(&host, User::Root, "box", "true", path.clone());
    let config = host.path("/tmp/box/config.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(config, text.replace(r#""sh""#, r#""nobody-has-this""#)).unwrap();
    let out = host.run(["minirunc", "run", "--bundle", "/tmp/box", "box"]);
    assert_ne!(out.code(), 0, "{out}");
    assert_eq!(cgroups(&host), before);
}

#[test]
fn a_paused_container_does_nothing_and_can_be_killed() {
    let host = machine(Setup::default());
    let script = "while :; do echo tick; sleep 0.1; done";
    let running = spawn(&host, User::Root, script, json!({}));
    host.run(["minirunc", "pause", "box"]).ok();
    let frozen = value(&host, "minirunc-box", "cgroup.events");
    assert!(frozen.contains("frozen 1"), "{frozen}");
    let state = host.run(["minirunc", "state", "box"]).ok();
    assert!(state.contains("paused"), "{state}");
    host.run(["minirunc", "resume", "box"]).ok();
    let thawed = value(&host, "minirunc-box", "cgroup.events");
    assert!(thawed.contains("frozen 0"), "{thawed}");
    host.run(["minirunc", "pause", "box"]).ok();
    end(&host, running);
}

#[test]
fn who_ran_away_from_the_first_process_is_killed_with_all() {
    let host = machine(Setup::default());
    let before = cgroups(&host);
    // With the host's pid namespace nobody dies because the first process does.
    let script = "setsid sh -c 'mkdir /sys/fs/cgroup/x; echo 0 >/sys/fs/cgroup/x/cgroup.procs; \
        echo away; exec sleep 1000' & wait";
    let namespaces = ["mount", "cgroup"].map(|kind| json!({ "type": kind }));
    let running = {
        let linux = json!({ "namespaces": namespaces });
        let mut running = spawn(&host, User::Root, script, linux);
        running.expect("away");
        running
    };
    assert_ne!(value(&host, "minirunc-box/x", "cgroup.procs"), "");
    host.run(["minirunc", "kill", "--all", "box", "KILL"]).ok();
    drop(running);
    host.run(["minirunc", "delete", "--force", "box"]);
    assert_eq!(cgroups(&host), before);
}

#[test]
fn without_a_delegated_cgroup_an_ordinary_user_has_a_container_without_one() {
    let host = machine(Setup::default());
    for linux in [json!({}), json!({ "cgroupsPath": "/not/allowed" })] {
        let rules = json!({ "devices": [{ "allow": false, "access": "rwm" }] });
        let mut linux = linux;
        merge(&mut linux, json!({ "resources": rules }));
        let out = run_as(&host, User::Student, "echo fine", linux);
        assert_eq!(out.ok(), "fine");
    }
}

#[test]
fn a_limit_that_cannot_be_had_is_refused_by_its_field() {
    // The machine's own tree, whatever that is.
    let host = machine(Setup {
        machine_cgroups: true,
        ..Setup::default()
    });
    let offered = host
        .run(["cat", "/sys/fs/cgroup/cgroup.controllers"])
        .text();
    let cases = [
        (
            "memory",
            json!({ "memory": { "limit": 67108864 } }),
            "memory.limit",
        ),
        ("cpu", json!({ "cpu": { "shares": 512 } }), "cpu.shares"),
        ("cpuset", json!({ "cpu": { "cpus": "0" } }), "cpu.cpus"),
        ("pids", json!({ "pids": { "limit": 32 } }), "pids.limit"),
        (
            "io",
            json!({ "blockIO": { "weight": 100 } }),
            "blockIO.weight",
        ),
        (
            "nobodys",
            json!({ "unified": { "nobodys.max": "1" } }),
            "unified[\"nobodys.max\"]",
        ),
    ];
    for (controller, resources, field) in cases {
        if offered.split(' ').any(|one| one == controller) {
            continue;
        }
        let error = run(&host, "true", json!({ "resources": resources })).exits(1);
        assert!(
            error.contains(&format!("linux.resources.{field}: ")),
            "{error}"
        );
        assert!(
            error.contains(&format!("the {controller} controller is missing")),
            "{error}"
        );
    }
    // No limit is no controller's.
    let none = json!({ "memory": { "limit": -1, "swap": -1 }, "pids": { "limit": -1 } });
    run(&host, "true", json!({ "resources": none })).ok();
    for (resources, field) in [
        (
            json!({ "memory": { "swappiness": 10 } }),
            "memory.swappiness",
        ),
        (
            json!({ "cpu": { "realtimeRuntime": 1000 } }),
            "cpu.realtimeRuntime",
        ),
        (json!({ "network": { "classID": 7 } }), "network.classID"),
    ] {
        let error = run(&host, "true", json!({ "resources": resources })).exits(1);
        assert!(
            error.contains(&format!("linux.resources.{field}: ")),
            "{error}"
        );
    }
}

/// All limits that the virtual machine's kernel has, and what becomes of them.
fn limits() -> (Value, Vec<(&'static str, &'static str)>) {
    let resources = json!({
        "memory": { "limit": 67_108_864, "swap": 100_663_296, "reservation": 33_554_432 },
        "cpu": { "shares": 512, "quota": 50_000, "period": 100_000, "burst": 10_000, "cpus": "1", "mems": "0" },
        "pids": { "limit": 32 },
        "hugepageLimits": [{ "pageSize": "2MB", "limit": 4_194_304 }],
        "unified": { "memory.high": "62914560", "cgroup.max.depth": "3" },
    });
    let files = vec![
        ("memory.max", "67108864"),
        ("memory.swap.max", "33554432"),
        ("memory.low", "33554432"),
        ("memory.high", "62914560"),
        ("cpu.weight", "20"),
        ("cpu.max", "50000 100000"),
        ("cpu.max.burst", "10000"),
        ("cpuset.cpus", "1"),
        ("cpuset.mems", "0"),
        ("pids.max", "32"),
        ("hugetlb.2MB.max", "4194304"),
        ("hugetlb.2MB.rsvd.max", "4194304"),
        ("cgroup.max.depth", "3"),
    ];
    (resources, files)
}

#[test]
#[ignore = "runs in the virtual machine"]
fn each_limit_is_in_its_file_before_the_commands_first_instruction() {
    let host = machine(Setup::default());
    let (resources, files) = limits();
    let names: Vec<_> = files.iter().map(|(file, _)| *file).collect();
    // With nothing but builtins: the first that runs sees them.
    let script = format!(
        "cd /sys/fs/cgroup; for file in {}; do read -r line <$file; echo $file $line; done",
        names.join(" ")
    );
    let linux = json!({ "cgroupsPath": "/a/b/box", "resources": resources });
    let out = run(&host, &script, linux).ok();
    let expected = files.iter().map(|(file, value)| format!("{file} {value}"));
    assert_eq!(out, expected.collect::<Vec<_>>().join("\n"));
}

#[test]
#[ignore = "runs in the virtual machine"]
fn a_memory_hog_is_killed_at_its_limit() {
    let host = machine(Setup::default());
    let hog = "dd if=/dev/zero of=/dev/null bs=100M count=1";
    let limit = json!({ "resources": { "memory": { "limit": 33_554_432, "swap": 33_554_432 } } });
    let out = run(&host, &format!("exec {hog}"), limit);
    out.exits(137);
    run(&host, &format!("exec {hog}"), json!({})).ok();
}

#[test]
#[ignore = "runs in the virtual machine"]
fn a_fork_beyond_the_limit_fails() {
    let host = machine(Setup::default());
    let fork = "sleep 0 & wait $!";
    let limit = |most: i32| json!({ "resources": { "pids": { "limit": most } } });
    assert_ne!(run(&host, fork, limit(1)).code(), 0);
    run(&host, fork, limit(2)).ok();
    run(&host, fork, limit(-1)).ok();
}

#[test]
#[ignore = "runs in the virtual machine"]
fn limits_of_a_running_container_are_changed() {
    let host = machine(Setup::default());
    let script = "exec sleep 1000";
    let running = spawn(&host, User::Root, script, json!({ "cgroupsPath": "/box" }));
    let (resources, files) = limits();
    update(&host, &resources).ok();
    for (file, expected) in files {
        assert_eq!(value(&host, "box", file), expected, "{file}");
    }
    // What an update does not speak of stays.
    update(&host, &json!({ "cpu": { "period": 200_000 } })).ok();
    assert_eq!(value(&host, "box", "cpu.max"), "50000 200000");
    assert_eq!(value(&host, "box", "pids.max"), "32");
    // A quota below the burst, and both together, in whichever order the kernel wants it.
    let burst = |quota: u32, burst: u32| json!({ "cpu": { "quota": quota, "burst": burst } });
    update(&host, &burst(5_000, 4_000)).ok();
    update(&host, &burst(80_000, 70_000)).ok();
    assert_eq!(value(&host, "box", "cpu.max.burst"), "70000");
    update(
        &host,
        &json!({ "memory": { "limit": -1 }, "pids": { "limit": -1 } }),
    )
    .ok();
    assert_eq!(value(&host, "box", "memory.max"), "max");
    assert_eq!(value(&host, "box", "memory.swap.max"), "max");
    assert_eq!(value(&host, "box", "pids.max"), "max");
    let out = update(&host, &json!({ "cpu": { "cpus": "0-99" } }));
    let error = out.exits(1);
    assert!(error.contains("linux.resources.cpu.cpus: "), "{error}");
    end(&host, running);
}

#[test]
#[ignore = "runs in the virtual machine"]
fn a_limit_below_what_is_used_is_refused_if_it_is_to_be_checked() {
    let host = machine(Setup::default());
    let script =
        "dd if=/dev/zero of=/tmp/file bs=1M count=20 2>/dev/null; echo full; exec sleep 1000";
    let mut running = spawn(&host, User::Root, script, json!({ "cgroupsPath": "/box" }));
    running.expect("full");
    let memory = |limit: u32, check: bool| json!({ "memory": { "limit": limit, "checkBeforeUpdate": check } });
    let error = update(&host, &memory(10 << 20, true)).exits(1);
    assert!(error.contains("linux.resources.memory.limit: "), "{error}");
    assert_eq!(value(&host, "box", "memory.max"), "max");
    update(&host, &memory(40 << 20, true)).ok();
    assert_eq!(value(&host, "box", "memory.max"), "41943040");
    end(&host, running);
}

#[test]
#[ignore = "runs in the virtual machine"]
fn a_command_finds_its_way_into_a_container_that_limits_its_own() {
    let host = machine(Setup::default());
    // As systemd does it: from then on nobody may be in the container's cgroup itself.
    let script = "cd /sys/fs/cgroup; mkdir init.scope; echo 1 >init.scope/cgroup.procs; \
        echo +pids >cgroup.subtree_control; echo done; exec sleep 1000";
    let mut running = spawn(&host, User::Root, script, json!({ "cgroupsPath": "/box" }));
    running.expect("done");
    let out = host.run(["minirunc", "exec", "box", "cat", "/proc/self/cgroup"]);
    assert_eq!(out.ok(), "0::/init.scope");
    end(&host, running);
}

#[test]
#[ignore = "runs in the virtual machine"]
fn student_limits_what_was_delegated() {
    let host = machine(Setup {
        delegated: true,
        ..Setup::default()
    });
    let before = cgroups(&host);
    let limit = json!({ "resources": { "unified": { "cgroup.max.depth": "2" } } });
    let script = "read -r line </sys/fs/cgroup/cgroup.max.depth; echo $line";
    assert_eq!(run_as(&host, User::Student, script, limit).ok(), "2");
    let limit = json!({ "resources": { "memory": { "limit": 67_108_864 } } });
    let script = "read -r line </sys/fs/cgroup/memory.max; echo $line";
    assert_eq!(run_as(&host, User::Student, script, limit).ok(), "67108864");
    assert_eq!(cgroups(&host), before);
}
