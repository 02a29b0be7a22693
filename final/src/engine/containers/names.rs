//! Names for those who have been given none: a mood, and somebody who understood machines.

const MOODS: [&str; 40] = [
    "amused", "awake", "bold", "brave", "bright", "calm", "careful", "cheerful", "clever",
    "curious", "daring", "dreamy", "eager", "earnest", "elegant", "fearless", "focused",
    "friendly", "gentle", "glad", "grateful", "happy", "hopeful", "humble", "inspired", "jolly",
    "keen", "kind", "lively", "lucid", "merry", "modest", "nimble", "patient", "playful", "quiet",
    "serene", "sincere", "vivid", "witty",
];

const PEOPLE: [&str; 40] = [
    "allen", "babbage", "backus", "bartik", "boole", "cerf", "church", "clarke", "codd", "conway",
    "dijkstra", "floyd", "godel", "goldberg", "gray", "hamilton", "hamming", "hoare", "hopper",
    "johnson", "kay", "knuth", "lamport", "lampson", "leibniz", "liskov", "lovelace", "mccarthy",
    "milner", "naur", "noether", "perlman", "ritchie", "rivest", "shannon", "thompson", "turing",
    "wilkes", "wirth", "zuse",
];

/// The `n`th attempt at a name for the container `id`.
pub(super) fn invent(id: &str, n: usize) -> String {
    let digits = |at: usize| -> usize {
        let digits = id.get(at..at + 4).unwrap_or_default();
        usize::from_str_radix(digits, 16).unwrap_or_default()
    };
    let (mood, person) = (
        MOODS[digits(2 * n) % MOODS.len()],
        PEOPLE[digits(2 * n + 4) % PEOPLE.len()],
    );
    match n {
        0..10 => format!("{mood}_{person}"),
        n => format!("{mood}_{person}{}", digits(n) % 10 * n),
    }
}
