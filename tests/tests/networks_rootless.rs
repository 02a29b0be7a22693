//! Networks in the hands of an ordinary user: their bridges are in one network namespace, which one
//! process connects to the outside. And published ports where the kernel cannot turn packets round,
//! root's too: a relay copies.

use std::collections::BTreeSet;

use harness::engine::carriers::{Lame, carriers, hide_all_but, nothing_left, server_outside};
use harness::engine::{Machine, Wanted, Who, shell};
use harness::{Running, wait_for};

/// Those who are not root, each with one of the programs that carry packets. That both have both,
/// `containers_rootless` sees.
const ORDINARY: [(Who, &str); 2] = [(Who::Student, "pasta"), (Who::Lone, "slirp4netns")];

fn online(who: Who) -> Machine {
    Machine::with(Wanted {
        who,
        outside: true,
        ..Wanted::default()
    })
}

/// Answers on port 80 with one line: who it is.
const SERVER: &str = "mkdir -p /dev/shm/www && echo i-am-$(hostname) >/dev/shm/www/index.html \
     && exec busybox httpd -f -p 80 -h /dev/shm/www";

/// Starts a container that answers on port 80.
#[track_caller]
fn serve(machine: &Machine, name: &str, options: &str) {
    let line = format!("run -d --name {name} --hostname {name} {options} host");
    machine.ok(&shell(&line, SERVER));
    wait_for("the server to listen", 60, || {
        let line = format!("exec {name} busybox nc -w 20 127.0.0.1 80 -e true");
        (machine.minidocker(&line).code() == 0).then_some(())
    });
}

/// What a container is told when it asks a server; empty where it gets no answer.
#[track_caller]
fn ask(machine: &Machine, name: &str, url: &str) -> String {
    ask_for(machine, name, url, 20)
}

/// Nobody answers there.
#[track_caller]
fn is_silent(machine: &Machine, name: &str, url: &str) {
    assert_eq!(ask_for(machine, name, url, 1), "", "{name} {url}");
}

#[track_caller]
fn ask_for(machine: &Machine, name: &str, url: &str, seconds: u8) -> String {
    let wget = format!("busybox timeout {seconds} busybox wget -q -O -");
    let line = format!("exec {name} {wget} http://{url}/index.html");
    machine.minidocker(&line).text()
}

/// What somebody on the machine is told, or outside of it.
#[track_caller]
fn fetch(machine: &Machine, outside: bool, url: &str) -> String {
    let words = ["curl", "-sS", "--noproxy", "*", "-m20", url];
    match outside {
        true => machine.host().outside(words).text(),
        false => machine.host().run(words).text(),
    }
}

/// What the container's state says of its place in a network: `address`, `gateway`.
#[track_caller]
fn place(machine: &Machine, name: &str, network: &str, what: &str) -> String {
    let mut state = machine.container(name).state();
    let told = state["life"]["networks"][network][what].take();
    told.as_str().unwrap_or_default().to_owned()
}

#[track_caller]
fn address(machine: &Machine, name: &str, network: &str) -> String {
    place(machine, name, network, "address")
}

/// Processes of minidocker's with that name, as much of it as the kernel keeps.
fn called(machine: &Machine, name: &str) -> Vec<i32> {
    let all = machine.processes().into_iter();
    all.filter(|one| one.name == name)
        .map(|one| one.pid)
        .collect()
}

const UPLINK: &str = "minidocker-upli";
const RELAY: &str = "minidocker-rela";

#[track_caller]
fn uplink(machine: &Machine) -> i32 {
    // Who wanted to be one, and found another, takes a moment to end.
    wait_for("one uplink", 60, || {
        let found = called(machine, UPLINK);
        (found.len() == 1).then(|| found[0])
    })
}

#[track_caller]
fn namespace(machine: &Machine, pid: i32, kind: &str) -> String {
    machine
        .host()
        .shell(&format!("readlink /proc/{pid}/ns/{kind}"))
}

