//! One blob's line.

use images::Digest;

use minidocker::engine::images::Stage;

/// Docker's bar.
const LONGEST_BAR: usize = 50;
/// A shorter one shows nothing.
const SHORTEST_BAR: usize = 8;
/// `12.35MB/ 1.235GB` and some more: with room for the largest numbers all bars are of one length.
const NUMBERS: usize = 17;

/// A line of at most so many columns.
pub(super) fn line(blob: &Digest, stage: &Stage, columns: usize) -> String {
    let (words, amounts) = described(stage);
    let mut line = format!("{}: {words}", short(blob));
    match amounts {
        Some((done, 0)) if done > 0 => line += &format!(" {:>8}", cli::size(done, 4)),
        Some((done, total)) if total > 0 => {
            // Behind the words: a blank, the brackets and the bar's head, a blank, the numbers.
            let room = columns.saturating_sub(line.len() + 5 + NUMBERS);
            let length = room.min(LONGEST_BAR);
            if length >= SHORTEST_BAR {
                line += &format!(" {}", bar(done, total, length));
            }
            line += &format!(" {:>8}/{}", cli::size(done, 4), cli::size(total, 4));
        }
        _ => {}
    }
    line.chars().take(columns).collect()
}

/// A line that only changes where the words do; none for what is told in numbers.
pub(super) fn without_numbers(blob: &Digest, stage: &Stage) -> Option<String> {
    let (words, amounts) = described(stage);
    let told = amounts.is_none();
    told.then(|| format!("{}: {words}", short(blob)))
}

/// The first twelve digits, as with an image's id.
fn short(blob: &Digest) -> String {
    blob.hex().chars().take(12).collect()
}

/// Docker's words for a stage, and how much is done of how much.
fn described(stage: &Stage) -> (String, Option<(u64, u64)>) {
    let words = match stage {
        Stage::PullingFsLayer => "Pulling fs layer",
        Stage::Retrying { pause } => {
            let seconds = pause.as_secs().max(1);
            let unit = if seconds == 1 { "second" } else { "seconds" };
            return (format!("Retrying in {seconds} {unit}"), None);
        }
        Stage::Downloading { done, total } => {
            return ("Downloading".to_owned(), Some((*done, *total)));
        }
        Stage::DownloadComplete => "Download complete",
        Stage::Extracting { done, total } => {
            return ("Extracting".to_owned(), Some((*done, *total)));
        }
        Stage::PullComplete => "Pull complete",
        Stage::AlreadyExists => "Already exists",
        Stage::Loading { done, total } => {
            return ("Loading layer".to_owned(), Some((*done, *total)));
        }
        Stage::Preparing => "Preparing",
        Stage::Pushing { done, total } => return ("Pushing".to_owned(), Some((*done, *total))),
        Stage::Pushed => "Pushed",
        Stage::LayerExists => "Layer already exists",
        Stage::MountedFrom(repository) => return (format!("Mounted from {repository}"), None),
    };
    (words.to_owned(), None)
}

fn bar(done: u64, total: u64, length: usize) -> String {
    let part = u128::from(done.min(total)) * length as u128 / u128::from(total);
    let filled = usize::try_from(part).unwrap_or(length);
    format!("[{}>{}]", "=".repeat(filled), " ".repeat(length - filled))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(stage: &Stage, columns: usize) -> String {
        let blob = Digest::from_hex(&"a1b2c3d4e5f6".repeat(6)[..64]).unwrap();
        line(&blob, stage, columns)
    }

    #[test]
    fn a_line_fits_the_terminal() {
        let stage = Stage::Downloading {
            done: 12_345_678,
            total: 50_100_000,
        };
        assert_eq!(
            shown(&stage, 79),
            "a1b2c3d4e5f6: Downloading [=======>                         ]  12.35MB/50.1MB"
        );
        let long = shown(&stage, 200);
        assert!(
            long.contains(&format!("[{}>{}]", "=".repeat(12), " ".repeat(38))),
            "{long}"
        );
        assert_eq!(
            shown(&stage, 45),
            "a1b2c3d4e5f6: Downloading  12.35MB/50.1MB"
        );
        for columns in 0..120 {
            assert!(shown(&stage, columns).len() <= columns);
        }
    }

    #[test]
    fn a_bar_is_full_when_all_is_done() {
        let done = |done| shown(&Stage::Extracting { done, total: 1000 }, 80);
        assert!(done(0).ends_with("B/1kB") && done(0).contains("[>  "));
        assert!(done(1000).contains("=>]") && done(2000).contains("=>]"));
        let unknown = Stage::Downloading {
            done: 5000,
            total: 0,
        };
        assert_eq!(shown(&unknown, 80), "a1b2c3d4e5f6: Downloading      5kB");
    }
}
