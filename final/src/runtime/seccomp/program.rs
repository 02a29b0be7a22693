//! Classic BPF, as seccomp(2) takes it.
//!
//! A program is written from its end to its beginning: BPF jumps only forwards,
//! and so each target is known when the jump to it is written.

use std::cmp::Reverse;

use libc::sock_filter;
use oci_spec::runtime::LinuxSeccompOperator as Operator;

/// Offsets in `struct seccomp_data` (linux/seccomp.h).
pub(super) const NUMBER: u32 = 0;
pub(super) const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

/// The longest program that the kernel takes (`BPF_MAXINSNS`).
pub(super) const LONGEST: usize = 4096;

/// How far a conditional jump can go, less what [`Program::jump`] may put
/// between it and its targets.
const REACH: usize = 255 - 2;

/// One comparison with one argument of a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    /// Which argument, from 0 to 5.
    pub(super) argument: u32,
    pub(super) operator: Operator,
    /// What it is compared with; for `MASKED_EQ` the mask.
    pub(super) value: u64,
    /// For `MASKED_EQ`: what must be left by the mask.
    pub(super) masked: u64,
}

/// An answer (`SECCOMP_RET_*`) to a call of which all the conditions hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) answer: u32,
    pub(super) all: Vec<Condition>,
}

impl Rule {
    /// Sorts rules for one call as libseccomp tries them: those for a later
    /// argument first, and of those for one argument the narrower ones first.
    pub(super) fn precedence(&self) -> Vec<(Reverse<u32>, u8, u64)> {
        let mut all: Vec<_> = self.all.iter().map(Condition::precedence).collect();
        all.sort_unstable();
        all
    }
}

impl Condition {
    fn precedence(&self) -> (Reverse<u32>, u8, u64) {
        let (kind, width) = match self.operator {
            Operator::ScmpCmpEq => (0, self.value),
            Operator::ScmpCmpNe => (1, !self.value),
            Operator::ScmpCmpMaskedEq => (2, !self.value),
            Operator::ScmpCmpLt => (3, self.value),
            Operator::ScmpCmpLe => (3, self.value.saturating_add(1)),
            Operator::ScmpCmpGe => (4, !self.value),
            Operator::ScmpCmpGt => (4, !self.value.saturating_add(1)),
        };
        (Reverse(self.argument), kind, width)
    }
}

/// Where a value of a range leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaf {
    Answer(u32),
    Label(Label),
}

/// An instruction already written: its distance from the program's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Label(usize);

/// The instructions, last one first.
#[derive(Debug, Default)]
pub(super) struct Program {
    code: Vec<sock_filter>,
    answers: Vec<(u32, Label)>,
}

impl Program {
    /// The instructions in the kernel's order.
    pub(super) fn finish(mut self) -> Vec<sock_filter> {
        self.code.reverse();
        self.code
    }

    fn push(&mut self, code: u32, jt: u8, jf: u8, k: u32) -> Label {
        self.code.push(sock_filter {
            code: code as u16,
            jt,
            jf,
            k,
        });
        Label(self.code.len() - 1)
    }

    /// How many instructions would lie between `label` and the next one written.
    fn distance(&self, label: Label) -> usize {
        self.code.len() - 1 - label.0
    }

    /// Ends with an answer.
    pub(super) fn answer(&mut self, answer: u32) -> Label {
        let known = self.answers.iter().position(|(known, _)| *known == answer);
        if let Some(index) = known {
            let label = self.answers[index].1;
            if self.distance(label) <= REACH {
                return label;
            }
            self.answers.swap_remove(index);
        }
        let label = self.push(libc::BPF_RET | libc::BPF_K, 0, 0, answer);
        self.answers.push((answer, label));
        label
    }

