//! What is printed.

use harness::quantile;

use crate::contest::{Series, ratios};
use crate::measure::Measured;
use crate::subjects::OURS;

/// Above the lines.
pub fn head() {
    println!(
        "{:<16} {:>7} {:<15} {:>5} {:<11} {:>7} {:>5} {:>9}",
        "  p10 and p90 in", "s", "brackets", "ratio", "", "+ sync", "ratio", "peak MiB"
    );
}

/// A line for everybody: seconds, our time to theirs, the same until all is on the disk, memory.
pub fn lines(series: &Series) {
    for (name, measured) in series {
        let column = |of: fn(&Measured) -> f64| -> [(String, String); 2] {
            let values: Vec<f64> = measured.iter().map(of).collect();
            let ratios = match *name {
                OURS => Vec::new(),
                _ => ratios(series, measured, of),
            };
            [spread(&values, 3), spread(&ratios, 2)]
        };
        let [seconds, ratio] = column(|it| it.seconds);
        let [synced, synced_ratio] = column(|it| it.synced);
        let peak = measured.iter().map(|it| it.peak).fold(0.0, f64::max);
        println!(
            "  {name:<14} {:>7} {:<15} {:>5} {:<11} {:>7} {:>5} {peak:>9.0}",
            seconds.0, seconds.1, ratio.0, ratio.1, synced.0, synced_ratio.0
        );
    }
}

/// The fastest of the others, and our time to theirs.
pub fn fastest(series: &Series) -> Option<(&'static str, f64)> {
    let others = series.iter().filter(|(name, _)| *name != OURS);
    let others = others.filter_map(|(name, measured)| {
        let ratios = ratios(series, measured, |it| it.seconds);
        (!ratios.is_empty()).then(|| (*name, quantile(&ratios, 0.5)))
    });
    others.max_by(|one, other| one.1.total_cmp(&other.1))
}

/// The most memory that we needed.
pub fn peak(series: &Series) -> Option<f64> {
    let (_, ours) = series.iter().find(|(name, _)| *name == OURS)?;
    Some(ours.iter().map(|it| it.peak).fold(0.0, f64::max))
}

/// The median, and the tenths below and above it; nothing of nothing.
fn spread(values: &[f64], places: usize) -> (String, String) {
    if values.is_empty() {
        return Default::default();
    }
    let [low, middle, high] = [0.1, 0.5, 0.9].map(|part| quantile(values, part));
    (
        format!("{middle:.places$}"),
        format!("({low:.2}-{high:.2})"),
    )
}
