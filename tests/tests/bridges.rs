//! Networks of any shape: what the engine asks of step 4's leaf beyond the lesson. A namespace is
//! plugged in as a container's would be; real tools look.

use harness::{Host, Running, Setup, User, assert_same, build_dir, wait_for};

const RUN: &str = "/run/minidocker";

/// A machine with an outside, where `plugged` can be run.
fn online() -> Host {
    let plugged = build_dir().join("plugged");
    Host::with(Setup {
        outside: true,
        shown: vec![(plugged, "plugged".to_owned())],
        ..Setup::default()
    })
}

/// A namespace that is plugged in.
struct Plugged {
    running: Running,
    /// Its addresses, a line for each network: IPv4, IPv6.
    addresses: Vec<[String; 2]>,
    netns: String,
}

impl Plugged {
    /// `plugged RUN plug ARGUMENTS`, up.
    fn in_networks(host: &Host, arguments: &str) -> Plugged {
        let argv = ["plugged", RUN, "plug"].into_iter();
        let mut running = host.spawn_fed(User::Root, argv.chain(arguments.split_whitespace()));
        let text = running.expect("\nup ");
        running.expect("/fd/");
        let addresses = text.lines().take_while(|line| !line.starts_with("up "));
        let pair = |line: &str| {
            let (four, six) = line.split_once(' ').expect("two addresses");
            [four.to_owned(), six.to_owned()]
        };
        let addresses = addresses.map(pair).collect();
        let netns = wait_for("the namespace's place", 60, || {
            let text = running.printed();
            let place = text.split_once("\nup ")?.1.split_once('\n')?.0.to_owned();
            Some(place)
        });
        Plugged {
            running,
            addresses,
            netns,
        }
    }

    fn four(&self) -> &str {
        &self.addresses[0][0]
    }

    fn six(&self) -> &str {
        &self.addresses[0][1]
    }

    /// What a script within prints, where it succeeds.
    fn try_sh(&self, host: &Host, script: &str) -> Option<String> {
        let netns = format!("--net={}", self.netns);
        let out = host.run(["nsenter", &netns, "sh", "-c", script]);
        (out.code() == 0).then(|| out.text())
    }

    fn sh(&self, host: &Host, script: &str) -> String {
        let out = self.try_sh(host, script);
        out.unwrap_or_else(|| panic!("`{script}` failed in {}", self.netns))
    }

    /// Whether an answer comes, which may take its time on a busy machine.
    fn pings(&self, host: &Host, address: &str) -> bool {
        let ping = format!("ping -n -c 1 -W 20 {address}");
        self.try_sh(host, &ping).is_some()
    }

    /// Whether none comes.
    fn is_cut_off(&self, host: &Host, address: &str) -> bool {
        let ping = format!("ping -n -c 1 -W 1 {address}");
        self.try_sh(host, &ping).is_none()
    }

    /// Answers on port 80, in IPv4 and IPv6, with its name.
    fn serve(&self, host: &Host, name: &str) -> Running {
        host.shell(&format!(
            "mkdir -p /tmp/www/{name} && echo {name} >/tmp/www/{name}/index.html"
        ));
        let netns = format!("--net={}", self.netns);
        let directory = format!("/tmp/www/{name}");
        let httpd = ["busybox", "httpd", "-f", "-p", "[::]:80", "-h", &directory];
        let server = host.spawn(["nsenter", &netns].into_iter().chain(httpd));
        wait_for("the server", 60, || {
            self.try_sh(host, "ss -Hltn sport = 80 | grep -q .")
        });
        server
    }

    fn leave(self) {
        let out = self.running.wait();
        assert_eq!(out.errors(), "", "{out}");
    }
}

/// Ends servers, with what they served.
fn end<const N: usize>(host: &Host, servers: [Running; N]) {
    drop(servers);
    host.shell("rm -r /tmp/www");
}

const CURL: &str = "curl -sS --noproxy '*' -m 20";

/// For where nobody is to answer.
const SHORT: &str = "curl -sS --noproxy '*' -m 1";

fn fetch(host: &Host, url: &str) -> Option<String> {
    let out = host.run(["sh", "-c", &format!("{CURL} '{url}'")]);
    (out.code() == 0).then(|| out.text())
}

