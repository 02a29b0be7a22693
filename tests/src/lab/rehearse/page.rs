//! One page: its sessions, typed into one shell.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use similar::TextDiff;

use super::place::Place;
use super::read;
use super::shell::Shell;
use crate::session::{Bound, Kind, PROMPTS, Piece, Session, matches, pieces};

/// How long a line may take, where its session says nothing else.
const PATIENCE: Duration = Duration::from_secs(60);

/// A page's name, and its sessions in their order.
pub struct Page {
    pub name: String,
    sessions: Vec<(String, Session)>,
}

/// What was rehearsed.
#[derive(Default)]
pub struct Tally {
    pub sessions: usize,
    pub typed: usize,
    /// Pages that show what did not happen.
    pub failed: usize,
    /// Sessions that are not executed, and why.
    pub skipped: Vec<(String, String)>,
}

impl Tally {
    pub fn add(&mut self, other: &Tally) {
        self.sessions += other.sessions;
        self.typed += other.typed;
        self.failed += other.failed;
        self.skipped.extend_from_slice(&other.skipped);
    }
}

impl Page {
    /// All pages, in the order of the contents.
    pub fn all(repository: &Path) -> Result<Vec<Page>> {
        let src = repository.join("book/en/src");
        let contents = read(&src.join("SUMMARY.md"))?;
        let file = |line: &str| {
            let (_, rest) = line.split_once("](")?;
            let (file, _) = rest.split_once(')')?;
            file.ends_with(".md").then(|| file.to_owned())
        };
        contents
            .lines()
            .filter_map(file)
            .map(|file| {
                let text = read(&src.join(&file))?;
                let shown = text.lines().filter_map(|line| {
                    line.strip_prefix("{{#console ")?
                        .strip_suffix("}}")
                        .map(str::trim)
                });
                let sessions = shown
                    .map(|path| Ok((path.to_owned(), session(repository, path)?)))
                    .collect::<Result<_>>()?;
                Ok(Page {
                    name: file.trim_end_matches(".md").to_owned(),
                    sessions,
                })
            })
            .collect()
    }

    /// Types everything; what differs is told, and ends the page.
    pub fn rehearse(&self, place: &Place) -> Result<Tally> {
        let mut tally = Tally::default();
        if self.sessions.is_empty() {
            return Ok(tally);
        }
        println!("== {}", self.name);
        let start = Instant::now();
        let lines = self.lines(&mut tally);
        let mut stage = Stage::new(place);
        let result = lines
            .iter()
            .try_for_each(|line| stage.line(line, &mut tally));
        if let Err(error) = result.and_then(|()| stage.finish()) {
            println!("{error:#}");
            tally.failed = 1;
        }
        println!(
            "== {}: {} in {:.1} s",
            self.name,
            if tally.failed > 0 {
                "DIFFERS"
            } else {
                "as shown"
            },
            start.elapsed().as_secs_f64()
        );
        Ok(tally)
    }

    /// All that happens on the page.
    fn lines(&self, tally: &mut Tally) -> Vec<Line<'_>> {
        let mut lines = Vec::new();
        for (path, session) in &self.sessions {
            if let Some(reason) = &session.not_executed {
                tally.skipped.push((path.clone(), reason.clone()));
                continue;
            }
            tally.sessions += 1;
            lines.push(Line {
                path,
                number: 0,
                kind: &Kind::Timeout(0),
            });
            lines.extend(session.events.iter().map(|event| Line {
                path,
                number: event.line,
                kind: &event.kind,
            }));
        }
        lines
    }
}

fn session(repository: &Path, path: &str) -> Result<Session> {
    let text = read(&repository.join(path))?;
    Session::parse(&text).map_err(|(line, error)| error.context(format!("{path}:{line}")))
}

/// One line of a session.
#[derive(Clone, Copy)]
struct Line<'a> {
    path: &'a str,
    number: usize,
    kind: &'a Kind,
}

/// A line that was typed, and what is to come back.
struct Pending<'a> {
    line: Line<'a>,
    shown: Vec<&'a str>,
}

/// The terminals of a page.
struct Stage<'a> {
    place: &'a Place,
    shells: BTreeMap<u32, (Shell, Option<Pending<'a>>)>,
    /// The terminal of the next line.
    current: u32,
    patience: Duration,
    bound: Bound,
    /// Comparisons of values that are not yet on the screen.
    compare: Vec<Line<'a>>,
}

