//! From one process to two: the command's, and the one that stays.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Error, bail};
use nix::errno::Errno;

use super::terminal::Terminal;
use super::{FAILED, Supervisor};
use crate::cli::{Init, Session};
use crate::failure::{At, Failure, Stage, call};
use crate::plan::{NoNewPrivs, Plan};
use crate::proof::{self, Dropped};
use crate::signal::Signal;
use crate::sys::{self, Alone, Forked, SignalSet};
use crate::{credentials, limits};

/// Signals that wait until there is a command to forward them to, and the mask as it came.
pub struct Held(Option<SignalSet>);

impl Held {
    /// First thing of all: what is sent to a PID 1 that has not blocked it is lost. Whether the word is our option or an
    /// argument of the command's is not known yet.
    pub fn where_asked(arguments: &[&CStr]) -> Result<Self, Error> {
        let has_options = arguments.get(1).is_some_and(|first| first.to_bytes().starts_with(b"-"));
        if !has_options || !arguments.contains(&c"--init") {
            return Ok(Self(None));
        }
        sys::block_all_signals().map(|before| Self(Some(before))).map_err(|errno| call("rt_sigprocmask", errno))
    }

    /// It was no option: the mask is what it was.
    pub fn release(&self) -> Result<(), Error> {
        match self.0 {
            None => Ok(()),
            Some(before) => sys::set_signal_mask(before).map_err(|errno| call("rt_sigprocmask", errno)),
        }
    }
}

/// Forks where `--init` asks for it. Returns in the process that becomes the command; the other one stays, and exits in
/// here. Both have been proved to hold no more than planned: a child has its parent's credentials.
pub fn start_the_command(plan: &mut Plan, proved: Dropped, held: &Held) -> Result<Dropped, Failure> {
    match plan.init.take() {
        None => {
            limits::leave_session(plan).and_then(|()| limits::heed_parent(plan, plan.parent)).at(Stage::Drop).map(|()| proved)
        }
        Some(init) => part(*init, plan, held).at(Stage::Drop).map(|()| proved),
    }
}

fn part(wanted: Init, plan: &mut Plan, held: &Held) -> Result<(), Error> {
    let pid = plan.pid;
    if pid != 1 {
        sys::become_subreaper().map_err(|errno| call("prctl(PR_SET_CHILD_SUBREAPER, 1)", errno))?;
    }
    // Of the command's process execve sets it anew.
    sys::set_not_dumpable().map_err(|errno| call("prctl(PR_SET_DUMPABLE, 0)", errno))?;
    // Where SIGCHLD is ignored the kernel reaps children itself, and their exit codes are lost.
    let chld_was_ignored = sys::is_ignored(Signal::CHLD).map_err(|errno| call("rt_sigaction(SIGCHLD)", errno))?;
    sys::restore_default(Signal::CHLD).map_err(|errno| call("rt_sigaction(SIGCHLD)", errno))?;
    // It is forwarded to the command, as any other signal is. The command gets the same when this process ends.
    limits::heed_parent(plan, plan.parent)?;
    let terminal = Terminal::find();
    let gate = Gate::where_needed(plan)?;
    let Some(alone) = Alone::for_good() else { bail!("a thread is left that a child would not have") };
    match sys::fork(&alone).map_err(|errno| call("fork", errno))? {
        Forked::Child => {
            let own = sys::getpid().map_err(|errno| call("getpid", errno))?;
            if own == pid {
                bail!("fork: the kernel claims to have made a process, and there is none");
            }
            as_the_command(plan, &terminal, chld_was_ignored)?;
            limits::heed_parent(plan, Some(pid))?;
            plan.environment.set_process_id(own)?;
            if let Some(gate) = gate {
                gate.pass();
            }
            held.release()
        }
        Forked::Parent(child) => {
            // Here too, so that the group is there before the first signal is forwarded to it. The child's own call is
            // the one that counts: after its execve this one is refused. Who leads a group can lead no new session.
            if plan.limits.session == Session::AsFound {
                let _ = sys::set_process_group(child, child);
            }
            let supervisor = Supervisor {
                wanted,
                verbosity: plan.verbosity,
                pid,
                child,
                terminal,
                clock: super::Clock::default(),
                interruptions: 0,
            };
            if let Some(gate) = gate {
                gate.open(plan);
            }
            // A directory that a process is in can't be unmounted; where it stays there, that is all.
            let _ = nix::unistd::chdir(c"/");
            // Sockets, files, pipes are the command's. A reader of its stdout sees its end when the command closes it.
            // stderr stays, for warnings, and the terminal, if there is one.
            sys::go_on_without_the_start(alone, supervisor.terminal.fd(), supervisor, Supervisor::run)
        }
    }
}

/// What only the child itself can do.
fn as_the_command(plan: &Plan, terminal: &Terminal, chld_was_ignored: bool) -> Result<(), Error> {
    if plan.limits.session == Session::New {
        limits::leave_session(plan)?;
    } else {
        sys::lead_process_group().map_err(|errno| call("setpgid(0, 0)", errno))?;
    }
    if terminal.at_once && plan.limits.session == Session::AsFound {
        // Before it reads from the terminal, which would stop it. SIGTTOU is blocked still.
        terminal.give_to(sys::getpid().map_err(|errno| call("getpid", errno))?);
    }
    if chld_was_ignored {
        sys::ignore(Signal::CHLD).map_err(|errno| call("rt_sigaction(SIGCHLD)", errno))?;
    }
    Ok(())
}

/// Where the command keeps what the supervisor must not have, it waits until the supervisor is without.
struct Gate {
    read: OwnedFd,
    write: OwnedFd,
}

impl Gate {
    fn where_needed(plan: &Plan) -> Result<Option<Self>, Error> {
        if plan.keep.is_empty() && plan.no_new_privs != NoNewPrivs::AsFound(false) {
            return Ok(None);
        }
        let (read, write) = sys::pipe().map_err(|errno| call("pipe2", errno))?;
        Ok(Some(Self { read, write }))
    }

    /// In the child. Where the gate stays shut the supervisor has said why.
    fn pass(self) {
        drop(self.write);
        if !matches!(sys::got_byte(self.read.as_fd()), Ok(true)) {
            sys::exit(FAILED);
        }
    }

    /// In the supervisor: gives up the rest, proves it, and lets the command start.
    fn open(self, plan: &Plan) {
        let Self { read, write } = self;
        drop(read);
        let opened = credentials::drop_what_is_kept()
            .at(Stage::Drop)
            .and_then(|()| proof::prove_supervisor(plan).at(Stage::Proof))
            .and_then(|()| let_in(&write).at(Stage::Drop));
        if let Err(failure) = opened {
            failure.report();
            sys::exit(failure.exit_code());
        }
    }
}

fn let_in(write: &OwnedFd) -> Result<(), Error> {
    match sys::put_byte(write.as_fd()) {
        // A child that has ended on its own has said why.
        Ok(()) | Err(Errno::EPIPE) => Ok(()),
        Err(errno) => Err(call("write(pipe)", errno)),
    }
}
