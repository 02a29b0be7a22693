//! docker's command line for images: flags, columns, words and exit statuses.

use std::iter;

use harness::registry::{Hostile, Kind, Layout, Minidocker, PASSWORD, Packing, Registry, USER};
use harness::registry::{machine, noise};
use harness::{Host, Output, Setup, User};
use serde_json::{Value, json};

const BOTH: [User; 2] = [User::Root, User::Student];

fn minidocker<'w>(host: &Host, user: User, words: impl IntoIterator<Item = &'w str>) -> Output {
    host.run_as(user, ["minidocker"].into_iter().chain(words))
}

/// Runs a shell script as `user`, with minidocker in its path.
fn shell(host: &Host, user: User, script: &str) -> Output {
    host.run_as(user, ["bash", "-c", script])
}

/// Three images in a layout at /tmp/three: `old` of 2020, `mid` of 2022 with labels, `new` of 2024.
fn layout(host: &Host) {
    let mut layout = Layout::new(host, "/tmp/three");
    let images = [
        ("old", "2020-01-02T03:04:05Z", json!({})),
        (
            "mid",
            "2022-01-02T03:04:05Z",
            json!({"kind": "sweet", "empty": ""}),
        ),
        ("new", "2024-01-02T03:04:05.678Z", json!({"kind": "sour"})),
    ];
    for (name, created, labels) in images {
        let layer = layout.layer(Packing::Gzip, &[(name, &noise(name.as_bytes()[0], 12_345))]);
        let config = json!({
            "created": created, "architecture": "amd64", "os": "linux", "author": "a tester",
            "config": {"Env": ["PATH=/bin", "A=<b>&"], "Cmd": ["/hello"], "Labels": labels},
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
            "history": [
                {"created": "2019-01-02T03:04:05Z", "created_by": "COPY everything / and quite a lot of other things, too"},
                {"created": created, "created_by": "CMD [\"/hello\"]", "comment": "a word", "empty_layer": true},
            ],
        });
        let media_type = "application/vnd.oci.image.config.v1+json";
        let config = layout.blob(media_type, config.to_string().as_bytes());
        let manifest = layout.manifest(Kind::Oci, &config, &[layer.descriptor(Kind::Oci)]);
        layout.name(&format!("team/{name}:1"), &manifest);
    }
    host.shell("chmod -R go+rX /tmp/three");
}

/// A machine on which both have the three images.
fn host_with_three() -> Host {
    let host = Host::new();
    layout(&host);
    for user in BOTH {
        minidocker(&host, user, ["load", "-q", "-i", "/tmp/three"]).ok();
    }
    host
}

#[test]
fn images_are_listed_in_dockers_columns_the_newest_first() {
    let host = host_with_three();
    for user in BOTH {
        let list = minidocker(&host, user, ["images"]).ok();
        let lines: Vec<&str> = list.lines().collect();
        assert_eq!(
            lines[0], "REPOSITORY   TAG       IMAGE ID       CREATED                  SIZE",
            "{list}"
        );
        let names: Vec<&str> = lines[1..]
            .iter()
            .filter_map(|line| line.split(' ').next())
            .collect();
        assert_eq!(
            names,
            ["host", "team/new", "team/mid", "team/old"],
            "{list}"
        );
        assert!(
            lines[2].contains(" years ago ") && lines[2].ends_with("12.3kB"),
            "{list}"
        );
        for alias in ["image ls", "image list", "images -a", "images --all=true"] {
            let same = minidocker(&host, user, alias.split(' ')).ok();
            assert_eq!(same.lines().count(), 5, "{alias}: {same}");
        }
    }
}

#[test]
fn a_list_has_as_much_as_its_flags_say() {
    let host = host_with_three();
    let images = |words: &[&str]| {
        let words = ["images"].iter().chain(words).copied();
        minidocker(&host, User::Student, words).ok()
    };
    let short = images(&["-q", "team/new"]);
    let long = images(&["--quiet", "--no-trunc", "team/new"]);
    assert_eq!(short.len(), 12);
    assert_eq!(
        long,
        format!("sha256:{}", long.trim_start_matches("sha256:"))
    );
    assert!(long.len() == 71 && long[7..].starts_with(&short), "{long}");
    let digests = images(&["--digests", "team/new"]);
    assert!(
        digests
            .lines()
            .any(|line| line.contains("DIGEST    IMAGE ID")),
        "{digests}"
    );
    assert!(digests.contains("<none>    "), "{digests}");

    let one = images(&["--format", "json", "team/new"]);
    let one: Value = serde_json::from_str(&one).expect("one object a line");
    assert_eq!(one["Repository"], "team/new");
    assert_eq!(one["Tag"], "1");
    assert_eq!(one["ID"], short.as_str());
    assert_eq!(one["Size"], "12.3kB");
    assert_eq!(one["VirtualSize"], "12.35kB");
    assert!(
        one["CreatedAt"]
            .as_str()
            .expect("a string")
            .starts_with("2024-01-02 03:04:05 +0")
    );

    assert_eq!(
        images(&[
            "--format",
            r"{{.Repository}}:{{.Tag}}\t{{.Size | lower}}",
            "team/*"
        ]),
        "team/new:1\t12.3kb\nteam/mid:1\t12.3kb\nteam/old:1\t12.3kb"
    );
    assert_eq!(
        images(&[
            "--format",
            r"table {{.Tag}}\t{{upper .Repository}}",
            "team/n?w"
        ]),
        "TAG       REPOSITORY\n1         TEAM/NEW"
    );
    assert_eq!(images(&["-q", "--format", "{{.Tag}}", "team/new:1"]), "1");
}

