//! A container's places in several networks: from its birth on, in and out while it runs, and what
//! becomes of its ports, its way out and its files meanwhile.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;

use harness::engine::{Machine, Wanted, Who, shell};
use harness::{Host, Running, wait_for};
use serde_json::Value;

fn online(who: Who) -> Machine {
    Machine::with(Wanted {
        who,
        outside: true,
        delegated: who == Who::Student,
        ..Wanted::default()
    })
}

/// Answers on port 80 with one line: who it is.
const SERVER: &str = "mkdir -p /dev/shm/www && echo hello-from-$(hostname) >/dev/shm/www/index.html \
     && exec busybox httpd -f -p 80 -h /dev/shm/www";

/// Waits for it, inside.
const LISTENS: &str = "until netstat -ltn | grep -q ':80 '; do sleep 0.02; done";

/// Starts a container that answers on port 80, and waits until it does.
#[track_caller]
fn serve(machine: &Machine, options: &str) {
    machine.ok(&shell(&format!("run -d {options} host"), SERVER));
    let mut words = options.split_whitespace();
    words.find(|word| *word == "--name").expect("--name");
    let name = words.next().expect("a name");
    machine.ok(&shell(&format!("exec {name}"), LISTENS));
}

/// Removes all, and sees that nothing is left.
#[track_caller]
fn done(machine: &Machine) {
    machine.no_container_left();
    machine.ok("network prune -f");
    machine.nothing_left();
}

const CURL: [&str; 6] = ["curl", "-sS", "--noproxy", "*", "-m20", "-g"];

#[track_caller]
fn fetch(host: &Host, url: &str) -> String {
    host.run(CURL.iter().chain([&url])).ok()
}

/// A shell's way to fetch the page, inside: its last line.
fn get(address: &str, port: u16) -> String {
    get_within(20, address, port)
}

fn get_within(seconds: u8, address: &str, port: u16) -> String {
    format!(
        "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | busybox nc -w {seconds} {address} {port} | tail -n 1"
    )
}

/// What the kernel says in a container's network namespace, asked from outside.
#[track_caller]
fn inside(machine: &Machine, name: &str, question: &str) -> Value {
    let pid = machine.container(name).init().pid;
    let answer = machine
        .host()
        .shell(&format!("nsenter -t {pid} -n ip -j {question}"));
    serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{question}: {error}: {answer}"))
}

/// Answers on port 7000 of another machine, as long as it is held.
#[track_caller]
fn afar(host: &Host) -> Running {
    let server = ["busybox", "httpd", "-f", "-p", "7000", "-h", "/etc"];
    let server = host.spawn_outside(server);
    wait_for("the other machine to answer", 60, || {
        let listening = host.outside(["ss", "-Hltn", "sport = 7000"]).text();
        (!listening.is_empty()).then_some(())
    });
    server
}

/// Whether a container reaches that. It asks for a file that is there: to what is not, the answer
/// comes before all of the question is read, and a reset after it that can overtake it.
fn reaches_out(machine: &Machine, name: &str) -> bool {
    let call = "exec 3<>/dev/tcp/192.0.2.2/7000 && printf 'GET /passwd HTTP/1.0\\r\\n\\r\\n' >&3 \
         && head -n 1 <&3";
    let words = format!("exec {name} timeout 20 bash -c");
    let words = words.split_whitespace().chain([call]);
    let out = machine.minidocker(&words.collect::<Vec<_>>());
    out.text().starts_with("HTTP/1.")
}

/// The IPv4 addresses of a container, by its links, without loopback.
#[track_caller]
fn addresses(machine: &Machine, name: &str) -> BTreeMap<String, String> {
    let links = inside(machine, name, "-4 addr");
    let links = links.as_array().expect("a list").iter();
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    links
        .map(|link| (text(&link["ifname"]), text(&link["addr_info"][0]["local"])))
        .filter(|(name, _)| name != "lo")
        .collect()
}

/// Where its default route leads: the gateway and the link.
#[track_caller]
fn way_out(machine: &Machine, name: &str) -> Option<(String, String)> {
    let routes = inside(machine, name, "-4 route show default");
    let all = routes.as_array().expect("a list");
    assert!(all.len() < 2, "{routes}");
    let route = all.first()?;
    let text = |key: &str| route[key].as_str().expect("a text").to_owned();
    Some((text("gateway"), text("dev")))
}