/// All is gone that containers in networks had: processes, and what they held.
#[track_caller]
fn end(machine: &Machine, networks: &str) {
    for id in machine.ids() {
        machine.ok(&["rm", "-f", &id]);
    }
    machine.ok(&format!("network rm {networks}"));
    wait_for("all that carried packets to end", 60, || {
        (carriers(machine).is_empty() && called(machine, UPLINK).is_empty()).then_some(())
    });
    nothing_left(machine);
}

#[test]
fn containers_of_one_network_reach_each_other_and_the_outside_and_nobody_else() {
    for (who, carrier) in ORDINARY {
        println!("{who:?} {carrier}");
        let machine = online(who);
        hide_all_but(&machine, Some(carrier));
        let outside = server_outside(&machine);
        machine.ok("network create front");
        machine.ok("network create back");
        machine.ok("network create --internal closed");
        serve(&machine, "alpha", "--network front --network-alias web");
        serve(&machine, "gamma", "--network back");
        machine.ok("run -d --name beta --network front host sleep 1000");
        machine.ok("run -d --name delta --network closed host sleep 1000");
        let alpha = address(&machine, "alpha", "front");

        for place in [alpha.as_str(), "alpha", "web"] {
            assert_eq!(ask(&machine, "beta", place), "i-am-alpha", "{place}");
        }
        for stranger in ["gamma", "delta"] {
            for place in [alpha.as_str(), "alpha"] {
                is_silent(&machine, stranger, place);
            }
        }
        for name in ["alpha", "gamma"] {
            assert_eq!(ask(&machine, name, "192.0.2.2:7000"), "from-outside");
        }
        is_silent(&machine, "delta", "192.0.2.2:7000");

        // One namespace of users, one that has the bridges, one carrier.
        let uplink = uplink(&machine);
        let users = namespace(&machine, uplink, "user");
        for name in ["alpha", "beta", "gamma", "delta"] {
            assert_eq!(machine.container(name).namespace("user"), users);
        }
        let found: Vec<_> = carriers(&machine)
            .iter()
            .map(|(_, parent)| *parent)
            .collect();
        assert_eq!(found, [uplink]);
        let links = machine
            .host()
            .shell(&format!("nsenter -t {uplink} -n ip -o link"));
        assert_eq!(links.matches(": mini-").count(), 3, "{links}");
        let here = machine.host().shell("ip -o link");
        assert!(!here.contains("mini"), "{here}");

        // Into one more network, and out again.
        machine.ok("network connect front gamma");
        assert_eq!(ask(&machine, "gamma", "alpha"), "i-am-alpha");
        assert_eq!(ask(&machine, "beta", "gamma"), "i-am-gamma");
        machine.ok("network disconnect front gamma");
        is_silent(&machine, "gamma", &alpha);
        assert_eq!(ask(&machine, "gamma", "192.0.2.2:7000"), "from-outside");
        // One that lives apart has to come by a new start.
        serve(&machine, "plain", "");
        let said = machine.fails(1, "network connect front plain");
        assert!(said.contains("stop it"), "{said}");
        machine.ok("stop -t 0 plain");
        machine.ok("network connect front plain");
        machine.ok("start plain");
        assert_eq!(ask(&machine, "plain", "alpha"), "i-am-alpha");
        drop(outside);
        end(&machine, "front back closed");
    }
}

