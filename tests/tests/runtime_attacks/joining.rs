//! A process that joins a container is in its pid namespace before it has given
//! up what it holds of the host (CVE-2016-9962).

use harness::{Bundle, Host};
use serde_json::json;

use crate::{SECRET, plant};

/// Looks for processes of which it is not the parent, and tries to trace them,
/// and to reach through /proc/PID what they hold.
const REACH: &str = r##"
    #define _GNU_SOURCE
    #include <dirent.h>
    #include <fcntl.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <string.h>
    #include <sys/ptrace.h>
    #include <sys/wait.h>
    #include <unistd.h>
    /// Those that trace each other would stop each other for good.
    static int is_one_of_us(int pid) {
        char path[64], name[64] = "";
        snprintf(path, sizeof path, "/proc/%d/comm", pid);
        int comm = open(path, O_RDONLY);
        if (comm >= 0) {
            read(comm, name, sizeof name - 1);
            close(comm);
        }
        return !strcmp(name, "reach\n") || !strcmp(name, "sh\n");
    }
    static void try(const char *door) {
        static const char *ways[] = {
            "/tmp/secret-of-the-host", "/secret-of-the-host", "/../tmp/secret-of-the-host",
            "/../../tmp/secret-of-the-host", "/../../../tmp/secret-of-the-host",
            "/../../../../tmp/secret-of-the-host", "/1/root/tmp/secret-of-the-host",
        };
        char path[400];
        for (unsigned n = 0; n < sizeof ways / sizeof *ways; n++) {
            snprintf(path, sizeof path, "%s%s", door, ways[n]);
            int secret = open(path, O_RDONLY);
            if (secret >= 0) {
                printf("SECRET by %s\n", path);
                close(secret);
            }
        }
    }
    int main(void) {
        setvbuf(stdout, 0, _IOLBF, 0);
        setvbuf(stderr, 0, _IOLBF, 0);
        puts("reaching");
        for (;;) {
            DIR *proc = opendir("/proc");
            struct dirent *one;
            while ((one = readdir(proc))) {
                int pid = atoi(one->d_name);
                char path[300], name[256] = "";
                if (pid < 2 || is_one_of_us(pid))
                    continue;
                snprintf(path, sizeof path, "/proc/%d/root", pid);
                try(path);
                snprintf(path, sizeof path, "/proc/%d/cwd", pid);
                try(path);
                for (int fd = 3; fd < 16; fd++) {
                    snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, fd);
                    try(path);
                }
                if (!ptrace(PTRACE_SEIZE, pid, 0, 0)) {
                    snprintf(path, sizeof path, "/proc/%d/exe", pid);
                    if (readlink(path, name, sizeof name - 1) > 0 && strncmp(name, "/bin/", 5))
                        printf("TRACED %s\n", name);
                    ptrace(PTRACE_INTERRUPT, pid, 0, 0);
                    waitpid(pid, 0, __WALL);
                    ptrace(PTRACE_DETACH, pid, 0, 0);
                }
            }
            closedir(proc);
        }
    }
"##;

/// What two of these see, while commands are run in their container by `user`.
fn reached(host: &Host, bundle: &mut Bundle, user: &str) -> String {
    host.shell(&format!("echo SECRET >{SECRET}"));
    plant(bundle, "reach", REACH);
    bundle.script("reach >/seen & reach >>/seen & wait");
    // The filter would forbid what is tried, and that is not asked here.
    bundle.set("/linux/seccomp", json!(null));
    bundle.start();
    harness::wait_for("the attackers", 60, || {
        let seen = std::fs::read_to_string(bundle.path("/seen"));
        seen.ok().filter(|text| text.contains("reaching"))
    });
    for _ in 0..60 {
        bundle.exec(["--user", user, "--", "true"]);
    }
    let seen = std::fs::read_to_string(bundle.path("/seen")).expect("read what they saw");
    bundle.delete();
    let mut lines: Vec<&str> = seen.lines().filter(|line| *line != "reaching").collect();
    lines.sort_unstable();
    lines.dedup();
    lines.join("\n")
}

#[test]
fn root_of_a_container_reaches_nothing_through_a_process_that_joins() {
    let host = Host::new();
    let mut bundle = Bundle::new(&host, "root");
    assert_eq!(reached(&host, &mut bundle, "0"), "");
}

#[test]
fn an_ordinary_user_reaches_nothing_through_a_process_that_becomes_theirs() {
    let host = Host::new();
    let mut bundle = Bundle::new(&host, "user");
    bundle.set("/process/user", json!({"uid": 1234, "gid": 1234}));
    host.shell(
        "chmod 777 /tmp/user/rootfs; touch /tmp/user/rootfs/seen; chmod 666 /tmp/user/rootfs/seen",
    );
    assert_eq!(reached(&host, &mut bundle, "1234:1234"), "");
}

#[test]
fn root_of_a_user_namespace_reaches_nothing_even_if_it_may_trace() {
    let host = Host::new();
    let mut bundle = Bundle::new(&host, "users");
    bundle.own_users();
    may_trace(&mut bundle);
    assert_eq!(reached(&host, &mut bundle, "0"), "");
}

/// One that may trace processes of the host's root does control a process of
/// root's; but what that one holds of the host must not be there to be taken.
#[test]
fn who_may_trace_finds_no_file_of_the_hosts_in_a_process_that_joins() {
    let host = Host::new();
    let mut bundle = Bundle::new(&host, "trace");
    may_trace(&mut bundle);
    let seen = reached(&host, &mut bundle, "0");
    assert!(!seen.contains("SECRET"), "{seen}");
}

fn may_trace(bundle: &mut Bundle) {
    for set in ["bounding", "effective", "permitted"] {
        let list = format!("/process/capabilities/{set}");
        bundle.add(&list, json!("CAP_SYS_PTRACE"));
    }
}
