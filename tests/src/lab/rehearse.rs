//! `cargo lab rehearse`: types what the book's console sessions show, in a
//! fresh clone, as an ordinary user, and compares what comes back.
//!
//! ```text
//! book/en/src/SUMMARY.md ─▶ page ─▶ {{#console …}} ─▶ session: typed, shown, typed, shown …
//!                            │                          │
//!                            ▼                          ▼
//!                        one bash on a terminal   each typed line, and up to the next prompt
//!                        of its own, in the clone  what must be on the screen
//! ```

mod page;
mod place;
mod shell;

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use page::{Page, Tally};
use place::Place;
use shell::Shell;

/// How long a clean build may take.
const BUILD: Duration = Duration::from_secs(900);

/// Rehearses the pages named, or all; the exit status is 1 where one shows
/// what did not happen.
pub fn run(wanted: &[String], keep: bool) -> Result<u8> {
    let repository = crate::workspace()?;
    let pages = Page::all(&repository)?;
    let names: Vec<&str> = pages.iter().map(|page| page.name.as_str()).collect();
    for name in wanted {
        if !names.contains(&name.as_str()) {
            bail!(
                "there is no page {name}; the pages are {}",
                names.join(", ")
            );
        }
    }
    let place = Place::prepare(&repository, keep)?;
    if !wanted.is_empty() {
        // A page of its own stands on what the pages before it have built.
        build(&place)?;
    }
    let mut sum = Tally::default();
    for page in pages {
        if wanted.is_empty() || wanted.contains(&page.name) {
            let tally = page.rehearse(&place)?;
            sum.add(&tally);
        }
    }
    println!(
        "{} sessions rehearsed, {} lines typed; {} pages differ",
        sum.sessions, sum.typed, sum.failed
    );
    println!("{} sessions are marked as not executed", sum.skipped.len());
    for (session, reason) in &sum.skipped {
        println!("  {session}: {reason}");
    }
    if sum.sessions == 0 {
        bail!("no session was executed");
    }
    Ok(u8::from(sum.failed > 0))
}

/// Builds the clone's programs, as the page on set-up does.
fn build(place: &Place) -> Result<()> {
    let mut shell = Shell::open(place)?;
    shell.enter("cargo build --quiet --workspace --bins; echo $?");
    let said = shell.output(&["$ "], BUILD)?;
    ensure!(
        said.lines().last() == Some("0"),
        "the clone does not build:\n{said}"
    );
    Ok(())
}

/// A file of the repository.
fn read(path: &std::path::Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}