#[test]
fn what_else_is_done_with_a_container_is_done_where_its_networks_are() {
    for (who, _) in ORDINARY {
        println!("{who:?}");
        let machine = online(who);
        machine.ok("network create --ipv6 front");
        machine.ok("run -d --name alpha --network front host sleep 1000");
        let alpha = machine.container("alpha");
        machine.ok("exec alpha sh -c echo${IFS}written>/tmp/file");
        machine.ok("cp alpha:/tmp/file /tmp/file");
        assert_eq!(
            machine.host().shell("cat /tmp/file; rm /tmp/file"),
            "written"
        );
        assert!(machine.ok("diff alpha").contains("A /tmp/file"));
        assert!(machine.ok("top alpha").contains("sleep 1000"));
        machine.ok("commit alpha saved");
        let read = "run --rm --network front saved cat /tmp/file";
        assert_eq!(machine.ok(read), "written");
        machine.ok("rmi saved");

        // By IPv6, in its namespaces, and by another runtime.
        machine.ok("run --rm --network front host ping -6 -c 1 -W 20 alpha");
        let look = "readlink /proc/self/ns/net; readlink /proc/self/ns/user";
        let told = machine.ok(&shell("run --rm --network container:alpha host", look));
        let [net, user] = ["net", "user"].map(|kind| alpha.namespace(kind));
        assert_eq!(told, format!("{net}\n{user}"));
        let line = "run --rm --pid container:alpha --network front host";
        let told = machine.ok(&shell(line, look));
        assert!(!told.contains(&net) && told.ends_with(&user), "{told}");
        let crun = "run --rm --runtime /usr/bin/crun --network front host ping -c 1 -W 20 alpha";
        machine.ok(crun);
        machine.ok("run -d --name plain --network none host sleep 1000");
        let said = machine.fails(
            125,
            "run --rm --pid container:plain --network front host true",
        );
        assert!(said.contains("share namespaces"), "{said}");
        // The host is another one than who is at the end of the cable.
        let hosts =
            machine.ok("run --rm --network front --add-host h:host-gateway host cat /etc/hosts");
        assert!(hosts.contains("192.0.2.1\th\n"), "{hosts}");
        assert_eq!(machine.ok("system check"), "");
        end(&machine, "front");
    }
}

#[test]
fn a_published_port_answers_by_all_ways() {
    for (who, carrier) in ORDINARY {
        println!("{who:?} {carrier}");
        let machine = online(who);
        hide_all_but(&machine, Some(carrier));
        machine.ok("network create front");
        for network in ["front", "bridge"] {
            let options = format!("--network {network} -p 8080:80 -p 127.0.0.1:8081:80 -p 8082:9");
            let ranges = "-p 8940-8999:21-80 -p 9000-9999:80-1079";
            serve(&machine, "alpha", &format!("{options} {ranges}"));
            assert!(called(&machine, RELAY).is_empty(), "nobody has called");
            for (outside, place) in [
                (false, "127.0.0.1:8080"),
                (false, "[::1]:8080"),
                (false, "192.0.2.1:8080"),
                (false, "127.0.0.1:8081"),
                (false, "127.0.0.1:8999"),
                (false, "[::1]:9000"),
                (true, "192.0.2.1:9000"),
                (true, "192.0.2.1:8080"),
            ] {
                let heard = fetch(&machine, outside, &format!("http://{place}/"));
                assert_eq!(heard, "i-am-alpha", "{network} {place}");
            }
            for place in ["127.0.0.1:8082", "[::1]:8082", "192.0.2.1:8081"] {
                assert_eq!(fetch(&machine, false, &format!("http://{place}/")), "");
            }
            if network == "front" {
                // From a network of the same user's, by the host's address.
                machine.ok("network create back");
                machine.ok("run -d --name beta --network back host sleep 1000");
                for name in ["alpha", "beta"] {
                    assert_eq!(
                        ask(&machine, name, "192.0.2.1:8080"),
                        "i-am-alpha",
                        "{name}"
                    );
                }
                let gateway = place(&machine, "beta", "back", "gateway");
                let heard = ask(&machine, "beta", &format!("{gateway}:8080"));
                assert_eq!(heard, "i-am-alpha");
                machine.ok("rm -f beta");
                machine.ok("network rm back");
            }
            let said = machine.fails(125, "run --rm --network front -p 8080:80 host true");
            assert!(said.contains("8080"), "{said}");
            machine.ok("rm -f alpha");
            assert!(called(&machine, RELAY).is_empty());
        }
        end(&machine, "front");
    }
}

/// Somebody in a container, or in a network, of whom others ask something.
#[track_caller]
fn talker(machine: &Machine, words: &str) -> Running {
    let mut running = machine.host().spawn(talk(words));
    running.expect("listening");
    running
}

/// The program that enters the machine is this one as well, by whatever name it lies there.
fn talk(words: &str) -> Vec<&str> {
    let program = ["/proc/self/exe", "talk"].into_iter();
    program.chain(words.split_whitespace()).collect()
}

