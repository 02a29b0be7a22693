use std::fs;
use std::path::PathBuf;

use super::files::{Files, Next, opened};

/// A log in a directory that goes with the test.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let place = std::env::temp_dir().join(format!("logs-{name}-{}", std::process::id()));
        fs::create_dir_all(&place).expect("make a directory");
        Place(place)
    }

    fn log(&self, end: &str) -> PathBuf {
        self.0.join(format!("log{end}"))
    }

    fn write(&self, end: &str, text: &str) {
        fs::write(self.log(end), text).expect("write a log");
    }

    fn append(&self, text: &str) {
        use std::io::Write;
        let mut file = fs::File::options()
            .append(true)
            .create(true)
            .open(self.log(""))
            .expect("open a log");
        file.write_all(text.as_bytes()).expect("append to a log");
    }

    fn rotate(&self) {
        let _ = fs::rename(self.log(".1"), self.log(".2"));
        fs::rename(self.log(""), self.log(".1")).expect("put a log aside");
    }

    fn open(&self, tail: Option<u64>) -> Files {
        Files::open(&self.log(""), tail).expect("open a log")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What is there now; what is no line stands as `…`.
fn rest(files: &mut Files) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        match files.next().expect("read a log") {
            Next::Line(line) => lines.push(String::from_utf8_lossy(line).into_owned()),
            Next::Damaged => lines.push("…".to_owned()),
            Next::End(_) => return lines,
        }
    }
}

#[test]
fn files_are_read_as_one_the_oldest_first() {
    let place = Place::new("order");
    place.write(".2", "a\nb\n");
    place.write(".1", "c\n");
    place.write("", "d\ne\nhalf");
    assert_eq!(rest(&mut place.open(None)), ["a", "b", "c", "d", "e"]);
    assert!(rest(&mut Place::new("none").open(None)).is_empty());
}

#[test]
fn a_log_that_is_just_put_aside_is_read_whole() {
    let place = Place::new("aside");
    // As each rename of it leaves them.
    for ends in [["", ".1", ".3"], ["", ".2", ".3"], [".1", ".2", ".3"]] {
        for (end, text) in ends.iter().zip(["c\n", "b\n", "a\n"]) {
            place.write(end, text);
        }
        assert_eq!(rest(&mut place.open(None)), ["a", "b", "c"], "{ends:?}");
        for end in ends {
            fs::remove_file(place.log(end)).expect("remove a log");
        }
    }
}

#[test]
fn a_log_that_is_put_aside_twice_meanwhile_is_read_whole() {
    let place = Place::new("twice");
    // The second of three renames is to come.
    for (end, text) in ["", ".1", ".3"].iter().zip(["c\n", "b\n", "a\n"]) {
        place.write(end, text);
    }
    let mut meanwhile = Some(|| {
        for (from, to) in [(".1", ".2"), ("", ".1"), (".3", ".4")] {
            fs::rename(place.log(from), place.log(to)).expect("put a log aside");
        }
        place.write("", "d\n");
    });
    let files = opened(&place.log(""), &mut |path| {
        if path.extension().is_some_and(|number| number == "3")
            && let Some(meanwhile) = meanwhile.take()
        {
            meanwhile();
        }
        fs::File::open(path)
    });
    let texts = files.expect("open the files").into_iter();
    let texts: Vec<String> = texts
        .map(|file| std::io::read_to_string(file).expect("read a log"))
        .collect();
    assert_eq!(texts, ["a\n", "b\n", "c\n", "d\n"]);
}

#[test]
fn the_last_lines_are_found_from_behind() {
    let place = Place::new("tail");
    place.write(".2", "a\nb\n");
    place.write(".1", "c\n");
    place.write("", "d\ne\nhalf");
    let all = ["a", "b", "c", "d", "e"];
    for tail in 0..8 {
        let lines = rest(&mut place.open(Some(tail as u64)));
        assert_eq!(lines, all[5 - tail.min(5)..], "of {tail}");
    }
    let long = Place::new("tail-long");
    let lines: Vec<String> = (0..50_000).map(|n| format!("line {n}")).collect();
    long.write("", &(lines.join("\n") + "\n"));
    for tail in [1, 7000, 49_999, 50_000, 60_000] {
        let begin = lines.len().saturating_sub(tail);
        assert!(
            rest(&mut long.open(Some(tail as u64))) == lines[begin..],
            "of {tail}"
        );
    }
}

#[test]
fn a_follower_reads_on_in_the_next_file() {
    let place = Place::new("follow");
    place.append("a\nb");
    let mut files = place.open(None);
    assert_eq!(rest(&mut files), ["a"]);
    place.append("b\n");
    place.rotate();
    place.append("c\n");
    place.rotate();
    place.append("d\n");
    assert_eq!(rest(&mut files), ["bb", "c", "d"]);
    // Between a file's being put aside and the next one's first line.
    place.rotate();
    assert!(rest(&mut files).is_empty());
    place.append("e\n");
    assert_eq!(rest(&mut files), ["e"]);
}

#[test]
fn a_follower_whose_file_is_gone_goes_on_with_the_oldest() {
    let place = Place::new("gone");
    place.append("a\n");
    let mut files = place.open(None);
    assert_eq!(rest(&mut files), ["a"]);
    for line in ["b\n", "c\n", "d\n", "e\n"] {
        place.rotate();
        place.append(line);
    }
    assert_eq!(rest(&mut files), ["c", "d", "e"]);
}

#[test]
fn a_log_that_was_cut_off_is_read_from_its_beginning() {
    let place = Place::new("cut");
    place.append("a long line\nhalf of");
    let mut files = place.open(None);
    assert_eq!(rest(&mut files), ["a long line"]);
    place.write("", "b\n");
    assert_eq!(rest(&mut files), ["b"]);
}

#[test]
fn what_is_longer_than_any_line_is_passed_over() {
    let place = Place::new("overlong");
    place.append("a\n");
    place.append(&"x".repeat(1 << 20));
    place.append("\nb\n");
    assert_eq!(rest(&mut place.open(None)), ["a", "…", "b"]);
}

#[test]
fn a_line_does_not_go_on_in_the_next_file() {
    let place = Place::new("torn");
    place.write(".1", "a\nhalf");
    place.write("", "b\n");
    assert_eq!(rest(&mut place.open(None)), ["a", "…", "b"]);
}
