//! `cargo lab solve`: the reference's body of a task, put into a starter.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::starter::Starter;
use crate::tasks::{TaskId, read, regions, task};

/// Solves one task in the starter `dir`, or in the one that the person stands in.
pub fn run(id: TaskId, dir: Option<&Path>) -> Result<u8> {
    let starter = Starter::wanted(dir)?;
    let task = task(id)?;
    ensure!(
        id.step == starter.step,
        "{id} is no task of lab {}, which {} is",
        starter.step,
        starter.dir.display()
    );
    let reference = read(&crate::workspace()?.join(&task.file))?;
    let region = regions(&reference)?
        .into_iter()
        .find(|region| region.id == id);
    let region =
        region.with_context(|| format!("find the task {id} in {}", task.file.display()))?;

    let path = starter.dir.join(&task.file);
    let source = read(&path)?;
    let Some((before, after)) = source.split_once(&region.todo) else {
        bail!(
            "the line todo!(\"task {id}: …\") is no longer in {}: the task was begun there; put the \
             line back as it was, or solve it in a new starter",
            path.display()
        );
    };
    let solved = [before, &region.body, after].concat();
    // Whoever stops us finds the old file or the new one.
    let new = path.with_extension("new");
    fs::write(&new, solved)
        .and_then(|()| fs::rename(&new, &path))
        .with_context(|| format!("write {}", path.display()))?;
    println!(
        "{id}: {} in {} is solved",
        task.function,
        task.file.display()
    );
    Ok(0)
}