#[test]
fn filters_choose_as_docker_has_them_choose() {
    let host = host_with_three();
    let user = User::Student;
    minidocker(&host, user, ["tag", "team/mid:1", "other:2"]).ok();
    let names = |filters: &[&str]| {
        let mut words = vec!["images", "--format", "{{.Repository}}"];
        words.extend(filters.iter().flat_map(|filter| ["-f", filter]));
        minidocker(&host, user, words).ok().replace('\n', " ")
    };
    for (filters, expected) in [
        (vec!["label=kind"], "team/new other team/mid"),
        (vec!["label=kind=sweet"], "other team/mid"),
        (vec!["label=kind", "label=empty"], "other team/mid"),
        (vec!["label=nothing"], ""),
        (vec!["before=team/new:1"], "other team/mid team/old"),
        (
            vec!["before=team/new:1", "since=team/old:1"],
            "other team/mid",
        ),
        (vec!["since=team/new:1"], "host"),
        (vec!["until=2021-01-01"], "team/old"),
        (
            vec!["until=2023-01-01T00:00:00Z", "label=kind"],
            "other team/mid",
        ),
        (vec!["reference=team/*"], "team/new team/mid team/old"),
        (
            vec!["reference=*:2", "reference=team/old"],
            "other team/old",
        ),
        (vec!["reference=*"], "host other"),
        (vec!["dangling=true"], ""),
        (vec!["dangling=0", "reference=host"], "host"),
    ] {
        assert_eq!(names(&filters), expected, "{filters:?}");
    }
    for (filter, said) in [
        ("colour=red", "invalid filter 'colour'"),
        ("dangling=perhaps", "neither true nor false"),
        ("before=nothing", "No such image: nothing"),
        ("reference=[", "syntax error in pattern"),
        ("until=soon", "is no time"),
    ] {
        let error = minidocker(&host, user, ["images", "-f", filter]).exits(1);
        assert!(
            error.contains(said) && error.lines().count() == 1,
            "{error}"
        );
    }
    let error = minidocker(&host, user, ["images", "-f", "dangling"]).exits(125);
    assert!(
        error.contains("bad format of filter (expected name=value)"),
        "{error}"
    );
}

#[test]
fn an_image_without_a_name_dangles() {
    let host = host_with_three();
    for user in BOTH {
        minidocker(&host, user, ["tag", "team/new:1", "team/old:1"]).ok();
        let rows = minidocker(&host, user, ["images", "-f", "dangling=true"]).ok();
        assert!(
            rows.lines()
                .nth(1)
                .is_some_and(|row| row.starts_with("<none>       <none>")),
            "{rows}"
        );
        let list = minidocker(
            &host,
            user,
            ["images", "--format", "{{.Repository}} {{.ID}}"],
        )
        .ok();
        let ids = |name: &str| -> Vec<&str> {
            list.lines()
                .filter_map(|row| row.strip_prefix(name))
                .collect()
        };
        assert_eq!(ids("team/new"), ids("team/old"));

        let pruned = minidocker(&host, user, ["image", "prune", "-f"]).ok();
        let mut lines = pruned.lines();
        assert_eq!(lines.next(), Some("Deleted Images:"));
        assert!(
            lines.all(|line| {
                line.starts_with("deleted: sha256:")
                    || line.is_empty()
                    || line.starts_with("Total reclaimed space: ")
            }),
            "{pruned}"
        );
        let again = minidocker(&host, user, ["image", "prune", "--force"]).ok();
        assert_eq!(again, "Total reclaimed space: 0B");
    }
}

