//! Step 5: images, as other tools make them, and layers, as attackers would.

use harness::{Host, Output, Setup, User, assert_same, assert_same_tree, made, tree};

const BOTH: [User; 2] = [User::Root, User::Student];

/// A host that sees the images at /run/workspace/images.
fn host_with_images() -> Host {
    let shown = vec![(made("images"), "images".to_owned())];
    Host::with(Setup {
        shown,
        outside: true,
        ..Setup::default()
    })
}

fn step05<'a>(host: &Host, user: User, words: impl IntoIterator<Item = &'a str>) -> Output {
    host.run_as(user, ["step05"].into_iter().chain(words))
}

/// Runs `script` in a new container of `image`.
fn shell_in(host: &Host, user: User, image: &str, script: &str) -> Output {
    step05(
        host,
        user,
        ["run", "--network", "none", image, "sh", "-c", script],
    )
}

/// Makes a docker-archive at /tmp/NAME.tar of layers that shell scripts fill:
/// each runs in an empty directory, and leaves its files there or a finished
/// archive at `../layer.tar`.
fn docker_archive(host: &Host, name: &str, config: &str, layers: &[&str]) {
    let mut script =
        format!("rm -rf /tmp/{name}; mkdir -p /tmp/{name}/image; cd /tmp/{name}; ids=; files=\n");
    for (n, layer) in layers.iter().enumerate() {
        script += &format!("mkdir l{n}; cd l{n}; rm -f ../layer.tar\n{layer}\ncd /tmp/{name}\n");
        script += &format!("[ -e layer.tar ] || tar -C l{n} --numeric-owner -cf layer.tar .\n");
        script +=
            &format!("mv layer.tar image/{n}.tar; d=$(sha256sum <image/{n}.tar | cut -d' ' -f1)\n");
        script += &format!(
            "ids=\"$ids${{ids:+,}}\\\"sha256:$d\\\"\"; files=\"$files${{files:+,}}\\\"{n}.tar\\\"\"\n"
        );
    }
    script += &format!(
        "printf '%s' '{{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{config},\
         \"rootfs\":{{\"type\":\"layers\",\"diff_ids\":['\"$ids\"']}}}}' >image/config.json\n\
         printf '%s' '[{{\"Config\":\"config.json\",\"RepoTags\":[\"{name}:latest\"],\"Layers\":['\"$files\"']}}]' \
         >image/manifest.json\n\
         tar -C image -cf /tmp/{name}.tar .; chmod 644 /tmp/{name}.tar"
    );
    host.shell(&script);
}

/// The host's own busybox as a first layer, so that there is a shell.
const BUSYBOX: &str = "mkdir -p bin etc tmp; cp $(command -v busybox) bin/; \
    for n in sh ls cat id stat find readlink echo env pwd sort; do ln -s busybox bin/$n; done; \
    printf 'root:x:0:0::/root:/bin/sh\\nann:x:1234:2345::/home/ann:/bin/sh\\n' >etc/passwd; \
    printf 'root:x:0:\\nstaff:x:2345:\\nextra:x:3456:ann\\n' >etc/group";

/// What a failed or hostile load must not add to.
fn store(host: &Host) -> String {
    host.shell("find /var/lib/minidocker -path '*/rootfs' -prune -o -type f -size +0 -print -o -type d -print | sort")
}

#[test]
fn the_default_image_is_always_there() {
    let host = Host::new();
    for user in BOTH {
        assert_eq!(shell_in(&host, user, "host", "echo fine").ok(), "fine");
        assert_eq!(shell_in(&host, user, "host:latest", "id -u").ok(), "0");
        let list = step05(&host, user, ["images"]).ok();
        assert!(
            list.lines()
                .any(|line| line.starts_with("host") && line.contains("latest")),
            "{list}"
        );
    }
}

#[test]
fn what_a_container_writes_is_gone_with_it() {
    let host = Host::new();
    for user in BOTH {
        shell_in(&host, user, "host", "echo x >/new && rm /bin/cat").ok();
        assert_eq!(
            shell_in(&host, user, "host", "cat /new 2>/dev/null || echo gone").ok(),
            "gone"
        );
    }
}

