//! The keeper of names: what it answers and what it passes on, and its own life. What is asked here is
//! asked in a container's network by dig, and by programs in containers; `networks_tools` has all of
//! it in the hands of people's own tools.

use std::collections::BTreeSet;
use std::fs;

use harness::engine::{Machine, Process, Who, shell};
use harness::{Running, wait_for};

/// A resolver that a test plays with. Its arguments are an address, and one that it answers with. What
/// the first label of a name says is done:
///
/// - `big`: what has room in a TCP answer alone;
/// - `edns`: the size of a packet that the question says there is room for;
/// - `forged`: before the answer come one with another id, and one to another question;
/// - `refused`: it refuses;
/// - `slow`: it never says anything.
const RESOLVER: &str = r#"
import socket, struct, sys, threading
me, address = sys.argv[1:]

def text(q, words):
    data = b"".join(bytes([len(w)]) + w for w in words)
    return b"\xc0\x0c" + struct.pack(">HHIH", 16, 1, 60, len(data)) + data

def reply(q, tcp):
    end, labels = 12, []
    while q[end]:
        labels.append(q[end + 1:end + 1 + q[end]])
        end += 1 + q[end]
    end += 5
    first, question = labels[0].lower(), q[12:end]
    kind = struct.unpack(">H", question[-4:-2])[0]
    flags, answers = 0x8180, []
    if first == b"slow":
        return []
    if first == b"refused":
        flags |= 5
    elif first == b"big":
        if tcp:
            answers = [text(q, [b"x" * 200] * 20)]
        else:
            flags |= 0x0200
    elif first == b"edns":
        arcount = struct.unpack(">H", q[10:12])[0]
        size = struct.unpack(">H", q[end + 3:end + 5])[0] if arcount else 0
        answers = [text(q, [str(size).encode()])]
    elif kind == 1:
        answers = [b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + socket.inet_aton(address)]
    def message(id, question, answers):
        head = struct.pack(">HHHHHH", id, flags, 1, len(answers), 0, 0)
        return head + question + b"".join(answers)
    id = struct.unpack(">H", q[:2])[0]
    right = message(id, question, answers)
    if first != b"forged":
        return [right]
    false = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + bytes([6, 6, 6, 6])
    other = b"\x05other" + question
    return [message(id ^ 1, question, [false]), message(id, other, [false]), right]

def talk(c):
    stream = c.makefile("rb")
    while length := stream.read(2):
        for m in reply(stream.read(struct.unpack(">H", length)[0]), True):
            c.sendall(struct.pack(">H", len(m)) + m)

def serve():
    while True:
        threading.Thread(target=talk, args=(tcp.accept()[0],), daemon=True).start()

udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind((me, 53))
tcp = socket.create_server((me, 53))
threading.Thread(target=serve, daemon=True).start()
print("ready", flush=True)
while True:
    q, peer = udp.recvfrom(65535)
    for m in reply(q, False):
        udp.sendto(m, peer)
"#;

/// Begins a resolver on the machine.
#[track_caller]
fn resolver(machine: &Machine, address: &str, answer: &str) -> Running {
    let mut running = machine
        .host()
        .spawn(["python3", "-c", RESOLVER, address, answer]);
    running.expect("ready");
    running
}

/// Runs a container that sleeps.
#[track_caller]
fn sleeper(machine: &Machine, name: &str, options: &str) {
    machine.ok(&format!("run -d --name {name} {options} host sleep 1000"));
}

/// What dig says in the network of a container, with its options and its question.
#[track_caller]
fn dig(machine: &Machine, container: &str, what: &str) -> String {
    let pid = machine.container(container).init().pid;
    machine.host().shell(&format!(
        "nsenter -t {pid} -n dig @127.0.0.11 +time=20 +tries=1 {what}"
    ))
}

/// The data of the answer, a line each.
#[track_caller]
fn short(machine: &Machine, container: &str, what: &str) -> String {
    dig(machine, container, &format!("+short {what}"))
}

