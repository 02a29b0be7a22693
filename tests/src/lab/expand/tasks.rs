//! The tasks in an excerpt, and the table of a step's tasks.

use anyhow::{Context, Result, ensure};

use super::Sources;
use super::page::escaped;
use crate::tasks::{TaskId, regions, rewrite, tasks_in};

/// An excerpt as a page shows it.
pub struct Folded {
    /// With each task's `todo!` in the place of its body.
    pub folded: String,
    /// As it is, without the marks.
    pub solved: String,
    /// The tasks' numbers.
    pub tasks: Vec<TaskId>,
}

/// Folds the tasks of an excerpt.
pub fn folded(code: &str) -> Result<Folded> {
    Ok(Folded {
        folded: rewrite(code, |region| region.todo.clone())?,
        solved: rewrite(code, |region| region.body.clone())?,
        tasks: regions(code)?.iter().map(|region| region.id).collect(),
    })
}

/// The table of a step's tasks.
pub fn table(sources: &Sources, number: &str) -> Result<String> {
    let step = number
        .parse()
        .with_context(|| format!("{number} is no step's number"))?;
    let tasks = tasks_in(&sources.root, step)?;
    ensure!(!tasks.is_empty(), "step {step} has no tasks");
    let mut html = String::from(
        "<div class=\"table-wrapper\"><table class=\"tasks\">\n<thead><tr><th>Task</th>\
         <th>What it does</th><th>Function</th><th>File</th></tr></thead>\n<tbody>\n",
    );
    for task in &tasks {
        html.push_str(&format!(
            "<tr><td>{}</td><td>{}</td><td><code>{}</code></td><td><code>{}</code></td></tr>\n",
            task.id,
            escaped(&task.title),
            escaped(&task.function),
            escaped(&task.file.to_string_lossy())
        ));
    }
    html.push_str("</tbody></table></div>\n");
    Ok(html)
}
