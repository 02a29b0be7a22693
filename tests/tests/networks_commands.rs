//! `network`, and the flags of `run` that are about networks: what is made, said and refused, and
//! what the kernel then has.

use std::fs;

use harness::engine::{Machine, Who, for_each, shell};
use harness::wait_for;
use serde_json::Value;

/// What a template says of a thing.
#[track_caller]
fn inspect(machine: &Machine, template: &str, name: &str) -> String {
    machine.ok(&["inspect", "-f", template, name])
}

/// A network as `network inspect` shows it.
#[track_caller]
fn shown(machine: &Machine, name: &str) -> Value {
    let text = machine.ok(&format!("network inspect {name}"));
    let mut all: Value = serde_json::from_str(&text).expect("a document");
    all[0].take()
}

/// The names of the networks that people made.
#[track_caller]
fn custom(machine: &Machine) -> String {
    let names = machine.ok("network ls --filter type=custom --format {{.Name}}");
    names.lines().collect::<Vec<_>>().join(" ")
}

/// The machine's links, but for `lo`.
fn links(machine: &Machine) -> String {
    machine.host().shell(
        "ip -o link | cut -d' ' -f2 | cut -d@ -f1 | tr -d : | grep -vx -e lo -e outside | xargs",
    )
}

/// What a container's network namespace has for addresses: `eth0 10.1.0.2/24`.
fn addresses(machine: &Machine, name: &str) -> String {
    let pid = machine.container(name).state()["life"]["pid"].to_string();
    let script = "ip -4 -o addr | awk '$2 != \"lo\" { print $2, $4 }'";
    let words = ["nsenter", "-t", &pid, "-n", "sh", "-c", script];
    machine.host().run(words).ok()
}

#[test]
fn a_network_is_made_shown_and_removed_and_the_kernel_hears_nothing() {
    for_each(|machine| {
        let before = links(machine);
        let id = machine.ok(
            "network create --subnet 10.5.0.0/24 --ip-range 10.5.0.128/25 --gateway 10.5.0.9 \
             --internal --label kind=sweet --label plain back",
        );
        machine.ok("network create --ipv6 --attachable -d bridge front");
        machine.ok(
            "network create --ipv6 --subnet 10.6.0.0/16 --subnet fd00:6::/64 \
             -o com.docker.network.bridge.name=br-six six",
        );
        assert_eq!(links(machine), before);
        let file = machine.data().join(format!("networks/{id}.json"));
        let kept: Value = serde_json::from_slice(&fs::read(file).expect("a file")).expect("JSON");
        assert_eq!(kept["name"], "back");

        let short = &id[..12];
        let list = machine.ok("network ls");
        let mut lines = list
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        assert_eq!(
            lines.next().expect("a header"),
            ["NETWORK", "ID", "NAME", "DRIVER", "SCOPE"]
        );
        assert_eq!(
            lines.next().expect("a line"),
            [short, "back", "bridge", "local"]
        );
        let names: Vec<_> = lines.map(|line| line[1..3].join(" ")).collect();
        assert_eq!(
            names,
            [
                "bridge bridge",
                "front bridge",
                "host host",
                "none null",
                "six bridge"
            ]
        );
        for (filters, expected) in [
            ("-f label=kind=sweet", "back"),
            ("-f label=kind -f label=other", ""),
            ("-f type=builtin", "bridge host none"),
            ("-f driver=null -f driver=host", "host none"),
            ("-f name=^.r -f type=custom", "front"),
            ("-f dangling=1", "back front six"),
            ("-f scope=global", ""),
        ] {
            let names = machine.ok(&format!("network ls {filters} --format {{{{.Name}}}}"));
            assert_eq!(
                names.lines().collect::<Vec<_>>().join(" "),
                expected,
                "{filters}"
            );
        }
        assert_eq!(machine.ok(&format!("network ls -qf id={short}")), short);
        assert_eq!(machine.ok("network ls -qf name=back --no-trunc"), id);
        let columns = "{{.IPv6}} {{.Internal}} {{.Labels}} {{.Label \"kind\"}}";
        let back = machine.ok(&["network", "ls", "-f", "name=back", "--format", columns]);
        assert_eq!(back, "false true kind=sweet,plain= sweet");

        let back = shown(machine, short);
        assert_eq!(
            back["IPAM"]["Config"],
            serde_json::json!([
                { "Subnet": "10.5.0.0/24", "IPRange": "10.5.0.128/25", "Gateway": "10.5.0.9" }
            ])
        );
        assert_eq!(
            (&back["Internal"], &back["EnableIPv6"]),
            (&true.into(), &false.into())
        );
        assert_eq!(back["Containers"], serde_json::json!({}));
        let front = shown(machine, "front");
        let ula = format!("fd{}:", &front["Id"].as_str().expect("an id")[..2]);
        let six = front["IPAM"]["Config"][1]["Subnet"]
            .as_str()
            .expect("a subnet")
            .to_owned();
        assert!(six.starts_with(&ula) && six.ends_with("/64"), "{six}");
        assert_eq!(
            shown(machine, "six")["Options"]["com.docker.network.bridge.name"],
            "br-six"
        );
        let pools = "{{(index .IPAM.Config 0).Subnet}} {{.Driver}}";
        assert!(inspect(machine, pools, "bridge").ends_with(" bridge"));
        assert_eq!(
            machine.ok("inspect --type network -f {{.Driver}} none"),
            "null"
        );

        let said = machine.fails(1, "network rm front nope bridge");
        assert!(said.contains("network nope not found"), "{said}");
        assert!(
            said.contains("bridge is a pre-defined network and cannot be removed"),
            "{said}"
        );
        machine.ok("network rm -f front");
        machine.ok("network create -d bridge kept --label keep=");
        let pruned = machine.ok("network prune -f --filter label!=keep");
        assert_eq!(pruned, "Deleted Networks:\nback\nsix");
        assert_eq!(machine.ok("network prune -f --filter until=1h"), "");
        assert_eq!(custom(machine), "kept");
        assert!(
            machine
                .ok("system prune -f")
                .starts_with("Deleted Networks:\nkept\n")
        );
        let told =
            machine.ok("events --since 10m --until 0s --filter network=back --format {{.Action}}");
        assert_eq!(told, "create\ndestroy");
        machine.nothing_left();
    });
}

