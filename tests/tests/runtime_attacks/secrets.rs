//! What a container that is made by `minirunc spec` must not see, and which
//! doors of the kernel are closed to it.

use harness::{Bundle, Host};

use crate::plant;

/// GHSA-6fw5-f8r9-fgfm, GHSA-jq35-85cj-fj4p: what tells of the host.
#[test]
fn what_tells_of_the_host_is_masked() {
    let host = Host::new();
    let mut bundle = Bundle::new(&host, "masked");
    bundle.script(
        "for path in /proc/acpi /proc/asound /proc/interrupts /proc/kcore /proc/keys \
             /proc/latency_stats /proc/sched_debug /proc/scsi /proc/timer_list /proc/timer_stats \
             /sys/devices/virtual/powercap /sys/firmware \
             /sys/devices/system/cpu/cpu*/thermal_throttle; do \
             [ -d $path ] && ls -A $path | sed \"s|^|$path has |\"; \
             [ -f $path ] && echo $path is a file; \
             [ -c $path ] && head -c 100 $path | sed \"s|^|$path says |\"; \
         done; true",
    );
    assert_eq!(bundle.run().ok(), "");
    // They are there to be masked, at least some.
    assert_ne!(host.shell("head -c 100 /proc/interrupts"), "");
}

/// What was covered cannot be uncovered, nor reached by another way.
#[test]
fn a_mask_does_not_come_off() {
    let host = Host::new();
    let mut bundle = Bundle::new(&host, "uncover");
    bundle.script(
        "umount /proc/interrupts 2>/dev/null && echo uncovered; \
         umount -l /proc 2>/dev/null && echo uncovered; \
         mkdir -p /tmp/proc; mount -t proc proc /tmp/proc 2>/dev/null && echo mounted; \
         mount -o bind /proc /tmp/proc 2>/dev/null && echo bound; \
         mv /proc/interrupts /tmp/x 2>/dev/null && echo moved; \
         unshare -Urm true 2>/dev/null && echo unshared; \
         for f in kernel/core_pattern vm/overcommit_memory; do \
             (echo x >/proc/sys/$f) 2>/dev/null && echo wrote $f; done; \
         (echo h >/proc/sysrq-trigger) 2>/dev/null && echo pressed; \
         (echo x >/sys/kernel/uevent_helper) 2>/dev/null && echo wrote uevent_helper; \
         mknod /tmp/sda b 8 0 2>/dev/null; head -c 1 /tmp/sda 2>/dev/null && echo read a disk; \
         mknod /tmp/mem c 1 1 2>/dev/null; head -c 1 /tmp/mem 2>/dev/null && echo read memory; \
         cat /proc/1/root/proc/interrupts /proc/self/task/1/root/proc/interrupts 2>/dev/null; true",
    );
    assert_eq!(bundle.run().ok(), "");
}

/// Makes a socket of each family, by the call and, on x86, by the one that
/// 32-bit programs have for all calls of sockets.
const FAMILIES: &str = r#"
    #define _GNU_SOURCE
    #include <errno.h>
    #include <stdio.h>
    #include <string.h>
    #include <sys/socket.h>
    #include <unistd.h>
    int main(void) {
        for (int family = 0; family < 64; family++) {
            int made = socket(family, SOCK_SEQPACKET, 0);
            if (made < 0)
                made = socket(family, SOCK_DGRAM, 0);
            if (made < 0)
                made = socket(family, SOCK_STREAM, 0);
            printf("%d %s\n", family, made >= 0 ? "made" : errno == EPERM ? "forbidden" : "missing");
            close(made);
        }
        return 0;
    }
"#;

/// CVE-2026-31431, and the family through which a container talks to the
/// hypervisor.
#[test]
fn no_socket_of_the_kernels_cryptography_or_of_the_hypervisor_is_made() {
    let host = Host::new();
    let mut bundle = Bundle::new(&host, "families");
    plant(&bundle, "families", FAMILIES);
    bundle.command(["families"]);
    let said = bundle.run().ok();
    let has = |line: &str| said.lines().any(|one| one == line);
    for family in [38, 40] {
        assert!(has(&format!("{family} forbidden")), "{said}");
    }
    for family in [1, 2, 10, 16] {
        assert!(has(&format!("{family} made")), "{said}");
    }
    assert!(host.run(["true"]).code() == 0);
}
