//! Who pulls and loads images, and how each is told to.

use std::fmt;

use anyhow::{Context, Result, ensure};
use harness::{Host, Running, User, wait_for};
use nix::sys::signal::Signal;

use crate::measure::{Measured, measure};
use crate::samples::{LARGE, Sample};

/// The one that the others are compared with.
pub const OURS: &str = "minidocker";

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    Pull,
    Load,
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Deed::Pull => "pull",
            Deed::Load => "load",
        })
    }
}

/// What everybody of them is to write to is on a file system of the machine's own.
const SETTINGS: &str = r#"
    for dir in /var/lib /opt; do mount -t tmpfs -o mode=755 tmpfs $dir; done
    mkdir -p /etc/containers /run/stores /var/lib/minidocker
    echo '{"default": [{"type": "insecureAcceptAnything"}]}' >/etc/containers/policy.json
"#;

pub fn prepare(host: &Host) -> Result<()> {
    let out = host.run(["sh", "-euc", SETTINGS]);
    ensure!(out.code() == 0, "prepare the machine: {out}");
    Ok(())
}

/// Somebody who pulls and loads; lines of shell, with `$dir` for their store, `$registry`, `$image`
/// and `$archive`.
struct Lines {
    name: &'static str,
    begin: &'static str,
    pull: &'static str,
    load: &'static str,
    empty: &'static str,
}

const MINIDOCKER: Lines = Lines {
    name: OURS,
    begin: "umount -q /var/lib/minidocker; mount --bind $dir /var/lib/minidocker",
    pull: "exec minidocker pull --quiet $registry/$image",
    load: "exec minidocker load --quiet --input $archive",
    empty: "find /var/lib/minidocker -mindepth 1 -delete",
};

/// umoci knows no layer that is not compressed, so that skopeo compresses those of an archive.
const SKOPEO_AND_UMOCI: Lines = Lines {
    name: "skopeo + umoci",
    begin: "",
    pull: "skopeo --insecure-policy copy --quiet --src-tls-verify=false docker://$registry/$image \
           oci:$dir/layout:it && { [ -e $dir/bundle ] || umoci unpack --image $dir/layout:it $dir/bundle; }",
    load: "skopeo --insecure-policy copy --quiet docker-archive:$archive oci:$dir/layout:it && umoci unpack --image $dir/layout:it $dir/bundle",
    empty: "rm -rf $dir/layout $dir/bundle",
};

const PODMAN: Lines = Lines {
    name: "podman",
    begin: r#"mkdir -p $dir/tmp; printf '#!/bin/sh\nTMPDIR=%s exec /usr/bin/podman --root %s/graph \
        --runroot /run/podman/run --tmpdir /run/podman/tmp --cgroup-manager cgroupfs \
        --events-backend file --storage-driver overlay "$@"\n' $dir/tmp $dir >/run/workspace/podman
        chmod 755 /run/workspace/podman; rm -rf /run/podman; podman images"#,
    pull: "exec podman pull --quiet --tls-verify=false $registry/$image",
    load: "exec podman load --quiet --input $archive",
    empty: "podman rmi --all --force",
};

const DOCKER: Lines = Lines {
    name: "docker",
    begin: "",
    pull: "exec docker pull --quiet $registry/$image",
    load: "exec docker load --quiet --input $archive",
    empty: "images=$(docker images --quiet); [ -z \"$images\" ] || docker rmi --force $images",
};

/// Debian's, with everything of its own. Dropped, it is gone.
pub struct Dockerd<'a> {
    host: &'a Host,
    daemon: Running,
}

