//! What can be known of a configuration to be wrong, or not to be had from this
//! runtime, without asking the kernel. Each refusal begins with the field's path.

use std::collections::HashSet;
use std::ops::Range;
use std::path::{Component, Path};

use anyhow::{Result, bail, ensure};
use oci_spec::runtime::{
    Hook, Hooks, Linux, LinuxIdMapping, LinuxNamespaceType, Mount, PosixRlimit, Process, Spec,
};
use serde_json::Value;

/// sethostname(2), setdomainname(2): `__NEW_UTS_LEN`.
const LONGEST_HOSTNAME: usize = 64;

/// What a user namespace takes (user_namespaces(7)).
const MOST_MAPPINGS: usize = 340;

/// setgroups(2): `NGROUPS_MAX`.
const MOST_GROUPS: usize = 65536;

/// A whole configuration.
pub(super) fn spec(spec: &Spec) -> Result<()> {
    version(spec.version())?;
    let Some(root) = spec.root() else {
        bail!("root: it is missing");
    };
    ensure!(
        !root.path().as_os_str().is_empty(),
        "root.path: it is empty"
    );
    let Some(first) = spec.process() else {
        bail!("process: it is missing, and so is what the container should run");
    };
    process(first, "process.")?;
    for (index, mount) in spec.mounts().iter().flatten().enumerate() {
        check_mount(mount, &format!("mounts[{index}]"))?;
    }
    names(spec)?;
    if let Some(all) = spec.hooks() {
        hooks(all)?;
    }
    if spec
        .annotations()
        .iter()
        .flatten()
        .any(|(key, _)| key.is_empty())
    {
        bail!("annotations: a key is empty");
    }
    if let Some(settings) = spec.linux() {
        linux(settings)?;
    }
    other_platforms(spec)
}

/// Versions are semantic ones (semver.org), and within one major version a
/// runtime understands what an older or newer minor one says.
fn version(version: &str) -> Result<()> {
    ensure!(!version.is_empty(), "ociVersion: it is missing");
    let numbers = version.split(['-', '+']).next().unwrap_or_default();
    let numbers: Option<Vec<u32>> = numbers.split('.').map(|part| part.parse().ok()).collect();
    match numbers.as_deref() {
        Some([1, _, _]) => Ok(()),
        Some([major, ..]) if *major != 1 => {
            bail!("ociVersion: this runtime understands 1.x, not {version}")
        }
        _ => bail!("ociVersion: {version:?} is no version like 1.2.0"),
    }
}

/// A process: the container's first, or with no `prefix` one that is to join it.
pub(super) fn process(process: &Process, prefix: &str) -> Result<()> {
    match process.args().as_deref() {
        None | Some([]) => bail!("{prefix}args: it names no command"),
        Some([command, ..]) if command.is_empty() => {
            bail!("{prefix}args[0]: the command's name is empty")
        }
        Some(_) => {}
    }
    absolute(process.cwd(), &format!("{prefix}cwd"))?;
    for (index, variable) in process.env().iter().flatten().enumerate() {
        check_variable(variable, &format!("{prefix}env[{index}]"))?;
    }
    user(process, prefix)?;
    rlimits(process.rlimits().as_deref().unwrap_or_default(), prefix)?;
    if let Some(points) = process.oom_score_adj() {
        ensure!(
            (-1000..=1000).contains(&points),
            "{prefix}oomScoreAdj: {points} is not between -1000 and 1000"
        );
    }
    unsupported(&[("commandLine", process.command_line().is_some())])
        .or_else(|error| bail!("{prefix}{error}"))
}

fn check_variable(variable: &str, field: &str) -> Result<()> {
    ensure!(
        variable.find('=').is_some_and(|at| at > 0),
        "{field}: {variable:?} is not of the form NAME=value"
    );
    Ok(())
}

fn user(process: &Process, prefix: &str) -> Result<()> {
    let user = process.user();
    check_id(user.uid(), || format!("{prefix}user.uid"))?;
    check_id(user.gid(), || format!("{prefix}user.gid"))?;
    let groups = user.additional_gids().as_deref().unwrap_or_default();
    for (index, group) in groups.iter().enumerate() {
        check_id(*group, || format!("{prefix}user.additionalGids[{index}]"))?;
    }
    ensure!(
        groups.len() <= MOST_GROUPS,
        "{prefix}user.additionalGids: the kernel takes at most {MOST_GROUPS}"
    );
    if let Some(umask) = user.umask() {
        ensure!(
            umask <= 0o777,
            "{prefix}user.umask: {umask} is more than 511, which is 0777"
        );
    }
    Ok(())
}

