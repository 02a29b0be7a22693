//! Bad input: bundles that nobody can have meant, or that ask for what this
//! runtime does not have. Each is refused with one sentence that names the field,
//! and nothing has been made by then.

use std::fs;

use harness::{Host, Output, assert_same};
use serde_json::{Value, json};

const BUNDLE: &str = "/tmp/bundle";

/// A configuration that runs; each of the bad ones differs from it in one thing.
fn good() -> Value {
    json!({
        "ociVersion": "1.2.0",
        "root": { "path": "rootfs" },
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": ["sh", "-c", "exit 7"],
            "env": ["PATH=/bin"],
            "cwd": "/"
        },
        "hostname": "box",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/tmp", "type": "tmpfs", "source": "tmpfs" }
        ],
        "linux": {
            "namespaces": [
                { "type": "pid" }, { "type": "mount" }, { "type": "uts" }, { "type": "ipc" }, { "type": "network" }
            ]
        }
    })
}

/// A machine with a bundle whose configuration is still to be written.
fn machine() -> Host {
    let host = Host::new();
    host.shell(
        "mkdir -p /tmp/bundle/rootfs/bin /tmp/bundle/rootfs/proc /tmp/bundle/rootfs/tmp && cd /tmp/bundle/rootfs/bin &&
         cp $(command -v busybox) . && ln -s busybox sh && touch /tmp/bundle/file /tmp/bundle/config.json &&
         mkdir /tmp/empty && ln -s /proc/self/ns/net /tmp/net && ln -s nowhere /tmp/bundle/dangling",
    );
    host
}

fn write_config(host: &Host, config: &[u8]) {
    fs::write(host.path("/tmp/bundle/config.json"), config).expect("write config.json");
}

fn create(host: &Host) -> Output {
    host.run(["minirunc", "create", "--bundle", BUNDLE, "box"])
}

/// The one sentence of a command that was refused.
#[track_caller]
fn sentence(out: &Output) -> String {
    let error = out.exits(1);
    assert!(
        error.starts_with("minirunc: ") && error.lines().count() == 1,
        "no single sentence: {error}"
    );
    error
}

/// What is wrong with how a command was refused: nothing, or a line for people.
fn complaint(out: &Output, expected: &str) -> Option<String> {
    let error = out.errors();
    let fine = out.code() == 1
        && error.starts_with("minirunc: ")
        && error.lines().count() == 1
        && error.contains(&format!(": {expected}"));
    (!fine).then(|| format!("expected `{expected}`, got {} and `{error}`", out.code()))
}

/// Puts a value at a path such as `linux.namespaces.0.type`; what is missing on
/// the way becomes an object, and an index one past the end a new element.
fn set(config: &mut Value, path: &str, value: Value) {
    let mut place = config;
    for part in path.split('.') {
        place = match place {
            Value::Array(all) => {
                let index: usize = part.parse().expect("an index");
                if index == all.len() {
                    all.push(Value::Null);
                }
                &mut all[index]
            }
            other => {
                if !other.is_object() {
                    *other = json!({});
                }
                &mut other[part]
            }
        };
    }
    *place = value;
}

