//! `--explain`: every kernel-facing operation, in the order in which it
//! happens, parent and child side by side.

use std::fmt;
use std::io::{self, IsTerminal};
use std::process;
use std::sync::OnceLock;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::Told;

/// The leaves in the order of the book's chapters.
const CHAPTERS: [&str; 5] = ["namespaces", "rootfs", "cgroups", "network", "images"];

/// Shows notes, and with `explain` the kernel calls, on standard error.
pub fn install(program: &'static str, explain: bool) {
    let narrator = Narrator {
        program,
        parent: process::id(),
        dims: io::stderr().is_terminal(),
    };
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(if explain { Level::INFO } else { Level::WARN })
        .with_writer(io::stderr)
        // It would complain on standard error that it cannot write there.
        .log_internal_errors(false)
        .event_format(narrator)
        .finish();
    // Only a second call in one process could fail, and the first one holds.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// A process between the two, and what it is called.
static BETWEEN: OnceLock<(u32, &str)> = OnceLock::new();

/// Calls this process by a name, which stands between those of the parent and the child.
pub fn speak_as(name: &'static str) {
    // Only a second name for one process is refused.
    let _ = BETWEEN.set((process::id(), name));
}

/// Writes an event as a person reads it.
struct Narrator {
    program: &'static str,
    /// Who runs the story; whoever else speaks was cloned from it.
    parent: u32,
    /// Whether the reasons are printed in a paler colour.
    dims: bool,
}

impl<S, N> FormatEvent<S, N> for Narrator
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut told = Told::default();
        event.record(&mut told);
        let Some(call) = told.call else {
            return match *event.metadata().level() {
                Level::WARN | Level::ERROR => {
                    writeln!(out, "{}: note: {}", self.program, told.why)
                }
                _ => Ok(()),
            };
        };
        let us = process::id();
        let margin = match BETWEEN.get() {
            _ if us == self.parent => "parent  ".to_owned(),
            Some((between, name)) if us == *between => format!("    {name:8}"),
            _ => "        child   ".to_owned(),
        };
        let (dim, plain) = if self.dims {
            ("\x1b[2m", "\x1b[0m")
        } else {
            ("", "")
        };
        let indent = margin.len() + 4;
        let place = place(event.metadata().target());
        writeln!(out, "{margin}{call}")?;
        writeln!(out, "{:indent$}{dim}{}{place}{plain}", "", told.why)
    }
}

/// Where the book tells more: the chapter of the leaf, the section of the module.
/// What the engine says comes from one module of a large library.
fn place(target: &str) -> String {
    let path: Vec<&str> = target.split("::").collect();
    match path[..] {
        [_, "registry", ..] => " [book 9: registry]".to_owned(),
        [leaf, ..] => CHAPTERS
            .iter()
            .position(|chapter| *chapter == leaf)
            .map_or_else(String::new, |n| {
                let section = path.get(1).unwrap_or(&leaf);
                format!(" [book {}: {section}]", n + 1)
            }),
        [] => String::new(),
    }
}
