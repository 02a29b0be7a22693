//! A published port, from wherever one can call it.

use harness::engine::{Machine, shell};
use harness::wait_for;
use serde_json::Value;

use crate::far::{Far, HERE, HERE6, THERE};
use crate::online;

const NGINX: &str = "hostname >/var/www/html/index.html \
    && head -c 3000000 /dev/zero >/var/www/html/large \
    && exec nginx -g 'daemon off;'";

pub const CURL: &str = "curl -sS --noproxy * -m30";

/// Answers for far.example, and knows nothing else.
pub const DNSMASQ: &str = "dnsmasq -k -C /dev/null --user=root --no-resolv --no-hosts \
    --bind-interfaces --address=/far.example/198.51.100.2 --local=/example/ --listen-address=";

/// Starts nginx as `web`, and returns its address.
#[track_caller]
fn nginx(machine: &Machine, options: &str) -> String {
    let options = format!("run -d --name web --hostname web {options} services");
    machine.ok(&shell(&options, NGINX));
    listens(machine, "web", 80);
    machine.ok("exec web hostname -I").trim().to_owned()
}

/// Waits until somebody in a container listens on a port of TCP.
#[track_caller]
pub fn listens(machine: &Machine, name: &str, port: u16) {
    let script = format!("until ss -Hltn | grep -q ':{port} '; do sleep 0.02; done");
    machine.ok(&shell(&format!("exec {name}"), &script));
}

#[test]
fn nginx_answers_through_a_published_port_from_everywhere() {
    let machine = online();
    let far = Far::new(&machine);
    let address = nginx(&machine, "-p 8080:80");
    for url in [
        format!("http://{HERE}:8080/"),
        format!("http://[{HERE6}]:8080/"),
    ] {
        assert_eq!(far.run(&format!("{CURL} {url}")).ok(), "web", "{url}");
        assert_eq!(far.here(&format!("{CURL} {url}")).ok(), "web", "{url}");
    }
    for url in ["http://127.0.0.1:8080/", "http://[::1]:8080/"] {
        assert_eq!(far.here(&format!("{CURL} {url}")).ok(), "web", "{url}");
    }
    for url in [format!("{HERE}:8080"), format!("{address}:80")] {
        let other = machine.ok(&format!("run --rm services {CURL} http://{url}/"));
        assert_eq!(other, "web", "{url}");
        let own = machine.ok(&format!("exec web {CURL} http://{url}/"));
        assert_eq!(own, "web", "{url}");
    }
    // More than fits into the smallest link on the way: who sends is told so, through the NAT.
    let size = far.run(&format!(
        "{CURL} -o /dev/null -w %{{size_download}} http://{HERE}:8080/large"
    ));
    assert_eq!(size.ok(), "3000000");
    // Who called is no secret to whom was called: nobody has copied anything.
    let log = machine.ok("exec web cat /var/log/nginx/access.log");
    assert!(log.contains(&format!("{THERE} - - ")), "{log}");
    far.nothing_left();
}

#[test]
fn a_container_finds_the_way_out_and_how_wide_it_is() {
    let machine = online();
    let far = Far::new(&machine);
    machine.ok("run -d --name one services sleep 1000");
    machine.ok(&format!("exec one ping -c1 -W20 {THERE}"));
    machine.ok(&format!("exec one ping -c1 -W20 -Mdo -s1372 {THERE}"));
    let wide = machine.minidocker(&format!("exec one ping -c2 -i0.2 -W20 -Mdo -s1400 {THERE}"));
    let said = wide.exits(1) + &wide.text();
    assert!(
        said.contains("mtu = 1400") || said.contains("mtu=1400"),
        "{said}"
    );
    // From outside nobody comes in but by a published port, whatever router they have.
    let route = "ip route add 10.88.0.0/16 via 192.0.2.1";
    machine.host().outside(["sh", "-c", route]).ok();
    let address = machine.ok("exec one hostname -I");
    far.run(&format!("ping -c1 -W1 {address}")).exits(1);
    far.nothing_left();
}

