//! Real images for the suites, made once by Debian's own tools: a Debian system
//! by mmdebstrap, as an OCI layout by umoci and as a docker-archive by skopeo.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::suite::succeeds;

/// Makes `target/images` where it is not there yet: `debian` (the OCI layout,
/// its image tagged `latest`), `inserted` (a layout with
/// one layer by `umoci insert`), `debian.tar` (the docker-archive) and `bundle`
/// (as umoci unpacks it).
pub fn ensure() -> Result<()> {
    let dir = crate::target_dir()?.join("images");
    if dir.is_dir() {
        println!("{} is there", dir.display());
        return Ok(());
    }
    let part = dir.with_extension("part");
    if part.exists() {
        fs::remove_dir_all(&part).with_context(|| format!("remove {}", part.display()))?;
    }
    fs::create_dir_all(&part).with_context(|| format!("create {}", part.display()))?;
    for line in [
        "mmdebstrap --quiet --variant=apt --include=perl-base,passwd bookworm rootfs.tar",
        "umoci init --layout debian",
        "umoci new --image debian:latest",
        "umoci raw add-layer --image debian:latest rootfs.tar",
        "umoci config --image debian:latest --config.cmd bash --config.env LANG=C.UTF-8",
        "tar -cPf second.tar --transform s,^/etc/debian_version,./second/layer, /etc/debian_version",
        "umoci raw add-layer --image debian:latest second.tar",
        "skopeo copy --quiet oci:debian:latest docker-archive:debian.tar:debian:latest",
        "rm rootfs.tar second.tar",
        // Its layer ends without the padding that a tar archive should have.
        "umoci init --layout inserted",
        "umoci new --image inserted:latest",
        "umoci insert --image inserted:latest /etc/debian_version /second/layer",
        // umoci lets nobody else read what it writes.
        "chmod -R a+rX debian debian.tar inserted",
        // The judge of what step 5 unpacks.
        "umoci unpack --image debian:latest bundle",
    ] {
        let mut words = line.split(' ');
        let program = words.next().context("an empty command")?;
        if !succeeds(Command::new(program).args(words).current_dir(&part))? {
            bail!("`{line}` failed");
        }
    }
    fs::rename(&part, &dir).context("keep the images")
}