/// What its state says of its place in a network.
#[track_caller]
fn endpoint(machine: &Machine, name: &str, network: &str) -> Value {
    machine.container(name).state()["life"]["networks"][network].take()
}

/// To which address the host leads a port of TCP, whoever calls, as nf_tables have it.
fn published(host: &Host, port: u16) -> Vec<String> {
    let rules = host.shell("nft -j list table inet minidocker 2>/dev/null || echo '{}'");
    let rules: Value = serde_json::from_str(&rules).expect("JSON");
    let objects = rules["nftables"].as_array().cloned().unwrap_or_default();
    let maps = objects
        .iter()
        .filter(|object| object["map"]["name"] == "any");
    let elements = maps.flat_map(|map| map["map"]["elem"].as_array().cloned().unwrap_or_default());
    let leads = elements.filter(|element| element[0]["concat"][1] == port);
    leads
        .map(|element| {
            element[1]["concat"][0]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        })
        .collect()
}

/// A file of a container's: its text, and its inode, as it is mounted there.
#[track_caller]
fn file(machine: &Machine, name: &str, place: &str) -> (String, u64) {
    let pid = machine.container(name).init().pid;
    let path = machine.host().path(&format!("/proc/{pid}/root{place}"));
    let inode = std::fs::metadata(&path).expect("the file").ino();
    let text = std::fs::read_to_string(&path).expect("the file");
    (text, inode)
}

#[test]
fn a_container_is_in_several_networks_in_dockers_order() {
    for who in [Who::Root, Who::Student] {
        let machine = online(who);
        let far = afar(machine.host());
        for (name, options) in [
            ("west", "--subnet 172.30.1.0/24"),
            ("east", "--subnet 172.30.2.0/24 --gateway 172.30.2.99"),
            ("deep", "--subnet 172.30.3.0/24 --internal"),
        ] {
            machine.ok(&format!("network create {options} {name}"));
        }
        machine.ok(
            "run -d --name alpha --hostname box --network west --network name=east,ip=172.30.2.7 \
             --network deep host sleep 1000",
        );
        // The mode's network first, the others by name.
        let found = addresses(&machine, "alpha");
        let expected = [
            ("eth0", "172.30.1.2"),
            ("eth1", "172.30.3.2"),
            ("eth2", "172.30.2.7"),
        ];
        let expected = expected.map(|(link, address)| (link.to_owned(), address.to_owned()));
        assert_eq!(found, BTreeMap::from(expected));
        // None of them heeds a neighbour who calls itself a router.
        let heeds = "cat /proc/sys/net/ipv6/conf/eth*/accept_ra";
        assert_eq!(machine.ok(&["exec", "alpha", "sh", "-c", heeds]), "0\n0\n0");
        let leads = ("172.30.1.1".to_owned(), "eth0".to_owned());
        assert_eq!(way_out(&machine, "alpha"), Some(leads));
        for (network, link, leads) in [
            ("west", "eth0", true),
            ("deep", "eth1", false),
            ("east", "eth2", false),
        ] {
            let told = endpoint(&machine, "alpha", network);
            assert_eq!(told["interface"], link, "{told}");
            assert_eq!(told["address"], found[link].as_str(), "{told}");
            assert_eq!(told["leads_out"], leads, "{told}");
            let links = inside(&machine, "alpha", &format!("link show {link}"));
            assert_eq!(told["mac"], links[0]["address"], "{told}");
        }
        assert_eq!(
            endpoint(&machine, "alpha", "east")["gateway"],
            "172.30.2.99"
        );
        // A line for each address, and a resolver that knows its neighbours.
        let (hosts, _) = file(&machine, "alpha", "/etc/hosts");
        for address in found.values() {
            assert!(hosts.contains(&format!("\n{address}\tbox\n")), "{hosts}");
        }
        let (resolv, _) = file(&machine, "alpha", "/etc/resolv.conf");
        assert!(resolv.starts_with("nameserver 127.0.0.11\n"), "{resolv}");
        assert!(resolv.contains("ndots:0"), "{resolv}");
        assert!(reaches_out(&machine, "alpha"));
        // One that leads nowhere first: the next one leads out.
        machine.ok("run -d --name beta --network deep --network west host sleep 1000");
        let way = way_out(&machine, "beta").expect("a way out");
        assert_eq!(way, ("172.30.1.1".to_owned(), "eth1".to_owned()));
        assert!(reaches_out(&machine, "beta"));
        // Whose second network refuses it gets nothing of the first.
        let taken = "run --name gamma --network west --network name=east,ip=172.30.2.7 host true";
        let said = machine.fails(125, taken);
        assert!(said.contains("Address already in use"), "{said}");
        machine.ok("rm gamma");
        machine.ok("run -d --name gamma --network west host sleep 1000");
        assert_eq!(addresses(&machine, "gamma")["eth0"], "172.30.1.4");
        drop(far);
        done(&machine);
    }
}