#[test]
fn prune_asks_before_it_removes() {
    let host = host_with_three();
    let user = User::Student;
    let count = || {
        minidocker(&host, user, ["images", "-q"])
            .ok()
            .lines()
            .count()
    };
    for (answer, left) in [("n", 4), ("", 4), ("yes", 4), ("y", 1)] {
        let mut terminal = host.terminal(user, ["minidocker", "image", "prune", "-a"]);
        terminal.expect("WARNING! This will remove all images without at least one container");
        terminal.expect("Are you sure you want to continue? [y/N] ");
        terminal.send(&format!("{answer}\n"));
        assert_eq!(terminal.wait(), 0);
        assert_eq!(count(), left, "{answer:?}");
    }
    let asked = minidocker(&host, user, ["image", "prune"]).ok();
    assert!(
        asked.starts_with("WARNING! This will remove all dangling images.\nAre you sure"),
        "{asked}"
    );
    for filter in ["colour=red", "until=soon", "before=host"] {
        minidocker(&host, user, ["image", "prune", "-f", "--filter", filter]).exits(1);
    }
}

#[test]
fn inspect_shows_what_docker_shows() {
    let host = host_with_three();
    for user in BOTH {
        let shown = minidocker(&host, user, ["image", "inspect", "team/mid:1"]).ok();
        assert!(
            shown.starts_with("[\n    {\n        \"Id\": \"sha256:"),
            "{shown}"
        );
        let shown: Value = serde_json::from_str(&shown).expect("a list of objects");
        let image = &shown[0];
        assert_eq!(image["RepoTags"], json!(["team/mid:1"]));
        assert_eq!(image["RepoDigests"], json!([]));
        assert_eq!(image["Created"], "2022-01-02T03:04:05Z");
        assert_eq!(image["Author"], "a tester");
        assert_eq!(image["Comment"], "a word");
        assert_eq!(image["Architecture"], "amd64");
        assert_eq!(image["Os"], "linux");
        assert_eq!(image["Size"], 12_345);
        assert_eq!(image["Config"]["Labels"]["kind"], "sweet");
        assert_eq!(image["RootFS"]["Layers"].as_array().map(Vec::len), Some(1));
        let upper = image["GraphDriver"]["Data"]["UpperDir"]
            .as_str()
            .expect("a path");
        assert!(host.path(upper).join("mid").is_file(), "{upper}");

        let fill = |template: &str| {
            minidocker(
                &host,
                user,
                ["inspect", "-f", template, "team/mid:1", "host"],
            )
            .ok()
        };
        let of_both = [
            ("{{index .RepoTags 0}}", "team/mid:1\nhost:latest"),
            ("{{json .Config.Env}}", "[\"PATH=/bin\",\"A=<b>&\"]\nnull"),
            (
                "{{.Config.User}}|{{index .Config.Labels \"kind\"}}",
                "|sweet\n|",
            ),
            ("{{range .Config.Cmd}}{{.}} {{end}}", "/hello \nsh "),
            (r"{{.Os}}\n", "linux\\n\nlinux\\n"),
        ];
        for (template, expected) in of_both {
            assert_eq!(fill(template), expected, "{template}");
        }
        let id = minidocker(&host, user, ["images", "-q", "host"]).ok();
        assert_eq!(
            minidocker(
                &host,
                user,
                [
                    "inspect",
                    "--type",
                    "image",
                    "-f",
                    "{{.RepoTags}}",
                    &id[..6]
                ]
            )
            .ok(),
            "[host:latest]"
        );
    }
}

#[test]
fn of_several_images_those_that_are_there_are_shown_and_removed() {
    let host = host_with_three();
    for user in BOTH {
        let seen = minidocker(
            &host,
            user,
            ["inspect", "-f", "{{.Os}}", "nope", "host", "no/pe"],
        );
        assert_eq!(
            seen.exits(1),
            "minidocker: No such object: nope\nminidocker: No such object: no/pe"
        );
        assert_eq!(seen.text(), "linux");
        let none = minidocker(&host, user, ["image", "inspect", "nope"]);
        none.exits(1);
        assert_eq!(none.text(), "[]");

        minidocker(&host, user, ["tag", "team/old:1", "second"]).ok();
        let gone = minidocker(&host, user, ["rmi", "second", "nope", "team/old:1"]);
        assert_eq!(gone.exits(1), "minidocker: No such image: nope");
        let text = gone.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            &lines[..2],
            ["Untagged: second:latest", "Untagged: team/old:1"],
            "{text}"
        );
        assert!(
            lines.len() == 4
                && lines[2..]
                    .iter()
                    .all(|it| it.starts_with("Deleted: sha256:")),
            "{text}"
        );
        let forced = minidocker(&host, user, ["image", "rm", "-f", "--no-prune", "nope"]);
        assert_eq!(forced.exits(0), "minidocker: No such image: nope");

        minidocker(&host, user, ["tag", "team/new:1", "a"]).ok();
        let id = minidocker(&host, user, ["images", "-q", "a"]).ok();
        let refused = minidocker(&host, user, ["rmi", &id]).exits(1);
        assert!(refused.contains("must be forced"), "{refused}");
        let forced = minidocker(&host, user, ["rmi", "--force", &id]).ok();
        assert!(forced.contains("Untagged: a:latest"), "{forced}");
        assert!(forced.contains("Untagged: team/new:1"), "{forced}");
    }
}

