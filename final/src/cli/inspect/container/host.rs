//! Docker's `HostConfig`, with the names and types of its interface.

use std::collections::BTreeMap;

use minidocker::runtime::{default_spec, masked_paths};
use minidocker::state::{HostConfig, LogConfig, Port, Restart, Seccomp};
use serde_json::{Map, Value, json};

use super::{or_null, without_empty};

/// Bytes in `/dev/shm`, unless somebody wants others.
const SHM: u64 = 64 << 20;

/// What the built-in runtime is called.
const RUNTIME: &str = "minirunc";

pub(super) fn shown(host: &HostConfig) -> Value {
    let mut all = Map::new();
    for part in [of_docker(host), of_linux(host), resources(host)] {
        if let Value::Object(fields) = part {
            all.extend(fields);
        }
    }
    without_empty(all.into(), &["Tmpfs", "Sysctls", "Init"])
}

fn of_docker(host: &HostConfig) -> Value {
    json!({
        "Binds": or_null(&host.binds),
        "ContainerIDFile": "",
        "LogConfig": log(&host.log_config),
        "NetworkMode": host.network_mode,
        "PortBindings": bindings(&host.ports),
        "RestartPolicy": restart(host.restart_policy),
        "AutoRemove": host.auto_remove,
        "VolumeDriver": "",
        "VolumesFrom": or_null(&host.volumes_from),
        "ConsoleSize": [host.console_size.0, host.console_size.1],
    })
}

fn of_linux(host: &HostConfig) -> Value {
    let runtime = host.runtime.as_ref();
    let runtime = runtime.map_or(RUNTIME.to_owned(), |path| path.display().to_string());
    json!({
        "CapAdd": or_null(&host.cap_add),
        "CapDrop": or_null(&host.cap_drop),
        "CgroupnsMode": "private",
        "Dns": host.dns,
        "DnsOptions": host.dns_options,
        "DnsSearch": host.dns_search,
        "ExtraHosts": or_null(&host.extra_hosts),
        "GroupAdd": or_null(&host.group_add),
        "IpcMode": if host.ipc_mode.is_empty() { "private" } else { &host.ipc_mode },
        "Cgroup": "",
        "Links": null,
        "OomScoreAdj": host.oom_score_adj,
        "PidMode": host.pid_mode,
        "Privileged": host.privileged,
        "PublishAllPorts": host.publish_all_ports,
        "ReadonlyRootfs": host.readonly_rootfs,
        "SecurityOpt": or_null(&security(host)),
        "Tmpfs": host.tmpfs,
        "UTSMode": host.uts_mode,
        "UsernsMode": "",
        "ShmSize": if host.shm_size == 0 { SHM } else { host.shm_size },
        "Sysctls": host.sysctls,
        "Runtime": runtime,
        "Isolation": "",
    })
}

fn resources(host: &HostConfig) -> Value {
    let memory_swap = match host.memory_swap {
        // None beyond the memory.
        0 => i64::try_from(host.memory).unwrap_or(i64::MAX),
        other => other,
    };
    let ulimits = host.ulimits.iter();
    let ulimits: Vec<Value> = ulimits
        .map(|it| json!({ "Name": it.name, "Hard": it.hard, "Soft": it.soft }))
        .collect();
    let spec = default_spec(false);
    let read_only = spec
        .linux()
        .as_ref()
        .and_then(|it| it.readonly_paths().clone());
    let paths = |paths: Vec<String>| match host.privileged {
        true => Value::Null,
        false => json!(paths),
    };
    json!({
        "CpuShares": host.cpu_shares,
        "Memory": host.memory,
        "NanoCpus": host.nano_cpus,
        "CgroupParent": "",
        "BlkioWeight": 0,
        "BlkioWeightDevice": [],
        "BlkioDeviceReadBps": [],
        "BlkioDeviceWriteBps": [],
        "BlkioDeviceReadIOps": [],
        "BlkioDeviceWriteIOps": [],
        "CpuPeriod": host.cpu_period,
        "CpuQuota": host.cpu_quota,
        "CpuRealtimePeriod": 0,
        "CpuRealtimeRuntime": 0,
        "CpusetCpus": host.cpuset_cpus,
        "CpusetMems": host.cpuset_mems,
        "Devices": host.devices,
        "DeviceCgroupRules": null,
        "DeviceRequests": null,
        "MemoryReservation": host.memory_reservation,
        "MemorySwap": memory_swap,
        "MemorySwappiness": null,
        "OomKillDisable": null,
        "PidsLimit": (host.pids_limit > 0).then_some(host.pids_limit),
        "Ulimits": or_null(&ulimits),
        "CpuCount": 0,
        "CpuPercent": 0,
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
        "MaskedPaths": paths(masked_paths()),
        "ReadonlyPaths": paths(read_only.unwrap_or_default()),
        "Init": host.init.then_some(true),
    })
}

/// With `max-size` and `max-file` as one writes them for `--log-opt`.
fn log(log: &LogConfig) -> Value {
    let mut options = Map::new();
    if log.max_file > 0 {
        options.insert("max-file".to_owned(), log.max_file.to_string().into());
    }
    let units = [(30, "g"), (20, "m"), (10, "k"), (0, "")];
    let unit = units
        .iter()
        .find(|(shift, _)| log.max_size.is_multiple_of(1 << shift));
    if let (1.., Some((shift, unit))) = (log.max_size, unit) {
        let size = format!("{}{unit}", log.max_size >> shift);
        options.insert("max-size".to_owned(), size.into());
    }
    let kind = match log.r#type.as_str() {
        "" => "json-file",
        kind => kind,
    };
    json!({ "Type": kind, "Config": options })
}

/// `{"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}`
fn bindings(ports: &[Port]) -> Value {
    let mut bindings: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for port in ports {
        let number = match (port.host, port.last) {
            (0, _) => String::new(),
            (host, 0) => host.to_string(),
            (host, last) => format!("{host}-{last}"),
        };
        let address = port.address.map(|address| address.to_string());
        let binding = json!({
            "HostIp": address.unwrap_or_default(),
            "HostPort": number,
        });
        let key = format!("{}/{}", port.container, port.protocol);
        bindings.entry(key).or_default().push(binding);
    }
    json!(bindings)
}

fn restart(policy: Restart) -> Value {
    let (name, most) = match policy {
        Restart::No => ("no", 0),
        Restart::OnFailure(most) => ("on-failure", most),
        Restart::Always => ("always", 0),
        Restart::UnlessStopped => ("unless-stopped", 0),
    };
    json!({ "Name": name, "MaximumRetryCount": most })
}

fn security(host: &HostConfig) -> Vec<String> {
    let mut options = Vec::new();
    if host.no_new_privileges {
        options.push("no-new-privileges".to_owned());
    }
    options.extend(host.lsm.clone());
    match &host.seccomp {
        Seccomp::Default => {}
        Seccomp::Unconfined => options.push("seccomp=unconfined".to_owned()),
        Seccomp::Profile(profile) => options.push(format!("seccomp={profile}")),
    }
    options
}