/// The place of a value, the value, and how the sentence about it begins.
const CASES: &str = r#"
ociVersion = "" => ociVersion: it is missing
ociVersion = "2.0.0" => ociVersion: this runtime understands 1.x, not 2.0.0
ociVersion = "2.0" => ociVersion: this runtime understands 1.x, not 2.0
ociVersion = "0.5.0" => ociVersion: this runtime understands 1.x
ociVersion = "1" => ociVersion: "1" is no version like
ociVersion = "one" => ociVersion: "one" is no version like
ociVersion = 1.2 => ociVersion: invalid type
root = null => root: it is missing
root = "rootfs" => root: invalid type
root.path = "" => root.path: it is empty
root.path = "missing" => root.path: /tmp/bundle/missing
root.path = "file" => root.path: /tmp/bundle/file is not a directory
root.path = "dangling" => root.path: /tmp/bundle/dangling
root.path = "/no/such/root" => root.path: /no/such/root
root.path = ["rootfs"] => root.path: invalid type
root.path = "root\u0000fs" => root.path: it holds a NUL byte
root.readonly = "yes" => root.readonly: invalid type
hostname = "1234567890123456789012345678901234567890123456789012345678901234x" => hostname: it has 65 bytes
hostname = "a\u0000b" => hostname: it holds a NUL byte
hostname = 7 => hostname: invalid type
domainname = "1234567890123456789012345678901234567890123456789012345678901234x" => domainname: it has 65 bytes
annotations = {"": "x"} => annotations: a key is empty
annotations = {"x": 7} => annotations.x: invalid type
solaris = {} => solaris: this runtime does not support it
windows = {"layerFolders": ["x"]} => windows: this runtime does not support it
vm = {"kernel": {"path": "/x"}} => vm: this runtime does not support it
zos = {} => zos: this runtime does not support it

process = null => process: it is missing
process = {"args": ["sh"], "cwd": "/"} => process: missing field `user`
process.args = null => process.args: it names no command
process.args = [] => process.args: it names no command
process.args = "sh" => process.args: invalid type
process.args.0 = "" => process.args[0]: the command's name is empty
process.args.1 = 7 => process.args[1]: invalid type: integer `7`, expected a string
process.args.2 = "a\u0000b" => process.args[2]: it holds a NUL byte
process.commandLine = "sh" => process.commandLine: this runtime does not support it
process.cwd = null => process.cwd: invalid type
process.cwd = "" => process.cwd: it is empty
process.cwd = "tmp" => process.cwd: tmp is not an absolute path
process.cwd = "/\u0000" => process.cwd: it holds a NUL byte
process.env.1 = "NOVALUE" => process.env[1]: "NOVALUE" is not of the form NAME=value
process.env.1 = "=x" => process.env[1]: "=x" is not of the form NAME=value
process.env.1 = "A=\u0000" => process.env[1]: it holds a NUL byte
process.env = {"A": "b"} => process.env: invalid type
process.terminal = true => process.terminal: give a --console-socket
process.terminal = "true" => process.terminal: invalid type
process.user.uid = -1 => process.user.uid: invalid value
process.user.uid = 4294967295 => process.user.uid: 4294967295 is no id
process.user.uid = 4294967296 => process.user.uid: invalid value
process.user.uid = "root" => process.user.uid: invalid type
process.user.gid = 4294967295 => process.user.gid: 4294967295 is no id
process.user.umask = 512 => process.user.umask: 512 is more than
process.user.additionalGids = [7, -1] => process.user.additionalGids[1]: invalid value
process.user.additionalGids = [4294967295] => process.user.additionalGids[0]: 4294967295 is no id
process.rlimits = [{"type": "RLIMIT_MOON", "soft": 1, "hard": 1}] => process.rlimits[0].type: unknown variant
process.rlimits = [{"type": "RLIMIT_CPU", "soft": 2, "hard": 1}] => process.rlimits[0].soft: 2 is more than the hard limit 1
process.rlimits = [{"type": "RLIMIT_CORE"}, {"type": "RLIMIT_CORE"}] => process.rlimits[1].type: RLIMIT_CORE is there twice
process.oomScoreAdj = 1001 => process.oomScoreAdj: 1001 is not between -1000 and 1000
process.oomScoreAdj = -1001 => process.oomScoreAdj: -1001 is not between
process.capabilities = {"bounding": ["CAP_MOON"]} => process.capabilities.bounding[0]
process.capabilities = {"effective": ["CAP_CHOWN"]} => process.capabilities.effective
process.capabilities = "CAP_CHOWN" => process.capabilities
process.apparmorProfile = "docker-default" => process.apparmorProfile
process.selinuxLabel = "system_u:object_r:x:s0" => process.selinuxLabel
process.scheduler = {"policy": "SCHED_MOON"} => process.scheduler.policy: unknown variant
process.ioPriority = {"class": "IOPRIO_CLASS_MOON", "priority": 1} => process.ioPriority.class: unknown variant
process.execCPUAffinity = {"initial": "0-"} => process.execCPUAffinity