/// What `network create` is asked for, and what it says.
const REFUSED: [(&str, &str); 35] = [
    ("taken", "network with name taken already exists"),
    (
        "bridge",
        "operation is not permitted on predefined bridge network",
    ),
    (
        "host",
        "operation is not permitted on predefined host network",
    ),
    (
        "none",
        "operation is not permitted on predefined none network",
    ),
    (
        "default",
        "operation is not permitted on predefined default network",
    ),
    (".hidden", "invalid network name"),
    ("a/b", "invalid network name"),
    ("container:x", "invalid network name"),
    (
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        "it would be taken for an id",
    ),
    ("-d macvlan x", "plugin \"macvlan\" not found"),
    (
        "-d host x",
        "only one instance of \"host\" network is allowed",
    ),
    (
        "-o com.docker.network.bridge.name=br-taken x",
        "networks have same bridge name",
    ),
    (
        "-o com.docker.network.bridge.name=mini0 x",
        "conflicts with network bridge",
    ),
    (
        "-o com.docker.network.bridge.name=keeper x",
        "no bridge can be called keeper",
    ),
    (
        "-o com.docker.network.bridge.name=no/name x",
        "cannot name a bridge",
    ),
    (
        "--subnet 10.5.0.0/25 x",
        "Pool overlaps with other one on this address space",
    ),
    ("--subnet 10.0.0.0/8 x", "the network taken has 10.5.0.0/24"),
    (
        "--subnet 10.6.0.7/24 x",
        "invalid subnet 10.6.0.7/24: it should be 10.6.0.0/24",
    ),
    (
        "--subnet 10.6.0.0/30 x",
        "it is too small, /29 is the least",
    ),
    ("--subnet 0.0.0.0/0 x", "it is too large, /8 is the most"),
    (
        "--subnet 127.1.0.0/16 x",
        "these addresses are no machine's in a network",
    ),
    ("--subnet 10.6.0.0 x", "invalid CIDR address: 10.6.0.0"),
    ("--subnet fd00::/64 x", "ask for that with --ipv6"),
    (
        "--gateway 10.6.0.1 x",
        "every ip-range or gateway must have a corresponding subnet",
    ),
    (
        "--subnet 10.6.0.0/24 --gateway 10.7.0.1 x",
        "no matching subnet for gateway 10.7.0.1",
    ),
    (
        "--subnet 10.6.0.0/24 --gateway 10.6.0.255 x",
        "invalid gateway 10.6.0.255",
    ),
    (
        "--subnet 10.6.0.0/24 --aux-address one=10.7.0.9 x",
        "no matching subnet for aux-address 10.7.0.9",
    ),
    (
        "--subnet 10.6.0.0/24 --aux-address one=nobody x",
        "invalid aux-address address: nobody",
    ),
    (
        "-o com.docker.network.driver.mtu=67 x",
        "it can be 68 to 65535 here",
    ),
    (
        "--ipv6 -o com.docker.network.driver.mtu=1279 x",
        "it can be 1280 to 65535 here",
    ),
    (
        "-o com.docker.network.bridge.enable_icc=maybe x",
        "enable_icc=maybe: it can be true or false",
    ),
    (
        "-o com.docker.network.bridge.enable_ip_masquerade=false x",
        "enable_ip_masquerade=false is not supported",
    ),
    (
        "-o com.docker.network.bridge.host_binding_ipv4=x x",
        "host_binding_ipv4=x: it is no IPv4 address",
    ),
    (
        "-o nonsense=1 x",
        "the option nonsense is not supported: there are com.docker.",
    ),
    (
        "--subnet 10.6.0.0/24 --ip-range 10.6.0.0/16 x",
        "invalid ip-range 10.6.0.0/16: CIDR block is bigger than its parent subnet 10.6.0.0/24",
    ),
];

