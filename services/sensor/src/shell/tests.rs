//! The machine and its shell's parts, without a client.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use proptest::prelude::*;

use super::{
    Machine, User, accounts, daemons,
    expand::{escapes, fits, from_bytes, to_bytes},
    parse::{Fault, parse},
    processes,
    vfs::{Errno, Kind},
};
use crate::{
    decoys::{self, Options, ssh::keys::HostKeys},
    persona::{Os, Persona},
    testing,
};

const GUEST: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

#[test]
fn each_system_has_a_tree_that_can_be_walked() {
    for (name, os) in Os::ALL {
        let machine = Machine::of(&testing::persona_of(os, 40));
        let files = machine.files(GUEST);
        let mut todo = vec!["/".to_owned()];
        let mut count = 0;
        while let Some(path) = todo.pop() {
            for (name, meta) in files.list("/", &path).unwrap() {
                count += 1;
                let below = format!("{}/{name}", path.trim_end_matches('/'));
                match meta.kind {
                    Kind::Folder => todo.push(below),
                    Kind::File if !below.contains("ssh_host") && meta.size < 1 << 20 => {
                        assert!(files.read("/", &below, 1 << 20).is_ok(), "{below}");
                    }
                    _ => {}
                }
            }
        }
        assert!(count > 30, "{name}: {count}");
    }
}

#[test]
fn what_one_attacker_changes_the_other_does_not_see() {
    let machine = Machine::of(&testing::persona_of(Os::Debian12, 41));
    let (mine, others) = (machine.files(GUEST), machine.files(OTHER));
    mine.write("/tmp", "x", None, b"one").unwrap();
    mine.write("/tmp", "x", None, b"two").unwrap();
    assert_eq!(mine.read("/", "/tmp/x", 100).unwrap(), b"onetwo");
    assert_eq!(others.read("/", "/tmp/x", 100), Err(Errno::NoEntry));
    // In another session of the same address it is still there.
    assert_eq!(machine.files(GUEST).read("/", "/tmp/x", 2).unwrap(), b"on");
    mine.remove("/", "/etc", false, true).unwrap();
    assert_eq!(mine.list("/", "/etc").map(|list| list.len()), Err(Errno::NoEntry));
    mine.make_folder("/", "/etc", 0o755).unwrap();
    assert_eq!(mine.list("/", "/etc").unwrap().len(), 0);
    assert!(others.list("/", "/etc").unwrap().len() > 10);
    mine.rename("/", "/tmp/x", "/tmp/y").unwrap();
    assert_eq!(mine.read("/", "/tmp/y", 100).unwrap(), b"onetwo");
    assert_eq!(mine.stat("/", "/tmp/x", true).map(|_| ()), Err(Errno::NoEntry));
}

#[test]
fn links_and_rights_hold() {
    let machine = Machine::of(&testing::persona_of(Os::Debian12, 42));
    let mut files = machine.files(GUEST);
    assert_eq!(files.resolve("/", "/bin/sh", true).unwrap(), "/usr/bin/dash");
    files.link("/tmp", "a", "b").unwrap();
    files.link("/tmp", "b", "a").unwrap();
    assert_eq!(files.stat("/", "/tmp/a", true).map(|_| ()), Err(Errno::Loop));
    files.uid = 1000;
    assert_eq!(files.read("/", "/etc/shadow", 10), Err(Errno::Denied));
    assert_eq!(files.list("/", "/root").map(|_| ()), Err(Errno::Denied));
    assert_eq!(files.write("/", "/etc/passwd", None, b"x"), Err(Errno::Denied));
    assert!(files.write("/", "/tmp/mine", None, b"x").is_ok());
    assert_eq!(files.resolve("/", "/../../etc/./passwd", true).unwrap(), "/etc/passwd");
}

#[test]
fn too_much_is_only_counted() {
    let machine = Machine::of(&testing::persona_of(Os::Debian12, 43));
    let files = machine.files(GUEST);
    let part = vec![7; 1 << 20];
    for _ in 0..12 {
        files.write("/", "/tmp/big", None, &part).unwrap();
    }
    assert_eq!(files.stat("/", "/tmp/big", true).unwrap().1.size, 12 << 20);
    assert_eq!(files.read_at("/tmp/big", (12 << 20) - 4, 100).unwrap(), [0; 4]);
}

#[test]
fn no_two_machines_are_the_same_and_each_stays() {
    let read = |seed, path: &str| {
        Machine::of(&testing::persona_of(Os::Debian12, seed)).files(GUEST).read("/", path, 9999).unwrap()
    };
    assert_eq!(read(44, "/etc/machine-id"), read(44, "/etc/machine-id"));
    assert_ne!(read(44, "/etc/machine-id"), read(45, "/etc/machine-id"));
    assert_ne!(read(44, "/etc/shadow"), read(45, "/etc/shadow"));
    assert_eq!(read(44, "/etc/debian_version"), read(45, "/etc/debian_version"));
    // The programs of a system are the same on each machine with it.
    assert_eq!(read(44, "/bin/ls"), read(45, "/bin/ls"));
    assert!(read(44, "/bin/ls").starts_with(b"\x7fELF\x02"));
}