#[test]
fn a_debian_from_an_oci_layout_works() {
    let host = host_with_images();
    for user in BOTH {
        let name = [
            "load",
            "/run/workspace/images/debian",
            "--name",
            "debian:12",
        ];
        step05(&host, user, name).ok();
        works_as_debian(&host, user, "debian:12");
    }
}

#[test]
fn a_layer_without_padding_at_its_end_is_taken_as_umoci_makes_it() {
    let host = host_with_images();
    for user in BOTH {
        let load = [
            "load",
            "/run/workspace/images/inserted",
            "--name",
            "inserted:1",
        ];
        step05(&host, user, load).ok();
    }
}

#[test]
fn a_debian_from_a_docker_archive_works_plain_and_compressed() {
    let host = host_with_images();
    step05(
        &host,
        User::Root,
        ["load", "/run/workspace/images/debian.tar"],
    )
    .ok();
    works_as_debian(&host, User::Root, "debian:latest");
    host.shell(
        "gzip -1 </run/workspace/images/debian.tar >/tmp/debian.tgz; chmod 644 /tmp/debian.tgz",
    );
    step05(&host, User::Student, ["load", "/tmp/debian.tgz"]).ok();
    works_as_debian(&host, User::Student, "debian");
}

fn works_as_debian(host: &Host, user: User, image: &str) {
    let run = |words: &[&str]| {
        step05(
            host,
            user,
            ["run", "--network", "none", image]
                .into_iter()
                .chain(words.iter().copied()),
        )
    };
    assert!(run(&["dpkg", "-l"]).ok().contains("ii  dpkg "), "{user:?}");
    assert_eq!(run(&["perl", "-e", "print 6*7, \"\\n\""]).ok(), "42");
    let pipe = "set -o pipefail; seq 1 1000 | grep -c 7 | cat; exit ${PIPESTATUS[0]}";
    assert_eq!(run(&["bash", "-c", pipe]).ok(), "271");
    assert!(run(&["apt-get", "--version"]).ok().starts_with("apt 2."));
    assert_eq!(run(&["sh", "-c", "echo $LANG"]).ok(), "C.UTF-8");
    let games = [
        "run",
        "--network",
        "none",
        "-u",
        "games",
        image,
        "sh",
        "-c",
        "id -un; id -gn; id -u; touch /x || echo no",
    ];
    assert_eq!(
        step05(host, user, games).ok(),
        "games\ngames\n5\nno",
        "{user:?}"
    );
    let numbers = [
        "run",
        "--network",
        "none",
        "-u",
        "1000:100",
        image,
        "sh",
        "-c",
        "id -u; id -g",
    ];
    assert_eq!(step05(host, user, numbers).ok(), "1000\n100");
    assert!(run(&["cat", "/second/layer"]).ok().starts_with("12"));
}

/// Where the container has mounts, files of its own, or mount points made.
const OWN: &str = "-path ./proc -o -path ./dev -o -path ./sys -o -path ./etc/hosts \
    -o -path ./etc/hostname -o -path ./etc/resolv.conf";

#[test]
fn rule_08_the_unpacked_tree_is_that_of_umoci() {
    let host = host_with_images();
    step05(
        &host,
        User::Root,
        [
            "load",
            "/run/workspace/images/debian",
            "--name",
            "debian:12",
        ],
    )
    .ok();
    let mut running = host.spawn([
        "step05",
        "run",
        "--network",
        "none",
        "debian:12",
        "sh",
        "-c",
        "echo up; exec sleep 1000",
    ]);
    running.expect("up");
    let ours = tree(&format!("/proc/{}/root", running.container()), OWN);
    let theirs = made("images").join("bundle/rootfs");
    let theirs = tree(&theirs.display().to_string(), OWN);
    assert!(
        theirs.len() > 5000,
        "the judge has a tree: {}",
        theirs.len()
    );
    // The root and /etc change when files are mounted into them, and what no
    // layer has an entry for is as old as the unpacking.
    assert_same_tree(&ours, &theirs, &[".|", "./etc|", "./second|"]);
}

