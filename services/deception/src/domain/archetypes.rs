//! What deckies can be: archetypes, services, systems.

/// The services that a decky can have, each with its standard port. Sensors know the same ones.
pub const SERVICES: [(&str, u16); 16] = [
    ("ssh", 22),
    ("telnet", 23),
    ("ftp", 21),
    ("http", 80),
    ("https", 443),
    ("smtp", 25),
    ("mysql", 3306),
    ("postgres", 5432),
    ("redis", 6379),
    ("mongodb", 27017),
    ("ldap", 389),
    ("mqtt", 1883),
    ("vnc", 5900),
    ("snmp", 161),
    ("docker_api", 2375),
    ("elasticsearch", 9200),
];

/// The systems that a decky can play, each with its family as `nmap_os` names it. Sensors know the same ones.
pub const SYSTEMS: [(&str, &str); 10] = [
    ("debian_12", "linux"),
    ("debian_11", "linux"),
    ("ubuntu_22_04", "linux"),
    ("ubuntu_20_04", "linux"),
    ("rocky_9", "linux"),
    ("centos_7", "linux"),
    ("windows_server_2019", "windows"),
    ("windows_10", "windows"),
    ("freebsd_13", "bsd"),
    ("busybox", "embedded"),
];

/// The families of systems.
pub(crate) const FAMILIES: [&str; 4] = ["linux", "windows", "bsd", "embedded"];

/// A kind of machine.
#[derive(Debug)]
pub(crate) struct Archetype {
    /// As in a deployment.
    pub(crate) name: &'static str,
    pub(crate) description: &'static str,
    /// The family of its systems.
    pub(crate) nmap_os: &'static str,
    /// What such a machine runs.
    pub(crate) systems: &'static [&'static str],
    /// What it serves when nothing else is said.
    pub(crate) services: &'static [&'static str],
    /// All that it may serve: mutations choose from these.
    pub(crate) pool: &'static [&'static str],
    /// What such machines are called; see `names::hostname`.
    pub(crate) hostnames: &'static [&'static str],
    /// The first three bytes of network cards that such machines have.
    pub(crate) makers: &'static [[u8; 3]],
}

const VMWARE: [u8; 3] = [0x00, 0x50, 0x56];
const KVM: [u8; 3] = [0x52, 0x54, 0x00];
const HYPER_V: [u8; 3] = [0x00, 0x15, 0x5d];
const DELL: [u8; 3] = [0xf8, 0xb1, 0x56];
const INTEL: [u8; 3] = [0x00, 0x1b, 0x21];
const HEWLETT_PACKARD: [u8; 3] = [0x3c, 0xd9, 0x2b];
const HIKVISION: [u8; 3] = [0x44, 0x19, 0xb6];
const TP_LINK: [u8; 3] = [0x50, 0xc7, 0xbf];

const VIRTUAL: &[[u8; 3]] = &[VMWARE, KVM];
const SERVER: &[[u8; 3]] = &[VMWARE, KVM, DELL, INTEL];
const LINUX: &[&str] = &["debian_12", "debian_11", "ubuntu_22_04", "ubuntu_20_04", "rocky_9", "centos_7"];
const DEBIAN: &[&str] = &["debian_12", "debian_11", "ubuntu_22_04", "ubuntu_20_04"];

