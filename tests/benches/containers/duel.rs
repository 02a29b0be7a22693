//! Everybody in turn, round after round.

use anyhow::Result;
use harness::bench::Goal;
use harness::bench::subjects::{OURS, Subject};
use harness::quantile;

/// A thing to do: what comes before, what is timed, what comes after, and how much of the others' time
/// we may take.
struct Deed {
    name: &'static str,
    before: &'static str,
    line: &'static str,
    after: &'static str,
    goal: f64,
}

const DEEDS: [Deed; 6] = [
    Deed {
        name: "run --rm IMAGE true",
        before: "",
        line: "$do run --rm busybox true",
        after: "",
        goal: 1.0 / 15.0,
    },
    Deed {
        name: "the same without a network",
        before: "",
        line: "$do run --rm --network none busybox true",
        after: "",
        goal: 1.0 / 15.0,
    },
    Deed {
        name: "exec CONTAINER true",
        before: "$do run -d --name it busybox sleep 1000",
        line: "$do exec it true",
        after: "$do rm -f it",
        goal: 1.0 / 15.0,
    },
    Deed {
        name: "run -d, and rm -f",
        before: "",
        line: "$do run -d --name it busybox sleep 1000; $do rm -f it",
        after: "",
        goal: 1.0 / 15.0,
    },
    Deed {
        name: "100 MB of output",
        before: "",
        line: "$do run --rm --network none busybox sh -c 'yes a line of forty bytes is not very long | head -c 100000000'",
        after: "",
        goal: 1.0,
    },
    Deed {
        name: "logs of 100 MB",
        before: "$do run --name it --network none busybox sh -c 'yes a line of forty bytes is not very long | head -c 100000000'",
        line: "$do logs it",
        after: "$do rm -f it",
        goal: 1.0,
    },
];

/// Lets everybody do each thing in turn.
pub fn fight(subjects: &[Subject<'_>], rounds: usize) -> Result<Vec<Goal>> {
    let mut goals = Vec::new();
    for deed in DEEDS {
        // Those take seconds.
        let rounds = if deed.name.contains("MB") {
            rounds.min(3)
        } else {
            rounds
        };
        let mut times: Vec<Vec<f64>> = vec![Vec::new(); subjects.len()];
        for subject in subjects {
            subject.shell(deed.before);
        }
        for round in 0..=rounds {
            // Who goes first changes, in case it matters.
            for nth in 0..subjects.len() {
                let nth = (nth + round) % subjects.len();
                let time = subjects[nth].time(deed.line)?;
                // The first round warms the caches.
                if round > 0 {
                    times[nth].push(time);
                }
            }
        }
        for subject in subjects {
            subject.shell(deed.after);
        }
        println!(
            "\n{}, {rounds} rounds: ms (p10-p90), our time to theirs",
            deed.name
        );
        goals.extend(tell(&deed, subjects, &times));
    }
    Ok(goals)
}

fn tell(deed: &Deed, subjects: &[Subject<'_>], times: &[Vec<f64>]) -> Vec<Goal> {
    let ours = subjects.iter().position(|subject| subject.name == OURS);
    let mut goals = Vec::new();
    for (subject, theirs) in subjects.iter().zip(times) {
        let [low, middle, high] = [0.1, 0.5, 0.9].map(|part| quantile(theirs, part));
        let mut line = format!("  {:<12} {middle:>8.1} ({low:.1}-{high:.1})", subject.name);
        if let Some(ours) = ours
            .map(|ours| &times[ours])
            .filter(|_| subject.name != OURS)
        {
            let ratios: Vec<f64> = ours
                .iter()
                .zip(theirs)
                .map(|(our, their)| our / their)
                .collect();
            let ratio = quantile(&ratios, 0.5);
            line += &format!("  1/{:.1}", 1.0 / ratio);
            if subject.name == "docker" {
                goals.push(Goal::new(
                    format!("{}, {OURS} / docker", deed.name),
                    ratio,
                    deed.goal,
                ));
            }
        }
        println!("{line}");
    }
    goals
}