/// The highest id is the kernel's word for "none" (setresuid(2)).
fn check_id(id: u32, field: impl Fn() -> String) -> Result<()> {
    ensure!(id != u32::MAX, "{}: {id} is no id", field());
    Ok(())
}

fn rlimits(limits: &[PosixRlimit], prefix: &str) -> Result<()> {
    for (index, limit) in limits.iter().enumerate() {
        let field = format!("{prefix}rlimits[{index}]");
        let before = limits.iter().take(index);
        if before.into_iter().any(|other| other.typ() == limit.typ()) {
            bail!("{field}.type: {} is there twice", limit.typ());
        }
        ensure!(
            limit.soft() <= limit.hard(),
            "{field}.soft: {} is more than the hard limit {}",
            limit.soft(),
            limit.hard()
        );
    }
    Ok(())
}

fn check_mount(mount: &Mount, field: &str) -> Result<()> {
    let place = mount.destination();
    ensure!(
        !place.as_os_str().is_empty(),
        "{field}.destination: it is empty"
    );
    ensure!(
        !place.components().any(|part| part == Component::ParentDir),
        "{field}.destination: {} goes up by ..",
        place.display()
    );
    if !place.is_absolute() {
        tracing::warn!(
            "{field}.destination: {0} is taken for /{0}; it should be absolute",
            place.display()
        );
    }
    let mappings = [
        ("uidMappings", mount.uid_mappings()),
        ("gidMappings", mount.gid_mappings()),
    ];
    for (name, mapping) in mappings {
        check_mappings(
            mapping.as_deref().unwrap_or_default(),
            &format!("{field}.{name}"),
        )?;
    }
    Ok(())
}

fn names(spec: &Spec) -> Result<()> {
    let fields = [
        ("hostname", spec.hostname()),
        ("domainname", spec.domainname()),
    ];
    for (field, name) in fields {
        // An empty one is none, as clients write it.
        let Some(name) = name.as_deref().filter(|name| !name.is_empty()) else {
            continue;
        };
        ensure!(
            name.len() <= LONGEST_HOSTNAME,
            "{field}: it has {} bytes, and the kernel takes {LONGEST_HOSTNAME}",
            name.len()
        );
        ensure!(
            spec.linux()
                .as_ref()
                .is_some_and(|linux| has(linux, LinuxNamespaceType::Uts)),
            "{field}: it would be the host's, for linux.namespaces has no uts"
        );
    }
    Ok(())
}

fn has(linux: &Linux, kind: LinuxNamespaceType) -> bool {
    linux
        .namespaces()
        .iter()
        .flatten()
        .any(|namespace| namespace.typ() == kind)
}

fn hooks(hooks: &Hooks) -> Result<()> {
    let kinds = [
        ("prestart", hooks.prestart()),
        ("createRuntime", hooks.create_runtime()),
        ("createContainer", hooks.create_container()),
        ("startContainer", hooks.start_container()),
        ("poststart", hooks.poststart()),
        ("poststop", hooks.poststop()),
    ];
    for (kind, hooks) in kinds {
        for (index, hook) in hooks.iter().flatten().enumerate() {
            check_hook(hook, &format!("hooks.{kind}[{index}]"))?;
        }
    }
    Ok(())
}

fn check_hook(hook: &Hook, field: &str) -> Result<()> {
    absolute(hook.path(), &format!("{field}.path"))?;
    for (index, variable) in hook.env().iter().flatten().enumerate() {
        check_variable(variable, &format!("{field}.env[{index}]"))?;
    }
    if let Some(timeout) = hook.timeout() {
        ensure!(
            timeout > 0,
            "{field}.timeout: {timeout} is not more than 0 seconds"
        );
    }
    Ok(())
}

fn linux(linux: &Linux) -> Result<()> {
    namespaces(linux)?;
    user_namespace(linux)?;
    time_namespace(linux)?;
    if let Some(personality) = linux.personality()
        && let Some([flag, ..]) = personality.flags().as_deref()
    {
        bail!("linux.personality.flags[0]: {flag:?}: no flags are defined");
    }
    unsupported(&[
        ("linux.intelRdt", linux.intel_rdt().is_some()),
        ("linux.memoryPolicy", linux.memory_policy().is_some()),
        (
            "linux.netDevices",
            linux
                .net_devices()
                .as_ref()
                .is_some_and(|all| !all.is_empty()),
        ),
    ])
}

fn namespaces(linux: &Linux) -> Result<()> {
    let mut kinds = HashSet::new();
    for (index, namespace) in linux.namespaces().iter().flatten().enumerate() {
        let field = format!("linux.namespaces[{index}]");
        ensure!(
            kinds.insert(namespace.typ()),
            "{field}.type: {} is there twice",
            namespace.typ()
        );
        // An empty path is none, as clients write it.
        if let Some(path) = namespace.path()
            && !path.as_os_str().is_empty()
        {
            absolute(path, &format!("{field}.path"))?;
        }
    }
    Ok(())
}

