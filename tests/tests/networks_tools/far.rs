//! A host behind a router.
//!
//! ```text
//! the machine             the router (the outside)                the far host
//! wan 192.0.2.1 ───────── eth0 192.0.2.2 │ far 198.51.100.1 ───── eth0 198.51.100.2
//!     2001:db8:1::1            2001:db8:1::2   2001:db8:2::1           2001:db8:2::2
//!                                              MTU 1400
//! ```
//!
//! It runs the programs of the image `services`, so that the machine needs none of them.

use harness::engine::Machine;
use harness::{Output, Running, Snapshot, assert_same};

/// The machine's own addresses.
pub const HERE: &str = "192.0.2.1";
pub const HERE6: &str = "2001:db8:1::1";
/// The far host's.
pub const THERE: &str = "198.51.100.2";

const ROUTER: &str = "
    touch /run/far
    unshare --net=/run/far true
    ip link add far mtu 1400 type veth peer name eth0 mtu 1400 netns /run/far
    ip address add 198.51.100.1/24 dev far
    ip address add 2001:db8:1::2/64 dev eth0 nodad
    ip address add 2001:db8:2::1/64 dev far nodad
    ip link set far up
    sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1";

const FAR: &str = "
    ip link set lo up
    ip address add 198.51.100.2/24 dev eth0
    ip address add 2001:db8:2::2/64 dev eth0 nodad
    ip link set eth0 up
    ip route add default via 198.51.100.1
    ip -6 route add default via 2001:db8:2::1";

const HERE_TOO: &str = "
    ip address add 2001:db8:1::1/64 dev wan nodad
    ip -6 route add default via 2001:db8:1::2";

/// Runs a program of the image's in the network that is bound to a file; /proc and /dev are the machine's.
const ENTER: &str = r#"
    tree=$(dirname $(dirname $(dirname /run/workspace/store/layers/*/diff/usr/bin/iperf3)))
    exec nsenter --net=$0 unshare --mount sh -euc '
        tree=$0; mount --rbind /dev $tree/dev; mount --rbind /proc $tree/proc
        exec chroot $tree "$@"' $tree "$@""#;

/// The host behind the router.
pub struct Far<'a> {
    machine: &'a Machine,
    before: Snapshot,
}

impl<'a> Far<'a> {
    pub fn new(machine: &'a Machine) -> Far<'a> {
        let host = machine.host();
        host.outside(["sh", "-euc", ROUTER]).ok();
        host.run(["nsenter", "--net=/run/far", "sh", "-euc", FAR])
            .ok();
        host.shell(HERE_TOO);
        Far {
            machine,
            before: host.snapshot(),
        }
    }

    /// Starts a program there: a line of words without blanks.
    pub fn spawn(&self, line: &str) -> Running {
        self.enter("/run/far", line)
    }

    /// Runs a program there, to its end.
    #[track_caller]
    pub fn run(&self, line: &str) -> Output {
        self.spawn(line).wait()
    }

    /// Starts a program of the image's in the machine's own network.
    pub fn spawn_here(&self, line: &str) -> Running {
        self.enter("/proc/1/ns/net", line)
    }

    /// Runs a program of the image's in the machine's own network, to its end.
    #[track_caller]
    pub fn here(&self, line: &str) -> Output {
        self.spawn_here(line).wait()
    }

    fn enter(&self, net: &str, line: &str) -> Running {
        let words = ["sh", "-euc", ENTER, net].into_iter();
        self.machine
            .host()
            .spawn(words.chain(line.split_whitespace()))
    }

    /// Removes all containers, and sees that the machine is as it was when this host came.
    #[track_caller]
    pub fn nothing_left(&self) {
        self.machine.no_container_left();
        // Whoever sends packets on has these addresses as well; the switch stays as it is for IPv4.
        let look = |snapshot: Snapshot| snapshot.without("anycast ");
        let host = self.machine.host();
        assert_same(&look(self.before.clone()), || look(host.snapshot()));
    }
}
