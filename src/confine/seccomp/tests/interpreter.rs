//! Classic BPF as seccomp(2) has it: the checks of the kernel's `bpf_check_classic` and `seccomp_check_filter`, and then
//! the program.

use libc::sock_filter;

/// What a filter is given: struct seccomp_data.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub architecture: u32,
    pub number: u32,
    pub arguments: [u64; 6],
}

/// AUDIT_ARCH_* of this machine.
pub const NATIVE: u32 = if cfg!(target_arch = "x86_64") { 0xc000_003e } else { 0xc000_00b7 };

impl Call {
    /// A call of this architecture.
    pub fn new(number: u32, arguments: [u64; 6]) -> Self {
        Self { architecture: NATIVE, number, arguments }
    }

    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.number,
            4 => self.architecture,
            16..64 if offset.is_multiple_of(8) => self.arguments[(offset as usize - 16) / 8] as u32,
            16..64 if offset.is_multiple_of(4) => (self.arguments[(offset as usize - 16) / 8] >> 32) as u32,
            _ => panic!("nothing is loaded from {offset}"),
        }
    }
}

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;
const JUMP: u16 = 0x05;
const EQUAL: u16 = 0x15;
const GREATER: u16 = 0x25;
const AT_LEAST: u16 = 0x35;

/// What the kernel would refuse.
pub fn check(program: &[sock_filter]) {
    assert!((1..=4096).contains(&program.len()), "{} instructions", program.len());
    for (at, instruction) in program.iter().enumerate() {
        let skips: &[usize] = match instruction.code {
            LOAD => {
                let _ = Call::new(0, [0; 6]).word(instruction.k);
                &[0]
            }
            AND => &[0],
            RETURN => &[],
            JUMP => &[instruction.k as usize],
            EQUAL | GREATER | AT_LEAST => &[instruction.jt.into(), instruction.jf.into()],
            code => panic!("instruction {code:#x}"),
        };
        assert!(skips.iter().all(|skip| at + 1 + skip < program.len()), "{at} leads out of the program");
    }
}

/// What the program returns for a call.
pub fn run(program: &[sock_filter], call: &Call) -> u32 {
    let (mut at, mut loaded) = (0, None);
    loop {
        let &sock_filter { code, jt, jf, k } = &program[at];
        let compared = |holds: fn(&u32, &u32) -> bool| {
            let loaded = loaded.expect("something is loaded before it is compared");
            usize::from(if holds(&loaded, &k) { jt } else { jf })
        };
        at += 1;
        match code {
            LOAD => loaded = Some(call.word(k)),
            AND => loaded = loaded.map(|loaded| loaded & k),
            RETURN => return k,
            JUMP => at += k as usize,
            EQUAL => at += compared(u32::eq),
            GREATER => at += compared(u32::gt),
            AT_LEAST => at += compared(u32::ge),
            _ => panic!("instruction {code:#x}"),
        }
    }
}

/// Whether the kernel sees that a call is always allowed: its `seccomp_is_const_allow` follows the program as long as
/// only the number and the architecture are looked at.
pub fn is_always_allowed(program: &[sock_filter], number: u32) -> bool {
    let call = Call::new(number, [0; 6]);
    let (mut at, mut loaded) = (0, 0);
    loop {
        let &sock_filter { code, jt, jf, k } = &program[at];
        let skip = |holds| usize::from(if holds { jt } else { jf });
        at += 1;
        match code {
            LOAD if k < 8 => loaded = call.word(k),
            RETURN => return k == libc::SECCOMP_RET_ALLOW,
            JUMP => at += k as usize,
            EQUAL => at += skip(loaded == k),
            GREATER => at += skip(loaded > k),
            AT_LEAST => at += skip(loaded >= k),
            _ => return false,
        }
    }
}
