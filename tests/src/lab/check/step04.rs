//! Step 4: an address, a way out, and published ports.

use std::collections::BTreeSet;

use nix::sys::signal::Signal;

use super::program::{Running, have_ended, patience, until, words};
use super::talk::Net;
use super::trial::namespace;
use super::{Check, Found, Need, Step, Trial, ensure, failed, same};

/// The machine as the outside knows it.
const MACHINE: &str = "192.0.2.1";
/// The outside as everybody knows it.
const OUTSIDE: &str = "192.0.2.2";
/// For checks that look beyond the machine.
const ONLINE: &[Need] = &[Need::Outside];

pub const STEP: Step = Step {
    number: 4,
    checks: &[
        Check {
            id: "neighbours",
            task: Some("04.1"),
            points: 10,
            title: "two containers reach each other",
            hint: "a bridge is a switch: both ends must be plugged into the same, and it must be up",
            needs: ONLINE,
            run: neighbours,
        },
        Check {
            id: "eth0",
            task: Some("04.2"),
            points: 8,
            title: "eth0 is in the container, and plugged in",
            hint: "veth(4): two ends of one cable; one goes into the container, and both must be up",
            needs: ONLINE,
            run: eth0,
        },
        Check {
            id: "address",
            task: Some("04.3"),
            points: 8,
            title: "eth0 has an address and a default route, lo is up",
            hint: "`ip address` and `ip route` in the container; a new network's lo is down",
            needs: ONLINE,
            run: address,
        },
        Check {
            id: "addresses",
            task: None,
            points: 6,
            title: "no two containers have one address at a time",
            hint: "who takes an address must keep others from taking it: a file and a lock",
            needs: ONLINE,
            run: addresses,
        },
        Check {
            id: "outside",
            task: Some("04.4"),
            points: 11,
            title: "the outside is reached, under the machine's address",
            hint: "nobody outside can answer a private address: masquerade, and ip_forward",
            needs: ONLINE,
            run: outside,
        },
        Check {
            id: "publish",
            task: Some("04.5"),
            points: 11,
            title: "a published port answers from outside",
            hint: "dnat in prerouting: to the container's address and port",
            needs: ONLINE,
            run: publish,
        },
        Check {
            id: "publish-local",
            task: Some("04.5"),
            points: 6,
            title: "it answers on 127.0.0.1 and on all own addresses",
            hint: "what the machine itself sends does not pass prerouting; and see route_localnet",
            needs: ONLINE,
            run: publish_local,
        },
        Check {
            id: "publish-inside",
            task: Some("04.5"),
            points: 4,
            title: "it answers the container itself, and its neighbour",
            hint: "an answer that goes straight back is no answer to who asked someone else",
            needs: ONLINE,
            run: publish_inside,
        },
        Check {
            id: "publish-udp",
            task: Some("04.5"),
            points: 4,
            title: "/udp publishes a port of UDP, and none of TCP",
            hint: "the protocol is part of the rule",
            needs: ONLINE,
            run: publish_udp,
        },
        Check {
            id: "publish-address",
            task: Some("04.5"),
            points: 3,
            title: "-p IP:HOST:CONTAINER answers on that address alone",
            hint: "the rule must look at the address that a packet was sent to",
            needs: ONLINE,
            run: publish_address,
        },
        Check {
            id: "port-taken",
            task: None,
            points: 4,
            title: "a port in use is 125, whoever uses it",
            hint: "bind(2) says whether a port is free, and keeps it as long as the socket lives",
            needs: ONLINE,
            run: port_taken,
        },
        Check {
            id: "network-none",
            task: None,
            points: 5,
            title: "--network none: nothing but lo, and that is up",
            hint: "a new network namespace has lo and nothing else; who sets it up?",
            needs: ONLINE,
            run: network_none,
        },
        Check {
            id: "hosts",
            task: None,
            points: 3,
            title: "/etc/hosts names its hostname and address",
            hint: "hosts(5): an address, then names; of the container, not of the machine",
            needs: ONLINE,
            run: hosts,
        },
        Check {
            id: "resolv-conf",
            task: None,
            points: 3,
            title: "/etc/resolv.conf names no resolver on loopback",
            hint: "127.0.0.53 is the machine's; inside, it is somebody else's: the container",
            needs: ONLINE,
            run: resolv_conf,
        },
        Check {
            id: "foreign-rules",
            task: None,
            points: 4,
            title: "nobody else's rule, link or address is touched",
            hint: "`nft list ruleset` before, during and after: a table of one's own is enough",
            needs: ONLINE,
            run: foreign_rules,
        },
        Check {
            id: "network-student",
            task: None,
            points: 3,
            title: "an ordinary user gets a way out, or a note",
            hint: "pasta(1) or slirp4netns(1), where there is one; else say that there is only lo",
            needs: ONLINE,
            run: student,
        },
        Check {
            id: "afterwards-4",
            task: None,
            points: 4,
            title: "links, rules and routes are as before, come what may",
            hint: "whatever is made is unmade in reverse; the bridge goes with the last container",
            needs: ONLINE,
            run: afterwards,
        },
        Check {
            id: "after-kill-4",
            task: None,
            points: 3,
            title: "after kill -9 the next run tidies up",
            hint: "what a dead one left is known by its lock, which nobody holds any more",
            needs: ONLINE,
            run: after_kill,
        },
    ],
};

