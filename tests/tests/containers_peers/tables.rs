//! Lines for both.

use crate::pair::Look::{self, Same, Says, Status, Usage};

/// Commands on a container in each of its states.
pub const MOVES: [(&str, Look); 62] = [
    ("create --name one --network none busybox sleep 1000", Same),
    ("pause one", Says("is not running")),
    ("unpause one", Says("is not paused")),
    ("kill one", Says("is not running")),
    ("exec one true", Says("is not running")),
    ("top one", Says("is not running")),
    (
        "attach one",
        Says("cannot attach to a stopped container, start it first"),
    ),
    ("stop one", Same),
    ("wait one", Same),
    ("logs one", Same),
    ("port one", Same),
    ("diff one | sort", Same),
    ("ps -a --format '{{.Names}} {{.State}} {{.Status}}'", Same),
    ("start one", Same),
    ("start one", Same),
    ("unpause one", Says("is not paused")),
    ("rm one", Says("cannot remove")),
    ("exec one true", Same),
    ("exec one sh -c 'exit 7'", Same),
    ("exec one /etc", Status),
    ("exec -w /no/such/place one true", Status),
    ("exec -u nobody-knows one true", Status),
    ("exec -d one true", Same),
    ("exec -d one no-such-command", Says("no-such-command")),
    ("pause one", Same),
    ("pause one", Says("already paused")),
    (
        "exec one true",
        Says("is paused, unpause the container before exec"),
    ),
    (
        "attach one",
        Says("cannot attach to a paused container, unpause it first"),
    ),
    (
        "start one",
        Says("cannot start a paused container, try unpause instead"),
    ),
    ("rm one", Says("cannot remove")),
    ("ps --format '{{.Names}} {{.State}} {{.Status}}'", Same),
    ("unpause one", Same),
    ("kill -s NOSUCH one", Usage("invalid signal")),
    ("kill -s 0 one", Usage("invalid signal")),
    ("kill -s WINCH one", Same),
    ("kill one", Same),
    ("wait one", Same),
    ("kill one", Says("is not running")),
    ("pause one", Says("is not running")),
    ("stop one", Same),
    ("ps -a --format '{{.Names}} {{.State}} {{.Status}}'", Same),
    ("restart -t 0 one", Same),
    ("stop -t 0 one", Same),
    (
        "create --name one busybox",
        Says("already in use by container"),
    ),
    ("create --name a busybox", Usage("invalid container name")),
    ("create --name two --network none busybox true", Same),
    ("rename two one", Says("already in use")),
    ("rename two three", Same),
    ("rename three three", Says("same name")),
    ("start two", Says("no such container: two")),
    ("start -a three", Same),
    ("rm one three", Same),
    ("rm one", Says("no such container: one")),
    ("rm -f one", Status),
    ("stop one", Says("no such container: one")),
    ("kill one", Says("no such container: one")),
    ("wait one", Says("no such container: one")),
    ("logs one", Says("no such container: one")),
    ("exec one true", Says("no such container: one")),
    ("port one", Says("no such container: one")),
    ("diff one", Says("no such container: one")),
    ("top one", Says("no such container: one")),
];

