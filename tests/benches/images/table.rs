//! What is printed.

use crate::Series;
use crate::measure::Measured;
use crate::samples::Sample;
use crate::subjects::OURS;

/// A table, printed line by line.
pub struct Table;

impl Table {
    pub fn begin() -> Table {
        println!(
            "{:<16} {:>7} {:<15} {:>13} {:<13} {:>9}",
            "", "s", "(p10-p90)", "ours / theirs", "(p10-p90)", "peak MiB"
        );
        Table
    }

    /// A line for everybody.
    pub fn sample(&mut self, sample: &Sample, series: &Series) {
        println!("{sample}");
        for (name, measured) in series {
            let seconds: Vec<f64> = measured.iter().map(|it| it.seconds).collect();
            let peak = measured.iter().map(|it| it.peak).fold(0.0, f64::max);
            let ratios = ratios(series, measured);
            let (ratio, among) = match *name == OURS || ratios.is_empty() {
                true => Default::default(),
                false => spread(&ratios),
            };
            let (seconds, rest) = spread(&seconds);
            println!("  {name:<14} {seconds:>7} {rest:<15} {ratio:>13} {among:<13} {peak:>9.0}");
        }
    }
}

/// Of our time to theirs, round by round; none where we are not among them.
fn ratios(series: &Series, theirs: &[Measured]) -> Vec<f64> {
    let ours = series.iter().find(|(name, _)| *name == OURS);
    let ours = ours.map(|(_, measured)| measured.as_slice());
    let pairs = ours.unwrap_or_default().iter().zip(theirs);
    pairs
        .map(|(ours, their)| ours.seconds / their.seconds)
        .collect()
}

/// Our time against the fastest of the others', and our memory.
pub fn verdicts(what: &str, series: &Series) -> Vec<(String, f64, f64)> {
    let others = series.iter().filter(|(name, _)| *name != OURS);
    let others = others.filter_map(|(name, measured)| {
        let ratios = ratios(series, measured);
        (!ratios.is_empty()).then(|| (median(&ratios), name))
    });
    let fastest = others.max_by(|one, other| one.0.total_cmp(&other.0));
    let time = fastest.map(|(ratio, name)| (format!("{what}: {OURS} / {name}"), ratio, 0.5));
    let ours = series.iter().find(|(name, _)| *name == OURS);
    let memory = ours.map(|(_, measured)| {
        let peak = measured.iter().map(|it| it.peak).fold(0.0, f64::max);
        (format!("{what}: peak MiB"), peak, crate::MEMORY)
    });
    time.into_iter().chain(memory).collect()
}

/// Says whether a goal was reached.
pub fn goal(what: &str, value: f64, most: f64) {
    let verdict = if value <= most { "ok" } else { "!!" };
    println!("{verdict} {what}: {value:.2}, goal {most:.2}");
}

pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1) as f64;
    sorted
        .get((last * part).round() as usize)
        .copied()
        .unwrap_or(f64::NAN)
}

/// The median, and the tenths below and above it.
fn spread(values: &[f64]) -> (String, String) {
    let [low, middle, high] = [0.1, 0.5, 0.9].map(|part| quantile(values, part));
    (format!("{middle:.2}"), format!("({low:.2}-{high:.2})"))
}