/// The addresses of one container's link, by the link, its size and what else `ip` says of it.
fn link_of(machine: &Machine, name: &str) -> Value {
    let pid = machine.container(name).state()["life"]["pid"].to_string();
    let words = [
        "nsenter", "-t", &pid, "-n", "ip", "-j", "addr", "show", "eth0",
    ];
    let links: Value = serde_json::from_str(&machine.host().run(words).ok()).expect("JSON");
    links[0].clone()
}

#[test]
fn dockers_options_of_a_bridge_are_what_the_kernel_has() {
    for who in [Who::Root, Who::Student] {
        let machine = Machine::of(who);
        machine.ok(
            "network create --ipv6 --attachable --scope local --subnet 10.6.0.0/24 \
             --subnet fd00:6::/64 --ip-range fd00:6::8000/113 --aux-address router=10.6.0.2 \
             --aux-address six=fd00:6::8000 -o com.docker.network.driver.mtu=1400 \
             -o com.docker.network.bridge.enable_icc=false \
             -o com.docker.network.bridge.enable_ip_masquerade=true \
             -o com.docker.network.bridge.host_binding_ipv4=127.0.0.1 apart",
        );
        let apart = shown(&machine, "apart");
        let config = &apart["IPAM"]["Config"];
        assert_eq!(config[0]["AuxiliaryAddresses"]["router"], "10.6.0.2");
        assert_eq!(config[1]["AuxiliaryAddresses"]["six"], "fd00:6::8000");
        assert_eq!(config[1]["IPRange"], "fd00:6::8000/113");
        assert_eq!(
            (&config[1]["Gateway"], &apart["Attachable"]),
            (&"fd00:6::1".into(), &true.into())
        );
        assert_eq!(apart["Options"]["com.docker.network.driver.mtu"], "1400");
        let mac = "02:00:5e:10:00:01";
        for (name, more) in [
            ("one", "--mac-address 02-00-5E-10-00-01 -p 8080:80"),
            ("two", "-p 8081:80"),
        ] {
            machine.ok(&shell(
                &format!("run -d --name {name} --network apart {more} host"),
                "mkdir /dev/shm/www && echo hello >/dev/shm/www/index.html \
                 && exec busybox httpd -f -p 80 -h /dev/shm/www",
            ));
        }
        let (one, two) = (link_of(&machine, "one"), link_of(&machine, "two"));
        assert_eq!((&one["mtu"], &two["mtu"]), (&1400.into(), &1400.into()));
        assert_eq!((&one["address"], &two["address"]).0, mac);
        assert_ne!(two["address"], mac);
        let all = one["addr_info"].to_string();
        assert!(
            all.contains("\"10.6.0.3\"") && all.contains("\"fd00:6::8001\""),
            "{all}"
        );
        assert!(
            all.contains("\"fe80::5eff:fe10:1\""),
            "made of the hardware address: {all}"
        );
        assert_eq!(
            inspect(
                &machine,
                "{{.NetworkSettings.Networks.apart.MacAddress}}",
                "one"
            ),
            mac
        );
        let said = machine.fails(125, "run --network apart --ip 10.6.0.2 host true");
        assert!(said.contains("Address already in use"), "{said}");

        // Nobody reaches a neighbour; everybody themselves and the gateway; and the ports are this
        // host's own, and nobody else's.
        for (asked, answered) in [("10.6.0.4", false), ("10.6.0.3", true), ("10.6.0.1", true)] {
            let patience = if answered { 20 } else { 1 };
            let ping = format!("exec one ping -c1 -W{patience} {asked}");
            let out = machine.minidocker(&ping);
            assert_eq!(out.code() == 0, answered, "{asked}: {out}");
        }
        assert_eq!(machine.ok("port two"), "80/tcp -> 127.0.0.1:8081");
        wait_for("the port to be answered", 60, || {
            let curl = [
                "curl",
                "-sS",
                "--noproxy",
                "*",
                "-m3",
                "http://127.0.0.1:8081/",
            ];
            (machine.host().run(curl).text() == "hello").then_some(())
        });

        // They stay so when somebody takes the cables away, or pulls them out.
        if who == Who::Root {
            for how in ["ip link del $it", "ip link set $it nomaster"] {
                machine.host().shell(&format!(
                    "for it in $(ip -br link | grep -o '^veth[0-9a-f]*'); do {how}; done"
                ));
                machine.ok("network reload");
                assert_eq!(link_of(&machine, "one")["address"], mac);
                assert_eq!(link_of(&machine, "two")["mtu"], 1400);
                let out = machine.minidocker("exec one ping -c1 -W1 10.6.0.4");
                assert_ne!(out.code(), 0, "{out}");
                machine.ok("exec one ping -c1 -W20 10.6.0.1");
            }
        }
        machine.no_container_left();
        machine.ok("network rm apart");
    }
    let machine = Machine::of(Who::Root);
    machine.ok("run --name aa --mac-address 02:00:5e:10:00:02 host true");
    for (asked, words) in [
        (
            "--mac-address nonsense",
            "nonsense is not a valid mac address",
        ),
        (
            "--mac-address 01:00:5e:10:00:02",
            "is not a valid mac address",
        ),
        (
            "--network host --mac-address 02:00:5e:10:00:02",
            "mac-address and the network mode",
        ),
        (
            "--network name=bridge,mac-address=02:00:5e:10:00:02 --mac-address 02:00:5e:10:00:02",
            "both --mac-address and per-network",
        ),
    ] {
        let said = machine.fails(125, &format!("run --rm {asked} host true"));
        assert!(said.contains(words), "{asked}: {said}");
    }
    machine.nothing_left();
}

