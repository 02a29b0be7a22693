//! What the host gives a container, and keeps from it: docker's `HostConfig`, by its names.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The half of a container's configuration that belongs to this host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HostConfig {
    /// `-v`, as it was written.
    pub binds: Vec<Bind>,
    /// `--volumes-from`, each `ID[:MODE]`: the containers whose mounts it has as well.
    pub volumes_from: Vec<String>,
    /// `--tmpfs`: the place and its options.
    pub tmpfs: BTreeMap<String, String>,
    /// Whether the root file system is read-only.
    pub readonly_rootfs: bool,
    /// `-p`. A port of the host that is 0 is picked at each start.
    pub ports: Vec<Port>,
    /// `-P`: every exposed port gets one of the host's.
    pub publish_all_ports: bool,
    /// `bridge`, `none`, `host`, `container:ID`, or the name of a network.
    pub network_mode: String,
    /// The networks that it is to be in, by their names, and what it wants to be there; that of
    /// `network_mode` is the first of them.
    pub networks: BTreeMap<String, Wanted>,
    /// `--dns`.
    pub dns: Vec<String>,
    /// `--dns-search`.
    pub dns_search: Vec<String>,
    /// `--dns-option`.
    pub dns_options: Vec<String>,
    /// `--add-host`, each `NAME:ADDRESS`.
    pub extra_hosts: Vec<String>,
    /// Bytes; 0 is no limit.
    pub memory: u64,
    /// Bytes of memory and swap together; 0: none beyond `memory`; -1: no limit.
    pub memory_swap: i64,
    /// Bytes that are left to it when memory is short.
    pub memory_reservation: u64,
    /// Thousand-millionths of a processor; 0 is no limit.
    pub nano_cpus: u64,
    /// A weight; 0 is the kernel's.
    pub cpu_shares: u64,
    /// Microseconds of each period; 0 is no limit.
    pub cpu_quota: i64,
    /// Microseconds; 0 is the kernel's.
    pub cpu_period: u64,
    /// The processors that it may run on: `0-2,4`.
    pub cpuset_cpus: String,
    /// The memory nodes.
    pub cpuset_mems: String,
    /// How many processes and threads; 0 and below is no limit.
    pub pids_limit: i64,
    /// Limits of its processes.
    pub ulimits: Vec<Ulimit>,
    /// Bytes in `/dev/shm`; 0 is 64 MiB.
    pub shm_size: u64,
    /// Capabilities beyond docker's 14: `NET_ADMIN`, `ALL`.
    pub cap_add: Vec<String>,
    /// Capabilities less.
    pub cap_drop: Vec<String>,
    /// Whether programs with more privileges than their caller get none here.
    pub no_new_privileges: bool,
    /// Which system calls it may make.
    pub seccomp: Seccomp,
    /// `--security-opt apparmor=` and `label=`, as they were written: no container has a profile or
    /// a label of ours.
    pub lsm: Vec<String>,
    /// Whether it may do almost all that the host's root may.
    pub privileged: bool,
    /// `--device`.
    pub devices: Vec<Device>,
    /// `--group-add`: names or numbers.
    pub group_add: Vec<String>,
    /// Whether a reaper runs as pid 1.
    pub init: bool,
    /// What becomes of it when it ends.
    pub restart_policy: Restart,
    /// Empty, `host`, or `container:ID`.
    pub pid_mode: String,
    /// `private`, `shareable`, `none`, `host`, or `container:ID`; empty is private.
    pub ipc_mode: String,
    /// Empty or `host`.
    #[serde(rename = "UTSMode")]
    pub uts_mode: String,
    /// Another runtime's program; `None` for the built-in one.
    pub runtime: Option<PathBuf>,
    /// Whether it is removed when it ends.
    pub auto_remove: bool,
    /// How its output is kept.
    pub log_config: LogConfig,
    /// How likely it is to be killed when memory is short, -1000 to 1000.
    pub oom_score_adj: i32,
    /// `--sysctl`.
    pub sysctls: BTreeMap<String, String>,
    /// Rows and columns of the terminal that it starts with.
    pub console_size: (u16, u16),
}