#[test]
fn rule_08_whiteouts_opaque_directories_links_and_times() {
    let host = Host::new();
    let second = "mkdir d e f; echo one >a; echo x >d/x; echo y >d/y; echo x >e/x; ln a hard; ln -s /a sym; \
        ln -s ../../../../tmp up; mkfifo pipe; chmod 4755 a; chmod 1777 f; touch -d @1000000000 e/x f; \
        touch \"$(printf 'n\\377me')\"";
    let third = "mkdir d e; touch .wh.a d/.wh..wh..opq e/.wh.x e/.wh.never-there; echo z >d/z; mkdir -p up2/deep; \
        echo new >hard2";
    docker_archive(
        &host,
        "layers",
        "{\"Cmd\":[\"sh\"]}",
        &[BUSYBOX, second, third],
    );
    for user in BOTH {
        step05(&host, user, ["load", "/tmp/layers.tar"]).ok();
        let look = "ls /a 2>/dev/null; ls /d; echo -; ls /e; echo -; cat /hard; readlink /sym /up 2>/dev/null; \
            readlink /up; stat -c '%a %F' /pipe /f /hard; stat -c %Y /f; cat /hard2; ls / | grep -c n.*me";
        let out = shell_in(&host, user, "layers", look).ok();
        assert_eq!(
            out.replace("../../../../tmp\n../../../../tmp", "../../../../tmp"),
            "z\n-\n-\none\n../../../../tmp\n644 fifo\n1777 directory\n4755 regular file\n1000000000\nnew\n1",
            "{user:?}"
        );
        step05(&host, user, ["rmi", "layers"]).ok();
    }
}

#[test]
fn device_nodes_are_made_as_root_and_said_to_be_missing_without() {
    let host = Host::new();
    docker_archive(
        &host,
        "nodes",
        "{}",
        &[BUSYBOX, "mknod null c 1 3; chmod 666 null"],
    );
    step05(&host, User::Root, ["load", "/tmp/nodes.tar"]).ok();
    let out = shell_in(&host, User::Root, "nodes", "stat -c '%F %t:%T' /null").ok();
    assert_eq!(out, "character special file 1:3");
    let out = step05(&host, User::Student, ["load", "/tmp/nodes.tar"]);
    if out.code() == 0 {
        assert_eq!(
            shell_in(&host, User::Student, "nodes", "echo fine").ok(),
            "fine"
        );
        assert!(
            out.errors().contains("device"),
            "what is missing is said: {out}"
        );
    }
}

#[test]
fn the_images_configuration_is_what_runs() {
    let host = Host::new();
    let config = "{\"Entrypoint\":[\"/bin/sh\",\"-c\"],\"Cmd\":[\"pwd; id -u; id -g; id -G; echo $GREETING $HOME\"],\
        \"Env\":[\"PATH=/bin\",\"GREETING=hello world\"],\"WorkingDir\":\"/a/b\",\"User\":\"ann\"}";
    docker_archive(&host, "config", config, &[BUSYBOX, "mkdir -p home/ann"]);
    for user in BOTH {
        step05(&host, user, ["load", "/tmp/config.tar"]).ok();
        let run = |options: &[&str], rest: &[&str]| {
            let words = ["run", "--network", "none"]
                .iter()
                .chain(options)
                .chain(&["config"])
                .chain(rest);
            step05(&host, user, words.copied()).ok()
        };
        let out = run(&[], &[]);
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines[..3], ["/a/b", "1234", "2345"], "{user:?}: {out}");
        assert!(
            lines[3].contains("2345") && lines[3].contains("3456"),
            "{user:?}: {out}"
        );
        assert_eq!(lines[4], "hello world /home/ann", "{user:?}");
        // Arguments take the command's place, the entrypoint stays.
        assert_eq!(run(&[], &["echo given"]), "given");
        assert_eq!(run(&["-e", "GREETING=bye"], &["echo $GREETING"]), "bye");
        assert_eq!(run(&["-w", "/tmp"], &["pwd"]), "/tmp");
        assert_eq!(run(&["-w", "/new/place"], &["pwd"]), "/new/place");
        assert_eq!(run(&["-u", "0"], &["id -u"]), "0");
        assert_eq!(run(&["-u", "root:staff"], &["id -g"]), "2345");
        assert_eq!(run(&["-u", "77:88"], &["id -u; id -g"]), "77\n88");
        assert_eq!(run(&["--entrypoint", "/bin/echo"], &["a", "b"]), "a b");
    }
    for bad in ["nobody-there", "ann:no-group", "1x", "-1", "4294967296"] {
        let user = format!("-u={bad}");
        let out = step05(
            &host,
            User::Root,
            ["run", "--network", "none", &user, "config", "id"],
        );
        assert!([2, 125].contains(&out.code()), "{out}");
    }
}

