//! Code from the sources, found by the item's name: nothing is marked there,
//! and a page that names what is gone fails.

use anyhow::{Context, Result, bail, ensure};
use syn::spanned::Spanned;
use syn::{ImplItem, Item, Type};

use super::page::{escaped, fenced, figure};
use super::{Sources, tasks};

/// The item `what` (`fn spawn`, `fn Held::release`, `struct Isolation`,
/// `impl Drop for Process`, `mod-doc`) of the file `path`.
pub fn show(sources: &Sources, path: &str, what: &str) -> Result<String> {
    let text = sources.read(path)?;
    let code = match what {
        "mod-doc" => mod_doc(&text).with_context(|| format!("{path} has no //! header"))?,
        _ => item(&text, what).with_context(|| format!("in {path}"))?,
    };
    let shown = tasks::folded(&code).with_context(|| format!("in {path}"))?;
    let mut markdown = fenced("rust,noplayground", &shown.folded);
    for number in &shown.tasks {
        markdown.push_str(&format!(
            "\n<details class=\"solution\">\n<summary>One solution of task {number}</summary>\n\n"
        ));
        markdown.push_str(&fenced("rust,noplayground", &shown.solved));
        markdown.push_str("\n</details>\n");
    }
    let caption = format!("<code>{}</code>", escaped(path));
    Ok(figure("code", &caption, &markdown))
}

/// The `//!` lines at the head of a file.
fn mod_doc(text: &str) -> Option<String> {
    let lines: Vec<&str> = text
        .lines()
        .take_while(|line| line.starts_with("//!"))
        .collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// The lines of an item, with its comments and attributes, moved to the margin.
fn item(text: &str, what: &str) -> Result<String> {
    let items = items(text)?;
    let found: Vec<&Place> = items.iter().filter(|place| place.name == what).collect();
    match found.as_slice() {
        [place] => Ok(place.lines(text)),
        [] => {
            let near: Vec<&str> = items
                .iter()
                .map(|place| place.name.as_str())
                .filter(|name| is_near(name, what))
                .collect();
            ensure!(
                near.is_empty(),
                "there is no `{what}`; is it `{}`?",
                near.join("` or `")
            );
            bail!("there is no `{what}`")
        }
        several => bail!("there are {} items `{what}`", several.len()),
    }
}

/// Whether two names end in the same word: `fn release`, `fn Held::release`.
fn is_near(name: &str, what: &str) -> bool {
    let last = |name: &str| name.rsplit([' ', ':']).next().map(str::to_owned);
    last(name) == last(what)
}

/// Where an item is: first and last line, counted from 1.
struct Place {
    /// As a page names it: `fn Held::release`.
    name: String,
    first: usize,
    last: usize,
}

impl Place {
    fn new(name: String, item: &impl Spanned) -> Place {
        let span = item.span();
        Place {
            name,
            first: span.start().line,
            last: span.end().line,
        }
    }

    fn lines(&self, text: &str) -> String {
        let lines = text.lines().skip(self.first - 1);
        let lines: Vec<&str> = lines.take(self.last + 1 - self.first).collect();
        let margin = lines
            .first()
            .map_or(0, |first| first.len() - first.trim_start().len());
        lines
            .iter()
            .map(|line| line.get(margin..).unwrap_or_default())
            .collect::<Vec<_>>()
            .join("\n")
    }
}

/// All items of a file that a page can name, tests excepted.
fn items(text: &str) -> Result<Vec<Place>> {
    let file = syn::parse_file(text)
        .map_err(|error| anyhow::anyhow!("line {}: {error}", error.span().start().line))?;
    let mut places = Vec::new();
    walk(&file.items, &mut places);
    Ok(places)
}

fn walk(items: &[Item], places: &mut Vec<Place>) {
    for item in items {
        let name = match item {
            Item::Fn(item) => format!("fn {}", item.sig.ident),
            Item::Struct(item) => format!("struct {}", item.ident),
            Item::Enum(item) => format!("enum {}", item.ident),
            Item::Const(item) => format!("const {}", item.ident),
            Item::Static(item) => format!("static {}", item.ident),
            Item::Type(item) => format!("type {}", item.ident),
            Item::Trait(item) => format!("trait {}", item.ident),
            Item::Impl(item) => {
                let of = type_name(&item.self_ty);
                for inner in &item.items {
                    match inner {
                        ImplItem::Fn(method) => places
                            .push(Place::new(format!("fn {of}::{}", method.sig.ident), method)),
                        ImplItem::Const(value) => {
                            places.push(Place::new(format!("const {of}::{}", value.ident), value));
                        }
                        _ => {}
                    }
                }
                match trait_name(item) {
                    Some(name) => format!("impl {name} for {of}"),
                    None => format!("impl {of}"),
                }
            }
            Item::Mod(item) if item.ident != "tests" => {
                if let Some((_, items)) = &item.content {
                    walk(items, places);
                }
                continue;
            }
            _ => continue,
        };
        places.push(Place::new(name, item));
    }
}

fn type_name(of: &Type) -> String {
    match of {
        Type::Path(path) => path
            .path
            .segments
            .last()
            .map_or_else(String::new, |last| last.ident.to_string()),
        Type::Reference(reference) => type_name(&reference.elem),
        _ => String::new(),
    }
}

fn trait_name(item: &syn::ItemImpl) -> Option<String> {
    let (path, _) = item.trait_.as_ref()?;
    Some(path.segments.last()?.ident.to_string())
}