impl<'a> Dockerd<'a> {
    /// One whose store is in `dir`, and which `docker` speaks to from now on.
    pub fn start(host: &'a Host, dir: &str) -> Dockerd<'a> {
        let client = "#!/bin/sh\nexec /run/workspace/clients/usr/bin/docker -H unix:///run/docker/socket \"$@\"\n";
        std::fs::write(host.path("/run/workspace/docker"), client).expect("the machine's memory");
        host.shell("chmod 755 /run/workspace/docker");
        let line = format!(
            "rm -rf /run/docker; mkdir -p {dir}/docker
            PATH=/run/workspace/clients/usr/sbin:/run/workspace/clients/usr/bin:$PATH
            exec dockerd --data-root {dir}/docker --exec-root /run/docker/exec \
            --pidfile /run/docker/pid -H unix:///run/docker/socket --storage-driver overlay2 \
            --oom-score-adjust 0 --bridge=none --iptables=false 2>&1"
        );
        let mut daemon = host.spawn(["sh", "-c", &line]);
        wait_for("dockerd to answer", 60, || {
            assert!(daemon.is_running(), "dockerd ended:\n{}", daemon.printed());
            (host.run(["docker", "version"]).code() == 0).then_some(())
        });
        Dockerd { host, daemon }
    }

    pub fn stop(self) {
        self.daemon.signal(Signal::SIGTERM);
        self.daemon.wait();
        self.host.shell("rm /run/workspace/docker");
    }
}

/// Somebody on the machine, with a store of their own.
pub struct Subject<'a> {
    pub name: &'static str,
    lines: Lines,
    host: &'a Host,
    dir: String,
    registry: String,
    daemon: Option<i32>,
}

/// All, with stores in `dir`.
pub fn all<'a>(
    host: &'a Host,
    dir: &str,
    registry: &str,
    dockerd: &Dockerd<'_>,
) -> Vec<Subject<'a>> {
    [MINIDOCKER, SKOPEO_AND_UMOCI, PODMAN, DOCKER]
        .into_iter()
        .map(|lines| Subject {
            name: lines.name,
            host,
            dir: format!("{dir}/{}", lines.name.replace(" + ", "-")),
            registry: registry.to_owned(),
            daemon: (lines.name == DOCKER.name).then(|| dockerd.daemon.pid()),
            lines,
        })
        .collect()
}

impl Subject<'_> {
    /// A program that does nothing would win every race: each has to be seen leaving an image's
    /// bytes behind, and emptying its store.
    pub fn works(&self, sample: &Sample) -> bool {
        let begin = format!("mkdir -p $dir; {}", self.lines.begin);
        let tried = self.call(&begin, sample).and_then(|_| {
            for deed in [Deed::Pull, Deed::Load] {
                self.empty()?;
                ensure!(self.stored()? < 5, "the store is not empty at first");
                self.run(deed, sample)?;
                let (stored, least) = (self.stored()?, sample.least());
                ensure!(
                    stored >= least,
                    "after {deed}, there are {stored} MiB of {least}"
                );
            }
            self.empty()
        });
        if let Err(error) = &tried {
            println!("!! {} is left out: {error:#}", self.name);
        }
        tried.is_ok()
    }

    /// Does it, once all that was written before is on the disk; and then waits again.
    pub fn measure(&self, deed: Deed, sample: &Sample) -> Result<Measured> {
        let sync = || self.call("sync --file-system $dir", sample);
        sync()?;
        let mut measured = self.run(deed, sample)?;
        measured.synced += sync()?.seconds;
        Ok(measured)
    }

    /// Does it.
    pub fn run(&self, deed: Deed, sample: &Sample) -> Result<Measured> {
        let line = match deed {
            Deed::Pull => self.lines.pull,
            Deed::Load => self.lines.load,
        };
        self.call(line, sample)
    }

    /// Removes all images.
    pub fn empty(&self) -> Result<()> {
        self.call(self.lines.empty, &LARGE).map(drop)
    }

    fn call(&self, line: &str, sample: &Sample) -> Result<Measured> {
        let settings = [
            ("dir", self.dir.clone()),
            ("registry", self.registry.clone()),
            ("image", sample.name.to_owned()),
            (
                "archive",
                format!("/run/workspace/samples/{}.tar", sample.name),
            ),
        ];
        let settings = settings.map(|(name, value)| format!("{name}={value}"));
        let words = ["env"].into_iter();
        let words = words.chain(settings.iter().map(String::as_str));
        let words = words.chain(["sh", "-c", line]);
        let command = self.host.prepare(User::Root, true, words);
        measure(command, self.daemon).with_context(|| format!("{}: {line}", self.name))
    }

    /// MiB in its store.
    fn stored(&self) -> Result<u64> {
        let out = self.host.run(["du", "-smx", &self.dir]);
        let mib = out.text();
        let mib = mib.split_whitespace().next().context("du says nothing")?;
        Ok(mib.parse()?)
    }
}