#[test]
fn images_are_listed_inspected_and_removed() {
    let host = Host::new();
    docker_archive(&host, "small", "{\"Cmd\":[\"sh\"]}", &[BUSYBOX]);
    for user in BOTH {
        step05(&host, user, ["load", "/tmp/small.tar", "--name", "mine:v1"]).ok();
        let list = step05(&host, user, ["images"]).ok();
        let line = list
            .lines()
            .find(|line| line.starts_with("mine"))
            .unwrap_or_else(|| panic!("{list}"));
        assert!(line.contains("v1"), "{line}");
        let json = step05(&host, user, ["inspect", "mine:v1"]).ok();
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert!(
            json.contains("sha256:") && (value.is_array() || value.is_object()),
            "{json}"
        );
        step05(&host, user, ["rmi", "mine:v1"]).ok();
        assert!(!step05(&host, user, ["images"]).ok().contains("mine"));
        for words in [
            &["rmi", "mine:v1"][..],
            &["inspect", "mine:v1"],
            &["run", "mine:v1", "true"],
        ] {
            let error = step05(&host, user, words.iter().copied());
            assert!([1, 125].contains(&error.code()), "{error}");
            assert!(error.errors().contains("mine"), "{error}");
        }
    }
}

#[test]
fn a_removed_image_leaves_nothing_of_its_own() {
    let host = Host::new();
    shell_in(&host, User::Root, "host", "true").ok();
    let before = store(&host);
    docker_archive(&host, "small", "{}", &[BUSYBOX, "echo x >x"]);
    step05(&host, User::Root, ["load", "/tmp/small.tar"]).ok();
    assert_ne!(store(&host), before);
    step05(&host, User::Root, ["rmi", "small"]).ok();
    assert_eq!(store(&host), before);
}

#[test]
fn a_running_container_keeps_its_image() {
    let host = Host::new();
    docker_archive(&host, "small", "{}", &[BUSYBOX, "echo x >x"]);
    step05(&host, User::Root, ["load", "/tmp/small.tar"]).ok();
    let script = "echo up; while ! [ -e /go ]; do :; done; cat /x";
    let mut running = host.spawn([
        "step05",
        "run",
        "--network",
        "none",
        "-v",
        "/tmp:/shared",
        "small",
        "sh",
        "-c",
        &script.replace("/go", "/shared/go"),
    ]);
    running.expect("up");
    let out = step05(&host, User::Root, ["rmi", "small"]);
    host.shell("touch /tmp/go");
    assert_eq!(running.wait().ok().lines().last(), Some("x"), "after {out}");
}

#[test]
fn a_hundred_layers_are_stacked() {
    let host = Host::new();
    let scripts: Vec<String> = (1..120)
        .map(|n| format!("echo {n} >last; echo {n} >n{n}"))
        .collect();
    let mut layers = vec![BUSYBOX];
    layers.extend(scripts.iter().map(String::as_str));
    docker_archive(&host, "deep", "{}", &layers);
    for user in BOTH {
        step05(&host, user, ["load", "/tmp/deep.tar"]).ok();
        let out = shell_in(
            &host,
            user,
            "deep",
            "cat /last /n1 /n60; echo w >/written; cat /written",
        )
        .ok();
        assert_eq!(out, "119\n1\n60\nw", "{user:?}");
    }
}