#[test]
fn a_relay_copies_byte_for_byte_and_tells_both_of_each_others_end() {
    for who in Who::ALL {
        println!("{who:?}");
        let machine = online(who);
        machine.ok("network create front");
        let ports = "-p 7000:70 -p 7001:71/udp -p 7009:79";
        machine.ok(&format!(
            "run -d --name alpha --network front {ports} host sleep 1000"
        ));
        let alpha = machine.container("alpha").init().pid;
        let echo = talker(&machine, &format!("--of {alpha} echo 70"));
        let words = talker(&machine, &format!("--of {alpha} listen 71/udp word"));
        let say = |words: &str| machine.host().run(talk(words));

        assert_eq!(say("pour ::1 7000 100").ok(), "104857600 bytes");
        assert_eq!(say("crowd ::1 7000 200").ok(), "200 answers");
        for n in 0..3 {
            let heard = say(&format!("ask ::1 7001/udp hello{n}")).ok();
            assert!(heard.starts_with(&format!("word hello{n} ")), "{heard}");
        }
        // An address that is not the way back's: who asked takes no answer from another.
        let heard = say("ask 127.0.0.5 7001/udp there").ok();
        assert!(heard.starts_with("word there "), "{heard}");
        // Nobody listens: the caller is told, and does not wait.
        let said = say("ask ::1 7009 hello").errors();
        assert!(said.contains("reset") || said.contains("refused"), "{said}");
        // Neither the shim's files nor its locks are the relay's.
        let relay = called(&machine, RELAY);
        assert_eq!(relay.len(), 1);
        let files = machine
            .host()
            .shell(&format!("ls -l /proc/{}/fd", relay[0]));
        assert!(
            !files.contains("pipe:") && !files.contains("minidocker"),
            "{files}"
        );
        // One that was killed comes back with the next call.
        machine.host().shell(&format!("kill -9 {}", relay[0]));
        assert_eq!(say("crowd ::1 7000 2").ok(), "2 answers");
        drop((echo, words));
        end(&machine, "front");
    }
}

