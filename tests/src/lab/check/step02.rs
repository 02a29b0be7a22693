//! Step 2: files of its own.

use nix::sys::signal::Signal;

use super::trial::{ids_inside, mounts};
use super::{Check, Found, Need, Step, Trial, ensure, failed, same};

pub const STEP: Step = Step {
    number: 2,
    checks: &[
        Check {
            id: "rootfs",
            task: Some("02.1"),
            points: 8,
            title: "--rootfs DIR is the root, and a mount point",
            hint: "pivot_root(2) wants a mount point: a bind mount makes one of a directory",
            needs: &[Need::RootfsOption],
            run: rootfs,
        },
        Check {
            id: "pivot",
            task: Some("02.2"),
            points: 12,
            title: "the machine's root is gone, not only out of sight",
            hint: "chroot(2) leaves the old root in the namespace; pivot_root(2) and umount2(2) do not",
            needs: &[Need::RootfsOption],
            run: pivot,
        },
        Check {
            id: "mountinfo",
            task: None,
            points: 5,
            title: "every mount inside is the container's",
            hint: "read /proc/self/mountinfo inside: whose is each line?",
            needs: &[],
            run: mountinfo,
        },
        Check {
            id: "proc",
            task: None,
            points: 8,
            title: "/proc shows the container's processes alone",
            hint: "proc(5): a proc file system shows the pid namespace of whoever mounted it",
            needs: &[],
            run: proc_is_own,
        },
        Check {
            id: "devices",
            task: Some("02.3"),
            points: 10,
            title: "/dev has the six devices, and they work",
            hint: "null(4), full(4), random(4), tty(4); mknod(2) is not for everybody, bind mounts are",
            needs: &[],
            run: devices,
        },
        Check {
            id: "pts-and-shm",
            task: None,
            points: 6,
            title: "/dev/pts is its own, /dev/shm is for all",
            hint: "devpts has the option newinstance; /dev/shm is a tmpfs of mode 1777",
            needs: &[],
            run: pts_and_shm,
        },
        Check {
            id: "sys",
            task: None,
            points: 4,
            title: "/sys shows the container's network",
            hint: "sysfs shows the network namespace of whoever mounted it",
            needs: &[],
            run: sys,
        },
        Check {
            id: "volume",
            task: Some("02.5"),
            points: 8,
            title: "-v SRC:DST shares a directory, or a file",
            hint: "a bind mount, before the old root is gone; the place may have to be made first",
            needs: &[],
            run: volume,
        },
        Check {
            id: "volume-read-only",
            task: Some("02.5"),
            points: 8,
            title: "-v SRC:DST:ro cannot be written, submounts included",
            hint: "MS_BIND ignores MS_RDONLY; see mount_setattr(2) and AT_RECURSIVE",
            needs: &[],
            run: volume_read_only,
        },
        Check {
            id: "read-only",
            task: Some("02.4"),
            points: 8,
            title: "--read-only: the root cannot be written",
            hint: "mount_setattr(2), or a remount with MS_BIND; not on /dev/shm",
            needs: &[],
            run: read_only,
        },
        Check {
            id: "descriptors",
            task: None,
            points: 5,
            title: "no descriptor of the caller leaks into it",
            hint: "close_range(2), before execve: what is open there leads out of the root",
            needs: &[],
            run: descriptors,
        },
        Check {
            id: "missing-rootfs",
            task: None,
            points: 4,
            title: "a --rootfs that is not there is 125, and a sentence",
            hint: "never go on after a failed mount",
            needs: &[Need::RootfsOption],
            run: missing_rootfs,
        },
        Check {
            id: "default-rootfs",
            task: None,
            points: 4,
            title: "without --rootfs there is a shell, and no host file",
            hint: "copy what a shell needs into a directory of your own, once",
            needs: &[],
            run: default_rootfs,
        },
        Check {
            id: "student-rootfs",
            task: None,
            points: 4,
            title: "an ordinary user gets all of this too",
            hint: "in a user namespace mknod fails, and what one mounts there must be one's own",
            needs: &[Need::RootfsOption],
            run: student,
        },
        Check {
            id: "afterwards-2",
            task: None,
            points: 4,
            title: "the machine is as before, also after a failure",
            hint: "compare /proc/mounts, ps and /tmp before and after",
            needs: &[],
            run: afterwards,
        },
        Check {
            id: "afterwards-kill-9",
            task: None,
            points: 2,
            title: "after kill -9 nothing is left, or the next cleans up",
            hint: "what lives in the container's mount namespace goes away with it",
            needs: &[],
            run: after_kill_9,
        },
    ],
};

