//! The tasks: bodies of functions between `// task 02.1 {` and
//! `// } todo!("task 02.1: … (book: 2.2)")`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::page::escaped;
use super::{Sources, code, story};

/// An excerpt as a page shows it.
pub struct Folded {
    /// With each task's `todo!` in the place of its body.
    pub folded: String,
    /// As it is, without the marks.
    pub solved: String,
    /// The tasks' numbers.
    pub tasks: Vec<String>,
}

/// The number in the line that opens a task.
fn opens(line: &str) -> Option<&str> {
    line.trim().strip_prefix("// task ")?.strip_suffix(" {")
}

/// What stands for a task's body, in the line that closes it.
fn closes(line: &str) -> Option<&str> {
    let todo = line.trim().strip_prefix("// } ")?;
    todo.starts_with("todo!(").then_some(todo)
}

/// Folds the tasks of an excerpt.
pub fn folded(code: &str) -> Folded {
    let (mut folded, mut solved, mut tasks) = (Vec::new(), Vec::new(), Vec::new());
    let mut inside = false;
    for line in code.lines() {
        if let Some(number) = opens(line) {
            tasks.push(number.to_owned());
            inside = true;
        } else if let Some(todo) = closes(line) {
            let margin = line.len() - line.trim_start().len();
            folded.push(format!("{}{todo}", " ".repeat(margin)));
            inside = false;
        } else {
            solved.push(line.to_owned());
            if !inside {
                folded.push(line.to_owned());
            }
        }
    }
    Folded {
        folded: folded.join("\n"),
        solved: solved.join("\n"),
        tasks,
    }
}

/// A task as its step's table has it.
struct Task {
    number: String,
    function: String,
    file: String,
    title: String,
}

/// The table of a step's tasks.
pub fn table(sources: &Sources, number: &str) -> Result<String> {
    let step = story::step(sources, number)?;
    let mut tasks = Vec::new();
    collect(sources, &step.join("src"), &mut tasks)?;
    ensure!(
        !tasks.is_empty(),
        "step {number} has no tasks in {}",
        step.display()
    );
    tasks.sort_by(|one, other| one.number.cmp(&other.number));
    let mut html = String::from(
        "<div class=\"table-wrapper\"><table class=\"tasks\">\n<thead><tr><th>Task</th>\
         <th>What it does</th><th>Function</th><th>File</th></tr></thead>\n<tbody>\n",
    );
    for task in &tasks {
        html.push_str(&format!(
            "<tr><td>{}</td><td>{}</td><td><code>{}</code></td><td><code>{}</code></td></tr>\n",
            escaped(&task.number),
            escaped(&task.title),
            escaped(&task.function),
            escaped(&task.file)
        ));
    }
    html.push_str("</tbody></table></div>\n");
    Ok(html)
}

fn collect(sources: &Sources, dir: &Path, tasks: &mut Vec<Task>) -> Result<()> {
    let here = sources.root.join(dir);
    for entry in fs::read_dir(&here).with_context(|| format!("read {}", here.display()))? {
        let path = dir.join(entry?.file_name());
        if sources.root.join(&path).is_dir() {
            collect(sources, &path, tasks)?;
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            let file = path.to_string_lossy();
            of_file(&sources.read(&file)?, &file, tasks).with_context(|| file.into_owned())?;
        }
    }
    Ok(())
}

fn of_file(text: &str, file: &str, tasks: &mut Vec<Task>) -> Result<()> {
    if !text.lines().any(|line| opens(line).is_some()) {
        return Ok(());
    }
    let items = code::items(text)?;
    let mut opened: Option<(&str, usize)> = None;
    for (line_number, line) in (1..).zip(text.lines()) {
        if let Some(number) = opens(line) {
            ensure!(opened.is_none(), "line {line_number}: a task in a task");
            opened = Some((number, line_number));
        }
        let Some(todo) = closes(line) else { continue };
        let (number, start) = opened
            .take()
            .with_context(|| format!("line {line_number}: no task is open here"))?;
        let around = items.iter().filter(|place| {
            place.name.starts_with("fn ") && place.first < start && line_number < place.last
        });
        let function = around
            .last()
            .with_context(|| format!("line {start}: the task is in no function"))?;
        let title = todo
            .strip_prefix(&format!("todo!(\"task {number}: "))
            .and_then(|rest| rest.split(" (book").next())
            .with_context(|| format!("line {line_number}: the todo! is not of task {number}"))?;
        tasks.push(Task {
            number: number.to_owned(),
            function: function.name.replacen("fn ", "", 1),
            file: file.to_owned(),
            title: title.trim_end_matches("\")").to_owned(),
        });
    }
    if let Some((number, start)) = opened {
        anyhow::bail!("line {start}: task {number} is never closed by `// }} todo!(…)`");
    }
    Ok(())
}
