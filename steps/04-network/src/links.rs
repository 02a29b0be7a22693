//! Links, addresses and routes.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, setns, unshare};
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage,
};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use rtnetlink::{
    AddressMessageBuilder, LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth,
    RouteMessageBuilder,
};

use crate::request::{Request, carry_out, change, create, fetch};
use crate::undertaker;

/// Every network namespace is born with `lo`, and with nothing before it.
const LOOPBACK: u32 = 1;

/// The group (ip-link(8)) that a link of ours gets when it is to be removed, and never before:
/// whatever is in it, whoever put it there, is on its way out. ("mini" in ASCII.)
const CONDEMNED: u32 = 0x6d69_6e69;

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
    /// The same in IPv6, where the network has it.
    pub six: Option<Ipv6Network>,
    /// The ways out.
    pub gateways: &'a [IpAddr],
}

/// The bridge, up and with its address, whether it was there or not.
pub(crate) fn ensure_bridge(name: &str, gateway: Ipv4Network) -> Result<()> {
    // task 04.1 {
    match find(name)? {
        Some(link) => ensure!(
            is_bridge_of(&link, gateway.ip()),
            "a link {name} exists, and minidocker did not make it: rename it, or `ip link del {name}`"
        ),
        None => carry_out(&[create(
            format!("RTM_NEWLINK {name} type bridge, up"),
            "a switch made of software; containers are plugged into it",
            LinkBridge::new(name)
                .address(mac(gateway.ip()).to_vec())
                .build(),
        )])?,
    }
    let call = format!("RTM_NEWADDR {gateway} dev {name}");
    let why = "the host's own place in the containers' network: their gateway";
    carry_out(&[add_address(call, why, index(name)?, gateway.into())])
    // } todo!("task 04.1: make the bridge, with its address (book: 4.1)")
}

/// The bridge's IPv6 address.
pub(crate) fn add_six(name: &str, gateway: Ipv6Network) -> Result<()> {
    let call = format!("RTM_NEWADDR {gateway} dev {name}");
    let why = "the gateway's address in IPv6";
    carry_out(&[add_address(call, why, index(name)?, gateway.into())])
}

/// Removes a bridge that is in nobody's use: its leases were lost, but it was not.
///
/// # Errors
/// It is in use; by another engine with a state directory of its own, then.
pub(crate) fn remove_orphan(name: &str, gateways: &[Ipv4Network]) -> Result<()> {
    let Some(link) = find(name)? else {
        return Ok(());
    };
    let Some(gateway) = gateways
        .iter()
        .find(|gateway| is_bridge_of(&link, gateway.ip()))
    else {
        return Ok(()); // not ours, as will be said when it is in our way
    };
    let in_use = all()?
        .iter()
        .any(|port| controller(port) == Some(link.header.index));
    ensure!(
        !in_use,
        "the bridge {name} has containers of which nothing is known here: they belong to a \
         minidocker with another state directory, or their leases were removed; it is free when they \
         have ended"
    );
    if condemn_bridge(name, *gateway)? {
        remove_condemned(&[name.to_owned()], None)?;
    }
    Ok(())
}

/// Plugs in a cable: one end in the bridge, the other born as `interface` in the namespace.
pub(crate) fn plug(cable: &Cable<'_>, netns: BorrowedFd<'_>) -> Result<()> {
    // task 04.2 {
    let Cable {
        host_end,
        bridge,
        interface,
        address,
        ..
    } = *cable;
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
    carry_out(&[
        create(
            format!("RTM_NEWLINK {host_end} type veth, master {bridge}, peer {interface} in netns"),
            "a cable: what goes in at one end comes out at the other, in another network namespace",
            veth,
        ),
        hairpin(host_end),
    ])
    // } todo!("task 04.2: lay a cable from the bridge into the container (book: 4.2)")
}

