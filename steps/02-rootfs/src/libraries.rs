//! What a program of the host cannot start without: its ELF interpreter and its shared libraries.
//!
//! ```text
//! ls          PT_INTERP  /lib64/ld-linux-x86-64.so.2   opened by the kernel, at this very path
//!             DT_NEEDED  libselinux.so.1 libc.so.6     looked for by the interpreter: ld.so(8)
//! libselinux  DT_NEEDED  libpcre2-8.so.0               … and so on, each name once
//! ```
//!
//! The files are read and nothing is run: `ldd` may start the program that it is asked about.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use elf::endian::AnyEndian;
use elf::file::Class;
use elf::segment::ProgramHeader;
use elf::string_table::StringTable;
use elf::{ElfBytes, ParseError, abi};

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
        let default = ["/lib", "/usr/lib"].map(|lib| Path::new(lib).join(&multiarch));
        let plain =
            ["/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib"].map(PathBuf::from);
        Self {
            configured: configured(Path::new("/etc/ld.so.conf"), 0),
            default: default.into_iter().chain(plain).collect(),
        }
    }

    /// The interpreter and the libraries of `program`, at any depth; nothing for a static one and
    /// for a shell script.
    ///
    /// # Errors
    /// `program` cannot be read, is neither ELF nor a script for /bin/sh, or needs a library that
    /// is nowhere.
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
        let real = interpreter.canonicalize();
        let real = real.with_context(|| format!("find {}", interpreter.display()))?;
        let home = real.parent().unwrap_or(Path::new("/"));
        let mut seen = BTreeSet::from([interpreter.file_name().unwrap_or_default().to_owned()]);
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
                        "{} needs {}, which is nowhere",
                        program.display(),
                        name.display()
                    );
                };
                if name == "libc.so.6" {
                    library.needed.extend(OPENED_BY_LIBC.map(OsString::from));
                }
                if self
                    .configured
                    .iter()
                    .any(|place| path.parent() == Some(place))
                {
                    needed.links.push((home.join(name), path.clone()));
                }
                library.rpath.extend(object.rpath.iter().cloned());
                needed.files.push(path);
                waiting.push_back(library);
            }
        }
        Ok(needed)
    }

    /// Looks for `name` in the order of ld.so(8); a library for another machine is passed over.
    fn find(&self, name: &OsStr, wanted_by: &Object, home: &Path) -> Option<(PathBuf, Object)> {
        let inherited = if wanted_by.runpath.is_empty() {
            &wanted_by.rpath[..]
        } else {
            &[]
        };
        let own = wanted_by.runpath.iter().chain(inherited);
        let places = own
            .chain(&self.configured)
            .chain(&self.default)
            .map(PathBuf::as_path);
        // A name with a slash is a path: join() leaves an absolute one as it is.
        places.chain([home]).find_map(|place| {
            let path = place.join(name);
            let library = Object::read(&path).ok()?;
            (library.machine == wanted_by.machine).then_some((path, library))
        })
    }
}

impl Object {
    /// Reads the program headers and the dynamic section of the file at `path`: elf(5).
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
        let entries: Vec<_> = elf
            .dynamic()?
            .into_iter()
            .flat_map(|table| table.iter())
            .collect();
        let table = entries.iter().find(|entry| entry.d_tag == abi::DT_STRTAB);
        let table = table.and_then(|table| loaded_at(&bytes, &segments, table.d_ptr()));
        let strings = StringTable::new(table.unwrap_or_default());
        let values = |tag| entries.iter().filter(move |entry| entry.d_tag == tag);
        let texts = |tag| values(tag).map(|entry| strings.get_raw(usize::try_from(entry.d_val())?));
        let origin = path.parent().unwrap_or(Path::new("/"));
        let search_path = |tag| -> Result<Vec<PathBuf>, ParseError> {
            let paths: Vec<_> = texts(tag).collect::<Result<_, _>>()?;
            Ok(paths
                .iter()
                .flat_map(|path| directories(path, origin))
                .collect())
        };
        let runpath = search_path(abi::DT_RUNPATH)?;
        Ok(Self {
            machine: (elf.ehdr.class, elf.ehdr.e_machine),
            interpreter: interpreter
                .map(|path| text(path.strip_suffix(b"\0").unwrap_or(path)).into()),
            needed: texts(abi::DT_NEEDED)
                .map(|name| name.map(text))
                .collect::<Result<_, _>>()?,
            rpath: if runpath.is_empty() {
                search_path(abi::DT_RPATH)?
            } else {
                Vec::new()
            },
            runpath,
        })
    }
}

