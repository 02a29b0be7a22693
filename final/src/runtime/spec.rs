//! `minirunc spec`: the bundle's configuration that docker would write.

use oci_spec::runtime::Spec;

/// docker's defaults.
#[must_use]
pub fn default_spec(_rootless: bool) -> Spec {
    todo!()
}
