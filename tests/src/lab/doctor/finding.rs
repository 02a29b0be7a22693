//! One finding, and how it is shown.

use std::env;
use std::io::{self, IsTerminal};

use serde::Serialize;

/// How good it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    /// As it should be.
    Ok,
    /// Something optional is missing.
    Note,
    /// A step cannot run.
    Fails,
}

impl From<bool> for Grade {
    fn from(fails: bool) -> Grade {
        if fails { Grade::Fails } else { Grade::Ok }
    }
}

/// What helps.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fix {
    /// A command to type.
    Run(String),
    /// Anything else, as a sentence.
    Do(String),
}

impl Fix {
    /// A leaf's own words: a command begins with `sudo`.
    pub fn of(words: &str) -> Fix {
        if words.starts_with("sudo ") {
            Fix::Run(words.to_owned())
        } else {
            Fix::Do(words.to_owned())
        }
    }

    /// The command that installs a package: Debian's name for it.
    pub fn install(packages: &str) -> Fix {
        if crate::system::find("apt-get").is_some() {
            Fix::Run(format!("sudo apt-get install {packages}"))
        } else {
            Fix::Do(format!(
                "install it with your distribution's package manager (Debian's name: {packages})"
            ))
        }
    }
}

/// What was looked at, what was seen, and what helps.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// The heading that it stands under.
    pub area: &'static str,
    /// What was looked at.
    pub name: &'static str,
    /// How good it is.
    pub grade: Grade,
    /// What was seen.
    pub seen: String,
    /// What helps, if it is not good.
    pub fix: Option<Fix>,
    /// The first step that cannot run because of it.
    pub breaks: Option<u8>,
    /// What does not work because of it, though the steps run.
    pub lost: Option<&'static str>,
}

impl Finding {
    pub fn ok(area: &'static str, name: &'static str, seen: impl Into<String>) -> Finding {
        Finding {
            area,
            name,
            grade: Grade::Ok,
            seen: seen.into(),
            fix: None,
            breaks: None,
            lost: None,
        }
    }

    /// Something optional is missing, and then `lost` does not work.
    pub fn note(self, lost: Option<&'static str>, fix: Option<Fix>) -> Finding {
        Finding {
            grade: Grade::Note,
            lost,
            fix,
            ..self
        }
    }

    /// Step `breaks`, and those after it, cannot run.
    pub fn fails(self, breaks: u8, fix: Option<Fix>) -> Finding {
        Finding {
            grade: Grade::Fails,
            breaks: Some(breaks),
            fix,
            ..self
        }
    }
}

/// Where the text of each line begins.
const COLUMN: usize = 22;
const WIDTH: usize = 80;

/// The findings under their headings, as a person reads them.
pub fn page(findings: &[Finding]) -> String {
    let mut page = String::new();
    let mut area = "";
    for finding in findings {
        if finding.area != area {
            let gap = if area.is_empty() { "" } else { "\n" };
            page += &format!("{gap}{}\n", finding.area);
            area = finding.area;
        }
        let word = match finding.grade {
            Grade::Ok => "ok  ",
            Grade::Note => "note",
            Grade::Fails => "FAIL",
        };
        let word = coloured(finding.grade, word);
        let mut head = format!("  {word}  {:<14}", finding.name);
        for line in wrap(&finding.seen, WIDTH - COLUMN) {
            page += &format!("{head}{line}\n");
            head = " ".repeat(COLUMN);
        }
        let (words, glue) = match &finding.fix {
            None => continue,
            Some(Fix::Run(command)) => (command, " \\"),
            Some(Fix::Do(words)) => (words, ""),
        };
        let mut label = "fix: ";
        let lines = wrap(words, WIDTH - COLUMN - label.len() - glue.len());
        for (number, line) in lines.iter().enumerate() {
            let glue = if number + 1 == lines.len() { "" } else { glue };
            page += &format!("{:COLUMN$}{label}{line}{glue}\n", "");
            label = "     ";
        }
    }
    page
}

/// Lines of at most `width` columns; a word that is longer is broken.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let mut rest: Vec<char> = word.chars().collect();
        while !rest.is_empty() {
            let piece: String = rest.drain(..rest.len().min(width)).collect();
            match lines.last_mut() {
                Some(line) if line.is_empty() => line.push_str(&piece),
                Some(line) if line.chars().count() + 1 + piece.chars().count() <= width => {
                    line.push(' ');
                    line.push_str(&piece);
                }
                _ => lines.push(piece),
            }
        }
    }
    lines
}

/// The text in the grade's colour, where somebody sees colours (no-color.org).
pub fn coloured(grade: Grade, text: &str) -> String {
    let plain = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if plain || !io::stdout().is_terminal() {
        return text.to_owned();
    }
    let colour = match grade {
        Grade::Ok => 32,
        Grade::Note => 33,
        Grade::Fails => 31,
    };
    format!("\x1b[{colour}m{text}\x1b[0m")
}

#[cfg(test)]
mod tests {
    use super::wrap;

    #[test]
    fn lines_end_at_words_and_a_long_word_is_broken() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("a quitelong b", 5), ["a", "quite", "long", "b"]);
        assert_eq!(wrap("", 5), [""]);
    }
}
