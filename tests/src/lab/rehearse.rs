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
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use regex_lite::Regex;

use crate::expand::shown_by;
use crate::session::Session;
use clone::Clone;
pub use clone::NAME;
use desk::Desk;

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
    if !plan.pages.is_empty() {
        // The page that tells to build is perhaps not among these.
        desk.build()?;
    }
    let mut tally = Tally::default();
    for page in &pages {
        tally.page(page, &desk, plan.verbose)?;
    }
    Ok(tally.close())
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

impl Tally {
    fn page(&mut self, page: &Page, desk: &Desk, verbose: bool) -> Result<()> {
        let mut done = Vec::new();
        for (path, session) in &page.sessions {
            match &session.not_executed {
                Some(reason) => self.not_executed.push((path.clone(), reason.clone())),
                None => done.push((path.as_str(), session)),
            }
        }
        if done.is_empty() {
            return Ok(());
        }
        let start = Instant::now();
        let lines: usize = done.iter().map(|(_, session)| session.typed()).sum();
        let performed = performance::perform(&done, desk, verbose).and_then(|()| {
            desk.check_sources().map_err(|error| performance::Mismatch {
                place: "after the last line".to_owned(),
                what: format!("{error:#}"),
            })
        });
        let took = start.elapsed().as_secs_f64();
        match performed {
            Ok(()) => {
                self.sessions += done.len();
                self.lines += lines;
                println!(
                    "{:<24} {:>3} sessions {:>4} lines {took:>7.1} s  as shown",
                    page.name,
                    done.len(),
                    lines
                );
            }
            Err(mismatch) => {
                println!("{:<24} {took:>28.1} s  NOT AS SHOWN", page.name);
                println!("{}: {}\n{}", page.name, mismatch.place, mismatch.what);
                self.failed.push(page.name.clone());
                // The next page must not suffer from what this one left.
                desk.restore()?;
            }
        }
        Ok(())
    }

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
