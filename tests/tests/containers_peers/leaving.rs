//! Leaving a container by the keys, in each way to be with one.

use harness::User;

use crate::pair::Pair;

/// Each way to be with a process, and how it is left.
const LEFT: [&str; 4] = [
    "run -it --name SELF-run --network none busybox sh",
    "attach SELF-run",
    "start -ai SELF-start",
    "exec -it SELF-run sh",
];

/// Leaves by the keys, and notes what is shown and answered otherwise.
pub fn compare(pair: &Pair) {
    pair.with_docker(|| {
        let [docker, minidocker] = ["docker", "minidocker"].map(|name| {
            let line = "create -it --name SELF-start --network none busybox sh";
            pair.call(name, line).ok();
            LEFT.map(|line| left(pair, name, line))
        });
        for ((line, docker), minidocker) in LEFT.iter().zip(docker).zip(minidocker) {
            // Everything that we complain of begins with our name.
            if docker != minidocker.replace("minidocker: ", "") {
                pair.note(format!("`{line}` is left\n{docker:?}\n{minidocker:?}"));
            }
        }
    });
}

/// What is on the screen after the keys, and the exit status.
fn left(pair: &Pair, name: &str, line: &str) -> String {
    let line = line.replace("SELF", name);
    let script = format!("{name} {line}; echo \"status $?.\"");
    let mut terminal = pair
        .machine
        .host()
        .terminal(User::Root, ["sh", "-c", &script]);
    terminal.send("echo he''re\r");
    terminal.expect("here\r\n");
    terminal.expect("# ");
    terminal.send("\x10\x11");
    // The shell asks where it is on the screen, and draws its prompt anew when it hears of the
    // terminal's size: sooner or later.
    let shown = terminal.expect(".");
    shown.replace("\x1b[6n", "").replace("\r/ # \x1b[J", "")
}
