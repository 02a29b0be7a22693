//! Real images for the suites, made once by Debian's own tools: systems by mmdebstrap, as OCI layouts
//! by umoci and as a docker-archive by skopeo. Nothing of them is installed on the machine, and no
//! service starts.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::suite::succeeds;

/// `target/images`: `debian` (the OCI layout, its image tagged `latest`), `inserted` (a layout with one
/// layer by `umoci insert`), `debian.tar` (the docker-archive) and `bundle` (as umoci unpacks it).
const IMAGES: &str = "
    mmdebstrap --quiet --variant=apt --include=perl-base,passwd bookworm rootfs.tar
    umoci init --layout debian
    umoci new --image debian:latest
    umoci raw add-layer --image debian:latest rootfs.tar
    umoci config --image debian:latest --config.cmd bash --config.env LANG=C.UTF-8
    tar -cPf second.tar --transform s,^/etc/debian_version,./second/layer, /etc/debian_version
    umoci raw add-layer --image debian:latest second.tar
    skopeo copy --quiet oci:debian:latest docker-archive:debian.tar:debian:latest
    rm rootfs.tar second.tar
    # Its layer ends without the padding that a tar archive should have.
    umoci init --layout inserted
    umoci new --image inserted:latest
    umoci insert --image inserted:latest /etc/debian_version /second/layer
    # umoci lets nobody else read what it writes.
    chmod -R a+rX debian debian.tar inserted
    # The judge of what step 5 unpacks.
    umoci unpack --image debian:latest bundle";

/// `target/services`: `services` (an OCI layout, its image tagged `latest`) with what people run in
/// containers, and what they look at networks with. Half of what the packages hold is for readers, and
/// for a compiler of queries.
const SERVICES: &str = r#"
    mmdebstrap --quiet --variant=essential \
        --include=bind9-dnsutils,curl,dnsmasq-base,iperf3,iproute2,iputils-ping,nginx-light,postgresql-15 \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/lib/*/libLLVM*' \
        --dpkgopt='path-exclude=/usr/lib/postgresql/*/bitcode/*' \
        --essential-hook='mkdir -p "$1/etc/postgresql-common" &&
            echo "create_main_cluster = false" >"$1/etc/postgresql-common/createcluster.conf"' \
        bookworm rootfs.tar
    umoci init --layout services
    umoci new --image services:latest
    umoci raw add-layer --image services:latest rootfs.tar
    umoci config --image services:latest --config.cmd bash --config.env LANG=C.UTF-8
    rm rootfs.tar
    chmod -R a+rX services"#;

/// Makes what is not there yet.
pub fn ensure() -> Result<()> {
    for (name, script) in [("images", IMAGES), ("services", SERVICES)] {
        let dir = crate::target_dir()?.join(name);
        if dir.is_dir() {
            println!("{} is there", dir.display());
            continue;
        }
        let part = dir.with_extension("part");
        if part.exists() {
            fs::remove_dir_all(&part).with_context(|| format!("remove {}", part.display()))?;
        }
        fs::create_dir_all(&part).with_context(|| format!("create {}", part.display()))?;
        if !succeeds(Command::new("sh").args(["-euc", script]).current_dir(&part))? {
            bail!("{} could not be made", dir.display());
        }
        fs::rename(&part, &dir).context("keep the images")?;
    }
    Ok(())
}
