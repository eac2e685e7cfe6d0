//! Why a file that exists can't be run: which interpreter, which architecture, which permission.

use std::ffi::{CStr, OsStr};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{AccessFlags, access};

use crate::identity::Identity;

/// Why a file can't be run, and how that is mended where it is known. A script is read as the kernel reads it
/// (fs/binfmt_script.c): `#!` first, then one line, in which only a space or a tab ends the interpreter's name.
pub struct Diagnosis {
    /// What is wrong.
    pub why: String,
    /// How to mend it.
    pub hint: Option<String>,
}

impl From<String> for Diagnosis {
    fn from(why: String) -> Self {
        Self { why, hint: None }
    }
}

/// What is wrong with the file for the target, where that can be seen.
pub fn explain(file: &CStr, errno: Errno, target: &Identity) -> Option<Diagnosis> {
    let path = Path::new(OsStr::from_bytes(file.to_bytes()));
    let shown = path.display();
    match errno {
        Errno::EACCES => Some(denied(path, target).into()),
        Errno::ENOENT | Errno::ENOTDIR => missing(path),
        Errno::ELOOP => Some(looped(path).into()),
        Errno::ENOEXEC => Some(wrong_format(path)),
        Errno::E2BIG => Some("the arguments and the environment are too long together".to_owned().into()),
        Errno::EAGAIN => Some(format!("uid {} has more processes than the limit of nproc allows", target.uid).into()),
        Errno::ETXTBSY => Some(format!("{shown} is open for writing").into()),
        _ => None,
    }
}

/// The first of a chain that is not there: an interpreter may be a script or need a loader itself.
fn missing(path: &Path) -> Option<Diagnosis> {
    let mut path = path.to_owned();
    for _ in 0..CHAIN_MAX {
        let interpreter = interpreter(&path)?;
        let next = Path::new(OsStr::from_bytes(&interpreter));
        if next.exists() {
            path = next.to_owned();
            continue;
        }
        let (shown, name) = (path.display(), String::from_utf8_lossy(&interpreter));
        let why = format!("{shown} needs the interpreter '{name}', which does not exist");
        if !interpreter.contains(&b'\r') {
            return Some(why.into());
        }
        let why =
            format!("{shown} ends its lines in CR LF, as Windows does: it needs the interpreter '{name}', which does not exist");
        let hint = format!("end them in LF alone: sed -i 's/\\r$//' {shown}; for git: text eol=lf in .gitattributes");
        return Some(Diagnosis { why, hint: Some(hint) });
    }
    None
}

/// So many interpreters of interpreters the kernel goes through (exec_binprm in fs/exec.c).
const CHAIN_MAX: usize = 6;

fn looped(path: &Path) -> String {
    let is_loop = |path: &Path| path.metadata().is_err_and(|error| error.raw_os_error() == Some(libc::ELOOP));
    let shown = path.display();
    if is_loop(path) {
        return format!("{shown} is a loop of symbolic links");
    }
    match interpreter(path).map(|name| OsStr::from_bytes(&name).to_owned()) {
        Some(name) if is_loop(Path::new(&name)) => {
            format!("{shown} needs the interpreter '{}', which is a loop of symbolic links", name.display())
        }
        Some(name) => {
            format!("{shown} needs the interpreter '{}', which needs an interpreter itself, and so on too often", name.display())
        }
        None => format!("{shown} needs an interpreter that needs an interpreter, and so on"),
    }
}

fn denied(path: &Path, target: &Identity) -> String {
    let shown = path.display();
    let who = format!("uid {}, gid {}", target.uid, target.gid);
    let Ok(facts) = path.metadata() else {
        let closed = path.ancestors().skip(1).find(|directory| directory.metadata().is_ok());
        let closed = closed.unwrap_or(Path::new("/")).display();
        return format!("{shown} can't be reached by {who}: something at or below {closed} is closed to it");
    };
    if facts.is_dir() {
        return format!("{shown} is a directory");
    }
    if !facts.is_file() {
        return format!("{shown} is no regular file");
    }
    // access(2) says EACCES for both; only one of them can be mended by chmod.
    if statvfs(path).is_ok_and(|mount| mount.flags().contains(FsFlags::ST_NOEXEC)) {
        return format!("{shown} is on a file system that is mounted noexec");
    }
    if access(path, AccessFlags::X_OK).is_err() {
        return format!(
            "{shown} (mode {:04o}, owner {}:{}) is not executable for {who}",
            facts.mode() & 0o7777,
            facts.uid(),
            facts.gid()
        );
    }
    let name = interpreter(path).map(|name| OsStr::from_bytes(&name).to_owned());
    match name.as_ref().map(Path::new) {
        Some(interpreter) if interpreter.is_dir() => {
            format!("{shown} needs the interpreter '{}', which is a directory", interpreter.display())
        }
        Some(interpreter) if !interpreter.is_file() || access(interpreter, AccessFlags::X_OK).is_err() => {
            format!("{shown} needs the interpreter '{}', which {who} can't run", interpreter.display())
        }
        _ => format!("{shown} is executable for {who}, but a security module forbids it"),
    }
}

/// The program that a file is to be run by: behind `#!`, or the loader that an ELF file names.
fn interpreter(path: &Path) -> Option<Vec<u8>> {
    let head = head(path)?;
    let named = match head.strip_prefix(b"#!") {
        Some(line) => script_interpreter(line),
        None => elf_interpreter(&head)?,
    };
    (!named.is_empty()).then(|| named.to_vec())
}