#[test]
fn templates_that_make_no_sense_are_told_as_docker_tells_them() {
    let host = Host::new();
    let user = User::Student;
    let error = minidocker(&host, user, ["inspect", "-f", "{{.Id", "host"]).exits(64);
    assert_eq!(
        error,
        "minidocker: template parsing error: template: :1: unclosed action"
    );
    for words in [
        ["inspect", "-f", "{{.Foo}}", "host"],
        ["images", "--format", "{{.Foo}}", "host"],
    ] {
        let error = minidocker(&host, user, words).exits(1);
        assert_eq!(
            error,
            "minidocker: template parsing error: template: :1:2: executing \"\" at <.Foo>: \
             map has no entry for key \"Foo\""
        );
    }
    minidocker(&host, user, ["images", "--format", "{{bad}}"]).exits(1);
}

#[test]
fn a_command_line_that_makes_no_sense_ends_with_125_and_a_hint() {
    let host = Host::new();
    for (line, said, hint) in [
        ("images --tree", "unknown flag: --tree", "minidocker images"),
        (
            "images -Z",
            "unknown shorthand flag: -Z",
            "minidocker images",
        ),
        (
            "images one two",
            "'minidocker images' takes no argument \"two\" there",
            "minidocker images",
        ),
        (
            "image ls --quiet=perhaps",
            "invalid argument \"perhaps\" for --quiet",
            "minidocker image ls",
        ),
        (
            "pull",
            "'minidocker pull' requires <NAME[:TAG|@DIGEST]>",
            "minidocker pull",
        ),
        (
            "pull --platform a/b/c/d x",
            "invalid argument \"a/b/c/d\" for --platform",
            "minidocker pull",
        ),
        (
            "rmi",
            "'minidocker rmi' requires <IMAGE>...",
            "minidocker rmi",
        ),
        (
            "rmi --platform linux/arm64 host",
            "unknown flag: --platform",
            "minidocker rmi",
        ),
        (
            "tag host",
            "'minidocker tag' requires <TARGET_IMAGE[:TAG]>",
            "minidocker tag",
        ),
        (
            "save --format zip host",
            "invalid argument \"zip\" for --format",
            "minidocker save",
        ),
        (
            "inspect -x host",
            "unknown shorthand flag: -x",
            "minidocker inspect",
        ),
        (
            "frobnicate",
            "unknown command: minidocker frobnicate",
            "minidocker",
        ),
        (
            "image frobnicate",
            "unknown command: minidocker image frobnicate",
            "minidocker image",
        ),
    ] {
        let out = minidocker(&host, User::Student, line.split(' '));
        let error = out.exits(125);
        assert!(
            error.starts_with(&format!("minidocker: {said}")),
            "{line}: {error}"
        );
        assert!(
            error.ends_with(&format!("\nRun '{hint} --help' for more information")),
            "{line}: {error}"
        );
        assert_eq!(out.text(), "", "{line}");
    }
}

#[test]
fn every_command_has_help_with_an_example() {
    let host = Host::new();
    let of = |words: &[&str]| {
        let words = words.iter().copied().chain(["--help"]);
        minidocker(&host, User::Student, words).ok()
    };
    let mut commands = 0;
    let groups = ["container", "image", "network", "system", "volume"];
    for group in iter::once(vec![]).chain(groups.map(|group| vec![group])) {
        let help = of(&group);
        let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
        for line in listed.take_while(|line| !line.is_empty()) {
            let name = line.split_whitespace().next().expect("a command's name");
            if name != "help"
                && !groups.contains(&name)
                && line.starts_with("  ")
                && !line.starts_with("   ")
            {
                let help = of(&[group.as_slice(), &[name]].concat());
                assert!(
                    help.contains("\nExample: ") && help.contains(&format!(" {name} ")),
                    "{name}: {help}"
                );
                commands += 1;
            }
        }
    }
    assert!(commands >= 23, "{commands}");
    assert!(
        minidocker(&host, User::Student, ["--version"])
            .ok()
            .starts_with("minidocker version ")
    );
    let bare = minidocker(&host, User::Student, ["image"]);
    assert!(bare.exits(0).contains("Usage: minidocker image"), "{bare}");
}

#[test]
fn a_shell_learns_to_complete_command_lines() {
    let host = Host::new();
    let script = r#"source <(minidocker completion bash)
        COMP_WORDS=(minidocker image pr) COMP_CWORD=2
        _minidocker minidocker pr image
        echo "${COMPREPLY[*]}""#;
    assert_eq!(shell(&host, User::Student, script).ok(), "prune");
}

