//! `docker diff`: what a container has changed of its image's files.

use anyhow::{Result, ensure};
use images::Change;
use namespaces::{Isolation, apart};
use nix::sched::CloneFlags;

use super::Containers;
use crate::engine::answer::Answer;
use crate::shim;

impl Containers {
    /// What the container has changed, a directory before what is in it, by name.
    ///
    /// # Errors
    /// There is no such container, or its files cannot be read.
    pub fn diff(&self, what: &str) -> Result<Vec<(Change, Vec<u8>)>> {
        let container = self.find(what)?;
        let answer = Answer::new()?;
        let isolation = Isolation {
            namespaces: CloneFlags::CLONE_NEWNS,
            ..Isolation::users_only()?
        };
        let status = apart(&isolation, || {
            let mut told = Vec::new();
            for (change, path) in shim::layers(&self.dirs, &container)?.changes()? {
                told.extend([change.letter() as u8]);
                told.extend(path);
                told.push(0);
            }
            answer.tell(&told).map(|()| 0)
        })?;
        ensure!(status == 0, "interrupted");
        let told = answer.hear()?;
        let changes = told.split(|&byte| byte == 0).filter_map(|record| {
            let (letter, path) = record.split_first()?;
            let all = [Change::Changed, Change::Added, Change::Deleted];
            let change = all.into_iter().find(|it| it.letter() as u8 == *letter)?;
            Some((change, path.to_vec()))
        });
        Ok(changes.collect())
    }
}