#[test]
fn what_makes_no_sense_is_refused_in_dockers_words() {
    for_each(|machine| {
        machine.ok(
            "network create --subnet 10.5.0.0/24 -o com.docker.network.bridge.name=br-taken taken",
        );
        for (asked, words) in REFUSED {
            let said = machine.fails(1, &format!("network create {asked}"));
            assert!(said.contains(words), "{asked}: {said}");
        }
        for line in [
            "network create",
            "network create --no-such-flag x",
            "network connect x",
            "network rm",
        ] {
            machine.fails(125, line);
        }
        assert_eq!(custom(machine), "taken");

        machine.ok("create --name none --network none host sleep 1000");
        machine.ok("create --name host --network host host sleep 1000");
        machine.ok("create --name pod --network container:none host sleep 1000");
        machine.ok("create --name web host sleep 1000");
        machine.ok("network create plain");
        for (asked, words) in [
            (
                "connect taken none",
                "one of the networks in private (none) mode",
            ),
            (
                "connect none web",
                "one of the networks in private (none) mode",
            ),
            (
                "connect host web",
                "cannot be disconnected from host network or connected to host network",
            ),
            (
                "disconnect host host",
                "cannot be disconnected from host network",
            ),
            (
                "connect taken host",
                "sharing network namespace with another container or host",
            ),
            (
                "connect taken pod",
                "sharing network namespace with another container or host",
            ),
            ("connect nope web", "network nope not found"),
            ("connect taken nope", "No such container: nope"),
            (
                "connect --ip 10.9.0.1 taken web",
                "no configured subnet or ip-range contain the IP address 10.9.0.1",
            ),
            (
                "connect --ip 172.17.0.9 plain web",
                "only when connecting to networks with user configured subnets",
            ),
            (
                "connect --alias other bridge web",
                "only for containers in user defined networks",
            ),
            ("disconnect taken web", "is not connected to network taken"),
            ("disconnect nope web", "network nope not found"),
        ] {
            let said = machine.fails(1, &format!("network {asked}"));
            assert!(said.contains(words), "{asked}: {said}");
        }
        for (asked, words) in [
            ("--network nope", "network nope not found"),
            ("--ip 10.9.0.1", "supported on user defined networks only"),
            (
                "--network plain --ip 10.9.0.1",
                "networks with user configured subnets",
            ),
            (
                "--network taken --ip 10.9.0.1",
                "no configured subnet or ip-range",
            ),
            (
                "--network-alias other",
                "only for containers in user defined networks",
            ),
            (
                "--network taken --network taken",
                "network \"taken\" is specified multiple times",
            ),
            (
                "--network taken --network host",
                "cannot attach both user-defined and non-user-defined",
            ),
            (
                "--network name=taken,alias=a --net-alias b",
                "both --network-alias and per-network alias",
            ),
            ("--network name=taken,what=b", "invalid field key what"),
        ] {
            let said = machine.fails(125, &format!("run --rm {asked} host true"));
            assert!(said.contains(words), "{asked}: {said}");
        }
        machine.ok("network prune -f");
        machine.nothing_left();
    });
}