#[test]
fn a_container_joins_and_leaves_networks_while_it_runs() {
    let machine = online(Who::Root);
    let host = machine.host();
    let far = afar(host);
    machine.ok("network create --subnet 172.30.1.0/24 west");
    machine.ok("network create --subnet 172.30.2.0/24 east");
    serve(
        &machine,
        "--name alpha --hostname web --restart always -p 8080:80",
    );
    let first = file(&machine, "alpha", "/etc/hosts").1;
    let (resolv, second) = file(&machine, "alpha", "/etc/resolv.conf");
    assert!(!resolv.contains("127.0.0.11"), "{resolv}");
    machine.ok(&shell("exec alpha", "echo 6.6.6.6 mine >>/etc/hosts"));
    let old = addresses(&machine, "alpha")["eth0"].clone();
    assert_eq!(published(host, 8080), std::slice::from_ref(&old));

    machine.ok("network connect --ip 172.30.1.9 west alpha");
    assert_eq!(addresses(&machine, "alpha")["eth1"], "172.30.1.9");
    assert_eq!(way_out(&machine, "alpha").expect("a way").1, "eth0");
    let (hosts, inode) = file(&machine, "alpha", "/etc/hosts");
    assert_eq!(inode, first, "it is the file that was mounted");
    assert!(hosts.contains("6.6.6.6 mine\n"), "{hosts}");
    assert!(hosts.ends_with("\n172.30.1.9\tweb\n"), "{hosts}");
    let (now, inode) = file(&machine, "alpha", "/etc/resolv.conf");
    assert!(
        inode == second && now.starts_with("nameserver 127.0.0.11\n"),
        "{now}"
    );
    let links = host.shell("ip -j link show type bridge");
    assert_eq!(links.matches("\"mini").count(), 2, "{links}");
    let said = machine.fails(1, "network connect west alpha");
    assert!(said.contains("already exists in network west"), "{said}");
    machine.fails(1, "network connect --ip 172.30.2.77 west alpha");
    let said = machine.fails(1, "network connect nowhere alpha");
    assert!(said.contains("nowhere"), "{said}");
    let neighbour = "run --rm --network west host ping -c 1 -W 20 172.30.1.9";
    machine.ok(neighbour);

    // What leads out, and the ports, are the next one's when the first is left.
    machine.ok("network connect east alpha");
    machine.ok("network disconnect bridge alpha");
    let found = addresses(&machine, "alpha");
    assert_eq!(found.keys().collect::<Vec<_>>(), ["eth1", "eth2"]);
    let way = way_out(&machine, "alpha").expect("a way out");
    assert_eq!(way, ("172.30.1.1".to_owned(), "eth1".to_owned()));
    assert_eq!(published(host, 8080), ["172.30.1.9"]);
    for url in ["http://127.0.0.1:8080/", "http://[::1]:8080/"] {
        assert_eq!(fetch(host, url), "hello-from-web", "{url}");
    }
    let (hosts, _) = file(&machine, "alpha", "/etc/hosts");
    assert!(
        !hosts.contains(&old) && hosts.contains("6.6.6.6 mine\n"),
        "{hosts}"
    );
    assert!(reaches_out(&machine, "alpha"));
    let said = machine.fails(1, "network disconnect bridge alpha");
    assert!(
        said.contains("is not connected to network bridge"),
        "{said}"
    );

    // Its policy starts it again where it is now.
    let before = machine.container("alpha").init().pid;
    host.shell(&format!("kill -9 {before}"));
    wait_for("the container to run again", 60, || {
        let alpha = machine.container("alpha");
        (alpha.status() == "running" && alpha.init().pid != before).then_some(())
    });
    let found = addresses(&machine, "alpha");
    assert_eq!(found.keys().collect::<Vec<_>>(), ["eth0", "eth1"]);
    assert_eq!(published(host, 8080).len(), 1);

    // Out of all of them, and into one.
    machine.ok("network disconnect west alpha");
    machine.ok("network disconnect east alpha");
    assert!(addresses(&machine, "alpha").is_empty() && way_out(&machine, "alpha").is_none());
    assert_eq!(machine.ok("port alpha"), "");
    assert_eq!(host.shell("ss -Hltn sport = 8080; nft list tables"), "");
    let (resolv, _) = file(&machine, "alpha", "/etc/resolv.conf");
    assert!(!resolv.contains("127.0.0.11"), "{resolv}");
    machine.ok("network connect east alpha");
    let place = addresses(&machine, "alpha")["eth0"].clone();
    assert_eq!(published(host, 8080), [place]);
    assert!(reaches_out(&machine, "alpha"));
    wait_for("the port to be answered", 60, || {
        let out = host.run(CURL.iter().chain(&["http://127.0.0.1:8080/"]));
        (out.text() == "hello-from-web").then_some(())
    });
    // And of one that does not run it is written down for the next time.
    machine.ok("stop -t 0 alpha");
    machine.ok("network connect west alpha");
    machine.ok("network disconnect east alpha");
    machine.ok("start alpha");
    assert_eq!(addresses(&machine, "alpha")["eth0"], "172.30.1.2");
    let events = machine.ok("events --since 10m --until 0s --filter type=network");
    for action in ["connect", "disconnect"] {
        assert!(events.contains(&format!("network {action} ")), "{events}");
    }
    drop(far);
    done(&machine);
}

