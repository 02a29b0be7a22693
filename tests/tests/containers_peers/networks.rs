//! Networks: `network`, and the flags of `run` that are about them.
//!
//! Both live on one machine, and docker makes its bridges at once: their subnets are their own.

use crate::pair::Look::{self, Same, Says, Status, Usage};

/// Of a subnet of its own, the third part and what follows.
const OWN: &str = "sed 's/10\\.[78]\\./10.N./g'";

/// Lines, in which `NET` is the beginning of each one's own addresses, and `OWN` hides that.
const LINES: [(&str, Look); 80] = [
    ("network ls", Same),
    (
        "network ls --format '{{.Name}} {{.Driver}} {{.Scope}} {{.IPv6}} {{.Internal}}|{{.Labels}}'",
        Same,
    ),
    (
        "network create --subnet NET.1.0/24 --gateway NET.1.9 --ip-range NET.1.128/25 --label kind=sweet --internal back",
        Same,
    ),
    ("network create --subnet NET.4.0/24 front", Same),
    (
        "network create --subnet NET.4.0/24 front",
        Says("network with name front already exists"),
    ),
    ("network create plain", Same),
    (
        "network create bridge",
        Says("operation is not permitted on predefined bridge network"),
    ),
    (
        "network create host",
        Says("operation is not permitted on predefined host network"),
    ),
    (
        "network create default",
        Says("operation is not permitted on predefined default network"),
    ),
    (
        "network create -d host other",
        Says("only one instance of \"host\" network is allowed"),
    ),
    (
        "network create -d null other",
        Says("only one instance of \"null\" network is allowed"),
    ),
    (
        "network create -d nonsense other",
        Says("plugin \"nonsense\" not found"),
    ),
    (
        "network create --subnet NET.1.0/25 other",
        Says("pool overlaps with other one on this address space"),
    ),
    (
        "network create --subnet nonsense other",
        Says("invalid cidr address: nonsense"),
    ),
    (
        "network create --subnet NET.1.0 other",
        Says("invalid cidr address: 10."),
    ),
    (
        "network create --gateway NET.1.1 other",
        Says("every ip-range or gateway must have a corresponding subnet"),
    ),
    (
        "network create --subnet NET.2.0/24 --gateway NET.3.1 other",
        Says("no matching subnet for gateway 10."),
    ),
    (
        "network create --subnet NET.2.0/24 --ip-range NET.3.0/25 other",
        Says("no matching subnet for range 10."),
    ),
    (
        "network create --subnet NET.2.0/24 --subnet NET.3.0/24 other",
        Says("bridge driver doesn't support multiple subnets"),
    ),
    (
        "network create --subnet NET.2.0/24 --aux-address one=NET.3.9 other",
        Says("no matching subnet for aux-address 10."),
    ),
    (
        "network create --attachable --scope local --subnet NET.5.0/24 --aux-address router=NET.5.2 -o com.docker.network.driver.mtu=1400 -o com.docker.network.bridge.enable_icc=false aux",
        Same,
    ),
    (
        "network inspect --format '{{.Attachable}} {{.Options}} {{range .IPAM.Config}}{{.Subnet}} {{.AuxiliaryAddresses.router}}{{end}}' aux | OWN",
        Same,
    ),
    ("network create", Usage("requires")),
    (
        "network create --no-such-flag other",
        Says("unknown flag: --no-such-flag"),
    ),
    (
        "network ls --format '{{.Name}} {{.Driver}} {{.Scope}} {{.IPv6}} {{.Internal}}|{{.Labels}}|{{.Label \"kind\"}}'",
        Same,
    ),
    (
        "network ls --format '{{json .}}' | head -1 | tr , '\\n' | cut -d: -f1 | tr -d '{' | sort",
        Same,
    ),
    (
        "network ls --format 'table {{.Name}}\\t{{.CreatedAt}}' | head -1",
        Same,
    ),
    ("network ls -q --no-trunc", Same),
    ("network ls -f driver=bridge --format '{{.Name}}'", Same),
    ("network ls -f driver=null --format '{{.Name}}'", Same),
    ("network ls -f type=custom --format '{{.Name}}'", Same),
    ("network ls -f type=builtin --format '{{.Name}}'", Same),
    ("network ls -f type=nonsense", Says("nonsense")),
    ("network ls -f nonsense=1", Says("nonsense")),
    ("network ls -f name=fro --format '{{.Name}}'", Same),
    ("network ls -f name=^ro --format '{{.Name}}'", Same),
    ("network ls -f label=kind --format '{{.Name}}'", Same),
    ("network ls -f label=kind=sour --format '{{.Name}}'", Same),
    (
        "network ls -f scope=local -f dangling=true --format '{{.Name}}'",
        Same,
    ),
    ("network ls -f dangling=nonsense", Says("dangling")),
    (
        "network inspect back | OWN | sed 's/\"Created\": .*/CREATED/; s/\"Id\": .*/ID/' | sort",
        Same,
    ),
    (
        "network inspect --format '{{.Name}} {{.Driver}} {{.Scope}} {{len .Containers}} {{.IPAM.Driver}}' bridge host none",
        Same,
    ),
    ("network inspect --format '{{.Nonsense}}' back", Status),
    ("network inspect nope", Says("nope")),
    ("inspect --type network --format '{{.Name}}' front", Same),
    ("inspect --format '{{.Name}}' back", Same),
    // containers
    (
        "run --rm --network aux --mac-address 02:00:5e:10:00:09 busybox sh -c 'cat /sys/class/net/eth0/address /sys/class/net/eth0/mtu; ip -4 -o addr show eth0 | tr -s \" \" | cut -d\" \" -f4' 2>/dev/null | OWN",
        Same,
    ),
    (
        "run -d --name marked --mac-address 02:00:5e:10:00:0a busybox sleep 1000 2>/dev/null | wc -c",
        Same,
    ),
    (
        "inspect --format '{{.NetworkSettings.MacAddress}} {{.NetworkSettings.Networks.bridge.MacAddress}}' marked",
        Same,
    ),
    ("rm -f marked", Same),
    (
        "run --rm --network aux --ip NET.5.2 busybox true",
        Says("address already in use"),
    ),
    (
        "run --rm --mac-address nonsense busybox true",
        Says("nonsense is not a valid mac address"),
    ),
    (
        "run --rm --network host --mac-address 02:00:5e:10:00:09 busybox true",
        Says("conflicting options: mac-address and the network mode"),
    ),
    (
        "run --rm --network container:one --mac-address 02:00:5e:10:00:09 busybox true",
        Says("conflicting options: mac-address and the network mode"),
    ),
    ("network rm aux", Same),
    ("network ls --format '{{.Name}}'", Same),
    (
        "create --name one --network front --network-alias first busybox sleep 1000",
        Same,
    ),
    ("inspect --format '{{.HostConfig.NetworkMode}}' one", Same),
    ("ps -a --format '{{.Names}} {{.Networks}}'", Same),
    ("ps -a -f network=front --format '{{.Names}}'", Same),
    ("ps -a -f network=back --format '{{.Names}}'", Same),
    (
        "network connect --ip NET.1.200 --alias second back one",
        Same,
    ),
    ("network connect back nope", Says("no such container: nope")),
    (
        "network connect host one",
        Says("container cannot be disconnected from host network or connected to host network"),
    ),
    (
        "network connect none one",
        Says(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode",
        ),
    ),
    ("start one 2>/dev/null", Same),
    (
        "inspect --format '{{range $name, $it := .NetworkSettings.Networks}}{{$name}} {{.IPPrefixLen}} {{len .NetworkID}} {{len .EndpointID}} {{len .MacAddress}};{{end}}' one | OWN",
        Same,
    ),
    (
        "inspect --format '{{.NetworkSettings.Networks.back.IPAddress}} {{.NetworkSettings.Networks.back.Gateway}}' one | OWN",
        Status,
    ),
    (
        "network inspect --format '{{range .Containers}}{{.Name}} {{.IPv4Address}}|{{.IPv6Address}}|{{len .EndpointID}}{{end}}' back | OWN",
        Same,
    ),
    ("network rm back", Says("has active endpoints")),
    (
        "network rm bridge",
        Says("is a pre-defined network and cannot be removed"),
    ),
    ("network rm nope", Says("nope")),
    ("run -d --name two --network none busybox sleep 1000", Same),
    (
        "network connect front two",
        Says(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode",
        ),
    ),
    (
        "run -d --name three --network container:two busybox sleep 1000",
        Same,
    ),
    (
        "network connect front three",
        Says(
            "container sharing network namespace with another container or host cannot be connected to any other network",
        ),
    ),
    (
        "run --rm --network plain --ip NET.1.7 busybox true",
        Says(
            "user specified ip address is supported only when connecting to networks with user configured subnets",
        ),
    ),
    (
        "run --rm --network nope busybox true",
        Says("network nope not found"),
    ),
    ("rm -f one two three", Same),
    ("network prune -f | sort", Same),
];

