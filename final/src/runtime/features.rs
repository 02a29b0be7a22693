//! `minirunc features`: what this runtime can do (runtime-spec, features.md).

use oci_spec::runtime::{
    Apparmor, Cgroup, Features, IDMap, IntelRdt, LinuxFeature, LinuxNamespaceType,
    LinuxSeccompAction as Action, LinuxSeccompFilterFlag as Flag, LinuxSeccompOperator as Operator,
    MemoryPolicy, MountExtensions, NetDevices, Seccomp, Selinux,
};

use super::{capabilities, mount_options, seccomp, spec};

const HOOKS: [&str; 6] = [
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
];

const NAMESPACES: [LinuxNamespaceType; 8] = [
    LinuxNamespaceType::Cgroup,
    LinuxNamespaceType::Ipc,
    LinuxNamespaceType::Mount,
    LinuxNamespaceType::Network,
    LinuxNamespaceType::Pid,
    LinuxNamespaceType::Time,
    LinuxNamespaceType::User,
    LinuxNamespaceType::Uts,
];

const ACTIONS: [Action; 9] = [
    Action::ScmpActAllow,
    Action::ScmpActErrno,
    Action::ScmpActKill,
    Action::ScmpActKillProcess,
    Action::ScmpActKillThread,
    Action::ScmpActLog,
    Action::ScmpActNotify,
    Action::ScmpActTrace,
    Action::ScmpActTrap,
];

const OPERATORS: [Operator; 7] = [
    Operator::ScmpCmpEq,
    Operator::ScmpCmpGe,
    Operator::ScmpCmpGt,
    Operator::ScmpCmpLe,
    Operator::ScmpCmpLt,
    Operator::ScmpCmpMaskedEq,
    Operator::ScmpCmpNe,
];

const FLAGS: [Flag; 4] = [
    Flag::SeccompFilterFlagLog,
    Flag::SeccompFilterFlagSpecAllow,
    Flag::SeccompFilterFlagTsync,
    Flag::SeccompFilterFlagWaitKillableRecv,
];

/// The truth. What depends on the kernel is asked of the one that runs.
#[must_use]
pub fn features() -> Features {
    let words = |words: &[&str]| Some(words.iter().map(ToString::to_string).collect());
    let mut features = Features::default();
    features
        .set_oci_version_min("1.0.0".to_owned())
        .set_oci_version_max(spec::VERSION.to_owned())
        .set_hooks(words(&HOOKS))
        .set_mount_options(words(&mount_options::known_options()))
        .set_linux(Some(linux()))
        .set_annotations(Some(Default::default()))
        .set_potentially_unsafe_config_annotations(Some(Vec::new()));
    features
}

fn linux() -> LinuxFeature {
    let (mut apparmor, mut selinux) = (Apparmor::default(), Selinux::default());
    apparmor.set_enabled(Some(true));
    selinux.set_enabled(Some(true));
    let (mut rdt, mut devices) = (IntelRdt::default(), NetDevices::default());
    rdt.set_enabled(Some(false));
    devices.set_enabled(Some(false));
    let mut memory = MemoryPolicy::default();
    memory.set_modes(Some(Vec::new())).set_flags(Some(Vec::new()));
    let (mut idmap, mut mounts) = (IDMap::default(), MountExtensions::default());
    idmap.set_enabled(Some(true));
    mounts.set_idmap(Some(idmap));
    let mut linux = LinuxFeature::default();
    linux
        .set_namespaces(Some(NAMESPACES.to_vec()))
        .set_capabilities(Some(capabilities::of_this_kernel()))
        .set_cgroup(Some(cgroup()))
        .set_seccomp(Some(seccomp()))
        .set_apparmor(Some(apparmor))
        .set_selinux(Some(selinux))
        .set_intel_rdt(Some(rdt))
        .set_memory_policy(Some(memory))
        .set_mount_extensions(Some(mounts))
        .set_net_devices(Some(devices));
    linux
}

fn cgroup() -> Cgroup {
    let mut cgroup = Cgroup::default();
    cgroup
        .set_v1(Some(false))
        .set_v2(Some(true))
        .set_systemd(Some(false))
        .set_systemd_user(Some(false))
        .set_rdma(Some(false));
    cgroup
}

fn seccomp() -> Seccomp {
    let supported = FLAGS.into_iter().filter(|flag| seccomp::supported(*flag));
    let mut features = Seccomp::default();
    features
        .set_enabled(Some(true))
        .set_actions(Some(ACTIONS.to_vec()))
        .set_operators(Some(OPERATORS.iter().map(ToString::to_string).collect()))
        .set_archs(Some(seccomp::architectures()))
        .set_known_flags(Some(FLAGS.iter().map(ToString::to_string).collect()))
        .set_supported_flags(Some(supported.map(|flag| flag.to_string()).collect()));
    features
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_features_have_the_names_of_the_runtime_spec() {
        let features = serde_json::to_value(features()).unwrap();
        assert_eq!(features["ociVersionMin"], "1.0.0");
        assert_eq!(features["linux"]["cgroup"]["v2"], true);
        assert_eq!(features["linux"]["cgroup"]["systemd"], false);
        let holds = |list: &serde_json::Value, item: &str| {
            list.as_array().unwrap().iter().any(|one| one == item)
        };
        let seccomp = &features["linux"]["seccomp"];
        assert!(holds(&seccomp["actions"], "SCMP_ACT_NOTIFY"));
        assert!(holds(&seccomp["operators"], "SCMP_CMP_MASKED_EQ"));
        assert!(holds(&seccomp["supportedFlags"], "SECCOMP_FILTER_FLAG_LOG"));
        assert!(holds(&features["linux"]["namespaces"], "time"));
        assert!(holds(&features["linux"]["capabilities"], "CAP_CHOWN"));
    }
}
