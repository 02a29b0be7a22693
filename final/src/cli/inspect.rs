//! `inspect` and `image inspect`

use anyhow::Result;
use clap::{Args, ValueEnum};
use images::Image;
use minidocker::engine::images::Images;
use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};
use serde_json::{Map, Value, json};

use crate::format::Template;
use crate::{Context, PROGRAM, complaint};

/// What a template that makes no sense ends with.
const NO_TEMPLATE: u8 = 64;

/// Show all that is known about images
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker image inspect -f '{{json .Config.Env}}' alpine")]
pub(crate) struct InspectImages {
    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// How to print them: json, or a template of Go's
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

/// Show all that is known about objects, which for now are images
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker inspect -f '{{.Config.Cmd}}' alpine")]
pub(crate) struct Inspect {
    #[command(flatten)]
    images: InspectImages,
    /// What they are
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<Kind>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Image,
}

impl Inspect {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        match self.kind {
            None | Some(Kind::Image) => self.images.run(context),
        }
    }
}

impl InspectImages {
    /// Those that are there are shown.
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        let format = self.format.as_deref().unwrap_or_default();
        let template = match format {
            "" | "json" => None,
            template => match Template::parse(template) {
                Ok(template) => Some(template),
                Err(error) => {
                    cli::complain(PROGRAM, &error);
                    return Ok(NO_TEMPLATE);
                }
            },
        };
        let images = Images::open(&context.dirs)?;
        let looked = self.images.iter().map(|name| images.find(name));
        let looked: Vec<Result<Image>> = looked.collect();
        let found = looked.iter().flatten();
        if let Some(template) = template {
            for image in found {
                cli::say(&template.execute(&shown(image)?, &unsaid())?)?;
            }
        } else {
            let objects = found.map(shown).collect::<Result<Vec<_>>>()?;
            cli::say(&match format {
                "json" => serde_json::to_string(&objects)?,
                _ => pretty(&objects)?,
            })?;
        }
        Ok(looked.iter().map(complaint).fold(0, |one, two| one | two))
    }
}

/// Docker indents by four.
fn pretty(objects: &[Value]) -> Result<String> {
    let format = PrettyFormatter::with_indent(b"    ");
    let mut text = Serializer::with_formatter(Vec::new(), format);
    objects.serialize(&mut text)?;
    Ok(String::from_utf8(text.into_inner())?)
}

/// An image as docker shows it, in docker's order.
fn shown(image: &Image) -> Result<Value> {
    let mut known = serde_json::to_value(image)?;
    let document = image.document();
    let said = |key: &str| {
        document
            .extra
            .get(key)
            .cloned()
            .unwrap_or_else(|| "".into())
    };
    let last = document.history.last();
    let mut layers: Vec<_> = image
        .layers()
        .iter()
        .map(|it| it.display().to_string())
        .collect();
    // Docker names them from the top down.
    layers.reverse();
    let (upper, lower) = match layers.split_first() {
        Some((upper, lower)) => (upper.as_str(), lower.join(":")),
        None => ("", String::new()),
    };
    let others = [
        ("Parent", "".into()),
        (
            "Comment",
            last.map_or("", |last| last.comment.as_str()).into(),
        ),
        ("DockerVersion", said("docker_version")),
        ("Author", said("author")),
        ("Variant", said("variant")),
        (
            "GraphDriver",
            json!({ "Data": { "LowerDir": lower, "UpperDir": upper }, "Name": "overlay2" }),
        ),
        ("Metadata", json!({ "LastTagTime": "0001-01-01T00:00:00Z" })),
    ];
    let others: Map<String, Value> = others
        .map(|(key, value)| (key.to_owned(), value))
        .into_iter()
        .collect();
    let mut shown = Map::new();
    for key in ORDER {
        let value = others
            .get(key)
            .cloned()
            .or_else(|| Some(known.get_mut(key)?.take()));
        let value = value.unwrap_or_default();
        // Most processors have no variants.
        if key != "Variant" || value != "" {
            shown.insert(key.to_owned(), value);
        }
    }
    Ok(shown.into())
}

const ORDER: [&str; 16] = [
    "Id",
    "RepoTags",
    "RepoDigests",
    "Parent",
    "Comment",
    "Created",
    "DockerVersion",
    "Author",
    "Config",
    "Architecture",
    "Variant",
    "Os",
    "Size",
    "GraphDriver",
    "RootFS",
    "Metadata",
];

/// What a template may ask for although an image does not say it.
fn unsaid() -> Value {
    json!({
        "User": "", "WorkingDir": "", "StopSignal": "", "Variant": "",
        "ExposedPorts": null, "Env": null, "Entrypoint": null, "Cmd": null, "Volumes": null, "Labels": null,
        "OnBuild": null, "Healthcheck": null, "Shell": null,
    })
}