#[test]
fn who_is_to_be_where_is_changed_before_the_start() {
    for_each(|machine| {
        machine.ok("network create --subnet 10.5.0.0/24 back");
        machine.ok("network create --subnet 10.6.0.0/24 front");
        machine.ok("create --name web --network front --net-alias www host sleep 1000");
        machine.ok("network connect --ip 10.5.0.7 --alias database back web");
        let networks = "{{range $name, $it := .NetworkSettings.Networks}}{{$name}} {{json .Aliases}} \
                        {{json .IPAMConfig}} {{json .DNSNames}};{{end}}";
        let short = machine.container("web").id()[..12].to_owned();
        assert_eq!(
            inspect(machine, networks, "web"),
            format!(
                "back [\"database\"] {{\"IPv4Address\":\"10.5.0.7\"}} [\"web\",\"database\",\"{short}\"];\
                 front [\"www\"] null [\"web\",\"www\",\"{short}\"];"
            )
        );
        for (filter, expected) in [
            ("front", "web"),
            ("back", "web"),
            ("bridge", ""),
            ("nope", ""),
        ] {
            let found = machine.ok(&format!(
                "ps -a -f network={filter} --format {{{{.Names}}}}"
            ));
            assert_eq!(found, expected, "{filter}");
        }
        let id = machine.ok("network ls -qf name=back");
        assert_eq!(machine.ok(&format!("ps -aqf network={id}")), short);
        // The next is the first one then.
        machine.ok("network disconnect front web");
        assert_eq!(
            inspect(machine, "{{.HostConfig.NetworkMode}}", "web"),
            "back"
        );
        // One that is gone is missed at the start, and nobody is in its way before.
        machine.ok("network rm back front");
        assert!(
            machine
                .fails(1, "start web")
                .contains("network back not found")
        );
        machine.fails(1, "network disconnect back web");
        machine.ok("network disconnect -f back web");
        assert_eq!(
            inspect(machine, "{{json .NetworkSettings.Networks}}", "web"),
            "{}"
        );
        machine.ok("start web");
        assert_eq!(addresses(machine, "web"), "");
        machine.nothing_left();
    });
}

