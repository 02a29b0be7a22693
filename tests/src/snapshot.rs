//! What a machine holds, before and after.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::host::Host;

/// The parts of a machine that a container must leave as it found them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot(BTreeMap<String, Vec<String>>);

/// Prints each part under a heading. Only what has no counter or time in it.
const LOOK: &str = r###"
part() { echo "## $1"; }
part mounts;    awk '{ $1 = ""; $2 = ""; $3 = ""; print }' /proc/1/mountinfo
part links;     ip -o link show | sed 's/^[0-9]*: //; s/ qlen [0-9]*//'
part addresses; ip -o address show | sed 's/^[0-9]*: //; s/valid_lft.*//'
part routes;    ip route show table all; ip -6 route show table all; ip rule show
part netns;     ip netns list
part nftables;  nft list ruleset
part cgroups;   find /sys/fs/cgroup -type d 2>/dev/null
part processes; for p in /proc/[0-9]*; do
    # Not this script, and not what it runs at the moment.
    # Not this script, not what it runs at the moment, and nothing that ends meanwhile.
    [ "${p#/proc/}" = $$ ] || grep -q "^PPid:	$$\$" $p/status || {
        line="$(tr '\0' ' ' <$p/cmdline) $(cat $p/comm)"
        if [ -e $p/comm ]; then echo "$line"; fi
    }
done 2>/dev/null
part files;     find /run /tmp /var/lib/minidocker /home /dev/shm /var/tmp -xdev -path /run/workspace -prune -o \
                     -path /run/etc -prune -o -printf '%y %s %p\n' | sed 's/^d [0-9]*/d/'
part hostname;  hostname
part settings;  cd /proc/sys/net/ipv4 && for s in ip_forward conf/lo/route_localnet conf/all/route_localnet; do
                     echo $s $(cat $s); done
"###;

/// What may be there afterwards although it was not before: what is kept on
/// purpose, so that the next container starts faster, or that one can tell what
/// happened, and the machine's switch
/// between its networks, which others may rely on by now.
const KEPT: [&str; 6] = [
    "/minidocker/events.json",
    "/minidocker/init",
    "/minidocker/rootfs",
    "/minidocker/images",
    "/minidocker/layers",
    // Which subnet is free is found out once.
    "/minidocker/network/mini0/subnet",
];

impl Snapshot {
    /// Looks, for at most three seconds, until two looks agree and no helper is
    /// left that outlives its command by a moment, while the kernel frees a network.
    pub(crate) fn take(host: &Host) -> Snapshot {
        let end = Instant::now() + Duration::from_secs(3);
        let mut last = Snapshot::look(host);
        loop {
            let now = Snapshot::look(host);
            // A line ends with the program's name.
            let name = |line: &String| {
                let name = line.rsplit(' ').next();
                name.is_some_and(|name| name.starts_with("step0") || name == "minirunc")
            };
            let busy = now.part("processes").iter().any(name);
            if (!busy && now == last) || Instant::now() > end {
                return now;
            }
            last = now;
        }
    }

    fn look(host: &Host) -> Snapshot {
        let mut parts = BTreeMap::<_, Vec<_>>::new();
        let mut part = String::new();
        for line in host.run(["sh", "-c", LOOK]).text().lines() {
            if let Some(name) = line.strip_prefix("## ") {
                name.clone_into(&mut part);
            }
            parts
                .entry(part.clone())
                .or_default()
                .push(line.trim().to_owned());
        }
        for lines in parts.values_mut() {
            lines.sort();
        }
        Snapshot(parts)
    }

    /// The lines of one part, `mounts` for example.
    pub fn part(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// What came or went since, but for what is kept on purpose; a line each.
    pub fn changes(&self, after: &Snapshot) -> Vec<String> {
        let mut changes = Vec::new();
        for (part, now) in &after.0 {
            let then = self.part(part);
            let gone = then.iter().filter(|line| !now.contains(line));
            for line in gone.filter(|line| !is_kept(part, line)) {
                changes.push(format!("{part}: gone: {line}"));
            }
            for line in extra(now, then).filter(|line| !is_kept(part, line)) {
                changes.push(format!("{part}: left: {line}"));
            }
        }
        changes
    }

    /// The same without the lines that hold `text`.
    pub fn without(mut self, text: &str) -> Snapshot {
        for lines in self.0.values_mut() {
            lines.retain(|line| !line.contains(text));
        }
        self
    }
}

/// Holds a machine against what it was, again and again for a minute: the kernel frees a network, and
/// ends who was killed, when it finds the time.
///
/// # Panics
/// When anything but what is kept on purpose came or went, with a list of it.
#[track_caller]
pub fn assert_same(before: &Snapshot, look: impl Fn() -> Snapshot) {
    let end = Instant::now() + Duration::from_secs(60);
    let mut changes = before.changes(&look());
    while !changes.is_empty() && Instant::now() < end {
        changes = before.changes(&look());
    }
    assert!(
        changes.is_empty(),
        "the machine is not as it was:\n{}",
        changes.join("\n")
    );
}

/// The lines of `now` that `then` has not, or has less often.
fn extra<'a>(now: &'a [String], then: &'a [String]) -> impl Iterator<Item = &'a String> {
    let count = |lines: &[String], line: &String| lines.iter().filter(|l| *l == line).count();
    now.iter()
        .filter(move |line| count(now, line) > count(then, line))
}

fn is_kept(part: &str, line: &str) -> bool {
    match part {
        "settings" => line.starts_with("ip_forward"),
        // Of two who leave at once each may find the other there.
        "cgroups" => line.ends_with("/minidocker-engine"),
        // Directories, and empty files to take locks on, cost nobody anything.
        "files" if line.contains("/minidocker") => {
            let empty = line.starts_with("d ") || line.starts_with("f 0 ");
            let parents = [".local", ".local/share", ".cache"];
            empty
                || KEPT.iter().any(|kept| line.contains(kept))
                || parents.iter().any(|p| line.ends_with(p))
        }
        "files" => line.ends_with("/.local") || line.ends_with("/.local/share"),
        _ => false,
    }
}
