//! What a container's process may do as root (`process.capabilities`).
//!
//! A process has five sets (capabilities(7)). *Effective* is what the kernel
//! asks at each act, *permitted* what may be made effective; *inheritable* and
//! *ambient* are what execve(2) lets through to a user other than root; and
//! *bounding* is the limit of what any execve(2) can ever bring back.

use anyhow::{Context as _, Result, bail, ensure};
use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities};
use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
    clear_ambient_capability_set, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities,
};

/// The sets of a container's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sets {
    bounding: CapabilitySet,
    effective: CapabilitySet,
    permitted: CapabilitySet,
    inheritable: CapabilitySet,
    ambient: CapabilitySet,
}

impl Sets {
    /// Reads the sets from `process.capabilities`: a set that is not there is
    /// empty, and so are all when none is.
    ///
    /// In a user namespace of the container's own the first process has every
    /// capability (user_namespaces(7)). Elsewhere it has what this process has;
    /// the rest is left out, with one warning.
    ///
    /// # Errors
    /// A capability that this kernel does not have, or sets that the kernel
    /// would refuse, by the field's name.
    pub(crate) fn plan(wanted: Option<&LinuxCapabilities>, own_user: bool) -> Result<Sets> {
        let mut sets = Sets::read(wanted)?;
        if own_user {
            return Ok(sets);
        }
        let own = capabilities(None).context("capget: read the runtime's own capabilities")?;
        let lacking = sets.all().difference(own.permitted);
        if !lacking.is_empty() {
            tracing::warn!(
                "process.capabilities: left out {}, which the runtime itself does not have",
                names(lacking)
            );
            sets = sets.without(lacking);
        }
        Ok(sets)
    }

    fn read(wanted: Option<&LinuxCapabilities>) -> Result<Sets> {
        let set = |name: &str, of: fn(&LinuxCapabilities) -> &Option<Capabilities>| {
            known(wanted.and_then(|wanted| of(wanted).as_ref()))
                .with_context(|| format!("process.capabilities.{name}"))
        };
        let mut sets = Sets {
            bounding: set("bounding", LinuxCapabilities::bounding)?,
            effective: set("effective", LinuxCapabilities::effective)?,
            permitted: set("permitted", LinuxCapabilities::permitted)?,
            inheritable: set("inheritable", LinuxCapabilities::inheritable)?,
            ambient: set("ambient", LinuxCapabilities::ambient)?,
        };
        let missing = sets.effective.difference(sets.permitted);
        ensure!(
            missing.is_empty(),
            "process.capabilities.effective: {} must be in process.capabilities.permitted too",
            names(missing)
        );
        let missing = sets.inheritable.difference(sets.bounding);
        ensure!(
            missing.is_empty(),
            "process.capabilities.inheritable: {} must be in process.capabilities.bounding too",
            names(missing)
        );
        // The kernel makes nothing ambient that is not permitted and inheritable.
        // The older of runc's own example bundles ask for it all the same, and
        // get nothing.
        let possible = sets.permitted & sets.inheritable;
        let vain = sets.ambient.difference(possible);
        if !vain.is_empty() {
            tracing::debug!(
                "process.capabilities.ambient: {} are not inheritable: left out",
                names(vain)
            );
            sets.ambient &= possible;
        }
        Ok(sets)
    }

    fn all(&self) -> CapabilitySet {
        self.bounding | self.effective | self.permitted | self.inheritable | self.ambient
    }

    fn without(self, lacking: CapabilitySet) -> Sets {
        Sets {
            bounding: self.bounding.difference(lacking),
            effective: self.effective.difference(lacking),
            permitted: self.permitted.difference(lacking),
            inheritable: self.inheritable.difference(lacking),
            ambient: self.ambient.difference(lacking),
        }
    }

    /// Takes the capabilities outside the bounding set from this process for
    /// good. It needs `CAP_SETPCAP`, and so comes before the change of user.
    ///
    /// # Errors
    /// The kernel's, naming the capability that could not be dropped.
    pub(crate) fn drop_bounding(&self) -> Result<()> {
        tracing::info!(
            call = "prctl(PR_CAPBSET_DROP)",
            "no program in the container brings back a capability that it must not have"
        );
        for capability in by_number() {
            if self.bounding.contains(capability) {
                continue;
            }
            match remove_capability_from_bounding_set(capability) {
                Ok(()) => {}
                // The kernel's last one is behind us.
                Err(Errno::INVAL) => break,
                Err(_) if capability_is_in_bounding_set(capability) == Ok(false) => {}
                Err(error) => {
                    return Err(error).with_context(|| {
                        format!("process.capabilities.bounding: drop {}", names(capability))
                    });
                }
            }
        }
        Ok(())
    }

