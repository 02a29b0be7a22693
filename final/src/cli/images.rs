//! `images`: the list of them.

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Args;
use images::{Image, ImageName};
use jiff::Timestamp;
use minidocker::engine::images as engine;
use minidocker::engine::pruning::Label;
use serde_json::{Value, json};

use crate::Context;
use crate::filters::{Filter, matches};
use crate::format::{Form, List};
use crate::time::{ago, at, moment};

/// List images, the newest first
#[derive(Debug, Args)]
#[command(
    after_help = "Example: minidocker images --format '{{.Repository}}:{{.Tag}} {{.Size}}' 'alp*'"
)]
pub(crate) struct Images {
    /// Only those with such a name; * and ? stand for what they do in a shell
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
    /// Accepted: there are no intermediate images that would be hidden
    #[arg(short, long)]
    all: bool,
    /// Show the digests by which registries know them
    #[arg(long)]
    digests: bool,
    /// Only those that are so: dangling=BOOL, label=KEY[=VALUE], before=IMAGE, since=IMAGE,
    /// until=TIME, reference=PATTERN
    #[arg(short, long, value_name = "NAME=VALUE")]
    filter: Vec<Filter>,
    /// Do not shorten ids
    #[arg(long)]
    no_trunc: bool,
    #[command(flatten)]
    form: Form,
}

impl Images {
    pub(crate) fn run(mut self, context: &Context) -> Result<u8> {
        self.filter.extend(self.name.take().map(|value| Filter {
            name: "reference".to_owned(),
            value,
        }));
        let images = engine::Images::open(&context.dirs)?;
        let selection = Selection::new(&self.filter, |name| images.find(name))?;
        let now = Timestamp::now();
        let columns = Columns {
            digests: self.digests || self.form.asks_for(".Digest"),
            no_trunc: self.no_trunc,
            now,
        };
        let mut rows = Vec::new();
        for image in &images.list()? {
            if let Some(names) = selection.names(image)? {
                rows.extend(columns.rows(image, &names));
            }
        }
        let list = List {
            columns: if self.digests { WITH_DIGESTS } else { USUAL },
            headers: &HEADERS,
            rows,
            ..List::default()
        };
        self.form.say(&list, "{{.ID}}")?;
        Ok(0)
    }
}

const USUAL: &str = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
const WITH_DIGESTS: &str =
    "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
const HEADERS: [(&str, &str); 11] = [
    ("Containers", "CONTAINERS"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedSince", "CREATED"),
    ("Digest", "DIGEST"),
    ("ID", "IMAGE ID"),
    ("Repository", "REPOSITORY"),
    ("SharedSize", "SHARED SIZE"),
    ("Size", "SIZE"),
    ("Tag", "TAG"),
    ("UniqueSize", "UNIQUE SIZE"),
    ("VirtualSize", "SIZE"),
];

/// What does not stand anywhere.
const NONE: &str = "<none>";

/// How images become rows.
struct Columns {
    digests: bool,
    no_trunc: bool,
    now: Timestamp,
}

impl Columns {
    /// A row for each name, and with digests for each pair of a tag and a digest of its repository.
    fn rows(&self, image: &Image, names: &[ImageName]) -> Vec<Value> {
        let mut repositories: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for name in names {
            let tags = repositories.entry(name.repository()).or_default();
            tags.extend(name.tag());
        }
        let mut rows = Vec::new();
        for (repository, mut tags) in repositories {
            let there = image.repo_digests().iter();
            let there = there.filter(|name| self.digests && name.repository() == repository);
            tags.sort_unstable();
            let mut digests: Vec<String> = there.map(ImageName::reference).collect();
            if tags.is_empty() {
                tags.push(NONE);
            }
            if digests.is_empty() {
                digests.push(NONE.to_owned());
            }
            for tag in tags {
                let row = |digest: &String| self.row(image, &repository, tag, digest);
                rows.extend(digests.iter().map(row));
            }
        }
        if rows.is_empty() {
            rows.push(self.row(image, NONE, NONE, NONE));
        }
        rows
    }

    fn row(&self, image: &Image, repository: &str, tag: &str, digest: &str) -> Value {
        let id = match self.no_trunc {
            true => image.id().to_string(),
            false => image.short_id(),
        };
        let created = image.created();
        json!({
            "Containers": "N/A",
            "CreatedAt": created.map_or_else(|| "N/A".to_owned(), at),
            "CreatedSince": created.map_or_else(|| "N/A".to_owned(), |then| ago(then, self.now)),
            "Digest": digest,
            "ID": id,
            "Repository": repository,
            "SharedSize": "N/A",
            "Size": cli::size(image.size(), 3),
            "Tag": tag,
            "UniqueSize": "N/A",
            "VirtualSize": cli::size(image.size(), 4),
        })
    }
}

/// The images that filters let through. Those of one name add up for references, and all have to
/// hold for everything else, as with docker.
#[derive(Default)]
struct Selection {
    dangling: Option<bool>,
    labels: Vec<Label>,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
    references: Vec<String>,
}

impl Selection {
    fn new(filters: &[Filter], find: impl Fn(&str) -> Result<Image>) -> Result<Selection> {
        let mut selection = Selection::default();
        // An image that does not say when it was made is older than all others.
        let made = |name: &str| Ok::<_, anyhow::Error>(find(name)?.created().unwrap_or_default());
        let now = Timestamp::now();
        for filter in filters {
            filter.is_one_of(&["dangling", "label", "before", "since", "until", "reference"])?;
            let value = filter.value.as_str();
            let earliest =
                |known: Option<Timestamp>, one| Some(known.map_or(one, |it| it.min(one)));
            let latest = |known: Option<Timestamp>, one| Some(known.map_or(one, |it| it.max(one)));
            match filter.name.as_str() {
                "dangling" => selection.dangling = Some(filter.is_true()?),
                "label" => selection.labels.push(Label::new(value)),
                "before" => selection.before = earliest(selection.before, made(value)?),
                "until" => selection.before = earliest(selection.before, moment(value, now)?),
                "since" => selection.since = latest(selection.since, made(value)?),
                _ => {
                    matches(value, "")?;
                    selection.references.push(value.to_owned());
                }
            }
        }
        Ok(selection)
    }

    /// The names that are to be shown of an image; `None` where it is not shown at all.
    fn names(&self, image: &Image) -> Result<Option<Vec<ImageName>>> {
        let made = image.created().unwrap_or_default();
        let labels = &image.config().labels;
        let tagged = image.names().iter().any(|name| name.tag().is_some());
        let dangles = |wanted| match wanted {
            true => !tagged,
            // One that is called by a digest alone passes for both.
            false => !image.names().is_empty(),
        };
        let passes = self.dangling.is_none_or(dangles)
            && self.before.is_none_or(|before| made < before)
            && self.since.is_none_or(|since| made > since)
            && self.labels.iter().all(|label| label.is_among(labels));
        if !passes {
            return Ok(None);
        }
        if self.references.is_empty() {
            return Ok(Some(image.names().to_vec()));
        }
        let mut names = Vec::new();
        for name in image.names() {
            for pattern in &self.references {
                if matches(pattern, &name.to_string())? || matches(pattern, &name.repository())? {
                    names.push(name.clone());
                    break;
                }
            }
        }
        Ok((!names.is_empty()).then_some(names))
    }
}
