//! The deliberately wrong programs: a right one, and what is otherwise in it.
//!
//! Those of steps 1 to 4 are made of the program in C (tests/labs/other), which
//! takes a tenth of a second each; step 5, which it does not have, of the leaf.

/// A program that does everything right but one thing.
pub struct Wrong {
    /// What it does wrong, as the name of a file.
    pub name: &'static str,
    /// The step up to which it goes.
    pub step: u8,
    /// What stands in the right program, once, and what stands there instead.
    pub edits: &'static [(&'static str, &'static str)],
    /// The checks that it fails, the one that is meant for it first.
    pub caught_by: &'static [&'static str],
}

/// Of these the grader's machine on any host shows what is wrong.
pub const ANYWHERE: &[Wrong] = &[
    // ------------------------------------------------------------ step 1
    Wrong {
        name: "no_mount_namespace",
        step: 1,
        edits: &[
            ("CLONE_NEWNS | CLONE_NEWPID", "CLONE_NEWPID"),
            (
                r#"mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0"#,
                "false",
            ),
        ],
        caught_by: &["six-namespaces", "mounts-private"],
    },
    Wrong {
        name: "no_pid_namespace",
        step: 1,
        edits: &[("CLONE_NEWNS | CLONE_NEWPID", "CLONE_NEWNS")],
        caught_by: &["six-namespaces", "pid-1"],
    },
    Wrong {
        name: "no_uts_namespace",
        step: 1,
        edits: &[
            (" | CLONE_NEWUTS", ""),
            // Elsewhere the host's name may not be changed at all.
            (
                "sethostname(options.hostname, strlen(options.hostname)) < 0",
                "sethostname(options.hostname, strlen(options.hostname)) < 0 && errno != EPERM",
            ),
        ],
        caught_by: &["six-namespaces", "hostname", "kill-9"],
    },
    Wrong {
        name: "no_ipc_namespace",
        step: 1,
        edits: &[(" | CLONE_NEWIPC", "")],
        caught_by: &["six-namespaces"],
    },
    Wrong {
        name: "no_net_namespace",
        step: 1,
        edits: &[("flags |= CLONE_NEWNET", "flags |= 0")],
        caught_by: &["six-namespaces"],
    },
    Wrong {
        name: "no_cgroup_namespace",
        step: 1,
        edits: &[("unshare(CLONE_NEWCGROUP) < 0", "false")],
        caught_by: &["six-namespaces"],
    },
    Wrong {
        name: "mounts_stay_shared",
        step: 1,
        edits: &[(
            r#"mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0"#,
            "false",
        )],
        caught_by: &["mounts-private"],
    },
    Wrong {
        name: "hostname_is_not_set",
        step: 1,
        edits: &[(
            "sethostname(options.hostname, strlen(options.hostname)) < 0",
            "false",
        )],
        caught_by: &["hostname", "hostname-default"],
    },
    Wrong {
        name: "hostname_is_only_printed",
        step: 1,
        edits: &[
            (
                "sethostname(options.hostname, strlen(options.hostname)) < 0",
                "false",
            ),
            (
                "_exit(execute(options.command));",
                r#"if (!strcmp(options.command[0], "hostname"))
        options.command = (char *[]){"echo", (char *)options.hostname, NULL};
    _exit(execute(options.command));"#,
            ),
        ],
        caught_by: &["hostname", "hostname-default"],
    },
    Wrong {
        name: "hostname_is_always_the_same",
        step: 1,
        edits: &[(r#"text("c%08x", chance)"#, r#""container""#)],
        caught_by: &["hostname-default"],
    },
    Wrong {
        name: "root_is_only_printed",
        step: 1,
        edits: &[
            (
                r#"write_file(text("/proc/%d/uid_map", child), text("0 %u 1", geteuid()));"#,
                r#"write_file(text("/proc/%d/uid_map", child), text("7 %u 1", geteuid()));"#,
            ),
            (
                "_exit(execute(options.command));",
                r#"if (!strcmp(options.command[0], "id"))
        options.command = (char *[]){"echo", "0", NULL};
    _exit(execute(options.command));"#,
            ),
        ],
        caught_by: &["uid-map"],
    },
    Wrong {
        name: "status_is_always_0",
        step: 1,
        edits: &[(
            "return WEXITSTATUS(status);",
            "return WEXITSTATUS(status) >= ENGINE_FAILED ? WEXITSTATUS(status) : 0;",
        )],
        caught_by: &["exit-status", "killed-status", "signals"],
    },
    Wrong {
        name: "signal_is_1",
        step: 1,
        edits: &[(
            "return 128 + (ended_by ? ended_by : WTERMSIG(status));",
            "return 1;",
        )],
        caught_by: &["killed-status"],
    },
    Wrong {
        name: "missing_command_is_1",
        step: 1,
        edits: &[("NOT_FOUND = 127", "NOT_FOUND = 1")],
        caught_by: &["not-found"],
    },
    Wrong {
        name: "arguments_joined_by_a_shell",
        step: 1,
        edits: &[(
            "_exit(execute(options.command));",
            r#"char line[8192] = "exec";
    for (char **word = options.command; *word; word++)
        strcat(strcat(line, " "), *word);
    _exit(execute((char *[]){"sh", "-c", line, NULL}));"#,
        )],
        caught_by: &[
            "arguments",
            "exit-status",
            "hostname",
            "killed-status",
            "mounts-private",
            "pid-1",
            "signals",
            "streams",
            "uid-map",
        ],
    },
    Wrong {
        name: "chatter_on_standard_output",
        step: 1,
        edits: &[(
            "int status = wait_for(own.child, &signals);",
            r#"puts("minic: the container runs");
    fflush(stdout);
    int status = wait_for(own.child, &signals);"#,
        )],
        caught_by: &[
            "streams",
            "arguments",
            "cannot-execute",
            "hostname",
            "mounts-private",
            "not-found",
            "options-end",
            "pid-1",
            "uid-map",
        ],
    },
    Wrong {
        name: "signals_end_it_at_once",
        step: 1,
        edits: &[("wanted >> (signal - 1) & 1", "(wanted & 0)")],
        caught_by: &["signals"],
    },
    Wrong {
        name: "signals_are_only_passed_on",
        step: 1,
        edits: &[("wanted >> (signal - 1) & 1", "(wanted | 1)")],
        caught_by: &["signals"],
    },
    Wrong {
        name: "survives_kill_9",
        step: 1,
        edits: &[
            ("if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)", "if (false)"),
            ("    prctl(PR_SET_PDEATHSIG, SIGKILL);\n", ""),
        ],
        caught_by: &["kill-9"],
    },
    // ------------------------------------------------------------ step 2
    Wrong {
        name: "chroot_for_pivot_root",
        step: 2,
        edits: &[
            (
                r#"syscall(SYS_pivot_root, ".", ".") < 0"#,
                r#"chroot(".") < 0"#,
            ),
            (r#"umount2(".", MNT_DETACH) < 0 || "#, ""),
        ],
        caught_by: &["pivot"],
    },
    Wrong {
        name: "old_root_stays_mounted",
        step: 2,
        edits: &[
            (
                r#"chdir(root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0"#,
                r#"chdir(root) < 0 || (mkdir("old", 0755) < 0 && errno != EEXIST) ||
        syscall(SYS_pivot_root, ".", "old") < 0"#,
            ),
            (r#"umount2(".", MNT_DETACH) < 0 || "#, ""),
        ],
        caught_by: &["pivot", "mountinfo"],
    },
    Wrong {
        name: "mounts_made_before_they_are_private",
        step: 2,
        edits: &[
            (
                r#"    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        die(ENGINE_FAILED, "make the mounts private");
"#,
                "",
            ),
            (
                "    /* The new root with",
                r#"    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        die(ENGINE_FAILED, "make the mounts private");
    /* The new root with"#,
            ),
        ],
        caught_by: &["mounts-private"],
    },
    Wrong {
        name: "proc_is_the_hosts",
        step: 2,
        edits: &[(
            r#"attach("proc", text("%s/proc", root), quiet, NULL);"#,
            r#"make_place(text("%s/proc", root), true);
    if (mount("/proc", text("%s/proc", root), NULL, MS_BIND | MS_REC, NULL) < 0)
        die(ENGINE_FAILED, "bind /proc");"#,
        )],
        caught_by: &["proc", "pivot"],
    },
    Wrong {
        name: "dev_is_the_hosts",
        step: 2,
        edits: &[(
            "    make_devices(root);\n",
            r#"    if (!root[0])
        make_devices(root);
    make_place(text("%s/dev", root), true);
    if (mount("/dev", text("%s/dev", root), NULL, MS_BIND | MS_REC, NULL) < 0)
        die(ENGINE_FAILED, "bind /dev");
"#,
        )],
        caught_by: &["devices", "pts-and-shm"],
    },
    Wrong {
        name: "no_dev_full",
        step: 2,
        edits: &[(r#"{"full", 1, 7},"#, "")],
        caught_by: &["devices"],
    },
    Wrong {
        name: "terminals_are_the_hosts",
        step: 2,
        edits: &[(
            r#"attach("devpts", text("%s/dev/pts", root), quiet, "newinstance,ptmxmode=0666,mode=620");"#,
            r#"make_place(text("%s/dev/pts", root), true);
    if (mount("/dev/pts", text("%s/dev/pts", root), NULL, MS_BIND, NULL) < 0)
        die(ENGINE_FAILED, "bind /dev/pts");"#,
        )],
        caught_by: &["pts-and-shm"],
    },
    Wrong {
        name: "no_sys",
        step: 2,
        edits: &[(
            r#"if (mount("sysfs", sys, "sysfs", quiet | MS_RDONLY, NULL) < 0)"#,
            "if (!sys)",
        )],
        caught_by: &["sys"],
    },
    Wrong {
        // What MS_BIND | MS_RDONLY in one call does: mount(2) ignores the second.
        name: "read_only_volume_is_writable",
        step: 2,
        edits: &[(
            "if (volume->read_only)\n        set_read_only",
            "if (false)\n        set_read_only",
        )],
        caught_by: &["volume-read-only", "student-rootfs"],
    },
    Wrong {
        name: "every_volume_is_read_only",
        step: 2,
        edits: &[(
            "if (volume->read_only)\n        set_read_only",
            "if (true)\n        set_read_only",
        )],
        caught_by: &["volume"],
    },
    Wrong {
        name: "read_only_root_is_writable",
        step: 2,
        edits: &[("if (options.read_only)", "if (false)")],
        caught_by: &["read-only"],
    },
    Wrong {
        name: "rootfs_is_ignored",
        step: 2,
        edits: &[("if (STEP >= 2 && !options.rootfs)", "if (STEP >= 2)")],
        caught_by: &["rootfs", "missing-rootfs"],
    },
    Wrong {
        name: "a_descriptor_of_the_hosts_leaks",
        step: 2,
        edits: &[
            (
                "    umask(0);\n",
                "    umask(0);\n    int leak = open(\"/\", O_RDONLY);\n",
            ),
            ("close_range(3, ~0U, 0) < 0", "leak < 0"),
        ],
        caught_by: &["descriptors"],
    },
    // ------------------------------------------------------------ step 3
    Wrong {
        name: "a_limit_that_cannot_be_is_ignored",
        step: 3,
        edits: &[(
            "    errno = 0;\n    if (!*own.cgroup)\n",
            "    if (!strstr(read_file(text(\"%s/cgroup.controllers\", own.cgroup)), controller))\n        \
             return;\n    if (!*own.cgroup)\n",
        )],
        caught_by: &["limit-refused"],
    },
    // ------------------------------------------------------------ step 4
    Wrong {
        name: "the_bridge_is_left_behind",
        step: 4,
        edits: &[(
            r#"alone ? "true" : "false""#,
            r#"alone ? "false" : "false""#,
        )],
        caught_by: &["afterwards-4", "after-kill-4"],
    },
    Wrong {
        name: "a_link_is_left_behind",
        step: 4,
        edits: &[(
            "    int status = wait_for(own.child, &signals);\n",
            "    int status = wait_for(own.child, &signals);\n    \
             shell(\"ip link add minic-left type veth peer name minic-right\");\n",
        )],
        caught_by: &["afterwards-4", "after-kill-4"],
    },
    Wrong {
        name: "rules_are_left_behind",
        step: 4,
        edits: &[(
            "nft delete table ip minic-%d\\n",
            "nft list table ip minic-%d\\n",
        )],
        caught_by: &["afterwards-4", "after-kill-4"],
    },
    Wrong {
        name: "other_tables_are_flushed",
        step: 4,
        edits: &[(
            "\"echo 1 >/proc/sys/net/ipv4/ip_forward\\n\"",
            "\"echo 1 >/proc/sys/net/ipv4/ip_forward; nft flush ruleset\\n\"",
        )],
        caught_by: &["foreign-rules", "publish-inside", "port-taken"],
    },
    Wrong {
        name: "no_way_outside",
        step: 4,
        edits: &[(
            "oifname != \" BRIDGE \" masquerade",
            "oifname != \" BRIDGE \" accept",
        )],
        caught_by: &["outside"],
    },
    Wrong {
        name: "no_default_route",
        step: 4,
        edits: &[(
            r#" dev eth0 &&"
                                         " ip route add default via " SUBNET ".1", own.slot)"#,
            r#" dev eth0", own.slot)"#,
        )],
        caught_by: &[
            "address",
            "outside",
            "publish",
            "publish-local",
            "publish-inside",
            "publish-udp",
            "publish-address",
            "port-taken",
            "afterwards-4",
        ],
    },
    Wrong {
        name: "every_container_has_the_same_address",
        step: 4,
        edits: &[(
            r#"via " SUBNET ".1", own.slot)"#,
            r#"via " SUBNET ".1", 2)"#,
        )],
        caught_by: &["addresses", "neighbours", "publish-inside"],
    },
    Wrong {
        name: "a_port_is_not_published_for_the_host_itself",
        step: 4,
        edits: &[(
            r#"hook output priority -100; %s }\n}\n", rules)"#,
            r#"hook output priority -100; %s }\n}\n", "")"#,
        )],
        caught_by: &[
            "publish-local",
            "publish-udp",
            "publish-address",
            "port-taken",
        ],
    },
    Wrong {
        name: "a_port_is_published_for_the_host_alone",
        step: 4,
        edits: &[(
            r#"hook prerouting priority -100; %s }\n", rules)"#,
            r#"hook prerouting priority -100; %s }\n", "")"#,
        )],
        caught_by: &["publish", "publish-inside", "publish-udp"],
    },
    Wrong {
        name: "udp_is_published_as_tcp",
        step: 4,
        edits: &[(
            "to, port->protocol, port->host",
            "to, *port->protocol ? \"tcp\" : \"\", port->host",
        )],
        caught_by: &["publish-udp"],
    },
    Wrong {
        name: "the_address_of_a_published_port_is_ignored",
        step: 4,
        edits: &[(
            "port->address = address.s_addr ? word : NULL;",
            "port->address = NULL;",
        )],
        caught_by: &["publish-address"],
    },
    Wrong {
        name: "a_name_server_on_loopback_is_kept",
        step: 4,
        edits: &[("\"nameserver 127.\", 15", "\"nothing of that\", 15")],
        caught_by: &["resolv-conf"],
    },
    Wrong {
        name: "its_own_name_is_unknown",
        step: 4,
        edits: &[(
            "    if (own.bridge)\n        hosts =",
            "    if (false)\n        hosts =",
        )],
        caught_by: &["hosts"],
    },
    Wrong {
        name: "loopback_is_down",
        step: 4,
        edits: &[
            ("\"ip link set lo up\"", "\"true\""),
            ("\"ip link set lo up && ip", "\"ip"),
        ],
        caught_by: &["address", "network-none", "network-student"],
    },
    Wrong {
        name: "none_is_a_network_too",
        step: 4,
        edits: &[(
            "    parse(argc, argv);\n",
            "    parse(argc, argv);\n    if (!strcmp(options.network, \"none\"))\n        \
             options.network = \"bridge\";\n",
        )],
        caught_by: &["network-none"],
    },
];

/// These are wrong about limits, which only the virtual machine is sure to have.
/// Those of a row are one program, to boot it less often: what is wrong in one
/// does not hide what is wrong in another.
pub const WITH_CONTROLLERS: &[&[Wrong]] = &[
    &[
        Wrong {
            name: "swap_is_not_limited",
            step: 3,
            edits: &[(
                "        try_write(text(\"%s/memory.swap.max\", path), \"0\");\n",
                "",
            )],
            caught_by: &["limits"],
        },
        Wrong {
            name: "a_cgroup_is_left_behind",
            step: 3,
            edits: &[(
                "    remove_cgroup(slot);\n",
                "    if (slot < 0)\n        remove_cgroup(slot);\n",
            )],
            caught_by: &["cgroup-removed", "limits-after-kill"],
        },
    ],
    &[
        Wrong {
            name: "a_megabyte_is_a_million",
            step: 3,
            edits: &[(
                "((unsigned __int128)number << 10 * (unit - units)) / parts",
                "(unsigned __int128)number * (unit == units + 2 ? 1000000 : 1024) / parts",
            )],
            caught_by: &["memory-notation", "limits"],
        },
        Wrong {
            name: "processors_are_not_limited",
            step: 3,
            edits: &[("    if (options.cpus)\n", "    if (false)\n")],
            caught_by: &["cpu", "limits", "controllers"],
        },
    ],
    &[Wrong {
        name: "limits_come_after_the_command",
        step: 3,
        edits: &[
            ("        set_limits();\n", ""),
            (
                "    int status = wait_for(own.child, &signals);\n",
                "    sleep(5);\n    set_limits();\n    \
                 int status = wait_for(own.child, &signals);\n",
            ),
        ],
        caught_by: &["first-instruction"],
    }],
    &[Wrong {
        name: "it_joins_its_cgroup_after_the_command",
        step: 3,
        edits: &[
            ("    join_cgroup(own.child);\n", ""),
            (
                "    int status = wait_for(own.child, &signals);\n",
                "    sleep(5);\n    join_cgroup(own.child);\n    \
                 int status = wait_for(own.child, &signals);\n",
            ),
        ],
        caught_by: &["first-instruction"],
    }],
];

/// Step 5's leaf and story, each with one file that is otherwise.
pub const IN_RUST: &[(&str, Wrong)] = &[
    (
        "src/layer.rs",
        Wrong {
            name: "a_whiteout_is_ignored",
            step: 5,
            edits: &[(
                "Purpose::Hide(hidden) => self.hide(dir, hidden)",
                "Purpose::Hide(_) => Ok(())",
            )],
            caught_by: &["whiteout", "image-student"],
        },
    ),
    (
        "src/layer.rs",
        Wrong {
            name: "an_opaque_directory_is_not",
            step: 5,
            edits: &[(
                "Purpose::Cover => self.cover(dir)",
                "Purpose::Cover => Ok(())",
            )],
            caught_by: &["opaque"],
        },
    ),
    (
        "src/import.rs",
        Wrong {
            name: "a_digest_is_not_checked",
            step: 5,
            edits: &[("stated == blob.digest,", "stated == stated,")],
            caught_by: &["digest"],
        },
    ),
    (
        "src/inside.rs",
        Wrong {
            name: "a_layer_writes_outside_through_a_link",
            step: 5,
            edits: &[(
                "ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS",
                "ResolveFlags::NO_MAGICLINKS",
            )],
            caught_by: &["traversal"],
        },
    ),
    (
        "src/invocation.rs",
        Wrong {
            name: "the_entrypoint_is_ignored",
            step: 5,
            edits: &[("None => own(&self.entrypoint),", "None => Vec::new(),")],
            caught_by: &["command"],
        },
    ),
    (
        "src/invocation.rs",
        Wrong {
            name: "cmd_follows_although_there_are_arguments",
            step: 5,
            edits: &[(
                "if args.is_empty() && entrypoint.is_none()",
                "if entrypoint.is_none()",
            )],
            caught_by: &["command"],
        },
    ),
    (
        "src/user.rs",
        Wrong {
            name: "a_user_by_name_is_root",
            step: 5,
            edits: &[
                ("entry.name == user || number(user)", "number(user)"),
                (
                    "(None, None) => bail!(\"unable to find user {user}: no matching entries in passwd file\"),",
                    "(None, None) => (0, 0, \"/\"),",
                ),
            ],
            caught_by: &["user"],
        },
    ),
    (
        "src/run.rs",
        Wrong {
            name: "the_images_user_is_ignored",
            step: 5,
            edits: &[("wanted.unwrap_or(&config.user)", "wanted.unwrap_or(\"\")")],
            caught_by: &["user"],
        },
    ),
    (
        "src/run.rs",
        Wrong {
            name: "the_images_environment_is_ignored",
            step: 5,
            edits: &[(
                "env.iter().chain(&options.env)",
                "env.iter().take(0).chain(&options.env)",
            )],
            caught_by: &["env"],
        },
    ),
    (
        "src/run.rs",
        Wrong {
            name: "the_images_directory_is_ignored",
            step: 5,
            edits: &[(
                "unwrap_or_else(|| config.cwd())",
                "unwrap_or_else(|| \"/\".into())",
            )],
            caught_by: &["workdir"],
        },
    ),
    (
        "src/overlay.rs",
        Wrong {
            name: "layers_are_stacked_upside_down",
            step: 5,
            edits: &[("lower.iter().rev().enumerate()", "lower.iter().enumerate()")],
            caught_by: &["layers"],
        },
    ),
    (
        "src/container.rs",
        Wrong {
            name: "containers_share_what_they_write",
            step: 5,
            edits: &[
                (
                    "upper: dir.join(\"upper\")",
                    "upper: dir.join(\"../../containers-share\")",
                ),
                (
                    ".and_then(|()| scratch::open_directory(&dir.join(\"upper\")));",
                    ".and_then(|()| match dir.join(\"../../containers-share\") {\n            \
                     share if share.exists() => Ok(()),\n            \
                     share => scratch::open_directory(&share),\n        });",
                ),
                (
                    "work: dir.join(\"work\")",
                    "work: dir.join(\"../../containers-work\")",
                ),
                (
                    ".and_then(|()| private_directory(&dir.join(\"work\")))",
                    ".and_then(|()| private_directory(&dir.join(\"../../containers-work\")).or(Ok(())))",
                ),
            ],
            caught_by: &["writes"],
        },
    ),
];
