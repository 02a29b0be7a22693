//! A console session as the book shows it.

use anyhow::{Context, Result, bail, ensure};

use super::page::escaped;
use super::{Fault, Sources};
use crate::session::{self, Bound, COLUMNS, Kind, Session};

/// The session in the file `path`.
pub fn show(
    sources: &Sources,
    path: &str,
    bound: &mut Bound,
    faults: &mut Vec<Fault>,
) -> Result<String> {
    ensure!(
        path.ends_with(".console"),
        "{path} is no session: its name does not end in .console"
    );
    let text = sources.read(path)?;
    let session = match Session::parse(&text) {
        Ok(session) => session,
        Err((line, error)) => bail!("{path}:{line}: {error:#}"),
    };
    if session.typed() == 0 {
        bail!("{path}: nothing is typed in this session");
    }
    let mut screen = Screen::default();
    if let Some(reason) = &session.not_executed {
        ensure!(!reason.is_empty(), "{path}:1: say why it is not executed");
        screen.caption(
            "not-executed",
            &format!("Not executed by the tests: {reason}"),
        );
    }
    for event in &session.events {
        if let Err(error) = screen.event(&event.kind, bound) {
            faults.push(Fault {
                file: path.to_owned(),
                line: event.line,
                message: format!("{error:#}"),
            });
        }
    }
    Ok(screen.close())
}

/// What has been drawn so far.
#[derive(Default)]
struct Screen {
    html: String,
    /// Whether a terminal's block is open.
    open: bool,
}

impl Screen {
    fn event(&mut self, kind: &Kind, bound: &mut Bound) -> Result<()> {
        match kind {
            Kind::Typed { prompt, text } => {
                let text = session::filled(text, bound)?;
                self.line(
                    &format!(
                        "<span class=\"prompt\">{}</span><kbd>{}</kbd>",
                        escaped(prompt),
                        escaped(&text)
                    ),
                    prompt.chars().count() + text.chars().count(),
                )
            }
            Kind::Shown(text) => {
                let text = session::filled(text, bound)?;
                let text = session::expanded(&text);
                self.line(&escaped(&text), text.chars().count())
            }
            Kind::Terminal(number) => {
                self.caption("terminal", &format!("Terminal {number}"));
                Ok(())
            }
            Kind::Note(text) => {
                self.caption("note", text);
                Ok(())
            }
            Kind::Differ(names) | Kind::Same(names) => {
                let unknown = names.iter().find(|name| !bound.contains_key(*name));
                match unknown {
                    Some(name) => bail!("nothing on this page binds {name}"),
                    None => Ok(()),
                }
            }
            Kind::Wait(text) => session::filled(text, &mut bound.clone())
                .map(drop)
                .context("what is waited for"),
            Kind::Keys(_) | Kind::Timeout(_) => Ok(()),
        }
    }

    fn line(&mut self, html: &str, columns: usize) -> Result<()> {
        if !self.open {
            // The blank line ends the HTML before it: a block that begins with
            // <pre> may hold blank lines of its own (CommonMark, HTML blocks).
            self.html.push_str("\n<pre class=\"console\"><samp>");
            self.open = true;
        }
        self.html.push_str(html);
        self.html.push('\n');
        ensure!(
            columns <= COLUMNS,
            "the line is {columns} columns wide, and a terminal has {COLUMNS}"
        );
        Ok(())
    }

    fn caption(&mut self, class: &str, text: &str) {
        self.close_block();
        self.html.push_str(&format!(
            "\n<p class=\"console-{class}\">{}</p>\n",
            escaped(text)
        ));
    }

    fn close_block(&mut self) {
        if self.open {
            self.html.push_str("</samp></pre>\n");
            self.open = false;
        }
    }

    fn close(mut self) -> String {
        self.close_block();
        self.html
    }
}