fn fetch_outside(host: &Host, url: &str) -> Option<String> {
    let out = host.outside(["sh", "-c", &format!("{CURL} '{url}'")]);
    (out.code() == 0).then(|| out.text())
}

/// Whether somebody outside gets no answer there.
fn is_silent_outside(host: &Host, url: &str) -> bool {
    let out = host.outside(["sh", "-c", &format!("{SHORT} '{url}'")]);
    out.code() != 0
}

fn refused(host: &Host, arguments: &str) -> String {
    let argv = ["plugged", RUN, "plug"].into_iter();
    host.run(argv.chain(arguments.split_whitespace())).exits(1)
}

fn table(host: &Host) -> String {
    host.run(["nft", "list", "table", "inet", "minidocker"])
        .ok()
}

#[test]
fn an_address_that_is_wanted_is_had_or_refused_as_docker_refuses_it() {
    let host = online();
    let before = host.snapshot();
    let shape = "mini-a=10.1.0.0/24 --gateway 10.1.0.9 --range 10.1.0.64/30";
    let wanted = Plugged::in_networks(&host, &format!("{shape} --address 10.1.0.200"));
    assert_eq!(
        wanted.four(),
        "10.1.0.200",
        "a wanted one may be outside the range"
    );
    assert!(
        wanted
            .sh(&host, "ip route")
            .contains("default via 10.1.0.9")
    );
    for (address, error) in [
        ("10.1.0.200", "Address already in use"),
        ("10.1.0.9", "Address already in use"),
        ("10.1.0.255", "Address already in use"),
        (
            "10.2.0.1",
            "no configured subnet or ip-range contain the IP address 10.2.0.1",
        ),
    ] {
        let said = refused(&host, &format!("{shape} --address {address}"));
        assert!(said.contains(error), "{said}");
    }
    let said = refused(&host, &format!("{shape} --address6 fd00::1"));
    assert!(said.contains("contain the IP address fd00::1"), "{said}");
    let four = Vec::from_iter((0..4).map(|_| Plugged::in_networks(&host, shape)));
    let addresses: Vec<_> = four.iter().map(Plugged::four).collect();
    assert_eq!(
        addresses,
        ["10.1.0.64", "10.1.0.65", "10.1.0.66", "10.1.0.67"]
    );
    let said = refused(&host, shape);
    assert!(
        said.contains("every address of 10.1.0.64/30 is taken"),
        "{said}"
    );
    for shape in [
        "--gateway 10.2.0.1",
        "--gateway 10.1.0.0",
        "--range 10.1.1.0/25",
    ] {
        let said = refused(&host, &format!("mini-b=10.1.0.0/24 {shape}"));
        assert!(said.contains("no matching subnet for"), "{said}");
    }
    four.into_iter().chain([wanted]).for_each(Plugged::leave);
    assert_same(&before, || host.snapshot());
}

