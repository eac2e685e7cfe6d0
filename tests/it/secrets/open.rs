//! `--open`: a file opened by root, handed on by the protocol of the sockets.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::cases;
use crate::harness::{Case, Need, Outcome};
use crate::jail::{Jail, owner};

pub fn cases() -> Vec<Case> {
    cases![
        an_open_file_is_handed_on_behind_the_sockets,
        a_file_is_opened_for_what_was_asked_and_stays_as_it_was,
        a_device_is_handed_on,
        a_file_is_opened_by_its_own_name_where_a_link_of_roots_leads,
    ]
}

/// Tells of each descriptor its name, mode and flags, and what can be done with it.
const TELL: &str = "import errno,fcntl,os\n\
    def attempt(f):\n\
    \x20try: return f()\n\
    \x20except OSError as e: return errno.errorcode[e.errno]\n\
    for i,name in enumerate(os.environ['LISTEN_FDNAMES'].split(':')):\n\
    \x20fd=3+i; flags=fcntl.fcntl(fd,fcntl.F_GETFL)\n\
    \x20print(name,['ro','wo','rw'][flags&3],'append' if flags&os.O_APPEND else '-','nonblock' if flags&os.O_NONBLOCK else '-',attempt(lambda: os.read(fd,99)),attempt(lambda: os.write(fd,b'new')))";

fn an_open_file_is_handed_on_behind_the_sockets() -> Outcome {
    let jail = Jail::new()?.network().setup("echo conf >$W/app.conf; echo log >$W/log");
    let (conf, log) = (jail.at("app.conf"), format!("journal={}:append", jail.at("log")));
    let report = jail.report(&["--open", &conf, "--listen", "http=80", "--open", &log, "--listen", "443", "node"])?;
    report.is_exactly(1000, 1000, &[1, 4, 100, 1000]);
    assert_eq!(report.variable("LISTEN_FDS").as_deref(), Some("4"));
    assert_eq!(report.variable("LISTEN_FDNAMES").as_deref(), Some("http:unknown:app.conf:journal"));
    assert_eq!(report.variable("LISTEN_PID"), Some(report.number("pid").to_string()));
    assert_eq!(report.descriptors(), [0, 1, 2, 3, 4, 5, 6]);
    let target = |fd: u64| report.descriptor(fd).and_then(|one| one["target"].as_str()).unwrap_or_default().to_owned();
    assert_eq!((target(5), target(6)), (conf, jail.at("log")));
    let told = jail.run(&["--dry-run", "--open", &log, "node", "true"])?.stdout;
    assert!(told.contains(&format!("3 journal: opens {} append\n", jail.at("log"))), "{told}");
    Ok(())
}

fn a_file_is_opened_for_what_was_asked_and_stays_as_it_was() -> Outcome {
    Need::Root.programs(&["python3"])?;
    let jail = Jail::new()?.setup("for f in a b c d; do printf old >$W/$f; chmod 600 $W/$f; done; chmod 700 $W");
    let option = |name: &str, mode: &str| format!("{}{mode}", jail.at(name));
    let (a, b, c, d) = (option("a", ""), option("b", ":rw"), option("c", ":append"), option("d", ":ro"));
    let ran = jail.run(&["--open", &a, "--open", &b, "--open", &c, "--open", &d, "node", "python3", "-c", TELL])?;
    let expected = "a ro - - b'old' EBADF\nb rw - - b'old' 3\nc wo append - EBADF 3\nd ro - - b'old' EBADF\n";
    assert_eq!((ran.code, ran.stdout.as_str()), (0, expected), "{ran:?}");
    let content = |name: &str| fs::read_to_string(jail.at(name)).unwrap_or_default();
    assert_eq!(["a", "b", "c", "d"].map(content), ["old", "oldnew", "oldnew", "old"]);
    assert_eq!((owner(jail.at("b")), fs::metadata(jail.at("b"))?.mode() & 0o777), ((0, 0), 0o600));
    Ok(())
}

fn a_device_is_handed_on() -> Outcome {
    let report = Jail::new()?.report(&["--open", "/dev/null:rw", "node"])?;
    let null = report.descriptor(3).cloned().unwrap_or_default();
    assert_eq!((&null["kind"], &null["target"]), (&"character device".into(), &"/dev/null".into()));
    assert_eq!(report.variable("LISTEN_FDNAMES").as_deref(), Some("null"));
    Ok(())
}

fn a_file_is_opened_by_its_own_name_where_a_link_of_roots_leads() -> Outcome {
    // As Kubernetes lays its secrets out: two links, the directory in between replaced as a whole.
    let jail =
        Jail::new()?.setup("mkdir -p $W/v/..1; printf hush >$W/v/..1/key; ln -sfn ..1 $W/v/..data; ln -sf ..data/key $W/v/key");
    let (secret, open) = (format!("KEY={}", jail.at("v/key")), jail.at("v/key"));
    let ran =
        jail.run(&["--secret", &secret, "--open", &open, "node", "/bin/sh", "-c", "cat $KEY - <&3; echo $LISTEN_FDNAMES"])?;
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "hushhushkey\n"), "{ran:?}");
    Ok(())
}
