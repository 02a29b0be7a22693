//! The tasks: whole function bodies of the leaves, between markers.
//!
//! ```text
//! fn set_hostname(name: &str) -> Result<()> {
//!     // task 01.4 {
//!     …the solution…
//!     // } todo!("task 01.4: give the uts namespace its name (book: 1.4)")
//! }
//! ```
//!
//! The sources are the only place where a task is written down. A starter's source is made from
//! the reference's by [`rewrite`], which puts something in the place of each marked region.

use std::fmt;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail, ensure};

/// The number of the last step.
pub const STEPS: u8 = 5;

/// A task's number: the step, and which of its tasks. Shown as `01.4`; `1.4` is read, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TaskId {
    /// The step.
    pub step: u8,
    /// Which of the step's tasks, from 1 on.
    pub number: u8,
}

impl FromStr for TaskId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = |digits: &str| digits.parse().ok().filter(|number| *number > 0);
        text.split_once('.')
            .and_then(|(step, task)| {
                Some(Self {
                    step: number(step)?,
                    number: number(task)?,
                })
            })
            .with_context(|| format!("{text:?} is no task; write step and task, such as 1.4"))
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Through `pad`, so that a table can give it a width.
        out.pad(&format!("{:02}.{}", self.step, self.number))
    }
}

/// What a student is to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its number.
    pub id: TaskId,
    /// The function, with its type if it has one: `Isolation::full`.
    pub function: String,
    /// The source file, from the root of the repository or of a starter.
    pub file: PathBuf,
    /// What is to be built, in a few words.
    pub title: String,
    /// Where the book tells about it: `1.4`.
    pub section: String,
}

/// The tasks of one step, by their numbers.
///
/// # Errors
/// The sources cannot be read, or a marker in them is wrong: the file and the line.
pub fn tasks_of_step(step: u8) -> Result<Vec<Task>> {
    tasks_in(&crate::workspace()?, step)
}

/// The tasks of one step of the repository at `root`, by their numbers.
///
/// # Errors
/// As [`tasks_of_step`].
pub fn tasks_in(root: &Path, step: u8) -> Result<Vec<Task>> {
    let mut tasks = Vec::new();
    for path in sources(&step_dir(root, step)?)? {
        let source = read(&path)?;
        let file = path.strip_prefix(root).unwrap_or(&path);
        for region in regions(&source).with_context(|| format!("read {}", file.display()))? {
            ensure!(
                region.id.step == step,
                "{} has the task {} of another step",
                file.display(),
                region.id
            );
            tasks.push(Task {
                id: region.id,
                function: region.function,
                file: file.to_owned(),
                title: region.title,
                section: region.section,
            });
        }
    }
    tasks.sort_by_key(|task| task.id);
    for (task, number) in tasks.iter().zip(1..) {
        ensure!(
            task.id.number == number,
            "step {step} has no task {number}, or two"
        );
    }
    Ok(tasks)
}

/// One task.
///
/// # Errors
/// There is none of that number, and what there is; or as [`tasks_of_step`].
pub fn task(id: TaskId) -> Result<Task> {
    check_step(id.step)?;
    let tasks = tasks_of_step(id.step)?;
    let count = tasks.len();
    tasks
        .into_iter()
        .find(|task| task.id == id)
        .with_context(|| {
            format!(
                "there is no task {id}: step {} has {count}, and {}.{count} is the last",
                id.step, id.step
            )
        })
}

/// Makes sure that there is such a step.
///
/// # Errors
/// There is none, and which there are.
pub fn check_step(step: u8) -> Result<()> {
    ensure!(
        (1..=STEPS).contains(&step),
        "there is no step {step}: the steps are 1 to {STEPS}"
    );
    Ok(())
}

/// The directory of a step, in the repository or in a starter.
///
/// # Errors
/// There is none of that number, or `root` is no such place.
pub fn step_dir(root: &Path, step: u8) -> Result<PathBuf> {
    let steps = root.join("steps");
    let prefix = format!("{step:02}-");
    let entries = fs::read_dir(&steps).with_context(|| format!("list {}", steps.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("list {}", steps.display()))?;
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            return Ok(entry.path());
        }
    }
    bail!("there is no step {step} in {}", steps.display())
}