#[test]
fn networks_are_apart_and_an_internal_one_leads_nowhere() {
    let host = online();
    let before = host.snapshot();
    let one = Plugged::in_networks(&host, "mini-a=10.1.0.0/24");
    let two = Plugged::in_networks(&host, "mini-b=10.2.0.0/24 -p 8080:80");
    let shut = Plugged::in_networks(&host, "mini-c=10.3.0.0/24 --internal -p 8081:80");
    let mate = Plugged::in_networks(&host, "mini-c=10.3.0.0/24 --internal");
    let servers = [two.serve(&host, "two"), shut.serve(&host, "shut")];
    // Each has its gateway; two of them a way out.
    assert!(one.pings(&host, "10.1.0.1") && one.pings(&host, "192.0.2.2"));
    assert_eq!(
        shut.sh(&host, "ip route").trim(),
        "10.3.0.0/24 dev eth0 proto kernel scope link src 10.3.0.2"
    );
    assert!(shut.pings(&host, "10.3.0.1") && shut.pings(&host, mate.four()));
    // None has a way to another, by address.
    assert!(one.is_cut_off(&host, two.four()) && one.is_cut_off(&host, shut.four()));
    shut.sh(&host, "ip route add default via 10.3.0.1");
    assert!(shut.is_cut_off(&host, "192.0.2.2") && shut.is_cut_off(&host, one.four()));
    host.outside(["ip", "route", "add", "10.0.0.0/8", "via", "192.0.2.1"])
        .ok();
    assert!(is_silent_outside(&host, "http://10.2.0.2"));
    assert!(is_silent_outside(&host, "http://10.3.0.2"));
    // No answers come in either, to what somebody else asks under the address of one in there.
    let answers = || shut.sh(&host, "nstat -asz IcmpInEchoReps");
    let heard = answers();
    one.sh(&host, "ip address add 10.3.0.2 dev lo");
    let ask = "ping -c 2 -W 1 -I 10.3.0.2 192.0.2.2";
    assert_eq!(one.try_sh(&host, ask), None);
    assert_eq!(answers(), heard);
    one.sh(&host, "ip address del 10.3.0.2 dev lo");
    // By a published port they have; the host reaches whom it likes.
    let get = format!("{CURL} http://192.0.2.1:8080");
    assert_eq!(one.try_sh(&host, &get).as_deref(), Some("two"));
    assert_eq!(two.try_sh(&host, &get).as_deref(), Some("two"), "hairpin");
    let get = format!("{SHORT} http://192.0.2.1:8080");
    assert_eq!(shut.try_sh(&host, &get), None);
    assert!(is_silent_outside(&host, "http://192.0.2.1:8081"));
    assert_eq!(fetch(&host, "http://10.3.0.2").as_deref(), Some("shut"));
    // One that is in several leads out by the first that does.
    let mut both = Plugged::in_networks(
        &host,
        "mini-c=10.3.0.0/24 mini-a=10.1.0.0/24 mini-b=10.2.0.0/24 --internal",
    );
    assert_eq!(both.addresses.len(), 3);
    assert!(both.pings(&host, shut.four()) && both.pings(&host, two.four()));
    assert!(
        both.sh(&host, "ip route")
            .contains("default via 10.1.0.1 dev eth1")
    );
    both.running.write(b"2\n");
    both.running.expect("moved");
    assert!(
        both.sh(&host, "ip route")
            .contains("default via 10.2.0.1 dev eth2")
    );
    assert!(both.pings(&host, "192.0.2.2"));
    for one in [one, two, shut, mate, both] {
        one.leave();
    }
    host.outside(["ip", "route", "del", "10.0.0.0/8"]).ok();
    end(&host, servers);
    assert_same(&before, || host.snapshot());
}

#[test]
fn a_port_is_an_element_and_the_rules_stay_as_many() {
    let host = online();
    let before = host.snapshot();
    let rules = |text: &str| {
        text.lines()
            .filter(|line| line.contains(" comment "))
            .count()
    };
    let first = Plugged::in_networks(&host, "mini-a=10.1.0.0/24 -p 192.0.2.1:9000:80/udp");
    let few = table(&host);
    assert!(
        few.contains("192.0.2.1 . udp . 9000 : 10.1.0.2 . 80"),
        "{few}"
    );
    let ports: String = (0..700)
        .map(|port| format!(" -p {}:80", 20000 + port))
        .collect();
    let many = Plugged::in_networks(&host, &format!("mini-a=10.1.0.0/24{ports}"));
    let server = many.serve(&host, "many");
    let full = table(&host);
    assert_eq!(rules(&few), rules(&full));
    assert_eq!(full.matches(" : 10.1.0.3 . 80").count(), 700);
    assert_eq!(
        fetch_outside(&host, "http://192.0.2.1:20699").as_deref(),
        Some("many")
    );
    end(&host, [server]);
    many.leave();
    assert_eq!(table(&host), few, "what came went, and nothing else");
    first.leave();
    assert_same(&before, || host.snapshot());
}

