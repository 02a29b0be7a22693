//! Console sessions: what a page of the book shows of a terminal, and what the
//! rehearsal types into one. CONTRIBUTING.md tells how to write them.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use regex_lite::Regex;

/// As many columns as a terminal has; the book's pages are set for them.
pub const COLUMNS: usize = 80;

/// The prompts of the laptop's shell, a container's, and the virtual machine's.
const PROMPTS: [&str; 3] = ["$ ", "# ", "vm# "];

/// The prompt of a shell that wants the rest of a command.
const CONTINUED: &str = "> ";

/// A session file, read.
#[derive(Debug)]
pub struct Session {
    /// Why it is not executed, where it is not.
    pub not_executed: Option<String>,
    /// What happens, in order.
    pub events: Vec<Event>,
}

/// One thing that happens, and the number of its line in the file.
#[derive(Debug)]
pub struct Event {
    pub line: usize,
    pub kind: Kind,
}

/// What happens.
#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    /// A line is typed after a prompt.
    Typed { prompt: &'static str, text: String },
    /// A line is shown.
    Shown(String),
    /// The next lines happen on another terminal.
    Terminal(u32),
    /// Keys are pressed that are not a line: `^C`.
    Keys(String),
    /// Nothing happens until this is on the screen.
    Wait(String),
    /// What follows may take so many seconds.
    Timeout(u64),
    /// The book says something here.
    Note(String),
    /// These bound values are all different.
    Differ(Vec<String>),
    /// These bound values are all the same.
    Same(Vec<String>),
}

impl Session {
    /// Reads a session; `Err` holds the number of the line and what is wrong.
    pub fn parse(text: &str) -> Result<Session, (usize, anyhow::Error)> {
        let mut session = Session {
            not_executed: None,
            events: Vec::new(),
        };
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim_end();
            let reason = line.strip_prefix("%% not executed:");
            if let (1, Some(reason)) = (number, reason) {
                session.not_executed = Some(reason.trim().to_owned());
                continue;
            }
            let after_typed = matches!(
                session.events.last(),
                Some(Event {
                    kind: Kind::Typed { .. },
                    ..
                })
            );
            let kind = kind(line, after_typed).map_err(|error| (number, error))?;
            session.events.push(Event { line: number, kind });
        }
        session.drop_layout();
        Ok(session)
    }

    /// Blank lines around directives, and at the end, are for the eye of who
    /// writes, and not expected.
    fn drop_layout(&mut self) {
        let is_directive = |event: Option<&Event>| {
            !matches!(
                event,
                Some(Event {
                    kind: Kind::Typed { .. } | Kind::Shown(_),
                    ..
                })
            )
        };
        let mut kept: Vec<Event> = Vec::new();
        for event in self.events.drain(..) {
            let blank = |event: &Event| event.kind == Kind::Shown(String::new());
            if is_directive(Some(&event)) {
                while kept.last().is_some_and(blank) {
                    kept.pop();
                }
            }
            if !(blank(&event) && is_directive(kept.last())) {
                kept.push(event);
            }
        }
        while kept
            .last()
            .is_some_and(|last| last.kind == Kind::Shown(String::new()))
        {
            kept.pop();
        }
        self.events = kept;
    }

    /// How many lines are typed.
    pub fn typed(&self) -> usize {
        let typed = |event: &&Event| matches!(event.kind, Kind::Typed { .. });
        self.events.iter().filter(typed).count()
    }
}

fn kind(line: &str, after_typed: bool) -> Result<Kind> {
    if let Some(directive) = line.strip_prefix("%%") {
        return self::directive(directive.trim());
    }
    // A backslash shows a line that would be taken for a typed one.
    if let Some(plain) = line.strip_prefix('\\')
        && (prompt_of(plain, true).is_some() || plain.starts_with("%%"))
    {
        return Ok(Kind::Shown(plain.to_owned()));
    }
    Ok(match prompt_of(line, after_typed) {
        Some((prompt, text)) => Kind::Typed {
            prompt,
            text: text.to_owned(),
        },
        None => Kind::Shown(line.to_owned()),
    })
}

/// The prompt that a line begins with, and what is typed after it.
fn prompt_of(line: &str, after_typed: bool) -> Option<(&'static str, &str)> {
    let continued = after_typed.then_some(CONTINUED);
    PROMPTS.into_iter().chain(continued).find_map(|prompt| {
        // Editors cut the blank from a prompt with nothing behind it.
        let bare = (line == prompt.trim_end()).then_some("");
        line.strip_prefix(prompt)
            .or(bare)
            .map(|text| (prompt, text))
    })
}

