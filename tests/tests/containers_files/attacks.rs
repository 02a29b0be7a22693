//! Containers whose programs want out by way of `cp`, `export`, `commit` or `diff`.

use std::time::{Duration, Instant};

use super::{for_each, for_root, start};

/// Swaps a directory for a link to the host's `/etc` or what a root would take for it, without end.
const SWAP: &str = "
    mkdir /w; cd /w; mkdir -p real/sub; echo inside >real/f; echo inside >real/sub/f
    ln -s /etc evil; mkdir /w/d; rmdir /w/d; cp -a real d
    while :; do mv d x; mv evil d; mv d evil; mv x d; done &";

/// CVE-2018-15664: while a path is resolved, somebody makes a component of it a link.
#[test]
fn whoever_swaps_a_component_during_a_copy_gains_nothing() {
    for_each(|machine| {
        start(machine, &[], SWAP);
        machine.script("cd /tmp/work; mkdir -p in/sub; echo host >in/canary-of-mine; echo host >in/sub/canary-of-mine").ok();
        let before = machine
            .host()
            .shell("ls -A /etc | sort; cat /etc/passwd /etc/hostname | sha256sum");
        let begin = Instant::now();
        let mut copied = 0;
        // On a busy machine little is tried in that time, and most of it may fail.
        while begin.elapsed() < Duration::from_secs(8)
            || copied == 0 && begin.elapsed() < Duration::from_secs(60)
        {
            let out = machine.script(
                "cd /tmp/work; minidocker cp in/. c1:/w/d && echo yes; minidocker cp in/sub/canary-of-mine c1:/w/d/sub/f && echo yes
                 rm -rf out; minidocker cp c1:/w/d/. out && echo yes
                 if [ -e out/shadow ]; then grep -q student: out/shadow && echo STOLEN; fi",
            );
            assert!(!out.text().contains("STOLEN"), "{out}");
            copied += out.text().matches("yes").count();
        }
        assert!(copied > 0, "nothing was copied at all");
        let after = machine
            .host()
            .shell("ls -A /etc | sort; cat /etc/passwd /etc/hostname | sha256sum");
        assert_eq!(before, after, "something was written to the host");
    });
}

/// CVE-2019-14271 and GHSA-x86f-5xw2-fm2r: programs and libraries of the container's in the way.
#[test]
fn nothing_of_the_container_is_executed_or_loaded() {
    for_each(|machine| {
        let traps = "for p in /bin /usr/bin /sbin /usr/sbin; do for n in tar xz gzip gunzip unpigz zstd minidocker docker-untar; do
                mkdir -p $p; rm -f $p/$n; printf '#!/bin/busybox sh\\necho x >/trapped\\n' >$p/$n; chmod 755 $p/$n; done; done
            mkdir -p /lib/x86_64-linux-gnu /lib64 /usr/lib/x86_64-linux-gnu
            for l in libnss_files.so.2 libnss_compat.so.2 libnss_dns.so.2 libgcc_s.so.1; do echo junk >/usr/lib/x86_64-linux-gnu/$l; done
            echo 'passwd: trap' >/etc/nsswitch.conf; echo /trap.so >/etc/ld.so.preload";
        start(
            machine,
            &[],
            &format!("mkdir /d; echo 1 >/d/f; cp /bin/busybox /b || true; {traps}"),
        );
        machine.script("cd /tmp/work; mkdir a; echo 1 >a/f; tar -cz a | minidocker cp - c1:/d; minidocker cp a c1:/e; minidocker cp c1:/d out; minidocker export c1 >/dev/null").ok();
        let diff = machine.ok("diff c1");
        assert!(!diff.contains("/trapped"), "{diff}");
        assert!(
            diff.contains("A /d/a/f") && diff.contains("A /e/f"),
            "{diff}"
        );
    });
}