impl HostConfig {
    /// The networks that it is to be in, in docker's order: that of its mode, which is `eth0`, and
    /// the others by their names. None where it has no network of its own, or nothing but loopback.
    #[must_use]
    pub fn memberships(&self) -> Vec<(&str, Wanted)> {
        let first = match self.network_mode.as_str() {
            "none" | "host" => return Vec::new(),
            mode if mode.starts_with("container:") => return Vec::new(),
            // Nobody has said anything yet.
            "" => super::Network::DEFAULT,
            mode => mode,
        };
        let wanted = self.networks.get(first).cloned().unwrap_or_default();
        let others = self.networks.iter().filter(|(name, _)| *name != first);
        let others = others.map(|(name, wanted)| (name.as_str(), wanted.clone()));
        std::iter::once((first, wanted)).chain(others).collect()
    }

    /// The names of the networks that people see it in: `host` and `none` are among them.
    #[must_use]
    pub fn network_names(&self) -> Vec<&str> {
        match self.network_mode.as_str() {
            "host" => vec!["host"],
            "none" if self.is_in_none() => vec!["none"],
            _ => self
                .memberships()
                .into_iter()
                .map(|(name, _)| name)
                .collect(),
        }
    }

    /// Whether it is to be in this network.
    #[must_use]
    pub fn is_in(&self, network: &str) -> bool {
        self.network_names().contains(&network)
    }

    /// Whether somebody wants it to be in none. Who has left all of them, and that too, has the same
    /// mode, and may join others.
    #[must_use]
    pub fn is_in_none(&self) -> bool {
        self.network_mode == "none" && self.networks.contains_key("none")
    }

    /// It is to be in one more network. One that was in none has its mode from that.
    pub fn join(&mut self, network: &str, wanted: Wanted) {
        if self.network_mode == "none" {
            network.clone_into(&mut self.network_mode);
        }
        self.networks.insert(network.to_owned(), wanted);
    }

    /// It is no longer to be in a network. Where that was its mode's, the next one is; after the
    /// last it has none.
    pub fn leave(&mut self, network: &str) {
        self.networks.remove(network);
        let was_first = self
            .memberships()
            .first()
            .is_some_and(|(name, _)| *name == network);
        if was_first {
            let next = self.networks.keys().next();
            self.network_mode = next.map_or_else(|| "none".to_owned(), Clone::clone);
        }
    }
}

/// What a container is to be in one network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Wanted {
    /// `--network-alias`: what it is called there, beside its name.
    pub aliases: Vec<String>,
    /// `--ip`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
    /// `--ip6`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub six: Option<Ipv6Addr>,
    /// `--mac-address`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hardware: Option<[u8; 6]>,
}

/// `-v SOURCE:DESTINATION[:MODE]`.
pub type Bind = String;

/// A published port.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Port {
    /// The address of the host that answers; `None` is each of them.
    pub address: Option<IpAddr>,
    /// The port of the host; 0: any.
    pub host: u16,
    /// The last of those that would do as well, after `host`; 0: there is no other.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub last: u16,
    /// The port that the container's program listens on.
    pub container: u16,
    /// `tcp` or `udp`.
    pub protocol: String,
}

#[expect(clippy::trivially_copy_pass_by_ref)] // serde hands over a reference
fn is_zero(port: &u16) -> bool {
    *port == 0
}

/// `--ulimit NAME=SOFT[:HARD]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Ulimit {
    /// As docker calls it: `nofile`.
    pub name: String,
    /// The limit that is in force; -1: none.
    pub soft: i64,
    /// How far a process may raise it; -1: none.
    pub hard: i64,
}

/// `--device HOST[:CONTAINER[:rwm]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Device {
    /// Its place on the host.
    pub path_on_host: String,
    /// Its place in the container.
    pub path_in_container: String,
    /// `rwm`, or some of it.
    pub cgroup_permissions: String,
}

/// `--security-opt seccomp=…`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Seccomp {
    /// Docker's.
    #[default]
    Default,
    /// None.
    Unconfined,
    /// A profile of the user's: the text of the file, in docker's form.
    Profile(String),
}

/// `--restart`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Restart {
    /// It stays as it is.
    #[default]
    No,
    /// It is started again when it failed, at most so many times; 0 is for ever.
    OnFailure(u32),
    /// It is started again, after a reboot too.
    Always,
    /// The same, unless somebody stopped it.
    UnlessStopped,
}

/// `--log-driver` and `--log-opt`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct LogConfig {
    /// `json-file` or `none`; empty is json-file.
    pub r#type: String,
    /// A file that has so many bytes is put aside; 0: never.
    pub max_size: u64,
    /// How many files there are at most, the current one included; 0 is 1.
    pub max_file: u32,
}
