//! The images at hand: what can be done with them besides running one.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use cli::Dirs;
use images::{Config, Image, ImageName, Platform, Store};
use jiff::Timestamp;
use namespaces::{Isolation, apart, as_root};
use rootfs::host;
use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::PrettyFormatter;

/// The image that is always there: made from this host's own programs.
const HOST: &str = "host";

/// Opens the caller's store.
pub fn open(dirs: &Dirs) -> Result<Store> {
    let store = Store::open(&dirs.data)?;
    sweep(&store)?;
    if store.find(HOST).is_err() {
        let tree = dirs.data.join("rootfs");
        host::ensure(&tree)?;
        // Of several first commands at once, the others wait and then find it.
        let alone = File::open(&tree)?;
        alone.lock()?;
        if store.find(HOST).is_err() {
            take_in(&store, || import_host(&store, &tree))?;
        }
    }
    Ok(store)
}

/// What a dead container left may belong to its users, whom only its root may
/// sweep out.
fn sweep(store: &Store) -> Result<()> {
    store.sweep().or_else(|_| as_root(|| store.sweep()))
}

fn import_host(store: &Store, tree: &Path) -> Result<()> {
    let config = Config {
        cmd: vec!["sh".to_owned()],
        ..Config::default()
    };
    store.import_dir(tree, &HOST.parse()?, config).map(drop)
}

/// The image to run; there is no registry to ask for one that is missing.
pub fn find(store: &Store, name: &str) -> Result<Image> {
    store.find(name).with_context(|| {
        format!(
            "Unable to find image '{name}' locally; see `step05 images`, or load it from a file"
        )
    })
}

/// Fills the store in a process of its own: Ctrl-C ends that one, and this one
/// can still remove what is half done.
fn take_in(store: &Store, work: impl Fn() -> Result<()>) -> Result<()> {
    let taken = apart(&Isolation::users_only()?, || work().map(|()| 0));
    if !matches!(taken, Ok(0)) {
        sweep(store)?;
    }
    ensure!(taken? == 0, "interrupted");
    Ok(())
}

/// `load FILE_OR_DIR [--name NAME:TAG]`
pub fn load(dirs: &Dirs, path: &Path, name: Option<&ImageName>) -> Result<u8> {
    let store = open(dirs)?;
    take_in(&store, || {
        for image in store.load(path, name, &Platform::here(), &|_, _, _| ())? {
            if image.names().is_empty() {
                cli::say(&format!("Loaded image ID: {}", image.id()))?;
            }
            for name in image.names() {
                cli::say(&format!("Loaded image: {name}"))?;
            }
        }
        Ok(())
    })?;
    Ok(0)
}

/// `rmi IMAGE...`: those that can be removed are, as docker has it.
pub fn remove(dirs: &Dirs, images: &[String]) -> Result<u8> {
    let store = open(dirs)?;
    let mut status = 0;
    for image in images {
        let removed = as_root(|| cli::say(&store.remove(image, false)?.to_string()));
        status |= complaint(&removed);
    }
    Ok(status)
}

/// `inspect IMAGE...`: those that are there are shown, as docker has it.
pub fn inspect(dirs: &Dirs, images: &[String]) -> Result<u8> {
    let store = open(dirs)?;
    let looked: Vec<Result<Image>> = images.iter().map(|image| store.find(image)).collect();
    let found: Vec<&Image> = looked.iter().flatten().collect();
    // Docker indents by four.
    let format = PrettyFormatter::with_indent(b"    ");
    let mut text = Serializer::with_formatter(Vec::new(), format);
    found.serialize(&mut text)?;
    cli::say(&String::from_utf8(text.into_inner())?)?;
    Ok(looked.iter().map(complaint).fold(0, |one, two| one | two))
}

/// Tells what failed of several things, and answers docker's exit status: 1.
fn complaint<T>(done: &Result<T>) -> u8 {
    done.as_ref().err().map_or(0, |error| {
        cli::complain("step05", error);
        1
    })
}

/// `images`, as docker lists them.
pub fn list(dirs: &Dirs) -> Result<u8> {
    let store = open(dirs)?;
    let mut rows = "REPOSITORY\tTAG\tIMAGE ID\tCREATED\tSIZE\n".to_owned();
    for image in store.images()? {
        let created = image.created().map_or_else(|| "N/A".to_owned(), ago);
        let rest = format!(
            "{}\t{created}\t{}",
            image.short_id(),
            cli::size(image.size(), 3)
        );
        for name in image.names() {
            let tag = name.tag().unwrap_or("<none>");
            rows += &format!("{}\t{tag}\t{rest}\n", name.repository());
        }
        if image.names().is_empty() {
            rows += &format!("<none>\t<none>\t{rest}\n");
        }
    }
    cli::say(&cli::columns(&rows, 10))?;
    Ok(0)
}

fn ago(then: Timestamp) -> String {
    let since = Timestamp::now().duration_since(then);
    // A clock that was set back makes an image of the future: a new one.
    let since = since.try_into().unwrap_or_default();
    format!("{} ago", cli::age(since))
}