#[test]
fn a_port_is_answered_from_everywhere_whatever_network_it_leads_to() {
    let machine = online(Who::Root);
    let host = machine.host();
    machine.ok("network create west");
    machine.ok("network create east");
    machine.ok("network create --internal deep");
    let far = afar(host);
    serve(
        &machine,
        "--name alpha --hostname web --network west -p 8080:80 -p 127.0.0.2:8081:80 -p [::1]:8082:80",
    );
    for url in [
        "http://127.0.0.1:8080/",
        "http://192.0.2.1:8080/",
        "http://[::1]:8080/",
        "http://127.0.0.2:8081/",
        "http://[::1]:8082/",
    ] {
        assert_eq!(fetch(host, url), "hello-from-web", "{url}");
    }
    let words = CURL.iter().chain(&["http://192.0.2.1:8080/"]);
    assert_eq!(host.outside(words).ok(), "hello-from-web");
    for url in [
        "http://127.0.0.1:8081/",
        "http://127.0.0.1:8082/",
        "http://[::1]:8081/",
    ] {
        let refused = host.run(CURL.iter().chain(&[url]));
        assert_ne!(refused.code(), 0, "{url}: {refused}");
    }
    let call = get("192.0.2.1", 8080);
    for options in [
        "exec alpha",
        "run --rm --network east host",
        "run --rm --network west host",
    ] {
        assert_eq!(
            machine.ok(&shell(options, &call)),
            "hello-from-web",
            "{options}"
        );
    }
    // From another network only by the published port; from an internal one not even so.
    let address = addresses(&machine, "alpha")["eth0"].clone();
    let apart = get_within(1, &address, 80);
    assert_eq!(
        machine.ok(&shell("run --rm --network east host", &apart)),
        ""
    );
    assert_eq!(
        machine.ok(&shell("run --rm --network deep host", &apart)),
        ""
    );
    // Where nothing leads out, nothing leads in.
    serve(
        &machine,
        "--name beta --hostname inner --network deep -p 8090:80",
    );
    assert_eq!(machine.ok("port beta"), "");
    let inner = format!("http://{}/", addresses(&machine, "beta")["eth0"]);
    assert_eq!(
        fetch(host, &inner),
        "hello-from-inner",
        "the host reaches it"
    );
    assert!(!reaches_out(&machine, "beta"));
    drop(far);
    done(&machine);
}

