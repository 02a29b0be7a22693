//! The options of a mount (runtime-spec, config.md, "Linux mount options").

use anyhow::{Result, bail, ensure};
use nix::mount::MsFlags;
use rootfs::Attributes;
use sys_mount::MountFlags;

/// What an option does to the flags of mount(2).
const FLAGS: [(&str, Does, libc::c_ulong); 34] = {
    use Does::{Clear, Set};
    [
        ("async", Clear, libc::MS_SYNCHRONOUS),
        ("atime", Clear, libc::MS_NOATIME),
        ("bind", Set, libc::MS_BIND),
        ("defaults", Set, 0),
        ("dev", Clear, libc::MS_NODEV),
        ("diratime", Clear, libc::MS_NODIRATIME),
        ("dirsync", Set, libc::MS_DIRSYNC),
        ("exec", Clear, libc::MS_NOEXEC),
        ("iversion", Set, libc::MS_I_VERSION),
        ("lazytime", Set, libc::MS_LAZYTIME),
        ("loud", Clear, libc::MS_SILENT),
        ("mand", Set, libc::MS_MANDLOCK),
        ("noatime", Set, libc::MS_NOATIME),
        ("nodev", Set, libc::MS_NODEV),
        ("nodiratime", Set, libc::MS_NODIRATIME),
        ("noexec", Set, libc::MS_NOEXEC),
        ("noiversion", Clear, libc::MS_I_VERSION),
        ("nolazytime", Clear, libc::MS_LAZYTIME),
        ("nomand", Clear, libc::MS_MANDLOCK),
        ("norelatime", Clear, libc::MS_RELATIME),
        ("nostrictatime", Clear, libc::MS_STRICTATIME),
        ("nosuid", Set, libc::MS_NOSUID),
        ("nosymfollow", Set, libc::MS_NOSYMFOLLOW),
        ("rbind", Set, libc::MS_BIND | libc::MS_REC),
        ("relatime", Set, libc::MS_RELATIME),
        ("remount", Set, libc::MS_REMOUNT),
        ("ro", Set, libc::MS_RDONLY),
        ("rw", Clear, libc::MS_RDONLY),
        ("silent", Set, libc::MS_SILENT),
        ("strictatime", Set, libc::MS_STRICTATIME),
        ("suid", Clear, libc::MS_NOSUID),
        ("symfollow", Clear, libc::MS_NOSYMFOLLOW),
        ("sync", Set, libc::MS_SYNCHRONOUS),
        ("tmpcopyup", Set, 0),
    ]
};

/// Changes that go for the mounts below it too.
const RECURSIVE: [(&str, Does, u64); 18] = {
    use Does::{Clear, Set};
    [
        ("ratime", Clear, libc::MOUNT_ATTR_NOATIME),
        ("rdev", Clear, libc::MOUNT_ATTR_NODEV),
        ("rdiratime", Clear, libc::MOUNT_ATTR_NODIRATIME),
        ("rexec", Clear, libc::MOUNT_ATTR_NOEXEC),
        ("rnoatime", Set, libc::MOUNT_ATTR_NOATIME),
        ("rnodev", Set, libc::MOUNT_ATTR_NODEV),
        ("rnodiratime", Set, libc::MOUNT_ATTR_NODIRATIME),
        ("rnoexec", Set, libc::MOUNT_ATTR_NOEXEC),
        ("rnorelatime", Clear, libc::MOUNT_ATTR_RELATIME),
        ("rnostrictatime", Clear, libc::MOUNT_ATTR_STRICTATIME),
        ("rnosuid", Set, libc::MOUNT_ATTR_NOSUID),
        ("rnosymfollow", Set, rootfs::MOUNT_ATTR_NOSYMFOLLOW),
        ("rrelatime", Set, libc::MOUNT_ATTR_RELATIME),
        ("rro", Set, libc::MOUNT_ATTR_RDONLY),
        ("rrw", Clear, libc::MOUNT_ATTR_RDONLY),
        ("rstrictatime", Set, libc::MOUNT_ATTR_STRICTATIME),
        ("rsuid", Clear, libc::MOUNT_ATTR_NOSUID),
        ("rsymfollow", Clear, rootfs::MOUNT_ATTR_NOSYMFOLLOW),
    ]
};