#[test]
fn nothing_in_an_archive_writes_outside_its_layer() {
    let host = Host::new();
    shell_in(&host, User::Root, "host", "true").ok();
    let append = "tar -rf ../layer.tar";
    let cases = [
        // Names that climb or begin at the root.
        "echo x >f; tar -cPf ../layer.tar --transform 's,^f$,../../../../../../../tmp/victim/f,' f".to_owned(),
        "echo x >f; tar -cPf ../layer.tar --transform 's,^f$,/tmp/victim/f,' f".to_owned(),
        "echo x >f; tar -cPf ../layer.tar --transform 's,^f$,a/../../../../../../../tmp/victim/f,' f".to_owned(),
        // A link out, and something through it.
        format!("ln -s /tmp/victim l; tar -cf ../layer.tar l; rm l; mkdir l; echo x >l/f; {append} l/f"),
        format!("ln -s ../../../../../../../tmp/victim l; tar -cf ../layer.tar l; rm l; mkdir l; echo x >l/f; {append} l/f"),
        format!("ln -s /tmp/victim l; tar -cf ../layer.tar l; rm l; mkdir l; touch l/.wh.old; {append} l/.wh.old"),
        format!("ln -s /tmp/victim l; tar -cf ../layer.tar l; rm l; mkdir l; touch l/.wh..wh..opq; {append} l/.wh..wh..opq"),
        format!("ln -s /tmp/victim/old l; tar -cf ../layer.tar l; rm l; echo x >l; {append} l"),
        format!("ln -s /tmp/victim l; tar -cf ../layer.tar l; rm l; mkdir -m 777 l; {append} l; ln -s /tmp/victim m; {append} m"),
        // A hard link to a file outside.
        "echo x >f; ln f g; tar -cPf ../layer.tar --transform 's,^f$,/tmp/victim/old,' f g".to_owned(),
        "echo x >f; ln f g; tar -cPf ../layer.tar --transform 'flags=h;s,^f$,../../../../../../../tmp/victim/old,' f g".to_owned(),
    ];
    host.shell("mkdir -m 755 /tmp/victim; echo old >/tmp/victim/old");
    let look = "ls -AlR --time-style=full-iso /tmp/victim; cat /tmp/victim/old";
    let victim = host.shell(look);
    for case in &cases {
        docker_archive(&host, "hostile", "{}", &[BUSYBOX, case]);
        let before = store(&host);
        for user in BOTH {
            let out = step05(&host, user, ["load", "/tmp/hostile.tar"]);
            assert!([0, 1, 125].contains(&out.code()), "{case}: {out}");
            if out.code() == 0 {
                shell_in(&host, user, "hostile", "cat /g /l 2>/dev/null; true").ok();
                step05(&host, user, ["rmi", "hostile"]).ok();
            } else {
                assert!(out.errors().contains("step05: "), "{case}: {out}");
            }
            assert_eq!(host.shell(look), victim, "{user:?} {case}");
        }
        assert_eq!(store(&host), before, "{case}: something is left");
    }
}

