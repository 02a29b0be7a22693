//! The five capability sets.

use anyhow::Result;
use oci_spec::runtime::LinuxCapabilities;

#[derive(Debug)]
pub(crate) struct Sets {}

impl Sets {
    pub(crate) fn plan(_wanted: Option<&LinuxCapabilities>) -> Result<Sets> {
        Ok(Sets {})
    }

    pub(crate) fn drop_bounding(&self) -> Result<()> {
        Ok(())
    }

    pub(crate) fn apply(&self) -> Result<()> {
        Ok(())
    }
}
