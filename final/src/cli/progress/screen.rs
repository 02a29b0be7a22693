//! The lines on a terminal that are drawn again where they stand.
//!
//! Between two drawings the cursor is below them at the beginning of a free line, and visible: a
//! Ctrl-C finds it where a shell wants it.

use std::collections::BTreeSet;

use images::Digest;

use super::line::line;
use minidocker::engine::images::Stage;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) rows: usize,
    pub(super) columns: usize,
}

/// What stands on the terminal.
#[derive(Default)]
pub(super) struct Screen {
    /// The lengths of the lines that can still be drawn over.
    drawn: Vec<usize>,
    /// The blobs whose last line has been printed, and may scroll away.
    settled: BTreeSet<Digest>,
}

impl Screen {
    /// What to write to the terminal so that it shows how far the blobs are. The `last` time all
    /// their lines are, otherwise as many as there is room for.
    pub(super) fn draw(&mut self, blobs: &[(Digest, Stage)], size: Size, last: bool) -> String {
        let mut live: Vec<&(Digest, Stage)> = blobs
            .iter()
            .filter(|blob| !self.settled.contains(&blob.0))
            .collect();
        let room = size.rows.saturating_sub(1).max(1);
        // At the last column some terminals go on to the next line, and others wait.
        let columns = size.columns.saturating_sub(1);
        let text = |blob: &(Digest, Stage)| line(&blob.0, &blob.1, columns);
        let up = self.back_to_the_top(size);
        let mut lines = Vec::new();
        // Where there is no room for all, those that are through make it.
        while live.len() > room
            && let Some(done) = live.iter().position(|blob| is_over(&blob.1))
        {
            let blob = live.remove(done);
            self.settled.insert(blob.0);
            lines.push(text(blob));
        }
        if !last {
            live = most_interesting(&live, room);
        }
        let above = lines.len();
        lines.extend(live.iter().map(|blob| text(blob)));
        self.drawn = lines.iter().skip(above).map(String::len).collect();
        // Each clears what was behind it, and the last what was below.
        match lines.as_slice() {
            [] => String::new(),
            lines => format!("{up}{}\x1b[J\n", lines.join("\x1b[K\n")),
        }
    }

    /// Moves the cursor to the first of the lines. A terminal that was made narrower has broken
    /// the long ones in two.
    fn back_to_the_top(&self, size: Size) -> String {
        let height = |length: &usize| length.div_ceil(size.columns.max(1)).max(1);
        let lines: usize = self.drawn.iter().map(height).sum();
        // What has scrolled away is out of reach.
        match lines.min(size.rows.saturating_sub(1)) {
            // The terminal would take 0 for 1.
            0 => String::new(),
            up => format!("\r\x1b[{up}A"),
        }
    }
}

/// Whether this is the last that will be heard of it.
fn is_over(stage: &Stage) -> bool {
    match stage {
        Stage::Loading { done, total } => done >= total,
        Stage::PullComplete
        | Stage::AlreadyExists
        | Stage::Pushed
        | Stage::LayerExists
        | Stage::MountedFrom(_) => true,
        _ => false,
    }
}

