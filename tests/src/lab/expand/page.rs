//! One page: its directives, and what a page must not have.

use anyhow::{Context, Result, bail};

use super::{Fault, Sources, code, console, picture, story, tasks};
use crate::session::Bound;

/// The page with everything that its directives stand for.
pub fn expand(text: &str, file: &str, sources: &Sources, faults: &mut Vec<Fault>) -> String {
    let mut page = Page {
        sources,
        bound: Bound::new(),
        faults: Vec::new(),
    };
    let mut expanded = String::new();
    for (number, line) in (1..).zip(text.lines()) {
        match page.line(line) {
            Ok(shown) => expanded.push_str(&shown),
            Err(error) => {
                let message = format!("{error:#}");
                // What one sees of it where the build goes on all the same.
                expanded.push_str(&format!("<p class=\"fault\">{}</p>\n", escaped(&message)));
                page.faults.push(Fault {
                    file: file.to_owned(),
                    line: number,
                    message,
                });
            }
        }
        expanded.push('\n');
    }
    faults.extend(page.faults);
    expanded
}

struct Page<'a> {
    sources: &'a Sources,
    /// What the console sessions above have bound.
    bound: Bound,
    /// What is wrong in files that the page shows.
    faults: Vec<Fault>,
}

impl Page<'_> {
    fn line(&mut self, line: &str) -> Result<String> {
        let fence = line.trim_start().trim_start_matches(['`', '~']);
        if fence.len() < line.trim_start().len() && fence.trim_start().starts_with("console") {
            bail!(
                "a console block is a session that is executed: write a file \
                 sessions/NAME.console and show it by {{{{#console …}}}}"
            );
        }
        let Some(at) = line.find("{{#") else {
            return Ok(line.to_owned());
        };
        let directive = line[at..]
            .strip_prefix("{{#")
            .and_then(|rest| rest.strip_suffix("}}"))
            .filter(|rest| at == 0 && !rest.contains("}}"))
            .context("a directive stands alone on its line, from the first column on")?;
        let (name, rest) = directive.split_once(' ').unwrap_or((directive, ""));
        self.directive(name, rest.trim())
    }

    fn directive(&mut self, name: &str, rest: &str) -> Result<String> {
        let (sources, words) = (self.sources, rest.split_whitespace().collect::<Vec<_>>());
        match (name, words.as_slice()) {
            ("code", [path, what @ ..]) if !what.is_empty() => {
                code::show(sources, path, &what.join(" "))
            }
            ("story", [number]) => story::whole(sources, number),
            ("story", [from, to]) => story::difference(sources, from, to),
            ("console", [path]) => console::show(sources, path, &mut self.bound, &mut self.faults),
            ("picture", [name]) => picture::show(sources, name),
            ("patch", [path]) => story::patch(sources, path),
            ("tasks", [number]) => tasks::table(sources, number),
            ("include" | "rustdoc_include" | "playground", _) => bail!(
                "{{{{#{name}}}}} goes quiet where it finds nothing: \
                 show code by {{{{#code FILE fn NAME}}}}"
            ),
            ("code" | "story" | "console" | "picture" | "patch" | "tasks", _) => {
                bail!("{{{{#{name} {rest}}}}} has too few words, or too many")
            }
            _ => bail!("there is no directive {{{{#{name}}}}}"),
        }
    }
}

/// What a page shows by the directive `name`, which takes one word.
pub fn shown_by<'a>(text: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    text.lines().filter_map(move |line| {
        let directive = line.strip_prefix("{{#")?.strip_suffix("}}")?;
        let (other, word) = directive.split_once(' ')?;
        (other == name).then_some(word.trim())
    })
}

/// Text as HTML shows it, and no other preprocessor takes it for a directive.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace("{{#", "{&#123;#")
}

/// A block of code in Markdown, with a fence longer than any in it.
pub fn fenced(language: &str, code: &str) -> String {
    let mut fence = String::from("```");
    while code.contains(&fence) {
        fence.push('`');
    }
    // mdBook shows `\{{#` as `{{#`.
    let code = code.trim_end().replace("{{#", "\\{{#");
    format!("{fence}{language}\n{code}\n{fence}\n")
}

/// A figure of Markdown with a caption, which is HTML.
pub fn figure(class: &str, caption: &str, markdown: &str) -> String {
    format!(
        "<figure class=\"{class}\">\n<figcaption>{caption}</figcaption>\n\n{markdown}\n</figure>\n"
    )
}