mounts = {} => mounts: invalid type
mounts.1 = {"type": "tmpfs"} => mounts[1]: missing field `destination`
mounts.1 = {"destination": "", "type": "tmpfs"} => mounts[1].destination: it is empty
mounts.1 = {"destination": "..", "type": "tmpfs"} => mounts[1].destination: .. goes up by ..
mounts.1 = {"destination": "/../etc", "type": "tmpfs"} => mounts[1].destination: /../etc goes up by ..
mounts.1 = {"destination": "/tmp/../../etc", "type": "tmpfs"} => mounts[1].destination: /tmp/../../etc goes up by ..
mounts.1 = {"destination": "/a\u0000b", "type": "tmpfs"} => mounts[1].destination: it holds a NUL byte
mounts.1 = {"destination": "/tmp", "type": "moonfs", "source": "x"} => mounts[1] (/tmp): 
mounts.1 = {"destination": "/tmp", "type": "bind", "source": "/no/such", "options": ["bind"]} => mounts[1] (/tmp): open /no/such
mounts.1 = {"destination": "/tmp", "options": ["bind"]} => mounts[1].source: a bind needs one
mounts.1 = {"destination": "/tmp", "type": "tmpfs", "options": [7]} => mounts[1].options[0]: invalid type
mounts.1 = {"destination": "/tmp", "type": "tmpfs", "options": ["size=moon"]} => mounts[1]
mounts.1 = {"destination": "/tmp", "source": "/", "options": ["bind"], "uidMappings": [{}]} => mounts[1].uidMappings[0].size: it is 0

hooks.prestart = [{"path": "bin/true"}] => hooks.prestart[0].path: bin/true is not an absolute path
hooks.createRuntime = [{"path": "/bin/true"}, {"path": ""}] => hooks.createRuntime[1].path: it is empty
hooks.createContainer = [{}] => hooks.createContainer[0]: missing field `path`
hooks.startContainer = [{"path": "/x", "timeout": 0}] => hooks.startContainer[0].timeout: 0 is not more than 0
hooks.poststart = [{"path": "/x", "timeout": -1}] => hooks.poststart[0].timeout: -1 is not more than 0
hooks.poststop = [{"path": "/x", "env": ["A"]}] => hooks.poststop[0].env[0]: "A" is not of the form
hooks.poststop = [{"path": "/x", "args": ["\u0000"]}] => hooks.poststop[0].args[0]: it holds a NUL byte