/// How many records are in the answer, and its code.
#[track_caller]
fn counted(machine: &Machine, container: &str, what: &str) -> (String, String) {
    let said = dig(machine, container, what);
    let after = |word: &str| {
        let rest = said.split_once(word).map(|(_, rest)| rest);
        let rest = rest.and_then(|rest| rest.split(',').next());
        rest.unwrap_or_else(|| panic!("{said}")).trim().to_owned()
    };
    (after("status:"), after("ANSWER:"))
}

/// A container's address in a network.
#[track_caller]
fn address(machine: &Machine, name: &str, network: &str) -> String {
    let format = format!("{{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}");
    machine.ok(&["inspect", "--format", &format, name])
}

fn keepers(machine: &Machine) -> Vec<Process> {
    let mut all = machine.processes();
    all.retain(|process| process.name == "minidocker-keep");
    all
}

/// The one keeper that there is.
#[track_caller]
fn keeper(machine: &Machine) -> Process {
    // Who wanted to be one, and found another, takes a moment to end.
    wait_for("one keeper", 60, || {
        let mut all = keepers(machine);
        all.pop().filter(|_| all.is_empty())
    })
}

/// The same on root's machine and on an ordinary user's, at the same time.
fn for_both(check: impl Fn(&Machine) + Sync) {
    std::thread::scope(|scope| {
        for who in [Who::Root, Who::Student] {
            let check = &check;
            scope.spawn(move || {
                println!("{who:?}");
                check(&Machine::of(who));
            });
        }
    });
}

/// Removes all containers, and these networks; sees that nothing is left, the keeper neither.
#[track_caller]
fn leave(machine: &Machine, networks: &str) {
    machine.no_container_left();
    let socket = machine.run().join("network/keeper/socket");
    assert!(!socket.exists(), "{} is there", socket.display());
    machine.ok(&format!("network rm {networks}"));
    machine.nothing_left();
}

#[test]
fn a_container_is_found_by_all_its_names_and_by_its_address() {
    for_both(|machine| {
        machine.ok("network create --ipv6 --subnet 10.81.0.0/24 --subnet fd81::/64 front");
        sleeper(machine, "web", "--network front");
        sleeper(
            machine,
            "db",
            "--network front --hostname Box --network-alias store --network-alias Deposit",
        );
        let db = address(machine, "db", "front");
        let id = machine.container("db").id()[..12].to_owned();
        for name in [
            "db", "DB.", "store", "deposit", "box", &id, "db.front", "+tcp db",
        ] {
            assert_eq!(short(machine, "web", name), db, "{name}");
        }
        for tool in [
            "busybox nslookup db",
            "ping -c1 -W20 store",
            "busybox nslookup web",
        ] {
            machine.ok(&format!("exec web {tool}"));
        }
        let six = short(machine, "web", "AAAA db");
        assert!(six.starts_with("fd81::"), "{six}");
        assert_eq!(short(machine, "web", &format!("-x {db}")), "db.front.");
        assert_eq!(short(machine, "web", &format!("-x {six}")), "db.front.");
        // What is known is known whole; and in our subnet nobody else knows anything.
        let known = |code: &str| (code.to_owned(), "0".to_owned());
        for what in ["MX db", "HTTPS store", "TXT db.front"] {
            assert_eq!(counted(machine, "web", what), known("NOERROR"), "{what}");
        }
        let nobody = counted(machine, "web", "-x 10.81.0.200");
        assert_eq!(nobody, known("NXDOMAIN"));
        is_no_hindrance(machine, "db", "web");
        // No answer outlives its question.
        let record = dig(machine, "web", "+noall +answer db");
        let words: Vec<_> = record.split_whitespace().collect();
        assert_eq!(words, ["db.", "0", "IN", "A", &db]);
        leave(machine, "front");
    });
}

/// Who runs a name server in a container has the port for it, and finds the others all the same.
#[track_caller]
fn is_no_hindrance(machine: &Machine, server: &str, other: &str) {
    let pid = machine.container(server).init().pid.to_string();
    let python = ["nsenter", "-t", &pid, "-n", "python3", "-c", RESOLVER];
    let own = python.iter().chain(&["0.0.0.0", "198.51.100.9"]);
    let mut running = machine.host().spawn(own);
    running.expect("ready");
    let place = address(machine, server, "front");
    let caller = machine.container(other).init().pid;
    for way in ["", "+tcp"] {
        let asked = machine.host().shell(&format!(
            "nsenter -t {caller} -n dig +short +time=20 {way} @{place} example.org"
        ));
        assert_eq!(asked, "198.51.100.9");
        let found = short(machine, server, &format!("{way} {other}"));
        assert_eq!(found, address(machine, other, "front"));
    }
}