#[test]
fn a_running_container_gets_into_networks_and_out() {
    for_each(|machine| {
        let before = links(machine);
        machine.ok("network create --subnet 10.5.0.0/24 back");
        machine.ok("network create --internal --subnet 10.6.0.0/24 front");
        machine.ok("run -d --name web --network front --ip 10.6.0.77 host sleep 1000");
        assert_eq!(addresses(machine, "web"), "eth0 10.6.0.77/24");
        machine.ok("network connect back web");
        assert_eq!(
            addresses(machine, "web"),
            "eth0 10.6.0.77/24\neth1 10.5.0.2/24"
        );
        let member = shown(machine, "back")["Containers"][machine.container("web").id()].take();
        assert_eq!(
            (&member["Name"], &member["IPv4Address"]),
            (&"web".into(), &"10.5.0.2/24".into())
        );
        let mac = machine.ok("exec web cat /sys/class/net/eth1/address");
        assert_eq!(member["MacAddress"], mac.as_str());
        assert_eq!(member["EndpointID"].as_str().map(str::len), Some(64));
        assert_eq!(machine.ok("ps --format {{.Networks}}"), "front,back");
        let used = machine.ok("network ls -f dangling=0 --format {{.Name}}");
        assert_eq!(used, "back\nbridge\nfront\nhost\nnone");
        for (line, words) in [
            (
                "network connect back web",
                "endpoint with name web already exists in network back",
            ),
            (
                "network rm back",
                "error while removing network: network back id",
            ),
        ] {
            assert!(machine.fails(1, line).contains(words), "{line}");
        }
        assert_eq!(machine.ok("network prune -f"), "");

        machine.ok("network disconnect front web");
        assert_eq!(addresses(machine, "web"), "eth1 10.5.0.2/24");
        let said = machine.fails(1, "network disconnect front web");
        assert!(said.contains("is not connected to network front"), "{said}");
        machine.ok("network rm front");
        // After a restart it is where it was.
        machine.ok("restart -t 0 web");
        assert_eq!(addresses(machine, "web"), "eth0 10.5.0.2/24");
        machine.ok("network disconnect back web");
        assert_eq!(addresses(machine, "web"), "");
        assert_eq!(links(machine), before);
        machine.ok("network connect back web");
        machine.ok("rm -f web");
        let told = "events --since 10m --until 0s --filter network=back --format {{.Action}}";
        let told = machine.ok(told);
        let told: Vec<&str> = told.lines().collect();
        let pair = ["connect", "disconnect"];
        assert_eq!(told, [&["create"][..], &pair, &pair, &pair].concat());
        machine.ok("network rm back");
        machine.nothing_left();
    });
}

#[test]
fn each_network_of_a_container_has_a_bridge_while_it_is_in_use() {
    let machine = Machine::of(Who::Root);
    let before = links(&machine);
    machine.ok("network create -o com.docker.network.bridge.name=br-back back");
    machine.ok("network create front");
    let front = format!("mini-{}", &machine.ok("network ls -qf name=front")[..10]);
    let has = |link: &str| links(&machine).split(' ').any(|it| it == link);
    machine.ok("run -d --name web --network front --network back host sleep 1000");
    machine.ok("network connect bridge web");
    assert!(
        has("br-back") && has(&front) && has("mini0"),
        "{}",
        links(&machine)
    );
    assert_eq!(
        machine
            .ok("exec web ls /sys/class/net")
            .split_whitespace()
            .collect::<Vec<_>>(),
        ["eth0", "eth1", "eth2", "lo"]
    );
    machine.ok("network disconnect back web");
    machine.ok("network disconnect bridge web");
    assert!(
        !has("br-back") && has(&front) && !has("mini0"),
        "{}",
        links(&machine)
    );
    machine.ok("stop -t 0 web");
    assert_eq!(links(&machine), before);
    machine.ok("start web");
    // It is killed with all that it held, and the next command finds what it left.
    machine.container("web").kill_shim();
    machine.ok("ps -a");
    assert_eq!(links(&machine), before);
    machine.ok("network rm front back");
    machine.nothing_left();
}

