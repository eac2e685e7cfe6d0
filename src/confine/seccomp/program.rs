//! From a [`Policy`] to a BPF program.
//!
//! The numbers of calls fall into stretches with the same answer. They are found by bisection, so that each of 400 calls
//! costs nine comparisons at most. A program is made from its end to its beginning: jumps only lead forward (bpf(4)),
//! and so the place that one leads to is always known.

use anyhow::{Error, bail};
use libc::sock_filter;

use super::{Action, Answer, Comparison, Condition, Policy, Rule};
use crate::confine::bpf::{ARCHITECTURE, MARK, NATIVE, NUMBER, Program, X32, low_half};

/// x32 has calls of its own here. Until Linux 5.4 they could be made without its bit: execve is 520, ptrace 521.
const X32_WITHOUT_BIT: std::ops::Range<u32> = 512..548;

/// The most instructions in a program: BPF_MAXINSNS, less what a mark takes.
pub(super) const LONGEST: usize = BPF_MAXINSNS - MARK;

pub(super) const BPF_MAXINSNS: usize = 4096;

/// A conditional jump skips 255 instructions at most; one more may come between.
const REACH: usize = 254;

const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const AND: u32 = libc::BPF_ALU | libc::BPF_AND | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
const ALWAYS: u32 = libc::BPF_JMP | libc::BPF_JA;
const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const GREATER: u32 = libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K;
const AT_LEAST: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;

/// Compiles it. Fails where the kernel would not take so long a program.
pub(super) fn compile(policy: &Policy) -> Result<Program, Error> {
    let mut program = Reversed(Vec::new());
    let tree = program.tree(&stretches(policy))?;
    let number = program.load(NUMBER, tree);
    let foreign = program.answer(Action::ENOSYS);
    let check = program.branch(EQUAL, NATIVE, number, foreign);
    program.load(ARCHITECTURE, check);
    program.check_length()?;
    program.0.reverse();
    Ok(program.0)
}

/// Where each stretch of calls with one answer begins, and that answer.
fn stretches(policy: &Policy) -> Vec<(u32, Answer)> {
    let mut stretches: Vec<(u32, Answer)> = Vec::new();
    for call in (0..=X32_WITHOUT_BIT.end).chain([X32]) {
        let answer = answer(policy, call);
        if stretches.last().is_none_or(|(_, before)| *before != answer) {
            stretches.push((call, answer));
        }
    }
    stretches
}

fn answer(policy: &Policy, call: u32) -> Answer {
    if call >= X32 || X32_WITHOUT_BIT.contains(&call) && cfg!(target_arch = "x86_64") {
        return Answer::Always(Action::ENOSYS);
    }
    let default = if policy.newest.is_some_and(|newest| call > newest) { Action::ENOSYS } else { policy.default };
    policy.calls.get(call as usize).cloned().flatten().unwrap_or(Answer::Always(default))
}

/// A place in the program, counted from its end.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place(usize);

/// A program, its last instruction first. Each method puts something in front and returns where it begins.
struct Reversed(Vec<sock_filter>);

impl Reversed {
    fn push(&mut self, code: u32, jt: u8, jf: u8, k: u32) -> Place {
        // Codes are made of the constants above, which fit.
        self.0.push(sock_filter { code: code as u16, jt, jf, k });
        self.here()
    }

    /// The beginning of what is there so far.
    fn here(&self) -> Place {
        Place(self.0.len())
    }

    /// How many instructions the next one would have to skip.
    fn distance(&self, to: Place) -> usize {
        self.0.len() - to.0
    }

    /// An instruction that goes on to the next one, which is made to be `next`.
    fn then(&mut self, code: u32, k: u32, next: Place) -> Place {
        self.step(next, 0);
        self.push(code, 0, 0, k)
    }

    /// `next`, or a jump to it where it is farther away than `reach`.
    fn step(&mut self, next: Place, reach: usize) -> Place {
        match self.distance(next) {
            near if near <= reach => next,
            far => self.push(ALWAYS, 0, 0, far as u32),
        }
    }

    fn load(&mut self, offset: u32, next: Place) -> Place {
        self.then(LOAD, offset, next)
    }

    /// A comparison of what was loaded.
    fn branch(&mut self, code: u32, k: u32, yes: Place, no: Place) -> Place {
        let yes = self.step(yes, REACH);
        let no = self.step(no, REACH);
        let (jt, jf) = (self.distance(yes) as u8, self.distance(no) as u8);
        self.push(code, jt, jf, k)
    }