#[test]
fn the_next_question_sees_what_has_changed() {
    for_both(|machine| {
        machine.ok("network create front");
        machine.ok("network create back");
        sleeper(machine, "left", "--network front");
        sleeper(machine, "right", "--network back");
        sleeper(machine, "both", "--network front --network-alias middle");
        let is = |asker: &str, name: &str, expected: &str| {
            assert_eq!(
                short(machine, asker, name),
                expected,
                "{asker} asks for {name}"
            );
        };
        let of_both = address(machine, "both", "front");
        is("right", "both", "");
        is("left", "both", &of_both);
        machine.ok("network connect --alias centre back both");
        // Whoever is in two networks is seen from either, and they do not see each other.
        let there = address(machine, "both", "back");
        is("right", "both", &there);
        is("right", "centre", &there);
        is("right", "middle", "");
        is("left", "both", &of_both);
        is("left", "right", "");
        is("both", "right", &address(machine, "right", "back"));
        machine.ok("rename both other");
        is("left", "both", "");
        is("left", "other", &of_both);
        is("left", &format!("-x {of_both}"), "other.front.");
        machine.ok("network disconnect front other");
        is("left", "other", "");
        is("right", "other", &there);
        is("other", "left", "");
        // One that ends, one whose shim is killed, and one that is there again.
        machine.ok("stop -t 0 other");
        is("right", "other", "");
        machine.ok("start other");
        is("right", "other", &address(machine, "other", "back"));
        machine.container("other").kill_shim();
        wait_for("the name to be gone with the shim", 60, || {
            short(machine, "right", "other").is_empty().then_some(())
        });
        leave(machine, "front back");
    });
}

#[test]
fn several_of_one_alias_take_turns() {
    let machine = Machine::of(Who::Root);
    machine.ok("network create front");
    sleeper(&machine, "asker", "--network front");
    for n in 0..3 {
        sleeper(
            &machine,
            &format!("worker{n}"),
            "--network front --network-alias worker",
        );
    }
    let answers: Vec<Vec<String>> = (0..3)
        .map(|_| {
            let said = short(&machine, "asker", "worker");
            said.lines().map(str::to_owned).collect()
        })
        .collect();
    let firsts: BTreeSet<_> = answers.iter().map(|answer| &answer[0]).collect();
    assert_eq!(firsts.len(), 3, "{answers:?}");
    assert!(
        answers.iter().all(|answer| answer.len() == 3),
        "{answers:?}"
    );
    machine.ok("kill worker1");
    machine.container("worker1").wait_until("exited");
    assert_eq!(short(&machine, "asker", "worker").lines().count(), 2);
    leave(&machine, "front");
}

