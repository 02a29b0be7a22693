//! A seccomp profile of the user's, in docker's form: the runtime-spec's, with conditions.

use anyhow::{Context, Result, ensure};
use nix::sys::utsname::uname;
use oci_spec::runtime::{
    Arch, Capabilities, Capability, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg,
    LinuxSeccompFilterFlag, LinuxSyscall,
};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: Action,
    default_errno_ret: Option<u32>,
    #[serde(default)]
    architectures: Vec<Arch>,
    arch_map: Option<Vec<Family>>,
    flags: Option<Vec<LinuxSeccompFilterFlag>>,
    listener_path: Option<std::path::PathBuf>,
    listener_metadata: Option<String>,
    syscalls: Option<Vec<Rule>>,
}

/// A machine, and those whose programs it runs as well.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Family {
    architecture: Arch,
    sub_architectures: Option<Vec<Arch>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    #[serde(default)]
    name: String,
    names: Option<Vec<String>>,
    action: Action,
    errno_ret: Option<u32>,
    args: Option<Vec<LinuxSeccompArg>>,
    #[serde(default)]
    includes: Condition,
    #[serde(default)]
    excludes: Condition,
}

/// When a rule holds: all of it, and any one of what is excluded keeps it out.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    arches: Option<Vec<String>>,
    caps: Option<Vec<Capability>>,
    #[serde(default)]
    min_kernel: String,
}

/// Reads the profile for a container with these capabilities.
pub(super) fn read(text: &str, capabilities: &Capabilities) -> Result<LinuxSeccomp> {
    let profile: Profile =
        serde_json::from_str(text).context("decoding the seccomp profile failed")?;
    ensure!(
        profile.architectures.is_empty() || profile.arch_map.is_none(),
        "the profile has both architectures and archMap; use one of them"
    );
    let architectures = match profile.arch_map {
        Some(families) => families
            .into_iter()
            .filter(|family| family.architecture == native())
            .flat_map(|family| {
                let others = family.sub_architectures.unwrap_or_default();
                std::iter::once(family.architecture).chain(others)
            })
            .collect(),
        None => profile.architectures,
    };
    let mut syscalls = Vec::new();
    for rule in profile.syscalls.into_iter().flatten() {
        if rule.holds(capabilities)? {
            syscalls.push(rule.translated()?);
        }
    }
    let mut seccomp = LinuxSeccomp::default();
    seccomp
        .set_default_action(profile.default_action)
        .set_default_errno_ret(profile.default_errno_ret)
        .set_architectures(Some(architectures))
        .set_flags(profile.flags)
        .set_listener_path(profile.listener_path)
        .set_listener_metadata(profile.listener_metadata)
        .set_syscalls(Some(syscalls));
    Ok(seccomp)
}

impl Rule {
    fn holds(&self, capabilities: &Capabilities) -> Result<bool> {
        let here = |arch: &String| arch == images::Platform::here().architecture.as_str();
        let (wanted, kept_out) = (&self.includes, &self.excludes);
        let is_here = |condition: &Condition| {
            let arches = condition.arches.as_deref().unwrap_or_default();
            (!arches.is_empty()).then(|| arches.iter().any(here))
        };
        let has = |capability: &Capability| capabilities.contains(capability);
        let is_kernel = |condition: &Condition| match condition.min_kernel.as_str() {
            "" => Ok(None),
            version => kernel_is_at_least(version).map(Some),
        };
        Ok(is_here(wanted) != Some(false)
            && is_here(kept_out) != Some(true)
            && wanted.caps.iter().flatten().all(has)
            && !kept_out.caps.iter().flatten().any(has)
            && is_kernel(wanted)? != Some(false)
            && is_kernel(kept_out)? != Some(true))
    }

    fn translated(self) -> Result<LinuxSyscall> {
        let mut names = self.names.unwrap_or_default();
        ensure!(
            self.name.is_empty() || names.is_empty(),
            "a rule has both name ({:?}) and names; use one of them",
            self.name
        );
        if !self.name.is_empty() {
            names.push(self.name);
        }
        let mut rule = LinuxSyscall::default();
        rule.set_names(names)
            .set_action(self.action)
            .set_errno_ret(self.errno_ret)
            .set_args(self.args.filter(|args| !args.is_empty()));
        Ok(rule)
    }
}

fn native() -> Arch {
    match std::env::consts::ARCH {
        "aarch64" => Arch::ScmpArchAarch64,
        _ => Arch::ScmpArchX86_64,
    }
}

/// `4.8` and what came after.
fn kernel_is_at_least(version: &str) -> Result<bool> {
    let numbers = |text: &str| -> Option<(u32, u32)> {
        let mut parts = text.split(|c: char| !c.is_ascii_digit());
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    };
    let wanted = numbers(version).with_context(|| {
        format!("minKernel: {version:?} is no version of a kernel, such as 4.8")
    })?;
    let names = uname().context("ask for the kernel's version")?;
    let here = numbers(&names.release().to_string_lossy())
        .context("the kernel's version makes no sense")?;
    Ok(here >= wanted)
}