/// A container that sleeps, and its address.
struct Connected {
    running: Running,
    pid: i32,
    address: String,
}

impl Connected {
    fn net(&self) -> Net {
        Net::Of(self.pid)
    }

    /// Ends it as `docker stop` does.
    fn stop(self) -> Found {
        self.running.signal(Signal::SIGTERM)?;
        self.running.wait().map(drop)
    }
}

fn connected(t: &Trial, options: &[&str]) -> Found<Connected> {
    let (running, pid) = t.container(options).asleep()?;
    let address = own_address(t, pid)?;
    Ok(Connected {
        running,
        pid,
        address,
    })
}

/// What a command of the machine's prints in the network of a container.
fn inside(t: &Trial, pid: i32, command: &str) -> Found<String> {
    let number = t.number_there(pid)?;
    t.machine(&format!("nsenter -t {number} -n {command}"))
}

/// The IPv4 address of eth0, without its prefix.
fn own_address(t: &Trial, pid: i32) -> Found<String> {
    let all = inside(t, pid, "ip -4 -o address show scope global")?;
    let line = all.lines().find(|line| line.contains(" eth0 "));
    let mut words = line.unwrap_or_default().split_whitespace();
    let found = words
        .find(|word| *word == "inet")
        .and_then(|_| words.next());
    match found.and_then(|found| found.split('/').next()) {
        Some(address) => Ok(address.to_owned()),
        None => failed("an IPv4 address of eth0, from `ip address`", all),
    }
}

/// A port that nobody on a fresh machine uses.
fn port(t: &Trial) -> String {
    t.number(2_000..30_000).to_string()
}

/// `-p` for these two ports.
fn published(host: &str, container: &str) -> String {
    format!("--publish={host}:{container}")
}

fn neighbours(t: &Trial) -> Found {
    let (one, other) = (connected(t, &[])?, connected(t, &[])?);
    let port = port(t);
    for (from, to) in [(&one, &other), (&other, &one)] {
        let listener = t.listen(to.net(), &port)?;
        t.reaches(from.net(), &to.address, &port, &listener)?;
    }
    Ok(())
}

fn has_own_network(t: &Trial, pid: i32) -> Found {
    ensure(
        namespace(pid, "net")? != namespace(t.first(), "net")?,
        "a network of the container's own",
        "it is in the machine's",
    )
}

fn eth0(t: &Trial) -> Found {
    let (_running, pid) = t.container(&[]).asleep()?;
    has_own_network(t, pid)?;
    let links = inside(t, pid, "ip -o link show")?;
    let eth0 = links
        .lines()
        .find(|line| line.contains(" eth0@") || line.contains(" eth0:"));
    let flags = eth0.and_then(|line| line.split(['<', '>']).nth(1));
    let plugged = flags.is_some_and(|flags| {
        let has = |wanted| flags.split(',').any(|flag| flag == wanted);
        has("UP") && has("LOWER_UP")
    });
    ensure(
        plugged,
        "in the container's `ip link`, an eth0 that is UP and LOWER_UP",
        links,
    )
}

