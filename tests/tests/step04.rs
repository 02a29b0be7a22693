//! Step 4: an address, a way out, and published ports.

use std::collections::BTreeSet;

use harness::{Host, Running, User, assert_same, wait_for};

/// Starts a container that answers on `port` with one line, by busybox's httpd: that listens before it
/// goes into the background.
fn server(host: &Host, options: &[&str], port: u16) -> Running {
    let script = format!(
        "mkdir -p /dev/shm/www && echo hello-from-$(hostname) >/dev/shm/www/index.html && \
         busybox httpd -p {port} -h /dev/shm/www && echo up && exec sleep 1000"
    );
    let mut argv = vec!["step04", "run"];
    argv.extend(options);
    argv.extend(["--", "sh", "-c", &script]);
    let mut running = host.spawn(argv);
    running.expect("up");
    running
}

const CURL: &str = "curl -sS --noproxy * --retry 5 --retry-connrefused -m 20";

/// Fetches `url` by curl in the host's network, its loopback included.
fn fetch(host: &Host, url: &str) -> String {
    host.run(CURL.split(' ').chain([url])).ok()
}

fn fetch_outside(host: &Host, url: &str) -> String {
    host.outside(CURL.split(' ').chain([url])).ok()
}

/// A program outside that answers everybody on port 7000 with what `answer` prints.
fn listener(host: &Host, answer: &[&str]) -> Running {
    let nc = ["busybox", "nc", "-ll", "-p", "7000", "-e"];
    let running = host.spawn_outside(nc.iter().chain(answer));
    wait_for_port(host);
    running
}

fn wait_for_port(host: &Host) {
    wait_for("the outside to listen on port 7000", 60, || {
        host.outside(["ss", "-Hltn"])
            .text()
            .contains(":7000")
            .then_some(())
    });
}

/// The first global IPv4 address that a container reports, with its prefix.
const ADDRESS: &str = "ip -4 -o addr show dev eth0 | awk '{print $4}'";

#[test]
fn a_container_has_an_address_and_a_default_route() {
    let host = Host::online();
    let out = host
        .run([
            "step04",
            "run",
            "sh",
            "-c",
            "ip -4 -o addr; ip route; ip -o link",
        ])
        .ok();
    assert!(out.contains("eth0"), "{out}");
    assert!(out.contains("default via "), "{out}");
    assert!(out.contains("127.0.0.1/8"), "loopback is up: {out}");
}

#[test]
fn twenty_containers_at_once_have_twenty_addresses() {
    let host = Host::online();
    let before = host.snapshot();
    let script = format!("{ADDRESS}; echo up; exec sleep 1000");
    let mut running: Vec<Running> = (0..20)
        .map(|_| host.spawn(["step04", "run", "sh", "-c", &script]))
        .collect();
    let addresses: BTreeSet<String> = running
        .iter_mut()
        .map(|one| {
            one.expect("up")
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned()
        })
        .collect();
    assert_eq!(addresses.len(), 20, "{addresses:?}");
    for one in &running {
        one.signal(nix::sys::signal::Signal::SIGTERM);
    }
    for one in running {
        assert_eq!(one.wait().code(), 143);
    }
    assert_same(&before, || host.snapshot());
}

#[test]
fn an_address_is_used_again_when_it_is_free() {
    let host = Host::online();
    let seen: BTreeSet<String> = (0..5)
        .map(|_| host.run(["step04", "run", "sh", "-c", ADDRESS]).ok())
        .collect();
    assert!(seen.len() <= 5 && !seen.contains(""), "{seen:?}");
    // More containers one after another than the subnet has addresses would
    // take minutes; that leases are given back is seen on the disk.
    let leases = host.shell("find /run/minidocker -type f -size +0 ! -name subnet");
    assert_eq!(leases, "");
}

#[test]
fn two_containers_reach_each_other() {
    let host = Host::online();
    let mut one = host.spawn([
        "step04",
        "run",
        "sh",
        "-c",
        &format!("{ADDRESS}; echo up; exec sleep 1000"),
    ]);
    let address = one
        .expect("up")
        .lines()
        .next()
        .unwrap()
        .split('/')
        .next()
        .unwrap()
        .to_owned();
    let out = host.run(["step04", "run", "ping", "-c", "1", "-W", "20", &address]);
    out.ok();
}

