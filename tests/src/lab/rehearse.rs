//! `cargo lab rehearse`: does what the book tells a reader to do.
//!
//! A fresh clone of what is committed, an ordinary user, a bash on a terminal
//! for each page; every line that the page's console sessions show as typed is
//! typed, and what the terminal then shows must be what the page shows.

mod clone;
mod desk;
mod performance;
mod screen;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail, ensure};
use regex_lite::Regex;

use crate::expand::shown_by;
use crate::session::Session;
use clone::Clone;
pub use clone::NAME;
use desk::Desk;

/// The page that tells to build.
const BUILDS: &str = "set-up";

/// The pages that take longest: read first, so that no reader waits for the other in the end.
const LONG: [&str; 3] = ["instructors", "04-network", "03-cgroups"];

/// What is asked for.
#[derive(Default)]
pub struct Plan {
    /// The pages, by their names; all where there is none.
    pub pages: Vec<String>,
    /// Where to keep the clone for the next time.
    pub keep: Option<PathBuf>,
    /// Tell of each line that is typed.
    pub verbose: bool,
    /// The repository; this one where it is not given.
    pub repository: Option<PathBuf>,
}

/// A page, and the sessions that it shows.
pub struct Page {
    name: String,
    sessions: Vec<(String, Session)>,
}

/// Runs the sessions; the exit status is 1 when something is not as it is shown.
pub fn run(plan: &Plan) -> Result<u8> {
    let root = plan.repository.clone().map_or_else(crate::workspace, Ok)?;
    let clone = Clone::make(&root, plan.keep.as_deref())?;
    let pages = pages(&clone.dir(), &plan.pages)?;
    clone.prepare(&pages)?;
    let desk = Desk::new(&clone)?;
    let tally = Mutex::default();
    let first = pages.iter().position(|page| page.name == BUILDS);
    let (alone, shared) = pages.split_at(first.map_or(0, |n| n + 1));
    for page in alone {
        rehearse(page, &desk, plan.verbose, &tally)?;
    }
    if alone.is_empty() && !plan.pages.is_empty() {
        // The page that tells to build is perhaps not among these.
        desk.build()?;
    }
    share(shared, (&clone, &desk), plan.verbose, &tally)?;
    Ok(tally.into_inner().unwrap_or_default().close())
}

/// Pages that nobody needs to have read before others, between as many readers as there are
/// processors: the first at her desk, the others each with a copy of what she has built.
fn share(
    pages: &[Page],
    (clone, desk): (&Clone, &Desk),
    verbose: bool,
    tally: &Mutex<Tally>,
) -> Result<()> {
    let readers = thread::available_parallelism().map_or(1, usize::from);
    let copies = (1..readers.min(pages.len())).map(|n| clone.copy(n));
    let copies = copies.collect::<Result<Vec<_>>>()?;
    let mut pages: Vec<&Page> = pages.iter().collect();
    pages.sort_by_key(|page| {
        let long = LONG.iter().position(|name| *name == page.name);
        long.unwrap_or(LONG.len())
    });
    let left = Mutex::new(pages.into_iter());
    let read = |desk: &Desk| -> Result<()> {
        loop {
            let page = left.lock().ok().and_then(|mut left| left.next());
            let Some(page) = page else { return Ok(()) };
            rehearse(page, desk, verbose, tally)?;
        }
    };
    thread::scope(|scope| {
        let others = copies
            .iter()
            .map(|copy| scope.spawn(|| read(&Desk::new(copy)?)));
        let others: Vec<_> = others.collect();
        let mut all = read(desk);
        for other in others {
            let other = other.join().map_err(|_| anyhow!("a reader has panicked"));
            all = all.and(other.and_then(|read| read));
        }
        all
    })
}

/// The pages of the contents that show sessions, in their order.
fn pages(repository: &Path, wanted: &[String]) -> Result<Vec<Page>> {
    let source = repository.join("book/en/src");
    let summary = read(&source.join("SUMMARY.md"))?;
    let link = Regex::new(r"\]\(([^)]+)\.md\)")?;
    let names: Vec<String> = link
        .captures_iter(&summary)
        .map(|found| found[1].to_owned())
        .collect();
    let unknown = wanted.iter().find(|name| !names.contains(name));
    if let Some(name) = unknown {
        bail!("the book has no page {name}; it has {}", names.join(", "));
    }
    let mut pages = Vec::new();
    for name in names {
        if !wanted.is_empty() && !wanted.contains(&name) {
            continue;
        }
        let text = read(&source.join(format!("{name}.md")))?;
        let mut sessions = Vec::new();
        for path in shown_by(&text, "console") {
            let text = read(&repository.join(path))?;
            let session = Session::parse(&text)
                .map_err(|(line, error)| error.context(format!("{path}:{line}")))?;
            sessions.push((path.to_owned(), session));
        }
        if !sessions.is_empty() {
            pages.push(Page { name, sessions });
        }
    }
    ensure!(
        wanted.is_empty() || !pages.is_empty(),
        "no console session is on {} (what is not committed is not rehearsed)",
        wanted.join(", ")
    );
    Ok(pages)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("read {} (is it committed?)", path.display()))
}

/// What was done, and what was not.
#[derive(Default)]
struct Tally {
    sessions: usize,
    lines: usize,
    not_executed: Vec<(String, String)>,
    failed: Vec<String>,
}

/// Does what one page says, and adds it up.
fn rehearse(page: &Page, desk: &Desk, verbose: bool, tally: &Mutex<Tally>) -> Result<()> {
    let (idle, done): (Vec<_>, Vec<_>) = page
        .sessions
        .iter()
        .map(|(path, session)| (path.as_str(), session))
        .partition(|(_, session)| session.not_executed.is_some());
    let start = Instant::now();
    let performed = match done.is_empty() {
        true => Ok(()),
        false => performance::perform(&done, desk, verbose).and_then(|()| {
            desk.check_sources().map_err(|error| performance::Mismatch {
                place: "after the last line".to_owned(),
                what: format!("{error:#}"),
            })
        }),
    };
    let took = start.elapsed().as_secs_f64();
    let failed = performed.is_err();
    {
        let mut tally = tally.lock().map_err(|_| anyhow!("a reader has panicked"))?;
        for (path, session) in idle {
            let reason = session.not_executed.clone().unwrap_or_default();
            tally.not_executed.push((path.to_owned(), reason));
        }
        let lines: usize = done.iter().map(|(_, session)| session.typed()).sum();
        match performed {
            Ok(()) if done.is_empty() => {}
            Ok(()) => {
                tally.sessions += done.len();
                tally.lines += lines;
                println!(
                    "{:<24} {:>3} sessions {lines:>4} lines {took:>7.1} s  as shown",
                    page.name,
                    done.len(),
                );
            }
            Err(mismatch) => {
                println!("{:<24} {took:>28.1} s  NOT AS SHOWN", page.name);
                println!("{}: {}\n{}", page.name, mismatch.place, mismatch.what);
                tally.failed.push(page.name.clone());
            }
        }
    }
    // The next page must not suffer from what this one left.
    if failed { desk.restore() } else { Ok(()) }
}

impl Tally {
    fn close(&self) -> u8 {
        println!(
            "\n{} sessions executed, {} lines typed; {} sessions are not executed",
            self.sessions,
            self.lines,
            self.not_executed.len()
        );
        for (path, reason) in &self.not_executed {
            println!("  {path}: {reason}");
        }
        if !self.failed.is_empty() {
            println!("not as shown: {}", self.failed.join(", "));
        }
        u8::from(!self.failed.is_empty())
    }
}