#[test]
fn a_subnet_is_taken_that_the_host_has_no_way_to() {
    let machine = Machine::of(Who::Root);
    machine.host().shell(
        "ip link add name other type bridge && ip link set other up \
         && ip addr add 172.17.0.1/16 dev other && ip route add 10.9.0.0/16 via 172.17.0.7",
    );
    machine.ok("network create one");
    machine.ok("network create two");
    let subnet = "{{(index .IPAM.Config 0).Subnet}} {{(index .IPAM.Config 0).Gateway}}";
    assert_eq!(inspect(&machine, subnet, "one"), "172.18.0.0/16 172.18.0.1");
    assert_eq!(inspect(&machine, subnet, "two"), "172.19.0.0/16 172.19.0.1");
    let said = machine.fails(1, "network create --subnet 10.9.5.0/24 three");
    assert!(
        said.contains("this host has a route to 10.9.0.0/16"),
        "{said}"
    );
    machine.host().shell("ip link del other");
    machine.ok("network create --subnet 10.9.5.0/24 three");
    machine.ok("network prune -f");
    machine.nothing_left();
}

#[test]
fn of_those_who_want_one_name_or_one_subnet_at_once_one_gets_it() {
    for_each(|machine| {
        let won = |lines: Vec<String>| {
            let all: Vec<_> = lines.iter().map(|line| machine.spawn(line)).collect();
            let codes = all.into_iter().map(|it| it.wait().code());
            codes.filter(|code| *code == 0).count()
        };
        assert_eq!(won(vec!["network create same".to_owned(); 8]), 1);
        let subnets = |n| format!("network create --subnet 10.5.0.0/24 n{n}");
        assert_eq!(won((0..8).map(subnets).collect()), 1);
        let any = |n| format!("network create any{n}");
        assert_eq!(won((0..8).map(any).collect()), 8);
        let names = custom(machine);
        let subnets = names
            .split(' ')
            .map(|name| shown(machine, name)["IPAM"]["Config"][0]["Subnet"].to_string());
        let mut subnets: Vec<String> = subnets.collect();
        subnets.sort();
        subnets.dedup();
        assert_eq!(subnets.len(), 10, "{names}");
        machine.ok("network prune -f");
        assert_eq!(custom(machine), "");
        machine.nothing_left();
    });
}

#[test]
fn a_network_that_is_removed_while_a_container_gets_into_it_is_there_or_is_not() {
    let machine = Machine::of(Who::Root);
    machine.ok("network create other");
    machine.ok("run -d --name idle --network other host sleep 1000");
    let before = links(&machine);
    for n in 0..12 {
        machine.ok("network create race");
        let get_in = match n % 2 {
            0 => "run -d --name web --network race host sleep 1000",
            _ => "network connect race idle",
        };
        let (get_in, rm) = (machine.spawn(get_in), machine.spawn("network rm race"));
        let (get_in, rm) = (get_in.wait(), rm.wait());
        let is_there = custom(&machine) == "other race";
        assert_eq!(get_in.code() == 0, is_there, "{n}: {get_in}{rm}");
        assert_eq!(rm.code() == 0, !is_there, "{n}: {get_in}{rm}");
        assert_eq!(links(&machine) != before, is_there, "{n}: {get_in}{rm}");
        machine.minidocker("rm -f web");
        machine.minidocker("network disconnect race idle");
        machine.ok("network rm -f race");
    }
    machine.ok("rm -f idle");
    machine.ok("network rm other");
    machine.nothing_left();
}

#[test]
fn a_damaged_network_is_named_and_hinders_no_other() {
    for_each(|machine| {
        let id = machine.ok("network create --subnet 10.5.0.0/24 cut");
        machine.ok("network create --subnet 10.6.0.0/24 whole");
        let file = machine.data().join(format!("networks/{id}.json"));
        let text = fs::read_to_string(&file).expect("a file");
        for damage in [
            "",
            &text[..text.len() / 2],
            &text.replace("\"version\":1", "\"version\":7"),
        ] {
            fs::write(&file, damage).expect("damage it");
            let listed = machine.minidocker("network ls --filter type=custom --format {{.Name}}");
            assert_eq!(listed.ok(), "whole");
            let said = machine.fails(1, &format!("network inspect {}", &id[..12]));
            assert!(said.contains(&format!("networks/{id}.json is ")), "{said}");
            assert!(
                machine
                    .fails(1, "network rm cut")
                    .contains("network cut not found")
            );
            machine.ok("network inspect whole");
        }
        fs::remove_file(&file).expect("remove it");
        machine.ok("network create --subnet 10.5.0.0/24 cut");
        machine.ok("network rm cut whole");
        machine.nothing_left();
    });
}