    /// Gives this process the other four sets. It comes after the change of
    /// user, across which `PR_SET_KEEPCAPS` has kept the permitted set.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn apply(&self) -> Result<()> {
        tracing::info!(
            call = "capset",
            "even root in the container may do only what the bundle lists"
        );
        let sets = CapabilitySets {
            effective: self.effective,
            permitted: self.permitted,
            inheritable: self.inheritable,
        };
        set_capabilities(None, sets).context("process.capabilities: capset")?;
        // Without an inheritable set capset has emptied the ambient one.
        if self.inheritable.is_empty() {
            return Ok(());
        }
        clear_ambient_capability_set().context("process.capabilities.ambient: clear")?;
        for capability in self.ambient.iter() {
            configure_capability_in_ambient_set(capability, true).with_context(|| {
                format!("process.capabilities.ambient: raise {}", names(capability))
            })?;
        }
        Ok(())
    }
}

/// A list of capabilities, all of which this kernel has.
fn known(list: Option<&Capabilities>) -> Result<CapabilitySet> {
    let mut set = CapabilitySet::empty();
    for capability in list.into_iter().flatten() {
        let Some(found) = by_name(*capability) else {
            bail!("CAP_{capability} is unknown");
        };
        // What came with Linux 5.8 and later is asked for; the rest is older
        // than other calls that a container cannot do without.
        if found.bits() >= CapabilitySet::PERFMON.bits() {
            let known = capability_is_in_bounding_set(found).is_ok();
            ensure!(known, "this kernel has no CAP_{capability}");
        }
        set |= found;
    }
    Ok(set)
}

/// The runtime-spec's name in the kernel's numbers.
fn by_name(capability: Capability) -> Option<CapabilitySet> {
    CapabilitySet::from_name(&capability.to_string())
}

/// All that a set could ever hold.
fn by_number() -> impl Iterator<Item = CapabilitySet> {
    (0..64).map(|number| CapabilitySet::from_bits_retain(1 << number))
}

/// The capabilities that this process may use itself.
///
/// # Errors
/// What capget(2) refuses.
pub fn own() -> Result<Capabilities> {
    let own = capabilities(None).context("capget: read the runtime's own capabilities")?;
    let names = own.permitted.iter_names();
    Ok(names.filter_map(|(name, _)| name.parse().ok()).collect())
}

/// Gives up all capabilities but the bounding set, which only limits.
pub(super) fn drop_all() -> Result<()> {
    let none = CapabilitySet::empty();
    let sets = CapabilitySets {
        effective: none,
        permitted: none,
        inheritable: none,
    };
    set_capabilities(None, sets).context("capset: give up all capabilities")
}

/// The capabilities that this kernel has, in the order of their numbers.
pub(super) fn of_this_kernel() -> Vec<String> {
    let known = by_number().take_while(|one| capability_is_in_bounding_set(*one).is_ok());
    known.map(names).collect()
}

/// For a person: `CAP_CHOWN CAP_KILL`.
fn names(set: CapabilitySet) -> String {
    let names = set.iter_names().map(|(name, _)| format!("CAP_{name}"));
    names.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(json: &str) -> LinuxCapabilities {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_process_without_the_field_has_no_capability() {
        let sets = Sets::plan(None, false).unwrap();
        assert!(sets.all().is_empty());
    }

    #[test]
    fn nothing_is_inheritable_unless_it_is_asked_for() {
        let wanted = wanted(r#"{"bounding":["CAP_KILL"],"permitted":["CAP_KILL"]}"#);
        let sets = Sets::plan(Some(&wanted), true).unwrap();
        assert!(sets.inheritable.is_empty());
        assert!(sets.ambient.is_empty());
        assert_eq!(sets.permitted, CapabilitySet::KILL);
    }

    #[test]
    fn what_is_effective_must_be_permitted() {
        let wanted = wanted(r#"{"effective":["CAP_KILL","CAP_CHOWN"],"permitted":["CAP_KILL"]}"#);
        let error = Sets::plan(Some(&wanted), true).unwrap_err().to_string();
        assert!(
            error.starts_with("process.capabilities.effective: CAP_CHOWN must"),
            "{error}"
        );
    }

    #[test]
    fn ambient_without_inheritable_is_left_out_as_the_kernel_would() {
        let wanted = wanted(r#"{"permitted":["CAP_KILL"],"ambient":["CAP_KILL"]}"#);
        assert!(Sets::plan(Some(&wanted), true).unwrap().ambient.is_empty());
    }

    #[test]
    fn what_the_runtime_lacks_is_left_out_of_every_set() {
        let own = capabilities(None).unwrap().permitted;
        let all = CapabilitySet::all()
            .iter()
            .filter(|one| one.bits() < 1 << 38);
        let list = all
            .map(|one| format!("{:?}", names(one)))
            .collect::<Vec<_>>()
            .join(",");
        let wanted = wanted(&format!(
            r#"{{"bounding":[{list}],"effective":[{list}],"permitted":[{list}]}}"#
        ));
        let sets = Sets::plan(Some(&wanted), false).unwrap();
        assert!(own.contains(sets.all()));
        assert_eq!(
            Sets::plan(Some(&wanted), true)
                .unwrap()
                .all()
                .iter()
                .count(),
            38
        );
    }

    #[test]
    fn every_capability_of_the_runtime_spec_is_known_to_the_kernel_by_number() {
        for name in of_this_kernel() {
            let capability: Capability = serde_json::from_str(&format!("{name:?}")).unwrap();
            assert_eq!(by_name(capability).map(names), Some(name));
        }
    }
}
