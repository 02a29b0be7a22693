//! What a program of the host cannot start without: its ELF interpreter and its shared libraries.
//!
//! ```text
//! /usr/bin/ls   PT_INTERP  /lib64/ld-linux-x86-64.so.2      opened by the kernel, at this very path
//!               DT_NEEDED  libselinux.so.1, libc.so.6       looked for by the interpreter: ld.so(8)
//! libselinux    DT_NEEDED  libpcre2-8.so.0                  … and so on, each name once
//! ```
//!
//! The files are read and nothing is run: `ldd` would start the program that it is asked about.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use elf::string_table::StringTable;
use elf::{ElfBytes, abi, endian::AnyEndian, file::Class};

/// By these, glibc up to 2.33 looks up users and hosts; no DT_NEEDED names them.
const OPENED_BY_LIBC: [&str; 2] = ["libnss_files.so.2", "libnss_dns.so.2"];

/// Where this host keeps its libraries.
pub(crate) struct Libraries {
    configured: Vec<PathBuf>,
    default: Vec<PathBuf>,
}

/// What has to be there before a program starts.
#[derive(Default)]
pub(crate) struct Needed {
    /// The interpreter and the libraries, by the paths under which they are opened.
    pub files: Vec<PathBuf>,
    /// Links `(at, to)` to what is found through `/etc/ld.so.cache`, which the copy has not.
    pub links: Vec<(PathBuf, PathBuf)>,
}

/// The few lines of an ELF file that ld.so(8) goes by.
#[derive(Debug)]
struct Object {
    machine: (Class, u16),
    interpreter: Option<PathBuf>,
    needed: Vec<OsString>,
    /// Where this object's own names are looked for first.
    runpath: Vec<PathBuf>,
    /// The older way, which its libraries inherit; without effect beside a runpath.
    rpath: Vec<PathBuf>,
}

impl Libraries {
    /// Reads `/etc/ld.so.conf` and what it includes; musl and NixOS have the defaults only.
    pub fn of_host() -> Self {
        let multiarch = format!("{}-linux-gnu", std::env::consts::ARCH);
        let default = ["/lib", "/usr/lib"]
            .iter()
            .map(|lib| Path::new(lib).join(&multiarch));
        let plain = ["/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib"];
        Self {
            configured: configured(Path::new("/etc/ld.so.conf"), 0),
            default: default.chain(plain.iter().map(PathBuf::from)).collect(),
        }
    }

    /// The interpreter and the libraries of `program`, at any depth; nothing for a static one and
    /// for a shell script.
    ///
    /// # Errors
    /// `program` cannot be read, is neither ELF nor a script for /bin/sh, or needs a library that is
    /// nowhere.
    pub fn needed_by(&self, program: &Path) -> Result<Needed> {
        let mut needed = Needed::default();
        if is_shell_script(program)? {
            return Ok(needed);
        }
        // $ORIGIN of a program is the directory of the file itself, not of a link to it.
        let object = Object::read(&program.canonicalize()?)?;
        let Some(interpreter) = object.interpreter.clone() else {
            return Ok(needed);
        };
        let real = interpreter
            .canonicalize()
            .with_context(|| format!("find {}", interpreter.display()))?;
        let home = real.parent().unwrap_or(Path::new("/"));
        let mut seen: BTreeSet<OsString> = interpreter
            .file_name()
            .map(OsString::from)
            .into_iter()
            .collect();
        needed.files.push(interpreter);
        let mut waiting = VecDeque::from([object]);
        while let Some(object) = waiting.pop_front() {
            for name in object
                .needed
                .iter()
                .filter(|name| seen.insert((*name).clone()))
            {
                let Some((path, mut library)) = self.find(name, &object, home) else {
                    if OPENED_BY_LIBC.iter().any(|opened| name == opened) {
                        continue;
                    }
                    bail!(
                        "{} needs {}, which is nowhere here",
                        program.display(),
                        name.display()
                    );
                };
                if name == "libc.so.6" {
                    library.needed.extend(OPENED_BY_LIBC.map(OsString::from));
                }
                if path
                    .parent()
                    .is_some_and(|at| self.configured.iter().any(|dir| dir == at))
                {
                    needed.links.push((home.join(name), path.clone()));
                }
                library.rpath.extend(object.rpath.iter().cloned());
                waiting.push_back(library);
                needed.files.push(path);
            }
        }
        Ok(needed)
    }