/// The part of the file that begins with what will be at `address` in memory.
fn loaded_at<'a>(bytes: &'a [u8], segments: &[ProgramHeader], address: u64) -> Option<&'a [u8]> {
    let mut loaded = segments
        .iter()
        .filter(|segment| segment.p_type == abi::PT_LOAD);
    let offset = loaded.find_map(|segment| {
        let within = address
            .checked_sub(segment.p_vaddr)
            .filter(|at| *at < segment.p_filesz)?;
        within.checked_add(segment.p_offset)
    });
    bytes.get(usize::try_from(offset?).ok()?..)
}

fn text(bytes: &[u8]) -> OsString {
    OsString::from_vec(bytes.to_vec())
}

/// Splits a RUNPATH; `$ORIGIN` stands for the directory of the file that holds it.
fn directories(value: &[u8], origin: &Path) -> Vec<PathBuf> {
    let expand = |part: &[u8]| {
        let tokens = [&b"$ORIGIN"[..], b"${ORIGIN}"];
        let Some(rest) = tokens.iter().find_map(|token| part.strip_prefix(*token)) else {
            return PathBuf::from(text(part));
        };
        PathBuf::from(text(&[origin.as_os_str().as_bytes(), rest].concat()))
    };
    let parts = value.split(|byte| *byte == b':');
    parts.filter(|part| !part.is_empty()).map(expand).collect()
}

/// A script that needs no interpreter but the shell, which every rootfs has.
fn is_shell_script(program: &Path) -> Result<bool> {
    let mut head = Vec::new();
    let file = File::open(program).and_then(|file| file.take(64).read_to_end(&mut head));
    file.with_context(|| format!("read {}", program.display()))?;
    let interpreter = head.strip_prefix(b"#!").map(<[u8]>::trim_ascii_start);
    Ok(interpreter.is_some_and(|path| path.starts_with(b"/bin/sh")))
}

/// The directories that a file like ld.so.conf names, and those of the files that it includes:
/// ldconfig(8).
fn configured(file: &Path, depth: u8) -> Vec<PathBuf> {
    // A file may include itself.
    if depth > 8 {
        return Vec::new();
    }
    let mut places = Vec::new();
    for line in fs::read(file)
        .unwrap_or_default()
        .split(|byte| *byte == b'\n')
    {
        match setting(line) {
            Some(Setting::Directory(place)) => places.push(place),
            Some(Setting::Include(pattern)) => {
                let files = matching(&file.with_file_name(pattern));
                places.extend(files.iter().flat_map(|file| configured(file, depth + 1)));
            }
            None => {}
        }
    }
    places
}

#[derive(Debug, PartialEq)]
enum Setting {
    Directory(PathBuf),
    Include(PathBuf),
}

/// One line of ld.so.conf.
fn setting(line: &[u8]) -> Option<Setting> {
    let line = line.split(|byte| *byte == b'#').next()?.trim_ascii();
    if let Some(pattern) = line.strip_prefix(b"include") {
        let blank = pattern.first().is_some_and(u8::is_ascii_whitespace);
        return blank.then(|| Setting::Include(text(pattern.trim_ascii()).into()));
    }
    line.starts_with(b"/")
        .then(|| Setting::Directory(text(line).into()))
}

/// The files that a pattern with at most one `*`, in its last part, stands for, sorted by name.
fn matching(pattern: &Path) -> Vec<PathBuf> {
    let name = pattern.file_name().unwrap_or_default().as_bytes();
    let mut parts = name.splitn(2, |byte| *byte == b'*');
    let (Some(start), Some(end)) = (parts.next(), parts.next()) else {
        return vec![pattern.to_path_buf()];
    };
    let fits = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().as_bytes();
        name.strip_prefix(start)
            .is_some_and(|rest| rest.ends_with(end))
    };
    let entries = pattern.parent().map(fs::read_dir).into_iter().flatten();
    let entries = entries.flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<_> = entries.filter(fits).collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origin_is_the_directory_of_the_file_that_names_it() {
        let path = directories(
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