fn user_namespace(linux: &Linux) -> Result<()> {
    let joined = linux.namespaces().iter().flatten().find_map(|namespace| {
        (namespace.typ() == LinuxNamespaceType::User).then(|| {
            let path = namespace.path().as_ref();
            path.is_some_and(|path| !path.as_os_str().is_empty())
        })
    });
    let mappings = [
        ("linux.uidMappings", linux.uid_mappings()),
        ("linux.gidMappings", linux.gid_mappings()),
    ];
    for (field, mapping) in mappings {
        let mapping = mapping.as_deref().unwrap_or_default();
        match joined {
            None if !mapping.is_empty() => {
                bail!("{field}: linux.namespaces has no user namespace to map ids into")
            }
            Some(false) if mapping.is_empty() => {
                bail!("{field}: it is missing, and the new user namespace would have no ids")
            }
            // Who joins a namespace finds its ids mapped; podman writes some
            // all the same, because runc asks for them.
            _ => {}
        }
        check_mappings(mapping, field)?;
    }
    Ok(())
}

/// What uid_map and gid_map take (user_namespaces(7)).
fn check_mappings(mappings: &[LinuxIdMapping], field: &str) -> Result<()> {
    ensure!(
        mappings.len() <= MOST_MAPPINGS,
        "{field}: the kernel takes at most {MOST_MAPPINGS}"
    );
    for (index, mapping) in mappings.iter().enumerate() {
        ensure!(mapping.size() > 0, "{field}[{index}].size: it is 0");
        for (side, range) in sides(mapping) {
            ensure!(
                range.end <= u64::from(u32::MAX),
                "{field}[{index}].size: it goes past the last id, from the {side} {}",
                range.start
            );
            for (before, other) in mappings.iter().take(index).enumerate() {
                let taken = sides(other).into_iter().any(|(of, other)| {
                    of == side && range.start < other.end && other.start < range.end
                });
                ensure!(
                    !taken,
                    "{field}[{index}].{side}: its range overlaps that of {field}[{before}]"
                );
            }
        }
    }
    Ok(())
}

/// The ids in the container and on the host.
fn sides(mapping: &LinuxIdMapping) -> [(&'static str, Range<u64>); 2] {
    [
        ("containerID", mapping.container_id()),
        ("hostID", mapping.host_id()),
    ]
    .map(|(side, first)| {
        let first = u64::from(first);
        (side, first..first + u64::from(mapping.size()))
    })
}

fn time_namespace(linux: &Linux) -> Result<()> {
    for (clock, offset) in linux.time_offsets().iter().flatten() {
        let field = format!("linux.timeOffsets.{clock}");
        ensure!(
            ["monotonic", "boottime"].contains(&clock.as_str()),
            "{field}: a time namespace has the clocks monotonic and boottime"
        );
        ensure!(
            has(linux, LinuxNamespaceType::Time),
            "{field}: linux.namespaces has no time namespace"
        );
        ensure!(
            offset.nanosecs().unwrap_or_default() < 1_000_000_000,
            "{field}.nanosecs: a second has less than 1000000000"
        );
    }
    Ok(())
}

fn other_platforms(spec: &Spec) -> Result<()> {
    unsupported(&[
        ("solaris", spec.solaris().is_some()),
        ("windows", spec.windows().is_some()),
        ("vm", spec.vm().is_some()),
        ("zos", spec.zos().is_some()),
    ])
}

fn unsupported(fields: &[(&str, bool)]) -> Result<()> {
    for (field, present) in fields {
        ensure!(!present, "{field}: this runtime does not support it");
    }
    Ok(())
}

fn absolute(path: &Path, field: &str) -> Result<()> {
    ensure!(!path.as_os_str().is_empty(), "{field}: it is empty");
    ensure!(
        path.is_absolute(),
        "{field}: {} is not an absolute path",
        path.display()
    );
    Ok(())
}

/// The path of the first string with a NUL byte; annotations may have one, for
/// the kernel never sees them.
pub(super) fn find_nul(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => text.contains('\0').then(String::new),
        Value::Array(values) => values
            .iter()
            .enumerate()
            .find_map(|(index, value)| Some(format!("[{index}]{}", find_nul(value)?))),
        Value::Object(values) => values
            .iter()
            .filter(|(key, _)| *key != "annotations")
            .find_map(|(key, value)| {
                let found = if key.contains('\0') {
                    String::new()
                } else {
                    find_nul(value)?
                };
                Some(format!(".{}{found}", key.escape_default()))
            }),
        _ => None,
    }
}