/// What lies in DIR is there, what is written there lies in DIR, and the root
/// is a mount.
fn rootfs(t: &Trial) -> Found {
    let (dir, marker, new) = (format!("/tmp/{}", t.word()), t.word(), t.word());
    t.root_file_system(&dir)?;
    t.machine(&format!("echo {marker} >{dir}/etc/{marker}"))?;
    let script = format!("cat /etc/{marker} && echo {new} >/{new}");
    t.shell(&["--rootfs", &dir], &script)?.prints(&marker)?;
    same(
        "what the container wrote into its root, in DIR",
        &new,
        &t.machine(&format!("cat {dir}/{new} || true"))?,
    )?;
    let (_running, pid) = t.container(&["--rootfs", &dir]).asleep()?;
    let mounted = mounts(pid)?.iter().any(|mount| mount.place == "/");
    ensure(
        mounted,
        "a line for / in the container's /proc/PID/mountinfo",
        "there is none: the root is a directory of another mount, as after chroot(2)",
    )
}

/// Whoever joins its mount namespace stands at the namespace's root. After a
/// chroot that is the machine's.
fn pivot(t: &Trial) -> Found {
    let (dir, secret, name) = (format!("/tmp/{}", t.word()), t.word(), t.word());
    t.root_file_system(&dir)?;
    t.machine(&format!(
        "echo {secret} >/run/{name}; chmod 644 /run/{name}"
    ))?;
    // Below each mount, for the old root may have been left somewhere.
    let script = format!(
        "for dir in '' /proc/1/root /.. $(cut -d' ' -f5 /proc/self/mountinfo); do
            cat $dir/run/{name} 2>/dev/null
        done
        find / -xdev -name {name}"
    );
    let out = t.shell(&["--rootfs", &dir], &script)?;
    ensure(
        !out.text().contains(&secret) && !out.text().contains(&name),
        format!("no way to the machine's /run/{name} from inside"),
        out.told(),
    )?;
    let (_running, pid) = t.container(&["--rootfs", &dir]).asleep()?;
    let ids = ids_inside(pid)?;
    let Some(id) = ids.get(1) else {
        return failed("a process on the machine", "it is gone");
    };
    // The container's own cat runs, at the root of its mount namespace.
    let script = format!("nsenter --mount=/proc/{id}/ns/mnt cat /run/{name} 2>/dev/null || true");
    let seen = t.machine(&script)?;
    ensure(
        seen != secret,
        "a mount namespace whose root is the container's",
        "the machine's root, with all its files, is still mounted in the container's namespace: \
         whoever escapes the directory finds it",
    )
}

/// Places where a container has mounts, at any step.
fn mountinfo(t: &Trial) -> Found {
    let (_running, pid) = t.container(&[]).asleep()?;
    for mount in mounts(pid)? {
        let place = mount.place.as_str();
        let below = |dir: &str| place == dir || place.starts_with(&format!("{dir}/"));
        let files = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];
        let own = place == "/" || ["/proc", "/dev", "/sys"].iter().any(|dir| below(dir));
        ensure(
            own || files.contains(&place),
            "mounts on /, and on or below /proc, /dev and /sys alone",
            format!("one on {place}: {}", mount.line),
        )?;
    }
    Ok(())
}

/// Process 1 of it is the command, with its arguments.
fn proc_is_own(t: &Trial) -> Found {
    let word = t.word();
    let script = "tr '\\0' ' ' </proc/1/cmdline; echo; echo /proc/[0-9]*; readlink /proc/self";
    let out = t.run(&[], &["sh", "-c", script, &word])?;
    let text = out.succeeds()?.text();
    ensure(
        text.lines().next().is_some_and(|line| line.contains(&word)),
        format!("in /proc/1/cmdline, the command with its argument {word}"),
        out.told(),
    )?;
    let strangers = text
        .split(|c: char| c.is_whitespace() || c == '/')
        .filter_map(|number| number.parse::<u32>().ok())
        .find(|number| *number > 20);
    ensure(
        strangers.is_none(),
        "in /proc, the few processes of the container",
        out.told(),
    )
}