impl<'a> Stage<'a> {
    fn new(place: &'a Place) -> Stage<'a> {
        Stage {
            place,
            shells: BTreeMap::new(),
            current: 1,
            patience: PATIENCE,
            bound: Bound::new(),
            compare: Vec::new(),
        }
    }

    fn line(&mut self, line: &Line<'a>, tally: &mut Tally) -> Result<()> {
        let told = || format!("{}:{}", line.path, line.number);
        match line.kind {
            Kind::Typed { prompt, text } => {
                self.settle(self.current, Some(prompt))?;
                let text = self.filled(text).with_context(told)?;
                let (shell, pending) = self.terminal()?;
                shell.enter(&text);
                tally.typed += 1;
                *pending = Some(Pending {
                    line: *line,
                    shown: Vec::new(),
                });
            }
            Kind::Shown(text) => {
                let pending = self.terminal()?.1.as_mut();
                let pending = pending
                    .with_context(told)
                    .context("nothing was typed yet")?;
                pending.shown.push(text);
            }
            Kind::Terminal(number) => self.current = *number,
            Kind::Keys(keys) => self.terminal()?.0.press(keys).with_context(told)?,
            Kind::Wait(text) => {
                let (text, patience) = (self.filled(text)?, self.patience);
                let shell = &mut self.terminal()?.0;
                shell.wait_for(&text, patience).with_context(told)?;
            }
            Kind::Timeout(0) => {
                self.patience = PATIENCE;
                self.current = 1;
            }
            Kind::Timeout(seconds) => self.patience = Duration::from_secs(*seconds),
            Kind::Note(_) => {}
            Kind::Differ(_) | Kind::Same(_) => self.compare.push(*line),
        }
        Ok(())
    }

    /// The current terminal, opened when it is needed first.
    fn terminal(&mut self) -> Result<&mut (Shell, Option<Pending<'a>>)> {
        if !self.shells.contains_key(&self.current) {
            let shell = Shell::open(self.place)?;
            self.shells.insert(self.current, (shell, None));
        }
        self.shells
            .get_mut(&self.current)
            .context("a terminal that was opened")
    }

    /// Waits for the prompt (any where none is given), and compares what came before it.
    fn settle(&mut self, terminal: u32, prompt: Option<&str>) -> Result<()> {
        let Some((shell, pending)) = self.shells.get_mut(&terminal) else {
            return Ok(());
        };
        let Some(pending) = pending.take() else {
            return Ok(());
        };
        let prompts = prompt.map_or(PROMPTS.to_vec(), |one| vec![one]);
        let at = format!("{}:{}", pending.line.path, pending.line.number);
        let seen = shell
            .output(&prompts, self.patience)
            .with_context(|| at.clone())?;
        let seen: Vec<&str> = seen.lines().collect();
        if !matches(&pending.shown, &seen, &mut self.bound) {
            return Err(anyhow!(difference(&at, &pending, &seen)));
        }
        self.compare_bound()
    }

    /// Makes those comparisons whose values are known.
    fn compare_bound(&mut self) -> Result<()> {
        let (ready, rest) = std::mem::take(&mut self.compare)
            .into_iter()
            .partition(|line| {
                names(line.kind)
                    .iter()
                    .all(|name| self.bound.contains_key(name))
            });
        self.compare = rest;
        let ready: Vec<Line> = ready;
        for line in ready {
            let values: Vec<&String> = names(line.kind)
                .iter()
                .map(|name| &self.bound[name])
                .collect();
            let mut distinct = values.clone();
            distinct.sort();
            distinct.dedup();
            let holds = match line.kind {
                Kind::Same(_) => distinct.len() == 1,
                _ => distinct.len() == values.len(),
            };
            if !holds {
                return Err(anyhow!(
                    "{}:{}: {} are {values:?}",
                    line.path,
                    line.number,
                    names(line.kind).join(", "),
                ));
            }
        }
        Ok(())
    }

    /// Compares what the last lines of the page have shown.
    fn finish(mut self) -> Result<()> {
        let terminals: Vec<u32> = self.shells.keys().copied().collect();
        for terminal in terminals {
            self.settle(terminal, None)?;
        }
        if let Some(line) = self.compare.first() {
            return Err(anyhow!(
                "{}:{}: a name in it was never seen",
                line.path,
                line.number
            ));
        }
        Ok(())
    }

    /// A line to type, with what was seen in the places of the names.
    fn filled(&self, text: &str) -> Result<String> {
        let value = |piece| match piece {
            Piece::Text(text) => Ok(text.to_owned()),
            Piece::Hole { name, .. } => {
                let value = self.bound.get(name).cloned();
                value.with_context(|| format!("<<{name}>> was not seen yet"))
            }
        };
        pieces(text).into_iter().map(value).collect()
    }
}

/// The names that a line compares.
fn names(kind: &Kind) -> &[String] {
    match kind {
        Kind::Differ(names) | Kind::Same(names) => names,
        _ => &[],
    }
}

fn difference(at: &str, pending: &Pending, seen: &[&str]) -> String {
    let Kind::Typed { prompt, text } = pending.line.kind else {
        return at.to_owned();
    };
    let (expected, seen) = (pending.shown.join("\n") + "\n", seen.join("\n") + "\n");
    let diff = TextDiff::from_lines(&expected, &seen);
    let diff = diff
        .unified_diff()
        .header("the book", "the screen")
        .to_string();
    format!("{at}: after `{prompt}{text}` the screen is not as the book has it:\n{diff}")
}
