//! The grader as everybody uses it: a program that writes JSON.

use std::path::Path;
use std::process::{Command, Stdio};

use serde::Deserialize;

/// What `lab check --json -` writes, as far as it matters here.
#[derive(Deserialize)]
pub struct Report {
    pub points: u32,
    pub max_points: u32,
    pub checks: Vec<Check>,
    /// The exit status of `lab check`.
    #[serde(skip)]
    pub status: Option<i32>,
}

#[derive(Deserialize)]
pub struct Check {
    pub id: String,
    pub step: u8,
    pub status: String,
    expected: String,
    saw: String,
}

impl Report {
    /// The names of the checks that came out so: `passed`, `failed`,
    /// `not-done`, `cannot-run`.
    pub fn named(&self, status: &str) -> Vec<&str> {
        self.checks_that(|check| check.status == status)
    }

    /// The names of those that did not pass.
    pub fn not_passed(&self) -> Vec<&str> {
        self.checks_that(|check| check.status != "passed")
    }

    /// The names of some checks.
    pub fn checks_that(&self, wanted: impl Fn(&Check) -> bool) -> Vec<&str> {
        let checks = self.checks.iter().filter(|check| wanted(check));
        checks.map(|check| check.id.as_str()).collect()
    }
}

/// What a person wants to know of a report that is not as it should be.
impl std::fmt::Display for Report {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(out, "{} of {} points", self.points, self.max_points)?;
        for check in self.checks.iter().filter(|check| check.status != "passed") {
            let Check {
                id,
                status,
                expected,
                saw,
                ..
            } = check;
            writeln!(out, "{id}: {status}\n  expected {expected}\n  saw {saw}")?;
        }
        Ok(())
    }
}

/// Grades `program` as step `step`, by all checks.
pub fn check(step: u8, program: &Path) -> Report {
    check_only(step, program, &[])
}

/// The same by some checks.
pub fn check_only(step: u8, program: &Path, only: &[&str]) -> Report {
    let mut lab = Command::new(harness::lab());
    lab.args(["check", &step.to_string(), "--json", "-", "--bin"])
        .arg(program);
    if !only.is_empty() {
        lab.args(["--only", &only.join(",")]);
    }
    let out = lab
        .stdin(Stdio::null())
        .output()
        .expect("run lab (cargo build --workspace makes it)");
    let mut report: Report = serde_json::from_slice(&out.stdout).unwrap_or_else(|error| {
        let said = String::from_utf8_lossy(&out.stderr);
        panic!("lab check {step}: {error}; it said:\n{said}")
    });
    report.status = out.status.code();
    report
}
