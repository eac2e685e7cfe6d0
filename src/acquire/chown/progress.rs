//! The line that shows on a terminal how far a walk has come: it says which PATH, and never wraps, because a carriage return
//! leads back to the start of the last row alone.

use std::time::Duration;

use crate::failure::Printable;

/// How often the line is written anew.
pub const OFTEN: Duration = Duration::from_millis(200);

/// Where a terminal does not say how wide it is.
pub const COLUMNS: usize = 80;

/// Of a long PATH at least so much is shown, if anything at all is left out.
const PATH_MIN: usize = 12;

/// How far it is.
pub struct Progress<'a> {
    /// As it was typed.
    pub option: &'a str,
    /// Likewise.
    pub path: &'a str,
    /// Entries looked at.
    pub seen: u64,
    /// Entries changed.
    pub changed: u64,
    /// Entries looked at in a second.
    pub rate: u64,
}

impl Progress<'_> {
    /// The line, at most so many columns wide. Where it has no room for all, first what is least missed is left out, then the
    /// beginning of PATH.
    pub fn line(&self, columns: usize) -> String {
        let Self { option, seen, changed, rate, .. } = self;
        let path = Printable(self.path).to_string();
        let all = format!(": {seen} entries looked at, {changed} changed, {rate}/s");
        let forms = [
            (format!("stepdown: {option} "), all.clone()),
            ("stepdown: ".to_owned(), all),
            ("stepdown: ".to_owned(), format!(": {seen} looked at, {changed} changed")),
            (String::new(), format!(": {seen} looked at, {changed} changed")),
            (String::new(), format!(": {seen} looked at")),
            (String::new(), format!(": {seen}")),
        ];
        let least = width(&path).min(PATH_MIN);
        for (front, back) in forms {
            let room = columns.checked_sub(front.len() + back.len()).filter(|&room| room >= least);
            if let Some(room) = room {
                return front + &end_of(&path, room) + &back;
            }
        }
        end_of(&format!("{seen}"), columns)
    }
}

/// At most so many columns: what is not ASCII may take two.
pub fn width(text: &str) -> usize {
    text.chars().map(columns_of).sum()
}

fn columns_of(character: char) -> usize {
    if character.is_ascii() { 1 } else { 2 }
}

/// The text, or `...` and its end, which tells more of a path than its beginning.
fn end_of(text: &str, room: usize) -> String {
    const CUT: &str = "...";
    if width(text) <= room {
        return text.to_owned();
    }
    let mut left = room.saturating_sub(CUT.len());
    let kept = text.chars().rev().take_while(|&character| {
        let fits = columns_of(character) <= left;
        left = left.saturating_sub(columns_of(character));
        fits
    });
    let kept: Vec<char> = kept.collect();
    CUT.chars().take(room).chain(kept.into_iter().rev()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_has_no_room_is_left_out_before_the_path_is() {
        let progress = Progress { option: "--chown", path: "/var/lib/service/data", seen: 12345, changed: 7, rate: 90 };
        let line = |columns| progress.line(columns);
        assert_eq!(line(90), "stepdown: --chown /var/lib/service/data: 12345 entries looked at, 7 changed, 90/s");
        assert_eq!(line(78), "stepdown: --chown ...ib/service/data: 12345 entries looked at, 7 changed, 90/s");
        assert_eq!(line(60), "stepdown: /var/lib/service/data: 12345 looked at, 7 changed");
        assert_eq!(line(36), "...lib/service/data: 12345 looked at");
        assert_eq!(line(3), "...");
    }

    proptest! {
        #[test]
        fn no_line_is_wider_than_the_terminal(path: String, seen: u64, changed: u64, rate: u64, columns in 0usize..200) {
            let line = Progress { option: "--chown-if-possible", path: &path, seen, changed, rate }.line(columns);
            prop_assert!(width(&line) <= columns, "{line:?}");
        }
    }
}