fn address(t: &Trial) -> Found {
    let one = connected(t, &[])?;
    let routes = inside(t, one.pid, "ip -4 route show")?;
    let way_out = |line: &str| line.starts_with("default ") && line.contains(" dev eth0");
    ensure(
        routes.lines().any(way_out),
        "a default route by eth0, from `ip route`",
        routes,
    )?;
    let port = port(t);
    let listener = t.listen(one.net(), &port)?;
    t.reaches(one.net(), "127.0.0.1", &port, &listener)?;
    Ok(())
}

/// They begin at the same moment, so that whoever only looks for a free
/// address, and takes it later, gives one to two.
fn addresses(t: &Trial) -> Found {
    // One says why it does not run; of five that is lost.
    t.run(&[], &["true"])?.succeeds()?;
    let first = t.number(3_000_000..9_000_000);
    let sleepers = (first..first + 5).map(|seconds| {
        let seconds = seconds.to_string();
        let running = t.container(&[]).start(&["sleep", &seconds])?;
        Ok((running, seconds.into_bytes()))
    });
    let sleepers = sleepers.collect::<Found<Vec<_>>>()?;
    let (mut seen, mut alive) = (BTreeSet::new(), Vec::new());
    for (mut running, seconds) in sleepers {
        let is_it = |pid: &i32| {
            let words = words(*pid);
            words.len() == 2 && words[0].ends_with(b"sleep") && words[1] == seconds
        };
        let found = until(patience(), || {
            let over = !running.is_running();
            let found = running.processes(t.first()).into_iter().find(is_it);
            found.map(Some).or_else(|| over.then_some(None))
        });
        let Some(pid) = found.flatten() else {
            return failed("five containers that run at once", running.wait()?.told());
        };
        alive.push(running);
        let address = own_address(t, pid)?;
        ensure(
            address != MACHINE && seen.insert(address.clone()),
            "an address that nobody else has",
            format!("{address} is taken"),
        )?;
    }
    Ok(())
}

fn outside(t: &Trial) -> Found {
    let one = connected(t, &[])?;
    for port in [port(t), format!("{}/udp", port(t))] {
        let listener = t.listen(Net::Outside, &port)?;
        let from = t.reaches(one.net(), OUTSIDE, &port, &listener)?;
        same("who asks, as the outside sees it", MACHINE, &from)?;
    }
    Ok(())
}

/// Two ports of one container lead to two of its own.
fn publish(t: &Trial) -> Found {
    let ports = [[port(t), port(t)], [port(t), port(t)]];
    let options = ports.each_ref().map(|[host, own]| published(host, own));
    let one = connected(t, &options.each_ref().map(String::as_str))?;
    for [host, own] in &ports {
        let listener = t.listen(one.net(), own)?;
        t.reaches(Net::Outside, MACHINE, host, &listener)?;
    }
    Ok(())
}

fn publish_local(t: &Trial) -> Found {
    let another = format!("198.51.100.{}", t.number(1..255));
    t.machine(&format!("ip address add {another}/32 dev lo"))?;
    let (host, own) = (port(t), port(t));
    let one = connected(t, &[&published(&host, &own)])?;
    let listener = t.listen(one.net(), &own)?;
    for address in ["127.0.0.1", MACHINE, &another] {
        t.reaches(Net::Machine, address, &host, &listener)?;
    }
    Ok(())
}

fn publish_inside(t: &Trial) -> Found {
    let (host, own) = (port(t), port(t));
    let one = connected(t, &["-p", &format!("{host}:{own}")])?;
    let listener = t.listen(one.net(), &own)?;
    t.reaches(one.net(), MACHINE, &host, &listener)?;
    let other = connected(t, &[])?;
    t.reaches(other.net(), MACHINE, &host, &listener)?;
    Ok(())
}

fn publish_udp(t: &Trial) -> Found {
    let (host, own) = (port(t), port(t));
    let one = connected(t, &["-p", &format!("{host}:{own}/udp")])?;
    let tcp = t.listen(one.net(), &own)?;
    let (host_udp, own_udp) = (format!("{host}/udp"), format!("{own}/udp"));
    let udp = t.listen(one.net(), &own_udp)?;
    for (from, address) in [
        (Net::Outside, MACHINE),
        (Net::Machine, MACHINE),
        (Net::Machine, "127.0.0.1"),
    ] {
        t.reaches(from, address, &host_udp, &udp)?;
    }
    ensure(
        t.is_silent(Net::Outside, MACHINE, &host)?,
        format!("nobody who answers on TCP port {host}"),
        "an answer",
    )?;
    drop(tcp);
    Ok(())
}