#[test]
fn what_is_not_known_is_asked_of_the_host_s_resolvers() {
    for_both(|machine| {
        let host = machine.host();
        let before = host.shell("cat /etc/resolv.conf");
        let _one = resolver(machine, "127.0.0.53", "198.51.100.1");
        let _two = resolver(machine, "127.0.0.54", "198.51.100.2");
        host.shell("echo nameserver 127.0.0.53 >/etc/resolv.conf");
        machine.ok("network create front");
        sleeper(machine, "web", "--network front");
        for what in ["example.org", "+tcp example.org", "forged.example.org"] {
            assert_eq!(short(machine, "web", what), "198.51.100.1", "{what}");
        }
        machine.ok("exec web busybox nslookup example.org");
        // As they are: what a server cannot say by UDP, and what a question says beside its name.
        let cut = dig(machine, "web", "+ignore TXT big.example.org");
        assert!(cut.contains(" tc ") && cut.contains("ANSWER: 0"), "{cut}");
        let whole = short(machine, "web", "TXT big.example.org");
        assert_eq!(whole.matches('x').count(), 4000, "{whole}");
        let edns = short(machine, "web", "+bufsize=1400 TXT edns.example.org");
        assert_eq!(edns, "\"1400\"");
        assert_eq!(
            short(machine, "web", "+noedns TXT edns.example.org"),
            "\"0\""
        );
        let refused = counted(machine, "web", "refused.example.org");
        assert_eq!(refused.0, "REFUSED");
        // The host changes its mind: another resolver, after one that is not there, or says nothing.
        let asks = |servers: &[&str], what: &str| {
            let lines: Vec<_> = servers
                .iter()
                .map(|it| format!("nameserver {it}\n"))
                .collect();
            host.shell(&format!("printf '{}' >/etc/resolv.conf", lines.concat()));
            short(machine, "web", what)
        };
        let second = "198.51.100.2";
        assert_eq!(asks(&["127.0.0.54"], "example.org"), second);
        assert_eq!(asks(&["127.0.0.55", "127.0.0.54"], "example.org"), second);
        assert_eq!(
            asks(&["127.0.0.55", "127.0.0.54"], "+tcp example.org"),
            second
        );
        let slow = resolver_that_says_nothing(machine, "127.0.0.56");
        assert_eq!(asks(&["127.0.0.56", "127.0.0.54"], "example.org"), second);
        host.shell("echo nameserver 127.0.0.55 >/etc/resolv.conf");
        assert_eq!(counted(machine, "web", "example.org").0, "SERVFAIL");
        // A name of ours is never asked of others.
        host.shell("echo nameserver 127.0.0.53 >/etc/resolv.conf");
        assert_eq!(short(machine, "web", "AAAA web"), "");
        // A container's own servers; and none for whom there is no way out.
        sleeper(machine, "own", "--network front --dns 127.0.0.54");
        assert_eq!(short(machine, "own", "example.org"), second);
        machine.ok("network create --internal closed");
        sleeper(machine, "inner", "--network closed");
        assert_eq!(counted(machine, "inner", "example.org").0, "SERVFAIL");
        assert_eq!(counted(machine, "inner", "inner").1, "1");
        machine.ok("network connect front inner");
        assert_eq!(short(machine, "inner", "example.org"), "198.51.100.1");
        is_not_overwhelmed(machine, "inner");
        drop((_one, _two, slow));
        host.shell(&format!("printf '%s\n' '{before}' >/etc/resolv.conf"));
        leave(machine, "front closed");
    });
}

/// More questions than may be with others at a time, and packets that are none.
const FLOOD: &str = r#"
import random, socket, struct
random.seed(11)
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
s.settimeout(1)
s.connect(("127.0.0.11", 53))
def ask(id, name):
    labels = b"".join(bytes([len(l)]) + l for l in name)
    return struct.pack(">HHHHHH", id, 0x100, 1, 0, 0, 0) + labels + b"\0\0\1\0\1"
# Its length, and a name that goes round and round.
for packet in [b"", b"\0" * 11, ask(1, [])[:-5] + b"\xc0\x0c\0\1\0\1"]:
    s.send(packet)
for _ in range(2000):
    s.send(bytes(random.getrandbits(8) for _ in range(random.randrange(80))))
refused = 0
# Each is with others for seconds: so many at a time that a busy machine has asked them all by then,
# and no more than the socket has room for.
for id in range(1000, 4000):
    if id % 50 == 0:
        # As any program does, again where nothing comes.
        reply = b""
        while reply[:2] != struct.pack(">H", id) or reply[7] != 1:
            s.send(ask(id, [b"inner"]))
            try:
                reply = s.recv(512)
                while reply[3] & 15 == 5:
                    refused += 1
                    reply = s.recv(512)
            except TimeoutError:
                continue
        if refused >= 30:
            break
    else:
        s.send(ask(id, [b"slow", b"example", b"org"]))
print("refused", refused >= 30)
"#;

