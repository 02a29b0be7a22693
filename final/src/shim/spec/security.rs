//! What the container may not do: capabilities, system calls, hidden paths.

use anyhow::{Context, Result, anyhow};
use oci_spec::runtime::{Capabilities, Capability, Linux, LinuxCapabilities, Process};

use crate::runtime;
use crate::state::{HostConfig, Seccomp};

use super::profile;

/// Gives a process its capabilities.
pub(super) fn restrict(process: &mut Process, host: &HostConfig, privileged: bool) -> Result<()> {
    let set = match privileged {
        true => runtime::own_capabilities()?,
        false => capabilities(host)?,
    };
    let mut sets = LinuxCapabilities::default();
    // Nothing is inheritable: a program with file capabilities would make more of it than root has
    // here (CVE-2022-24769).
    sets.set_bounding(Some(set.clone()))
        .set_permitted(Some(set.clone()))
        .set_effective(Some(set))
        .set_inheritable(None)
        .set_ambient(None);
    process
        .set_capabilities(Some(sets))
        .set_no_new_privileges(Some(host.no_new_privileges));
    Ok(())
}

/// What holds for all processes of the container: `linux` is as the defaults have it.
pub(super) fn apply(linux: &mut Linux, host: &HostConfig, process: &Process) -> Result<()> {
    if host.privileged {
        linux.set_masked_paths(None).set_readonly_paths(None);
    }
    let bounding = process
        .capabilities()
        .as_ref()
        .and_then(|sets| sets.bounding().clone())
        .unwrap_or_default();
    linux.set_seccomp(match &host.seccomp {
        Seccomp::Unconfined => None,
        Seccomp::Default if host.privileged => None,
        Seccomp::Default if bounding == runtime::default_capabilities() => return Ok(()),
        Seccomp::Default => Some(runtime::docker_seccomp(&bounding)),
        Seccomp::Profile(text) => {
            Some(profile::read(text, &bounding).context("--security-opt seccomp")?)
        }
    });
    Ok(())
}

/// Docker's fourteen, with what `--cap-add` and `--cap-drop` make of them.
fn capabilities(host: &HostConfig) -> Result<Capabilities> {
    let added = Wanted::read(&host.cap_add).context("--cap-add")?;
    let dropped = Wanted::read(&host.cap_drop).context("--cap-drop")?;
    let mut set = match (added.all, dropped.all) {
        (true, _) => runtime::own_capabilities()?,
        (false, true) => Capabilities::new(),
        (false, false) => runtime::default_capabilities(),
    };
    set.retain(|capability| !dropped.named.contains(capability));
    // What is named on both sides is wanted, unless everything was.
    if !added.all {
        set.extend(&added.named);
    }
    Ok(set)
}

/// A list of names, as people write them.
struct Wanted {
    all: bool,
    named: Capabilities,
}

impl Wanted {
    fn read(names: &[String]) -> Result<Wanted> {
        let mut wanted = Wanted {
            all: false,
            named: Capabilities::new(),
        };
        for name in names {
            let upper = name.to_ascii_uppercase();
            let plain = upper.strip_prefix("CAP_").unwrap_or(&upper);
            if plain == "ALL" {
                wanted.all = true;
                continue;
            }
            let capability: Capability = plain
                .parse()
                .map_err(|_| anyhow!("unknown capability: {name:?}"))?;
            wanted.named.insert(capability);
        }
        Ok(wanted)
    }
}