fn publish_address(t: &Trial) -> Found {
    let another = format!("198.51.100.{}", t.number(1..255));
    t.machine(&format!("ip address add {another}/32 dev lo"))?;
    let (host, own) = (port(t), port(t));
    for address in ["127.0.0.1", &another] {
        let one = connected(t, &["-p", &format!("{address}:{host}:{own}")])?;
        let listener = t.listen(one.net(), &own)?;
        t.reaches(Net::Machine, address, &host, &listener)?;
        for from in [Net::Machine, Net::Outside] {
            ensure(
                t.is_silent(from, MACHINE, &host)?,
                format!("nobody who answers on {MACHINE}:{host}, for only {address} is published"),
                "an answer",
            )?;
        }
        drop(listener);
        one.stop()?;
    }
    Ok(())
}

/// Used by another container, and by a program of the machine's.
fn port_taken(t: &Trial) -> Found {
    let (host, own, other) = (port(t), port(t), port(t));
    let option = published(&host, &own);
    let one = connected(t, &[&option])?;
    let listener = t.listen(one.net(), &own)?;
    let again = t.run(&[&option], &["true"])?;
    again.exits(125)?.explains()?;
    t.reaches(Net::Machine, MACHINE, &host, &listener)?;

    let program = t.listen(Net::Machine, &other)?;
    let taken = t.run(&[&published(&other, &own)], &["true"])?;
    taken.exits(125)?.explains()?;
    t.reaches(Net::Outside, MACHINE, &other, &program)?;

    // And a free one again when its container is gone.
    drop(listener);
    one.stop()?;
    connected(t, &[&option])?.stop()
}

fn network_none(t: &Trial) -> Found {
    connected(t, &[])?.stop()?;
    let (_running, pid) = t.container(&["--network", "none"]).asleep()?;
    has_own_network(t, pid)?;
    // A kernel may give every network a few links for tunnels, which are down.
    let links = inside(t, pid, "ip -o link show up")?;
    let is_lo = |line: &str| line.split(": ").nth(1) == Some("lo");
    ensure(
        links.lines().count() == 1 && links.lines().all(is_lo),
        "one link that is up: lo",
        links,
    )?;
    let port = port(t);
    let listener = t.listen(Net::Of(pid), &port)?;
    t.reaches(Net::Of(pid), "127.0.0.1", &port, &listener)?;
    Ok(())
}

/// A file of a container, while it runs.
fn file(t: &Trial, pid: i32, path: &str) -> Found<String> {
    let number = t.number_there(pid)?;
    t.machine(&format!("cat /proc/{number}/root{path} || true"))
}

fn hosts(t: &Trial) -> Found {
    let before = t.machine("cat /etc/hosts")?;
    let name = t.word();
    let one = connected(t, &["--hostname", &name])?;
    let table = file(t, one.pid, "/etc/hosts")?;
    let names = |line: &str, address: &str, name: &str| {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        words.next() == Some(address) && words.any(|word| word == name)
    };
    for (address, name) in [
        (one.address.as_str(), name.as_str()),
        ("127.0.0.1", "localhost"),
    ] {
        ensure(
            table.lines().any(|line| names(line, address, name)),
            format!("in its /etc/hosts: {address} {name}"),
            table.clone(),
        )?;
    }
    same(
        "the machine's own /etc/hosts",
        &before,
        &t.machine("cat /etc/hosts")?,
    )
}

