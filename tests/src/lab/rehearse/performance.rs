//! One page's sessions, performed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use similar::TextDiff;

use super::desk::Desk;
use super::screen::{Screen, before_prompt};
use crate::session::{self, Bound, Event, Kind, Session};

/// How long a command may take that is given no other time.
const LIMIT: Duration = Duration::from_secs(300);

/// How long output may come late, after the prompt: from a background job.
const LATE: Duration = Duration::from_secs(10);

/// How long a shell that was not expected may wait before that counts.
const STRANGE: Duration = Duration::from_secs(20);

/// How long a command has to start before keys are pressed.
const START: Duration = Duration::from_secs(3);

const PROMPTS: [&str; 4] = ["$ ", "# ", "vm# ", "> "];

/// Where the terminal showed something else, and what.
#[derive(Debug)]
pub struct Mismatch {
    /// The session's file and line.
    pub place: String,
    /// What is wrong there.
    pub what: String,
}

impl Mismatch {
    fn at(place: &str, what: String) -> Mismatch {
        Mismatch {
            place: place.to_owned(),
            what,
        }
    }
}

/// Types the sessions' lines on one desk, in order.
pub fn perform(sessions: &[(&str, &Session)], desk: &Desk, verbose: bool) -> Result<(), Mismatch> {
    let mut performance = Performance {
        desk,
        verbose,
        seats: BTreeMap::new(),
        now: 1,
        limit: LIMIT,
        bound: Bound::new(),
        checks: Vec::new(),
        script: script(sessions),
    };
    performance.all()
}

/// A session's event, with its file.
struct Cue<'a> {
    file: &'a str,
    event: &'a Event,
    /// Whether a session begins here: on the first terminal, with the usual limit.
    first: bool,
    terminal: u32,
}

fn script<'a>(sessions: &[(&'a str, &'a Session)]) -> Vec<Cue<'a>> {
    let mut script = Vec::new();
    for (file, session) in sessions {
        let mut terminal = 1;
        for (nth, event) in session.events.iter().enumerate() {
            if let Kind::Terminal(number) = event.kind {
                terminal = number;
            }
            script.push(Cue {
                file,
                event,
                first: nth == 0,
                terminal,
            });
        }
    }
    script
}

/// A terminal in use.
struct Seat {
    screen: Screen,
    /// What the page shows since the last line typed here.
    expected: Vec<String>,
    /// Where that line is.
    place: String,
    /// The prompt of the shell that waits for a line, once all before is read.
    waiting: Option<String>,
}

struct Performance<'a> {
    desk: &'a Desk,
    verbose: bool,
    seats: BTreeMap<u32, Seat>,
    now: u32,
    limit: Duration,
    bound: Bound,
    /// Values to be compared when they are known.
    checks: Vec<(String, &'a Kind)>,
    script: Vec<Cue<'a>>,
}

impl<'a> Performance<'a> {
    fn all(&mut self) -> Result<(), Mismatch> {
        for nth in 0..self.script.len() {
            let Cue {
                file,
                event,
                first,
                terminal,
            } = self.script[nth];
            let place = format!("{file}:{}", event.line);
            if first {
                self.limit = LIMIT;
            }
            if terminal != self.now {
                self.leave(nth)?;
                self.now = terminal;
            }
            self.event(&event.kind, place)?;
        }
        self.leave(self.script.len())?;
        match self.checks.first() {
            Some((place, _)) => Err(Mismatch {
                place: place.clone(),
                what: "the names compared here were never bound".to_owned(),
            }),
            None => Ok(()),
        }
    }

    fn event(&mut self, kind: &'a Kind, place: String) -> Result<(), Mismatch> {
        match kind {
            Kind::Typed { prompt, text } => {
                self.settle(Some(prompt), &place)?;
                self.type_line(text, &place)
            }
            Kind::Shown(line) => {
                self.seat(&place)?.expected.push(line.clone());
                Ok(())
            }
            Kind::Keys(keys) => self.press(keys, &place),
            Kind::Wait(text) => self.wait(text, &place),
            Kind::Timeout(seconds) => {
                self.limit = Duration::from_secs(*seconds);
                Ok(())
            }
            Kind::Differ(_) | Kind::Same(_) => {
                self.checks.push((place, kind));
                self.check()
            }
            Kind::Note(_) | Kind::Terminal(_) => Ok(()),
        }
    }

    /// Presses keys, when the command before had time to start.
    fn press(&mut self, keys: &str, place: &str) -> Result<(), Mismatch> {
        self.show_so_far(place)?;
        std::thread::sleep(START);
        let seat = self.seat(place)?;
        seat.waiting = None;
        pressed(keys)
            .and_then(|keys| seat.screen.send(&keys))
            .map_err(|what| Mismatch::at(place, what))
    }