#[test]
fn whoever_is_killed_the_others_stay_connected_and_nothing_is_left() {
    for (who, carrier) in ORDINARY {
        println!("{who:?} {carrier}");
        let machine = online(who);
        hide_all_but(&machine, Some(carrier));
        let outside = server_outside(&machine);
        machine.ok("network create front");
        serve(&machine, "alpha", "--network front -p 8080:80");
        machine.ok("run -d --name beta --network front host sleep 1000");

        // The uplink: another one connects the same namespace.
        let first = uplink(&machine);
        let bridges = namespace(&machine, first, "net");
        machine.host().shell(&format!("kill -9 {first}"));
        wait_for("another uplink", 60, || {
            let found = called(&machine, UPLINK);
            (found.len() == 1 && found[0] != first).then_some(())
        });
        machine.ok("run -d --name gamma --network front host sleep 1000");
        assert_eq!(namespace(&machine, uplink(&machine), "net"), bridges);
        for name in ["alpha", "beta", "gamma"] {
            assert_eq!(
                ask(&machine, name, "192.0.2.2:7000"),
                "from-outside",
                "{name}"
            );
        }
        assert_eq!(ask(&machine, "gamma", "alpha"), "i-am-alpha");
        wait_for("the old carrier to be gone", 60, || {
            (carriers(&machine).len() == 1).then_some(())
        });

        // The carrier, without which an uplink is nothing: the same. The bridges stay.
        for old in carriers(&machine) {
            machine.host().shell(&format!("kill -9 {}", old.0));
        }
        wait_for("the outside to be reached again", 60, || {
            (ask_for(&machine, "beta", "192.0.2.2:7000", 1) == "from-outside").then_some(())
        });
        assert_eq!(namespace(&machine, uplink(&machine), "net"), bridges);
        assert_eq!(ask(&machine, "gamma", "alpha"), "i-am-alpha");
        assert_eq!(
            fetch(&machine, true, "http://192.0.2.1:8080/"),
            "i-am-alpha"
        );
        assert_eq!(carriers(&machine).len(), 1);
        // Where none can be begun that is told, and tried again when somebody wants it.
        let lame = Lame::all(&machine, carrier);
        let last = carriers(&machine)[0].0;
        machine.host().shell(&format!("kill -9 {last}"));
        wait_for("nobody to be an uplink any more", 60, || {
            called(&machine, UPLINK).is_empty().then_some(())
        });
        let said = machine.fails(1, "network reload");
        assert!(said.contains(carrier), "{said}");
        if who == Who::Lone {
            // That it waits for somebody takes a while.
            let said = machine.fails(125, "run --rm --network front host true");
            assert!(said.contains("network reload"), "{said}");
        }
        assert_eq!(ask(&machine, "gamma", "alpha"), "i-am-alpha");
        drop(lame);
        machine.ok("network reload");
        for name in ["alpha", "beta", "gamma"] {
            assert_eq!(ask(&machine, name, "192.0.2.2:7000"), "from-outside");
        }
        assert_eq!(namespace(&machine, uplink(&machine), "net"), bridges);

        // The keeper: another one answers for names.
        for keeper in called(&machine, "minidocker-keep") {
            machine.host().shell(&format!("kill -9 {keeper} || :"));
        }
        wait_for("names to be answered again", 60, || {
            (ask(&machine, "gamma", "alpha") == "i-am-alpha").then_some(())
        });

        // A shim: its address is free again, its cable goes.
        machine.container("beta").kill_shim();
        machine.ok("rm -f beta");
        machine.ok("run -d --name delta --network front host sleep 1000");
        let enter = format!("nsenter -t {} -n", uplink(&machine));
        let links = machine.host().shell(&format!("{enter} ip -o link"));
        assert_eq!(links.matches(": veth").count(), 3, "{links}");
        // What somebody takes away is made anew.
        let cables = format!("{enter} ip -br link | grep -o '^veth[0-9a-f]*'");
        machine.host().shell(&format!(
            "{enter} nft flush ruleset; for it in $({cables}); do {enter} ip link del $it; done"
        ));
        machine.ok("network reload");
        assert_eq!(ask(&machine, "delta", "192.0.2.2:7000"), "from-outside");
        assert_eq!(ask(&machine, "delta", "alpha"), "i-am-alpha");

        // All at once.
        machine.host().shell("kill -9 $(pgrep minidocker) || :");
        wait_for("the carrier to end, and all who are killed", 60, || {
            let all = machine.processes();
            let ours = all.iter().any(|it| it.name.starts_with("minidocker"));
            (!ours && carriers(&machine).is_empty()).then_some(())
        });
        machine.ok("start alpha");
        assert_eq!(ask(&machine, "alpha", "192.0.2.2:7000"), "from-outside");
        drop(outside);
        end(&machine, "front");
    }
}

#[test]
fn twenty_come_at_once_and_again_after_each_end() {
    let machine = Machine::of(Who::Student);
    machine.ok("network create front");
    let start = |n: usize| {
        let line = format!("run -d --name x{n} --network front --restart always host sleep 0.5");
        machine.spawn(&line)
    };
    let started: Vec<_> = (1..=20).map(start).collect();
    for running in started {
        running.wait().ok();
    }
    let uplink = uplink(&machine);
    let users = namespace(&machine, uplink, "user");
    wait_for("each to be started again, and all to run", 60, || {
        let states = (1..=20).map(|n| machine.container(&format!("x{n}")).state());
        let again = |life: &serde_json::Value| life["restarts"].as_u64() > Some(0);
        states
            .into_iter()
            .all(|state| again(&state["life"]))
            .then_some(())
    });
    // Not all at the same moment: whoever runs has an address of their own.
    let addresses: Vec<_> = (1..=20)
        .map(|n| address(&machine, &format!("x{n}"), "front"))
        .filter(|address| !address.is_empty())
        .collect();
    let different: BTreeSet<_> = addresses.iter().collect();
    println!("{} at this moment", different.len());
    let shims = machine.shims();
    assert_eq!(shims.len(), 20);
    for (shim, _) in shims {
        assert_eq!(namespace(&machine, shim, "user"), users);
    }
    end(&machine, "front");
}
