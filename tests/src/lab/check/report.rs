//! What came out: on the terminal, and in files for other programs.
//!
//! The JSON is this module's [`Report`], and stable: fields may be added, none
//! is taken away, and `schema` changes when one means something else.

mod gradescope;
mod junit;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::submission::Submission;
use super::trial::Problem;
use super::{Check, Options, Step};
use crate::terminal::{WIDTH, has_colours, painted, wrap};

/// The result of one run.
#[derive(Serialize, Deserialize)]
pub struct Report {
    /// `minidocker-lab/1`
    pub schema: String,
    /// The step that was graded; earlier steps' checks bring no points.
    pub step: u8,
    /// The program, as it was named.
    pub submission: String,
    /// For `--seed`.
    pub seed: u64,
    pub points: u32,
    pub max_points: u32,
    pub seconds: f64,
    pub checks: Vec<Graded>,
}

/// One check's result.
#[derive(Clone, Serialize, Deserialize)]
pub struct Graded {
    pub id: String,
    /// The step that it belongs to.
    pub step: u8,
    /// The task that it tells about, `null` for none.
    pub task: Option<String>,
    pub title: String,
    pub status: Status,
    pub points: u32,
    pub max_points: u32,
    /// The submission's command lines; the last one is the one that matters.
    pub ran: Vec<String>,
    pub expected: String,
    pub saw: String,
    pub hint: String,
    pub seconds: f64,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    Passed,
    Failed,
    NotDone,
    CannotRun,
}

impl Status {
    /// As the terminal has it: other words, not only other colours.
    pub fn word(self) -> &'static str {
        match self {
            Status::Passed => "passed",
            Status::Failed => "FAILED",
            Status::NotDone => "not done yet",
            Status::CannotRun => "cannot run",
        }
    }

    /// The number of its colour on the terminal.
    pub fn colour(self) -> &'static str {
        match self {
            Status::Passed => "32",
            Status::Failed => "1;31",
            Status::NotDone => "33",
            Status::CannotRun => "35",
        }
    }
}

impl Graded {
    /// A result to be filled in.
    pub fn of(step: &Step, check: &Check, graded: u8) -> Graded {
        Graded {
            id: check.id.to_owned(),
            step: step.number,
            task: check.task.map(str::to_owned),
            title: check.title.to_owned(),
            status: Status::Failed,
            points: 0,
            max_points: if step.number == graded {
                check.points
            } else {
                0
            },
            ran: Vec::new(),
            expected: String::new(),
            saw: String::new(),
            hint: check.hint.to_owned(),
            seconds: 0.0,
        }
    }

    pub fn passed(mut self, ran: Vec<String>, start: Instant) -> Graded {
        self.status = Status::Passed;
        self.points = self.max_points;
        self.ran = ran;
        self.seconds = start.elapsed().as_secs_f64();
        self
    }

    pub fn with(mut self, problem: Problem, ran: Vec<String>, start: Instant) -> Graded {
        match problem {
            Problem::Failed { expected, saw } => {
                self.status = Status::Failed;
                self.expected = expected;
                self.saw = saw;
            }
            Problem::Undone(task) => {
                self.status = Status::NotDone;
                self.saw = format!("task {task} is not done yet");
            }
            Problem::Impossible { why, fix } => {
                self.status = Status::CannotRun;
                self.saw = why;
                self.hint = fix;
            }
        }
        self.ran = ran;
        self.seconds = start.elapsed().as_secs_f64();
        self
    }

    /// The task that the submission came to and that is yet to be done.
    pub fn undone(&self) -> Option<&str> {
        let (_, rest) = self.saw.split_once("task ")?;
        let task = rest.split(' ').next()?;
        (self.status == Status::NotDone).then_some(task)
    }
}

impl Report {
    pub fn new(submission: &Submission, seed: u64) -> Report {
        Report {
            schema: "minidocker-lab/1".to_owned(),
            step: submission.step,
            submission: submission.path.display().to_string(),
            seed,
            points: 0,
            max_points: 0,
            seconds: 0.0,
            checks: Vec::new(),
        }
    }

    pub fn close(&mut self, took: Duration) {
        self.seconds = took.as_secs_f64();
        self.points = self.checks.iter().map(|check| check.points).sum();
        self.max_points = self.checks.iter().map(|check| check.max_points).sum();
    }

    pub fn count(&self, status: Status) -> usize {
        self.checks
            .iter()
            .filter(|check| check.status == status)
            .count()
    }

    /// A check that could not be run leaves a hole in the grade, and that is
    /// told before anything else; an earlier step's is worth no points.
    pub fn exit_status(&self) -> u8 {
        let not_run = |check: &&Graded| check.status == Status::CannotRun;
        if self
            .checks
            .iter()
            .filter(not_run)
            .any(|hole| hole.max_points > 0)
        {
            return 2;
        }
        let held = self.count(Status::Passed) + self.count(Status::CannotRun);
        u8::from(held < self.checks.len())
    }

    /// Writes the files that were asked for.
    pub fn write(&self, options: &Options) -> Result<()> {
        let mut json = serde_json::to_string_pretty(self)?;
        json.push('\n');
        let gradescope = gradescope::results(self)?;
        for (path, content) in [
            (&options.json, json),
            (&options.junit, junit::xml(self)),
            (&options.gradescope, gradescope),
        ] {
            match path.as_deref() {
                None => {}
                Some(path) if path == Path::new("-") => {
                    std::io::stdout()
                        .write_all(content.as_bytes())
                        .context("write the result to standard output")?;
                }
                Some(path) => {
                    fs::write(path, content)
                        .with_context(|| format!("write {}", path.display()))?;
                }
            }
        }
        Ok(())
    }
}

