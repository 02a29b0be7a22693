//! One finding, and how it is shown.

use std::io;

use serde::Serialize;

use crate::terminal::{WIDTH, has_colours, painted, wrap};

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
        for line in wrapped(&finding.seen, WIDTH - COLUMN) {
            page += &format!("{head}{line}\n");
            head = " ".repeat(COLUMN);
        }
        let (words, glue) = match &finding.fix {
            None => continue,
            Some(Fix::Run(command)) => (command, " \\"),
            Some(Fix::Do(words)) => (words, ""),
        };
        let mut label = "fix: ";
        let lines = wrapped(words, WIDTH - COLUMN - label.len() - glue.len());
        for (number, line) in lines.iter().enumerate() {
            let glue = if number + 1 == lines.len() { "" } else { glue };
            page += &format!("{:COLUMN$}{label}{line}{glue}\n", "");
            label = "     ";
        }
    }
    page
}

/// The lines of a sentence, which may have come with others of its own.
pub fn wrapped(sentence: &str, width: usize) -> Vec<String> {
    let words: Vec<&str> = sentence.split_whitespace().collect();
    wrap(&words.join(" "), width)
}

/// The text in the grade's colour, where somebody sees colours.
pub fn coloured(grade: Grade, text: &str) -> String {
    if !has_colours(&io::stdout()) {
        return text.to_owned();
    }
    let colour = match grade {
        Grade::Ok => "32",
        Grade::Note => "33",
        Grade::Fails => "31",
    };
    painted(text, colour)
}