/// All archetypes. Their pools have more services than they begin with, so that a mutation always finds others.
pub(crate) const ARCHETYPES: [Archetype; 18] = [
    Archetype {
        name: "linux-server",
        description: "A server for this and that",
        nmap_os: "linux",
        systems: LINUX,
        services: &["ssh", "http"],
        pool: &["ssh", "http", "https", "ftp", "smtp", "mysql", "postgres", "redis", "snmp"],
        hostnames: &["srv-{nn}", "{site}-srv-{nn}", "{word}", "{word}-{nn}", "node{nn}", "vm-{word}"],
        makers: SERVER,
    },
    Archetype {
        name: "web-server",
        description: "A web server with what stands behind it",
        nmap_os: "linux",
        systems: LINUX,
        services: &["ssh", "http", "https"],
        pool: &["ssh", "http", "https", "ftp", "mysql", "redis"],
        hostnames: &["web-{nn}", "web{nn}", "www{n}", "{site}-web-{nn}", "portal-{nn}", "nginx-{word}", "shop-{nn}"],
        makers: VIRTUAL,
    },
    Archetype {
        name: "database-server",
        description: "Databases that applications share",
        nmap_os: "linux",
        systems: LINUX,
        services: &["ssh", "mysql"],
        pool: &["ssh", "mysql", "postgres", "mongodb", "redis"],
        hostnames: &["db-{nn}", "db{nn}", "{site}-db-{nn}", "sql-{word}", "dbprod-{nn}", "data-{nn}"],
        makers: SERVER,
    },
    Archetype {
        name: "mail-server",
        description: "Takes and sends mail",
        nmap_os: "linux",
        systems: LINUX,
        services: &["ssh", "smtp", "https"],
        pool: &["ssh", "smtp", "http", "https", "ldap"],
        hostnames: &["mail", "mail-{nn}", "mx{n}", "{site}-mx-{nn}", "smtp-{nn}", "relay-{nn}"],
        makers: VIRTUAL,
    },
    Archetype {
        name: "file-server",
        description: "Files of a department",
        nmap_os: "linux",
        systems: DEBIAN,
        services: &["ssh", "ftp"],
        pool: &["ssh", "ftp", "http", "https", "snmp"],
        hostnames: &["files-{nn}", "nas-{nn}", "{site}-fs-{nn}", "share-{word}", "ftp-{nn}", "backup-{nn}"],
        makers: SERVER,
    },
    Archetype {
        name: "linux-workstation",
        description: "Somebody's Linux machine",
        nmap_os: "linux",
        systems: &["ubuntu_22_04", "ubuntu_20_04"],
        services: &["ssh", "vnc"],
        pool: &["ssh", "vnc", "http", "ftp"],
        hostnames: &["ws-{nnn}", "{word}-desktop", "{site}-ws-{nnn}", "dev-{word}", "lab-pc-{nn}"],
        makers: &[DELL, INTEL, HEWLETT_PACKARD],
    },
    Archetype {
        name: "windows-server",
        description: "A Windows server with IIS",
        nmap_os: "windows",
        systems: &["windows_server_2019"],
        services: &["http", "https", "ftp"],
        pool: &["http", "https", "ftp", "smtp", "mysql", "snmp"],
        hostnames: &["WIN-{ALNUM11}", "{SITE}-IIS{nn}", "SRV-APP{nn}", "{SITE}-SRV{nn}", "APP-{WORD}"],
        makers: &[VMWARE, HYPER_V],
    },
    Archetype {
        name: "domain-controller",
        description: "A directory of a Windows domain",
        nmap_os: "windows",
        systems: &["windows_server_2019"],
        services: &["ldap", "http"],
        pool: &["ldap", "http", "https", "snmp", "smtp"],
        hostnames: &["{SITE}-DC{nn}", "DC{nn}", "{SITE}DC{n}", "PDC-{SITE}", "AD-{SITE}-{nn}"],
        makers: &[VMWARE, HYPER_V, DELL],
    },
    Archetype {
        name: "windows-workstation",
        description: "Somebody's Windows machine",
        nmap_os: "windows",
        systems: &["windows_10"],
        services: &["vnc", "ftp"],
        pool: &["vnc", "ftp", "http", "mysql", "snmp"],
        hostnames: &["DESKTOP-{ALNUM7}", "LAPTOP-{ALNUM8}", "{SITE}-PC{nnn}", "PC-{WORD}"],
        makers: &[DELL, INTEL, HEWLETT_PACKARD],
    },
    Archetype {
        name: "directory-server",
        description: "An LDAP directory on Linux",
        nmap_os: "linux",
        systems: DEBIAN,
        services: &["ssh", "ldap"],
        pool: &["ssh", "ldap", "http", "https", "smtp"],
        hostnames: &["ldap-{nn}", "ldap{n}", "{site}-ldap-{nn}", "dir-{nn}", "idm-{nn}", "auth-{nn}"],
        makers: VIRTUAL,
    },
    Archetype {
        name: "devops-host",
        description: "Runs containers and builds",
        nmap_os: "linux",
        systems: DEBIAN,
        services: &["ssh", "docker_api"],
        pool: &["ssh", "docker_api", "http", "https", "redis", "postgres"],
        hostnames: &["docker-{nn}", "ci-{nn}", "build-{nn}", "{site}-ci-{nn}", "runner-{word}", "swarm-{nn}"],
        makers: VIRTUAL,
    },
    Archetype {
        name: "search-node",
        description: "A node of a search cluster",
        nmap_os: "linux",
        systems: LINUX,
        services: &["ssh", "elasticsearch"],
        pool: &["ssh", "elasticsearch", "http", "redis", "mongodb"],
        hostnames: &["es-{nn}", "elk-{nn}", "search-{nn}", "{site}-es-{nn}", "logs-{nn}"],
        makers: VIRTUAL,
    },
    Archetype {
        name: "cache-server",
        description: "A cache and queue in memory",
        nmap_os: "linux",
        systems: LINUX,
        services: &["ssh", "redis"],
        pool: &["ssh", "redis", "mongodb", "http"],
        hostnames: &["redis-{nn}", "cache-{nn}", "{site}-cache-{nn}", "queue-{nn}", "mem-{word}"],
        makers: VIRTUAL,
    },
    Archetype {
        name: "bsd-server",
        description: "A FreeBSD server",
        nmap_os: "bsd",
        systems: &["freebsd_13"],
        services: &["ssh", "http"],
        pool: &["ssh", "http", "https", "ftp", "smtp", "postgres"],
        hostnames: &["{word}", "bsd-{nn}", "{site}-gw-{nn}", "fw-{nn}", "ns{n}"],
        makers: SERVER,
    },
    Archetype {
        name: "iot-hub",
        description: "Gathers what sensors of a building say",
        nmap_os: "linux",
        systems: &["debian_12", "debian_11"],
        services: &["ssh", "mqtt"],
        pool: &["ssh", "mqtt", "http", "https", "redis"],
        hostnames: &["iot-{nn}", "mqtt-{nn}", "hub-{word}", "{site}-iot-gw{n}", "bms-{nn}"],
        makers: &[INTEL, DELL],
    },
    Archetype {
        name: "ip-camera",
        description: "A camera with a web page",
        nmap_os: "embedded",
        systems: &["busybox"],
        services: &["telnet", "http"],
        pool: &["telnet", "http", "ftp", "mqtt", "snmp"],
        hostnames: &["IPC-{MAC6}", "ipcam-{mac6}", "cam-{nn}", "DS-2CD-{MAC6}"],
        makers: &[HIKVISION],
    },
    Archetype {
        name: "router",
        description: "A router of a branch office",
        nmap_os: "embedded",
        systems: &["busybox"],
        services: &["telnet", "http", "snmp"],
        pool: &["telnet", "http", "https", "snmp", "ftp"],
        hostnames: &["gw-{site}", "router-{nn}", "{site}-rtr{n}", "AP-{MAC6}"],
        makers: &[TP_LINK],
    },
    Archetype {
        name: "printer",
        description: "A printer on the network",
        nmap_os: "embedded",
        systems: &["busybox"],
        services: &["http", "snmp"],
        pool: &["http", "https", "ftp", "snmp", "telnet"],
        hostnames: &["NPI{MAC6}", "HP{MAC6}", "prn-{site}-{nn}", "printer-{nn}"],
        makers: &[HEWLETT_PACKARD],
    },
];