/// Once there is another resolver beside that on loopback; once there is not.
fn resolv_conf(t: &Trial) -> Found {
    let known = format!("192.0.2.{}", t.number(3..255));
    let loopback = format!("127.0.0.{}", t.number(1..255));
    for servers in [vec![&loopback, &known], vec![&loopback]] {
        let lines: String = servers
            .iter()
            .map(|one| format!("nameserver {one}\\n"))
            .collect();
        t.machine(&format!("printf '{lines}' >/etc/resolv.conf"))?;
        let one = connected(t, &[])?;
        let text = file(t, one.pid, "/etc/resolv.conf")?;
        let found: Vec<&str> = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("nameserver"))
            .map(str::trim)
            .collect();
        let is_loopback = |server: &&str| server.starts_with("127.") || *server == "::1";
        ensure(
            !found.iter().any(is_loopback) && !found.is_empty(),
            "resolvers in its /etc/resolv.conf, and none on loopback",
            text.clone(),
        )?;
        ensure(
            servers.len() == 1 || found.contains(&known.as_str()),
            format!("the machine's resolver that can be reached: {known}"),
            text,
        )?;
    }
    Ok(())
}

/// What the machine has of its own is the same while a container runs, and after.
fn foreign_rules(t: &Trial) -> Found {
    let (table, link) = (t.word(), t.word());
    let (third, fourth) = (t.number(0..255), t.number(1..255));
    t.machine(&format!(
        "nft -f - <<END
         table inet {table} {{
             chain input {{ type filter hook input priority 5; tcp dport {fourth} drop; }}
             chain {link} {{ ip saddr 198.18.{third}.{fourth} accept; }}
         }}
         table ip {link} {{
             chain nat {{ type nat hook postrouting priority 90; }}
         }}
END
         ip link add {link} type veth peer name {table}
         ip address add 198.18.{third}.{fourth}/24 dev {link}
         ip link set {link} up; ip link set {table} up
         ip route add 198.19.{third}.0/24 dev {link}"
    ))?;
    let look = || {
        t.machine(&format!(
            "nft list table inet {table}; nft list table ip {link}
             ip -o link show {link} | sed 's/.*<//; s/ qlen .*//'; ip -4 -o address show {link}
             ip route show dev {link}; ip -4 -o address show wan; ip route show default"
        ))
        .or_else(|_| failed("its tables, links and routes", "one of them is gone"))
    };
    let before = look()?;
    let one = connected(t, &[&published(&port(t), &port(t))])?;
    same("what the machine had before", &before, &look()?)?;
    one.stop()?;
    same("what the machine had before", &before, &look()?)
}

fn student(t: &Trial) -> Found {
    // Root's way is the measure: an address.
    connected(t, &[])?.stop()?;
    let (running, pid) = t.container(&[]).as_student().asleep()?;
    let up = inside(t, pid, "ip -o link show up")?;
    ensure(up.contains("lo:"), "lo, which is up", up)?;
    let routes = inside(t, pid, "ip -4 route show default")?;
    if !routes.is_empty() {
        let port = port(t);
        let listener = t.listen(Net::Outside, &port)?;
        let from = t.reaches(Net::Of(pid), OUTSIDE, &port, &listener)?;
        return same("who asks, as the outside sees it", MACHINE, &from);
    }
    running.signal(Signal::SIGTERM)?;
    let out = running.wait()?;
    ensure(
        !out.errors().is_empty(),
        "on standard error, that there is no way out, for there is no default route",
        out.told(),
    )
}

fn afterwards(t: &Trial) -> Found {
    // Before the first one: it must not leave anything to the next either.
    let before = t.snapshot();
    let (host, own) = (port(t), port(t));
    let option = published(&host, &own);
    t.shell(&[&option], "exit 7")?.exits(7)?;
    t.run(&[&option], &[&t.word()])?.exits(127)?;
    let one = connected(t, &[&option])?;
    let other = connected(t, &[&published(&port(t), &own)])?;
    // Who fails must not take away what the others have.
    t.run(&[&option], &["true"])?.exits(125)?;
    one.stop()?;
    let listener = t.listen(Net::Outside, &own)?;
    t.reaches(other.net(), OUTSIDE, &own, &listener)?;
    drop(listener);
    other.stop()?;
    t.run(&["--network", "none"], &["true"])?.exits(0)?;
    t.unchanged(&before)
}

fn after_kill(t: &Trial) -> Found {
    let before = t.snapshot();
    let option = published(&port(t), &port(t));
    for options in [&[][..], &[option.as_str()]] {
        let one = connected(t, options)?;
        one.running.signal(Signal::SIGKILL)?;
        one.running.wait().ok();
        have_ended(&[one.pid]);
    }
    t.run(&[&option], &["true"])?.exits(0)?;
    t.unchanged(&before)
}
