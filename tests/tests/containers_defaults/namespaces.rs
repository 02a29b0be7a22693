//! Whose processes, names, queues and parameters a container sees.

use harness::engine::Who;

use crate::{for_each, inside, refused};

#[test]
fn a_container_sees_itself_alone() {
    for_each(|machine| {
        let found = inside(
            machine,
            "--hostname web --domainname example",
            "hostname; cat /proc/sys/kernel/domainname; echo $$; ls -d /proc/[0-9]* | wc -l",
        );
        let lines: Vec<&str> = found.lines().collect();
        assert_eq!(lines[..3], ["web", "example", "1"]);
        assert!(lines[3].parse::<u32>().unwrap() <= 4, "{found}");
        let id = machine.ok("run -d --name aa --network none host sleep 100");
        let name = machine.ok("exec aa hostname");
        assert_eq!(name, id[..12]);
        machine.nothing_left();
    });
}

#[test]
fn it_can_be_given_the_hosts_namespaces() {
    for_each(|machine| {
        let links = "for kind in pid ipc uts; do readlink /proc/self/ns/$kind; done";
        let host = machine.script(links).ok();
        let found = inside(machine, "--pid host --ipc host --uts host", links);
        assert_eq!(found, host);
        let own = inside(machine, "", links);
        assert!(
            own.lines().zip(host.lines()).all(|(own, host)| own != host),
            "{own}"
        );
        assert!(refused(machine, "--pid elsewhere").contains("elsewhere"));
        machine.nothing_left();
    });
}

#[test]
fn it_can_share_another_containers() {
    for_each(|machine| {
        machine.ok("run -d --name aa --ipc shareable --network none host sleep 100");
        let links = "for kind in pid ipc net; do readlink /proc/self/ns/$kind; done";
        let its = machine.ok(&["exec", "aa", "sh", "-c", links]);
        let mut words = vec!["run", "--rm"];
        words.extend([
            "--pid",
            "container:aa",
            "--ipc",
            "container:aa",
            "--network",
            "container:aa",
        ]);
        words.extend(["host", "sh", "-c"]);
        let both = format!("{links}; cat /proc/1/comm");
        words.push(&both);
        assert_eq!(machine.ok(&words), format!("{its}\nsleep"));
        words.pop();
        words.push("echo shared >/dev/shm/file; df -k /dev/shm | awk 'END {print $2}'");
        assert_eq!(machine.ok(&words), "65536");
        assert_eq!(machine.ok("exec aa cat /dev/shm/file"), "shared");
        machine.ok("rm -f aa");
        machine.ok("run -d --name aa --init --network none host sleep 100");
        inside(machine, "--pid container:aa", "test $$ != 1");
        let said = refused(machine, "--ipc container:aa");
        assert!(said.contains("non-shareable IPC"), "{said}");
        machine.ok("rm -f aa");
        let said = refused(machine, "--pid container:aa");
        assert!(said.contains("No such container"), "{said}");
        machine.ok("create --name bb host true");
        let said = refused(machine, "--pid container:bb");
        assert!(said.contains("is not running"), "{said}");
        machine.nothing_left();
    });
}

#[test]
fn parameters_of_its_own_namespaces_can_be_set_and_no_others() {
    for_each(|machine| {
        let option = "--sysctl kernel.msgmax=9000 --sysctl net.ipv4.ip_unprivileged_port_start=80";
        let script = "cd /proc/sys; cat kernel/msgmax net/ipv4/ip_unprivileged_port_start";
        assert_eq!(inside(machine, option, script), "9000\n80");
        for option in ["kernel.panic=1", "vm.swappiness=1"] {
            let said = refused(machine, &format!("--sysctl {option}"));
            assert!(said.contains(option.split('=').next().unwrap()), "{said}");
        }
        let said = refused(machine, "--ipc host --sysctl kernel.msgmax=9000");
        assert!(said.contains("kernel.msgmax"), "{said}");
        machine.nothing_left();
    });
}

#[test]
fn limits_of_its_processes_are_in_force() {
    for_each(|machine| {
        let option = "--ulimit nofile=100:200 --ulimit core=0";
        let found = inside(machine, option, "ulimit -Sn; ulimit -Hn; ulimit -c");
        assert_eq!(found, "100\n200\n0");
        let said = refused(machine, "--ulimit files=1");
        assert!(said.contains("files"), "{said}");
        // Who may not write to a cgroup is told so, and does not run without.
        if machine.who() != Who::Root {
            let said = refused(machine, "--memory 100m");
            assert!(said.contains("memory"), "{said}");
        }
        machine.nothing_left();
    });
}
