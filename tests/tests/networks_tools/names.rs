//! Names, and who reaches whom, in networks that people made.

use harness::engine::{Machine, shell};
use harness::wait_for;

use crate::far::{Far, HERE6, THERE};
use crate::online;
use crate::ports::{CURL, DNSMASQ, listens};

#[track_caller]
fn sleeper(machine: &Machine, name: &str, options: &str) {
    machine.ok(&format!(
        "run -d --name {name} {options} services sleep 1000"
    ));
}

/// What `dig` says inside, in short.
#[track_caller]
fn dig(machine: &Machine, name: &str, what: &str) -> String {
    machine.ok(&format!(
        "exec {name} dig +short +timeout=20 +tries=2 {what}"
    ))
}

/// Its address in a network that people made.
#[track_caller]
fn address(machine: &Machine, name: &str, network: &str) -> String {
    let format = format!("{{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}");
    machine.ok(&["inspect", "--format", &format, name])
}

#[test]
fn dig_ping_and_curl_find_a_container_by_all_its_names() {
    let machine = online();
    let far = Far::new(&machine);
    let host = machine.host();
    let remote = far.spawn(&format!("{DNSMASQ}{THERE}"));
    host.shell(&format!("echo nameserver {THERE} >/etc/resolv.conf"));
    machine.ok("network create red");
    machine.ok("network create green");
    sleeper(&machine, "app", "--network red");
    machine.ok(&shell(
        "run -d --name db --hostname box --network red --network-alias store services",
        "echo found >/var/www/html/index.html; exec nginx -g 'daemon off;'",
    ));
    listens(&machine, "db", 80);
    let db = address(&machine, "db", "red");
    let id = machine.container("db").id()[..12].to_owned();
    for name in [
        "db",
        "store",
        "db.red",
        &id,
        "DB",
        "+tcp db",
        "@127.0.0.11 db",
    ] {
        assert_eq!(dig(&machine, "app", name), db, "{name}");
    }
    assert_eq!(dig(&machine, "app", &format!("-x {db}")), "db.red.");
    // There is such a name, and no such address: who asks for both must not be told that there is none.
    let six = machine.ok("exec app dig db AAAA");
    assert!(
        six.contains("status: NOERROR") && six.contains("ANSWER: 0"),
        "{six}"
    );
    machine.ok("exec app ping -c1 -W20 db");
    assert_eq!(
        machine.ok(&format!("exec app {CURL} http://store/")),
        "found"
    );
    assert_eq!(dig(&machine, "app", "far.example"), THERE);
    let nobody = machine.ok("exec app dig nobody.example");
    assert!(nobody.contains("status: NXDOMAIN"), "{nobody}");

    machine.ok("rename db other");
    assert_eq!(dig(&machine, "app", "other"), db);
    // Each network has its own names, and who joins it finds them.
    sleeper(&machine, "leaf", "--network green");
    assert_eq!(dig(&machine, "app", "leaf"), "");
    machine.fails(1, "network disconnect green app");
    machine.ok("network connect --alias inner green app");
    let leaf = address(&machine, "leaf", "green");
    assert_eq!(dig(&machine, "app", "leaf"), leaf);
    assert_eq!(
        dig(&machine, "leaf", "inner"),
        address(&machine, "app", "green")
    );
    machine.ok("exec app ping -c1 -W20 leaf");
    machine.ok("network disconnect green app");
    assert_eq!(dig(&machine, "app", "leaf"), "");
    assert_eq!(dig(&machine, "leaf", "inner"), "");
    machine.ok("stop -t 0 other");
    assert_eq!(dig(&machine, "app", "other"), "");

    // A resolver on the loopback of the host, as systemd-resolved is one.
    let local = far.spawn_here(&format!("{DNSMASQ}127.0.0.53"));
    host.shell("echo nameserver 127.0.0.53 >/etc/resolv.conf");
    sleeper(&machine, "late", "--network red");
    wait_for("the host's own resolver to answer", 60, || {
        (dig(&machine, "late", "far.example") == THERE).then_some(())
    });
    machine.no_container_left();
    machine.ok("network rm red green");
    host.shell("echo nameserver 192.0.2.2 >/etc/resolv.conf");
    drop((remote, local));
    far.nothing_left();
}

