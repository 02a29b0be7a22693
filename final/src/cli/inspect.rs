//! `inspect`, and the same for one kind of thing: `container inspect`, …

mod container;
mod image;
mod network;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use minidocker::engine::containers::Containers;
use minidocker::engine::images::Images;
use minidocker::engine::networks::Networks;
use minidocker::engine::volumes::Volumes;
use minidocker::state::Missing;
use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{PrettyFormatter, Serializer};

use crate::format::Template;
use crate::{Context, PROGRAM, complaint, volume};

/// What a template that makes no sense ends with.
const NO_TEMPLATE: u8 = 64;

/// What is to be shown, and how.
#[derive(Debug, Args)]
struct Which {
    /// Names or ids
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// How to print them: json, or a template of Go's
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

/// Show all that is known about images
#[derive(Debug, Args)]
#[command(
    after_help = "Example: minidocker image inspect -f '{{json .Config.Env}}' alpine",
    mut_arg("names", |names| names.value_name("IMAGE"))
)]
pub(crate) struct InspectImages {
    #[command(flatten)]
    which: Which,
}

/// Show all that is known about volumes
#[derive(Debug, Args)]
#[command(
    after_help = "Example: minidocker volume inspect -f '{{.Mountpoint}}' data",
    mut_arg("names", |names| names.value_name("VOLUME"))
)]
pub(crate) struct InspectVolumes {
    #[command(flatten)]
    which: Which,
}

/// Show all that is known about containers
#[derive(Debug, Args)]
#[command(
    after_help = "Example: minidocker container inspect -f '{{.State.Pid}}' web",
    mut_arg("names", |names| names.value_name("CONTAINER"))
)]
pub(crate) struct InspectContainers {
    #[command(flatten)]
    which: Which,
    /// Show how much they wrote
    #[arg(short, long)]
    size: bool,
}

/// Show all that is known about networks
#[derive(Debug, Args)]
#[command(
    after_help = "Example: minidocker network inspect -f '{{json .Containers}}' front",
    mut_arg("names", |names| names.value_name("NETWORK"))
)]
pub(crate) struct InspectNetworks {
    #[command(flatten)]
    which: Which,
    /// Accepted: there is nothing else to tell without a swarm
    #[arg(short, long)]
    verbose: bool,
}

/// Show all that is known about containers, images, networks and volumes
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker inspect -f '{{.State.Status}}' web")]
pub(crate) struct Inspect {
    #[command(flatten)]
    which: Which,
    /// Show how much containers wrote
    #[arg(short, long)]
    size: bool,
    /// What they are
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<Kind>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Container,
    Image,
    Network,
    Volume,
}

/// What is shown of an object.
struct Document {
    shown: Value,
    /// What a template may ask for although the object does not say it.
    unsaid: Value,
}

impl Which {
    /// Those that are there are shown.
    fn show(&self, find: impl Fn(&str) -> Result<Document>) -> Result<u8> {
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
        let looked: Vec<Result<Document>> = self.names.iter().map(|name| find(name)).collect();
        let found = looked.iter().flatten();
        if let Some(template) = template {
            for document in found {
                cli::say(&template.execute(&document.shown, &document.unsaid)?)?;
            }
        } else {
            let objects: Vec<&Value> = found.map(|document| &document.shown).collect();
            cli::say(&match format {
                "json" => serde_json::to_string(&objects)?,
                _ => pretty(&objects)?,
            })?;
        }
        Ok(looked.iter().map(complaint).fold(0, |one, two| one | two))
    }
}

impl Inspect {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        self.which.show(|name| match self.kind {
            Some(Kind::Container) => of_container(context, name, self.size),
            Some(Kind::Image) => of_image(context, name),
            Some(Kind::Network) => of_network(context, name),
            Some(Kind::Volume) => of_volume(context, name),
            None => of_any(context, name, self.size),
        })
    }
}

impl InspectContainers {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        self.which
            .show(|name| of_container(context, name, self.size))
    }
}

impl InspectImages {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        self.which.show(|name| of_image(context, name))
    }
}

impl InspectNetworks {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        self.which.show(|name| of_network(context, name))
    }
}

impl InspectVolumes {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        self.which.show(|name| of_volume(context, name))
    }
}

fn of_volume(context: &Context, name: &str) -> Result<Document> {
    let volumes = Volumes::open(&context.dirs);
    Ok(Document {
        shown: volume::shown(&volumes, &volumes.find(name)?),
        unsaid: Value::Null,
    })
}

fn of_container(context: &Context, name: &str, size: bool) -> Result<Document> {
    let containers = Containers::open(&context.dirs)?;
    let container = containers.find(name)?;
    Ok(Document {
        shown: container::shown(
            &containers,
            &Networks::open(&context.dirs),
            &container,
            size,
        )?,
        unsaid: container::unsaid(),
    })
}

fn of_image(context: &Context, name: &str) -> Result<Document> {
    let image = Images::open(&context.dirs)?.find(name)?;
    Ok(Document {
        shown: image::shown(&image)?,
        unsaid: image::unsaid(),
    })
}

fn of_network(context: &Context, name: &str) -> Result<Document> {
    let networks = Networks::open(&context.dirs);
    let network = networks.find(name)?;
    Ok(Document {
        shown: network::shown(&networks, &network)?,
        unsaid: Value::Null,
    })
}

/// Of those of one name a container goes before an image, and that before a network, and that before a
/// volume.
fn of_any(context: &Context, name: &str, size: bool) -> Result<Document> {
    let looks: [&dyn Fn() -> Result<Document>; 4] = [
        &|| of_container(context, name, size),
        &|| of_image(context, name),
        &|| of_network(context, name),
        &|| of_volume(context, name),
    ];
    for look in looks {
        match look() {
            Err(error) if error.is::<Missing>() || error.is::<images::Missing>() => {}
            found => return found,
        }
    }
    bail!("No such object: {name}")
}

/// Docker indents by four.
fn pretty(objects: &[&Value]) -> Result<String> {
    let format = PrettyFormatter::with_indent(b"    ");
    let mut text = Serializer::with_formatter(Vec::new(), format);
    objects.serialize(&mut text)?;
    Ok(String::from_utf8(text.into_inner())?)
}