#[test]
fn quotes_and_blocks_that_are_open_wait_for_more() {
    for open in
        ["echo 'a", "echo \"a", "if true; then", "for i in 1 2; do echo", "cat <<EOF\nx", "a &&", "(ls", "echo $(ls"]
    {
        assert_eq!(parse(open), Err(Fault::Incomplete), "{open}");
    }
    for wrong in ["ls | | ls", "fi", ")", "if; then", "ls >"] {
        assert!(matches!(parse(wrong), Err(Fault::Unexpected(_))), "{wrong}");
    }
    for right in [
        "",
        "# no",
        "a; b & c",
        "cat <<'E' | sh\nx\nE\n",
        "f() { ls; }; f",
        "case $x in a|b) ls;; *) pwd;; esac",
        "x=1 y= ls 2>&1 >/dev/null",
    ] {
        assert!(parse(right).is_ok(), "{right}: {:?}", parse(right));
    }
    assert!(parse(&"(".repeat(100_000)).is_err());
    assert!(parse(&"$(".repeat(10_000)).is_err());
}

#[test]
fn patterns_fit_as_in_a_shell() {
    for (pattern, text, fit) in [
        ("*", "", true),
        ("a*c", "abbc", true),
        ("a*c", "abb", false),
        ("[a-c]?", "bz", true),
        ("[!a-c]?", "bz", false),
        ("\\*", "*", true),
        ("\\*", "x", false),
        ("[]", "a", false),
    ] {
        assert_eq!(fits(pattern, text), fit, "{pattern} {text}");
    }
    // Not in the time that a naive one would take.
    assert!(!fits(&"*a".repeat(200), &"a".repeat(150)));
}

#[test]
fn bytes_come_out_as_they_went_in() {
    assert_eq!(to_bytes(&escapes("\\x7fELF\\xff\\0101\\n")), b"\x7fELF\xffA\n");
    let all: Vec<u8> = (0..=255).collect();
    assert_eq!(to_bytes(&from_bytes(&all)), all);
}

proptest! {
    #[test]
    fn nothing_that_is_typed_makes_the_parser_fall(text in "[a-z$(){}\\[\\]|&;<>'\"`\\\\ \n#*?!=0-9-]{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn any_text_can_be_a_path(text in "\\PC{0,60}", cwd in "(/[a-z.]{0,5}){0,5}") {
        let machine = Machine::of(&testing::persona_of(Os::Debian12, 46));
        let files = machine.files(GUEST);
        let _ = files.stat(&cwd, &text, true);
        let _ = files.write(&cwd, &text, Some(3), b"x");
        let _ = files.remove(&cwd, &text, true, true);
    }
}

#[test]
fn a_machine_runs_what_it_offers_and_nothing_else() {
    let persona = testing::persona_of(Os::Debian12, 52);
    let offered = |names: &[&str]| {
        let services = names.iter().map(|name| ((*name).to_owned(), Options::new()));
        persona.services.set(services.collect());
    };
    let machine = Machine::of(&persona);
    let runs = |what: &str| processes::all(&machine).iter().any(|process| process.command.contains(what));
    offered(&["ssh", "mysql", "https"]);
    assert!(runs("/usr/sbin/sshd") && runs("/usr/sbin/mariadbd") && !runs("postgres"));
    assert_eq!(
        daemons::of(&machine).iter().flat_map(|daemon| daemon.ports.clone()).collect::<Vec<_>>(),
        [22, 443, 3306]
    );
    // Its services are changed while somebody is in.
    offered(&["telnet", "postgres"]);
    assert!(!runs("sshd") && !runs("mariadbd") && runs("/usr/sbin/inetd") && runs("postgres: 15/main: walwriter"));

    for (system, os) in Os::ALL {
        let persona = testing::persona_of(os, 53);
        let services = decoys::NAMES.map(|name| (name.to_owned(), Options::new()));
        persona.services.set(services.into_iter().collect());
        let machine = Machine::of(&persona);
        let ports: Vec<u16> = daemons::of(&machine).into_iter().flat_map(|daemon| daemon.ports).collect();
        assert_eq!(ports.len(), decoys::NAMES.len(), "{system}: {ports:?}");
        // Whoever owns a process has an account.
        let passwd = accounts::passwd(&machine, machine.users());
        for process in processes::all(&machine) {
            assert!(
                os == Os::Windows10 || os == Os::WindowsServer2019 || passwd.contains(&format!("{}:", process.user)),
                "{system}: {} of {}",
                process.command,
                process.user
            );
        }
    }
}