/// Containers that run to their end.
pub const RUNS: [(&str, Look); 37] = [
    ("run --rm --network none busybox true", Same),
    ("run --rm --network none busybox sh -c 'exit 9'", Same),
    (
        "run --rm --network none busybox sh -c 'kill -9 $$; sleep 1; exit 3'",
        Same,
    ),
    (
        "run --rm --network none busybox sh -c 'sh -c \"kill -9 \\$\\$\"; exit $?'",
        Same,
    ),
    (
        "run --rm --network none busybox no-such-command",
        Says("no-such-command"),
    ),
    (
        "run --rm --network none busybox /no/such/command",
        Says("/no/such/command"),
    ),
    ("run --rm --network none busybox /etc", Status),
    (
        "run --rm --network none busybox /etc/plain",
        Says("permission denied"),
    ),
    ("run --rm --network none -w /etc/plain busybox true", Status),
    (
        "run --rm --network none -u nobody-knows busybox true",
        Says("nobody-knows"),
    ),
    ("run --rm --network none -w /made/for/it busybox pwd", Same),
    ("run --rm --network none -h box busybox hostname", Same),
    (
        "run --rm --network none -u 7:8 --group-add 9 busybox id",
        Same,
    ),
    (
        "run --rm --network none -u ann busybox sh -c 'id; echo $HOME'",
        Same,
    ),
    (
        "run --rm --network none -e A=b -e HOME busybox sh -c 'echo $A; env | cut -d= -f1 | sort'",
        Same,
    ),
    (
        "run --rm --network none --entrypoint echo busybox a b",
        Same,
    ),
    (
        "run --rm --network none -it busybox true </dev/null",
        Says("not a tty"),
    ),
    (
        "run --rm --network none --read-only busybox sh -c 'echo x >/x'",
        Says("read-only file system"),
    ),
    (
        "run --rm --network none --tmpfs /t:size=1m busybox sh -c 'stat -f -c %T /t; stat -c %a /t'",
        Same,
    ),
    (
        "run --rm --network none -v /tmp/image/root/etc:/e:ro busybox sh -c 'cat /e/plain; echo x >/e/plain'",
        Says("read-only file system"),
    ),
    (
        "run --rm --network none -v relative/path:/e busybox true",
        Says("invalid"),
    ),
    (
        "run --rm --network none -v /tmp:relative busybox true",
        Says("absolute"),
    ),
    ("run --rm --network none -m 1 busybox true", Says("memory")),
    (
        "run --rm --network none --memory nonsense busybox true",
        Says("nonsense"),
    ),
    ("run --rm --network none --cpus -1 busybox true", Status),
    (
        "run --rm --network none -p 99999:80 busybox true",
        Says("99999"),
    ),
    (
        "run --rm --network none --restart always busybox true",
        Says("conflict"),
    ),
    (
        "run --rm --no-such-flag busybox true",
        Says("unknown flag: --no-such-flag"),
    ),
    (
        "run --rm --network none --cap-add NOSUCH busybox true",
        Says("nosuch"),
    ),
    (
        "run --rm --network none --ulimit nosuch=1 busybox true",
        Says("nosuch"),
    ),
    // Whoever was its standard input is gone in the middle of a word.
    (
        "run -i --name gone --network none busybox cat </dev/zero 2>/dev/null | head -c 1 | wc -c; SELF wait gone; SELF rm gone",
        Same,
    ),
    (
        "run -a stdin --rm --network none busybox cat </etc/hostname",
        Same,
    ),
    (
        "run -d --name again --restart always --network none busybox false; \
         until SELF ps -q -f status=restarting | grep -q .; do sleep 0.1; done; \
         SELF kill again; SELF wait again >/dev/null; SELF rm again",
        Same,
    ),
    ("run", Usage("requires")),
    (
        "run --rm --network none --stop-signal NOSUCH busybox true",
        Says("invalid signal"),
    ),
    ("exec", Usage("requires")),
    ("no-such-command", Usage("no-such-command")),
];

/// What is listed.
pub const LISTS: [(&str, Look); 33] = [
    ("ps", Same),
    (
        "create --name one --network none -l kind=sweet busybox sleep 1000",
        Same,
    ),
    (
        "run -d --name two --network none busybox sh -c 'sleep 1000; echo a very long command'",
        Same,
    ),
    (
        "run --name three --network none busybox sh -c 'echo out; exit 3'",
        Same,
    ),
    (
        "run -d --name four --network none --entrypoint sleep busybox 1000",
        Same,
    ),
    ("pause four", Same),
    ("ps | head -1 | tr -s ' '", Same),
    (
        "ps -a --format 'table {{.Names}}\t{{.Image}}\t{{.Command}}\t{{.State}}\t{{.Ports}}'",
        Same,
    ),
    ("ps -a --format '{{.Names}} {{.Status}}'", Same),
    (
        "ps -a --format '{{.Names}} {{.Labels}}|{{.Label \"kind\"}}|{{.Networks}}|{{.Mounts}}|{{.LocalVolumes}}'",
        Same,
    ),
    ("ps -a --no-trunc --format '{{.Command}}'", Same),
    ("ps -q", Same),
    ("ps -aq --no-trunc", Same),
    ("ps -l --format '{{.Names}}'", Same),
    ("ps -n 2 --format '{{.Names}}'", Same),
    ("ps -a -f status=exited --format '{{.Names}}'", Same),
    (
        "ps -a -f status=paused -f status=created --format '{{.Names}}'",
        Same,
    ),
    ("ps -f exited=3 --format '{{.Names}}'", Same),
    ("ps -a -f exited=3 --format '{{.Names}}'", Same),
    ("ps -a -f name=o --format '{{.Names}}'", Same),
    ("ps -a -f name=^two$ --format '{{.Names}}'", Same),
    ("ps -a -f label=kind --format '{{.Names}}'", Same),
    ("ps -a -f label=kind=sour --format '{{.Names}}'", Same),
    ("ps -a -f ancestor=busybox --format '{{.Names}}'", Same),
    ("ps -a -f before=three --format '{{.Names}}'", Same),
    ("ps -a -f since=three --format '{{.Names}}'", Same),
    ("ps -a -f network=none --format '{{.Names}}'", Same),
    ("ps -a -f status=nonsense", Says("nonsense")),
    ("ps -a -f nonsense=1", Says("nonsense")),
    ("ps -a --format '{{.Nonsense}}'", Says("nonsense")),
    (
        "ps -a --format '{{json .}}' | head -1 | tr , '\\n' | cut -d: -f1 | tr -d '{' | sort",
        Same,
    ),
    ("container ls -a --format '{{.Names}}'", Same),
    ("rm -f one two three four", Same),
];