linux.namespaces.5 = {"type": "moon"} => linux.namespaces[5].type: unknown variant `moon`
linux.namespaces.5 = {"type": "net"} => linux.namespaces[5].type: unknown variant `net`
linux.namespaces.5 = {} => linux.namespaces[5]: missing field `type`
linux.namespaces.5 = {"type": "pid"} => linux.namespaces[5].type: pid is there twice
linux.namespaces.5 = {"type": "network", "path": "/x"} => linux.namespaces[5].type: net is there twice
linux.namespaces.4.path = "proc/self/ns/net" => linux.namespaces[4].path: proc/self/ns/net is not an absolute path
linux.namespaces.4.path = "/no/such" => linux.namespaces[4].path
linux.namespaces.4.path = "/proc/self/ns/uts" => linux.namespaces[4].path: /proc/self/ns/uts: it is a namespace of another kind
linux.namespaces.4.path = "/etc/passwd" => linux.namespaces[4].path: /etc/passwd: it is no namespace
linux.namespaces.4.path = "/tmp" => linux.namespaces[4].path: /tmp: it is no namespace
linux.namespaces.2 = {"type": "cgroup"} => hostname: it would be the host's
linux.namespaces = [{"type": "user"}] => hostname: it would be the host's
linux.namespaces.5 = {"type": "user"} => linux.uidMappings: it is missing
linux.uidMappings = [{"containerID": 0, "hostID": 0, "size": 1}] => linux.uidMappings: linux.namespaces has no user namespace
linux.gidMappings = [{"containerID": 0, "hostID": 0, "size": 1}] => linux.gidMappings: linux.namespaces has no user namespace
linux = {"namespaces": [{"type": "uts"}, {"type": "user"}], "uidMappings": [{}]} => linux.uidMappings[0].size: it is 0
linux = {"namespaces": [{"type": "uts"}, {"type": "user"}], "uidMappings": [{"hostID": 2, "size": 4294967294}]} => linux.uidMappings[0].size: it goes past the last id
linux = {"namespaces": [{"type": "uts"}, {"type": "user"}], "uidMappings": [{"size": 9}, {"containerID": 8, "hostID": 9, "size": 1}]} => linux.uidMappings[1].containerID: its range overlaps that of linux.uidMappings[0]
linux = {"namespaces": [{"type": "uts"}, {"type": "user"}], "uidMappings": [{"hostID": 5, "size": 9}, {"containerID": 9, "size": 6}]} => linux.uidMappings[1].hostID: its range overlaps that of linux.uidMappings[0]
linux.timeOffsets = {"boottime": {"secs": 1}} => linux.timeOffsets.boottime: linux.namespaces has no time namespace
linux.timeOffsets = {"moon": {"secs": 1}} => linux.timeOffsets.moon: a time namespace has the clocks

linux.intelRdt = {"closID": "x"} => linux.intelRdt: this runtime does not support it
linux.memoryPolicy = {"mode": "MPOL_DEFAULT"} => linux.memoryPolicy: this runtime does not support it
linux.netDevices = {"eth0": {}} => linux.netDevices: this runtime does not support it
linux.personality = {"domain": "MOON"} => linux.personality.domain: unknown variant
linux.personality = {"domain": "LINUX", "flags": ["X"]} => linux.personality.flags[0]
linux.rootfsPropagation = "moon" => linux.rootfsPropagation
linux.mountLabel = "system_u:object_r:x:s0" => linux.mountLabel
linux.sysctl = {"kernel.panic": "1"} => linux.sysctl
linux.sysctl = {"net/../vm/swappiness": "1"} => linux.sysctl
linux.maskedPaths = ["proc/kcore"] => linux.maskedPaths[0]
linux.readonlyPaths = ["proc/sys"] => linux.readonlyPaths[0]
linux.devices = [{"type": "c", "path": "dev/x", "major": 1, "minor": 3}] => linux.devices[0].path: it must be absolute
linux.devices = [{"type": "q", "path": "/dev/x", "major": 1, "minor": 3}] => linux.devices[0].type: unknown variant
linux.devices = [{"type": "c", "path": "/dev/x", "major": -1, "minor": 3}] => linux.devices[0].major: -1
linux.cgroupsPath = "/../x" => linux.cgroupsPath
linux.resources = {"memory": {"limit": "64m"}} => linux.resources.memory.limit: invalid type
linux.resources = {"memory": {"limit": -2}} => linux.resources.memory.limit
linux.resources = {"cpu": {"cpus": "0-"}} => linux.resources.cpu.cpus
linux.resources = {"cpu": {"cpus": "0-4294967295"}} => linux.resources.cpu.cpus
linux.resources = {"cpu": {"quota": 1000, "period": 1}} => linux.resources.cpu.
linux.resources = {"network": {"classID": 7}} => linux.resources.network
linux.resources = {"unified": {"../x": "1"}} => linux.resources.unified
linux.resources = {"unified": {"cgroup.procs": "1"}} => linux.resources.unified
linux.resources = {"devices": [{"allow": true, "type": "c", "access": "x"}]} => linux.resources.devices[0]: access: 
linux.seccomp = {} => linux.seccomp: missing field `defaultAction`
linux.seccomp = {"defaultAction": "SCMP_ACT_MOON"} => linux.seccomp.defaultAction: unknown variant
linux.seccomp = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["X"]} => linux.seccomp.architectures[0]: unknown variant
linux.seccomp = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]} => linux.seccomp.syscalls[0].args[0].index
linux.seccomp = {"defaultAction": "SCMP_ACT_NOTIFY"} => linux.seccomp
"#;

