//! `cargo lab status`: how far one is, as the checks see it.

use std::env;
use std::io;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::check::{Graded, Report, Status};
use crate::starter::Starter;
use crate::tasks::{Task, check_step, tasks_of_step};
use crate::terminal::{has_colours, painted, say};

/// Shows each task of the step, or of the lab that the person is in; the exit status is the checks'.
pub fn run(step: Option<u8>) -> Result<u8> {
    let step = match (step, Starter::here()?) {
        (Some(step), _) => step,
        (None, Some(starter)) => starter.step,
        (None, None) => bail!("of which step? cargo lab status N, or go to a lab's directory"),
    };
    check_step(step)?;
    let tasks = tasks_of_step(step)?;
    let (report, status) = check(step)?;
    let of_step = |check: &&Graded| check.step == step;
    let (own, earlier): (Vec<_>, Vec<_>) = report.checks.iter().partition(of_step);
    say(&format!(
        "Step {step}: {} of {} points\n",
        report.points, report.max_points
    ));
    for task in &tasks {
        show(task, &own);
    }
    let passed = |checks: &[&Graded]| {
        let passed = checks.iter().filter(|it| it.status == Status::Passed);
        format!("{} of {} checks passed", passed.count(), checks.len())
    };
    say(&format!("\nThis step: {}.", passed(&own)));
    if !earlier.is_empty() {
        say(&format!("The steps before it: {}.", passed(&earlier)));
    }
    if let Some(next) = own.iter().filter_map(|check| check.undone()).min() {
        say(&format!(
            "The next to write is {next}; a hint: cargo lab hint {next}"
        ));
    } else if status != 0 {
        say("What each check saw: cargo lab check");
    }
    Ok(status)
}

/// One line for a task: the worst that its checks say.
fn show(task: &Task, checks: &[&Graded]) {
    let id = task.id.to_string();
    let its: Vec<_> = checks
        .iter()
        .filter(|check| check.task.as_ref() == Some(&id))
        .collect();
    let worst = [
        Status::Failed,
        Status::NotDone,
        Status::CannotRun,
        Status::Passed,
    ];
    let worst = worst
        .into_iter()
        .find_map(|status| its.iter().find(|it| it.status == status));
    let Some(worst) = worst else {
        say(&format!("  {:<12}  {id}  {}", "no check", task.title));
        return;
    };
    // A check passes; a task is done.
    let word = match worst.status {
        Status::Passed => "done",
        other => other.word(),
    };
    let mut word = format!("{word:<12}");
    if has_colours(&io::stdout()) {
        word = painted(&word, worst.status.colour());
    }
    // It may be written, though what the program comes to before is not.
    let other = worst.undone().filter(|other| *other != id);
    let other = other.map_or(String::new(), |other| format!(" (waits for {other})"));
    say(&format!("  {word}  {id}  {}{other}", task.title));
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