#[test]
fn a_broken_archive_is_an_error_and_leaves_nothing() {
    let host = Host::new();
    shell_in(&host, User::Root, "host", "true").ok();
    docker_archive(
        &host,
        "good",
        "{}",
        &[BUSYBOX, "head -c 300000 /dev/urandom >noise"],
    );
    let before = store(&host);
    for (what, make) in [
        (
            "truncated gzip",
            "gzip </tmp/good.tar | head -c 200000 >/tmp/bad",
        ),
        ("truncated tar", "head -c 500000 /tmp/good.tar >/tmp/bad"),
        (
            "a wrong digest",
            "cd /tmp/good/image; cp 1.tar keep; printf X | dd of=1.tar bs=1 seek=9000 conv=notrunc 2>/dev/null; \
            tar -cf /tmp/bad .; mv keep 1.tar",
        ),
        (
            "a layer that is missing",
            "cd /tmp/good/image; tar -cf /tmp/bad config.json manifest.json 0.tar",
        ),
        (
            "no manifest",
            "cd /tmp/good/image; tar -cf /tmp/bad config.json 0.tar 1.tar",
        ),
        (
            "a manifest that is not JSON",
            "mkdir -p /tmp/m; cd /tmp/m; echo '[{' >manifest.json; tar -cf /tmp/bad .",
        ),
        (
            "a manifest that climbs",
            "mkdir -p /tmp/m; cd /tmp/m; \
            echo '[{\"Config\":\"../../../../etc/passwd\",\"RepoTags\":[\"x:y\"],\"Layers\":[\"/etc/shadow\"]}]' >manifest.json; \
            tar -cf /tmp/bad .",
        ),
        ("noise", "head -c 100000 /dev/urandom >/tmp/bad"),
        ("nothing", ": >/tmp/bad"),
    ] {
        host.shell(&format!("{make}; chmod 644 /tmp/bad"));
        for user in BOTH {
            let out = step05(&host, user, ["load", "/tmp/bad"]);
            assert!([1, 125].contains(&out.code()), "{what}: {out}");
            assert!(
                out.errors().starts_with("step05: ") && !out.errors().contains("panicked"),
                "{what}: {out}"
            );
        }
        assert_eq!(store(&host), before, "{what}: something is left");
    }
    for path in ["/no/such", "/tmp"] {
        let out = step05(&host, User::Root, ["load", path]);
        assert!([1, 125].contains(&out.code()), "{out}");
    }
}

#[test]
fn odd_names_and_sizes_are_taken_or_refused_as_a_whole() {
    let host = Host::new();
    shell_in(&host, User::Root, "host", "true").ok();
    let before = store(&host);
    for (what, layer) in [
        (
            "a name of 300 bytes",
            "n=$(printf %0300d 0); echo x >f; tar -cPf ../layer.tar --transform \"s,^f$,$n,\" f",
        ),
        (
            "a path of 5000 bytes",
            "n=$(seq -s/ 1000 1999); echo x >f; tar -cPf ../layer.tar --transform \"s,^f$,$n,\" f",
        ),
        (
            "a sparse file of 10 GiB",
            "truncate -s 10G f; tar -Scf ../layer.tar f",
        ),
        (
            "names that are not UTF-8",
            "echo x >\"$(printf '\\377\\376')\"",
        ),
    ] {
        docker_archive(&host, "odd", "{}", &[BUSYBOX, layer]);
        for user in BOTH {
            let out = step05(&host, user, ["load", "/tmp/odd.tar"]);
            assert!([0, 1, 125].contains(&out.code()), "{what}: {out}");
            if out.code() == 0 {
                assert_eq!(
                    shell_in(&host, user, "odd", "echo fine").ok(),
                    "fine",
                    "{what}"
                );
                step05(&host, user, ["rmi", "odd"]).ok();
            }
        }
        assert_eq!(store(&host), before, "{what}: something is left");
    }
}

#[test]
fn an_image_whose_directories_are_links_out_stays_inside() {
    let host = Host::new();
    host.shell("mkdir -m 777 /tmp/victim");
    for name in ["dev", "proc", "sys", "etc", "work"] {
        let layer = format!("rm -rf {name}; ln -s /tmp/victim {name}");
        let base = BUSYBOX.replace("mkdir -p bin etc tmp", "mkdir -p bin tmp etc");
        let both = format!("{base}; {layer}");
        docker_archive(&host, "links", "{\"WorkingDir\":\"/app/dir\"}", &[&both]);
        for user in BOTH {
            step05(&host, user, ["load", "/tmp/links.tar"]);
            let out = step05(
                &host,
                user,
                [
                    "run",
                    "-v",
                    "/tmp/links:/app/dir/vol",
                    "links",
                    "sh",
                    "-c",
                    "true",
                ],
            );
            assert!([0, 125, 126, 127].contains(&out.code()), "{out}");
            assert_eq!(
                host.shell("ls -A /tmp/victim"),
                "",
                "{user:?} {name}: {out}"
            );
        }
    }
}

