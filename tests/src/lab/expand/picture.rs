//! A picture, drawn for the book, inside the page: there it takes the page's colours.

use anyhow::{Result, ensure};
use regex_lite::{Captures, Regex};

use super::Sources;

/// book/pictures/NAME.svg in a figure.
pub fn show(sources: &Sources, name: &str) -> Result<String> {
    let path = format!("book/pictures/{name}.svg");
    let svg = sources.read(&path)?;
    let start = svg.find("<svg");
    let start = start.filter(|_| svg.trim_end().ends_with("</svg>"));
    let svg = &svg[start.ok_or_else(|| anyhow::anyhow!("{path} is no <svg>…</svg>"))?..];
    ensure!(
        svg.contains("<title") && svg.contains("<desc"),
        "{path} has no <title> and <desc>: who does not see the picture hears nothing of it"
    );
    let svg = named_apart(svg, name);
    // A blank line would end the block of HTML, and an indented one begin code.
    let lines: Vec<&str> = svg
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    Ok(format!(
        "<figure class=\"picture\" id=\"{}\">\n{}\n</figure>\n",
        id(name),
        lines.join("\n")
    ))
}

/// Where a link to the picture leads.
pub fn id(name: &str) -> String {
    format!("picture-{name}")
}

/// Every id with the picture's name before it: two pictures on a page, or all of
/// them on the page for the printer, must not share an id.
fn named_apart(svg: &str, name: &str) -> String {
    let mut svg = svg.to_owned();
    for pattern in [
        r#"( id=")([^"]+)"#,
        r"(url\(#)([^)]+)",
        r##"(href="#)([^"]+)"##,
    ] {
        svg = replaced(&svg, pattern, |id| format!("{name}-{id}"));
    }
    replaced(
        &svg,
        r#"( aria-(?:labelledby|describedby)=")([^"]+)"#,
        |ids| {
            let ids: Vec<String> = ids
                .split_whitespace()
                .map(|id| format!("{name}-{id}"))
                .collect();
            ids.join(" ")
        },
    )
}

fn replaced(text: &str, pattern: &str, new: impl Fn(&str) -> String) -> String {
    match Regex::new(pattern) {
        Ok(pattern) => pattern
            .replace_all(text, |found: &Captures| {
                format!("{}{}", &found[1], new(&found[2]))
            })
            .into_owned(),
        Err(_) => text.to_owned(),
    }
}