    /// The terminal in use now, with a shell on it.
    fn seat(&mut self, place: &str) -> Result<&mut Seat, Mismatch> {
        let wrong = |what| Mismatch::at(place, what);
        if !self.seats.contains_key(&self.now) {
            let mut screen =
                Screen::new(self.desk.bash()).map_err(|error| wrong(error.to_string()))?;
            let ready = |screen: &mut Screen| {
                let ready = |text: &str, still| before_prompt(text, "$ ", still).map(drop);
                let ready = screen.watch(LIMIT, ready);
                screen.take();
                ready.map_err(|seen| wrong(format!("bash does not come up:\n{seen}")))
            };
            ready(&mut screen)?;
            // The prompt is this shell's, and not one of every shell below it.
            screen
                .line("export -n PS1; unset PROMPT_COMMAND", LIMIT)
                .map_err(wrong)?;
            ready(&mut screen)?;
            let seat = Seat {
                screen,
                expected: Vec::new(),
                place: place.to_owned(),
                waiting: Some("$ ".to_owned()),
            };
            self.seats.insert(self.now, seat);
        }
        self.seats
            .get_mut(&self.now)
            .ok_or_else(|| wrong("there is no such terminal".to_owned()))
    }

    fn type_line(&mut self, text: &str, place: &str) -> Result<(), Mismatch> {
        let wrong = |what| Mismatch::at(place, what);
        let text =
            session::filled(text, &mut self.bound).map_err(|error| wrong(format!("{error:#}")))?;
        if self.verbose {
            println!("  {place}: {text}");
        }
        let limit = self.limit;
        let seat = self.seat(place)?;
        seat.screen.line(&text, limit).map_err(&wrong)?;
        seat.waiting = None;
        place.clone_into(&mut seat.place);
        Ok(())
    }

    /// Waits for what is expected, and for the shell behind it: for `prompt`, or
    /// any at the end of a page.
    fn settle(&mut self, prompt: Option<&str>, place: &str) -> Result<(), Mismatch> {
        let (limit, bound) = (self.limit, self.bound.clone());
        let seat = self.seat(place)?;
        if let Some(waiting) = &seat.waiting {
            return still_waiting(&mut seat.screen, waiting, prompt, place);
        }
        let expected: Vec<&str> = seat.expected.iter().map(String::as_str).collect();
        let one = prompt.map(|prompt| [prompt]);
        let wanted = one.as_ref().map_or(&PROMPTS[..], |one| &one[..]);
        let watched = seat.screen.watch(limit, |text, still| {
            for prompt in wanted {
                let Some(seen) = before_prompt(text, prompt, still) else {
                    continue;
                };
                let mut trial = bound.clone();
                if session::matches(&expected, &seen, &mut trial) {
                    return Some(Ok((trial, (*prompt).to_owned())));
                }
                if still > LATE {
                    return Some(Err(text.to_owned()));
                }
            }
            let strange = PROMPTS
                .iter()
                .any(|other| before_prompt(text, other, still).is_some());
            (strange && still > STRANGE).then(|| Err(text.to_owned()))
        });
        let (late, seen) = match watched {
            Ok(Ok((bound, prompt))) => {
                seat.screen.take();
                seat.expected.clear();
                seat.waiting = Some(prompt);
                self.bound = bound;
                return self.check();
            }
            Ok(Err(seen)) => (String::new(), seen),
            Err(seen) => (
                format!("nothing more came in {} s\n", limit.as_secs()),
                seen,
            ),
        };
        Err(Mismatch {
            place: seat.place.clone(),
            what: late + &difference(&expected, wanted, &seen),
        })
    }

    /// Waits until what the page shows so far of a command is there.
    fn show_so_far(&mut self, place: &str) -> Result<(), Mismatch> {
        let (limit, bound) = (self.limit, self.bound.clone());
        let seat = self.seat(place)?;
        let expected: Vec<&str> = seat.expected.iter().map(String::as_str).collect();
        if expected.is_empty() {
            return Ok(());
        }
        let watched = seat.screen.watch(limit, |text, _| {
            let whole = text.strip_suffix('\n').unwrap_or(text);
            let complete = text.rsplit_once('\n').map_or("", |(complete, _)| complete);
            [whole, complete].iter().find_map(|text| {
                let mut trial = bound.clone();
                let seen: Vec<&str> = text.split('\n').collect();
                session::matches(&expected, &seen, &mut trial).then_some(trial)
            })
        });
        match watched {
            Ok(bound) => {
                self.bound = bound;
                self.check()
            }
            Err(seen) => Err(Mismatch {
                place: seat.place.clone(),
                what: format!(
                    "nothing more came in {} s\n{}",
                    limit.as_secs(),
                    difference(&expected, &[], &seen)
                ),
            }),
        }
    }