#[test]
fn two_loads_of_the_same_at_once_agree() {
    let host = Host::new();
    docker_archive(
        &host,
        "same",
        "{}",
        &[BUSYBOX, "head -c 3000000 /dev/urandom >noise"],
    );
    let loads: Vec<_> = (0..4)
        .map(|_| host.spawn(["step05", "load", "/tmp/same.tar"]))
        .collect();
    for load in loads {
        load.wait().ok();
    }
    assert_eq!(
        shell_in(&host, User::Root, "same", "stat -c %s /noise").ok(),
        "3000000"
    );
}

#[test]
fn killed_while_it_loads_the_next_load_is_whole() {
    let host = Host::new();
    docker_archive(
        &host,
        "big",
        "{}",
        &[BUSYBOX, "head -c 30000000 /dev/urandom >noise"],
    );
    for n in 0..8 {
        host.spawn(["step05", "load", "/tmp/big.tar"])
            .kill_after(std::time::Duration::from_millis(n * 25));
        step05(&host, User::Root, ["load", "/tmp/big.tar"]).ok();
        assert_eq!(
            shell_in(&host, User::Root, "big", "stat -c %s /noise").ok(),
            "30000000"
        );
        step05(&host, User::Root, ["rmi", "big"]).ok();
        let left = host.shell("find /var/lib/minidocker/tmp -mindepth 1");
        assert_eq!(left, "");
    }
}

#[test]
fn it_runs_from_a_directory_that_one_may_not_read() {
    let host = Host::new();
    host.shell("mkdir -m 700 /tmp/closed");
    let script = "cd /tmp/closed; exec setpriv --reuid 1000 --regid 1000 --clear-groups env HOME=/home/student \
        XDG_RUNTIME_DIR=/run/user/1000 step05 run --network none host echo fine";
    assert_eq!(host.run(["sh", "-c", script]).ok(), "fine");
}

#[test]
fn the_host_is_as_it_was_afterwards() {
    let host = Host::online();
    for user in BOTH {
        step05(&host, user, ["run", "host", "true"]).ok();
    }
    let before = host.snapshot();
    for user in BOTH {
        for script in [
            "true",
            "exit 3",
            "echo x >/new; sleep 1000 &",
            "sh -c 'kill -9 $$'",
            "mount -t tmpfs x /mnt",
        ] {
            step05(
                &host,
                user,
                ["run", "-p", "8080:80", "host", "sh", "-c", script],
            );
        }
        step05(&host, user, ["run", "host", "no-such-command"]).exits(127);
        let argv = [
            "step05",
            "run",
            "host",
            "sh",
            "-c",
            "echo up; exec sleep 1000",
        ];
        let mut running = host.spawn_as(user, argv);
        running.expect("up");
        running.signal(nix::sys::signal::Signal::SIGKILL);
        running.wait();
        step05(&host, user, ["run", "host", "true"]).ok();
    }
    assert_same(&before, || host.snapshot());
}

#[test]
fn a_working_directory_of_an_image_is_made_in_its_root_only() {
    let host = Host::new();
    for descriptor in 3..16 {
        let up = format!("/proc/self/fd/{descriptor}{}", "/..".repeat(9));
        let config = format!(r#"{{"WorkingDir":"{up}/tmp/escaped"}}"#);
        docker_archive(&host, "odd", &config, &[BUSYBOX]);
        step05(&host, User::Root, ["load", "/tmp/odd.tar"]).ok();
        shell_in(&host, User::Root, "odd", "true");
        assert!(!host.path("/tmp/escaped").exists(), "{up}");
    }
}