/// Who is told of mounts made later (mount_namespaces(7)).
const PROPAGATION: [(&str, MsFlags); 8] = [
    ("private", MsFlags::MS_PRIVATE),
    ("rprivate", MsFlags::MS_PRIVATE.union(MsFlags::MS_REC)),
    ("rshared", MsFlags::MS_SHARED.union(MsFlags::MS_REC)),
    ("rslave", MsFlags::MS_SLAVE.union(MsFlags::MS_REC)),
    ("runbindable", MsFlags::MS_UNBINDABLE.union(MsFlags::MS_REC)),
    ("shared", MsFlags::MS_SHARED),
    ("slave", MsFlags::MS_SLAVE),
    ("unbindable", MsFlags::MS_UNBINDABLE),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    Set,
    Clear,
}

/// A mount's options, sorted by who understands them.
#[derive(Debug)]
pub(crate) struct Options {
    /// Flags of mount(2).
    pub(crate) flags: MountFlags,
    /// Flags that are explicitly not wanted.
    cleared: MountFlags,
    /// For this mount and those below it.
    recursive: Attributes,
    pub(crate) propagation: MsFlags,
    pub(crate) copy_up: bool,
    /// Whether ids are mapped, and then whether those below are too.
    pub(crate) id_map: Option<bool>,
    /// What only the file system knows.
    pub(crate) data: Vec<String>,
}

impl Options {
    /// Reads `options`. Of two that contradict each other the later is taken.
    pub(crate) fn parse(options: &[String], field: &str) -> Result<Options> {
        let mut all = Options {
            flags: MountFlags::empty(),
            cleared: MountFlags::empty(),
            recursive: Attributes::default(),
            propagation: MsFlags::empty(),
            copy_up: false,
            id_map: None,
            data: Vec::new(),
        };
        for (index, option) in options.iter().enumerate() {
            ensure!(
                !option.contains('\0'),
                "{field}.options[{index}]: it has a NUL character in it"
            );
            all.take(option);
        }
        Ok(all)
    }

    fn take(&mut self, option: &str) {
        if let Some((_, does, bits)) = FLAGS.iter().find(|(name, ..)| *name == option) {
            self.take_flag(*does, MountFlags::from_bits_retain(*bits));
            self.copy_up |= option == "tmpcopyup";
        } else if let Some((_, does, bit)) = RECURSIVE.iter().find(|(name, ..)| *name == option) {
            self.recursive.all = true;
            change(&mut self.recursive, *does, *bit);
        } else if let Some(flags) = propagation(option) {
            self.propagation = flags;
        } else if ["idmap", "ridmap"].contains(&option) {
            self.id_map = Some(option == "ridmap");
        } else {
            self.data.push(option.to_owned());
        }
    }

    fn take_flag(&mut self, does: Does, flags: MountFlags) {
        let (to, from) = match does {
            Does::Set => (&mut self.flags, &mut self.cleared),
            Does::Clear => (&mut self.cleared, &mut self.flags),
        };
        to.insert(flags);
        from.remove(flags);
    }

    /// A bind shows a file system that has its options already.
    pub(crate) fn refuse_those_of_file_systems(&self, field: &str) -> Result<()> {
        for (name, does, bit) in FLAGS {
            let flag = MountFlags::from_bits_retain(bit);
            let own = OF_FILE_SYSTEM & bit != 0 && does == Does::Set;
            if own && self.flags.contains(flag) {
                bail!(
                    "{field}.options: {name} belongs to a file system, and a bind cannot change it"
                );
            }
        }
        // mount(8) keeps such words for other programs.
        match self.data.iter().find(|option| !option.starts_with("x-")) {
            Some(option) => bail!("{field}.options: {option:?} is no option of a bind"),
            None => Ok(()),
        }
    }

    /// What a bind has otherwise than its source. What is not mentioned stays:
    /// in a user namespace the kernel would refuse to undo it.
    pub(crate) fn of_bind(&self) -> Option<Attributes> {
        let mut attributes = Attributes::default();
        for (does, flags) in [(Does::Clear, self.cleared), (Does::Set, self.flags)] {
            for (flag, bit) in rootfs::OF_MOUNT {
                if flags.contains(MountFlags::from_bits_retain(flag)) {
                    change(&mut attributes, does, bit);
                }
            }
        }
        if self.flags.contains(MountFlags::RELATIME) {
            change(&mut attributes, Does::Set, libc::MOUNT_ATTR_RELATIME);
        }
        Some(attributes).filter(|some| *some != Attributes::default())
    }