#[test]
fn a_container_reaches_the_host_and_the_outside() {
    let host = Host::online();
    for address in ["192.0.2.1", "192.0.2.2"] {
        host.run(["step04", "run", "ping", "-c", "1", "-W", "20", address])
            .ok();
    }
}

#[test]
fn the_outside_sees_the_hosts_address_not_the_containers() {
    let host = Host::online();
    // Whatever state the connection is in by then: nobody says anything, and that ends at once.
    let _listener = listener(&host, &["ss", "-Htan", "sport = :7000"]);
    let out = host
        .run([
            "step04",
            "run",
            "busybox",
            "nc",
            "-w",
            "20",
            "192.0.2.2",
            "7000",
        ])
        .ok();
    assert!(out.contains("192.0.2.1"), "{out}");
}

#[test]
fn a_published_port_answers_from_outside_from_the_hosts_addresses_and_on_127_0_0_1() {
    let host = Host::online();
    let _server = server(&host, &["--hostname", "web", "-p", "8080:80"], 80);
    assert_eq!(
        fetch_outside(&host, "http://192.0.2.1:8080/"),
        "hello-from-web"
    );
    assert_eq!(fetch(&host, "http://192.0.2.1:8080/"), "hello-from-web");
    assert_eq!(fetch(&host, "http://127.0.0.1:8080/"), "hello-from-web");
    assert_eq!(fetch(&host, "http://localhost:8080/"), "hello-from-web");
}

#[test]
fn a_published_port_answers_other_containers_and_the_container_itself() {
    let host = Host::online();
    let _server = server(&host, &["--hostname", "web", "-p", "8080:80"], 80);
    let get = |port: u16| {
        format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | busybox nc -w 20 192.0.2.1 {port}")
    };
    let out = host.run(["step04", "run", "sh", "-c", &get(8080)]).ok();
    assert!(out.ends_with("hello-from-web"), "{out}");
    let script = format!(
        "mkdir -p /dev/shm/www && echo myself >/dev/shm/www/index.html && \
         busybox httpd -p 80 -h /dev/shm/www; {}",
        get(8081)
    );
    let out = host
        .run(["step04", "run", "-p", "8081:80", "sh", "-c", &script])
        .ok();
    assert!(out.ends_with("myself"), "{out}");
}

#[test]
fn a_port_published_on_one_address_does_not_answer_on_another() {
    let host = Host::online();
    let _server = server(&host, &["--hostname", "web", "-p", "127.0.0.1:8080:80"], 80);
    assert_eq!(fetch(&host, "http://127.0.0.1:8080/"), "hello-from-web");
    let out = host.outside([
        "curl",
        "-s",
        "--noproxy",
        "*",
        "-m",
        "2",
        "http://192.0.2.1:8080/",
    ]);
    assert_ne!(out.code(), 0, "{out}");
}

#[test]
fn two_ports_lead_to_two_containers() {
    let host = Host::online();
    let _one = server(&host, &["--hostname", "one", "-p", "8081:80"], 80);
    let _two = server(
        &host,
        &["--hostname", "two", "-p", "8082:80", "-p", "8083:80"],
        80,
    );
    assert_eq!(
        fetch_outside(&host, "http://192.0.2.1:8081/"),
        "hello-from-one"
    );
    assert_eq!(
        fetch_outside(&host, "http://192.0.2.1:8082/"),
        "hello-from-two"
    );
    assert_eq!(fetch(&host, "http://127.0.0.1:8083/"), "hello-from-two");
}

#[test]
fn a_udp_port_is_published_as_well() {
    let host = Host::online();
    // Nobody listens inside: the kernel counts what arrives there (snmp, NoPorts).
    let count = "echo up; while sleep 0.2; do awk '/^Udp: [0-9]/ { print \"arrived\", $3 }' /proc/net/snmp; done";
    let mut running = host.spawn(["step04", "run", "-p", "9000:9001/udp", "sh", "-c", count]);
    running.expect("up");
    wait_for("a datagram to arrive", 60, || {
        host.outside(["bash", "-c", "echo datagram >/dev/udp/192.0.2.1/9000"]);
        let seen = running.printed();
        seen.lines()
            .any(|line| line.starts_with("arrived") && !line.ends_with(" 0"))
            .then_some(())
    });
}