/// The archetype of that name.
pub(crate) fn archetype(name: &str) -> Option<&'static Archetype> {
    ARCHETYPES.iter().find(|archetype| archetype.name == name)
}

/// The standard port of a service, and its name as it stays.
pub(crate) fn service(name: &str) -> Option<(&'static str, u16)> {
    SERVICES.into_iter().find(|(known, _)| *known == name)
}

/// The family of a system, or of what names a family already.
pub(crate) fn family(nmap_os: &str) -> Option<&'static str> {
    let of_system = SYSTEMS.into_iter().find(|(system, _)| *system == nmap_os).map(|(_, family)| family);
    of_system.or_else(|| FAMILIES.into_iter().find(|family| *family == nmap_os))
}

impl Archetype {
    /// The systems of a decky of this kind for which `nmap_os` (a family or a system) was asked for. Never empty for
    /// what [`family`] knows: who asks for a system that such machines do not run gets it.
    pub(crate) fn systems_for(&self, nmap_os: Option<&str>) -> Vec<&'static str> {
        let Some(nmap_os) = nmap_os else { return self.systems.to_vec() };
        let all = || SYSTEMS.into_iter().filter(|(system, family)| *system == nmap_os || *family == nmap_os);
        let usual: Vec<&str> = all().map(|(system, _)| system).filter(|s| self.systems.contains(s)).collect();
        if usual.is_empty() { all().map(|(system, _)| system).collect() } else { usual }
    }
}

