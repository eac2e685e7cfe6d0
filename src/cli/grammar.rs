//! The options as clap is told of them, and what it says of a line, in our words. The only file that knows clap.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, Error, anyhow, bail};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::failure::{ALIKE, hinted, likeness};
use crate::prefix;

/// What was typed, by option.
pub type Typed = ArgMatches;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    Nothing,
    OneValue,
    Values,
    PerhapsAFormat,
}

const OPTIONS: [(&str, Takes); 43] = [
    ("groups", Takes::OneValue),
    ("if-root", Takes::Nothing),
    ("mkdir", Takes::Values),
    ("chown", Takes::Values),
    ("chown-if-possible", Takes::Values),
    ("chown-policy", Takes::OneValue),
    ("listen", Takes::Values),
    ("secret", Takes::Values),
    ("open", Takes::Values),
    ("keep-cap", Takes::Values),
    ("allow-new-privs", Takes::Nothing),
    ("keep-fd", Takes::Values),
    ("keep-keyring", Takes::Nothing),
    ("env", Takes::Values),
    ("unset-env", Takes::Values),
    ("clear-env", Takes::Nothing),
    ("chdir", Takes::OneValue),
    ("umask", Takes::OneValue),
    ("init", Takes::Nothing),
    ("rewrite", Takes::Values),
    ("signal-group", Takes::Nothing),
    ("drain", Takes::OneValue),
    ("kill-after", Takes::OneValue),
    ("grace", Takes::OneValue),
    ("exit-as", Takes::Values),
    ("ro", Takes::Values),
    ("rox", Takes::Values),
    ("rw", Takes::Values),
    ("rwx", Takes::Values),
    ("bind-tcp", Takes::Values),
    ("connect-tcp", Takes::Values),
    ("scope", Takes::Nothing),
    ("seccomp", Takes::OneValue),
    ("best-effort", Takes::Nothing),
    ("ulimit", Takes::Values),
    ("nice", Takes::OneValue),
    ("oom-score-adj", Takes::OneValue),
    ("new-session", Takes::Nothing),
    ("pdeathsig", Takes::OneValue),
    ("dry-run", Takes::PerhapsAFormat),
    ("verbose", Takes::Nothing),
    ("help", Takes::Nothing),
    ("version", Takes::Nothing),
];

/// Those that have a letter.
const HELP: (&str, char) = ("help", 'h');
const VERSION: (&str, char) = ("version", 'V');

