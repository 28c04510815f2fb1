//! The believable machine: users, files, processes and a shell, all made up from the persona and never run.
//!
//! Nothing here opens a socket, a file or a process of the real machine: files live in memory, and what the attacker
//! changes is kept for the attacker's address for a day.

mod accounts;
mod cmd;
mod content;
mod daemons;
mod exec;
mod expand;
pub mod facts;
mod interact;
mod parse;
mod processes;
mod run;
mod tree;
pub mod tty;
pub mod vfs;
mod windows;

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use uuid::Uuid;

pub use facts::{Facts, Family};
pub use run::Shell;

use crate::persona::Persona;
use vfs::{Overlay, Vfs};

/// How long what an attacker changed is kept after the last visit.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// Attackers whose changes a machine keeps.
const MAX_GUESTS: usize = 64;

/// Somebody with an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: String,
    /// User id; the group has the same.
    pub uid: u32,
    /// Home folder.
    pub home: String,
    /// Login shell.
    pub shell: String,
    /// Full name.
    pub gecos: String,
}

/// One machine, shared by all services of its decky.
pub struct Machine {
    persona: Arc<Persona>,
    users: Vec<User>,
    guests: Mutex<HashMap<IpAddr, Guest>>,
    own: Mutex<Option<Made>>,
}

/// The files of a machine's own, and of which version of its services they are.
struct Made {
    version: u64,
    own: Arc<tree::Own>,
}

struct Guest {
    changes: Arc<Mutex<Overlay>>,
    last: Instant,
}

type Registry = Mutex<HashMap<(Uuid, [u8; 32]), Weak<Machine>>>;

/// The machines that are in use, so that the services of one decky are on the same.
static MACHINES: OnceLock<Registry> = OnceLock::new();

impl Machine {
    /// The machine of a decky; its services share it. `accounts` are names that must have an account there.
    pub fn of(persona: &Arc<Persona>) -> Arc<Machine> {
        let mut machines = MACHINES.get_or_init(Registry::default).lock().unwrap_or_else(PoisonError::into_inner);
        let key = (persona.id, persona.secret("machine"));
        if let Some(machine) = machines.get(&key).and_then(Weak::upgrade)
            && machine.persona.hostname == persona.hostname
            && machine.persona.os == persona.os
            && machine.persona.ip == persona.ip
            // A decky that was gone and is back has others, and nobody tells the old ones any more.
            && Arc::ptr_eq(&machine.persona.services, &persona.services)
        {
            return machine;
        }
        if machines.len() > 64 {
            machines.retain(|_, machine| machine.strong_count() > 0);
        }
        let machine = Arc::new(Machine {
            users: users(persona),
            persona: persona.clone(),
            guests: Mutex::default(),
            own: Mutex::default(),
        });
        machines.insert(key, Arc::downgrade(&machine));
        machine
    }

    /// Who it plays.
    pub fn persona(&self) -> &Persona {
        &self.persona
    }