fn directive(text: &str) -> Result<Kind> {
    let (name, rest) = text.split_once(' ').unwrap_or((text, ""));
    let rest = rest.trim();
    let names = || {
        let names: Vec<String> = rest.split_whitespace().map(str::to_owned).collect();
        ensure!(names.len() > 1, "`%% {name}` compares two names or more");
        Ok(names)
    };
    let text_of = |what: &str| {
        ensure!(!rest.is_empty(), "`%% {name}` wants {what}");
        Ok(rest.to_owned())
    };
    Ok(match name {
        "differ" => Kind::Differ(names()?),
        "same" => Kind::Same(names()?),
        "terminal" => Kind::Terminal(rest.parse().context("`%% terminal` wants a number")?),
        "timeout" => Kind::Timeout(rest.parse().context("`%% timeout` wants seconds")?),
        "keys" => Kind::Keys(text_of("keys, such as ^C")?),
        "wait" => Kind::Wait(text_of("the text to wait for")?),
        "note" => Kind::Note(text_of("a text")?),
        "not" => bail!("`%% not executed: REASON` stands in the first line, or nowhere"),
        _ => bail!("there is no directive `%% {name}`"),
    })
}

/// What a line of a session is made of.
#[derive(Debug, PartialEq, Eq)]
enum Piece<'a> {
    /// Text as it stands.
    Text(&'a str),
    /// `<<name=sample>>` binds a name, `<<name>>` refers to it.
    Hole {
        name: &'a str,
        sample: Option<&'a str>,
    },
}

/// Takes a line apart.
fn pieces(line: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = line;
    while let Some((before, name, sample, after)) = first_hole(rest) {
        if !before.is_empty() {
            pieces.push(Piece::Text(before));
        }
        pieces.push(Piece::Hole { name, sample });
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    pieces
}

/// The first placeholder of a line, with what is around it.
fn first_hole(line: &str) -> Option<(&str, &str, Option<&str>, &str)> {
    for (at, _) in line.match_indices("<<") {
        let inside = &line[at + 2..];
        let Some((hole, after)) = inside.split_once(">>") else {
            break;
        };
        let (name, sample) = match hole.split_once('=') {
            Some((name, sample)) => (name, Some(sample)),
            None => (hole, None),
        };
        let is_name = name.starts_with(|first: char| first.is_ascii_lowercase())
            && name
                .chars()
                .all(|each| each.is_ascii_alphanumeric() || "-_".contains(each));
        if is_name && sample != Some("") {
            return Some((&line[..at], name, sample, after));
        }
    }
    None
}

/// The values that names are bound to: samples in the book, and in a rehearsal
/// what was seen.
pub type Bound = BTreeMap<String, String>;

/// A line with the values in the places of the names; a placeholder's own
/// sample where it brings one, which it then binds.
pub fn filled(line: &str, bound: &mut Bound) -> Result<String> {
    let mut text = String::new();
    for piece in pieces(line) {
        match piece {
            Piece::Text(plain) => text.push_str(plain),
            Piece::Hole { name, sample: None } => {
                let value = bound.get(name);
                text.push_str(value.with_context(|| {
                    format!("nothing on this page binds <<{name}>> before this line")
                })?);
            }
            Piece::Hole {
                name,
                sample: Some(sample),
            } => {
                text.push_str(sample);
                let before = bound.insert(name.to_owned(), sample.to_owned());
                ensure!(
                    before.is_none(),
                    "<<{name}=…>> is bound on this page already: refer to it by <<{name}>>, \
                     or take another name"
                );
            }
        }
    }
    Ok(text)
}

/// What a placeholder matches: what is like its sample.
fn like(sample: &str) -> &'static str {
    let all = |is: fn(&char) -> bool| sample.chars().all(|each| is(&each));
    if sample.contains(char::is_whitespace) {
        ".+?"
    } else if all(char::is_ascii_digit) {
        "[0-9]+"
    } else if all(char::is_ascii_hexdigit) {
        "[0-9a-fA-F]+"
    } else {
        r"\S+?"
    }
}

/// Whether what was seen is what was expected; it binds names if so.
pub fn matches(expected: &[&str], seen: &[&str], bound: &mut Bound) -> bool {
    let Some((first, rest)) = expected.split_first() else {
        return seen.is_empty();
    };
    if *first == "…" {
        for skipped in 0..=seen.len() {
            let mut trial = bound.clone();
            if matches(rest, &seen[skipped..], &mut trial) {
                *bound = trial;
                return true;
            }
        }
        return false;
    }
    let Some((line, others)) = seen.split_first() else {
        return false;
    };
    let mut trial = bound.clone();
    if line_matches(first, line, &mut trial) && matches(rest, others, &mut trial) {
        *bound = trial;
        return true;
    }
    false
}

