//! What a container's process may do: capabilities, system calls, parameters.

use std::io::Read as _;
use std::os::unix::net::{UnixListener, UnixStream};

use harness::{Bundle, Host, Output};
use serde_json::{Value, json};

/// What `minirunc spec` writes, for `script`, after `change`.
fn run(host: &Host, script: &str, change: impl FnOnce(&mut Value)) -> Output {
    let mut bundle = Bundle::new(host, "box");
    bundle.script(script);
    // The rules for devices need a cgroup, and have tests of their own.
    bundle.set("/linux/resources", json!({}));
    change(&mut bundle.config);
    bundle.run()
}

#[test]
fn a_process_of_the_default_configuration_has_dockers_capabilities() {
    let host = Host::new();
    let out = run(
        &host,
        "grep -E 'Cap|NoNewPrivs|Seccomp:' /proc/self/status",
        |_| (),
    );
    let lines: Vec<String> = out
        .ok()
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    let expected = [
        "CapInh: 0000000000000000",
        "CapPrm: 00000000a80425fb",
        "CapEff: 00000000a80425fb",
        "CapBnd: 00000000a80425fb",
        "CapAmb: 0000000000000000",
        "NoNewPrivs: 1",
        "Seccomp: 2",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn a_process_without_the_field_has_no_capability_and_another_user_its_ambient_ones() {
    let host = Host::new();
    let out = run(&host, "grep Cap /proc/self/status", |config| {
        config["process"]["capabilities"] = Value::Null;
    });
    let zeros = out.ok();
    assert_eq!(zeros.matches("0000000000000000").count(), 5, "{zeros}");

    let out = run(&host, "grep Cap /proc/self/status", |config| {
        for set in [
            "bounding",
            "effective",
            "permitted",
            "inheritable",
            "ambient",
        ] {
            config["process"]["capabilities"][set] = json!(["CAP_KILL"]);
        }
        config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    });
    let kill = out.ok();
    assert_eq!(kill.matches("0000000000000020").count(), 5, "{kill}");
}

#[test]
fn the_default_profile_forbids_namespaces_and_mounts_even_to_an_almighty_root() {
    let host = Host::new();
    let script = "unshare -U true; mount -t tmpfs t /tmp; unshare -m true; echo end";
    let out = run(&host, script, |config| {
        for set in ["bounding", "effective", "permitted"] {
            config["process"]["capabilities"][set] = json!(["CAP_SYS_ADMIN"]);
        }
    });
    assert_eq!(out.text().matches("end").count(), 1, "{out}");
    let refused = out.errors().to_lowercase();
    let refused = refused.matches("not permitted").count() + refused.matches("denied").count();
    assert_eq!(refused, 3, "{out}");
}

#[test]
fn a_filter_answers_as_the_profile_says_with_and_without_new_privileges() {
    let host = Host::new();
    for no_new_privileges in [true, false] {
        let out = run(&host, "mkdir /tmp/a; echo after", |config| {
            config["process"]["noNewPrivileges"] = json!(no_new_privileges);
            config["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "flags": ["SECCOMP_FILTER_FLAG_LOG"],
                "syscalls": [{
                    "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28,
                }],
            });
        });
        assert!(out.errors().contains("No space left on device"), "{out}");
        assert!(out.text().contains("after"), "{out}");
    }
    let out = run(&host, "mkdir /tmp/a", |config| {
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS" }],
        });
    });
    // SIGSYS.
    out.exits(128 + 31);
}

#[test]
fn an_agent_is_given_the_listener_and_told_of_the_process() {
    let host = Host::new();
    let agent = UnixListener::bind(host.path("/tmp/agent")).unwrap();
    let told = std::thread::spawn(move || {
        let mut text = String::new();
        agent.accept().unwrap().0.read_to_string(&mut text).unwrap();
        text
    });
    // With the listener closed the kernel answers in the agent's stead: ENOSYS.
    let out = run(&host, "mkdir /tmp/a", |config| {
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": "/tmp/agent",
            "listenerMetadata": "for the agent",
            "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY" }],
        });
    });
    if !told.is_finished() {
        // Nobody came: the agent need not wait for ever.
        drop(UnixStream::connect(host.path("/tmp/agent")));
    }
    let told: Value = serde_json::from_str(&told.join().unwrap()).unwrap();
    assert_eq!(told["fds"], json!(["seccompFd"]));
    assert_eq!(told["metadata"], "for the agent");
    assert_eq!(told["state"]["id"], "box");
    assert_eq!(told["state"]["pid"], told["pid"]);
    assert!(out.errors().contains("Function not implemented"), "{out}");
}

#[test]
fn parameters_are_set_in_the_containers_namespaces_and_only_there() {
    let host = Host::new();
    let file = "/proc/sys/kernel/shmmni";
    let before = host.shell(&format!("cat {file}"));
    let script = "cd /proc/sys; cat net/ipv4/ip_forward kernel/shmmni kernel/domainname";
    let out = run(&host, script, |config| {
        config["linux"]["sysctl"] = json!({
            "net.ipv4.ip_forward": "1",
            "kernel/shmmni": "123",
            "kernel.domainname": "example.org",
        });
    });
    assert_eq!(out.ok(), "1\n123\nexample.org");
    assert_eq!(host.shell(&format!("cat {file}")), before);

    let out = run(&host, "true", |config| {
        config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "perhaps" });
    });
    assert!(
        out.errors().contains("linux.sysctl.net.ipv4.ip_forward: "),
        "{out}"
    );
}