/// Plugs the host's ends of cables in that somebody pulled out, or took the bridge from.
pub(crate) fn replug(host_ends: &[String], bridge: &str) -> Result<()> {
    let master = index(bridge)?;
    // What a socket takes at once is limited.
    for some in host_ends.chunks(100) {
        let ends = some.iter().flat_map(|host_end| {
            let end = LinkUnspec::new_with_name(host_end).controller(master).up();
            [
                change(
                    format!("RTM_NEWLINK {host_end} up, master {bridge}"),
                    "a cable that was pulled out, or whose bridge was removed",
                    end.build(),
                ),
                hairpin(host_end),
            ]
        });
        carry_out(&ends.collect::<Vec<_>>())?;
    }
    Ok(())
}

/// Makes the host's end of a cable another one than all are: with a largest packet of its own, and
/// apart from other such ends.
pub(crate) fn adapt_port(host_end: &str, mtu: Option<u32>, apart: bool) -> Result<()> {
    let mut requests: Vec<_> = mtu.map(|mtu| resize(host_end, mtu)).into_iter().collect();
    if apart {
        let port = LinkBridgePort::new(0).name(host_end).isolated(true).build();
        requests.push(change(
            format!("RTM_NEWLINK {host_end} type bridge_slave, isolated on"),
            "no frame goes from one end that is so to another",
            port,
        ));
    }
    carry_out(&requests)
}

/// The same for the other end, from within its namespace, before it is up: its own link-local address
/// is made of the hardware address then.
pub(crate) fn adapt_inside(
    interface: &str,
    hardware: Option<[u8; 6]>,
    mtu: Option<u32>,
) -> Result<()> {
    let called = |hardware: [u8; 6]| {
        let link = LinkUnspec::new_with_name(interface).address(hardware.to_vec());
        change(
            format!("RTM_NEWLINK {interface} address"),
            "the hardware address that somebody chose",
            link.build(),
        )
    };
    let requests = [hardware.map(called), mtu.map(|mtu| resize(interface, mtu))];
    carry_out(&requests.into_iter().flatten().collect::<Vec<_>>())
}

fn resize(link: &str, mtu: u32) -> Request {
    change(
        format!("RTM_NEWLINK {link} mtu {mtu}"),
        "the largest packet that fits through what is behind this network",
        LinkUnspec::new_with_name(link).mtu(mtu).build(),
    )
}

/// The container's side, from within its namespace: loopback, address, way out.
pub(crate) fn configure(cable: &Cable<'_>) -> Result<()> {
    // task 04.3 {
    let Cable {
        interface,
        address,
        six,
        gateways,
        ..
    } = *cable;
    let index = index(interface)?;
    let up = LinkUnspec::new_with_index(index).up().build();
    let mut requests = vec![loopback()];
    for address in [Some(address.into()), six.map(IpNetwork::V6)]
        .into_iter()
        .flatten()
    {
        requests.push(add_address(
            format!("RTM_NEWADDR {address} dev {interface}"),
            "the address that the lease stands for",
            index,
            address,
        ));
    }
    requests.push(change(
        format!("RTM_NEWLINK {interface} up"),
        "a link carries nothing, and takes no route, until it is up",
        up,
    ));
    requests.extend(gateways.iter().copied().map(default_route));
    carry_out(&requests)
    // } todo!("task 04.3: give the container its address and its way out (book: 4.3)")
}

/// Whether the caller may change the network that it is in. To be privileged is not enough: root of
/// a user namespace has no rights over a network that was made outside.
///
/// # Errors
/// The kernel does not answer.
pub fn is_privileged() -> Result<bool> {
    let call = "RTM_NEWLINK lo";
    let why = "it changes nothing; refused, it says that this network is not ours to change";
    let lo = LinkUnspec::new_with_index(LOOPBACK).build();
    let Err(error) = carry_out(&[change(call.to_owned(), why, lo)]) else {
        return Ok(true);
    };
    let errno = error.downcast_ref::<io::Error>();
    match errno.and_then(io::Error::raw_os_error) {
        Some(libc::EPERM) => Ok(false),
        _ => Err(error),
    }
}

/// Sets `lo` up in the caller's network namespace. For a container that has no bridge to be
/// plugged into from outside, before it executes its program.
///
/// # Errors
/// It is not ours to change.
pub fn loopback_up() -> Result<()> {
    carry_out(&[loopback()])
}

