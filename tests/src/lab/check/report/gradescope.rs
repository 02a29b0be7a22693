//! Gradescope's results.json: the autograder's way of giving points.

use anyhow::Result;
use serde_json::json;

use super::{Graded, Report, Status};

pub fn results(report: &Report) -> Result<String> {
    let results = json!({
        "score": report.points,
        "execution_time": report.seconds.ceil(),
        "output": format!(
            "Step {}: {} of {} points (--seed {})",
            report.step, report.points, report.max_points, report.seed
        ),
        "visibility": "visible",
        "tests": report.checks.iter().map(test).collect::<Vec<_>>(),
    });
    Ok(serde_json::to_string_pretty(&results)? + "\n")
}

fn test(check: &Graded) -> serde_json::Value {
    let passed = check.status == Status::Passed;
    json!({
        "score": check.points,
        "max_score": check.max_points,
        "status": if passed { "passed" } else { "failed" },
        "name": format!("{}: {}", check.id, check.title),
        "number": check.task.clone().unwrap_or_else(|| format!("{:02}", check.step)),
        "output": format!("{}\n{}", check.status.word(), check.lines()),
        "visibility": "visible",
    })
}