#[test]
fn an_archive_stays_below_its_destination() {
    for_root(|machine| {
        start(
            machine,
            &[],
            "mkdir -p /d /victim; echo safe >/victim/f; ln -s /victim /d/link",
        );
        let evil = r#"
import io, sys, tarfile
def add(tar, name, kind, link="", data=b"evil"):
    it = tarfile.TarInfo(name); it.type = kind; it.linkname = link; it.mode = 0o644
    if kind == tarfile.REGTYPE: it.size = len(data); tar.addfile(it, io.BytesIO(data))
    else: tar.addfile(it)
R, L, S, D = tarfile.REGTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE
cases = {
    "dots": [("../victim/f", R, "")],
    "deep": [("a/../../victim/f", R, "")],
    "hardlink": [("h", L, "../victim/f"), ("h", R, "")],
    "through": [("l", S, "../victim"), ("l", D, ""), ("l/f", R, "")],
    "own": [("l", S, "../victim"), ("l/f", R, "")],
    "dir": [("link", D, ""), ("link/f", R, "")],
    "root": [(".", S, "/victim")] }
with tarfile.open(fileobj=sys.stdout.buffer, mode="w|", format=tarfile.PAX_FORMAT) as tar:
    for name, kind, link in cases[sys.argv[1]]: add(tar, name, kind, link)
"#;
        machine
            .script(&format!("cat >/tmp/work/evil.py <<'X'\n{evil}\nX"))
            .ok();
        for case in ["dots", "deep", "hardlink", "through", "own", "dir", "root"] {
            let out = machine.script(&format!(
                "set -o pipefail; python3 /tmp/work/evil.py {case} | minidocker cp - c1:/d"
            ));
            assert_eq!(out.code(), 1, "{case}: {out}");
            assert_eq!(machine.ok("exec c1 cat /victim/f"), "safe", "{case}");
        }
    });
}

#[test]
fn what_blocks_or_acts_when_it_is_opened_is_not_opened() {
    for_root(|machine| {
        let script = "mkdir /d; mkfifo /d/p; echo 1 >/d/f; mknod /d/n c 1 3; mknod /d/b b 7 200
        ln -s /d/p /etc/x; rm /etc/passwd; mkfifo /etc/passwd";
        start(machine, &[], script);
        let script = "cd /tmp/work; timeout 60 minidocker cp c1:/d out; timeout 60 minidocker cp -L c1:/etc/x p; timeout 60 minidocker export c1 >/dev/null
        timeout 60 minidocker commit c1 img >/dev/null; timeout 60 minidocker diff c1 >/dev/null; find out -type b -o -type c";
        let out = machine.script(&format!("set -e; {script}"));
        // A device is left out, and a fifo is one again.
        assert_eq!(out.ok(), "");
        let kinds = machine
            .script(
                "cd /tmp/work; stat -c %F out/p p; minidocker cp -a c1:/d with; stat -c %F with/b",
            )
            .ok();
        assert_eq!(kinds, "fifo\nfifo\nblock special file");
    });
}

#[test]
fn a_device_that_takes_a_files_place_is_never_opened() {
    for_root(|machine| {
        // To open the one without a writer blocks, and to open the other would be seen in its fdinfo.
        start(
            machine,
            &[],
            "mkdir /d; cd /d; echo 1 >f; mkfifo p
        while :; do mv f x; mv p f; mv f p; mv x f; done &",
        );
        for _ in 0..40 {
            let out = machine
                .script("cd /tmp/work; rm -rf o; timeout 60 minidocker cp c1:/d o; [ $? != 124 ]");
            assert_eq!(out.code(), 0, "it hung: {out}");
        }
    });
}

#[test]
fn the_kernels_files_and_the_hosts_stay_out() {
    for_each(|machine| {
        start(
            machine,
            &[],
            "ln -s /proc/1/root /r; ln -s /proc/self/root/../.. /q",
        );
        let out = machine.script("cd /tmp/work; minidocker cp c1:/ all; ls all/proc all/sys; minidocker cp c1:/r/etc etc; minidocker cp c1:/q/etc etc; minidocker cp all/etc c1:/r/; ls");
        let text = out.text();
        assert!(text.contains("all/proc:\n\nall/sys:"), "{out}");
        assert_eq!(text.lines().last(), Some("all"), "{out}");
    });
}