/// Whether one line is as expected.
fn line_matches(expected: &str, seen: &str, bound: &mut Bound) -> bool {
    let (expected, open) = match expected.strip_suffix(" …") {
        Some(head) => (head, true),
        None => (expected, false),
    };
    let mut pattern = String::from("^");
    let mut names = Vec::new();
    // Columns are known only where no placeholder stands before the tab.
    let seen = if expected.contains('\t') {
        seen.trim_end().to_owned()
    } else {
        expanded(seen)
    };
    for piece in pieces(expected) {
        match piece {
            Piece::Text(text) => pattern.push_str(&regex_lite::escape(text)),
            Piece::Hole {
                name,
                sample: Some(sample),
            } => {
                pattern.push_str(&format!("({})", like(sample)));
                names.push(name);
            }
            Piece::Hole { name, sample: None } => match bound.get(name) {
                Some(value) => pattern.push_str(&regex_lite::escape(value)),
                None => return false,
            },
        }
    }
    pattern.push_str(if open { r"(?:\s.*)?$" } else { "$" });
    let Ok(pattern) = Regex::new(&pattern) else {
        return false;
    };
    let Some(found) = pattern.captures(&seen) else {
        return false;
    };
    for (index, name) in (1..).zip(names) {
        if let Some(value) = found.get(index) {
            bound.insert(name.to_owned(), value.as_str().to_owned());
        }
    }
    true
}

/// A line with its tabs as a terminal shows them, and nothing blank at its end.
pub fn expanded(line: &str) -> String {
    let mut shown = String::new();
    let mut column = 0;
    for each in line.chars() {
        if each == '\t' {
            let blanks = 8 - column % 8;
            shown.extend(std::iter::repeat_n(' ', blanks));
            column += blanks;
        } else {
            shown.push(each);
            column += 1;
        }
    }
    shown.truncate(shown.trim_end().len());
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(expected: &[&str], seen: &[&str]) -> Option<Bound> {
        let mut bound = Bound::from([("pid".to_owned(), "7".to_owned())]);
        matches(expected, seen, &mut bound).then_some(bound)
    }

    #[test]
    fn a_placeholder_matches_what_is_like_its_sample() {
        for (expected, there, value) in [
            ("pid <<a=12>>", "pid 4711", Some("4711")),
            ("pid <<a=12>>", "pid 47f", None),
            ("<<a=0f>>.", "12ab.", Some("12ab")),
            ("<<a=0f>>", "xyz", None),
            ("[<<a=any-thing>>]", "[not/digits]", Some("not/digits")),
            ("[<<a=any-thing>>]", "[two words]", None),
            ("<<a=two words>>!", "not just two!", Some("not just two")),
            ("<<a=1>>\tx", "2\tx", Some("2")),
            ("a       b <<a=1>>", "a\tb 2", Some("2")),
        ] {
            let bound = seen(&[expected], &[there]);
            let bound = bound.as_ref().and_then(|bound| bound.get("a"));
            assert_eq!(bound.map(String::as_str), value, "{expected} {there}");
        }
    }

    #[test]
    fn a_name_is_the_same_value_from_then_on() {
        assert!(seen(&["<<pid>>"], &["7"]).is_some());
        assert!(seen(&["<<pid>>"], &["8"]).is_none());
        assert!(seen(&["<<gone>>"], &["8"]).is_none());
        assert!(seen(&["<<a=1>>", "<<a>>"], &["5", "5"]).is_some());
        assert!(seen(&["<<a=1>>", "<<a>>"], &["5", "6"]).is_none());
    }

    #[test]
    fn an_ellipsis_is_any_number_of_lines_or_the_rest_of_one() {
        assert!(seen(&["a", "…", "z"], &["a", "z"]).is_some());
        assert!(seen(&["a", "…", "z"], &["a", "b", "z", "z"]).is_some());
        assert!(seen(&["a", "…", "z"], &["a", "b"]).is_none());
        assert!(seen(&["…"], &[]).is_some());
        assert!(seen(&["a …"], &["a bc d"]).is_some());
        assert!(seen(&["a …"], &["ab"]).is_none());
        assert!(seen(&[], &["a"]).is_none());
    }

    #[test]
    fn a_line_after_a_typed_one_may_go_on() {
        let session = Session::parse("$ cat <<END\n> $ text\n> END\n$ diff a b\n\\> b\n> c\n");
        let session = session.unwrap();
        let typed = |prompt, text: &str| Kind::Typed {
            prompt,
            text: text.to_owned(),
        };
        let kinds: Vec<Kind> = session.events.into_iter().map(|event| event.kind).collect();
        assert_eq!(
            kinds,
            [
                typed("$ ", "cat <<END"),
                typed("> ", "$ text"),
                typed("> ", "END"),
                typed("$ ", "diff a b"),
                Kind::Shown("> b".to_owned()),
                Kind::Shown("> c".to_owned()),
            ]
        );
    }

    #[test]
    fn blank_lines_around_directives_are_not_output() {
        let session = Session::parse("$ a\n\nb\n\n%% note x\n\n$ c\n\n").unwrap();
        let shown = |event: &&Event| matches!(event.kind, Kind::Shown(_));
        let lines: Vec<usize> = session
            .events
            .iter()
            .filter(shown)
            .map(|event| event.line)
            .collect();
        assert_eq!(lines, [2, 3]);
    }
}
