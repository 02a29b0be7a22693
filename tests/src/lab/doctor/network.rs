//! The network: step 4.

use std::fs::{self, DirBuilder, File};
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;

use anyhow::{Context, Error, Result, ensure};
use namespaces::Isolation;
use network::bridge::{Bridge, Wish};
use network::{Mode, Network, Protocol, Publish, Settings};
use nix::sched::CloneFlags;

use super::Caller;
use super::finding::{Finding, Fix};
use super::isolation::{said, unseen_directory};

const AREA: &str = "Network";

pub fn examine(caller: &Caller) -> Vec<Finding> {
    let mut findings = vec![bridge(caller)];
    if !caller.privileged {
        findings.push(carrier(caller));
    }
    findings
}

/// All that a bridge takes: links, rules, and switches of the host; in a network namespace that
/// nothing leads to.
fn bridge(caller: &Caller) -> Finding {
    let alone = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNET;
    let plugged = caller.attempt(alone, || {
        let bridge = Bridge::standard(&unseen_directory()?)?;
        let lease = bridge.lease(Wish {
            id: "doctor",
            ports: vec![bridge.reserve(&port(8080))?],
            address: None,
            six: None,
        })?;
        let netns = File::open("/proc/self/ns/net").context("open /proc/self/ns/net")?;
        // Nobody takes it down: it ends with its namespaces.
        std::mem::forget(lease.attach(netns.as_fd(), "eth0")?);
        Ok(0)
    });
    let Err(error) = plugged else {
        let seen = "made: bridge, veth, nf_tables rules with NAT, ip_forward, a port";
        return Finding::ok(AREA, "bridge", seen);
    };
    let found = Finding::ok(AREA, "bridge", said(&error));
    let fix = bridge_fix(&error);
    if caller.privileged {
        found.fails(4, fix)
    } else {
        // Ordinary users have none, but the labs' private machines do.
        found.note(Some("cargo lab check of steps 4 and 5"), fix)
    }
}

fn bridge_fix(error: &Error) -> Option<Fix> {
    let said = format!("{error:#}");
    let fix = if said.contains("os error 1)") || said.contains("os error 30)") {
        return None; // no capability, or a read-only /proc/sys: as in a container, which is told of
    } else if said.contains("NFT_MSG") {
        "sudo modprobe -a nf_tables nft_chain_nat nft_masq nft_fib_inet nft_ct"
    } else if said.contains("RTM_NEWLINK") {
        "sudo modprobe -a bridge veth"
    } else {
        return None;
    };
    Some(Fix::Run(fix.to_owned()))
}

/// The way outside without root: pasta or slirp4netns at work, with a published port.
fn carrier(caller: &Caller) -> Finding {
    const LOST: Option<&str> = Some("the way outside, and -p");
    let Err(error) = carried(caller) else {
        return Finding::ok(
            AREA,
            "way outside",
            "pasta or slirp4netns carries it, and a port",
        );
    };
    let said = format!("{error:#}");
    let said = said
        .rsplit_once("published here: ")
        .map_or(said.as_str(), |(_, why)| why);
    let tun = File::options().read(true).write(true).open("/dev/net/tun");
    let fix = match tun {
        _ if said.starts_with("neither") => Some(Fix::install("passt")),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            Some(Fix::Run("sudo chmod a+rw /dev/net/tun".to_owned()))
        }
        Err(_) => Some(Fix::Do(
            "load the driver: sudo modprobe tun; in a container, have the device: --device \
             /dev/net/tun"
                .to_owned(),
        )),
        Ok(_) => None,
    };
    Finding::ok(AREA, "way outside", said).note(LOST, fix)
}

/// Without a port to publish, a carrier that is missing is no error.
fn carried(caller: &Caller) -> Result<()> {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    let host = free.context("find a free port of 127.0.0.1")?.port();
    let ports = [port(host)];
    let run_dir = std::env::temp_dir().join(format!("minidocker-doctor-{}", std::process::id()));
    // Fails where it is there: in /tmp anybody may have made it.
    let private = DirBuilder::new().mode(0o700).create(&run_dir);
    private.with_context(|| format!("make {}", run_dir.display()))?;
    let settings = Settings {
        run_dir: &run_dir,
        mode: Mode::Bridge,
        privileged: false,
        ports: &ports,
    };
    let connect = || {
        let network = Network::open(&settings, "doctor", "doctor")?;
        let child = namespaces::spawn(&Isolation::full()?, |_| Ok(0))?;
        let attached = network.attach(child.pid())?;
        let status = child.release(&caller.signals)?.wait(&caller.signals)?;
        drop(attached);
        ensure!(status == 0, "the child ended with status {status}");
        Ok(())
    };
    let connected = connect();
    let _ = fs::remove_dir_all(&run_dir);
    connected
}

fn port(host: u16) -> Publish {
    Publish {
        address: None,
        host,
        container: 80,
        protocol: Protocol::Tcp,
    }
}