/// Reads the options of a line, and tells how many of its words, at the end, are operands.
// Apart, because a caller that it became part of would make room for all of clap on the stack of every run.
#[inline(never)]
pub fn read(typed: &[&'static CStr]) -> Result<(Typed, usize), Error> {
    let words = typed.iter().map(|word| OsStr::from_bytes(word.to_bytes()));
    // clap takes its time and memory for each option it knows. It reads a line the same whether or not it knows
    // those that no word begins like; but it must know all to say what is wrong with the line.
    let spelled = |name: &str| {
        typed.iter().any(|word| word.to_bytes().strip_prefix(b"--").is_some_and(|word| word.starts_with(name.as_bytes())))
    };
    let matches = command(spelled)
        .try_get_matches_from(words.clone())
        .or_else(|_| command(|_| true).try_get_matches_from(words))
        .map_err(|error| explain(&error, typed))?;
    // Operands are the tail of the line, so their count tells where they begin.
    let count = matches.get_raw("operands").map_or(0, Iterator::count);
    Ok((matches, count))
}

/// The options that are wanted, and those that have a letter.
fn command(wanted: impl Fn(&str) -> bool) -> Command {
    let options = OPTIONS.iter().filter(|(name, _)| ["help", "version"].contains(name) || wanted(name)).map(|&(name, takes)| {
        let option = Arg::new(name).long(name).value_parser(value_parser!(OsString));
        match takes {
            Takes::Nothing => option.action(ArgAction::SetTrue).value_parser(value_parser!(bool)),
            Takes::OneValue => option.action(ArgAction::Set).allow_hyphen_values(true),
            Takes::Values => option.action(ArgAction::Append).allow_hyphen_values(true),
            Takes::PerhapsAFormat => option.num_args(0..=1).require_equals(true).default_missing_value("text"),
        }
    });
    let operands = Arg::new("operands").num_args(1..).trailing_var_arg(true).value_parser(value_parser!(OsString));
    Command::new("stepdown")
        .no_binary_name(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args(options)
        .mut_arg(HELP.0, |help| help.short(HELP.1))
        .mut_arg(VERSION.0, |version| version.short(VERSION.1))
        .arg(operands)
}

/// clap's reasons, in our words. A message that names an option names the one that was typed, as it was typed.
fn explain(error: &clap::Error, words: &[&CStr]) -> Error {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(", "),
        _ => String::new(),
    };
    let typed = context(ContextKind::InvalidArg);
    // clap writes `--umask <umask>`; the option alone is what was typed.
    let option = as_typed(typed.split([' ', '[', '=']).next().unwrap_or_default(), words);
    match error.kind() {
        // Of -V=1 clap says that there is no option -=.
        ErrorKind::UnknownArgument if typed == "-=" => anyhow!("-{} takes no value", letter_before_equals(words)),
        ErrorKind::UnknownArgument => {
            let near = context(ContextKind::SuggestedArg);
            // clap takes what is less alike for a neighbour, too.
            let alike = likeness(typed.trim_start_matches('-'), near.trim_start_matches('-')) > ALIKE;
            let hint = if !alike { "see stepdown --help".to_owned() } else { format!("did you mean {near}?") };
            hinted(format!("unknown option {typed}"), hint)
        }
        ErrorKind::ArgumentConflict => anyhow!("{option} is given twice"),
        ErrorKind::TooManyValues => anyhow!("{option} takes no value"),
        ErrorKind::InvalidValue | ErrorKind::NoEquals => anyhow!("{option} needs a value"),
        kind => anyhow!("the command line can't be read: {kind}"),
    }
}

/// clap names an option by its long name.
fn as_typed(option: &str, words: &[&CStr]) -> String {
    let letter = [HELP, VERSION].into_iter().find(|(name, _)| option.strip_prefix("--") == Some(*name));
    match letter {
        Some((_, letter)) if !words.iter().any(|word| word.to_bytes().starts_with(option.as_bytes())) => format!("-{letter}"),
        _ => option.to_owned(),
    }
}

fn letter_before_equals(words: &[&CStr]) -> char {
    let letters = words.iter().filter_map(|word| word.to_str().ok()?.strip_prefix('-')?.split_once('='));
    letters.filter_map(|(letters, _)| letters.chars().next_back()).find(|&letter| letter != '-').unwrap_or('-')
}

// An error of try_get_* says that clap was not told of the option, because no word spells it.

/// Whether an option that takes no value is there.
pub fn given(options: &Typed, name: &str) -> bool {
    options.try_get_one(name).ok().flatten().copied().unwrap_or(false)
}

/// The values of an option, in order.
pub fn many<'a>(options: &'a Typed, name: &str) -> impl Iterator<Item = &'a OsString> {
    options.try_get_many::<OsString>(name).ok().flatten().into_iter().flatten()
}

/// The values of an option, and where on the line each stands.
pub fn placed<'a>(options: &'a Typed, name: &str) -> impl Iterator<Item = (usize, &'a OsString)> {
    // clap panics where it is asked for the places of an option that it does not know.
    let known = many(options, name).next().is_some();
    let places = if known { options.indices_of(name) } else { None };
    places.into_iter().flatten().zip(many(options, name))
}

/// The value of an option that may be given once.
pub fn one<'a>(options: &'a Typed, name: &str) -> Result<Option<&'a str>, Error> {
    many(options, name).next().map(|typed| text(name, typed)).transpose()
}

/// A value that must be text.
pub fn text<'a>(option: &str, typed: &'a OsStr) -> Result<&'a str, Error> {
    typed.to_str().with_context(|| format!("--{option} '{}': it is not UTF-8", typed.to_string_lossy()))
}

/// A value that is a path.
pub fn path(option: &str, typed: &OsStr) -> Result<CString, Error> {
    if typed.is_empty() {
        bail!("--{option}: the path is empty");
    }
    prefix::refuse_in_path(&format!("--{option}"), typed.as_bytes())?;
    Ok(CString::new(typed.as_bytes())?)
}