    /// What does the same as `label`, and is near enough for a jump's 8 bits.
    fn near(&mut self, label: Label) -> Label {
        if self.distance(label) <= REACH {
            return label;
        }
        let there = self.code[label.0];
        if u32::from(there.code) == libc::BPF_RET | libc::BPF_K {
            return self.answer(there.k);
        }
        let k = self.distance(label) as u32;
        self.push(libc::BPF_JMP | libc::BPF_JA, 0, 0, k)
    }

    /// Compares the accumulator.
    fn jump(&mut self, test: u32, k: u32, yes: Label, no: Label) -> Label {
        if yes == no {
            return yes;
        }
        let yes = self.near(yes);
        let no = self.near(no);
        let (jt, jf) = (self.distance(yes) as u8, self.distance(no) as u8);
        self.push(libc::BPF_JMP | test | libc::BPF_K, jt, jf, k)
    }

    /// Goes to `yes` if the accumulator is `k`.
    pub(super) fn equal(&mut self, k: u32, yes: Label, no: Label) -> Label {
        self.jump(libc::BPF_JEQ, k, yes, no)
    }

    /// Loads a word of `struct seccomp_data` and goes on with `next`.
    pub(super) fn load(&mut self, offset: u32, next: Label) -> Label {
        self.before(next);
        self.push(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset)
    }

    /// Makes what is written next be followed by `next`.
    fn before(&mut self, next: Label) {
        let distance = self.distance(next);
        if distance > 0 {
            self.push(libc::BPF_JMP | libc::BPF_JA, 0, 0, distance as u32);
        }
    }

    /// Finds the accumulator's value among ranges, each of which begins at its
    /// number and ends where the next begins; the first begins at 0.
    pub(super) fn search(&mut self, ranges: &[(u32, Leaf)]) -> Label {
        match ranges {
            [] => self.answer(libc::SECCOMP_RET_KILL_THREAD),
            [(_, Leaf::Answer(answer))] => self.answer(*answer),
            [(_, Leaf::Label(label))] => *label,
            // A single number amidst others: one comparison instead of two.
            [(_, around), (one, leaf), (next, after)] if around == after && *next == one + 1 => {
                let no = self.search(&[(0, *around)]);
                let yes = self.search(&[(0, *leaf)]);
                self.equal(*one, yes, no)
            }
            _ => {
                let (low, high) = ranges.split_at(ranges.len() / 2);
                let yes = self.search(high);
                let no = self.search(low);
                self.jump(libc::BPF_JGE, high[0].0, yes, no)
            }
        }
    }

    /// Gives the answer of the first rule that holds, or goes to `otherwise`.
    pub(super) fn rules(&mut self, rules: &[&Rule], wide: bool, otherwise: Label) -> Label {
        let Some((last, before)) = rules.split_last() else {
            return otherwise;
        };
        let Some((argument, _)) = interval(last, wide) else {
            let next = self.rule(last, wide, otherwise);
            return self.rules(before, wide, next);
        };
        let alike = |rule: &&&Rule| interval(rule, wide).is_some_and(|(of, _)| of == argument);
        let count = rules.iter().rev().take_while(alike).count();
        let (before, group) = rules.split_at(rules.len() - count);
        let next = self.intervals(group, argument, wide, otherwise);
        self.rules(before, wide, next)
    }

    fn rule(&mut self, rule: &Rule, wide: bool, otherwise: Label) -> Label {
        let mut next = self.answer(rule.answer);
        for condition in rule.all.iter().rev() {
            next = self.condition(condition, wide, next, otherwise);
        }
        next
    }

