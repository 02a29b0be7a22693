//! The network of the engine's containers, for root: addresses, ports, names, other networks, and
//! what is left when a shim is killed. Without root: `containers_rootless`.

use std::collections::BTreeSet;
use std::time::Duration;

use harness::engine::{Machine, Wanted, shell};
use harness::{Host, Running, assert_same, wait_for};

/// Root's machine, with a network behind it.
fn online() -> Machine {
    Machine::with(Wanted {
        outside: true,
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
fn serve(machine: &Machine, options: &str) -> String {
    let id = machine.ok(&shell(&format!("run -d {options} host"), SERVER));
    machine.ok(&shell(&format!("exec {id}"), LISTENS));
    id
}

const CURL: [&str; 8] = [
    "curl",
    "-sS",
    "--noproxy",
    "*",
    "--retry-connrefused",
    "--retry",
    "5",
    "-m20",
];

/// Fetches from the machine's own network, its loopback included.
#[track_caller]
fn fetch(host: &Host, url: &str) -> String {
    host.run(CURL.iter().chain([&url])).ok()
}

#[track_caller]
fn fetch_outside(host: &Host, url: &str) -> String {
    host.outside(CURL.iter().chain([&url])).ok()
}

/// A shell's way to fetch the page, inside: its last line.
fn get(address: &str, port: u16) -> String {
    format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | busybox nc -w 20 {address} {port} | tail -n 1")
}

/// A program of the machine's that listens on a port.
#[track_caller]
fn occupy(host: &Host, port: u16) -> Running {
    let running = host.spawn(["busybox", "nc", "-l", "-p", &port.to_string()]);
    wait_for("the port to be taken", 60, || {
        let listening = host.run(["ss", "-Hltn", &format!("sport = {port}")]).text();
        (!listening.is_empty()).then_some(())
    });
    running
}

/// What the container's state says of its place in the default network.
#[track_caller]
fn network(machine: &Machine, name: &str) -> serde_json::Value {
    machine.container(name).state()["life"]["networks"]["bridge"].take()
}

#[track_caller]
fn address(machine: &Machine, name: &str) -> String {
    let network = network(machine, name);
    let address = network["address"].as_str();
    address.expect("the container has an address").to_owned()
}

/// The leases that are there, by their addresses.
fn leases(machine: &Machine) -> BTreeSet<String> {
    let leases = std::fs::read_dir(machine.run().join("network/mini0/leases"));
    let leases = leases.into_iter().flatten().flatten();
    leases
        .filter_map(|lease| lease.file_name().into_string().ok())
        .collect()
}

/// Links of minidocker's in the machine's network, its table, and what that publishes where.
fn links_and_tables(machine: &Machine) -> String {
    machine
        .host()
        .shell("ip -o link | grep -oE 'mini0|veth[0-9a-f]{8}' | sort -u; nft list ruleset | grep -oE 'table inet minidocker|(tcp|udp) . [0-9]+ : [0-9.]+' || :")
}

#[test]
fn a_container_has_an_address_and_everybody_says_the_same_of_it() {
    let machine = online();
    machine.ok("run -d --name alpha host sleep 1000");
    let told = network(&machine, "alpha");
    let address = address(&machine, "alpha");
    let inside = machine.ok(&shell(
        "exec alpha",
        "ip -4 -o addr show dev eth0; ip route",
    ));
    assert!(
        inside.contains(&format!("inet {address}/{}", told["prefix"])),
        "{inside}"
    );
    let gateway = told["gateway"].as_str().expect("a gateway");
    assert!(
        inside.contains(&format!("default via {gateway} dev eth0")),
        "{inside}"
    );
    let mac = machine.ok("exec alpha cat /sys/class/net/eth0/address");
    assert_eq!(told["mac"], mac.as_str());
    let bridge = machine.host().shell("ip -4 -o addr show dev mini0");
    assert!(bridge.contains(&format!("inet {gateway}/")), "{bridge}");
    assert_eq!(leases(&machine), BTreeSet::from([address.clone()]));
    let format = "{{.NetworkSettings.IPAddress}} {{.NetworkSettings.Gateway}}";
    let inspected = machine.ok(&["inspect", "--format", format, "alpha"]);
    assert_eq!(inspected, format!("{address} {gateway}"));
    // Loopback is up as well.
    machine.ok("exec alpha ping -c 1 -W 20 127.0.0.1");
    machine.ok("stop -t 0 alpha");
    assert!(network(&machine, "alpha")["address"].is_null());
    assert!(leases(&machine).is_empty());
    assert_eq!(links_and_tables(&machine), "");
    machine.nothing_left();
}

#[test]
fn containers_reach_each_other_the_host_and_the_outside() {
    let machine = online();
    serve(&machine, "--name alpha --hostname web");
    let url = format!("http://{}/", address(&machine, "alpha"));
    assert_eq!(fetch(machine.host(), &url), "hello-from-web");
    let get = get(&address(&machine, "alpha"), 80);
    assert_eq!(machine.ok(&shell("run --rm host", &get)), "hello-from-web");
    for target in ["192.0.2.1", "192.0.2.2"] {
        machine.ok(&format!("run --rm host ping -c 1 -W 20 {target}"));
    }
    machine.nothing_left();
}

#[test]
fn a_container_finds_names_in_files_of_its_own() {
    let machine = online();
    let files = "cat /etc/hostname; echo --; cat /etc/hosts; echo --; cat /etc/resolv.conf";
    machine.ok("run -d --name alpha --hostname box --domainname example.org host sleep 1000");
    let text = machine.ok(&shell("exec alpha", files));
    let parts: Vec<&str> = text.split("--\n").collect();
    assert_eq!(parts[0], "box\n");
    let own = format!("{}\tbox.example.org box\n", address(&machine, "alpha"));
    assert!(
        parts[1].starts_with("127.0.0.1\tlocalhost\n") && parts[1].ends_with(&own),
        "{text}"
    );
    assert_eq!(parts[2], "nameserver 192.0.2.2");

    let asked = "--dns 192.0.2.53 --dns 192.0.2.54 --dns-search lan --dns-search example.org \
        --dns-option ndots:2 --add-host far:198.51.100.7 --add-host here:host-gateway";
    let words = format!("run --rm {asked} host");
    let text = machine.ok(&shell(&words, files));
    let resolv =
        "nameserver 192.0.2.53\nnameserver 192.0.2.54\nsearch lan example.org\noptions ndots:2";
    assert!(text.ends_with(resolv), "{text}");
    assert!(text.contains("\n198.51.100.7\tfar\n"), "{text}");
    let bridge = machine.host().shell("ip -4 -o addr show dev mini0");
    let gateway = bridge
        .split_whitespace()
        .find_map(|word| word.strip_suffix("/16"));
    let here = format!("\n{}\there\n", gateway.expect("the gateway"));
    assert!(text.contains(&here), "{text}");
    // What it writes there stays there.
    let before = machine.host().shell("cat /etc/hosts /etc/resolv.conf");
    machine.ok(&shell(
        "exec alpha",
        "echo 6.6.6.6 x >>/etc/hosts; echo nameserver 6.6.6.6 >/etc/resolv.conf",
    ));
    assert_eq!(
        machine.host().shell("cat /etc/hosts /etc/resolv.conf"),
        before
    );
    machine.nothing_left();
}

#[test]
fn a_resolver_on_the_hosts_loopback_is_not_given_to_a_container() {
    let machine = online();
    machine.host().shell(
        "printf 'nameserver 127.0.0.53\\noptions edns0\\nsearch lan\\n' >/etc/resolv.conf; \
         mkdir -p /run/systemd/resolve; echo nameserver 192.0.2.99 >/run/systemd/resolve/resolv.conf",
    );
    let resolv = machine.ok("run --rm host cat /etc/resolv.conf");
    assert_eq!(resolv, "nameserver 192.0.2.99\noptions edns0\nsearch lan");
    // In the host's network it can be reached.
    let resolv = machine.ok("run --rm --network host host cat /etc/resolv.conf");
    assert!(resolv.starts_with("nameserver 127.0.0.53\n"), "{resolv}");
    machine.host().shell("rm -r /run/systemd");
}

#[test]
fn a_published_port_answers_from_everywhere() {
    let machine = online();
    let host = machine.host();
    serve(&machine, "--name alpha --hostname web -p 8080:80");
    for url in ["http://192.0.2.1:8080/", "http://127.0.0.1:8080/"] {
        assert_eq!(fetch(host, url), "hello-from-web", "{url}");
    }
    assert_eq!(
        fetch_outside(host, "http://192.0.2.1:8080/"),
        "hello-from-web"
    );
    let get = get("192.0.2.1", 8080);
    assert_eq!(machine.ok(&shell("run --rm host", &get)), "hello-from-web");
    assert_eq!(machine.ok(&shell("exec alpha", &get)), "hello-from-web");
    assert_eq!(
        machine.ok("port alpha"),
        "80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080"
    );
    assert_eq!(machine.ok("port alpha 80"), "0.0.0.0:8080\n[::]:8080");
    assert_eq!(machine.ok("port alpha 80/tcp"), "0.0.0.0:8080\n[::]:8080");
    machine.fails(1, "port alpha 81");
    // The same ports after a restart, and nobody's when it has ended.
    machine.ok("restart -t 0 alpha");
    assert_eq!(fetch(host, "http://127.0.0.1:8080/"), "hello-from-web");
    machine.ok("stop -t 0 alpha");
    assert_eq!(machine.ok("port alpha"), "");
    drop(occupy(host, 8080));
    machine.nothing_left();
}

#[test]
fn a_port_published_on_one_address_answers_there_alone() {
    let machine = online();
    serve(&machine, "--name alpha --hostname web -p 127.0.0.1:8080:80");
    let host = machine.host();
    assert_eq!(fetch(host, "http://127.0.0.1:8080/"), "hello-from-web");
    let refused = [
        "curl",
        "-s",
        "--noproxy",
        "*",
        "-m2",
        "http://192.0.2.1:8080/",
    ];
    assert_ne!(host.outside(refused).code(), 0);
    assert_eq!(machine.ok("port alpha"), "80/tcp -> 127.0.0.1:8080");
    machine.nothing_left();
}

#[test]
fn ports_are_picked_where_none_is_named() {
    let machine = online();
    let host = machine.host();
    serve(
        &machine,
        "--name alpha --hostname web -p 80 -p 53/udp -P --expose 90-91",
    );
    let listed = machine.ok("port alpha");
    let (six, four): (Vec<&str>, Vec<&str>) =
        listed.lines().partition(|line| line.contains("[::]"));
    let lines: Vec<(&str, u16)> = four
        .iter()
        .map(|line| {
            let (port, place) = line.split_once(" -> 0.0.0.0:").expect("a place");
            (port, place.parse().expect("a port"))
        })
        .collect();
    // The same in IPv6.
    let same = four.iter().map(|line| line.replace("0.0.0.0", "[::]"));
    assert_eq!(six, same.collect::<Vec<_>>());
    let ports: Vec<&str> = lines.iter().map(|(port, _)| *port).collect();
    assert_eq!(ports, ["53/udp", "80/tcp", "90/tcp", "91/tcp"], "{listed}");
    let picked: BTreeSet<u16> = lines.iter().map(|(_, picked)| *picked).collect();
    assert_eq!(picked.len(), 4, "{listed}");
    assert!(picked.iter().all(|port| *port >= 32768), "{listed}");
    let url = format!("http://127.0.0.1:{}/", lines[1].1);
    assert_eq!(fetch(host, &url), "hello-from-web");
    // Of a range, the first that is free.
    let taken = occupy(host, 8000);
    serve(&machine, "--name beta -p 8000-8002:80");
    serve(&machine, "--name gamma -p 8000-8002:80");
    assert_eq!(machine.ok("port beta 80"), "0.0.0.0:8001\n[::]:8001");
    assert_eq!(machine.ok("port gamma 80"), "0.0.0.0:8002\n[::]:8002");
    let said = machine.fails(125, "run --rm -p 8000-8002:80 host true");
    assert!(said.contains("8000-8002"), "{said}");
    drop(taken);
    // A range for a range.
    serve(&machine, "--name delta -p 8010-8011:80-81");
    assert_eq!(
        machine.ok("port delta"),
        "80/tcp -> 0.0.0.0:8010\n80/tcp -> [::]:8010\n\
         81/tcp -> 0.0.0.0:8011\n81/tcp -> [::]:8011"
    );
    machine.nothing_left();
}

#[test]
fn a_port_that_is_taken_is_an_error_before_anything_starts() {
    let machine = online();
    let host = machine.host();
    let first = serve(&machine, "--name alpha --hostname web -p 8080:80");
    let before = host.snapshot();
    let said = machine.fails(125, "run --rm -p 8080:80 host touch /tmp/ran");
    assert!(
        said.contains("8080") && said.contains("already allocated"),
        "{said}"
    );
    assert!(said.contains(&first[..12]), "it names who has it: {said}");
    assert_same(&before, || host.snapshot());
    assert_eq!(fetch(host, "http://127.0.0.1:8080/"), "hello-from-web");

    let taken = occupy(host, 8090);
    let said = machine.fails(125, "run -d --name beta -p 8090:80 host true");
    assert!(said.contains("8090"), "{said}");
    drop(taken);
    // It is there, as one that has never run, and can be started now.
    assert_eq!(machine.container("beta").status(), "created");
    assert_eq!(leases(&machine).len(), 1);
    machine.ok("start beta");
    machine.nothing_left();
}

#[test]
fn what_is_no_port_is_a_usage_error() {
    let machine = Machine::with(Wanted::default());
    for (option, words) in [
        ("-p=x", "Invalid containerPort: x"),
        ("-p=80:99999", "Invalid containerPort: 99999"),
        ("-p=99999:80", "Invalid hostPort: 99999"),
        ("-p=1.2.3:80:80", "Invalid ip address: 1.2.3"),
        ("-p=80:80/icmp", "Invalid proto: icmp"),
        ("-p=80:80/sctp", "SCTP"),
        ("-p=[::1:80:80", "Invalid ip address: [::1"),
        (
            "-p=1-3:80-81",
            "Invalid ranges specified for container and host Ports",
        ),
        ("--expose=x", "--expose"),
        ("--network=nowhere", "nowhere"),
        ("--add-host=x", "add-host"),
        ("--dns=x", "ip address"),
    ] {
        let said = machine.fails(125, &["run", "--rm", option, "host", "true"]);
        assert!(said.contains(words), "{option}: {said}");
    }
    machine.nothing_left();
}

#[test]
fn network_none_is_loopback_alone_and_host_is_the_hosts() {
    let machine = online();
    let links = machine.ok("run --rm --network none host ip -o link");
    assert_eq!(links.lines().count(), 1, "{links}");
    assert!(links.contains("lo:") && links.contains("UP"), "{links}");
    let own = machine
        .host()
        .shell("readlink /proc/1/ns/net; hostname; cat /etc/hosts");
    let script = "readlink /proc/self/ns/net; hostname; cat /etc/hosts";
    let shared = machine.ok(&shell("run --rm --network host host", script));
    assert_eq!(shared, own);
    machine.nothing_left();
}

#[test]
fn a_container_shares_the_network_of_another() {
    let machine = online();
    serve(&machine, "--name alpha --hostname web -p 8080:80");
    let script = format!(
        "readlink /proc/self/ns/net; hostname; cat /etc/hosts; {}",
        get("127.0.0.1", 80)
    );
    let shared = machine.ok(&shell("run --rm --network container:alpha host", &script));
    let other = machine.ok(&shell(
        "exec alpha",
        "readlink /proc/self/ns/net; hostname; cat /etc/hosts",
    ));
    assert_eq!(shared, format!("{other}\nhello-from-web"));
    assert_eq!(leases(&machine).len(), 1);
    machine.ok("stop -t 0 alpha");
    let said = machine.fails(125, "run --rm --network container:alpha host true");
    let words = "cannot join network of a non running container: alpha";
    assert!(said.contains(words), "{said}");
    machine.fails(125, "run --rm --network container:nobody host true");
    machine.nothing_left();
}

#[test]
fn an_address_is_free_again_when_its_container_has_ended() {
    let machine = online();
    for end in ["stop -t 0 alpha", "kill alpha", "rm -f alpha"] {
        machine.ok("run -d --rm --name alpha host sleep 1000");
        assert_eq!(leases(&machine).len(), 1, "{end}");
        machine.ok(end);
        wait_for("the container to be gone", 60, || {
            machine.ids().is_empty().then_some(())
        });
        assert!(leases(&machine).is_empty(), "{end}");
        assert_eq!(links_and_tables(&machine), "", "{end}");
    }
    machine.nothing_left();
}

#[test]
fn what_a_killed_shim_leaves_the_next_command_removes() {
    let machine = online();
    let host = machine.host();
    serve(&machine, "--name beta --hostname other -p 8081:80");
    for next in ["ps", "run --rm host true", "start alpha", "rm -f alpha"] {
        serve(&machine, "--name alpha -p 8080:80 -p 9000:90/udp");
        let before = links_and_tables(&machine);
        let published = format!("tcp . 8080 : {}", address(&machine, "alpha"));
        assert!(before.contains(&published), "{before}");
        let a = machine.container("alpha");
        let init = a.init().pid;
        a.kill_shim();
        machine.ok(next);
        // Who starts another looks at none but that one, and at the network.
        if !next.starts_with("run") {
            wait_for(
                &format!("the container to end, too, after {next}"),
                60,
                || a.process(init).is_none().then_some(()),
            );
        }
        if next == "start alpha" {
            address(&machine, "alpha");
            assert_eq!(leases(&machine).len(), 2);
        } else {
            let left = links_and_tables(&machine);
            assert_eq!(
                leases(&machine),
                BTreeSet::from([address(&machine, "beta")])
            );
            assert_eq!(left.matches("veth").count(), 1, "{next}: {left}");
            assert_eq!(left.matches(" . ").count(), 1, "{next}: {left}");
        }
        // Nothing of all this is felt by another.
        assert_eq!(fetch(host, "http://127.0.0.1:8081/"), "hello-from-other");
        machine.minidocker("rm -f alpha");
    }
    machine.nothing_left();
}

#[test]
fn many_at_once_have_as_many_addresses_and_ports() {
    let machine = online();
    let all: Vec<Running> = (0..20)
        .map(|n| machine.spawn(&format!("run -d --name c{n} -p 80 host sleep 1000")))
        .collect();
    for one in all {
        one.wait().ok();
    }
    let mut addresses = BTreeSet::new();
    let mut ports = BTreeSet::new();
    for n in 0..20 {
        let name = format!("c{n}");
        addresses.insert(address(&machine, &name));
        ports.insert(machine.ok(&format!("port {name} 80")));
    }
    assert_eq!((addresses.len(), ports.len()), (20, 20));
    assert_eq!(leases(&machine), addresses);
    machine.nothing_left();
}

#[test]
fn the_steps_containers_and_the_engines_are_neighbours() {
    let machine = online();
    let host = machine.host();
    let script = format!("hostname web; {SERVER}");
    let step = host.spawn(["step04", "run", "-p", "8080:80", "sh", "-c", &script]);
    wait_for("the step's container to answer", 60, || {
        let words = [
            "curl",
            "-s",
            "--noproxy",
            "*",
            "-m1",
            "http://127.0.0.1:8080/",
        ];
        host.run(words).text().starts_with("hello").then_some(())
    });
    machine.ok("run -d --name alpha host sleep 1000");
    assert_eq!(leases(&machine).len(), 2);
    let said = machine.fails(125, "run --rm -p 8080:80 host true");
    assert!(said.contains("8080"), "{said}");
    machine.ok("rm -f alpha");
    // The bridge stays, for it is the step's as well.
    assert!(links_and_tables(&machine).contains("mini0"));
    machine.ok("run -d --name alpha host sleep 1000");
    step.kill_after(Duration::ZERO);
    wait_for("what it ran to end, too", 60, || {
        let all = machine.processes();
        (!all.iter().any(|it| it.line.starts_with("busybox httpd"))).then_some(())
    });
    machine.ok("exec alpha ping -c 1 -W 20 192.0.2.2");
    // The rest of what it left is for the step's next command to remove.
    host.run(["step04", "run", "true"]).ok();
    machine.nothing_left();
}