/// Works in another network namespace. setns(2) changes one thread, so that a thread goes there,
/// and its end is the way back; sockets that it opens belong to that namespace.
///
/// # Errors
/// It is not ours to enter, and what the work says.
pub fn within<T: Send>(
    netns: BorrowedFd<'_>,
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    thread::scope(|scope| {
        let there = thread::Builder::new().spawn_scoped(scope, move || {
            tracing::info!(
                call = "setns(netns, CLONE_NEWNET)",
                "a thread of ours goes into the container's network and configures it from there"
            );
            setns(netns, CloneFlags::CLONE_NEWNET).context("setns(netns, CLONE_NEWNET)")?;
            work()
        });
        let there = there.context("start a thread for the container's network")?;
        there
            .join()
            .map_err(|_| anyhow!("the thread in the container's network died"))?
    })
}

/// Makes a network namespace that nobody is in, with a `lo` that is down. It goes with the last
/// descriptor. unshare(2) takes the thread along that calls it, so that is one that ends.
///
/// # Errors
/// The kernel makes none.
pub fn new_netns() -> Result<File> {
    let make = || {
        tracing::info!(
            call = "unshare(CLONE_NEWNET)",
            "a thread of ours makes the container's network, and leaves it behind"
        );
        unshare(CloneFlags::CLONE_NEWNET).context("unshare(CLONE_NEWNET)")?;
        let path = "/proc/thread-self/ns/net";
        File::open(path).with_context(|| format!("open {path}"))
    };
    let maker = thread::Builder::new().spawn(make);
    maker
        .context("start a thread to make a network in")?
        .join()
        .map_err(|_| anyhow!("the thread that made a network died"))?
}

/// Marks a link for removal, and stops its traffic. Answers whether it was there: one that went with
/// its network namespace is as good.
pub(crate) fn condemn(name: &str) -> Result<bool> {
    if if_nametoindex(name) == Err(Errno::ENODEV) {
        return Ok(false);
    }
    carry_out(&[mark(name)])?;
    Ok(true)
}

/// Marks the bridge for removal, if it is there and ours. Its address goes first: as the link's own
/// removal drags on, so would the route to it, and the next container would find the subnet taken.
pub(crate) fn condemn_bridge(name: &str, gateway: Ipv4Network) -> Result<bool> {
    let Some(link) = find(name)?.filter(|link| is_bridge_of(link, gateway.ip())) else {
        return Ok(false);
    };
    let no_address = Request {
        call: format!("RTM_DELADDR {gateway} dev {name}"),
        why: "the subnet is free again",
        message: RouteNetlinkMessage::DelAddress(on_link(link.header.index, gateway.into())),
        flags: 0,
        harmless: libc::EADDRNOTAVAIL,
    };
    carry_out(&[no_address, mark(name)])?;
    Ok(true)
}

/// Removes the marked links, all in one message; a veth takes its other end along. Returns when
/// these names are gone. `keep` stays open until the kernel has freed them.
pub(crate) fn remove_condemned(names: &[String], keep: Option<BorrowedFd<'_>>) -> Result<()> {
    let group = LinkMessageBuilder::<LinkUnspec>::default()
        .link_group(CONDEMNED)
        .build();
    let request = Request {
        call: format!("RTM_DELLINK group {CONDEMNED:#x} ({})", names.join(", ")),
        why: "nothing of ours stays in the host",
        message: RouteNetlinkMessage::DelLink(group),
        flags: 0,
        harmless: libc::ENODEV,
    };
    request.explain();
    if undertaker::send_behind(&request.encode(0), keep).is_ok() && vanish(names) {
        return Ok(());
    }
    carry_out(&[request])
}

/// The networks to which this host knows a way, its own addresses among them. Routes shorter than /8
/// (the default route, a VPN's two halves of everything) say where strangers live, and are no claim
/// on an address.
///
/// # Errors
/// The kernel does not answer.
pub fn routes() -> Result<Vec<IpNetwork>> {
    let questions = [
        RouteMessageBuilder::<Ipv4Addr>::new().build(),
        RouteMessageBuilder::<Ipv6Addr>::new().build(),
    ];
    let mut networks = Vec::new();
    for every in questions {
        let mut message = NetlinkMessage::from(RouteNetlinkMessage::GetRoute(every));
        message.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        for answer in fetch("RTM_GETROUTE", message)? {
            if let RouteNetlinkMessage::NewRoute(route) = answer {
                networks.extend(destination(&route).filter(|network| network.prefix() >= 8));
            }
        }
    }
    Ok(networks)
}