#[test]
fn a_full_disk_is_an_error_and_a_reader_who_leaves_is_none() {
    let host = host_with_three();
    for user in BOTH {
        for command in [
            "images",
            "images -q",
            "images --format json",
            "inspect host",
            "inspect -f '{{.Id}}' host",
            "rmi team/old:1",
            "history host",
            "save host",
            "load -i /tmp/three",
            "--help",
            "images --help",
            "image prune",
            "image prune -f",
        ] {
            let out = shell(&host, user, &format!("minidocker {command} >/dev/full"));
            let error = out.exits(1);
            assert!(!error.contains("panicked"), "{command}: {error}");
        }
        let many = "minidocker images --format \"{{range 50000}}{{.}} {{end}}\" | head -c 5; \
            echo \" ${PIPESTATUS[*]}\"";
        let out = shell(&host, user, many);
        assert_eq!(out.ok(), "0 1 2 141 0");
        assert_eq!(out.errors(), "");
    }
}

#[test]
fn tags_are_given_and_names_refused() {
    let host = Host::new();
    for user in BOTH {
        assert_eq!(
            minidocker(&host, user, ["tag", "host", "localhost:5000/a/b:c"]).ok(),
            ""
        );
        minidocker(&host, user, ["image", "tag", "localhost:5000/a/b:c", "d"]).ok();
        let id = |name: &str| minidocker(&host, user, ["inspect", "-f", "{{.Id}}", name]).ok();
        assert_eq!(id("d"), id("host"));
        for (name, said) in [
            ("UPPER", "Error parsing reference: "),
            ("a:b:c", "Error parsing reference: "),
            ("", "Error parsing reference: "),
        ] {
            let error = minidocker(&host, user, ["tag", "host", name]).exits(1);
            assert!(error.contains(said), "{error}");
        }
        let missing = minidocker(&host, user, ["tag", "nope", "a"]).exits(1);
        assert_eq!(missing, "minidocker: No such image: nope");
    }
}

#[test]
fn a_history_is_told_from_the_last_step_to_the_first() {
    let host = host_with_three();
    for user in BOTH {
        let id = minidocker(&host, user, ["images", "-q", "team/mid"]).ok();
        let history = |words: &[&str]| {
            let words = ["history"].iter().chain(words).chain(&["team/mid:1"]);
            minidocker(&host, user, words.copied()).ok()
        };
        let table = history(&[]);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(
            lines[0],
            "IMAGE          CREATED       CREATED BY                                      SIZE      COMMENT"
        );
        assert!(
            lines[1].starts_with(&format!("{id}   4 years ago   CMD [\"/hello\"]   ")),
            "{table}"
        );
        assert!(lines[1].ends_with("   0B        a word"), "{table}");
        assert!(
            lines[2].starts_with("<missing>      7 years ago   COPY everything"),
            "{table}"
        );
        assert!(
            lines[2].ends_with("/ and quite a lot of other t…   12.3kB"),
            "{table}"
        );
        assert_eq!(history(&["-q"]), format!("{id}\n<missing>"));
        let exact = history(&["-H=false", "--no-trunc"]);
        assert!(
            exact.contains("CREATED AT ") && exact.contains(" 2022-01-02T03:04:05Z "),
            "{exact}"
        );
        assert!(exact.contains("other things, too   12345"), "{exact}");
        assert_eq!(
            history(&["--format", "{{.Size}} {{.Comment}}"]),
            "0B a word\n12.3kB "
        );
        let json = history(&["--format", "json", "--human"]);
        assert_eq!(json.lines().count(), 2, "{json}");
        let missing = minidocker(&host, user, ["image", "history", "nope"]).exits(1);
        assert_eq!(missing, "minidocker: No such image: nope");
    }
}

#[test]
fn a_check_tells_what_is_wrong_and_the_status_whether_it_is() {
    let host = host_with_three();
    for user in BOTH {
        assert_eq!(minidocker(&host, user, ["system", "check"]).ok(), "");
        let dir = match user {
            User::Root => "/var/lib/minidocker",
            User::Student => "/home/student/.local/share/minidocker",
        };
        host.shell(&format!("rm {dir}/images/oci-layout"));
        let told = minidocker(&host, user, ["system", "check", "--dry-run"]);
        told.exits(1);
        assert!(told.text().contains("oci-layout is missing"), "{told}");
        let full = shell(&host, user, "minidocker system check -n >/dev/full").exits(1);
        assert!(full.contains("write to standard output"), "{full}");
        let told = minidocker(&host, user, ["system", "check"]).ok();
        assert!(told.contains("oci-layout is missing"), "{told}");
        assert_eq!(minidocker(&host, user, ["system", "check", "-n"]).ok(), "");
    }
}