#[test]
fn a_name_server_answers_through_a_published_port_of_udp() {
    let machine = online();
    let far = Far::new(&machine);
    // On a network whose names are answered for, a container may have a server of its own for all.
    machine.ok("network create red");
    let serve = format!(
        "run -d --name dns --network red -p 5353:53/udp -p 5353:53/tcp services {DNSMASQ}0.0.0.0"
    );
    machine.ok(&serve);
    listens(&machine, "dns", 53);
    let ask = |to: &str, how: &str| {
        format!("dig +short +timeout=20 +tries=2 {how} -p 5353 @{to} far.example")
    };
    for how in ["", "+tcp"] {
        for to in [HERE, HERE6] {
            assert_eq!(far.run(&ask(to, how)).ok(), THERE, "{to} {how}");
        }
        for to in [HERE, HERE6, "127.0.0.1", "::1"] {
            assert_eq!(far.here(&ask(to, how)).ok(), THERE, "{to} {how}");
        }
        let run = "run --rm services";
        let own = "exec dns";
        for who in [run, own] {
            let answer = machine.ok(&format!("{who} {}", ask(HERE, how)));
            assert_eq!(answer, THERE, "{who} {how}");
        }
    }
    // Who asks from one port all the time asks whoever is there now, and nobody who has that address.
    let same = format!("{} -b 0.0.0.0#5555", ask(HERE, ""));
    assert_eq!(far.run(&same).ok(), THERE);
    machine.ok("rm -f dns");
    machine.ok("run -d --name heir --network red services sleep 1000");
    machine.ok(&serve);
    listens(&machine, "dns", 53);
    assert_eq!(far.run(&same).ok(), THERE);
    machine.no_container_left();
    machine.ok("network rm red");
    far.nothing_left();
}

#[test]
fn only_what_is_published_is_reached_and_only_where_it_is() {
    let machine = online();
    let far = Far::new(&machine);
    let address = nginx(&machine, "-p 127.0.0.1:8080:80 -p 8081:81");
    let url = format!("{CURL} http://127.0.0.1:8080/");
    assert_eq!(far.here(&url).ok(), "web");
    // A neighbour that sends 127.0.0.1 to the machine, and one that takes it for a router.
    let script = format!(
        "ip address del 127.0.0.1/8 dev lo
        sysctl -qw net.ipv4.conf.all.route_localnet=1
        ip route add 127.0.0.1 via {HERE} src 192.0.2.2
        ip route add {address} via {HERE}"
    );
    machine.host().outside(["sh", "-euc", &script]).ok();
    for to in ["127.0.0.1:8080".to_owned(), format!("{address}:80")] {
        let curl = format!("curl -s --noproxy * -m1 http://{to}/");
        let out = machine.host().outside(curl.split(' '));
        assert_ne!(out.code(), 0, "a neighbour has called {to}: {out}");
        let curl = format!("curl -s -m1 http://{address}/");
        assert_ne!(far.run(&curl).code(), 0, "from afar {address} answers");
    }
    far.nothing_left();
}

/// Bytes that have arrived, as iperf3 tells of them.
fn received(json: &str) -> u64 {
    let told: Value = serde_json::from_str(json).expect("JSON");
    let end = &told["end"];
    let sum = end.get("sum_received").unwrap_or(&end["sum"]);
    sum["bytes"].as_u64().unwrap_or_else(|| panic!("{json}"))
}

#[test]
fn iperf3_moves_megabytes_both_ways_by_tcp_and_udp() {
    let machine = online();
    let far = Far::new(&machine);
    machine.ok("run -d --name iperf -p 5201:5201 -p 5201:5201/udp services iperf3 -s");
    listens(&machine, "iperf", 5201);
    for options in [
        "-n 100M",
        "-n 100M -R",
        "-u -b 10M -n 1M",
        "-u -b 10M -n 1M -R",
    ] {
        let line = format!("iperf3 -J --connect-timeout 5000 -c {HERE} {options}");
        // What was on its way when the sender ended is not counted.
        let wanted = if options.contains("100M") {
            90 << 20
        } else {
            900_000
        };
        // It serves one after the other, and may be busy with the end of the last; and datagrams may
        // be lost where a receiver has to wait for its processor.
        wait_for(&format!("{wanted} bytes by {options}"), 60, || {
            let out = far.run(&line);
            (out.code() == 0 && received(&out.text()) >= wanted).then_some(())
        });
    }
    far.nothing_left();
}