#[test]
fn a_port_of_udp_is_answered_by_ipv4_and_ipv6() {
    let machine = online(Who::Root);
    let host = machine.host();
    let echo = "import socket\n\
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 53))\n\
        while True:\n    data, who = s.recvfrom(100); s.sendto(data.upper(), who)";
    machine.ok("run -d --name alpha -p 5300:53/udp host sleep 1000");
    let pid = machine.container("alpha").init().pid.to_string();
    let server = host.spawn(["nsenter", "-t", &pid, "-n", "python3", "-c", echo]);
    for (family, address) in [
        ("INET", "127.0.0.1"),
        ("INET", "192.0.2.1"),
        ("INET6", "::1"),
    ] {
        let call = format!(
            "import socket\n\
             s = socket.socket(socket.AF_{family}, socket.SOCK_DGRAM); s.settimeout(0.3)\n\
             for n in range(200):\n    \
                 s.sendto(b'hello', ('{address}', 5300))\n    \
                 try: print(s.recv(100)); break\n    \
                 except OSError: pass"
        );
        assert_eq!(
            host.run(["python3", "-c", &call]).ok(),
            "b'HELLO'",
            "{address}"
        );
    }
    drop(server);
    assert_eq!(
        machine.ok("ps --format {{.Ports}}"),
        "0.0.0.0:5300->53/udp, [::]:5300->53/udp"
    );
    let format = "{{json .NetworkSettings.Ports}}";
    assert_eq!(
        machine.ok(&["inspect", "--format", format, "alpha"]),
        r#"{"53/udp":[{"HostIp":"0.0.0.0","HostPort":"5300"},{"HostIp":"::","HostPort":"5300"}]}"#
    );
    done(&machine);
}

#[test]
fn a_port_is_one_containers_in_every_protocol_and_family() {
    let machine = online(Who::Root);
    let host = machine.host();
    machine.ok("network create west");
    machine.ok("run -d --name alpha --network west -p 8080:80 -p 5300:53/udp host sleep 1000");
    let before = host.snapshot();
    let taken = "port is already allocated";
    for (options, words) in [
        ("-p 8080:80", taken),
        ("-p 127.0.0.1:8080:80", taken),
        ("-p [::]:8080:80", taken),
        ("-p [::1]:8080:80", taken),
        ("-p 5300:1/udp", taken),
        ("-p 9000:80 -p 9000:81", taken),
        ("-p 9000:80 -p 127.0.0.1:9000:81", taken),
        (
            "-p 192.0.2.77:9000:80",
            "no interface of this host has that address",
        ),
    ] {
        let said = machine.fails(125, &format!("run --rm {options} host true"));
        assert!(said.contains(words), "{options}: {said}");
    }
    for socket in [
        "socket.AF_INET6, socket.SOCK_STREAM); s.bind(('::1', 9001)); s.listen",
        "socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 9001)); str",
    ] {
        let script = format!("import socket, time\ns = socket.socket({socket}()\ntime.sleep(100)");
        let taken = host.spawn(["python3", "-c", &script]);
        wait_for("the port to be taken", 60, || {
            let there = host.run(["ss", "-Hltun", "sport = 9001"]).text();
            (!there.is_empty()).then_some(())
        });
        let said = machine.fails(125, "run --rm -p 9001:80 -p 9001:80/udp host true");
        assert!(
            said.contains("9001") && said.contains("a program of this host"),
            "{said}"
        );
        drop(taken);
    }
    // The same wish twice is one; other addresses, and the other protocol, are free.
    machine.ok("run --rm -p 8081:80 -p 8081:80 -p 8080:80/udp host true");
    machine.ok("run --rm -p 127.0.0.1:8081:80 -p 127.0.0.2:8081:81 -p [::1]:8081:82 host true");
    harness::assert_same(&before, || host.snapshot());
    done(&machine);
}

#[test]
fn a_container_publishes_thousands_of_ports() {
    let machine = online(Who::Root);
    let host = machine.host();
    let options = "run -d --name alpha --hostname web -p 8000-13499:80-5579";
    machine
        .script(&format!(
            "ulimit -Sn 1024; minidocker {options} host sh -c '{SERVER}'"
        ))
        .ok();
    machine.ok(&shell("exec alpha", LISTENS));
    for url in ["http://127.0.0.1:8000/", "http://[::1]:8000/"] {
        assert_eq!(fetch(host, url), "hello-from-web", "{url}");
    }
    let shown = "0.0.0.0:8000->80/tcp, [::]:8000->80/tcp, 0.0.0.0:8001->81/tcp, ";
    let ports = machine.ok("ps --format {{.Ports}}");
    assert!(ports.starts_with(shown), "{ports}");
    // For so many the shim itself may open more files; the container's limit is nobody else's.
    let limit = "grep '^Max open files' /proc/self/limits";
    let limits = machine.ok(&shell("exec alpha", &format!("{limit} /proc/1/limits")));
    let soft = |line: &str| line.split_whitespace().nth(3).map(str::to_owned);
    let soft: Vec<_> = limits.lines().map(soft).collect();
    assert_eq!(soft, [Some("1024".to_owned()), Some("1024".to_owned())]);
    let asked = "run --rm --ulimit nofile=99:100 -p 14000-14199:80-279 host";
    assert_eq!(
        machine.ok(&shell(asked, "ulimit -Sn; ulimit -Hn")),
        "99\n100"
    );
    let many = "ulimit -n 1000; minidocker run --rm -p 20000-20999:1-1000 host true";
    let said = machine.script(many).exits(125);
    assert!(
        said.contains("1000 published ports") && said.contains("ulimit -Hn"),
        "{said}"
    );
    done(&machine);
}

