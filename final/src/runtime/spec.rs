//! `minirunc spec`: a bundle's configuration to begin with.
//!
//! It has the form of the one that `runc spec` writes (a shell on a terminal, a
//! read-only root, no new privileges) and the defences that docker gives to
//! every container: fourteen capabilities, hidden parts of `/proc` and `/sys`,
//! six devices, and a seccomp profile.

mod seccomp;

use std::path::Path;

use oci_spec::runtime::{
    Capabilities, Capability, Linux, LinuxCapabilities, LinuxDeviceCgroup,
    LinuxDeviceCgroupBuilder, LinuxDeviceType, LinuxIdMapping, LinuxIdMappingBuilder,
    LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType as Namespace, LinuxResources, Mount,
    Process, Root, Spec,
};

pub use seccomp::docker_seccomp;

/// The version of the runtime-spec that is written.
pub(super) const VERSION: &str = "1.2.0";

/// docker's: none of them reaches beyond the container's own namespaces, but
/// for what a program that runs as root takes for granted.
const CAPABILITIES: [Capability; 14] = [
    Capability::AuditWrite,
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Mknod,
    Capability::NetBindService,
    Capability::NetRaw,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysChroot,
];

/// What tells of the host, or of its other containers, and has no namespace.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// What changes the host.
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Destination, type, source and options.
const MOUNTS: [(&str, &str, &str, &[&str]); 7] = [
    ("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
    (
        "/dev",
        "tmpfs",
        "tmpfs",
        &["nosuid", "strictatime", "mode=755", "size=65536k"],
    ),
    (
        "/dev/pts",
        "devpts",
        "devpts",
        &[
            "nosuid",
            "noexec",
            "newinstance",
            "ptmxmode=0666",
            "mode=0620",
            "gid=5",
        ],
    ),
    (
        "/dev/shm",
        "tmpfs",
        "shm",
        &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
    ),
    (
        "/dev/mqueue",
        "mqueue",
        "mqueue",
        &["nosuid", "noexec", "nodev"],
    ),
    (
        "/sys",
        "sysfs",
        "sysfs",
        &["nosuid", "noexec", "nodev", "ro"],
    ),
    (
        "/sys/fs/cgroup",
        "cgroup",
        "cgroup",
        &["nosuid", "noexec", "nodev", "relatime", "ro"],
    ),
];

/// Configures a container with docker's defences; `rootless` for a user other
/// than root, who becomes root in a user namespace.
#[must_use]
pub fn default_spec(rootless: bool) -> Spec {
    let mut root = Root::default();
    root.set_path("rootfs".into()).set_readonly(Some(true));
    let mut spec = Spec::default();
    spec.set_version(VERSION.to_owned())
        .set_root(Some(root))
        .set_hostname(Some("minirunc".to_owned()))
        .set_process(Some(process()))
        .set_mounts(Some(mounts(rootless)))
        .set_linux(Some(linux(rootless)));
    spec
}

/// What root may do in a container where nobody says otherwise.
#[must_use]
pub fn default_capabilities() -> Capabilities {
    Capabilities::from(CAPABILITIES)
}

fn process() -> Process {
    let set = || Some(default_capabilities());
    let mut capabilities = LinuxCapabilities::default();
    capabilities
        .set_bounding(set())
        .set_effective(set())
        .set_permitted(set())
        .set_inheritable(None)
        .set_ambient(None);
    let mut process = Process::default();
    process
        .set_terminal(Some(true))
        .set_capabilities(Some(capabilities))
        .set_no_new_privileges(Some(true));
    process
}

fn mounts(rootless: bool) -> Vec<Mount> {
    let mounts = MOUNTS.iter().map(|(destination, kind, source, options)| {
        let mut options: Vec<String> = options.iter().map(ToString::to_string).collect();
        let mut mount = Mount::default();
        mount
            .set_destination(destination.into())
            .set_typ(Some((*kind).to_owned()))
            .set_source(Some(source.into()));
        if rootless {
            // The one id of a user's own mapping is root's, and there is no
            // network namespace, to whose owner alone a new sysfs would belong.
            options.retain(|option| !option.starts_with("gid="));
            if *destination == "/sys" {
                options.insert(0, "rbind".to_owned());
                mount
                    .set_typ(Some("none".to_owned()))
                    .set_source(Some("/sys".into()));
            }
        }
        mount.set_options(Some(options));
        mount
    });
    mounts.collect()
}

fn linux(rootless: bool) -> Linux {
    let mut linux = Linux::default();
    linux
        .set_namespaces(Some(namespaces(rootless)))
        .set_masked_paths(Some(masked_paths()))
        .set_readonly_paths(Some(READ_ONLY.map(str::to_owned).to_vec()))
        .set_seccomp(Some(docker_seccomp(&default_capabilities())));
    if rootless {
        let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
        linux
            .set_resources(None)
            .set_uid_mappings(Some(vec![root_is(uid.as_raw())]))
            .set_gid_mappings(Some(vec![root_is(gid.as_raw())]));
    } else {
        let mut resources = LinuxResources::default();
        resources.set_devices(Some(devices()));
        linux.set_resources(Some(resources));
    }
    linux
}

/// Without root there is nobody to give a network namespace an interface.
fn namespaces(rootless: bool) -> Vec<LinuxNamespace> {
    let last = if rootless {
        Namespace::User
    } else {
        Namespace::Network
    };
    let kinds = [
        Namespace::Pid,
        Namespace::Ipc,
        Namespace::Uts,
        Namespace::Mount,
        Namespace::Cgroup,
        last,
    ];
    let made = kinds.map(|kind| LinuxNamespaceBuilder::default().typ(kind).build());
    made.into_iter().flatten().collect()
}

fn root_is(id: u32) -> LinuxIdMapping {
    let mapping = LinuxIdMappingBuilder::default();
    let mapping = mapping.container_id(0_u32).host_id(id).size(1_u32);
    mapping.build().unwrap_or_default()
}

/// docker's list. On Intel's processors there are directories besides whose
/// counters tell what other containers do.
#[must_use]
pub fn masked_paths() -> Vec<String> {
    let mut paths = MASKED.map(str::to_owned).to_vec();
    let processors = (0..).map(|n| format!("/sys/devices/system/cpu/cpu{n}"));
    let processors = processors.take_while(|processor| Path::new(processor).exists());
    let counters = processors.map(|processor| format!("{processor}/thermal_throttle"));
    paths.extend(counters.filter(|counters| Path::new(counters).exists()));
    paths
}

/// No device but null, zero, random, urandom, tty and console; whatever else
/// is said of devices, not `/dev/fuse`.
fn devices() -> Vec<LinuxDeviceCgroup> {
    let rule = |allow, numbers: Option<(i64, i64)>| {
        let mut rule = LinuxDeviceCgroupBuilder::default()
            .allow(allow)
            .access("rwm");
        if let Some((major, minor)) = numbers {
            rule = rule.typ(LinuxDeviceType::C).major(major).minor(minor);
        }
        rule.build()
    };
    let allowed = [(1, 3), (1, 5), (1, 8), (1, 9), (5, 0), (5, 1)];
    let allowed = allowed.into_iter().map(|numbers| rule(true, Some(numbers)));
    let rules = std::iter::once(rule(false, None)).chain(allowed);
    rules
        .chain([rule(false, Some((10, 229)))])
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::capabilities::Sets;
    use super::super::seccomp::Filter;
    use super::*;

    #[test]
    fn the_default_configuration_is_one_that_this_runtime_takes() {
        for rootless in [false, true] {
            let spec = default_spec(rootless);
            let process = spec.process().as_ref().unwrap();
            Sets::plan(process.capabilities().as_ref(), rootless).unwrap();
            let linux = spec.linux().as_ref().unwrap();
            Filter::compile(linux.seccomp().as_ref().unwrap()).unwrap();
        }
    }

    #[test]
    fn the_default_configuration_survives_being_written_and_read() {
        let spec = default_spec(false);
        let text = serde_json::to_string_pretty(&spec).unwrap();
        let again: Spec = serde_json::from_str(&text).unwrap();
        assert_eq!(spec, again);
    }

    #[test]
    fn without_root_there_is_a_user_namespace_and_no_network_namespace() {
        let spec = default_spec(true);
        let linux = spec.linux().as_ref().unwrap();
        let kinds = linux.namespaces().iter().flatten();
        let kinds: Vec<_> = kinds.map(LinuxNamespace::typ).collect();
        assert!(kinds.contains(&Namespace::User));
        assert!(!kinds.contains(&Namespace::Network));
        assert_eq!(linux.uid_mappings().as_ref().unwrap().len(), 1);
        assert!(linux.resources().is_none());
    }
}