/// The first word of the first line; empty where there is none.
fn script_interpreter(behind_marks: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let line = behind_marks.split(|&byte| matches!(byte, b'\n' | b'\0')).next().unwrap_or_default();
    let start = line.iter().position(|byte| !blank(byte)).unwrap_or(line.len());
    line.get(start..).unwrap_or_default().split(blank).next().unwrap_or_default()
}

/// Of a script's first line the kernel reads so much (BINPRM_BUF_SIZE), and refuses a name that is longer.
const SCRIPT_LINE_MAX: usize = 256;

/// Why what may be meant as a script is none.
fn no_script(shown: impl std::fmt::Display, head: &[u8]) -> Option<Diagnosis> {
    const FIRST: &str = "and '#!' must be the first two bytes of a script";
    let behind_mark = head.strip_prefix(b"\xef\xbb\xbf");
    if behind_mark.is_some_and(|rest| rest.starts_with(b"#!")) {
        let why = format!("{shown} begins with a byte order mark (U+FEFF), {FIRST}");
        return Some(Diagnosis { why, hint: Some(format!("take it away: sed -i '1s/^\\xef\\xbb\\xbf//' {shown}")) });
    }
    if head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff") {
        let hint = format!("write it as UTF-8 without a byte order mark: iconv -f UTF-16 -t UTF-8 {shown}");
        return Some(Diagnosis { why: format!("{shown} is text in UTF-16, {FIRST}"), hint: Some(hint) });
    }
    if let Some(line) = head.strip_prefix(b"#!") {
        let name = script_interpreter(line);
        if matches!(name, b"" | b"\r") {
            return Some(format!("{shown} names no interpreter behind '#!'").into());
        }
        if name.len() + 2 >= SCRIPT_LINE_MAX {
            return Some(
                format!("{shown} names an interpreter that is longer than the {SCRIPT_LINE_MAX} bytes the kernel reads").into(),
            );
        }
        return Some(
            format!("{shown} needs the interpreter '{}', which this kernel can't run", String::from_utf8_lossy(name)).into(),
        );
    }
    head.trim_ascii_start().starts_with(b"#!").then(|| format!("{shown} has white space before '#!', {FIRST}").into())
}

fn wrong_format(path: &Path) -> Diagnosis {
    let shown = path.display();
    let head = head(path);
    if let Some(diagnosis) = head.as_ref().and_then(|head| no_script(&shown, head)) {
        return diagnosis;
    }
    let why = match head {
        Some(head) if head.starts_with(b"\x7fELF") => match machine(&head) {
            Some(machine) if machine != OURS => {
                format!("{shown} is a program for {}, and this is {}", architecture(machine), architecture(OURS))
            }
            _ => format!("{shown} is an ELF file that this kernel can't run"),
        },
        Some(head) if head.is_empty() => format!("{shown} is empty"),
        Some(_) => format!(
            "{shown} is no program: it begins neither with '#!' and an interpreter nor as ELF (a shell script? run it by sh)"
        ),
        None => format!("{shown} has no format that this kernel can run"),
    };
    why.into()
}

const HEAD: u64 = 4096;

fn head(path: &Path) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    std::fs::File::open(path).ok()?.take(HEAD).read_to_end(&mut head).ok()?;
    Some(head)
}

#[cfg(target_arch = "x86_64")]
const OURS: u16 = 62;
#[cfg(target_arch = "aarch64")]
const OURS: u16 = 183;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const OURS: u16 = 0;

fn architecture(machine: u16) -> String {
    match machine {
        3 => "i386".to_owned(),
        21 => "ppc64".to_owned(),
        22 => "s390x".to_owned(),
        40 => "arm".to_owned(),
        62 => "x86_64".to_owned(),
        183 => "aarch64".to_owned(),
        243 => "riscv".to_owned(),
        258 => "loongarch".to_owned(),
        other => format!("ELF machine {other}"),
    }
}

/// e_machine of elf(5), in the byte order that EI_DATA names.
fn machine(head: &[u8]) -> Option<u16> {
    let bytes = [*head.get(18)?, *head.get(19)?];
    Some(if *head.get(5)? == 2 { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
}

/// The string of PT_INTERP, in a 64-bit little-endian file whose program headers are in its first page.
fn elf_interpreter(head: &[u8]) -> Option<&[u8]> {
    const PT_INTERP: u64 = 3;
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let number = |at: usize, size: usize| -> Option<u64> {
        head.get(at..at.checked_add(size)?)?.iter().rev().try_fold(0u64, |value, &byte| Some(value << 8 | u64::from(byte)))
    };
    let table = usize::try_from(number(32, 8)?).ok()?;
    let (size, count) = (usize::try_from(number(54, 2)?).ok()?, usize::try_from(number(56, 2)?).ok()?);
    for index in 0..count {
        let header = table.checked_add(index.checked_mul(size)?)?;
        if number(header, 4)? == PT_INTERP {
            let start = usize::try_from(number(header.checked_add(8)?, 8)?).ok()?;
            return head.get(start..)?.split(|&byte| byte == 0).next();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_hostile_elf_header_never_panics(mut head in prop::collection::vec(any::<u8>(), 0..512)) {
            elf_interpreter(&head);
            machine(&head);
            let magic = b"\x7fELF\x02\x01";
            if head.len() >= magic.len() {
                head[..magic.len()].copy_from_slice(magic);
                elf_interpreter(&head);
            }
        }
    }

    #[test]
    fn the_loader_of_a_real_program_is_found() {
        let own = std::fs::read("/proc/self/exe").unwrap_or_default();
        let loader = elf_interpreter(own.get(..4096).unwrap_or_default());
        assert!(loader.is_none_or(|path| path.starts_with(b"/")), "{loader:?}");
    }
}
