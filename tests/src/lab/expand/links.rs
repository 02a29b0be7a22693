//! Links between pages: every one has an end.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
use regex_lite::Regex;

use super::page::shown_by;
use super::{Fault, Page, picture};

/// As mdBook reads Markdown.
fn options() -> Options {
    Options::ENABLE_TABLES
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_HEADING_ATTRIBUTES
        | Options::ENABLE_DEFINITION_LIST
        | Options::ENABLE_GFM
}

/// The links of all pages that lead nowhere.
pub fn check(pages: &[Page]) -> Vec<Fault> {
    let anchors: BTreeMap<&str, BTreeSet<String>> = pages
        .iter()
        .map(|page| (page.path.as_str(), anchors(page.text())))
        .collect();
    let mut faults = Vec::new();
    for page in pages {
        for (target, range) in links(page.text()) {
            if let Err(message) = resolve(&page.path, &target, &anchors) {
                faults.push(Fault {
                    file: page.file.clone(),
                    line: 1 + page.text()[..range.start].matches('\n').count(),
                    message,
                });
            }
        }
    }
    faults
}

/// mdBook makes index.html of README.md, but leaves the links to it.
pub fn with_index(text: &str) -> String {
    let mut text = text.to_owned();
    let mut found = links(&text);
    found.sort_by_key(|(_, range)| std::cmp::Reverse(range.start));
    for (target, range) in found {
        let file = target.split('#').next().unwrap_or_default();
        if file == "README.md" || file.ends_with("/README.md") {
            let link = text[range.clone()].replace("README.md", "index.md");
            text.replace_range(range, &link);
        }
    }
    text
}

/// Where links and pictures point to, each with its place in the text.
fn links(text: &str) -> Vec<(String, Range<usize>)> {
    Parser::new_ext(text, options())
        .into_offset_iter()
        .filter_map(|(event, range)| match event {
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                Some((dest_url.into_string(), range))
            }
            _ => None,
        })
        .collect()
}

fn resolve(
    from: &str,
    target: &str,
    anchors: &BTreeMap<&str, BTreeSet<String>>,
) -> Result<(), String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return Ok(());
    }
    let (file, heading) = target.split_once('#').unwrap_or((target, ""));
    let path = match file {
        "" => from.to_owned(),
        _ => joined(from, file),
    };
    let Some(headings) = anchors.get(path.as_str()) else {
        return Err(format!("the link {target} leads to no page of the book"));
    };
    if heading.is_empty() || headings.contains(heading) {
        return Ok(());
    }
    Err(format!("{path} has no heading #{heading}"))
}

/// `file` as a page at `from` names it.
fn joined(from: &str, file: &str) -> String {
    let mut path = PathBuf::from(from);
    path.pop();
    for part in Path::new(file).components() {
        match part {
            Component::ParentDir => _ = path.pop(),
            Component::CurDir => {}
            other => path.push(other),
        }
    }
    path.to_string_lossy().into_owned()
}

/// Where a link into this page can lead: headings, terms, and HTML's own ids.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut used: HashSet<String> = HashSet::new();
    let mut titles = Vec::new();
    let mut title: Option<String> = None;
    for event in Parser::new_ext(text, options()) {
        match event {
            Event::Start(Tag::Heading { id: Some(id), .. }) => _ = used.insert(id.into_string()),
            Event::Start(Tag::Heading { .. } | Tag::DefinitionListTitle) => {
                title = Some(String::new());
            }
            Event::End(TagEnd::Heading(_) | TagEnd::DefinitionListTitle) => {
                titles.extend(title.take());
            }
            Event::Text(part) | Event::Code(part) => {
                if let Some(title) = &mut title {
                    title.push_str(&part);
                }
            }
            Event::Html(html) | Event::InlineHtml(html) => used.extend(ids(&html)),
            _ => {}
        }
    }
    for title in titles {
        let id = id_of(&title);
        // The second heading of a name gets a number.
        let numbered = (1..).map(|number| format!("{id}-{number}"));
        let mut names = std::iter::once(id.clone()).chain(numbered);
        names.find(|name| used.insert(name.clone()));
    }
    used.extend(shown_by(text, "picture").map(picture::id));
    used.into_iter().collect()
}

fn ids(html: &str) -> Vec<String> {
    let Ok(pattern) = Regex::new(r#"\bid="([^"]+)""#) else {
        return Vec::new();
    };
    let found = pattern.captures_iter(html);
    found.map(|found| found[1].to_owned()).collect()
}

/// The id that mdBook gives a heading.
fn id_of(title: &str) -> String {
    let lower = title.trim().to_lowercase();
    lower
        .chars()
        .filter_map(|each| match each {
            _ if each.is_alphanumeric() || each == '_' || each == '-' => Some(each),
            _ if each.is_whitespace() => Some('-'),
            _ => None,
        })
        .collect()
}
