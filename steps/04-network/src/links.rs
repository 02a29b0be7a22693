//! Links, addresses and routes, by rtnetlink(7).

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use futures_util::TryStreamExt;
use futures_util::future::try_join4;
use ipnetwork::Ipv4Network;
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, setns};
use rtnetlink::packet_core::{NLM_F_REQUEST, NetlinkMessage};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute};
use rtnetlink::{
    Error, Handle, LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth,
    RouteMessageBuilder,
};
use tokio::runtime::{Builder, Runtime};

use crate::undertaker;

/// Every network namespace is born with `lo`, and with nothing before it.
const LOOPBACK: u32 = 1;

/// The group (ip-link(8)) that a link of ours gets when it is to be removed, and never before:
/// whatever is in it, whoever put it there, is on its way out. ("mini" in ASCII.)
const CONDEMNED: u32 = 0x6d69_6e69;

/// A netlink socket, bound for its life to the network namespace in which it was opened.
///
/// rtnetlink is asynchronous. The runtime is a current_thread one: it runs while somebody waits in
/// [`Links::run`], and brings no thread along, since a process with threads could no longer clone a
/// user namespace.
pub(crate) struct Links {
    runtime: Runtime,
    handle: Handle,
}

impl Links {
    /// Opens a socket in the caller's network namespace.
    pub fn here() -> Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_io()
            .build()
            .context("start an event loop")?;
        let (connection, handle, _) = {
            let _entered = runtime.enter();
            rtnetlink::new_connection().context("socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE)")?
        };
        runtime.spawn(connection);
        Ok(Self { runtime, handle })
    }

    /// Works in another network namespace. setns(2) changes one thread, so that a thread goes
    /// there, and its end is the way back; sockets that it opens belong to that namespace.
    pub fn inside<T: Send>(
        netns: BorrowedFd<'_>,
        work: impl FnOnce(&Self) -> Result<T> + Send,
    ) -> Result<T> {
        thread::scope(|scope| {
            let there = thread::Builder::new().spawn_scoped(scope, move || {
                tracing::info!(
                    call = "setns(netns, CLONE_NEWNET)",
                    "a thread of ours goes into the container's network and configures it from there"
                );
                setns(netns, CloneFlags::CLONE_NEWNET).context("setns(netns, CLONE_NEWNET)")?;
                work(&Self::here()?)
            });
            let there = there.context("start a thread for the container's network")?;
            there
                .join()
                .map_err(|_| anyhow!("the thread in the container's network died"))?
        })
    }

    /// `lo` up: without it not even 127.0.0.1 answers.
    pub fn loopback_up(&self) -> Result<()> {
        self.run("set lo up", self.up(LOOPBACK))
    }

    /// The bridge, up and with its address, whether it was there or not.
    pub fn ensure_bridge(&self, name: &str, gateway: Ipv4Network) -> Result<()> {
        if self.own_bridge(name, gateway.ip())?.is_none() {
            tracing::info!(
                call = format!("RTM_NEWLINK {name} type bridge, up"),
                "a switch made of software; containers are plugged into it"
            );
            let bridge = LinkBridge::new(name)
                .address(mac(gateway.ip()).to_vec())
                .build();
            self.run(
                &format!("create the bridge {name}"),
                self.handle.link().add(bridge).execute(),
            )?;
        }
        tracing::info!(
            call = format!("RTM_NEWADDR {gateway} dev {name}"),
            "the host's own place in the containers' network: their gateway"
        );
        let index = index(name)?;
        let address = IpAddr::V4(gateway.ip());
        let add = self
            .handle
            .address()
            .add(index, address, gateway.prefix())
            .replace();
        self.run(&format!("give {name} the address {gateway}"), add.execute())
    }

    /// The index of the bridge, if there is one. A bridge of ours is known by its hardware address,
    /// which it got when it was born; another's link of that name is not touched.
    fn own_bridge(&self, name: &str, gateway: Ipv4Addr) -> Result<Option<u32>> {
        let asked = self
            .handle
            .link()
            .get()
            .match_name(name.to_owned())
            .execute();
        let found = self
            .runtime
            .block_on(async { std::pin::pin!(asked).try_next().await });
        let Some(link) = absent_is_none(found, libc::ENODEV)
            .with_context(|| format!("look for the link {name}"))?
            .flatten()
        else {
            return Ok(None);
        };
        let ours = LinkAttribute::Address(mac(gateway).to_vec());
        ensure!(
            link.attributes.contains(&ours),
            "a link {name} exists, and minidocker did not make it: rename it, or `ip link del {name}`"
        );
        Ok(Some(link.header.index))
    }

    /// A cable with two ends: one in the bridge, the other born as `interface` in the namespace.
    pub fn plug(&self, cable: &Cable<'_>, netns: BorrowedFd<'_>) -> Result<()> {
        let Cable {
            host_end,
            bridge,
            interface,
            address,
        } = *cable;
        tracing::info!(
            call = format!(
                "RTM_NEWLINK {host_end} type veth, master {bridge}, peer {interface} in netns"
            ),
            "a cable: what goes in at one end comes out at the other, in another network namespace"
        );
        let peer = LinkMessageBuilder::<LinkUnspec>::default()
            .name(interface)
            .address(mac(address.ip()).to_vec())
            .setns_by_fd(netns.as_raw_fd())
            .build(); // not up: its other end is not there yet, and the kernel says ENOTCONN
        let veth = LinkVeth::new(host_end, interface)
            .controller(index(bridge)?)
            .up()
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .build();
        self.run(
            &format!("create the veth pair {host_end}"),
            self.handle.link().add(veth).execute(),
        )?;
        tracing::info!(
            call = format!("RTM_NEWLINK {host_end} type bridge_slave, hairpin on"),
            "a bridge never sends a frame back where it came from; a container calling itself needs that"
        );
        let port = LinkBridgePort::new(index(host_end)?).hairpin(true).build();
        self.run(
            &format!("set hairpin on {host_end}"),
            self.handle.link().set_port(port).execute(),
        )
    }

    /// The container's side, from within its namespace: loopback, address, way out.
    pub fn configure(&self, cable: &Cable<'_>, gateway: Ipv4Addr) -> Result<()> {
        let Cable {
            interface, address, ..
        } = *cable;
        tracing::info!(
            call = "RTM_SETLINK lo up",
            "without it not even 127.0.0.1 answers"
        );
        tracing::info!(
            call = format!("RTM_NEWADDR {address} dev {interface}"),
            "the address that the lease stands for"
        );
        tracing::info!(
            call = format!("RTM_SETLINK {interface} up"),
            "a link carries nothing, and takes no route, until it is up"
        );
        tracing::info!(
            call = format!("RTM_NEWROUTE default via {gateway}"),
            "everything else goes to the host, which forwards it"
        );
        let index = index(interface)?;
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .gateway(gateway)
            .build();
        let way_out = async {
            match self.handle.route().add(route).execute().await {
                // A further network: the first one leads outside.
                Err(Error::NetlinkError(error)) if error.raw_code() == -libc::EEXIST => Ok(()),
                other => other,
            }
        };
        let ip = IpAddr::V4(address.ip());
        let addressed = self
            .handle
            .address()
            .add(index, ip, address.prefix())
            .execute();
        // Four messages on their way at once; the kernel takes them in this order.
        let all = async {
            try_join4(self.up(LOOPBACK), addressed, self.up(index), way_out)
                .await
                .map(|_| ())
        };
        self.run(
            &format!("configure {interface} as {address}, gateway {gateway}"),
            all,
        )
    }

    /// Marks a link for removal, and stops its traffic. One that is gone already, with its network
    /// namespace, is as good. Answers whether it was there.
    pub fn condemn(&self, name: &str) -> Result<bool> {
        let link = LinkUnspec::new_with_name(name)
            .down()
            .link_group(CONDEMNED)
            .build();
        let marked = self
            .runtime
            .block_on(self.handle.link().set(link).execute());
        let marked = absent_is_none(marked, libc::ENODEV);
        Ok(marked
            .with_context(|| format!("set the link {name} down"))?
            .is_some())
    }

    /// Marks the bridge for removal, if it is there and ours.
    pub fn condemn_bridge(&self, name: &str, gateway: Ipv4Addr) -> Result<bool> {
        match self.own_bridge(name, gateway)? {
            Some(_) => self.condemn(name),
            None => Ok(false),
        }
    }

    /// Removes the marked links, all in one message; a veth takes its other end along. Returns when
    /// these names are gone. `keep` stays open until
    /// the kernel has freed them.
    pub fn remove_condemned(&self, names: &[String], keep: BorrowedFd<'_>) -> Result<()> {
        tracing::info!(
            call = format!("RTM_DELLINK group {CONDEMNED:#x}"),
            "the container's cable, and with the last container the bridge"
        );
        let group = LinkMessageBuilder::<LinkUnspec>::default()
            .link_group(CONDEMNED)
            .build();
        let mut message = NetlinkMessage::from(RouteNetlinkMessage::DelLink(group.clone()));
        message.header.flags = NLM_F_REQUEST;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        if undertaker::send_behind(&bytes, keep).is_ok() && vanish(names) {
            return Ok(());
        }
        let gone = self
            .runtime
            .block_on(self.handle.link().del_with_message(group).execute());
        absent_is_none(gone, libc::ENODEV)
            .with_context(|| format!("remove the links {}", names.join(", ")))?;
        Ok(())
    }

    /// The IPv4 networks to which this host knows a way, its own addresses among them.
    pub fn routed(&self) -> Result<Vec<Ipv4Network>> {
        let all = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let asked = self.handle.route().get(all).execute();
        let routes: Vec<_> = self.run("list the routes of this host", async {
            asked.try_collect().await
        })?;
        let destination = |attribute: &RouteAttribute| match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(*address),
            _ => None,
        };
        Ok(routes
            .iter()
            .filter_map(|route| {
                let address = route.attributes.iter().find_map(destination)?;
                Ipv4Network::new(address, route.header.destination_prefix_length).ok()
            })
            .collect())
    }

    async fn up(&self, index: u32) -> Result<(), Error> {
        let link = LinkUnspec::new_with_index(index).up().build();
        self.handle.link().set(link).execute().await
    }

    fn run<T>(&self, what: &str, work: impl Future<Output = Result<T, Error>>) -> Result<T> {
        self.runtime
            .block_on(work)
            .map_err(plain)
            .with_context(|| what.to_owned())
    }
}

