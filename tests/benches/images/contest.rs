//! Everybody in turn, round after round.

use anyhow::Result;
use harness::Host;
use harness::bench::Goal;
use harness::registry::Registry;

use crate::measure::Measured;
use crate::places::Place;
use crate::samples::{LARGE, MANY, ONE};
use crate::subjects::{self, Deed, Dockerd, OURS, Subject};
use crate::table;

/// The most memory in MiB that an image may cost, however large it is.
const MEMORY: f64 = 64.0;

/// What everybody needed, round by round.
pub type Series = Vec<(&'static str, Vec<Measured>)>;

/// Those who compete at one place.
pub struct Contest<'a> {
    place: &'a Place,
    registry: &'a Registry<'a>,
    subjects: Vec<Subject<'a>>,
    rounds: usize,
}

impl Contest<'_> {
    /// Measures everything with the stores at `place`.
    pub fn at(place: &Place, host: &Host, registry: &Registry<'_>, rounds: usize) -> Result<()> {
        let dockerd = Dockerd::start(host, place.dir);
        let all = subjects::all(host, place.dir, &registry.address(), &dockerd);
        let contest = Contest {
            place,
            registry,
            subjects: all.into_iter().filter(|it| it.works(&ONE)).collect(),
            rounds,
        };
        let mut goals = contest.first(Deed::Pull)?;
        goals.extend(contest.first(Deed::Load)?);
        goals.extend(contest.second()?);
        goals.extend(contest.large()?);
        println!("\ngoals, {} (median of the rounds' ratios)", place.name);
        goals.iter().for_each(Goal::tell);
        for subject in &contest.subjects {
            subject.empty()?;
        }
        dockerd.stop();
        Ok(())
    }

    /// Into an empty store.
    fn first(&self, deed: Deed) -> Result<Vec<Goal>> {
        let told = match deed {
            Deed::Pull => "pull from a registry on loopback",
            Deed::Load => "load of what `docker save` writes",
        };
        println!("\n{told}, {}, {} rounds", self.place.name, self.rounds);
        table::head();
        let mut goals = Vec::new();
        for sample in [ONE, MANY] {
            let series = self.in_turn(|subject| {
                subject.empty()?;
                subject.measure(deed, &sample)
            })?;
            println!("{sample}");
            table::lines(&series);
            let what = format!("{deed} {sample}");
            goals
                .extend(table::fastest(&series).map(|(name, ratio)| {
                    Goal::new(format!("{what}, {OURS} / {name}"), ratio, 0.5)
                }));
            goals.extend(
                table::peak(&series)
                    .map(|peak| Goal::new(format!("{what}, peak MiB"), peak, MEMORY)),
            );
        }
        Ok(goals)
    }

    /// Lets everybody have their turn, once more often than counts: the first warms the caches.
    fn in_turn(&self, turn: impl Fn(&Subject<'_>) -> Result<Measured>) -> Result<Series> {
        let subjects = &self.subjects;
        let mut series: Series = subjects.iter().map(|it| (it.name, Vec::new())).collect();
        for round in 0..=self.rounds {
            // Who goes first changes, in case it matters.
            for nth in 0..subjects.len() {
                let nth = (nth + round) % subjects.len();
                let measured = turn(&subjects[nth])?;
                if round > 0 {
                    series[nth].1.push(measured);
                }
            }
        }
        Ok(series)
    }

    /// A pull of what is there already.
    fn second(&self) -> Result<Vec<Goal>> {
        println!("\na second pull of {MANY}, unchanged, {}", self.place.name);
        let mut goals = Vec::new();
        for subject in &self.subjects {
            subject.empty()?;
            subject.run(Deed::Pull, &MANY)?;
            let before = self.registry.requests().len();
            subject.run(Deed::Pull, &MANY)?;
            let requests = self.registry.requests().split_off(before);
            let methods: Vec<&str> = requests.iter().map(|it| it.method.as_str()).collect();
            println!("  {:<14} asks: {}", subject.name, methods.join(" "));
            if subject.name == OURS {
                goals.push(Goal::new(
                    "second pull, one HEAD (1) or more (2)".to_owned(),
                    if methods == ["HEAD"] { 1.0 } else { 2.0 },
                    1.0,
                ));
            }
        }
        table::head();
        let series = self.in_turn(|subject| subject.run(Deed::Pull, &MANY))?;
        table::lines(&series);
        Ok(goals)
    }

    /// What an image of one large layer costs us in memory.
    fn large(&self) -> Result<Vec<Goal>> {
        let mut goals = Vec::new();
        for ours in self.subjects.iter().filter(|it| it.name == OURS) {
            for deed in [Deed::Pull, Deed::Load] {
                ours.empty()?;
                let Measured { seconds, peak, .. } = ours.measure(deed, &LARGE)?;
                goals.push(Goal::new(
                    format!("{deed} {LARGE} in {seconds:.2} s, peak MiB"),
                    peak,
                    MEMORY,
                ));
            }
        }
        Ok(goals)
    }
}

/// Of our time to theirs, round by round; none where we are not among them.
pub fn ratios(series: &Series, theirs: &[Measured], of: fn(&Measured) -> f64) -> Vec<f64> {
    let ours = series.iter().find(|(name, _)| *name == OURS);
    let ours = ours.map(|(_, measured)| measured.as_slice());
    let pairs = ours.unwrap_or_default().iter().zip(theirs);
    pairs.map(|(ours, their)| of(ours) / of(their)).collect()
}
