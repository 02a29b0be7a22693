//! `docker diff`: what a container has changed of its image's files.

use std::fs::File;
use std::io::{Read, Seek, Write};

use anyhow::{Context, Result, ensure};
use images::Change;
use namespaces::{Isolation, apart};
use nix::sched::CloneFlags;
use rustix::fs::MemfdFlags;

use super::Containers;
use crate::shim;

impl Containers {
    /// What the container has changed, a directory before what is in it, by name.
    ///
    /// # Errors
    /// There is no such container, or its files cannot be read.
    pub fn diff(&self, what: &str) -> Result<Vec<(Change, Vec<u8>)>> {
        let container = self.find(what)?;
        let told = hear_apart(|told| {
            for (change, path) in shim::layers(&self.dirs, &container)?.changes()? {
                told.extend([change.letter() as u8]);
                told.extend(path);
                told.push(0);
            }
            Ok(())
        })?;
        let changes = told.split(|&byte| byte == 0).filter_map(|record| {
            let (letter, path) = record.split_first()?;
            let all = [Change::Changed, Change::Added, Change::Deleted];
            let change = all.into_iter().find(|it| it.letter() as u8 == *letter)?;
            Some((change, path.to_vec()))
        });
        Ok(changes.collect())
    }
}

/// What the root of a container's files finds out about them, in a process and a mount namespace of
/// its own: it writes that into memory which it shares with this one.
fn hear_apart(find_out: impl Fn(&mut Vec<u8>) -> Result<()>) -> Result<Vec<u8>> {
    let memory = rustix::fs::memfd_create("told", MemfdFlags::CLOEXEC).context("memfd_create")?;
    let mut memory = File::from(memory);
    let isolation = Isolation {
        namespaces: CloneFlags::CLONE_NEWNS,
        ..Isolation::users_only()?
    };
    let status = apart(&isolation, || {
        let mut told = Vec::new();
        find_out(&mut told)?;
        (&memory).write_all(&told).context("tell what was found")?;
        Ok(0)
    })?;
    ensure!(status == 0, "interrupted");
    let mut told = Vec::new();
    memory.rewind()?;
    memory.read_to_end(&mut told)?;
    Ok(told)
}