fn destination(route: &RouteMessage) -> Option<IpNetwork> {
    let mut attributes = route.attributes.iter();
    let address = attributes.find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some((*address).into()),
        RouteAttribute::Destination(RouteAddress::Inet6(address)) => Some((*address).into()),
        _ => None,
    })?;
    IpNetwork::new(address, route.header.destination_prefix_length).ok()
}

/// Sets the default routes of this namespace, in the place of those that it has.
pub(crate) fn lead_out(gateway: Ipv4Addr, gateway6: Option<Ipv6Addr>) -> Result<()> {
    let anew = |route: Request| Request {
        flags: NLM_F_CREATE | NLM_F_REPLACE,
        harmless: 0,
        ..route
    };
    let six = match gateway6 {
        Some(gateway6) => anew(default_route(gateway6.into())),
        None => Request {
            call: "RTM_DELROUTE default inet6".to_owned(),
            why: "the network that leads outside has no IPv6",
            message: RouteNetlinkMessage::DelRoute(RouteMessageBuilder::<Ipv6Addr>::new().build()),
            flags: 0,
            harmless: libc::ESRCH,
        },
    };
    carry_out(&[anew(default_route(gateway.into())), six])
}

/// A link of this namespace, by what tells whose it is.
pub(crate) struct Seen {
    pub name: String,
    /// It is the bridge that was asked for.
    pub is_bridge: bool,
    pub is_veth: bool,
    /// It is plugged into that bridge.
    pub is_port: bool,
    /// It is plugged into nothing.
    pub is_loose: bool,
    /// Its other end is in another network namespace, which somebody keeps alive.
    pub leads_away: bool,
}

/// The links of this namespace, as seen by the bridge `name` with one of these gateways.
pub(crate) fn survey(name: &str, gateways: &[Ipv4Network]) -> Result<Vec<Seen>> {
    let links = all()?;
    let is_bridge = |link: &LinkMessage| {
        let mut gateways = gateways.iter();
        called(link) == Some(name) && gateways.any(|gateway| is_bridge_of(link, gateway.ip()))
    };
    let bridge = links.iter().find(|link| is_bridge(link));
    let bridge = bridge.map(|link| link.header.index);
    let seen = |link: &LinkMessage| {
        let leads = |attribute: &LinkAttribute| matches!(attribute, LinkAttribute::LinkNetNsId(_));
        let veth = |attribute: &LinkAttribute| {
            let veth = LinkInfo::Kind(InfoKind::Veth);
            matches!(attribute, LinkAttribute::LinkInfo(info) if info.contains(&veth))
        };
        Some(Seen {
            name: called(link)?.to_owned(),
            is_bridge: bridge == Some(link.header.index),
            is_veth: link.attributes.iter().any(veth),
            is_port: bridge.is_some() && controller(link) == bridge,
            is_loose: controller(link).is_none(),
            leads_away: link.attributes.iter().any(leads),
        })
    };
    Ok(links.iter().filter_map(seen).collect())
}

/// Every link of this namespace.
fn all() -> Result<Vec<LinkMessage>> {
    let mut every = NetlinkMessage::from(RouteNetlinkMessage::GetLink(LinkMessage::default()));
    every.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let answers = fetch("RTM_GETLINK", every)?.into_iter();
    Ok(answers
        .filter_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(link) => Some(link),
            _ => None,
        })
        .collect())
}

fn called(link: &LinkMessage) -> Option<&str> {
    link.attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name.as_str()),
            _ => None,
        })
}

/// What a link is plugged into.
fn controller(link: &LinkMessage) -> Option<u32> {
    link.attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::Controller(index) => Some(*index),
            _ => None,
        })
}