    /// Looks for `name` in the order of ld.so(8); a library for another machine is passed over.
    fn find(&self, name: &OsStr, wanted_by: &Object, home: &Path) -> Option<(PathBuf, Object)> {
        let own = if wanted_by.runpath.is_empty() {
            &wanted_by.rpath
        } else {
            &wanted_by.runpath
        };
        let directories = own.iter().chain(&self.configured).chain(&self.default);
        // A name with a slash is a path: join() leaves an absolute one as it is.
        directories
            .map(PathBuf::as_path)
            .chain([home])
            .find_map(|directory| {
                let path = directory.join(name);
                let library = Object::read(&path).ok()?;
                (library.machine == wanted_by.machine).then_some((path, library))
            })
    }
}

impl Object {
    /// Reads the dynamic section of the file at `path`: elf(5), "Dynamic tags".
    fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("read {}", path.display()))?;
        let elf = ElfBytes::<AnyEndian>::minimal_parse(&bytes)
            .with_context(|| format!("{} is not an ELF file", path.display()))?;
        let segments: Vec<_> = elf.segments().into_iter().flatten().collect();
        let interpreter = segments
            .iter()
            .find(|segment| segment.p_type == abi::PT_INTERP);
        let interpreter = interpreter
            .map(|segment| elf.segment_data(segment))
            .transpose()?;
        let mut object = Self {
            machine: (elf.ehdr.class, elf.ehdr.e_machine),
            interpreter: interpreter.map(|path| PathBuf::from(until_nul(path))),
            needed: Vec::new(),
            runpath: Vec::new(),
            rpath: Vec::new(),
        };
        let entries: Vec<_> = elf
            .dynamic()?
            .into_iter()
            .flat_map(|table| table.iter())
            .collect();
        // The table of strings is named by its address in memory: which part of the file is loaded there?
        let strings = entries
            .iter()
            .find(|entry| entry.d_tag == abi::DT_STRTAB)
            .and_then(|entry| {
                segments
                    .iter()
                    .filter(|segment| segment.p_type == abi::PT_LOAD)
                    .find_map(|segment| {
                        let within = entry
                            .d_ptr()
                            .checked_sub(segment.p_vaddr)
                            .filter(|at| *at < segment.p_filesz)?;
                        bytes.get(usize::try_from(within.checked_add(segment.p_offset)?).ok()?..)
                    })
            });
        let strings = StringTable::new(strings.unwrap_or_default());
        let origin = path.parent().unwrap_or(Path::new("/"));
        for entry in entries {
            match entry.d_tag {
                abi::DT_NEEDED => object
                    .needed
                    .push(text(strings.get_raw(entry.d_val() as usize)?)),
                abi::DT_RUNPATH => {
                    object.runpath = search_path(strings.get_raw(entry.d_val() as usize)?, origin);
                }
                abi::DT_RPATH => {
                    object.rpath = search_path(strings.get_raw(entry.d_val() as usize)?, origin);
                }
                _ => {}
            }
        }
        if !object.runpath.is_empty() {
            object.rpath.clear();
        }
        Ok(object)
    }
}

fn text(bytes: &[u8]) -> OsString {
    OsString::from_vec(bytes.to_vec())
}

fn until_nul(bytes: &[u8]) -> OsString {
    text(bytes.split(|byte| *byte == 0).next().unwrap_or_default())
}

/// Splits a RUNPATH; `$ORIGIN` stands for the directory of the file that holds it.
fn search_path(value: &[u8], origin: &Path) -> Vec<PathBuf> {
    let expand = |part: &[u8]| {
        let rest = [&b"$ORIGIN"[..], b"${ORIGIN}"]
            .iter()
            .find_map(|token| part.strip_prefix(*token));
        rest.map_or_else(
            || PathBuf::from(text(part)),
            |rest| {
                PathBuf::from(
                    [origin.as_os_str(), OsStr::from_bytes(rest)]
                        .into_iter()
                        .collect::<OsString>(),
                )
            },
        )
    };
    value
        .split(|byte| *byte == b':')
        .filter(|part| !part.is_empty())
        .map(expand)
        .collect()
}