#[test]
fn networks_are_apart_and_an_internal_one_has_no_way_out() {
    let machine = online();
    let far = Far::new(&machine);
    machine.ok("network create --subnet 10.71.0.0/24 red");
    machine.ok("network create --subnet 10.72.0.0/24 green");
    machine.ok("network create --subnet 10.73.0.0/24 --internal inner");
    for (name, network) in [
        ("aa", "red"),
        ("bb", "green"),
        ("cc", "inner"),
        ("dd", "inner"),
    ] {
        sleeper(&machine, name, &format!("--network {network}"));
    }
    sleeper(&machine, "ee", "");
    let answers = |from: &str, to: &str, seconds: u8| {
        let ping = format!("exec {from} ping -c1 -W{seconds} {to}");
        machine.minidocker(&ping).code() == 0
    };
    let reaches = |from: &str, to: &str| answers(from, to, 20);
    let is_cut_off = |from: &str, to: &str| !answers(from, to, 1);
    let (b, c) = (
        address(&machine, "bb", "green"),
        address(&machine, "cc", "inner"),
    );
    for (from, to) in [("aa", &b), ("aa", &c), ("cc", &b), ("ee", &b), ("ee", &c)] {
        assert!(is_cut_off(from, to), "{from} reaches {to}");
    }
    assert!(reaches("dd", "cc") && reaches("aa", THERE) && reaches("ee", THERE));
    assert!(
        is_cut_off("cc", THERE),
        "there is a way out of an internal network"
    );
    assert!(
        is_cut_off("cc", "192.0.2.1"),
        "an internal network reaches the host's other addresses"
    );
    far.run(&format!("ping -c1 -W1 {b}")).exits(1);
    // Who is in an internal network and in another goes out by the other.
    machine.ok("network connect red dd");
    assert!(reaches("dd", THERE) && reaches("dd", "cc"));
    machine.no_container_left();
    machine.ok("network rm red green inner");
    far.nothing_left();
}

#[test]
fn a_container_with_ipv6_is_called_from_afar_without_a_copy() {
    let machine = online();
    let far = Far::new(&machine);
    machine.ok("network create --ipv6 --subnet fd00:77::/64 --subnet 10.77.0.0/24 six");
    machine.ok(&shell(
        "run -d --name web --network six -p 8080:80 services",
        "echo found >/var/www/html/index.html
        sed -i 's/listen 80 default_server/listen [::]:80 ipv6only=off default_server/; /listen \\[::\\]:80 default_server/d' \
            /etc/nginx/sites-enabled/default
        exec nginx -g 'daemon off;'",
    ));
    listens(&machine, "web", 80);
    sleeper(&machine, "app", "--network six");
    let six = dig(&machine, "app", "web AAAA");
    assert!(six.starts_with("fd00:77::"), "{six}");
    machine.ok("exec app ping -6 -c1 -W20 web");
    machine.ok("exec app ping -6 -c1 -W20 2001:db8:2::2");
    for url in [format!("[{HERE6}]"), "192.0.2.1".to_owned()] {
        let url = format!("http://{url}:8080/");
        assert_eq!(far.run(&format!("{CURL} {url}")).ok(), "found", "{url}");
        assert_eq!(far.here(&format!("{CURL} {url}")).ok(), "found", "{url}");
    }
    assert_eq!(
        far.here(&format!("{CURL} http://[::1]:8080/")).ok(),
        "found"
    );
    let log = machine.ok("exec web cat /var/log/nginx/access.log");
    assert!(log.contains("2001:db8:2::2 - - "), "{log}");
    // Others come in by a published port alone, by IPv6 as well.
    machine.ok("network create --ipv6 --subnet fd00:78::/64 seven");
    sleeper(&machine, "stranger", "--network seven");
    let ping = format!("exec stranger ping -6 -c1 -W1 {six}");
    machine.minidocker(&ping).exits(1);
    let route = "ip -6 route add fd00:77::/64 via 2001:db8:1::1";
    machine.host().outside(route.split(' ')).ok();
    far.run(&format!("ping -6 -c1 -W1 {six}")).exits(1);
    machine.no_container_left();
    machine.ok("network rm six seven");
    far.nothing_left();
}