/// The link of this name.
fn find(name: &str) -> Result<Option<LinkMessage>> {
    if if_nametoindex(name) == Err(Errno::ENODEV) {
        return Ok(None);
    }
    let link = LinkUnspec::new_with_name(name).build();
    let mut message = NetlinkMessage::from(RouteNetlinkMessage::GetLink(link));
    message.header.flags = NLM_F_REQUEST | NLM_F_ACK;
    let answers = fetch(&format!("RTM_GETLINK {name}"), message)?;
    Ok(answers.into_iter().find_map(|answer| match answer {
        RouteNetlinkMessage::NewLink(link) => Some(link),
        _ => None,
    }))
}

/// A bridge of ours is known by its hardware address, which it got when it was born; a link that
/// somebody else calls by that name is not touched.
fn is_bridge_of(link: &LinkMessage, gateway: Ipv4Addr) -> bool {
    link.attributes
        .contains(&LinkAttribute::Address(mac(gateway).to_vec()))
}

/// A hardware address from an IP address, locally administered (bit 1 of the first byte). When an
/// address is leased anew its neighbours' ARP tables stay right.
pub(crate) fn mac(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, 0x6d, a, b, c, d]
}

/// Whether there is a link of this name.
pub(crate) fn exists(link: &str) -> bool {
    if_nametoindex(link).is_ok()
}

fn index(link: &str) -> Result<u32> {
    if_nametoindex(link).with_context(|| format!("look for the link {link}"))
}

/// Whether the links are gone, within a second.
fn vanish(names: &[String]) -> bool {
    let start = Instant::now();
    while names.iter().any(|name| exists(name)) {
        if start.elapsed() > Duration::from_secs(1) {
            return false;
        }
        thread::sleep(Duration::from_micros(50));
    }
    true
}

fn loopback() -> Request {
    let lo = LinkUnspec::new_with_index(LOOPBACK).up().build();
    change(
        "RTM_NEWLINK lo up".to_owned(),
        "without it not even 127.0.0.1 answers",
        lo,
    )
}

fn hairpin(host_end: &str) -> Request {
    let port = LinkBridgePort::new(0).name(host_end).hairpin(true).build();
    change(
        format!("RTM_NEWLINK {host_end} type bridge_slave, hairpin on"),
        "a bridge sends no frame back where it came from; a container that calls itself needs that",
        port,
    )
}

fn add_address(call: String, why: &'static str, index: u32, address: IpNetwork) -> Request {
    let message = RouteNetlinkMessage::NewAddress(on_link(index, address));
    Request {
        call,
        why,
        message,
        flags: NLM_F_CREATE | NLM_F_REPLACE,
        harmless: 0,
    }
}

fn default_route(gateway: IpAddr) -> Request {
    let way_out = match gateway {
        IpAddr::V4(gateway) => RouteMessageBuilder::<Ipv4Addr>::new()
            .gateway(gateway)
            .build(),
        IpAddr::V6(gateway) => RouteMessageBuilder::<Ipv6Addr>::new()
            .gateway(gateway)
            .build(),
    };
    Request {
        call: format!("RTM_NEWROUTE default via {gateway}"),
        why: "everything else goes to the host, which forwards it",
        message: RouteNetlinkMessage::NewRoute(way_out),
        flags: NLM_F_CREATE | NLM_F_EXCL,
        harmless: libc::EEXIST, // a further network: the first one leads outside
    }
}

fn on_link(index: u32, address: IpNetwork) -> AddressMessage {
    match address {
        IpNetwork::V4(address) => AddressMessageBuilder::<Ipv4Addr>::new()
            .index(index)
            .address(address.ip(), address.prefix())
            .build(),
        IpNetwork::V6(address) => {
            let mut message = AddressMessageBuilder::<Ipv6Addr>::new()
                .index(index)
                .address(address.ip(), address.prefix())
                .build();
            // Otherwise the kernel asks for a second whether another has it, and bind(2) fails.
            message.header.flags |= AddressHeaderFlags::Nodad;
            message
        }
    }
}

fn mark(name: &str) -> Request {
    let link = LinkUnspec::new_with_name(name)
        .down()
        .link_group(CONDEMNED)
        .build();
    let call = format!("RTM_NEWLINK {name} down, group {CONDEMNED:#x}");
    let change = change(call, "what is in this group is about to be removed", link);
    Request {
        harmless: libc::ENODEV,
        ..change
    }
}
