//! `inspect`: docker's keys, and its values where they are nobody's own affair.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::pair::{Pair, plain};

/// A container with much of what can be said.
const RICH: &str = "run -d --name one --network none --hostname box -e A=b -l kind=sweet -w /tmp -u 7:8 \
    --read-only --tmpfs /t:size=1m -v /tmp/image/root/etc:/e:ro --cap-add NET_ADMIN --cap-drop CHOWN \
    --ulimit nofile=100:200 --shm-size 2m --restart on-failure:3 --init --stop-timeout 3 \
    --stop-signal INT --group-add 9 --security-opt no-new-privileges --security-opt label=disable --add-host other:10.0.0.1 \
    --dns 192.0.2.2 --oom-score-adj 100 --log-opt max-size=1m --sysctl net.ipv4.ip_forward=0 \
    --device /dev/null:/dev/given busybox sleep 1000";

/// What docker has and we have not: what belongs to a daemon, to swarm, to Windows, or to cgroup v1.
const NOT_OURS: [&str; 2] = ["HostConfig.KernelMemory", "HostConfig.KernelMemoryTCP"];

/// Values that are to be the same, as paths of keys.
const SAME: [&str; 58] = [
    "Name",
    "Path",
    "Args",
    "RestartCount",
    "Platform",
    "Driver",
    "State.Status",
    "State.Running",
    "State.Paused",
    "State.Restarting",
    "State.OOMKilled",
    "State.Dead",
    "State.ExitCode",
    "State.Error",
    "Config.Hostname",
    "Config.Domainname",
    "Config.User",
    "Config.AttachStdin",
    "Config.AttachStdout",
    "Config.AttachStderr",
    "Config.Tty",
    "Config.OpenStdin",
    "Config.StdinOnce",
    "Config.Env",
    "Config.Cmd",
    "Config.Image",
    "Config.Volumes",
    "Config.WorkingDir",
    "Config.Entrypoint",
    "Config.Labels",
    "Config.StopSignal",
    "Config.StopTimeout",
    "HostConfig.Binds",
    "HostConfig.Tmpfs",
    "HostConfig.NetworkMode",
    "HostConfig.RestartPolicy",
    "HostConfig.AutoRemove",
    "HostConfig.CapAdd",
    "HostConfig.CapDrop",
    "HostConfig.Dns",
    "HostConfig.ExtraHosts",
    "HostConfig.GroupAdd",
    "HostConfig.OomScoreAdj",
    "HostConfig.PidMode",
    "HostConfig.Privileged",
    "HostConfig.PublishAllPorts",
    "HostConfig.ReadonlyRootfs",
    "HostConfig.SecurityOpt",
    "HostConfig.ShmSize",
    "HostConfig.Sysctls",
    "HostConfig.Ulimits",
    "HostConfig.Init",
    "HostConfig.Devices",
    "HostConfig.LogConfig",
    "HostConfig.Memory",
    "HostConfig.NanoCpus",
    "HostConfig.PortBindings",
    "NetworkSettings.Ports",
];

pub fn compare(pair: &Pair) {
    pair.with_docker(|| {
        for line in [RICH, "create --name two busybox sh -c 'echo a; echo b'"] {
            let name = line
                .split_whitespace()
                .skip_while(|word| *word != "--name")
                .nth(1);
            let inspect = format!("inspect {}", name.unwrap_or_default());
            let mut outcomes = pair.run([line, &inspect]);
            let (inspected, made) = (outcomes.pop(), outcomes.pop());
            let (Some(made), Some(inspected)) = (made, inspected) else {
                continue;
            };
            made.docker.ok();
            if made.minidocker.code() != 0 {
                pair.note(made.minidocker.to_string());
                continue;
            }
            let parse = |text: &str| -> Value {
                serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
            };
            let docker = &parse(&inspected.docker.ok())[0];
            let minidocker = &parse(&inspected.minidocker.ok())[0];
            keys(pair, docker, minidocker);
            values(pair, docker, minidocker);
        }
        pair.run(["rm -f one two"]);
    });
}

fn keys(pair: &Pair, docker: &Value, minidocker: &Value) {
    let of = |value: &Value| {
        let mut all = BTreeSet::new();
        paths(value, "", &mut all);
        all
    };
    let ours = of(minidocker);
    let known: BTreeSet<String> = NOT_OURS.map(str::to_owned).into();
    let missing: Vec<String> = of(docker)
        .into_iter()
        .filter(|path| !ours.contains(path) && !known.contains(path))
        .collect();
    if !missing.is_empty() {
        pair.note(format!("inspect has no {}", missing.join(", ")));
    }
}

/// The keys of objects, but for those of which a user chooses the names.
fn paths(value: &Value, above: &str, all: &mut BTreeSet<String>) {
    let free = [
        "Labels",
        "Tmpfs",
        "Sysctls",
        "GraphDriver.Data",
        "Networks",
        "Ports",
        "Config.Volumes",
    ];
    if free.iter().any(|name| above.ends_with(name)) {
        return;
    }
    for (key, value) in value.as_object().into_iter().flatten() {
        let path = if above.is_empty() {
            key.clone()
        } else {
            format!("{above}.{key}")
        };
        paths(value, &path, all);
        all.insert(path);
    }
    if let Some(first) = value.as_array().and_then(|list| list.first()) {
        paths(first, &format!("{above}[]"), all);
    }
}

fn values(pair: &Pair, docker: &Value, minidocker: &Value) {
    for path in SAME {
        let pointer = format!("/{}", path.replace('.', "/"));
        let (theirs, ours) = (docker.pointer(&pointer), minidocker.pointer(&pointer));
        if theirs != ours && !is_each_ones_own(path, theirs) {
            let show = |value: Option<&Value>| value.map_or("nothing".to_owned(), Value::to_string);
            pair.note(format!(
                "{path}: docker has {}, minidocker {}",
                show(theirs),
                show(ours)
            ));
        }
    }
}

/// A name that was made of an id; and the bridge, which docker calls so since version 26.
fn is_each_ones_own(path: &str, value: Option<&Value>) -> bool {
    let text = value.and_then(Value::as_str).unwrap_or_default();
    match path {
        "Config.Hostname" => plain(text) == "ID",
        "HostConfig.NetworkMode" => text == "default",
        _ => false,
    }
}
