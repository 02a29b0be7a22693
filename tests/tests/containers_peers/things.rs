//! What containers leave behind: files, words, ports, events.

use crate::pair::Look::{Same, Says, Status};
use crate::pair::{Look, Pair};

/// Changes of every kind.
const CHANGE: &str = "run --name one --network none busybox sh -c 'mkdir -p /new/deep; echo x >/new/deep/file; \
    rm /etc/plain; rm -r /home; mkdir /home; touch /home/back; chmod 700 /tmp; ln -s a /link; echo x >>/etc/passwd'";

const LINES: [(&str, Look); 53] = [
    (CHANGE, Same),
    ("diff one | sort", Same),
    (
        "export one | tar -t | sed 's,^\\./,,' | grep -v ^$ | sort",
        Same,
    ),
    ("export one | tar -xO new/deep/file", Same),
    // The layer that a container was given does not say which files it was given.
    (
        "commit -m words -a me -c 'CMD [\"cat\", \"/new/deep/file\"]' -c 'ENV A=b' -c 'EXPOSE 80' one made:SELF",
        Status,
    ),
    (
        "image inspect --format '{{json .Config.Cmd}} {{json .Config.Env}} {{json .Config.ExposedPorts}} {{.Author}} {{.Comment}}' made:SELF",
        Same,
    ),
    ("run --rm --network none made:SELF", Same),
    ("run --rm --network none made:SELF ls / /home /etc", Same),
    ("commit no-such-container", Says("no such container")),
    // cp
    (
        "cp one:/new/deep/file /tmp/SELF-out && cat /tmp/SELF-out",
        Same,
    ),
    (
        "cp one:/new /tmp/SELF-dir && find /tmp/SELF-dir -type f | sed s,SELF,,",
        Same,
    ),
    (
        "cp one:/new/. /tmp/SELF-dir && find /tmp/SELF-dir -type f | sed s,SELF,, | sort",
        Same,
    ),
    ("cp one:/link - | tar -t", Same),
    ("cp one:/no/such/file /tmp", Says("no/such/file")),
    (
        "cp /no/such/file one:/tmp",
        Says("no such file or directory"),
    ),
    ("cp /tmp/image/root/etc one:/etc/passwd", Status),
    ("cp /tmp/image/root/etc/plain one:/new/plain", Status),
    (
        "cp /tmp/image/root/etc/plain one:/no/such/directory/",
        Status,
    ),
    ("cp one:/new/plain - | tar -xO", Same),
    ("diff one | grep /new | sort", Same),
    (
        "cp one:/a one:/b",
        Says("copying between containers is not supported"),
    ),
    (
        "cp /a /b",
        Says("must specify at least one container source"),
    ),
    ("cp one: /tmp", Status),
    // logs
    (
        "run --name two --network none busybox sh -c 'echo a; echo b >&2; echo c; printf d'",
        Same,
    ),
    ("logs two 2>/dev/null", Same),
    ("logs two 2>&1 >/dev/null", Same),
    ("logs --tail 1 two", Same),
    ("logs -n 0 two", Same),
    ("logs -t two 2>/dev/null | cut -c 20,31-", Same),
    ("logs --since 2001-01-01 two 2>/dev/null", Same),
    ("logs --until 2001-01-01 two", Same),
    ("logs --since nonsense two", Status),
    ("logs -f two 2>/dev/null", Same),
    ("logs --details two 2>/dev/null", Same),
    // ports
    (
        "run -d --name three -p 127.0.0.1:0:80 -p 0:53/udp busybox sleep 1000 2>/dev/null",
        Same,
    ),
    ("port three | sed 's/:[0-9]*$//' | grep -v :: | sort", Same),
    ("port three 80 | sed 's/:[0-9]*$//'", Same),
    ("port three 80/tcp | sed 's/:[0-9]*$//'", Same),
    ("port three 81", Says("81")),
    ("port three 53", Says("53")),
    (
        "ps -f name=three --format '{{.Ports}}' | sed 's/:[0-9]*-/-/g; s/, [[:]*[]:]*->53.udp//'",
        Same,
    ),
    ("ps -f expose=80 --format '{{.Names}}'", Same),
    (
        "inspect --format '{{.NetworkSettings.IPPrefixLen}} {{len .NetworkSettings.Networks.bridge.IPAddress}}' three | cut -c 1-3",
        Same,
    ),
    // top
    ("top three | head -1", Same),
    ("top three -o pid,comm | sed 's/[0-9]//g' | tr -s ' '", Same),
    ("top three -o nonsense", Status),
    (
        "exec three sh -c 'cat /etc/hosts | grep -c three; ls /sys/class/net | sort'",
        Status,
    ),
    (
        "exec three cat /proc/self/status | grep -E '^(Cap|Seccomp:|NoNewPrivs|Groups|Uid)'",
        Same,
    ),
    (
        "exec three sh -c 'cut -d\" \" -f5 /proc/self/mountinfo | grep -v -e asound -e interrupts | sort'",
        Same,
    ),
    (
        "exec three sh -c 'ls -l /dev | sed 1d | cut -c 1-10,57- | sort'",
        Same,
    ),
    (
        "exec three sh -c 'ulimit -a; umask; pwd; env | grep -v HOSTNAME | sort'",
        Same,
    ),
    ("rm -f one two three", Same),
    (
        "events --since 10m --until 0s --filter container=two --format '{{.Type}} {{.Action}} {{.Actor.Attributes.image}}' | grep -E 'create|start|die'",
        Same,
    ),
];

pub fn compare(pair: &Pair) {
    pair.compare(&LINES);
}