    /// Rules with one plain comparison each, all with the same argument: it is
    /// loaded once and found by search.
    fn intervals(&mut self, rules: &[&Rule], argument: u32, wide: bool, none: Label) -> Label {
        let known: Vec<(Span, u32)> = rules
            .iter()
            .filter_map(|rule| Some((interval(rule, wide)?.1, rule.answer)))
            .collect();
        let mut cuts = vec![0];
        for ((first, last), _) in &known {
            cuts.push(*first);
            cuts.extend(last.checked_add(1));
        }
        cuts.sort_unstable();
        let mut ranges: Vec<(u32, Leaf)> = Vec::new();
        for cut in cuts {
            let holds = |((first, last), _): &&(Span, u32)| (*first..=*last).contains(&cut);
            let leaf = known.iter().find(holds);
            let leaf = leaf.map_or(Leaf::Label(none), |(_, answer)| Leaf::Answer(*answer));
            if ranges.last().is_none_or(|(_, last)| *last != leaf) {
                ranges.push((cut, leaf));
            }
        }
        let found = self.search(&ranges);
        let mut next = self.load(low(argument), found);
        if wide {
            next = self.equal(0, next, none);
            next = self.load(high(argument), next);
        }
        next
    }

    fn condition(&mut self, c: &Condition, wide: bool, yes: Label, no: Label) -> Label {
        let whole = if wide { u64::MAX } else { u32::MAX.into() };
        let value = c.value & whole;
        match c.operator {
            Operator::ScmpCmpEq => self.masked(c.argument, whole, value, yes, no),
            Operator::ScmpCmpNe => self.masked(c.argument, whole, value, no, yes),
            Operator::ScmpCmpMaskedEq => self.masked(c.argument, value, c.masked & value, yes, no),
            Operator::ScmpCmpGe => self.at_least(c.argument, value, wide, yes, no),
            Operator::ScmpCmpLt => self.at_least(c.argument, value, wide, no, yes),
            Operator::ScmpCmpGt if value == whole => no,
            Operator::ScmpCmpGt => self.at_least(c.argument, value + 1, wide, yes, no),
            Operator::ScmpCmpLe if value == whole => yes,
            Operator::ScmpCmpLe => self.at_least(c.argument, value + 1, wide, no, yes),
        }
    }

    fn masked(&mut self, argument: u32, mask: u64, value: u64, yes: Label, no: Label) -> Label {
        let mut next = yes;
        for (offset, shift) in [(low(argument), 0), (high(argument), 32)] {
            let (mask, value) = ((mask >> shift) as u32, (value >> shift) as u32);
            if mask == 0 {
                continue;
            }
            next = self.equal(value, next, no);
            if mask != u32::MAX {
                self.before(next);
                next = self.push(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, mask);
            }
            next = self.load(offset, next);
        }
        next
    }

    fn at_least(&mut self, argument: u32, value: u64, wide: bool, yes: Label, no: Label) -> Label {
        let (low_word, high_word) = (value as u32, (value >> 32) as u32);
        let next = self.jump(libc::BPF_JGE, low_word, yes, no);
        let next = self.load(low(argument), next);
        if !wide {
            return next;
        }
        let next = self.equal(high_word, next, no);
        let next = self.jump(libc::BPF_JGT, high_word, yes, next);
        self.load(high(argument), next)
    }
}

/// The first and the last of a range of values.
type Span = (u32, u32);

/// The argument and its values with which a rule holds; none if the rule asks
/// for more than one comparison, or for more than the argument's lower word.
fn interval(rule: &Rule, wide: bool) -> Option<(u32, Span)> {
    let [condition] = rule.all.as_slice() else {
        return None;
    };
    let value = if wide {
        u32::try_from(condition.value).ok()?
    } else {
        condition.value as u32
    };
    let span = match condition.operator {
        Operator::ScmpCmpEq => (value, value),
        Operator::ScmpCmpLe => (0, value),
        Operator::ScmpCmpLt => (0, value.checked_sub(1)?),
        Operator::ScmpCmpGe if !wide => (value, u32::MAX),
        Operator::ScmpCmpGt if !wide => (value.checked_add(1)?, u32::MAX),
        _ => return None,
    };
    Some((condition.argument, span))
}

/// Where an argument's lower and upper words are: both kinds of machine that
/// are known here are little-endian.
fn low(argument: u32) -> u32 {
    ARGUMENTS + 8 * argument
}

fn high(argument: u32) -> u32 {
    low(argument) + 4
}