/// A script that needs no interpreter but the shell, which every rootfs has.
fn is_shell_script(program: &Path) -> Result<bool> {
    let mut head = Vec::new();
    File::open(program)
        .and_then(|file| file.take(64).read_to_end(&mut head))
        .with_context(|| format!("read {}", program.display()))?;
    let first = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(first
        .strip_prefix(b"#!")
        .is_some_and(|shell| shell.trim_ascii().starts_with(b"/bin/sh")))
}

/// The directories of an ld.so.conf(5)-like file and, `depth` deep in it, of the files that it includes.
fn configured(file: &Path, depth: u8) -> Vec<PathBuf> {
    let text = fs::read(file).unwrap_or_default();
    let here = file.parent().unwrap_or(Path::new("/etc"));
    let mut directories = Vec::new();
    for line in text.split(|byte| *byte == b'\n') {
        match setting(line) {
            // A file may include itself.
            Some(Setting::Include(pattern)) if depth < 8 => {
                directories.extend(
                    matching(&here.join(pattern))
                        .iter()
                        .flat_map(|file| configured(file, depth + 1)),
                );
            }
            Some(Setting::Directory(directory)) => directories.push(directory),
            _ => {}
        }
    }
    directories
}

#[derive(Debug, PartialEq)]
enum Setting {
    Directory(PathBuf),
    Include(PathBuf),
}

/// One line of ld.so.conf: see ldconfig(8).
fn setting(line: &[u8]) -> Option<Setting> {
    let line = line.split(|byte| *byte == b'#').next()?.trim_ascii();
    if let Some(pattern) = line
        .strip_prefix(b"include")
        .filter(|rest| rest.starts_with(b" ") || rest.starts_with(b"\t"))
    {
        return Some(Setting::Include(PathBuf::from(text(pattern.trim_ascii()))));
    }
    line.starts_with(b"/")
        .then(|| Setting::Directory(PathBuf::from(text(line))))
}

/// The files that a pattern with at most one `*`, in its last part, stands for, sorted by name.
fn matching(pattern: &Path) -> Vec<PathBuf> {
    let (Some(directory), Some(name)) = (pattern.parent(), pattern.file_name()) else {
        return Vec::new();
    };
    let name = name.as_bytes();
    let Some(star) = name.iter().position(|byte| *byte == b'*') else {
        return vec![pattern.to_path_buf()];
    };
    let (start, end) = (
        name.get(..star).unwrap_or_default(),
        name.get(star + 1..).unwrap_or_default(),
    );
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let fits = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().as_bytes();
        name.strip_prefix(start)
            .is_some_and(|rest| rest.ends_with(end))
    };
    let mut files: Vec<_> = entries.map(|entry| entry.path()).filter(fits).collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origin_is_the_directory_of_the_file_that_names_it() {
        let path = search_path(
            b"$ORIGIN/../lib:${ORIGIN}:/opt/lib:",
            Path::new("/opt/x/bin"),
        );
        let expected = ["/opt/x/bin/../lib", "/opt/x/bin", "/opt/lib"].map(PathBuf::from);
        assert_eq!(path, expected);
    }

    #[test]
    fn a_line_of_ld_so_conf_is_a_directory_an_include_or_nothing() {
        let directory = Some(Setting::Directory("/usr/local/lib".into()));
        assert_eq!(setting(b"  /usr/local/lib  # own builds"), directory);
        let include = Some(Setting::Include("ld.so.conf.d/*.conf".into()));
        assert_eq!(setting(b"include\tld.so.conf.d/*.conf"), include);
        for nothing in [&b""[..], b"# /lib", b"hwcap 0 nosegneg", b"included /x"] {
            assert_eq!(setting(nothing), None);
        }
    }

    #[test]
    fn a_pattern_stands_for_the_files_that_fit_it() {
        assert_eq!(
            matching(Path::new("/etc/ld.so.conf")),
            [PathBuf::from("/etc/ld.so.conf")]
        );
        assert!(matching(Path::new("/nowhere/*.conf")).is_empty());
    }

    #[test]
    fn a_program_that_is_no_elf_file_is_an_error_and_no_panic() {
        let error = Object::read(Path::new("/proc/self/status")).expect_err("it is text");
        assert!(format!("{error:#}").contains("not an ELF file"));
    }
}