fn devices(t: &Trial) -> Found {
    let wanted = "null 1:3\nzero 1:5\nfull 1:7\nrandom 1:8\nurandom 1:9\ntty 5:0";
    let script = "cd /dev; for d in null zero full random urandom tty; do
        [ -c $d ] && stat -c \"$d %t:%T\" $d; done";
    t.shell(&[], script)?.prints(wanted)?;
    let word = t.word();
    let script = format!(
        "echo lost >/dev/null || exit 1
         head -c 4096 /dev/zero | tr -d '\\0' | wc -c | tr -d ' '
         echo x 2>/dev/null >/dev/full && echo 'full took it'
         a=$(head -c 16 /dev/urandom | wc -c); echo $a
         [ \"$(head -c 16 /dev/random | tr -d '\\0')\" != \"$(head -c 16 /dev/random | tr -d '\\0')\" ] && echo {word}"
    );
    t.shell(&[], &script)?.prints(&format!("0\n16\n{word}"))?;
    let others = "find /dev -type b -o -type c ! -path '/dev/pts/*'";
    let out = t.shell(&[], others)?;
    let known = [
        "null", "zero", "full", "random", "urandom", "tty", "ptmx", "console",
    ];
    let stranger = out
        .text()
        .lines()
        .find(|line| !known.contains(&line.rsplit('/').next().unwrap_or_default()))
        .map(str::to_owned);
    ensure(
        stranger.is_none(),
        "no device but null, zero, full, random, urandom, tty, ptmx and console",
        stranger.unwrap_or_default(),
    )
}

fn pts_and_shm(t: &Trial) -> Found {
    let (_running, pid) = t.container(&[]).asleep()?;
    let mounts = mounts(pid)?;
    for (place, kind) in [("/dev/pts", "devpts"), ("/dev/shm", "tmpfs")] {
        let there = mounts
            .iter()
            .any(|mount| mount.place == place && mount.kind == kind);
        ensure(
            there,
            format!("a {kind} on {place}"),
            "none in the container's mountinfo",
        )?;
    }
    let word = t.word();
    let script = format!(
        "stat -c %a /dev/shm; ls /dev/pts | grep -v ptmx; [ -e /dev/ptmx ] && echo {word} >/dev/shm/{word} && cat /dev/shm/{word}"
    );
    t.shell(&[], &script)?.prints(&format!("1777\n{word}"))?;
    // Each devpts that is mounted anew has a number of its own.
    let number = "stat -c %d /dev/pts";
    let outside = t.machine(number)?;
    let inside = t.shell(&[], number)?.succeeds()?.text();
    ensure(
        inside != outside,
        format!("another /dev/pts than the machine's, which is device {outside}"),
        "the same",
    )?;
    let outside = t.machine("ls /dev/shm")?;
    ensure(
        !outside.contains(&word),
        "another /dev/shm than the machine's",
        format!("the container's file is in the machine's: {outside}"),
    )
}

fn sys(t: &Trial) -> Found {
    let link = format!("x{}", &t.word()[..6]);
    t.machine(&format!(
        "ip link add {link} type dummy || ip link add {link} type bridge"
    ))?;
    let out = t.shell(&[], "ls /sys/class/net")?;
    let listed = out.succeeds()?.text();
    ensure(
        listed.contains("lo") && !listed.contains(&link),
        format!("in /sys/class/net lo, and not the machine's {link}"),
        out.told(),
    )
}

fn volume(t: &Trial) -> Found {
    let (dir, text, new) = (format!("/tmp/{}", t.word()), t.word(), t.word());
    let at = format!("/{}", t.word());
    t.machine(&format!("mkdir {dir}; echo {text} >{dir}/file"))?;
    let script = format!("cat {at}/file && echo {new} >{at}/new");
    t.shell(&["-v", &format!("{dir}:{at}")], &script)?
        .prints(&text)?;
    same(
        "what the container wrote into the volume",
        &new,
        &t.machine(&format!("cat {dir}/new || true"))?,
    )?;
    // A file, at a place that does not exist yet.
    let volume = format!("{dir}/file:{at}-file/deeper");
    t.run(&["-v", &volume], &["cat", &format!("{at}-file/deeper")])?
        .prints(&text)?;
    let missing = format!("/no/{}:{at}", t.word());
    let out = t.run(&["-v", &missing], &["true"])?;
    ensure(
        [2, 125].contains(&out.code()),
        "exit status 125 for a volume that is not there",
        out.told(),
    )
}

fn volume_read_only(t: &Trial) -> Found {
    let (dir, text, at) = (
        format!("/tmp/{}", t.word()),
        t.word(),
        format!("/{}", t.word()),
    );
    t.machine(&format!(
        "mkdir -p {dir}/sub; echo {text} >{dir}/file; mount -t tmpfs -o mode=777 none {dir}/sub"
    ))?;
    let script = format!(
        "cat {at}/file; echo x 2>/dev/null >{at}/new && echo written
         echo x 2>/dev/null >{at}/file && echo overwritten
         echo x 2>/dev/null >{at}/sub/new && echo 'written below a submount'; exit 0"
    );
    t.shell(&["-v", &format!("{dir}:{at}:ro")], &script)?
        .prints(&text)?;
    same(
        "the volume's file afterwards",
        &text,
        &t.machine(&format!("cat {dir}/file"))?,
    )
}

fn read_only(t: &Trial) -> Found {
    let word = t.word();
    let script = format!(
        "echo x 2>/dev/null >/{word} && echo written
         echo x 2>/dev/null >/tmp/{word} && echo 'written to /tmp'
         echo {word} >/dev/shm/{word} && cat /dev/shm/{word}"
    );
    t.shell(&["--read-only"], &script)?.prints(&word)?;
    // And without the option it can be.
    t.shell(
        &[],
        &format!("echo {word} >/{word} && cat /{word} && rm /{word}"),
    )?
    .prints(&word)?;
    Ok(())
}

/// The caller has a file open that the container has no business with.
fn descriptors(t: &Trial) -> Found {
    let (secret, name, word) = (t.word(), t.word(), t.word());
    t.machine(&format!("echo {secret} >/run/{name}"))?;
    let out = t
        .container(&["--read-only"])
        .holding(&format!("/run/{name}"))
        .run(&["sh", "-c", &format!("cat <&9 2>/dev/null; echo {word}")])?;
    ensure(
        !out.text().contains(&secret),
        "inside, descriptor 9 of the caller is closed",
        format!("the machine's file could be read through it: {secret}"),
    )?;
    // And the command ran at all.
    out.prints(&word)?;
    Ok(())
}

fn missing_rootfs(t: &Trial) -> Found {
    let (there, dir) = (format!("/tmp/{}", t.word()), format!("/no/{}", t.word()));
    t.root_file_system(&there)?;
    t.shell(&["--rootfs", &there], "exit 0")?.succeeds()?;
    let out = t.run(&["--rootfs", &dir], &["true"])?;
    out.exits(125)?.explains()
}

fn default_rootfs(t: &Trial) -> Found {
    let (secret, word) = (t.word(), t.word());
    t.machine(&format!("mkdir /tmp/{secret}; echo x >/run/{secret}"))?;
    let script = format!(
        "ls /tmp /run 2>/dev/null | grep {secret}
         mkdir -p /tmp/d && echo {word} | cat >/tmp/d/f && cp /tmp/d/f /tmp/g && rm /tmp/d/f && rmdir /tmp/d
         grep -c {word} /tmp/g; cat /tmp/g; rm /tmp/g; id -u"
    );
    t.shell(&[], &script)?.prints(&format!("1\n{word}\n0"))?;
    Ok(())
}

fn student(t: &Trial) -> Found {
    let (dir, word) = (format!("/tmp/{}", t.word()), t.word());
    t.root_file_system(&dir)?;
    t.machine(&format!(
        "mkdir {dir}-v; echo {word} >{dir}-v/file; chmod -R a+rwX {dir} {dir}-v"
    ))?;
    let volume = format!("{dir}-v:/data:ro");
    let script = "id -u; cat /data/file; echo x 2>/dev/null >/data/new && echo written
        echo x >/dev/null && head -c 3 /dev/zero | wc -c | tr -d ' '; ls -d /proc/1 /dev/pts";
    t.container(&["--rootfs", &dir, "-v", &volume])
        .as_student()
        .run(&["sh", "-c", script])?
        .prints(&format!("0\n{word}\n3\n/dev/pts\n/proc/1"))?;
    Ok(())
}

fn afterwards(t: &Trial) -> Found {
    t.run(&[], &["true"])?;
    let (volume, missing) = (format!("/tmp/{}", t.word()), format!("/no/{}:/x", t.word()));
    t.machine(&format!("mkdir {volume}"))?;
    let before = t.snapshot();
    let volume = format!("{volume}:/data");
    t.shell(&["-v", &volume, "--read-only"], "exit 7")?
        .exits(7)?;
    t.shell(
        &["-v", &volume],
        "mount -t tmpfs none /mnt; sleep 600 & exit 0",
    )?;
    t.run(&["-v", &volume, "-v", &missing], &["true"])?;
    t.run(&["-v", &volume], &[&t.word()])?;
    let (running, _) = t.container(&["-v", &volume]).asleep()?;
    running.signal(Signal::SIGTERM)?;
    running.wait()?;
    t.unchanged(&before)
}

fn after_kill_9(t: &Trial) -> Found {
    t.run(&[], &["true"])?;
    let volume = format!("/tmp/{}", t.word());
    t.machine(&format!("mkdir {volume}"))?;
    let before = t.snapshot();
    let volume = format!("{volume}:/data");
    let (running, _) = t.container(&["-v", &volume]).asleep()?;
    running.signal(Signal::SIGKILL)?;
    running.wait().ok();
    t.run(&[], &["true"])?.exits(0)?;
    t.unchanged(&before)
}
