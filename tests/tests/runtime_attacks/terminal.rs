//! The caller's terminal, into which a container could type (CVE-2017-5226).

use harness::{Bundle, Host, User};

use crate::plant;

/// Tries to type a command into the terminal behind each standard stream, and
/// into the one of its session.
const TYPIST: &str = r#"
    #define _GNU_SOURCE
    #include <fcntl.h>
    #include <stdio.h>
    #include <sys/ioctl.h>
    #include <unistd.h>
    int main(void) {
        int terminal = open("/dev/tty", O_RDWR);
        printf("terminal %s\n", terminal < 0 ? "none" : "found");
        printf("session %s\n", getsid(0) ? "own" : "foreign");
        for (int fd = 0; fd < 4; fd++) {
            const char *typed = "echo TY''PED\n";
            int done = 0;
            for (; *typed && !done; typed++)
                done = ioctl(fd, TIOCSTI, typed);
            printf("stream %d %s\n", fd, done ? "refused" : "typed");
        }
        return 0;
    }
"#;

#[test]
fn a_container_cannot_type_into_the_terminal_of_its_caller() {
    let host = Host::new();
    let mut bundle = Bundle::new(&host, "typist");
    plant(&bundle, "typist", TYPIST);
    bundle.command(["typist"]);
    bundle.write();
    let mut terminal = host.terminal(User::Root, ["sh", "-i"]);
    terminal.send("minirunc run --bundle /tmp/typist typist; echo en''ded\n");
    let seen = terminal.expect("ended");
    assert!(seen.contains("terminal none"), "{seen}");
    assert!(seen.contains("session own"), "{seen}");
    assert!(seen.contains("stream 0 refused"), "{seen}");

    bundle.script("sleep 100");
    bundle.start();
    terminal.send("minirunc exec typist typist; echo joi''ned\n");
    let seen = terminal.expect("joined");
    assert!(seen.contains("terminal none"), "{seen}");
    assert!(seen.contains("session own"), "{seen}");
    bundle.delete();
    terminal.send("exit\n");
    terminal.wait();
    // (expect() has gone past what was on the screen until here.)
}