impl Graded {
    /// What a person needs to know of one that did not pass, line by line.
    fn story(&self) -> Vec<(&'static str, &str)> {
        let ran = self.ran.last().map_or("", String::as_str);
        let all = match self.status {
            Status::Passed => vec![],
            Status::Failed => vec![
                ("ran", ran),
                ("expected", self.expected.as_str()),
                ("saw", &self.saw),
                ("hint", &self.hint),
            ],
            Status::NotDone => vec![("", self.saw.as_str())],
            Status::CannotRun => vec![("because", self.saw.as_str()), ("fix", &self.hint)],
        };
        all.into_iter()
            .filter(|(_, text)| !text.is_empty())
            .collect()
    }

    /// The same as other programs show it.
    fn lines(&self) -> String {
        let story = self.story().into_iter();
        story
            .map(|(name, text)| format!("{name}: {text}\n"))
            .collect()
    }
}

/// The report as it is read by a person, on 80 columns.
pub struct Terminal {
    colours: bool,
    /// What was told last: the same is not told again.
    last: String,
    /// Standard error where standard output is for the JSON.
    errors: bool,
    step: Option<u8>,
}

/// Where the text of a story begins.
const MARGIN: usize = 16;
/// How much of what a program prints is worth reading.
const LINES: usize = 12;

impl Terminal {
    pub fn new(json: Option<&Path>) -> Terminal {
        let errors = json == Some(Path::new("-"));
        let colours = if errors {
            has_colours(&std::io::stderr())
        } else {
            has_colours(&std::io::stdout())
        };
        Terminal {
            colours,
            last: String::new(),
            errors,
            step: None,
        }
    }

    fn line(&self, line: &str) {
        // Nobody reading is no reason to stop grading.
        let line = line.trim_end();
        if self.errors {
            writeln!(std::io::stderr(), "{line}").ok();
        } else {
            writeln!(std::io::stdout(), "{line}").ok();
        }
    }

    fn painted(&self, status: Status, text: &str) -> String {
        if self.colours {
            painted(text, status.colour())
        } else {
            text.to_owned()
        }
    }

    pub fn opening(&self, report: &Report) {
        let name = printable(&report.submission);
        self.line(&format!("Checking step {} of {name}", report.step));
        self.line(&format!("Chance of this run: --seed {}", report.seed));
    }

    pub fn check(&mut self, check: &Graded) {
        if self.step != Some(check.step) {
            self.step = Some(check.step);
            self.line("");
            self.line(&format!("Step {}", check.step));
        }
        let word = self.painted(check.status, &format!("{:<12}", check.status.word()));
        let task = check.task.as_deref().unwrap_or("");
        let points = match check.max_points {
            0 => String::new(),
            most => format!("{}/{most}", check.points),
        };
        self.line(&format!(
            "  {word}  {task:<5} {:<52} {points:>5}",
            check.title
        ));
        let story = check.story();
        let same = std::mem::replace(&mut self.last, format!("{}{}", check.expected, check.saw));
        if !check.saw.is_empty() && same == self.last {
            return self.line("      the same");
        }
        for (name, text) in story {
            let mut lines = Vec::new();
            for line in printable(text).lines() {
                lines.extend(wrap(line, WIDTH - MARGIN));
            }
            if lines.len() > LINES {
                lines.truncate(LINES);
                lines.push("… (all of it with --json)".to_owned());
            }
            for (number, line) in lines.iter().enumerate() {
                let name = if number == 0 { name } else { "" };
                self.line(&format!("      {name:<9} {line}"));
            }
        }
    }

    pub fn summary(&self, report: &Report) {
        let mut counts = Vec::new();
        for status in [
            Status::Passed,
            Status::Failed,
            Status::NotDone,
            Status::CannotRun,
        ] {
            let count = report.count(status);
            if count > 0 {
                counts.push(self.painted(status, &format!("{count} {}", status.word())));
            }
        }
        self.line("");
        self.line(&format!(
            "Step {}: {} of {} points · {} · {:.1} s",
            report.step,
            report.points,
            report.max_points,
            counts.join(" · "),
            report.seconds
        ));
        if report.count(Status::NotDone) > 0 && report.count(Status::Failed) == 0 {
            self.line("What is left is what you have not done yet; `cargo lab hint` helps.");
        }
    }
}

/// What somebody else's program printed, without anything that a terminal
/// would obey.
fn printable(text: &str) -> String {
    let safe = |c: char| {
        if c == '\n' || !c.is_control() {
            c
        } else {
            '·'
        }
    };
    text.chars().map(safe).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_of_one_task_names_the_other_that_it_waits_for() {
        let step = &crate::check::STEPS[0];
        let graded = Graded::of(step, &step.checks[0], step.number);
        let with = |problem| graded.clone().with(problem, Vec::new(), Instant::now());
        let undone = with(Problem::Undone("01.3".to_owned()));
        assert_eq!(undone.undone(), Some("01.3"));
        let failed = with(Problem::unusable("no task at all"));
        assert_eq!(failed.undone(), None);
    }

    #[test]
    fn a_program_cannot_paint_the_report() {
        assert_eq!(printable("\x1b[32mpassed\r"), "·[32mpassed·");
    }
}
