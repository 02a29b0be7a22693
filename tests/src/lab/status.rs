//! `cargo lab status`: how far one is, as the checks see it.

use std::env;
use std::io;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::starter::Starter;
use crate::tasks::{STEPS, Task, tasks_of_step};
use crate::terminal::{has_colours, painted};

/// What `cargo lab check --json` writes, as far as it matters here.
#[derive(Deserialize)]
struct Report {
    points: u32,
    max_points: u32,
    checks: Vec<Checked>,
}

#[derive(Deserialize)]
struct Checked {
    step: u8,
    task: Option<String>,
    status: Outcome,
    saw: String,
}

impl Checked {
    /// The task that the program came to and that is not done yet: `task 01.3 is not done yet`.
    fn undone(&self) -> Option<&str> {
        let (_, said) = self.saw.split_once("task ")?;
        let named = said.split(' ').next()?;
        (self.status == Outcome::NotDone).then_some(named)
    }
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    Passed,
    Failed,
    NotDone,
    CannotRun,
}

impl Outcome {
    /// Another word for each, and another colour.
    fn shown(self) -> (&'static str, &'static str) {
        match self {
            Outcome::Passed => ("done", "32"),
            Outcome::Failed => ("FAILED", "1;31"),
            Outcome::NotDone => ("not done yet", "33"),
            Outcome::CannotRun => ("cannot run", "35"),
        }
    }
}

/// Shows each task of the step, or of the lab that the person is in; the exit status is the checks'.
pub fn run(step: Option<u8>) -> Result<u8> {
    let step = match (step, Starter::here()?) {
        (Some(step), _) => step,
        (None, Some(starter)) => starter.step,
        (None, None) => bail!("of which step? cargo lab status N, or go to a lab's directory"),
    };
    ensure!(
        (1..=STEPS).contains(&step),
        "there is no step {step}: the steps are 1 to {STEPS}"
    );
    let tasks = tasks_of_step(step)?;
    let (report, status) = check(step)?;
    let of_step = |check: &&Checked| check.step == step;
    let (own, earlier): (Vec<_>, Vec<_>) = report.checks.iter().partition(of_step);
    println!(
        "Step {step}: {} of {} points\n",
        report.points, report.max_points
    );
    for task in &tasks {
        show(task, &own);
    }
    let passed = |checks: &[&Checked]| {
        let passed = checks.iter().filter(|it| it.status == Outcome::Passed);
        format!("{} of {} checks passed", passed.count(), checks.len())
    };
    println!("\nThis step: {}.", passed(&own));
    if !earlier.is_empty() {
        println!("The steps before it: {}.", passed(&earlier));
    }
    if let Some(next) = own.iter().filter_map(|check| check.undone()).min() {
        println!("The next to write is {next}; a hint: cargo lab hint {next}");
    } else if status != 0 {
        println!("What each check saw: cargo lab check");
    }
    Ok(status)
}

/// One line for a task: the worst that its checks say.
fn show(task: &Task, checks: &[&Checked]) {
    let id = task.id.to_string();
    let its: Vec<_> = checks
        .iter()
        .filter(|check| check.task.as_ref() == Some(&id))
        .collect();
    let worst = [
        Outcome::Failed,
        Outcome::NotDone,
        Outcome::CannotRun,
        Outcome::Passed,
    ];
    let worst = worst
        .into_iter()
        .find_map(|outcome| its.iter().find(|it| it.status == outcome));
    let Some(worst) = worst else {
        println!("  {:<12}  {id}  {}", "no check", task.title);
        return;
    };
    let (word, colour) = worst.status.shown();
    let mut word = format!("{word:<12}");
    if has_colours(&io::stdout()) {
        word = painted(&word, colour);
    }
    // It may be written, though what the program comes to before is not.
    let other = worst.undone().filter(|other| *other != id);
    let other = other.map_or(String::new(), |other| format!(" (waits for {other})"));
    println!("  {word}  {id}  {}{other}", task.title);
}

/// Runs the checks by this same program, and returns what they found and their exit status.
fn check(step: u8) -> Result<(Report, u8)> {
    let lab = env::current_exe().context("find this program")?;
    let output = Command::new(lab)
        .args(["check", &step.to_string(), "--json", "-"])
        .stdin(Stdio::null())
        .output()
        .context("run the checks")?;
    let Ok(report) = serde_json::from_slice(&output.stdout) else {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("the checks could not be run:\n{}", said.trim_end());
    };
    let status = output
        .status
        .code()
        .and_then(|code| u8::try_from(code).ok());
    Ok((report, status.unwrap_or(2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_waits_for_another_says_which() {
        let report = r#"{"schema": "minidocker-lab/1", "points": 10, "max_points": 100, "checks": [
            {"id": "a", "step": 1, "task": "01.4", "status": "not-done", "saw": "task 01.3 is not done yet"},
            {"id": "b", "step": 1, "task": null, "status": "failed", "saw": "no task at all"}]}"#;
        let report: Report = serde_json::from_str(report).unwrap();
        let undone: Vec<_> = report.checks.iter().map(Checked::undone).collect();
        assert_eq!(undone, [Some("01.3"), None]);
    }
}