/// The lines of [`CASES`].
fn cases() -> impl Iterator<Item = (&'static str, Value, &'static str)> {
    let lines = CASES.lines().filter(|line| !line.is_empty());
    lines.map(|line| {
        let (path, rest) = line.split_once(" = ").expect(line);
        let (value, expected) = rest.split_once(" => ").expect(line);
        (path, serde_json::from_str(value).expect(line), expected)
    })
}

#[test]
fn the_good_one_runs() {
    let host = machine();
    write_config(&host, good().to_string().as_bytes());
    host.run(["minirunc", "run", "--bundle", BUNDLE, "box"])
        .exits(7);
}

#[test]
fn a_bad_field_is_named_and_nothing_is_made() {
    let host = machine();
    let before = host.snapshot();
    let mut complaints = Vec::new();
    for (path, value, expected) in cases() {
        let mut config = good();
        set(&mut config, path, value.clone());
        write_config(&host, config.to_string().as_bytes());
        let out = create(&host);
        if let Some(complaint) = complaint(&out, expected) {
            complaints.push(format!("{path} = {value}: {complaint}"));
        }
        if host.path("/run/minirunc/box").exists() {
            complaints.push(format!("{path} = {value}: something was made"));
            host.run(["minirunc", "delete", "--force", "box"]);
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    // As long as it was; and those that only the kernel knows to be bad are
    // refused when the runtime has its root.
    write_config(&host, b"");
    host.shell("rmdir /run/minirunc");
    assert_same(&before, || host.snapshot());
}

#[test]
fn what_is_no_configuration_is_refused_and_nothing_is_made() {
    let host = machine();
    let before = host.snapshot();
    let text = good().to_string();
    let long = json!({ "annotations": { "x": "x".repeat(10 << 20) } }).to_string();
    let deep = format!("{{\"x\": {}", "[".repeat(100_000));
    let cases: [(&[u8], &str); 9] = [
        (b"", "EOF while parsing"),
        (b"\xff\xfe{}", "not UTF-8 at byte 0"),
        (&[text.as_bytes(), b"\x80"].concat(), "not UTF-8 at byte"),
        (b"ociVersion: 1.2.0\n", "expected value at line 1"),
        (&text.as_bytes()[..text.len() / 2], "EOF while parsing"),
        (&[text.as_bytes(), b"{}"].concat(), "trailing characters"),
        (b"7", "invalid type: integer `7`"),
        (deep.as_bytes(), "EOF while parsing"),
        (
            long.as_bytes(),
            "is too long: a configuration has less than 10 MiB",
        ),
    ];
    for (config, expected) in cases {
        write_config(&host, config);
        let error = sentence(&create(&host));
        assert!(error.contains(expected), "expected {expected:?}: {error}");
    }
    write_config(&host, b"");
    assert_same(&before, || host.snapshot());
}

#[test]
fn a_bundle_without_a_file_to_read_is_refused() {
    let host = machine();
    for (made, expected) in [
        ("true", "config.json"),
        ("mkdir config.json", "directory"),
        ("mkfifo config.json", "EOF while parsing"),
        ("ln -s /dev/zero config.json", "too long"),
        ("ln -s config.json config.json", "symbolic links"),
    ] {
        host.shell(&format!("cd {BUNDLE} && rm -rf config.json && {made}"));
        let error = sentence(&create(&host));
        assert!(
            error.contains(expected),
            "{made}: expected {expected:?}: {error}"
        );
    }
    let out = host.run(["minirunc", "create", "--bundle", "/no/such", "box"]);
    let error = sentence(&out);
    assert!(error.contains("/no/such"), "{error}");
    assert!(!host.path("/run/minirunc").exists());
}

#[test]
fn what_the_log_is_told_is_what_the_person_is_told() {
    let host = machine();
    let mut config = good();
    set(&mut config, "process.cwd", json!("a \"quoted\" path"));
    write_config(&host, config.to_string().as_bytes());
    let options = ["--log", "/tmp/log", "--log-format", "json"];
    let create = ["create", "--bundle", BUNDLE, "box"];
    let out = host.run([&["minirunc"], &options[..], &create[..]].concat());
    let told = sentence(&out);
    let log = fs::read_to_string(host.path("/tmp/log")).expect("a log");
    let line: Value = serde_json::from_str(&log).expect("one line of JSON");
    assert_eq!(line["level"], "error");
    assert_eq!(
        Some(told.as_str()),
        line["msg"]
            .as_str()
            .map(|msg| format!("minirunc: {msg}"))
            .as_deref()
    );
    let time = line["time"].as_str().expect("a time");
    assert!(
        time.len() > 20 && time.ends_with('Z') && time.contains('T'),
        "{time}"
    );
    // And where the options stand does not matter.
    let out = host.run([&["minirunc"], &create[..], &["--log", "/tmp/text"]].concat());
    sentence(&out);
    let log = fs::read_to_string(host.path("/tmp/text")).expect("a log");
    assert!(
        log.starts_with("time=\"")
            && log.contains(" level=error msg=\"")
            && log.contains(r#"a \"quoted\" path"#),
        "{log}"
    );
}

#[test]
fn a_process_that_is_to_join_is_checked_as_the_first_one() {
    let host = machine();
    let mut config = good();
    set(&mut config, "process.args", json!(["sh", "-c", "sleep 60"]));
    host.shell("cd /tmp/bundle/rootfs/bin && ln -s busybox sleep");
    write_config(&host, config.to_string().as_bytes());
    host.run(["minirunc", "run", "--detach", "--bundle", BUNDLE, "box"])
        .ok();
    let mut complaints = Vec::new();
    for (path, value, expected) in cases() {
        // A configuration's troubles, not a process's.
        let Some(path) = path.strip_prefix("process.") else {
            continue;
        };
        if path == "terminal" && value == json!(true) {
            continue;
        }
        let mut process = good()["process"].clone();
        set(&mut process, path, value.clone());
        fs::write(host.path("/tmp/process.json"), process.to_string()).expect("write");
        let out = host.run(["minirunc", "exec", "--process", "/tmp/process.json", "box"]);
        let (code, error) = (out.code(), out.errors());
        let expected = expected.strip_prefix("process.").unwrap_or(expected);
        if code != 255 || !error.contains(expected) || error.lines().count() != 1 {
            complaints.push(format!(
                "{path} = {value}: expected `{expected}`, got {code} and `{error}`"
            ));
        }
    }
    for user in [
        "root",
        "0x",
        "1000:",
        ":0",
        "-1",
        "+1",
        "4294967295",
        "4294967296",
        "1 ",
        "",
    ] {
        let out = host.run([
            "minirunc", "exec", "--user", user, "box", "sh", "-c", "echo ran",
        ]);
        if out.code() == 0 || out.text().contains("ran") {
            complaints.push(format!("--user {user:?}: {out}"));
        }
    }
    host.run(["minirunc", "delete", "--force", "box"]).ok();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn an_id_is_no_path() {
    let host = machine();
    write_config(&host, good().to_string().as_bytes());
    for id in [
        "",
        ".",
        "..",
        "a/b",
        "../box",
        "a b",
        "a\nb",
        "ä",
        &"x".repeat(256),
    ] {
        for command in ["create", "state", "delete"] {
            let words: &[&str] = match command {
                "create" => &["minirunc", "create", "--bundle", BUNDLE],
                "delete" => &["minirunc", "delete", "--force"],
                _ => &["minirunc", "state"],
            };
            let out = host.run([words, &["--", id]].concat());
            assert_ne!(out.code(), 0, "{command} {id:?}: {out}");
        }
    }
    assert!(!host.path("/run/minirunc").exists());
}