/// The files below `src` in a package's directory, in the order of their names.
pub fn sources(package: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut directories = vec![package.join("src")];
    while let Some(directory) = directories.pop() {
        let what = || format!("list {}", directory.display());
        for entry in fs::read_dir(&directory).with_context(what)? {
            let path = entry.with_context(what)?.path();
            if path.is_dir() {
                directories.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Reads a source file.
pub fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

/// A marked region of a source file.
pub struct Region {
    /// The task that it solves.
    pub id: TaskId,
    /// The solution's lines.
    pub body: String,
    /// The line that a starter has in their place.
    pub todo: String,
    function: String,
    title: String,
    section: String,
    /// Its lines in the file, with the markers.
    lines: Range<usize>,
}

/// A source file with something else in the place of each marked region.
///
/// # Errors
/// A marker is wrong.
pub fn rewrite(source: &str, replacement: impl Fn(&Region) -> String) -> Result<String> {
    let lines: Vec<&str> = source.split_inclusive('\n').collect();
    let mut written = String::new();
    let mut next = 0;
    for region in regions(source)? {
        written.extend(lines[next..region.lines.start].iter().copied());
        written += &replacement(&region);
        next = region.lines.end;
    }
    written.extend(lines[next..].iter().copied());
    Ok(written)
}

/// The marked regions of a source file, in their order.
///
/// # Errors
/// A marker is wrong: the line, and what.
pub fn regions(source: &str) -> Result<Vec<Region>> {
    let lines: Vec<&str> = source.split_inclusive('\n').collect();
    let mut regions = Vec::new();
    let mut open = None;
    for (nth, line) in lines.iter().enumerate() {
        let at = nth + 1;
        let comment = line.trim().strip_prefix("// ").unwrap_or_default();
        if let Some(id) = comment
            .strip_prefix("task ")
            .and_then(|id| id.strip_suffix(" {"))
        {
            ensure!(open.is_none(), "line {at}: a task begins inside another");
            let id = id.parse().with_context(|| format!("line {at}"))?;
            open = Some((nth, id));
        } else if let Some(todo) = comment
            .strip_prefix("} ")
            .filter(|it| it.starts_with("todo!"))
        {
            let begun = open.take();
            let (start, id) = begun.with_context(|| format!("line {at}: no task begins here"))?;
            let region = region(&lines, start..at, id, todo);
            regions.push(region.with_context(|| {
                format!("line {at}: write it as // }} todo!(\"task {id}: TITLE (book: N.k)\")")
            })?);
        }
    }
    ensure!(open.is_none(), "a task begins and does not end");
    Ok(regions)
}

fn region(lines: &[&str], place: Range<usize>, id: TaskId, todo: &str) -> Option<Region> {
    let said = todo.strip_prefix("todo!(\"task ")?.strip_suffix(")\")")?;
    let (named, said) = said.split_once(": ")?;
    let (title, section) = said.rsplit_once(" (book: ")?;
    let first = lines[place.start];
    let indent = &first[..first.len() - first.trim_start().len()];
    (named == id.to_string()).then_some(Region {
        id,
        body: lines[place.start + 1..place.end - 1].concat(),
        todo: format!("{indent}{todo}\n"),
        function: function(&lines[..place.start])?,
        title: title.to_owned(),
        section: section.to_owned(),
        lines: place,
    })
}

/// The name of the function whose head ends these lines, with that of its type.
fn function(above: &[&str]) -> Option<String> {
    let (head, name) = above.iter().rev().find_map(|line| {
        let (before, rest) = line.split_once("fn ")?;
        let head = before.trim_start();
        let is_head = head.is_empty() || head.starts_with("pub");
        Some((*line, identifier(rest))).filter(|_| is_head)
    })?;
    if !head.starts_with(' ') {
        return Some(name.to_owned());
    }
    let block = above
        .iter()
        .rev()
        .find_map(|line| line.strip_prefix("impl"))?;
    let generic = block.starts_with('<').then(|| block.split_once("> "));
    let (_, of) = generic.flatten().unwrap_or(("", block));
    let of = of.split_once(" for ").map_or(of, |(_, of)| of);
    Some(format!("{}::{name}", identifier(of.trim_start())))
}

fn identifier(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
    &text[..end.unwrap_or(text.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "\
impl<'a> Import<'a> {
    /// What fn it is.
    pub(crate) fn file(
        &self,
    ) -> u8 {
        // task 05.2 {
        // Why.
        1 + 1
        // } todo!(\"task 05.2: add: one and one (book: 5.2)\")
    }
}

fn other() {
    // task 05.3 {
    // } todo!(\"task 05.3: nothing (book: 5.3)\")
}
";

    #[test]
    fn a_task_is_named_by_the_function_around_it() {
        let found = regions(SOURCE).unwrap();
        let names: Vec<_> = found
            .iter()
            .map(|region| region.function.as_str())
            .collect();
        assert_eq!(names, ["Import::file", "other"]);
        assert_eq!(found[0].title, "add: one and one");
        assert_eq!(found[0].section, "5.2");
        assert_eq!(found[0].body, "        // Why.\n        1 + 1\n");
    }

    #[test]
    fn a_region_gives_way_to_its_todo_with_its_indentation() {
        let blanked = rewrite(SOURCE, |region| region.todo.clone()).unwrap();
        let todo = "u8 {\n        todo!(\"task 05.2: add: one and one (book: 5.2)\")\n    }\n";
        assert!(blanked.contains(todo), "{blanked}");
        assert!(!blanked.contains("// task") && !blanked.contains("1 + 1"));
    }

    #[test]
    fn a_marker_that_is_wrong_is_found() {
        let cut = |from: &str, to: &str| regions(&SOURCE.replace(from, to)).is_err();
        assert!(cut("todo!(\"task 05.2: ", "todo!(\"task 05.4: "));
        assert!(cut("        // task 05.2 {\n", ""));
        assert!(cut(
            "    // } todo!(\"task 05.3: nothing (book: 5.3)\")\n",
            ""
        ));
        assert!(cut(" (book: 5.3)", ""));
    }

    #[test]
    fn a_number_is_read_with_or_without_the_zero() {
        for text in ["1.4", "01.4"] {
            assert_eq!(text.parse::<TaskId>().unwrap().to_string(), "01.4");
        }
        for text in ["", "4", "1.", ".4", "1.0", "a.b", "1.4.1", "task 1.4"] {
            assert!(text.parse::<TaskId>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn each_step_has_five_tasks_and_says_where_the_book_tells_of_them() {
        for step in 1..=STEPS {
            let tasks = tasks_of_step(step).unwrap();
            assert_eq!(tasks.len(), 5, "{tasks:?}");
            for task in tasks {
                assert_eq!(task.section, format!("{step}.{}", task.id.number));
            }
        }
    }
}
