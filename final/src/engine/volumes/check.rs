//! `system check`, as far as volumes go.

use anyhow::Result;
use images::Finding;
use namespaces::as_root;

use super::Volumes;
use crate::engine::checkup::Checkup;
use crate::state::{Alone, LocalVolume};

impl Volumes {
    /// Tells what is wrong with volumes, and makes it good if that is wanted and possible. Returns
    /// docker's status: 1 if something remains.
    ///
    /// # Errors
    /// Their directory cannot be read.
    pub fn check(&self, mend: bool, tell: &dyn Fn(&Finding)) -> Result<u8> {
        let checkup = Checkup::new(mend, tell);
        for name in LocalVolume::names(&self.dirs)? {
            if let Err(error) = LocalVolume::read(&self.dirs, &name) {
                let help = format!("remove that file, or `minidocker volume rm {name}`");
                checkup.told(&format!("{error:#}; {help}"));
            }
        }
        // Of a container whose state is damaged it was told already.
        if let Ok(alone) = Alone::wait(&self.dirs) {
            let leaving = alone.take_out(&[])?;
            let count = leaving.count();
            if count > 0 {
                let what = format!("half made or half removed volumes: {count}");
                checkup.found(&what, || {
                    as_root(|| leaving.remove())?;
                    Ok("the rest was removed".into())
                });
            }
        }
        Ok(checkup.status())
    }
}
