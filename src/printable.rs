//! Text from elsewhere (arguments, names of files, variables), made fit to be read.
//!
//! The rule, for whatever is printed, to stderr or stdout, for people or programs: no character that can't be seen is printed as it
//! is. Such a character can rewrite a terminal, turn the text around it, or make one name look like another.

use std::fmt;

/// Every character that can't be seen, or that is no plain space and looks like one: in Unicode 17's words the general categories Cc
/// (C0, DEL, C1), Cf, Zl, Zp and Zs (all but U+0020), and the property `Default_Ignorable_Code_Point` (DerivedCoreProperties.txt),
/// which takes in variation selectors, fillers, tags, and what is unassigned between them. `Bidi_Control` is part of Cf. Python's
/// `str.isprintable` draws the line at the same categories.
const HIDDEN: [(char, char); 29] = [
    ('\0', '\u{1f}'),
    ('\u{7f}', '\u{a0}'),
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{600}', '\u{605}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{6dd}', '\u{6dd}'),
    ('\u{70f}', '\u{70f}'),
    ('\u{890}', '\u{891}'),
    ('\u{8e2}', '\u{8e2}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{1680}', '\u{1680}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{2000}', '\u{200f}'),
    ('\u{2028}', '\u{202f}'),
    ('\u{205f}', '\u{206f}'),
    ('\u{3000}', '\u{3000}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fffb}'),
    ('\u{110bd}', '\u{110bd}'),
    ('\u{110cd}', '\u{110cd}'),
    ('\u{13430}', '\u{1343f}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e0fff}'),
];

/// Whether a character is never printed as it is.
#[must_use]
pub fn is_hidden(character: char) -> bool {
    // Most text is ASCII.
    if character.is_ascii() {
        return character.is_ascii_control();
    }
    HIDDEN.iter().any(|(first, last)| (*first..=*last).contains(&character))
}

/// A text in which what is hidden stands as `\u{202e}`, and line ends and tabs as `\n`, `\r` and `\t`.
pub struct Printable<'a>(pub &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            if is_hidden(character) {
                write!(out, "{}", character.escape_default())?;
            } else {
                fmt::Write::write_char(out, character)?;
            }
        }
        Ok(())
    }
}

/// The same for JSON: what is hidden stands as JSON's own escapes (RFC 8259, section 7), so that a program reads the same text.
#[must_use]
pub fn json(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for character in text.chars() {
        // serde_json has escaped C0 in strings: a line end here stands between values. All else that is hidden is in a string.
        if character == '\n' || !is_hidden(character) {
            printable.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                printable += &format!("\\u{unit:04x}");
            }
        }
    }
    printable
}

/// How much of a list is printed for people: nobody reads on. Programs get all of it, from `--dry-run=json`.
pub const A_FEW: usize = 8;

/// A list in a message: all of it where that is [`A_FEW`], else the first of them, and how many more there are.
pub fn brief<T: fmt::Display>(list: &[T], between: &str) -> String {
    shortened(list, between, A_FEW)
}

/// The same with room for more.
pub fn shortened<T: fmt::Display>(list: &[T], between: &str, most: usize) -> String {
    let shown: Vec<String> = list.iter().take(most).map(T::to_string).collect();
    match list.len() - shown.len() {
        0 => shown.join(between),
        more => format!("{} and {more} more", shown.join(between)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_in_messages_are_printed_without_raw_control_characters() {
        assert_eq!(Printable("a\u{1b}[2Jb\nc\u{202e}").to_string(), "a\\u{1b}[2Jb\\nc\\u{202e}");
        assert_eq!(Printable("ä日 ë🙂'\\\"").to_string(), "ä日 ë🙂'\\\"", "what can be seen is printed as it is");
    }

    #[test]
    fn the_table_ascends_and_has_what_ascii_has() {
        assert!(HIDDEN.windows(2).all(|two| two[0].1 < two[1].0) && HIDDEN.iter().all(|(first, last)| first <= last));
        for character in '\0'..='\u{7f}' {
            let in_table = HIDDEN.iter().any(|(first, last)| (*first..=*last).contains(&character));
            assert_eq!(is_hidden(character), in_table, "{character:?}");
        }
    }

    #[test]
    fn of_a_long_list_the_first_are_named_and_the_rest_is_counted() {
        let numbers: Vec<u32> = (1..=65536).collect();
        assert_eq!(brief(&numbers[..0], ", "), "");
        assert_eq!(brief(&numbers[..8], ", "), "1, 2, 3, 4, 5, 6, 7, 8");
        assert_eq!(brief(&numbers[..9], ":"), "1:2:3:4:5:6:7:8 and 1 more");
        assert_eq!(brief(&numbers, ", "), "1, 2, 3, 4, 5, 6, 7, 8 and 65528 more");
    }

    proptest! {
        #[test]
        fn json_means_the_same_and_hides_nothing(text in prop::collection::vec(any::<char>(), 0..64), plain: String) {
            let text: String = text.into_iter().chain(HIDDEN.iter().flat_map(|&(first, last)| ['\\', first, last])).collect();
            let value = serde_json::json!({ &text: [&plain, &text] });
            let printed = json(&format!("{value:#}"));
            prop_assert!(!printed.chars().any(|character| is_hidden(character) && character != '\n'));
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&printed).ok(), Some(value));
        }
    }
}
