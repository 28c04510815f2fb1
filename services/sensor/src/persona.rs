//! Who a decky plays: all that makes it look like one real machine, the same at each start.

use std::{
    collections::BTreeMap,
    fmt,
    net::IpAddr,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::decoys::Options;

/// What a decky runs. Each service has for each of them the one build that such a machine would have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Os {
    /// Debian 12 (bookworm).
    Debian12,
    /// Debian 11 (bullseye).
    Debian11,
    /// Ubuntu 22.04 LTS.
    Ubuntu2204,
    /// Ubuntu 20.04 LTS.
    Ubuntu2004,
    /// Rocky Linux 9.
    Rocky9,
    /// CentOS 7.
    CentOs7,
    /// Windows Server 2019.
    WindowsServer2019,
    /// Windows 10.
    Windows10,
    /// FreeBSD 13.
    FreeBsd13,
    /// A device with BusyBox: a router, a camera.
    BusyBox,
}

impl Os {
    /// The names on the wire.
    pub const ALL: [(&'static str, Os); 10] = [
        ("debian_12", Os::Debian12),
        ("debian_11", Os::Debian11),
        ("ubuntu_22_04", Os::Ubuntu2204),
        ("ubuntu_20_04", Os::Ubuntu2004),
        ("rocky_9", Os::Rocky9),
        ("centos_7", Os::CentOs7),
        ("windows_server_2019", Os::WindowsServer2019),
        ("windows_10", Os::Windows10),
        ("freebsd_13", Os::FreeBsd13),
        ("busybox", Os::BusyBox),
    ];

    /// From the name on the wire.
    pub fn parse(name: &str) -> Option<Os> {
        Os::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, os)| os)
    }
}

/// One decky as its services see it.
pub struct Persona {
    /// Of the decky.
    pub id: Uuid,
    /// Its name in the fleet; attackers never see it.
    pub name: String,
    /// Its address.
    pub ip: IpAddr,
    /// What it calls itself.
    pub hostname: String,
    /// Such as `mail-server`.
    pub archetype: String,
    /// What it runs.
    pub os: Os,
    /// When it was started, as it says.
    pub booted_at: DateTime<Utc>,
    /// Of its network card, in lower case with colons.
    pub mac: String,
    /// All that it offers, which may change while it plays.
    pub services: Arc<Services>,
    /// All that is its own comes from this.
    pub(crate) seed: [u8; 32],
}

/// Who it is; what its keys come from is not shown.
impl fmt::Debug for Persona {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Persona")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("ip", &self.ip)
            .field("os", &self.os)
            .field("services", &self.services)
            .finish_non_exhaustive()
    }
}

/// What a decky offers at the time, by the services' names, with their options.
#[derive(Default)]
pub struct Services(RwLock<Offered>);

#[derive(Default)]
struct Offered {
    services: BTreeMap<String, Options>,
    /// Counts the changes.
    version: u64,
}

impl Services {
    fn offered(&self) -> RwLockReadGuard<'_, Offered> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of them.
    pub fn all(&self) -> BTreeMap<String, Options> {
        self.offered().services.clone()
    }

    /// Whether it offers this one.
    pub fn has(&self, name: &str) -> bool {
        self.offered().services.contains_key(name)
    }

    /// A number that is another one after they have changed.
    pub(crate) fn version(&self) -> u64 {
        self.offered().version
    }

    /// From now on these.
    pub(crate) fn set(&self, services: BTreeMap<String, Options>) {
        let mut offered = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if offered.services != services {
            offered.services = services;
            offered.version += 1;
        }
    }
}

/// Their names; the options have credentials among them.
impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.offered().services.keys()).finish()
    }
}

impl Persona {
    /// 32 bytes that are this decky's alone for this use, the same at each start: for keys, random generators, choices.
    /// HMAC-SHA256 of the label under the seed.
    pub fn secret(&self, label: &str) -> [u8; 32] {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &self.seed);
        let tag = ring::hmac::sign(&key, label.as_bytes());
        let mut bytes = [0; 32];
        bytes.copy_from_slice(tag.as_ref());
        bytes
    }

    /// A number that is this decky's alone for this use, below `end` (0 for an `end` of 0).
    pub fn number(&self, label: &str, end: u64) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.secret(label)[..8]);
        u64::from_be_bytes(bytes).checked_rem(end).unwrap_or(0)
    }

    /// One of several, the same at each start; none of an empty list.
    pub fn pick<'a, T>(&self, label: &str, among: &'a [T]) -> Option<&'a T> {
        let at = self.number(label, u64::try_from(among.len()).unwrap_or(0));
        among.get(usize::try_from(at).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn what_is_shown_of_a_decky_has_no_secrets() {
        let persona = testing::persona_of(Os::Debian12, 201);
        let options = Options::from([("credentials".to_owned(), "root:hunter2".to_owned())]);
        persona.services.set(BTreeMap::from([("ssh".to_owned(), options)]));
        let shown = format!("{persona:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("201, 201"), "{shown}");
        for wanted in ["decky-201", "127.0.0.1", "Debian12", "\"ssh\"", &persona.id.to_string()] {
            assert!(shown.contains(wanted), "{wanted}: {shown}");
        }
    }
}