#[test]
fn a_machine_that_comes_back_runs_what_it_is_told_now() {
    let persona = testing::persona_of(Os::Debian12, 54);
    let offer = |persona: &Persona, name: &str| {
        persona.services.set([(name.to_owned(), Options::new())].into());
    };
    offer(&persona, "mysql");
    // A session holds the machine while its decky is removed.
    let before = Machine::of(&persona);
    let back = testing::persona_of(Os::Debian12, 54);
    offer(&back, "postgres");
    let machine = Machine::of(&back);
    let runs = |machine: &Machine, what: &str| processes::all(machine).iter().any(|one| one.command.contains(what));
    assert!(runs(&machine, "postgres") && !runs(&machine, "mariadbd"));
    assert!(runs(&before, "mariadbd"));
    assert!(Arc::ptr_eq(&machine, &Machine::of(&back)));
}

#[test]
fn the_processes_below_proc_are_those_that_run() {
    let persona = testing::persona_of(Os::Debian12, 55);
    let machine = Machine::of(&persona);
    let files = machine.files(GUEST);
    let commands = || {
        let all = files.list("/", "/proc").unwrap();
        let text = |(name, _)| files.read("/", &format!("/proc/{name}/cmdline"), 4096).unwrap_or_default();
        all.into_iter().map(text).map(|bytes| from_bytes(&bytes)).collect::<String>()
    };
    for (name, command, other) in [("mysql", "mariadbd", "postgres"), ("postgres", "postgres", "mariadbd")] {
        persona.services.set([(name.to_owned(), Options::new())].into());
        let commands = commands();
        assert!(commands.contains(command) && !commands.contains(other), "{commands}");
    }
}

#[test]
fn accounts_are_the_same_wherever_one_asks() {
    for (system, os) in Os::ALL {
        // Which programs a machine has is its own choice.
        for seed in 60..66 {
            let persona = testing::persona_of(os, seed);
            let services = decoys::NAMES.map(|name| (name.to_owned(), Options::new()));
            persona.services.set(services.into_iter().collect());
            let machine = Machine::of(&persona);
            let files = machine.files(GUEST);
            files.login("admin");
            files.login("guest");
            let text = |made: fn(&Machine, &[User]) -> String| made(&machine, &files.users());
            for made in [accounts::passwd as fn(&Machine, &[User]) -> String, accounts::group] {
                let text = text(made);
                let ids: Vec<&str> = text.lines().filter_map(|line| line.split(':').nth(2)).collect();
                let names: BTreeSet<&str> = text.lines().filter_map(|line| line.split(':').next()).collect();
                assert_eq!(ids.len(), ids.iter().collect::<BTreeSet<_>>().len(), "{system}: {text}");
                assert_eq!(ids.len(), names.len(), "{system}: {text}");
            }
            if os == Os::Windows10 || os == Os::WindowsServer2019 {
                continue;
            }
            for line in text(accounts::passwd).lines() {
                let parts: Vec<&str> = line.split(':').collect();
                let user = files.user(parts[0]).unwrap();
                assert_eq!((user.uid.to_string().as_str(), user.home.as_str()), (parts[2], parts[5]), "{line}");
                assert_eq!(files.user_name(user.uid), parts[0]);
                // Who logs in with it has it, and no other one.
                assert_eq!(files.login(parts[0]), user);
            }
            for line in text(accounts::group).lines() {
                let parts: Vec<&str> = line.split(':').collect();
                assert_eq!(files.group_name(parts[2].parse().unwrap()), parts[0]);
            }
            let postgres = files.user("postgres").unwrap();
            assert!(postgres.uid < 1000 && files.stat("/", &postgres.home, true).unwrap().1.uid == postgres.uid);
            let (passwd, shadow) = (text(accounts::passwd), text(accounts::shadow));
            let names =
                |text: &str| text.lines().map(|line| line.split(':').next().unwrap().to_owned()).collect::<Vec<_>>();
            assert_eq!(names(&passwd), names(&shadow), "{system}");
        }
    }
}

#[tokio::test]
async fn an_rsa_key_is_made_for_who_reads_it_and_not_for_who_lists_it() {
    let persona = testing::persona_of(Os::CentOs7, 56);
    let machine = Machine::of(&persona);
    let files = machine.files(GUEST);
    let path = "/etc/ssh/ssh_host_rsa_key.pub";
    let size = || files.stat("/", path, true).unwrap().1.size;
    let before = size();
    assert!(files.list("/", "/etc/ssh").unwrap().len() >= 7);
    files.settle("/etc", "ssh/ssh_host_ed25519_key").await;
    assert!(HostKeys::known(&persona).is_none());
    files.settle("/etc", "ssh/ssh_host_rsa_key").await;
    let text = files.read("/", path, 9999).unwrap();
    assert!(text.starts_with(b"ssh-rsa AAAA"));
    assert_eq!((u64::try_from(text.len()).unwrap(), before), (size(), size()));
    let text = files.read("/", "/etc/ssh/ssh_host_rsa_key", 9999).unwrap();
    assert!(text.starts_with(b"-----BEGIN OPENSSH PRIVATE KEY-----\n"));
}
