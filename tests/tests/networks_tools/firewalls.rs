//! Others' rules: as docker, podman and firewalld write them. Not a byte of them changes, and our
//! containers are reached and reach beside them.

use harness::engine::{Machine, shell};
use serde_json::Value;

use crate::far::{Far, HERE, THERE};
use crate::online;
use crate::ports::{CURL, listens};

/// iptables' of docker 20.10, as nft has them: what is not docker's is not forwarded.
const DOCKER: &str = r#"
table ip nat {
    chain DOCKER {
        iifname "docker0" return
    }
    chain POSTROUTING {
        type nat hook postrouting priority srcnat; policy accept;
        oifname != "docker0" ip saddr 172.17.0.0/16 masquerade
    }
    chain PREROUTING {
        type nat hook prerouting priority dstnat; policy accept;
        fib daddr type local jump DOCKER
    }
    chain OUTPUT {
        type nat hook output priority -100; policy accept;
        ip daddr != 127.0.0.0/8 fib daddr type local jump DOCKER
    }
}
table ip filter {
    chain DOCKER {
    }
    chain DOCKER-ISOLATION-STAGE-1 {
        iifname "docker0" oifname != "docker0" jump DOCKER-ISOLATION-STAGE-2
        return
    }
    chain DOCKER-ISOLATION-STAGE-2 {
        oifname "docker0" drop
        return
    }
    chain DOCKER-USER {
        return
    }
    chain FORWARD {
        type filter hook forward priority filter; policy drop;
        jump DOCKER-USER
        jump DOCKER-ISOLATION-STAGE-1
        oifname "docker0" ct state related,established accept
        oifname "docker0" jump DOCKER
        iifname "docker0" oifname != "docker0" accept
        iifname "docker0" oifname "docker0" accept
    }
}
"#;

/// iptables' of podman 4 with CNI's plugins, for one container with a published port.
const CNI: &str = r#"
table ip nat {
    chain CNI-f49ab0d1f1e0e1 {
        ip daddr 10.99.0.0/16 accept
        ip daddr != 224.0.0.0/4 masquerade
    }
    chain CNI-HOSTPORT-SETMARK {
        meta mark set meta mark | 0x00002000
    }
    chain CNI-HOSTPORT-MASQ {
        meta mark & 0x00002000 == 0x00002000 masquerade
    }
    chain CNI-DN-f49ab0d1f1e0e1 {
        ip saddr 10.99.0.0/16 tcp dport 8099 jump CNI-HOSTPORT-SETMARK
        ip saddr 127.0.0.1 tcp dport 8099 jump CNI-HOSTPORT-SETMARK
        tcp dport 8099 dnat to 10.99.0.5:80
    }
    chain CNI-HOSTPORT-DNAT {
        tcp dport 8099 jump CNI-DN-f49ab0d1f1e0e1
    }
    chain PREROUTING {
        type nat hook prerouting priority dstnat; policy accept;
        fib daddr type local jump CNI-HOSTPORT-DNAT
    }
    chain OUTPUT {
        type nat hook output priority -100; policy accept;
        fib daddr type local jump CNI-HOSTPORT-DNAT
    }
    chain POSTROUTING {
        type nat hook postrouting priority srcnat; policy accept;
        jump CNI-HOSTPORT-MASQ
        ip saddr 10.99.0.5 jump CNI-f49ab0d1f1e0e1
    }
}
table ip filter {
    chain CNI-ADMIN {
    }
    chain CNI-FORWARD {
        jump CNI-ADMIN
        ip daddr 10.99.0.5 ct state related,established accept
        ip saddr 10.99.0.5 accept
    }
    chain FORWARD {
        type filter hook forward priority filter; policy accept;
        jump CNI-FORWARD
    }
}
"#;

/// netavark's own table, with one network.
const NETAVARK: &str = r#"
table inet netavark {
    chain INPUT {
        type filter hook input priority filter; policy accept;
        ip saddr 10.99.0.0/24 meta l4proto { tcp, udp } th dport 53 accept
    }
    chain FORWARD {
        type filter hook forward priority filter; policy accept;
        ct state invalid drop
        jump NETAVARK-ISOLATION-1
        ip daddr 10.99.0.0/24 ct state related,established accept
        ip saddr 10.99.0.0/24 accept
    }
    chain POSTROUTING {
        type nat hook postrouting priority srcnat; policy accept;
        meta mark & 0x00002000 == 0x00002000 masquerade
        ip saddr 10.99.0.0/24 jump nv_2f259bab_10_99_0_0_nm24
    }
    chain PREROUTING {
        type nat hook prerouting priority dstnat; policy accept;
        fib daddr type local jump NETAVARK-HOSTPORT-DNAT
    }
    chain OUTPUT {
        type nat hook output priority -100; policy accept;
        fib daddr type local jump NETAVARK-HOSTPORT-DNAT
    }
    chain NETAVARK-HOSTPORT-DNAT {
        tcp dport 8099 dnat ip to 10.99.0.5:80
    }
    chain NETAVARK-HOSTPORT-SETMARK {
        meta mark set meta mark | 0x00002000
    }
    chain NETAVARK-ISOLATION-1 {
    }
    chain nv_2f259bab_10_99_0_0_nm24 {
        ip daddr 10.99.0.0/24 accept
        ip daddr != 224.0.0.0/4 masquerade
    }
}
"#;

