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

/// What is wrong with the file for the target, where that can be seen.
pub fn explain(file: &CStr, errno: Errno, target: &Identity) -> Option<String> {
    let path = Path::new(OsStr::from_bytes(file.to_bytes()));
    let shown = path.display();
    match errno {
        Errno::EACCES => Some(denied(path, target)),
        Errno::ENOENT | Errno::ENOTDIR => {
            let interpreter = interpreter(path)?;
            Some(format!("{shown} needs the interpreter '{interpreter}', which does not exist"))
        }
        Errno::ELOOP => Some(format!("{shown} needs an interpreter that needs an interpreter, and so on, or is a loop of links")),
        Errno::ENOEXEC => Some(wrong_format(path)),
        Errno::E2BIG => Some("the arguments and the environment are too long together".to_owned()),
        Errno::EAGAIN => Some(format!("uid {} has more processes than the limit of nproc allows", target.uid)),
        Errno::ETXTBSY => Some(format!("{shown} is open for writing")),
        _ => None,
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
    match interpreter(path) {
        Some(interpreter) if !Path::new(&interpreter).is_file() || access(interpreter.as_str(), AccessFlags::X_OK).is_err() => {
            format!("{shown} needs the interpreter '{interpreter}', which {who} can't run")
        }
        _ => format!("{shown} is executable for {who}, but a security module forbids it"),
    }
}

/// The program that a file is to be run by: behind `#!`, or the loader that an ELF file names.
fn interpreter(path: &Path) -> Option<String> {
    let head = head(path)?;
    let named = match head.strip_prefix(b"#!") {
        Some(line) => line.split(|&byte| byte == b'\n').next()?.trim_ascii().split(|byte| byte.is_ascii_whitespace()).next()?,
        None => elf_interpreter(&head)?,
    };
    Some(String::from_utf8_lossy(named).into_owned())
}

fn wrong_format(path: &Path) -> String {
    let shown = path.display();
    match head(path) {
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
    }
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