/// One veth pair, to be.
#[derive(Clone, Copy)]
pub(crate) struct Cable<'a> {
    /// The name of the end that stays in the host.
    pub host_end: &'a str,
    /// The bridge that it is plugged into.
    pub bridge: &'a str,
    /// The name of the other end, inside.
    pub interface: &'a str,
    /// The address of the other end, with the prefix of the subnet.
    pub address: Ipv4Network,
}

/// A hardware address from an IP address, locally administered (bit 1 of the first byte). When an
/// address is leased anew its neighbours' ARP tables stay right.
fn mac(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, 0x6d, a, b, c, d]
}

/// Whether the links are gone, within a second.
fn vanish(names: &[String]) -> bool {
    let start = Instant::now();
    while names
        .iter()
        .any(|name| if_nametoindex(name.as_str()).is_ok())
    {
        if start.elapsed() > Duration::from_secs(1) {
            return false;
        }
        thread::sleep(Duration::from_micros(50));
    }
    true
}

fn index(link: &str) -> Result<u32> {
    if_nametoindex(link).with_context(|| format!("look for the link {link}"))
}

/// The errno of a refused message, in libc's words.
fn plain(error: Error) -> anyhow::Error {
    match error {
        Error::NetlinkError(message) => {
            let errno = message.to_io();
            let denied = errno.kind() == io::ErrorKind::PermissionDenied;
            let error = anyhow!(errno);
            if denied {
                error.context("needs CAP_NET_ADMIN over the network namespace")
            } else {
                error
            }
        }
        other => anyhow!(other),
    }
}

fn absent_is_none<T>(answer: Result<T, Error>, absent: i32) -> Result<Option<T>> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(Error::NetlinkError(error)) if error.raw_code() == -absent => Ok(None),
        Err(error) => Err(plain(error)),
    }
}