/// So many of them: first those for which something is done now, in their order.
fn most_interesting<'b>(blobs: &[&'b (Digest, Stage)], room: usize) -> Vec<&'b (Digest, Stage)> {
    let waits = |stage: &Stage| matches!(stage, Stage::PullingFsLayer | Stage::Preparing);
    let mut order: Vec<usize> = (0..blobs.len()).collect();
    order.sort_by_key(|at| blobs.get(*at).is_some_and(|blob| waits(&blob.1)));
    order.truncate(room);
    order.sort_unstable();
    order
        .iter()
        .filter_map(|at| blobs.get(*at).copied())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A terminal of the kind that breaks its lines anew when it is resized. The last line is
    /// where the cursor may be; `top` is the first on the screen.
    struct Terminal {
        lines: Vec<String>,
        cursor: usize,
        size: Size,
    }

    impl Terminal {
        fn new(rows: usize, columns: usize) -> Terminal {
            Terminal {
                lines: vec!["$ minidocker pull".to_owned(), String::new()],
                cursor: 1,
                size: Size { rows, columns },
            }
        }

        fn take(&mut self, text: &str) {
            let mut rest = text;
            while let Some(char) = rest.chars().next() {
                let length = ["\x1b[K", "\x1b[J"]
                    .iter()
                    .find(|it| rest.starts_with(**it));
                if length.is_some() {
                    if rest.starts_with("\x1b[J") {
                        self.lines.truncate(self.cursor + 1);
                    }
                    rest = &rest[3..];
                } else if let Some(up) = rest.strip_prefix("\x1b[") {
                    let (count, behind) = up.split_once('A').expect("only known sequences");
                    let top = self.lines.len().saturating_sub(self.size.rows);
                    let count: usize = count.parse().expect("a number");
                    assert!(self.cursor >= count + top, "beyond the top of the screen");
                    self.cursor -= count;
                    self.lines[self.cursor].clear();
                    rest = behind;
                } else {
                    match char {
                        '\n' => {
                            self.cursor += 1;
                            if self.cursor == self.lines.len() {
                                self.lines.push(String::new());
                            }
                            self.lines[self.cursor].clear();
                        }
                        '\r' => {}
                        other => self.lines[self.cursor].push(other),
                    }
                    assert!(self.lines[self.cursor].len() < self.size.columns);
                    rest = &rest[char.len_utf8()..];
                }
            }
        }

        fn resize(&mut self, columns: usize) {
            self.size.columns = columns;
            let broken = self.lines.iter().flat_map(|line| {
                let chars: Vec<char> = line.chars().collect();
                let parts: Vec<String> = chars
                    .chunks(columns)
                    .map(|it| it.iter().collect())
                    .collect();
                if parts.is_empty() {
                    vec![String::new()]
                } else {
                    parts
                }
            });
            self.lines = broken.collect();
            self.cursor = self.lines.len() - 1;
        }

        /// How often a line begins with this.
        fn count(&self, text: &str) -> usize {
            self.lines.iter().filter(|line| line.contains(text)).count()
        }
    }

    fn blobs(count: u8, stage: &Stage) -> Vec<(Digest, Stage)> {
        let digest = |n: u8| Digest::from_hex(&format!("{n:02x}").repeat(32)).unwrap();
        (0..count).map(|n| (digest(n), stage.clone())).collect()
    }

    const COMING: Stage = Stage::Downloading {
        done: 1_234_567,
        total: 50_000_000,
    };

    #[test]
    fn lines_are_drawn_again_where_they_stand() {
        let mut terminal = Terminal::new(24, 80);
        let mut screen = Screen::default();
        let mut blobs = blobs(3, &Stage::PullingFsLayer);
        for stage in [COMING, Stage::DownloadComplete, Stage::PullComplete] {
            for at in 0..3 {
                blobs[at].1 = stage.clone();
                terminal.take(&screen.draw(&blobs, terminal.size, false));
                assert_eq!(terminal.lines.len(), 1 + 3 + 1);
                assert_eq!(terminal.cursor, 4);
                assert_eq!(terminal.lines[4], "");
            }
        }
        terminal.take(&screen.draw(&blobs, terminal.size, true));
        assert_eq!(terminal.count("Pull complete"), 3);
        assert_eq!(terminal.lines.len(), 5);
    }

    #[test]
    fn more_blobs_than_rows_are_shown_one_after_the_other() {
        let mut terminal = Terminal::new(10, 80);
        let mut screen = Screen::default();
        let mut blobs = blobs(40, &Stage::PullingFsLayer);
        for at in 0..40 {
            blobs[(at * 7) % 40].1 = COMING;
            terminal.take(&screen.draw(&blobs, terminal.size, false));
            assert_eq!(terminal.count("Downloading"), 1);
            blobs[(at * 7) % 40].1 = Stage::PullComplete;
            terminal.take(&screen.draw(&blobs, terminal.size, false));
            assert!(terminal.lines.len() <= 1 + at + 1 + 9 + 1);
        }
        terminal.take(&screen.draw(&blobs, terminal.size, true));
        assert_eq!(terminal.count("Pull complete"), 40);
        assert_eq!(terminal.lines.len(), 1 + 40 + 1);
    }

    #[test]
    fn what_failed_half_way_is_all_there_at_the_end() {
        let mut terminal = Terminal::new(10, 80);
        let mut screen = Screen::default();
        let blobs = blobs(30, &COMING);
        terminal.take(&screen.draw(&blobs, terminal.size, false));
        assert_eq!(terminal.count("Downloading"), 9);
        terminal.take(&screen.draw(&blobs, terminal.size, true));
        assert_eq!(terminal.count("Downloading"), 30);
        assert_eq!(terminal.lines.last().map(String::as_str), Some(""));
    }

    #[test]
    fn a_resize_leaves_no_traces() {
        let mut terminal = Terminal::new(24, 80);
        let mut screen = Screen::default();
        let blobs = blobs(3, &COMING);
        for columns in [80, 50, 30, 120, 40, 20, 80] {
            terminal.resize(columns);
            terminal.take(&screen.draw(&blobs, terminal.size, false));
            terminal.take(&screen.draw(&blobs, terminal.size, false));
            assert_eq!(terminal.lines.len(), 1 + 3 + 1, "{columns}");
            assert_eq!(terminal.count("Down"), 3, "{columns}");
        }
    }
}
