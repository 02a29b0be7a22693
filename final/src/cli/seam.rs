//! Stand-in until the engine is there.

use anyhow::Result;
use images::{Image, ImageName, Removed, Store};

use crate::Context;

pub(crate) fn store(context: &Context) -> Result<Store> {
    Store::open(&context.dirs.data)
}

pub(crate) fn images(context: &Context) -> Result<Vec<Image>> {
    store(context)?.images()
}

pub(crate) fn find(context: &Context, what: &str) -> Result<Image> {
    store(context)?.find(what)
}

pub(crate) fn remove(context: &Context, what: &str, force: bool) -> Result<Removed> {
    store(context)?.remove(what, force)
}

pub(crate) fn tag(context: &Context, image: &str, name: &ImageName) -> Result<()> {
    let store = store(context)?;
    store.tag(&store.find(image)?, name, None)
}