#[test]
fn ipv6_leads_out_and_in_at_once() {
    let host = online();
    host.shell(
        "ip -6 addr add 2001:db8::1/64 dev wan nodad; echo 1 >/proc/sys/net/ipv6/conf/wan/accept_ra",
    );
    host.outside([
        "ip",
        "-6",
        "addr",
        "add",
        "2001:db8::2/64",
        "dev",
        "eth0",
        "nodad",
    ])
    .ok();
    let six = "mini-a=10.1.0.0/24 --six fd00:1::/64 -p [::]:8080:80 -p 8080:80";
    let one = Plugged::in_networks(&host, &format!("{six} -p [2001:db8::1]:9000:80/udp"));
    assert_eq!(one.six(), "fd00:1::2");
    // No address is tentative: a program that binds it now may.
    assert_eq!(
        one.sh(&host, "ip -6 addr show dev eth0 scope global tentative"),
        ""
    );
    let server = one.serve(&host, "six");
    let other = Plugged::in_networks(&host, "mini-b=10.2.0.0/24 --six fd00:2::7/64");
    let mate = Plugged::in_networks(
        &host,
        "mini-a=10.1.0.0/24 --six fd00:1::/64 --address6 fd00:1::abcd",
    );
    assert_eq!(mate.six(), "fd00:1::abcd");
    let said = refused(
        &host,
        "mini-a=10.1.0.0/24 --six fd00:1::/64 --address6 fd00:1::abcd",
    );
    assert!(
        said.contains("Address already in use: fd00:1::abcd"),
        "{said}"
    );
    assert!(
        other
            .sh(&host, "ip -6 route")
            .contains("default via fd00:2::7")
    );
    assert!(mate.pings(&host, "fd00:1::2") && mate.pings(&host, "fd00:1::1"));
    // Under the host's address, as nobody outside has a route to fd00::/8.
    assert!(mate.pings(&host, "2001:db8::2"));
    assert!(mate.is_cut_off(&host, "fd00:2::1:0") && other.is_cut_off(&host, "fd00:1::2"));
    let url = "http://[2001:db8::1]:8080";
    assert_eq!(fetch_outside(&host, url).as_deref(), Some("six"));
    assert_eq!(
        fetch_outside(&host, "http://192.0.2.1:8080").as_deref(),
        Some("six")
    );
    assert_eq!(fetch(&host, url).as_deref(), Some("six"));
    for (who, called) in [
        (&mate, "neighbour"),
        (&one, "itself"),
        (&other, "other network"),
    ] {
        let got = who.try_sh(&host, &format!("{CURL} '{url}'"));
        assert_eq!(got.as_deref(), Some("six"), "{called}");
    }
    host.outside([
        "ip",
        "-6",
        "route",
        "add",
        "fd00:1::/64",
        "via",
        "2001:db8::1",
    ])
    .ok();
    assert!(
        is_silent_outside(&host, "http://[fd00:1::2]"),
        "not published"
    );
    // The host is a router, and learns its way from another all the same.
    let switches = "cd /proc/sys/net/ipv6/conf; cat all/forwarding wan/accept_ra mini-a/accept_ra";
    assert_eq!(host.shell(switches).trim(), "1\n2\n0");
    // Containers learn theirs from nobody: a neighbour may send what only routers should.
    let heeds = "cat /proc/sys/net/ipv6/conf/eth*/accept_ra";
    assert_eq!(one.sh(&host, heeds).trim(), "0");
    let residents = host
        .run_as_student(["plugged", RUN, "residents", "mini-a=10.1.0.0/24"])
        .ok();
    let mut residents: Vec<_> = residents.lines().collect();
    residents.sort_unstable();
    assert_eq!(
        residents,
        ["test 10.1.0.2 fd00:1::2", "test 10.1.0.3 fd00:1::abcd"]
    );
    end(&host, [server]);
    [one, other, mate].into_iter().for_each(Plugged::leave);
    let left = host.shell("ip -6 route show table all; nft list ruleset; ip -o link");
    assert!(!left.contains("fd00:") && !left.contains("mini"), "{left}");
}

#[test]
fn whatever_somebody_takes_away_is_made_anew() {
    let host = online();
    let before = host.snapshot();
    let [a, b] = ["mini-a=10.1.0.0/24", "mini-b=10.2.0.0/24"];
    let one = Plugged::in_networks(&host, &format!("{a} -p 8080:80 --id one"));
    let two = Plugged::in_networks(&host, &format!("{b} -p 8081:80 --internal --id two"));
    let server = one.serve(&host, "one");
    let works = |what: &str| {
        assert_eq!(
            fetch_outside(&host, "http://192.0.2.1:8080").as_deref(),
            Some("one"),
            "{what}"
        );
        assert!(one.pings(&host, "192.0.2.2"), "{what}");
        assert!(two.pings(&host, "10.2.0.1"), "{what}");
    };
    let rules = table(&host);
    let rebuild = |network: &str, shape: &str| {
        let argv = ["plugged", RUN, "rebuild", network].into_iter();
        host.run(argv.chain(shape.split_whitespace()))
    };
    for harm in [
        "nft flush ruleset",
        "ip link del mini-a",
        "nft delete element inet minidocker any { tcp . 8080 }",
        "nft flush chain inet minidocker postrouting; ip link set veth0a010002 nomaster down",
        "nft delete table inet minidocker; ip link del mini-a",
    ] {
        host.shell(harm);
        rebuild(a, "").ok();
        works(harm);
        assert_eq!(table(&host), rules, "{harm}");
    }
    // Another container finds out by itself, and those who live gain by it.
    host.shell("nft flush ruleset; ip link del mini-b");
    Plugged::in_networks(&host, b).leave();
    assert_eq!(table(&host), rules);
    rebuild(b, "--internal").ok();
    works("by another");
    // Whose cable is gone altogether is told: who holds their network lays it again.
    host.shell("ip link del veth0a010002");
    assert_eq!(rebuild(a, "").ok(), "10.1.0.2");
    end(&host, [server]);
    one.leave();
    two.leave();
    assert_same(&before, || host.snapshot());
}

