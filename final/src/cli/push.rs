//! `push`

use anyhow::{Result, ensure};
use clap::Args;
use images::ImageName;
use minidocker::engine::images::Images;
use minidocker::engine::registries;

use crate::Context;
use crate::progress::{Manner, Progress};
use crate::pull::Way;

/// Send an image to a registry
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker push localhost:5000/alpine:mine")]
pub(crate) struct Push {
    /// The image; without a tag its `latest`
    #[arg(value_name = "NAME[:TAG]")]
    name: String,
    #[command(flatten)]
    way: Way,
}

impl Push {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        let name = self.way.name(&self.name)?;
        if !self.way.quiet {
            let repository = format!("{}/{}", name.registry(), name.path());
            cli::say(&format!("The push refers to repository [{repository}]"))?;
        }
        Images::change(&context.dirs, |images| {
            let names = match self.way.all_tags {
                false => vec![name.clone()],
                true => tags(images, &name)?,
            };
            for name in &names {
                self.push(context, images, name)?;
            }
            if self.way.quiet {
                cli::say(&match self.way.all_tags {
                    false => name.full(),
                    true => format!("{}/{}", name.registry(), name.path()),
                })?;
            }
            Ok(0)
        })
    }

    fn push(&self, context: &Context, images: &Images, name: &ImageName) -> Result<()> {
        let registry = registries::open(name.registry(), self.way.insecure)?;
        let progress = Progress::start(Manner::of_output(self.way.quiet, context.explain), "");
        let note = |blob: &_, stage| progress.note(blob, stage);
        let pushed = images.push(&registry, name, &note)?;
        progress.finish()?;
        if !self.way.quiet {
            let (tag, digest) = (name.reference(), pushed.digest);
            cli::say(&format!("{tag}: digest: {digest} size: {}", pushed.size))?;
        }
        Ok(())
    }
}

/// The names that images have in a repository.
fn tags(images: &Images, name: &ImageName) -> Result<Vec<ImageName>> {
    let mut names: Vec<ImageName> = Vec::new();
    for image in images.list()? {
        let here = image.names().iter();
        let here = here.filter(|it| it.tag().is_some() && it.repository() == name.repository());
        names.extend(here.cloned());
    }
    names.sort();
    ensure!(
        !names.is_empty(),
        "An image does not exist locally with the tag: {}",
        name.repository()
    );
    Ok(names)
}