#[test]
fn a_port_that_is_taken_is_an_error_that_names_it() {
    let host = Host::online();
    let before = host.snapshot();
    let one = server(&host, &["-p", "8080:80"], 80);
    let error = host
        .run(["step04", "run", "-p", "8080:80", "true"])
        .exits(125);
    assert!(error.contains("8080"), "{error}");
    assert_eq!(
        fetch(&host, "http://127.0.0.1:8080/").split('-').next(),
        Some("hello")
    );
    one.signal(nix::sys::signal::Signal::SIGTERM);
    one.wait();
    // By a program of the host.
    let mut taken = host.spawn(["busybox", "nc", "-l", "-p", "8090"]);
    wait_for("the port to be taken", 60, || {
        host.run(["ss", "-ltn"])
            .text()
            .contains(":8090")
            .then_some(())
    });
    let error = host
        .run(["step04", "run", "-p", "8090:80", "true"])
        .exits(125);
    assert!(error.contains("8090"), "{error}");
    assert!(taken.is_running());
    drop(taken);
    assert_same(&before, || host.snapshot());
}

#[test]
fn values_that_make_no_sense_are_refused() {
    let host = Host::online();
    for option in [
        "-p=x",
        "-p=80",
        "-p=99999:80",
        "-p=80:99999",
        "-p=80:80/sctp",
        "-p=1.2.3:80:80",
        "-p=0:80:80:80",
        "--network=host2",
    ] {
        let out = host.run(["step04", "run", option, "true"]);
        assert!([2, 125].contains(&out.code()), "{out}");
    }
}

#[test]
fn network_none_is_loopback_alone() {
    let host = Host::online();
    let before = host.snapshot();
    for user in [User::Root, User::Student] {
        let out = host
            .run_as(
                user,
                ["step04", "run", "--network", "none", "ip", "-o", "link"],
            )
            .ok();
        assert_eq!(out.lines().count(), 1, "{user:?}: {out}");
        assert!(out.contains("lo:") && out.contains("UP"), "{user:?}: {out}");
    }
    assert_same(&before, || host.snapshot());
}

#[test]
fn published_ports_and_no_network_contradict_each_other() {
    let host = Host::online();
    let out = host.run(["step04", "run", "--network", "none", "-p", "80:80", "true"]);
    assert!([2, 125].contains(&out.code()), "{out}");
}

#[test]
fn the_container_finds_names_by_files_of_its_own() {
    let host = Host::online();
    let files = "cat /etc/hostname; echo --; cat /etc/hosts; echo --; cat /etc/resolv.conf";
    let out = host
        .run(["step04", "run", "--hostname", "box", "sh", "-c", files])
        .ok();
    let mut parts = out.split("--\n");
    assert_eq!(parts.next(), Some("box\n"));
    let hosts = parts.next().unwrap();
    assert!(
        hosts.contains("localhost") && hosts.contains("box"),
        "{hosts}"
    );
    assert!(
        parts.next().unwrap().contains("nameserver 192.0.2.2"),
        "{out}"
    );
}

#[test]
fn what_a_container_writes_to_its_name_files_does_not_reach_the_host() {
    let host = Host::online();
    let before = host.shell("cat /etc/resolv.conf /etc/hosts");
    host.run([
        "step04",
        "run",
        "sh",
        "-c",
        "echo nameserver 6.6.6.6 >/etc/resolv.conf; echo x >/etc/hosts; true",
    ])
    .ok();
    assert_eq!(host.shell("cat /etc/resolv.conf /etc/hosts"), before);
    let again = host
        .run(["step04", "run", "cat", "/etc/resolv.conf", "/etc/hosts"])
        .ok();
    assert!(!again.contains("6.6.6.6"), "{again}");
}

#[test]
fn without_root_there_is_a_way_out() {
    let host = Host::online();
    let out = host.run_as_student([
        "step04",
        "run",
        "sh",
        "-c",
        "ip -4 -o addr; ip route; echo fine",
    ]);
    assert!(out.ok().ends_with("fine"));
    assert!(
        !out.errors().contains("install"),
        "without pasta this cannot be tested (apt install passt): {out}"
    );
    // A whole answer of a known length: old versions of pasta lose ends of connections.
    host.shell("mkdir /tmp/www; echo hello >/tmp/www/index.html");
    let httpd = ["busybox", "httpd", "-f", "-p", "7000", "-h", "/tmp/www"];
    let _server = host.spawn_outside(httpd);
    wait_for_port(&host);
    let get = "busybox wget -q -O - http://192.0.2.2:7000/index.html";
    let out = host.run_as_student(["step04", "run", "sh", "-c", get]);
    assert_eq!(out.ok(), "hello", "{out}");
}