#[test]
fn a_damaged_lease_is_passed_over_and_no_address_is_given_twice() {
    let host = online();
    let before = host.snapshot();
    let one = Plugged::in_networks(&host, "mini-a=10.1.0.0/24 -p 8080:80");
    let two = Plugged::in_networks(&host, "mini-a=10.1.0.0/24 --id two");
    let leases = format!("{RUN}/network/mini-a/leases");
    let harm = |script: &str| host.shell(&format!("cd {leases}; {script}"));
    for script in [
        ": >10.1.0.2",
        "head -c 300 /dev/urandom >10.1.0.2",
        "printf 'x\\n99999:1\\n' >10.1.0.2",
        "rm 10.1.0.2",
        "echo x >garbage; mkdir 10.1.0.77; echo nonsense >../subnet",
        "head -c 99 /dev/urandom >10.1.0.50; : >../subnet",
    ] {
        harm(script);
        let other = Plugged::in_networks(&host, "mini-a=10.1.0.0/24");
        assert_eq!(other.four(), "10.1.0.4", "{script}");
        other.leave();
        let said = refused(&host, "mini-a=10.1.0.0/24 --address 10.1.0.2");
        assert!(said.contains("Address already in use"), "{script}: {said}");
    }
    let residents = host.run(["plugged", RUN, "residents", "mini-a=10.1.0.0/24"]);
    assert_eq!(residents.ok(), "two 10.1.0.3 -");
    harm("rm 10.1.0.3");
    let said = refused(&host, "mini-a=10.1.0.0/24");
    assert!(said.contains("it is free when they have ended"), "{said}");
    host.run(["plugged", RUN, "sweep"]).ok();
    assert!(one.pings(&host, "10.1.0.1") && one.pings(&host, two.four()));
    drop((one, two));
    wait_for("the kernel to have removed the cables", 60, || {
        let links = host.run(["ip", "-o", "link"]).ok();
        (!links.contains("veth0a01")).then_some(())
    });
    harm("rm -r garbage 10.1.0.77");
    host.run(["plugged", RUN, "sweep"]).ok();
    assert_same(&before, || host.snapshot());
}

#[test]
fn another_engines_table_is_an_error_and_stays() {
    let host = online();
    let before = host.snapshot();
    let one = Plugged::in_networks(&host, "mini-a=10.1.0.0/24 -p 8080:80");
    let rules = table(&host);
    let elsewhere = ["plugged", "/run/elsewhere"];
    let plug = elsewhere
        .into_iter()
        .chain(["plug", "mini-x=10.9.0.0/24", "-p", "8081:80"]);
    let said = host.run(plug).exits(1);
    assert!(
        said.contains("somebody else's (\"minidocker in /run/minidocker\")"),
        "{said}"
    );
    assert!(said.contains("nft delete table inet minidocker"), "{said}");
    assert_eq!(host.run(elsewhere.into_iter().chain(["sweep"])).ok(), "");
    assert_eq!(table(&host), rules);
    one.leave();
    host.shell("rm -r /run/elsewhere");
    assert_same(&before, || host.snapshot());
}