#[test]
fn an_image_is_saved_loaded_and_imported() {
    let host = host_with_three();
    for user in BOTH {
        let script = "
            cd; set -e
            minidocker save -o three.tar team/old:1 team/new:1
            minidocker image save team/old:1 team/new:1 | cmp - three.tar
            minidocker rmi team/old:1 team/new:1 >/dev/null
            minidocker load -i three.tar
            minidocker image load -q <three.tar
            gzip <three.tar | minidocker load
            mkdir -p tree/bin; echo hi >tree/bin/hello
            tar -C tree -c . | minidocker import -c 'CMD [\"sh\"]' --change 'ENV A=b' -m 'by hand' - imported:1
            minidocker inspect -f '{{json .Config.Cmd}} {{json .Config.Env}} {{.Comment}}' imported:1";
        let said = shell(&host, user, script).ok();
        let lines: Vec<&str> = said.lines().collect();
        let loaded = ["Loaded image: team/old:1", "Loaded image: team/new:1"];
        let mut sorted = lines[..6].to_vec();
        sorted.sort_unstable();
        assert_eq!(sorted, [[loaded[1]; 3], [loaded[0]; 3]].concat(), "{said}");
        assert!(
            lines[6].starts_with("sha256:") && lines[6].len() == 71,
            "{said}"
        );
        assert_eq!(lines[7], "[\"sh\"] [\"A=b\"] by hand");
    }
    for (line, said) in [
        ("load -i /nothing", "No such file or directory"),
        ("save -o /nothing/x host", "No such file or directory"),
        ("save nope", "No such image: nope"),
        ("import /nothing", "No such file or directory"),
        ("import -c FROM=x /tmp/three/index.json", "FROM"),
    ] {
        let error = minidocker(&host, User::Student, line.split(' ')).exits(1);
        assert!(error.contains(said), "{line}: {error}");
    }
    let mut terminal = host.terminal(User::Student, ["minidocker", "save", "host"]);
    terminal
        .expect("minidocker: cowardly refusing to save to a terminal. Use the -o flag or redirect");
    assert_eq!(terminal.wait(), 1);
    let mut terminal = host.terminal(User::Student, ["minidocker", "load"]);
    terminal.expect("minidocker: requested load from stdin, but stdin is empty");
    assert_eq!(terminal.wait(), 1);
}

#[test]
fn a_pull_is_told_in_lines_where_there_is_no_terminal() {
    let host = machine(Setup::default());
    let mut layout = Layout::new(&host, "/tmp/one");
    let layer = layout.layer(Packing::Gzip, &[("file", b"text")]);
    layout.name("one", &layout.image(Kind::Oci, "amd64", &[&layer]));
    let registry = Registry::open(&host);
    let name = registry.fill("/tmp/one", "one", "new");
    for user in BOTH {
        let minidocker = Minidocker::of(&host, user);
        let told = minidocker.ok(&format!("pull {name}"));
        let lines: Vec<&str> = told.lines().collect();
        let blob = lines[2].split(':').next().expect("a layer's id");
        assert_eq!(blob.len(), 12, "{told}");
        let digest = minidocker.inspect(&name, "{{index .RepoDigests 0}}");
        let digest = digest.rsplit('@').next().expect("a digest");
        assert_eq!(
            lines,
            [
                "Using default tag: latest",
                "latest: Pulling from new",
                &format!("{blob}: Pulling fs layer"),
                &format!("{blob}: Download complete"),
                &format!("{blob}: Pull complete"),
                &format!("Digest: {digest}"),
                &format!("Status: Downloaded newer image for {name}:latest"),
                &format!("{name}:latest"),
            ]
        );
        let again = minidocker.ok(&format!("pull {name}:latest"));
        assert_eq!(
            again,
            format!(
                "latest: Pulling from new\nDigest: {digest}\n\
                 Status: Image is up to date for {name}:latest\n{name}:latest"
            )
        );
        let quiet = minidocker.ok(&format!(
            "image pull --quiet --disable-content-trust {name}"
        ));
        assert_eq!(quiet, format!("{name}:latest"));

        let all = format!("{}/all-{user:?}", registry.address()).to_lowercase();
        for tag in ["1", "2"] {
            minidocker.ok(&format!("tag {name} {all}:{tag}"));
        }
        let pushed = minidocker.ok(&format!("push --all-tags {all}"));
        assert_eq!(
            pushed.lines().next(),
            Some(format!("The push refers to repository [{all}]").as_str())
        );
        for tag in ["1", "2"] {
            assert!(
                pushed.contains(&format!("\n{tag}: digest: {digest} size: ")),
                "{pushed}"
            );
        }
        minidocker.ok(&format!("rmi {all}:1 {all}:2"));
        let pulled = minidocker.ok(&format!("pull -a {all}"));
        assert!(
            pulled.ends_with(&format!(
                "\nStatus: Downloaded newer image for {all}\n{all}"
            )),
            "{pulled}"
        );
        assert_eq!(
            minidocker.ok(&format!("images -q {all}")).lines().count(),
            2
        );
        let error = minidocker.fails(&format!("pull -a {all}:1"));
        assert_eq!(error, "minidocker: tag can't be used with --all-tags/-a");
        let pushed = minidocker.ok(&format!("push -q {all}:2"));
        assert_eq!(pushed, format!("{all}:2"));
    }
}