#[test]
fn without_root_a_published_port_answers() {
    let host = Host::online();
    // By whom a call is taken before anybody listens inside has to break it.
    let script = "mkdir -p /dev/shm/www && echo rootless >/dev/shm/www/index.html && \
        busybox httpd -p 80 -h /dev/shm/www && echo up && exec sleep 1000";
    let mut running = host.spawn_as(
        User::Student,
        ["step04", "run", "-p", "8080:80", "sh", "-c", script],
    );
    running.expect("up");
    assert_eq!(fetch_outside(&host, "http://192.0.2.1:8080/"), "rootless");
    assert_eq!(fetch(&host, "http://127.0.0.1:8080/"), "rootless");
}

#[test]
fn without_a_helper_it_says_what_to_install_and_goes_on_with_loopback() {
    let host = Host::online();
    // Hidden where student would look for them.
    host.shell(
        "for p in pasta passt slirp4netns; do for d in /usr/local/bin /usr/bin /bin /usr/sbin; do \
        if [ -e $d/$p ]; then mount --bind /dev/null $d/$p; fi; done; done",
    );
    let out = host.run_as_student(["step04", "run", "sh", "-c", "ip -o link | wc -l; exit 4"]);
    assert_eq!(out.code(), 4, "{out}");
    let errors = out.errors();
    assert!(
        errors.contains("pasta") || errors.contains("passt") || errors.contains("slirp4netns"),
        "{out}"
    );
    assert!(errors.contains("install"), "{out}");
    assert_eq!(out.text(), "1");
}

#[test]
fn the_hosts_own_firewall_rules_and_links_are_left_alone() {
    let host = Host::online();
    host.shell(
        "nft 'add table ip mine; add chain ip mine c { type filter hook forward priority 0; }; \
              add rule ip mine c ip saddr 198.51.100.1 drop'
         nft 'add table inet minidocker-not; add set inet minidocker-not s { type ipv4_addr; }'
         ip link add other type bridge; ip addr add 198.51.100.9/24 dev other; ip link set other up",
    );
    let before = host.snapshot();
    host.run(["step04", "run", "-p", "8080:80", "true"]).ok();
    host.run(["step04", "run", "-p", "8080:80", "no-such-command"])
        .exits(127);
    assert_same(&before, || host.snapshot());
}

#[test]
fn a_subnet_that_the_host_uses_already_is_not_taken() {
    let host = Host::online();
    let address = host.run(["step04", "run", "sh", "-c", ADDRESS]).ok();
    let net = address.rsplit_once('.').unwrap().0.to_owned();
    // The host's own network is, by chance, the very same.
    host.shell(&format!(
        "ip link add lan type bridge; ip addr add {net}.200/24 dev lan; ip link set lan up"
    ));
    let out = host.run(["step04", "run", "sh", "-c", ADDRESS]);
    if out.code() == 125 {
        assert!(out.errors().contains(&net), "{out}");
    } else {
        assert!(!out.ok().starts_with(&format!("{net}.")), "{out}");
    }
}

#[test]
fn the_host_is_as_it_was_afterwards() {
    let host = Host::online();
    let before = host.snapshot();
    for user in [User::Root, User::Student] {
        for argv in [
            &["true"][..],
            &["-p", "8080:80", "sh", "-c", "exit 9"],
            &["-p", "8080:80", "no-such-command"],
            &["--network", "none", "true"],
            &["-v", "/no/such:/x", "true"],
            &["sh", "-c", "sleep 1000 & kill -9 $$"],
        ] {
            host.run_as(user, ["step04", "run"].iter().chain(argv));
        }
    }
    assert_same(&before, || host.snapshot());
}

#[test]
fn after_ctrl_c_the_host_is_as_it_was() {
    let host = Host::online();
    let before = host.snapshot();
    for user in [User::Root, User::Student] {
        let argv = [
            "step04",
            "run",
            "-p",
            "8080:80",
            "sh",
            "-c",
            "echo up; exec sleep 1000",
        ];
        let mut running = host.spawn_as(user, argv);
        running.expect("up");
        // A shell catches the interrupt, and forgets it when it becomes sleep.
        running.runs("sleep");
        running.signal(nix::sys::signal::Signal::SIGINT);
        assert_eq!(running.wait().code(), 130);
    }
    assert_same(&before, || host.snapshot());
}