#[test]
fn a_firewall_that_drops_what_is_forwarded_is_named_with_the_command_that_allows_it() {
    let host = online();
    let warning = |reaches: bool| {
        let one = Plugged::in_networks(&host, "mini-a=10.1.0.0/24");
        match reaches {
            true => assert!(one.pings(&host, "192.0.2.2")),
            false => assert!(one.is_cut_off(&host, "192.0.2.2")),
        }
        one.running.wait().errors()
    };
    // As docker's, by iptables; ufw's; firewalld's; one's own.
    let forward = "{ type filter hook forward priority filter; policy drop; }";
    let firewalls = [
        (
            "iptables -N DOCKER-USER; iptables -A FORWARD -j DOCKER-USER; iptables -P FORWARD DROP"
                .to_owned(),
            "iptables -I DOCKER-USER -i mini-a -j ACCEPT",
        ),
        (
            "iptables -N ufw-before-forward; iptables -P FORWARD DROP".to_owned(),
            "ufw route allow in on mini-a",
        ),
        (
            format!(
                "nft add table inet firewalld; nft 'add chain inet firewalld filter_FORWARD {forward}'"
            ),
            "firewall-cmd --zone=trusted --add-interface=mini-a",
        ),
        (
            format!("nft add table ip mine; nft 'add chain ip mine f {forward}'"),
            "nft insert rule ip mine f iifname mini-a accept",
        ),
    ];
    assert_eq!(warning(true), "");
    for (firewall, remedy) in firewalls {
        host.shell(&firewall);
        let said = warning(false);
        assert!(said.contains(remedy), "{firewall}: {said}");
        // As it is told, where the tool is at hand; then there is nothing to say.
        let commands: Vec<_> = said.split('`').skip(1).step_by(2).collect();
        if !remedy.starts_with("ufw") && !remedy.starts_with("firewall-cmd") {
            host.shell(&commands.join(" && "));
            assert_eq!(warning(true), "", "{commands:?}");
        }
        host.shell("nft flush ruleset");
    }
}

#[test]
fn what_the_dead_left_of_all_networks_is_found() {
    let host = online();
    host.shell("echo 1 >/proc/sys/net/ipv6/conf/all/forwarding");
    let before = host.snapshot();
    let one = Plugged::in_networks(&host, "mini-a=10.1.0.0/24 -p 8080:80");
    let two = Plugged::in_networks(&host, "mini-b=10.2.0.9/24 --six fd00:2::/64 --internal");
    let three = Plugged::in_networks(&host, "mini-b=10.2.0.9/24 --six fd00:2::/64 --internal");
    let rules = table(&host);
    for dead in [one, two] {
        dead.running.signal(nix::sys::signal::Signal::SIGKILL);
        dead.running.wait();
    }
    let left = host.run(["plugged", RUN, "sweep"]).ok();
    assert!(left.contains("mini-a/leases/10.1.0.2"), "{left}");
    assert!(left.contains("mini-b/leases/10.2.0.1"), "{left}");
    let now = table(&host);
    assert!(!now.contains("mini-a") && !now.contains("8080"), "{now}");
    assert!(rules.contains("8080") && now.contains("mini-b"), "{now}");
    assert!(three.pings(&host, "10.2.0.9"));
    assert!(!host.run(["ip", "link"]).ok().contains("mini-a"));
    three.leave();
    assert_same(&before, || host.snapshot());
}

#[test]
fn a_bridge_that_is_full_says_so_and_how_to_go_on() {
    let host = online();
    let one = Plugged::in_networks(&host, "mini-a=10.1.0.0/22");
    host.shell(
        "for n in $(seq 511); do echo link add d$n master mini-a type veth peer name e$n
         echo link set e$n master mini-a; done | ip -batch -",
    );
    let said = refused(&host, "mini-a=10.1.0.0/22");
    assert!(
        said.contains("1023") && said.contains("another network"),
        "{said}"
    );
    let other = Plugged::in_networks(&host, "mini-b=10.9.0.0/24");
    assert!(other.pings(&host, "192.0.2.2"));
    let routes = host.run(["plugged", RUN, "routes"]).ok();
    for network in ["10.1.0.0/22", "10.9.0.0/24", "192.0.2.0/24"] {
        assert!(routes.lines().any(|line| line == network), "{routes}");
    }
    let said = refused(&host, "mini-c=10.9.0.128/25");
    assert!(
        said.contains("this host has routes into 10.9.0.128/25"),
        "{said}"
    );
    other.leave();
    one.leave();
}