#[test]
fn a_low_port_takes_root_or_a_switch_that_is_named() {
    let machine = online(Who::Student);
    let said = machine.fails(125, "run --rm -p 80:80 host true");
    assert!(
        said.contains("net.ipv4.ip_unprivileged_port_start"),
        "{said}"
    );
    done(&machine);
}

#[test]
fn a_pod_shares_the_network_and_the_names_of_its_first() {
    for who in [Who::Root, Who::Student] {
        let machine = online(who);
        machine.ok("network create west");
        serve(&machine, "--name alpha --hostname web --network west");
        machine.ok("run -d --name beta --network container:alpha host sleep 1000");
        // Whoever joins one that has joined is in the first one's.
        let script = format!(
            "readlink /proc/self/ns/net; hostname; cat /etc/hosts /etc/resolv.conf; {}",
            get("127.0.0.1", 80)
        );
        let first = machine.ok(&shell("exec alpha", &script));
        assert!(
            first.contains("\nweb\n") && first.contains("127.0.0.11"),
            "{first}"
        );
        assert_eq!(machine.ok(&shell("exec beta", &script)), first);
        let third = "run --rm --network container:beta host";
        assert_eq!(machine.ok(&shell(third, &script)), first);
        let said = machine.fails(1, "network connect bridge beta");
        assert!(
            said.contains("sharing network namespace with another container"),
            "{said}"
        );
        // What one of them joins all are in.
        machine.ok("network create east");
        machine.ok("network connect east alpha");
        let (hosts, _) = file(&machine, "beta", "/etc/hosts");
        assert!(
            hosts.contains(&addresses(&machine, "beta")["eth1"]),
            "{hosts}"
        );
        // Who stays when the first is started again stays where it was.
        let old = machine.container("beta").namespace("net");
        machine.ok("restart -t 0 alpha");
        assert_eq!(machine.container("beta").namespace("net"), old);
        assert_ne!(machine.container("alpha").namespace("net"), old);
        machine.ok("restart -t 0 beta");
        let now = machine.container("alpha").namespace("net");
        assert_eq!(machine.container("beta").namespace("net"), now);
        machine.ok("stop -t 0 alpha beta");
        let said = machine.fails(1, "start beta");
        assert!(
            said.contains("not running") || said.contains("non running"),
            "{said}"
        );
        machine.ok("start alpha");
        machine.ok("start beta");
        done(&machine);
    }
}

#[test]
fn what_a_killed_shim_leaves_in_any_network_goes_with_the_next_command() {
    let machine = online(Who::Root);
    let host = machine.host();
    machine.ok("network create west");
    machine.ok("network create east");
    machine.ok("run -d --name other --network east -p 8081:80 host sleep 1000");
    let links = "ip -o link | grep -oE 'mini-[0-9a-f]+|mini0|veth[0-9a-f]{8}' | sort -u";
    let before = host.shell(links);
    machine.ok("run -d --name alpha --network west --network east -p 8080:80 host sleep 1000");
    machine.ok("network connect bridge alpha");
    assert_ne!(host.shell(links), before);
    let alpha = machine.container("alpha");
    alpha.kill_shim();
    machine.ok("ps");
    assert_eq!(host.shell(links), before);
    assert_eq!(
        (published(host, 8080).len(), published(host, 8081).len()),
        (0, 1)
    );
    // A network's file that nobody can read is told of, and removed.
    let id = machine.ok("network create north");
    let file = machine.data().join(format!("networks/{}.json", id.trim()));
    std::fs::write(&file, "{").expect("damage the file");
    let said = machine.minidocker("system check --dry-run");
    said.exits(1);
    assert!(said.text().contains("is damaged"), "{said}");
    machine.ok("system check");
    assert!(!file.exists());
    done(&machine);
}