/// firewalld's, whose zone `trusted` has our bridge, as its manual page advises for containers.
const FIREWALLD: &str = r#"
table inet firewalld {
    chain filter_PREROUTING {
        type filter hook prerouting priority raw + 10; policy accept;
        icmpv6 type { nd-router-advert, nd-neighbor-solicit } accept
        meta nfproto ipv6 fib saddr . mark . iif oif missing drop
    }
    chain nat_PREROUTING {
        type nat hook prerouting priority dstnat + 10; policy accept;
    }
    chain nat_POSTROUTING {
        type nat hook postrouting priority srcnat + 10; policy accept;
    }
    chain filter_INPUT {
        type filter hook input priority filter + 10; policy accept;
        ct state { established, related } accept
        ct status dnat accept
        iifname "lo" accept
        jump filter_INPUT_ZONES
        ct state invalid drop
        reject with icmpx admin-prohibited
    }
    chain filter_FORWARD {
        type filter hook forward priority filter + 10; policy accept;
        ct state { established, related } accept
        ct status dnat accept
        iifname "lo" accept
        jump filter_FORWARD_ZONES
        ct state invalid drop
        reject with icmpx admin-prohibited
    }
    chain filter_INPUT_ZONES {
        iifname "mini0" goto filter_trusted
        goto filter_IN_public
    }
    chain filter_FORWARD_ZONES {
        iifname "mini0" goto filter_trusted
    }
    chain filter_IN_public {
        tcp dport 22 accept
        meta l4proto { icmp, ipv6-icmp } accept
    }
    chain filter_trusted {
        accept
    }
}
"#;

/// All tables but ours, with every rule's handle: a rule that was taken out and put back has another.
fn foreign(machine: &Machine) -> String {
    machine.host().shell(
        "nft list tables | grep -v minidocker | while read -r table; do nft -a list $table; done",
    )
}

/// The tables of ours: families and names.
fn ours(machine: &Machine) -> Vec<String> {
    let ruleset = machine.host().shell("nft -j list ruleset");
    let ruleset: Value = serde_json::from_str(&ruleset).expect("JSON");
    let all = ruleset["nftables"].as_array().into_iter().flatten();
    let tables = all.filter_map(|it| it.get("table"));
    let names = tables.map(|table| format!("{} {}", table["family"], table["name"]));
    names
        .map(|name| name.replace('"', ""))
        .filter(|name| name.contains("minidocker"))
        .collect()
}

/// Loads somebody's rules in the place of all others.
fn load(machine: &Machine, rules: &str) -> String {
    let script = format!("nft -f - <<'END'\nflush ruleset\n{rules}\nEND");
    machine.host().shell(&script);
    foreign(machine)
}

const NGINX: &str = "echo found >/var/www/html/index.html; exec nginx -g 'daemon off;'";

#[test]
fn others_rules_are_left_alone_and_stand_in_nobodys_way() {
    let machine = online();
    let far = Far::new(&machine);
    for (whose, rules) in [
        ("nobody", ""),
        ("CNI", CNI),
        ("netavark", NETAVARK),
        ("firewalld", FIREWALLD),
    ] {
        let before = load(&machine, rules);
        let words = "run -d --name web -p 8080:80 services";
        let out = machine.minidocker(&shell(words, NGINX));
        out.ok();
        assert_eq!(out.errors(), "", "{whose}");
        listens(&machine, "web", 80);
        assert_eq!(ours(&machine), ["inet minidocker"], "{whose}");
        assert_eq!(foreign(&machine), before, "{whose}");
        let url = format!("{CURL} http://{HERE}:8080/");
        assert_eq!(far.run(&url).ok(), "found", "{whose}");
        assert_eq!(far.here(&url).ok(), "found", "{whose}");
        machine.ok(&format!("exec web ping -c1 -W20 {THERE}"));
        machine.ok("rm -f web");
        assert_eq!(foreign(&machine), before, "{whose}");
        assert!(ours(&machine).is_empty(), "{whose}: {:?}", ours(&machine));
    }
    load(&machine, "");
    far.nothing_left();
}

#[test]
fn who_drops_what_is_forwarded_is_named_and_what_is_advised_helps() {
    let machine = online();
    let far = Far::new(&machine);
    machine.ok("network create red");
    let id = machine.ok("network inspect --format {{.Id}} red");
    let red = format!("mini-{}", &id[..10]);
    for (options, link) in [("", "mini0"), ("--network red ", &red)] {
        let before = load(&machine, DOCKER);
        let words = format!("run -d --name web -p 8080:80 {options}services");
        let out = machine.minidocker(&shell(&words, NGINX));
        out.ok();
        let said = out.errors();
        for word in ["ip filter FORWARD", link, "drop"] {
            assert!(said.contains(word), "{word}: {said}");
        }
        listens(&machine, "web", 80);
        assert_eq!(foreign(&machine), before);
        // It is true, though not of who calls from here.
        let url = format!("{CURL} http://127.0.0.1:8080/");
        assert_eq!(far.here(&url).ok(), "found");
        let silent = format!("curl -s -m1 http://{HERE}:8080/");
        assert_ne!(far.run(&silent).code(), 0);
        let ping = format!("exec web ping -c1 -W1 {THERE}");
        machine.minidocker(&ping).exits(1);
        let advised: Vec<&str> = said.split('`').skip(1).step_by(2).collect();
        assert!(!advised.is_empty(), "no command is advised: {said}");
        for command in advised {
            machine.host().shell(command);
        }
        let url = format!("{CURL} http://{HERE}:8080/");
        assert_eq!(far.run(&url).ok(), "found");
        machine.ok(&format!("exec web ping -c1 -W20 {THERE}"));
        // Who has been told, and has done it, is not told again.
        machine.ok("rm -f web");
        let out = machine.minidocker(&format!("run --rm {options}services true"));
        assert_eq!(out.errors(), "");
    }
    machine.ok("network rm red");
    load(&machine, "");
    far.nothing_left();
}
