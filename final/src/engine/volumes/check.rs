//! `system check`, as far as volumes go.

use anyhow::Result;
use images::Finding;
use namespaces::as_root;

use super::Volumes;
use crate::state::{Alone, LocalVolume};

impl Volumes {
    /// Tells what is wrong with volumes, and makes it good if that is wanted and possible. Returns
    /// docker's status: 1 if something remains.
    ///
    /// # Errors
    /// Their directory cannot be read.
    pub fn check(&self, mend: bool, tell: &dyn Fn(&Finding)) -> Result<u8> {
        let mut remains = false;
        let mut found = |what: String, mended: bool| {
            remains |= !mended;
            tell(&Finding { what, mended });
        };
        for name in LocalVolume::names(&self.dirs)? {
            if let Err(error) = LocalVolume::read(&self.dirs, &name) {
                let help = format!("remove that file, or `minidocker volume rm {name}`");
                found(format!("{error:#}; {help}"), false);
            }
        }
        // Of a container whose state is damaged it was told already.
        if let Ok(alone) = Alone::wait(&self.dirs) {
            let leaving = alone.take_out(&[])?;
            let what = match leaving.count() {
                0 => return Ok(u8::from(remains)),
                count => format!("half made or half removed volumes: {count}"),
            };
            match mend.then(|| as_root(|| leaving.remove())) {
                None => found(what, false),
                Some(Ok(())) => found(format!("{what}; the rest was removed"), true),
                Some(Err(error)) => found(format!("{what}; it stays so: {error:#}"), false),
            }
        }
        Ok(u8::from(remains))
    }
}