/// What stands on a terminal of 80 columns after all that was written to it.
fn screen(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let (mut lines, mut row, mut column) = (vec![Vec::new()], 0, 0);
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match char {
            '\n' => row += 1,
            '\r' => column = 0,
            '\x1b' => {
                assert_eq!(chars.next(), Some('['), "{text:?}");
                let digits: String = chars.clone().take_while(char::is_ascii_digit).collect();
                match chars.nth(digits.len()) {
                    Some('A') => row -= digits.parse::<usize>().expect("a count of lines"),
                    Some('K') => lines[row].truncate(column),
                    Some('J') => {
                        lines[row].truncate(column);
                        lines.truncate(row + 1);
                    }
                    other => panic!("unknown sequence {other:?} in {text:?}"),
                }
            }
            other => {
                assert!(column < 80, "a line is too long: {text:?}");
                let line = &mut lines[row];
                line.resize(line.len().max(column + 1), ' ');
                line[column] = other;
                column += 1;
            }
        }
        if lines.len() <= row {
            lines.push(Vec::new());
        }
    }
    lines.iter().map(|line| line.iter().collect()).collect()
}

/// An image of 30 layers, more than a terminal has rows, at a registry that is slow.
fn slow_registry(host: &Host) -> Hostile<'_> {
    let mut layout = Layout::new(host, "/tmp/slow");
    let layers: Vec<_> = (0..30)
        .map(|n| layout.layer(Packing::Plain, &[("file", &noise(n, 30_000))]))
        .collect();
    let large = layout.layer(Packing::Plain, &[("large", &noise(99, 3_000_000))]);
    let layers: Vec<_> = [&large].into_iter().chain(&layers).collect();
    layout.name("one", &layout.image(Kind::Oci, "amd64", &layers));
    let three: Vec<_> = layers[..3].to_vec();
    layout.name("three", &layout.image(Kind::Oci, "amd64", &three));
    Hostile::start(host, "/tmp/slow", &["--speed", "1000"])
}

#[test]
fn on_a_terminal_bars_are_drawn_where_they_stand() {
    let host = machine(Setup::default());
    let registry = slow_registry(&host);
    for user in BOTH {
        let name = registry.name("x:three");
        let mut terminal = host.terminal(user, ["minidocker", "pull", &name]);
        terminal.expect(": Downloading [");
        terminal.expect("=====");
        terminal.expect("Status: Downloaded newer image");
        terminal.expect("\n");
        terminal.expect("\n");
        let lines = screen(&terminal.screen());
        assert_eq!(terminal.wait(), 0);
        assert_eq!(lines.len(), 1 + 3 + 4, "{lines:#?}");
        for line in &lines[1..4] {
            assert!(line.ends_with(": Pull complete"), "{lines:#?}");
        }
        assert_eq!(lines.last().map(String::as_str), Some(""));
    }
}

#[test]
fn a_load_shows_at_the_terminal_how_far_it_is() {
    let host = Host::new();
    layout(&host);
    for (quiet, bars) in [("--quiet=false", 3), ("-q", 0)] {
        let words = ["minidocker", "load", quiet, "-i", "/tmp/three"];
        let mut terminal = host.terminal(User::Student, words);
        terminal.expect("Loaded image: team/new:1");
        terminal.expect("\n");
        let lines = screen(&terminal.screen());
        let ends = |line: &&String| line.contains(": Loading layer [==") && line.contains("=>] ");
        assert_eq!(lines.iter().filter(ends).count(), bars, "{lines:#?}");
        assert_eq!(lines.len(), bars + 3 + 1, "{lines:#?}");
        assert_eq!(terminal.wait(), 0);
    }
}

#[test]
fn more_layers_than_rows_scroll_away_once_they_are_complete() {
    let host = machine(Setup::default());
    let registry = slow_registry(&host);
    let name = registry.name("x:one");
    let terminal = host.terminal(User::Root, ["minidocker", "pull", &name]);
    let done = harness::wait_for("the pull to end", 60, || {
        let lines = screen(&terminal.screen());
        let over = lines.iter().any(|line| line.starts_with("Status: "));
        (over && lines.last().is_some_and(String::is_empty)).then_some(lines)
    });
    let complete = done.iter().filter(|line| line.ends_with(": Pull complete"));
    assert_eq!(complete.count(), 31, "{done:#?}");
    assert_eq!(done.len(), 1 + 31 + 4, "{done:#?}");
    assert_eq!(terminal.wait(), 0);
}

