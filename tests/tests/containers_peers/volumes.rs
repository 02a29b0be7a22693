//! Volumes, from the command line that makes them to the mounts of an inspection.

use crate::pair::Look::{self, Same, Says, Status, Usage};

pub const LINES: [(&str, Look); 50] = [
    ("volume ls", Same),
    ("volume create data", Same),
    ("volume create data", Same),
    ("volume create --label tier=db --label x=1 tagged", Same),
    (
        "volume create a/b",
        Says("includes invalid characters for a local volume name"),
    ),
    ("volume create a", Says("volume name is too short")),
    ("volume create -d nosuch share", Says("nosuch")),
    ("volume create -o nosuch=1 share", Says("invalid option")),
    ("volume ls", Same),
    ("volume ls -q", Same),
    ("volume ls -q -f name=at", Same),
    ("volume ls -q -f name=^tag", Same),
    ("volume ls -q -f label=tier", Same),
    ("volume ls -q -f label=tier=db -f label=y", Same),
    ("volume ls -q -f driver=nosuch", Same),
    ("volume ls -q -f dangling=true", Same),
    ("volume ls -q -f nosuch=1", Says("nosuch")),
    (
        "volume ls --format 'table {{.Name}}\\t{{.Scope}}\\t{{.Driver}}\\t{{.Label \"tier\"}}'",
        Same,
    ),
    (
        "volume inspect -f '{{.Name}} {{.Driver}} {{.Scope}} {{.Labels.tier}} {{json .Labels}}' tagged",
        Same,
    ),
    ("volume inspect tagged nobody", Says("no such volume")),
    ("volume inspect", Usage("requires")),
    (
        "create --name one --network none -v data:/d -v tagged:/t:ro -v /anon --mount \
         type=bind,src=/tmp,dst=/b,readonly,bind-propagation=rprivate \
         busybox touch /d/file",
        Same,
    ),
    (
        "inspect -f '{{range .Mounts}}{{if ne .Type \"volume\"}}{{json .}}{{end}}{{end}}' one",
        Status,
    ),
    (
        "inspect -f '{{range .Mounts}}{{.Type}} {{.Destination}} {{.RW}} {{.Propagation}}\n{{end}}' one \
         | sort",
        Same,
    ),
    // Docker's client keeps them in a set.
    (
        "inspect -f '{{range .HostConfig.Binds}}{{.}}\n{{end}}' one | sort",
        Same,
    ),
    ("volume ls -q -f dangling=true", Same),
    ("volume rm data", Says("volume is in use")),
    ("volume rm -f data", Says("volume is in use")),
    ("ps -aq -f volume=tagged", Same),
    ("ps -aq -f volume=/d", Same),
    ("start -a one", Same),
    (
        "create --name two --network none --volumes-from one:ro busybox true",
        Same,
    ),
    (
        "inspect -f '{{range .Mounts}}{{.Type}} {{.Destination}} {{.RW}}\n{{end}}' two | sort",
        Same,
    ),
    (
        "create --volumes-from nobody busybox true",
        Says("no such container: nobody"),
    ),
    (
        "create --volumes-from one:what busybox true",
        Usage("invalid mode: what"),
    ),
    ("rm -v one", Same),
    ("volume ls -q | wc -l", Same),
    ("rm -v two", Same),
    ("volume ls -q", Same),
    ("run --rm --network none -v data:/d busybox ls /d", Same),
    ("volume rm data nobody", Says("no such volume")),
    ("volume rm tagged", Same),
    (
        "volume create -o type=tmpfs -o device=tmpfs -o o=size=1m,uid=7 mem",
        Same,
    ),
    ("volume inspect -f '{{json .Options}}' mem", Same),
    (
        "run --rm --network none -v mem:/m busybox sh -c 'stat -c %u /m; df -k /m | tail -n 1 | tr -s \" \" | cut -d\" \" -f2'",
        Same,
    ),
    (
        "volume create -o type=tmpfs odd",
        Says("missing required option: \"device\""),
    ),
    ("volume create -o type=nonsense -o device=x odd", Same),
    (
        "run --rm --network none -v odd:/m busybox true",
        Says("failed to mount local volume"),
    ),
    ("volume rm mem odd", Same),
    ("volume prune -f", Same),
];

/// Mounts that make no sense.
pub const REFUSED: [(&str, Look); 11] = [
    (
        "run --rm -v /a:/b:rx busybox true",
        Says("invalid mode: rx"),
    ),
    (
        "run --rm -v data:/ busybox true",
        Says("destination can't be '/'"),
    ),
    (
        "run --rm -v a/b:/c busybox true",
        Says("includes invalid characters"),
    ),
    (
        "run --rm -v /tmp:/x -v /opt:/x busybox true",
        Says("duplicate mount point: /x"),
    ),
    (
        "run --rm --mount type=bind,dst=/b busybox true",
        Says("field source must not be empty"),
    ),
    (
        "run --rm --mount src=data busybox true",
        Says("target is required"),
    ),
    (
        "run --rm --mount type=bind,src=/nonexistent,dst=/b busybox true",
        Says("bind source path does not exist: /nonexistent"),
    ),
    (
        "run --rm --mount type=odd,dst=/b busybox true",
        Says("mount type unknown"),
    ),
    (
        "run --rm --mount type=tmpfs,dst=/b,src=/a busybox true",
        Says("field source must not be specified"),
    ),
    (
        "run --rm --mount type=volume,dst=/b,bind-propagation=shared busybox true",
        Says("cannot mix 'bind-*' options with mount type 'volume'"),
    ),
    (
        "run --rm --mount dst=/b,colour=red busybox true",
        Says("unexpected key 'colour'"),
    ),
];
