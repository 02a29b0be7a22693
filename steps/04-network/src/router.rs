//! Switches of the kernel (sysctl(8)): what makes the host a router.
//!
//! /proc/sys/net shows the network namespace of the thread that looks. What is switched on for all of
//! the host stays on afterwards, as other engines leave it: who else relies on it cannot be known.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

const FORWARDING: &str = "ipv4/ip_forward";
const FORWARDING6: &str = "ipv6/conf/all/forwarding";

/// Has the host forward what comes from the bridge and goes there.
pub(crate) fn forward(bridge: &str, six: bool) -> Result<()> {
    let why = "the host becomes a router between its links; stays on afterwards";
    set(FORWARDING, "1", why)?;
    let why = "the host's 127.0.0.1:PORT may lead over the bridge";
    set(&format!("ipv4/conf/{bridge}/route_localnet"), "1", why)?;
    if six {
        forward_six(bridge)
    } else if has_six() {
        let why = "without IPv6, no container can tell the host of a way (CVE-2020-13401)";
        set(&format!("ipv6/conf/{bridge}/disable_ipv6"), "1", why)
    } else {
        Ok(())
    }
}

fn forward_six(bridge: &str) -> Result<()> {
    let of_bridge = |name| format!("ipv6/conf/{bridge}/{name}");
    let why = "it may be off for all links that are new";
    set(&of_bridge("disable_ipv6"), "0", why)?;
    let why = "no container tells the host of a way (CVE-2020-13401)";
    set(&of_bridge("accept_ra"), "0", why)?;
    if is(FORWARDING6, "1") {
        return Ok(());
    }
    // A router does not listen to other routers, and would forget its own way out.
    let links = Path::new("/proc/sys/net/ipv6/conf");
    let links = fs::read_dir(links).with_context(|| format!("read {}", links.display()))?;
    for link in links
        .flatten()
        .filter_map(|link| link.file_name().into_string().ok())
    {
        let accept = format!("ipv6/conf/{link}/accept_ra");
        if is(&accept, "1") {
            let why = "2: it learns its way out from a router though it is one itself";
            set(&accept, "2", why)?;
        }
    }
    set(
        FORWARDING6,
        "1",
        "the host becomes a router in IPv6 as well",
    )
}

/// # Errors
/// The kernel was started without IPv6.
pub(crate) fn ensure_six() -> Result<()> {
    ensure!(
        has_six(),
        "this host's kernel has IPv6 switched off (ipv6.disable=1 on its command line?): networks \
         can have IPv4 only"
    );
    Ok(())
}

/// Has a link learn no way from its neighbours: any container may send what only routers should. To be
/// called from within the link's namespace.
pub(crate) fn heed_no_router(link: &str) -> Result<()> {
    let why = "no neighbour tells the container of a way (CVE-2020-13401)";
    match has_six() {
        true => set(&format!("ipv6/conf/{link}/accept_ra"), "0", why),
        false => Ok(()),
    }
}

fn has_six() -> bool {
    Path::new("/proc/sys/net/ipv6").is_dir()
}

fn is(name: &str, value: &str) -> bool {
    let path = Path::new("/proc/sys/net").join(name);
    fs::read_to_string(path).is_ok_and(|now| now.trim() == value)
}

/// Sets a switch, where it is set otherwise.
fn set(name: &str, value: &str, why: &str) -> Result<()> {
    if is(name, value) {
        return Ok(());
    }
    let path = Path::new("/proc/sys/net").join(name);
    tracing::info!(call = format!("write({path:?}, {value:?})"), "{why}");
    fs::write(&path, value).with_context(|| format!("write {value} to {}", path.display()))
}