/// Running containers that come and go.
const MOVES: [(&str, Look); 10] = [
    ("network create --subnet NET.1.0/24 back", Same),
    ("run -d --name one busybox sleep 1000 2>/dev/null", Same),
    ("network connect --ip NET.1.7 back one", Same),
    (
        "network connect back one",
        Says("endpoint with name one already exists in network back"),
    ),
    (
        "exec one sh -c 'ls /sys/class/net | sort; ip -4 -o addr show eth1 | tr -s \" \" | cut -d\" \" -f4' | OWN",
        Same,
    ),
    (
        "ps --format '{{.Names}} {{.Networks}}' | tr , '\\n' | sort",
        Status,
    ),
    ("network disconnect bridge one", Same),
    (
        "network disconnect bridge one",
        Says("is not connected to network bridge"),
    ),
    ("rm -f one", Same),
    ("network rm back", Same),
];

/// All lines, with each one's own addresses.
pub fn lines() -> Vec<(String, Look)> {
    let own = |line: &str| {
        let net = "$(echo SELF | sed 's/minidocker/10.8/; s/docker/10.7/')";
        line.replace("NET", net).replace("OWN", OWN)
    };
    let all = LINES.iter().chain(&MOVES);
    all.map(|(line, look)| (own(line), *look)).collect()
}