/// Questions that nobody answers are refused when there are too many of them, and do not keep those
/// from their answers who ask for a neighbour; what is no question is as good as not said.
#[track_caller]
fn is_not_overwhelmed(machine: &Machine, container: &str) {
    let pid = machine.container(container).init().pid.to_string();
    let flood = ["nsenter", "-t", &pid, "-n", "python3", "-c", FLOOD];
    assert_eq!(machine.host().run(flood).ok(), "refused True");
}

/// One that hears all, and is never heard of.
#[track_caller]
fn resolver_that_says_nothing(machine: &Machine, address: &str) -> Running {
    let script = "import socket, sys, time\n\
                  udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
                  udp.bind((sys.argv[1], 53))\n\
                  print('ready', flush=True)\n\
                  time.sleep(1000)\n";
    let mut running = machine.host().spawn(["python3", "-c", script, address]);
    running.expect("ready");
    running
}

#[test]
fn fifty_containers_that_start_at_once_have_one_keeper() {
    let machine = Machine::of(Who::Root);
    machine.ok("network create front");
    let starting: Vec<_> = (0..50)
        .map(|n| {
            machine.spawn(&format!(
                "run -d --name c{n} --network front host sleep 1000"
            ))
        })
        .collect();
    for one in starting {
        one.wait().ok();
    }
    let first = keeper(&machine);
    for n in [0, 24, 49] {
        let name = format!("c{n}");
        let expected = address(&machine, &name, "front");
        assert_eq!(short(&machine, "c7", &name), expected);
    }
    // It is on its own, and holds nothing of the container whose shim began it.
    let proc = machine.host().path(&format!("/proc/{}", first.pid));
    let read = |name: &str| fs::read_to_string(proc.join(name)).expect("the keeper lives");
    assert_eq!(first.parent, 1);
    let mounts = read("mountinfo");
    assert!(!mounts.contains("/merged "), "{mounts}");
    let namespace = |process: &str| fs::read_link(machine.host().path(process)).expect("a process");
    assert_eq!(
        namespace(&format!("/proc/{}/ns/net", first.pid)),
        namespace("/proc/1/ns/net")
    );

    // Killed, it is replaced, by one.
    machine.host().shell(&format!("kill -9 {}", first.pid));
    let expected = address(&machine, "c1", "front");
    for n in (0..50).step_by(7) {
        let pid = machine.container(&format!("c{n}")).init().pid;
        let ask = format!("nsenter -t {pid} -n dig +short +time=1 +tries=1 @127.0.0.11 c1");
        wait_for("all to be answered again", 60, || {
            let said = machine.host().run(ask.split(' ')).text();
            (said == expected).then_some(())
        });
    }
    let second = keeper(&machine);
    assert_ne!(second.pid, first.pid);
    // It stays as long as one of them does.
    let names: Vec<String> = (1..50).map(|n| format!("c{n}")).collect();
    machine.ok(&format!("rm -f {}", names.join(" ")));
    assert_eq!(
        short(&machine, "c0", "c0"),
        address(&machine, "c0", "front")
    );
    assert_eq!(keeper(&machine).pid, second.pid);
    leave(&machine, "front");
}

#[test]
fn who_comes_when_the_keeper_is_about_to_end_is_answered() {
    let machine = Machine::of(Who::Root);
    machine.ok("network create front");
    let looks = shell(
        "run --rm --name one --network front host",
        "busybox nslookup one >/dev/null && echo found",
    );
    // The keeper ends a second after the last has gone: some come before, some after, and some then.
    for pause in ["0.95", "1", "0.99", "0", "1.01", "1.2"] {
        assert_eq!(machine.ok(&looks), "found");
        machine.host().shell(&format!("sleep {pause}"));
    }
    leave(&machine, "front");
}

#[test]
fn who_finds_a_keeper_without_room_runs_all_the_same_and_is_told() {
    let machine = Machine::of(Who::Root);
    machine.ok("network create front");
    // Each container takes three files of the keeper's.
    let script = "ulimit -n 60
        for n in $(seq 25); do
            said=$(timeout 60 minidocker run -d --name aa$n --network front host sleep 1000 2>&1) || exit 1
            case $said in *'as many open files as it is allowed'*) minidocker exec aa$n true; break;; esac
        done; test $n -lt 25";
    machine.script(script).ok();
    leave(&machine, "front");
}