/// The kind of machine that such services fit best, among those of the family that is asked for.
pub(crate) fn fitting(services: &[&str], nmap_os: Option<&str>) -> &'static Archetype {
    let family = nmap_os.and_then(family);
    let fit = |archetype: &Archetype| {
        let of_family = family.is_none_or(|family| archetype.nmap_os == family);
        let has = services.iter().filter(|service| archetype.pool.contains(service)).count();
        let begins_with = services.iter().filter(|service| archetype.services.contains(service)).count();
        (of_family, has, begins_with)
    };
    let mut best = &ARCHETYPES[0];
    for archetype in &ARCHETYPES {
        if fit(archetype) > fit(best) {
            best = archetype;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_archetype_can_be_built_and_mutated() {
        let names: BTreeSet<_> = ARCHETYPES.iter().map(|a| a.name).collect();
        assert_eq!(names.len(), ARCHETYPES.len());
        for archetype in &ARCHETYPES {
            let pool: BTreeSet<_> = archetype.pool.iter().collect();
            assert_eq!(pool.len(), archetype.pool.len(), "{}", archetype.name);
            assert!(pool.iter().all(|s| service(s).is_some()), "{}", archetype.name);
            assert!(archetype.services.iter().all(|s| pool.contains(s)), "{}", archetype.name);
            assert!(pool.len() > archetype.services.len(), "{}", archetype.name);
            assert!(!archetype.hostnames.is_empty() && !archetype.makers.is_empty(), "{}", archetype.name);
            for system in archetype.systems {
                assert_eq!(family(system), Some(archetype.nmap_os), "{} {system}", archetype.name);
            }
            for asked in FAMILIES.into_iter().chain(SYSTEMS.map(|(system, _)| system)) {
                let systems = archetype.systems_for(Some(asked));
                assert!(!systems.is_empty(), "{} {asked}", archetype.name);
                assert!(systems.iter().all(|s| family(s) == family(asked)), "{} {asked}", archetype.name);
            }
        }
        let ports: BTreeSet<_> = SERVICES.iter().map(|(_, port)| port).collect();
        assert_eq!(ports.len(), SERVICES.len());
        // Every service is to be had without naming it.
        assert!(SERVICES.iter().all(|(name, _)| ARCHETYPES.iter().any(|a| a.pool.contains(name))));
    }

    #[test]
    fn services_find_the_machine_that_has_them() {
        assert_eq!(fitting(&["ssh", "docker_api"], None).name, "devops-host");
        assert_eq!(fitting(&["elasticsearch"], None).name, "search-node");
        assert_eq!(fitting(&["ldap"], Some("windows")).name, "domain-controller");
        assert_eq!(fitting(&["ldap"], Some("debian_12")).name, "directory-server");
        assert_eq!(fitting(&["mongodb"], Some("embedded")).nmap_os, "embedded");
        assert_eq!(fitting(&["ssh", "http"], None).name, "linux-server");
        assert_eq!(fitting(&[], None).name, "linux-server");
    }
}
