//! Stores that were filled once, and that each machine begins with.
//!
//! To load an image takes a dev build seconds. So it is done once for each build of the program, into
//! `target/stores`, and a machine gets the index and the blobs as a copy, and the unpacked layers as
//! mounts that cannot be written to.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Who;
use crate::host::{Host, Setup, User};
use crate::step::{build_dir, made, program};

/// What a store is called on a machine, below /run/workspace.
pub(super) const SHOWN: &str = "store";

/// Where a user's store is, on the machine.
pub(super) fn data(user: User) -> &'static str {
    match user {
        User::Root => "/var/lib/minidocker",
        User::Student => "/home/student/.local/share/minidocker",
    }
}

/// The store for `who`, which is made where it is not there, or was made by another build.
///
/// # Panics
/// Where it cannot be made.
pub(super) fn prepared(who: Who, layouts: &[(&str, &str)]) -> PathBuf {
    let stores = build_dir().with_file_name("stores");
    fs::create_dir_all(&stores).expect("make target/stores");
    let mut name = format!("{who:?}").to_lowercase();
    for (_, image) in layouts {
        name += &format!("-{image}");
    }
    let (store, note) = (stores.join(&name), stores.join(format!("{name}.made-by")));
    let lock = File::create(stores.join(format!("{name}.lock"))).expect("make a file to lock");
    // Of all test programs that run at once, one makes it.
    lock.lock().expect("flock");
    let build = fs::metadata(program("minidocker")).expect("stat minidocker");
    let build = format!("{} {} {}", build.ino(), build.mtime(), build.len());
    if fs::read_to_string(&note).is_ok_and(|made_by| made_by == build) {
        return store;
    }
    if store.exists() {
        fs::remove_dir_all(&store).expect("remove a store of another build");
    }
    fs::create_dir(&store).expect("make a store's directory");
    fill(&store, who, layouts);
    fs::write(&note, build).expect("write down what made the store");
    store
}

fn fill(store: &Path, who: Who, layouts: &[(&str, &str)]) {
    let mut shown = vec![(store.to_owned(), SHOWN.to_owned())];
    for (directory, image) in layouts {
        shown.push((made(directory).join(image), (*image).to_owned()));
    }
    let host = Host::with(Setup {
        no_subids: who == Who::Lone,
        shown,
        ..Setup::default()
    });
    let data = data(who.user());
    host.run_as(who.user(), ["mkdir", "-p", data]).ok();
    host.shell(&format!(
        "chown --reference={data} /run/workspace/{SHOWN}; mount --bind /run/workspace/{SHOWN} {data}"
    ));
    host.run_as(who.user(), ["minidocker", "images"]).ok();
    for (_, image) in layouts {
        let layout = format!("/run/workspace/{image}");
        let load = ["minidocker", "load", "-q", "-i", &layout];
        host.run_as(who.user(), load).ok();
    }
}

/// Gives a machine what is shown to it.
pub(super) fn place(host: &Host, user: User) {
    let data = data(user);
    host.run_as(user, ["mkdir", "-p", data]).ok();
    host.shell(&format!(
        "cd /run/workspace/{SHOWN}
        cp -a images rootfs.recipe {data}
        for tree in rootfs layers/*; do
            mkdir -p {data}/$tree
            mount --bind $tree {data}/$tree
            mount -o remount,bind,ro {data}/$tree
        done
        chown --reference={data} {data}/layers"
    ));
}
