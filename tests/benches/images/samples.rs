//! Images to be measured with: programs and texts out of /usr, and a fifth that is noise, as
//! pictures and archives are. They are made once, and kept in the target directory.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// An image of `layers` layers of `mib` MiB each, before they are compressed.
#[derive(Clone, Copy)]
pub struct Sample {
    /// In the registry, and of its archive.
    pub name: &'static str,
    pub layers: u64,
    pub mib: u64,
}

/// One layer.
pub const ONE: Sample = Sample {
    name: "one",
    layers: 1,
    mib: 200,
};

/// The same amount in many.
pub const MANY: Sample = Sample {
    name: "many",
    layers: 20,
    mib: 10,
};

/// What must not fill the memory.
pub const LARGE: Sample = Sample {
    name: "large",
    layers: 1,
    mib: 1024,
};

/// All that are made.
pub fn all() -> [Sample; 3] {
    [ONE, MANY, LARGE]
}

impl Sample {
    /// The least that a store must hold that has it, in MiB.
    pub fn least(&self) -> u64 {
        self.layers * self.mib * 9 / 10
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {} MiB", self.layers, self.mib)
    }
}

/// Adds the image $1 of $2 layers of $3 MiB to the layout, and saves it as docker does.
///
/// Directories come in an order that only looks like chance, so that each layer has some of
/// everything; when all have had their turn, they come again under another name.
const MAKE: &str = r#"set -eu
[ -e layout/oci-layout ] || umoci init --layout layout
[ -e files ] || find /usr -xdev -type f -size -8192k -readable -printf '%s\t%h\t%f\n' |
    awk -F '\t' '
        NF == 3 && !($2 in order) { order[$2] = (++directories * 7919) % 100003 }
        NF == 3 { print order[$2] "\t" $0 }' |
    sort -t "$(printf '\t')" -k 1n -k 3 -k 4 >files
umoci new --image "layout:$1"
nth=0
while [ $nth -lt $2 ]; do
    # Where this layer's files begin, in the list repeated for ever; each after its directories.
    awk -F '\t' -v first=$((nth * $3 * 838861)) -v bytes=$(($3 * 838861)) '
        { size[NR] = $2; dir[NR] = $3; name[NR] = $4 }
        function enter(turn, path, parent) {
            if (path == "" || (turn, path) in entered) return
            parent = path; sub("/[^/]*$", "", parent)
            enter(turn, parent)
            entered[turn, path] = 1
            print turn "\t" path
        }
        END {
            for (nth = 0; at < first + bytes && NR; nth++) {
                turn = int(nth / NR); file = nth % NR + 1
                if (at >= first) {
                    enter(turn, dir[file])
                    print turn "\t" dir[file] "/" name[file]
                }
                # A header, and what fills the last block.
                at += int((size[file] + 1535) / 512) * 512
            }
        }' files >chosen
    for turn in $(cut -f 1 chosen | sort -nu); do
        awk -F '\t' -v turn="$turn" '$1 == turn { print $2 }' chosen |
            tar --create --no-recursion --absolute-names --transform "s,^/usr,usr$turn," \
                --hard-dereference --numeric-owner --files-from - --file part.tar
        if [ -e layer.tar ]; then
            tar --concatenate --file layer.tar part.tar
        else
            mv part.tar layer.tar
        fi
    done
    mkdir noise
    head -c $(($3 * 209715)) /dev/urandom | split -a 5 -b 40k - noise/
    tar --append --file layer.tar --numeric-owner noise
    umoci raw add-layer --image "layout:$1" layer.tar
    rm -rf noise layer.tar part.tar
    nth=$((nth + 1))
done
skopeo --insecure-policy copy --quiet "oci:layout:$1" "docker-archive:part.tar:bench-$1:latest"
mv part.tar "$1.tar"
"#;

/// Makes what is missing; returns the directory with the layout `layout` and an archive of each.
pub fn make(scratch: &Path) -> Result<PathBuf> {
    let dir = scratch.join("samples");
    let made = |sample: &Sample| dir.join(format!("{}.tar", sample.name)).exists();
    if all().iter().all(made) {
        return Ok(dir);
    }
    println!("making images in {} (once)", dir.display());
    super::remove(&dir)?;
    fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    for sample in all() {
        let Sample { name, layers, mib } = &sample;
        let mut sh = Command::new("sh");
        sh.args(["-c", MAKE, "sh", name])
            .args([layers.to_string(), mib.to_string()])
            .current_dir(&dir)
            .env("TMPDIR", &dir);
        let output = sh.output().context("run sh")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "make the image of {sample}: {}",
            said.trim()
        );
    }
    Ok(dir)
}