    /// What goes for the mounts below it too.
    pub(crate) fn recursive(&self) -> Option<Attributes> {
        self.recursive.all.then_some(self.recursive)
    }
}

/// Flags that mount(2) takes, and that are not attributes of a mount.
const OF_FILE_SYSTEM: libc::c_ulong = libc::MS_SYNCHRONOUS
    | libc::MS_DIRSYNC
    | libc::MS_I_VERSION
    | libc::MS_LAZYTIME
    | libc::MS_MANDLOCK;

/// Sets or clears one attribute. Access times are one of four values in one
/// field, which is always cleared as a whole (mount_setattr(2)).
fn change(attributes: &mut Attributes, does: Does, bit: u64) {
    let is_time = bit & !libc::MOUNT_ATTR__ATIME == 0;
    let field = if is_time {
        libc::MOUNT_ATTR__ATIME
    } else {
        bit
    };
    match does {
        Does::Set => {
            attributes.set = attributes.set & !field | bit;
            attributes.clear = if is_time {
                attributes.clear | field
            } else {
                attributes.clear & !field
            };
        }
        Does::Clear => {
            attributes.set &= !field;
            attributes.clear |= field;
        }
    }
}

/// `private`, `rslave` and so on.
pub(crate) fn propagation(name: &str) -> Option<MsFlags> {
    let mut all = PROPAGATION.iter();
    all.find(|(known, _)| *known == name)
        .map(|(_, flags)| *flags)
}

/// What `features` lists.
pub(crate) fn known_options() -> Vec<&'static str> {
    let mut names: Vec<&str> = FLAGS.iter().map(|(name, ..)| *name).collect();
    names.extend(RECURSIVE.iter().map(|(name, ..)| *name));
    names.extend(PROPAGATION.iter().map(|(name, _)| *name));
    names.extend(["idmap", "ridmap"]);
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[&str]) -> Options {
        let options: Vec<String> = options.iter().map(ToString::to_string).collect();
        Options::parse(&options, "mounts[0]").unwrap()
    }

    #[test]
    fn of_two_options_that_contradict_each_other_the_later_is_taken() {
        assert!(!parse(&["ro", "rw"]).flags.contains(MountFlags::RDONLY));
        assert!(parse(&["rw", "ro"]).flags.contains(MountFlags::RDONLY));
        let recursive = parse(&["rro", "rrw"]).recursive().unwrap();
        assert_eq!(
            (recursive.set, recursive.clear),
            (0, libc::MOUNT_ATTR_RDONLY)
        );
    }

    #[test]
    fn a_bind_is_changed_in_nothing_that_is_not_mentioned() {
        assert_eq!(parse(&["rbind", "rprivate"]).of_bind(), None);
        let changed = parse(&["bind", "nosuid", "exec"]).of_bind().unwrap();
        assert_eq!(changed.set, libc::MOUNT_ATTR_NOSUID);
        assert_eq!(changed.clear, libc::MOUNT_ATTR_NOEXEC);
    }

    #[test]
    fn access_times_are_one_field_that_is_cleared_as_a_whole() {
        for (option, set) in [
            ("rnoatime", libc::MOUNT_ATTR_NOATIME),
            ("rstrictatime", libc::MOUNT_ATTR_STRICTATIME),
            ("rrelatime", 0),
            ("ratime", 0),
        ] {
            let recursive = parse(&[option]).recursive().unwrap();
            assert_eq!(recursive.set, set, "{option}");
            assert_eq!(recursive.clear, libc::MOUNT_ATTR__ATIME, "{option}");
        }
    }

    #[test]
    fn what_is_not_known_belongs_to_the_file_system() {
        assert_eq!(
            parse(&["ro", "size=1m", "huge=never"]).data,
            ["size=1m", "huge=never"]
        );
        assert!(
            parse(&["x-systemd.automount"])
                .refuse_those_of_file_systems("")
                .is_ok()
        );
        assert!(
            parse(&["size=1m"])
                .refuse_those_of_file_systems("")
                .is_err()
        );
    }

    #[test]
    fn every_known_option_is_known_once() {
        let mut names = known_options();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