    /// What its system says of itself.
    pub fn facts(&self) -> &'static Facts {
        Facts::of(self.persona.os)
    }

    /// Its accounts that people have, the superuser first.
    pub fn users(&self) -> &[User] {
        &self.users
    }

    /// When its system was installed.
    pub fn installed_at(&self) -> DateTime<Utc> {
        let days = 40 + self.persona.number("installed days", 400);
        let seconds = self.persona.number("installed seconds", 86_400);
        self.persona.booted_at
            - chrono::Duration::days(i64::try_from(days).unwrap_or(40))
            - chrono::Duration::seconds(i64::try_from(seconds).unwrap_or(0))
    }

    /// Seconds since it was started, as it says.
    pub fn uptime(&self) -> i64 {
        (Utc::now() - self.persona.booted_at).num_seconds().max(61)
    }

    /// Processors.
    pub fn processors(&self) -> usize {
        match self.facts().family {
            Family::BusyBox => 2,
            _ => *self.persona.pick("processors", &[2_usize, 2, 4, 4, 8]).unwrap_or(&2),
        }
    }

    /// Memory in KiB.
    pub fn memory(&self) -> u64 {
        match self.facts().family {
            Family::BusyBox => 250_000 + self.persona.number("memory", 2000),
            _ => {
                let gib = *self.persona.pick("memory", &[2_u64, 4, 4, 8, 16]).unwrap_or(&4);
                gib * 1024 * 1024 * 96 / 100 + self.persona.number("memory low", 40_000)
            }
        }
    }

    /// Its processor, as it names it.
    pub fn processor(&self) -> (&'static str, u32, u32, &'static str) {
        if self.facts().family == Family::BusyBox {
            return ("ARMv7 Processor rev 1 (v7l)", 0, 0, "");
        }
        *self
            .persona
            .pick(
                "processor",
                &[
                    ("Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz", 79, 1, "2399.996"),
                    ("Intel(R) Xeon(R) Gold 6248 CPU @ 2.50GHz", 85, 7, "2494.140"),
                    ("Intel(R) Xeon(R) Silver 4214 CPU @ 2.20GHz", 85, 7, "2194.843"),
                    ("Intel(R) Xeon(R) CPU E5-2650 v3 @ 2.30GHz", 63, 2, "2299.998"),
                ],
            )
            .unwrap_or(&("Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz", 79, 1, "2399.996"))
    }

    /// Size of its disk in KiB.
    pub fn disk(&self) -> u64 {
        *self.persona.pick("disk", &[20_u64, 40, 40, 60, 80]).unwrap_or(&40) * 1024 * 1024
    }

    /// How much of the disk is in use, in KiB.
    pub fn disk_used(&self) -> u64 {
        self.disk() * (12 + self.persona.number("disk used", 50)) / 100
    }

    /// The gateway: the first address of its /24.
    pub fn gateway(&self) -> String {
        match self.persona.ip {
            IpAddr::V4(ip) => {
                let [a, b, c, d] = ip.octets();
                format!("{a}.{b}.{c}.{}", if d == 1 { 254 } else { 1 })
            }
            IpAddr::V6(_) => "fe80::1".to_owned(),
        }
    }

    /// A process id that stays: of the `n`-th thing with this label.
    pub fn pid(&self, label: &str, from: u64, to: u64) -> u64 {
        from + self.persona.number(&format!("pid {label}"), to.saturating_sub(from).max(1))
    }

    /// Its files as this attacker sees them.
    pub fn files(self: &Arc<Self>, guest: IpAddr) -> Vfs {
        let mut guests = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        guests.retain(|_, guest| now.duration_since(guest.last) < KEPT || Arc::strong_count(&guest.changes) > 1);
        if guests.len() >= MAX_GUESTS && !guests.contains_key(&guest) {
            let oldest = guests.iter().min_by_key(|(_, guest)| guest.last).map(|(address, _)| *address);
            if let Some(oldest) = oldest {
                guests.remove(&oldest);
            }
        }
        let entry = guests.entry(guest).or_insert_with(|| Guest { changes: Arc::default(), last: now });
        entry.last = now;
        Vfs::new(self.clone(), entry.changes.clone())
    }

    /// The files that only this machine has: made anew when its services have changed.
    fn own(&self) -> Arc<tree::Own> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        // Asked for first: a change while they are made has another one.
        let version = self.persona.services.version();
        match &*own {
            Some(made) if made.version == version => made.own.clone(),
            _ => {
                let made = Arc::new(tree::Own::new(self));
                *own = Some(Made { version, own: made.clone() });
                made
            }
        }
    }
}

/// Bytes of a client as a text that gives them back.
pub fn text_of(bytes: &[u8]) -> String {
    expand::from_bytes(bytes)
}

/// First names of people who run servers.
const PEOPLE: [(&str, &str); 16] = [
    ("michael", "Michael Brandt"),
    ("jsmith", "John Smith"),
    ("tom", "Tom Becker"),
    ("deploy", ""),
    ("sarah", "Sarah Keller"),
    ("mkowalski", "Marek Kowalski"),
    ("david", "David Lang"),
    ("peter", "Peter Novak"),
    ("anna", "Anna Fischer"),
    ("ops", ""),
    ("lmartin", "Luc Martin"),
    ("carlos", "Carlos Ruiz"),
    ("svc-backup", ""),
    ("ivan", "Ivan Petrov"),
    ("kevin", "Kevin Moore"),
    ("nagios", ""),
];

fn users(persona: &Persona) -> Vec<User> {
    let facts = Facts::of(persona.os);
    let shell = |bash: &str| match facts.family {
        Family::BusyBox | Family::Bsd => "/bin/sh".to_owned(),
        _ => bash.to_owned(),
    };
    let root = match facts.family {
        Family::Windows => User {
            name: "Administrator".to_owned(),
            uid: 500,
            home: "/Users/Administrator".to_owned(),
            shell: "cmd.exe".to_owned(),
            gecos: String::new(),
        },
        Family::Bsd => User {
            name: "root".to_owned(),
            uid: 0,
            home: "/root".to_owned(),
            shell: "/bin/csh".to_owned(),
            gecos: "Charlie &".to_owned(),
        },
        _ => User {
            name: "root".to_owned(),
            uid: 0,
            home: "/root".to_owned(),
            shell: shell("/bin/bash"),
            gecos: "root".to_owned(),
        },
    };
    let mut users = vec![root];
    if facts.family == Family::BusyBox {
        return users;
    }
    for n in 0..1 + persona.number("people", 2) {
        if let Some((name, gecos)) = persona.pick(&format!("person {n}"), &PEOPLE)
            && !users.iter().any(|user| user.name == *name)
        {
            users.push(person(facts, name, gecos, facts.first_uid + u32::try_from(users.len() - 1).unwrap_or(0)));
        }
    }
    users
}

/// An account for somebody.
fn person(facts: &Facts, name: &str, gecos: &str, uid: u32) -> User {
    User {
        name: name.to_owned(),
        uid,
        home: match facts.family {
            Family::Windows => format!("/Users/{name}"),
            _ => format!("/home/{name}"),
        },
        shell: match facts.family {
            Family::Windows => "cmd.exe".to_owned(),
            Family::Bsd | Family::BusyBox => "/bin/sh".to_owned(),
            _ => "/bin/bash".to_owned(),
        },
        gecos: gecos.to_owned(),
    }
}