#[test]
fn a_resize_and_an_interrupt_leave_the_terminal_clean() {
    let host = machine(Setup::default());
    let registry = slow_registry(&host);
    for user in BOTH {
        let name = registry.name("x:three");
        let script = format!("minidocker pull {name}; echo \"ended $?\"");
        let mut terminal = host.terminal(user, ["bash", "-ic", &script]);
        terminal.expect(": Downloading [");
        terminal.resize(24, 60);
        terminal.expect("\x1b[");
        terminal.expect(": Downloading [");
        terminal.send("\x03");
        terminal.expect("ended 130");
        let lines = screen(&terminal.screen());
        let end = lines.iter().find(|line| line.contains("ended"));
        assert_eq!(end.map(String::as_str), Some("ended 130"), "{lines:#?}");
        drop(terminal);
        let left = minidocker(&host, user, ["images", "-q", &name]).ok();
        assert_eq!(left, "");
    }
}

#[test]
fn a_login_asks_at_the_terminal_and_shows_no_password() {
    let host = machine(Setup::default());
    let registry = Registry::htpasswd(&host);
    let address = registry.address();
    for user in BOTH {
        let login = ["minidocker", "login", &address];
        let mut terminal = host.terminal(user, login);
        terminal.expect("Username: ");
        terminal.send(&format!("{USER}\n"));
        terminal.expect("Password: ");
        terminal.send(&format!("{PASSWORD}\n"));
        terminal.expect("WARNING! Your credentials are stored unencrypted in '");
        terminal.expect("Login Succeeded");
        let seen = String::from_utf8_lossy(&terminal.screen()).into_owned();
        assert!(!seen.contains(PASSWORD), "{seen}");
        assert_eq!(terminal.wait(), 0);

        let again = minidocker(&host, user, ["login", &address]).ok();
        assert_eq!(
            again,
            "Authenticating with existing credentials...\nLogin Succeeded"
        );
        let out = minidocker(&host, user, ["logout", &address]).ok();
        assert_eq!(out, format!("Removing login credentials for {address}"));
        let nobody = minidocker(&host, user, ["login", &address]).exits(1);
        assert_eq!(
            nobody,
            "minidocker: Cannot perform an interactive login from a non TTY device"
        );

        // Both pasted at once.
        let mut terminal = host.terminal(user, login);
        terminal.expect("Username: ");
        terminal.send("somebody\nwrong\n");
        terminal.expect("Password: ");
        terminal.expect("minidocker: ");
        assert_eq!(terminal.wait(), 1);
    }
}

#[test]
fn an_interrupted_login_leaves_a_terminal_that_shows_what_is_typed() {
    let host = Host::new();
    for user in BOTH {
        let script = "trap : INT; minidocker login -u ann localhost:1; echo \"ended $?\"; stty -a";
        let mut terminal = host.terminal(user, ["bash", "-c", script]);
        terminal.expect("Password: ");
        terminal.send("half\x03");
        terminal.expect("ended 130");
        let modes = terminal.expect("noflsh");
        assert!(
            modes.contains(" echo ") && !modes.contains("-echo "),
            "{modes}"
        );
    }
}

#[test]
fn a_login_from_a_script_reads_standard_input() {
    let host = machine(Setup::default());
    let registry = Registry::htpasswd(&host);
    let address = registry.address();
    for user in BOTH {
        let run = |script: &str| shell(&host, user, &script.replace("ADDRESS", &address));
        let done = run(&format!(
            "echo '{PASSWORD}' | minidocker login -u {USER} --password-stdin ADDRESS"
        ));
        assert_eq!(done.ok(), "Login Succeeded");
        assert!(done.errors().contains("stored unencrypted"), "{done}");
        let done = run(&format!(
            "minidocker login -u {USER} -p '{PASSWORD}' http://ADDRESS/v2/"
        ));
        assert_eq!(done.ok(), "Login Succeeded");
        assert!(
            done.errors()
                .contains("Using --password via the CLI is insecure"),
            "{done}"
        );
        for (script, said) in [
            (
                "login -u a -p b --password-stdin ADDRESS",
                "cannot specify both --password and --password-stdin",
            ),
            (
                "login --password-stdin ADDRESS",
                "the --password-stdin option requires --username to be set",
            ),
            (
                "login -u a --password-stdin ADDRESS </dev/null",
                "password is empty",
            ),
            ("login -u a -p wrong ADDRESS", "login attempt to "),
        ] {
            let error = run(&format!("minidocker {script}")).exits(1);
            assert!(error.contains(said), "{script}: {error}");
        }
    }
}