    fn wait(&mut self, text: &str, place: &str) -> Result<(), Mismatch> {
        let wrong = |what| Mismatch::at(place, what);
        let text =
            session::filled(text, &mut self.bound).map_err(|error| wrong(format!("{error:#}")))?;
        let limit = self.limit;
        let there = |seen: &str, _| seen.contains(&text).then_some(());
        let watched = self.seat(place)?.screen.watch(limit, there);
        watched.map_err(|seen| {
            wrong(format!(
                "waited {} s in vain for {text:?}; on the screen:\n{seen}",
                limit.as_secs()
            ))
        })
    }

    /// Before the page goes on at another terminal, or ends: what is shown here
    /// must be there; and the shell, if the next thing here is a line typed.
    fn leave(&mut self, nth: usize) -> Result<(), Mismatch> {
        let now = self.now;
        let Some(place) = self.seats.get(&now).map(|seat| seat.place.clone()) else {
            return Ok(());
        };
        let here = self
            .script
            .iter()
            .skip(nth)
            .filter(|cue| cue.terminal == now);
        let next = here
            .map(|cue| &cue.event.kind)
            .find(|kind| !matches!(kind, Kind::Terminal(_) | Kind::Note(_) | Kind::Timeout(_)));
        match next {
            Some(Kind::Typed { prompt, .. }) => self.settle(Some(prompt), &place),
            None if now == 1 => self.settle(None, &place),
            _ => self.show_so_far(&place),
        }
    }

    /// Compares what can be compared by now.
    fn check(&mut self) -> Result<(), Mismatch> {
        let bound = &self.bound;
        let mut wrong = None;
        self.checks.retain(|(place, kind)| {
            let (names, differ) = match kind {
                Kind::Differ(names) => (names, true),
                Kind::Same(names) => (names, false),
                _ => return false,
            };
            let values: Vec<&String> = names.iter().filter_map(|name| bound.get(name)).collect();
            if values.len() < names.len() {
                return true;
            }
            let distinct = values.iter().collect::<BTreeSet<_>>().len();
            let holds = distinct == if differ { names.len() } else { 1 };
            if !holds {
                let pairs = names.iter().zip(values);
                let list: Vec<String> = pairs
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect();
                wrong = Some(Mismatch {
                    place: place.clone(),
                    what: format!(
                        "these are to be {}: {}",
                        if differ { "different" } else { "the same" },
                        list.join(" ")
                    ),
                });
            }
            false
        });
        wrong.map_or(Ok(()), Err)
    }
}

/// A shell was waiting here; nothing has come since, and it is the one wanted.
fn still_waiting(
    screen: &mut Screen,
    waiting: &str,
    wanted: Option<&str>,
    place: &str,
) -> Result<(), Mismatch> {
    let wrong = |what| Mismatch::at(place, what);
    let fresh = screen.fresh();
    if !fresh.is_empty() {
        return Err(wrong(format!(
            "after the prompt, and before this line, there came:\n{fresh}"
        )));
    }
    match wanted {
        Some(wanted) if wanted != waiting => Err(wrong(format!(
            "the prompt here is `{waiting}`, and not `{wanted}`"
        ))),
        _ => Ok(()),
    }
}

/// The characters that keys such as `^C` send.
fn pressed(keys: &str) -> Result<String, String> {
    let mut characters = String::new();
    let mut rest = keys.chars();
    while let Some(key) = rest.next() {
        if key != '^' {
            characters.push(key);
            continue;
        }
        let control = rest.next().filter(|letter| ('@'..='_').contains(letter));
        let control = control.ok_or_else(|| format!("{keys:?} are no keys; such as ^C"))?;
        characters.push(char::from(control as u8 - b'@'));
    }
    Ok(characters)
}

/// What a page shows against what was there.
fn difference(expected: &[&str], prompts: &[&str], seen: &str) -> String {
    // With a prompt at their ends, for the want of one is a difference, too.
    let mut shown: String = expected.iter().map(|line| format!("{line}\n")).collect();
    if let [prompt] = prompts {
        shown.push_str(prompt);
    }
    let diff = TextDiff::from_lines(shown.as_str(), seen);
    let diff = diff
        .unified_diff()
        .context_radius(100)
        .header("the page", "the terminal")
        .missing_newline_hint(false)
        .to_string();
    if diff.is_empty() {
        return seen.to_owned();
    }
    diff
}
