//! `cargo lab expand`: mdBook's preprocessor for the book.
//!
//! It puts code, diffs, console sessions, pictures and patches in the places of
//! the `{{#…}}` directives, and refuses a book that shows what is not there:
//! mdBook itself only goes quiet. mdBook writes `[context, book]` as JSON to
//! standard input, and reads the book back from standard output.

mod code;
mod console;
mod links;
mod page;
mod picture;
mod story;
mod tasks;
mod unshown;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

pub use page::shown_by;

/// Shows what does not resolve on its page, instead of failing: for those who write.
pub const DRAFT: &str = "MINIDOCKER_BOOK_DRAFT";

/// The repository, and which of its files the book has shown.
pub struct Sources {
    root: PathBuf,
    shown: RefCell<BTreeSet<String>>,
}

impl Sources {
    /// The repository at `root`.
    pub fn new(root: &Path) -> Sources {
        Sources {
            root: root.to_owned(),
            shown: RefCell::default(),
        }
    }

    /// The text of a file, by its path from the repository's root.
    fn read(&self, path: &str) -> Result<String> {
        let inside = Path::new(path)
            .components()
            .all(|part| matches!(part, std::path::Component::Normal(_)));
        if !inside {
            bail!("{path} is no path from the repository's root");
        }
        self.shown.borrow_mut().insert(path.to_owned());
        fs::read_to_string(self.root.join(path)).with_context(|| format!("read {path}"))
    }
}

/// Something wrong with the book.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The file, from the repository's root.
    pub file: String,
    /// The number of its line; 0 for the whole file.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.message),
            line => write!(f, "{}:{line}: {}", self.file, self.message),
        }
    }
}

/// A page of the book, before and after.
pub struct Page<'a> {
    /// Its path from the contents' directory: `01-namespaces.md`.
    pub path: String,
    /// Its path from the repository's root.
    pub file: String,
    content: &'a mut Value,
}

impl Page<'_> {
    fn text(&self) -> &str {
        self.content.as_str().unwrap_or_default()
    }
}

/// `lab expand supports RENDERER` is mdBook's question whether to call this at all.
pub fn run(arguments: &[String]) -> Result<u8> {
    if arguments.first().is_some_and(|word| word == "supports") {
        return Ok(0);
    }
    let mut input: Value = serde_json::from_reader(std::io::stdin())
        .context("read what mdBook says (`cargo lab book` calls it)")?;
    let root = input.pointer("/0/root").and_then(Value::as_str);
    let book_root = PathBuf::from(root.context("mdBook does not say where the book is")?);
    let repository = book_root
        .ancestors()
        .nth(2)
        .context("the book is to be two directories below the repository's root")?;
    let sources = Sources::new(repository);
    let prefix = book_root
        .strip_prefix(repository)
        .context("the book is not in the repository")?
        .join("src");
    let book = input.pointer_mut("/1").context("mdBook sends no book")?;
    let faults = expand(book, &prefix, &sources);
    for fault in &faults {
        eprintln!("{fault}");
    }
    if !faults.is_empty() && std::env::var_os(DRAFT).is_none() {
        eprintln!(
            "lab: the book shows what is not there, {} times; nothing was built",
            faults.len()
        );
        return Ok(1);
    }
    serde_json::to_writer(std::io::stdout(), book).context("answer mdBook")?;
    Ok(0)
}

/// Expands all pages in their order, and returns what is wrong.
fn expand(book: &mut Value, prefix: &Path, sources: &Sources) -> Vec<Fault> {
    let mut pages = Vec::new();
    if let Some(items) = book.get_mut("items").and_then(Value::as_array_mut) {
        collect(items, prefix, &mut pages);
    }
    let mut faults = links::check(&pages);
    for page in &mut pages {
        let text = links::with_index(page.text());
        let expanded = page::expand(&text, &page.file, sources, &mut faults);
        *page.content = Value::String(expanded);
    }
    faults.extend(unshown::check(sources));
    faults.sort();
    faults
}

/// The pages of a list of chapters and below, in reading order; a draft has none.
fn collect<'a>(items: &'a mut [Value], prefix: &Path, pages: &mut Vec<Page<'a>>) {
    for item in items {
        let Some(chapter) = item.get_mut("Chapter").and_then(Value::as_object_mut) else {
            continue;
        };
        let path = chapter
            .get("source_path")
            .and_then(Value::as_str)
            .map(str::to_owned);
        let mut below = None;
        let mut content = None;
        for (name, value) in chapter.iter_mut() {
            match name.as_str() {
                "content" => content = Some(value),
                "sub_items" => below = value.as_array_mut(),
                _ => {}
            }
        }
        if let (Some(path), Some(content)) = (path, content) {
            pages.push(Page {
                file: prefix.join(&path).to_string_lossy().into_owned(),
                path,
                content,
            });
        }
        if let Some(below) = below {
            collect(below, prefix, pages);
        }
    }
}