    /// Returns from the program. One that does so is used again while it is near.
    fn answer(&mut self, action: Action) -> Place {
        let near = self.0.iter().rev().take(REACH / 2).position(|at| u32::from(at.code) == RETURN && at.k == action.0);
        match near {
            Some(before) => Place(self.0.len() - before),
            None => self.push(RETURN, 0, 0, action.0),
        }
    }

    /// Finds the stretch that the loaded number is in.
    fn tree(&mut self, stretches: &[(u32, Answer)]) -> Result<Place, Error> {
        self.check_length()?;
        match stretches.split_at(stretches.len() / 2) {
            (lower, upper @ [(start, _), _, ..]) | (lower @ [_, ..], upper @ [(start, _)]) => {
                let at_least = self.tree(upper)?;
                let below = self.tree(lower)?;
                Ok(self.branch(AT_LEAST, *start, at_least, below))
            }
            (_, [(_, Answer::Always(action))]) => Ok(self.answer(*action)),
            (_, [(_, Answer::ByArguments(rules, otherwise))]) => self.rules(rules, *otherwise),
            (_, []) => bail!("there are no calls"),
        }
    }

    fn rules(&mut self, rules: &[Rule], otherwise: Action) -> Result<Place, Error> {
        let mut next = self.answer(otherwise);
        for rule in rules.iter().rev() {
            self.check_length()?;
            let action = self.answer(rule.action);
            let conditions = rule.conditions.iter().rev();
            next = conditions.fold(action, |yes, condition| self.condition(condition, yes, next));
        }
        Ok(next)
    }

    fn condition(&mut self, condition: &Condition, yes: Place, no: Place) -> Place {
        let &Condition { argument, comparison, value } = condition;
        match comparison {
            Comparison::Masked(mask) => self.equal(argument, mask, value, yes, no),
            Comparison::Equal => self.equal(argument, u64::MAX, value, yes, no),
            Comparison::NotEqual => self.equal(argument, u64::MAX, value, no, yes),
            Comparison::Greater => self.greater(argument, GREATER, value, yes, no),
            Comparison::GreaterOrEqual => self.greater(argument, AT_LEAST, value, yes, no),
            Comparison::Less => self.greater(argument, AT_LEAST, value, no, yes),
            Comparison::LessOrEqual => self.greater(argument, GREATER, value, no, yes),
        }
    }

    fn equal(&mut self, argument: u8, mask: u64, value: u64, yes: Place, no: Place) -> Place {
        let low = self.half_equal(Half::Low, argument, mask, value, yes, no);
        self.half_equal(Half::High, argument, mask, value, low, no)
    }

    fn half_equal(&mut self, half: Half, argument: u8, mask: u64, value: u64, yes: Place, no: Place) -> Place {
        let (mask, value) = (half.of(mask), half.of(value));
        if mask == 0 {
            return yes;
        }
        let mut place = self.branch(EQUAL, value & mask, yes, no);
        if mask != u32::MAX {
            place = self.then(AND, mask, place);
        }
        self.load(half.offset(argument), place)
    }

    fn greater(&mut self, argument: u8, code: u32, value: u64, yes: Place, no: Place) -> Place {
        let low = self.branch(code, Half::Low.of(value), yes, no);
        let low = self.load(Half::Low.offset(argument), low);
        let same = self.branch(EQUAL, Half::High.of(value), low, no);
        let high = self.branch(GREATER, Half::High.of(value), yes, same);
        self.load(Half::High.offset(argument), high)
    }

    fn check_length(&self) -> Result<(), Error> {
        if self.0.len() > LONGEST {
            bail!("too many rules: the kernel takes no filter of more than {BPF_MAXINSNS} instructions");
        }
        Ok(())
    }
}

/// BPF compares 32 bits at once. Both architectures have the low half of an argument first.
#[derive(Clone, Copy)]
enum Half {
    Low,
    High,
}

impl Half {
    fn of(self, value: u64) -> u32 {
        match self {
            Self::Low => value as u32,
            Self::High => (value >> 32) as u32,
        }
    }

    fn offset(self, argument: u8) -> u32 {
        let low = low_half(u32::from(argument));
        match self {
            Self::Low => low,
            Self::High => low + 4,
        }
    }
}
